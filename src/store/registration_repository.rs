//! The port to registrations.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::{error::Result, model::Registration, text::Name};

/// What registering did.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Registered {
    /// Handlers that were not registered because they are renamed, with their new names.
    pub renamed: Vec<(Name, Name)>,
}

/// What a rename did with requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Renamed {
    /// Open and dead requests that go by the new name now.
    pub requests: u64,
    /// Open and dead requests that were canceled because the event has one of the new name already.
    pub superseded: u64,
    /// Requests that still go by the old name because somebody else has them or their events
    /// locked; a later call takes them along, and so does every scheduler, which looks every
    /// twenty minutes.
    pub skipped: u64,
    /// Whether there may be others that go by the old name, so that the call is to be made again.
    pub more: bool,
    /// How many registrations of the old name go by the new one now, whichever call gave it to them:
    /// a rename that is made again counts them, too. 0 tells that the old name was never
    /// registered, which may be a typo, or that its handler goes by yet another name today. Only
    /// [`StorerExt::rename`](super::StorerExt::rename) counts them.
    pub registrations: u64,
}

/// A handler that is registered but that no living process has.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
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

    /// Gives a handler another name: its registrations go to the new name, unless that has them, and
    /// leave the old one as a signpost. If the new name is an active handler's, both are one from
    /// then on, which wants what either wanted. Fan-outs that come after it make requests of the new name, and
    /// those before it have ended: none makes one of the old name from now on. Those that are there
    /// are left to [`rename_requests`](Self::rename_requests). Answers how many registrations there
    /// were to move; doing it again changes nothing. Cost: one row each, and fan-outs wait until the
    /// transaction ends.
    ///
    /// # Errors
    /// [`StoreError::Invalid`](crate::StoreError::Invalid): the new name
    /// [cannot be one](Name::defect), see
    /// [`Registration::check_new_name`](crate::Registration::check_new_name); or it was itself given up
    /// by a rename, and some requests still go by it, which would become another handler's. Nothing
    /// was changed.
    async fn rename(&mut self, from: &Name, to: &Name) -> Result<u64>;

    /// Takes requests along that go by a name of before a rename: at most `limit` open and dead ones
    /// go by their handler's name of today. Executing ones do, too, and go on; their settlement finds
    /// them by their ids. Where the event has a request of that name already, the old one is
    /// canceled. Those that completed or were canceled keep the old name.
    ///
    /// It can be repeated at any time, also after it was broken off, and by several processes at
    /// once, until it answers that there are no more. Nothing is done for a handler that was not
    /// renamed. Cost: `limit` requests and their events are locked until the transaction ends, and
    /// renames wait for so long; next to nothing when no request is left.
    async fn rename_requests(&mut self, from: &Name, limit: usize) -> Result<Renamed>;

    /// Active handlers that no process has had for this long, and that have open requests.
    async fn absent(&mut self, longer_than: Duration) -> Result<Vec<AbsentHandler>>;
}
