//! The statement that deletes what nobody needs any more.

use super::scope::{Scope, Statement, Stop};
use crate::{
    id::{EventId, HandlerRequestId},
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
        let is_free = !self.is_event_locked_elsewhere(id)
            && requests
                .iter()
                .all(|id| !self.is_request_locked_elsewhere(*id));
        let requests = requests.iter().filter_map(|id| self.request(*id));
        is_free && prune.lets_go(self.now, processed_at, requests)
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
