//! What all connections of one store share.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    common::{Common, CommonTexts},
    connection::{Effects, Handle, SqlConnection},
    dialect::Dialect,
    error::Limits,
    options::Options,
    prefix::TablePrefix,
};
use crate::{error::Result, signal::Signals};

/// A store's database, its limits and its wake-ups.
pub(super) struct Shared {
    pub(super) dialect: Box<dyn Dialect>,
    /// The statements that all databases have.
    pub(super) common: Common,
    pub(super) limits: Limits,
    pub(super) signals: Signals,
    /// Whether statements are prepared once for a connection. A pooler that gives each transaction
    /// another connection of the server may lose them.
    pub(super) prepares: bool,
    pub(super) prefix: TablePrefix,
    /// Whether the schema was found to fit.
    pub(super) is_checked: AtomicBool,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Calls of the store itself, whose plans are pinned.
    Session,
    /// Transactions, in which handlers run statements of their own.
    Transaction,
}

impl Shared {
    pub(super) fn new(
        dialect: Box<dyn Dialect>,
        common: &CommonTexts,
        prefix: TablePrefix,
        options: &Options,
    ) -> Arc<Self> {
        Arc::new(Self {
            dialect,
            common: common.fill(&prefix),
            limits: options.limits(),
            signals: Signals::default(),
            prepares: options.prepared_statements,
            prefix,
            is_checked: AtomicBool::new(false),
        })
    }

    /// A connection from the pool. Before the first one, the schema is checked.
    pub(super) async fn acquire(self: &Arc<Self>, purpose: Purpose) -> Result<SqlConnection> {
        if !self.is_checked.load(Ordering::Acquire) {
            super::migrate::check(self).await?;
        }
        let operation = match purpose {
            Purpose::Session => "open a session",
            Purpose::Transaction => "begin a transaction",
        };
        self.acquire_for(purpose, operation).await
    }

    /// A connection from the pool, whatever the schema is like.
    pub(super) async fn acquire_unchecked(
        self: &Arc<Self>,
        operation: &'static str,
    ) -> Result<SqlConnection> {
        self.acquire_for(Purpose::Session, operation).await
    }

    /// Tells this process and others of what was done, once they can see it.
    pub(super) fn tell(&self, effects: Effects) {
        if !effects.is_empty() {
            effects.signal(&self.signals);
            self.dialect.tell(effects);
        }
    }

    async fn acquire_for(
        self: &Arc<Self>,
        purpose: Purpose,
        operation: &'static str,
    ) -> Result<SqlConnection> {
        self.connection(operation, self.dialect.acquire(purpose))
            .await
    }

    /// A connection of its own, outside of every pool, that goes past those that wait to write.
    pub(super) async fn connect(self: &Arc<Self>) -> Result<SqlConnection> {
        let connection = self.connection("connect", self.dialect.connect()).await?;
        Ok(connection.going_first())
    }

    async fn connection(
        self: &Arc<Self>,
        operation: &'static str,
        handle: impl Future<Output = sqlx::Result<Handle>>,
    ) -> Result<SqlConnection> {
        let handle = match tokio::time::timeout(self.limits.acquire, handle).await {
            Ok(Ok(handle)) => handle,
            Ok(Err(error)) => return Err(self.limits.error(operation, error)),
            Err(_) => return Err(self.limits.error(operation, sqlx::Error::PoolTimedOut)),
        };
        Ok(SqlConnection::new(handle, Arc::clone(self)))
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("dialect", &self.dialect)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
