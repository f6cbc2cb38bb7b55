//! Gauges: what the store holds, refreshed by a running scheduler.

use std::{sync::Arc, time::Duration};

use tidings::{
    ConcurrentScheduler, ConfigMap, Context, Event, Handler, HandlerError, HandlerResult,
    ManualClock, MemoryStore, RequestState, Scheduler,
    store::{FanOut, RequestFilter, Storer},
};

use crate::{
    brisk,
    collector::{Collector, Value},
    count, event, eventually, raise, run_until_drained, succeed,
};

/// Four handlers, all of which leave their requests dead.
fn config() -> ConfigMap {
    async fn discard(_: Arc<Event>, _: Context) -> HandlerResult {
        Err(HandlerError::discard("no such customer"))
    }
    let names = ["ship", "bill", "thank", "count"];
    let handlers = names.map(|name| Handler::new(name, discard).on("order.placed"));
    handlers
        .into_iter()
        .fold(ConfigMap::builder(), |config, handler| {
            config.handler(handler)
        })
        .build()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn gauges_show_the_store_while_a_scheduler_runs() {
    let (collector, store) = (Collector::new(), MemoryStore::new());
    raise(&store, vec![event("order.placed")]).await;
    let telemetry = collector.telemetry();
    run_until_drained(&store, config(), telemetry.clone()).await;
    let dead = || collector.value("requests.dead.count", &[]);
    assert_eq!(dead(), None);
    assert_eq!(
        count(
            &store,
            RequestFilter::default().in_states([RequestState::Dead])
        )
        .await,
        4
    );

    // What only another process can execute stays open.
    let mut session = store.session().await.unwrap();
    let elsewhere = tidings::Registration::new(
        tidings::EventPattern::parse("order.shipped").unwrap(),
        "invoice".into(),
        tidings::Priority::default(),
        5,
    );
    session
        .registrations()
        .register(&[elsewhere])
        .await
        .unwrap();
    drop(session);
    let hour_ago = chrono::Utc::now() - chrono::TimeDelta::hours(1);
    raise(
        &store,
        vec![event("order.shipped").with_timestamp(hour_ago)],
    )
    .await;
    let fan_out = FanOut::due(10);
    store
        .session()
        .await
        .unwrap()
        .events()
        .fan_out(&fan_out)
        .await
        .unwrap();

    let scheduler = brisk(
        ConcurrentScheduler::builder(Arc::new(store.clone()), config()),
        telemetry,
    );
    scheduler.start().await.unwrap();
    assert_eq!(eventually(dead).await, Value::Gauge(4.0));
    assert_eq!(
        collector.value("events.unprocessed.count", &[]),
        Some(Value::Gauge(0.0))
    );
    assert_eq!(
        collector.value("events.unprocessed.max_age", &[]),
        Some(Value::Gauge(0.0))
    );
    assert_eq!(
        collector.value("requests.unexecuted.count", &[]),
        Some(Value::Gauge(1.0))
    );
    let Some(Value::Gauge(age)) = collector.value("requests.unexecuted.max_age", &[]) else {
        panic!("no age");
    };
    assert!(
        (0.0..60.0).contains(&age),
        "since the request exists, not its event: {age}"
    );
    scheduler.shutdown(Duration::from_secs(10)).await;
    assert_eq!(dead(), None);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_no_process_has_is_shown_with_its_open_requests() {
    let clock = ManualClock::default();
    let (collector, store) = (Collector::new(), MemoryStore::with_clock(clock.clone()));
    let gone = ConfigMap::builder()
        .handler(Handler::new("invoice", succeed).on("order.placed"))
        .build()
        .unwrap();
    store
        .session()
        .await
        .unwrap()
        .registrations()
        .register(gone.registrations())
        .await
        .unwrap();
    raise(&store, vec![event("order.placed"), event("order.placed")]).await;
    clock.advance(Duration::from_secs(2 * 3600));

    let config = ConfigMap::builder()
        .handler(Handler::new("ship", succeed).on("order.placed"))
        .build()
        .unwrap();
    let scheduler = ConcurrentScheduler::builder(Arc::new(store.clone()), config)
        .renew_on_runtime()
        .telemetry(collector.telemetry())
        .build()
        .unwrap();
    scheduler.start().await.unwrap();
    // Somebody reads the gauges. Virtual time: then housekeeping looks once a minute.
    let _ = collector.value("requests.dead.count", &[]);
    tokio::time::sleep(Duration::from_secs(90)).await;
    assert_eq!(
        collector.value(
            "requests.handler_absent.count",
            &[("request.type", "invoice")]
        ),
        Some(Value::Gauge(2.0))
    );
    assert_eq!(
        collector.value("requests.handler_absent.count", &[("request.type", "ship")]),
        None
    );
}
