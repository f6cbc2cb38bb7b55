//! Sessions and transactions: statements run here, wait for locks, commit and roll back.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::{sync::oneshot, time::Instant};

use super::{
    event_repository::MemoryEvents,
    lock_table::{LockKey, TransactionId, Wake},
    overlay::{Effects, Overlay},
    registration_repository::MemoryRegistrations,
    request_repository::MemoryRequests,
    scope::{Scope, State, Statement, Stop},
};
use crate::{
    clock::Clock,
    error::{Result, StoreError},
    id::{EventId, HandlerRequestId},
    raiser::{RaiseConnection, Raising},
    signal::Signals,
    store::{
        Connection, EventRepository, HandlerRequestRepository, Raised, RegistrationRepository,
        Session, Transaction,
    },
};

/// What all connections to one store share.
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    pub(super) clock: Box<dyn Clock>,
    pub(super) signals: Signals,
    /// Numbers transactions.
    pub(super) transactions: std::sync::atomic::AtomicU64,
}

/// A connection to a [`MemoryStore`](super::MemoryStore): what a transactional handler gets as
/// `&mut MemoryConnection`.
///
/// It is a session: events are raised in it with [`Raiser`](crate::Raiser), and
/// [`Session`](crate::store::Session) gives its repositories. In a transaction, a deadlock and a
/// lock that is not had in time undo the whole transaction at once; every later call answers
/// [`StoreError::Ended`].
pub struct MemoryConnection {
    shared: Arc<Shared>,
    lock_timeout: Duration,
    mode: Mode,
    /// The transaction as it was at its savepoint.
    savepoint: Option<Box<Overlay>>,
}

enum Mode {
    /// Each statement is a transaction of its own.
    Autocommit,
    Transaction(Box<Overlay>),
    /// The transaction has been committed or undone.
    Ended,
}

/// How one try to run a statement went.
enum Try<T> {
    Done(T),
    /// Another transaction has the lock.
    Wait(oneshot::Receiver<()>, Option<TransactionId>),
    Failed(StoreError),
    Deadlock,
}

impl MemoryConnection {
    pub(super) const fn autocommit(shared: Arc<Shared>, lock_timeout: Duration) -> Self {
        Self {
            shared,
            lock_timeout,
            mode: Mode::Autocommit,
            savepoint: None,
        }
    }

    pub(super) fn transaction(shared: Arc<Shared>, lock_timeout: Duration) -> Self {
        let number = shared
            .transactions
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Self {
            shared,
            lock_timeout,
            mode: Mode::Transaction(Box::new(Overlay::new(number))),
            savepoint: None,
        }
    }

    /// Runs a statement; again, from its beginning, whenever it had to wait for a lock.
    pub(super) async fn run<T>(
        &mut self,
        operation: &'static str,
        mut statement: impl FnMut(&mut Scope<'_>) -> Statement<T>,
    ) -> Result<T> {
        let mut deadline = None;
        loop {
            let (freed, transaction) = match self.try_once(operation, &mut statement) {
                Try::Done(answer) => return Ok(answer),
                Try::Failed(error) => return Err(error),
                Try::Deadlock => {
                    self.undo();
                    return Err(StoreError::Conflict {
                        operation,
                        source: None,
                    });
                }
                Try::Wait(freed, transaction) => (freed, transaction),
            };
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + self.lock_timeout);
            let waiting = Waiting {
                shared: &self.shared,
                transaction,
            };
            // That the sender is gone is how the lock's release shows.
            let freed = tokio::time::timeout_at(deadline, freed).await.is_ok()
                && Instant::now() <= deadline;
            drop(waiting);
            if !freed {
                self.undo();
                return Err(StoreError::TimedOut {
                    operation,
                    limit: self.lock_timeout,
                });
            }
        }
    }

    fn try_once<T>(
        &mut self,
        operation: &'static str,
        statement: &mut impl FnMut(&mut Scope<'_>) -> Statement<T>,
    ) -> Try<T> {
        let overlay = match &mut self.mode {
            Mode::Autocommit => None,
            Mode::Transaction(overlay) => Some(&mut **overlay),
            Mode::Ended => {
                return Try::Failed(StoreError::Ended {
                    operation,
                    thing: "the transaction",
                });
            }
        };
        let mut state = self.shared.state.lock();
        let now = state.time(&*self.shared.clock);
        let mut scope = Scope {
            state: &mut state,
            overlay,
            now,
            effects: Effects::default(),
        };
        let answer = statement(&mut scope);
        let effects = scope.effects;
        let transaction = scope.overlay.map(|overlay| {
            overlay.effects |= effects;
            overlay.transaction
        });
        match answer {
            Ok(answer) => {
                drop(state);
                if transaction.is_none() {
                    effects.signal(&self.shared.signals);
                }
                Try::Done(answer)
            }
            Err(Stop::Failed(error)) => Try::Failed(error),
            Err(Stop::Blocked(key)) => match state.locks.wait(key, transaction) {
                Ok(freed) => Try::Wait(freed, transaction),
                Err(_) => Try::Deadlock,
            },
        }
    }

    /// Ends a transaction and makes what it wrote visible.
    fn commit(&mut self) -> Result<()> {
        let Mode::Transaction(overlay) = std::mem::replace(&mut self.mode, Mode::Ended) else {
            return Err(StoreError::Ended {
                operation: "commit",
                thing: "the transaction",
            });
        };
        let effects = overlay.effects;
        let mut state = self.shared.state.lock();
        let now = state.time(&*self.shared.clock);
        let wake = state.commit(*overlay, now);
        drop(state);
        drop(wake);
        effects.signal(&self.shared.signals);
        Ok(())
    }

    /// Copies what the transaction has written and locked so far, to go back to.
    fn set_savepoint(&mut self) -> Result<()> {
        let Mode::Transaction(overlay) = &self.mode else {
            return Err(StoreError::Ended {
                operation: "set a savepoint",
                thing: "the transaction",
            });
        };
        self.savepoint = Some(overlay.clone());
        Ok(())
    }

    /// Undoes what was written and locked since the savepoint.
    fn undo_to_savepoint(&mut self) -> Result<()> {
        let operation = "roll back to a savepoint";
        let Mode::Transaction(overlay) = &mut self.mode else {
            let thing = "the transaction";
            return Err(StoreError::Ended { operation, thing });
        };
        let Some(savepoint) = self.savepoint.clone() else {
            let thing = "the savepoint";
            return Err(StoreError::Ended { operation, thing });
        };
        let undone = std::mem::replace(overlay, savepoint).since(overlay);
        let mut state = self.shared.state.lock();
        let now = state.time(&*self.shared.clock);
        let wake = state.roll_back(&undone, now);
        drop(state);
        drop(wake);
        Ok(())
    }

    /// Ends a transaction without a trace.
    fn undo(&mut self) {
        if let Mode::Transaction(overlay) = &self.mode {
            let mut state = self.shared.state.lock();
            let now = state.time(&*self.shared.clock);
            let wake = state.roll_back(overlay, now);
            drop(state);
            drop(wake);
            self.mode = Mode::Ended;
        }
    }
}

impl State {
    fn commit(&mut self, overlay: Overlay, now: chrono::DateTime<chrono::Utc>) -> Wake {
        let locks: Vec<LockKey> = overlay.locks().collect();
        // First, since what has gone may have been raised anew.
        for id in &overlay.pruned_requests {
            self.requests.remove(*id);
        }
        for id in &overlay.pruned_events {
            self.events.remove(*id);
        }
        for (id, record) in overlay.events {
            match self.events.by_id.get(&id) {
                Some(key) => {
                    self.events.update(key, now, |row| {
                        row.record = record;
                        row.locked = false;
                    });
                }
                None => drop(self.events.insert(id, || record, now)),
            }
        }
        for (id, staged) in overlay.requests {
            match self.requests.by_id.get(&id) {
                Some(key) => {
                    self.requests.update(key, now, |row| {
                        row.request = staged.request;
                        row.locked = false;
                    });
                }
                None => self.insert_request(staged.request, now),
            }
        }
        if let Some(registrations) = overlay.registrations {
            *self.registrations.change() = registrations;
        }
        self.locks.release(locks.into_iter(), overlay.transaction)
    }

    fn roll_back(&mut self, overlay: &Overlay, now: chrono::DateTime<chrono::Utc>) -> Wake {
        for id in overlay.events.keys().chain(&overlay.pruned_events) {
            if let Some(key) = self.events.by_id.get(id) {
                self.events.update(key, now, |row| row.locked = false);
            }
        }
        for id in overlay.requests.keys().chain(&overlay.pruned_requests) {
            if let Some(key) = self.requests.by_id.get(id) {
                self.requests.update(key, now, |row| row.locked = false);
            }
        }
        self.locks.release(overlay.locks(), overlay.transaction)
    }

    /// Deletes an event and all its requests, which nobody has locked.
    pub(super) fn prune(&mut self, event: EventId, requests: &[HandlerRequestId]) {
        for request in requests {
            self.requests.remove(*request);
        }
        self.events.remove(event);
    }

    fn insert_request(
        &mut self,
        request: crate::model::HandlerRequest,
        now: chrono::DateTime<chrono::Utc>,
    ) {
        let Some(event) = self.events.by_id.get(&request.event_id) else {
            return;
        };
        let Some(row) = self.events.rows.get_mut(event) else {
            return;
        };
        let inserted = self.requests.insert(request, event, row.first_request, now);
        row.first_request = inserted.or(row.first_request);
    }
}

/// Forgets that a transaction waits, also when the waiting future is dropped.
struct Waiting<'a> {
    shared: &'a Shared,
    transaction: Option<TransactionId>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(transaction) = self.transaction {
            self.shared.state.lock().locks.stop_waiting(transaction);
        }
    }
}

impl Drop for MemoryConnection {
    fn drop(&mut self) {
        self.undo();
    }
}

impl fmt::Debug for MemoryConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match &self.mode {
            Mode::Autocommit => "autocommit",
            Mode::Transaction(_) => "transaction",
            Mode::Ended => "ended",
        };
        f.debug_struct("MemoryConnection")
            .field("mode", &mode)
            .finish_non_exhaustive()
    }
}

impl Session for MemoryConnection {
    fn events(&mut self) -> Box<dyn EventRepository + '_> {
        Box::new(MemoryEvents(self))
    }

    fn handler_requests(&mut self) -> Box<dyn HandlerRequestRepository + '_> {
        Box::new(MemoryRequests(self))
    }

    fn registrations(&mut self) -> Box<dyn RegistrationRepository + '_> {
        Box::new(MemoryRegistrations(self))
    }

    fn connection(&mut self) -> Connection<'_> {
        Connection::new(self)
    }
}

#[async_trait]
impl RaiseConnection for MemoryConnection {
    async fn store_events(&mut self, raising: &Raising<'_>) -> Result<Vec<Raised>> {
        self.events().raise(raising.events()).await
    }
}

/// A transaction; apart from its connection, so that a handler cannot end it.
pub(super) struct MemoryTransaction(pub(super) MemoryConnection);

impl Session for MemoryTransaction {
    fn events(&mut self) -> Box<dyn EventRepository + '_> {
        self.0.events()
    }

    fn handler_requests(&mut self) -> Box<dyn HandlerRequestRepository + '_> {
        self.0.handler_requests()
    }

    fn registrations(&mut self) -> Box<dyn RegistrationRepository + '_> {
        self.0.registrations()
    }

    fn connection(&mut self) -> Connection<'_> {
        self.0.connection()
    }
}

#[async_trait]
impl Transaction for MemoryTransaction {
    async fn commit(mut self: Box<Self>) -> Result<()> {
        self.0.commit()
    }

    async fn rollback(mut self: Box<Self>) -> Result<()> {
        self.0.undo();
        Ok(())
    }

    async fn savepoint(&mut self) -> Result<()> {
        self.0.set_savepoint()
    }

    async fn rollback_to_savepoint(&mut self) -> Result<()> {
        self.0.undo_to_savepoint()
    }
}
