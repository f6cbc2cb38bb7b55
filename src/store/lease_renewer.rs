//! The port that keeps leases.

use async_trait::async_trait;

use super::Renewal;
use crate::{error::Result, id::HandlerRequestId};

/// Renews leases, on a thread and a connection of its own.
#[async_trait]
pub trait LeaseRenewer: Send {
    /// Puts off the end of leases, each fenced, and answers which ones are lost: taken by somebody
    /// else, canceled, or ended. A row that another transaction has locked is waited for, or is
    /// renewed next time; it is not lost.
    ///
    /// # Errors
    /// No lease is known to be renewed; the renewer is not used again.
    async fn renew(&mut self, renewal: &Renewal) -> Result<Vec<HandlerRequestId>>;
}
