//! Claiming, settling and rescuing requests.

use std::time::Duration;

use tidings::{
    Backoff, HandlerRequest, HandlerRequestId, Outcome, RequestState,
    store::{self, Renewal, Renewed, RescueLost, Settled, Settlement, Storer},
};

use crate::{
    driver::*,
    model::{Locks, Rows},
    operation::{Claim, Settling},
};

impl Driver {
    pub(crate) async fn claim(&mut self, inside: bool, claim: &Claim) {
        let claim = self.store_claim(claim);
        let answer = self
            .session(inside)
            .handler_requests()
            .claim(&claim)
            .await
            .unwrap();
        let (expected, rows) = self.expect_claims(inside, &claim, claim.limit, false);
        let locks = self.model.others_locks(inside);
        let next_due = if expected.len() < claim.limit {
            let is_asked = |row: &&HandlerRequest| {
                claim
                    .handlers
                    .iter()
                    .any(|room| room.handler == row.handler)
            };
            let backing_off = rows
                .requests
                .iter()
                .filter(|row| row.state(self.model.now) == RequestState::BackingOff);
            let until = backing_off
                .filter(is_asked)
                .filter(|row| !locks.requests.contains(&row.id))
                .filter_map(|row| row.backoff_until)
                .min();
            until.map(|until| (until - self.model.now).to_std().unwrap())
        } else {
            None
        };
        assert_eq!(
            answer
                .requests
                .iter()
                .map(|row| (row.id, row.attempt))
                .collect::<Vec<_>>(),
            expected
        );
        assert_eq!(answer.next_due, next_due);
        let waits = |suspect: &HandlerRequest| {
            let mut rooms = claim.handlers.iter().filter(|room| room.room > 0);
            rooms.any(|room| room.handler == suspect.handler)
        };
        let suspects = rows.claimable(self.model.now, &locks, true);
        let suspect_waits = expected.len() < claim.limit && suspects.iter().any(waits);
        assert_eq!(answer.suspect_waits, suspect_waits);
    }

    pub(crate) async fn claim_suspect(&mut self, inside: bool, claim: &Claim) {
        let claim = self.store_claim(claim);
        let answer = self
            .session(inside)
            .handler_requests()
            .claim_suspect(&claim)
            .await
            .unwrap();
        let (expected, _) = self.expect_claims(inside, &claim, claim.limit.min(1), true);
        let claimed: Vec<_> = answer
            .requests
            .iter()
            .map(|row| (row.id, row.attempt))
            .collect();
        assert_eq!(claimed, expected.first().copied().as_slice());
    }

    /// Claims in the model; answers what was claimed, and the rows afterwards.
    pub(crate) fn expect_claims(
        &mut self,
        inside: bool,
        claim: &store::Claim,
        limit: usize,
        suspects: bool,
    ) -> (Vec<(HandlerRequestId, u64)>, Rows) {
        let (mut rows, locks) = (self.model.view(inside), self.model.others_locks(inside));
        let (now, mut rooms, mut locked) =
            (self.model.now, claim.handlers.clone(), Locks::default());
        let mut expected = Vec::new();
        for candidate in rows.claimable(now, &locks, suspects) {
            let Some(room) = rooms
                .iter_mut()
                .find(|room| room.handler == candidate.handler && room.room > 0)
            else {
                continue;
            };
            if expected.len() == limit {
                break;
            }
            room.room -= 1;
            let row = rows.request(candidate.id).unwrap();
            row.claim(now, claim.owner, claim.lease).unwrap();
            locked.requests.insert(row.id);
            expected.push((row.id, row.attempt));
        }
        self.claims.extend(&expected);
        self.model.write(inside, &rows, locked);
        (expected, rows)
    }

    pub(crate) async fn settle(&mut self, inside: bool, settlements: &[Settling]) {
        let mut settled = Vec::new();
        for settling in settlements {
            let Some((id, attempt)) = chosen(&self.claims, settling.claim) else {
                return;
            };
            let raised = match settling.raises {
                None => Vec::new(),
                Some(again) => match again.and_then(|index| chosen(&self.raised, index)) {
                    Some(id) => vec![event(id, "again")],
                    None => vec![self.new_event(settling.claim)],
                },
            };
            let attempt = attempt + u64::from(settling.void);
            let outcome = outcome(settling.outcome);
            let mut settlement = Settlement::new(id, attempt, self.owner, outcome);
            settlement.executed = settling.claim % 5 > 0;
            settlement.raised = raised;
            settled.push(settlement);
        }
        let (mut rows, locks) = (self.model.view(inside), self.model.others_locks(inside));
        let answer = self
            .session(inside)
            .handler_requests()
            .settle(&settled)
            .await;
        let mut locked = Locks::default();
        for settlement in &settled {
            let Some(row) = rows.request(settlement.id) else {
                continue;
            };
            let holds = row.check_fence(self.owner, settlement.attempt).is_ok();
            if locks.requests.contains(&settlement.id) {
                if inside {
                    return assert_locked(answer);
                }
                continue;
            }
            locked.requests.insert(settlement.id);
            for event in settlement.raised.iter().filter(|_| holds) {
                if rows.event(event.id).is_none() {
                    if locks.events.contains(&event.id) {
                        return assert_locked(answer);
                    }
                    locked.events.insert(event.id);
                }
            }
        }
        let now = self.model.now;
        let mut expected = Vec::new();
        for settlement in &settled {
            let Settlement {
                id,
                attempt,
                owner,
                outcome,
                executed,
                raised,
                ..
            } = settlement;
            let held = rows.request(*id);
            let holds = held.is_some_and(|row| row.check_fence(*owner, *attempt).is_ok());
            if locks.requests.contains(id) {
                expected.push(skipped(holds));
                continue;
            }
            let applied = rows
                .request(*id)
                .map(|row| row.settle(now, *owner, *attempt, outcome, *executed));
            if applied != Some(Ok(())) {
                expected.push(Settled::Fenced);
                continue;
            }
            expected.push(Settled::Applied);
            for event in raised {
                raise_in(&mut rows, event, &mut locked);
            }
        }
        assert_eq!(answer.unwrap(), expected);
        self.model.write(inside, &rows, locked);
    }

    pub(crate) async fn hand_back(&mut self, inside: bool, claims: &[usize], void: bool) {
        let fences: Vec<_> = claims
            .iter()
            .filter_map(|index| chosen(&self.claims, *index))
            .map(|(id, attempt)| (id, attempt + u64::from(void)))
            .collect();
        let owner = self.owner;
        let (mut rows, locks) = (self.model.view(inside), self.model.others_locks(inside));
        let answer = self
            .session(inside)
            .handler_requests()
            .hand_back(owner, &fences)
            .await;
        let (mut expected, mut locked) = (Vec::new(), Locks::default());
        for (id, attempt) in fences {
            let row = rows.request(id);
            if locks.requests.contains(&id) {
                expected.push(skipped(
                    row.is_some_and(|row| row.check_fence(owner, attempt).is_ok()),
                ));
                continue;
            }
            locked.requests.extend(row.as_ref().map(|row| row.id));
            let applied = row.map(|row| row.hand_back(owner, attempt)) == Some(Ok(()));
            expected.push(if applied {
                Settled::Applied
            } else {
                Settled::Fenced
            });
        }
        assert_eq!(answer.unwrap(), expected);
        self.model.write(inside, &rows, locked);
    }

    pub(crate) async fn renew(&mut self, claims: &[usize], seconds: u64) {
        let requests: Vec<_> = claims
            .iter()
            .filter_map(|index| chosen(&self.claims, *index))
            .collect();
        let renewal = Renewal::new(self.owner, Duration::from_secs(seconds), requests);
        let (mut rows, locks) = (self.model.view(false), self.model.others_locks(false));
        let mut expected = Renewed::default();
        for (id, attempt) in &renewal.requests {
            let row = rows
                .request(*id)
                .filter(|row| row.check_fence(renewal.owner, *attempt).is_ok());
            match row {
                None => expected.lost.push((*id, *attempt)),
                Some(_) if locks.requests.contains(id) => expected.skipped.push((*id, *attempt)),
                Some(row) => row
                    .renew(self.model.now, renewal.owner, *attempt, renewal.lease)
                    .unwrap(),
            }
        }
        let mut renewer = self.store.lease_renewer().await.unwrap();
        assert_eq!(renewer.renew(&renewal).await.unwrap(), expected);
        self.model.write(false, &rows, Locks::default());
    }

    pub(crate) async fn rescue(&mut self, inside: bool, limit: usize, seconds: u64) {
        let backoff = Duration::from_secs(seconds);
        let rescue = RescueLost::new(limit, Backoff::constant(backoff));
        let (mut rows, locks) = (self.model.view(inside), self.model.others_locks(inside));
        let now = self.model.now;
        let mut lost: Vec<_> = rows
            .requests
            .iter()
            .filter(|row| !locks.requests.contains(&row.id))
            .filter_map(|row| row.lease.map(|lease| (lease.until, row.id)))
            .filter(|(until, _)| *until <= now)
            .collect();
        lost.sort();
        let (mut expected, mut locked) = (Vec::new(), Locks::default());
        for (_, id) in lost.into_iter().take(limit) {
            let row = rows.request(id).unwrap();
            let rescued = row.rescue(now, backoff).unwrap();
            expected.push((id, row.errors, row.rescues, rescued));
            locked.requests.insert(id);
        }
        let answer = self
            .session(inside)
            .handler_requests()
            .rescue(&rescue)
            .await
            .unwrap();
        let left = rows.requests.iter().filter_map(|row| row.lease);
        let left = left.map(|lease| (lease.until - now).to_std().unwrap_or_default());
        let next_expiry = left.min().filter(|_| expected.len() < limit);
        assert_eq!(answer.next_expiry, next_expiry);
        let answer: Vec<_> = answer
            .requests
            .iter()
            .map(|row| (row.id, row.errors, row.rescues, row.rescue))
            .collect();
        assert_eq!(answer, expected);
        self.model.write(inside, &rows, locked);
    }

    pub(crate) fn store_claim(&self, claim: &Claim) -> store::Claim {
        store::Claim::new(
            self.owner,
            Duration::from_secs(claim.seconds),
            claim.limit,
            rooms(claim),
        )
    }
}

fn outcome(number: usize) -> Outcome {
    let (text, wait) = ("reason".to_owned(), Duration::from_secs(10));
    match number {
        0 => Outcome::Completed,
        1 => Outcome::Failed {
            error: text,
            backoff: wait,
        },
        2 => Outcome::Discarded { reason: text },
        3 => Outcome::Snoozed { duration: wait },
        _ => Outcome::Canceled { reason: text },
    }
}

/// The answer for a request that another transaction has locked.
fn skipped(holds: bool) -> Settled {
    if holds {
        Settled::Locked
    } else {
        Settled::Fenced
    }
}
