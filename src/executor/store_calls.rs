//! Calls to the store: each with a time limit, and their health.

use std::{
    future::Future,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use parking_lot::Mutex;

use super::Executor;
use crate::{
    error::{Chain, Result, StoreError},
    model::Backoff,
};

/// Whether the store's last call failed, and how.
#[derive(Default)]
pub(super) struct StoreHealth {
    failed: AtomicBool,
    error: Mutex<Option<String>>,
}

impl StoreHealth {
    pub(super) fn error(&self) -> Option<String> {
        self.error.lock().clone()
    }

    fn note<T>(&self, operation: &'static str, result: &Result<T>) {
        match result {
            Ok(_) => {
                if self.failed.swap(false, Ordering::Relaxed) {
                    *self.error.lock() = None;
                    tracing::info!(operation, "the store answers again");
                }
            }
            Err(error) => {
                if !self.failed.swap(true, Ordering::Relaxed) {
                    tracing::warn!(error = %Chain(error), "the store failed; trying again");
                }
                *self.error.lock() = Some(Chain(error).to_string());
            }
        }
    }
}

impl Executor {
    /// Makes a call to the store within the time limit.
    pub(crate) async fn call<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let limit = self.settings().call_timeout;
        let result = match tokio::time::timeout(limit, call).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::TimedOut { operation, limit }),
        };
        self.0.store_health.note(operation, &result);
        if result.is_err() {
            self.telemetry().store_failed(operation);
        }
        result
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
