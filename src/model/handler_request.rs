//! The handler request: the durable (event, handler) row.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Priority, SUSPECT_FROM_RESCUES};
use crate::{
    id::{EventId, HandlerRequestId, LeaseOwner},
    text::{Name, cut, without_nul},
};

/// One handler's work on one event, with attempts, errors and an end of its own.
///
/// It is a record: it changes only through the pure transitions beside it (`claim`, `settle`,
/// `hand_back`, `rescue`, `cancel`, `reexecute`, `run_now`), whose table the guide
/// [`states`](crate::guide::states) shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HandlerRequest {
    /// Its id, derived from event and handler when it is created.
    pub id: HandlerRequestId,
    /// The event.
    pub event_id: EventId,
    /// The event's name.
    pub event_name: Name,
    /// The handler's name.
    pub handler: Name,
    /// Lower runs first.
    pub priority: Priority,
    /// The number of errors that makes it dead.
    pub max_errors: u32,
    /// Errors so far; a reexecution begins at 0 again.
    pub errors: u32,
    /// The fence: incremented by every claim, cancel, rescue, hand-back and reexecution, never
    /// reset.
    pub attempt: u64,
    /// Runs of the handler that are known to have happened.
    pub executions: u32,
    /// How often its lease ran out and it was taken back.
    pub rescues: u32,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// Not before this time, if set.
    pub backoff_until: Option<DateTime<Utc>>,
    /// When its handler last ran or began.
    pub last_execution_at: Option<DateTime<Utc>>,
    /// The last errors, oldest first; see [`ExecutionError::KEPT`].
    pub last_errors: Vec<ExecutionError>,
    /// When it was completed.
    pub completed_at: Option<DateTime<Utc>>,
    /// When it was canceled.
    pub canceled_at: Option<DateTime<Utc>>,
    /// When it died.
    pub dead_at: Option<DateTime<Utc>>,
    /// Who works on it, until when.
    pub lease: Option<Lease>,
}

/// A claim for a bounded time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Lease {
    /// Who has it.
    pub owner: LeaseOwner,
    /// When it can be taken back, by the store's clock.
    pub until: DateTime<Utc>,
}

/// What went wrong in one execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutionError {
    /// When it was settled.
    pub at: DateTime<Utc>,
    /// In which attempt.
    pub attempt: u64,
    /// What was wrong, cut to [`MAX_LEN`](Self::MAX_LEN) bytes.
    pub message: String,
}

impl ExecutionError {
    /// How many errors a request keeps: the latest.
    pub const KEPT: usize = 10;
    /// The most bytes of a message that are kept.
    pub const MAX_LEN: usize = 4096;
}

/// What a handler request is, by precedence: the first that applies.
///
/// As text, and with serde, it is what [`as_str`](Self::as_str) says.
///
/// ```
/// use tidings::RequestState;
///
/// assert_eq!("backing off".parse(), Ok(RequestState::BackingOff));
/// assert!("failed".parse::<RequestState>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RequestState {
    /// Stopped by a person or by its handler. An end.
    Canceled,
    /// Its handler succeeded. An end.
    Completed,
    /// Ended without success: its errors reached the maximum, or the handler discarded it.
    /// Elsewhere called a dead letter. An end.
    Dead,
    /// Leased to a process.
    Executing,
    /// Waiting for its backoff to pass.
    BackingOff,
    /// Ready to be claimed.
    Pending,
}

impl RequestState {
    /// All states, by precedence.
    pub const ALL: [Self; 6] = [
        Self::Canceled,
        Self::Completed,
        Self::Dead,
        Self::Executing,
        Self::BackingOff,
        Self::Pending,
    ];

    /// Whether this is an end: canceled, completed or dead.
    #[must_use]
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Canceled | Self::Completed | Self::Dead)
    }

    /// The state in lower case, as texts and attributes show it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Canceled => "canceled",
            Self::Completed => "completed",
            Self::Dead => "dead",
            Self::Executing => "executing",
            Self::BackingOff => "backing off",
            Self::Pending => "pending",
        }
    }
}

impl fmt::Display for RequestState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for RequestState {
    type Err = RequestStateError;

    fn from_str(text: &str) -> Result<Self, RequestStateError> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| RequestStateError(cut(text, RequestStateError::MAX_LEN)))
    }
}

impl Serialize for RequestState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for RequestState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// A text that is no state of a handler request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no state of a handler request; write canceled, completed, dead, executing, backing off or pending"
)]
pub struct RequestStateError(String);

impl RequestStateError {
    /// What is shown of a text that may come from anywhere.
    const MAX_LEN: usize = 100;
}

impl HandlerRequest {
    /// A new, pending request.
    #[must_use]
    pub fn new(
        event_id: EventId,
        event_name: Name,
        handler: Name,
        priority: Priority,
        max_errors: u32,
        created_at: DateTime<Utc>,
    ) -> Self {
        let id = HandlerRequestId::derive(event_id, &handler);
        Self::with_id(
            id, event_id, event_name, handler, priority, max_errors, created_at,
        )
    }

    /// As [`new`](Self::new), with its id at hand.
    pub(crate) const fn with_id(
        id: HandlerRequestId,
        event_id: EventId,
        event_name: Name,
        handler: Name,
        priority: Priority,
        max_errors: u32,
        created_at: DateTime<Utc>,
    ) -> Self {
        Self {
            id,
            event_id,
            event_name,
            handler,
            priority,
            max_errors,
            errors: 0,
            attempt: 0,
            executions: 0,
            rescues: 0,
            created_at,
            backoff_until: None,
            last_execution_at: None,
            last_errors: Vec::new(),
            completed_at: None,
            canceled_at: None,
            dead_at: None,
            lease: None,
        }
    }

    /// Its state at `now`. A lease that has run out still counts as executing until somebody
    /// takes the request back, because its owner may still settle it.
    #[must_use]
    pub fn state(&self, now: DateTime<Utc>) -> RequestState {
        if self.canceled_at.is_some() {
            RequestState::Canceled
        } else if self.completed_at.is_some() {
            RequestState::Completed
        } else if self.dead_at.is_some() {
            RequestState::Dead
        } else if self.lease.is_some() {
            RequestState::Executing
        } else if self.backoff_until.is_some_and(|until| until > now) {
            RequestState::BackingOff
        } else {
            RequestState::Pending
        }
    }

    /// Whether it has not ended.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.canceled_at.is_none() && self.completed_at.is_none() && self.dead_at.is_none()
    }

    /// Whether it was rescued so often that it may be what kills its processes: it is then claimed
    /// alone, and each later rescue counts an error.
    #[must_use]
    pub const fn is_suspect(&self) -> bool {
        self.rescues >= SUSPECT_FROM_RESCUES
    }

    /// Keeps an error, cut and without NUL, so that every store keeps the same, and lets go of the oldest one beyond the bound.
    pub(crate) fn remember(&mut self, at: DateTime<Utc>, message: &str) {
        if self.last_errors.len() >= ExecutionError::KEPT {
            self.last_errors.remove(0);
        }
        let message = cut(&without_nul(message), ExecutionError::MAX_LEN);
        self.last_errors.push(ExecutionError {
            at,
            attempt: self.attempt,
            message,
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_state_is_read_as_it_is_shown() {
        for state in RequestState::ALL {
            assert_eq!(state.to_string().parse(), Ok(state));
            let json = serde_json::to_value(state).unwrap();
            assert_eq!(json, json!(state.as_str()));
            assert_eq!(serde_json::from_value::<RequestState>(json).unwrap(), state);
        }
        let error = "Dead".parse::<RequestState>().unwrap_err().to_string();
        assert!(error.starts_with("\"Dead\" is no state"), "{error}");
    }
}
