//! How a handler request changes: pure functions of the record, the time and the input.
//!
//! Every store obeys these. The in-memory store calls them; SQL stores say the same in SQL and are
//! held to it by the conformance suite. A transition that is refused changes nothing.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{HandlerRequest, Lease, RequestState};
use crate::{clock::later, id::LeaseOwner, text::Name};

/// From this many rescues on, a request is under suspicion of killing its processes.
pub const SUSPECT_FROM_RESCUES: u32 = 3;

/// The outcome of an execution, as it is settled.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The handler succeeded.
    Completed,
    /// One more error, and another execution after `backoff`; dead if that was the last error.
    Failed {
        /// What went wrong.
        error: String,
        /// How long to wait.
        backoff: Duration,
    },
    /// One more error, for good: the handler said that no retry can help.
    Discarded {
        /// The handler's reason.
        reason: String,
    },
    /// Another execution later; no error is counted.
    Snoozed {
        /// How long to wait.
        duration: Duration,
    },
    /// The handler stopped it.
    Canceled {
        /// The handler's reason.
        reason: String,
    },
}

/// What a rescue made of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rescue {
    /// It can be claimed again at once; no error was counted.
    Ready,
    /// It was under suspicion: an error was counted and it backs off.
    BackedOff,
    /// It was under suspicion and this was its last error.
    Dead,
}

/// Why a transition was refused: the state that stands against it, or the fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The request is in this state.
    State(RequestState),
    /// The attempt or the owner is another one by now.
    Fenced,
    /// The lease has not run out.
    Leased,
}

impl HandlerRequest {
    /// Pending → executing. The claim of a request under suspicion is the start of its execution.
    ///
    /// # Errors
    /// It is not pending.
    pub fn claim(
        &mut self,
        now: DateTime<Utc>,
        owner: LeaseOwner,
        lease: Duration,
    ) -> Result<(), Refusal> {
        match self.state(now) {
            RequestState::Pending => {}
            state => return Err(Refusal::State(state)),
        }
        self.attempt += 1;
        self.backoff_until = None;
        self.lease = Some(Lease {
            owner,
            until: later(now, lease),
        });
        if self.is_suspect() {
            self.count_execution(now);
        }
        Ok(())
    }

    /// Whether `owner` still holds it in `attempt`. A lease that has run out and that nobody took
    /// is still held.
    ///
    /// # Errors
    /// It does not: [`Refusal::Fenced`].
    pub fn check_fence(&self, owner: LeaseOwner, attempt: u64) -> Result<(), Refusal> {
        match &self.lease {
            Some(lease) if lease.owner == owner && self.attempt == attempt && self.is_open() => {
                Ok(())
            }
            _ => Err(Refusal::Fenced),
        }
    }

    /// Executing → completed, backing off, pending, dead or canceled. `executed` is whether the
    /// handler ran (a veto settles without).
    ///
    /// # Errors
    /// The fence: `owner` does not hold it in `attempt` any more.
    pub fn settle(
        &mut self,
        now: DateTime<Utc>,
        owner: LeaseOwner,
        attempt: u64,
        outcome: &Outcome,
        executed: bool,
    ) -> Result<(), Refusal> {
        self.check_fence(owner, attempt)?;
        self.lease = None;
        if executed && !self.is_suspect() {
            self.count_execution(now);
        }
        match outcome {
            Outcome::Completed => self.completed_at = Some(now),
            Outcome::Failed { error, backoff } => self.count_error(now, error, *backoff),
            Outcome::Discarded { reason } => {
                self.errors = self.errors.saturating_add(1);
                self.remember(now, reason);
                self.dead_at = Some(now);
            }
            Outcome::Snoozed { duration } => self.backoff_until = Some(later(now, *duration)),
            Outcome::Canceled { reason } => {
                self.remember(now, reason);
                self.canceled_at = Some(now);
            }
        }
        Ok(())
    }

    /// Executing → pending, for a request whose execution did not begin or was broken off by a
    /// shutdown. No error is counted.
    ///
    /// # Errors
    /// The fence: `owner` does not hold it in `attempt` any more.
    pub fn hand_back(&mut self, owner: LeaseOwner, attempt: u64) -> Result<(), Refusal> {
        self.check_fence(owner, attempt)?;
        self.attempt += 1;
        self.lease = None;
        Ok(())
    }

    /// Puts off the end of a lease.
    ///
    /// # Errors
    /// The fence: `owner` does not hold it in `attempt` any more.
    pub fn renew(
        &mut self,
        now: DateTime<Utc>,
        owner: LeaseOwner,
        attempt: u64,
        lease: Duration,
    ) -> Result<(), Refusal> {
        self.check_fence(owner, attempt)?;
        self.lease = Some(Lease {
            owner,
            until: later(now, lease),
        });
        Ok(())
    }

    /// Executing, with a lease that has run out → pending; for a request under suspicion, backing
    /// off by `backoff` or dead.
    ///
    /// # Errors
    /// It is not executing, or its lease has not run out.
    pub fn rescue(&mut self, now: DateTime<Utc>, backoff: Duration) -> Result<Rescue, Refusal> {
        match (&self.lease, self.state(now)) {
            (Some(lease), RequestState::Executing) if lease.until <= now => {}
            (_, RequestState::Executing) => return Err(Refusal::Leased),
            (_, state) => return Err(Refusal::State(state)),
        }
        let suspect = self.is_suspect();
        if suspect {
            self.count_error(
                now,
                "worker lost: the process that executed this request disappeared",
                backoff,
            );
        }
        self.attempt += 1;
        self.rescues = self.rescues.saturating_add(1);
        self.lease = None;
        Ok(match (suspect, self.dead_at) {
            (false, _) => Rescue::Ready,
            (true, None) => Rescue::BackedOff,
            (true, Some(_)) => Rescue::Dead,
        })
    }

    /// Open or dead → canceled. A running execution goes on, but its settlement is refused and its
    /// context is canceled at the next renewal.
    ///
    /// # Errors
    /// It is completed or canceled.
    pub fn cancel(&mut self, now: DateTime<Utc>) -> Result<(), Refusal> {
        let state = self.state(now);
        if matches!(state, RequestState::Completed | RequestState::Canceled) {
            return Err(Refusal::State(state));
        }
        self.attempt += 1;
        self.lease = None;
        self.backoff_until = None;
        self.dead_at = None;
        self.canceled_at = Some(now);
        Ok(())
    }

    /// Open or dead → canceled, as the event has a request of its handler's new name.
    ///
    /// # Errors
    /// It is completed or canceled.
    pub(crate) fn supersede(&mut self, now: DateTime<Utc>, name: &Name) -> Result<(), Refusal> {
        let state = self.state(now);
        if matches!(state, RequestState::Completed | RequestState::Canceled) {
            return Err(Refusal::State(state));
        }
        let message =
            format!("superseded: the event has a request of {name:?}, its handler's new name");
        self.remember(now, &message);
        self.cancel(now)
    }

    /// Completed, canceled or dead → pending, with errors at 0.
    ///
    /// # Errors
    /// It is open.
    pub fn reexecute(&mut self, now: DateTime<Utc>) -> Result<(), Refusal> {
        let state = self.state(now);
        if !state.is_end() {
            return Err(Refusal::State(state));
        }
        self.attempt += 1;
        self.errors = 0;
        self.backoff_until = None;
        self.completed_at = None;
        self.canceled_at = None;
        self.dead_at = None;
        Ok(())
    }

    /// Backing off → pending; nothing to do for a pending one.
    ///
    /// # Errors
    /// It is executing or has ended.
    pub fn run_now(&mut self, now: DateTime<Utc>) -> Result<(), Refusal> {
        match self.state(now) {
            RequestState::BackingOff | RequestState::Pending => {
                self.backoff_until = None;
                Ok(())
            }
            state => Err(Refusal::State(state)),
        }
    }

    fn count_execution(&mut self, now: DateTime<Utc>) {
        self.executions = self.executions.saturating_add(1);
        self.last_execution_at = Some(now);
    }

    fn count_error(&mut self, now: DateTime<Utc>, error: &str, backoff: Duration) {
        self.errors = self.errors.saturating_add(1);
        self.remember(now, error);
        if self.errors >= self.max_errors {
            self.dead_at = Some(now);
        } else {
            self.backoff_until = Some(later(now, backoff));
        }
    }
}

#[cfg(test)]
mod tests;
