//! A decorator that measures the calls to any store: telemetry wraps the port once, not each
//! store. It changes nothing, and knows no scheduler.

#![deny(clippy::missing_trait_methods)]

mod event_repository;
mod handler_request_repository;
mod lease_renewer;
mod registration_repository;
mod session;
mod storer;

use std::{future::Future, time::Instant};

pub use storer::InstrumentedStorer;

use crate::{error::Result, telemetry::Telemetry};

impl Telemetry {
    /// Makes a call whose time and size are worth knowing: the batches of the hot path.
    async fn measured<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T>> + Send,
        size: impl FnOnce(&T) -> usize + Send,
    ) -> Result<T> {
        let began = Instant::now();
        let answer = self.watched(operation, call).await?;
        self.batch(operation, size(&answer), began.elapsed());
        Ok(answer)
    }

    /// Makes a call of which only a failure is worth knowing. Being dropped before the end is one:
    /// whoever limits the time of a call drops it.
    async fn watched<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let mut under_way = UnderWay(Some((self, operation)));
        let result = call.await;
        under_way.0 = None;
        result.inspect_err(|error| self.store_failed(operation, error))
    }
}

/// A call that has not ended.
struct UnderWay<'a>(Option<(&'a Telemetry, &'static str)>);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some((telemetry, operation)) = self.0 {
            telemetry.store_abandoned(operation);
        }
    }
}
