//! Does the same to the store and to the model, and compares what they answer and what they are.

use std::time::Duration;

use tidings::Clock;
use tidings::{
    Event, EventData, EventId, HandlerRequestId, LeaseOwner, ManualClock, MemoryStore, StoreError,
    store::{HandlerRoom, Raised, Selection, Session, Storer, Transaction},
};

use crate::{
    model::{EventRow, Locked, Locks, Model, Rows},
    operation::{Claim, Operation, Step},
};

pub(crate) const EVENTS: [&str; 3] = ["a", "a.b", "c"];
pub(crate) const HANDLERS: [&str; 3] = ["h", "i", "j"];
pub(crate) const PATTERNS: [&str; 5] = ["*", "a.*", "a", "a.b", "c"];
pub(crate) const ALL: usize = 10_000;

pub(crate) struct Driver {
    pub(crate) store: MemoryStore,
    pub(crate) clock: ManualClock,
    pub(crate) session: Box<dyn Session>,
    pub(crate) transaction: Option<Box<dyn Transaction>>,
    pub(crate) model: Model,
    pub(crate) owner: LeaseOwner,
    /// Ids of events that were raised at any time, rolled back or not.
    pub(crate) raised: Vec<EventId>,
    /// Claims of events that were made at any time.
    pub(crate) event_claims: Vec<(EventId, u64)>,
    /// Claims of requests that were made at any time.
    pub(crate) claims: Vec<(HandlerRequestId, u64)>,
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

    pub(crate) async fn step(&mut self, inside: bool, step: Step) {
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
            Step::Replay {
                limit,
                after,
                name,
                handler,
            } => self.replay(inside, limit, after, name, handler).await,
            Step::Prune {
                limit,
                after,
                times,
            } => self.prune(inside, limit, after, times).await,
            Step::Lock { request, event } => self.lock(inside, request, event).await,
            Step::Register { registrations } => self.register(inside, &registrations).await,
            Step::Retire { handler } => self.retire(inside, handler).await,
            Step::Rename { from, to } => self.rename(inside, from, to).await,
            Step::RenameRequests { from, limit } => self.rename_requests(inside, from, limit).await,
        }
    }

    pub(crate) fn session(&mut self, inside: bool) -> &mut dyn Session {
        match &mut self.transaction {
            Some(transaction) if inside => &mut **transaction,
            _ => &mut *self.session,
        }
    }
}

pub(crate) fn raise_in(rows: &mut Rows, event: &Event, locked: &mut Locks) -> Raised {
    if rows.event(event.id).is_some() {
        return Raised::AlreadyRaised;
    }
    rows.events.push(EventRow {
        id: event.id,
        name: event.name.clone(),
        processed_at: None,
        errors: 0,
        backoff_until: None,
        attempt: 0,
        lease: None,
    });
    rows.sort();
    locked.events.insert(event.id);
    Raised::New
}

pub(crate) fn rooms(claim: &Claim) -> Vec<HandlerRoom> {
    let rooms = HANDLERS.into_iter().zip(&claim.rooms);
    rooms
        .map(|(handler, room)| HandlerRoom::new(handler, *room))
        .collect()
}

pub(crate) fn chosen<T: Clone>(things: &[T], index: usize) -> Option<T> {
    // The latest are the most interesting.
    things
        .iter()
        .rev()
        .nth(index % things.len().max(1))
        .cloned()
}

pub(crate) fn event(id: EventId, name: &str) -> Event {
    Event::from_data(name, EventData::null()).with_id(id)
}

pub(crate) fn uuid(number: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(number)
}

pub(crate) fn assert_locked<T: std::fmt::Debug>(answer: Result<T, StoreError>) {
    assert!(
        matches!(answer, Err(StoreError::TimedOut { .. })),
        "{answer:?} instead of {Locked:?}"
    );
}
