//! What all spans share: the tracer, the prefix, and how a span begins and fails.

use std::{fmt, time::SystemTime};

use opentelemetry::{
    Context, KeyValue,
    global::BoxedTracer,
    trace::{Link, SpanContext, SpanKind, Status, TraceContextExt, Tracer},
};

use super::attributes::{
    CORRELATION_ID, ERROR_TYPE, EVENT_ENTITY_ID, EVENT_ENTITY_NAME, EVENT_ID, EVENT_TYPE, text,
};
use crate::{
    clock::{Clock, SystemClock},
    id::{CorrelationId, EventId},
    model::{Entity, ExecutionError},
    text::{Name, cut},
};

/// Makes spans. Every one but a handler's is the root of a trace of its own, whatever context the
/// caller is in.
#[derive(Debug)]
pub(super) struct Spans {
    tracer: BoxedTracer,
    prefix: String,
}

/// What a span is to be.
pub(super) struct SpanPlan {
    pub(super) name: String,
    pub(super) kind: SpanKind,
    pub(super) started: SystemTime,
    pub(super) attributes: Vec<KeyValue>,
    pub(super) links: Vec<SpanContext>,
}

impl Spans {
    /// `prefix` is empty or ends with a dot.
    pub(super) const fn new(tracer: BoxedTracer, prefix: String) -> Self {
        Self { tracer, prefix }
    }

    /// A span's name.
    pub(super) fn name(&self, name: fmt::Arguments<'_>) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Begins a span under `parent` and gives the context with it.
    pub(super) fn start(&self, plan: SpanPlan, parent: &Context) -> Context {
        let links = plan
            .links
            .into_iter()
            .map(|context| Link::new(context, Vec::new(), 0))
            .collect();
        let builder = self
            .tracer
            .span_builder(plan.name)
            .with_kind(plan.kind)
            .with_start_time(plan.started)
            .with_attributes(plan.attributes)
            .with_links(links);
        parent.with_span(self.tracer.build_with_context(builder, parent))
    }
}

/// The time at which a span begins.
pub(super) fn now() -> SystemTime {
    SystemClock.now().into()
}

/// Marks a context's span as failed. The text is cut as a stored one is.
pub(super) fn fail(context: &Context, error_type: &'static str, error: &str) {
    let span = context.span();
    span.set_attribute(KeyValue::new(ERROR_TYPE, error_type));
    span.set_status(Status::error(cut(error, ExecutionError::MAX_LEN)));
}

/// The attributes that all our spans about messages have; `operation` is `process` or `execute`.
pub(super) fn messaging(operation: &'static str) -> [KeyValue; 3] {
    [
        KeyValue::new("messaging.system", "tidings"),
        KeyValue::new("messaging.operation.name", operation),
        KeyValue::new("messaging.operation.type", "process"),
    ]
}

/// The attributes that tell which event a span is about.
pub(super) fn about_event(
    id: EventId,
    name: &Name,
    entity: Option<&Entity>,
    correlation_id: CorrelationId,
) -> Vec<KeyValue> {
    let (id, name, correlation_id) = (id.to_string(), text(name), correlation_id.to_string());
    // Room for what the callers add.
    let mut attributes = Vec::with_capacity(18);
    attributes.extend([
        KeyValue::new(EVENT_ID, id.clone()),
        KeyValue::new(EVENT_TYPE, name.clone()),
        KeyValue::new(CORRELATION_ID, correlation_id.clone()),
        KeyValue::new("messaging.message.id", id),
        KeyValue::new("messaging.message.conversation_id", correlation_id),
        KeyValue::new("messaging.destination.name", name),
    ]);
    if let Some(entity) = entity {
        attributes.push(KeyValue::new(EVENT_ENTITY_NAME, text(&entity.name)));
        attributes.push(KeyValue::new(EVENT_ENTITY_ID, text(&entity.id)));
    }
    attributes
}
