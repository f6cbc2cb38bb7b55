//! The statement that runs past events again.

use std::sync::Arc;

use super::{
    registration_table::Match,
    scope::{Scope, Statement, Stop},
};
use crate::{
    id::{EventId, HandlerRequestId},
    model::{Event, HandlerRequest},
    store::{LockMode, Replay, Replayed},
};

/// What is to be written, decided before anything is.
#[derive(Default)]
struct Plan {
    /// Requests to make: of which event, and which of its matches.
    missing: Vec<(Arc<Event>, Arc<[Match]>, usize)>,
    ended: Vec<HandlerRequestId>,
    open: u64,
}

impl Scope<'_> {
    pub(super) fn replay(&mut self, replay: &Replay) -> Statement<Replayed> {
        replay
            .check(self.registrations().values())
            .map_err(Stop::Failed)?;
        self.share_names()?;
        let events = self.events_to_replay(replay);
        // The lock keeps the event from being pruned, and another replay from making its requests.
        for id in &events {
            self.lock_event(*id, LockMode::Wait)?;
        }
        let mut plan = Plan::default();
        for id in &events {
            self.plan_replay(*id, replay, &mut plan);
        }
        for id in &plan.ended {
            self.lock_request(*id, LockMode::Wait)?;
        }
        let mut replayed = self.carry_out(plan);
        replayed.next = replay.next(&events);
        Ok(replayed)
    }

    fn events_to_replay(&self, replay: &Replay) -> Vec<EventId> {
        let Some((filter, after, limit)) = replay.events_to_look_at() else {
            return Vec::new();
        };
        self.matching_events(&filter, after)
            .take(limit)
            .map(|record| record.event.id)
            .filter(|id| replay.takes(*id))
            .collect()
    }

    fn plan_replay(&mut self, id: EventId, replay: &Replay, plan: &mut Plan) {
        let Some(event) = self.event(id).map(|record| Arc::clone(&record.event)) else {
            return;
        };
        let matches = self.matches(&event.name);
        let existing = self.requests_of_event(id);
        for (index, wanted) in matches.iter().enumerate() {
            if !replay.handlers.is_empty() && !replay.handlers.contains(&wanted.handler) {
                continue;
            }
            let mut existing = existing.iter().filter_map(|id| self.request(*id));
            match existing.find(|request| request.handler == wanted.handler) {
                Some(request) if request.is_open() => plan.open += 1,
                Some(request) => plan.ended.push(request.id),
                None => plan
                    .missing
                    .push((Arc::clone(&event), Arc::clone(&matches), index)),
            }
        }
    }

    fn carry_out(&mut self, plan: Plan) -> Replayed {
        let now = self.now;
        let mut replayed = Replayed {
            open: plan.open,
            ..Replayed::default()
        };
        for (event, matches, index) in &plan.missing {
            if let Some(wanted) = matches.get(*index) {
                self.make_request(event, wanted);
                replayed.created += 1;
            }
        }
        for id in plan.ended {
            let reexecuted = self.update_request(id, |request| request.reexecute(now));
            replayed.reexecuted += u64::from(matches!(reexecuted, Some(Ok(()))));
        }
        self.effects.settled |= replayed.reexecuted > 0;
        replayed
    }

    fn make_request(&mut self, event: &Arc<Event>, wanted: &Match) {
        let mut id = HandlerRequestId::combine(event.id, wanted.hash);
        // A rename may have given the request that was made under this name to another handler.
        while self.request(id).is_some() {
            id = HandlerRequestId::from_uuid(uuid::Uuid::now_v7());
        }
        let request = HandlerRequest::with_id(
            id,
            event.id,
            event.name.clone(),
            wanted.handler.clone(),
            wanted.priority,
            wanted.max_errors,
            self.now,
        );
        let key = self.state.events.by_id.get(&event.id);
        self.insert_request(wanted.queue, request, event, key);
    }
}
