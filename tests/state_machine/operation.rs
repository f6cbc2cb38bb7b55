//! What is done to the store, at random. Numbers choose among what there is, whatever that is.

use proptest::prelude::*;

#[derive(Clone, Debug)]
pub(crate) enum Operation {
    /// Begins a transaction, if none is open.
    Begin,
    /// Ends it.
    End { commit: bool },
    /// Lets time pass.
    Wait { seconds: u64 },
    /// Reads everything. Not after every operation, since reading tidies the store's indexes.
    Compare,
    /// Runs in the open transaction if there is one and this says so, else in a session.
    Step { in_transaction: bool, step: Step },
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Raise {
        names: Vec<usize>,
        again: Option<usize>,
    },
    ClaimEvents {
        limit: usize,
    },
    FanOutClaimed {
        claims: Vec<usize>,
        void: bool,
    },
    FailEvents {
        claims: Vec<usize>,
        seconds: u64,
    },
    FanOut {
        limit: usize,
        offer: Option<Claim>,
    },
    Claim(Claim),
    ClaimSuspect(Claim),
    Settle {
        settlements: Vec<Settling>,
    },
    HandBack {
        claims: Vec<usize>,
        void: bool,
    },
    Renew {
        claims: Vec<usize>,
        seconds: u64,
    },
    Rescue {
        limit: usize,
        seconds: u64,
    },
    Cancel {
        request: usize,
    },
    Reexecute {
        request: usize,
    },
    RunNow {
        request: usize,
    },
    ReexecuteDead {
        limit: usize,
        handler: Option<usize>,
    },
    Replay {
        limit: usize,
        after: Option<usize>,
        name: Option<usize>,
        handler: Option<usize>,
    },
    Prune {
        limit: usize,
        after: Option<usize>,
        /// For completed, canceled and dead ones, and events.
        times: (Option<u64>, Option<u64>, Option<u64>, u64),
    },
    Lock {
        request: Option<usize>,
        event: Option<usize>,
    },
    Register {
        registrations: Vec<(usize, usize, i16, u32)>,
    },
    Retire {
        handler: usize,
    },
    Rename {
        from: usize,
        to: usize,
    },
    RenameRequests {
        from: usize,
        limit: usize,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) limit: usize,
    /// The room of each handler.
    pub(crate) rooms: Vec<usize>,
    pub(crate) seconds: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Settling {
    pub(crate) claim: usize,
    pub(crate) void: bool,
    pub(crate) outcome: usize,
    /// Raises this known event again, or a new one.
    pub(crate) raises: Option<Option<usize>>,
}

pub(crate) fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        2 => Just(Operation::Begin),
        4 => Just(Operation::Compare),
        2 => any::<bool>().prop_map(|commit| Operation::End { commit }),
        3 => seconds().prop_map(|seconds| Operation::Wait { seconds }),
        30 => (any::<bool>(), step()).prop_map(|(in_transaction, step)| Operation::Step { in_transaction, step }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let processing = prop_oneof![
        4 => (some(3), proptest::option::weighted(0.2, index())).prop_map(|(names, again)| Step::Raise { names, again }),
        1 => limit().prop_map(|limit| Step::ClaimEvents { limit }),
        1 => (some(3), rarely()).prop_map(|(claims, void)| Step::FanOutClaimed { claims, void }),
        1 => (some(2), seconds()).prop_map(|(claims, seconds)| Step::FailEvents { claims, seconds }),
        4 => (limit(), proptest::option::of(claim())).prop_map(|(limit, offer)| Step::FanOut { limit, offer }),
    ];
    let execution = prop_oneof![
        5 => claim().prop_map(Step::Claim),
        2 => claim().prop_map(Step::ClaimSuspect),
        5 => proptest::collection::vec(settling(), 1..4).prop_map(|settlements| Step::Settle { settlements }),
        1 => (some(2), rarely()).prop_map(|(claims, void)| Step::HandBack { claims, void }),
        1 => (some(3), seconds()).prop_map(|(claims, seconds)| Step::Renew { claims, seconds }),
        4 => (limit(), seconds()).prop_map(|(limit, seconds)| Step::Rescue { limit, seconds }),
    ];
    let administration = prop_oneof![
        2 => index().prop_map(|request| Step::Cancel { request }),
        2 => index().prop_map(|request| Step::Reexecute { request }),
        1 => index().prop_map(|request| Step::RunNow { request }),
        1 => (limit(), proptest::option::of(index())).prop_map(|(limit, handler)| Step::ReexecuteDead { limit, handler }),
        2 => (limit(), sometimes(), sometimes(), sometimes()).prop_map(|(limit, after, name, handler)| Step::Replay { limit, after, name, handler }),
        2 => (limit(), sometimes(), (often(), often(), often(), seconds())).prop_map(|(limit, after, times)| Step::Prune { limit, after, times }),
        1 => (proptest::option::of(index()), proptest::option::of(index())).prop_map(|(request, event)| Step::Lock { request, event }),
        3 => proptest::collection::vec((index(), index(), 0..3i16, 1..4u32), 1..3).prop_map(|registrations| Step::Register { registrations }),
        1 => index().prop_map(|handler| Step::Retire { handler }),
        1 => (index(), index()).prop_map(|(from, to)| Step::Rename { from, to }),
        2 => (index(), limit()).prop_map(|(from, limit)| Step::RenameRequests { from, limit }),
    ];
    prop_oneof![3 => processing, 5 => execution, 3 => administration]
}

fn claim() -> impl Strategy<Value = Claim> {
    (limit(), proptest::collection::vec(0..4usize, 3), seconds()).prop_map(
        |(limit, rooms, seconds)| Claim {
            limit,
            rooms,
            seconds,
        },
    )
}

fn settling() -> impl Strategy<Value = Settling> {
    let raises = proptest::option::weighted(0.2, proptest::option::of(index()));
    (index(), rarely(), 0..5usize, raises).prop_map(|(claim, void, outcome, raises)| Settling {
        claim,
        void,
        outcome,
        raises,
    })
}

fn some(max: usize) -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(index(), 1..=max)
}

fn index() -> impl Strategy<Value = usize> {
    0..24usize
}

fn limit() -> impl Strategy<Value = usize> {
    prop_oneof![1 => 0..3usize, 3 => Just(50)]
}

fn seconds() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 1..20u64, Just(60)]
}

fn sometimes() -> impl Strategy<Value = Option<usize>> {
    proptest::option::weighted(0.3, index())
}

/// Mostly a time after which something goes, and mostly at once.
fn often() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![5 => Just(Some(0)), 2 => seconds().prop_map(Some), 1 => Just(None)]
}

fn rarely() -> impl Strategy<Value = bool> {
    proptest::bool::weighted(0.15)
}
