//! The ports of a faulty store: each method goes through its faults.

#![deny(clippy::missing_trait_methods)]

use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Faults, Operation};
use crate::{
    error::Result,
    id::{EventId, HandlerRequestId, LeaseOwner},
    model::{Event, HandlerRequest, Registration},
    store::{
        AbsentHandler, Claim, ClaimedBatch, ClaimedEvent, EventClaim, EventFailure, EventFilter,
        EventRepository, EventStream, FanOut, FannedOut, HandlerRequestRepository,
        HandlerRequestStream, LeaseRenewer, LockMode, Page, Prune, Pruned, Raised, Registered,
        RegistrationRepository, Renamed, Renewal, Renewed, Replay, Replayed, RequestFilter,
        RescueLost, Rescued, Settled, Settlement, StoredEvent,
    },
    text::Name,
};

/// A port and its faults.
pub(super) struct Faulty<P> {
    pub(super) inner: P,
    pub(super) faults: Faults,
}

#[async_trait]
impl EventRepository for Faulty<Box<dyn EventRepository + '_>> {
    async fn raise(&mut self, events: &[Event]) -> Result<Vec<Raised>> {
        let call = self.inner.raise(events);
        self.faults.call(Operation::RaiseEvents, call).await
    }

    async fn claim(&mut self, claim: &EventClaim) -> Result<Vec<ClaimedEvent>> {
        let call = self.inner.claim(claim);
        self.faults.call(Operation::ClaimEvents, call).await
    }

    async fn fan_out(&mut self, fan_out: &FanOut) -> Result<FannedOut> {
        let call = self.inner.fan_out(fan_out);
        self.faults.call(Operation::FanOut, call).await
    }

    async fn fail(&mut self, failures: &[EventFailure]) -> Result<()> {
        let call = self.inner.fail(failures);
        self.faults.call(Operation::FailEvents, call).await
    }

    async fn find(&mut self, id: EventId) -> Result<Option<StoredEvent>> {
        let call = self.inner.find(id);
        self.faults.call(Operation::FindEvent, call).await
    }

    async fn find_for_update(
        &mut self,
        id: EventId,
        lock: LockMode,
    ) -> Result<Option<StoredEvent>> {
        let call = self.inner.find_for_update(id, lock);
        self.faults.call(Operation::FindEventForUpdate, call).await
    }

    async fn count_unprocessed(&mut self) -> Result<u64> {
        let call = self.inner.count_unprocessed();
        self.faults.call(Operation::CountUnprocessed, call).await
    }

    async fn oldest_unprocessed(&mut self) -> Result<Option<StoredEvent>> {
        let call = self.inner.oldest_unprocessed();
        self.faults.call(Operation::OldestUnprocessed, call).await
    }

    async fn count(&mut self, filter: &EventFilter) -> Result<u64> {
        let call = self.inner.count(filter);
        self.faults.call(Operation::CountEvents, call).await
    }

    async fn list(
        &mut self,
        filter: &EventFilter,
        page: &Page<EventId>,
    ) -> Result<Vec<StoredEvent>> {
        let call = self.inner.list(filter, page);
        self.faults.call(Operation::ListEvents, call).await
    }

    fn stream(&mut self, filter: &EventFilter) -> EventStream<'_> {
        let (inner, faults) = (self.inner.stream(filter), self.faults.clone());
        let opened = async move {
            faults
                .call(Operation::StreamEvents, async { Ok(inner) })
                .await
        };
        stream::once(opened).try_flatten().boxed()
    }

    async fn prune(&mut self, prune: &Prune) -> Result<Pruned> {
        let call = self.inner.prune(prune);
        self.faults.call(Operation::Prune, call).await
    }
}

#[async_trait]
impl HandlerRequestRepository for Faulty<Box<dyn HandlerRequestRepository + '_>> {
    async fn claim(&mut self, claim: &Claim) -> Result<ClaimedBatch> {
        let call = self.inner.claim(claim);
        self.faults.call(Operation::Claim, call).await
    }

    async fn claim_suspect(&mut self, claim: &Claim) -> Result<ClaimedBatch> {
        let call = self.inner.claim_suspect(claim);
        self.faults.call(Operation::ClaimSuspect, call).await
    }

    async fn settle(&mut self, settlements: &[Settlement]) -> Result<Vec<Settled>> {
        let call = self.inner.settle(settlements);
        self.faults.call(Operation::Settle, call).await
    }

    async fn hand_back(
        &mut self,
        owner: LeaseOwner,
        requests: &[(HandlerRequestId, u64)],
    ) -> Result<Vec<Settled>> {
        let call = self.inner.hand_back(owner, requests);
        self.faults.call(Operation::HandBack, call).await
    }

    async fn rescue(&mut self, rescue: &RescueLost) -> Result<Rescued> {
        let call = self.inner.rescue(rescue);
        self.faults.call(Operation::Rescue, call).await
    }

    async fn find(&mut self, id: HandlerRequestId) -> Result<Option<HandlerRequest>> {
        let call = self.inner.find(id);
        self.faults.call(Operation::FindRequest, call).await
    }

    async fn find_for_update(
        &mut self,
        id: HandlerRequestId,
        lock: LockMode,
    ) -> Result<Option<HandlerRequest>> {
        let call = self.inner.find_for_update(id, lock);
        self.faults
            .call(Operation::FindRequestForUpdate, call)
            .await
    }

    async fn of_event(&mut self, event: EventId) -> Result<Vec<HandlerRequest>> {
        let call = self.inner.of_event(event);
        self.faults.call(Operation::RequestsOfEvent, call).await
    }

    async fn count_unexecuted(&mut self) -> Result<u64> {
        let call = self.inner.count_unexecuted();
        self.faults.call(Operation::CountUnexecuted, call).await
    }

    async fn oldest_unexecuted(&mut self) -> Result<Option<HandlerRequest>> {
        let call = self.inner.oldest_unexecuted();
        self.faults.call(Operation::OldestUnexecuted, call).await
    }

    async fn count_dead(&mut self) -> Result<u64> {
        let call = self.inner.count_dead();
        self.faults.call(Operation::CountDead, call).await
    }

    async fn dead(
        &mut self,
        filter: &RequestFilter,
        page: &Page<HandlerRequestId>,
    ) -> Result<Vec<HandlerRequest>> {
        let call = self.inner.dead(filter, page);
        self.faults.call(Operation::ListDead, call).await
    }

    async fn dead_event_names(&mut self) -> Result<Vec<Name>> {
        let call = self.inner.dead_event_names();
        self.faults.call(Operation::DeadEventNames, call).await
    }

    async fn dead_handler_names(&mut self) -> Result<Vec<Name>> {
        let call = self.inner.dead_handler_names();
        self.faults.call(Operation::DeadHandlerNames, call).await
    }

    async fn count(&mut self, filter: &RequestFilter) -> Result<u64> {
        let call = self.inner.count(filter);
        self.faults.call(Operation::CountRequests, call).await
    }

    async fn list(
        &mut self,
        filter: &RequestFilter,
        page: &Page<HandlerRequestId>,
    ) -> Result<Vec<HandlerRequest>> {
        let call = self.inner.list(filter, page);
        self.faults.call(Operation::ListRequests, call).await
    }

    fn stream(&mut self, filter: &RequestFilter) -> HandlerRequestStream<'_> {
        let (inner, faults) = (self.inner.stream(filter), self.faults.clone());
        let opened = async move {
            faults
                .call(Operation::StreamRequests, async { Ok(inner) })
                .await
        };
        stream::once(opened).try_flatten().boxed()
    }

    async fn cancel(&mut self, id: HandlerRequestId) -> Result<()> {
        let call = self.inner.cancel(id);
        self.faults.call(Operation::Cancel, call).await
    }

    async fn reexecute(&mut self, id: HandlerRequestId) -> Result<()> {
        let call = self.inner.reexecute(id);
        self.faults.call(Operation::Reexecute, call).await
    }

    async fn reexecute_dead(&mut self, filter: &RequestFilter, limit: usize) -> Result<u64> {
        let call = self.inner.reexecute_dead(filter, limit);
        self.faults.call(Operation::ReexecuteDead, call).await
    }

    async fn run_now(&mut self, id: HandlerRequestId) -> Result<()> {
        let call = self.inner.run_now(id);
        self.faults.call(Operation::RunNow, call).await
    }

    async fn replay(&mut self, replay: &Replay) -> Result<Replayed> {
        let call = self.inner.replay(replay);
        self.faults.call(Operation::Replay, call).await
    }
}

#[async_trait]
impl RegistrationRepository for Faulty<Box<dyn RegistrationRepository + '_>> {
    async fn register(&mut self, registrations: &[Registration]) -> Result<Registered> {
        let call = self.inner.register(registrations);
        self.faults.call(Operation::Register, call).await
    }

    async fn touch(&mut self, handlers: &[Name]) -> Result<()> {
        let call = self.inner.touch(handlers);
        self.faults.call(Operation::Touch, call).await
    }

    async fn all(&mut self) -> Result<Vec<Registration>> {
        let call = self.inner.all();
        self.faults.call(Operation::ListRegistrations, call).await
    }

    async fn retire(&mut self, handler: &Name) -> Result<u64> {
        let call = self.inner.retire(handler);
        self.faults.call(Operation::Retire, call).await
    }

    async fn rename(&mut self, from: &Name, to: &Name) -> Result<u64> {
        let call = self.inner.rename(from, to);
        self.faults.call(Operation::Rename, call).await
    }

    async fn rename_requests(&mut self, from: &Name, limit: usize) -> Result<Renamed> {
        let call = self.inner.rename_requests(from, limit);
        self.faults.call(Operation::RenameRequests, call).await
    }

    async fn absent(&mut self, longer_than: Duration) -> Result<Vec<AbsentHandler>> {
        let call = self.inner.absent(longer_than);
        self.faults.call(Operation::AbsentHandlers, call).await
    }
}

#[async_trait]
impl LeaseRenewer for Faulty<Box<dyn LeaseRenewer>> {
    async fn renew(&mut self, renewal: &Renewal) -> Result<Renewed> {
        let call = self.inner.renew(renewal);
        self.faults.call(Operation::Renew, call).await
    }
}
