//! A handler with its name and what it is mapped to.

use std::{fmt, future::Future, marker::PhantomData, sync::Arc, time::Duration};

use super::{
    Context, ErasedHandler, ErasedTransactionalHandler, IntoHandlerError, TransactionalFn,
    WithState,
    erased::{Ordinary, Transactional},
};
use crate::{
    model::{Backoff, FromEvent, Registration},
    store::ConnectionType,
    text::Name,
};

/// A named reaction to events, and which events it wants on which terms.
///
/// A handler is a plain `async fn(E, Context) -> Result<(), X>` or a closure, where `E` is a
/// [`DomainEvent`](crate::DomainEvent), a [`Payload<T>`](crate::Payload) or an
/// [`Arc<Event>`](crate::Event). It may run more than once for one event (at-least-once), so it
/// should be idempotent; a [transactional](Self::transactional) one need not be, for what it writes
/// through its connection.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use tidings::{Backoff, ConfigMap, Context, Event, Handler, HandlerResult};
///
/// async fn notify(event: Arc<Event>, _: Context) -> HandlerResult {
///     println!("{}", event.name);
///     Ok(())
/// }
///
/// let config = ConfigMap::builder()
///     .handler(
///         Handler::new("notify_maintainers", notify)
///             .on("com.github.issues.opened")
///             .on("com.github.pull_request.*")
///             .priority(10)
///             .max_errors(3)
///             .backoff(Backoff::constant(Duration::from_secs(5))),
///     )
///     .build()?;
/// # Ok::<(), tidings::ConfigError>(())
/// ```
#[must_use = "a handler does nothing until it is in a ConfigMap"]
pub struct Handler {
    pub(crate) name: Name,
    pub(crate) kind: HandlerKind,
    /// The one event that the first argument stands for, if it does.
    pub(crate) event_name: Option<&'static str>,
    pub(crate) patterns: Vec<Name>,
    pub(crate) priority: i16,
    pub(crate) max_errors: u32,
    pub(crate) backoff: BackoffPolicy,
    pub(crate) timeout: Duration,
    pub(crate) concurrency: Option<usize>,
    pub(crate) shares_transactions: bool,
}

#[derive(Clone)]
pub(crate) enum HandlerKind {
    Ordinary(Arc<dyn ErasedHandler>),
    Transactional(Arc<dyn ErasedTransactionalHandler>, ConnectionType),
}

/// How long a request of the handler waits after an error.
#[derive(Clone)]
pub(crate) enum BackoffPolicy {
    Exponential(Backoff),
    Function(Arc<dyn Fn(u32) -> Duration + Send + Sync>),
}

impl BackoffPolicy {
    /// The wait after error number `errors`, from 1. It may call the user's function.
    pub(crate) fn after(&self, errors: u32) -> Duration {
        match self {
            Self::Exponential(backoff) => backoff.after(errors),
            Self::Function(function) => function(errors),
        }
    }
}

impl Handler {
    /// The max errors of a handler that names none.
    pub const DEFAULT_MAX_ERRORS: u32 = Registration::DEFAULT_MAX_ERRORS;
    /// The time-out of a handler that names none.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);

    /// A handler that runs outside of any transaction: an `async fn(E, Context) -> Result<(), X>`,
    /// or a closure that gives such a future.
    pub fn new<E, F, Fut, X>(name: impl Into<Name>, function: F) -> Self
    where
        E: FromEvent,
        F: Fn(E, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), X>> + Send + 'static,
        X: IntoHandlerError + 'static,
    {
        let kind = HandlerKind::Ordinary(Arc::new(Ordinary(function, PhantomData::<fn(E)>)));
        Self::with_kind(name.into(), kind, E::EVENT_NAME)
    }

    /// A handler with state, which is cloned for each execution: an
    /// `async fn(S, E, Context) -> Result<(), X>`.
    pub fn with_state<S, E, F, Fut, X>(name: impl Into<Name>, state: S, function: F) -> Self
    where
        S: Clone + Send + Sync + 'static,
        E: FromEvent,
        F: Fn(S, E, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), X>> + Send + 'static,
        X: IntoHandlerError + 'static,
    {
        Self::new(name, move |event: E, context| {
            function(state.clone(), event, context)
        })
    }

    /// A handler that writes in the transaction in which its request is settled: an
    /// `async fn(E, Context, &mut C) -> Result<(), X>`, where `C` is the connection of the store's
    /// database. Its writes are effectively-once: they commit together with the settlement, and
    /// only on `Ok`.
    ///
    /// A scheduler whose store has another connection refuses the `ConfigMap` when it is built.
    ///
    /// Cost on SQL: a transaction and a connection for each execution, for as long as it runs, where
    /// other handlers are settled in batches.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use tidings::{Context, Event, Handler, HandlerResult, MemoryConnection, store::Session};
    ///
    /// async fn book(_: Arc<Event>, _: Context, connection: &mut MemoryConnection) -> HandlerResult {
    ///     println!("{} events wait", connection.events().count_unprocessed().await?);
    ///     Ok(())
    /// }
    ///
    /// let handler = Handler::transactional("book", book).on("order.placed");
    /// assert_eq!(handler.name(), "book");
    /// ```
    pub fn transactional<E, C, F>(name: impl Into<Name>, function: F) -> Self
    where
        E: FromEvent,
        C: Send + 'static,
        F: for<'c> TransactionalFn<'c, E, C> + 'static,
    {
        let kind = HandlerKind::Transactional(
            Arc::new(Transactional(function, PhantomData::<fn(E, C)>)),
            ConnectionType::of::<C>(),
        );
        Self::with_kind(name.into(), kind, E::EVENT_NAME)
    }

    /// A transactional handler with state, which is cloned for each execution: an
    /// `async fn(S, E, Context, &mut C) -> Result<(), X>`.
    pub fn transactional_with_state<S, E, C, F>(
        name: impl Into<Name>,
        state: S,
        function: F,
    ) -> Self
    where
        S: Clone + Send + Sync + 'static,
        E: FromEvent,
        C: Send + 'static,
        F: 'static,
        WithState<S, F>: for<'c> TransactionalFn<'c, E, C>,
    {
        Self::transactional::<E, C, _>(name, WithState { state, function })
    }

    fn with_kind(name: Name, kind: HandlerKind, event_name: Option<&'static str>) -> Self {
        Self {
            name,
            kind,
            event_name,
            patterns: Vec::new(),
            priority: 50,
            max_errors: Self::DEFAULT_MAX_ERRORS,
            backoff: BackoffPolicy::Exponential(Backoff::default()),
            timeout: Self::DEFAULT_TIMEOUT,
            concurrency: None,
            shares_transactions: false,
        }
    }

    /// Wants events of this name, or of a pattern such as `com.github.issues.*` or `*`. May be
    /// called several times; an event that several patterns match is handled once. A handler of a
    /// [`DomainEvent`](crate::DomainEvent) that names no event gets that one.
    pub fn on(mut self, pattern: impl Into<Name>) -> Self {
        self.patterns.push(pattern.into());
        self
    }

    /// From 0 (runs first) to 100; the default is 50.
    pub fn priority(mut self, priority: i16) -> Self {
        self.priority = priority;
        self
    }

    /// The number of errors that makes a request dead; the default is 5.
    pub fn max_errors(mut self, errors: u32) -> Self {
        self.max_errors = errors;
        self
    }

    /// How long a request waits after an error; the default is [`Backoff::default`].
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = BackoffPolicy::Exponential(backoff);
        self
    }

    /// How long a request waits after error number *n*, from 1, by a function. One that panics
    /// is replaced by the default backoff.
    pub fn backoff_with(
        mut self,
        backoff: impl Fn(u32) -> Duration + Send + Sync + 'static,
    ) -> Self {
        self.backoff = BackoffPolicy::Function(Arc::new(backoff));
        self
    }

    /// How long an execution may take, hooks included; the default is 5 minutes. A longer one is an
    /// error, and its future is dropped; one that blocks its thread cannot be.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How many executions of this handler may run at the same time in one process; the default
    /// is three quarters of the workers (but one at least), so that no handler takes them all.
    /// Several slow ones together can: where one must never wait for others, the limits of all
    /// handlers sum up to no more than the workers.
    pub fn concurrency(mut self, limit: usize) -> Self {
        self.concurrency = Some(limit);
        self
    }

    /// Lets executions of a [transactional](Self::transactional) handler share a transaction: up to 50
    /// that wait in this process run one after the other, each after a savepoint, and are settled and
    /// committed together. That saves all but a fraction of the commits and settlements, so it is worth
    /// most where the handler writes little.
    ///
    /// It is for **short** handlers that only write to the database: locks that one takes are held until
    /// the others have run, too, some 50 ms and one run longer. What else changes for the handler:
    ///
    /// | one of them | that one | the others |
    /// | --- | --- | --- |
    /// | returns `Ok` | commits with the others | |
    /// | answers with an error, or panics | is rolled back to its savepoint and settled as always | commit |
    /// | is past its time-out, or the scheduler's call time-out (10 s by default) | runs again alone, and only that run counts | are rolled back, run again, each alone |
    /// | was canceled, or lost otherwise | is rolled back | are rolled back, run again, each alone |
    /// | loses against a concurrent transaction, or its connection | is rolled back, runs again alone | the same |
    /// | is one of those whose commit fails | is rolled back, runs again alone | the same |
    ///
    /// So it may run more than once for an event before its writes commit, as other handlers may, and
    /// whatever it does besides writing through its connection happens each time. Its writes are
    /// effectively-once all the same, no request counts an error for another one's sake, and a run
    /// that was undone is none of the request's [executions](crate::HandlerRequest::executions), as
    /// with one that lost against a concurrent transaction. A request that had an error or a rescue before
    /// runs alone. A handler sees what those before it have written, and settings that it changes with
    /// `SET LOCAL` hold for those after it.
    ///
    /// Together they hold one slot of the [concurrency](Self::concurrency), one connection, and in
    /// memory their events and what they raise. Cost on SQL: one round trip for each beside its own
    /// statements, and for all of them together those of one transaction.
    ///
    /// Refused by [`ConfigMapBuilder::build`](crate::ConfigMapBuilder::build) if the handler is not
    /// transactional. Where the store's transactions have
    /// [no savepoints](crate::store::Capabilities::savepoints), each runs alone.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use tidings::{Context, Event, Handler, HandlerResult, MemoryConnection};
    ///
    /// async fn count(_: Arc<Event>, _: Context, _: &mut MemoryConnection) -> HandlerResult {
    ///     Ok(())
    /// }
    ///
    /// let handler = Handler::transactional("count", count)
    ///     .on("order.placed")
    ///     .shared_transactions();
    /// # assert_eq!(handler.name(), "count");
    /// ```
    pub fn shared_transactions(mut self) -> Self {
        self.shares_transactions = true;
        self
    }

    /// The handler's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler")
            .field("name", &self.name)
            .field("patterns", &self.patterns)
            .field("priority", &self.priority)
            .field("max_errors", &self.max_errors)
            .field("timeout", &self.timeout)
            .field("concurrency", &self.concurrency)
            .field("shares_transactions", &self.shares_transactions)
            .finish_non_exhaustive()
    }
}
