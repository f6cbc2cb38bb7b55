//! The registrations: failures only.

use std::time::Duration;

use async_trait::async_trait;

use crate::{
    error::Result,
    model::Registration,
    store::{AbsentHandler, Registered, RegistrationRepository, Renamed},
    telemetry::Telemetry,
    text::Name,
};

pub(super) struct InstrumentedRegistrationRepository<'a> {
    pub(super) inner: Box<dyn RegistrationRepository + 'a>,
    pub(super) telemetry: &'a Telemetry,
}

#[async_trait]
impl RegistrationRepository for InstrumentedRegistrationRepository<'_> {
    async fn register(&mut self, registrations: &[Registration]) -> Result<Registered> {
        self.telemetry
            .watched("register", self.inner.register(registrations))
            .await
    }

    async fn touch(&mut self, handlers: &[Name]) -> Result<()> {
        self.telemetry
            .watched("touch", self.inner.touch(handlers))
            .await
    }

    async fn all(&mut self) -> Result<Vec<Registration>> {
        self.telemetry
            .watched("all_registrations", self.inner.all())
            .await
    }

    async fn retire(&mut self, handler: &Name) -> Result<u64> {
        self.telemetry
            .watched("retire", self.inner.retire(handler))
            .await
    }

    async fn rename(&mut self, from: &Name, to: &Name) -> Result<u64> {
        self.telemetry
            .watched("rename", self.inner.rename(from, to))
            .await
    }

    async fn rename_requests(&mut self, from: &Name, limit: usize) -> Result<Renamed> {
        self.telemetry
            .watched("rename_requests", self.inner.rename_requests(from, limit))
            .await
    }

    async fn absent(&mut self, longer_than: Duration) -> Result<Vec<AbsentHandler>> {
        self.telemetry
            .watched("absent", self.inner.absent(longer_than))
            .await
    }
}
