//! The statements that end executions: settle, hand back, renew, rescue; and those of operators.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::scope::{Scope, Statement, Stop};
use crate::{
    clock::between,
    error::StoreError,
    id::{HandlerRequestId, LeaseOwner},
    model::{Backoff, HandlerRequest, Refusal, Rescue},
    store::{
        LockMode, Renewal, Renewed, RequestFilter, RescueLost, Rescued, RescuedRequest, Settled,
        Settlement,
    },
};

/// A transition that an operator asks for.
type Transition = fn(&mut HandlerRequest, DateTime<Utc>) -> Result<(), Refusal>;

impl Scope<'_> {
    pub(super) fn settle(&mut self, settlements: &[Settlement]) -> Statement<Vec<Settled>> {
        if !self.is_alone() {
            for settlement in settlements {
                self.lock_for(settlement)?;
            }
        }
        Ok(settlements
            .iter()
            .map(|settlement| self.settle_one(settlement))
            .collect())
    }

    fn lock_for(&mut self, settlement: &Settlement) -> Statement<()> {
        // A transaction waits, since its owner settles nothing else beside.
        let mode = if self.overlay.is_some() {
            LockMode::Wait
        } else {
            LockMode::SkipLocked
        };
        if !self.lock_request(settlement.id, mode)? {
            return Ok(());
        }
        if self.holds(settlement.id, settlement.owner, settlement.attempt) {
            settlement
                .raised
                .iter()
                .try_for_each(|event| self.reserve_event(event.id))?;
        }
        Ok(())
    }

    fn settle_one(&mut self, settlement: &Settlement) -> Settled {
        let Settlement {
            id,
            attempt,
            owner,
            outcome,
            executed,
            raised,
            batch: _,
        } = settlement;
        if let Some(skipped) = self.skipped(*id, *owner, *attempt) {
            return skipped;
        }
        let now = self.now;
        match self.update_request(*id, |request| {
            request.settle(now, *owner, *attempt, outcome, *executed)
        }) {
            Some(Ok(())) => {
                self.effects.settled = true;
                for event in raised {
                    self.insert_event(event);
                }
                Settled::Applied
            }
            _ => Settled::Fenced,
        }
    }

    /// The answer for a request that another transaction has locked.
    fn skipped(&self, id: HandlerRequestId, owner: LeaseOwner, attempt: u64) -> Option<Settled> {
        let is_locked = !self.state.locks.is_empty() && self.is_request_locked_elsewhere(id);
        is_locked.then(|| {
            if self.holds(id, owner, attempt) {
                Settled::Locked
            } else {
                Settled::Fenced
            }
        })
    }

    fn holds(&self, id: HandlerRequestId, owner: LeaseOwner, attempt: u64) -> bool {
        let request = self.request(id);
        request.is_some_and(|request| request.check_fence(owner, attempt).is_ok())
    }

    pub(super) fn hand_back(
        &mut self,
        owner: LeaseOwner,
        requests: &[(HandlerRequestId, u64)],
    ) -> Statement<Vec<Settled>> {
        for (id, _) in requests {
            self.lock_request(*id, LockMode::SkipLocked)?;
        }
        let hand_back = |(id, attempt): &(HandlerRequestId, u64)| {
            if let Some(skipped) = self.skipped(*id, owner, *attempt) {
                return skipped;
            }
            match self.update_request(*id, |request| request.hand_back(owner, *attempt)) {
                Some(Ok(())) => Settled::Applied,
                _ => Settled::Fenced,
            }
        };
        Ok(requests.iter().map(hand_back).collect())
    }

    /// Renews what is held and not locked, and answers what is lost, and what was skipped.
    pub(super) fn renew(&mut self, renewal: &Renewal) -> Renewed {
        let mut answer = Renewed::default();
        for &(id, attempt) in &renewal.requests {
            let now = self.now;
            if !self.holds(id, renewal.owner, attempt) {
                answer.lost.push((id, attempt));
            } else if self.is_request_locked_elsewhere(id) {
                answer.skipped.push((id, attempt));
            } else {
                self.update_request(id, |request| {
                    request.renew(now, renewal.owner, attempt, renewal.lease)
                });
            }
        }
        answer
    }

    pub(super) fn rescue(&mut self, rescue: &RescueLost) -> Statement<Rescued> {
        let mut rescued = Rescued::default();
        for id in self.expired(rescue.limit) {
            if self.lock_request(id, LockMode::SkipLocked)? {
                let taken = self.rescue_one(id, &rescue.backoff);
                rescued.requests.extend(taken);
            }
        }
        self.effects.settled |= !rescued.requests.is_empty();
        if rescued.requests.len() < rescue.limit {
            rescued.next_expiry = self.next_expiry();
        }
        Ok(rescued)
    }

    /// How long until the earliest lease runs out, also one whose row is locked.
    pub(super) fn next_expiry(&self) -> Option<Duration> {
        let free = self.state.requests.leased.iter().map(|(lease, _)| lease.0);
        let locked = self.state.locks.requests().filter_map(|id| {
            let lease = self.request(id)?.lease?;
            Some(lease.until)
        });
        let staged = self
            .overlay
            .iter()
            .flat_map(|overlay| overlay.requests.values())
            .filter_map(|staged| Some(staged.request.lease?.until));
        let earliest = free.take(1).chain(locked).chain(staged).min()?;
        Some(between(self.now, earliest))
    }

    /// Requests whose lease ran out, the longest ago first.
    fn expired(&self, limit: usize) -> Vec<HandlerRequestId> {
        let now = self.now;
        let committed = self
            .state
            .requests
            .leased
            .iter()
            .map(|(lease, _)| lease)
            .take_while(|(until, _)| *until <= now)
            .take(limit);
        let staged = self
            .overlay
            .iter()
            .flat_map(|overlay| overlay.requests.values())
            .map(|staged| &staged.request);
        let staged = staged
            .filter_map(|request| request.lease.map(|lease| (lease.until, request.id)))
            .filter(|(until, _)| *until <= now);
        let mut expired: Vec<_> = committed.chain(staged).collect();
        expired.sort_unstable();
        expired.truncate(limit);
        expired.into_iter().map(|(_, id)| id).collect()
    }

    fn rescue_one(&mut self, id: HandlerRequestId, backoff: &Backoff) -> Option<RescuedRequest> {
        let now = self.now;
        let rescued = self.update_request(id, |request| {
            let owner = request.lease.map(|lease| lease.owner);
            let rescue = request.rescue(now, backoff.after(request.errors.saturating_add(1)))?;
            Ok::<_, Refusal>(owner.map(|owner| rescued_request(request, owner, rescue)))
        })?;
        rescued.ok().flatten()
    }

    pub(super) fn cancel(&mut self, id: HandlerRequestId) -> Statement<()> {
        self.operate("cancel", id, HandlerRequest::cancel)
    }

    pub(super) fn reexecute(&mut self, id: HandlerRequestId) -> Statement<()> {
        self.operate("reexecute", id, HandlerRequest::reexecute)
    }

    pub(super) fn run_request_now(&mut self, id: HandlerRequestId) -> Statement<()> {
        let was_settled = self.effects.settled;
        self.operate("run now", id, HandlerRequest::run_now)?;
        self.effects.settled = was_settled;
        Ok(())
    }

    pub(super) fn reexecute_dead(
        &mut self,
        filter: &RequestFilter,
        limit: usize,
    ) -> Statement<u64> {
        let mut ids: Vec<_> = self
            .dead_requests(filter, None)
            .map(|view| view.request.id)
            .take(limit)
            .collect();
        for id in &ids {
            self.lock_request(*id, LockMode::Wait)?;
        }
        let now = self.now;
        ids.retain(|id| {
            matches!(
                self.update_request(*id, |request| request.reexecute(now)),
                Some(Ok(()))
            )
        });
        self.effects.settled |= !ids.is_empty();
        Ok(ids.len() as u64)
    }

    fn operate(
        &mut self,
        action: &'static str,
        id: HandlerRequestId,
        transition: Transition,
    ) -> Statement<()> {
        let refused = |state: String| {
            Err(Stop::Failed(StoreError::Refused {
                action,
                thing: format!("handler request {id}"),
                state,
            }))
        };
        if !self.lock_request(id, LockMode::Wait)? {
            return refused("not there".to_owned());
        }
        let now = self.now;
        match self.update_request(id, |request| transition(request, now)) {
            Some(Ok(())) => {
                self.effects.settled = true;
                Ok(())
            }
            Some(Err(Refusal::State(state))) => refused(state.to_string()),
            Some(Err(Refusal::Fenced)) => refused("in other hands".to_owned()),
            Some(Err(Refusal::Leased)) => refused("leased".to_owned()),
            None => refused("not there".to_owned()),
        }
    }
}

fn rescued_request(request: &HandlerRequest, owner: LeaseOwner, rescue: Rescue) -> RescuedRequest {
    RescuedRequest {
        id: request.id,
        event_id: request.event_id,
        event_name: request.event_name.clone(),
        handler: request.handler.clone(),
        owner,
        errors: request.errors,
        rescues: request.rescues,
        rescue,
    }
}
