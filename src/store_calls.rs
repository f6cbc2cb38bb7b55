//! Calls to the store: each with a time limit, and their health.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    error::{Chain, Result, StoreError},
    model::Backoff,
    outage::OutageWatch,
    settings::Settings,
    store::Storer,
};

/// Whether the store's last call failed, and how.
#[derive(Default)]
struct StoreHealth {
    /// Whether there is an error, so that a success after a success takes no lock.
    failed: AtomicBool,
    error: Mutex<Option<String>>,
    outages: OutageWatch,
}

impl StoreHealth {
    fn error(&self) -> Option<String> {
        self.error.lock().clone()
    }

    fn note<T>(&self, operation: &'static str, result: &Result<T>) {
        match result {
            // The transaction lost against another one: the store is well.
            Err(error) if error.is_conflict() => {}
            Ok(_) => {
                if self.failed.load(Ordering::Acquire) {
                    let mut last = self.error.lock();
                    self.failed.store(false, Ordering::Release);
                    if last.take().is_some() {
                        self.outages.note(true, Instant::now());
                        tracing::info!(operation, "the store answers again");
                    }
                }
            }
            Err(error) => {
                if error.is_transient() {
                    self.outages.note(false, Instant::now());
                }
                let mut last = self.error.lock();
                self.failed.store(true, Ordering::Release);
                if last.replace(Chain(error).to_string()).is_some() {
                    return;
                }
                if error.is_transient() {
                    tracing::warn!(error = %Chain(error), "the store failed; trying again");
                } else {
                    // The store is there. Some callers try again all the same, but a start does not.
                    tracing::warn!(operation, error = %Chain(error), "the store refused a call");
                }
            }
        }
    }
}

/// The store, called within a time limit. Clones share the store's health.
#[derive(Clone)]
pub(crate) struct StoreCalls {
    store: Arc<dyn Storer>,
    limit: Duration,
    health: Arc<StoreHealth>,
}

impl StoreCalls {
    pub(crate) fn new(store: Arc<dyn Storer>, settings: &Settings) -> Self {
        Self {
            store,
            limit: settings.call_timeout,
            health: Arc::new(StoreHealth::default()),
        }
    }

    pub(crate) fn store(&self) -> &Arc<dyn Storer> {
        &self.store
    }

    /// Makes a call to the store within the time limit.
    pub(crate) async fn call<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let limit = self.limit;
        let result = match tokio::time::timeout(limit, call).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::TimedOut { operation, limit }),
        };
        self.health.note(operation, &result);
        result
    }

    /// Whether no outage, or none lately, has kept anybody from making a call every `interval`.
    pub(crate) fn has_been_sound_for(&self, interval: Duration) -> bool {
        self.health.outages.is_over(interval, Instant::now())
    }

    /// The last error of the store, if its last call failed.
    pub(crate) fn error(&self) -> Option<String> {
        self.health.error()
    }
}

/// The waits of a loop whose calls fail: short enough to go on within a second after an outage,
/// random so that many processes do not come back together.
#[derive(Debug, Default)]
pub(crate) struct LoopBackoff(u32);

impl LoopBackoff {
    const BASE: Duration = Duration::from_millis(50);
    const CAP: Duration = Duration::from_secs(1);

    /// The last call succeeded.
    pub(crate) const fn reset(&mut self) {
        self.0 = 0;
    }

    /// The wait after another failure.
    pub(crate) fn next(&mut self) -> Duration {
        self.0 = self.0.saturating_add(1);
        Backoff::exponential(Self::BASE, Self::CAP).after(self.0)
    }
}
