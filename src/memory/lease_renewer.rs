//! The port that keeps leases.

use async_trait::async_trait;

use super::{connection::MemoryConnection, scope::Scope};
use crate::{
    error::{Result, StoreError},
    id::HandlerRequestId,
    store::{LeaseRenewer, Renewal},
};

pub(super) struct MemoryLeaseRenewer(pub(super) MemoryConnection);

#[async_trait]
impl LeaseRenewer for MemoryLeaseRenewer {
    /// Requests that a transaction has locked delay no other: they are renewed as soon as they are
    /// free. One that stays locked is not lost, since nobody can rescue it meanwhile.
    async fn renew(&mut self, renewal: &Renewal) -> Result<Vec<HandlerRequestId>> {
        let mut lost = Vec::new();
        let renewed = self.0.run("renew leases", |scope| {
            let (gone, locked) = scope.renew(renewal);
            lost = gone;
            locked.map_or(Ok(()), |id| Err(Scope::wait_for(id)))
        });
        match renewed.await {
            Ok(()) | Err(StoreError::TimedOut { .. }) => Ok(lost),
            Err(error) => Err(error),
        }
    }
}
