//! What queries for operators can ask.

use chrono::{DateTime, Utc};

use crate::{
    model::{Entity, RequestState},
    text::Name,
};

/// How to wait for a row that another transaction has locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LockMode {
    /// Wait for it.
    Wait,
    /// Treat it as absent.
    SkipLocked,
}

/// Which events; the default is all. Empty lists do not restrict.
///
/// ```
/// use tidings::store::EventFilter;
///
/// let unwanted = EventFilter::default().named(["order.placed"]).processed(true).with_requests(false);
/// assert_eq!((unwanted.processed, unwanted.has_requests), (Some(true), Some(false)));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventFilter {
    /// Any of these names.
    pub names: Vec<Name>,
    /// About this entity.
    pub entity: Option<Entity>,
    /// Happened at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Happened before this time.
    pub until: Option<DateTime<Utc>>,
    /// Processed, or not.
    pub processed: Option<bool>,
    /// With handler requests, or without any: processed and without are those that no registration
    /// wanted.
    pub has_requests: Option<bool>,
}

impl EventFilter {
    /// With any of these names instead of those before; none of them does not restrict.
    #[must_use]
    pub fn named(mut self, names: impl IntoIterator<Item = impl Into<Name>>) -> Self {
        self.names = names.into_iter().map(Into::into).collect();
        self
    }

    /// About this entity.
    #[must_use]
    pub fn about(mut self, entity: Entity) -> Self {
        self.entity = Some(entity);
        self
    }

    /// Happened at this time or later.
    #[must_use]
    pub const fn since(mut self, since: DateTime<Utc>) -> Self {
        self.since = Some(since);
        self
    }

    /// Happened before this time.
    #[must_use]
    pub const fn until(mut self, until: DateTime<Utc>) -> Self {
        self.until = Some(until);
        self
    }

    /// Processed, or not.
    #[must_use]
    pub const fn processed(mut self, processed: bool) -> Self {
        self.processed = Some(processed);
        self
    }

    /// With handler requests, or without any.
    #[must_use]
    pub const fn with_requests(mut self, has_requests: bool) -> Self {
        self.has_requests = Some(has_requests);
        self
    }
}

/// Which handler requests; the default is all. Empty lists do not restrict.
///
/// ```
/// use tidings::{RequestState, store::RequestFilter};
///
/// let dead = RequestFilter::default().in_states([RequestState::Dead]).of_handlers(["mail"]);
/// assert_eq!(dead.handlers, ["mail"]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestFilter {
    /// In any of these states.
    pub states: Vec<RequestState>,
    /// Of events with any of these names.
    pub event_names: Vec<Name>,
    /// Of any of these handlers.
    pub handlers: Vec<Name>,
    /// Of events about this entity.
    pub entity: Option<Entity>,
    /// Created at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Created before this time.
    pub until: Option<DateTime<Utc>>,
    /// With this text in the last error.
    pub error_contains: Option<String>,
}

impl RequestFilter {
    /// In any of these states instead of those before; none of them does not restrict.
    #[must_use]
    pub fn in_states(mut self, states: impl IntoIterator<Item = RequestState>) -> Self {
        self.states = states.into_iter().collect();
        self
    }

    /// Of events with any of these names instead of those before; none of them does not restrict.
    #[must_use]
    pub fn of_events_named(
        mut self,
        event_names: impl IntoIterator<Item = impl Into<Name>>,
    ) -> Self {
        self.event_names = event_names.into_iter().map(Into::into).collect();
        self
    }

    /// Of any of these handlers instead of those before; none of them does not restrict.
    #[must_use]
    pub fn of_handlers(mut self, handlers: impl IntoIterator<Item = impl Into<Name>>) -> Self {
        self.handlers = handlers.into_iter().map(Into::into).collect();
        self
    }

    /// Of events about this entity.
    #[must_use]
    pub fn about(mut self, entity: Entity) -> Self {
        self.entity = Some(entity);
        self
    }

    /// Created at this time or later.
    #[must_use]
    pub const fn since(mut self, since: DateTime<Utc>) -> Self {
        self.since = Some(since);
        self
    }

    /// Created before this time.
    #[must_use]
    pub const fn until(mut self, until: DateTime<Utc>) -> Self {
        self.until = Some(until);
        self
    }

    /// With this text in the last error.
    #[must_use]
    pub fn error_contains(mut self, text: impl Into<String>) -> Self {
        self.error_contains = Some(text.into());
        self
    }
}

/// Which part of a long answer.
///
/// Paging by key (`after`) stays fast and stable however long the list is; paging by offset is
/// there for pages with numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page<Id> {
    /// At most this many.
    pub limit: usize,
    /// Without so many from the beginning.
    pub offset: usize,
    /// Only ids after this one.
    pub after: Option<Id>,
}

impl<Id> Page<Id> {
    /// The first `limit`.
    #[must_use]
    pub const fn first(limit: usize) -> Self {
        Self {
            limit,
            offset: 0,
            after: None,
        }
    }

    /// At most `limit` after the one with the id `last`.
    #[must_use]
    pub const fn after(last: Id, limit: usize) -> Self {
        Self {
            limit,
            offset: 0,
            after: Some(last),
        }
    }

    /// The same without the first `offset`.
    #[must_use]
    pub const fn skipping(mut self, offset: usize) -> Self {
        self.offset = offset;
        self
    }
}

impl<Id> Default for Page<Id> {
    fn default() -> Self {
        Self::first(100)
    }
}
