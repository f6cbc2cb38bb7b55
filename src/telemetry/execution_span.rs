//! The spans of one request's execution and of the handler in it.

use std::{
    future::Future,
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use futures_util::{FutureExt as _, future::Either};
use opentelemetry::{
    Context, KeyValue,
    context::FutureExt as _,
    trace::{SpanContext, SpanKind, TraceContextExt},
};
use parking_lot::Mutex;

use super::{
    attributes::{
        CORRELATION_ID, EVENT_ID, EVENT_TYPE, HANDLER_NAME, REQUEST_EVENT_ID, REQUEST_EVENT_TYPE,
        REQUEST_ID, REQUEST_TYPE, text,
    },
    propagation,
    round::RoundLink,
    spans::{self, SpanPlan, Spans},
};
use crate::{id::HandlerRequestId, model::Event, store::ClaimedRequest, text::Name};

/// What the status of a span is called when its handler answered with an error or panicked.
const HANDLER_FAILED: &str = "handler_error";

/// The span of one request's execution, `execute {handler} request`; ends when dropped.
///
/// Without an SDK it is empty, and making and using it costs nothing.
#[derive(Debug, Default)]
pub(crate) struct ExecutionSpan(Option<Box<Inner>>);

#[derive(Debug)]
struct Inner {
    spans: Arc<Spans>,
    id: HandlerRequestId,
    handler_name: Name,
    event: Arc<Event>,
    raised_in: Option<SpanContext>,
    request: Context,
    /// The span `{handler} handler`, made when the handler is about to run.
    handler: OnceLock<HandlerSpan>,
}

#[derive(Debug)]
struct HandlerSpan {
    context: Context,
    /// When the handler answered; its span ends then, but only later is known what to say of it.
    answered_at: Arc<Mutex<Option<SystemTime>>>,
}

impl ExecutionSpan {
    pub(super) fn begin(spans: &Arc<Spans>, round: &RoundLink, request: &ClaimedRequest) -> Self {
        let Some(round) = round.span_context() else {
            return Self(None);
        };
        let event = &request.event;
        let raised_in = propagation::extract(&event.headers);
        let handler = text(&request.handler);
        let mut attributes = spans::about_event(
            event.id,
            &event.name,
            event.entity.as_ref(),
            event.correlation_id,
        );
        attributes.extend(spans::messaging("execute"));
        attributes.extend([
            KeyValue::new("messaging.destination.subscription.name", handler.clone()),
            KeyValue::new(REQUEST_ID, request.id.to_string()),
            KeyValue::new(REQUEST_EVENT_ID, event.id.to_string()),
            KeyValue::new(REQUEST_EVENT_TYPE, text(&event.name)),
            KeyValue::new(REQUEST_TYPE, handler),
        ]);
        let plan = SpanPlan {
            name: spans.name(format_args!("execute {} request", request.handler)),
            kind: SpanKind::Consumer,
            started: spans::now(),
            attributes,
            links: std::iter::once(round.clone())
                .chain(raised_in.clone())
                .collect(),
        };
        Self(Some(Box::new(Inner {
            request: spans.start(plan, &Context::new()),
            spans: Arc::clone(spans),
            id: request.id,
            handler_name: request.handler.clone(),
            event: Arc::clone(event),
            raised_in,
            handler: OnceLock::new(),
        })))
    }

    /// Makes a handler's future inside the span `{handler} handler`, which begins at the first
    /// call of this or of [`instrument`](Self::instrument).
    pub(crate) fn enter<T>(&self, make: impl FnOnce() -> T) -> T {
        let _attached = self
            .0
            .as_ref()
            .map(|inner| inner.handler().context.clone().attach());
        make()
    }

    /// Polls a handler's future inside the span `{handler} handler`.
    pub(crate) fn instrument<F: Future>(
        &self,
        handler: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        let Some(inner) = &self.0 else {
            return Either::Right(handler);
        };
        let HandlerSpan {
            context,
            answered_at,
        } = inner.handler();
        // A transaction that lost against another one is run again.
        *answered_at.lock() = None;
        let answered_at = Arc::clone(answered_at);
        let noted = handler.inspect(move |_| *answered_at.lock() = Some(spans::now()));
        Either::Left(noted.with_context(context.clone()))
    }

    /// Ends the span with what the execution came to, and the handler's with when it answered.
    pub(crate) fn finish(mut self, error: Option<&str>) {
        let Some(inner) = self.0.take() else { return };
        if let Some(handler) = inner.handler.get() {
            if let Some(error) = error {
                spans::fail(&handler.context, HANDLER_FAILED, error);
            }
            handler.end();
        }
        if let Some(error) = error {
            spans::fail(&inner.request, HANDLER_FAILED, error);
        }
        inner.request.span().end();
    }
}

impl Drop for ExecutionSpan {
    /// An execution that was broken off. The contexts may live on, in tasks that the handler
    /// started, so dropping them would not end the spans.
    fn drop(&mut self) {
        if let Some(inner) = &self.0 {
            if let Some(handler) = inner.handler.get() {
                handler.end();
            }
            inner.request.span().end();
        }
    }
}

impl HandlerSpan {
    fn end(&self) {
        let span = self.context.span();
        match *self.answered_at.lock() {
            Some(answered_at) => span.end_with_timestamp(answered_at),
            None => span.end(),
        }
    }
}

impl Inner {
    fn handler(&self) -> &HandlerSpan {
        self.handler.get_or_init(|| {
            let attributes = vec![
                KeyValue::new(HANDLER_NAME, text(&self.handler_name)),
                KeyValue::new(EVENT_ID, self.event.id.to_string()),
                KeyValue::new(EVENT_TYPE, text(&self.event.name)),
                KeyValue::new(REQUEST_ID, self.id.to_string()),
                KeyValue::new(CORRELATION_ID, self.event.correlation_id.to_string()),
            ];
            let plan = SpanPlan {
                name: self
                    .spans
                    .name(format_args!("{} handler", self.handler_name)),
                kind: SpanKind::Internal,
                started: spans::now(),
                attributes,
                links: self.raised_in.iter().cloned().collect(),
            };
            HandlerSpan {
                context: self.spans.start(plan, &self.request),
                answered_at: Arc::default(),
            }
        })
    }
}
