//! What all connections of one store share.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use super::{
    common::{Common, CommonTexts},
    connection::{Effects, Handle, SqlConnection},
    dialect::Dialect,
    error::{Limits, may_be_starting, silence},
    options::Options,
    prefix::TablePrefix,
    reach::{Found, Reach, TRY_FOR},
};
use crate::{
    error::{Result, StoreError},
    signal::Signals,
};

/// How long to wait before a server that may be starting is tried again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

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
    reach: Reach,
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
            reach: Reach::default(),
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
        let limit = self.limits.acquire;
        let started = Instant::now();
        let acquired = self.acquire_or_find_out(purpose, started).await;
        let error = match acquired {
            Ok(handle) => return Ok(SqlConnection::new(handle, Arc::clone(self))),
            Err(NotAcquired::Failed(error)) => Arc::new(error),
            Err(NotAcquired::TimedOut(found)) => {
                let in_use = self.dialect.in_use(purpose);
                match found {
                    Err(error) => error,
                    Ok(()) if in_use.connections >= in_use.most => {
                        return Err(StoreError::Exhausted {
                            operation,
                            connections: in_use.most,
                            waited: started.elapsed(),
                        });
                    }
                    Ok(()) => return Err(StoreError::TimedOut { operation, limit }),
                }
            }
        };
        Err(self.no_connection(operation, error))
    }

    /// A connection from the pool. While it does not come, it is found out whether any can.
    async fn acquire_or_find_out(
        &self,
        purpose: Purpose,
        started: Instant,
    ) -> Result<Handle, NotAcquired> {
        let limit = self.limits.acquire;
        let end = started + limit;
        let mut acquire = self.dialect.acquire(purpose);
        let try_for = TRY_FOR.min(limit / 2);
        let patience = limit.saturating_sub(try_for);
        let mut found = None;
        let answer = match timeout_at(started + patience, &mut acquire).await {
            Ok(answer) => answer,
            Err(_) => {
                let finds = self.reach.find_out(&*self.dialect, try_for);
                let mut finds = std::pin::pin!(finds);
                let both = async {
                    loop {
                        tokio::select! {
                            biased;
                            answer = &mut acquire => return answer,
                            answer = &mut finds, if found.is_none() => found = Some(answer),
                        }
                    }
                };
                let answer = timeout_at(end, both).await;
                found.get_or_insert_with(|| Err(Arc::new(silence(try_for))));
                answer.unwrap_or(Err(sqlx::Error::PoolTimedOut))
            }
        };
        // What it holds of the pool is not in use.
        drop(acquire);
        match answer {
            Ok(handle) => Ok(handle),
            Err(sqlx::Error::PoolTimedOut) => Err(NotAcquired::TimedOut(match found {
                Some(found) => found,
                // A pool of the application's has less patience.
                None => self.reach.find_out(&*self.dialect, try_for).await,
            })),
            Err(error) => Err(NotAcquired::Failed(error)),
        }
    }

    /// Makes sure that the server is there and admits its user; waits for one that is starting.
    pub(super) async fn check_server(&self) -> Result<()> {
        let give_up_at = Instant::now() + self.limits.acquire;
        let mut cause = None;
        loop {
            let connected = timeout_at(give_up_at, self.dialect.connect()).await;
            let error = match connected {
                Ok(Ok(handle)) => {
                    handle.close().await;
                    return Ok(());
                }
                Ok(Err(error)) => error,
                Err(_) => cause.unwrap_or_else(|| silence(self.limits.acquire)),
            };
            let wait = may_be_starting(&error) && Instant::now() + RECONNECT_PAUSE < give_up_at;
            if !wait {
                return Err(self.no_connection("connect", Arc::new(error)));
            }
            cause = Some(error);
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }

    /// A connection of its own, outside of every pool, that goes past those that wait to write.
    pub(super) async fn connect(self: &Arc<Self>) -> Result<SqlConnection> {
        let limit = self.limits.acquire;
        let connected = tokio::time::timeout(limit, self.dialect.connect()).await;
        let handle = connected
            .unwrap_or_else(|_| Err(silence(limit)))
            .map_err(|error| self.no_connection("connect", Arc::new(error)))?;
        Ok(SqlConnection::new(handle, Arc::clone(self)).going_first())
    }

    fn no_connection(&self, operation: &'static str, error: Arc<sqlx::Error>) -> StoreError {
        let server = self.dialect.server();
        self.limits.connect_error(operation, server, error)
    }
}

/// Why there is no connection.
enum NotAcquired {
    Failed(sqlx::Error),
    /// And whether one could have been made.
    TimedOut(Found),
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("dialect", &self.dialect)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
