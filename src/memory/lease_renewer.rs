//! The port that keeps leases.

use async_trait::async_trait;

use super::connection::MemoryConnection;
use crate::{
    error::Result,
    store::{LeaseRenewer, Renewal, Renewed},
};

pub(super) struct MemoryLeaseRenewer(pub(super) MemoryConnection);

#[async_trait]
impl LeaseRenewer for MemoryLeaseRenewer {
    async fn renew(&mut self, renewal: &Renewal) -> Result<Renewed> {
        self.0
            .run("renew leases", |scope| Ok(scope.renew(renewal)))
            .await
    }
}
