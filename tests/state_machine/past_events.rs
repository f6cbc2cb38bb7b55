//! Replays and prunes.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tidings::{
    EventId, HandlerRequest, HandlerRequestId, Name, RegistrationState, StoreError,
    store::{EventFilter, Prune, Replay},
};

use crate::{
    driver::*,
    model::{Locks, Rows},
};

impl Driver {
    pub(crate) async fn replay(
        &mut self,
        inside: bool,
        limit: usize,
        after: Option<usize>,
        name: Option<usize>,
        handler: Option<usize>,
    ) {
        let filter = EventFilter::default().named(name.map(|index| EVENTS[index % 3]));
        let mut replay = Replay::new(filter, limit);
        replay = replay.to_handlers(handler.map(|index| HANDLERS[index % 3]));
        replay.after = after.and_then(|index| chosen(&self.raised, index));
        let (mut rows, locks) = (self.model.view(inside), self.model.others_locks(inside));
        let answer = self
            .session(inside)
            .handler_requests()
            .replay(&replay)
            .await;
        let is_active = |handler: &Name| {
            rows.registrations
                .iter()
                .any(|row| row.handler == *handler && row.state == RegistrationState::Active)
        };
        if limit == 0 || !replay.handlers.iter().all(is_active) {
            assert!(
                matches!(answer, Err(StoreError::Invalid { .. })),
                "{answer:?}"
            );
            return;
        }
        if locks.renames {
            return assert_locked(answer);
        }
        let names = &replay.events.names;
        let matching = rows.events.iter().filter(|row| {
            row.processed_at.is_some()
                && (names.is_empty() || names.contains(&row.name))
                && replay.after.is_none_or(|after| row.id > after)
        });
        let events: Vec<_> = matching.take(limit).cloned().collect();
        let mut locked = Locks {
            fan_outs: true,
            events: events.iter().map(|row| row.id).collect(),
            ..Locks::default()
        };
        let (mut missing, mut ended, mut open) = (Vec::new(), Vec::new(), 0);
        for event in &events {
            for wanted in rows.wanted_by(&event.name) {
                if !replay.handlers.is_empty() && !replay.handlers.contains(&wanted.0) {
                    continue;
                }
                let has = rows
                    .requests
                    .iter()
                    .find(|row| row.event_id == event.id && row.handler == wanted.0);
                match has {
                    Some(row) if row.is_open() => open += 1,
                    Some(row) => ended.push(row.id),
                    None => missing.push((event.clone(), wanted)),
                }
            }
        }
        if events.iter().any(|row| locks.events.contains(&row.id))
            || ended.iter().any(|id| locks.requests.contains(id))
        {
            return assert_locked(answer);
        }
        let replayed = answer.unwrap();
        let counts = (replayed.created, replayed.reexecuted, replayed.open);
        assert_eq!(counts, (missing.len() as u64, ended.len() as u64, open));
        let last = events.last().filter(|_| events.len() == limit);
        assert_eq!(replayed.next, last.map(|row| row.id));
        let now = self.model.now;
        for id in ended {
            rows.request(id).unwrap().reexecute(now).unwrap();
            locked.requests.insert(id);
        }
        for (event, (handler, priority, max_errors)) in missing {
            let name = event.name.clone();
            let mut made =
                HandlerRequest::new(event.id, name, handler.clone(), priority, max_errors, now);
            if rows.request(made.id).is_some() {
                // A rename took the request of that id along; the store chooses another one.
                made.id = self.request_id(inside, event.id, &handler).await;
                assert!(rows.request(made.id).is_none());
            }
            locked.requests.insert(made.id);
            rows.requests.push(made);
            rows.sort();
        }
        self.model.write(inside, &rows, locked);
    }

    async fn request_id(
        &mut self,
        inside: bool,
        event: EventId,
        handler: &str,
    ) -> HandlerRequestId {
        let mut requests = self.session(inside).handler_requests();
        let requests = requests.of_event(event).await.unwrap();
        let of_handler = requests.iter().find(|row| row.handler == handler);
        of_handler.unwrap().id
    }

    pub(crate) async fn prune(
        &mut self,
        inside: bool,
        limit: usize,
        after: Option<usize>,
        (completed, canceled, dead, keep): (Option<u64>, Option<u64>, Option<u64>, u64),
    ) {
        let mut prune = Prune::new(limit)
            .completed_for(completed.map(Duration::from_secs))
            .canceled_for(canceled.map(Duration::from_secs))
            .dead_for(dead.map(Duration::from_secs))
            .keep_events_for(Duration::from_secs(keep));
        prune.after = after.and_then(|index| chosen(&self.raised, index));
        let (mut rows, locks) = (self.model.view(inside), self.model.others_locks(inside));
        let answer = self.session(inside).events().prune(&prune).await;
        if limit == 0 {
            assert!(
                matches!(answer, Err(StoreError::Invalid { .. })),
                "{answer:?}"
            );
            return;
        }
        let now = self.model.now;
        let behind = rows
            .events
            .iter()
            .filter(|row| prune.after.is_none_or(|after| row.id > after));
        let events: Vec<_> = behind.take(limit).map(|row| row.id).collect();
        let mut locked = Locks::default();
        for id in &events {
            if goes(&mut rows, *id, &prune, now, &locks) {
                locked.events.insert(*id);
            }
        }
        let is_gone = |row: &&HandlerRequest| locked.events.contains(&row.event_id);
        locked.requests = rows
            .requests
            .iter()
            .filter(is_gone)
            .map(|row| row.id)
            .collect();
        let pruned = answer.unwrap();
        assert_eq!(pruned.events, locked.events.len() as u64);
        assert_eq!(pruned.requests, locked.requests.len() as u64);
        let last = events.last().filter(|_| events.len() == limit);
        assert_eq!(pruned.next.as_ref(), last);
        rows.events.retain(|row| !locked.events.contains(&row.id));
        rows.requests
            .retain(|row| !locked.requests.contains(&row.id));
        self.model.write(inside, &rows, locked);
    }
}

/// Whether an event goes, with all its requests.
fn goes(rows: &mut Rows, id: EventId, prune: &Prune, now: DateTime<Utc>, locks: &Locks) -> bool {
    let is_over = |since: Option<DateTime<Utc>>, time: Option<Duration>| match (since, time) {
        (Some(since), Some(time)) => since + time <= now,
        _ => false,
    };
    let processed_at = rows.event(id).unwrap().processed_at;
    let mut requests = rows.requests.iter().filter(|row| row.event_id == id);
    let is_wanted = requests.clone().next().is_some();
    is_over(processed_at, Some(prune.keep_events_for))
        && (is_wanted || is_over(processed_at, prune.completed_for))
        && !locks.events.contains(&id)
        && requests.all(|row| {
            let over = is_over(row.canceled_at, prune.canceled_for)
                || is_over(row.completed_at, prune.completed_for)
                || is_over(row.dead_at, prune.dead_for);
            over && !locks.requests.contains(&row.id)
        })
}
