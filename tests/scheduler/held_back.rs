//! Events behind requests that wait to be claimed: how long these may hold them back.

use std::time::Duration;

use tidings::{
    ConfigMap, RequestState,
    store::{FanOut, Storer, WakeUps},
};
use tokio::time::Instant;

use crate::{
    process::Process,
    rig::{KINDS, Kind, Rig, config, taking},
};

const MILLISECOND: Duration = Duration::from_millis(1);

/// A process for which so many requests wait.
async fn behind(kind: Kind, count: usize, map: &ConfigMap) -> Process {
    let process = Process::delayed();
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
