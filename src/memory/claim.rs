//! The statements that claim handler requests.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::Arc,
};

use chrono::{DateTime, Utc};

use super::{
    fan_out::claimed_request,
    scope::{Scope, Statement},
};
use crate::{
    clock::between,
    id::HandlerRequestId,
    model::{HandlerRequest, Priority, RequestState},
    store::{Claim, ClaimedBatch, ClaimedRequest, LockMode},
    text::Name,
};

/// How many requests of each handler can be taken.
type Rooms<'c> = BTreeMap<&'c Name, usize>;

impl Scope<'_> {
    pub(super) fn claim_requests(&mut self, claim: &Claim) -> Statement<ClaimedBatch> {
        let requests = self.claim_best(claim, claim.limit, false)?;
        let mut batch = ClaimedBatch {
            requests,
            ..ClaimedBatch::default()
        };
        if batch.requests.len() < claim.limit {
            batch.next_due = self
                .next_due_request(claim)
                .map(|due_at| between(self.now, due_at));
            batch.suspect_waits = self.suspect_waits(claim);
        }
        Ok(batch)
    }

    pub(super) fn claim_suspect(&mut self, claim: &Claim) -> Statement<ClaimedBatch> {
        Ok(ClaimedBatch {
            requests: self.claim_best(claim, claim.limit.min(1), true)?,
            ..ClaimedBatch::default()
        })
    }

    fn claim_best(
        &mut self,
        claim: &Claim,
        limit: usize,
        suspects: bool,
    ) -> Statement<Vec<ClaimedRequest>> {
        let rooms: Rooms<'_> = claim
            .handlers
            .iter()
            .map(|handler| (&handler.handler, handler.room))
            .filter(|(_, room)| *room > 0)
            .collect();
        for handler in &claim.handlers {
            self.state.requests.promote(&handler.handler, self.now);
        }
        let mut ids = self.best_committed(&rooms, limit, suspects);
        if self.overlay.is_some() {
            ids = self.best_of(ids, rooms, limit, suspects);
        }
        let mut claimed = Vec::with_capacity(ids.len());
        for (_, id) in ids {
            if self.lock_request(id, LockMode::SkipLocked)? {
                claimed.extend(self.claim_one(id, claim));
            }
        }
        Ok(claimed)
    }

    fn claim_one(&mut self, id: HandlerRequestId, claim: &Claim) -> Option<ClaimedRequest> {
        let now = self.now;
        let event = Arc::clone(self.event_of_request(id)?);
        let claimed = self.update_request(id, |request| {
            let executions = request.executions;
            request.claim(now, claim.owner, claim.lease)?;
            let claimed = claimed_request(request, event);
            // The claim of a suspect counts its execution, which the handler is not to see as one
            // before its own.
            Ok::<_, crate::model::Refusal>(ClaimedRequest {
                executions,
                ..claimed
            })
        })?;
        claimed.ok()
    }

    /// The best committed requests that nobody has locked, within the rooms and the limit.
    fn best_committed(
        &self,
        rooms: &Rooms<'_>,
        limit: usize,
        suspects: bool,
    ) -> Vec<(Priority, HandlerRequestId)> {
        let mut best = Vec::new();
        let mut heads = BinaryHeap::with_capacity(rooms.len());
        let mut queues = Vec::with_capacity(rooms.len());
        for (handler, room) in rooms {
            let Some(queue) = self.state.requests.queue(handler) else {
                continue;
            };
            let mut waiting = if suspects {
                &queue.suspects
            } else {
                &queue.ready
            }
            .iter()
            .take(*room)
            .map(|(place, _)| place);
            if let Some(head) = waiting.next() {
                heads.push(Reverse((head, queues.len())));
                queues.push(waiting);
            }
        }
        while best.len() < limit
            && let Some(Reverse((head, index))) = heads.pop()
        {
            best.push(head);
            if let Some(next) = queues.get_mut(index).and_then(Iterator::next) {
                heads.push(Reverse((next, index)));
            }
        }
        best
    }

    /// The best of these and of what the transaction itself holds.
    fn best_of(
        &self,
        committed: Vec<(Priority, HandlerRequestId)>,
        mut rooms: Rooms<'_>,
        limit: usize,
        suspects: bool,
    ) -> Vec<(Priority, HandlerRequestId)> {
        let staged = self
            .overlay
            .iter()
            .flat_map(|overlay| overlay.requests.values())
            .map(|staged| &staged.request);
        let staged = staged
            .filter(|request| {
                rooms.contains_key(&request.handler) && is_claimable(request, self.now, suspects)
            })
            .map(|request| (request.priority, request.id));
        let mut all: Vec<_> = committed.into_iter().chain(staged).collect();
        all.sort_unstable();
        all.retain(|(_, id)| {
            let handler = self.request(*id).map(|request| &request.handler);
            match handler.and_then(|handler| rooms.get_mut(handler)) {
                Some(room) if *room > 0 => {
                    *room -= 1;
                    true
                }
                _ => false,
            }
        });
        all.truncate(limit);
        all
    }

    /// Whether a claim of suspects would find one.
    fn suspect_waits(&self, claim: &Claim) -> bool {
        let asked = |handler: &Name| {
            let mut asked = claim.handlers.iter().filter(|asked| asked.room > 0);
            asked.any(|asked| asked.handler == *handler)
        };
        let committed = |handler: &Name| {
            let queue = self.state.requests.queue(handler);
            queue.is_some_and(|queue| queue.suspects.iter().next().is_some())
        };
        let mut staged = self
            .overlay
            .iter()
            .flat_map(|overlay| overlay.requests.values())
            .map(|staged| &staged.request);
        claim
            .handlers
            .iter()
            .any(|room| room.room > 0 && committed(&room.handler))
            || staged
                .any(|request| asked(&request.handler) && is_claimable(request, self.now, true))
    }

    /// When the next request of the asked handlers that backs off is due.
    fn next_due_request(&self, claim: &Claim) -> Option<DateTime<Utc>> {
        let asked = |handler: &Name| claim.handlers.iter().any(|asked| asked.handler == *handler);
        let committed = claim
            .handlers
            .iter()
            .filter_map(|asked| self.state.requests.next_backoff(&asked.handler));
        let staged = self
            .overlay
            .iter()
            .flat_map(|overlay| overlay.requests.values())
            .map(|staged| &staged.request);
        let staged = staged
            .filter(|request| {
                request.state(self.now) == RequestState::BackingOff && asked(&request.handler)
            })
            .filter_map(|request| request.backoff_until);
        committed.chain(staged).min()
    }
}

/// Whether a claim, or a claim of suspects, may take a request.
pub(super) fn is_claimable(request: &HandlerRequest, now: DateTime<Utc>, suspects: bool) -> bool {
    request.is_suspect() == suspects && request.state(now) == RequestState::Pending
}
