//! The values of a rescue.

use std::time::Duration;

use crate::{
    id::{EventId, HandlerRequestId, LeaseOwner},
    model::{Backoff, Rescue},
    text::Name,
};

/// Asks to take back requests whose lease ran out.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RescueLost {
    /// At most this many.
    pub limit: usize,
    /// How long requests under suspicion wait.
    pub backoff: Backoff,
}

impl RescueLost {
    /// Asks to take back at most `limit`.
    #[must_use]
    pub const fn new(limit: usize, backoff: Backoff) -> Self {
        Self { limit, backoff }
    }
}

/// What a rescue came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rescued {
    /// What was taken back, the longest lost first.
    pub requests: Vec<RescuedRequest>,
    /// When fewer than the limit were taken back: how long until the earliest lease of anybody runs
    /// out. Zero when one has run out and could not be taken back, because its row is locked; `None`
    /// when nothing is leased. A store that keeps no order of leases may tell an earlier time, at which
    /// it looks again.
    pub next_expiry: Option<Duration>,
}

/// A request that was taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RescuedRequest {
    /// Its id.
    pub id: HandlerRequestId,
    /// Its event.
    pub event_id: EventId,
    /// The event's name.
    pub event_name: Name,
    /// Its handler.
    pub handler: Name,
    /// Who lost it.
    pub owner: LeaseOwner,
    /// Errors, with the one that this rescue may have counted.
    pub errors: u32,
    /// Rescues, with this one.
    pub rescues: u32,
    /// What became of it.
    pub rescue: Rescue,
}

impl RescuedRequest {
    /// A request that was taken back for the first time and has no errors; a store assigns the
    /// counts of others.
    #[must_use]
    pub fn new(
        id: HandlerRequestId,
        event_id: EventId,
        event_name: impl Into<Name>,
        handler: impl Into<Name>,
        owner: LeaseOwner,
        rescue: Rescue,
    ) -> Self {
        Self {
            id,
            event_id,
            event_name: event_name.into(),
            handler: handler.into(),
            owner,
            errors: 0,
            rescues: 1,
            rescue,
        }
    }
}
