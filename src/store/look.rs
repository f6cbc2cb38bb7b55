//! The values of a look at what there is to do.

use std::time::Duration;

use crate::text::Name;

/// Asks what there is to do, without doing it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Look {
    /// The handlers whose requests could be claimed.
    pub handlers: Vec<Name>,
    /// Whether to tell when a lease runs out. It is asked for once in a lease, as finding the
    /// earliest may cost more than the rest.
    pub leases: bool,
}

impl Look {
    /// Asks for events, and for requests of these handlers.
    #[must_use]
    pub const fn new(handlers: Vec<Name>) -> Self {
        Self {
            handlers,
            leases: false,
        }
    }
}

/// What there is to do. A hint: by the time it is read, others may have done it, or made more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outlook {
    /// An event is due.
    pub event_waits: bool,
    /// When no event is due: how long until one that backs off is.
    pub next_event: Option<Duration>,
    /// A request of the asked handlers is due.
    pub request_waits: bool,
    /// A request of the asked handlers is due, and under suspicion.
    pub suspect_waits: bool,
    /// When no request of the asked handlers is due: how long until one that backs off is.
    pub next_request: Option<Duration>,
    /// If it was asked for: how long until the earliest lease of anybody runs out; zero when one
    /// has, and `None` when nothing is leased. Some stores tell an
    /// [earlier time](crate::store::Rescued::next_expiry).
    pub next_expiry: Option<Duration>,
}

impl Outlook {
    /// Of a store that cannot tell: there may be anything, so each call has to find out by itself.
    #[must_use]
    pub const fn unknown() -> Self {
        Self {
            event_waits: true,
            next_event: None,
            request_waits: true,
            suspect_waits: true,
            next_request: None,
            next_expiry: Some(Duration::ZERO),
        }
    }
}
