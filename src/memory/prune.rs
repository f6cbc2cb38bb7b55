//! The statement that deletes what nobody needs any more.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::scope::{Scope, Statement, Stop};
use crate::{
    clock::later,
    id::{EventId, HandlerRequestId},
    model::HandlerRequest,
    store::{LockMode, Prune, Pruned},
};

impl Scope<'_> {
    pub(super) fn prune(&mut self, prune: &Prune) -> Statement<Pruned> {
        prune.check().map_err(Stop::Failed)?;
        let events = self.all_events(prune.after);
        let looked_at: Vec<_> = events
            .take(prune.limit)
            .map(|record| record.event.id)
            .collect();
        let mut pruned = Pruned::default();
        if looked_at.len() >= prune.limit {
            pruned.next = looked_at.last().copied();
        }
        for event in looked_at {
            let requests = self.requests_of_event(event);
            if self.is_prunable(event, &requests, prune) {
                self.delete(event, &requests)?;
                pruned.events += 1;
                pruned.requests += requests.len() as u64;
            }
        }
        Ok(pruned)
    }

    /// Whether an event goes now, with all its requests: nobody else has locked any of them, and
    /// all times are over.
    fn is_prunable(&self, id: EventId, requests: &[HandlerRequestId], prune: &Prune) -> bool {
        let Some(processed_at) = self.event(id).and_then(|record| record.processed_at) else {
            return false;
        };
        let now = self.now;
        is_over(now, processed_at, Some(prune.keep_events_for))
            && (!requests.is_empty() || is_over(now, processed_at, prune.completed_for))
            && !self.is_event_locked_elsewhere(id)
            && requests.iter().all(|id| {
                !self.is_request_locked_elsewhere(*id)
                    && self
                        .request(*id)
                        .is_some_and(|request| has_served(request, now, prune))
            })
    }

    fn delete(&mut self, event: EventId, requests: &[HandlerRequestId]) -> Statement<()> {
        self.lock_event(event, LockMode::SkipLocked)?;
        for request in requests {
            self.lock_request(*request, LockMode::SkipLocked)?;
        }
        if let Some(overlay) = self.overlay.as_mut() {
            overlay.prune(event, requests);
        } else {
            self.state.prune(event, requests);
        }
        Ok(())
    }
}

/// Whether a request has ended, as long ago as its kind is kept.
fn has_served(request: &HandlerRequest, now: DateTime<Utc>, prune: &Prune) -> bool {
    let (ended_at, kept_for) = if request.canceled_at.is_some() {
        (request.canceled_at, prune.canceled_for)
    } else if request.completed_at.is_some() {
        (request.completed_at, prune.completed_for)
    } else {
        (request.dead_at, prune.dead_for)
    };
    ended_at.is_some_and(|ended_at| is_over(now, ended_at, kept_for))
}

fn is_over(now: DateTime<Utc>, since: DateTime<Utc>, time: Option<Duration>) -> bool {
    time.is_some_and(|time| later(since, time) <= now)
}
