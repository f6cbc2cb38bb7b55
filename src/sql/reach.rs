//! Whether the database can be reached at all: of a connection that could not be had in time a pool
//! does not tell why.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::{connection::Handle, dialect::Dialect, error::silence};

/// How long the database is tried, at the end of the wait for a connection.
pub(super) const TRY_FOR: Duration = Duration::from_secs(1);

/// What one call has found is true for all that ask within this time: however many wait in vain,
/// the database sees one connection a second.
const TRUE_FOR: Duration = Duration::from_secs(1);

/// Connections to find out whether the database can be reached, one at a time.
#[derive(Debug, Default)]
pub(super) struct Reach {
    last: Mutex<Option<(Instant, Found)>>,
}

/// Why no connection could be made, if none could.
pub(super) type Found = Result<(), Arc<sqlx::Error>>;

impl Reach {
    /// Whether a connection can be made outside of the pool.
    pub(super) async fn find_out(&self, dialect: &dyn Dialect, limit: Duration) -> Found {
        let found = timeout(limit, async {
            let mut last = self.last.lock().await;
            if let Some((at, found)) = &*last
                && at.elapsed() < TRUE_FOR
            {
                return found.clone();
            }
            let found = match dialect.connect().await {
                Ok(handle) => {
                    handle.close().await;
                    Ok(())
                }
                Err(error) => Err(Arc::new(error)),
            };
            *last = Some((Instant::now(), found.clone()));
            found
        });
        found
            .await
            .unwrap_or_else(|_| Err(Arc::new(silence(limit))))
    }
}

/// How many connections of a pool are in use, and how many it may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct InUse {
    pub(super) connections: u32,
    pub(super) most: u32,
}

impl InUse {
    pub(super) fn of<DB: sqlx::Database>(pool: &sqlx::Pool<DB>) -> Self {
        let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
        Self {
            connections: pool.size().saturating_sub(idle),
            most: pool.options().get_max_connections(),
        }
    }
}

impl Handle {
    /// Says goodbye, so that the server does not report a lost connection.
    pub(super) async fn close(self) {
        let closed = match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(held) => held.close().await,
            #[cfg(feature = "mysql")]
            Self::MySql(held) => held.close().await,
            #[cfg(feature = "_sqlite")]
            Self::Sqlite(held, _) => held.close().await,
        };
        if let Err(error) = closed {
            tracing::debug!(%error, "could not close a connection");
        }
    }
}
