//! What may happen next. A step is one that the rules allow, at any time at which they allow it: no
//! order is favored, and nobody is in time unless the rules make it so.

use super::{
    breakage::{Breakage, Rules},
    row::{Outcome, Place},
    scope::{Scope, is_in},
    world::{EventRow, NOW, World},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// An application writes an event in a transaction.
    Raise {
        event: usize,
    },
    /// It commits.
    CommitRaise {
        event: usize,
    },
    RollBackRaise {
        event: usize,
    },
    /// The database's clock goes on.
    Tick,
    /// A process starts and registers its handlers.
    Start {
        process: usize,
    },
    /// It ends without a word.
    Crash {
        process: usize,
    },
    /// Makes an event's requests, and marks it as processed.
    FanOut {
        process: usize,
        event: usize,
        offer: bool,
        heard: bool,
    },
    /// The first half of a fan-out that is no single transaction.
    BeginFanOut {
        process: usize,
        event: usize,
    },
    /// The second one.
    EndFanOut {
        process: usize,
    },
    /// Claims a request. What was claimed by an answer that was not heard nobody knows to have.
    Claim {
        process: usize,
        request: usize,
        heard: bool,
    },
    /// A handler begins.
    Run {
        process: usize,
        execution: usize,
    },
    /// It ends, and its outcome is sent.
    Settle {
        process: usize,
        execution: usize,
        outcome: Outcome,
        heard: bool,
    },
    /// A transactional handler ends, and its request is settled in its transaction.
    Write {
        process: usize,
        execution: usize,
    },
    /// That transaction is committed.
    Commit {
        process: usize,
        execution: usize,
        heard: bool,
    },
    /// After a commit whose answer was lost the request is read, locked.
    ReadAgain {
        process: usize,
        execution: usize,
    },
    Renew {
        process: usize,
        execution: usize,
    },
    /// Gives up what did not begin, or was broken off.
    HandBack {
        process: usize,
        execution: usize,
        heard: bool,
    },
    Rescue {
        process: usize,
        request: usize,
    },
    /// A settlement or hand-back that was given up for lost reaches the database.
    Arrive {
        index: usize,
    },
    /// The database decides upon a commit that was given up for lost.
    Land {
        index: usize,
        applied: bool,
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
    Retire {
        handler: usize,
    },
}

/// All steps that are possible now, always in the same order.
pub(crate) fn possible(world: &World, scope: &Scope, rules: Rules, steps: &mut Vec<Step>) {
    if !world.broken.is_empty() {
        return;
    }
    let steps = &mut Steps {
        world,
        scope,
        rules,
        steps,
    };
    steps.of_applications();
    if world.clone().tick() {
        steps.push(Step::Tick);
    }
    for process in 0..world.processes.len() {
        steps.of_process(process);
    }
    for (process, index, execution) in world.executions() {
        steps.of_execution(process, index, execution);
    }
    for request in 0..world.requests.len() {
        steps.of_request(request);
    }
    steps.of_the_network();
}

pub(super) struct Steps<'a> {
    pub(super) world: &'a World,
    pub(super) scope: &'a Scope,
    pub(super) rules: Rules,
    steps: &'a mut Vec<Step>,
}

impl Steps<'_> {
    pub(super) fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// A call, whose answer may get lost.
    pub(super) fn call(&mut self, step: impl Fn(bool) -> Step) {
        self.push(step(true));
        if self.world.left.lost > 0 {
            self.push(step(false));
        }
    }

    fn of_applications(&mut self) {
        for (event, row) in self.world.events.iter().enumerate() {
            match row {
                EventRow::NotRaised => self.push(Step::Raise { event }),
                EventRow::Raised => {
                    self.push(Step::CommitRaise { event });
                    if self.world.left.rollbacks > 0 {
                        self.push(Step::RollBackRaise { event });
                    }
                }
                _ => {}
            }
        }
    }

    fn of_process(&mut self, process: usize) {
        let it = &self.world.processes[process];
        if !it.is_up {
            return self.push(Step::Start { process });
        }
        let has_begun = !it.executions.is_empty() || it.fanning_out.is_some();
        if self.world.left.crashes > 0 && has_begun {
            self.push(Step::Crash { process });
        }
        if it.fanning_out.is_some() {
            return self.push(Step::EndFanOut { process });
        }
        for event in 0..self.world.events.len() {
            if is_due(self.world, self.rules, event) {
                self.fan_out(process, event);
            }
        }
    }

    fn fan_out(&mut self, process: usize, event: usize) {
        if self.rules.fan_out_in_halves() {
            return self.push(Step::BeginFanOut { process, event });
        }
        // Without an offer it is the same whoever does it.
        if is_first_up(self.world, process)
            || self.rules.are_broken_by(Breakage::FanOutByOwnHandlers)
        {
            let (offer, heard) = (false, true);
            self.push(Step::FanOut {
                process,
                event,
                offer,
                heard,
            });
        }
        if self.scope.offers {
            self.call(|heard| Step::FanOut {
                process,
                event,
                offer: true,
                heard,
            });
        }
    }

    fn of_request(&mut self, request: usize) {
        let Some(it) = self.world.requests[request].filter(|it| !it.is_locked) else {
            return;
        };
        let (row, left) = (it.row, self.world.left);
        for process in 0..self.world.processes.len() {
            if may_claim(self.world, self.scope, self.rules, process, request) {
                self.call(|heard| Step::Claim {
                    process,
                    request,
                    heard,
                });
            }
            // It is the same whoever rescues, unless clocks matter.
            let rescues = is_first_up(self.world, process)
                || self.rules.are_broken_by(Breakage::ProcessClock)
                    && self.world.processes[process].is_up;
            if left.rescues > 0
                && rescues
                && self.world.is_lost(self.scope, self.rules, process, request)
            {
                self.push(Step::Rescue { process, request });
            }
        }
        if left.cancels > 0 && !matches!(row.place, Place::Completed | Place::Canceled) {
            self.push(Step::Cancel { request });
        }
        if left.reexecutes > 0 && row.place.is_end() {
            self.push(Step::Reexecute { request });
        }
        if left.run_nows > 0 && matches!(row.place, Place::Waiting { from } if from > 0) {
            self.push(Step::RunNow { request });
        }
    }

    fn of_the_network(&mut self) {
        for (index, under_way) in self.world.under_way.iter().enumerate() {
            if self.world.is_free(under_way.claimed.request) {
                self.push(Step::Arrive { index });
            }
        }
        for index in 0..self.world.committing.len() {
            self.push(Step::Land {
                index,
                applied: false,
            });
            self.push(Step::Land {
                index,
                applied: true,
            });
        }
        for handler in 0..self.scope.handlers.len() {
            if self.world.left.retires > 0 && is_in(self.world.registered, handler) {
                self.push(Step::Retire { handler });
            }
        }
    }
}

impl Rules {
    pub(crate) fn fan_out_in_halves(self) -> bool {
        self.are_broken_by(Breakage::ProcessedBeforeItsRequests)
            || self.are_broken_by(Breakage::FanOutReplaces)
    }
}

/// Whether a fan-out finds the event.
pub(crate) fn is_due(world: &World, rules: Rules, event: usize) -> bool {
    let is_seen = match world.events[event] {
        EventRow::Committed => true,
        EventRow::Raised => rules.are_broken_by(Breakage::UncommittedRead),
        _ => false,
    };
    is_seen && (!rules.are_broken_by(Breakage::PositionBySequence) || event >= world.position)
}

pub(crate) fn may_claim(
    world: &World,
    scope: &Scope,
    rules: Rules,
    process: usize,
    request: usize,
) -> bool {
    let it = &world.processes[process];
    let Some(row) = world.requests[request]
        .filter(|it| !it.is_locked)
        .map(|it| it.row)
    else {
        return false;
    };
    let has_suspect = it.executions.iter().any(|execution| execution.is_suspect);
    let claims_canceled = rules.are_broken_by(Breakage::ClaimTakesTheCanceled);
    it.is_up
        && (scope.has(process, request) || rules.are_broken_by(Breakage::ClaimOfAnyHandler))
        && (row.is_due(NOW) || claims_canceled && row.place == Place::Canceled)
        && (!row.is_suspect() || !has_suspect || rules.are_broken_by(Breakage::SuspectsTogether))
}

fn is_first_up(world: &World, process: usize) -> bool {
    world.processes.iter().position(|it| it.is_up) == Some(process)
}
