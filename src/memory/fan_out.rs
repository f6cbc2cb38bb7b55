//! The statements that make handler requests of events.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{
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

/// A request that is about to be made.
struct Birth {
    priority: Priority,
    id: HandlerRequestId,
    event: Arc<Event>,
    matches: Arc<[Match]>,
    /// Which of the matches.
    index: usize,
}

/// What is left of an offer.
struct Offer<'o> {
    offer: &'o LeaseOffer,
    left: usize,
    /// The room of queues, by their keys.
    rooms: HashMap<usize, usize>,
    /// The best priority that waits already.
    backlog: Option<Priority>,
}

impl Offer<'_> {
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
        for id in self.due_events(claim.limit) {
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
        let ids = self.select(&fan_out.selection)?;
        let mut births = Vec::with_capacity(ids.len());
        let mut fanned_out = FannedOut::default();
        fanned_out.processed.reserve(ids.len());
        for id in ids {
            let now = self.now;
            let Some(event) = self.update_event(id, |record| {
                record.process(now);
                Arc::clone(&record.event)
            }) else {
                continue;
            };
            let matches = self.matches(&event.name);
            fanned_out.processed.push(processed(&event, matches.len()));
            self.expect_births(&event, &matches, &mut births);
        }
        fanned_out.born_leased = self.give_birth(births, fan_out.offer.as_ref());
        fanned_out.next_due = self.next_due_event();
        Ok(fanned_out)
    }

    /// The due events, oldest first.
    fn due_events(&mut self, limit: usize) -> Vec<EventId> {
        let now = self.now;
        self.state.events.promote(now);
        let committed = self.state.events.due.keys().copied();
        match &self.overlay {
            None => committed.take(limit).collect(),
            Some(overlay) => {
                let staged = overlay
                    .events
                    .iter()
                    .filter(|(_, record)| record.is_due(now))
                    .map(|(id, _)| *id);
                merge(committed, staged, |id| *id).take(limit).collect()
            }
        }
    }

    /// Locks the events that are to be fanned out.
    fn select(&mut self, selection: &Selection) -> Statement<Vec<EventId>> {
        match selection {
            Selection::Due { limit } => {
                let mut ids = self.due_events(*limit);
                if self.overlay.is_some() {
                    for id in &ids {
                        self.lock_event(*id, LockMode::SkipLocked)?;
                    }
                }
                ids.dedup();
                Ok(ids)
            }
            Selection::Claimed(claimed) => {
                for (id, _) in claimed {
                    self.lock_event(*id, LockMode::Wait)?;
                }
                let mut ids: Vec<_> = claimed
                    .iter()
                    .filter(|(id, attempt)| {
                        self.event(*id)
                            .is_some_and(|record| record.is_held(*attempt))
                    })
                    .map(|(id, _)| *id)
                    .collect();
                ids.sort_unstable();
                ids.dedup();
                Ok(ids)
            }
        }
    }

    fn expect_births(&self, event: &Arc<Event>, matches: &Arc<[Match]>, births: &mut Vec<Birth>) {
        let existing = self.requests_of_event(event.id);
        for (index, wanted) in matches.iter().enumerate() {
            let has_handler = |id: &HandlerRequestId| {
                self.request(*id)
                    .is_some_and(|request| request.handler == wanted.handler)
            };
            if !existing.iter().any(has_handler) {
                births.push(Birth {
                    priority: wanted.priority,
                    id: HandlerRequestId::combine(event.id, wanted.hash),
                    event: Arc::clone(event),
                    matches: Arc::clone(matches),
                    index,
                });
            }
        }
    }

    /// Stores new requests, the most urgent first, and answers those that were born leased.
    fn give_birth(
        &mut self,
        mut births: Vec<Birth>,
        offer: Option<&LeaseOffer>,
    ) -> Vec<ClaimedRequest> {
        births.sort_unstable_by_key(|birth| (birth.priority, birth.id));
        let mut offer = offer.map(|offer| self.open_offer(offer));
        let mut leased = Vec::with_capacity(if offer.is_some() { births.len() } else { 0 });
        for Birth {
            priority,
            id,
            event,
            matches,
            index,
        } in births
        {
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
                request.lease = Some(Lease {
                    owner: offer.offer.owner,
                    until: later(self.now, offer.offer.lease),
                });
                leased.push(claimed_request(&request, Arc::clone(&event)));
            }
            self.insert_request(wanted.queue, request, &event);
        }
        leased
    }

    fn open_offer<'o>(&mut self, offer: &'o LeaseOffer) -> Offer<'o> {
        let mut rooms = HashMap::with_capacity(offer.handlers.len());
        let mut backlog = None;
        for handler in offer.handlers.iter().filter(|handler| handler.room > 0) {
            let queue = self.state.requests.queue_key(&handler.handler);
            rooms.insert(queue, handler.room);
            let best = self.best_ready(&handler.handler);
            backlog = backlog.into_iter().chain(best).min();
        }
        Offer {
            offer,
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
            .map(|(priority, _)| *priority)
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
    }
}
