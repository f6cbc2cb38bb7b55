//! The statements that make handler requests of events.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use super::{
    event_table::EventRecord,
    merge::merge,
    registration_table::Match,
    scope::{Scope, Statement},
};
use crate::{
    clock::{between, later},
    id::{EventId, HandlerRequestId},
    model::{Event, HandlerRequest, Lease, Priority},
    store::{
        ClaimedEvent, ClaimedRequest, EventClaim, EventFailure, FanOut, FannedOut, LeaseOffer,
        LockMode, ProcessedEvent, Selection,
    },
    text::Name,
};

/// An event that is to be fanned out.
#[derive(Clone, Copy)]
struct Selected {
    id: EventId,
    /// The key of its row, if that is written directly.
    key: Option<usize>,
}

/// An event that is being fanned out, and who wants it.
struct Parent {
    event: Arc<Event>,
    key: Option<usize>,
    matches: Arc<[Match]>,
}

/// A request that is about to be made.
struct Birth {
    priority: Priority,
    id: HandlerRequestId,
    /// Which of the parents.
    parent: usize,
    /// Which of its matches.
    index: usize,
}

/// What is left of an offer.
struct Offer {
    lease: Lease,
    left: usize,
    /// The room of queues, by their keys.
    rooms: HashMap<usize, usize>,
    /// The best priority that waits already.
    backlog: Option<Priority>,
}

impl Offer {
    /// Whether a request of this queue is born leased.
    fn take(&mut self, priority: Priority, queue: usize) -> bool {
        if self.left == 0 || self.backlog.is_some_and(|waiting| waiting <= priority) {
            return false;
        }
        match self.rooms.get_mut(&queue) {
            Some(room) if *room > 0 => {
                *room -= 1;
                self.left -= 1;
                true
            }
            _ => false,
        }
    }
}

impl Scope<'_> {
    pub(super) fn claim_events(&mut self, claim: &EventClaim) -> Statement<Vec<ClaimedEvent>> {
        let mut claimed = Vec::new();
        for Selected { id, .. } in self.due_events(claim.limit) {
            if !self.lock_event(id, LockMode::SkipLocked)? {
                continue;
            }
            let now = self.now;
            claimed.extend(self.update_event(id, |record| {
                record.claim(now, claim.owner, claim.lease);
                ClaimedEvent {
                    event: Arc::clone(&record.event),
                    attempt: record.attempt,
                    errors: record.errors,
                }
            }));
        }
        Ok(claimed)
    }

    pub(super) fn fail_events(&mut self, failures: &[EventFailure]) -> Statement<()> {
        for failure in failures {
            self.lock_event(failure.id, LockMode::Wait)?;
        }
        for failure in failures {
            let now = self.now;
            self.update_event(failure.id, |record| {
                if record.is_held(failure.attempt) {
                    record.fail(now, &failure.error, failure.backoff);
                }
            });
        }
        Ok(())
    }

    pub(super) fn fan_out(&mut self, fan_out: &FanOut) -> Statement<FannedOut> {
        self.share_names()?;
        if self.is_held_back(fan_out) {
            return Ok(FannedOut {
                held_back: true,
                ..FannedOut::default()
            });
        }
        let selected = self.select(&fan_out.selection)?;
        let mut parents = Vec::with_capacity(selected.len());
        let mut births = Vec::with_capacity(selected.len());
        let mut fanned_out = FannedOut::default();
        fanned_out.processed.reserve(selected.len());
        for Selected { id, key } in selected {
            let Some(event) = self.process_event(id, key) else {
                continue;
            };
            let matches = self.matches(&event.name);
            fanned_out.processed.push(processed(&event, matches.len()));
            let parent = Parent {
                event,
                key,
                matches,
            };
            self.expect_births(&parent, parents.len(), &mut births);
            parents.push(parent);
        }
        births.sort_unstable_by_key(|birth| (birth.priority, birth.id));
        if !parents.is_empty() {
            self.give_birth(&parents, births, fan_out.offer.as_ref(), &mut fanned_out);
        }
        fanned_out.next_due = self.next_due_event();
        Ok(fanned_out)
    }

    /// Whether the events are to wait for those who claim.
    fn is_held_back(&mut self, fan_out: &FanOut) -> bool {
        let (Some(most), Some(offer)) = (fan_out.max_behind_backlog, &fan_out.offer) else {
            return false;
        };
        let Selection::Due { limit } = fan_out.selection else {
            return false;
        };
        let enough = most.saturating_add(1);
        let mut handlers = offer.handlers.iter().filter(|handler| handler.room > 0);
        limit > most
            && handlers.any(|handler| self.best_ready(&handler.handler).is_some())
            && self.due_events(enough).len() == enough
    }

    /// The due events, oldest first.
    fn due_events(&mut self, limit: usize) -> Vec<Selected> {
        let now = self.now;
        self.state.events.promote(now);
        let committed = self.state.events.due.iter();
        match &self.overlay {
            None => committed
                .take(limit)
                .map(|(id, key)| Selected { id, key: Some(key) })
                .collect(),
            Some(overlay) => {
                let committed = committed.map(|(id, _)| id);
                let staged = overlay
                    .events
                    .iter()
                    .filter(|(_, record)| record.is_due(now))
                    .map(|(id, _)| *id);
                let both = merge(committed, staged, |id| *id);
                both.take(limit)
                    .map(|id| Selected { id, key: None })
                    .collect()
            }
        }
    }

    /// Locks the events that are to be fanned out.
    fn select(&mut self, selection: &Selection) -> Statement<Vec<Selected>> {
        match selection {
            Selection::Due { limit } => {
                let due = self.due_events(*limit);
                if self.overlay.is_some() {
                    for selected in &due {
                        self.lock_event(selected.id, LockMode::SkipLocked)?;
                    }
                }
                Ok(due)
            }
            Selection::Claimed(claimed) => {
                for (id, _) in claimed {
                    self.lock_event(*id, LockMode::Wait)?;
                }
                let mut held: Vec<_> = claimed
                    .iter()
                    .filter(|(id, attempt)| {
                        self.event(*id)
                            .is_some_and(|record| record.is_held(*attempt))
                    })
                    .map(|(id, _)| *id)
                    .collect();
                held.sort_unstable();
                held.dedup();
                let is_direct = self.overlay.is_none();
                let key = |id| self.state.events.by_id.get(id).filter(|_| is_direct);
                Ok(held
                    .iter()
                    .map(|id| Selected {
                        id: *id,
                        key: key(id),
                    })
                    .collect())
            }
        }
    }

    /// Marks an event as processed.
    fn process_event(&mut self, id: EventId, key: Option<usize>) -> Option<Arc<Event>> {
        let now = self.now;
        let process = |record: &mut EventRecord| {
            record.process(now);
            Arc::clone(&record.event)
        };
        match key {
            Some(key) => self
                .state
                .events
                .update(key, now, |row| process(&mut row.record)),
            None => self.update_event(id, process),
        }
    }

    fn expect_births(&self, parent: &Parent, number: usize, births: &mut Vec<Birth>) {
        let row = parent.key.and_then(|key| self.state.events.rows.get(key));
        let existing = match row {
            Some(row) if row.first_request.is_none() => Vec::new(),
            _ => self.requests_of_event(parent.event.id),
        };
        for (index, wanted) in parent.matches.iter().enumerate() {
            let has_handler = |id: &HandlerRequestId| {
                self.request(*id)
                    .is_some_and(|request| request.handler == wanted.handler)
            };
            if !existing.iter().any(has_handler) {
                let id = HandlerRequestId::combine(parent.event.id, wanted.hash);
                births.push(Birth {
                    priority: wanted.priority,
                    id,
                    parent: number,
                    index,
                });
            }
        }
    }

    /// Stores new requests, the most urgent first, and answers those that were born leased.
    fn give_birth(
        &mut self,
        parents: &[Parent],
        births: Vec<Birth>,
        offer: Option<&LeaseOffer>,
        fanned_out: &mut FannedOut,
    ) {
        let mut offer = offer.map(|offer| self.open_offer(offer));
        let mut leased = Vec::with_capacity(if offer.is_some() { births.len() } else { 0 });
        let mut ready = BTreeSet::new();
        for Birth {
            priority,
            id,
            parent,
            index,
        } in births
        {
            let Some(Parent {
                event,
                key,
                matches,
            }) = parents.get(parent)
            else {
                continue;
            };
            let Some(wanted) = matches.get(index) else {
                continue;
            };
            let (name, handler) = (event.name.clone(), wanted.handler.clone());
            let mut request = HandlerRequest::with_id(
                id,
                event.id,
                name,
                handler,
                priority,
                wanted.max_errors,
                self.now,
            );
            if let Some(offer) = offer.as_mut()
                && offer.take(priority, wanted.queue)
            {
                request.attempt += 1;
                request.lease = Some(offer.lease);
                leased.push(claimed_request(&request, Arc::clone(event)));
            } else if !ready.contains(&request.handler) {
                ready.insert(request.handler.clone());
            }
            self.insert_request(wanted.queue, request, event, *key);
        }
        fanned_out.born_leased = leased;
        fanned_out.ready_handlers = Some(ready.into_iter().collect());
    }

    fn open_offer(&mut self, offer: &LeaseOffer) -> Offer {
        let mut rooms = HashMap::with_capacity(offer.handlers.len());
        let mut backlog = None;
        for handler in offer.handlers.iter().filter(|handler| handler.room > 0) {
            let queue = self.state.requests.queue_key(&handler.handler);
            rooms.insert(queue, handler.room);
            let best = self.best_ready(&handler.handler);
            backlog = backlog.into_iter().chain(best).min();
        }
        let lease = Lease {
            owner: offer.owner,
            until: later(self.now, offer.lease),
        };
        Offer {
            lease,
            left: offer.limit,
            rooms,
            backlog,
        }
    }

    /// The best priority of the requests that wait for a handler.
    fn best_ready(&mut self, handler: &Name) -> Option<Priority> {
        let now = self.now;
        self.state.requests.promote(handler, now);
        let committed = self
            .state
            .requests
            .queue(handler)
            .and_then(|queue| queue.ready.first());
        let staged = self
            .overlay
            .iter()
            .flat_map(|overlay| overlay.requests.values());
        let staged = staged
            .map(|staged| &staged.request)
            .filter(|request| {
                request.handler == *handler && super::claim::is_claimable(request, now, false)
            })
            .map(|request| request.priority);
        committed
            .map(|((priority, _), _)| priority)
            .into_iter()
            .chain(staged)
            .min()
    }

    /// When nothing is due now: how long until the next event that backs off is.
    fn next_due_event(&mut self) -> Option<Duration> {
        let now = self.now;
        if !self.due_events(1).is_empty() {
            return None;
        }
        let staged = self
            .overlay
            .iter()
            .flat_map(|overlay| overlay.events.values());
        let staged = staged
            .filter(|record| record.processed_at.is_none() && record.lease.is_none())
            .filter_map(|record| record.backoff_until);
        let next = self
            .state
            .events
            .next_backoff()
            .into_iter()
            .chain(staged)
            .min()?;
        Some(between(now, next))
    }
}

fn processed(event: &Event, requests: usize) -> ProcessedEvent {
    ProcessedEvent {
        id: event.id,
        name: event.name.clone(),
        entity: event.entity.clone(),
        correlation_id: event.correlation_id,
        timestamp: event.timestamp,
        requests,
    }
}

/// What an executor needs to know of a request that was just claimed.
pub(super) fn claimed_request(request: &HandlerRequest, event: Arc<Event>) -> ClaimedRequest {
    ClaimedRequest {
        id: request.id,
        event,
        handler: request.handler.clone(),
        priority: request.priority,
        attempt: request.attempt,
        errors: request.errors,
        max_errors: request.max_errors,
        executions: request.executions,
        rescues: request.rescues,
        batch: None,
    }
}
