//! What may happen next to an execution.

use super::{
    breakage::{Breakage, Rules},
    row::{Outcome, Place},
    scope::{Answer, Scope},
    step::{Step, Steps},
    world::{Execution, Stage},
};

impl Steps<'_> {
    pub(super) fn of_execution(&mut self, process: usize, index: usize, it: &Execution) {
        let request = it.claimed.request;
        let execution = index;
        let (handler, left) = (self.scope.handler(request), self.world.left);
        let is_free = self.world.is_free(request);
        if left.hand_backs > 0 && is_free && matches!(it.stage, Stage::Held | Stage::Running) {
            self.call(|heard| Step::HandBack {
                process,
                execution,
                heard,
            });
        }
        match it.stage {
            Stage::Held => self.push(Step::Run { process, execution }),
            Stage::Running if handler.kills => self.push(Step::Crash { process }),
            Stage::Running => {
                if handler.transactional && is_free {
                    self.push(Step::Write { process, execution });
                } else if is_free {
                    self.settle(process, execution, Outcome::Complete);
                }
                for answer in handler.answers.iter().filter(|_| is_free) {
                    if *answer != Answer::Snooze || left.snoozes > 0 {
                        self.settle(process, execution, self.outcome(*answer));
                    }
                }
            }
            Stage::Sent(outcome) if is_free => {
                self.settle(
                    process,
                    execution,
                    outcome_of_second_try(self.rules, self.scope, outcome),
                );
            }
            Stage::Written => self.call(|heard| Step::Commit {
                process,
                execution,
                heard,
            }),
            Stage::Unknown if is_free => {
                if self
                    .rules
                    .are_broken_by(Breakage::LostAnswerTakenForFailure)
                {
                    let outcome = self.outcome(Answer::Error);
                    self.settle(process, execution, outcome);
                } else {
                    self.push(Step::ReadAgain { process, execution });
                }
            }
            Stage::Undone if is_free => {
                self.push(Step::HandBack {
                    process,
                    execution,
                    heard: true,
                });
            }
            Stage::Sent(_) | Stage::Unknown | Stage::Undone => {}
        }
        if is_free && self.may_renew(it) {
            self.push(Step::Renew { process, execution });
        }
    }

    fn settle(&mut self, process: usize, execution: usize, outcome: Outcome) {
        self.call(|heard| Step::Settle {
            process,
            execution,
            outcome,
            heard,
        });
    }

    fn outcome(&self, answer: Answer) -> Outcome {
        match answer {
            Answer::Error => Outcome::Fail {
                backoff: self.scope.backoff,
            },
            Answer::Discard => Outcome::Discard,
            Answer::Snooze => Outcome::Snooze {
                wait: self.scope.backoff,
            },
            Answer::Cancel => Outcome::Cancel,
        }
    }

    /// Whether a renewal makes a difference.
    fn may_renew(&self, execution: &Execution) -> bool {
        let Some(request) = self.world.requests[execution.claimed.request] else {
            return false;
        };
        let (owner, attempt) = execution.claimed.fence();
        let passes = request.row.is_held(owner, attempt)
            || self.rules.are_broken_by(Breakage::RenewalWithoutFence);
        let lease = self.scope.lease;
        passes
            && matches!(request.row.place, Place::Executing { until, .. } if until < lease || request.ghost.promised < lease)
    }
}

fn outcome_of_second_try(rules: Rules, scope: &Scope, outcome: Outcome) -> Outcome {
    if rules.are_broken_by(Breakage::LostAnswerTakenForFailure) {
        Outcome::Fail {
            backoff: scope.backoff,
        }
    } else {
        outcome
    }
}
