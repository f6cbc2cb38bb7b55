//! Spans of the `tracing` crate nest both ways, through `tracing-opentelemetry`.

use std::sync::Arc;

use opentelemetry::trace::TracerProvider;
use tidings::{ConfigMap, Context, Event, Handler, HandlerResult, MemoryStore};
use tracing::Instrument;
use tracing_subscriber::layer::SubscriberExt;

use crate::{
    collector::{Collector, SpanExt},
    event, raise, run_until_drained,
};

// One thread, as the subscriber is set for the thread that the test runs on.
#[tokio::test(flavor = "current_thread")]
async fn spans_of_an_application_and_of_its_handlers_nest_both_ways() {
    async fn load(_: Arc<Event>, context: Context) -> HandlerResult {
        async {
            tokio::task::yield_now().await;
            context.raise(event("order.shipped"));
        }
        .instrument(tracing::info_span!("load parcel"))
        .await;
        Ok(())
    }
    async fn thank(_: Arc<Event>, _: Context) -> HandlerResult {
        Ok(())
    }
    let (collector, store) = (Collector::new(), MemoryStore::new());
    let layer = tracing_opentelemetry::layer().with_tracer(collector.tracer_provider.tracer("app"));
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let config = ConfigMap::builder()
        .handler(Handler::new("ship", load).on("order.placed"))
        .handler(Handler::new("thank", thank).on("order.shipped"))
        .build()
        .unwrap();
    let place = tracing::info_span!("place order");
    raise(&store, vec![event("order.placed")])
        .instrument(place)
        .await;
    run_until_drained(&store, config, collector.telemetry()).await;

    let (place, handler) = (
        collector.span("place order"),
        collector.span("ship handler"),
    );
    let load = collector.span("load parcel");
    assert!(
        handler.links_to(&place),
        "an application's span around a raise"
    );
    assert!(load.is_child_of(&handler), "a span inside a handler");
    assert!(
        collector.span("thank handler").links_to(&load),
        "the innermost span is what raises"
    );
    assert!(collector.span("execute ship request").is_root());
}
