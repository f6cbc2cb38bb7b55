//! What a handler knows of its execution, and what it can do beside its own work.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::extensions::Extensions;
use crate::{
    id::{CorrelationId, HandlerRequestId},
    model::{DomainEvent, Event, Priority},
    store::ClaimedRequest,
    telemetry::propagation,
};

/// The context of one execution. Cheap to clone.
#[derive(Clone)]
pub struct Context(Arc<Inner>);

struct Inner {
    request: ClaimedRequest,
    /// 0 while it may run on; else the cause.
    canceled: AtomicU8,
    /// Wakes those who wait for the cancellation.
    cancellation: Notify,
    /// The events raised so far; taken when the execution is settled.
    raised: Mutex<Vec<Event>>,
    /// What hooks left for the handler; none in most executions.
    extensions: Extensions,
    run: RunState,
}

/// What the executor notes about a run, beside the context so that a request is one allocation.
#[derive(Debug, Default)]
pub(crate) struct RunState {
    /// When the running handler is past its time-out, in milliseconds on the executor's monotonic
    /// clock; 0 while it does not run.
    pub(crate) overdue_at: AtomicU64,
    /// Whether it was reported as stuck, and is no longer renewed.
    pub(crate) stuck: AtomicBool,
    /// Whether it shares no transaction any more, because one that it shared was rolled back.
    pub(crate) alone: AtomicBool,
}

/// Why an execution is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CancellationCause {
    /// The request was canceled, rescued or settled by somebody else: a settlement of this
    /// execution will be refused.
    Lost,
    /// The lease could not be renewed in time, so somebody else may have the request by now.
    LeaseExpired,
    /// The scheduler shuts down and its deadline has come.
    Shutdown,
}

impl Context {
    /// The context of a claimed request. Executors make them; tests of handlers may, too.
    #[must_use]
    pub fn new(request: ClaimedRequest) -> Self {
        Self(Arc::new(Inner {
            request,
            canceled: AtomicU8::new(0),
            cancellation: Notify::new(),
            raised: Mutex::new(Vec::new()),
            extensions: Extensions::default(),
            run: RunState::default(),
        }))
    }

    /// The event that is handled.
    #[must_use]
    pub fn event(&self) -> &Arc<Event> {
        &self.0.request.event
    }

    /// The id of the handler request; the same in every execution, so it serves as an idempotency
    /// key for calls to other systems.
    #[must_use]
    pub fn request_id(&self) -> HandlerRequestId {
        self.0.request.id
    }

    /// The handler's name.
    #[must_use]
    pub fn handler(&self) -> &str {
        &self.0.request.handler
    }

    /// The fence of this execution: higher in every later one.
    #[must_use]
    pub fn attempt(&self) -> u64 {
        self.0.request.attempt
    }

    /// Errors of earlier executions.
    #[must_use]
    pub fn errors(&self) -> u32 {
        self.0.request.errors
    }

    /// The number of errors that makes the request dead.
    #[must_use]
    pub fn max_errors(&self) -> u32 {
        self.0.request.max_errors
    }

    /// Executions before this one.
    #[must_use]
    pub fn executions(&self) -> u32 {
        self.0.request.executions
    }

    /// How often the request was rescued from a lost process.
    #[must_use]
    pub fn rescues(&self) -> u32 {
        self.0.request.rescues
    }

    /// The request's priority.
    #[must_use]
    pub fn priority(&self) -> Priority {
        self.0.request.priority
    }

    /// The flow that the event belongs to.
    #[must_use]
    pub fn correlation_id(&self) -> CorrelationId {
        self.0.request.event.correlation_id
    }

    /// Raises an event as a consequence of the handled one. It is stored together with the
    /// settlement of this request, and only if the handler returns `Ok` and nobody else has the
    /// request by then. Until then it is in memory.
    ///
    /// Names and sizes are checked when the handler has returned, against the limits of the
    /// scheduler's raiser, or the default ones; what is over them is an error of the request.
    pub fn raise(&self, event: Event) {
        let mut event = event.caused_by(self.event());
        propagation::inject_current(std::slice::from_mut(&mut event));
        self.0.raised.lock().push(event);
    }

    /// As [`raise`](Self::raise), for a typed event.
    ///
    /// # Errors
    /// The value does not serialize.
    pub fn raise_typed<E: DomainEvent>(&self, event: &E) -> Result<(), serde_json::Error> {
        self.raise(Event::of(event)?);
        Ok(())
    }

    /// Whether the execution should stop, because its settlement would be refused or the process
    /// shuts down.
    #[must_use]
    pub fn is_canceled(&self) -> bool {
        self.cancellation_cause().is_some()
    }

    /// Why the execution should stop.
    #[must_use]
    pub fn cancellation_cause(&self) -> Option<CancellationCause> {
        match self.0.canceled.load(Ordering::Acquire) {
            0 => None,
            1 => Some(CancellationCause::Lost),
            2 => Some(CancellationCause::LeaseExpired),
            _ => Some(CancellationCause::Shutdown),
        }
    }

    /// Waits until the execution should stop. Cancellation safe.
    pub async fn canceled(&self) -> CancellationCause {
        loop {
            let mut notified = std::pin::pin!(self.0.cancellation.notified());
            notified.as_mut().enable();
            if let Some(cause) = self.cancellation_cause() {
                return cause;
            }
            notified.await;
        }
    }

    /// What a hook has left for the handler.
    #[must_use]
    pub fn extension<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.0.extensions.get()
    }

    /// Leaves something for the handler, or for a later hook; replaces an earlier one of the type.
    pub fn insert_extension<T: Send + Sync + 'static>(&self, value: T) {
        self.0.extensions.insert(value);
    }

    /// The events raised so far, for tests of handlers.
    #[must_use]
    pub fn raised(&self) -> Vec<Event> {
        self.0.raised.lock().clone()
    }

    /// Forgets what was raised, but for this.
    pub(crate) fn set_raised(&self, events: Vec<Event>) {
        *self.0.raised.lock() = events;
    }

    pub(crate) fn take_raised(&self) -> Vec<Event> {
        std::mem::take(&mut *self.0.raised.lock())
    }

    pub(crate) fn request(&self) -> &ClaimedRequest {
        &self.0.request
    }

    pub(crate) fn run(&self) -> &RunState {
        &self.0.run
    }

    /// Asks the execution to stop; the first cause stays.
    pub(crate) fn cancel(&self, cause: CancellationCause) {
        let code = match cause {
            CancellationCause::Lost => 1,
            CancellationCause::LeaseExpired => 2,
            CancellationCause::Shutdown => 3,
        };
        let first = self
            .0
            .canceled
            .compare_exchange(0, code, Ordering::AcqRel, Ordering::Acquire);
        if first.is_ok() {
            self.0.cancellation.notify_waiters();
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("request", &self.request_id())
            .field("handler", &self.handler())
            .field("event", &self.event().id)
            .field("attempt", &self.attempt())
            .finish_non_exhaustive()
    }
}
