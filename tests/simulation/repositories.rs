//! The repositories of a session: each call is carried out by the store as one piece, and entered in
//! the ledger at that moment.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use tidings::{
    Event, EventId, HandlerRequest, HandlerRequestId, LeaseOwner, Name, Registration, Result,
    store::{
        AbsentHandler, Claim, ClaimedBatch, ClaimedEvent, EventClaim, EventFailure, EventFilter,
        EventRepository, EventStream, FanOut, FannedOut, HandlerRequestRepository,
        HandlerRequestStream, LockMode, Page, Prune, Pruned, Raised, Registered,
        RegistrationRepository, Renamed, Replay, Replayed, RequestFilter, RescueLost, Rescued,
        Settled, Settlement, StoredEvent, Storer,
    },
};

use crate::{
    calls::Caller,
    history::{Effect, What},
    ledger::named,
    state::State,
    storer::note_claims,
    transaction::unused,
};

pub(crate) struct Events<'c>(pub(crate) &'c Caller);
pub(crate) struct Requests<'c>(pub(crate) &'c Caller);
pub(crate) struct Registrations<'c>(pub(crate) &'c Caller);

#[async_trait]
impl EventRepository for Events<'_> {
    async fn raise(&mut self, events: &[Event]) -> Result<Vec<Raised>> {
        let (caller, events) = (self.0.clone(), events.to_vec());
        self.0
            .call("raise", move || {
                Box::pin(async move {
                    let raised = caller.world.server().raise(&events).await?;
                    let new = named(&events).into_iter().zip(&raised);
                    let new = new.filter(|(_, raised)| **raised == Raised::New);
                    let new: Vec<_> = new.map(|(event, _)| event).collect();
                    let ids = new.iter().map(|(id, _)| *id).collect();
                    caller.world.with(|state| {
                        state.raised(new.iter().map(|(id, name)| (*id, name)));
                        state.log(Some(caller.process), What::Took(Effect::Raised(ids)));
                    });
                    caller.world.wake(caller.process, true);
                    Ok(raised)
                })
            })
            .await
    }

    async fn claim(&mut self, claim: &EventClaim) -> Result<Vec<ClaimedEvent>> {
        let (caller, claim) = (self.0.clone(), claim.clone());
        self.0
            .call("claim events", move || {
                Box::pin(async move {
                    let mut session = caller.world.store.session().await?;
                    session.events().claim(&claim).await
                })
            })
            .await
    }

    async fn fan_out(&mut self, fan_out: &FanOut) -> Result<FannedOut> {
        let sent = self.0.world.lock().now;
        let (caller, asked) = (self.0.clone(), fan_out.clone());
        let fanned_out = self
            .0
            .call("fan out", move || {
                Box::pin(async move {
                    let fanned_out = caller.world.server().fan_out(&asked).await?;
                    let is_any = !fanned_out.processed.is_empty();
                    if is_any {
                        let process = caller.process;
                        let enter =
                            |state: &mut State| state.fanned_out(process, &asked, &fanned_out);
                        caller.world.with(enter);
                        caller.world.wake(caller.process, false);
                    }
                    Ok(fanned_out)
                })
            })
            .await?;
        if let Some(offer) = &fan_out.offer {
            note_claims(self.0, sent, offer.lease, &fanned_out.born_leased);
        }
        Ok(fanned_out)
    }

    async fn fail(&mut self, failures: &[EventFailure]) -> Result<()> {
        let (caller, failures) = (self.0.clone(), failures.to_vec());
        self.0
            .call("fail events", move || {
                Box::pin(async move {
                    let mut session = caller.world.store.session().await?;
                    session.events().fail(&failures).await
                })
            })
            .await
    }

    async fn find(&mut self, id: EventId) -> Result<Option<StoredEvent>> {
        let mut session = self.0.world.store.session().await?;
        session.events().find(id).await
    }

    async fn find_for_update(&mut self, _: EventId, _: LockMode) -> Result<Option<StoredEvent>> {
        Err(unused())
    }

    async fn count_unprocessed(&mut self) -> Result<u64> {
        let mut session = self.0.world.store.session().await?;
        session.events().count_unprocessed().await
    }

    async fn oldest_unprocessed(&mut self) -> Result<Option<StoredEvent>> {
        let mut session = self.0.world.store.session().await?;
        session.events().oldest_unprocessed().await
    }

    async fn count(&mut self, filter: &EventFilter) -> Result<u64> {
        let mut session = self.0.world.store.session().await?;
        session.events().count(filter).await
    }

    async fn list(
        &mut self,
        filter: &EventFilter,
        page: &Page<EventId>,
    ) -> Result<Vec<StoredEvent>> {
        let mut session = self.0.world.store.session().await?;
        session.events().list(filter, page).await
    }

    fn stream(&mut self, _: &EventFilter) -> EventStream<'_> {
        stream::once(async { Err(unused()) }).boxed()
    }

    async fn prune(&mut self, prune: &Prune) -> Result<Pruned> {
        let (caller, prune) = (self.0.clone(), *prune);
        self.0
            .call("prune", move || {
                Box::pin(async move { caller.world.prune(&prune).await })
            })
            .await
    }
}

#[async_trait]
impl HandlerRequestRepository for Requests<'_> {
    async fn claim(&mut self, claim: &Claim) -> Result<ClaimedBatch> {
        self.claim_either(claim, false).await
    }

    async fn claim_suspect(&mut self, claim: &Claim) -> Result<ClaimedBatch> {
        self.claim_either(claim, true).await
    }

    async fn settle(&mut self, settlements: &[Settlement]) -> Result<Vec<Settled>> {
        let (caller, settlements) = (self.0.clone(), settlements.to_vec());
        self.0
            .call("settle", move || {
                Box::pin(async move {
                    let results = caller.world.server().settle(&settlements).await?;
                    caller.world.with(|state| {
                        let at = state.now;
                        state.settled(caller.process, &settlements, &results, at);
                    });
                    if caller.world.server().repeats() {
                        repeat(caller.clone(), settlements.clone());
                    }
                    let raised = settlements.iter().any(|one| !one.raised.is_empty());
                    caller.world.wake(caller.process, raised);
                    Ok(results)
                })
            })
            .await
    }

    async fn hand_back(
        &mut self,
        owner: LeaseOwner,
        requests: &[(HandlerRequestId, u64)],
    ) -> Result<Vec<Settled>> {
        let (caller, requests) = (self.0.clone(), requests.to_vec());
        self.0
            .call("hand back", move || {
                Box::pin(async move {
                    let results = caller.world.server().hand_back(owner, &requests).await?;
                    caller.world.with(|state| {
                        state.handed_back(caller.process, owner, &requests, &results);
                    });
                    caller.world.wake(caller.process, false);
                    Ok(results)
                })
            })
            .await
    }

    async fn rescue(&mut self, rescue: &RescueLost) -> Result<Rescued> {
        let (caller, rescue) = (self.0.clone(), rescue.clone());
        self.0
            .call("rescue", move || {
                Box::pin(async move {
                    let rescued = caller.world.server().rescue(&rescue).await?;
                    if rescued.requests.is_empty() {
                        return Ok(rescued);
                    }
                    let mut session = caller.world.store.session().await?;
                    let mut requests = session.handler_requests();
                    let mut backoffs = Vec::new();
                    for request in &rescued.requests {
                        let row = requests.find(request.id).await?;
                        backoffs.push(row.and_then(|row| row.backoff_until));
                    }
                    let process = caller.process;
                    let enter = |state: &mut State| state.rescued(process, &rescued, &backoffs);
                    caller.world.with(enter);
                    caller.world.wake(caller.process, false);
                    Ok(rescued)
                })
            })
            .await
    }

    async fn find(&mut self, id: HandlerRequestId) -> Result<Option<HandlerRequest>> {
        let caller = self.0.clone();
        self.0
            .call("find", move || {
                Box::pin(async move {
                    let mut session = caller.world.store.session().await?;
                    session.handler_requests().find(id).await
                })
            })
            .await
    }

    async fn find_for_update(
        &mut self,
        _: HandlerRequestId,
        _: LockMode,
    ) -> Result<Option<HandlerRequest>> {
        Err(unused())
    }

    async fn of_event(&mut self, event: EventId) -> Result<Vec<HandlerRequest>> {
        let mut session = self.0.world.store.session().await?;
        session.handler_requests().of_event(event).await
    }

    async fn count_unexecuted(&mut self) -> Result<u64> {
        let mut session = self.0.world.store.session().await?;
        session.handler_requests().count_unexecuted().await
    }

    async fn oldest_unexecuted(&mut self) -> Result<Option<HandlerRequest>> {
        let mut session = self.0.world.store.session().await?;
        session.handler_requests().oldest_unexecuted().await
    }

    async fn count_dead(&mut self) -> Result<u64> {
        let mut session = self.0.world.store.session().await?;
        session.handler_requests().count_dead().await
    }

    async fn dead(
        &mut self,
        filter: &RequestFilter,
        page: &Page<HandlerRequestId>,
    ) -> Result<Vec<HandlerRequest>> {
        let mut session = self.0.world.store.session().await?;
        session.handler_requests().dead(filter, page).await
    }

    async fn dead_event_names(&mut self) -> Result<Vec<Name>> {
        let mut session = self.0.world.store.session().await?;
        session.handler_requests().dead_event_names().await
    }

    async fn dead_handler_names(&mut self) -> Result<Vec<Name>> {
        let mut session = self.0.world.store.session().await?;
        session.handler_requests().dead_handler_names().await
    }

    async fn count(&mut self, filter: &RequestFilter) -> Result<u64> {
        let mut session = self.0.world.store.session().await?;
        session.handler_requests().count(filter).await
    }

    async fn list(
        &mut self,
        filter: &RequestFilter,
        page: &Page<HandlerRequestId>,
    ) -> Result<Vec<HandlerRequest>> {
        let mut session = self.0.world.store.session().await?;
        session.handler_requests().list(filter, page).await
    }

    fn stream(&mut self, _: &RequestFilter) -> HandlerRequestStream<'_> {
        stream::once(async { Err(unused()) }).boxed()
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

impl Requests<'_> {
    async fn claim_either(&self, claim: &Claim, suspects: bool) -> Result<ClaimedBatch> {
        let sent = self.0.world.lock().now;
        let (caller, asked) = (self.0.clone(), Arc::new(claim.clone()));
        let operation = if suspects { "claim a suspect" } else { "claim" };
        let batch = self
            .0
            .call(operation, move || {
                Box::pin(async move {
                    let batch = caller.world.server().claim(&asked, suspects).await?;
                    caller.world.with(|state| {
                        state.claimed(caller.process, &asked, &batch, suspects);
                    });
                    Ok(batch)
                })
            })
            .await?;
        note_claims(self.0, sent, claim.lease, &batch.requests);
        Ok(batch)
    }
}

/// A while later the broken store carries settlements out once more, as if nobody had had the answer.
fn repeat(caller: Caller, settlements: Vec<Settlement>) {
    tokio::spawn(async move {
        let pause = caller.world.lock().lease / 3;
        tokio::time::sleep(pause).await;
        if let Ok(results) = caller.world.server().settle_whatever(&settlements).await {
            caller.world.with(|state| {
                let at = state.now;
                state.settled(caller.process, &settlements, &results, at);
            });
        }
    });
}

#[async_trait]
impl RegistrationRepository for Registrations<'_> {
    async fn register(&mut self, registrations: &[Registration]) -> Result<Registered> {
        let (caller, registrations) = (self.0.clone(), registrations.to_vec());
        self.0
            .call("register", move || {
                Box::pin(async move {
                    let mut session = caller.world.store.session().await?;
                    session.registrations().register(&registrations).await
                })
            })
            .await
    }

    async fn touch(&mut self, handlers: &[Name]) -> Result<()> {
        let mut session = self.0.world.store.session().await?;
        session.registrations().touch(handlers).await
    }

    async fn all(&mut self) -> Result<Vec<Registration>> {
        let mut session = self.0.world.store.session().await?;
        session.registrations().all().await
    }

    async fn retire(&mut self, _: &Name) -> Result<u64> {
        Err(unused())
    }

    async fn rename(&mut self, _: &Name, _: &Name) -> Result<u64> {
        Err(unused())
    }

    async fn rename_requests(&mut self, from: &Name, limit: usize) -> Result<Renamed> {
        let mut session = self.0.world.store.session().await?;
        session.registrations().rename_requests(from, limit).await
    }

    async fn absent(&mut self, longer_than: Duration) -> Result<Vec<AbsentHandler>> {
        let mut session = self.0.world.store.session().await?;
        session.registrations().absent(longer_than).await
    }
}
