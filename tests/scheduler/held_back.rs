//! Events behind requests that wait to be claimed: how long these may hold them back.

use std::{sync::Arc, time::Duration};

use tidings::{
    ConfigMap, Context, Event, Handler, HandlerError, RequestState,
    faulty::{Fault, Operation},
    store::{FanOut, LockMode, Storer, WakeUps},
};
use tokio::time::Instant;

use crate::{
    process::Process,
    rig::{KINDS, Kind, Rig, config},
};

const MILLISECOND: Duration = Duration::from_millis(1);

fn taking(name: &str, duration: Duration) -> Handler {
    Handler::new(name, move |_: Arc<Event>, _: Context| async move {
        tokio::time::sleep(duration).await;
        Ok::<_, HandlerError>(())
    })
}

/// A process whose fan-outs and claims take a millisecond, and so many requests that wait for it.
async fn behind(kind: Kind, count: usize, map: &ConfigMap) -> Process {
    let process = Process::new(WakeUps::Complete);
    for operation in [Operation::FanOut, Operation::Claim] {
        process
            .faults
            .inject_always(operation, Fault::Delay(MILLISECOND));
    }
    let registers = Process::on(&process.rig, WakeUps::Complete);
    let registers = registers.start_with(kind, map.clone()).await;
    registers.shutdown(Duration::from_secs(60)).await;
    process.rig.raise_many("thing.happened", count).await;
    let mut session = process.rig.store.session().await.unwrap();
    let fanned_out = session.events().fan_out(&FanOut::due(count)).await;
    assert_eq!(fanned_out.unwrap().processed.len(), count);
    process
}

async fn completed_of(rig: &Rig, handler: &str) -> usize {
    let requests = rig.requests_of(handler).await;
    let completed = requests.iter().filter(|one| one.completed_at.is_some());
    completed.count()
}

#[tokio::test(start_paused = true)]
async fn a_request_that_somebody_has_locked_holds_no_flood_of_events_back_for_long() {
    for kind in KINDS {
        // With room for many from the start.
        let map = config([taking("h", MILLISECOND).concurrency(300).on("*")]);
        let process = behind(kind, 1, &map).await;
        let locked = process.rig.only().await.id;
        let mut operator = process.rig.store.begin().await.unwrap();
        let mut requests = operator.handler_requests();
        let found = requests.find_for_update(locked, LockMode::Wait).await;
        assert!(found.unwrap().is_some());
        drop(requests);

        process.rig.raise_many("other.happened", 3000).await;
        let begun = Instant::now();
        let wanted = process.rig.scheduler_on(Arc::new(process.clone()), map);
        let scheduler = wanted.kind(kind).workers(400).start().await;
        process.rig.until_completed(3000).await;
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(3), "{kind:?}: {took:?}");
        let calls = process.faults.calls(Operation::FanOut);
        assert!(calls < 300, "{kind:?}: {calls} fan-outs");
        operator.rollback().await.unwrap();
        process.rig.until_completed(3001).await;
        scheduler.shutdown(Duration::from_secs(60)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn urgent_events_pass_by_a_backlog_however_many_they_are() {
    for kind in KINDS {
        let map = config([
            taking("slow", 20 * MILLISECOND).on("thing.*"),
            taking("urgent", MILLISECOND).on("fire.*").priority(1),
        ]);
        let process = behind(kind, 4000, &map).await;
        process.rig.raise_many("fire.broke_out", 500).await;
        let begun = Instant::now();
        let scheduler = process.start_with(kind, map).await;
        let all = async |rig: Rig| completed_of(&rig, "urgent").await == 500;
        process.rig.until("all that is urgent has ended", all).await;
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(2), "{kind:?}: {took:?}");
        let pending = process.rig.count(RequestState::Pending).await;
        assert!(pending > 2000, "{kind:?}: only {pending} still wait");
        scheduler.shutdown(Duration::from_secs(60)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_single_urgent_event_does_not_wait_for_a_backlog_at_all() {
    for kind in KINDS {
        let map = config([
            taking("slow", 100 * MILLISECOND).on("thing.*"),
            taking("urgent", MILLISECOND).on("fire.*").priority(1),
        ]);
        let process = behind(kind, 1000, &map).await;
        let scheduler = process.start_with(kind, map).await;
        let some = async |rig: Rig| completed_of(&rig, "slow").await > 50;
        process.rig.until("it works", some).await;
        for count in 1..=5 {
            let begun = Instant::now();
            process.rig.raise("fire.broke_out").await;
            let handled = async |rig: Rig| completed_of(&rig, "urgent").await == count;
            process.rig.until("it is handled", handled).await;
            let took = begun.elapsed();
            // One of the slots returns, and what has ended is settled.
            assert!(took < 150 * MILLISECOND, "{kind:?}: {took:?}");
        }
        scheduler.shutdown(Duration::from_secs(60)).await;
    }
}
