//! The store itself.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{
    connection::{MemoryConnection, MemoryTransaction, Shared},
    lease_renewer::MemoryLeaseRenewer,
    scope::State,
};
use crate::{
    clock::{Clock, SystemClock},
    error::Result,
    raiser::Raiser,
    signal::Signals,
    store::{
        Capabilities, ConnectionType, LeaseRenewer, Look, Outlook, Session, Storer, Transaction,
        WakeUps,
    },
};

/// A store in the memory of this process: for tests, demos, and events that may be lost with it.
///
/// It behaves as a SQL store at READ COMMITTED does: transactions see their own writes, others see
/// them after the commit, rows are locked until the end of the transaction that wrote them, a
/// deadlock is a [`Conflict`](crate::StoreError::Conflict), and a claim skips locked rows. A
/// transaction that fails on a lock is undone as a whole.
///
/// Clones share their events. Only a [prune](crate::store::EventRepository::prune) deletes. Raising, fanning out, claiming and settling
/// cost the same however many rows there are; queries with filters may look at every row, and hold
/// up all others meanwhile.
///
/// ```
/// use serde_json::json;
/// use tidings::{Event, MemoryStore, store::Storer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryStore::new();
/// let raiser = store.raiser();
///
/// let mut tx = store.begin().await?;
/// raiser.raise(&mut *tx, Event::new("order.placed", &json!({ "total": 12 }))?).await?;
/// tx.rollback().await?;
///
/// let mut session = store.session().await?;
/// assert_eq!(session.events().count_unprocessed().await?, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
    lock_timeout: Duration,
}

impl MemoryStore {
    /// How long a statement waits for a lock: less than a scheduler waits for a call.
    pub const DEFAULT_LOCK_TIMEOUT: Duration = Duration::from_secs(5);

    /// An empty store with the clock of the operating system.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(SystemClock)
    }

    /// An empty store with a clock of its own, which decides what is due, leased or expired.
    #[must_use]
    pub fn with_clock(clock: impl Clock) -> Self {
        let shared = Shared {
            state: Mutex::new(State::new()),
            clock: Box::new(clock),
            signals: Signals::default(),
            transactions: std::sync::atomic::AtomicU64::new(1),
        };
        Self {
            shared: Arc::new(shared),
            lock_timeout: Self::DEFAULT_LOCK_TIMEOUT,
        }
    }

    /// The same store, whose statements wait at most so long for a lock, by the timer of the
    /// runtime, and then answer [`TimedOut`](crate::StoreError::TimedOut).
    #[must_use]
    pub const fn lock_timeout(mut self, limit: Duration) -> Self {
        self.lock_timeout = limit;
        self
    }

    /// Raises events in this store.
    #[must_use]
    pub fn raiser(&self) -> Raiser {
        Raiser::new(self.signals())
    }

    fn connect(&self) -> MemoryConnection {
        MemoryConnection::autocommit(Arc::clone(&self.shared), self.lock_timeout)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("clock", &self.shared.clock)
            .field("lock_timeout", &self.lock_timeout)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Storer for MemoryStore {
    async fn session(&self) -> Result<Box<dyn Session>> {
        Ok(Box::new(self.connect()))
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        let connection = MemoryConnection::transaction(Arc::clone(&self.shared), self.lock_timeout);
        Ok(Box::new(MemoryTransaction(connection)))
    }

    async fn lease_renewer(&self) -> Result<Box<dyn LeaseRenewer>> {
        Ok(Box::new(MemoryLeaseRenewer(self.connect())))
    }

    fn signals(&self) -> Signals {
        self.shared.signals.clone()
    }

    async fn look(&self, look: &Look) -> Result<Outlook> {
        let mut connection = self.connect();
        connection.run("look", |scope| scope.look(look)).await
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::new("memory");
        capabilities.wake_ups = WakeUps::Complete;
        capabilities.concurrent_writers = true;
        capabilities.savepoints = true;
        capabilities.shared = false;
        capabilities
    }

    fn connection_type(&self) -> ConnectionType {
        ConnectionType::of::<MemoryConnection>()
    }
}
