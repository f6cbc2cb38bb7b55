//! The statement that tells what there is to do.

use super::scope::{Scope, Statement};
use crate::{
    clock::between,
    store::{Look, Outlook},
};

impl Scope<'_> {
    pub(super) fn look(&mut self, look: &Look) -> Statement<Outlook> {
        let now = self.now;
        self.state.events.promote(now);
        let mut outlook = Outlook {
            event_waits: self.state.events.due.iter().next().is_some(),
            ..Outlook::default()
        };
        if !outlook.event_waits {
            outlook.next_event = self.state.events.next_backoff().map(|at| between(now, at));
        }
        let mut next_request = None;
        for handler in &look.handlers {
            self.state.requests.promote(handler, now);
            if let Some(queue) = self.state.requests.queue(handler) {
                outlook.request_waits |= queue.ready.iter().next().is_some();
                outlook.suspect_waits |= queue.suspects.iter().next().is_some();
            }
            let next = self.state.requests.next_backoff(handler);
            next_request = next_request.into_iter().chain(next).min();
        }
        if !outlook.request_waits {
            outlook.next_request = next_request.map(|at| between(now, at));
        }
        if look.leases {
            outlook.next_expiry = self.next_expiry();
        }
        Ok(outlook)
    }
}
