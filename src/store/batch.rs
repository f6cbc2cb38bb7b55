//! The values of the hot path's batch operations.
//!
//! They can get more fields, so other crates make them with `new`, which takes what a value cannot
//! be without, and assign the other fields.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};

use crate::{
    id::{CorrelationId, EventId, HandlerRequestId, LeaseOwner},
    model::{Entity, Event, Outcome, Priority, SUSPECT_FROM_RESCUES},
    text::Name,
};

/// Asks for events whose hooks are to run before they are fanned out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventClaim {
    /// Who asks.
    pub owner: LeaseOwner,
    /// For how long.
    pub lease: Duration,
    /// At most this many.
    pub limit: usize,
}

impl EventClaim {
    /// Asks for at most `limit` events.
    #[must_use]
    pub const fn new(owner: LeaseOwner, lease: Duration, limit: usize) -> Self {
        Self {
            owner,
            lease,
            limit,
        }
    }
}

/// An event that was claimed for processing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClaimedEvent {
    /// The event.
    pub event: Arc<Event>,
    /// The fence: a fan-out or failure of this claim names it.
    pub attempt: u64,
    /// How often processing it has failed.
    pub errors: u32,
}

impl ClaimedEvent {
    /// An event that was just claimed.
    #[must_use]
    pub const fn new(event: Arc<Event>, attempt: u64, errors: u32) -> Self {
        Self {
            event,
            attempt,
            errors,
        }
    }
}

/// Processing an event failed: a hook vetoed it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
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

impl EventFailure {
    /// The failure of the claim of an event.
    #[must_use]
    pub fn new(id: EventId, attempt: u64, error: impl Into<String>, backoff: Duration) -> Self {
        Self {
            id,
            attempt,
            error: error.into(),
            backoff,
        }
    }
}

/// Which events to fan out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
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
#[non_exhaustive]
pub struct HandlerRoom {
    /// The handler.
    pub handler: Name,
    /// At most this many of its requests.
    pub room: usize,
}

impl HandlerRoom {
    /// Room for so many requests of a handler.
    #[must_use]
    pub fn new(handler: impl Into<Name>, room: usize) -> Self {
        Self {
            handler: handler.into(),
            room,
        }
    }
}

/// A process offers to execute what it fans out: requests are born leased to it while there is
/// room and no ready request of better or equal priority waits for one of the offered handlers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
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

impl LeaseOffer {
    /// Offers to execute at most `limit` requests of these handlers.
    #[must_use]
    pub const fn new(
        owner: LeaseOwner,
        lease: Duration,
        limit: usize,
        handlers: Vec<HandlerRoom>,
    ) -> Self {
        Self {
            owner,
            lease,
            limit,
            handlers,
        }
    }
}

/// Asks to make handler requests of events.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FanOut {
    /// Which events.
    pub selection: Selection,
    /// Who would execute the requests at once.
    pub offer: Option<LeaseOffer>,
    /// When more than this many events are due while requests of an offered handler wait to be claimed,
    /// none is to be fanned out: those of the events would have to wait as well, and a claim costs
    /// more than a birth with a lease. Whoever asks claims first, then, and asks again. `None` fans out
    /// at any rate, as does a selection of claimed events.
    pub max_behind_backlog: Option<usize>,
    /// Whether this process has another fan-out under way, beside which this one is made.
    pub beside: bool,
}

impl FanOut {
    /// A fan-out of these events, whose requests wait to be claimed.
    #[must_use]
    pub const fn new(selection: Selection) -> Self {
        Self {
            selection,
            offer: None,
            max_behind_backlog: None,
            beside: false,
        }
    }

    /// A fan-out of at most `limit` due events, whose requests wait to be claimed.
    #[must_use]
    pub const fn due(limit: usize) -> Self {
        Self::new(Selection::Due { limit })
    }
}

/// What a fan-out did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FannedOut {
    /// The events that are processed now.
    pub processed: Vec<ProcessedEvent>,
    /// Requests that were born leased to the one who offered, by priority.
    pub born_leased: Vec<ClaimedRequest>,
    /// The handlers that have got requests which wait to be claimed, each once; `None` if nothing was
    /// processed, or from a store that does not tell: then they may be any.
    pub ready_handlers: Option<Vec<Name>>,
    /// Nothing was processed because [requests wait to be claimed](FanOut::max_behind_backlog).
    pub held_back: bool,
    /// Another process was fanning out at the time, so that fan-outs of one process beside each other
    /// would be in its way. Not told of one that is [beside](FanOut::beside) another, nor by every store.
    pub contended: bool,
    /// Only a part of the queue was looked at, where most events are: a [look](super::Storer::look) tells
    /// whether there are others.
    pub partial: bool,
    /// When nothing more is due now: how long until an event that backs off is.
    pub next_due: Option<Duration>,
}

/// An event that has been processed, without its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
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

impl ProcessedEvent {
    /// An event without entity that has got so many requests.
    #[must_use]
    pub fn new(
        id: EventId,
        name: impl Into<Name>,
        correlation_id: CorrelationId,
        timestamp: DateTime<Utc>,
        requests: usize,
    ) -> Self {
        Self {
            id,
            name: name.into(),
            entity: None,
            correlation_id,
            timestamp,
            requests,
        }
    }
}

/// Asks for handler requests to execute.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
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

impl Claim {
    /// Asks for at most `limit` requests of these handlers.
    #[must_use]
    pub const fn new(
        owner: LeaseOwner,
        lease: Duration,
        limit: usize,
        handlers: Vec<HandlerRoom>,
    ) -> Self {
        Self {
            owner,
            lease,
            limit,
            handlers,
        }
    }
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
    /// that backs off is, or, where others were taking the best ones just then, until it is worth
    /// asking again.
    pub next_due: Option<Duration>,
    /// When fewer than the limit were due: whether a due request of the asked handlers waits under
    /// suspicion, so that a claim of suspects is worth its call.
    pub suspect_waits: bool,
}

/// A claimed request: what an executor needs to know, and its event.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
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
    /// What the store calls the batch in which it was leased, if it keeps track of batches. It goes
    /// back with the settlement.
    pub batch: Option<u64>,
}

impl ClaimedRequest {
    /// A request without errors, executions and rescues, and with the default priority; a store
    /// assigns what is different.
    #[must_use]
    pub fn new(
        id: HandlerRequestId,
        event: Arc<Event>,
        handler: impl Into<Name>,
        attempt: u64,
        max_errors: u32,
    ) -> Self {
        Self {
            id,
            event,
            handler: handler.into(),
            priority: Priority::default(),
            attempt,
            errors: 0,
            max_errors,
            executions: 0,
            rescues: 0,
            batch: None,
        }
    }

    /// Whether it was rescued so often that it may be what kills its processes.
    #[must_use]
    pub const fn is_suspect(&self) -> bool {
        self.rescues >= SUSPECT_FROM_RESCUES
    }
}

/// A claimed request whose event cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
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

impl UnreadableRequest {
    /// A request that was just claimed; `error` names table, column, row and reason.
    #[must_use]
    pub fn new(
        id: HandlerRequestId,
        handler: impl Into<Name>,
        attempt: u64,
        errors: u32,
        error: impl Into<String>,
    ) -> Self {
        Self {
            id,
            handler: handler.into(),
            attempt,
            errors,
            error: error.into(),
        }
    }
}

/// The outcome of one claimed request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
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
    /// The batch that the [claimed request](ClaimedRequest::batch) names. Stores need not be told.
    pub batch: Option<u64>,
}

impl Settlement {
    /// The outcome of an execution that raised nothing.
    #[must_use]
    pub const fn new(
        id: HandlerRequestId,
        attempt: u64,
        owner: LeaseOwner,
        outcome: Outcome,
    ) -> Self {
        Self {
            id,
            attempt,
            owner,
            outcome,
            executed: true,
            raised: Vec::new(),
            batch: None,
        }
    }
}

/// Whether a settlement or hand-back took effect.
// Exhaustive: the fence holds or it does not, or nobody can tell yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It did.
    Applied,
    /// The fence refused it: somebody else has the request by now, or it ended. Nothing changed.
    Fenced,
    /// A transaction has locked the request, whose fence held before. Nothing changed; it is worth
    /// trying again.
    Locked,
}

/// Asks to keep leases.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Renewal {
    /// Whose.
    pub owner: LeaseOwner,
    /// For how long from now.
    pub lease: Duration,
    /// Which, with their fences.
    pub requests: Vec<(HandlerRequestId, u64)>,
}

impl Renewal {
    /// Asks to keep these requests, each with its fence, for `lease` from now.
    #[must_use]
    pub const fn new(
        owner: LeaseOwner,
        lease: Duration,
        requests: Vec<(HandlerRequestId, u64)>,
    ) -> Self {
        Self {
            owner,
            lease,
            requests,
        }
    }
}

/// What became of leases that were to be renewed; those that are in neither list were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Renewed {
    /// Claims that are over: taken by somebody else, canceled, or ended.
    pub lost: Vec<(HandlerRequestId, u64)>,
    /// Claims whose requests a transaction had locked. Their leases run out when they would have,
    /// so they are worth renewing again soon.
    pub skipped: Vec<(HandlerRequestId, u64)>,
}

impl Renewed {
    /// Leases of which these are lost, and none was skipped.
    #[must_use]
    pub const fn new(lost: Vec<(HandlerRequestId, u64)>) -> Self {
        Self {
            lost,
            skipped: Vec::new(),
        }
    }
}
