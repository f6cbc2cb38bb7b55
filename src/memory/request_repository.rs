//! The port to handler requests, over statements.

use async_trait::async_trait;
use futures_util::{StreamExt, stream};

use super::{connection::MemoryConnection, event_repository::STREAM_CHUNK};
use crate::{
    error::Result,
    id::{EventId, HandlerRequestId, LeaseOwner},
    model::{HandlerRequest, RequestState},
    store::{
        Claim, ClaimedBatch, HandlerRequestRepository, HandlerRequestStream, LockMode, Page,
        Replay, Replayed, RequestFilter, RescueLost, Rescued, Settled, Settlement,
    },
    text::Name,
};

pub(super) struct MemoryRequests<'c>(pub(super) &'c mut MemoryConnection);

#[async_trait]
impl HandlerRequestRepository for MemoryRequests<'_> {
    async fn claim(&mut self, claim: &Claim) -> Result<ClaimedBatch> {
        self.0
            .run("claim handler requests", |scope| {
                scope.claim_requests(claim)
            })
            .await
    }

    async fn claim_suspect(&mut self, claim: &Claim) -> Result<ClaimedBatch> {
        self.0
            .run("claim handler request under suspicion", |scope| {
                scope.claim_suspect(claim)
            })
            .await
    }

    async fn settle(&mut self, settlements: &[Settlement]) -> Result<Vec<Settled>> {
        self.0
            .run("settle handler requests", |scope| scope.settle(settlements))
            .await
    }

    async fn hand_back(
        &mut self,
        owner: LeaseOwner,
        requests: &[(HandlerRequestId, u64)],
    ) -> Result<Vec<Settled>> {
        self.0
            .run("hand back handler requests", |scope| {
                scope.hand_back(owner, requests)
            })
            .await
    }

    async fn rescue(&mut self, rescue: &RescueLost) -> Result<Rescued> {
        self.0
            .run("rescue handler requests", |scope| scope.rescue(rescue))
            .await
    }

    async fn find(&mut self, id: HandlerRequestId) -> Result<Option<HandlerRequest>> {
        self.0
            .run("find handler request", |scope| {
                Ok(scope.request(id).cloned())
            })
            .await
    }

    async fn find_for_update(
        &mut self,
        id: HandlerRequestId,
        lock: LockMode,
    ) -> Result<Option<HandlerRequest>> {
        let statement = self.0.run("find handler request for update", |scope| {
            let is_locked = scope.lock_request(id, lock)?;
            Ok(scope.request(id).filter(|_| is_locked).cloned())
        });
        statement.await
    }

    async fn of_event(&mut self, event: EventId) -> Result<Vec<HandlerRequest>> {
        self.0
            .run("find handler requests of event", |scope| {
                Ok(scope.of_event(event))
            })
            .await
    }

    async fn count_unexecuted(&mut self) -> Result<u64> {
        self.0
            .run("count unexecuted handler requests", |scope| {
                Ok(scope.count_unexecuted())
            })
            .await
    }

    async fn oldest_unexecuted(&mut self) -> Result<Option<HandlerRequest>> {
        let statement = self
            .0
            .run("find oldest unexecuted handler request", |scope| {
                Ok(scope
                    .open_requests()
                    .next()
                    .map(|view| view.request.clone()))
            });
        statement.await
    }

    async fn count_dead(&mut self) -> Result<u64> {
        self.0
            .run("count dead handler requests", |scope| {
                Ok(scope.count_in_state(RequestState::Dead))
            })
            .await
    }

    async fn dead(
        &mut self,
        filter: &RequestFilter,
        page: &Page<HandlerRequestId>,
    ) -> Result<Vec<HandlerRequest>> {
        let statement = self.0.run("list dead handler requests", |scope| {
            let dead = scope
                .dead_requests(filter, page.after)
                .skip(page.offset)
                .take(page.limit);
            Ok(dead.map(|view| view.request.clone()).collect())
        });
        statement.await
    }

    async fn dead_event_names(&mut self) -> Result<Vec<Name>> {
        let statement = self
            .0
            .run("list event names of dead handler requests", |scope| {
                Ok(
                    scope.dead_names(&scope.state.requests.dead_by_event_name, |request| {
                        &request.event_name
                    }),
                )
            });
        statement.await
    }

    async fn dead_handler_names(&mut self) -> Result<Vec<Name>> {
        let statement = self
            .0
            .run("list handlers of dead handler requests", |scope| {
                Ok(
                    scope.dead_names(&scope.state.requests.dead_by_handler, |request| {
                        &request.handler
                    }),
                )
            });
        statement.await
    }

    async fn count(&mut self, filter: &RequestFilter) -> Result<u64> {
        self.0
            .run("count handler requests", |scope| {
                Ok(scope.count_requests(filter))
            })
            .await
    }

    async fn list(
        &mut self,
        filter: &RequestFilter,
        page: &Page<HandlerRequestId>,
    ) -> Result<Vec<HandlerRequest>> {
        self.0
            .run("list handler requests", |scope| {
                Ok(scope.list_requests(filter, page))
            })
            .await
    }

    fn stream(&mut self, filter: &RequestFilter) -> HandlerRequestStream<'_> {
        let (connection, filter) = (&mut *self.0, filter.clone());
        let chunks = stream::unfold(Some((connection, filter, None)), |state| async {
            let (connection, filter, after) = state?;
            let page = Page {
                limit: STREAM_CHUNK,
                offset: 0,
                after,
            };
            match connection
                .run("stream handler requests", |scope| {
                    Ok(scope.list_requests(&filter, &page))
                })
                .await
            {
                Ok(chunk) => {
                    let last = chunk.last().map(|request| request.id)?;
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

    async fn cancel(&mut self, id: HandlerRequestId) -> Result<()> {
        self.0
            .run("cancel handler request", |scope| scope.cancel(id))
            .await
    }

    async fn reexecute(&mut self, id: HandlerRequestId) -> Result<()> {
        self.0
            .run("reexecute handler request", |scope| scope.reexecute(id))
            .await
    }

    async fn reexecute_dead(&mut self, filter: &RequestFilter, limit: usize) -> Result<u64> {
        self.0
            .run("reexecute dead handler requests", |scope| {
                scope.reexecute_dead(filter, limit)
            })
            .await
    }

    async fn run_now(&mut self, id: HandlerRequestId) -> Result<()> {
        self.0
            .run("run handler request now", |scope| scope.run_request_now(id))
            .await
    }

    async fn replay(&mut self, replay: &Replay) -> Result<Replayed> {
        self.0
            .run("replay events", |scope| scope.replay(replay))
            .await
    }
}
