//! The committed events, and the indexes that make due ones cheap to find.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};

use super::{run_map::RunMap, slab::Slab};
use crate::{
    clock::later,
    id::{EventId, LeaseOwner},
    model::{Event, ExecutionError, Lease},
    store::StoredEvent,
    text::{cut, without_nul},
};

/// An event and what has become of it: one version of a row.
#[derive(Clone)]
pub(super) struct EventRecord {
    pub(super) event: Arc<Event>,
    pub(super) processed_at: Option<DateTime<Utc>>,
    pub(super) errors: u32,
    pub(super) last_error: Option<String>,
    pub(super) backoff_until: Option<DateTime<Utc>>,
    pub(super) attempt: u64,
    pub(super) lease: Option<Lease>,
}

impl EventRecord {
    pub(super) const fn new(event: Arc<Event>) -> Self {
        Self {
            event,
            processed_at: None,
            errors: 0,
            last_error: None,
            backoff_until: None,
            attempt: 0,
            lease: None,
        }
    }

    pub(super) fn stored(&self) -> StoredEvent {
        let mut stored = StoredEvent::new(Arc::clone(&self.event));
        stored.processed_at = self.processed_at;
        stored.errors = self.errors;
        stored.last_error.clone_from(&self.last_error);
        stored.backoff_until = self.backoff_until;
        stored
    }

    /// Whether it waits for its processing, and nobody has claimed it.
    pub(super) fn is_due(&self, now: DateTime<Utc>) -> bool {
        self.processed_at.is_none() && self.due_at().is_none_or(|due_at| due_at <= now)
    }

    /// Whether the claim with this fence still holds. One that has run out and that nobody took
    /// over does.
    pub(super) const fn is_held(&self, attempt: u64) -> bool {
        self.processed_at.is_none() && self.lease.is_some() && self.attempt == attempt
    }

    pub(super) fn claim(&mut self, now: DateTime<Utc>, owner: LeaseOwner, lease: Duration) {
        self.attempt += 1;
        self.backoff_until = None;
        self.lease = Some(Lease {
            owner,
            until: later(now, lease),
        });
    }

    pub(super) fn fail(&mut self, now: DateTime<Utc>, error: &str, backoff: Duration) {
        self.lease = None;
        self.errors = self.errors.saturating_add(1);
        self.last_error = Some(cut(&without_nul(error), ExecutionError::MAX_LEN));
        self.backoff_until = Some(later(now, backoff));
    }

    pub(super) const fn process(&mut self, now: DateTime<Utc>) {
        self.lease = None;
        self.backoff_until = None;
        self.processed_at = Some(now);
    }

    /// When it can be claimed, if not at once.
    fn due_at(&self) -> Option<DateTime<Utc>> {
        self.lease.map(|lease| lease.until).or(self.backoff_until)
    }
}

/// A row: its committed version, and where it stands in the indexes.
pub(super) struct EventRow {
    pub(super) record: EventRecord,
    /// The newest request of the event; they are linked.
    pub(super) first_request: Option<usize>,
    pub(super) locked: bool,
    place: Place,
}

/// In which indexes a row is.
#[derive(Clone, Copy)]
enum Place {
    /// In none: it has been processed.
    Processed,
    Due,
    /// Parked until a time: it backs off.
    BackingOff(DateTime<Utc>),
    /// Parked until a time: somebody has claimed it.
    Claimed(DateTime<Utc>),
    /// Parked until its transaction ends.
    Locked,
}

/// All events.
pub(super) struct EventTable {
    pub(super) rows: Slab<EventRow>,
    pub(super) by_id: RunMap<EventId>,
    /// Unprocessed ones that can be claimed now.
    pub(super) due: RunMap<EventId>,
    /// All other unprocessed ones.
    pub(super) parked: RunMap<EventId>,
    backing_off: BTreeSet<(DateTime<Utc>, usize)>,
    claimed: BTreeSet<(DateTime<Utc>, usize)>,
}

impl EventTable {
    pub(super) const fn new() -> Self {
        Self {
            rows: Slab::new(),
            by_id: RunMap::new(),
            due: RunMap::new(),
            parked: RunMap::new(),
            backing_off: BTreeSet::new(),
            claimed: BTreeSet::new(),
        }
    }

    pub(super) fn find(&self, id: EventId) -> Option<&EventRow> {
        self.rows.get(self.by_id.get(&id)?)
    }

    /// Stores an event; `None` when its id exists.
    pub(super) fn insert(
        &mut self,
        id: EventId,
        record: impl FnOnce() -> EventRecord,
        now: DateTime<Utc>,
    ) -> Option<usize> {
        if !self.by_id.insert(id, self.rows.next_key()) {
            return None;
        }
        let key = self.rows.insert(EventRow {
            record: record(),
            first_request: None,
            locked: false,
            place: Place::Processed,
        });
        self.enter(key, now);
        Some(key)
    }

    /// Changes a row and keeps the indexes right.
    pub(super) fn update<T>(
        &mut self,
        key: usize,
        now: DateTime<Utc>,
        change: impl FnOnce(&mut EventRow) -> T,
    ) -> Option<T> {
        self.leave(key);
        let answer = self.rows.get_mut(key).map(change);
        self.enter(key, now);
        answer
    }

    /// Takes a row away; its requests are gone already.
    pub(super) fn remove(&mut self, id: EventId) {
        if let Some(key) = self.by_id.get(&id) {
            self.leave(key);
            self.by_id.remove(&id);
            self.rows.remove(key);
        }
    }

    /// Makes due what has waited long enough.
    pub(super) fn promote(&mut self, now: DateTime<Utc>) {
        for parked in [
            |table: &Self| table.backing_off.first().copied(),
            |table: &Self| table.claimed.first().copied(),
        ] {
            while let Some((until, key)) = parked(self) {
                if until > now {
                    break;
                }
                self.update(key, now, |_| ());
            }
        }
    }

    /// When the next event that backs off is due.
    pub(super) fn next_backoff(&self) -> Option<DateTime<Utc>> {
        self.backing_off.first().map(|(until, _)| *until)
    }

    fn leave(&mut self, key: usize) {
        let Some(row) = self.rows.get_mut(key) else {
            return;
        };
        let id = row.record.event.id;
        match std::mem::replace(&mut row.place, Place::Processed) {
            Place::Processed => {}
            Place::Due => self.due.remove(&id),
            Place::BackingOff(until) => {
                self.parked.remove(&id);
                self.backing_off.remove(&(until, key));
            }
            Place::Claimed(until) => {
                self.parked.remove(&id);
                self.claimed.remove(&(until, key));
            }
            Place::Locked => self.parked.remove(&id),
        }
    }

    fn enter(&mut self, key: usize, now: DateTime<Utc>) {
        let Some(row) = self.rows.get_mut(key) else {
            return;
        };
        let record = &row.record;
        if record.processed_at.is_some() {
            return;
        }
        let id = record.event.id;
        row.place = match record.due_at() {
            _ if row.locked => Place::Locked,
            Some(until) if until > now && record.lease.is_some() => Place::Claimed(until),
            Some(until) if until > now => Place::BackingOff(until),
            _ => Place::Due,
        };
        match row.place {
            Place::Due => drop(self.due.insert(id, key)),
            Place::BackingOff(until) => {
                self.parked.insert(id, key);
                self.backing_off.insert((until, key));
            }
            Place::Claimed(until) => {
                self.parked.insert(id, key);
                self.claimed.insert((until, key));
            }
            Place::Locked | Place::Processed => drop(self.parked.insert(id, key)),
        }
    }
}
