//! The port to stored events.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::stream::BoxStream;

use super::{
    ClaimedEvent, EventClaim, EventFailure, EventFilter, FanOut, FannedOut, LockMode, Page, Prune,
    Pruned,
};
use crate::{error::Result, id::EventId, model::Event};

/// Events one by one, in the order of their ids, in constant memory.
pub type EventStream<'a> = BoxStream<'a, Result<StoredEvent>>;

/// Whether an event was stored.
// Exhaustive: the id was new or it was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raised {
    /// It was.
    New,
    /// An event with this id exists; nothing changed.
    AlreadyRaised,
}

/// An event and what has become of it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct StoredEvent {
    /// The event.
    pub event: Arc<Event>,
    /// When it was fanned out.
    pub processed_at: Option<DateTime<Utc>>,
    /// How often processing it has failed.
    pub errors: u32,
    /// Why it failed last, cut.
    pub last_error: Option<String>,
    /// When it is to be processed again, if it backs off.
    pub backoff_until: Option<DateTime<Utc>>,
}

impl StoredEvent {
    /// An event that waits for its processing.
    #[must_use]
    pub const fn new(event: Arc<Event>) -> Self {
        Self {
            event,
            processed_at: None,
            errors: 0,
            last_error: None,
            backoff_until: None,
        }
    }
}

/// Reads and writes events.
///
/// None of its methods is cancellation safe in a transaction: when a future is dropped, roll back.
/// In a session, a call whose future is dropped takes effect or does not. Cost on SQL: one round trip
/// to about ten a call, with everything that is written in one transaction.
///
/// # Errors
/// Every method answers with a [`StoreError`](crate::StoreError): the database is away, slow, or
/// preferred another transaction; the transaction has ended; a row cannot be read. In a transaction,
/// roll back after an error.
#[async_trait]
pub trait EventRepository: Send {
    /// Stores events, all or none, in their order. An id that exists is left alone, after waiting
    /// for the end of a transaction that is storing it.
    ///
    /// Of what a [`Raiser`](crate::Raiser) checks, only what not every database can store is checked
    /// here as well ([`Event::check_storable`]).
    async fn raise(&mut self, events: &[Event]) -> Result<Vec<Raised>>;

    /// Claims due events for hooks that are to run before the fan-out.
    async fn claim(&mut self, claim: &EventClaim) -> Result<Vec<ClaimedEvent>>;

    /// Makes handler requests of events, one for each handler that a registration wants, and marks
    /// the events as processed.
    async fn fan_out(&mut self, fan_out: &FanOut) -> Result<FannedOut>;

    /// Lets claimed events back off, each fenced; what is not held any more is left alone.
    async fn fail(&mut self, failures: &[EventFailure]) -> Result<()>;

    /// The event with this id.
    async fn find(&mut self, id: EventId) -> Result<Option<StoredEvent>>;

    /// The event with this id, locked until the transaction ends.
    async fn find_for_update(&mut self, id: EventId, lock: LockMode)
    -> Result<Option<StoredEvent>>;

    /// How many events are unprocessed.
    async fn count_unprocessed(&mut self) -> Result<u64>;

    /// The oldest unprocessed event.
    async fn oldest_unprocessed(&mut self) -> Result<Option<StoredEvent>>;

    /// How many events match. It may look at every event.
    async fn count(&mut self, filter: &EventFilter) -> Result<u64>;

    /// The matching events of a page, in the order of their ids.
    async fn list(
        &mut self,
        filter: &EventFilter,
        page: &Page<EventId>,
    ) -> Result<Vec<StoredEvent>>;

    /// All matching events, in the order of their ids.
    fn stream(&mut self, filter: &EventFilter) -> EventStream<'_>;

    /// Deletes processed events, each only together with all its requests, when all of these have
    /// ended, each at least as long ago as its kind is kept, and the event was processed at least
    /// [`keep_events_for`](Prune::keep_events_for) ago. An event without requests goes when it was
    /// processed at least [`completed_for`](Prune::completed_for) ago, too. The store's clock
    /// decides.
    ///
    /// Looks at no more than [`limit`](Prune::limit) events, in the order of their ids, and skips
    /// rows that another transaction has locked. An id that is gone can be raised anew.
    ///
    /// # Errors
    /// [`StoreError::Invalid`](crate::StoreError::Invalid): a limit of 0.
    async fn prune(&mut self, prune: &Prune) -> Result<Pruned>;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_stored_event_serializes_with_its_data_as_json() {
        let event = Event::new("order.placed", &json!({ "total": 12 })).unwrap();
        let id = event.id.to_string();
        let stored = serde_json::to_value(StoredEvent::new(Arc::new(event))).unwrap();
        assert_eq!(stored["event"]["id"], json!(id));
        assert_eq!(stored["event"]["data"], json!({ "total": 12 }));
        assert_eq!(stored["processed_at"], json!(null));
    }
}
