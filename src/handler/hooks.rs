//! Hooks that run before an event is fanned out and before a handler runs.

use std::{fmt, future::Future, ops::ControlFlow, sync::Arc};

use async_trait::async_trait;

use super::{Context, HandlerError, HandlerResult, extensions::Extensions};
use crate::model::Event;

/// What a before-process hook sees. Cheap to clone.
///
/// Hooks share what they leave for later hooks of the same event; they change neither the event
/// nor what its handlers see.
#[derive(Clone)]
#[non_exhaustive]
pub struct ProcessContext {
    /// The event that is to be fanned out.
    pub event: Arc<Event>,
    /// How often processing it has failed.
    pub errors: u32,
    extensions: Arc<Extensions>,
}

impl ProcessContext {
    /// The context of an event; for tests of hooks.
    #[must_use]
    pub fn new(event: Arc<Event>, errors: u32) -> Self {
        Self {
            event,
            errors,
            extensions: Arc::default(),
        }
    }

    /// What an earlier hook has left.
    #[must_use]
    pub fn extension<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.extensions.get()
    }

    /// Leaves something for later hooks of this event; replaces an earlier one of the type.
    pub fn insert_extension<T: Send + Sync + 'static>(&self, value: T) {
        self.extensions.insert(value);
    }
}

impl fmt::Debug for ProcessContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessContext")
            .field("event", &self.event)
            .field("errors", &self.errors)
            .finish_non_exhaustive()
    }
}

/// Runs before an event is fanned out. An error vetoes: the event backs off and is tried again,
/// without a maximum, by the default backoff, and stands in no other event's way. So do a panic
/// and hooks that are too slow: those of one event together may take 5 s or a sixth of the lease,
/// whichever is less. The error's text is logged, and kept in
/// [`last_error`](crate::store::StoredEvent::last_error).
///
/// Events pass hooks in rounds of at most 128, 32 at the same time, and a round is fanned out when
/// all its hooks have ended, also when the scheduler has been paused meanwhile. They may run again
/// for an event that has passed: when its process is lost before the fan-out.
///
/// Implemented for `async` functions and closures of a [`ProcessContext`].
#[async_trait]
pub trait BeforeProcess: Send + Sync + 'static {
    /// Looks at the event.
    ///
    /// # Errors
    /// An error vetoes.
    async fn before_process(&self, context: ProcessContext) -> Result<(), HandlerError>;
}

#[async_trait]
impl<F, Fut> BeforeProcess for F
where
    F: Fn(ProcessContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), HandlerError>> + Send,
{
    async fn before_process(&self, context: ProcessContext) -> Result<(), HandlerError> {
        self(context).await
    }
}

/// Runs before a handler does, within the handler's time-out, which goes on when the handler
/// begins. It may leave [extensions](Context::insert_extension) for the handler, and veto with a
/// handler result, which is then settled as if the handler had returned it. It changes nothing
/// else: neither the event, nor the request and its terms. A panic and a time-out are errors of the
/// request. What ends before the handler begins counts no execution.
///
/// For a transactional handler hooks run before its transaction begins, so outside of it; when the
/// transaction is run again after a conflict they are not.
///
/// Implemented for `async` functions and closures of a [`Context`].
#[async_trait]
pub trait BeforeExecute: Send + Sync + 'static {
    /// Goes on with [`ControlFlow::Continue`], vetoes with [`ControlFlow::Break`].
    async fn before_execute(&self, context: Context) -> ControlFlow<HandlerResult>;
}

#[async_trait]
impl<F, Fut> BeforeExecute for F
where
    F: Fn(Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ControlFlow<HandlerResult>> + Send,
{
    async fn before_execute(&self, context: Context) -> ControlFlow<HandlerResult> {
        self(context).await
    }
}

#[async_trait]
impl<H: BeforeProcess + ?Sized> BeforeProcess for Arc<H> {
    async fn before_process(&self, context: ProcessContext) -> Result<(), HandlerError> {
        (**self).before_process(context).await
    }
}

#[async_trait]
impl<H: BeforeExecute + ?Sized> BeforeExecute for Arc<H> {
    async fn before_execute(&self, context: Context) -> ControlFlow<HandlerResult> {
        (**self).before_execute(context).await
    }
}
