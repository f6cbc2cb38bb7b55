//! Given an event, when a handler gets it, then …: one handler in isolation.

use std::{fmt, sync::Arc, time::Duration};

use super::{Executed, RaisedEvents, store_contents};
use crate::{
    error::StoreError,
    handler::{CancellationCause, Context, Handler, HandlerError, HandlerKind, HandlerResult},
    id::HandlerRequestId,
    model::{DomainEvent, Event, EventPattern, Priority},
    raiser::Raiser,
    store::{ClaimedRequest, Connection, ConnectionType, Storer},
    text::Name,
};

/// Begins the test of a handler with a typed event. See [`Given`].
///
/// # Panics
/// The event does not serialize.
#[track_caller]
#[expect(clippy::panic, reason = "a test kit fails tests by panicking")]
pub fn given<E: DomainEvent>(event: &E) -> Given {
    match Event::of(event) {
        Ok(event) => given_event(event),
        Err(error) => panic!("the given event {:?} does not serialize: {error}", E::NAME),
    }
}

/// Begins the test of a handler with an event as it is stored. See [`Given`].
pub fn given_event(event: impl Into<Arc<Event>>) -> Given {
    Given {
        event: event.into(),
        errors: 0,
        executions: None,
        attempt: None,
        rescues: 0,
        prepare: Vec::new(),
    }
}

/// An event, and the past of its handler request, for the test of one handler without a scheduler.
///
/// ```
/// use std::time::Duration;
/// use serde::{Deserialize, Serialize};
/// use tidings::{Context, DomainEvent, Entity, Handler, HandlerError, HandlerResult};
/// use tidings::testkit::{Expected, given};
///
/// #[derive(Serialize, Deserialize)]
/// struct OrderPlaced { order: String, total: u64 }
/// # impl DomainEvent for OrderPlaced {
/// #     const NAME: &'static str = "order.placed";
/// #     fn entity(&self) -> Option<Entity> { Some(Entity::new("order", self.order.as_str())) }
/// # }
/// #[derive(Serialize, Deserialize)]
/// struct OrderPaid { order: String }
/// # impl DomainEvent for OrderPaid {
/// #     const NAME: &'static str = "order.paid";
/// #     fn entity(&self) -> Option<Entity> { Some(Entity::new("order", self.order.as_str())) }
/// # }
///
/// async fn charge(placed: OrderPlaced, context: Context) -> HandlerResult {
///     match placed.total {
///         0 => Err(HandlerError::discard("nothing to charge")),
///         1000.. if context.errors() == 0 => {
///             Err(HandlerError::retry_after(Duration::from_secs(60), "the bank asks for patience"))
///         }
///         _ => Ok(context.raise_typed(&OrderPaid { order: placed.order })?),
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let charge = Handler::new("charge", charge);
/// let placed = |total| OrderPlaced { order: "4711".into(), total };
///
/// given(&placed(12)).when(&charge).await
///     .then_completed()
///     .then_raised(&[Expected::of(&OrderPaid { order: "4711".into() })]);
/// given(&placed(0)).when(&charge).await.then_discarded("nothing to charge");
/// given(&placed(5000)).when(&charge).await.then_retried_after(Duration::from_secs(60));
/// given(&placed(5000)).errors(1).when(&charge).await.then_completed();
/// # }
/// ```
///
/// The handler runs within its time-out, and a panic in it fails the test. Hooks do not run.
#[must_use = "nothing happens until `when`"]
pub struct Given {
    event: Arc<Event>,
    errors: u32,
    executions: Option<u32>,
    attempt: Option<u64>,
    rescues: u32,
    /// What hooks and the executor would have done to the context.
    prepare: Vec<Prepare>,
}

type Prepare = Box<dyn FnOnce(&Context) + Send>;

impl Given {
    /// Errors of earlier executions; the default is none.
    pub fn errors(mut self, errors: u32) -> Self {
        self.errors = errors;
        self
    }

    /// Earlier executions; the default is as many as there were errors.
    pub fn executions(mut self, executions: u32) -> Self {
        self.executions = Some(executions);
        self
    }

    /// The fence; the default is one more than there were executions and rescues.
    pub fn attempt(mut self, attempt: u64) -> Self {
        self.attempt = Some(attempt);
        self
    }

    /// How often the request was rescued; the default is never.
    pub fn rescues(mut self, rescues: u32) -> Self {
        self.rescues = rescues;
        self
    }

    /// What a hook has left for the handler.
    pub fn extension<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.prepare
            .push(Box::new(move |context| context.insert_extension(value)));
        self
    }

    /// The execution has been asked to stop before it begins.
    pub fn canceled(mut self, cause: CancellationCause) -> Self {
        self.prepare
            .push(Box::new(move |context| context.cancel(cause)));
        self
    }

    /// Runs an ordinary handler.
    ///
    /// # Panics
    /// The handler is not mapped to the event, or is transactional; or it panics itself.
    #[track_caller]
    #[expect(clippy::panic, reason = "a test kit fails tests by panicking")]
    pub fn when(self, handler: &Handler) -> impl Future<Output = Executed> + Send + use<> {
        let execution = self.begin(handler);
        let HandlerKind::Ordinary(function) = &handler.kind else {
            panic!(
                "handler {:?} is transactional; run it with `when_with` or `when_in`",
                handler.name
            );
        };
        let running = function.call(execution.context.clone());
        async move {
            let (result, raised) = execution.run(running).await;
            execution.end(result, raised.into())
        }
    }

    /// Runs a transactional handler with a connection, for example one that is made for the test.
    /// Nothing is committed or rolled back.
    ///
    /// # Panics
    /// The handler is not mapped to the event, is not transactional, or takes another connection;
    /// or it panics itself.
    #[track_caller]
    pub fn when_with<'c, C: Send + 'static>(
        self,
        handler: &Handler,
        connection: &'c mut C,
    ) -> impl Future<Output = Executed> + Send + use<'c, C> {
        let execution = self.begin(handler);
        let function = transactional(handler, ConnectionType::of::<C>());
        async move {
            let running = function.call(execution.context.clone(), Connection::new(connection));
            let (result, raised) = execution.run(running).await;
            execution.end(result, raised.into())
        }
    }

    /// Runs a transactional handler in a transaction of a store, which commits on `Ok`, with the
    /// events that the handler raised through its context, and else rolls back. What counts as
    /// raised is every event that the transaction added to the store.
    ///
    /// # Errors
    /// What the store gives.
    ///
    /// # Panics
    /// The handler is not mapped to the event, is not transactional, or takes another connection;
    /// or it panics itself.
    #[track_caller]
    pub fn when_in<'s, S: Storer + ?Sized>(
        self,
        store: &'s S,
        handler: &Handler,
    ) -> impl Future<Output = Result<Executed, StoreError>> + Send + use<'s, S> {
        let execution = self.begin(handler);
        let function = transactional(handler, store.connection_type());
        async move {
            let mut tx = store.begin().await?;
            let before = store_contents::event_ids(&mut *tx).await?;
            let running = function.call(execution.context.clone(), tx.connection());
            let (result, raised) = execution.run(running).await;
            if result.is_err() {
                tx.rollback().await?;
                return Ok(execution.end(result, RaisedEvents::default()));
            }
            if !raised.is_empty() {
                tx.events().raise(&raised).await?;
            }
            let raised = store_contents::events(&mut *tx)
                .await?
                .into_iter()
                .filter(|event| !before.contains(&event.id))
                .collect();
            tx.commit().await?;
            Ok(execution.end(result, RaisedEvents::new(raised)))
        }
    }

    /// Checks that the handler wants the event, and makes its context.
    #[track_caller]
    #[expect(clippy::panic, reason = "a test kit fails tests by panicking")]
    fn begin(self, handler: &Handler) -> Execution {
        let (name, event) = (&handler.name, self.event);
        if !is_mapped(handler, &event.name) {
            let implied = handler.event_name.filter(|_| handler.patterns.is_empty());
            let patterns: Vec<&str> = handler
                .patterns
                .iter()
                .map(Name::as_str)
                .chain(implied)
                .collect();
            panic!(
                "handler {name:?} is not mapped to event {:?}, but to {patterns:?}",
                event.name
            );
        }
        let executions = self.executions.unwrap_or(self.errors);
        let attempt = self
            .attempt
            .unwrap_or_else(|| 1 + u64::from(executions) + u64::from(self.rescues));
        let context = Context::new(ClaimedRequest {
            id: HandlerRequestId::derive(event.id, name),
            event,
            handler: name.clone(),
            priority: Priority::new(handler.priority).unwrap_or_default(),
            attempt,
            errors: self.errors,
            max_errors: handler.max_errors,
            executions,
            rescues: self.rescues,
            batch: None,
        });
        for prepare in self.prepare {
            prepare(&context);
        }
        Execution {
            context,
            timeout: handler.timeout,
        }
    }
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given")
            .field("event", &self.event)
            .field("errors", &self.errors)
            .finish_non_exhaustive()
    }
}

fn is_mapped(handler: &Handler, event: &Name) -> bool {
    if handler.patterns.is_empty() {
        return handler.event_name.is_none_or(|name| *event == name);
    }
    handler.patterns.iter().any(|pattern| {
        EventPattern::parse(pattern.clone()).is_ok_and(|pattern| pattern.matches(event))
    })
}

#[track_caller]
#[expect(clippy::panic, reason = "a test kit fails tests by panicking")]
fn transactional(
    handler: &Handler,
    given: ConnectionType,
) -> Arc<dyn crate::handler::ErasedTransactionalHandler> {
    match &handler.kind {
        HandlerKind::Transactional(function, takes) if *takes == given => Arc::clone(function),
        HandlerKind::Transactional(_, takes) => panic!(
            "handler {:?} takes a {}, but the test gives it a {}",
            handler.name,
            takes.name(),
            given.name()
        ),
        HandlerKind::Ordinary(_) => {
            panic!(
                "handler {:?} is not transactional; run it with `when`",
                handler.name
            )
        }
    }
}

/// A handler that is about to run.
struct Execution {
    context: Context,
    timeout: Duration,
}

impl Execution {
    /// Runs the handler as an executor does: within its time-out, and what it raised must be
    /// acceptable to a store and counts only when it answers `Ok`.
    async fn run(
        &self,
        running: impl Future<Output = HandlerResult>,
    ) -> (HandlerResult, Vec<Event>) {
        let limit = self.timeout;
        match tokio::time::timeout(limit, running).await {
            Ok(Ok(())) => {
                let raised = self.context.take_raised();
                let checked = raised
                    .iter()
                    .try_for_each(|event| event.check(Raiser::DEFAULT_MAX_DATA_LEN));
                match checked {
                    Ok(()) => (Ok(()), raised),
                    Err(error) => (Err(error.into()), Vec::new()),
                }
            }
            Ok(Err(error)) => (Err(error), Vec::new()),
            Err(_) => (
                Err(HandlerError::new(format!("timed out after {limit:?}"))),
                Vec::new(),
            ),
        }
    }

    fn end(self, result: HandlerResult, raised: RaisedEvents) -> Executed {
        Executed::new(self.context, result, raised)
    }
}
