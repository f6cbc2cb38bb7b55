//! Calls that find nothing, while there is work: each costs the store a round trip, and holds room
//! that others wait for.

use std::{sync::Arc, time::Duration};

use tidings::{
    Context, Event, Handler, HandlerError,
    faulty::{Fault, Operation},
    store::{FanOut, Storer, WakeUps},
};
use tokio::time::Instant;

use crate::{
    process::Process,
    rig::{KINDS, Kind, config, taking},
};

const MILLISECOND: Duration = Duration::from_millis(1);

/// The fan-outs and claims until everything raised has ended.
async fn calls(process: &Process) -> (u64, u64) {
    process.rig.until_all_ended().await;
    let calls = |operation| process.faults.calls(operation);
    (calls(Operation::FanOut), calls(Operation::Claim))
}

#[tokio::test(start_paused = true)]
async fn a_backlog_of_handlers_that_take_milliseconds_is_worked_off_in_batches() {
    for kind in KINDS {
        let process = Process::delayed();
        process.rig.raise_many("thing.happened", 2000).await;
        let handlers = [taking("a", 10 * MILLISECOND).on("thing.*")];
        let begun = Instant::now();
        let _scheduler = process.start_with(kind, config(handlers)).await;
        let (fan_outs, claims) = calls(&process).await;
        // 12 of 16 slots.
        let least = 10 * MILLISECOND * 2000 / 12;
        let took = begun.elapsed();
        assert!(took < least * 5 / 4, "{kind:?}: {took:?} of {least:?}");
        assert!(fan_outs <= 200, "{kind:?}: {fan_outs} fan-outs");
        assert!(claims <= 100, "{kind:?}: {claims} claims");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_is_refilled_with_one_claim_for_each_of_its_runs() {
    for kind in KINDS {
        let process = Process::delayed();
        // They are born ready, as nobody offers to run them.
        let other = Process::on(&process.rig, WakeUps::Complete);
        let slow = || {
            taking("slow", Duration::from_secs(10))
                .concurrency(1)
                .on("thing.*")
        };
        let quick = || taking("quick", MILLISECOND).on("other.*");
        let registers = other.start_with(kind, config([slow(), quick()])).await;
        registers.shutdown(Duration::from_secs(60)).await;
        process.rig.raise_many("thing.happened", 20).await;
        let elsewhere = other
            .start_with(kind, config([taking("else", MILLISECOND).on("else.*")]))
            .await;
        let ready =
            async |rig: crate::rig::Rig| rig.count(tidings::RequestState::Pending).await == 20;
        process.rig.until("all are ready", ready).await;
        elsewhere.shutdown(Duration::from_secs(60)).await;

        let _scheduler = process.start_with(kind, config([slow(), quick()])).await;
        let (_, claims) = calls(&process).await;
        assert!(
            claims <= 2 * 20 + 5,
            "{kind:?}: {claims} claims for 20 runs"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn requests_of_handlers_elsewhere_hold_no_fan_out_back() {
    for kind in KINDS {
        let process = Process::delayed();
        let other = Process::on(&process.rig, WakeUps::Complete);
        let elsewhere = || taking("elsewhere", MILLISECOND).on("thing.*");
        let registers = other.start_with(kind, config([elsewhere()])).await;
        registers.shutdown(Duration::from_secs(60)).await;
        let _scheduler = process
            .start_with(kind, config([taking("here", MILLISECOND).on("other.*")]))
            .await;
        for round in 0..20 {
            tokio::time::sleep(100 * MILLISECOND).await;
            let before = process.faults.calls(Operation::Claim);
            process.rig.raise("thing.happened").await;
            let made = async |rig: crate::rig::Rig| rig.requests().await.len() > round;
            process.rig.until("it is fanned out", made).await;
            tokio::time::sleep(100 * MILLISECOND).await;
            let claims = process.faults.calls(Operation::Claim) - before;
            assert!(claims <= 1, "{kind:?}: {claims} claims for nothing");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_rest_a_claim_comes_without_a_look_for_requests_under_suspicion() {
    for kind in KINDS {
        let process = Process::new(WakeUps::Complete);
        let _scheduler = process.start(kind).await;
        for count in 1..=5 {
            tokio::time::sleep(Duration::from_secs(60)).await;
            let before = process.faults.calls(Operation::ClaimSuspect);
            // As another process does that has no room.
            let mut tx = process.rig.store.begin().await.unwrap();
            let event = Event::new("thing.happened", &()).unwrap();
            tx.events().raise(&[event]).await.unwrap();
            tx.events().fan_out(&FanOut::due(1)).await.unwrap();
            tx.commit().await.unwrap();
            process.rig.until_completed(count).await;
            let looks = process.faults.calls(Operation::ClaimSuspect) - before;
            assert_eq!(looks, 0, "{kind:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn fan_outs_that_fail_slow_no_claims_down() {
    let process = Process::new(WakeUps::Complete);
    let retries = Handler::new("retries", |_: Arc<Event>, context: Context| async move {
        match context.errors() {
            0..12 => Err(HandlerError::new("again")),
            _ => Ok(()),
        }
    });
    let handler = retries
        .on("thing.*")
        .max_errors(20)
        .backoff(tidings::Backoff::constant(20 * MILLISECOND));
    let _scheduler = process
        .start_with(Kind::Cooperative, config([handler]))
        .await;
    process.rig.raise("thing.happened").await;
    let failed_once = async |rig: crate::rig::Rig| {
        rig.requests()
            .await
            .iter()
            .any(|request| request.errors > 0)
    };
    process.rig.until("it failed once", failed_once).await;
    process.faults.inject_always(Operation::FanOut, Fault::Fail);
    process.rig.raise("thing.happened").await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let requests = process.rig.requests().await;
    assert_eq!(requests.len(), 1, "no fan-out succeeds");
    let begun = requests[0].created_at;
    let ended = requests[0].completed_at.expect("it completed");
    let took = (ended - begun).to_std().unwrap();
    assert!(took < Duration::from_secs(1), "{took:?}");
}
