//! Every span of a running application.

use std::sync::Arc;

use opentelemetry::trace::{FutureExt, TraceContextExt, Tracer, TracerProvider};
use opentelemetry_sdk::trace::SpanData;
use tidings::{ConfigMap, Context, Event, Handler, HandlerError, HandlerResult, MemoryStore};

use crate::{
    collector::{Collector, SpanExt},
    cooperate_until_drained, event, raise, run_until_drained, succeed,
};

/// Raises inside a span of the application, and gives that span.
async fn raise_inside_a_span(collector: &Collector, store: &MemoryStore, event: Event) -> SpanData {
    let tracer = collector.tracer_provider.tracer("app");
    let context = opentelemetry::Context::new().with_span(tracer.start("place order"));
    raise(store, vec![event])
        .with_context(context.clone())
        .await;
    context.span().end();
    collector.span("place order")
}

fn ship(handler: Handler) -> ConfigMap {
    ConfigMap::builder()
        .handler(handler.on("order.placed"))
        .build()
        .unwrap()
}

/// The one execution of `ship`, checked: a root that links to its round and to who raised, with
/// the handler's span inside.
fn assert_execution(collector: &Collector, application: &SpanData) -> SpanData {
    let execute = collector.span("execute ship request");
    let handler = collector.span("ship handler");
    assert!(execute.is_root());
    assert!(execute.links_to(&collector.span("execute requests")));
    assert!(execute.links_to(application));
    assert!(handler.is_child_of(&execute));
    assert!(handler.links_to(application));
    assert!(handler.start_time >= execute.start_time && handler.end_time <= execute.end_time);
    handler
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_and_its_request_leave_their_spans() {
    let (collector, store) = (Collector::new(), MemoryStore::new());
    let placed = event("order.placed");
    let id = placed.id.to_string();
    let application = raise_inside_a_span(&collector, &store, placed).await;
    run_until_drained(
        &store,
        ship(Handler::new("ship", succeed)),
        collector.telemetry(),
    )
    .await;

    let process = collector.span("process order.placed event");
    assert!(process.is_root());
    assert!(process.links_to(&collector.span("process events")));
    assert_eq!(process.attributes()["event.id"], id);
    let handler = assert_execution(&collector, &application);
    assert_eq!(handler.error(), None);
    assert_eq!(handler.attributes()["event.id"], id);
    for round in ["process events", "execute requests"] {
        let round = collector.span(round);
        assert_eq!(round.attributes()["messaging.batch.message_count"], "1");
        assert!(round.is_root());
    }
    assert_eq!(collector.spans().len(), 6, "idle rounds leave none");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cooperative_scheduler_leaves_the_same_spans() {
    let (collector, store) = (Collector::new(), MemoryStore::new());
    let application = raise_inside_a_span(&collector, &store, event("order.placed")).await;
    cooperate_until_drained(
        &store,
        ship(Handler::new("ship", succeed)),
        collector.telemetry(),
    )
    .await;
    assert_execution(&collector, &application);
    assert_eq!(collector.spans().len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_and_a_panic_are_the_status_of_their_spans() {
    async fn fail(_: Arc<Event>, _: Context) -> HandlerResult {
        Err(HandlerError::new("the dock is closed"))
    }
    async fn panics(_: Arc<Event>, _: Context) -> HandlerResult {
        tokio::task::yield_now().await;
        panic!("the dock burns");
    }
    for (handler, error) in [
        (Handler::new("ship", fail), "the dock is closed"),
        (Handler::new("ship", panics), "the dock burns"),
    ] {
        let (collector, store) = (Collector::new(), MemoryStore::new());
        let application = raise_inside_a_span(&collector, &store, event("order.placed")).await;
        run_until_drained(&store, ship(handler.max_errors(1)), collector.telemetry()).await;
        let handler = assert_execution(&collector, &application);
        for span in [handler, collector.span("execute ship request")] {
            assert!(
                span.error().is_some_and(|text| text.contains(error)),
                "{:?}",
                span.status
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_events_can_be_followed_from_handler_to_handler() {
    async fn raises(_: Arc<Event>, context: Context) -> HandlerResult {
        tokio::task::yield_now().await;
        context.raise(event("order.shipped"));
        Ok(())
    }
    async fn raises_in_transaction(
        store: MemoryStore,
        _: Arc<Event>,
        _: Context,
        connection: &mut tidings::MemoryConnection,
    ) -> HandlerResult {
        store
            .raiser()
            .raise(connection, event("order.paid"))
            .await?;
        Ok(())
    }
    let (collector, store) = (Collector::new(), MemoryStore::new());
    let config = ConfigMap::builder()
        .handler(Handler::new("ship", raises).on("order.placed"))
        .handler(
            Handler::transactional_with_state("bill", store.clone(), raises_in_transaction)
                .on("order.shipped"),
        )
        .handler(Handler::new("thank", succeed).on("order.paid"))
        .build()
        .unwrap();
    raise(&store, vec![event("order.placed")]).await;
    run_until_drained(&store, config, collector.telemetry()).await;

    let (ship, bill) = (
        collector.span("ship handler"),
        collector.span("bill handler"),
    );
    assert_eq!(ship.links.len(), 0, "nobody traced the first");
    assert!(bill.links_to(&ship));
    assert!(collector.span("execute bill request").links_to(&ship));
    assert!(collector.span("thank handler").links_to(&bill));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closure_that_raises_before_its_future_is_polled_is_inside_its_span() {
    let (collector, store) = (Collector::new(), MemoryStore::new());
    let eager = |_: Arc<Event>, context: Context| {
        context.raise(event("order.shipped"));
        async { HandlerResult::Ok(()) }
    };
    let config = ConfigMap::builder()
        .handler(Handler::new("ship", eager).on("order.placed"))
        .handler(Handler::new("thank", succeed).on("order.shipped"))
        .build()
        .unwrap();
    raise(&store, vec![event("order.placed")]).await;
    run_until_drained(&store, config, collector.telemetry()).await;
    assert!(
        collector
            .span("thank handler")
            .links_to(&collector.span("ship handler"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_in_the_headers_of_an_imported_event_is_linked_and_kept() {
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let (collector, store) = (Collector::new(), MemoryStore::new());
    let imported = event("order.placed").with_header("traceparent", PARENT);
    let own = raise_inside_a_span(&collector, &store, imported).await;
    run_until_drained(
        &store,
        ship(Handler::new("ship", succeed)),
        collector.telemetry(),
    )
    .await;
    let handler = collector.span("ship handler");
    assert!(!handler.links_to(&own));
    let link = &handler.links[0].span_context;
    assert_eq!(
        link.trace_id().to_string(),
        "4bf92f3577b34da6a3ce929d0e0e4736"
    );
    assert!(link.is_remote());
}
