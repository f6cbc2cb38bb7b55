//! What one open transaction has written and locked.

use std::{
    collections::{BTreeMap, HashMap},
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
pub(super) struct Overlay {
    pub(super) transaction: TransactionId,
    pub(super) events: BTreeMap<EventId, EventRecord>,
    pub(super) requests: BTreeMap<HandlerRequestId, StagedRequest>,
    /// Requests that this transaction has made, by their events.
    pub(super) made: HashMap<EventId, Vec<HandlerRequestId>>,
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
            registrations: None,
            shares_names: false,
            holds_names: false,
            holds_registrations: false,
            reserved: Vec::new(),
            effects: Effects::default(),
        }
    }

    /// Everything that the transaction may have locked.
    pub(super) fn locks(&self) -> impl Iterator<Item = LockKey> {
        let names = (self.shares_names || self.holds_names).then_some(LockKey::Names);
        let registrations = self.holds_registrations.then_some(LockKey::Registrations);
        (self
            .events
            .keys()
            .chain(&self.reserved)
            .copied()
            .map(LockKey::Event))
        .chain(self.requests.keys().copied().map(LockKey::Request))
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
