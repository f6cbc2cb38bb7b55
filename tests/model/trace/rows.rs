//! What a store has, as the model sees it: which answers it allows, and what they make of it. The rules
//! of requests are those of the machine that was explored.

use std::collections::BTreeMap;

use tidings::{
    Backoff, EventId, HandlerRequest, HandlerRequestId, Name, Registration, Rescue as Rescues,
    store::{Claim, HandlerRoom, LeaseOffer, Raised, Renewal, Settled},
};

use super::{
    call::{Answer, Asked, Leased, Settling, TakenBack},
    values::{Verdict, is_in, micros, outcome, paired, require},
};
use crate::machine::{
    breakage::Rules,
    row::{Now, Owner, Place, Rescue, Row},
};

const RULES: Rules = Rules::SOUND;

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rows {
    events: BTreeMap<EventId, EventRow>,
    pub(crate) requests: BTreeMap<HandlerRequestId, RequestRow>,
    registrations: BTreeMap<(String, Name), Registration>,
}

#[derive(Clone, Debug, PartialEq)]
struct EventRow {
    name: Name,
    is_processed: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RequestRow {
    pub(crate) row: Row,
    pub(crate) event: EventId,
    pub(crate) handler: Name,
}

impl Rows {
    /// Takes over what a call did that was answered so.
    pub(crate) fn allow(&mut self, now: Now, asked: &Asked, answer: &Answer) -> Verdict {
        match (asked, answer) {
            (Asked::Register(registrations), Answer::Done) => self.register(registrations),
            (Asked::Raise(events), Answer::Raised(raised)) => {
                for (event, raised) in paired(events, raised)? {
                    require(self.raise(event) == *raised, "whether the event was there")?;
                }
            }
            (Asked::FanOut(offer), Answer::FannedOut { processed, born }) => {
                self.fan_out(now, offer.as_ref(), processed, born)?;
            }
            (Asked::Claim { claim, suspects }, Answer::Claimed(leased)) => {
                self.claim(now, claim, *suspects, leased)?;
            }
            (Asked::Settle(settling), Answer::Settled(settled)) => {
                for (settling, settled) in paired(settling, settled)? {
                    let is_held = self.holds(settling);
                    compare(*settled, is_held)?;
                    if *settled == Settled::Applied {
                        self.settle(now, settling)?;
                    }
                }
            }
            (Asked::HandBack(owner, claims), Answer::Settled(settled)) => {
                for ((id, attempt), settled) in paired(claims, settled)? {
                    let fence = (Owner(owner.as_uuid().as_u128()), *attempt);
                    let row = &mut self.request(*id)?.row;
                    compare(*settled, row.is_held(fence.0, fence.1))?;
                    if *settled == Settled::Applied {
                        let _ = row.hand_back(RULES, fence);
                    }
                }
            }
            (Asked::Renew(renewal), Answer::Renewed(renewed)) => {
                self.renew(now, renewal, &renewed.lost, &renewed.skipped)?;
            }
            (Asked::Rescue { limit, backoff }, Answer::Rescued(rescued)) => {
                require(rescued.len() <= *limit, "as many as it may take")?;
                for rescued in rescued {
                    self.rescue(now, *backoff, rescued)?;
                }
            }
            (Asked::Find { id, .. }, Answer::Found(found)) => {
                self.compare(*id, found.as_deref())?
            }
            (Asked::Cancel(_) | Asked::Reexecute(_) | Asked::RunNow(_), answer) => {
                self.operate(asked, answer)?;
            }
            (Asked::Commit | Asked::Rollback | Asked::Other(_), _) => {}
            (asked, answer) => return Err(format!("{answer:?} is no answer to {asked:?}")),
        }
        Ok(())
    }

    /// Takes over what a call does whose answer nobody got.
    pub(crate) fn assume(&mut self, now: Now, asked: &Asked) {
        match asked {
            Asked::Raise(events) => {
                for event in events {
                    self.raise(event);
                }
            }
            Asked::Settle(settling) => {
                for settling in settling {
                    let _ = self.settle(now, settling);
                }
            }
            Asked::HandBack(owner, claims) => {
                for (id, attempt) in claims {
                    if let Ok(request) = self.request(*id) {
                        let fence = (Owner(owner.as_uuid().as_u128()), *attempt);
                        let _ = request.row.hand_back(RULES, fence);
                    }
                }
            }
            Asked::Register(registrations) => self.register(registrations),
            Asked::Cancel(_) | Asked::Reexecute(_) | Asked::RunNow(_) => {
                let _ = self.operate(asked, &Answer::Done);
            }
            Asked::Find { .. } | Asked::Commit | Asked::Rollback | Asked::Other(_) => {}
            Asked::FanOut(_) | Asked::Claim { .. } | Asked::Rescue { .. } | Asked::Renew(_) => {
                // Nothing else tells which rows it was about.
                panic!("{asked:?} without an answer cannot be judged");
            }
        }
    }

    /// Whether a settlement or hand-back could still take effect, now or ever: attempts only grow.
    pub(crate) fn may_still_take_effect(&self, asked: &Asked) -> bool {
        let is_held = |id, owner: Owner, attempt| {
            let request: Option<&RequestRow> = self.requests.get(id);
            request.is_some_and(|request| request.row.is_held(owner, attempt))
        };
        match asked {
            Asked::Settle(settling) => settling.iter().any(|it| self.holds(it)),
            Asked::HandBack(owner, claims) => claims
                .iter()
                .any(|(id, attempt)| is_held(id, Owner(owner.as_uuid().as_u128()), *attempt)),
            _ => true,
        }
    }

    fn request(&mut self, id: HandlerRequestId) -> Verdict<&mut RequestRow> {
        self.requests
            .get_mut(&id)
            .ok_or_else(|| format!("there is no request {id}"))
    }

    fn holds(&self, it: &Settling) -> bool {
        let owner = Owner(it.owner.as_uuid().as_u128());
        let request = self.requests.get(&it.id);
        request.is_some_and(|request| request.row.is_held(owner, it.attempt))
    }

    fn register(&mut self, registrations: &[Registration]) {
        for registration in registrations {
            let key = (
                registration.pattern.to_string(),
                registration.handler.clone(),
            );
            self.registrations.insert(key, registration.clone());
        }
    }

    fn raise(&mut self, (id, name): &(EventId, Name)) -> Raised {
        if self.events.contains_key(id) {
            return Raised::AlreadyRaised;
        }
        let event = EventRow {
            name: name.clone(),
            is_processed: false,
        };
        self.events.insert(*id, event);
        Raised::New
    }

    fn fan_out(
        &mut self,
        now: Now,
        offer: Option<&LeaseOffer>,
        processed: &[(EventId, usize)],
        born: &[Leased],
    ) -> Verdict {
        for (id, requests) in processed {
            let event = self
                .events
                .get_mut(id)
                .ok_or("an event that was not raised")?;
            require(
                !event.is_processed,
                "an event that was not processed before",
            )?;
            event.is_processed = true;
            let name = event.name.clone();
            let wanted: Vec<_> = self.registrations.values().cloned().collect();
            let wanted = wanted.iter().filter(|it| it.pattern.matches(&name));
            let mut made = 0;
            for registration in wanted {
                let request = RequestRow {
                    row: Row::new(registration.max_errors),
                    event: *id,
                    handler: registration.handler.clone(),
                };
                let id = HandlerRequestId::derive(*id, &registration.handler);
                let is_new = self.requests.insert(id, request).is_none();
                require(is_new, "a request that was not made before")?;
                made += 1;
            }
            require(
                made == *requests,
                "a request for each handler that wants the event",
            )?;
        }
        if born.is_empty() {
            return Ok(());
        }
        let offer = offer.ok_or("no request that is born leased without an offer")?;
        require(
            born.iter()
                .all(|leased| processed.iter().any(|(id, _)| *id == leased.event)),
            "only requests of these events that are born leased",
        )?;
        let claim = Claim::new(
            offer.owner,
            offer.lease,
            offer.limit,
            offer.handlers.clone(),
        );
        self.claim(now, &claim, false, born)
    }

    fn claim(&mut self, now: Now, claim: &Claim, suspects: bool, leased: &[Leased]) -> Verdict {
        require(leased.len() <= claim.limit, "as many as were asked for")?;
        for HandlerRoom { handler, room, .. } in &claim.handlers {
            let taken = leased.iter().filter(|it| it.handler == *handler);
            require(
                taken.count() <= *room,
                "as many of a handler as there is room for",
            )?;
        }
        for leased in leased {
            let is_asked_for = claim.handlers.iter().any(|it| it.handler == leased.handler);
            require(is_asked_for, "a handler that was asked for")?;
            let request = self.request(leased.id)?;
            require(request.handler == leased.handler, "the request's handler")?;
            let row = &mut request.row;
            require(row.is_suspect() == suspects, "suspects apart from others")?;
            let owner = Owner(claim.owner.as_uuid().as_u128());
            let claimed = row.claim(RULES, now, owner, micros(claim.lease));
            claimed.map_err(|_| format!("a claim of {row:?} at {now:?}"))?;
            require(
                row.attempt == leased.attempt,
                "an attempt that grows by one",
            )?;
            require(row.errors == leased.errors, "the errors that were counted")?;
            require(
                row.rescues == leased.rescues,
                "the rescues that were counted",
            )?;
        }
        Ok(())
    }

    fn settle(&mut self, now: Now, it: &Settling) -> Verdict {
        let fence = (Owner(it.owner.as_uuid().as_u128()), it.attempt);
        let row = &mut self.request(it.id)?.row;
        if row.settle(RULES, now, fence, outcome(&it.outcome)).is_ok() {
            for event in &it.raised {
                self.raise(event);
            }
        }
        Ok(())
    }

    fn renew(
        &mut self,
        now: Now,
        renewal: &Renewal,
        lost: &[(HandlerRequestId, u64)],
        skipped: &[(HandlerRequestId, u64)],
    ) -> Verdict {
        let owner = Owner(renewal.owner.as_uuid().as_u128());
        for claim in &renewal.requests {
            if skipped.contains(claim) {
                continue;
            }
            let row = &mut self.request(claim.0)?.row;
            let lease = micros(renewal.lease);
            let is_lost = row.renew(RULES, now, (owner, claim.1), lease).is_err();
            require(
                is_lost == lost.contains(claim),
                "what is lost, and nothing else",
            )?;
        }
        Ok(())
    }

    fn rescue(&mut self, now: Now, backoff: Backoff, rescued: &TakenBack) -> Verdict {
        let row = &mut self.request(rescued.id)?.row;
        let owner = Owner(rescued.owner.as_uuid().as_u128());
        require(row.is_held(owner, row.attempt), "the owner that had it")?;
        // The shortest that it may be; the next claim is held against it.
        let wait = micros(backoff.after_with(row.errors + 1, 1.0));
        let came_to = row.rescue(RULES, now, wait);
        let came_to = came_to.map_err(|_| format!("a rescue of {row:?} at {now:?}"))?;
        let expected = match came_to {
            Rescue::Ready => Rescues::Ready,
            Rescue::BackedOff => Rescues::BackedOff,
            Rescue::Dead => Rescues::Dead,
        };
        require(expected == rescued.rescue, "what a rescue comes to")?;
        require(row.errors == rescued.errors, "the errors that were counted")?;
        require(
            row.rescues == rescued.rescues,
            "the rescues that were counted",
        )
    }

    fn operate(&mut self, asked: &Asked, answer: &Answer) -> Verdict {
        let (id, operate): (_, fn(&mut Row) -> bool) = match asked {
            Asked::Cancel(id) => (*id, |row| row.cancel(RULES).is_ok()),
            Asked::Reexecute(id) => (*id, |row| row.reexecute(RULES).is_ok()),
            Asked::RunNow(id) => (*id, |row| row.run_now().is_ok()),
            other => return Err(format!("{other:?} is no operation")),
        };
        let row = &mut self.request(id)?.row;
        let was = row.place;
        match answer {
            Answer::Done => require(operate(row), "a state in which it is allowed"),
            Answer::Refused(state) => {
                require(!operate(row), "a state in which it is not allowed")?;
                require(
                    is_in(was, state.parse().ok()),
                    "the state that stands against it",
                )
            }
            other => Err(format!("{other:?} is no answer to an operation")),
        }
    }

    /// Compares a request with what was read.
    fn compare(&self, id: HandlerRequestId, found: Option<&HandlerRequest>) -> Verdict {
        let (Some(found), Some(request)) = (found, self.requests.get(&id)) else {
            let neither = found.is_none() && !self.requests.contains_key(&id);
            return require(neither, "a request, or none");
        };
        let row = request.row;
        require(row.attempt == found.attempt, "the attempt")?;
        require(row.errors == found.errors, "the errors")?;
        require(row.rescues == found.rescues, "the rescues")?;
        let is_so = match row.place {
            Place::Completed => found.completed_at.is_some(),
            Place::Dead => found.dead_at.is_some(),
            Place::Canceled => found.canceled_at.is_some(),
            Place::Executing { owner, .. } => {
                found.is_open()
                    && found
                        .lease
                        .is_some_and(|it| it.owner.as_uuid().as_u128() == owner.0)
            }
            Place::Waiting { .. } => found.is_open() && found.lease.is_none(),
        };
        require(is_so, "where it is")
    }
}

/// What is held is settled or put off, and nothing else is.
fn compare(settled: Settled, is_held: bool) -> Verdict {
    let is_refused = settled == Settled::Fenced;
    require(is_held != is_refused, "what the fence says")
}
