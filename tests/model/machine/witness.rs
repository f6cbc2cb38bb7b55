//! Watches each step and says which guarantees it broke. It compares rows before and after, and what
//! nobody in the world knows (which claim is whose, what was promised); it never asks the rules.

use super::{
    law::{Law, Laws},
    row::{Place, Row, SUSPECT_FROM},
    scope::Scope,
    world::{Claimed, EventRow, Request, World},
};

/// Who did what, as far as guarantees depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    FanOut { process: usize },
    Claim { process: usize },
    Settle(Claimed),
    HandBack(Claimed),
    Renew(Claimed),
    Rescue,
    Cancel { request: usize },
    Reexecute,
    Other,
}

/// Notes what this step broke, and brings up to date what only properties know.
pub(crate) fn watch(before: &World, after: &mut World, deed: Deed, scope: &Scope) {
    let mut broken = Laws::NONE;
    for number in 0..after.requests.len() {
        let (Some(mut request), earlier) = (after.requests[number], before.requests[number]) else {
            continue;
        };
        if earlier.is_none() {
            let is_committed = !matches!(
                before.events[scope.event_of(number)],
                EventRow::NotRaised | EventRow::Raised | EventRow::RolledBack
            );
            broken.require(Law::RolledBackUnseen, is_committed);
        }
        let was = earlier.map_or_else(|| Row::new(request.row.max_errors), |it| it.row);
        let promised = earlier.map_or(0, |it| it.ghost.promised);
        Change {
            number,
            was,
            is: request.row,
            promised,
            deed,
            before,
            scope,
        }
        .judge(&mut broken, &mut request);
        after.requests[number] = Some(request);
    }
    after.broken = broken;
    judge_suspects(after);
}

/// One request's share in a step.
struct Change<'a> {
    number: usize,
    was: Row,
    is: Row,
    promised: u64,
    deed: Deed,
    before: &'a World,
    scope: &'a Scope,
}

impl Change<'_> {
    fn judge(&self, broken: &mut Laws, request: &mut Request) {
        let (was, is) = (self.was, self.is);
        self.judge_fence(broken);
        self.judge_attempt(broken);
        self.judge_ends(broken);
        self.judge_errors(broken);
        match (was.place.is_executing(), is.place.is_executing()) {
            (false, true) => self.judge_claim(broken, request),
            // What a rescue takes too early is still promised to somebody.
            (true, false) if self.deed != Deed::Rescue => request.ghost.promised = 0,
            (true, true) if self.is_renewed() => request.ghost.promised = self.scope.lease,
            _ => {}
        }
        if is.place == Place::Completed && was.place != Place::Completed {
            request.ghost.completions += 1;
        }
        if self.deed == Deed::Reexecute && was.place.is_end() && !is.place.is_end() {
            request.ghost = request.ghost.reexecuted();
        }
        let ghost = request.ghost;
        broken.require(Law::CompletedOnce, ghost.completions <= 1);
        if self.scope.handler(self.number).transactional {
            broken.require(Law::EffectivelyOnce, ghost.effects == ghost.completions);
        }
    }

    fn is_renewed(&self) -> bool {
        matches!(self.deed, Deed::Renew(claimed) if claimed.request == self.number && self.before.is_current(&claimed))
    }

    fn judge_fence(&self, broken: &mut Laws) {
        if let Deed::Settle(claimed) | Deed::HandBack(claimed) | Deed::Renew(claimed) = self.deed
            && self.was != self.is
        {
            let is_its_own = claimed.request == self.number && self.before.is_current(&claimed);
            broken.require(Law::Fence, is_its_own);
        }
    }

    fn judge_attempt(&self, broken: &mut Laws) {
        let (was, is) = (self.was, self.is);
        let has_ended_by_itself = matches!(self.deed, Deed::Settle(_));
        let has_changed_hands = was.place.is_executing() != is.place.is_executing()
            && !has_ended_by_itself
            || was.place.is_end() && !is.place.is_end();
        let grows = if has_changed_hands {
            is.attempt > was.attempt
        } else {
            is.attempt >= was.attempt
        };
        broken.require(Law::AttemptGrows, grows);
    }

    fn judge_ends(&self, broken: &mut Laws) {
        let (was, is) = (self.was.place, self.is.place);
        let canceled = matches!(self.deed, Deed::Cancel { request } if request == self.number);
        if canceled && was != Place::Completed {
            broken.require(Law::CancelHolds, is == Place::Canceled);
        }
        if was.is_end() && was != is && self.deed != Deed::Reexecute {
            let law = match was {
                Place::Canceled => Law::CancelHolds,
                _ => Law::EndsHold,
            };
            broken.require(law, was == Place::Dead && canceled);
        }
    }

    fn judge_errors(&self, broken: &mut Laws) {
        let (was, is) = (self.was, self.is);
        broken.require(Law::MaxErrors, is.errors <= is.max_errors);
        let is_full = is.errors == is.max_errors;
        broken.require(Law::MaxErrors, !is_full || is.place.is_end());
        if self.deed == Deed::Rescue && was != is {
            let counted = u32::from(was.rescues >= SUSPECT_FROM);
            broken.require(Law::RescueIsFree, is.errors == was.errors + counted);
        }
    }

    fn judge_claim(&self, broken: &mut Laws, request: &mut Request) {
        let was = self.was.place;
        broken.require(Law::PendingOnly, was == Place::Waiting { from: 0 });
        broken.require(Law::OneOwner, self.promised == 0);
        if let Deed::Claim { process } | Deed::FanOut { process } = self.deed {
            broken.require(Law::OwnHandlers, self.scope.has(process, self.number));
        }
        request.ghost.claim += 1;
        request.ghost.promised = self.scope.lease;
    }
}

fn judge_suspects(after: &mut World) {
    for process in &after.processes {
        let suspects = process.executions.iter().filter(|it| it.is_suspect);
        after
            .broken
            .require(Law::SuspectsAlone, suspects.count() <= 1);
    }
}
