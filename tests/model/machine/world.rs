//! One state of the world: what the database has, what the processes have in mind, what is under way
//! between them, and what nobody in it can see but the properties ask for.
//!
//! Time is relative: instants are counted from now on, and 0 is past.

use super::{
    breakage::Rules,
    law::Laws,
    row::{Now, Outcome, Owner, Place, Row},
    scope::{Budget, Handlers, Scope},
};

/// It is always now.
pub(crate) const NOW: Now = Now::at(0);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) events: Vec<EventRow>,
    /// By their number, see [`Scope::request`]; those that were made.
    pub(crate) requests: Vec<Option<Request>>,
    pub(crate) registered: Handlers,
    pub(crate) processes: Vec<Process>,
    /// Settlements and hand-backs that were sent, and whose answer nobody waits for any more. They
    /// take effect at any time or never.
    pub(crate) under_way: Vec<UnderWay>,
    /// Commits of handlers' transactions whose answer nobody waits for any more. Their rows are locked
    /// until the database has decided.
    pub(crate) committing: Vec<Claimed>,
    pub(crate) left: Budget,
    /// The last event that a fan-out saw and one more, where that is what it goes by.
    pub(crate) position: usize,
    /// What went wrong in the last step.
    pub(crate) broken: Laws,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum EventRow {
    NotRaised,
    /// Its transaction is open.
    Raised,
    RolledBack,
    Committed,
    /// It was fanned out, when these handlers were registered.
    Processed {
        wanted: Handlers,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Request {
    pub(crate) row: Row,
    /// A handler's transaction has settled it and is not committed.
    pub(crate) is_locked: bool,
    pub(crate) ghost: Ghost,
}

/// What only the properties know of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Ghost {
    /// The number of its last claim.
    pub(crate) claim: u8,
    /// Until when the last lease that was given for it was promised to last.
    pub(crate) promised: u64,
    /// How often it has completed since it was made or reexecuted.
    pub(crate) completions: u8,
    /// How often its handler's transactional writes were committed since then.
    pub(crate) effects: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pub(crate) is_up: bool,
    /// How often it has started, which tells its owners apart.
    pub(crate) starts: u8,
    /// What it believes to hold, in a fixed order.
    pub(crate) executions: Vec<Execution>,
    /// A fan-out that it is in the middle of, where that is possible.
    pub(crate) fanning_out: Option<usize>,
}

/// A claim: which request, in which attempt and, beyond what anybody knows, which of its claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Claimed {
    pub(crate) request: usize,
    pub(crate) owner: Owner,
    pub(crate) attempt: u64,
    pub(crate) claim: u8,
}

impl Claimed {
    pub(crate) const fn fence(&self) -> (Owner, u64) {
        (self.owner, self.attempt)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Execution {
    pub(crate) claimed: Claimed,
    pub(crate) is_suspect: bool,
    pub(crate) stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Stage {
    /// It waits for a worker.
    Held,
    /// Its handler runs.
    Running,
    /// Its outcome was sent, and no answer came.
    Sent(Outcome),
    /// Its handler's writes and its settlement are in an open transaction.
    Written,
    /// The answer to the commit of its transaction was lost.
    Unknown,
    /// Its transaction was undone.
    Undone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct UnderWay {
    pub(crate) claimed: Claimed,
    /// A settlement, or else a hand-back.
    pub(crate) outcome: Option<Outcome>,
}

impl World {
    pub(crate) fn new(scope: &Scope) -> Self {
        let up = scope
            .processes
            .iter()
            .filter(|process| !process.starts_late);
        Self {
            events: vec![EventRow::NotRaised; scope.events],
            requests: vec![None; scope.events * scope.handlers.len()],
            registered: up.fold(0, |all, process| all | process.handlers),
            processes: scope
                .processes
                .iter()
                .map(|process| Process {
                    is_up: !process.starts_late,
                    starts: 0,
                    executions: Vec::new(),
                    fanning_out: None,
                })
                .collect(),
            under_way: Vec::new(),
            committing: Vec::new(),
            left: scope.budget,
            position: 0,
            broken: Laws::NONE,
        }
    }

    pub(crate) fn owner(&self, process: usize) -> Owner {
        let number = process * 32 + usize::from(self.processes[process].starts);
        Owner(number as u128)
    }

    /// The process of the first of these executions, and those of it.
    pub(crate) fn executions(&self) -> impl Iterator<Item = (usize, usize, &Execution)> {
        let processes = self.processes.iter().enumerate();
        processes.flat_map(|(process, it)| {
            let executions = it.executions.iter().enumerate();
            executions.map(move |(index, execution)| (process, index, execution))
        })
    }

    /// Whether the claim is the one that the request is in.
    pub(crate) fn is_current(&self, claimed: &Claimed) -> bool {
        self.requests[claimed.request].is_some_and(|request| {
            request.row.place.is_executing() && request.ghost.claim == claimed.claim
        })
    }

    /// Whether it is open to calls that wait for no lock.
    pub(crate) fn is_free(&self, request: usize) -> bool {
        self.requests[request].is_some_and(|request| !request.is_locked)
    }

    /// Whether rescuers of this process find that the lease has run out.
    pub(crate) fn is_lost(
        &self,
        scope: &Scope,
        rules: Rules,
        process: usize,
        request: usize,
    ) -> bool {
        let now = rescue_time(scope, rules, process);
        self.is_free(request) && self.requests[request].is_some_and(|it| it.row.is_expired(now))
    }

    /// Lets one tick pass; whether that makes a difference.
    pub(crate) fn tick(&mut self) -> bool {
        let mut passed = false;
        for request in self.requests.iter_mut().flatten() {
            let instant = match &mut request.row.place {
                Place::Waiting { from } => from,
                Place::Executing { until, .. } => until,
                _ => continue,
            };
            for instant in [instant, &mut request.ghost.promised] {
                passed |= *instant > 0;
                *instant = instant.saturating_sub(1);
            }
        }
        passed
    }

    /// Puts what has no order into one.
    pub(crate) fn sort(&mut self) {
        for process in &mut self.processes {
            process.executions.sort_unstable();
        }
        self.under_way.sort_unstable();
        self.committing.sort_unstable();
    }
}

/// What a rescue compares leases with: the database's clock, and nobody else's.
pub(crate) fn rescue_time(scope: &Scope, rules: Rules, process: usize) -> Now {
    if rules.are_broken_by(super::breakage::Breakage::ProcessClock) {
        Now::at(scope.processes[process].ahead)
    } else {
        NOW
    }
}
