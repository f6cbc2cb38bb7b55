//! The values of the hot path's batch operations.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};

use crate::{
    id::{CorrelationId, EventId, HandlerRequestId, LeaseOwner},
    model::{Backoff, Entity, Event, Outcome, Priority, Rescue, SUSPECT_FROM_RESCUES},
    text::Name,
};

/// Asks for events whose hooks are to run before they are fanned out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventClaim {
    /// Who asks.
    pub owner: LeaseOwner,
    /// For how long.
    pub lease: Duration,
    /// At most this many.
    pub limit: usize,
}

/// An event that was claimed for processing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedEvent {
    /// The event.
    pub event: Arc<Event>,
    /// The fence: a fan-out or failure of this claim names it.
    pub attempt: u64,
    /// How often processing it has failed.
    pub errors: u32,
}

/// Processing an event failed: a hook vetoed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFailure {
    /// The event.
    pub id: EventId,
    /// The claim's fence.
    pub attempt: u64,
    /// Why.
    pub error: String,
    /// How long to wait before it is claimed again.
    pub backoff: Duration,
}

/// Which events to fan out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Any that are unprocessed, due and unclaimed, oldest first, at most this many.
    Due {
        /// At most this many.
        limit: usize,
    },
    /// Those that were claimed, each with its fence; what is not held any more is left alone.
    Claimed(Vec<(EventId, u64)>),
}

/// How many more requests of a handler a process can take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerRoom {
    /// The handler.
    pub handler: Name,
    /// At most this many of its requests.
    pub room: usize,
}

/// A process offers to execute what it fans out: requests are born leased to it while there is
/// room and no ready request of better or equal priority waits for one of the offered handlers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseOffer {
    /// Who offers.
    pub owner: LeaseOwner,
    /// For how long.
    pub lease: Duration,
    /// At most this many altogether.
    pub limit: usize,
    /// Its handlers and their room.
    pub handlers: Vec<HandlerRoom>,
}

/// Asks to make handler requests of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FanOut {
    /// Which events.
    pub selection: Selection,
    /// Who would execute the requests at once.
    pub offer: Option<LeaseOffer>,
}

/// What a fan-out did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FannedOut {
    /// The events that are processed now.
    pub processed: Vec<ProcessedEvent>,
    /// Requests that were born leased to the one who offered, by priority.
    pub born_leased: Vec<ClaimedRequest>,
    /// When nothing more is due now: how long until an event that backs off is.
    pub next_due: Option<Duration>,
}

/// An event that has been processed, without its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessedEvent {
    /// Its id.
    pub id: EventId,
    /// Its name.
    pub name: Name,
    /// What it is about.
    pub entity: Option<Entity>,
    /// Its flow.
    pub correlation_id: CorrelationId,
    /// When it happened.
    pub timestamp: DateTime<Utc>,
    /// How many handler requests it has got; 0 when no registration wants it.
    pub requests: usize,
}

/// Asks for handler requests to execute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Who asks.
    pub owner: LeaseOwner,
    /// For how long.
    pub lease: Duration,
    /// At most this many altogether.
    pub limit: usize,
    /// The handlers that the process has and that are not full.
    pub handlers: Vec<HandlerRoom>,
}

/// What a claim got.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClaimedBatch {
    /// Claimed requests, by priority, then id.
    pub requests: Vec<ClaimedRequest>,
    /// Requests that were claimed but whose event cannot be read; they are to be settled with the
    /// error.
    pub unreadable: Vec<UnreadableRequest>,
    /// When fewer than the limit were due: how long until the next request of the asked handlers
    /// that backs off is.
    pub next_due: Option<Duration>,
}

/// A claimed request: what an executor needs to know, and its event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedRequest {
    /// Its id.
    pub id: HandlerRequestId,
    /// Its event, shared by all requests of one batch.
    pub event: Arc<Event>,
    /// The handler.
    pub handler: Name,
    /// Its priority.
    pub priority: Priority,
    /// The fence.
    pub attempt: u64,
    /// Errors so far.
    pub errors: u32,
    /// The number of errors that makes it dead.
    pub max_errors: u32,
    /// Executions so far.
    pub executions: u32,
    /// Rescues so far.
    pub rescues: u32,
}

impl ClaimedRequest {
    /// Whether it was rescued so often that it may be what kills its processes.
    #[must_use]
    pub const fn is_suspect(&self) -> bool {
        self.rescues >= SUSPECT_FROM_RESCUES
    }
}

/// A claimed request whose event cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableRequest {
    /// Its id.
    pub id: HandlerRequestId,
    /// Its handler.
    pub handler: Name,
    /// The fence.
    pub attempt: u64,
    /// Errors so far.
    pub errors: u32,
    /// Table, column, row and reason.
    pub error: String,
}

/// The outcome of one claimed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The request.
    pub id: HandlerRequestId,
    /// The fence.
    pub attempt: u64,
    /// Who held it.
    pub owner: LeaseOwner,
    /// What happened.
    pub outcome: Outcome,
    /// Whether the handler ran.
    pub executed: bool,
    /// Events that the handler raised; they are stored only if the fence holds, with the
    /// settlement.
    pub raised: Vec<Event>,
}

/// Whether a settlement or hand-back took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It did.
    Applied,
    /// The fence refused it: somebody else has the request by now, or it ended. Nothing changed.
    Fenced,
}

/// Asks to keep leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// Whose.
    pub owner: LeaseOwner,
    /// For how long from now.
    pub lease: Duration,
    /// Which, with their fences.
    pub requests: Vec<(HandlerRequestId, u64)>,
}

/// Asks to take back requests whose lease ran out.
#[derive(Clone, Debug, PartialEq)]
pub struct RescueLost {
    /// At most this many.
    pub limit: usize,
    /// How long requests under suspicion wait.
    pub backoff: Backoff,
}

/// A request that was taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RescuedRequest {
    /// Its id.
    pub id: HandlerRequestId,
    /// Its event.
    pub event_id: EventId,
    /// The event's name.
    pub event_name: Name,
    /// Its handler.
    pub handler: Name,
    /// Who lost it.
    pub owner: LeaseOwner,
    /// Errors, with the one that this rescue may have counted.
    pub errors: u32,
    /// Rescues, with this one.
    pub rescues: u32,
    /// What became of it.
    pub rescue: Rescue,
}
