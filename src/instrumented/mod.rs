//! A decorator that measures the calls to any store: telemetry wraps the port once, not each
//! store. It changes nothing, and knows no scheduler.

#![deny(clippy::missing_trait_methods)]

mod event_repository;
mod handler_request_repository;
mod lease_renewer;
mod registration_repository;
mod session;
mod storer;
#[cfg(test)]
mod tests;

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

    /// Makes a call of which only a failure is worth knowing.
    async fn watched<T>(&self, operation: &'static str, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        call.await.inspect_err(|error| self.store_failed(operation, error))
    }
}
