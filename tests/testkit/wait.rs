//! Waiting for the handlers of one event.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tidings::{
    ConcurrentScheduler, ConfigMap, Context, Event, EventId, Handler, HandlerError, HandlerResult,
    MemoryStore, Scheduler, Signals, StoreError,
    store::{Capabilities, ConnectionType, LeaseRenewer, Session, Storer, Transaction},
    testkit::{WaitError, wait_for_event},
};
use tokio::time::Instant;

use crate::shop::{OrderPlaced, raise};

/// Nothing takes this long.
const LONG: Duration = Duration::from_secs(60);

async fn greet(_: OrderPlaced, _: Context) -> HandlerResult {
    Ok(())
}

async fn refuse(_: OrderPlaced, _: Context) -> HandlerResult {
    Err(HandlerError::discard("refused"))
}

async fn fail(_: OrderPlaced, _: Context) -> HandlerResult {
    Err(HandlerError::new("the line is down"))
}

async fn start(
    store: &MemoryStore,
    handlers: impl IntoIterator<Item = Handler>,
) -> ConcurrentScheduler {
    let builder = ConfigMap::builder();
    let config = handlers
        .into_iter()
        .fold(builder, |map, handler| map.handler(handler))
        .build()
        .unwrap();
    let scheduler = ConcurrentScheduler::builder(Arc::new(store.clone()), config)
        .renew_on_runtime()
        .build()
        .unwrap();
    scheduler.start().await.unwrap();
    scheduler
}

fn placed() -> Event {
    Event::of(&OrderPlaced::new("4711", 12)).unwrap()
}

#[tokio::test]
async fn all_handlers_have_ended_and_are_answered_by_name() {
    let store = MemoryStore::new();
    let scheduler = start(
        &store,
        [Handler::new("refuse", refuse), Handler::new("greet", greet)],
    )
    .await;
    let event = placed();
    let id = event.id;
    raise(&store, [event]).await;
    let requests = wait_for_event(&store, id, LONG).await.unwrap();
    let ends: Vec<_> = requests
        .iter()
        .map(|request| {
            (
                request.handler.as_str(),
                request.completed_at.is_some(),
                request.dead_at.is_some(),
            )
        })
        .collect();
    assert_eq!(ends, [("greet", true, false), ("refuse", false, true)]);
    scheduler.shutdown(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wait_may_begin_before_the_event_is_raised() {
    let store = MemoryStore::new();
    let scheduler = start(&store, [Handler::new("greet", greet)]).await;
    let event = placed();
    let id = event.id;
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { wait_for_event(&store, id, LONG).await }
    });
    raise(&store, [event]).await;
    assert_eq!(waiting.await.unwrap().unwrap().len(), 1);
    scheduler.shutdown(LONG).await;
}

#[tokio::test(start_paused = true)]
async fn the_signals_of_the_store_end_the_wait() {
    let store = MemoryStore::new();
    let scheduler = start(&store, [Handler::new("greet", greet)]).await;
    let event = placed();
    let id = event.id;
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { wait_for_event(&store, id, LONG).await }
    });
    // Until everybody waits for signals, and no poll is under way.
    tokio::time::sleep(Duration::from_millis(501)).await;
    let begun = Instant::now();
    raise(&store, [event]).await;
    waiting.await.unwrap().unwrap();
    assert!(
        begun.elapsed() < Duration::from_millis(40),
        "it took {:?}: a poll",
        begun.elapsed()
    );
    scheduler.shutdown(LONG).await;
}

#[tokio::test]
async fn an_event_that_nobody_wants_is_waited_for_as_well() {
    let store = MemoryStore::new();
    let scheduler = start(&store, [Handler::new("greet", greet)]).await;
    let event = Event::new("night.started", &()).unwrap();
    let id = event.id;
    raise(&store, [event]).await;
    assert_eq!(wait_for_event(&store, id, LONG).await.unwrap(), []);
    scheduler.shutdown(LONG).await;
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_not_committed_is_not_found() {
    let store = MemoryStore::new();
    let event = placed();
    let id = event.id;
    let mut tx = store.begin().await.unwrap();
    store.raiser().raise(&mut *tx, event).await.unwrap();
    let error = wait_for_event(&store, id, LONG).await.unwrap_err();
    assert!(matches!(error, WaitError::NotRaised { event, .. } if event == id));
    let expected =
        format!("event {id} was not in the store within 60s; was its transaction committed?");
    assert_eq!(error.to_string(), expected);
}

#[tokio::test(start_paused = true)]
async fn without_a_scheduler_the_event_is_told_as_unprocessed() {
    let store = MemoryStore::new();
    let event = placed();
    let id = event.id;
    raise(&store, [event]).await;
    let error = wait_for_event(&store, id, LONG).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the handlers did not end within 60s; does a scheduler run?\n  event order.placed ({id}) is not processed"
        )
    );
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_backs_off_is_told_with_its_error() {
    let store = MemoryStore::new();
    let scheduler = start(
        &store,
        [
            Handler::new("fail", fail).max_errors(50),
            Handler::new("greet", greet),
        ],
    )
    .await;
    let event = placed();
    let id = event.id;
    raise(&store, [event]).await;
    let error = wait_for_event(&store, id, Duration::from_millis(300))
        .await
        .unwrap_err();
    let WaitError::Unfinished { unfinished, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!((unfinished.events.len(), unfinished.requests.len()), (0, 1));
    let message = error.to_string();
    assert!(
        message.contains(&format!(
            "handler fail of event order.placed ({id}) backs off until "
        )),
        "{message}"
    );
    assert!(
        message.ends_with("after 1 of 50 errors, the last: the line is down"),
        "{message}"
    );
    scheduler.shutdown(LONG).await;
}

#[tokio::test]
async fn a_store_that_others_write_to_is_polled() {
    let store = Wrapped::failing(0);
    let scheduler = start(&store.inner, [Handler::new("greet", greet)]).await;
    let event = placed();
    let id = event.id;
    let waiting = async { wait_for_event(&store, id, LONG).await.unwrap().len() };
    let (requests, ()) = tokio::join!(waiting, raise(&store.inner, [event]));
    assert_eq!(requests, 1);
    scheduler.shutdown(LONG).await;
}

#[tokio::test]
async fn a_store_that_is_away_for_a_while_does_not_end_the_wait() {
    let store = Wrapped::failing(3);
    let scheduler = start(&store.inner, [Handler::new("greet", greet)]).await;
    let event = placed();
    let id = event.id;
    raise(&store.inner, [event]).await;
    assert_eq!(wait_for_event(&store, id, LONG).await.unwrap().len(), 1);
    assert_eq!(store.failures.load(Ordering::SeqCst), 0);
    scheduler.shutdown(LONG).await;
}

#[tokio::test]
async fn a_store_that_is_broken_ends_the_wait_at_once() {
    let store = Wrapped {
        broken: true,
        ..Wrapped::failing(0)
    };
    let error = wait_for_event(&store, EventId::new(), LONG)
        .await
        .unwrap_err();
    assert!(
        matches!(error, WaitError::Store(StoreError::Ended { .. })),
        "{error}"
    );
}

/// A store whose signals nobody raises, as if others wrote to it, and that is away at first.
#[derive(Debug)]
pub(crate) struct Wrapped {
    pub(crate) inner: MemoryStore,
    /// So many sessions and transactions cannot be had yet.
    failures: AtomicUsize,
    broken: bool,
}

impl Wrapped {
    pub(crate) fn failing(times: usize) -> Self {
        Self {
            inner: MemoryStore::new(),
            failures: AtomicUsize::new(times),
            broken: false,
        }
    }

    fn fail(&self) -> Result<(), StoreError> {
        if self.broken {
            return Err(StoreError::Ended {
                operation: "open a session",
                thing: "the store",
            });
        }
        let left = self
            .failures
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            });
        match left {
            Ok(_) => Err(StoreError::Unavailable {
                operation: "open a session",
                source: None,
            }),
            Err(_) => Ok(()),
        }
    }
}

#[async_trait]
impl Storer for Wrapped {
    async fn session(&self) -> Result<Box<dyn Session>, StoreError> {
        self.fail()?;
        self.inner.session().await
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>, StoreError> {
        self.fail()?;
        self.inner.begin().await
    }

    async fn lease_renewer(&self) -> Result<Box<dyn LeaseRenewer>, StoreError> {
        self.inner.lease_renewer().await
    }

    fn signals(&self) -> Signals {
        Signals::default()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn connection_type(&self) -> ConnectionType {
        self.inner.connection_type()
    }
}
