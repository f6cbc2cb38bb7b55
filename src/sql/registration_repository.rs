//! The port to registrations.

use std::time::Duration;

use async_trait::async_trait;

use super::{
    connection::{Needs, SqlConnection},
    registrations, rename,
};
use crate::{
    error::Result,
    model::Registration,
    store::{AbsentHandler, Registered, RegistrationRepository, Renamed},
    text::Name,
};

pub(super) struct SqlRegistrations<'c>(pub(super) &'c mut SqlConnection);

#[async_trait]
impl RegistrationRepository for SqlRegistrations<'_> {
    async fn register(&mut self, new: &[Registration]) -> Result<Registered> {
        let mut link = self.0.open("register handlers", Needs::Atomicity).await?;
        let answer = registrations::register(&mut link, new).await;
        link.close(answer).await
    }

    async fn touch(&mut self, handlers: &[Name]) -> Result<()> {
        let mut link = self.0.open("touch handlers", Needs::Atomicity).await?;
        let answer = registrations::touch(&mut link, handlers).await;
        link.close(answer).await
    }

    async fn all(&mut self) -> Result<Vec<Registration>> {
        let mut link = self
            .0
            .open("list registrations", Needs::OneStatement)
            .await?;
        let answer = registrations::registrations(&mut link).await;
        link.close(answer).await
    }

    async fn retire(&mut self, handler: &Name) -> Result<u64> {
        let mut link = self.0.open("retire a handler", Needs::Atomicity).await?;
        let answer = registrations::retire(&mut link, handler).await;
        link.close(answer).await
    }

    async fn rename(&mut self, from: &Name, to: &Name) -> Result<u64> {
        let mut link = self.0.open("rename a handler", Needs::Atomicity).await?;
        let answer = registrations::rename(&mut link, from, to).await;
        link.close(answer).await
    }

    async fn rename_requests(&mut self, from: &Name, limit: usize) -> Result<Renamed> {
        let mut link = self.0.open("rename requests", Needs::Atomicity).await?;
        let answer = rename::rename_requests(&mut link, from, limit).await;
        link.close(answer).await
    }

    async fn absent(&mut self, longer_than: Duration) -> Result<Vec<AbsentHandler>> {
        let mut link = self
            .0
            .open("look for absent handlers", Needs::OneStatement)
            .await?;
        let answer = registrations::absent(&mut link, longer_than).await;
        link.close(answer).await
    }
}
