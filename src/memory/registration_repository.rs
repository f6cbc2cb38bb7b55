//! The port to registrations, over statements.

use std::time::Duration;

use async_trait::async_trait;

use super::connection::MemoryConnection;
use crate::{
    error::Result,
    model::Registration,
    store::{AbsentHandler, Registered, RegistrationRepository, Renamed},
    text::Name,
};

pub(super) struct MemoryRegistrations<'c>(pub(super) &'c mut MemoryConnection);

#[async_trait]
impl RegistrationRepository for MemoryRegistrations<'_> {
    async fn register(&mut self, registrations: &[Registration]) -> Result<Registered> {
        self.0
            .run("register handlers", |scope| scope.register(registrations))
            .await
    }

    async fn touch(&mut self, handlers: &[Name]) -> Result<()> {
        self.0
            .run("mark handlers as seen", |scope| scope.touch(handlers))
            .await
    }

    async fn all(&mut self) -> Result<Vec<Registration>> {
        self.0
            .run("list registrations", |scope| {
                Ok(scope.registrations().values().cloned().collect())
            })
            .await
    }

    async fn retire(&mut self, handler: &Name) -> Result<u64> {
        self.0
            .run("retire handler", |scope| scope.retire(handler))
            .await
    }

    async fn rename(&mut self, from: &Name, to: &Name) -> Result<u64> {
        self.0
            .run("rename handler", |scope| scope.rename(from, to))
            .await
    }

    async fn rename_requests(&mut self, from: &Name, limit: usize) -> Result<Renamed> {
        self.0
            .run("rename requests", |scope| {
                scope.rename_requests(from, limit)
            })
            .await
    }

    async fn absent(&mut self, longer_than: Duration) -> Result<Vec<AbsentHandler>> {
        self.0
            .run(
                "find absent handlers",
                |scope| Ok(scope.absent(longer_than)),
            )
            .await
    }
}
