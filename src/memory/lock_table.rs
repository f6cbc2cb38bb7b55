//! Who has locked what, who waits for it, and whether they wait for each other.

use std::collections::{HashMap, HashSet};

use tokio::sync::oneshot;

use crate::id::{EventId, HandlerRequestId};

/// What can be locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum LockKey {
    /// An event, or an id that is being raised.
    Event(EventId),
    Request(HandlerRequestId),
    /// The right to change registrations.
    Registrations,
    /// Handlers' names: renaming one excludes fan-outs, which share it. Otherwise a request of the
    /// old name could be committed after the rename.
    Names,
}

/// A transaction's number.
pub(super) type TransactionId = u64;

/// Waiting would never end: those who hold the lock wait for the one who asks.
pub(super) struct Deadlock;

/// Wakes those who wait for locks when it is dropped, which must not be under the mutex.
#[must_use = "those who wait are woken when this is dropped"]
pub(super) struct Wake(
    #[expect(dead_code, reason = "dropping the senders wakes")] Vec<oneshot::Sender<()>>,
);

#[derive(Default)]
pub(super) struct LockTable {
    held: HashMap<LockKey, Held>,
    /// What a transaction that waits is waiting for.
    waits: HashMap<TransactionId, LockKey>,
}

#[derive(Default)]
struct Held {
    exclusive: Option<TransactionId>,
    shared: Vec<TransactionId>,
    waiters: Vec<oneshot::Sender<()>>,
}

impl Held {
    fn others(&self, transaction: Option<TransactionId>) -> impl Iterator<Item = TransactionId> {
        self.exclusive
            .iter()
            .chain(&self.shared)
            .copied()
            .filter(move |holder| Some(*holder) != transaction)
    }
}

impl LockTable {
    /// Whether nobody has locked anything.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether another transaction stands against an exclusive lock.
    pub(super) fn is_held(&self, key: LockKey, by_others_than: Option<TransactionId>) -> bool {
        self.held
            .get(&key)
            .is_some_and(|held| held.others(by_others_than).next().is_some())
    }

    /// Whether another transaction stands against a shared lock.
    pub(super) fn is_held_exclusively(
        &self,
        key: LockKey,
        by_others_than: Option<TransactionId>,
    ) -> bool {
        let holder = self.held.get(&key).and_then(|held| held.exclusive);
        holder.is_some() && holder != by_others_than
    }

    /// Locks; the caller has seen that nobody stands against it.
    pub(super) fn lock(&mut self, key: LockKey, transaction: TransactionId) {
        self.held.entry(key).or_default().exclusive = Some(transaction);
    }

    /// Locks, together with others.
    pub(super) fn lock_shared(&mut self, key: LockKey, transaction: TransactionId) {
        let shared = &mut self.held.entry(key).or_default().shared;
        if !shared.contains(&transaction) {
            shared.push(transaction);
        }
    }

    /// Requests that are locked.
    pub(super) fn requests(&self) -> impl Iterator<Item = HandlerRequestId> {
        self.held.keys().filter_map(|key| match key {
            LockKey::Request(id) => Some(*id),
            _ => None,
        })
    }

    /// Begins to wait for a lock that somebody else holds.
    pub(super) fn wait(
        &mut self,
        key: LockKey,
        transaction: Option<TransactionId>,
    ) -> Result<oneshot::Receiver<()>, Deadlock> {
        if let Some(transaction) = transaction {
            if self.leads_back(key, transaction) {
                return Err(Deadlock);
            }
            self.waits.insert(transaction, key);
        }
        let (sender, receiver) = oneshot::channel();
        if let Some(held) = self.held.get_mut(&key) {
            // Those who gave up waiting leave their senders behind.
            held.waiters.retain(|waiter| !waiter.is_closed());
            held.waiters.push(sender);
        }
        Ok(receiver)
    }

    /// Ends a wait, whatever came of it.
    pub(super) fn stop_waiting(&mut self, transaction: TransactionId) {
        self.waits.remove(&transaction);
    }

    /// Gives up locks of a transaction.
    pub(super) fn release(
        &mut self,
        keys: impl Iterator<Item = LockKey>,
        transaction: TransactionId,
    ) -> Wake {
        let mut waiters = Vec::new();
        for key in keys {
            let Some(held) = self.held.get_mut(&key) else {
                continue;
            };
            if held.exclusive == Some(transaction) {
                held.exclusive = None;
            }
            held.shared.retain(|holder| *holder != transaction);
            waiters.append(&mut held.waiters);
            if held.exclusive.is_none() && held.shared.is_empty() {
                self.held.remove(&key);
            }
        }
        self.waits.remove(&transaction);
        Wake(waiters)
    }

    /// Whether those who hold `key` wait, directly or through others, for `transaction`.
    fn leads_back(&self, key: LockKey, transaction: TransactionId) -> bool {
        // The asker's own share of what it asks for is no obstacle.
        let mut seen = HashSet::from([transaction]);
        let mut open = vec![key];
        while let Some(key) = open.pop() {
            for holder in self
                .held
                .get(&key)
                .into_iter()
                .flat_map(|held| held.others(None))
            {
                let Some(awaited) = self.waits.get(&holder).filter(|_| seen.insert(holder)) else {
                    continue;
                };
                if self
                    .held
                    .get(awaited)
                    .is_some_and(|held| held.others(None).any(|other| other == transaction))
                {
                    return true;
                }
                open.push(*awaited);
            }
        }
        false
    }
}
