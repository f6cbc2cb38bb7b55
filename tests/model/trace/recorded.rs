//! The ports of a recorder. What only reads rows in bulk is passed on unseen.

#![deny(clippy::missing_trait_methods)]

use std::time::Duration;

use async_trait::async_trait;
use tidings::{
    Event, EventId, HandlerRequest, HandlerRequestId, LeaseOwner, Name, Registration, Result,
    store::{
        AbsentHandler, Claim, ClaimedBatch, ClaimedEvent, EventClaim, EventFailure, EventFilter,
        EventRepository, EventStream, FanOut, FannedOut, HandlerRequestRepository,
        HandlerRequestStream, LeaseRenewer, LockMode, Page, Prune, Pruned, Raised, Registered,
        RegistrationRepository, Renamed, Renewal, Renewed, Replay, Replayed, RequestFilter,
        RescueLost, Rescued, Settled, Settlement, StoredEvent,
    },
};

use super::{
    call::{Answer, Asked, Leased, Settling, TakenBack},
    log::Log,
};

/// A port, and who calls it in which transaction.
pub(super) struct Recorded<P> {
    pub(super) inner: P,
    pub(super) log: Log,
    pub(super) from: (usize, Option<u32>),
}

/// Passes a call on and writes it down, as one that was answered in this way.
macro_rules! record {
    ($self:ident, $asked:expr, $call:expr, $answered:expr) => {{
        let (from, asked) = ($self.from, $asked);
        let call = $call;
        $self.log.call(from, asked, call, $answered).await
    }};
}

#[async_trait]
impl EventRepository for Recorded<Box<dyn EventRepository + '_>> {
    async fn raise(&mut self, events: &[Event]) -> Result<Vec<Raised>> {
        let asked = Asked::Raise(names(events));
        record!(self, asked, self.inner.raise(events), |raised| {
            Answer::Raised(raised.clone())
        })
    }

    async fn claim(&mut self, claim: &EventClaim) -> Result<Vec<ClaimedEvent>> {
        let asked = Asked::Other("a claim of events");
        record!(self, asked, self.inner.claim(claim), |_| Answer::Done)
    }

    async fn fan_out(&mut self, fan_out: &FanOut) -> Result<FannedOut> {
        let asked = Asked::FanOut(fan_out.offer.clone());
        record!(self, asked, self.inner.fan_out(fan_out), |it| {
            let processed = it.processed.iter();
            Answer::FannedOut {
                processed: processed.map(|event| (event.id, event.requests)).collect(),
                born: it.born_leased.iter().map(Leased::from).collect(),
            }
        })
    }

    async fn fail(&mut self, failures: &[EventFailure]) -> Result<()> {
        let asked = Asked::Other("a failure of events");
        record!(self, asked, self.inner.fail(failures), |()| Answer::Done)
    }

    async fn find(&mut self, id: EventId) -> Result<Option<StoredEvent>> {
        self.inner.find(id).await
    }

    async fn find_for_update(
        &mut self,
        id: EventId,
        lock: LockMode,
    ) -> Result<Option<StoredEvent>> {
        self.inner.find_for_update(id, lock).await
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

    async fn prune(&mut self, prune: &Prune) -> Result<Pruned> {
        let asked = Asked::Other("a prune");
        record!(self, asked, self.inner.prune(prune), |_| Answer::Done)
    }
}

#[async_trait]
impl HandlerRequestRepository for Recorded<Box<dyn HandlerRequestRepository + '_>> {
    async fn claim(&mut self, claim: &Claim) -> Result<ClaimedBatch> {
        let asked = claiming(claim, false);
        record!(self, asked, self.inner.claim(claim), claimed)
    }

    async fn claim_suspect(&mut self, claim: &Claim) -> Result<ClaimedBatch> {
        let asked = claiming(claim, true);
        record!(self, asked, self.inner.claim_suspect(claim), claimed)
    }

    async fn settle(&mut self, settlements: &[Settlement]) -> Result<Vec<Settled>> {
        let settling = settlements.iter().map(|settlement| Settling {
            id: settlement.id,
            owner: settlement.owner,
            attempt: settlement.attempt,
            outcome: settlement.outcome.clone(),
            raised: names(&settlement.raised),
        });
        let asked = Asked::Settle(settling.collect());
        record!(self, asked, self.inner.settle(settlements), |it| {
            Answer::Settled(it.clone())
        })
    }

    async fn hand_back(
        &mut self,
        owner: LeaseOwner,
        requests: &[(HandlerRequestId, u64)],
    ) -> Result<Vec<Settled>> {
        let asked = Asked::HandBack(owner, requests.to_vec());
        record!(self, asked, self.inner.hand_back(owner, requests), |it| {
            Answer::Settled(it.clone())
        })
    }

    async fn rescue(&mut self, rescue: &RescueLost) -> Result<Rescued> {
        let asked = Asked::Rescue {
            limit: rescue.limit,
            backoff: rescue.backoff,
        };
        record!(self, asked, self.inner.rescue(rescue), |it| {
            Answer::Rescued(it.requests.iter().map(TakenBack::from).collect())
        })
    }

    async fn find(&mut self, id: HandlerRequestId) -> Result<Option<HandlerRequest>> {
        let asked = Asked::Find { id, locked: false };
        record!(self, asked, self.inner.find(id), found)
    }

    async fn find_for_update(
        &mut self,
        id: HandlerRequestId,
        lock: LockMode,
    ) -> Result<Option<HandlerRequest>> {
        let asked = Asked::Find { id, locked: true };
        record!(self, asked, self.inner.find_for_update(id, lock), found)
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

    async fn cancel(&mut self, id: HandlerRequestId) -> Result<()> {
        record!(self, Asked::Cancel(id), self.inner.cancel(id), done)
    }

    async fn reexecute(&mut self, id: HandlerRequestId) -> Result<()> {
        record!(self, Asked::Reexecute(id), self.inner.reexecute(id), done)
    }

    async fn reexecute_dead(&mut self, filter: &RequestFilter, limit: usize) -> Result<u64> {
        let asked = Asked::Other("a reexecution of the dead");
        let call = self.inner.reexecute_dead(filter, limit);
        record!(self, asked, call, |_| Answer::Done)
    }

    async fn run_now(&mut self, id: HandlerRequestId) -> Result<()> {
        record!(self, Asked::RunNow(id), self.inner.run_now(id), done)
    }

    async fn replay(&mut self, replay: &Replay) -> Result<Replayed> {
        let asked = Asked::Other("a replay");
        record!(self, asked, self.inner.replay(replay), |_| Answer::Done)
    }
}

#[async_trait]
impl RegistrationRepository for Recorded<Box<dyn RegistrationRepository + '_>> {
    async fn register(&mut self, registrations: &[Registration]) -> Result<Registered> {
        let asked = Asked::Register(registrations.to_vec());
        let call = self.inner.register(registrations);
        record!(self, asked, call, |_| Answer::Done)
    }

    async fn touch(&mut self, handlers: &[Name]) -> Result<()> {
        self.inner.touch(handlers).await
    }

    async fn all(&mut self) -> Result<Vec<Registration>> {
        self.inner.all().await
    }

    async fn retire(&mut self, handler: &Name) -> Result<u64> {
        let asked = Asked::Other("a retirement");
        record!(self, asked, self.inner.retire(handler), |_| Answer::Done)
    }

    async fn rename(&mut self, from: &Name, to: &Name) -> Result<u64> {
        let asked = Asked::Other("a rename");
        record!(self, asked, self.inner.rename(from, to), |_| Answer::Done)
    }

    async fn rename_requests(&mut self, from: &Name, limit: usize) -> Result<Renamed> {
        let asked = Asked::Other("a rename of requests");
        let call = self.inner.rename_requests(from, limit);
        record!(self, asked, call, |_| Answer::Done)
    }

    async fn absent(&mut self, longer_than: Duration) -> Result<Vec<AbsentHandler>> {
        self.inner.absent(longer_than).await
    }
}

#[async_trait]
impl LeaseRenewer for Recorded<Box<dyn LeaseRenewer>> {
    async fn renew(&mut self, renewal: &Renewal) -> Result<Renewed> {
        let asked = Asked::Renew(renewal.clone());
        record!(self, asked, self.inner.renew(renewal), |it| {
            Answer::Renewed(it.clone())
        })
    }
}

fn names(events: &[Event]) -> Vec<(EventId, Name)> {
    let names = events.iter().map(|event| (event.id, event.name.clone()));
    names.collect()
}

fn claiming(claim: &Claim, suspects: bool) -> Asked {
    let claim = claim.clone();
    Asked::Claim { claim, suspects }
}

fn claimed(batch: &ClaimedBatch) -> Answer {
    Answer::Claimed(batch.requests.iter().map(Leased::from).collect())
}

fn found(found: &Option<HandlerRequest>) -> Answer {
    Answer::Found(found.clone().map(Box::new))
}

fn done((): &()) -> Answer {
    Answer::Done
}
