//! What a store on SQLite can be told.

use std::time::Duration;

use crate::sql::options::{Options, common_setters};

/// How a [`SqliteStore`](crate::SqliteStore) connects and works.
///
/// ```
/// use std::time::Duration;
/// use tidings::SqliteOptions;
///
/// let options = SqliteOptions::new()
///     .max_connections(4)
///     .lock_timeout(Duration::from_secs(2))
///     .table_prefix("shop_");
/// # let _ = options;
/// ```
///
/// There is no setting for less durability: a commit is on the disk when it returns.
#[derive(Clone, Debug)]
#[must_use]
pub struct SqliteOptions {
    pub(super) common: Options,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            common: Options {
                // Longer than a transactional handler may take with the default lease.
                lock_timeout: Duration::from_secs(8),
                ..Options::default()
            },
        }
    }
}

impl SqliteOptions {
    common_setters!(shared);

    /// At most this many connections for the calls of processors and executors: 1 to 10000, 4 by
    /// default. Others are refused when the store is made.
    /// They are apart from those of transactions, so that transactional handlers that wait for
    /// their turn to write keep nobody from reading.
    pub const fn session_connections(mut self, connections: u32) -> Self {
        self.common.session_connections = connections;
        self
    }

    /// How long a call waits for its turn to write behind other calls of this process, and after
    /// that for SQLite's lock behind other processes: 1 ms to 24 h, 8 s by default for each, which
    /// is longer than a transactional handler may take with the default lease. Others are refused
    /// when the store is made.
    pub const fn lock_timeout(mut self, limit: Duration) -> Self {
        self.common.lock_timeout = limit;
        self
    }
}
