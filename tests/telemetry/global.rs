//! The global providers: the only test of this program that installs them.

use std::sync::Arc;

use tidings::{ConcurrentScheduler, ConfigMap, Handler, MemoryStore, Scheduler, Telemetry};

use crate::{
    brisk,
    collector::{Collector, Value},
    drained, event, eventually, raise, run, succeed,
};

fn config() -> ConfigMap {
    ConfigMap::builder()
        .handler(Handler::new("ship", succeed).on("order.placed"))
        .build()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sdk_that_is_installed_before_the_scheduler_is_built_gets_everything() {
    // Made before the SDK is installed, used after.
    let early = Telemetry::default();
    let collector = Collector::new();
    opentelemetry::global::set_meter_provider(collector.meter_provider.clone());
    opentelemetry::global::set_tracer_provider(collector.tracer_provider.clone());

    let (store, other) = (MemoryStore::new(), MemoryStore::new());
    raise(&store, vec![event("order.placed")]).await;
    let scheduler = brisk(
        ConcurrentScheduler::builder(Arc::new(store.clone()), config()),
        early,
    );
    run(&scheduler, drained(&store)).await;
    drop(scheduler);
    assert_eq!(
        collector.count(
            "events.processed.successes",
            &[("event.type", "order.placed")]
        ),
        1
    );
    assert_eq!(collector.spans_named("ship handler").len(), 1);

    // Two schedulers that know nothing of each other are told apart.
    let one = brisk(
        ConcurrentScheduler::builder(Arc::new(store), config()),
        Telemetry::default(),
    );
    let two = brisk(
        ConcurrentScheduler::builder(Arc::new(other), config()),
        Telemetry::default(),
    );
    one.start().await.unwrap();
    two.start().await.unwrap();
    for attributes in [&[][..], &[("events.scheduler.number", "2")]] {
        let dead = eventually(|| collector.value("requests.dead.count", attributes)).await;
        assert_eq!(dead, Value::Gauge(0.0));
    }
    assert_eq!(
        collector.value("requests.dead.count", &[("events.scheduler.number", "3")]),
        None
    );
}
