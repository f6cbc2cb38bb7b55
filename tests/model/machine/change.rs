//! What a step does.

use super::{
    breakage::{Breakage, Rules},
    row::{Now, Outcome, Place, Row},
    scope::{Handlers, Scope, is_in},
    step::Step,
    witness::{Deed, watch},
    world::{
        Claimed, EventRow, Execution, Ghost, NOW, Request, Stage, UnderWay, World, rescue_time,
    },
};

/// The world after a step that is possible in it.
pub(crate) fn take(before: &World, step: Step, scope: &Scope, rules: Rules) -> World {
    let mut change = Change {
        world: before.clone(),
        scope,
        rules,
    };
    let deed = change.make(step);
    let mut world = change.world;
    watch(before, &mut world, deed, scope);
    world.sort();
    world
}

struct Change<'a> {
    world: World,
    scope: &'a Scope,
    rules: Rules,
}

impl Change<'_> {
    fn make(&mut self, step: Step) -> Deed {
        if matches!(
            step,
            Step::FanOut { heard: false, .. }
                | Step::Claim { heard: false, .. }
                | Step::Settle { heard: false, .. }
                | Step::Commit { heard: false, .. }
                | Step::HandBack { heard: false, .. }
        ) {
            spend(&mut self.world.left.lost);
        }
        match step {
            Step::Raise { event } => self.world.events[event] = EventRow::Raised,
            Step::CommitRaise { event } => self.world.events[event] = EventRow::Committed,
            Step::RollBackRaise { event } => {
                spend(&mut self.world.left.rollbacks);
                self.world.events[event] = EventRow::RolledBack;
            }
            Step::Tick => {
                self.world.tick();
            }
            Step::Start { process } => {
                self.world.processes[process].is_up = true;
                self.world.processes[process].starts += 1;
                self.world.registered |= self.scope.processes[process].handlers;
            }
            Step::Crash { process } => self.crash(process),
            Step::FanOut {
                process,
                event,
                offer,
                heard,
            } => {
                return self.fan_out(process, event, offer, heard);
            }
            Step::BeginFanOut { process, event } => {
                self.world.processes[process].fanning_out = Some(event);
                if self
                    .rules
                    .are_broken_by(Breakage::ProcessedBeforeItsRequests)
                {
                    self.mark_processed(event);
                }
            }
            Step::EndFanOut { process } => {
                let event = self.world.processes[process].fanning_out.take();
                let event = event.expect("it has begun one");
                self.mark_processed(event);
                self.make_requests(event, self.world.registered);
                return Deed::FanOut { process };
            }
            Step::Claim {
                process,
                request,
                heard,
            } => return self.claim(process, request, heard),
            Step::Run { process, execution } => {
                self.execution(process, execution).stage = Stage::Running;
            }
            Step::Settle {
                process,
                execution,
                outcome,
                heard,
            } => {
                return self.settle(process, execution, outcome, heard);
            }
            Step::Write { process, execution } => return self.write(process, execution),
            Step::Commit {
                process,
                execution,
                heard,
            } => {
                return self.commit(process, execution, heard);
            }
            Step::ReadAgain { process, execution } => self.read_again(process, execution),
            Step::Renew { process, execution } => {
                let claimed = self.execution(process, execution).claimed;
                let (rules, lease) = (self.rules, self.scope.lease);
                let _ = self
                    .row(claimed.request)
                    .renew(rules, NOW, claimed.fence(), lease);
                return Deed::Renew(claimed);
            }
            Step::HandBack {
                process,
                execution,
                heard,
            } => {
                return self.hand_back(process, execution, heard);
            }
            Step::Rescue { process, request } => {
                spend(&mut self.world.left.rescues);
                let now = rescue_time(self.scope, self.rules, process);
                return self.rescue(request, now);
            }
            Step::Arrive { index } => {
                let UnderWay { claimed, outcome } = self.world.under_way.remove(index);
                return self.arrive(claimed, outcome);
            }
            Step::Land { index, applied } => {
                let claimed = self.world.committing.remove(index);
                return self.land(claimed, applied);
            }
            Step::Cancel { request } => {
                spend(&mut self.world.left.cancels);
                let rules = self.rules;
                let _ = self.row(request).cancel(rules);
                return Deed::Cancel { request };
            }
            Step::Reexecute { request } => {
                spend(&mut self.world.left.reexecutes);
                let rules = self.rules;
                let _ = self.row(request).reexecute(rules);
                return Deed::Reexecute;
            }
            Step::RunNow { request } => {
                spend(&mut self.world.left.run_nows);
                let _ = self.row(request).run_now();
            }
            Step::Retire { handler } => {
                spend(&mut self.world.left.retires);
                self.world.registered &= !(1 << handler);
            }
        }
        Deed::Other
    }

    /// What it had in mind is gone; its open transactions are rolled back.
    fn crash(&mut self, process: usize) {
        let it = &mut self.world.processes[process];
        let executions = std::mem::take(&mut it.executions);
        let is_killed = executions.iter().any(|execution| {
            execution.stage == Stage::Running && self.scope.handler(execution.claimed.request).kills
        });
        it.is_up = false;
        it.fanning_out = None;
        if !is_killed {
            spend(&mut self.world.left.crashes);
        }
        for execution in executions {
            if execution.stage == Stage::Written {
                self.request(execution.claimed.request).is_locked = false;
            }
        }
    }

    fn fan_out(&mut self, process: usize, event: usize, offer: bool, heard: bool) -> Deed {
        let wanted = self.mark_processed(event);
        let made = if self.rules.are_broken_by(Breakage::FanOutByOwnHandlers) {
            self.scope.processes[process].handlers
        } else {
            wanted
        };
        self.make_requests(event, made);
        for handler in 0..self.scope.handlers.len() {
            let request = self.scope.request(event, handler);
            if offer && is_in(made, handler) && self.scope.has(process, request) {
                self.claim(process, request, heard);
            }
        }
        self.world.position = match self.rules.0 {
            Some(Breakage::PositionBySequence) => event + 1,
            _ => 0,
        };
        Deed::FanOut { process }
    }

    fn mark_processed(&mut self, event: usize) -> Handlers {
        let wanted = self.world.registered;
        self.world.events[event] = EventRow::Processed { wanted };
        wanted
    }

    fn make_requests(&mut self, event: usize, handlers: Handlers) {
        for handler in 0..self.scope.handlers.len() {
            if is_in(handlers, handler) {
                let request = self.scope.request(event, handler);
                let ghost = self.world.requests[request].map(|it| it.ghost);
                self.world.requests[request] = Some(Request {
                    row: Row::new(self.scope.max_errors),
                    is_locked: false,
                    ghost: ghost.unwrap_or_default(),
                });
            }
        }
    }

    fn claim(&mut self, process: usize, request: usize, heard: bool) -> Deed {
        let (rules, lease, owner) = (self.rules, self.scope.lease, self.world.owner(process));
        let claim = self.request(request).ghost.claim + 1;
        let row = self.row(request);
        let claimed = row.claim(rules, NOW, owner, lease);
        claimed.expect("it was possible");
        let execution = Execution {
            is_suspect: row.is_suspect(),
            claimed: Claimed {
                request,
                owner,
                attempt: row.attempt,
                claim,
            },
            stage: Stage::Held,
        };
        if heard {
            self.world.processes[process].executions.push(execution);
        }
        Deed::Claim { process }
    }

    fn settle(&mut self, process: usize, index: usize, outcome: Outcome, heard: bool) -> Deed {
        let claimed = self.execution(process, index).claimed;
        if matches!(outcome, Outcome::Snooze { .. }) {
            self.world.left.snoozes = self.world.left.snoozes.saturating_sub(1);
        }
        if !heard {
            self.execution(process, index).stage = Stage::Sent(outcome);
            let outcome = Some(outcome);
            self.world.under_way.push(UnderWay { claimed, outcome });
            return Deed::Other;
        }
        self.world.processes[process].executions.remove(index);
        self.arrive(claimed, Some(outcome))
    }

    /// A settlement or a hand-back takes effect, or is refused.
    fn arrive(&mut self, claimed: Claimed, outcome: Option<Outcome>) -> Deed {
        let rules = self.rules;
        let row = self.row(claimed.request);
        // One that is refused changes nothing; whoever sent it may know or not.
        let _ = match outcome {
            Some(outcome) => row.settle(rules, NOW, claimed.fence(), outcome),
            None => row.hand_back(rules, claimed.fence()),
        };
        match outcome {
            Some(_) => Deed::Settle(claimed),
            None => Deed::HandBack(claimed),
        }
    }

    fn write(&mut self, process: usize, index: usize) -> Deed {
        let claimed = self.execution(process, index).claimed;
        if self
            .rules
            .are_broken_by(Breakage::SettledOutsideTheTransaction)
        {
            self.request(claimed.request).ghost.effects += 1;
            self.execution(process, index).stage = Stage::Sent(Outcome::Complete);
            return Deed::Other;
        }
        let mut settled = *self.row(claimed.request);
        if settled
            .settle(self.rules, NOW, claimed.fence(), Outcome::Complete)
            .is_ok()
        {
            self.request(claimed.request).is_locked = true;
            self.execution(process, index).stage = Stage::Written;
        } else {
            // Rolled back, and nothing more is written.
            self.world.processes[process].executions.remove(index);
        }
        Deed::Other
    }

    fn commit(&mut self, process: usize, index: usize, heard: bool) -> Deed {
        let claimed = self.execution(process, index).claimed;
        if heard {
            self.world.processes[process].executions.remove(index);
            return self.land(claimed, true);
        }
        self.execution(process, index).stage = Stage::Unknown;
        self.world.committing.push(claimed);
        Deed::Other
    }

    fn land(&mut self, claimed: Claimed, applied: bool) -> Deed {
        self.request(claimed.request).is_locked = false;
        if !applied {
            return Deed::Other;
        }
        self.request(claimed.request).ghost.effects += 1;
        self.arrive(claimed, Some(Outcome::Complete))
    }

    fn read_again(&mut self, process: usize, index: usize) {
        let claimed = self.execution(process, index).claimed;
        if self
            .row(claimed.request)
            .is_held(claimed.owner, claimed.attempt)
        {
            self.execution(process, index).stage = Stage::Undone;
        } else {
            self.world.processes[process].executions.remove(index);
        }
    }

    fn hand_back(&mut self, process: usize, index: usize, heard: bool) -> Deed {
        let it = self.world.processes[process].executions.remove(index);
        if it.stage != Stage::Undone {
            spend(&mut self.world.left.hand_backs);
        }
        if heard {
            return self.arrive(it.claimed, None);
        }
        self.world.under_way.push(UnderWay {
            claimed: it.claimed,
            outcome: None,
        });
        Deed::Other
    }

    fn rescue(&mut self, request: usize, now: Now) -> Deed {
        let (rules, backoff) = (self.rules, self.scope.backoff);
        let _ = self.row(request).rescue(rules, now, backoff);
        if let Place::Waiting { from } = &mut self.row(request).place {
            // A clock that is ahead has found the lease, which is all that is asked of it here.
            *from = (*from).min(backoff);
        }
        Deed::Rescue
    }

    fn execution(&mut self, process: usize, index: usize) -> &mut Execution {
        &mut self.world.processes[process].executions[index]
    }

    fn request(&mut self, request: usize) -> &mut Request {
        self.world.requests[request].as_mut().expect("it was made")
    }

    fn row(&mut self, request: usize) -> &mut Row {
        &mut self.request(request).row
    }
}

impl Ghost {
    pub(crate) const fn reexecuted(self) -> Self {
        Self {
            completions: 0,
            effects: 0,
            ..self
        }
    }
}

fn spend(budget: &mut u8) {
    *budget = budget.saturating_sub(1);
}
