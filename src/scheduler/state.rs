//! The life of a scheduler.

use std::fmt;

/// Where a scheduler is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SchedulerState {
    /// Built, not started.
    Created,
    /// Registers its handlers; waits if the store cannot be reached.
    Starting,
    /// Processes and executes.
    Running,
    /// Claims nothing; what had begun goes on.
    Paused,
    /// Claims nothing and ends what had begun.
    ShuttingDown,
    /// Has ended. It cannot be started again.
    Stopped,
}

impl SchedulerState {
    /// The state in lower case, as texts and attributes show it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::ShuttingDown => "shutting down",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for SchedulerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A scheduler at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchedulerStatus {
    /// Where it is in its life.
    pub state: SchedulerState,
    /// Handlers that run now.
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
