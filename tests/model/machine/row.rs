//! The row of a handler request: the rules by which it changes, in plain numbers. They are written
//! from the guide and share nothing with the library's own. The checker explores them, and traces of
//! the stores are held against them.
//!
//! Instants only ever matter in one direction: something is done because an instant is past. So where
//! the time of a call is known only roughly, a row keeps the earliest instant that it can have been
//! given, and it is past as soon as it may be.

use super::breakage::{Breakage, Rules};

/// From this many rescues on a request is a suspect.
pub(crate) const SUSPECT_FROM: u32 = 3;

/// One scheduler from its start to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Owner(pub(crate) u128);

/// When a call took effect: exact where both are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Now {
    pub(crate) earliest: u64,
    pub(crate) latest: u64,
}

impl Now {
    pub(crate) const fn at(instant: u64) -> Self {
        Self {
            earliest: instant,
            latest: instant,
        }
    }
}

/// Where a request is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// Pending, or backing off until `from`.
    Waiting {
        from: u64,
    },
    /// Leased.
    Executing {
        owner: Owner,
        until: u64,
    },
    Completed,
    Dead,
    Canceled,
}

impl Place {
    pub(crate) const fn is_end(self) -> bool {
        matches!(self, Self::Completed | Self::Dead | Self::Canceled)
    }

    pub(crate) const fn is_executing(self) -> bool {
        matches!(self, Self::Executing { .. })
    }
}

/// What an execution came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Outcome {
    Complete,
    Fail { backoff: u64 },
    Discard,
    Snooze { wait: u64 },
    Cancel,
}

/// What a rescue made of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Rescue {
    Ready,
    BackedOff,
    Dead,
}

/// It is not allowed, and nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused;

type Done<T = ()> = Result<T, Refused>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    pub(crate) place: Place,
    /// The fence.
    pub(crate) attempt: u64,
    pub(crate) errors: u32,
    pub(crate) max_errors: u32,
    pub(crate) rescues: u32,
}

impl Row {
    /// A new, pending one.
    pub(crate) const fn new(max_errors: u32) -> Self {
        Self {
            place: Place::Waiting { from: 0 },
            attempt: 0,
            errors: 0,
            max_errors,
            rescues: 0,
        }
    }

    pub(crate) const fn is_suspect(&self) -> bool {
        self.rescues >= SUSPECT_FROM
    }

    pub(crate) const fn is_due(&self, now: Now) -> bool {
        matches!(self.place, Place::Waiting { from } if from <= now.latest)
    }

    /// Whether its lease has run out.
    pub(crate) const fn is_expired(&self, now: Now) -> bool {
        matches!(self.place, Place::Executing { until, .. } if until <= now.latest)
    }

    pub(crate) fn claim(&mut self, rules: Rules, now: Now, owner: Owner, lease: u64) -> Done {
        let takes_ended = rules.are_broken_by(Breakage::ClaimTakesTheCanceled);
        let passes = self.is_due(now) || takes_ended && self.place == Place::Canceled;
        if !passes {
            return Err(Refused);
        }
        self.attempt += 1;
        self.place = Place::Executing {
            owner,
            until: now.earliest + lease,
        };
        Ok(())
    }

    /// The fence: whether `owner` still has it in `attempt`. A lease that has run out and that nobody
    /// took is still held.
    pub(crate) fn is_held(&self, owner: Owner, attempt: u64) -> bool {
        matches!(self.place, Place::Executing { owner: holder, .. } if holder == owner)
            && self.attempt == attempt
    }

    pub(crate) fn settle(
        &mut self,
        rules: Rules,
        now: Now,
        (owner, attempt): (Owner, u64),
        outcome: Outcome,
    ) -> Done {
        let passes = match rules.0 {
            Some(Breakage::NoFence) => self.place.is_executing(),
            Some(Breakage::SettleById) => true,
            Some(Breakage::LostAnswerTakenForFailure) => self.attempt == attempt,
            _ => self.is_held(owner, attempt),
        };
        if !passes {
            return Err(Refused);
        }
        match outcome {
            Outcome::Complete => self.place = Place::Completed,
            Outcome::Fail { backoff } => self.count_error(rules, now, backoff),
            Outcome::Discard => {
                self.errors += 1;
                self.place = Place::Dead;
            }
            Outcome::Snooze { wait } => {
                self.place = Place::Waiting {
                    from: now.earliest + wait,
                };
            }
            Outcome::Cancel => self.place = Place::Canceled,
        }
        Ok(())
    }

    pub(crate) fn hand_back(&mut self, rules: Rules, (owner, attempt): (Owner, u64)) -> Done {
        if !self.is_held(owner, attempt) {
            return Err(Refused);
        }
        if !rules.are_broken_by(Breakage::HandBackKeepsTheAttempt) {
            self.attempt += 1;
        }
        self.place = Place::Waiting { from: 0 };
        Ok(())
    }

    pub(crate) fn renew(
        &mut self,
        rules: Rules,
        now: Now,
        (owner, attempt): (Owner, u64),
        lease: u64,
    ) -> Done {
        let passes = self.is_held(owner, attempt)
            || rules.are_broken_by(Breakage::RenewalWithoutFence) && self.place.is_executing();
        if !passes {
            return Err(Refused);
        }
        // What rescues do not look at might as well not be written.
        if !rules.are_broken_by(Breakage::RescueIgnoresRenewals) {
            self.place = Place::Executing {
                owner,
                until: now.earliest + lease,
            };
        }
        Ok(())
    }

    pub(crate) fn rescue(&mut self, rules: Rules, now: Now, backoff: u64) -> Done<Rescue> {
        if !self.is_expired(now) {
            return Err(Refused);
        }
        let counts = match rules.0 {
            Some(Breakage::RescueNeverCounts) => false,
            Some(Breakage::RescueAlwaysCounts) => true,
            _ => self.is_suspect(),
        };
        if !rules.are_broken_by(Breakage::RescueKeepsTheAttempt) {
            self.attempt += 1;
        }
        self.rescues += 1;
        if !counts {
            self.place = Place::Waiting { from: 0 };
            return Ok(Rescue::Ready);
        }
        self.count_error(rules, now, backoff);
        Ok(match self.place {
            Place::Dead => Rescue::Dead,
            _ => Rescue::BackedOff,
        })
    }

    pub(crate) fn cancel(&mut self, rules: Rules) -> Done {
        if matches!(self.place, Place::Completed | Place::Canceled) {
            return Err(Refused);
        }
        if rules.are_broken_by(Breakage::CancelSparesTheExecuting) && self.place.is_executing() {
            return Ok(());
        }
        self.attempt += 1;
        self.place = Place::Canceled;
        Ok(())
    }

    pub(crate) fn reexecute(&mut self, rules: Rules) -> Done {
        if !self.place.is_end() {
            return Err(Refused);
        }
        if rules.are_broken_by(Breakage::ReexecuteResetsTheAttempt) {
            self.attempt = 0;
        } else {
            self.attempt += 1;
        }
        self.errors = 0;
        self.place = Place::Waiting { from: 0 };
        Ok(())
    }

    pub(crate) const fn run_now(&mut self) -> Done {
        if !matches!(self.place, Place::Waiting { .. }) {
            return Err(Refused);
        }
        self.place = Place::Waiting { from: 0 };
        Ok(())
    }

    fn count_error(&mut self, rules: Rules, now: Now, backoff: u64) {
        self.errors += 1;
        let bound = self.max_errors + u32::from(rules.are_broken_by(Breakage::OneErrorMore));
        self.place = if self.errors >= bound {
            Place::Dead
        } else {
            Place::Waiting {
                from: now.earliest + backoff,
            }
        };
    }
}
