//! The store itself: sessions, transactions, and what it can do.

use std::{
    any::{Any, TypeId},
    fmt,
};

use async_trait::async_trait;

use super::{
    EventRepository, HandlerRequestRepository, LeaseRenewer, Listener, Look, Outlook,
    RegistrationRepository,
};
use crate::{error::Result, signal::Signals};

/// A store of events and handler requests.
///
/// ```
/// use std::sync::Arc;
/// use tidings::{Event, MemoryStore, store::{Storer, StorerExt}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store: Arc<dyn Storer> = Arc::new(MemoryStore::new());
/// let event = Event::new("night.started", &())?;
///
/// // The plain form: dropping `tx` without a commit rolls back.
/// let mut tx = store.begin().await?;
/// tx.events().raise(&[event.clone()]).await?;
/// tx.commit().await?;
///
/// // The closure: commits on `Ok`, rolls back on `Err`.
/// let count = store
///     .transaction(|tx| Box::pin(async move { tx.events().count_unprocessed().await }))
///     .await?;
/// assert_eq!(count, 1);
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait Storer: fmt::Debug + Send + Sync + 'static {
    /// Opens a session in which every call is a transaction of its own.
    ///
    /// Cancellation safe. Cost on SQL: one connection from the pool, until the session is dropped.
    ///
    /// # Errors
    /// No connection could be had.
    async fn session(&self) -> Result<Box<dyn Session>>;

    /// Begins a transaction. Dropping it rolls back.
    ///
    /// Cancellation safe. Cost on SQL: one connection until it ends, and a few round trips.
    ///
    /// # Errors
    /// No connection could be had.
    async fn begin(&self) -> Result<Box<dyn Transaction>>;

    /// Opens what renews leases. It is called, and the renewer is used, on a runtime and a thread
    /// of its own, so the renewer shares neither a connection nor a pool with sessions.
    ///
    /// # Errors
    /// No connection could be had.
    async fn lease_renewer(&self) -> Result<Box<dyn LeaseRenewer>>;

    /// The wake-ups of this process; clones share them.
    fn signals(&self) -> Signals;

    /// What the store can do.
    fn capabilities(&self) -> Capabilities;

    /// Which connection its transactional handlers get.
    fn connection_type(&self) -> ConnectionType;

    /// Whether an error of a handler tells that its transaction lost against a concurrent one (a
    /// deadlock or a serialization failure), so that it is worth running again at once. The
    /// default finds a [`StoreError`](crate::StoreError) that says so among the error's sources.
    fn is_conflict(&self, error: &(dyn std::error::Error + 'static)) -> bool {
        std::iter::successors(Some(error), |error| error.source())
            .filter_map(|error| error.downcast_ref::<crate::error::StoreError>())
            .any(crate::error::StoreError::is_conflict)
    }

    /// Tells what there is to do, without doing it and without waiting for a lock: what an idle
    /// scheduler asks, once in a poll interval.
    ///
    /// Cancellation safe. Cost on SQL: one cheap statement that writes nothing. The default tells that
    /// it [cannot tell](Outlook::unknown), so that a scheduler makes the calls that find out, at
    /// three times the cost or more.
    ///
    /// # Errors
    /// The database is away, or slow.
    async fn look(&self, look: &Look) -> Result<Outlook> {
        let _ = look;
        Ok(Outlook::unknown())
    }

    /// Begins to hear of work that other processes or foreign transactions made: when this answers,
    /// whatever is committed from now on is heard of, once somebody [listens](Listener::listen).
    /// Only asked of stores whose capabilities say [`WakeUps::Listener`]. A scheduler asks again when
    /// the listener fails, with growing pauses, and polls meanwhile as if there were none.
    ///
    /// Cancellation safe. Cost on SQL: a connection until the listener is dropped.
    ///
    /// # Errors
    /// No connection could be had. The default has nothing to listen to.
    async fn listener(&self) -> Result<Box<dyn Listener>> {
        Err(crate::error::StoreError::invalid(
            "a listener",
            "is not what this store has",
            "let its capabilities say so",
        ))
    }
}

/// A place to read and write: an open session or transaction.
pub trait Session: Send {
    /// The events.
    fn events(&mut self) -> Box<dyn EventRepository + '_>;

    /// The handler requests.
    fn handler_requests(&mut self) -> Box<dyn HandlerRequestRepository + '_>;

    /// The registrations.
    fn registrations(&mut self) -> Box<dyn RegistrationRepository + '_>;

    /// The connection underneath, for transactional handlers.
    fn connection(&mut self) -> Connection<'_>;
}

/// A session whose calls take effect together, or not at all.
///
/// Dropping it rolls back, whatever state its connection is in: when the future of a call was
/// dropped, the connection may be in the middle of a reply, and neither a commit nor a rollback could
/// be told from the rest of it. So a store closes a connection that is dropped like that and never
/// gives it to somebody else, and whoever drops a call also drops the transaction, without calling
/// [`rollback`](Self::rollback). The executor does so with the transaction of a handler that timed
/// out, panicked or was broken off by a shutdown; one that was canceled answers, and is rolled back.
/// A handler that gives up a call of its own, by a time-out inside, leaves the executor no sign of it: it
/// should let its own time-out end the whole execution instead.
#[async_trait]
#[must_use = "a transaction that is dropped is rolled back"]
pub trait Transaction: Session {
    /// Makes everything visible and durable.
    ///
    /// Not cancellation safe: a dropped commit may or may not have taken effect.
    ///
    /// # Errors
    /// After a transient error that [is uncertain](crate::StoreError::is_uncertain) either
    /// everything or nothing took effect.
    async fn commit(self: Box<Self>) -> Result<()>;

    /// Undoes everything.
    ///
    /// # Errors
    /// The connection was lost; the database then undoes everything by itself.
    async fn rollback(self: Box<Self>) -> Result<()>;

    /// Sets the savepoint, to which [`rollback_to_savepoint`](Self::rollback_to_savepoint) goes back,
    /// in place of the one before: what was done since that one stays done, as a part of the
    /// transaction. A transaction has one at most.
    ///
    /// Only asked of stores whose [capabilities](Capabilities::savepoints) have savepoints. Not
    /// cancellation safe: whoever drops it drops the transaction. Cost on SQL: one round trip, or none
    /// if nothing was done since the last one.
    ///
    /// # Errors
    /// The transaction has ended, or whoever had its [connection](Session::connection) has left it so
    /// that nothing but its rollback is possible. It can only be rolled back, or dropped. The default
    /// has no savepoints.
    async fn savepoint(&mut self) -> Result<()> {
        Err(no_savepoints())
    }

    /// Undoes what was done since the savepoint, which stays. Locks that were taken since may be kept
    /// until the transaction ends, as they are on MySQL and MariaDB. Whoever had the connection may have been
    /// dropped in the middle of a call: a store makes sure that it understands what the connection
    /// answers from now on.
    ///
    /// Not cancellation safe, as [`savepoint`](Self::savepoint) is not. Cost on SQL: two round trips.
    ///
    /// # Errors
    /// There is no savepoint; the transaction has ended, as it has after a deadlock on MySQL; or the
    /// connection cannot be trusted. The transaction can only be dropped. The default has no
    /// savepoints.
    async fn rollback_to_savepoint(&mut self) -> Result<()> {
        Err(no_savepoints())
    }
}

fn no_savepoints() -> crate::error::StoreError {
    crate::error::StoreError::invalid(
        "a savepoint",
        "is not what the transactions of this store have",
        "let its capabilities say so",
    )
}

/// The connection of a session, erased.
pub struct Connection<'a>(&'a mut (dyn Any + Send));

impl<'a> Connection<'a> {
    /// Erases a connection.
    pub fn new<C: Any + Send>(connection: &'a mut C) -> Self {
        Self(connection)
    }

    /// The connection, if it is a `C`.
    #[must_use]
    pub fn downcast<C: Any + Send>(self) -> Option<&'a mut C> {
        self.0.downcast_mut()
    }
}

impl fmt::Debug for Connection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

/// The type of the connection that a store gives to transactional handlers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionType {
    id: TypeId,
    name: &'static str,
}

impl ConnectionType {
    /// The type `C`.
    #[must_use]
    pub fn of<C: Any + Send>() -> Self {
        Self {
            id: TypeId::of::<C>(),
            name: std::any::type_name::<C>(),
        }
    }

    /// The type's name, for messages.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

/// What a store can do, as data: the conformance suite and the schedulers adapt to it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// The kind of store, in lower case, as telemetry shows it: `memory`, `postgresql`, …
    pub system: &'static str,
    /// How a scheduler learns of new work.
    pub wake_ups: WakeUps,
    /// Whether two transactions can write at the same time. Where they cannot, schedulers end
    /// transactional handlers before other calls, and renewals of leases, have waited too long.
    pub concurrent_writers: bool,
    /// Whether its transactions have [savepoints](Transaction::savepoint). Where they have none, no
    /// handlers share transactions, and each runs in one of its own.
    pub savepoints: bool,
    /// Whether other processes can share the store.
    pub shared: bool,
}

impl Capabilities {
    /// The capabilities of a store of this kind: no wake-ups from elsewhere, one writer, no savepoints,
    /// shared.
    #[must_use]
    pub const fn new(system: &'static str) -> Self {
        Self {
            system,
            wake_ups: WakeUps::InProcess,
            concurrent_writers: false,
            savepoints: false,
            shared: true,
        }
    }
}

/// How completely [`Storer::signals`] tells of new work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WakeUps {
    /// Every commit is seen.
    Complete,
    /// Own commits are seen, others while there is a [listener](Storer::listener).
    Listener,
    /// Own commits are seen, others must be polled for.
    InProcess,
}
