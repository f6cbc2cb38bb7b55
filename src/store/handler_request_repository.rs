//! The port to stored handler requests.

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::{
    Claim, ClaimedBatch, LockMode, Page, Replay, Replayed, RequestFilter, RescueLost, Rescued,
    Settled, Settlement,
};
use crate::{
    error::Result,
    id::{EventId, HandlerRequestId, LeaseOwner},
    model::HandlerRequest,
    text::Name,
};

/// Handler requests one by one, in the order of their ids, in constant memory.
pub type HandlerRequestStream<'a> = BoxStream<'a, Result<HandlerRequest>>;

/// Reads and changes handler requests.
///
/// None of its methods is cancellation safe in a transaction: when a future is dropped, roll back.
/// In a session, a call whose future is dropped takes effect or does not; what was claimed so is
/// rescued when its lease runs out. Cost on SQL: one round trip to
/// about ten a call, with everything that is written in one transaction.
///
/// # Errors
/// Every method answers with a [`StoreError`](crate::StoreError): the database is away, slow, or
/// preferred another transaction; the transaction has ended; a row cannot be read. In a transaction,
/// roll back after an error.
#[async_trait]
pub trait HandlerRequestRepository: Send {
    /// Claims due requests in the order (priority, id), skipping locked ones and those under
    /// suspicion.
    async fn claim(&mut self, claim: &Claim) -> Result<ClaimedBatch>;

    /// Claims one due request under suspicion; its execution has begun when this is committed, and
    /// counts in the row but not in what is answered.
    async fn claim_suspect(&mut self, claim: &Claim) -> Result<ClaimedBatch>;

    /// Writes outcomes, each fenced; answers in their order.
    ///
    /// In a session it waits for no request that a transaction has locked, which would hold up the
    /// others: it answers [`Settled::Locked`]. In a transaction it waits.
    async fn settle(&mut self, settlements: &[Settlement]) -> Result<Vec<Settled>>;

    /// Gives back requests that were not started, each with its fence; answers in their order. It
    /// never waits for one that a transaction has locked, and answers [`Settled::Locked`].
    async fn hand_back(
        &mut self,
        owner: LeaseOwner,
        requests: &[(HandlerRequestId, u64)],
    ) -> Result<Vec<Settled>>;

    /// Takes back requests whose lease ran out, skipping locked ones, and tells when the next lease
    /// does.
    async fn rescue(&mut self, rescue: &RescueLost) -> Result<Rescued>;

    /// The request with this id.
    async fn find(&mut self, id: HandlerRequestId) -> Result<Option<HandlerRequest>>;

    /// The request with this id, locked until the transaction ends.
    async fn find_for_update(
        &mut self,
        id: HandlerRequestId,
        lock: LockMode,
    ) -> Result<Option<HandlerRequest>>;

    /// All requests of an event, in the order of their handlers' names.
    async fn of_event(&mut self, event: EventId) -> Result<Vec<HandlerRequest>>;

    /// How many requests have not ended.
    async fn count_unexecuted(&mut self) -> Result<u64>;

    /// The oldest request that has not ended.
    async fn oldest_unexecuted(&mut self) -> Result<Option<HandlerRequest>>;

    /// How many requests are dead.
    async fn count_dead(&mut self) -> Result<u64>;

    /// The dead requests of a page, in the order of their ids; the filter's states do not matter.
    async fn dead(
        &mut self,
        filter: &RequestFilter,
        page: &Page<HandlerRequestId>,
    ) -> Result<Vec<HandlerRequest>>;

    /// The names of events that have dead requests, in order.
    async fn dead_event_names(&mut self) -> Result<Vec<Name>>;

    /// The names of handlers that have dead requests, in order.
    async fn dead_handler_names(&mut self) -> Result<Vec<Name>>;

    /// How many requests match. It may look at every request.
    async fn count(&mut self, filter: &RequestFilter) -> Result<u64>;

    /// The matching requests of a page, in the order of their ids.
    async fn list(
        &mut self,
        filter: &RequestFilter,
        page: &Page<HandlerRequestId>,
    ) -> Result<Vec<HandlerRequest>>;

    /// All matching requests, in the order of their ids.
    fn stream(&mut self, filter: &RequestFilter) -> HandlerRequestStream<'_>;

    /// Cancels an open or dead request.
    ///
    /// # Errors
    /// [`StoreError::Refused`](crate::StoreError::Refused) tells the state that stands against it,
    /// also when there is no such request.
    async fn cancel(&mut self, id: HandlerRequestId) -> Result<()>;

    /// Runs an ended request again, with errors at 0.
    ///
    /// # Errors
    /// As [`cancel`](Self::cancel).
    async fn reexecute(&mut self, id: HandlerRequestId) -> Result<()>;

    /// Runs dead requests that match again, in the order of their ids, at most `limit`; answers
    /// how many.
    async fn reexecute_dead(&mut self, filter: &RequestFilter, limit: usize) -> Result<u64>;

    /// Clears a backoff.
    ///
    /// # Errors
    /// As [`cancel`](Self::cancel).
    async fn run_now(&mut self, id: HandlerRequestId) -> Result<()>;

    /// Runs past events again: looks at matching processed events in the order of their ids, and at
    /// the handlers that an active registration, the most specific one, maps them to. A request
    /// that is missing is made, on the terms of that registration and ready; one that has ended is
    /// reexecuted, on its own terms; an open one is left as it is. Unprocessed events are left
    /// alone and do not count.
    ///
    /// A handler's requests are those that go by its name now. Ended ones that stayed behind at a
    /// rename go by the old name, so a replay to the new one makes others.
    ///
    /// Replays of the same events at the same time make each request once. Cost: as many rows as
    /// there are requests that become ready.
    ///
    /// # Errors
    /// [`StoreError::Invalid`](crate::StoreError::Invalid): a limit of 0, or a named handler
    /// without an active registration; see [`Replay::check`]. Nothing was changed.
    async fn replay(&mut self, replay: &Replay) -> Result<Replayed>;
}
