//! Several schedulers on one store: with the same ConfigMap, with different ones, across renames.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tidings::{
    ConfigMap, Context, Event, EventId, Handler, HandlerError, RegistrationState, RequestState,
    store::Storer,
};

use crate::rig::{KINDS, Kind, Rig, config};

type Runs = Arc<Mutex<HashMap<(EventId, String), u32>>>;

fn counts(name: &'static str, runs: &Runs) -> Handler {
    let runs = Arc::clone(runs);
    Handler::new(name, move |event: Arc<Event>, context: Context| {
        *runs
            .lock()
            .entry((event.id, context.handler().to_owned()))
            .or_default() += 1;
        async { Ok::<_, HandlerError>(()) }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_schedulers_share_the_work_and_run_nothing_twice() {
    const EVENTS: usize = 20_000;
    let rig = Rig::real();
    let runs = Runs::default();
    let map = config([
        counts("one", &runs).on("*"),
        counts("two", &runs).on("thing.*"),
    ]);
    let mut schedulers = Vec::new();
    for n in 0..8 {
        let wanted = rig
            .scheduler(map.clone())
            .kind(KINDS[n % 2])
            .batch_size(100)
            .workers(4);
        schedulers.push(wanted.start().await);
    }
    let mut raising = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let rig = rig.clone();
        raising.spawn(async move { rig.raise_many("thing.happened", EVENTS / 8).await });
    }
    let ids: Vec<_> = raising.join_all().await.into_iter().flatten().collect();
    rig.until_completed(2 * EVENTS as u64).await;
    let runs = runs.lock().clone();
    assert_eq!(runs.len(), 2 * EVENTS);
    for id in ids {
        for handler in ["one", "two"] {
            assert_eq!(runs.get(&(id, handler.to_owned())), Some(&1));
        }
    }
    for scheduler in schedulers {
        assert_eq!(
            scheduler.shutdown(Duration::from_secs(10)).await.abandoned,
            0
        );
    }
}

#[tokio::test(start_paused = true)]
async fn handlers_split_over_two_processes_each_get_every_event_whoever_fans_out() {
    for kind in KINDS {
        let rig = Rig::paused();
        let runs = Runs::default();
        let left = rig
            .scheduler(config([counts("left", &runs).on("*")]))
            .kind(kind)
            .start()
            .await;
        let right = rig
            .scheduler(config([counts("right", &runs).on("thing.*")]))
            .kind(kind)
            .start()
            .await;
        rig.raise_many("thing.happened", 100).await;
        rig.until_completed(200).await;
        right.shutdown(Duration::from_secs(1)).await;
        rig.raise_many("thing.happened", 100).await;
        rig.until_completed(300).await;
        rig.until("those of the handler that is down wait", |rig| async move {
            rig.count(RequestState::Pending).await == 100
        })
        .await;
        let right = rig
            .scheduler(config([counts("right", &runs).on("thing.*")]))
            .kind(kind)
            .start()
            .await;
        rig.until_completed(400).await;
        assert!(runs.lock().values().all(|runs| *runs == 1));
        assert!(
            rig.requests()
                .await
                .iter()
                .all(|request| request.errors == 0)
        );
        drop((left, right));
    }
}

#[tokio::test(start_paused = true)]
async fn during_a_rolling_deployment_the_new_versions_handler_gets_what_the_old_version_fans_out() {
    let rig = Rig::paused();
    let runs = Runs::default();
    let old = rig
        .scheduler(config([counts("kept", &runs).on("*")]))
        .start()
        .await;
    let new_map = config([
        counts("kept", &runs).on("*"),
        counts("added", &runs).on("*"),
    ]);
    let new = rig.scheduler(new_map.clone()).start().await;
    new.shutdown(Duration::from_secs(1)).await;
    // Only the old version is left to fan this out.
    let id = rig.raise("thing.happened").await;
    rig.until_completed(1).await;
    drop(old);
    let _new = rig.scheduler(new_map).start().await;
    rig.until_completed(2).await;
    assert_eq!(runs.lock().get(&(id, "added".to_owned())), Some(&1));
}

#[tokio::test(start_paused = true)]
async fn a_renamed_handler_takes_its_open_and_dead_requests_along() {
    for kind in [Kind::Concurrent, Kind::Cooperative] {
        let rig = Rig::paused();
        let runs = Runs::default();
        let fails = Handler::new("old", |event: Arc<Event>, _: Context| async move {
            if event.name == "thing.died" {
                Err(HandlerError::discard("dead"))
            } else {
                Err(HandlerError::snooze(Duration::from_secs(60)))
            }
        });
        let old = rig
            .scheduler(config([fails.on("*")]))
            .kind(kind)
            .start()
            .await;
        rig.raise("thing.waits").await;
        rig.raise("thing.died").await;
        rig.until("one is dead and one waits", |rig| async move {
            rig.count(RequestState::Dead).await == 1
                && rig.count(RequestState::BackingOff).await == 1
        })
        .await;
        old.shutdown(Duration::from_secs(1)).await;
        let map = ConfigMap::builder()
            .handler(counts("new", &runs).on("*"))
            .rename("old", "new")
            .build()
            .unwrap();
        let _new = rig.scheduler(map).kind(kind).start().await;
        rig.until_completed(1).await;
        assert_eq!(rig.requests_of("old").await, []);
        let mut session = rig.store.session().await.unwrap();
        assert_eq!(
            session
                .handler_requests()
                .dead_handler_names()
                .await
                .unwrap(),
            ["new"]
        );
        let again = session
            .handler_requests()
            .reexecute_dead(&Default::default(), 10)
            .await
            .unwrap();
        assert_eq!(again, 1);
        drop(session);
        rig.until_completed(2).await;
        // A process of the old version that restarts gets nothing and breaks nothing.
        let _old = rig
            .scheduler(config([counts("old", &runs).on("*")]))
            .kind(kind)
            .start()
            .await;
        rig.raise("thing.happened").await;
        rig.until_completed(3).await;
        rig.until_all_ended().await;
        assert!(runs.lock().keys().all(|(_, handler)| handler == "new"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_retired_handler_gets_no_new_requests() {
    let rig = Rig::paused();
    let runs = Runs::default();
    let old = rig
        .scheduler(config([
            counts("kept", &runs).on("*"),
            counts("gone", &runs).on("*"),
        ]))
        .start()
        .await;
    rig.raise("thing.happened").await;
    rig.until_completed(2).await;
    old.shutdown(Duration::from_secs(1)).await;
    let map = ConfigMap::builder()
        .handler(counts("kept", &runs).on("*"))
        .retire("gone")
        .build()
        .unwrap();
    let _new = rig.scheduler(map).start().await;
    rig.raise("thing.happened").await;
    rig.until_completed(3).await;
    rig.until_all_ended().await;
    assert_eq!(rig.requests_of("gone").await.len(), 1);
    let mut session = rig.store.session().await.unwrap();
    let registrations = session.registrations().all().await.unwrap();
    let gone: Vec<_> = registrations
        .iter()
        .filter(|registration| registration.handler == "gone")
        .collect();
    assert_eq!(gone.len(), 1);
    assert_eq!(gone[0].state, RegistrationState::Retired);
}
