//! The port that keeps leases.

use async_trait::async_trait;

use super::Renewal;
use crate::{error::Result, id::HandlerRequestId};

/// Renews leases, on a thread and a connection of its own.
#[async_trait]
pub trait LeaseRenewer: Send {
    /// Puts off the end of leases, each fenced, and answers which ones are lost: taken by somebody
    /// else, canceled, or ended.
    async fn renew(&mut self, renewal: &Renewal) -> Result<Vec<HandlerRequestId>>;
}
