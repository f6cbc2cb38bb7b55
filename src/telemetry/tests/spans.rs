//! Every span: name, parent, links, attributes, status and time.

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    time::{Duration, SystemTime},
};

use futures_util::FutureExt;
use opentelemetry::{
    Context,
    trace::{SpanKind, Status, TraceContextExt, Tracer, TracerProvider},
};
use tracing_subscriber::layer::SubscriberExt;

use super::{Collector, SpanExt, Telemetry, event, processed, request, timestamp};
use crate::{model::Event, telemetry::propagation};

fn attributes<const N: usize>(expected: [(&str, String); N]) -> BTreeMap<String, String> {
    expected
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

/// Lets time pass that is longer than the clock's unit, without a sleep.
fn spin_for(time: Duration) {
    let begun = std::time::Instant::now();
    while begun.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Raises an event inside a span of the application.
fn raised_inside_a_span(collector: &Collector) -> Event {
    let mut events = [event()];
    collector
        .tracer_provider
        .tracer("app")
        .in_span("place order", |_| propagation::inject_current(&mut events));
    let [event] = events;
    event
}

#[test]
fn a_processed_event_is_a_root_that_links_to_its_round() {
    let collector = Collector::new();
    let telemetry = collector.telemetry();
    let event = event();
    let round = telemetry.process_round();
    telemetry.event_processed(&round, &processed(&event), timestamp());
    assert_eq!(
        collector.spans_named("process events").len(),
        0,
        "the round goes on"
    );
    drop(round);

    let round = collector.span("process events");
    assert!(round.is_root());
    assert_eq!(round.links.len(), 0);
    assert_eq!(
        round.attributes(),
        attributes([
            ("messaging.system", "tidings".to_owned()),
            ("messaging.operation.name", "process".to_owned()),
            ("messaging.operation.type", "process".to_owned()),
            ("messaging.batch.message_count", "1".to_owned()),
        ])
    );
    let span = collector.span("process order.placed event");
    assert!(span.is_root());
    assert!(span.links_to(&round));
    assert_eq!(span.links.len(), 1);
    assert_ne!(span.span_context.trace_id(), round.span_context.trace_id());
    assert_eq!(
        (span.span_kind.clone(), span.status.clone(), span.start_time),
        (SpanKind::Consumer, Status::Unset, round.start_time)
    );
    assert_eq!(
        span.attributes(),
        attributes([
            ("event.id", event.id.to_string()),
            ("event.type", "order.placed".to_owned()),
            ("event.entity.name", "order".to_owned()),
            ("event.entity.id", "4711".to_owned()),
            ("correlation_id", event.correlation_id.to_string()),
            ("messaging.system", "tidings".to_owned()),
            ("messaging.operation.name", "process".to_owned()),
            ("messaging.operation.type", "process".to_owned()),
            ("messaging.message.id", event.id.to_string()),
            (
                "messaging.message.conversation_id",
                event.correlation_id.to_string()
            ),
            ("messaging.destination.name", "order.placed".to_owned()),
        ])
    );
}

#[test]
fn an_event_whose_processing_failed_says_why() {
    let collector = Collector::new();
    let telemetry = collector.telemetry();
    let round = telemetry.process_round();
    telemetry.event_failed(&round, &event(), &"x".repeat(100_000));
    drop(round);
    let span = collector.span("process order.placed event");
    assert!(span.links_to(&collector.span("process events")));
    let error = span.error().unwrap();
    assert!(
        error.starts_with("xxx") && error.len() <= 4096,
        "{} bytes",
        error.len()
    );
    assert_eq!(span.attributes()["error.type"], "processing_error");
}

#[test]
fn a_round_that_found_nothing_leaves_no_span() {
    let collector = Collector::new();
    let telemetry = collector.telemetry();
    drop(telemetry.process_round());
    drop(telemetry.execute_round());
    assert_eq!(collector.spans().len(), 0);
}

#[test]
fn a_round_begins_when_it_began_and_not_when_it_found_something() {
    let collector = Collector::new();
    let telemetry = collector.telemetry();
    let round = telemetry.execute_round();
    let begun = SystemTime::now();
    spin_for(Duration::from_millis(2));
    let _link = round.link();
    round.claimed(7);
    drop(round);
    let span = collector.span("execute requests");
    assert!(span.start_time <= begun);
    assert!(span.end_time >= begun + Duration::from_millis(2));
    assert_eq!(span.attributes()["messaging.batch.message_count"], "7");
    assert_eq!(span.attributes()["messaging.operation.name"], "execute");
}

#[tokio::test]
async fn an_execution_is_a_root_that_links_to_its_round_and_to_who_raised_the_event() {
    let collector = Collector::new();
    let telemetry = collector.telemetry();
    let request = request(raised_inside_a_span(&collector));
    let round = telemetry.execute_round();
    let link = round.link();
    drop(round);
    let execution = telemetry.execution(&link, &request);
    execution.instrument(async {}).await;
    execution.finish(None);

    let application = collector.span("place order");
    let execute = collector.span("execute ship request");
    assert!(execute.is_root());
    assert!(execute.links_to(&collector.span("execute requests")));
    assert!(execute.links_to(&application));
    assert_eq!(execute.links.len(), 2);
    assert_eq!(
        (execute.span_kind.clone(), execute.status.clone()),
        (SpanKind::Consumer, Status::Unset)
    );
    let event = &request.event;
    assert_eq!(
        execute.attributes(),
        attributes([
            ("request.id", request.id.to_string()),
            ("request.event.id", event.id.to_string()),
            ("request.event.type", "order.placed".to_owned()),
            ("request.type", "ship".to_owned()),
            ("event.id", event.id.to_string()),
            ("event.type", "order.placed".to_owned()),
            ("event.entity.name", "order".to_owned()),
            ("event.entity.id", "4711".to_owned()),
            ("correlation_id", event.correlation_id.to_string()),
            ("messaging.system", "tidings".to_owned()),
            ("messaging.operation.name", "execute".to_owned()),
            ("messaging.operation.type", "process".to_owned()),
            ("messaging.message.id", event.id.to_string()),
            (
                "messaging.message.conversation_id",
                event.correlation_id.to_string()
            ),
            ("messaging.destination.name", "order.placed".to_owned()),
            ("messaging.destination.subscription.name", "ship".to_owned()),
        ])
    );

    let handler = collector.span("ship handler");
    assert!(handler.is_child_of(&execute));
    assert!(handler.links_to(&application));
    assert_eq!(handler.links.len(), 1);
    assert_eq!(handler.span_kind, SpanKind::Internal);
    assert_eq!(
        handler.attributes(),
        attributes([
            ("event_handler.name", "ship".to_owned()),
            ("request.id", request.id.to_string()),
            ("event.id", event.id.to_string()),
            ("event.type", "order.placed".to_owned()),
            ("correlation_id", event.correlation_id.to_string()),
        ])
    );
}

#[tokio::test]
async fn a_handlers_span_lasts_from_its_beginning_to_its_last_answer() {
    const SHORT: Duration = Duration::from_millis(2);
    let collector = Collector::new();
    let telemetry = collector.telemetry();
    let execution = telemetry.execution(&telemetry.execute_round().link(), &request(event()));
    spin_for(SHORT);
    // A transaction that lost against another one runs twice.
    for _ in 0..2 {
        execution.instrument(async { spin_for(SHORT) }).await;
    }
    spin_for(SHORT);
    execution.finish(None);
    let (execute, handler) = (
        collector.span("execute ship request"),
        collector.span("ship handler"),
    );
    assert!(handler.start_time >= execute.start_time + SHORT);
    assert!(handler.end_time >= handler.start_time + 2 * SHORT);
    assert!(execute.end_time >= handler.end_time + SHORT);
}

#[test]
fn a_handler_that_works_before_its_future_exists_is_in_its_span() {
    let collector = Collector::new();
    let telemetry = collector.telemetry();
    let execution = telemetry.execution(&telemetry.execute_round().link(), &request(event()));
    let inside = execution.enter(|| Context::current().span().span_context().span_id());
    assert!(!Context::current().has_active_span());
    execution.finish(None);
    assert_eq!(
        collector.span("ship handler").span_context.span_id(),
        inside
    );
}

#[tokio::test]
async fn an_error_marks_the_execution_and_its_handler() {
    let collector = Collector::new();
    let telemetry = collector.telemetry();
    let execution = telemetry.execution(&telemetry.execute_round().link(), &request(event()));
    execution.instrument(async {}).await;
    execution.finish(Some("the dock is closed"));
    for name in ["execute ship request", "ship handler"] {
        let span = collector.span(name);
        assert_eq!(
            span.error().as_deref(),
            Some("the dock is closed"),
            "{name}"
        );
        assert_eq!(span.attributes()["error.type"], "handler_error", "{name}");
    }
}

#[test]
fn an_execution_that_a_hook_vetoed_has_no_handler_span() {
    let collector = Collector::new();
    let telemetry = collector.telemetry();
    let execution = telemetry.execution(&telemetry.execute_round().link(), &request(event()));
    execution.finish(Some("vetoed"));
    assert_eq!(
        collector.span("execute ship request").error().as_deref(),
        Some("vetoed")
    );
    assert_eq!(collector.spans_named("ship handler").len(), 0);
}

#[tokio::test]
async fn an_execution_that_was_broken_off_ends_although_others_hold_its_context() {
    let collector = Collector::new();
    let telemetry = collector.telemetry();
    let execution = telemetry.execution(&telemetry.execute_round().link(), &request(event()));
    let held = execution.instrument(async { Context::current() }).await;
    drop(execution);
    assert!(
        collector
            .span("ship handler")
            .is_child_of(&collector.span("execute ship request"))
    );
    drop(held);
    assert_eq!(collector.spans_named("ship handler").len(), 1);
}

#[tokio::test]
async fn every_poll_of_a_handler_sees_its_context_and_nothing_else_does() {
    let collector = Collector::new();
    let telemetry = collector.telemetry();
    let execution = telemetry.execution(&telemetry.execute_round().link(), &request(event()));
    let current = || Context::current().span().span_context().span_id();
    let handler = execution.instrument(async {
        let before = current();
        tokio::task::yield_now().await;
        (before, current())
    });
    let outside = async {
        tokio::task::yield_now().await;
        current()
    };
    let ((before, after), outside) = tokio::join!(handler, outside);
    execution.finish(None);
    let id = collector.span("ship handler").span_context.span_id();
    assert_eq!((before, after), (id, id));
    assert_ne!(outside, id);
}

#[tokio::test]
async fn a_panic_leaves_no_context_behind_and_its_destructors_still_see_it() {
    struct Destructor(std::sync::Arc<std::sync::Mutex<Option<opentelemetry::trace::SpanId>>>);
    impl Drop for Destructor {
        fn drop(&mut self) {
            *self.0.lock().unwrap() = Some(Context::current().span().span_context().span_id());
        }
    }
    let collector = Collector::new();
    let telemetry = collector.telemetry();
    let execution = telemetry.execution(&telemetry.execute_round().link(), &request(event()));
    let seen = std::sync::Arc::default();
    let destructor = Destructor(std::sync::Arc::clone(&seen));
    let panicked = AssertUnwindSafe(execution.instrument(async move {
        let _destructor = destructor;
        tokio::task::yield_now().await;
        std::panic::panic_any("the dock burns");
    }));
    panicked.catch_unwind().await.unwrap_err();
    assert!(!Context::current().has_active_span());
    execution.finish(Some("the dock burns"));
    let handler = collector.span("ship handler");
    assert_eq!(*seen.lock().unwrap(), Some(handler.span_context.span_id()));
    assert_eq!(handler.error().as_deref(), Some("the dock burns"));
}

#[tokio::test]
async fn an_event_that_a_handler_raises_leads_back_to_it() {
    let collector = Collector::new();
    let telemetry = collector.telemetry();
    let link = telemetry.execute_round().link();
    let first = telemetry.execution(&link, &request(raised_inside_a_span(&collector)));
    let mut raised = [event().with_header("tenant", "north")];
    first
        .instrument(async { propagation::inject_current(&mut raised) })
        .await;
    first.finish(None);
    let cause = collector.span("ship handler");

    let [raised] = raised;
    assert_eq!(raised.headers["tenant"], "north");
    let mut second = request(raised);
    second.handler = "bill".into();
    telemetry.execution(&link, &second).finish(None);
    assert!(collector.span("execute bill request").links_to(&cause));
}

#[tokio::test]
async fn spans_of_the_tracing_crate_nest_both_ways() {
    let collector = Collector::new();
    let telemetry = collector.telemetry();
    let layer = tracing_opentelemetry::layer().with_tracer(collector.tracer_provider.tracer("app"));
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));

    let mut events = [event()];
    tracing::info_span!("place order").in_scope(|| propagation::inject_current(&mut events));
    let [event] = events;
    let execution = telemetry.execution(&telemetry.execute_round().link(), &request(event));
    let handler = async {
        tracing::info_span!("load parcel").in_scope(|| {});
    };
    // The worker may run in a span of the application, which is not the parent.
    let worker = tracing::info_span!("worker");
    tracing::Instrument::instrument(execution.instrument(handler), worker).await;
    execution.finish(None);

    let handler = collector.span("ship handler");
    assert!(handler.links_to(&collector.span("place order")));
    assert!(
        collector
            .span("execute ship request")
            .links_to(&collector.span("place order"))
    );
    assert!(collector.span("load parcel").is_child_of(&handler));
    assert!(collector.span("execute ship request").is_root());
}

#[test]
fn spans_are_roots_whatever_the_caller_is_in() {
    let collector = Collector::new();
    let telemetry = collector.telemetry();
    collector
        .tracer_provider
        .tracer("app")
        .in_span("application", |_| {
            let round = telemetry.process_round();
            telemetry.event_processed(&round, &processed(&event()), timestamp());
            let round = telemetry.execute_round();
            telemetry
                .execution(&round.link(), &request(event()))
                .finish(None);
        });
    for name in [
        "process events",
        "process order.placed event",
        "execute requests",
        "execute ship request",
    ] {
        assert!(collector.span(name).is_root(), "{name}");
    }
}

#[tokio::test]
async fn the_prefix_is_before_every_span() {
    let collector = Collector::new();
    let telemetry = collector.telemetry_with_prefix("shop");
    let round = telemetry.process_round();
    telemetry.event_processed(&round, &processed(&event()), timestamp());
    drop(round);
    let execution = telemetry.execution(&telemetry.execute_round().link(), &request(event()));
    execution.instrument(async {}).await;
    execution.finish(None);
    let mut names: Vec<_> = collector
        .spans()
        .into_iter()
        .map(|span| span.name)
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "shop.execute requests",
            "shop.execute ship request",
            "shop.process events",
            "shop.process order.placed event",
            "shop.ship handler",
        ]
    );
}

#[tokio::test]
async fn without_an_sdk_handlers_run_in_the_context_they_are_polled_in() {
    for telemetry in [Telemetry::disabled(), super::without_sdk()] {
        let collector = Collector::new();
        let execution = telemetry.execution(&telemetry.execute_round().link(), &request(event()));
        let tracer = collector.tracer_provider.tracer("app");
        let context = Context::new().with_span(tracer.start("application"));
        let id = context.span().span_context().span_id();
        let polled =
            execution.instrument(async { Context::current().span().span_context().span_id() });
        let seen = opentelemetry::context::FutureExt::with_context(polled, context).await;
        execution.finish(Some("error"));
        assert_eq!(seen, id);
    }
}
