//! What is done in a transaction, which takes effect with its commit.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tidings::{
    Event, EventId, HandlerRequest, HandlerRequestId, LeaseOwner, Name, Outcome, Result,
    StoreError,
    store::{
        Claim, ClaimedBatch, ClaimedEvent, EventClaim, EventFailure, EventFilter, EventRepository,
        EventStream, FanOut, FannedOut, HandlerRequestRepository, HandlerRequestStream, LockMode,
        Page, Prune, Pruned, Raised, Replay, Replayed, RequestFilter, RescueLost, Rescued, Settled,
        Settlement, StoredEvent,
    },
};

use crate::{
    calls::Caller,
    history::{Effect, What},
    ledger::named,
    state::State,
    world::World,
};

pub(crate) enum Pending {
    Raised(Vec<(EventId, Name)>),
    Settled(Vec<Settlement>, Vec<Settled>, DateTime<Utc>),
}

impl Pending {
    /// The transaction has committed.
    pub(crate) fn enter(self, state: &mut State, process: usize) {
        match self {
            Self::Raised(events) => {
                state.raised(events.iter().map(|(id, name)| (*id, name)));
                let ids = events.iter().map(|(id, _)| *id).collect();
                state.log(Some(process), What::Took(Effect::Raised(ids)));
            }
            Self::Settled(settlements, results, at) => {
                state.settled(process, &settlements, &results, at);
                let written = Name::from(crate::handlers::WRITTEN);
                for (settlement, result) in settlements.iter().zip(&results) {
                    let claim = (settlement.id, settlement.attempt);
                    if *result == Settled::Applied
                        && settlement.outcome == Outcome::Completed
                        && let Some(id) = state.written.get(&claim).copied()
                    {
                        state.raised([(id, &written)]);
                    }
                }
            }
        }
    }
}

pub(crate) struct TxEvents<'t> {
    pub(crate) caller: Caller,
    pub(crate) inner: Box<dyn EventRepository + 't>,
    pub(crate) pending: &'t mut Vec<Pending>,
}

pub(crate) struct TxRequests<'t> {
    pub(crate) caller: Caller,
    pub(crate) inner: Box<dyn HandlerRequestRepository + 't>,
    pub(crate) pending: &'t mut Vec<Pending>,
    pub(crate) locks: &'t mut Locks,
}

#[async_trait]
impl EventRepository for TxEvents<'_> {
    async fn raise(&mut self, events: &[Event]) -> Result<Vec<Raised>> {
        if self.caller.world.server().stores_at_once() {
            return self.caller.world.server().raise(events).await;
        }
        let call = self.inner.raise(events);
        let raised = self.caller.call_bound("raise", call).await?;
        self.pending.push(Pending::Raised(named(events)));
        Ok(raised)
    }

    async fn claim(&mut self, _: &EventClaim) -> Result<Vec<ClaimedEvent>> {
        Err(unused())
    }

    async fn fan_out(&mut self, _: &FanOut) -> Result<FannedOut> {
        Err(unused())
    }

    async fn fail(&mut self, _: &[EventFailure]) -> Result<()> {
        Err(unused())
    }

    async fn find(&mut self, id: EventId) -> Result<Option<StoredEvent>> {
        self.inner.find(id).await
    }

    async fn find_for_update(&mut self, _: EventId, _: LockMode) -> Result<Option<StoredEvent>> {
        Err(unused())
    }

    async fn count_unprocessed(&mut self) -> Result<u64> {
        self.inner.count_unprocessed().await
    }

    async fn oldest_unprocessed(&mut self) -> Result<Option<StoredEvent>> {
        self.inner.oldest_unprocessed().await
    }

    async fn count(&mut self, filter: &EventFilter) -> Result<u64> {
        self.inner.count(filter).await
    }

    async fn list(
        &mut self,
        filter: &EventFilter,
        page: &Page<EventId>,
    ) -> Result<Vec<StoredEvent>> {
        self.inner.list(filter, page).await
    }

    fn stream(&mut self, filter: &EventFilter) -> EventStream<'_> {
        self.inner.stream(filter)
    }

    async fn prune(&mut self, _: &Prune) -> Result<Pruned> {
        Err(unused())
    }
}

#[async_trait]
impl HandlerRequestRepository for TxRequests<'_> {
    async fn claim(&mut self, _: &Claim) -> Result<ClaimedBatch> {
        Err(unused())
    }

    async fn claim_suspect(&mut self, _: &Claim) -> Result<ClaimedBatch> {
        Err(unused())
    }

    async fn settle(&mut self, settlements: &[Settlement]) -> Result<Vec<Settled>> {
        let world = self.caller.world.clone();
        for settlement in settlements {
            self.locks.add(settlement.id);
        }
        let call = async {
            let results = self.inner.settle(settlements).await?;
            Ok((results, world.lock().now))
        };
        let (results, at) = self.caller.call_bound("settle", call).await?;
        let pending = Pending::Settled(settlements.to_vec(), results.clone(), at);
        self.pending.push(pending);
        Ok(results)
    }

    async fn hand_back(
        &mut self,
        _: LeaseOwner,
        _: &[(HandlerRequestId, u64)],
    ) -> Result<Vec<Settled>> {
        Err(unused())
    }

    async fn rescue(&mut self, _: &RescueLost) -> Result<Rescued> {
        Err(unused())
    }

    async fn find(&mut self, id: HandlerRequestId) -> Result<Option<HandlerRequest>> {
        self.inner.find(id).await
    }

    async fn find_for_update(
        &mut self,
        id: HandlerRequestId,
        lock: LockMode,
    ) -> Result<Option<HandlerRequest>> {
        self.locks.add(id);
        let call = self.inner.find_for_update(id, lock);
        self.caller.call_bound("find for update", call).await
    }

    async fn of_event(&mut self, event: EventId) -> Result<Vec<HandlerRequest>> {
        self.inner.of_event(event).await
    }

    async fn count_unexecuted(&mut self) -> Result<u64> {
        self.inner.count_unexecuted().await
    }

    async fn oldest_unexecuted(&mut self) -> Result<Option<HandlerRequest>> {
        self.inner.oldest_unexecuted().await
    }

    async fn count_dead(&mut self) -> Result<u64> {
        self.inner.count_dead().await
    }

    async fn dead(
        &mut self,
        filter: &RequestFilter,
        page: &Page<HandlerRequestId>,
    ) -> Result<Vec<HandlerRequest>> {
        self.inner.dead(filter, page).await
    }

    async fn dead_event_names(&mut self) -> Result<Vec<Name>> {
        self.inner.dead_event_names().await
    }

    async fn dead_handler_names(&mut self) -> Result<Vec<Name>> {
        self.inner.dead_handler_names().await
    }

    async fn count(&mut self, filter: &RequestFilter) -> Result<u64> {
        self.inner.count(filter).await
    }

    async fn list(
        &mut self,
        filter: &RequestFilter,
        page: &Page<HandlerRequestId>,
    ) -> Result<Vec<HandlerRequest>> {
        self.inner.list(filter, page).await
    }

    fn stream(&mut self, filter: &RequestFilter) -> HandlerRequestStream<'_> {
        self.inner.stream(filter)
    }

    async fn cancel(&mut self, _: HandlerRequestId) -> Result<()> {
        Err(unused())
    }

    async fn reexecute(&mut self, _: HandlerRequestId) -> Result<()> {
        Err(unused())
    }

    async fn reexecute_dead(&mut self, _: &RequestFilter, _: usize) -> Result<u64> {
        Err(unused())
    }

    async fn run_now(&mut self, _: HandlerRequestId) -> Result<()> {
        Err(unused())
    }

    async fn replay(&mut self, _: &Replay) -> Result<Replayed> {
        Err(unused())
    }
}

/// The requests that a transaction may have locked, until it ends: others pass over them.
pub(crate) struct Locks {
    world: World,
    ids: Vec<HandlerRequestId>,
}

impl Locks {
    pub(crate) fn new(world: &World) -> Self {
        Self {
            world: world.clone(),
            ids: Vec::new(),
        }
    }

    fn add(&mut self, id: HandlerRequestId) {
        *self.world.lock().locked.entry(id).or_default() += 1;
        self.ids.push(id);
    }
}

impl Drop for Locks {
    fn drop(&mut self) {
        let mut state = self.world.lock();
        let now = state.now;
        for id in self.ids.drain(..) {
            let left = state.locked.get_mut(&id).map(|count| {
                *count -= 1;
                *count
            });
            if left == Some(0) {
                state.locked.remove(&id);
            }
            state.unlocked_at.insert(id, now);
        }
    }
}

/// Of a call that nobody makes here, so that nothing would enter it in the ledger.
pub(crate) fn unused() -> StoreError {
    StoreError::invalid("a call", "is not simulated", "simulate it")
}
