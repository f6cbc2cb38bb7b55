//! What one open transaction has written and locked.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::BitOrAssign,
    sync::Arc,
};

use super::{
    event_table::EventRecord,
    lock_table::{LockKey, TransactionId},
    registration_table::Registrations,
};
use crate::{
    id::{EventId, HandlerRequestId},
    model::{Event, HandlerRequest},
    signal::Signals,
};

/// The transaction's own versions of rows. Whatever row it has locked is in here, changed or not,
/// so a statement that finds a row here need not ask for its lock.
#[derive(Clone)]
pub(super) struct Overlay {
    pub(super) transaction: TransactionId,
    pub(super) events: BTreeMap<EventId, EventRecord>,
    pub(super) requests: BTreeMap<HandlerRequestId, StagedRequest>,
    /// Requests that this transaction has made, by their events.
    pub(super) made: HashMap<EventId, Vec<HandlerRequestId>>,
    /// Rows that this transaction has deleted, which are not among those above any more. Committed
    /// ones are still locked.
    pub(super) pruned_events: BTreeSet<EventId>,
    pub(super) pruned_requests: BTreeSet<HandlerRequestId>,
    /// The whole table, once it has been changed.
    pub(super) registrations: Option<Registrations>,
    /// Whether it has a share of the lock of names.
    pub(super) shares_names: bool,
    /// Whether it holds the lock of names.
    pub(super) holds_names: bool,
    /// Whether it holds the lock of registrations.
    pub(super) holds_registrations: bool,
    /// Ids that are locked for a raise, before they are stored here.
    pub(super) reserved: Vec<EventId>,
    pub(super) effects: Effects,
}

/// A request and its event.
#[derive(Clone)]
pub(super) struct StagedRequest {
    pub(super) request: HandlerRequest,
    pub(super) event: Arc<Event>,
}

impl Overlay {
    pub(super) fn new(transaction: TransactionId) -> Self {
        Self {
            transaction,
            events: BTreeMap::new(),
            requests: BTreeMap::new(),
            made: HashMap::new(),
            pruned_events: BTreeSet::new(),
            pruned_requests: BTreeSet::new(),
            registrations: None,
            shares_names: false,
            holds_names: false,
            holds_registrations: false,
            reserved: Vec::new(),
            effects: Effects::default(),
        }
    }

    /// Deletes an event and all its requests, which this transaction has locked.
    pub(super) fn prune(&mut self, event: EventId, requests: &[HandlerRequestId]) {
        self.events.remove(&event);
        self.made.remove(&event);
        self.pruned_events.insert(event);
        for request in requests {
            self.requests.remove(request);
            self.pruned_requests.insert(*request);
        }
    }

    /// Whether it has a version of any event, if only that it is gone.
    pub(super) fn has_events(&self) -> bool {
        !self.events.is_empty() || !self.pruned_events.is_empty()
    }

    /// Whether it has a version of any request, if only that it is gone.
    pub(super) fn has_requests(&self) -> bool {
        !self.requests.is_empty() || !self.pruned_requests.is_empty()
    }

    /// Whether the committed version of an event is not what this transaction sees.
    pub(super) fn hides_event(&self, id: &EventId) -> bool {
        self.events.contains_key(id) || self.pruned_events.contains(id)
    }

    /// Whether the committed version of a request is not what this transaction sees.
    pub(super) fn hides_request(&self, id: &HandlerRequestId) -> bool {
        self.requests.contains_key(id) || self.pruned_requests.contains(id)
    }

    /// The events whose committed version is not what this transaction sees, each once.
    pub(super) fn hidden_events(&self) -> impl Iterator<Item = &EventId> {
        let pruned = self.pruned_events.iter();
        self.events
            .keys()
            .chain(pruned.filter(|id| !self.events.contains_key(id)))
    }

    /// The requests whose committed version is not what this transaction sees, each once.
    pub(super) fn hidden_requests(&self) -> impl Iterator<Item = &HandlerRequestId> {
        let pruned = self.pruned_requests.iter();
        self.requests
            .keys()
            .chain(pruned.filter(|id| !self.requests.contains_key(id)))
    }

    /// What it has locked beyond what an earlier state of it had, as a transaction of its own, to be
    /// rolled back.
    pub(super) fn since(mut self, earlier: &Self) -> Self {
        let had_event = |id: &EventId| earlier.hides_event(id) || earlier.reserved.contains(id);
        self.events.retain(|id, _| !had_event(id));
        self.pruned_events.retain(|id| !had_event(id));
        self.reserved.retain(|id| !had_event(id));
        self.requests.retain(|id, _| !earlier.hides_request(id));
        self.pruned_requests.retain(|id| !earlier.hides_request(id));
        let had_names = earlier.shares_names || earlier.holds_names;
        self.shares_names &= !had_names;
        self.holds_names &= !had_names;
        self.holds_registrations &= !earlier.holds_registrations;
        self
    }

    /// Everything that the transaction may have locked.
    pub(super) fn locks(&self) -> impl Iterator<Item = LockKey> {
        let names = (self.shares_names || self.holds_names).then_some(LockKey::Names);
        let registrations = self.holds_registrations.then_some(LockKey::Registrations);
        (self
            .events
            .keys()
            .chain(&self.reserved)
            .chain(&self.pruned_events)
            .copied()
            .map(LockKey::Event))
        .chain(
            self.requests
                .keys()
                .chain(&self.pruned_requests)
                .copied()
                .map(LockKey::Request),
        )
        .chain(names)
        .chain(registrations)
    }
}

/// Which wake-ups a commit owes.
#[derive(Clone, Copy, Default)]
pub(super) struct Effects {
    pub(super) raised: bool,
    pub(super) ready: bool,
    pub(super) settled: bool,
}

impl Effects {
    /// Wakes; not to be called under the mutex.
    pub(super) fn signal(self, signals: &Signals) {
        for (owed, signal) in [
            (self.raised, &signals.raised),
            (self.ready, &signals.ready),
            (self.settled, &signals.settled),
        ] {
            if owed {
                signal.raise();
            }
        }
    }
}

impl BitOrAssign for Effects {
    fn bitor_assign(&mut self, other: Self) {
        self.raised |= other.raised;
        self.ready |= other.ready;
        self.settled |= other.settled;
    }
}
