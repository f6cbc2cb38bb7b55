//! The same names without the feature `telemetry`: everything compiles to nothing.

use std::{future::Future, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};

use super::Gauges;
use crate::{
    error::StoreError,
    model::{Event, Outcome, SchedulerState},
    store::{ClaimedRequest, ProcessedEvent, Pruned, RescuedRequest},
};

/// Where metrics and spans would go with the feature `telemetry`. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Telemetry {}

impl Telemetry {
    /// Records nothing.
    #[must_use]
    pub const fn disabled() -> Self {
        Self {}
    }

    /// Begins to build one; it records nothing without the feature `telemetry`.
    pub fn builder() -> TelemetryBuilder {
        TelemetryBuilder {}
    }

    pub(crate) fn is_enabled(&self) -> bool {
        false
    }

    pub(crate) fn process_round(&self) -> Round {
        Round {}
    }

    pub(crate) fn execute_round(&self) -> Round {
        Round {}
    }

    pub(crate) fn event_processed(&self, _: &Round, _: &ProcessedEvent, _: DateTime<Utc>) {}

    pub(crate) fn event_failed(&self, _: &Round, _: &Event, _: &str) {}

    pub(crate) fn execution(&self, _: &RoundLink, _: &ClaimedRequest) -> ExecutionSpan {
        ExecutionSpan {}
    }

    pub(crate) fn handler_ran(&self, _: &ClaimedRequest, _: Duration, _: Option<&str>) {}

    pub(crate) fn request_settled(&self, _: &ClaimedRequest, _: &Outcome, _: DateTime<Utc>) {}

    pub(crate) fn settlement_refused(&self, _: &ClaimedRequest) {}

    pub(crate) fn request_rescued(&self, _: &RescuedRequest) {}

    pub(crate) fn pruned(&self, _: &Pruned) {}

    pub(crate) fn workers_busy(&self, _: i64) {}

    pub(crate) fn workers(&self, _: i64) {}

    pub(crate) fn batch(&self, _: &'static str, _: usize, _: Duration) {}

    pub(crate) fn store_failed(&self, _: &'static str, _: &StoreError) {}

    pub(crate) fn store_abandoned(&self, _: &'static str) {}

    pub(crate) fn notification_received(&self) {}

    pub(crate) fn scheduler_state(&self, _: Option<SchedulerState>, _: Option<SchedulerState>) {}

    pub(crate) fn observe(&self, _: &Arc<Gauges>) {}
}

/// Builds a [`Telemetry`].
#[derive(Debug)]
#[must_use = "nothing is built until `build`"]
pub struct TelemetryBuilder {}

impl TelemetryBuilder {
    /// Would be put before every name.
    pub fn prefix(self, _: impl Into<String>) -> Self {
        self
    }

    /// The telemetry.
    #[must_use]
    pub fn build(self) -> Telemetry {
        Telemetry {}
    }
}

#[derive(Debug)]
pub(crate) struct Round {}

impl Round {
    pub(crate) fn link(&self) -> RoundLink {
        RoundLink {}
    }

    pub(crate) fn claimed(&self, _: usize) {}
}

#[derive(Clone, Debug, Default)]
pub(crate) struct RoundLink {}

#[derive(Debug)]
pub(crate) struct ExecutionSpan {}

impl ExecutionSpan {
    pub(crate) fn enter<T>(&self, make: impl FnOnce() -> T) -> T {
        make()
    }

    pub(crate) fn instrument<F: Future>(
        &self,
        handler: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        handler
    }

    pub(crate) fn finish(self, _: Option<&str>) {}
}

pub(crate) mod propagation {
    use crate::model::Event;

    pub(crate) fn inject_current(_: &mut [Event]) {}
}
