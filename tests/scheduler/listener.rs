//! A listener that dies, hangs, never comes and comes back: polling stands in for it.

use std::{sync::atomic::Ordering, time::Duration};

use tidings::store::WakeUps;
use tokio::time::Instant;

use crate::{
    process::{Line, Process},
    rig::{KINDS, soon},
};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn what_a_listener_hears_starts_at_once() {
    for kind in KINDS {
        let process = Process::new(WakeUps::Listener);
        let _scheduler = process.start(kind).await;
        for _ in 0..3 {
            tokio::time::sleep(61 * SECOND).await;
            let took = process.takes_to_handle().await;
            assert!(took <= SECOND / 100, "{kind:?}: {took:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn when_a_listener_dies_polling_takes_over_within_a_second() {
    for kind in KINDS {
        let process = Process::new(WakeUps::Listener);
        let _scheduler = process.start(kind).await;
        tokio::time::sleep(61 * SECOND).await;
        *process.line.lock() = Line::Refused;
        process.hang_up.raise();
        for _ in 0..5 {
            let took = process.takes_to_handle().await;
            assert!(took <= SECOND, "{kind:?}: {took:?}");
            tokio::time::sleep(7 * SECOND).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_committed_while_a_listener_died_or_came_is_found_at_once() {
    for kind in KINDS {
        let process = Process::new(WakeUps::Listener);
        let _scheduler = process.start(kind).await;
        tokio::time::sleep(61 * SECOND).await;
        // Its notification is lost with the connection.
        process.go_deaf();
        process.rig.raise("thing.happened").await;
        tokio::time::sleep(SECOND / 2).await;
        *process.line.lock() = Line::Refused;
        let died = Instant::now();
        process.hang_up.raise();
        process.until_handled(1).await;
        assert!(process.handled.lock()[0] - died <= SECOND / 100, "{kind:?}");

        let established = process.established.seen();
        *process.line.lock() = Line::Good;
        soon("it is back", process.established.changed_since(established)).await;
        let begun = Instant::now();
        tokio::time::sleep(SECOND / 2).await;
        let looks = process.looks.lock();
        let look = looks.iter().find(|look| **look >= begun);
        assert!(
            look.is_some_and(|look| *look - begun <= SECOND / 100),
            "{kind:?}: nobody looks when it is back"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_comes_back_ends_the_polling() {
    for kind in KINDS {
        let process = Process::new(WakeUps::Listener);
        *process.line.lock() = Line::Refused;
        let _scheduler = process.start(kind).await;
        tokio::time::sleep(600 * SECOND).await;
        *process.line.lock() = Line::Good;
        let begun = Instant::now();
        soon("it is back", process.established.changed_since(0)).await;
        assert!(begun.elapsed() <= 30 * SECOND, "{kind:?}");
        tokio::time::sleep(SECOND).await;
        let took = process.takes_to_handle().await;
        assert!(took <= SECOND / 100, "{kind:?}: {took:?}");
        tokio::time::sleep(40 * SECOND).await;
        let calls = process.calls_in(60 * SECOND).await;
        assert!(calls.values().sum::<u64>() <= 12, "{kind:?}: {calls:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_hangs_while_it_connects_is_given_up_and_missed_by_nobody() {
    for kind in KINDS {
        let process = Process::new(WakeUps::Listener);
        *process.line.lock() = Line::Hangs;
        let _scheduler = process.start(kind).await;
        for _ in 0..5 {
            tokio::time::sleep(13 * SECOND).await;
            let took = process.takes_to_handle().await;
            assert!(took <= SECOND, "{kind:?}: {took:?}");
        }
        assert!(process.attempts.load(Ordering::SeqCst) >= 4, "{kind:?}");
        *process.line.lock() = Line::Good;
        // The attempt that hangs has its time limit, and then comes a pause.
        let begun = Instant::now();
        soon("it is back", process.established.changed_since(0)).await;
        assert!(begun.elapsed() <= 40 * SECOND, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_never_comes_is_tried_ever_more_rarely() {
    for kind in KINDS {
        let process = Process::new(WakeUps::Listener);
        *process.line.lock() = Line::Refused;
        let scheduler = process.start(kind).await;
        tokio::time::sleep(600 * SECOND).await;
        let attempts = process.attempts.load(Ordering::SeqCst);
        assert!((20..=60).contains(&attempts), "{kind:?}: {attempts}");
        let calls = process.calls_in(600 * SECOND).await;
        assert!(calls.values().sum::<u64>() <= 600, "{kind:?}: {calls:?}");
        assert!(scheduler.is_operational(), "{kind:?}: polling works");
        scheduler.shutdown(SECOND).await;
        let attempts = process.attempts.load(Ordering::SeqCst);
        tokio::time::sleep(600 * SECOND).await;
        assert_eq!(process.attempts.load(Ordering::SeqCst), attempts);
    }
}
