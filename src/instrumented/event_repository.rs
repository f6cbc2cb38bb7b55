//! The events: sizes and times of batches, failures of everything.

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt};

use crate::{
    error::Result,
    id::EventId,
    model::Event,
    store::{
        ClaimedEvent, EventClaim, EventFailure, EventFilter, EventRepository, EventStream, FanOut,
        FannedOut, LockMode, Page, Prune, Pruned, Raised, StoredEvent,
    },
    telemetry::Telemetry,
};

pub(super) struct InstrumentedEventRepository<'a> {
    pub(super) inner: Box<dyn EventRepository + 'a>,
    pub(super) telemetry: &'a Telemetry,
}

#[async_trait]
impl EventRepository for InstrumentedEventRepository<'_> {
    async fn raise(&mut self, events: &[Event]) -> Result<Vec<Raised>> {
        self.telemetry
            .measured("raise", self.inner.raise(events), |_| events.len())
            .await
    }

    async fn claim(&mut self, claim: &EventClaim) -> Result<Vec<ClaimedEvent>> {
        self.telemetry
            .measured("claim_events", self.inner.claim(claim), Vec::len)
            .await
    }

    async fn fan_out(&mut self, fan_out: &FanOut) -> Result<FannedOut> {
        self.telemetry
            .measured("fan_out", self.inner.fan_out(fan_out), |done| {
                done.processed.len()
            })
            .await
    }

    async fn fail(&mut self, failures: &[EventFailure]) -> Result<()> {
        self.telemetry
            .measured("fail_events", self.inner.fail(failures), |()| {
                failures.len()
            })
            .await
    }

    async fn find(&mut self, id: EventId) -> Result<Option<StoredEvent>> {
        self.telemetry
            .watched("find_event", self.inner.find(id))
            .await
    }

    async fn find_for_update(
        &mut self,
        id: EventId,
        lock: LockMode,
    ) -> Result<Option<StoredEvent>> {
        self.telemetry
            .watched(
                "find_event_for_update",
                self.inner.find_for_update(id, lock),
            )
            .await
    }

    async fn count_unprocessed(&mut self) -> Result<u64> {
        self.telemetry
            .watched("count_unprocessed", self.inner.count_unprocessed())
            .await
    }

    async fn oldest_unprocessed(&mut self) -> Result<Option<StoredEvent>> {
        self.telemetry
            .watched("oldest_unprocessed", self.inner.oldest_unprocessed())
            .await
    }

    async fn count(&mut self, filter: &EventFilter) -> Result<u64> {
        self.telemetry
            .watched("count_events", self.inner.count(filter))
            .await
    }

    async fn list(
        &mut self,
        filter: &EventFilter,
        page: &Page<EventId>,
    ) -> Result<Vec<StoredEvent>> {
        self.telemetry
            .watched("list_events", self.inner.list(filter, page))
            .await
    }

    fn stream(&mut self, filter: &EventFilter) -> EventStream<'_> {
        let telemetry = self.telemetry;
        let failed = move |error: &_| telemetry.store_failed("stream_events", error);
        self.inner.stream(filter).inspect_err(failed).boxed()
    }

    async fn prune(&mut self, prune: &Prune) -> Result<Pruned> {
        let size = |pruned: &Pruned| usize::try_from(pruned.events).unwrap_or(usize::MAX);
        self.telemetry
            .measured("prune", self.inner.prune(prune), size)
            .await
    }
}
