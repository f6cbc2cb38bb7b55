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

impl serde::Serialize for SchedulerState {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Display for SchedulerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
