//! Where metrics and spans go, and what is recorded when.

use std::{
    fmt,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use chrono::{DateTime, Utc};
use opentelemetry::{
    InstrumentationScope, KeyValue,
    global::{self, BoxedTracer},
    metrics::MeterProvider,
    trace::{Span, Tracer, TracerProvider},
};
use parking_lot::Mutex;

use super::{
    ExecutionSpan, Gauges, Round, RoundLink,
    attributes::{
        self, OPERATION, REQUEST_ERRORS, REQUEST_RESCUE, REQUEST_RETRYABLE, SCHEDULER_STATE,
        WORKER_STATE,
    },
    metrics::{Metrics, seconds},
    round::RoundKind,
    spans::Spans,
};
use crate::{
    error::StoreError,
    model::{Event, Outcome, Rescue, SchedulerState},
    store::{ClaimedRequest, ProcessedEvent, Pruned, RescuedRequest},
};

type SharedMeterProvider = Arc<dyn MeterProvider + Send + Sync>;

/// The highest number of errors that `request.errors` tells apart, since each is a time series of
/// its own and requests may be allowed to fail for ever. It stands for "so many or more".
const MAX_REQUEST_ERRORS: u32 = 20;

/// Where metrics and spans go. Cheap to clone.
#[doc = include_str!("telemetry.md")]
#[derive(Clone)]
pub struct Telemetry(Option<Arc<Inner>>);

struct Inner {
    /// Empty, or ends with a dot.
    prefix: String,
    meter_provider: Option<SharedMeterProvider>,
    /// Taken by whoever makes the parts.
    tracer: Mutex<Option<BoxedTracer>>,
    /// Made at the first use, so that global providers may be installed after this was built.
    parts: OnceLock<Parts>,
}

struct Parts {
    metrics: Arc<Metrics>,
    spans: Arc<Spans>,
}

impl Telemetry {
    /// Records nothing.
    #[must_use]
    pub const fn disabled() -> Self {
        Self(None)
    }

    /// Begins to build one with a prefix or with providers of its own.
    pub fn builder() -> TelemetryBuilder {
        TelemetryBuilder {
            prefix: String::new(),
            meter_provider: None,
            tracer: None,
        }
    }

    /// Whether anything is recorded, as far as can be known without asking a provider.
    pub(crate) const fn is_enabled(&self) -> bool {
        self.0.is_some()
    }

    /// Begins a round of processing: the span `process events`.
    pub(crate) fn process_round(&self) -> Round {
        self.parts().map_or_else(Round::default, |parts| {
            Round::begin(&parts.spans, RoundKind::Process)
        })
    }

    /// Begins a round of executing: the span `execute requests`.
    pub(crate) fn execute_round(&self) -> Round {
        self.parts().map_or_else(Round::default, |parts| {
            Round::begin(&parts.spans, RoundKind::Execute)
        })
    }

    /// An event was fanned out. `now` is the wall clock's time.
    pub(crate) fn event_processed(
        &self,
        round: &Round,
        event: &ProcessedEvent,
        now: DateTime<Utc>,
    ) {
        let Some(Parts { metrics, .. }) = self.parts() else {
            return;
        };
        let attributes = attributes::of_event(&event.name);
        metrics.events_successes.add(1, &*attributes);
        metrics
            .events_processing_time
            .record(seconds(event.timestamp, now), &*attributes);
        if event.requests == 0 {
            metrics.events_unhandled.add(1, &*attributes);
        }
        round.event_processed(event);
    }

    /// Processing an event failed; it backs off.
    pub(crate) fn event_failed(&self, round: &Round, event: &Event, error: &str) {
        let Some(Parts { metrics, .. }) = self.parts() else {
            return;
        };
        metrics
            .events_failures
            .add(1, &*attributes::of_event(&event.name));
        round.event_failed(event, error);
    }

    /// Begins the execution of a request: the span `execute {handler} request`.
    pub(crate) fn execution(&self, round: &RoundLink, request: &ClaimedRequest) -> ExecutionSpan {
        self.parts().map_or_else(ExecutionSpan::default, |parts| {
            ExecutionSpan::begin(&parts.spans, round, request)
        })
    }

    /// A handler ran for `took`; `error` is what it answered, if not `Ok`.
    pub(crate) fn handler_ran(
        &self,
        request: &ClaimedRequest,
        took: Duration,
        error: Option<&str>,
    ) {
        let Some(Parts { metrics, .. }) = self.parts() else {
            return;
        };
        let attributes = attributes::of_request(&request.event.name, &request.handler);
        let attributes = if error.is_some() {
            &attributes.handler_error
        } else {
            &attributes.handler_ok
        };
        metrics.handler_executions.add(1, attributes);
        metrics
            .handler_execution_time
            .record(took.as_secs_f64(), attributes);
    }

    /// A settlement took effect. `now` is the wall clock's time.
    pub(crate) fn request_settled(
        &self,
        request: &ClaimedRequest,
        outcome: &Outcome,
        now: DateTime<Utc>,
    ) {
        let Some(Parts { metrics, .. }) = self.parts() else {
            return;
        };
        let attributes = &attributes::of_request(&request.event.name, &request.handler).request;
        let errors = request.errors.saturating_add(1);
        let failed = |is_retryable: bool| {
            let [event, handler] = attributes.clone();
            let errors = i64::from(errors.min(MAX_REQUEST_ERRORS));
            let retryable = KeyValue::new(REQUEST_RETRYABLE, is_retryable);
            metrics.requests_failures.add(
                1,
                &[
                    event,
                    handler,
                    retryable,
                    KeyValue::new(REQUEST_ERRORS, errors),
                ],
            );
        };
        match outcome {
            Outcome::Completed => {
                metrics.requests_successes.add(1, attributes);
                metrics
                    .requests_execution_time
                    .record(seconds(request.event.timestamp, now), attributes);
            }
            Outcome::Failed { .. } => failed(errors < request.max_errors),
            Outcome::Discarded { .. } => failed(false),
            Outcome::Snoozed { .. } => metrics.requests_snoozes.add(1, attributes),
            Outcome::Canceled { .. } => metrics.requests_cancellations.add(1, attributes),
        }
    }

    /// The fence refused a settlement.
    pub(crate) fn settlement_refused(&self, request: &ClaimedRequest) {
        let Some(Parts { metrics, .. }) = self.parts() else {
            return;
        };
        metrics.requests_fenced.add(
            1,
            &attributes::of_request(&request.event.name, &request.handler).request,
        );
    }

    /// A request was taken back from a lost process.
    pub(crate) fn request_rescued(&self, request: &RescuedRequest) {
        let Some(Parts { metrics, .. }) = self.parts() else {
            return;
        };
        let [event, handler] = attributes::of_request(&request.event_name, &request.handler)
            .request
            .clone();
        let rescue = match request.rescue {
            Rescue::Ready => "ready",
            Rescue::BackedOff => "backed off",
            Rescue::Dead => "dead",
        };
        metrics
            .requests_rescued
            .add(1, &[event, handler, KeyValue::new(REQUEST_RESCUE, rescue)]);
    }

    /// A scheduler deleted what nobody needs any more.
    pub(crate) fn pruned(&self, pruned: &Pruned) {
        let Some(Parts { metrics, .. }) = self.parts() else {
            return;
        };
        metrics.events_pruned.add(pruned.events, &[]);
        metrics.requests_pruned.add(pruned.requests, &[]);
    }

    /// Workers became busy (positive) or idle (negative).
    pub(crate) fn workers_busy(&self, change: i64) {
        let Some(Parts { metrics, .. }) = self.parts() else {
            return;
        };
        metrics
            .workers
            .add(change, &[KeyValue::new(WORKER_STATE, "busy")]);
        metrics
            .workers
            .add(-change, &[KeyValue::new(WORKER_STATE, "idle")]);
    }

    /// A scheduler with so many workers runs (positive) or has ended (negative).
    pub(crate) fn workers(&self, change: i64) {
        let Some(Parts { metrics, .. }) = self.parts() else {
            return;
        };
        metrics
            .workers
            .add(change, &[KeyValue::new(WORKER_STATE, "idle")]);
    }

    /// A batch was raised, claimed, fanned out, settled and so on. Sizes of empty ones are not
    /// recorded: they say only that a scheduler looked.
    pub(crate) fn batch(&self, operation: &'static str, size: usize, took: Duration) {
        let Some(Parts { metrics, .. }) = self.parts() else {
            return;
        };
        let attributes = [KeyValue::new(OPERATION, operation)];
        metrics
            .store_duration
            .record(took.as_secs_f64(), &attributes);
        if size > 0 {
            metrics
                .batch_size
                .record(u64::try_from(size).unwrap_or(u64::MAX), &attributes);
        }
    }

    /// A call to the store failed. What the store refuses because it was asked for something
    /// impossible is no failure of the store.
    pub(crate) fn store_failed(&self, operation: &'static str, error: &StoreError) {
        self.store_error(
            operation,
            match error {
                StoreError::Stopped { cause, .. } => return self.store_failed(operation, cause),
                StoreError::Unavailable { .. } => "unavailable",
                StoreError::Unreachable { .. } => "unreachable",
                StoreError::Exhausted { .. } => "exhausted",
                StoreError::TimedOut { .. } => "timed out",
                StoreError::Conflict { .. } => "conflict",
                StoreError::Unreadable { .. } => "unreadable",
                StoreError::Backend { .. } => "backend",
                StoreError::Invalid { .. }
                | StoreError::Refused { .. }
                | StoreError::Ended { .. } => return,
            },
        );
    }

    /// A call to the store was dropped before its end: a time limit passed, or its task ended.
    pub(crate) fn store_abandoned(&self, operation: &'static str) {
        self.store_error(operation, "abandoned");
    }

    fn store_error(&self, operation: &'static str, error_type: &'static str) {
        let Some(Parts { metrics, .. }) = self.parts() else {
            return;
        };
        let error_type = KeyValue::new(attributes::ERROR_TYPE, error_type);
        metrics
            .store_errors
            .add(1, &[KeyValue::new(OPERATION, operation), error_type]);
    }

    /// A wake-up by raised events ended a scheduler's wait.
    pub(crate) fn notification_received(&self) {
        let Some(Parts { metrics, .. }) = self.parts() else {
            return;
        };
        metrics.notifications.add(1, &[]);
    }

    /// A scheduler went from one state to another.
    pub(crate) fn scheduler_state(&self, from: Option<SchedulerState>, to: Option<SchedulerState>) {
        let Some(Parts { metrics, .. }) = self.parts() else {
            return;
        };
        for (state, change) in [(from, -1), (to, 1)] {
            if let Some(state) = state {
                metrics
                    .scheduler_status
                    .add(change, &[KeyValue::new(SCHEDULER_STATE, state.as_str())]);
            }
        }
    }

    /// Shows these values as observable gauges while they live.
    pub(crate) fn observe(&self, gauges: &Arc<Gauges>) {
        let Some(Parts { metrics, .. }) = self.parts() else {
            return;
        };
        metrics.observed.add(gauges);
    }

    fn parts(&self) -> Option<&Parts> {
        self.0.as_deref().map(Inner::parts)
    }
}

impl Default for Telemetry {
    /// Uses the global providers. They are looked up at the first use, which is when a scheduler
    /// is built, and kept.
    fn default() -> Self {
        Self::builder().build()
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(inner) => f
                .debug_struct("Telemetry")
                .field("prefix", &inner.prefix)
                .finish_non_exhaustive(),
            None => f.write_str("Telemetry(disabled)"),
        }
    }
}

impl Inner {
    fn parts(&self) -> &Parts {
        self.parts.get_or_init(|| {
            let metrics = match &self.meter_provider {
                Some(provider) => Arc::new(Metrics::new(
                    &provider.meter_with_scope(scope()),
                    &self.prefix,
                )),
                None => global_metrics(&self.prefix),
            };
            let tracer = self.tracer.lock().take();
            let tracer = tracer.unwrap_or_else(|| global::tracer_with_scope(scope()));
            Parts {
                metrics,
                spans: Arc::new(Spans::new(tracer, self.prefix.clone())),
            }
        })
    }
}

/// Builds a [`Telemetry`].
#[must_use = "nothing is recorded until `build` and a scheduler that uses it"]
pub struct TelemetryBuilder {
    prefix: String,
    meter_provider: Option<SharedMeterProvider>,
    tracer: Option<BoxedTracer>,
}

impl TelemetryBuilder {
    /// Puts `prefix.` before the name of every metric and span; empty for none.
    ///
    /// Names of metrics are made of ASCII letters, digits, `_`, `.`, `-` and `/`, begin with a
    /// letter and have 255 characters at most, and exporters drop what is not. So other characters
    /// become `_`, a prefix that begins with no letter gets an `x` before it, and one is cut after
    /// 128 characters; each is logged as a warning.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sends metrics there instead of to the global provider. It is kept until the last clone of
    /// the [`Telemetry`] is gone.
    ///
    /// Schedulers that share a provider share clones of one [`Telemetry`], so that their gauges
    /// are told apart.
    pub fn meter_provider(mut self, provider: impl MeterProvider + Send + Sync + 'static) -> Self {
        self.meter_provider = Some(Arc::new(provider));
        self
    }

    /// Sends spans there instead of to the global provider.
    pub fn tracer_provider<P>(mut self, provider: P) -> Self
    where
        P: TracerProvider,
        P::Tracer: Send + Sync + 'static,
        <P::Tracer as Tracer>::Span: Span + Send + Sync + 'static,
    {
        self.tracer = Some(BoxedTracer::new(Box::new(
            provider.tracer_with_scope(scope()),
        )));
        self
    }

    /// The telemetry.
    #[must_use]
    pub fn build(self) -> Telemetry {
        Telemetry(Some(Arc::new(Inner {
            prefix: valid_prefix(&self.prefix),
            meter_provider: self.meter_provider,
            tracer: Mutex::new(self.tracer),
            parts: OnceLock::new(),
        })))
    }
}

impl fmt::Debug for TelemetryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TelemetryBuilder")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// Who records: this library.
fn scope() -> InstrumentationScope {
    InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
        .with_version(env!("CARGO_PKG_VERSION"))
        .build()
}

/// A prefix that metrics accept, with its dot; empty for none.
fn valid_prefix(prefix: &str) -> String {
    /// Leaves room for our own names in the 255 characters of a metric's name.
    const MAX_LEN: usize = 128;
    let wanted = prefix.trim_end_matches('.');
    if wanted.is_empty() {
        return String::new();
    }
    let starts_well = wanted.starts_with(|first: char| first.is_ascii_alphabetic());
    let is_allowed =
        |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | '-' | '/');
    let letters = wanted
        .chars()
        .map(|letter| if is_allowed(letter) { letter } else { '_' });
    let valid: String = (!starts_well)
        .then_some('x')
        .into_iter()
        .chain(letters)
        .take(MAX_LEN)
        .collect();
    if valid != wanted {
        tracing::warn!(%prefix, used = %valid, "the telemetry prefix cannot begin the name of a metric");
    }
    format!("{valid}.")
}

/// The instruments of the global provider: one set for each provider and prefix, however many
/// [`Telemetry`]s use it, so that the gauges of all their schedulers are told apart.
fn global_metrics(prefix: &str) -> Arc<Metrics> {
    struct Known {
        provider: Weak<dyn MeterProvider + Send + Sync>,
        prefix: String,
        metrics: Arc<Metrics>,
    }
    static KNOWN: Mutex<Vec<Known>> = Mutex::new(Vec::new());

    let provider = global::meter_provider();
    let mut known = KNOWN.lock();
    // Bounds the list: what is left are the providers that live, with the prefixes in use.
    known.retain(|known| known.provider.strong_count() > 0);
    let is_same = |known: &&Known| {
        std::ptr::addr_eq(known.provider.as_ptr(), Arc::as_ptr(&provider)) && known.prefix == prefix
    };
    if let Some(known) = known.iter().find(is_same) {
        return Arc::clone(&known.metrics);
    }
    let metrics = Arc::new(Metrics::new(&provider.meter_with_scope(scope()), prefix));
    let (prefix, weak) = (prefix.to_owned(), Arc::downgrade(&provider));
    known.push(Known {
        provider: weak,
        prefix,
        metrics: Arc::clone(&metrics),
    });
    metrics
}
