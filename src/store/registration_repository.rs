//! The port to registrations.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::{error::Result, model::Registration, text::Name};

/// What registering did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Registered {
    /// Handlers that were not registered because they are renamed, with their new names.
    pub renamed: Vec<(Name, Name)>,
}

/// What a rename did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Renamed {
    /// Open and dead requests that go by the new name now.
    pub requests: u64,
    /// Open requests that were canceled because the event has one of the new name already.
    pub superseded: u64,
}

/// A handler that is registered but that no living process has.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AbsentHandler {
    /// The handler.
    pub handler: Name,
    /// When a process last had it.
    pub last_seen_at: DateTime<Utc>,
    /// Its requests that have not ended.
    pub open_requests: u64,
}

impl AbsentHandler {
    /// A handler that no living process has, with so many open requests.
    #[must_use]
    pub fn new(handler: impl Into<Name>, last_seen_at: DateTime<Utc>, open_requests: u64) -> Self {
        Self {
            handler: handler.into(),
            last_seen_at,
            open_requests,
        }
    }
}

/// Reads and changes registrations.
///
/// None of its methods is cancellation safe in a transaction: when a future is dropped, roll back.
///
/// # Errors
/// Every method answers with a [`StoreError`](crate::StoreError): the database is away, slow, or
/// preferred another transaction; the transaction has ended; a row cannot be read.
#[async_trait]
pub trait RegistrationRepository: Send {
    /// Inserts or updates registrations by pattern and handler, and marks their handlers as seen
    /// now. A retired handler becomes active again; a renamed one does not.
    async fn register(&mut self, registrations: &[Registration]) -> Result<Registered>;

    /// Marks handlers as seen now.
    async fn touch(&mut self, handlers: &[Name]) -> Result<()>;

    /// All registrations, also ended ones, in the order (handler, pattern).
    async fn all(&mut self) -> Result<Vec<Registration>>;

    /// Ends all registrations of a handler; its requests stay. Answers how many were active.
    async fn retire(&mut self, handler: &Name) -> Result<u64>;

    /// Gives a handler another name, with its registrations and its open and dead requests. Doing
    /// it again changes nothing. Cost: as many rows as the handler has open and dead requests.
    async fn rename(&mut self, from: &Name, to: &Name) -> Result<Renamed>;

    /// Active handlers that no process has had for this long, and that have open requests.
    async fn absent(&mut self, longer_than: Duration) -> Result<Vec<AbsentHandler>>;
}
