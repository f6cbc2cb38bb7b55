//! The world when nothing goes wrong any more: whoever is down starts, what is under way arrives, and
//! each process does what it can, in turn. From every state this must end, and with nothing open.
//!
//! It is one continuation of many, but one that any deployment has sooner or later. A state from which
//! it leaves an event or a request behind is one in which that is lost.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    sync::Mutex,
};

use super::{
    breakage::{Breakage, Rules},
    change::take,
    row::{Outcome, Place},
    scope::{Budget, Scope, is_in},
    step::{Step, is_due, may_claim},
    world::{EventRow, Execution, Stage, World},
};

/// A continuation that has not ended by then goes round in a circle.
const MOST_STEPS: usize = 500;

/// States from which everything is known to come to an end, so that each is followed once.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    known: Mutex<HashSet<u64>>,
    hasher: RandomState,
}

impl Ending {
    /// Whether everything comes to an end from here.
    pub(crate) fn comes(&self, world: &World, scope: &Scope, rules: Rules) -> bool {
        let mut world = world.clone();
        let mut passed = Vec::new();
        for _ in 0..MOST_STEPS {
            // What may still go wrong makes no difference to it.
            world.left = Budget::default();
            let hash = self.hasher.hash_one(&world);
            if self.known.lock().expect("no panic").contains(&hash) {
                break;
            }
            passed.push(hash);
            match next(&world, scope, rules) {
                Some(step) => world = take(&world, step, scope, rules),
                None if has_ended(&world, scope) => break,
                None => return false,
            }
        }
        if passed.len() == MOST_STEPS {
            return false;
        }
        self.known.lock().expect("no panic").extend(passed);
        true
    }
}

/// The steps of the continuation, as far as it is followed.
pub(crate) fn continuation(world: &World, scope: &Scope, rules: Rules) -> Vec<Step> {
    let mut world = world.clone();
    let steps = std::iter::from_fn(|| {
        let step = next(&world, scope, rules)?;
        world = take(&world, step, scope, rules);
        Some(step)
    });
    steps.take(MOST_STEPS).collect()
}

/// Whether nothing is left to do.
fn has_ended(world: &World, scope: &Scope) -> bool {
    world
        .events
        .iter()
        .enumerate()
        .all(|(event, row)| match row {
            EventRow::NotRaised | EventRow::RolledBack => true,
            EventRow::Raised | EventRow::Committed => false,
            EventRow::Processed { wanted } => (0..scope.handlers.len())
                .filter(|handler| is_in(*wanted, *handler))
                .all(|handler| {
                    let request = world.requests[scope.request(event, handler)];
                    request.is_some_and(|request| request.row.place.is_end())
                }),
        })
}

fn next(world: &World, scope: &Scope, rules: Rules) -> Option<Step> {
    let of_the_network = || {
        let arrival = (!world.committing.is_empty()).then_some(Step::Land {
            index: 0,
            applied: false,
        });
        arrival.or_else(|| {
            let free = |it: &_| is_free(world, it);
            let index = world
                .under_way
                .iter()
                .position(|it| free(&it.claimed.request))?;
            Some(Step::Arrive { index })
        })
    };
    let of_applications = || {
        let event = world
            .events
            .iter()
            .position(|row| *row == EventRow::Raised)?;
        Some(Step::CommitRaise { event })
    };
    let start = || {
        let process = world.processes.iter().position(|process| !process.is_up)?;
        Some(Step::Start { process })
    };
    let execute = || {
        let mut executions = world.executions();
        executions.find_map(|(process, index, it)| next_of(world, scope, rules, process, index, it))
    };
    let process = || {
        let halves = world
            .processes
            .iter()
            .position(|it| it.fanning_out.is_some());
        if let Some(process) = halves {
            return Some(Step::EndFanOut { process });
        }
        let event = (0..world.events.len()).find(|event| is_due(world, rules, *event))?;
        let process = 0;
        if rules.fan_out_in_halves() {
            return Some(Step::BeginFanOut { process, event });
        }
        let (offer, heard) = (false, true);
        Some(Step::FanOut {
            process,
            event,
            offer,
            heard,
        })
    };
    let rescue = || {
        let mut requests = 0..world.requests.len();
        let request = requests.find(|request| world.is_lost(scope, rules, 0, *request))?;
        Some(Step::Rescue {
            process: 0,
            request,
        })
    };
    let claim = || {
        (0..world.requests.len()).find_map(|request| {
            let mut processes = 0..world.processes.len();
            let process = processes.find(|process| {
                let it = world.requests[request].map(|it| it.row.place);
                it != Some(Place::Canceled) && may_claim(world, scope, rules, *process, request)
            })?;
            Some(Step::Claim {
                process,
                request,
                heard: true,
            })
        })
    };
    let tick = || world.clone().tick().then_some(Step::Tick);
    of_the_network()
        .or_else(of_applications)
        .or_else(start)
        .or_else(execute)
        .or_else(process)
        .or_else(rescue)
        .or_else(claim)
        .or_else(tick)
}

fn next_of(
    world: &World,
    scope: &Scope,
    rules: Rules,
    process: usize,
    execution: usize,
    it: &Execution,
) -> Option<Step> {
    let request = it.claimed.request;
    let handler = scope.handler(request);
    let heard = true;
    if it.stage == Stage::Written {
        return Some(Step::Commit {
            process,
            execution,
            heard,
        });
    }
    if !is_free(world, &request) {
        return None;
    }
    let settle = |outcome| Step::Settle {
        process,
        execution,
        outcome,
        heard,
    };
    Some(match it.stage {
        Stage::Held => Step::Run { process, execution },
        Stage::Running if handler.kills => Step::Crash { process },
        Stage::Running if handler.transactional => Step::Write { process, execution },
        Stage::Running => settle(Outcome::Complete),
        Stage::Sent(outcome) => settle(outcome),
        Stage::Unknown if rules.are_broken_by(Breakage::LostAnswerTakenForFailure) => {
            settle(Outcome::Fail {
                backoff: scope.backoff,
            })
        }
        Stage::Unknown => Step::ReadAgain { process, execution },
        Stage::Undone => Step::HandBack {
            process,
            execution,
            heard,
        },
        Stage::Written => return None,
    })
}

fn is_free(world: &World, request: &usize) -> bool {
    world.is_free(*request)
}
