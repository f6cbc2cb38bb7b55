//! What queries for operators can ask.

use chrono::{DateTime, Utc};

use crate::{
    model::{Entity, RequestState},
    text::Name,
};

/// How to wait for a row that another transaction has locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Wait for it.
    Wait,
    /// Treat it as absent.
    SkipLocked,
}

/// Which events; the default is all. Empty lists do not restrict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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

/// Which handler requests; the default is all. Empty lists do not restrict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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

/// Which part of a long answer.
///
/// Paging by key (`after`) stays fast and stable however long the list is; paging by offset is
/// there for pages with numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

impl<Id> Default for Page<Id> {
    fn default() -> Self {
        Self::first(100)
    }
}
