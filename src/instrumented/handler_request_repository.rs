//! The handler requests: sizes and times of batches, failures of everything.

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt};

use crate::{
    error::Result,
    id::{EventId, HandlerRequestId, LeaseOwner},
    model::HandlerRequest,
    store::{
        Claim, ClaimedBatch, HandlerRequestRepository, HandlerRequestStream, LockMode, Page,
        Replay, Replayed, RequestFilter, RescueLost, Rescued, Settled, Settlement,
    },
    telemetry::Telemetry,
    text::Name,
};

pub(super) struct InstrumentedHandlerRequestRepository<'a> {
    pub(super) inner: Box<dyn HandlerRequestRepository + 'a>,
    pub(super) telemetry: &'a Telemetry,
}

#[async_trait]
impl HandlerRequestRepository for InstrumentedHandlerRequestRepository<'_> {
    async fn claim(&mut self, claim: &Claim) -> Result<ClaimedBatch> {
        let size = |claimed: &ClaimedBatch| claimed.requests.len() + claimed.unreadable.len();
        self.telemetry
            .measured("claim", self.inner.claim(claim), size)
            .await
    }

    async fn claim_suspect(&mut self, claim: &Claim) -> Result<ClaimedBatch> {
        let size = |claimed: &ClaimedBatch| claimed.requests.len() + claimed.unreadable.len();
        self.telemetry
            .measured("claim_suspect", self.inner.claim_suspect(claim), size)
            .await
    }

    async fn settle(&mut self, settlements: &[Settlement]) -> Result<Vec<Settled>> {
        self.telemetry
            .measured("settle", self.inner.settle(settlements), |_| {
                settlements.len()
            })
            .await
    }

    async fn hand_back(
        &mut self,
        owner: LeaseOwner,
        requests: &[(HandlerRequestId, u64)],
    ) -> Result<Vec<Settled>> {
        self.telemetry
            .measured("hand_back", self.inner.hand_back(owner, requests), |_| {
                requests.len()
            })
            .await
    }

    async fn rescue(&mut self, rescue: &RescueLost) -> Result<Rescued> {
        self.telemetry
            .measured("rescue", self.inner.rescue(rescue), |rescued| {
                rescued.requests.len()
            })
            .await
    }

    async fn find(&mut self, id: HandlerRequestId) -> Result<Option<HandlerRequest>> {
        self.telemetry
            .watched("find_request", self.inner.find(id))
            .await
    }

    async fn find_for_update(
        &mut self,
        id: HandlerRequestId,
        lock: LockMode,
    ) -> Result<Option<HandlerRequest>> {
        self.telemetry
            .watched(
                "find_request_for_update",
                self.inner.find_for_update(id, lock),
            )
            .await
    }

    async fn of_event(&mut self, event: EventId) -> Result<Vec<HandlerRequest>> {
        self.telemetry
            .watched("requests_of_event", self.inner.of_event(event))
            .await
    }

    async fn count_unexecuted(&mut self) -> Result<u64> {
        self.telemetry
            .watched("count_unexecuted", self.inner.count_unexecuted())
            .await
    }

    async fn oldest_unexecuted(&mut self) -> Result<Option<HandlerRequest>> {
        self.telemetry
            .watched("oldest_unexecuted", self.inner.oldest_unexecuted())
            .await
    }

    async fn count_dead(&mut self) -> Result<u64> {
        self.telemetry
            .watched("count_dead", self.inner.count_dead())
            .await
    }

    async fn dead(
        &mut self,
        filter: &RequestFilter,
        page: &Page<HandlerRequestId>,
    ) -> Result<Vec<HandlerRequest>> {
        self.telemetry
            .watched("dead", self.inner.dead(filter, page))
            .await
    }

    async fn dead_event_names(&mut self) -> Result<Vec<Name>> {
        self.telemetry
            .watched("dead_event_names", self.inner.dead_event_names())
            .await
    }

    async fn dead_handler_names(&mut self) -> Result<Vec<Name>> {
        self.telemetry
            .watched("dead_handler_names", self.inner.dead_handler_names())
            .await
    }

    async fn count(&mut self, filter: &RequestFilter) -> Result<u64> {
        self.telemetry
            .watched("count_requests", self.inner.count(filter))
            .await
    }

    async fn list(
        &mut self,
        filter: &RequestFilter,
        page: &Page<HandlerRequestId>,
    ) -> Result<Vec<HandlerRequest>> {
        self.telemetry
            .watched("list_requests", self.inner.list(filter, page))
            .await
    }

    fn stream(&mut self, filter: &RequestFilter) -> HandlerRequestStream<'_> {
        let telemetry = self.telemetry;
        let failed = move |error: &_| telemetry.store_failed("stream_requests", error);
        self.inner.stream(filter).inspect_err(failed).boxed()
    }

    async fn cancel(&mut self, id: HandlerRequestId) -> Result<()> {
        self.telemetry
            .watched("cancel", self.inner.cancel(id))
            .await
    }

    async fn reexecute(&mut self, id: HandlerRequestId) -> Result<()> {
        self.telemetry
            .watched("reexecute", self.inner.reexecute(id))
            .await
    }

    async fn reexecute_dead(&mut self, filter: &RequestFilter, limit: usize) -> Result<u64> {
        self.telemetry
            .watched("reexecute_dead", self.inner.reexecute_dead(filter, limit))
            .await
    }

    async fn run_now(&mut self, id: HandlerRequestId) -> Result<()> {
        self.telemetry
            .watched("run_now", self.inner.run_now(id))
            .await
    }

    async fn replay(&mut self, replay: &Replay) -> Result<Replayed> {
        let size = |replayed: &Replayed| {
            usize::try_from(replayed.created + replayed.reexecuted).unwrap_or(usize::MAX)
        };
        self.telemetry
            .measured("replay", self.inner.replay(replay), size)
            .await
    }
}
