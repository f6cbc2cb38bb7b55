//! What a scheduler does at one moment.

use crate::model::SchedulerState;

/// A scheduler at one moment.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct SchedulerStatus {
    /// Where it is in its life.
    pub state: SchedulerState,
    /// Handlers that run now, and those that have run in a shared transaction which has not ended.
    pub executing: usize,
    /// Requests that were claimed and wait for a worker.
    pub buffered: usize,
    /// Outcomes that wait to be settled.
    pub settling: usize,
    /// The last error of the store, if its last call failed.
    pub store_error: Option<String>,
}

impl SchedulerStatus {
    /// A status with nothing under way; for mocks.
    #[must_use]
    pub const fn new(state: SchedulerState) -> Self {
        Self {
            state,
            executing: 0,
            buffered: 0,
            settling: 0,
            store_error: None,
        }
    }
}
