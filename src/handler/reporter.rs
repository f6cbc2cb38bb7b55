//! Who hears of panics and final errors.

use async_trait::async_trait;

use crate::{
    id::{EventId, HandlerRequestId},
    text::Name,
};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ErrorReport {
    /// Why it is reported.
    pub kind: ReportKind,
    /// The handler request.
    pub request_id: HandlerRequestId,
    /// Its handler.
    pub handler: Name,
    /// Its event.
    pub event_id: EventId,
    /// The event's name.
    pub event_name: Name,
    /// Errors of the request, with this one.
    pub errors: u32,
    /// Whether the request is dead now.
    pub is_final: bool,
    /// What was wrong.
    pub message: String,
    /// Where a panic was raised from; none if panics are not
    /// [captured](crate::SchedulerBuilder::capture_panics).
    pub backtrace: Option<String>,
}

impl ErrorReport {
    /// A report; for executors and for tests of reporters.
    #[must_use]
    pub fn new(
        kind: ReportKind,
        request_id: HandlerRequestId,
        handler: Name,
        event_id: EventId,
        event_name: Name,
    ) -> Self {
        Self {
            kind,
            request_id,
            handler,
            event_id,
            event_name,
            errors: 0,
            is_final: false,
            message: String::new(),
            backtrace: None,
        }
    }
}

/// Why an error is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReportKind {
    /// A handler panicked, whether or not it will run again.
    Panic,
    /// A request died: its errors reached the maximum, or the handler discarded it.
    Final,
    /// A request that may kill its processes lost another one.
    WorkerLost,
    /// A handler has blocked its thread past its time-out; its lease is not renewed any more.
    Stuck,
}

/// Hears of every panic and of every final error, and never of a retryable one.
///
/// It runs in a task of its own, one report after the other, and has 10 s for each: one that is
/// slow, or that panics, delays and harms nothing. At most 1,000 reports wait for it; beyond that
/// they are logged and let go. Reports are in memory only: those of a lost process are lost.
///
/// ```
/// use async_trait::async_trait;
/// use tidings::{ErrorReport, ErrorReporter};
///
/// struct Log;
///
/// #[async_trait]
/// impl ErrorReporter for Log {
///     async fn report(&self, report: ErrorReport) -> bool {
///         eprintln!("{}: {}", report.handler, report.message);
///         true
///     }
/// }
/// ```
#[async_trait]
pub trait ErrorReporter: Send + Sync + 'static {
    /// Reports an error, and answers whether it could; the answer is logged.
    async fn report(&self, report: ErrorReport) -> bool;
}

/// The default reporter: does nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoReporter;

#[async_trait]
impl ErrorReporter for NoReporter {
    async fn report(&self, _: ErrorReport) -> bool {
        true
    }
}

#[async_trait]
impl<R: ErrorReporter + ?Sized> ErrorReporter for std::sync::Arc<R> {
    async fn report(&self, report: ErrorReport) -> bool {
        (**self).report(report).await
    }
}
