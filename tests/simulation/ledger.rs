//! What every call that took effect must have found, and what it must have left: the requests as they
//! should be, changed by the pure transitions alone.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tidings::{
    Event, EventId, HandlerRequest, HandlerRequestId, LeaseOwner, Name, Outcome, Refusal, Rescue,
    store::{
        Claim, ClaimedBatch, ClaimedRequest, FanOut, FannedOut, Renewal, Renewed, Rescued, Settled,
        Settlement,
    },
};

use crate::{
    history::{Claimed, Effect, Short, What, shorts},
    plan::Kind,
    state::{End, Entry, EventEntry, LastEnd, State},
    verdict::Wrong,
};

impl State {
    /// Changes a request as the store says that it did, and keeps books.
    pub(crate) fn change<T>(
        &mut self,
        id: HandlerRequestId,
        at: DateTime<Utc>,
        transition: impl FnOnce(&mut HandlerRequest) -> Result<T, Refusal>,
    ) -> Option<Result<T, Refusal>> {
        let entry = self.requests.get_mut(&id)?;
        let owner = entry.row.lease.map(|lease| lease.owner);
        let result = transition(&mut entry.row);
        let row = &entry.row;
        entry.due_at = (row.lease.is_none() && !row.state(at).is_end())
            .then(|| row.backoff_until.unwrap_or(at).max(at));
        let new_owner = row.lease.map(|lease| lease.owner);
        if new_owner != owner {
            entry.leased_at = at;
            let now = self.now;
            for (owner, held) in [(owner, false), (new_owner, true)] {
                let Some(process) = owner.and_then(|owner| self.owners.get(&owner)) else {
                    continue;
                };
                let process = &mut self.processes[*process];
                if held {
                    process.held += 1;
                } else {
                    process.held = process.held.saturating_sub(1);
                    process.emptied_at = now;
                }
            }
        }
        Some(result)
    }

    pub(crate) fn raised<'e>(&mut self, events: impl IntoIterator<Item = (EventId, &'e Name)>) {
        let now = self.now;
        for (id, name) in events {
            let entry = EventEntry {
                name: name.clone(),
                committed_at: now,
                processed: false,
            };
            if self.events.insert(id, entry).is_some() {
                self.object(Wrong::Duplicated, format!("event {id} was stored twice"));
            }
        }
    }

    pub(crate) fn fanned_out(&mut self, process: usize, asked: &FanOut, fanned_out: &FannedOut) {
        let now = self.now;
        for event in &fanned_out.processed {
            let Some(known) = self.events.get_mut(&event.id) else {
                let detail = format!("event {} was fanned out", event.id);
                self.object(Wrong::RolledBackYetSeen, detail);
                continue;
            };
            if std::mem::replace(&mut known.processed, true) {
                let detail = format!("event {} was fanned out again", event.id);
                self.object(Wrong::Duplicated, detail);
                continue;
            }
            let (name, committed_at) = (known.name.clone(), known.committed_at);
            let made = self.make_requests(event.id, &name, |_| true);
            if made != event.requests {
                let detail = format!(
                    "event {} got {} requests, not {made}",
                    event.id, event.requests
                );
                self.object(Wrong::Lost, detail);
            }
            if !self.any_hooks {
                self.check_prompt(committed_at, None, "an event was fanned out");
            }
        }
        if let Some(offer) = &asked.offer {
            self.own(process, offer.owner);
            for request in &fanned_out.born_leased {
                self.given(request, offer.owner, offer.lease, now);
            }
        }
        let events = fanned_out.processed.iter().map(|event| event.id).collect();
        let born = short_claims(&fanned_out.born_leased);
        self.log(Some(process), What::Took(Effect::FannedOut(events, born)));
    }

    /// Makes the requests that an event should have; answers how many.
    pub(crate) fn make_requests(
        &mut self,
        event: EventId,
        name: &Name,
        is_missing: impl Fn(HandlerRequestId) -> bool,
    ) -> usize {
        let mut made = 0;
        for (number, wanted) in self.wanted.iter().enumerate() {
            if !wanted.pattern.matches(name) {
                continue;
            }
            let row = HandlerRequest::new(
                event,
                name.clone(),
                wanted.handler.clone(),
                wanted.priority,
                wanted.max_errors,
                self.now,
            );
            if !is_missing(row.id) {
                continue;
            }
            made += 1;
            let entry = Entry {
                handler: number,
                last_end: LastEnd::None,
                due_at: Some(self.now),
                leased_at: self.now,
                row,
            };
            self.requests.insert(entry.row.id, entry);
        }
        made
    }

    pub(crate) fn own(&mut self, process: usize, owner: LeaseOwner) {
        self.owners.entry(owner).or_insert(process);
    }

    pub(crate) fn claimed(
        &mut self,
        process: usize,
        claim: &Claim,
        batch: &ClaimedBatch,
        suspects: bool,
    ) {
        self.own(process, claim.owner);
        let order: Vec<_> = batch
            .requests
            .iter()
            .map(|request| (request.priority, request.id))
            .collect();
        if !order.is_sorted() {
            self.object(Wrong::Reordered, format!("a claim answered {order:?}"));
        }
        self.check_best(claim, &batch.requests, suspects);
        for request in &batch.requests {
            let now = self.now;
            let due_at = self
                .requests
                .get(&request.id)
                .and_then(|entry| entry.due_at);
            if let Some(due_at) = due_at {
                self.check_prompt(due_at, Some(request.id), "a request was claimed");
            }
            self.given(request, claim.owner, claim.lease, now);
        }
        if !batch.requests.is_empty() {
            let claims = short_claims(&batch.requests);
            self.log(Some(process), What::Took(Effect::Claimed(claims)));
        }
    }

    /// Somebody got a request.
    fn given(
        &mut self,
        request: &ClaimedRequest,
        owner: LeaseOwner,
        lease: Duration,
        now: DateTime<Utc>,
    ) {
        let id = request.id;
        let Some(result) = self.change(id, now, |row| row.claim(now, owner, lease)) else {
            let detail = format!("{:?} was given, which is not there", Short(id));
            self.object(Wrong::RolledBackYetSeen, detail);
            return;
        };
        let row = &self.requests[&id].row;
        let attempt = row.attempt;
        if let Err(refusal) = result {
            let detail = format!("{:?} was given: {refusal:?}", Short(id));
            self.object(Wrong::GivenTwice, detail);
        } else if request.attempt != attempt {
            let detail = format!(
                "{:?}: attempt {} after {attempt}",
                Short(id),
                request.attempt
            );
            self.object(Wrong::Reordered, detail);
        }
    }

    pub(crate) fn settled(
        &mut self,
        process: usize,
        settlements: &[Settlement],
        results: &[Settled],
        at: DateTime<Utc>,
    ) {
        for (settlement, result) in settlements.iter().zip(results) {
            self.settled_one(settlement, *result, at);
        }
        let settled = settlements.iter().zip(results);
        let settled = settled.map(|(settlement, result)| {
            let outcome = outcome_text(&settlement.outcome);
            (Short(settlement.id), settlement.attempt, outcome, *result)
        });
        let effect = Effect::Settled(settled.collect());
        self.log(Some(process), What::Took(effect));
    }

    fn settled_one(&mut self, settlement: &Settlement, result: Settled, at: DateTime<Utc>) {
        let (id, attempt) = (settlement.id, settlement.attempt);
        let Some(entry) = self.requests.get(&id) else {
            if result == Settled::Applied {
                let detail = format!("{:?} is gone", Short(id));
                self.object(Wrong::StaleSettlement, detail);
            }
            return;
        };
        let holds = entry.row.check_fence(settlement.owner, attempt).is_ok();
        match result {
            Settled::Applied if !holds => {
                let detail = format!(
                    "{:?} attempt {attempt}, while it was at {} with {:?}",
                    Short(id),
                    entry.row.attempt,
                    entry.row.lease
                );
                self.object(Wrong::StaleSettlement, detail);
            }
            Settled::Applied => {
                self.check_outcome(settlement);
                let applied = self.change(id, at, |row| {
                    let (owner, outcome) = (settlement.owner, &settlement.outcome);
                    row.settle(at, owner, attempt, outcome, settlement.executed)
                });
                debug_assert!(matches!(applied, Some(Ok(()))));
                if let Some(entry) = self.requests.get_mut(&id) {
                    entry.last_end = LastEnd::Retried;
                }
                let raised = &settlement.raised;
                self.raised(raised.iter().map(|event| (event.id, &event.name)));
            }
            Settled::Fenced if holds => {
                let detail = format!("{:?} attempt {attempt}", Short(id));
                self.object(Wrong::RefusedSettlement, detail);
            }
            _ => {}
        }
    }

    pub(crate) fn handed_back(
        &mut self,
        process: usize,
        owner: LeaseOwner,
        claims: &[Claimed],
        results: &[Settled],
    ) {
        let now = self.now;
        for ((id, attempt), result) in claims.iter().zip(results) {
            if *result == Settled::Locked {
                continue;
            }
            let ended_by_itself = self.runs.get(&(*id, *attempt)).and_then(|runs| runs.last());
            let end = ended_by_itself.map(|run| run.end);
            let entry = self.requests.get(id).map(|entry| entry.handler);
            let is_ordinary =
                entry.is_some_and(|handler| self.wanted[handler].kind == Kind::Ordinary);
            let ran = match end {
                None | Some(Some(End::Dropped(_) | End::Stopped)) => false,
                Some(None) => true,
                Some(Some(_)) => is_ordinary,
            };
            let handed_back = self.change(*id, now, |row| row.hand_back(owner, *attempt));
            let applied = *result == Settled::Applied;
            if applied != matches!(handed_back, Some(Ok(()))) {
                let detail = format!("{:?} attempt {attempt} was handed back", Short(*id));
                let wrong = if applied {
                    Wrong::StaleSettlement
                } else {
                    Wrong::RefusedSettlement
                };
                self.object(wrong, detail);
            } else if applied {
                if ran {
                    let detail = format!("{:?} ran, and was handed back: {end:?}", Short(*id));
                    self.object(Wrong::OtherOutcome, detail);
                }
                if let Some(entry) = self.requests.get_mut(id) {
                    entry.last_end = LastEnd::HandedBack;
                }
            }
        }
        let handed_back = claims.iter().zip(results);
        let handed_back =
            handed_back.map(|((id, attempt), result)| (Short(*id), *attempt, *result));
        let effect = Effect::HandedBack(handed_back.collect());
        self.log(Some(process), What::Took(effect));
    }

    pub(crate) fn renewed(&mut self, process: usize, renewal: &Renewal, renewed: &Renewed) {
        let now = self.now;
        for claim in &renewal.requests {
            let (id, attempt) = *claim;
            if renewed.skipped.contains(claim) {
                self.disturb(process, Duration::ZERO, "a lock");
                continue;
            }
            let result = self.change(id, now, |row| {
                row.renew(now, renewal.owner, attempt, renewal.lease)
            });
            let holds = matches!(result, Some(Ok(())));
            if holds == renewed.lost.contains(claim) {
                let detail = format!("a renewal of {:?} attempt {attempt}", Short(id));
                let wrong = if holds {
                    Wrong::RefusedSettlement
                } else {
                    Wrong::StaleSettlement
                };
                self.object(wrong, detail);
            }
        }
        let effect = Effect::Renewed(shorts(&renewal.requests));
        self.log(Some(process), What::Took(effect));
    }

    /// `backoffs` are those of the store, which are random.
    pub(crate) fn rescued(
        &mut self,
        process: usize,
        rescued: &Rescued,
        backoffs: &[Option<DateTime<Utc>>],
    ) {
        let now = self.now;
        for (request, backoff_until) in rescued.requests.iter().zip(backoffs) {
            let id = request.id;
            let Some(lease) = self.requests.get(&id).and_then(|entry| entry.row.lease) else {
                let detail = format!("{:?} was rescued without a lease", Short(id));
                self.object(Wrong::GivenTwice, detail);
                continue;
            };
            self.check_rescue_in_time(id, lease.until);
            let reason = self.why_lost(id, request.owner, lease.until);
            let transition = self.change(id, now, |row| {
                let rescue = row.rescue(now, Duration::ZERO);
                if rescue == Ok(Rescue::BackedOff) {
                    row.backoff_until = *backoff_until;
                }
                rescue
            });
            if !matches!(transition, Some(Ok(rescue)) if rescue == request.rescue) {
                let detail = format!("{:?} was rescued: {transition:?}", Short(id));
                self.object(Wrong::GivenTwice, detail);
            }
            if let Some(entry) = self.requests.get_mut(&id) {
                entry.last_end = LastEnd::Rescued(reason);
            }
        }
        if !rescued.requests.is_empty() {
            let ids = rescued.requests.iter().map(|request| Short(request.id));
            let effect = Effect::Rescued(ids.collect());
            self.log(Some(process), What::Took(effect));
        }
    }

    /// An operator changed a request.
    pub(crate) fn operated(
        &mut self,
        id: HandlerRequestId,
        what: &'static str,
        transition: impl FnOnce(&mut HandlerRequest) -> Result<(), Refusal>,
        answer: bool,
    ) {
        let now = self.now;
        let result = self.change(id, now, transition);
        if matches!(result, Some(Ok(()))) != answer {
            let detail = format!("{what} of {:?} answered {answer}: {result:?}", Short(id));
            self.object(Wrong::RowDiffers, detail);
        }
        if let Some(entry) = self.requests.get_mut(&id).filter(|_| answer) {
            entry.last_end = LastEnd::Operator;
            let state = entry.row.state(now);
            self.log(None, What::Took(Effect::Became(Short(id), state)));
        }
    }
}

/// What a handler raised, for the ledger.
pub(crate) fn named(events: &[Event]) -> Vec<(EventId, Name)> {
    events
        .iter()
        .map(|event| (event.id, event.name.clone()))
        .collect()
}

fn short_claims(requests: &[ClaimedRequest]) -> Vec<(Short, u64)> {
    requests
        .iter()
        .map(|request| (Short(request.id), request.attempt))
        .collect()
}

const fn outcome_text(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Completed => "completed",
        Outcome::Failed { .. } => "failed",
        Outcome::Discarded { .. } => "discarded",
        Outcome::Snoozed { .. } => "snoozed",
        Outcome::Canceled { .. } => "canceled",
        _ => "?",
    }
}
