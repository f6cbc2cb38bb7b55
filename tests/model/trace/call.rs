//! What is written down of a call to a store: what was asked, and what was answered, as far as the
//! state of requests depends on it.

use tidings::{
    Backoff, EventId, HandlerRequest, HandlerRequestId, LeaseOwner, Name, Outcome, Registration,
    Rescue,
    store::{Claim, ClaimedRequest, LeaseOffer, Raised, Renewal, Renewed, RescuedRequest, Settled},
};

use crate::machine::row::Now;

/// A call, whose effect came between its begin and its end.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) process: usize,
    /// The transaction in which it was made.
    pub(crate) transaction: Option<u32>,
    pub(crate) asked: Asked,
    pub(crate) fate: Fate,
    /// Numbers that grow with each begin and each end.
    pub(crate) begin: u64,
    pub(crate) end: Option<u64>,
    /// In microseconds of the store's clock.
    pub(crate) now: Now,
}

/// What is known of the effect of a call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fate {
    Answered(Answer),
    /// It failed for sure.
    Failed,
    /// It took effect, will do so, or never does.
    Unknown,
}

#[derive(Clone, Debug)]
pub(crate) enum Asked {
    Register(Vec<Registration>),
    Raise(Vec<(EventId, Name)>),
    FanOut(Option<LeaseOffer>),
    Claim {
        claim: Claim,
        suspects: bool,
    },
    Settle(Vec<Settling>),
    HandBack(LeaseOwner, Vec<(HandlerRequestId, u64)>),
    Renew(Renewal),
    Rescue {
        limit: usize,
        backoff: Backoff,
    },
    Find {
        id: HandlerRequestId,
        locked: bool,
    },
    Cancel(HandlerRequestId),
    Reexecute(HandlerRequestId),
    RunNow(HandlerRequestId),
    Commit,
    Rollback,
    /// One that the model leaves out.
    Other(#[expect(dead_code, reason = "a failing test shows it")] &'static str),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settling {
    pub(crate) id: HandlerRequestId,
    pub(crate) owner: LeaseOwner,
    pub(crate) attempt: u64,
    pub(crate) outcome: Outcome,
    /// The events that are stored with it.
    pub(crate) raised: Vec<(EventId, Name)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Done,
    Raised(Vec<Raised>),
    FannedOut {
        /// With the number of their requests.
        processed: Vec<(EventId, usize)>,
        born: Vec<Leased>,
    },
    Claimed(Vec<Leased>),
    Settled(Vec<Settled>),
    Renewed(Renewed),
    Rescued(Vec<TakenBack>),
    Found(Option<Box<HandlerRequest>>),
    /// The state that stood against it.
    Refused(String),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Leased {
    pub(crate) id: HandlerRequestId,
    pub(crate) event: EventId,
    pub(crate) handler: Name,
    pub(crate) attempt: u64,
    pub(crate) errors: u32,
    pub(crate) rescues: u32,
}

impl From<&ClaimedRequest> for Leased {
    fn from(claimed: &ClaimedRequest) -> Self {
        Self {
            id: claimed.id,
            event: claimed.event.id,
            handler: claimed.handler.clone(),
            attempt: claimed.attempt,
            errors: claimed.errors,
            rescues: claimed.rescues,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TakenBack {
    pub(crate) id: HandlerRequestId,
    pub(crate) owner: LeaseOwner,
    pub(crate) errors: u32,
    pub(crate) rescues: u32,
    pub(crate) rescue: Rescue,
}

impl From<&RescuedRequest> for TakenBack {
    fn from(rescued: &RescuedRequest) -> Self {
        Self {
            id: rescued.id,
            owner: rescued.owner,
            errors: rescued.errors,
            rescues: rescued.rescues,
            rescue: rescued.rescue,
        }
    }
}
