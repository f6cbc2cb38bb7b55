//! Does the same to the store and to the model, and compares what they answer and what they are.

use std::time::Duration;

use futures_util::TryStreamExt;
use tidings::Clock;
use tidings::{
    Backoff, Event, EventData, EventId, EventPattern, ExecutionError, HandlerRequest,
    HandlerRequestId, Lease, LeaseOwner, ManualClock, MemoryStore, Name, Outcome, Priority,
    Refusal, Registration, RegistrationState, RequestState, StoreError,
    store::{
        self, EventClaim, EventFailure, EventFilter, FanOut, HandlerRoom, LeaseOffer, LockMode,
        Page, Raised, Renamed, Renewal, RequestFilter, RescueLost, Selection, Session, Settled,
        Settlement, Storer, Transaction,
    },
};

use crate::{
    model::{EventRow, Locked, Locks, Model, Rows},
    operation::{Claim, Operation, Settling, Step},
};

const EVENTS: [&str; 3] = ["a", "a.b", "c"];
const HANDLERS: [&str; 3] = ["h", "i", "j"];
const PATTERNS: [&str; 5] = ["*", "a.*", "a", "a.b", "c"];
const ALL: usize = 10_000;

pub(crate) struct Driver {
    store: MemoryStore,
    clock: ManualClock,
    session: Box<dyn Session>,
    transaction: Option<Box<dyn Transaction>>,
    model: Model,
    owner: LeaseOwner,
    /// Ids of events that were raised at any time, rolled back or not.
    raised: Vec<EventId>,
    /// Claims of events that were made at any time.
    event_claims: Vec<(EventId, u64)>,
    /// Claims of requests that were made at any time.
    claims: Vec<(HandlerRequestId, u64)>,
}

impl Driver {
    pub(crate) async fn new() -> Self {
        let clock = ManualClock::default();
        let store = MemoryStore::with_clock(clock.clone()).lock_timeout(Duration::ZERO);
        let session = store.session().await.unwrap();
        let mut model = Model::default();
        model.now = clock.now();
        let owner = LeaseOwner::from_uuid(uuid(77));
        let mut driver = Self {
            store,
            clock,
            session,
            transaction: None,
            model,
            owner,
            raised: Vec::new(),
            event_claims: Vec::new(),
            claims: Vec::new(),
        };
        driver
            .step(
                false,
                Step::Register {
                    registrations: vec![(0, 0, 1, 2), (1, 1, 0, 3)],
                },
            )
            .await;
        driver
    }

    pub(crate) async fn run(&mut self, operation: Operation) {
        match operation {
            Operation::Begin => {
                if !self.model.is_open() {
                    self.transaction = Some(self.store.begin().await.unwrap());
                    self.model.begin();
                }
            }
            Operation::End { commit } => {
                match self.transaction.take() {
                    Some(transaction) if commit => transaction.commit().await.unwrap(),
                    other => drop(other),
                }
                self.model.end(commit);
            }
            Operation::Compare => self.compare().await,
            Operation::Wait { seconds } => {
                self.clock.advance(Duration::from_secs(seconds));
                self.model.now = self.clock.now();
            }
            Operation::Step {
                in_transaction,
                step,
            } => {
                let inside = in_transaction && self.model.is_open();
                self.step(inside, step).await;
            }
        }
    }

    /// Compares everything that can be read, outside of the open transaction and inside.
    pub(crate) async fn compare(&mut self) {
        self.compare_view(false).await;
        if self.model.is_open() {
            self.compare_view(true).await;
        }
    }

    async fn step(&mut self, inside: bool, step: Step) {
        match step {
            Step::Raise { names, again } => self.raise(inside, &names, again).await,
            Step::ClaimEvents { limit } => self.claim_events(inside, limit).await,
            Step::FanOutClaimed { claims, void } => {
                let claims = self.chosen_event_claims(&claims, void);
                self.fan_out(inside, Selection::Claimed(claims), None).await;
            }
            Step::FailEvents { claims, seconds } => {
                self.fail_events(inside, &claims, seconds).await
            }
            Step::FanOut { limit, offer } => {
                self.fan_out(inside, Selection::Due { limit }, offer).await
            }
            Step::Claim(claim) => self.claim(inside, &claim).await,
            Step::ClaimSuspect(claim) => self.claim_suspect(inside, &claim).await,
            Step::Settle { settlements } => self.settle(inside, &settlements).await,
            Step::HandBack { claims, void } => self.hand_back(inside, &claims, void).await,
            Step::Renew { claims, seconds } => self.renew(&claims, seconds).await,
            Step::Rescue { limit, seconds } => self.rescue(inside, limit, seconds).await,
            Step::Cancel { request } => self.operate(inside, request, 0).await,
            Step::Reexecute { request } => self.operate(inside, request, 1).await,
            Step::RunNow { request } => self.operate(inside, request, 2).await,
            Step::ReexecuteDead { limit, handler } => {
                self.reexecute_dead(inside, limit, handler).await
            }
            Step::Lock { request, event } => self.lock(inside, request, event).await,
            Step::Register { registrations } => self.register(inside, &registrations).await,
            Step::Retire { handler } => self.retire(inside, handler).await,
            Step::Rename { from, to } => self.rename(inside, from, to).await,
        }
    }

    fn session(&mut self, inside: bool) -> &mut dyn Session {
        match &mut self.transaction {
            Some(transaction) if inside => &mut **transaction,
            _ => &mut *self.session,
        }
    }

    async fn raise(&mut self, inside: bool, names: &[usize], again: Option<usize>) {
        let mut events: Vec<_> = names.iter().map(|name| self.new_event(*name)).collect();
        events.extend(
            again
                .and_then(|index| chosen(&self.raised, index))
                .map(|id| event(id, "again")),
        );
        let (mut rows, locks) = (self.model.view(inside), self.model.others_locks(inside));
        let is_blocked = events
            .iter()
            .any(|event| rows.event(event.id).is_none() && locks.events.contains(&event.id));
        let answer = self.session(inside).events().raise(&events).await;
        if is_blocked {
            return assert_locked(answer);
        }
        let mut locked = Locks::default();
        let expected: Vec<_> = events
            .iter()
            .map(|event| raise_in(&mut rows, event, &mut locked))
            .collect();
        assert_eq!(answer.unwrap(), expected);
        self.model.write(inside, &rows, locked);
    }

    async fn claim_events(&mut self, inside: bool, limit: usize) {
        let claim = EventClaim {
            owner: self.owner,
            lease: Duration::from_secs(30),
            limit,
        };
        let (mut rows, locks) = (self.model.view(inside), self.model.others_locks(inside));
        let (now, mut expected, mut locked) = (self.model.now, Vec::new(), Locks::default());
        for row in rows
            .events
            .iter_mut()
            .filter(|row| row.is_due(now) && !locks.events.contains(&row.id))
            .take(limit)
        {
            row.attempt += 1;
            row.backoff_until = None;
            row.lease = Some(Lease {
                owner: claim.owner,
                until: now + claim.lease,
            });
            locked.events.insert(row.id);
            expected.push((row.id, row.attempt, row.errors));
        }
        let claimed = self.session(inside).events().claim(&claim).await.unwrap();
        let claimed: Vec<_> = claimed
            .iter()
            .map(|claimed| (claimed.event.id, claimed.attempt, claimed.errors))
            .collect();
        assert_eq!(claimed, expected);
        self.event_claims
            .extend(expected.iter().map(|(id, attempt, _)| (*id, *attempt)));
        self.model.write(inside, &rows, locked);
    }

    async fn fail_events(&mut self, inside: bool, claims: &[usize], seconds: u64) {
        let claims = self.chosen_event_claims(claims, false);
        let backoff = Duration::from_secs(seconds);
        let failure = |(id, attempt): &(EventId, u64)| EventFailure {
            id: *id,
            attempt: *attempt,
            error: "veto".into(),
            backoff,
        };
        let failures: Vec<_> = claims.iter().map(failure).collect();
        let (mut rows, locks) = (self.model.view(inside), self.model.others_locks(inside));
        let now = self.model.now;
        let answer = self.session(inside).events().fail(&failures).await;
        if rows.events.iter().any(|row| {
            locks.events.contains(&row.id) && claims.iter().any(|claim| claim.0 == row.id)
        }) {
            return assert_locked(answer);
        }
        answer.unwrap();
        let mut locked = Locks::default();
        for (id, attempt) in claims {
            let Some(row) = rows.event(id) else { continue };
            locked.events.insert(id);
            if row.is_held(attempt) {
                row.lease = None;
                row.errors += 1;
                row.backoff_until = Some(now + backoff);
            }
        }
        self.model.write(inside, &rows, locked);
    }

    async fn fan_out(&mut self, inside: bool, selection: Selection, offer: Option<Claim>) {
        let offer = offer.map(|claim| LeaseOffer {
            owner: self.owner,
            lease: Duration::from_secs(claim.seconds),
            limit: claim.limit,
            handlers: rooms(&claim),
        });
        let (mut rows, locks) = (self.model.view(inside), self.model.others_locks(inside));
        let answer = self
            .session(inside)
            .events()
            .fan_out(&FanOut {
                selection: selection.clone(),
                offer: offer.clone(),
            })
            .await;
        let (now, mut locked) = (
            self.model.now,
            Locks {
                fan_outs: true,
                ..Locks::default()
            },
        );
        let ids: Vec<_> = match selection {
            Selection::Due { limit } => {
                let due = rows
                    .events
                    .iter()
                    .filter(|row| row.is_due(now) && !locks.events.contains(&row.id));
                due.take(limit).map(|row| row.id).collect()
            }
            Selection::Claimed(claims) => {
                let is_locked = |id: &EventId| locks.events.contains(id);
                if claims
                    .iter()
                    .any(|(id, _)| is_locked(id) && rows.event(*id).is_some())
                {
                    return assert_locked(answer);
                }
                locked.events.extend(
                    claims
                        .iter()
                        .map(|(id, _)| *id)
                        .filter(|id| rows.event(*id).is_some()),
                );
                let held = |row: &&EventRow| {
                    claims
                        .iter()
                        .any(|(id, attempt)| *id == row.id && row.is_held(*attempt))
                };
                rows.events.iter().filter(held).map(|row| row.id).collect()
            }
        };
        if locks.renames {
            return assert_locked(answer);
        }
        let backlog = offer.as_ref().and_then(|offer| {
            let is_offered = |row: &&HandlerRequest| {
                offer
                    .handlers
                    .iter()
                    .any(|room| room.handler == row.handler && room.room > 0)
            };
            let claimable = rows.claimable(now, &locks, false);
            claimable
                .iter()
                .filter(is_offered)
                .map(|row| row.priority)
                .min()
        });
        let (mut births, mut processed) = (Vec::new(), Vec::new());
        for id in ids {
            let row = rows.event(id).unwrap();
            (row.processed, row.lease, row.backoff_until) = (true, None, None);
            locked.events.insert(id);
            let name = row.name.clone();
            let wanted = rows.wanted_by(&name);
            processed.push((id, wanted.len()));
            for (handler, priority, max_errors) in wanted {
                if !rows
                    .requests
                    .iter()
                    .any(|row| row.event_id == id && row.handler == handler)
                {
                    births.push(HandlerRequest::new(
                        id,
                        name.clone(),
                        handler,
                        priority,
                        max_errors,
                        now,
                    ));
                }
            }
        }
        births.sort_by_key(|row| (row.priority, row.id));
        let mut leased = Vec::new();
        let (mut left, mut room) = (
            offer.as_ref().map_or(0, |offer| offer.limit),
            offer
                .as_ref()
                .map(|offer| offer.handlers.clone())
                .unwrap_or_default(),
        );
        for row in &mut births {
            let room = room
                .iter_mut()
                .find(|room| room.handler == row.handler && room.room > 0);
            if let (Some(offer), Some(room)) = (&offer, room)
                && left > 0
                && backlog.is_none_or(|waiting| row.priority < waiting)
            {
                (left, room.room) = (left - 1, room.room - 1);
                row.attempt = 1;
                row.lease = Some(Lease {
                    owner: offer.owner,
                    until: now + offer.lease,
                });
                leased.push((row.id, row.attempt));
            }
            locked.requests.insert(row.id);
        }
        rows.requests.extend(births);
        rows.sort();
        let is_free = |row: &&EventRow| !locks.events.contains(&row.id);
        let next_due = if rows
            .events
            .iter()
            .filter(is_free)
            .any(|row| row.is_due(now))
        {
            None
        } else {
            let waits = |row: &&EventRow| !row.processed && row.lease.is_none();
            let until = rows
                .events
                .iter()
                .filter(is_free)
                .filter(waits)
                .filter_map(|row| row.backoff_until)
                .min();
            until.map(|until| (until - now).to_std().unwrap())
        };
        let answer = answer.unwrap();
        assert_eq!(
            answer
                .processed
                .iter()
                .map(|event| (event.id, event.requests))
                .collect::<Vec<_>>(),
            processed
        );
        assert_eq!(
            answer
                .born_leased
                .iter()
                .map(|row| (row.id, row.attempt))
                .collect::<Vec<_>>(),
            leased
        );
        assert_eq!(answer.next_due, next_due);
        self.claims.extend(leased);
        self.model.write(inside, &rows, locked);
    }

    async fn claim(&mut self, inside: bool, claim: &Claim) {
        let claim = self.store_claim(claim);
        let answer = self
            .session(inside)
            .handler_requests()
            .claim(&claim)
            .await
            .unwrap();
        let (expected, rows) = self.expect_claims(inside, &claim, claim.limit, false);
        let locks = self.model.others_locks(inside);
        let next_due = if expected.len() < claim.limit {
            let is_asked = |row: &&HandlerRequest| {
                claim
                    .handlers
                    .iter()
                    .any(|room| room.handler == row.handler)
            };
            let backing_off = rows
                .requests
                .iter()
                .filter(|row| row.state(self.model.now) == RequestState::BackingOff);
            let until = backing_off
                .filter(is_asked)
                .filter(|row| !locks.requests.contains(&row.id))
                .filter_map(|row| row.backoff_until)
                .min();
            until.map(|until| (until - self.model.now).to_std().unwrap())
        } else {
            None
        };
        assert_eq!(
            answer
                .requests
                .iter()
                .map(|row| (row.id, row.attempt))
                .collect::<Vec<_>>(),
            expected
        );
        assert_eq!(answer.next_due, next_due);
    }

    async fn claim_suspect(&mut self, inside: bool, claim: &Claim) {
        let claim = self.store_claim(claim);
        let answer = self
            .session(inside)
            .handler_requests()
            .claim_suspect(&claim)
            .await
            .unwrap();
        let (expected, _) = self.expect_claims(inside, &claim, claim.limit.min(1), true);
        assert_eq!(
            answer.map(|row| (row.id, row.attempt)),
            expected.first().copied()
        );
    }

    /// Claims in the model; answers what was claimed, and the rows afterwards.
    fn expect_claims(
        &mut self,
        inside: bool,
        claim: &store::Claim,
        limit: usize,
        suspects: bool,
    ) -> (Vec<(HandlerRequestId, u64)>, Rows) {
        let (mut rows, locks) = (self.model.view(inside), self.model.others_locks(inside));
        let (now, mut rooms, mut locked) =
            (self.model.now, claim.handlers.clone(), Locks::default());
        let mut expected = Vec::new();
        for candidate in rows.claimable(now, &locks, suspects) {
            let Some(room) = rooms
                .iter_mut()
                .find(|room| room.handler == candidate.handler && room.room > 0)
            else {
                continue;
            };
            if expected.len() == limit {
                break;
            }
            room.room -= 1;
            let row = rows.request(candidate.id).unwrap();
            row.claim(now, claim.owner, claim.lease).unwrap();
            locked.requests.insert(row.id);
            expected.push((row.id, row.attempt));
        }
        self.claims.extend(&expected);
        self.model.write(inside, &rows, locked);
        (expected, rows)
    }

    async fn settle(&mut self, inside: bool, settlements: &[Settling]) {
        let mut settled = Vec::new();
        for settling in settlements {
            let Some((id, attempt)) = chosen(&self.claims, settling.claim) else {
                return;
            };
            let raised = match settling.raises {
                None => Vec::new(),
                Some(again) => match again.and_then(|index| chosen(&self.raised, index)) {
                    Some(id) => vec![event(id, "again")],
                    None => vec![self.new_event(settling.claim)],
                },
            };
            let attempt = attempt + u64::from(settling.void);
            let outcome = outcome(settling.outcome);
            settled.push(Settlement {
                id,
                attempt,
                owner: self.owner,
                outcome,
                executed: settling.claim % 5 > 0,
                raised,
            });
        }
        let (mut rows, locks) = (self.model.view(inside), self.model.others_locks(inside));
        let answer = self
            .session(inside)
            .handler_requests()
            .settle(&settled)
            .await;
        let mut locked = Locks::default();
        for settlement in &settled {
            let Some(row) = rows.request(settlement.id) else {
                continue;
            };
            let holds = row.check_fence(self.owner, settlement.attempt).is_ok();
            if locks.requests.contains(&settlement.id) {
                return assert_locked(answer);
            }
            locked.requests.insert(settlement.id);
            for event in settlement.raised.iter().filter(|_| holds) {
                if rows.event(event.id).is_none() {
                    if locks.events.contains(&event.id) {
                        return assert_locked(answer);
                    }
                    locked.events.insert(event.id);
                }
            }
        }
        let now = self.model.now;
        let mut expected = Vec::new();
        for settlement in &settled {
            let Settlement {
                id,
                attempt,
                owner,
                outcome,
                executed,
                raised,
            } = settlement;
            let applied = rows
                .request(*id)
                .map(|row| row.settle(now, *owner, *attempt, outcome, *executed));
            if applied != Some(Ok(())) {
                expected.push(Settled::Fenced);
                continue;
            }
            expected.push(Settled::Applied);
            for event in raised {
                raise_in(&mut rows, event, &mut locked);
            }
        }
        assert_eq!(answer.unwrap(), expected);
        self.model.write(inside, &rows, locked);
    }

    async fn hand_back(&mut self, inside: bool, claims: &[usize], void: bool) {
        let fences: Vec<_> = claims
            .iter()
            .filter_map(|index| chosen(&self.claims, *index))
            .map(|(id, attempt)| (id, attempt + u64::from(void)))
            .collect();
        let owner = self.owner;
        let (mut rows, locks) = (self.model.view(inside), self.model.others_locks(inside));
        let answer = self
            .session(inside)
            .handler_requests()
            .hand_back(owner, &fences)
            .await;
        if fences
            .iter()
            .any(|(id, _)| locks.requests.contains(id) && rows.request(*id).is_some())
        {
            return assert_locked(answer);
        }
        let (mut expected, mut locked) = (Vec::new(), Locks::default());
        for (id, attempt) in fences {
            let row = rows.request(id);
            locked.requests.extend(row.as_ref().map(|row| row.id));
            let applied = row.map(|row| row.hand_back(owner, attempt)) == Some(Ok(()));
            expected.push(if applied {
                Settled::Applied
            } else {
                Settled::Fenced
            });
        }
        assert_eq!(answer.unwrap(), expected);
        self.model.write(inside, &rows, locked);
    }

    async fn renew(&mut self, claims: &[usize], seconds: u64) {
        let requests: Vec<_> = claims
            .iter()
            .filter_map(|index| chosen(&self.claims, *index))
            .collect();
        let renewal = Renewal {
            owner: self.owner,
            lease: Duration::from_secs(seconds),
            requests,
        };
        let (mut rows, locks) = (self.model.view(false), self.model.others_locks(false));
        let mut expected = Vec::new();
        for (id, attempt) in &renewal.requests {
            let row = rows
                .request(*id)
                .filter(|row| row.check_fence(renewal.owner, *attempt).is_ok());
            match row {
                None => expected.push(*id),
                Some(_) if locks.requests.contains(id) => {}
                Some(row) => row
                    .renew(self.model.now, renewal.owner, *attempt, renewal.lease)
                    .unwrap(),
            }
        }
        let mut renewer = self.store.lease_renewer().await.unwrap();
        assert_eq!(renewer.renew(&renewal).await.unwrap(), expected);
        self.model.write(false, &rows, Locks::default());
    }

    async fn rescue(&mut self, inside: bool, limit: usize, seconds: u64) {
        let backoff = Duration::from_secs(seconds);
        let rescue = RescueLost {
            limit,
            backoff: Backoff::constant(backoff),
        };
        let (mut rows, locks) = (self.model.view(inside), self.model.others_locks(inside));
        let now = self.model.now;
        let mut lost: Vec<_> = rows
            .requests
            .iter()
            .filter(|row| !locks.requests.contains(&row.id))
            .filter_map(|row| row.lease.map(|lease| (lease.until, row.id)))
            .filter(|(until, _)| *until <= now)
            .collect();
        lost.sort();
        let (mut expected, mut locked) = (Vec::new(), Locks::default());
        for (_, id) in lost.into_iter().take(limit) {
            let row = rows.request(id).unwrap();
            let rescued = row.rescue(now, backoff).unwrap();
            expected.push((id, row.errors, row.rescues, rescued));
            locked.requests.insert(id);
        }
        let answer = self
            .session(inside)
            .handler_requests()
            .rescue(&rescue)
            .await
            .unwrap();
        let answer: Vec<_> = answer
            .iter()
            .map(|row| (row.id, row.errors, row.rescues, row.rescue))
            .collect();
        assert_eq!(answer, expected);
        self.model.write(inside, &rows, locked);
    }

    async fn operate(&mut self, inside: bool, request: usize, action: usize) {
        let (mut rows, locks) = (self.model.view(inside), self.model.others_locks(inside));
        let Some(id) = chosen(&rows.requests, request).map(|row| row.id) else {
            return;
        };
        let mut requests = self.session(inside).handler_requests();
        let answer = match action {
            0 => requests.cancel(id).await,
            1 => requests.reexecute(id).await,
            _ => requests.run_now(id).await,
        };
        drop(requests);
        if locks.requests.contains(&id) {
            return assert_locked(answer);
        }
        let now = self.model.now;
        let row = rows.request(id).unwrap();
        let expected = match action {
            0 => row.cancel(now),
            1 => row.reexecute(now),
            _ => row.run_now(now),
        };
        match (answer, expected) {
            (Ok(()), Ok(())) => {}
            (Err(StoreError::Refused { state, .. }), Err(Refusal::State(expected))) => {
                assert_eq!(state, expected.to_string())
            }
            (answer, expected) => panic!("{answer:?} instead of {expected:?}"),
        }
        let locked = Locks {
            requests: [id].into(),
            ..Locks::default()
        };
        self.model.write(inside, &rows, locked);
    }

    async fn reexecute_dead(&mut self, inside: bool, limit: usize, handler: Option<usize>) {
        let handlers = handler
            .map(|index| Name::from(HANDLERS[index % 3]))
            .into_iter()
            .collect();
        let filter = RequestFilter {
            handlers,
            ..RequestFilter::default()
        };
        let (mut rows, locks) = (self.model.view(inside), self.model.others_locks(inside));
        let answer = self
            .session(inside)
            .handler_requests()
            .reexecute_dead(&filter, limit)
            .await;
        let now = self.model.now;
        let mut locked = Locks::default();
        let is_dead = |row: &&mut HandlerRequest| {
            row.state(now) == RequestState::Dead
                && (filter.handlers.is_empty() || filter.handlers.contains(&row.handler))
        };
        let dead: Vec<_> = rows
            .requests
            .iter_mut()
            .filter(is_dead)
            .take(limit)
            .collect();
        if dead.iter().any(|row| locks.requests.contains(&row.id)) {
            return assert_locked(answer);
        }
        assert_eq!(answer.unwrap(), dead.len() as u64);
        for row in dead {
            row.reexecute(now).unwrap();
            locked.requests.insert(row.id);
        }
        self.model.write(inside, &rows, locked);
    }

    async fn lock(&mut self, inside: bool, request: Option<usize>, event: Option<usize>) {
        let (rows, locks) = (self.model.view(inside), self.model.others_locks(inside));
        if let Some(row) = request.and_then(|index| chosen(&rows.requests, index)) {
            let skipped = self
                .session(inside)
                .handler_requests()
                .find_for_update(row.id, LockMode::SkipLocked)
                .await
                .unwrap();
            assert_eq!(
                skipped,
                Some(row.clone()).filter(|_| !locks.requests.contains(&row.id))
            );
            let answer = self
                .session(inside)
                .handler_requests()
                .find_for_update(row.id, LockMode::Wait)
                .await;
            if locks.requests.contains(&row.id) {
                return assert_locked(answer);
            }
            assert_eq!(answer.unwrap().as_ref(), Some(&row));
            let locked = Locks {
                requests: [row.id].into(),
                ..Locks::default()
            };
            self.model.write(inside, &rows, locked);
        }
        if let Some(row) = event.and_then(|index| chosen(&rows.events, index)) {
            let answer = self
                .session(inside)
                .events()
                .find_for_update(row.id, LockMode::Wait)
                .await;
            if locks.events.contains(&row.id) {
                return assert_locked(answer);
            }
            assert_eq!(answer.unwrap().unwrap().event.id, row.id);
            let locked = Locks {
                events: [row.id].into(),
                ..Locks::default()
            };
            self.model.write(inside, &rows, locked);
        }
    }

    async fn register(&mut self, inside: bool, registrations: &[(usize, usize, i16, u32)]) {
        let registrations: Vec<_> = registrations
            .iter()
            .map(|(pattern, handler, priority, max_errors)| {
                let pattern = EventPattern::parse(PATTERNS[pattern % 5]).unwrap();
                Registration::new(
                    pattern,
                    HANDLERS[handler % 3].into(),
                    Priority::new(*priority).unwrap(),
                    *max_errors,
                )
            })
            .collect();
        let (mut rows, locks) = (self.model.view(inside), self.model.others_locks(inside));
        let answer = self
            .session(inside)
            .registrations()
            .register(&registrations)
            .await;
        if locks.registrations {
            return assert_locked(answer);
        }
        for mut registration in registrations {
            let is_renamed = |row: &Registration| {
                row.handler == registration.handler
                    && matches!(row.state, RegistrationState::RenamedTo(_))
            };
            let renamed = rows.registrations.iter().any(is_renamed);
            let told = answer
                .as_ref()
                .unwrap()
                .renamed
                .iter()
                .any(|(old, _)| *old == registration.handler);
            assert_eq!(told, renamed);
            if renamed {
                continue;
            }
            rows.registrations.retain(|row| {
                row.handler != registration.handler || row.pattern != registration.pattern
            });
            registration.last_seen_at = self.model.now;
            rows.registrations.push(registration);
        }
        rows.sort();
        self.model.write(
            inside,
            &rows,
            Locks {
                registrations: true,
                ..Locks::default()
            },
        );
    }

    async fn retire(&mut self, inside: bool, handler: usize) {
        let handler = Name::from(HANDLERS[handler % 3]);
        let (mut rows, locks) = (self.model.view(inside), self.model.others_locks(inside));
        let answer = self.session(inside).registrations().retire(&handler).await;
        if locks.registrations {
            return assert_locked(answer);
        }
        let mut retired = 0;
        for row in rows
            .registrations
            .iter_mut()
            .filter(|row| row.handler == handler && row.state == RegistrationState::Active)
        {
            row.state = RegistrationState::Retired;
            retired += 1;
        }
        assert_eq!(answer.unwrap(), retired);
        self.model.write(
            inside,
            &rows,
            Locks {
                registrations: true,
                ..Locks::default()
            },
        );
    }

    async fn rename(&mut self, inside: bool, from: usize, to: usize) {
        let (from, to) = (Name::from(HANDLERS[from % 3]), Name::from(HANDLERS[to % 3]));
        let (mut rows, locks) = (self.model.view(inside), self.model.others_locks(inside));
        let answer = self
            .session(inside)
            .registrations()
            .rename(&from, &to)
            .await;
        let now = self.model.now;
        let mut moved: Vec<_> = rows
            .requests
            .iter()
            .filter(|row| {
                row.handler == from && (row.is_open() || row.state(now) == RequestState::Dead)
            })
            .map(|row| row.id)
            .collect();
        moved.sort_by_key(|id| {
            (
                rows.requests
                    .iter()
                    .any(|row| row.id == *id && !row.is_open()),
                *id,
            )
        });
        let is_locked = from != to && moved.iter().any(|id| locks.requests.contains(id));
        if locks.registrations || locks.renames || locks.fan_outs || is_locked {
            return assert_locked(answer);
        }
        let mut locked = Locks {
            registrations: true,
            renames: true,
            ..Locks::default()
        };
        let mut expected = (0, 0);
        if from != to {
            rename_registrations(&mut rows.registrations, &from, &to);
            for id in moved {
                locked.requests.insert(id);
                let event = rows.request(id).unwrap().event_id;
                let is_taken = rows
                    .requests
                    .iter()
                    .any(|row| row.event_id == event && row.handler == to);
                let row = rows.request(id).unwrap();
                if !is_taken {
                    row.handler = to.clone();
                    expected.0 += 1;
                } else if row.is_open() {
                    let message = format!(
                        "superseded: the event has a request of {to:?}, its handler's new name"
                    );
                    row.last_errors.push(ExecutionError {
                        at: now,
                        attempt: row.attempt,
                        message,
                    });
                    if row.last_errors.len() > ExecutionError::KEPT {
                        row.last_errors.remove(0);
                    }
                    row.cancel(now).unwrap();
                    expected.1 += 1;
                }
            }
        }
        rows.sort();
        let Renamed {
            requests,
            superseded,
            ..
        } = answer.unwrap();
        assert_eq!((requests, superseded), expected);
        self.model.write(inside, &rows, locked);
    }

    async fn compare_view(&mut self, inside: bool) {
        let (rows, now) = (self.model.view(inside), self.model.now);
        let mut session: &mut dyn Session = self.session(inside);
        compare_events(&mut session, &rows).await;
        compare_requests(&mut session, &rows, now).await;
        assert_eq!(
            session.registrations().all().await.unwrap(),
            rows.registrations
        );
    }

    fn new_event(&mut self, name: usize) -> Event {
        // Mostly, but not always, in ascending order.
        let number = self.raised.len() as u128;
        let id = EventId::from_uuid(uuid((number ^ 3) << 80 | number.wrapping_mul(0x9e37_79b9)));
        self.raised.push(id);
        event(id, EVENTS[name % 3])
    }

    fn chosen_event_claims(&self, claims: &[usize], void: bool) -> Vec<(EventId, u64)> {
        let claims = claims
            .iter()
            .filter_map(|index| chosen(&self.event_claims, *index));
        claims
            .map(|(id, attempt)| (id, attempt + u64::from(void)))
            .collect()
    }

    fn store_claim(&self, claim: &Claim) -> store::Claim {
        store::Claim {
            owner: self.owner,
            lease: Duration::from_secs(claim.seconds),
            limit: claim.limit,
            handlers: rooms(claim),
        }
    }
}

async fn compare_events(session: &mut &mut dyn Session, rows: &Rows) {
    let mut events = session.events();
    let listed = events
        .list(&EventFilter::default(), &Page::first(ALL))
        .await
        .unwrap();
    let listed: Vec<_> = listed
        .iter()
        .map(|stored| {
            (
                stored.event.id,
                stored.processed_at.is_some(),
                stored.errors,
                stored.backoff_until,
            )
        })
        .collect();
    let expected: Vec<_> = rows
        .events
        .iter()
        .map(|row| (row.id, row.processed, row.errors, row.backoff_until))
        .collect();
    assert_eq!(listed, expected);
    let unprocessed: Vec<_> = rows
        .events
        .iter()
        .filter(|row| !row.processed)
        .map(|row| row.id)
        .collect();
    assert_eq!(
        events.count_unprocessed().await.unwrap(),
        unprocessed.len() as u64
    );
    let oldest = events
        .oldest_unprocessed()
        .await
        .unwrap()
        .map(|stored| stored.event.id);
    assert_eq!(oldest, unprocessed.first().copied());
    let filter = EventFilter {
        processed: Some(false),
        ..EventFilter::default()
    };
    let streamed: Vec<_> = events.stream(&filter).try_collect().await.unwrap();
    assert_eq!(
        streamed
            .iter()
            .map(|stored| stored.event.id)
            .collect::<Vec<_>>(),
        unprocessed
    );
}

async fn compare_requests(
    session: &mut &mut dyn Session,
    rows: &Rows,
    now: chrono::DateTime<chrono::Utc>,
) {
    let mut requests = session.handler_requests();
    let listed = requests
        .list(&RequestFilter::default(), &Page::first(ALL))
        .await
        .unwrap();
    assert_eq!(listed, rows.requests);
    for state in RequestState::ALL {
        let filter = RequestFilter {
            states: vec![state],
            ..RequestFilter::default()
        };
        let expected: Vec<_> = rows
            .requests
            .iter()
            .filter(|row| row.state(now) == state)
            .cloned()
            .collect();
        assert_eq!(
            requests.count(&filter).await.unwrap(),
            expected.len() as u64,
            "{state}"
        );
        assert_eq!(
            requests.list(&filter, &Page::first(ALL)).await.unwrap(),
            expected,
            "{state}"
        );
    }
    let open: Vec<_> = rows.requests.iter().filter(|row| row.is_open()).collect();
    assert_eq!(
        requests.count_unexecuted().await.unwrap(),
        open.len() as u64
    );
    assert_eq!(
        requests.oldest_unexecuted().await.unwrap().as_ref(),
        open.first().copied()
    );
    let dead = rows
        .requests
        .iter()
        .filter(|row| row.state(now) == RequestState::Dead);
    let mut handlers: Vec<_> = dead.clone().map(|row| row.handler.clone()).collect();
    handlers.sort();
    handlers.dedup();
    assert_eq!(requests.dead_handler_names().await.unwrap(), handlers);
    let mut names: Vec<_> = dead.map(|row| row.event_name.clone()).collect();
    names.sort();
    names.dedup();
    assert_eq!(requests.dead_event_names().await.unwrap(), names);
    for event in rows.events.iter().take(3) {
        let mut expected: Vec<_> = rows
            .requests
            .iter()
            .filter(|row| row.event_id == event.id)
            .cloned()
            .collect();
        expected.sort_by_key(|row| row.handler.clone());
        assert_eq!(requests.of_event(event.id).await.unwrap(), expected);
    }
}

fn rename_registrations(registrations: &mut Vec<Registration>, from: &Name, to: &Name) {
    let is_signpost = |row: &Registration| matches!(row.state, RegistrationState::RenamedTo(_));
    if registrations
        .iter()
        .filter(|row| row.handler == *from)
        .all(is_signpost)
    {
        return;
    }
    registrations.retain(|row| row.handler != *to || !is_signpost(row));
    let mut moved = Vec::new();
    for row in registrations.iter_mut().filter(|row| row.handler == *from) {
        if row.state == RegistrationState::Active {
            let mut there = row.clone();
            there.handler = to.clone();
            moved.push(there);
        }
        row.state = RegistrationState::RenamedTo(to.clone());
    }
    for there in moved {
        let is_there = |row: &Registration| row.handler == *to && row.pattern == there.pattern;
        if !registrations
            .iter()
            .any(|row| is_there(row) && row.state == RegistrationState::Active)
        {
            registrations.retain(|row| !is_there(row));
            registrations.push(there);
        }
    }
}

fn raise_in(rows: &mut Rows, event: &Event, locked: &mut Locks) -> Raised {
    if rows.event(event.id).is_some() {
        return Raised::AlreadyRaised;
    }
    rows.events.push(EventRow {
        id: event.id,
        name: event.name.clone(),
        processed: false,
        errors: 0,
        backoff_until: None,
        attempt: 0,
        lease: None,
    });
    rows.sort();
    locked.events.insert(event.id);
    Raised::New
}

fn outcome(number: usize) -> Outcome {
    let (text, wait) = ("reason".to_owned(), Duration::from_secs(10));
    match number {
        0 => Outcome::Completed,
        1 => Outcome::Failed {
            error: text,
            backoff: wait,
        },
        2 => Outcome::Discarded { reason: text },
        3 => Outcome::Snoozed { duration: wait },
        _ => Outcome::Canceled { reason: text },
    }
}

fn rooms(claim: &Claim) -> Vec<HandlerRoom> {
    let rooms = HANDLERS.into_iter().zip(&claim.rooms);
    rooms
        .map(|(handler, room)| HandlerRoom {
            handler: handler.into(),
            room: *room,
        })
        .collect()
}

fn chosen<T: Clone>(things: &[T], index: usize) -> Option<T> {
    // The latest are the most interesting.
    things
        .iter()
        .rev()
        .nth(index % things.len().max(1))
        .cloned()
}

fn event(id: EventId, name: &str) -> Event {
    Event::from_data(name, EventData::null()).with_id(id)
}

fn uuid(number: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(number)
}

fn assert_locked<T: std::fmt::Debug>(answer: Result<T, StoreError>) {
    assert!(
        matches!(answer, Err(StoreError::TimedOut { .. })),
        "{answer:?} instead of {Locked:?}"
    );
}
