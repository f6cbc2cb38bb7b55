//! Transactional handlers: their writes and the settlement commit together, or neither does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tidings::faulty::{Fault, FaultyStorer, Operation};
use tidings::{
    Backoff, Context, Event, Handler, HandlerError, HandlerResult, MemoryConnection, MemoryStore,
    RequestState, StoreError,
    store::{
        Capabilities, ConnectionType, EventFilter, LeaseRenewer, Session, Storer, Transaction,
    },
};
use tokio::sync::Notify;

use crate::rig::{KINDS, Rig, config};

/// Writes through the connection: an event, as the in-memory store has nothing else to write.
async fn write(
    store: &tidings::Raiser,
    connection: &mut MemoryConnection,
) -> Result<(), StoreError> {
    store
        .raise(connection, Event::new("written.row", &json!({})).unwrap())
        .await
        .map(drop)
}

async fn written(rig: &Rig) -> u64 {
    let filter = EventFilter::default().named(["written.row"]);
    rig.store
        .session()
        .await
        .unwrap()
        .events()
        .count(&filter)
        .await
        .unwrap()
}

#[derive(Clone)]
struct State {
    raiser: tidings::Raiser,
    runs: Arc<AtomicU32>,
    running: Arc<Notify>,
    go_on: Arc<Notify>,
}

impl State {
    fn of(rig: &Rig) -> Self {
        Self {
            raiser: rig.store.raiser(),
            runs: Arc::default(),
            running: Arc::default(),
            go_on: Arc::default(),
        }
    }
}

/// What the handler does after it has written, by the number of its run.
async fn by_run(
    state: State,
    event: Arc<Event>,
    _: Context,
    connection: &mut MemoryConnection,
) -> HandlerResult {
    let run = state.runs.fetch_add(1, Ordering::SeqCst);
    write(&state.raiser, connection).await?;
    match (&*event.name, run) {
        ("test.error", 0) => Err(HandlerError::new("once")),
        ("test.panic", 0) => panic!("once"),
        ("test.timeout", 0) => std::future::pending().await,
        ("test.snooze", 0) => Err(HandlerError::snooze(Duration::from_secs(1))),
        ("test.conflict", 0..3) => Err(StoreError::Conflict {
            operation: "test",
            source: None,
        }
        .into()),
        ("test.late", 0..2) => {
            tokio::time::sleep(Duration::from_millis(600)).await;
            Err(StoreError::Conflict {
                operation: "test",
                source: None,
            }
            .into())
        }
        ("test.deadlock", _) => Err(StoreError::Conflict {
            operation: "test",
            source: None,
        }
        .into()),
        ("test.discard", _) => Err(HandlerError::discard("never")),
        _ => Ok(()),
    }
}

#[tokio::test(start_paused = true)]
async fn only_ok_commits_and_exactly_once() {
    for kind in KINDS {
        for (name, runs, errors, state, rows) in [
            ("test.ok", 1, 0, RequestState::Completed, 1),
            ("test.error", 2, 1, RequestState::Completed, 1),
            ("test.panic", 2, 1, RequestState::Completed, 1),
            ("test.timeout", 2, 1, RequestState::Completed, 1),
            ("test.snooze", 2, 0, RequestState::Completed, 1),
            ("test.conflict", 4, 0, RequestState::Completed, 1),
            // The time that is left after a conflict is not enough for another run.
            ("test.late", 3, 1, RequestState::Completed, 1),
            ("test.deadlock", 4, 1, RequestState::Dead, 0),
            ("test.discard", 1, 1, RequestState::Dead, 0),
        ] {
            let rig = Rig::paused();
            let data = State::of(&rig);
            let max_errors = if name == "test.deadlock" { 1 } else { 3 };
            let handler = Handler::transactional_with_state("writes", data.clone(), by_run)
                .on("test.*")
                .max_errors(max_errors)
                .timeout(Duration::from_secs(1))
                .backoff(Backoff::constant(Duration::from_secs(1)));
            let scheduler = rig.scheduler(config([handler])).kind(kind).start().await;
            rig.raise(name).await;
            let request = rig.until_only(state).await;
            scheduler.shutdown(Duration::from_secs(1)).await;
            assert_eq!(data.runs.load(Ordering::SeqCst), runs, "{name}");
            assert_eq!(request.errors, errors, "{name}");
            assert_eq!(written(&rig).await, rows, "{name}");
        }
    }
}

async fn waits(
    state: State,
    _: Arc<Event>,
    _: Context,
    connection: &mut MemoryConnection,
) -> HandlerResult {
    write(&state.raiser, connection).await?;
    state.running.notify_one();
    state.go_on.notified().await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_cancel_while_it_runs_rolls_its_writes_back() {
    for kind in KINDS {
        let rig = Rig::paused();
        let state = State::of(&rig);
        let handler = Handler::transactional_with_state("waits", state.clone(), waits).on("test.*");
        let _scheduler = rig.scheduler(config([handler])).kind(kind).start().await;
        rig.raise("test.waits").await;
        state.running.notified().await;
        assert_eq!(written(&rig).await, 0, "not visible before the commit");
        let id = rig.only().await.id;
        rig.store
            .session()
            .await
            .unwrap()
            .handler_requests()
            .cancel(id)
            .await
            .unwrap();
        state.go_on.notify_one();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(written(&rig).await, 0);
        assert_eq!(rig.count(RequestState::Canceled).await, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_that_breaks_it_off_rolls_its_writes_back_and_hands_it_back() {
    for kind in KINDS {
        let rig = Rig::paused();
        let state = State::of(&rig);
        let handler = Handler::transactional_with_state("waits", state.clone(), waits).on("test.*");
        let scheduler = rig.scheduler(config([handler])).kind(kind).start().await;
        rig.raise("test.waits").await;
        state.running.notified().await;
        let report = scheduler.shutdown(Duration::from_secs(2)).await;
        assert_eq!((report.handed_back, report.abandoned), (1, 0));
        assert_eq!(written(&rig).await, 0);
        let request = rig.only().await;
        assert_eq!(
            (request.errors, request.state(request.created_at)),
            (0, RequestState::Pending)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn events_raised_through_the_context_commit_with_the_writes() {
    async fn raises(
        _: Arc<Event>,
        context: Context,
        connection: &mut MemoryConnection,
    ) -> HandlerResult {
        use tidings::store::Session;
        assert_eq!(connection.events().count_unprocessed().await?, 0);
        context.raise(Event::new("written.row", &json!({}))?);
        if context.errors() == 0 {
            Err(HandlerError::new("once"))
        } else {
            Ok(())
        }
    }
    let rig = Rig::paused();
    let handler = Handler::transactional("raises", raises)
        .on("test.*")
        .backoff(Backoff::constant(Duration::from_secs(1)));
    let _scheduler = rig.scheduler(config([handler])).start().await;
    let cause = rig.raise("test.raises").await;
    rig.until_completed(1).await;
    assert_eq!(written(&rig).await, 1);
    let mut session = rig.store.session().await.unwrap();
    let filter = EventFilter::default().named(["written.row"]);
    let raised = session
        .events()
        .list(&filter, &tidings::store::Page::first(2))
        .await
        .unwrap();
    assert_eq!(raised[0].event.causation_id, Some(cause));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_events_write_ten_thousand_rows() {
    const EVENTS: usize = 10_000;
    let rig = Rig::real();
    let state = State::of(&rig);
    async fn writes(
        state: State,
        _: Arc<Event>,
        _: Context,
        connection: &mut MemoryConnection,
    ) -> HandlerResult {
        let run = state.runs.fetch_add(1, Ordering::SeqCst);
        write(&state.raiser, connection).await?;
        if run.is_multiple_of(10) {
            Err(HandlerError::retry_after(Duration::ZERO, "every tenth"))
        } else {
            Ok(())
        }
    }
    let handler = Handler::transactional_with_state("writes", state, writes)
        .on("test.*")
        .max_errors(100);
    let map = config([handler]);
    let _schedulers = [
        rig.scheduler(map.clone()).start().await,
        rig.scheduler(map).kind(KINDS[1]).start().await,
    ];
    rig.raise_many("test.event", EVENTS).await;
    rig.until_completed(EVENTS as u64).await;
    assert_eq!(written(&rig).await, EVENTS as u64);
}

/// A store in which one transaction writes at a time.
#[derive(Debug)]
struct OneWriter(MemoryStore);

#[async_trait::async_trait]
impl Storer for OneWriter {
    async fn session(&self) -> tidings::Result<Box<dyn Session>> {
        self.0.session().await
    }

    async fn begin(&self) -> tidings::Result<Box<dyn Transaction>> {
        self.0.begin().await
    }

    async fn lease_renewer(&self) -> tidings::Result<Box<dyn LeaseRenewer>> {
        self.0.lease_renewer().await
    }

    fn signals(&self) -> tidings::Signals {
        self.0.signals()
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.0.capabilities();
        capabilities.concurrent_writers = false;
        capabilities
    }

    fn connection_type(&self) -> ConnectionType {
        self.0.connection_type()
    }
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_keeps_all_writers_waiting_is_ended_early() {
    // (lease, time limit of calls, the handler's own time-out, when it is ended), in milliseconds
    for (lease, call, own, ended) in [
        (30_000, 10_000, 300_000, 7_500),
        (60_000, 4_000, 300_000, 3_000),
        (8_000, 8_000, 300_000, 2_000),
        (30_000, 10_000, 1_000, 1_000),
    ] {
        for one_writer in [true, false] {
            let rig = Rig::paused();
            let state = State::of(&rig);
            let handler = Handler::transactional_with_state("waits", state.clone(), waits)
                .on("test.*")
                .max_errors(1)
                .timeout(Duration::from_millis(own));
            let store: Arc<dyn Storer> = if one_writer {
                Arc::new(OneWriter(rig.store.clone()))
            } else {
                Arc::new(rig.store.clone())
            };
            let scheduler = rig
                .scheduler_on(store, config([handler]))
                .lease(Duration::from_millis(lease))
                .call_timeout(Duration::from_millis(call))
                .start()
                .await;
            rig.raise("test.slow").await;
            state.running.notified().await;
            let began = tokio::time::Instant::now();
            let request = rig.until_only(RequestState::Dead).await;
            let took = began.elapsed();
            scheduler.shutdown(Duration::from_secs(1)).await;
            let expected = Duration::from_millis(if one_writer { ended } else { own });
            let late = Duration::from_millis(200);
            assert!(
                took >= expected && took < expected + late,
                "{took:?} rather than {expected:?}"
            );
            assert_eq!(request.errors, 1);
            assert_eq!(written(&rig).await, 0);
        }
    }
}

/// The connection goes while the handler runs: its statements fail, and so does the rollback.
#[tokio::test(start_paused = true)]
async fn an_error_of_a_handler_whose_connection_was_lost_does_not_count() {
    for kind in KINDS {
        let rig = Rig::paused();
        let data = State::of(&rig);
        let store = FaultyStorer::new(Arc::new(rig.store.clone()));
        store.faults().inject(Operation::Rollback, Fault::Fail, 1);
        let handler = Handler::transactional_with_state("writes", data.clone(), by_run)
            .on("test.*")
            .max_errors(1);
        let scheduler = rig
            .scheduler_on(Arc::new(store), config([handler]))
            .kind(kind)
            .start()
            .await;
        rig.raise("test.error").await;
        let request = rig.until_only(RequestState::Completed).await;
        scheduler.shutdown(Duration::from_secs(1)).await;
        assert_eq!((data.runs.load(Ordering::SeqCst), request.errors), (2, 0));
        assert_eq!(written(&rig).await, 1);
    }
}
