//! What an idle process costs its store, all calls of all its loops together.

use std::{sync::Arc, time::Duration};

use tidings::{
    Backoff, Context, Event, Handler, HandlerError, RequestState,
    faulty::Operation,
    store::{Storer, WakeUps},
};

use crate::{
    process::Process,
    rig::{KINDS, config},
};

const TEN_MINUTES: Duration = Duration::from_secs(600);
/// Longer than the gauges of a process whose metrics nobody reads are refreshed.
const SETTLED: Duration = Duration::from_secs(90);
const HOUR: Duration = Duration::from_secs(3600);

/// An idle process after some work.
async fn idle(wake_ups: WakeUps, kind: crate::rig::Kind) -> (Process, Box<dyn tidings::Scheduler>) {
    let process = Process::new(wake_ups);
    let scheduler = process.start(kind).await;
    process.rig.raise_many("thing.happened", 100).await;
    process.until_handled(100).await;
    tokio::time::sleep(SETTLED).await;
    (process, scheduler)
}

#[tokio::test(start_paused = true)]
async fn an_idle_process_that_hears_makes_one_call_in_five_seconds() {
    for kind in KINDS {
        for wake_ups in [WakeUps::Complete, WakeUps::Listener] {
            let (process, _scheduler) = idle(wake_ups, kind).await;
            let calls = process.calls_in(TEN_MINUTES).await;
            let total: u64 = calls.values().sum();
            assert!(total <= 120, "{kind:?} {wake_ups:?}: {calls:?}");
            // Three times an hour it says that its handlers live, and looks for absent ones and for what
            // renames have left.
            let calls = process.calls_in(HOUR).await;
            let total: u64 = calls.values().sum();
            assert!(total <= 720 + 9, "{kind:?} {wake_ups:?}: {calls:?}");
            let searches = process.faults.calls(Operation::Prune);
            assert!(searches <= 3, "{kind:?} {wake_ups:?}: {searches}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_process_that_does_not_hear_makes_one_call_a_second() {
    for kind in KINDS {
        let (process, _scheduler) = idle(WakeUps::InProcess, kind).await;
        let calls = process.calls_in(TEN_MINUTES).await;
        let total: u64 = calls.values().sum();
        assert!(total <= 600, "{kind:?}: {calls:?}");
        assert_eq!(calls.len(), 1, "{kind:?}: {calls:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_whose_store_cannot_tell_makes_a_few_calls_a_poll() {
    for kind in KINDS {
        let mut process = Process::new(WakeUps::InProcess);
        process.cannot_tell = true;
        let _scheduler = process.start(kind).await;
        tokio::time::sleep(SETTLED).await;
        let calls = process.calls_in(TEN_MINUTES).await;
        let total: u64 = calls.values().sum();
        assert!(total <= 4 * 600, "{kind:?}: {calls:?}");
        assert!(process.takes_to_handle().await <= Duration::from_secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_paused_process_asks_for_lost_requests_only() {
    for kind in KINDS {
        let (process, scheduler) = idle(WakeUps::InProcess, kind).await;
        scheduler.pause().await.unwrap();
        let calls = process.calls_in(TEN_MINUTES).await;
        let total: u64 = calls.values().sum();
        assert!(total <= 21, "{kind:?}: {calls:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_run_or_back_off_cost_no_more_than_their_renewals() {
    for kind in KINDS {
        let process = Process::new(WakeUps::Complete);
        let slow = Handler::new("slow", |_: Arc<Event>, _: Context| async {
            tokio::time::sleep(2 * TEN_MINUTES).await;
            Ok::<_, HandlerError>(())
        });
        let fails = Handler::new("fails", |_: Arc<Event>, _: Context| async {
            Err::<(), _>(HandlerError::new("not yet"))
        });
        let handlers = [
            slow.on("*").timeout(HOUR),
            fails.on("*").backoff(Backoff::constant(HOUR)),
        ];
        let _scheduler = process.start_with(kind, config(handlers)).await;
        process.rig.raise_many("thing.happened", 5).await;
        process
            .rig
            .until("all run or back off", |rig| async move {
                rig.count(RequestState::Executing).await == 5
                    && rig.count(RequestState::BackingOff).await == 5
            })
            .await;
        tokio::time::sleep(SETTLED).await;
        let mut calls = process.calls_in(TEN_MINUTES).await;
        let renewals = calls.remove("LeaseRenewer::renew");
        assert!(renewals.is_some_and(|count| count <= 61), "{renewals:?}");
        let total: u64 = calls.values().sum();
        assert!(total <= 121, "{kind:?}: {calls:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_lost_process_held_runs_elsewhere_in_time_whenever_it_was_taken() {
    for wake_ups in [WakeUps::Complete, WakeUps::InProcess] {
        for second in (0..34).step_by(3) {
            let process = Process::new(wake_ups);
            let _idle = process.start(KINDS[0]).await;
            tokio::time::sleep(Duration::from_secs(70 + second)).await;
            // Another process that takes a request and is gone.
            let mut session = process.rig.store.session().await.unwrap();
            let stranger = tidings::LeaseOwner::new();
            let lease = Duration::from_secs(30);
            let room = tidings::store::HandlerRoom::new("handles", 1);
            let offer = tidings::store::LeaseOffer::new(stranger, lease, 1, vec![room]);
            let mut fan_out = tidings::store::FanOut::due(1);
            fan_out.offer = Some(offer);
            let event = Event::new("thing.happened", &()).unwrap();
            let mut tx = process.rig.store.begin().await.unwrap();
            tx.events().raise(&[event]).await.unwrap();
            let born = tx.events().fan_out(&fan_out).await.unwrap().born_leased;
            assert_eq!(born.len(), 1);
            tx.commit().await.unwrap();
            let lost = tokio::time::Instant::now();
            process.until_handled(1).await;
            let took = process.handled.lock()[0] - lost;
            assert!(
                took >= lease && took <= lease + Duration::from_secs(5),
                "{wake_ups:?} {second}: {took:?}"
            );
            let rescue = tidings::store::RescueLost::new(1, Backoff::default());
            let rescued = session.handler_requests().rescue(&rescue).await.unwrap();
            assert_eq!(rescued.next_expiry, None);
        }
    }
}
