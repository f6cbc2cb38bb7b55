//! The port that hears of others' work.

use async_trait::async_trait;

use crate::error::Result;

/// Hears of work that other processes or foreign transactions made, on a connection of its own.
#[async_trait]
pub trait Listener: Send {
    /// Raises the store's [`signals`](super::Storer::signals) whenever it hears of work, until it
    /// fails.
    ///
    /// Whoever listens relies on it, so a listener tests its connection through: one that is half
    /// open, or in which nothing arrives any more, must fail within seconds, for example by the
    /// keepalive of its transport and a time limit on what it sends. It is called once; when its
    /// future is dropped, so is the listener.
    ///
    /// # Errors
    /// The connection was lost, or is not tested through any more.
    async fn listen(&mut self) -> Result<()>;
}
