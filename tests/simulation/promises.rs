//! What is promised beyond the rows themselves: order, promptness, outcomes that are true, leases that
//! live owners keep.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tidings::{
    HandlerRequestId, LeaseOwner, Outcome,
    store::{Claim, ClaimedRequest, Settlement},
};

use crate::{
    gate::Mode,
    history::Short,
    plan::Kind,
    state::{End, Run, State, later},
    verdict::Wrong,
};

impl State {
    /// No request that was left is better than one that was claimed, and none is left for no reason.
    pub(crate) fn check_best(&mut self, claim: &Claim, claimed: &[ClaimedRequest], suspects: bool) {
        let is_claimed = |id| claimed.iter().any(|one| one.id == id);
        let worst = claimed.iter().map(|one| (one.priority, one.id)).max();
        let left = self.requests.values().find(|entry| {
            let row = &entry.row;
            let room = claim
                .handlers
                .iter()
                .find(|room| room.handler == row.handler);
            let of_handler = claimed.iter().filter(|one| one.handler == row.handler);
            row.lease.is_none()
                && !self.locked.contains_key(&row.id)
                && row.is_suspect() == suspects
                && row.state(self.now) == tidings::RequestState::Pending
                && !is_claimed(row.id)
                && room.is_some_and(|room| of_handler.count() < room.room)
                && (claimed.len() < claim.limit || worst > Some((row.priority, row.id)))
        });
        if let Some(left) = left {
            let detail = format!("a claim left {:?}, which was better", Short(left.row.id));
            self.object(Wrong::Reordered, detail);
        }
    }

    /// What was due since then begins now: somebody who had nothing else to do must not have waited
    /// longer than its poll interval, a second after a call that failed, and another one for the calls.
    pub(crate) fn check_prompt(
        &mut self,
        due_at: DateTime<Utc>,
        request: Option<HandlerRequestId>,
        what: &str,
    ) {
        const CALLS: Duration = Duration::from_secs(2);
        const UNTIL_LOCKS_ARE_GONE: Duration = Duration::from_millis(1500);
        let bound = self.poll_interval + CALLS;
        let handler = request.and_then(|id| Some(self.requests.get(&id)?.handler));
        let unlocked_at = request.and_then(|id| self.unlocked_at.get(&id));
        let unlocked_at = unlocked_at.copied().unwrap_or(due_at);
        for number in 0..self.processes.len() {
            let Some(healthy_since) = self.healthy_since(number) else {
                continue;
            };
            let process = &self.processes[number];
            let could = handler.is_none_or(|handler| process.handlers.contains(&handler));
            // A run whose request was taken away holds its slot until its time-out, and those that shared
            // its transaction wait for the locks after that.
            let holds = process.held > 0 || process.running > 0;
            if process.paused || !could || holds || process.handlers.is_empty() {
                continue;
            }
            let free_since = due_at
                .max(healthy_since)
                .max(process.emptied_at)
                .max(later(process.idle_since, UNTIL_LOCKS_ARE_GONE))
                .max(unlocked_at);
            if self.now > later(free_since, bound) {
                let waited = self.now - free_since;
                let detail = format!("{what} after {waited}, while process {number} was free");
                self.object(Wrong::Stuck, detail);
                return;
            }
        }
    }

    /// Whether the outcome is what came of the execution.
    pub(crate) fn check_outcome(&mut self, settlement: &Settlement) {
        let claim = (settlement.id, settlement.attempt);
        let entry = &self.requests[&settlement.id];
        let wanted = &self.wanted[entry.handler];
        let runs = self.runs.get(&claim);
        let end = runs.and_then(|runs| runs.last()).and_then(|run| run.end);
        let first = runs.and_then(|runs| runs.first());
        let since_first = first.map(|run| self.now - run.started_at);
        let since_first = since_first.and_then(|since| since.to_std().ok());
        let since_first = since_first.unwrap_or_default();
        let is_transactional = wanted.kind != Kind::Ordinary;
        // Conflicts count when there were too many, and are told by nothing that the handler did.
        let conflicted = is_transactional && runs.is_some_and(|runs| runs.len() > 3);
        let fits = match &settlement.outcome {
            Outcome::Completed => end == Some(End::Ok),
            Outcome::Failed { .. } => match end {
                Some(End::Failed | End::Panicked) => true,
                // All runs of one attempt share its time.
                Some(End::Dropped(after)) => after.max(since_first) >= wanted.timeout,
                // Commits, and runs of a transaction after another, have their limit, too.
                _ => conflicted,
            },
            Outcome::Snoozed { .. } => {
                end == Some(End::Snoozed) || (is_transactional && !settlement.executed)
            }
            Outcome::Discarded { .. } => end == Some(End::Discarded),
            Outcome::Canceled { .. } => end == Some(End::Canceled),
            _ => false,
        };
        if !fits {
            let detail = format!(
                "{:?} attempt {} ended {end:?} and was settled as {:?}",
                Short(settlement.id),
                settlement.attempt,
                settlement.outcome
            );
            self.object(Wrong::OtherOutcome, detail);
        }
    }

    pub(crate) fn check_rescue_in_time(&mut self, id: HandlerRequestId, until: DateTime<Utc>) {
        const MOST: Duration = Duration::from_secs(5);
        for number in 0..self.processes.len() {
            // A rescuer waits for one renewal interval after an outage, and one that has just started
            // for its first turn.
            let Some(healthy_since) = self.healthy_since(number) else {
                continue;
            };
            let from = until.max(later(healthy_since, self.lease / 3));
            let from = self
                .unlocked_at
                .get(&id)
                .map_or(from, |unlocked| from.max(*unlocked));
            if self.now > later(from, MOST) {
                let late = self.now - from;
                let detail = format!("{:?}, {late} after its lease", Short(id));
                self.object(Wrong::LateRescue, detail);
                return;
            }
        }
    }

    /// Why the owner lost it, as far as that is known; one who lived and could renew did not.
    pub(crate) fn why_lost(
        &mut self,
        id: HandlerRequestId,
        owner: LeaseOwner,
        until: DateTime<Utc>,
    ) -> &'static str {
        let Some(number) = self.owners.get(&owner).copied() else {
            self.object(Wrong::GivenTwice, "an unknown owner was rescued from");
            return "nobody";
        };
        let process = &self.processes[number];
        match process.gate.mode() {
            Mode::Crashed => return "its process crashed",
            Mode::Frozen => return "its process was frozen",
            Mode::Runs if process.stopped || process.ends => return "its process had stopped",
            Mode::Runs => {}
        }
        let given_at = until - chrono::TimeDelta::from_std(self.lease).unwrap_or_default();
        if process.disturbed_until >= given_at {
            return process.why_disturbed;
        }
        let entry = &self.requests[&id];
        let runs = self.runs.get(&(id, entry.row.attempt));
        let before =
            |run: &Run| run.end == Some(End::Ok) && run.started_at <= process.disturbed_until;
        let may_have_committed = self.wanted[entry.handler].kind != Kind::Ordinary
            && runs.and_then(|runs| runs.last()).is_some_and(before);
        if may_have_committed {
            // Its lease ran out before the store told what had become of its commit, so it was given up; it
            // may have been renewed once more while the settler waited for the store.
            return "a commit of which nobody heard for a lease";
        }
        let detail = format!("{:?} from process {number}, which was well", Short(id));
        self.object(Wrong::Stolen, detail);
        "nothing"
    }
}
