//! The store's end of a call, and stores that are broken there, each in one way, so that the checker can
//! show that it sees it.

use tidings::{
    Event, LeaseOwner, Outcome, Result,
    store::{
        Claim, ClaimedBatch, FanOut, FannedOut, Raised, Renewal, Renewed, RescueLost, Rescued,
        Settled, Settlement, Storer,
    },
};

use crate::{history::Claimed, world::World};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breakage {
    None,
    /// Settlements take effect whoever has the request.
    IgnoresTheFence,
    /// It says that a request has completed, and stores nothing.
    CompletesWithoutStoring,
    /// It says that it has stored an event, and has not.
    LosesEvents,
    /// It gives one claim to two processes.
    ClaimsTwice,
    /// When the answer to settlements was lost, it carries them out again, a while later.
    RepeatsSettlements,
    /// It claims the worst first.
    ClaimsTheWorst,
    /// What is handed back counts an error.
    CountsHandBacks,
    /// It says that it has renewed leases, and has not.
    ForgetsRenewals,
    /// It finds nothing to rescue.
    RescuesNothing,
    /// It rescues only in every other quarter of a minute.
    RescuesLate,
    /// It stores at once what is raised in a transaction.
    StoresBeforeCommits,
    /// It refuses settlements now and then although the fence holds.
    RefusesSettlements,
}

pub(crate) struct Server<'w>(pub(crate) &'w World);

impl Server<'_> {
    fn is(&self, breakage: Breakage) -> bool {
        self.0.breakage == breakage
    }

    /// Answers true now and then, by what is in the history.
    fn now_and_then(&self) -> bool {
        self.0.lock().history.len().is_multiple_of(3)
    }

    pub(crate) fn stores_at_once(&self) -> bool {
        self.is(Breakage::StoresBeforeCommits)
    }

    pub(crate) async fn raise(&self, events: &[Event]) -> Result<Vec<Raised>> {
        if self.is(Breakage::LosesEvents) && self.now_and_then() {
            return Ok(vec![Raised::New; events.len()]);
        }
        self.0.store.session().await?.events().raise(events).await
    }

    pub(crate) async fn fan_out(&self, fan_out: &FanOut) -> Result<FannedOut> {
        let mut session = self.0.store.session().await?;
        session.events().fan_out(fan_out).await
    }

    pub(crate) async fn claim(&self, claim: &Claim, suspects: bool) -> Result<ClaimedBatch> {
        let mut session = self.0.store.session().await?;
        let mut requests = session.handler_requests();
        if suspects {
            return requests.claim_suspect(claim).await;
        }
        let mut claim = claim.clone();
        let limit = claim.limit;
        if self.is(Breakage::ClaimsTheWorst) {
            claim.limit = 1000;
        }
        let mut batch = requests.claim(&claim).await?;
        if self.is(Breakage::ClaimsTheWorst) {
            batch.requests.reverse();
            batch.requests.truncate(limit);
        }
        if self.is(Breakage::ClaimsTwice) {
            let mut given = self.0.given.lock();
            if batch.requests.is_empty()
                && let Some(again) = given.take()
                && claim
                    .handlers
                    .iter()
                    .any(|room| room.handler == again.handler)
            {
                batch.requests.push(again);
            } else if let Some(first) = batch.requests.first() {
                *given = Some(first.clone());
            }
        }
        Ok(batch)
    }

    pub(crate) async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Settled>> {
        let mut session = self.0.store.session().await?;
        if self.is(Breakage::RefusesSettlements) && self.now_and_then() {
            return Ok(vec![Settled::Fenced; settlements.len()]);
        }
        if self.is(Breakage::CompletesWithoutStoring)
            && settlements
                .iter()
                .all(|one| one.outcome == Outcome::Completed)
        {
            return Ok(vec![Settled::Applied; settlements.len()]);
        }
        if self.is(Breakage::IgnoresTheFence) {
            return self.settle_whatever(settlements).await;
        }
        session.handler_requests().settle(settlements).await
    }

    /// Settles in the name of whoever has the requests now.
    pub(crate) async fn settle_whatever(&self, settlements: &[Settlement]) -> Result<Vec<Settled>> {
        let mut session = self.0.store.session().await?;
        let mut requests = session.handler_requests();
        let mut settlements = settlements.to_vec();
        for settlement in &mut settlements {
            let row = requests.find(settlement.id).await?;
            if let Some((row, lease)) = row.and_then(|row| row.lease.map(|lease| (row, lease))) {
                settlement.attempt = row.attempt;
                settlement.owner = lease.owner;
            }
        }
        requests.settle(&settlements).await
    }

    pub(crate) async fn hand_back(
        &self,
        owner: LeaseOwner,
        claims: &[Claimed],
    ) -> Result<Vec<Settled>> {
        let mut session = self.0.store.session().await?;
        let mut requests = session.handler_requests();
        if self.is(Breakage::CountsHandBacks) {
            let failed = |(id, attempt): &Claimed| {
                let outcome = Outcome::Failed {
                    error: "handed back".to_owned(),
                    backoff: std::time::Duration::ZERO,
                };
                Settlement::new(*id, *attempt, owner, outcome)
            };
            let settlements: Vec<_> = claims.iter().map(failed).collect();
            return requests.settle(&settlements).await;
        }
        requests.hand_back(owner, claims).await
    }

    pub(crate) async fn renew(&self, renewal: &Renewal) -> Result<Renewed> {
        if self.is(Breakage::ForgetsRenewals) {
            return Ok(Renewed::default());
        }
        let mut renewer = self.0.store.lease_renewer().await?;
        renewer.renew(renewal).await
    }

    pub(crate) async fn rescue(&self, rescue: &RescueLost) -> Result<Rescued> {
        let rests = self.is(Breakage::RescuesLate) && self.0.lock().at().as_secs() % 30 < 15;
        if rests || self.is(Breakage::RescuesNothing) {
            return Ok(Rescued::default());
        }
        let mut session = self.0.store.session().await?;
        session.handler_requests().rescue(rescue).await
    }

    /// Whether settlements whose answer is lost are carried out again.
    pub(crate) fn repeats(&self) -> bool {
        self.is(Breakage::RepeatsSettlements)
    }
}
