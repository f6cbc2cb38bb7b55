//! Carries reports to the error reporter, in a task of its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Mutex, mpsc};

use super::{
    Executor,
    panic_capture::{CatchPanic, caught},
};
use crate::{
    handler::{ErrorReport, ErrorReporter},
    signal::Signal,
};

pub(super) struct Reports {
    /// None: nothing is reported.
    reporter: Option<Arc<dyn ErrorReporter>>,
    sender: mpsc::Sender<ErrorReport>,
    receiver: Mutex<mpsc::Receiver<ErrorReport>>,
    /// Sent and not yet carried out.
    waiting: AtomicUsize,
    /// Raised after each report.
    reported: Signal,
}

impl Reports {
    /// More reports than a person reads; a reporter that is slower than this loses some.
    const MAX_WAITING: usize = 1000;
    /// A reporter that takes longer is given up on.
    const TIMEOUT: Duration = Duration::from_secs(10);

    pub(super) fn new(reporter: Option<Arc<dyn ErrorReporter>>) -> Self {
        let (sender, receiver) = mpsc::channel(Self::MAX_WAITING);
        Self {
            reporter,
            sender,
            receiver: Mutex::new(receiver),
            waiting: AtomicUsize::new(0),
            reported: Signal::new(),
        }
    }

    /// Reports an error, later and elsewhere.
    pub(super) fn send(&self, report: ErrorReport) {
        if self.reporter.is_none() {
            return;
        }
        self.waiting.fetch_add(1, Ordering::AcqRel);
        if let Err(error) = self.sender.try_send(report) {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            let (mpsc::error::TrySendError::Full(report)
            | mpsc::error::TrySendError::Closed(report)) = error;
            tracing::error!(
                request = %report.request_id,
                handler = %report.handler,
                error = report.message,
                "the error reporter is too slow; this report is let go"
            );
        }
    }

    /// Waits until everything has been reported. Cancellation safe.
    pub(super) async fn emptied(&self) {
        loop {
            let reported = self.reported.seen();
            if self.waiting.load(Ordering::Acquire) == 0 {
                return;
            }
            self.reported.changed_since(reported).await;
        }
    }

    async fn report(&self, report: ErrorReport) {
        let Some(reporter) = &self.reporter else {
            return;
        };
        let (request, handler, kind) = (report.request_id, report.handler.clone(), report.kind);
        let reported = async {
            match caught(|| reporter.report(report)) {
                Ok(reporting) => CatchPanic::new(reporting).await,
                Err(panicked) => Err(panicked),
            }
        };
        match tokio::time::timeout(Self::TIMEOUT, reported).await {
            Ok(Ok(true)) => tracing::debug!(%request, %handler, ?kind, "reported"),
            Ok(Ok(false)) => {
                tracing::error!(%request, %handler, ?kind, "the error reporter could not report")
            }
            Ok(Err(panic)) => {
                tracing::error!(%request, message = panic.message, "the error reporter panicked")
            }
            Err(_) => {
                tracing::error!(%request, %handler, ?kind, "the error reporter took too long")
            }
        }
    }
}

/// A report that is being carried out; counted as such however that ends.
struct Carried<'a>(&'a Reports);

impl Drop for Carried<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
        self.0.reported.raise();
    }
}

impl Executor {
    /// Reports until the executor stops.
    pub(crate) async fn report_loop(self) {
        let mut receiver = self.0.reports.receiver.lock().await;
        loop {
            tokio::select! {
                biased;
                () = self.stopped() => return,
                report = receiver.recv() => match report {
                    Some(report) => {
                        let carried = Carried(&self.0.reports);
                        self.0.reports.report(report).await;
                        drop(carried);
                    }
                    None => return,
                },
            }
        }
    }
}
