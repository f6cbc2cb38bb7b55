//! The decorator that measures a store.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt};
use tidings::{
    ConfigMap, Handler, HandlerRequestId, InstrumentedStorer, LeaseOwner, MemoryConnection,
    MemoryStore, StoreError, Telemetry,
    mocks::{MockEventRepository, MockHandlerRequestRepository, MockSession, MockStorer},
    store::{
        Claim, ConnectionType, EventFilter, FanOut, HandlerRoom, RequestFilter, Settlement, Storer,
    },
};

use crate::{collector::Collector, event, run_until_drained, succeed};

fn operation(name: &str) -> [(&str, &str); 1] {
    [("db.operation.name", name)]
}

fn instrumented(collector: &Collector, store: impl Storer) -> InstrumentedStorer {
    InstrumentedStorer::new(Arc::new(store), collector.telemetry())
}

fn config() -> ConfigMap {
    ConfigMap::builder()
        .handler(Handler::new("ship", succeed).on("order.placed"))
        .build()
        .unwrap()
}

#[tokio::test]
async fn batches_are_measured_with_their_sizes() {
    let collector = Collector::new();
    let store = instrumented(&collector, MemoryStore::new());
    let mut tx = store.begin().await.unwrap();
    tx.registrations()
        .register(config().registrations())
        .await
        .unwrap();
    let events: Vec<_> = (0..3).map(|_| event("order.placed")).collect();
    tx.events().raise(&events).await.unwrap();
    tx.commit().await.unwrap();
    let mut session = store.session().await.unwrap();
    let fan_out = FanOut::due(10);
    session.events().fan_out(&fan_out).await.unwrap();
    let owner = LeaseOwner::new();
    let claim = Claim::new(
        owner,
        Duration::from_secs(30),
        2,
        vec![HandlerRoom::new("ship", 10)],
    );
    let claimed = session
        .handler_requests()
        .claim(&claim)
        .await
        .unwrap()
        .requests;
    let settlements: Vec<_> = claimed
        .iter()
        .map(|request| {
            Settlement::new(
                request.id,
                request.attempt,
                owner,
                tidings::Outcome::Completed,
            )
        })
        .collect();
    session
        .handler_requests()
        .settle(&settlements[..1])
        .await
        .unwrap();
    let fence = [(claimed[1].id, claimed[1].attempt)];
    session
        .handler_requests()
        .hand_back(owner, &fence)
        .await
        .unwrap();

    for (name, size) in [
        ("raise", 3.0),
        ("fan_out", 3.0),
        ("claim", 2.0),
        ("settle", 1.0),
        ("hand_back", 1.0),
    ] {
        assert_eq!(
            collector.histogram("events.store.batch.size", &operation(name)),
            (1, size),
            "{name}"
        );
        let (calls, seconds) =
            collector.histogram("events.store.operation.duration", &operation(name));
        assert_eq!(calls, 1, "{name}");
        assert!(seconds > 0.0, "{name}");
    }
    for name in ["session", "begin", "commit"] {
        assert_eq!(
            collector
                .histogram("events.store.operation.duration", &operation(name))
                .0,
            1
        );
        assert_eq!(
            collector.value("events.store.batch.size", &operation(name)),
            None
        );
    }
    assert!(
        !collector
            .metric_names()
            .contains(&"events.store.errors".to_owned())
    );
}

#[tokio::test]
async fn a_scheduler_measures_its_store_and_counts_no_batch_twice() {
    let (collector, store) = (Collector::new(), MemoryStore::new());
    crate::raise(&store, (0..5).map(|_| event("order.placed")).collect()).await;
    run_until_drained(&store, config(), collector.telemetry()).await;
    assert_eq!(
        collector
            .histogram("events.store.batch.size", &operation("fan_out"))
            .1,
        5.0
    );
    assert_eq!(
        collector
            .histogram("events.store.batch.size", &operation("settle"))
            .1,
        5.0
    );
}

/// A store whose sessions answer every query with an error.
fn broken() -> MockStorer {
    let error = || StoreError::Unavailable {
        operation: "x",
        source: None,
    };
    let mut store = MockStorer::new();
    store.expect_session().returning(move || {
        let mut session = MockSession::new();
        session.expect_events().returning(move || {
            let mut events = MockEventRepository::new();
            events.expect_raise().returning(move |_| Err(error()));
            events
                .expect_count()
                .returning(|_| Err(StoreError::invalid("a", "b", "c")));
            events.expect_stream().returning(move |_| {
                let rows = vec![Err(error()), Err(error())];
                futures_util::stream::iter(rows).boxed()
            });
            Box::new(events)
        });
        session.expect_handler_requests().returning(move || {
            let mut requests = MockHandlerRequestRepository::new();
            let timed_out = || StoreError::TimedOut {
                operation: "x",
                limit: Duration::from_secs(1),
            };
            requests
                .expect_cancel()
                .returning(move |_| Err(timed_out()));
            Box::new(requests)
        });
        Ok(Box::new(session))
    });
    store
}

#[tokio::test]
async fn failures_are_counted_by_operation_and_kind_and_passed_on() {
    let collector = Collector::new();
    let store = instrumented(&collector, broken());
    let mut session = store.session().await.unwrap();
    let error = session
        .events()
        .raise(&[event("order.placed")])
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }));
    session.events().raise(&[]).await.unwrap_err();
    session
        .events()
        .count(&EventFilter::default())
        .await
        .unwrap_err();
    assert_eq!(
        session
            .events()
            .stream(&EventFilter::default())
            .count()
            .await,
        2
    );
    let id = HandlerRequestId::derive(event("x").id, "ship");
    session.handler_requests().cancel(id).await.unwrap_err();

    let errors = |name: &str, kind: &str| {
        collector.count(
            "events.store.errors",
            &[("db.operation.name", name), ("error.type", kind)],
        )
    };
    assert_eq!(errors("raise", "unavailable"), 2);
    assert_eq!(errors("stream_events", "unavailable"), 2);
    assert_eq!(errors("cancel", "timed out"), 1);
    let points = collector.points();
    let kinds = points
        .iter()
        .filter(|point| point.name == "events.store.errors")
        .count();
    assert_eq!(kinds, 3, "what the store rightly refuses is no error");
    assert_eq!(
        collector.value("events.store.operation.duration", &operation("raise")),
        None
    );
}

#[tokio::test]
async fn a_call_that_is_dropped_before_its_end_is_counted() {
    let collector = Collector::new();
    let holder = MemoryStore::new();
    let placed = event("order.placed");
    // Somebody else's transaction holds the event's id.
    let mut tx = holder.begin().await.unwrap();
    tx.events()
        .raise(std::slice::from_ref(&placed))
        .await
        .unwrap();
    let store = instrumented(&collector, holder);
    let mut session = store.session().await.unwrap();
    let events = [placed];
    let waiting = async { session.events().raise(&events).await };
    assert!(
        waiting.now_or_never().is_none(),
        "it waits for the other transaction"
    );
    let abandoned = [("db.operation.name", "raise"), ("error.type", "abandoned")];
    assert_eq!(collector.count("events.store.errors", &abandoned), 1);
}

#[tokio::test]
async fn the_decorator_changes_nothing() {
    let inner = MemoryStore::new();
    let store = InstrumentedStorer::new(Arc::new(inner.clone()), Telemetry::disabled());
    assert_eq!(store.capabilities(), inner.capabilities());
    assert_eq!(
        store.connection_type(),
        ConnectionType::of::<MemoryConnection>()
    );
    let seen = inner.signals().raised.seen();
    store.signals().raised.raise();
    assert_eq!(inner.signals().raised.seen(), seen + 1);
    let mut tx = store.begin().await.unwrap();
    assert!(tx.connection().downcast::<MemoryConnection>().is_some());
    tx.events().raise(&[event("order.placed")]).await.unwrap();
    tx.rollback().await.unwrap();
    let mut session = store.session().await.unwrap();
    assert_eq!(session.events().count_unprocessed().await.unwrap(), 0);
    assert_eq!(
        session
            .handler_requests()
            .count(&RequestFilter::default())
            .await
            .unwrap(),
        0
    );
    let conflict = StoreError::Conflict {
        operation: "x",
        source: None,
    };
    assert!(store.is_conflict(&conflict));
}
