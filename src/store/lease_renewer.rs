//! The port that keeps leases.

use async_trait::async_trait;

use super::{Renewal, Renewed};
use crate::error::Result;

/// Renews leases, on a thread and a connection of its own.
#[async_trait]
pub trait LeaseRenewer: Send {
    /// Puts off the end of leases, each fenced, and answers which claims are lost: taken by somebody
    /// else, canceled, or ended. One request may be asked for with several attempts, of which the
    /// latest can be held.
    ///
    /// It never waits for a row: one that a transaction has locked is neither renewed nor lost but
    /// skipped. It cannot be rescued before it is free, but may be as soon as it is.
    async fn renew(&mut self, renewal: &Renewal) -> Result<Renewed>;
}
