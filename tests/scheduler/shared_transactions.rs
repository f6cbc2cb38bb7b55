//! Shared transactions: what one of several requests does to the others.

use std::{
    collections::HashMap,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::json;
use tidings::{
    Backoff, Context, Event, EventId, Handler, HandlerError, HandlerRequest, HandlerRequestId,
    HandlerResult, MemoryConnection, RequestState, Scheduler, StoreError,
    faulty::{Fault, Faults, FaultyStorer, Operation},
    store::{EventFilter, Storer},
};
use tokio::sync::Notify;

use crate::rig::{KINDS, Kind, Rig, Wanted, config, soon};

/// The most requests of a shared transaction.
const MOST: usize = 50;

#[derive(Clone)]
struct State {
    raiser: tidings::Raiser,
    /// The events in the order in which they were handled.
    runs: Arc<Mutex<Vec<EventId>>>,
    running: Arc<Notify>,
    go_on: Arc<Notify>,
}

/// What the handler does after it has written, by the event's name and the number of its run.
async fn writes(
    state: State,
    event: Arc<Event>,
    context: Context,
    connection: &mut MemoryConnection,
) -> HandlerResult {
    let run = {
        let mut runs = state.runs.lock();
        let run = runs.iter().filter(|id| **id == event.id).count();
        runs.push(event.id);
        run
    };
    // A write, as the in-memory store has nothing else to write.
    let row = Event::new("written.row", &json!({}))?.caused_by(&event);
    state.raiser.raise(connection, row).await?;
    context.raise(Event::new("written.too", &json!({}))?);
    match (&*event.name, run) {
        ("test.error", 0) => Err(HandlerError::new("once")),
        ("test.panic", 0) => panic!("once"),
        ("test.snooze", 0) => Err(HandlerError::snooze(Duration::from_secs(1))),
        ("test.discard", _) => Err(HandlerError::discard("never")),
        ("test.conflict", 0) => Err(StoreError::Conflict {
            operation: "test",
            source: None,
        }
        .into()),
        ("test.late", 0 | 1) => std::future::pending().await,
        ("test.waits", 0) => {
            state.running.notify_one();
            state.go_on.notified().await;
            Ok(())
        }
        ("test.20ms", _) => {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(())
        }
        ("test.9s", _) => {
            state.running.notify_one();
            tokio::time::sleep(Duration::from_secs(9)).await;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// A scheduler of one worker, on a store with faults, that has got to know a handler which shares its
/// transactions.
struct Scene {
    rig: Rig,
    faults: Faults,
    state: State,
    scheduler: Box<dyn Scheduler>,
    /// Told when the handler runs that keeps the worker, and what lets it go.
    kept: Arc<Notify>,
    let_go: Arc<Notify>,
}

impl Scene {
    async fn new(kind: Kind) -> Self {
        Self::with(kind, |handler| handler, |wanted| wanted).await
    }

    async fn with(
        kind: Kind,
        handler: impl FnOnce(Handler) -> Handler,
        wanted: impl FnOnce(Wanted) -> Wanted,
    ) -> Self {
        let rig = Rig::paused();
        let store = FaultyStorer::new(Arc::new(rig.store.clone()));
        let faults = store.faults();
        let state = State {
            raiser: rig.store.raiser(),
            runs: Arc::default(),
            running: Arc::default(),
            go_on: Arc::default(),
        };
        let (kept, let_go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let keeps = {
            let (kept, let_go) = (Arc::clone(&kept), Arc::clone(&let_go));
            move |_: Arc<Event>, _: Context| {
                let (kept, let_go) = (Arc::clone(&kept), Arc::clone(&let_go));
                async move {
                    kept.notify_one();
                    let_go.notified().await;
                    Ok::<_, HandlerError>(())
                }
            }
        };
        let shares = Handler::transactional_with_state("writes", state.clone(), writes)
            .on("test.*")
            .max_errors(3)
            .timeout(Duration::from_secs(1))
            .backoff(Backoff::constant(Duration::from_secs(1)))
            .shared_transactions();
        let config = config([handler(shares), Handler::new("keeps", keeps).on("keep")]);
        let asked = rig
            .scheduler_on(Arc::new(store), config)
            .kind(kind)
            .workers(1);
        let scheduler = wanted(asked).start().await;
        let scene = Self {
            rig,
            faults,
            state,
            scheduler,
            kept,
            let_go,
        };
        // How long its runs take, so that it may hold more than it can run at once.
        scene.rig.raise("test.first").await;
        scene.rig.until_completed(1).await;
        scene.state.runs.lock().clear();
        scene
    }

    /// Raises events of these names, whose requests wait together until they are let go.
    async fn wait_together(&self, names: &[&str]) -> Vec<EventId> {
        self.rig.raise("keep").await;
        soon("the worker is kept", self.kept.notified()).await;
        let events = names.iter().map(|name| Event::new(*name, &json!({})));
        let events: Vec<_> = events.map(Result::unwrap).collect();
        let ids = events.iter().map(|event| event.id).collect();
        let mut session = self.rig.store.session().await.unwrap();
        session.events().raise(&events).await.unwrap();
        soon("they wait", async {
            while self.scheduler.status().buffered < names.len() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        ids
    }

    /// Handles events of these names together, to their ends; answers the requests in their order.
    async fn handle(&self, names: &[&str]) -> Vec<HandlerRequest> {
        let ids = self.wait_together(names).await;
        self.let_go.notify_one();
        self.end(&ids).await
    }

    async fn end(&self, ids: &[EventId]) -> Vec<HandlerRequest> {
        self.rig.until_all_ended().await;
        let requests = self.rig.requests_of("writes").await;
        let mut by_event: HashMap<_, _> = requests
            .into_iter()
            .map(|request| (request.event_id, request))
            .collect();
        ids.iter().map(|id| by_event.remove(id).unwrap()).collect()
    }

    /// How often each of these events was handled.
    fn runs(&self, ids: &[EventId]) -> Vec<usize> {
        let runs = self.state.runs.lock();
        let of = |id: &EventId| runs.iter().filter(|ran| *ran == id).count();
        ids.iter().map(of).collect()
    }

    /// How many rows each of these events has written, and that as many events are there that were
    /// raised through the context.
    async fn rows(&self, requests: &[HandlerRequest]) -> Vec<u64> {
        let mut session = self.rig.store.session().await.unwrap();
        let mut rows = Vec::new();
        for request in requests {
            let mut counts = Vec::new();
            for name in ["written.row", "written.too"] {
                let filter = EventFilter::default().named([name]);
                let page = tidings::store::Page::first(100_000);
                let events = session.events().list(&filter, &page).await.unwrap();
                let is_of = |event: &&tidings::store::StoredEvent| {
                    event.event.causation_id == Some(request.event_id)
                };
                counts.push(events.iter().filter(is_of).count() as u64);
            }
            assert_eq!(counts[0], counts[1], "{request:?}");
            rows.push(counts[0]);
        }
        rows
    }

    fn commits(&self) -> u64 {
        self.faults.calls(Operation::Commit)
    }
}

fn events(requests: &[HandlerRequest]) -> Vec<EventId> {
    requests.iter().map(|request| request.event_id).collect()
}

fn errors(requests: &[HandlerRequest]) -> Vec<u32> {
    requests.iter().map(|request| request.errors).collect()
}

fn executions(requests: &[HandlerRequest]) -> Vec<u32> {
    requests.iter().map(|request| request.executions).collect()
}

fn assert_completed(requests: &[HandlerRequest]) {
    for request in requests {
        assert!(request.completed_at.is_some(), "{request:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn all_commit_together_in_their_order_fifty_at_a_time() {
    for kind in KINDS {
        for (count, commits) in [(2 * MOST, 2), (2 * MOST + 1, 3)] {
            let scene = Scene::new(kind).await;
            let before = (scene.commits(), scene.faults.calls(Operation::Settle));
            let requests = scene.handle(&vec!["test.ok"; count]).await;
            let ids = events(&requests);
            assert_completed(&requests);
            assert_eq!(scene.commits() - before.0, commits);
            assert_eq!(*scene.state.runs.lock(), ids, "in their order, each once");
            assert_eq!(scene.rows(&requests).await, vec![1; count]);
            assert_eq!(executions(&requests), vec![1; count]);
            // One of each transaction, and that of what kept the worker.
            let settled = scene.faults.calls(Operation::Settle) - before.1;
            assert_eq!(settled, commits + 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn none_is_taken_along_when_it_has_been_open_for_fifty_milliseconds() {
    let scene = Scene::new(Kind::Concurrent).await;
    let before = scene.commits();
    let requests = scene.handle(&["test.20ms"; 9]).await;
    assert_completed(&requests);
    // They begin after 0, 20 and 40 ms.
    assert_eq!(scene.commits() - before, 3);
    assert_eq!(scene.rows(&requests).await, [1; 9]);
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_is_undone_alone_and_its_neighbours_commit() {
    for kind in KINDS {
        for (name, runs, errors_of_it, rows) in [
            ("test.error", 2, 1, 1),
            ("test.panic", 2, 1, 1),
            ("test.snooze", 2, 0, 1),
            ("test.discard", 1, 1, 0),
        ] {
            for place in 0..3 {
                let scene = Scene::new(kind).await;
                let before = scene.commits();
                let mut names = ["test.ok"; 3];
                names[place] = name;
                let requests = scene.handle(&names).await;
                let at = |neighbours, it| {
                    let mut all = [neighbours; 3];
                    all[place] = it;
                    all
                };
                let ran = scene.runs(&events(&requests));
                assert_eq!(ran, at(1, runs), "{name} {place}");
                let errors: Vec<_> = errors(&requests).into_iter().map(|n| n as usize).collect();
                assert_eq!(errors, at(0, errors_of_it), "{name} {place}");
                let executed = executions(&requests).into_iter().map(|n| n as usize);
                assert_eq!(executed.collect::<Vec<_>>(), at(1, runs), "{name} {place}");
                let written = scene.rows(&requests).await.into_iter().map(|n| n as usize);
                assert_eq!(written.collect::<Vec<_>>(), at(1, rows), "{name} {place}");
                // What failed runs in a transaction of its own.
                let commits = scene.commits() - before;
                assert_eq!(commits, runs as u64, "{name} {place}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_past_its_time_runs_again_alone_and_no_neighbour_counts_an_error() {
    for kind in KINDS {
        let scene = Scene::new(kind).await;
        let before = scene.commits();
        let names = ["test.ok", "test.ok", "test.late", "test.ok"];
        let requests = scene.handle(&names).await;
        assert_completed(&requests);
        // The last one had not begun. The late one is late once more, alone, and that counts.
        assert_eq!(scene.runs(&events(&requests)), [2, 2, 3, 1]);
        assert_eq!(errors(&requests), [0, 0, 1, 0]);
        assert_eq!(executions(&requests), [1, 1, 2, 1]);
        assert_eq!(scene.rows(&requests).await, [1; 4]);
        assert_eq!(scene.commits() - before, 4);
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_time_out_holds_neighbours_up_no_longer_than_a_call_may_take() {
    let long = Duration::from_secs(3600);
    let scene = Scene::with(
        Kind::Concurrent,
        |handler| handler.timeout(long),
        |wanted| wanted,
    );
    let scene = scene.await;
    scene.wait_together(&["test.ok", "test.waits"]).await;
    let began = tokio::time::Instant::now();
    scene.let_go.notify_one();
    let filter = EventFilter::default().named(["written.row"]);
    let one_is_written = |rig: Rig| {
        let filter = filter.clone();
        async move {
            let mut session = rig.store.session().await.unwrap();
            // The first was written by what got to know the handler.
            session.events().count(&filter).await.unwrap() == 2
        }
    };
    scene.rig.until("one is written", one_is_written).await;
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(10), "{took:?}");
    assert!(took < Duration::from_secs(12), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn one_that_loses_against_others_has_each_run_again_alone_without_an_error() {
    for kind in KINDS {
        let scene = Scene::new(kind).await;
        let before = scene.commits();
        let names = ["test.ok", "test.conflict", "test.ok"];
        let requests = scene.handle(&names).await;
        assert_completed(&requests);
        assert_eq!(scene.runs(&events(&requests)), [2, 2, 1]);
        assert_eq!(errors(&requests), [0; 3]);
        assert_eq!(scene.rows(&requests).await, [1; 3]);
        // The third was not in it, and shares with nobody that is left.
        assert_eq!(scene.commits() - before, 3);
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_canceled_commits_nothing_and_the_others_once() {
    for kind in KINDS {
        // While it waits, and while it runs.
        for name in ["test.ok", "test.waits"] {
            let scene = Scene::new(kind).await;
            let ids = scene.wait_together(&["test.ok", name, "test.ok"]).await;
            let mut session = scene.rig.store.session().await.unwrap();
            let id = HandlerRequestId::derive(ids[1], "writes");
            if name == "test.waits" {
                scene.let_go.notify_one();
                soon("it runs", scene.state.running.notified()).await;
            }
            session.handler_requests().cancel(id).await.unwrap();
            scene.let_go.notify_one();
            scene.state.go_on.notify_one();
            let requests = scene.end(&ids).await;
            assert!(requests[1].canceled_at.is_some());
            assert_eq!(scene.rows(&requests).await, [1, 0, 1]);
            assert_eq!(errors(&requests), [0; 3]);
            assert_eq!(
                scene.runs(&ids),
                [2, 1, 2],
                "what was lost is not run again"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_in_the_store_each_commits_once_and_none_counts_an_error() {
    use Operation::{Begin, Commit, Rollback, RollbackToSavepoint, Savepoint, Settle};
    let lose = Fault::LoseAnswer;
    for (fault, operation, failing, runs) in [
        (Fault::Fail, Begin, None, [1, 1, 1]),
        (Fault::Fail, Savepoint, None, [1, 1, 1]),
        (Fault::Refuse, Settle, None, [2, 2, 2]),
        (Fault::Fail, Settle, None, [2, 2, 2]),
        (lose, Settle, None, [2, 2, 2]),
        (Fault::Fail, Commit, None, [2, 2, 2]),
        (Fault::Refuse, Commit, None, [2, 2, 2]),
        // It took effect.
        (lose, Commit, None, [1, 1, 1]),
        // The error may come from what has become of the connection.
        (
            Fault::Fail,
            RollbackToSavepoint,
            Some("test.error"),
            [2, 2, 1],
        ),
        (lose, RollbackToSavepoint, Some("test.error"), [2, 2, 1]),
        (Fault::Fail, Rollback, Some("test.conflict"), [2, 2, 1]),
    ] {
        let scene = Scene::new(Kind::Concurrent).await;
        let names = ["test.ok", failing.unwrap_or("test.ok"), "test.ok"];
        let ids = scene.wait_together(&names).await;
        scene.let_go.notify_one();
        if operation == Settle {
            // Not that of what kept the worker.
            scene.faults.inject(Commit, Fault::Block, 1);
            scene.faults.inject(operation, fault, 1);
            scene.faults.heal(Commit);
        } else {
            scene.faults.inject(operation, fault, 1);
        }
        let requests = scene.end(&ids).await;
        let what = format!("{fault:?} {operation:?}");
        assert_completed(&requests);
        assert_eq!(scene.rows(&requests).await, [1; 3], "{what}");
        assert_eq!(errors(&requests), [0; 3], "{what}");
        assert_eq!(scene.runs(&ids), runs, "{what}");
        assert!(
            requests.iter().all(|request| request.rescues == 0),
            "{what}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_whose_savepoint_is_lost_counts_for_nobody_else() {
    let scene = Scene::new(Kind::Concurrent).await;
    scene
        .faults
        .inject(Operation::RollbackToSavepoint, Fault::Fail, 1);
    let requests = scene.handle(&["test.ok", "test.panic", "test.ok"]).await;
    assert_completed(&requests);
    assert_eq!(errors(&requests), [0, 1, 0]);
    assert_eq!(scene.runs(&events(&requests)), [2, 2, 1]);
    assert_eq!(scene.rows(&requests).await, [1; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_that_breaks_one_off_rolls_all_back_and_hands_them_back() {
    for kind in KINDS {
        let forever = Duration::from_secs(3600);
        let scene = Scene::with(
            kind,
            |handler| handler.timeout(forever),
            |wanted| wanted.call_timeout(Duration::from_secs(20)),
        )
        .await;
        let ids = scene
            .wait_together(&["test.ok", "test.ok", "test.waits", "test.ok"])
            .await;
        scene.let_go.notify_one();
        soon("it runs", scene.state.running.notified()).await;
        let status = scene.scheduler.status();
        assert_eq!((status.executing, status.buffered), (3, 1));
        let report = scene.scheduler.shutdown(Duration::from_secs(2)).await;
        assert_eq!((report.handed_back, report.abandoned), (4, 0));
        let requests: Vec<_> = scene.rig.requests_of("writes").await;
        let requests: Vec<_> = requests
            .into_iter()
            .filter(|request| ids.contains(&request.event_id))
            .collect();
        assert_eq!(requests.len(), 4);
        for request in &requests {
            assert_eq!(request.state(request.created_at), RequestState::Pending);
        }
        assert_eq!(errors(&requests), [0; 4]);
        assert_eq!(executions(&requests), [0; 4]);
        assert_eq!(scene.rows(&requests).await, [0; 4]);
    }
}

/// The first ones have run, and wait for it.
#[tokio::test(start_paused = true)]
async fn a_slow_one_keeps_no_neighbours_lease_from_being_renewed() {
    let scene = Scene::with(
        Kind::Concurrent,
        |handler| handler.timeout(Duration::from_secs(60)),
        |wanted| wanted.lease(Duration::from_secs(10)),
    )
    .await;
    let other = scene
        .rig
        .scheduler(config([Handler::transactional_with_state(
            "writes",
            scene.state.clone(),
            writes,
        )
        .on("test.*")]))
        .lease(Duration::from_secs(10));
    let ids = scene
        .wait_together(&["test.ok", "test.ok", "test.9s"])
        .await;
    let _other = other.start().await;
    // Most of a lease has gone by when they begin.
    tokio::time::sleep(Duration::from_secs(9)).await;
    scene.let_go.notify_one();
    soon("the slow one runs", scene.state.running.notified()).await;
    let leases = async || {
        let mut requests = scene.rig.requests_of("writes").await;
        requests.retain(|request| ids.contains(&request.event_id));
        requests.sort_unstable_by_key(|request| request.id);
        let leases = requests.into_iter().map(|request| request.lease.unwrap());
        leases.map(|lease| lease.until).collect::<Vec<_>>()
    };
    let before = leases().await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    for (before, now) in before.into_iter().zip(leases().await) {
        assert!(now > before, "{now} is not after {before}");
    }
    let requests = scene.end(&ids).await;
    assert_completed(&requests);
    assert_eq!(scene.runs(&ids), [1; 3]);
    for request in requests {
        assert_eq!((request.rescues, request.attempt), (0, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn hooks_run_before_the_transaction_begins_and_a_veto_concerns_one() {
    let hooked = Arc::new(AtomicU64::new(0));
    let hook = {
        let hooked = Arc::clone(&hooked);
        move |context: Context| {
            hooked.fetch_add(1, Ordering::SeqCst);
            let is_vetoed = &*context.event().name == "test.vetoed";
            async move {
                if is_vetoed {
                    return ControlFlow::Break(Err(HandlerError::discard("vetoed")));
                }
                context.raise(Event::new("hooked", &json!({})).unwrap());
                ControlFlow::Continue(())
            }
        }
    };
    let scene = Scene::with(
        Kind::Concurrent,
        |handler| handler,
        |wanted| wanted.before_execute(hook),
    )
    .await;
    let names = ["test.ok", "test.vetoed", "test.conflict", "test.ok"];
    let ids = scene.wait_together(&names).await;
    let before = hooked.load(Ordering::SeqCst);
    scene.faults.inject(Operation::Begin, Fault::Block, 1);
    scene.let_go.notify_one();
    scene.faults.until_blocked(Operation::Begin, 1).await;
    let before_it_began = hooked.load(Ordering::SeqCst) - before;
    assert_eq!(before_it_began, 4);
    scene.faults.heal(Operation::Begin);
    let requests = scene.end(&ids).await;
    assert!(requests[1].dead_at.is_some());
    assert_eq!(executions(&requests), [1, 0, 1, 1]);
    assert_eq!(scene.rows(&requests).await, [1, 0, 1, 1]);
    // The hooks ran again with those that did, and raised once.
    let mut session = scene.rig.store.session().await.unwrap();
    let hooked = EventFilter::default().named(["hooked"]);
    // One of the first event, and of the one that kept the worker.
    assert_eq!(session.events().count(&hooked).await.unwrap(), 2 + 3);
}

/// It holds more than its share of neither workers nor slots.
#[tokio::test(start_paused = true)]
async fn a_shared_transaction_is_one_of_the_handlers_executions_at_the_same_time() {
    let scene = Scene::with(
        Kind::Concurrent,
        |handler| handler.concurrency(1),
        |wanted| wanted.workers(4),
    )
    .await;
    scene.rig.raise("test.waits").await;
    soon("it runs", scene.state.running.notified()).await;
    let ids = scene.rig.raise_many("test.ok", 10).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(scene.runs(&ids), [0; 10], "one at a time");
    scene.state.go_on.notify_one();
    assert_completed(&scene.end(&ids).await);
    assert_eq!(scene.runs(&ids), [1; 10]);
}

/// What does not share is as it was.
#[tokio::test(start_paused = true)]
async fn a_handler_that_does_not_ask_for_it_shares_nothing() {
    let scene = Scene::with(
        Kind::Concurrent,
        |handler| {
            drop(handler);
            Handler::new("keeps_nothing", |_: Arc<Event>, _: Context| async {
                Ok::<_, HandlerError>(())
            })
            .on("test.*")
        },
        |wanted| wanted,
    )
    .await;
    let before = scene.commits();
    scene.rig.raise_many("test.ok", 10).await;
    scene.rig.until_all_ended().await;
    assert_eq!(scene.commits(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_events_in_shared_transactions_write_ten_thousand_rows() {
    const EVENTS: usize = 10_000;
    let rig = Rig::real();
    #[derive(Clone)]
    struct Counted(tidings::Raiser, Arc<AtomicU64>);
    async fn writes(
        Counted(raiser, runs): Counted,
        _: Arc<Event>,
        _: Context,
        connection: &mut MemoryConnection,
    ) -> HandlerResult {
        let run = runs.fetch_add(1, Ordering::SeqCst);
        let row = Event::new("written.row", &json!({}))?;
        raiser.raise(connection, row).await?;
        match run % 100 {
            0..10 => Err(HandlerError::retry_after(Duration::ZERO, "every tenth")),
            10 => panic!("one in a hundred"),
            20 => Err(StoreError::Conflict {
                operation: "test",
                source: None,
            }
            .into()),
            _ => Ok(()),
        }
    }
    let state = Counted(rig.store.raiser(), Arc::default());
    let handler = Handler::transactional_with_state("writes", state, writes)
        .on("test.*")
        .max_errors(100)
        .backoff(Backoff::constant(Duration::from_millis(1)))
        .shared_transactions();
    let map = config([handler]);
    let _schedulers = [
        rig.scheduler(map.clone()).start().await,
        rig.scheduler(map).kind(KINDS[1]).start().await,
    ];
    rig.raise_many("test.event", EVENTS).await;
    rig.until_completed(EVENTS as u64).await;
    let written = EventFilter::default().named(["written.row"]);
    let mut session = rig.store.session().await.unwrap();
    let written = session.events().count(&written).await.unwrap();
    assert_eq!(written, EVENTS as u64);
}
