//! The transitions of one request against a machine of plain enums, written from the guide's table
//! and sharing nothing with them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use proptest::prelude::*;
use tidings::{EventId, HandlerRequest, LeaseOwner, Outcome, Priority, RequestState};

const MAX_ERRORS: u32 = 3;

/// What may be tried with a request. Times are in seconds.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Pass(u64),
    Claim {
        owner: usize,
        lease: u64,
    },
    Settle {
        owner: usize,
        stale: bool,
        outcome: Ending,
    },
    HandBack {
        owner: usize,
        stale: bool,
    },
    Renew {
        owner: usize,
        stale: bool,
        lease: u64,
    },
    Rescue {
        backoff: u64,
    },
    Cancel,
    Reexecute,
    RunNow,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    Complete,
    Fail(u64),
    Discard,
    Snooze(u64),
    Cancel,
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let (owner, seconds) = (0..2_usize, 0..40_u64);
    let ending = prop_oneof![
        Just(Ending::Complete),
        seconds.clone().prop_map(Ending::Fail),
        Just(Ending::Discard),
        seconds.clone().prop_map(Ending::Snooze),
        Just(Ending::Cancel),
    ];
    let stale = prop::bool::weighted(0.2);
    prop_oneof![
        3 => seconds.clone().prop_map(Step::Pass),
        4 => (owner.clone(), seconds.clone()).prop_map(|(owner, lease)| Step::Claim { owner, lease }),
        4 => (owner.clone(), stale, ending)
            .prop_map(|(owner, stale, outcome)| Step::Settle { owner, stale, outcome }),
        1 => (owner.clone(), stale).prop_map(|(owner, stale)| Step::HandBack { owner, stale }),
        1 => (owner, stale, seconds.clone())
            .prop_map(|(owner, stale, lease)| Step::Renew { owner, stale, lease }),
        3 => seconds.prop_map(|backoff| Step::Rescue { backoff }),
        1 => Just(Step::Cancel),
        2 => Just(Step::Reexecute),
        1 => Just(Step::RunNow),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Not before this second.
    Waiting(u64),
    Executing {
        owner: usize,
        until: u64,
    },
    Completed,
    Dead,
    Canceled,
}

/// The machine: a place and its counters.
#[derive(Clone, Copy, Debug)]
struct Machine {
    place: Place,
    now: u64,
    attempt: u64,
    errors: u32,
    executions: u32,
    rescues: u32,
}

impl Machine {
    const fn new() -> Self {
        Self {
            place: Place::Waiting(0),
            now: 0,
            attempt: 0,
            errors: 0,
            executions: 0,
            rescues: 0,
        }
    }

    const fn state(&self) -> RequestState {
        match self.place {
            Place::Waiting(from) if from > self.now => RequestState::BackingOff,
            Place::Waiting(_) => RequestState::Pending,
            Place::Executing { .. } => RequestState::Executing,
            Place::Completed => RequestState::Completed,
            Place::Dead => RequestState::Dead,
            Place::Canceled => RequestState::Canceled,
        }
    }

    fn holds(&self, owner: usize, stale: bool) -> bool {
        !stale && matches!(self.place, Place::Executing { owner: has, .. } if has == owner)
    }

    /// One more error: dead with the last one.
    fn fail(&mut self, wait: u64) {
        self.errors += 1;
        self.place = if self.errors >= MAX_ERRORS {
            Place::Dead
        } else {
            Place::Waiting(self.now + wait)
        };
    }

    /// Does a step; answers whether it was allowed.
    fn step(&mut self, step: &Step) -> bool {
        match *step {
            Step::Pass(seconds) => {
                self.now += seconds;
                true
            }
            Step::Claim { owner, lease } => {
                let allowed = self.state() == RequestState::Pending;
                if allowed {
                    self.attempt += 1;
                    self.executions += u32::from(self.rescues >= 3);
                    self.place = Place::Executing {
                        owner,
                        until: self.now + lease,
                    };
                }
                allowed
            }
            Step::Settle {
                owner,
                stale,
                outcome,
            } => {
                let allowed = self.holds(owner, stale);
                if allowed {
                    self.executions += u32::from(self.rescues < 3);
                    match outcome {
                        Ending::Complete => self.place = Place::Completed,
                        Ending::Fail(wait) => self.fail(wait),
                        Ending::Discard => {
                            self.errors += 1;
                            self.place = Place::Dead;
                        }
                        Ending::Snooze(wait) => self.place = Place::Waiting(self.now + wait),
                        Ending::Cancel => self.place = Place::Canceled,
                    }
                }
                allowed
            }
            Step::HandBack { owner, stale } => {
                let allowed = self.holds(owner, stale);
                if allowed {
                    self.attempt += 1;
                    self.place = Place::Waiting(0);
                }
                allowed
            }
            Step::Renew {
                owner,
                stale,
                lease,
            } => {
                let allowed = self.holds(owner, stale);
                if allowed {
                    self.place = Place::Executing {
                        owner,
                        until: self.now + lease,
                    };
                }
                allowed
            }
            Step::Rescue { backoff } => {
                let allowed =
                    matches!(self.place, Place::Executing { until, .. } if until <= self.now);
                if allowed {
                    self.attempt += 1;
                    if self.rescues >= 3 {
                        self.fail(backoff);
                    } else {
                        self.place = Place::Waiting(0);
                    }
                    self.rescues += 1;
                }
                allowed
            }
            Step::Cancel => {
                let allowed = !matches!(self.place, Place::Completed | Place::Canceled);
                if allowed {
                    self.attempt += 1;
                    self.place = Place::Canceled;
                }
                allowed
            }
            Step::Reexecute => {
                let allowed = self.state().is_end();
                if allowed {
                    self.attempt += 1;
                    self.errors = 0;
                    self.place = Place::Waiting(0);
                }
                allowed
            }
            Step::RunNow => {
                let allowed = matches!(self.place, Place::Waiting(_));
                if allowed {
                    self.place = Place::Waiting(0);
                }
                allowed
            }
        }
    }
}

/// The record, and the owners and the beginning of time that the machine knows by number.
struct Real {
    request: HandlerRequest,
    owners: [LeaseOwner; 2],
    now: DateTime<Utc>,
}

impl Real {
    fn new() -> Self {
        let now = DateTime::UNIX_EPOCH;
        let (name, handler) = ("thing.happened".into(), "handler".into());
        let priority = Priority::default();
        let request = HandlerRequest::new(EventId::new(), name, handler, priority, MAX_ERRORS, now);
        Self {
            request,
            owners: [LeaseOwner::new(), LeaseOwner::new()],
            now,
        }
    }

    fn step(&mut self, step: &Step) -> bool {
        let (now, attempt) = (self.now, self.request.attempt);
        // An earlier claim's fence, or one that was never given out.
        let fence = |stale: bool| {
            if stale {
                attempt.wrapping_sub(1)
            } else {
                attempt
            }
        };
        let owner = |owner: usize| self.owners[owner];
        match *step {
            Step::Pass(seconds) => {
                self.now += Duration::from_secs(seconds);
                true
            }
            Step::Claim { owner: by, lease } => self
                .request
                .claim(now, owner(by), Duration::from_secs(lease))
                .is_ok(),
            Step::Settle {
                owner: by,
                stale,
                outcome,
            } => {
                let outcome = match outcome {
                    Ending::Complete => Outcome::Completed,
                    Ending::Fail(wait) => Outcome::Failed {
                        error: "no".into(),
                        backoff: Duration::from_secs(wait),
                    },
                    Ending::Discard => Outcome::Discarded {
                        reason: "no".into(),
                    },
                    Ending::Snooze(wait) => Outcome::Snoozed {
                        duration: Duration::from_secs(wait),
                    },
                    Ending::Cancel => Outcome::Canceled {
                        reason: "no".into(),
                    },
                };
                self.request
                    .settle(now, owner(by), fence(stale), &outcome, true)
                    .is_ok()
            }
            Step::HandBack { owner: by, stale } => {
                self.request.hand_back(owner(by), fence(stale)).is_ok()
            }
            Step::Renew {
                owner: by,
                stale,
                lease,
            } => {
                let lease = Duration::from_secs(lease);
                self.request
                    .renew(now, owner(by), fence(stale), lease)
                    .is_ok()
            }
            Step::Rescue { backoff } => self
                .request
                .rescue(now, Duration::from_secs(backoff))
                .is_ok(),
            Step::Cancel => self.request.cancel(now).is_ok(),
            Step::Reexecute => self.request.reexecute(now).is_ok(),
            Step::RunNow => self.request.run_now(now).is_ok(),
        }
    }
}

/// Does all steps with both, and compares after each.
pub(crate) fn run(steps: &[Step]) {
    let (mut machine, mut real) = (Machine::new(), Real::new());
    for step in steps {
        let before = real.request.clone();
        let allowed = machine.step(step);
        assert_eq!(real.step(step), allowed, "{step:?} of {before:?}");
        if !allowed {
            assert_eq!(real.request, before, "what is refused changes nothing");
        }
        let request = &real.request;
        assert_eq!(
            (
                request.state(real.now),
                request.attempt,
                request.errors,
                request.executions,
                request.rescues
            ),
            (
                machine.state(),
                machine.attempt,
                machine.errors,
                machine.executions,
                machine.rescues
            ),
            "after {step:?} of {before:?}"
        );
    }
}
