//! Comfort over the store port.

use async_trait::async_trait;
use futures_util::future::BoxFuture;

use super::{Session, Storer, Transaction};
use crate::error::StoreError;

/// Comfort for every [`Storer`], also behind `Arc<dyn Storer>`.
#[async_trait]
pub trait StorerExt: Storer {
    /// Runs `work` in a transaction: commits on `Ok`, rolls back on `Err`. The closure gets a
    /// session, so it cannot commit.
    ///
    /// Dropping the future rolls back, except while the commit is under way. Cost on SQL: two
    /// round trips beside those of `work`.
    ///
    /// # Errors
    /// What `work` gives, and what begin and commit give.
    async fn transaction<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send,
        E: From<StoreError> + Send,
        F: for<'s> FnOnce(&'s mut dyn Session) -> BoxFuture<'s, Result<T, E>> + Send,
    {
        let mut transaction: Box<dyn Transaction> = self.begin().await?;
        match work(&mut *transaction).await {
            Ok(value) => {
                transaction.commit().await?;
                Ok(value)
            }
            Err(error) => {
                if let Err(rollback) = transaction.rollback().await {
                    tracing::debug!(error = %rollback, "rollback failed; the database undoes the transaction");
                }
                Err(error)
            }
        }
    }
}

impl<S: Storer + ?Sized> StorerExt for S {}
