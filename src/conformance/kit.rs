//! What the cases share: a store with its time, and the steps that most of them begin with.

use std::{sync::Arc, time::Duration};

use super::Target;
use crate::{
    error::StoreError,
    id::{EventId, HandlerRequestId, LeaseOwner},
    model::{
        Backoff, Event, EventData, EventPattern, HandlerRequest, Outcome, Priority, Registration,
        RequestState,
    },
    store::{
        Claim, ClaimedRequest, FanOut, FannedOut, HandlerRoom, LeaseOffer, LockMode, RescueLost,
        Rescued, RescuedRequest, Session, Settled, Settlement, Storer, Transaction,
    },
    text::Name,
};

/// The lease of most cases: long, so that nothing runs out unless a case lets it.
pub(super) const LEASE: Duration = Duration::from_secs(600);
/// A backoff that does not pass unless a case lets it.
pub(super) const BACKOFF: Duration = Duration::from_secs(3600);
/// How long a case watches that something does **not** happen; there is no signal for that.
pub(super) const WATCH: Duration = Duration::from_millis(60);
/// Any number of rows.
pub(super) const ALL: usize = 100_000;

pub(super) struct Kit<'t> {
    pub(super) target: &'t dyn Target,
    pub(super) store: Arc<dyn Storer>,
    /// The process that most cases claim for.
    pub(super) owner: LeaseOwner,
}

impl<'t> Kit<'t> {
    pub(super) fn new(target: &'t dyn Target) -> Self {
        Self {
            target,
            store: target.store(),
            owner: LeaseOwner::new(),
        }
    }

    pub(super) async fn session(&self) -> Box<dyn Session> {
        self.store.session().await.unwrap()
    }

    pub(super) async fn begin(&self) -> Box<dyn Transaction> {
        self.store.begin().await.unwrap()
    }

    /// A transaction that has locked a request.
    pub(super) async fn locking(&self, id: HandlerRequestId) -> Box<dyn Transaction> {
        let mut tx = self.begin().await;
        let found = tx
            .handler_requests()
            .find_for_update(id, LockMode::Wait)
            .await;
        assert!(found.unwrap().is_some());
        tx
    }

    pub(super) async fn pass(&self, time: Duration) {
        self.target.pass_time(time).await;
    }

    pub(super) fn concurrent_writers(&self) -> bool {
        self.store.capabilities().concurrent_writers
    }

    /// Registers (pattern, handler, priority, max errors).
    pub(super) async fn register(&self, registrations: &[(&str, &str, i16, u32)]) {
        let registrations: Vec<_> = registrations.iter().map(registration).collect();
        let mut session = self.session().await;
        let registered = session.registrations().register(&registrations).await;
        assert_eq!(registered.unwrap().renamed, []);
    }

    /// Raises an event of each name, in this order of ids.
    pub(super) async fn raise(&self, names: &[&str]) -> Vec<Event> {
        let events: Vec<_> = names.iter().map(|name| event(name)).collect();
        let mut session = self.session().await;
        session.events().raise(&events).await.unwrap();
        events
    }

    /// Fans out everything that is due, with nobody to execute it.
    pub(super) async fn fan_out(&self) -> FannedOut {
        self.fan_out_with(ALL, None).await
    }

    pub(super) async fn fan_out_with(&self, limit: usize, offer: Option<LeaseOffer>) -> FannedOut {
        let mut fan_out = FanOut::due(limit);
        fan_out.offer = offer;
        let mut session = self.session().await;
        session.events().fan_out(&fan_out).await.unwrap()
    }

    /// An offer to execute so many requests of each handler.
    pub(super) fn offer(&self, limit: usize, rooms: &[(&str, usize)]) -> LeaseOffer {
        LeaseOffer {
            owner: self.owner,
            lease: LEASE,
            limit,
            handlers: self::rooms(rooms),
        }
    }

    /// Pending requests of a handler with the priority 50 and the max errors 5, in the order of
    /// their ids.
    pub(super) async fn pending(&self, handler: &str, count: usize) -> Vec<HandlerRequestId> {
        let name = format!("for.{handler}");
        self.register(&[(&name, handler, 50, 5)]).await;
        let events = self.raise(&vec![name.as_str(); count]).await;
        self.fan_out().await;
        let mut ids: Vec<_> = events
            .iter()
            .map(|event| HandlerRequestId::derive(event.id, handler))
            .collect();
        ids.sort_unstable();
        ids
    }

    /// One claimed request of a handler of its own.
    pub(super) async fn executing(&self, handler: &str) -> ClaimedRequest {
        self.pending(handler, 1).await;
        self.claim_one(handler).await
    }

    pub(super) fn claim_of(&self, handlers: &[&str], limit: usize) -> Claim {
        let rooms: Vec<_> = handlers.iter().map(|handler| (*handler, ALL)).collect();
        Claim {
            owner: self.owner,
            lease: LEASE,
            limit,
            handlers: self::rooms(&rooms),
        }
    }

    /// Claims at most so many requests of handlers with room for all.
    pub(super) async fn claim(&self, handlers: &[&str], limit: usize) -> Vec<ClaimedRequest> {
        let claim = self.claim_of(handlers, limit);
        let mut session = self.session().await;
        let batch = session.handler_requests().claim(&claim).await.unwrap();
        assert_eq!(batch.unreadable, []);
        batch.requests
    }

    pub(super) async fn claim_one(&self, handler: &str) -> ClaimedRequest {
        let mut claimed = self.claim(&[handler], 1).await;
        claimed.pop().expect("a request is pending")
    }

    pub(super) fn settlement(&self, request: &ClaimedRequest, outcome: Outcome) -> Settlement {
        Settlement {
            id: request.id,
            attempt: request.attempt,
            owner: self.owner,
            outcome,
            executed: true,
            raised: Vec::new(),
            batch: request.batch,
        }
    }

    pub(super) async fn settle(&self, request: &ClaimedRequest, outcome: Outcome) -> Settled {
        let settlement = self.settlement(request, outcome);
        self.settle_as(settlement).await
    }

    pub(super) async fn settle_as(&self, settlement: Settlement) -> Settled {
        let mut session = self.session().await;
        let settled = session.handler_requests().settle(&[settlement]).await;
        settled.unwrap()[0]
    }

    /// Takes back everything whose lease ran out.
    pub(super) async fn rescue(&self) -> Vec<RescuedRequest> {
        self.rescue_and_look_ahead().await.requests
    }

    pub(super) async fn rescue_and_look_ahead(&self) -> Rescued {
        let rescue = RescueLost {
            limit: ALL,
            backoff: Backoff::constant(BACKOFF),
        };
        let mut session = self.session().await;
        session.handler_requests().rescue(&rescue).await.unwrap()
    }

    /// Lets all leases run out and takes back everything.
    pub(super) async fn lose_all(&self) -> Vec<RescuedRequest> {
        self.pass(LEASE + Duration::from_secs(1)).await;
        self.rescue().await
    }

    /// A request that was rescued so often that it is under suspicion.
    pub(super) async fn suspect(&self, handler: &str) -> HandlerRequestId {
        let id = self.pending(handler, 1).await[0];
        for _ in 0..crate::model::SUSPECT_FROM_RESCUES {
            assert_eq!(self.claim_one(handler).await.id, id);
            assert_eq!(self.lose_all().await.len(), 1);
        }
        id
    }

    pub(super) async fn find(&self, id: HandlerRequestId) -> HandlerRequest {
        let mut session = self.session().await;
        let found = session.handler_requests().find(id).await.unwrap();
        found.expect("the request exists")
    }

    /// The state of a request now: as the store says, since only it has the time.
    pub(super) async fn state(&self, id: HandlerRequestId) -> RequestState {
        let mut session = self.session().await;
        for state in RequestState::ALL {
            let filter = crate::store::RequestFilter {
                states: vec![state],
                ..Default::default()
            };
            let page = crate::store::Page::first(ALL);
            let found = session.handler_requests().list(&filter, &page).await;
            if found.unwrap().iter().any(|request| request.id == id) {
                return state;
            }
        }
        panic!("request {id} is in no state");
    }

    pub(super) async fn event_exists(&self, id: EventId) -> bool {
        let mut session = self.session().await;
        session.events().find(id).await.unwrap().is_some()
    }

    pub(super) async fn cancel(&self, id: HandlerRequestId) {
        let mut session = self.session().await;
        session.handler_requests().cancel(id).await.unwrap();
    }

    pub(super) async fn reexecute(&self, id: HandlerRequestId) {
        let mut session = self.session().await;
        session.handler_requests().reexecute(id).await.unwrap();
    }
}

pub(super) fn registration(
    &(pattern, handler, priority, max_errors): &(&str, &str, i16, u32),
) -> Registration {
    Registration::new(
        EventPattern::parse(pattern).unwrap(),
        handler.into(),
        Priority::new(priority).unwrap(),
        max_errors,
    )
}

pub(super) fn event(name: &str) -> Event {
    Event::from_data(name, EventData::from_json("{\"n\": 1}").unwrap())
}

pub(super) fn rooms(rooms: &[(&str, usize)]) -> Vec<HandlerRoom> {
    let room = |(handler, room): &(&str, usize)| HandlerRoom {
        handler: Name::from(*handler),
        room: *room,
    };
    rooms.iter().map(room).collect()
}

/// One error, and another execution after [`BACKOFF`].
pub(super) fn failed(error: &str) -> Outcome {
    Outcome::Failed {
        error: error.to_owned(),
        backoff: BACKOFF,
    }
}

/// Checks that a change was refused in this state.
pub(super) fn assert_refused<T: std::fmt::Debug>(
    answer: Result<T, StoreError>,
    state: RequestState,
) {
    match answer {
        Err(StoreError::Refused { state: named, .. }) => assert_eq!(named, state.to_string()),
        other => panic!("expected a refusal of a request that is {state}, got {other:?}"),
    }
}
