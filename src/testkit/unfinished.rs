//! What has not ended, and why, in words.

use std::{fmt, sync::Arc};

use crate::{model::HandlerRequest, store::StoredEvent};

/// Events that are not processed and handler requests that have not ended.
///
/// `Display` has a line for each: its state, its errors and the last of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unfinished {
    /// Events that are not processed, at most [`MAX_LISTED`](Self::MAX_LISTED).
    pub events: Vec<StoredEvent>,
    /// Requests that have not ended, at most [`MAX_LISTED`](Self::MAX_LISTED).
    pub requests: Vec<HandlerRequest>,
    /// How many more events and requests there are.
    pub unlisted: u64,
}

impl Unfinished {
    /// How many events, and how many requests, are listed: enough to see why, few enough to read.
    pub const MAX_LISTED: usize = 20;
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for event in &self.events {
            let StoredEvent {
                event,
                errors,
                last_error,
                backoff_until,
                ..
            } = event;
            let event = Arc::as_ref(event);
            write!(
                f,
                "\n  event {} ({}) is not processed",
                event.name, event.id
            )?;
            if let Some(until) = backoff_until {
                write!(f, " and backs off until {until}")?;
            }
            if let Some(error) = last_error {
                write!(f, ", after {errors} errors, the last: {error}")?;
            }
        }
        for request in &self.requests {
            let HandlerRequest {
                handler,
                event_name,
                event_id,
                errors,
                max_errors,
                ..
            } = request;
            write!(
                f,
                "\n  handler {handler} of event {event_name} ({event_id}) "
            )?;
            match (&request.lease, request.backoff_until) {
                (Some(lease), _) => write!(
                    f,
                    "executes, leased to {} until {}",
                    lease.owner, lease.until
                )?,
                (None, Some(until)) => write!(f, "backs off until {until}")?,
                (None, None) => f.write_str("waits for a worker")?,
            }
            if let Some(error) = request.last_errors.last() {
                write!(
                    f,
                    ", after {errors} of {max_errors} errors, the last: {}",
                    error.message
                )?;
            }
        }
        match self.unlisted {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}
