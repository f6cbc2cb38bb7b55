//! Raising events: checked, stamped with the trace context, and stored through the connection that
//! the application already holds.

use std::{any::Any, fmt, sync::Arc};

use async_trait::async_trait;

use crate::{
    error::{Result, StoreError},
    model::{DomainEvent, Event, EventRaiser},
    signal::Signals,
    store::{Raised, Session, Transaction},
    telemetry::propagation,
};

/// Raises events in the transaction that the application holds. Cheap to clone.
///
/// ```
/// use serde_json::json;
/// use tidings::{Event, MemoryStore, store::Storer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryStore::new();
/// let raiser = store.raiser();
/// let mut tx = store.begin().await?;
/// raiser.raise(&mut *tx, Event::new("order.placed", &json!({ "total": 12 }))?).await?;
/// tx.commit().await?;
/// raiser.wake();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Raiser {
    signals: Signals,
    limits: Arc<Limits>,
    backend: Option<Backend>,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    max_data_len: usize,
    max_batch: usize,
}

impl Raiser {
    /// The default limit of an event's data: 1 MiB.
    pub const DEFAULT_MAX_DATA_LEN: usize = 1024 * 1024;
    /// The default limit of one call: 10,000 events, so that a mistake cannot build a transaction
    /// that fills the memory.
    pub const DEFAULT_MAX_BATCH: usize = 10_000;

    /// A raiser that wakes whoever waits for `signals`. Stores have a method that makes one.
    #[must_use]
    pub fn new(signals: Signals) -> Self {
        let limits = Limits {
            max_data_len: Self::DEFAULT_MAX_DATA_LEN,
            max_batch: Self::DEFAULT_MAX_BATCH,
        };
        Self {
            signals,
            limits: Arc::new(limits),
            backend: None,
        }
    }

    /// A raiser that carries what its store needs to raise in a connection of the application's; see
    /// [`Raising::backend`].
    #[must_use]
    pub fn with_backend<B: Any + Send + Sync>(mut self, backend: B) -> Self {
        self.backend = Some(Backend(Arc::new(backend)));
        self
    }

    /// Refuses events whose data has more bytes.
    #[must_use]
    pub fn max_data_len(mut self, bytes: usize) -> Self {
        Arc::make_mut(&mut self.limits).max_data_len = bytes;
        self
    }

    /// Refuses calls with more events.
    #[must_use]
    pub fn max_batch(mut self, events: usize) -> Self {
        Arc::make_mut(&mut self.limits).max_batch = events;
        self
    }

    /// Raises one event. Raising an id that exists changes nothing and says so.
    ///
    /// Not cancellation safe: when the future is dropped, before an answer or by a time limit of your
    /// own, drop the transaction or the connection, and do not await a rollback: it would wait for the
    /// statement that was broken off, which may be waiting for another transaction. Cost: one round
    /// trip on PostgreSQL, three on MySQL (whether there is a transaction, the event, its place on the
    /// queue), one statement on SQLite. The first time on a connection, statements are prepared, which
    /// takes one more for each.
    ///
    /// Through a connection of MySQL that is in no transaction, or one of PostgreSQL behind a
    /// transaction pooler or with more than 16 MiB of events, the event is raised in a transaction on a
    /// connection of the store's, and committed before the answer: that is four round trips more than the
    /// one which asks. If all connections that the store may have are in use, the
    /// answer is [`StoreError::Exhausted`] after its time limit for one; a store on the application's
    /// pool needs another connection of it than the one that the application holds.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a bad name or too much data, with nothing stored; else what the
    /// store gives.
    pub async fn raise<C: RaiseConnection + ?Sized>(
        &self,
        connection: &mut C,
        event: Event,
    ) -> Result<Raised> {
        let raised = self.raise_all(connection, vec![event]).await?;
        Ok(raised.first().copied().unwrap_or(Raised::New))
    }

    /// Raises a typed event, as [`raise`](Self::raise) does.
    ///
    /// # Errors
    /// As [`raise`](Self::raise); also when the value does not serialize.
    pub async fn raise_typed<C, E>(&self, connection: &mut C, event: &E) -> Result<Raised>
    where
        C: RaiseConnection + ?Sized,
        E: DomainEvent + Sync,
    {
        let event = Event::of(event).map_err(|error| {
            StoreError::invalid(
                format!("the data of event {:?}", E::NAME),
                format!("does not serialize ({error})"),
                "make it a value that JSON can express",
            )
        })?;
        self.raise(connection, event).await
    }

    /// Raises many events, all or none, in their order; answers for each whether it is new. Costs
    /// and cancellation are those of [`raise`](Self::raise), for thousands as for one, as long as they
    /// fit into one statement: 16 MiB of data on PostgreSQL, 4 MiB of JSON with all that belongs to an
    /// event on MySQL (10,000 small ones), 8 MiB of data on SQLite. Beyond that, each further statement
    /// is a round trip more. Outside of a transaction several statements are in one that is begun for
    /// them: on SQLite through the connection, elsewhere through one of the store's own.
    ///
    /// # Errors
    /// As [`raise`](Self::raise); also when there are more than the limit of a call.
    pub async fn raise_all<C>(
        &self,
        connection: &mut C,
        mut events: Vec<Event>,
    ) -> Result<Vec<Raised>>
    where
        C: RaiseConnection + ?Sized,
    {
        self.check(&events)?;
        propagation::inject_current(&mut events);
        let raising = Raising {
            events: &events,
            raiser: self,
        };
        connection.store_events(&raising).await
    }

    /// Raises the events that an entity has collected. They leave the entity only when they have
    /// been stored, so after an error the entity can be saved again. They have left it when the
    /// transaction is rolled back later: then load the entity anew.
    ///
    /// # Errors
    /// As [`raise_all`](Self::raise_all).
    pub async fn raise_collected<C, R>(
        &self,
        connection: &mut C,
        entity: &mut R,
    ) -> Result<Vec<Raised>>
    where
        C: RaiseConnection + ?Sized,
        R: EventRaiser + Send + ?Sized,
    {
        let events = entity.event_buffer().events().to_vec();
        let raised = self.raise_all(connection, events).await?;
        drop(entity.event_buffer().take());
        Ok(raised)
    }

    /// Says that a transaction with raised events has been committed, so that this process's
    /// scheduler looks at once. Optional, costs next to nothing, and too many calls do no harm.
    pub fn wake(&self) {
        self.signals.raised.raise();
    }

    /// Checks names and sizes.
    pub(crate) fn check(&self, events: &[Event]) -> Result<()> {
        let (count, max) = (events.len(), self.limits.max_batch);
        if count > max {
            return Err(StoreError::invalid(
                "a batch of events",
                format!("has {count} events, more than the limit of {max}"),
                "raise them in several calls, or raise `Raiser::max_batch`",
            ));
        }
        events
            .iter()
            .try_for_each(|event| event.check(self.limits.max_data_len))
    }
}

/// Events on their way into a connection.
#[derive(Clone, Copy, Debug)]
pub struct Raising<'a> {
    events: &'a [Event],
    raiser: &'a Raiser,
}

impl<'a> Raising<'a> {
    /// The events: checked, and stamped with the trace context.
    #[must_use]
    pub const fn events(&self) -> &'a [Event] {
        self.events
    }

    /// What the store that made the raiser has put into it, if it is a `B`: for a SQL store its
    /// statements and what limits its notifications.
    #[must_use]
    pub fn backend<B: Any + Send + Sync>(&self) -> Option<&'a B> {
        self.raiser.backend.as_ref()?.0.downcast_ref()
    }
}

/// What a store has put into its raiser.
#[derive(Clone)]
struct Backend(Arc<dyn Any + Send + Sync>);

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Backend")
    }
}

/// A connection or transaction in which events can be raised: the application's own.
#[async_trait]
#[diagnostic::on_unimplemented(
    message = "events cannot be raised in a `{Self}`",
    note = "pass the session, transaction or connection itself, for example `&mut *tx`"
)]
pub trait RaiseConnection: Send {
    /// Stores checked events.
    ///
    /// # Errors
    /// What the store gives; nothing was stored then.
    async fn store_events(&mut self, raising: &Raising<'_>) -> Result<Vec<Raised>>;
}

#[async_trait]
impl RaiseConnection for dyn Session + '_ {
    async fn store_events(&mut self, raising: &Raising<'_>) -> Result<Vec<Raised>> {
        self.events().raise(raising.events()).await
    }
}

#[async_trait]
impl RaiseConnection for dyn Transaction + '_ {
    async fn store_events(&mut self, raising: &Raising<'_>) -> Result<Vec<Raised>> {
        self.events().raise(raising.events()).await
    }
}
