//! Metrics and spans through the OpenTelemetry API. The application brings the SDK; without one,
//! or without the feature `telemetry`, everything here does next to nothing.

mod gauges;
pub(crate) mod propagation;
mod round;

use std::time::Duration;

use chrono::{DateTime, Utc};

pub(crate) use gauges::{Gauges, Reading};
pub(crate) use round::{ExecutionSpan, Round, RoundLink};

use crate::{
    model::{Event, Outcome, SchedulerState},
    store::{ClaimedRequest, ProcessedEvent, RescuedRequest},
    text::Name,
};

/// Where metrics and spans go. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Telemetry {}

impl Telemetry {
    /// Whether anybody listens.
    pub(crate) fn is_enabled(&self) -> bool {
        true
    }

    /// Begins a round of processing: the span `process events`.
    pub(crate) fn process_round(&self) -> Round {
        Round {}
    }

    /// Begins a round of executing: the span `execute requests`.
    pub(crate) fn execute_round(&self) -> Round {
        Round {}
    }

    /// An event was fanned out. `now` is the wall clock's time.
    pub(crate) fn event_processed(
        &self,
        _round: &Round,
        _event: &ProcessedEvent,
        _now: DateTime<Utc>,
    ) {
    }

    /// Processing an event failed; it backs off.
    pub(crate) fn event_failed(&self, _round: &Round, _event: &Event, _error: &str) {}

    /// Begins the execution of a request: the span `execute {handler} request`.
    pub(crate) fn execution(&self, _round: &RoundLink, _request: &ClaimedRequest) -> ExecutionSpan {
        ExecutionSpan {}
    }

    /// A handler ran for `took`; `error` is what it answered, if not `Ok`.
    pub(crate) fn handler_ran(
        &self,
        _request: &ClaimedRequest,
        _took: Duration,
        _error: Option<&str>,
    ) {
    }

    /// A settlement took effect. `is_final` is whether the request ended with it.
    pub(crate) fn request_settled(
        &self,
        _request: &ClaimedRequest,
        _outcome: &Outcome,
        _now: DateTime<Utc>,
    ) {
    }

    /// The fence refused a settlement.
    pub(crate) fn settlement_refused(&self, _request: &ClaimedRequest) {}

    /// A request was taken back from a lost process.
    pub(crate) fn request_rescued(&self, _request: &RescuedRequest) {}

    /// Workers became busy (positive) or idle (negative).
    pub(crate) fn workers_busy(&self, _change: i64) {}

    /// A scheduler with so many workers runs (positive) or has ended (negative).
    pub(crate) fn workers(&self, _change: i64) {}

    /// A batch was claimed, fanned out or settled.
    pub(crate) fn batch(&self, _operation: &'static str, _size: usize, _took: Duration) {}

    /// A call to the store failed.
    pub(crate) fn store_failed(&self, _operation: &'static str) {}

    /// A notification of another process's work arrived.
    pub(crate) fn notification_received(&self) {}

    /// A scheduler went from one state to another.
    pub(crate) fn scheduler_state(
        &self,
        _from: Option<SchedulerState>,
        _to: Option<SchedulerState>,
    ) {
    }

    /// Requests of a handler that no process has.
    pub(crate) fn handlers_absent(&self, _handlers: &[(Name, u64)]) {}

    /// Shows these values as observable gauges while they live.
    pub(crate) fn observe(&self, _gauges: &std::sync::Arc<Gauges>) {}
}
