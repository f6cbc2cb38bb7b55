//! The spans of rounds, and of the events that a round processed.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, Ordering},
    },
    time::SystemTime,
};

use opentelemetry::{
    Context, KeyValue,
    trace::{SpanContext, SpanKind, TraceContextExt},
};

use super::spans::{self, SpanPlan, Spans};
use crate::{model::Event, store::ProcessedEvent};

/// The span of one round; ends when dropped.
///
/// A round keeps the time of its beginning only. The span is made, with that time, by the first
/// [`link`](Self::link) or the first event: so call `link` when there is something to execute, and
/// a round that found nothing leaves no span.
#[derive(Debug, Default)]
pub(crate) struct Round(Option<Inner>);

#[derive(Debug)]
struct Inner {
    spans: Arc<Spans>,
    kind: RoundKind,
    started: SystemTime,
    /// Events or requests of this round.
    size: AtomicI64,
    /// `None` inside if there is no SDK.
    span: OnceLock<Option<Context>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RoundKind {
    Process,
    Execute,
}

impl RoundKind {
    const fn operation(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Execute => "execute",
        }
    }
}

impl Round {
    pub(super) fn begin(spans: &Arc<Spans>, kind: RoundKind) -> Self {
        Self(Some(Inner {
            spans: Arc::clone(spans),
            kind,
            started: spans::now(),
            size: AtomicI64::new(0),
            span: OnceLock::new(),
        }))
    }

    /// What the spans of its events and requests link to. Makes the round's span.
    pub(crate) fn link(&self) -> RoundLink {
        let span = self.0.as_ref().and_then(Inner::span);
        RoundLink(span.map(|span| Arc::new(span.span().span_context().clone())))
    }

    /// Says that so many more requests belong to the round; events are counted as they come.
    pub(crate) fn claimed(&self, requests: usize) {
        if let Some(inner) = &self.0 {
            inner.size.fetch_add(
                i64::try_from(requests).unwrap_or(i64::MAX),
                Ordering::Relaxed,
            );
        }
    }

    /// Leaves the span of an event that was fanned out: it lasts as long as its round has.
    pub(super) fn event_processed(&self, event: &ProcessedEvent) {
        if let Some((inner, round)) = self.one_more() {
            let entity = event.entity.as_ref();
            let attributes =
                spans::about_event(event.id, &event.name, entity, event.correlation_id);
            inner.event(round, &event.name, attributes).span().end();
        }
    }

    /// Leaves the span of an event whose processing failed.
    pub(super) fn event_failed(&self, event: &Event, error: &str) {
        if let Some((inner, round)) = self.one_more() {
            let entity = event.entity.as_ref();
            let attributes =
                spans::about_event(event.id, &event.name, entity, event.correlation_id);
            let span = inner.event(round, &event.name, attributes);
            spans::fail(&span, "processing_error", error);
            span.span().end();
        }
    }

    /// The round with its span, which this makes, and one more event in it; `None` if there is no
    /// SDK.
    fn one_more(&self) -> Option<(&Inner, &Context)> {
        let inner = self.0.as_ref()?;
        let span = inner.span()?;
        inner.size.fetch_add(1, Ordering::Relaxed);
        Some((inner, span))
    }
}

impl Inner {
    fn span(&self) -> Option<&Context> {
        let make = || {
            let name = match self.kind {
                RoundKind::Process => self.spans.name(format_args!("process events")),
                RoundKind::Execute => self.spans.name(format_args!("execute requests")),
            };
            let attributes = spans::messaging(self.kind.operation()).into();
            let (kind, started) = (SpanKind::Internal, self.started);
            let plan = SpanPlan {
                name,
                kind,
                started,
                attributes,
                links: Vec::new(),
            };
            let span = self.spans.start(plan, &Context::new());
            span.span().span_context().is_valid().then_some(span)
        };
        self.span.get_or_init(make).as_ref()
    }

    fn event(&self, round: &Context, name: &str, mut attributes: Vec<KeyValue>) -> Context {
        attributes.extend(spans::messaging("process"));
        let plan = SpanPlan {
            name: self.spans.name(format_args!("process {name} event")),
            kind: SpanKind::Consumer,
            started: self.started,
            attributes,
            links: vec![round.span().span_context().clone()],
        };
        self.spans.start(plan, &Context::new())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(Some(span)) = self.span.get() {
            let size = self.size.load(Ordering::Relaxed);
            span.span()
                .set_attribute(KeyValue::new("messaging.batch.message_count", size));
            // Not left to the drop of the context, which others may hold.
            span.span().end();
        }
    }
}

/// A link to a round's span. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct RoundLink(Option<Arc<SpanContext>>);

impl RoundLink {
    /// The round's span; `None` if there is no SDK.
    pub(super) fn span_context(&self) -> Option<&SpanContext> {
        self.0.as_deref()
    }
}
