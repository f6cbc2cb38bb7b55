//! The port to events, over statements.

use async_trait::async_trait;
use futures_util::{StreamExt, stream};

use super::connection::MemoryConnection;
use crate::{
    error::Result,
    id::EventId,
    model::Event,
    store::{
        ClaimedEvent, EventClaim, EventFailure, EventFilter, EventRepository, EventStream, FanOut,
        FannedOut, LockMode, Page, Prune, Pruned, Raised, StoredEvent,
    },
};

/// How many rows a stream reads at once: it holds no lock in between, and so many at most in memory.
pub(super) const STREAM_CHUNK: usize = 256;

pub(super) struct MemoryEvents<'c>(pub(super) &'c mut MemoryConnection);

#[async_trait]
impl EventRepository for MemoryEvents<'_> {
    async fn raise(&mut self, events: &[Event]) -> Result<Vec<Raised>> {
        events.iter().try_for_each(Event::check_storable)?;
        let statement = self.0.run("raise events", |scope| {
            if !scope.is_alone() {
                events
                    .iter()
                    .try_for_each(|event| scope.reserve_event(event.id))?;
            }
            Ok(events
                .iter()
                .map(|event| scope.insert_event(event))
                .collect())
        });
        statement.await
    }

    async fn claim(&mut self, claim: &EventClaim) -> Result<Vec<ClaimedEvent>> {
        self.0
            .run("claim events", |scope| scope.claim_events(claim))
            .await
    }

    async fn fan_out(&mut self, fan_out: &FanOut) -> Result<FannedOut> {
        self.0
            .run("fan out events", |scope| scope.fan_out(fan_out))
            .await
    }

    async fn fail(&mut self, failures: &[EventFailure]) -> Result<()> {
        self.0
            .run("let events back off", |scope| scope.fail_events(failures))
            .await
    }

    async fn find(&mut self, id: EventId) -> Result<Option<StoredEvent>> {
        self.0
            .run("find event", |scope| {
                Ok(scope.event(id).map(super::event_table::EventRecord::stored))
            })
            .await
    }

    async fn find_for_update(
        &mut self,
        id: EventId,
        lock: LockMode,
    ) -> Result<Option<StoredEvent>> {
        let statement = self.0.run("find event for update", |scope| {
            let is_locked = scope.lock_event(id, lock)?;
            Ok(scope
                .event(id)
                .filter(|_| is_locked)
                .map(super::event_table::EventRecord::stored))
        });
        statement.await
    }

    async fn count_unprocessed(&mut self) -> Result<u64> {
        self.0
            .run("count unprocessed events", |scope| {
                Ok(scope.count_unprocessed())
            })
            .await
    }

    async fn oldest_unprocessed(&mut self) -> Result<Option<StoredEvent>> {
        self.0
            .run("find oldest unprocessed event", |scope| {
                Ok(scope.oldest_unprocessed())
            })
            .await
    }

    async fn count(&mut self, filter: &EventFilter) -> Result<u64> {
        self.0
            .run("count events", |scope| Ok(scope.count_events(filter)))
            .await
    }

    async fn list(
        &mut self,
        filter: &EventFilter,
        page: &Page<EventId>,
    ) -> Result<Vec<StoredEvent>> {
        self.0
            .run("list events", |scope| Ok(scope.list_events(filter, page)))
            .await
    }

    fn stream(&mut self, filter: &EventFilter) -> EventStream<'_> {
        let (connection, filter) = (&mut *self.0, filter.clone());
        let chunks = stream::unfold(Some((connection, filter, None)), |state| async {
            let (connection, filter, after) = state?;
            let page = Page {
                limit: STREAM_CHUNK,
                offset: 0,
                after,
            };
            match connection
                .run("stream events", |scope| {
                    Ok(scope.list_events(&filter, &page))
                })
                .await
            {
                Ok(chunk) => {
                    let last = chunk.last().map(|stored| stored.event.id)?;
                    Some((
                        chunk.into_iter().map(Ok).collect(),
                        Some((connection, filter, Some(last))),
                    ))
                }
                Err(error) => Some((vec![Err(error)], None)),
            }
        });
        chunks.map(stream::iter).flatten().boxed()
    }

    async fn prune(&mut self, prune: &Prune) -> Result<Pruned> {
        self.0.run("prune events", |scope| scope.prune(prune)).await
    }
}
