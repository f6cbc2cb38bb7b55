//! The model: lists of rows that are gone through from beginning to end, and a copy of those that
//! the open transaction has locked. Only the transitions of single requests are the library's; they
//! have a table of their own.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use tidings::{
    EventId, HandlerRequest, HandlerRequestId, Lease, Name, Priority, Registration,
    RegistrationState, RequestState,
};

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EventRow {
    pub(crate) id: EventId,
    pub(crate) name: Name,
    pub(crate) processed_at: Option<DateTime<Utc>>,
    pub(crate) errors: u32,
    pub(crate) backoff_until: Option<DateTime<Utc>>,
    pub(crate) attempt: u64,
    pub(crate) lease: Option<Lease>,
}

impl EventRow {
    pub(crate) fn is_due(&self, now: DateTime<Utc>) -> bool {
        self.processed_at.is_none()
            && self.lease.is_none_or(|lease| lease.until <= now)
            && self.backoff_until.is_none_or(|until| until <= now)
    }

    pub(crate) fn is_held(&self, attempt: u64) -> bool {
        self.processed_at.is_none() && self.lease.is_some() && self.attempt == attempt
    }
}

/// One version of everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    pub(crate) events: Vec<EventRow>,
    pub(crate) requests: Vec<HandlerRequest>,
    pub(crate) registrations: Vec<Registration>,
}

/// What the open transaction has locked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Locks {
    pub(crate) events: BTreeSet<EventId>,
    pub(crate) requests: BTreeSet<HandlerRequestId>,
    pub(crate) registrations: bool,
    pub(crate) renames: bool,
    pub(crate) fan_outs: bool,
}

#[derive(Default)]
pub(crate) struct Model {
    committed: Rows,
    /// The rows as the open transaction sees its own, and its locks.
    transaction: Option<(Rows, Locks)>,
    pub(crate) now: DateTime<Utc>,
}

/// A call has to wait for the transaction, which in these tests means that it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Locked;

impl Model {
    pub(crate) fn begin(&mut self) {
        self.transaction = Some(Default::default());
    }

    pub(crate) fn is_open(&self) -> bool {
        self.transaction.is_some()
    }

    pub(crate) fn end(&mut self, commit: bool) {
        let Some((own, locks)) = self.transaction.take() else {
            return;
        };
        if commit {
            self.committed = merged(&self.committed, &own, &locks);
        }
    }

    /// What a statement sees.
    pub(crate) fn view(&self, inside: bool) -> Rows {
        match &self.transaction {
            Some((own, locks)) if inside => merged(&self.committed, own, locks),
            _ => self.committed.clone(),
        }
    }

    /// What a statement must not touch, as others have locked it.
    pub(crate) fn others_locks(&self, inside: bool) -> Locks {
        match &self.transaction {
            Some((_, locks)) if !inside => locks.clone(),
            _ => Locks::default(),
        }
    }

    /// Writes what a statement has changed, and locks it and what it has locked besides.
    pub(crate) fn write(&mut self, inside: bool, rows: &Rows, locked: Locks) {
        let Some((own, locks)) = self.transaction.as_mut().filter(|_| inside) else {
            self.committed = rows.clone();
            return;
        };
        locks.events.extend(&locked.events);
        locks.requests.extend(&locked.requests);
        locks.registrations |= locked.registrations;
        locks.renames |= locked.renames;
        locks.fan_outs |= locked.fan_outs;
        own.events = rows
            .events
            .iter()
            .filter(|row| locks.events.contains(&row.id))
            .cloned()
            .collect();
        own.requests = rows
            .requests
            .iter()
            .filter(|row| locks.requests.contains(&row.id))
            .cloned()
            .collect();
        own.registrations.clone_from(&rows.registrations);
    }
}

/// What the transaction has locked is as its own rows say; what is not among them is gone.
fn merged(committed: &Rows, own: &Rows, locks: &Locks) -> Rows {
    let mut rows = committed.clone();
    rows.events.retain(|row| !locks.events.contains(&row.id));
    rows.events.extend(own.events.iter().cloned());
    rows.requests
        .retain(|row| !locks.requests.contains(&row.id));
    rows.requests.extend(own.requests.iter().cloned());
    if locks.registrations {
        rows.registrations.clone_from(&own.registrations);
    }
    rows.sort();
    rows
}

impl Rows {
    pub(crate) fn sort(&mut self) {
        self.events.sort_by_key(|row| row.id);
        self.requests.sort_by_key(|row| row.id);
        self.registrations
            .sort_by_key(|row| (row.handler.clone(), row.pattern.clone()));
    }

    pub(crate) fn event(&mut self, id: EventId) -> Option<&mut EventRow> {
        self.events.iter_mut().find(|row| row.id == id)
    }

    pub(crate) fn request(&mut self, id: HandlerRequestId) -> Option<&mut HandlerRequest> {
        self.requests.iter_mut().find(|row| row.id == id)
    }

    /// Handlers that want an event, with their priorities and max errors.
    pub(crate) fn wanted_by(&self, name: &str) -> Vec<(Name, Priority, u32)> {
        let mut handlers: BTreeSet<_> = BTreeSet::new();
        for registration in &self.registrations {
            handlers.insert(registration.handler.clone());
        }
        let best = |handler: Name| {
            self.registrations
                .iter()
                .filter(|row| row.handler == handler && row.state == RegistrationState::Active)
                .filter(|row| row.pattern.matches(name))
                .max_by_key(|row| row.pattern.specificity())
                .map(|row| (handler.clone(), row.priority, row.max_errors))
        };
        handlers.into_iter().filter_map(best).collect()
    }

    /// What a claim may take, in its order.
    pub(crate) fn claimable(
        &self,
        now: DateTime<Utc>,
        locks: &Locks,
        suspects: bool,
    ) -> Vec<HandlerRequest> {
        let mut claimable: Vec<_> = self
            .requests
            .iter()
            .filter(|row| row.state(now) == RequestState::Pending && row.is_suspect() == suspects)
            .filter(|row| !locks.requests.contains(&row.id))
            .cloned()
            .collect();
        claimable.sort_by_key(|row| (row.priority, row.id));
        claimable
    }
}
