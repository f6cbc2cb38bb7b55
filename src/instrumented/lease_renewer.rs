//! The renewer of leases.

use async_trait::async_trait;

use crate::{
    error::Result,
    store::{LeaseRenewer, Renewal, Renewed},
    telemetry::Telemetry,
};

pub(super) struct InstrumentedLeaseRenewer {
    pub(super) inner: Box<dyn LeaseRenewer>,
    pub(super) telemetry: Telemetry,
}

#[async_trait]
impl LeaseRenewer for InstrumentedLeaseRenewer {
    async fn renew(&mut self, renewal: &Renewal) -> Result<Renewed> {
        self.telemetry
            .measured("renew", self.inner.renew(renewal), |_| {
                renewal.requests.len()
            })
            .await
    }
}
