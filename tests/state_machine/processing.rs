//! Raising, claiming and fanning out events.

use std::time::Duration;

use tidings::{
    Event, EventId, HandlerRequest, Lease,
    store::{EventClaim, EventFailure, FanOut, LeaseOffer, Selection},
};

use crate::{
    driver::*,
    model::{EventRow, Locks},
    operation::Claim,
};

impl Driver {
    pub(crate) async fn raise(&mut self, inside: bool, names: &[usize], again: Option<usize>) {
        let mut events: Vec<_> = names.iter().map(|name| self.new_event(*name)).collect();
        events.extend(
            again
                .and_then(|index| chosen(&self.raised, index))
                .map(|id| event(id, "again")),
        );
        let (mut rows, locks) = (self.model.view(inside), self.model.others_locks(inside));
        let is_blocked = events
            .iter()
            .any(|event| rows.event(event.id).is_none() && locks.events.contains(&event.id));
        let answer = self.session(inside).events().raise(&events).await;
        if is_blocked {
            return assert_locked(answer);
        }
        let mut locked = Locks::default();
        let expected: Vec<_> = events
            .iter()
            .map(|event| raise_in(&mut rows, event, &mut locked))
            .collect();
        assert_eq!(answer.unwrap(), expected);
        self.model.write(inside, &rows, locked);
    }

    pub(crate) async fn claim_events(&mut self, inside: bool, limit: usize) {
        let claim = EventClaim::new(self.owner, Duration::from_secs(30), limit);
        let (mut rows, locks) = (self.model.view(inside), self.model.others_locks(inside));
        let (now, mut expected, mut locked) = (self.model.now, Vec::new(), Locks::default());
        for row in rows
            .events
            .iter_mut()
            .filter(|row| row.is_due(now) && !locks.events.contains(&row.id))
            .take(limit)
        {
            row.attempt += 1;
            row.backoff_until = None;
            row.lease = Some(Lease {
                owner: claim.owner,
                until: now + claim.lease,
            });
            locked.events.insert(row.id);
            expected.push((row.id, row.attempt, row.errors));
        }
        let claimed = self.session(inside).events().claim(&claim).await.unwrap();
        let claimed: Vec<_> = claimed
            .iter()
            .map(|claimed| (claimed.event.id, claimed.attempt, claimed.errors))
            .collect();
        assert_eq!(claimed, expected);
        self.event_claims
            .extend(expected.iter().map(|(id, attempt, _)| (*id, *attempt)));
        self.model.write(inside, &rows, locked);
    }

    pub(crate) async fn fail_events(&mut self, inside: bool, claims: &[usize], seconds: u64) {
        let claims = self.chosen_event_claims(claims, false);
        let backoff = Duration::from_secs(seconds);
        let failure =
            |(id, attempt): &(EventId, u64)| EventFailure::new(*id, *attempt, "veto", backoff);
        let failures: Vec<_> = claims.iter().map(failure).collect();
        let (mut rows, locks) = (self.model.view(inside), self.model.others_locks(inside));
        let now = self.model.now;
        let answer = self.session(inside).events().fail(&failures).await;
        if rows.events.iter().any(|row| {
            locks.events.contains(&row.id) && claims.iter().any(|claim| claim.0 == row.id)
        }) {
            return assert_locked(answer);
        }
        answer.unwrap();
        let mut locked = Locks::default();
        for (id, attempt) in claims {
            let Some(row) = rows.event(id) else { continue };
            locked.events.insert(id);
            if row.is_held(attempt) {
                row.lease = None;
                row.errors += 1;
                row.backoff_until = Some(now + backoff);
            }
        }
        self.model.write(inside, &rows, locked);
    }

    pub(crate) async fn fan_out(
        &mut self,
        inside: bool,
        selection: Selection,
        offer: Option<Claim>,
    ) {
        let offer = offer.map(|claim| {
            LeaseOffer::new(
                self.owner,
                Duration::from_secs(claim.seconds),
                claim.limit,
                rooms(&claim),
            )
        });
        let (mut rows, locks) = (self.model.view(inside), self.model.others_locks(inside));
        let mut fan_out = FanOut::new(selection.clone());
        fan_out.offer = offer.clone();
        let answer = self.session(inside).events().fan_out(&fan_out).await;
        let (now, mut locked) = (
            self.model.now,
            Locks {
                fan_outs: true,
                ..Locks::default()
            },
        );
        let ids: Vec<_> = match selection {
            Selection::Due { limit } => {
                let due = rows
                    .events
                    .iter()
                    .filter(|row| row.is_due(now) && !locks.events.contains(&row.id));
                due.take(limit).map(|row| row.id).collect()
            }
            Selection::Claimed(claims) => {
                let is_locked = |id: &EventId| locks.events.contains(id);
                if claims
                    .iter()
                    .any(|(id, _)| is_locked(id) && rows.event(*id).is_some())
                {
                    return assert_locked(answer);
                }
                locked.events.extend(
                    claims
                        .iter()
                        .map(|(id, _)| *id)
                        .filter(|id| rows.event(*id).is_some()),
                );
                let held = |row: &&EventRow| {
                    claims
                        .iter()
                        .any(|(id, attempt)| *id == row.id && row.is_held(*attempt))
                };
                rows.events.iter().filter(held).map(|row| row.id).collect()
            }
            other => panic!("{other:?} is not modelled"),
        };
        if locks.renames {
            return assert_locked(answer);
        }
        let backlog = offer.as_ref().and_then(|offer| {
            let is_offered = |row: &&HandlerRequest| {
                offer
                    .handlers
                    .iter()
                    .any(|room| room.handler == row.handler && room.room > 0)
            };
            let claimable = rows.claimable(now, &locks, false);
            claimable
                .iter()
                .filter(is_offered)
                .map(|row| row.priority)
                .min()
        });
        let (mut births, mut processed) = (Vec::new(), Vec::new());
        for id in ids {
            let row = rows.event(id).unwrap();
            (row.processed_at, row.lease, row.backoff_until) = (Some(now), None, None);
            locked.events.insert(id);
            let name = row.name.clone();
            let wanted = rows.wanted_by(&name);
            processed.push((id, wanted.len()));
            for (handler, priority, max_errors) in wanted {
                if !rows
                    .requests
                    .iter()
                    .any(|row| row.event_id == id && row.handler == handler)
                {
                    births.push(HandlerRequest::new(
                        id,
                        name.clone(),
                        handler,
                        priority,
                        max_errors,
                        now,
                    ));
                }
            }
        }
        births.sort_by_key(|row| (row.priority, row.id));
        let mut leased = Vec::new();
        let (mut left, mut room) = (
            offer.as_ref().map_or(0, |offer| offer.limit),
            offer
                .as_ref()
                .map(|offer| offer.handlers.clone())
                .unwrap_or_default(),
        );
        for row in &mut births {
            let room = room
                .iter_mut()
                .find(|room| room.handler == row.handler && room.room > 0);
            if let (Some(offer), Some(room)) = (&offer, room)
                && left > 0
                && backlog.is_none_or(|waiting| row.priority < waiting)
            {
                (left, room.room) = (left - 1, room.room - 1);
                row.attempt = 1;
                row.lease = Some(Lease {
                    owner: offer.owner,
                    until: now + offer.lease,
                });
                leased.push((row.id, row.attempt));
            }
            locked.requests.insert(row.id);
        }
        rows.requests.extend(births);
        rows.sort();
        let is_free = |row: &&EventRow| !locks.events.contains(&row.id);
        let next_due = if rows
            .events
            .iter()
            .filter(is_free)
            .any(|row| row.is_due(now))
        {
            None
        } else {
            let waits = |row: &&EventRow| row.processed_at.is_none() && row.lease.is_none();
            let until = rows
                .events
                .iter()
                .filter(is_free)
                .filter(waits)
                .filter_map(|row| row.backoff_until)
                .min();
            until.map(|until| (until - now).to_std().unwrap())
        };
        let answer = answer.unwrap();
        assert_eq!(
            answer
                .processed
                .iter()
                .map(|event| (event.id, event.requests))
                .collect::<Vec<_>>(),
            processed
        );
        assert_eq!(
            answer
                .born_leased
                .iter()
                .map(|row| (row.id, row.attempt))
                .collect::<Vec<_>>(),
            leased
        );
        assert_eq!(answer.next_due, next_due);
        self.claims.extend(leased);
        self.model.write(inside, &rows, locked);
    }

    pub(crate) fn new_event(&mut self, name: usize) -> Event {
        // Mostly, but not always, in ascending order.
        let number = self.raised.len() as u128;
        let id = EventId::from_uuid(uuid((number ^ 3) << 80 | number.wrapping_mul(0x9e37_79b9)));
        self.raised.push(id);
        event(id, EVENTS[name % 3])
    }

    pub(crate) fn chosen_event_claims(&self, claims: &[usize], void: bool) -> Vec<(EventId, u64)> {
        let claims = claims
            .iter()
            .filter_map(|index| chosen(&self.event_claims, *index));
        claims
            .map(|(id, attempt)| (id, attempt + u64::from(void)))
            .collect()
    }
}
