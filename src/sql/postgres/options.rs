//! What a store on PostgreSQL can be told.

use crate::sql::options::{Options, common_setters};

/// How a [`PostgresStore`](crate::PostgresStore) connects and works.
///
/// ```
/// use std::time::Duration;
/// use tidings::PostgresOptions;
///
/// let options = PostgresOptions::new()
///     .max_connections(20)
///     .lock_timeout(Duration::from_secs(2))
///     .table_prefix("shop_");
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct PostgresOptions {
    pub(super) common: Options,
    pub(super) transaction_pooler: bool,
    pub(super) listen: bool,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            common: Options::default(),
            transaction_pooler: false,
            listen: true,
        }
    }
}

impl PostgresOptions {
    common_setters!();

    /// At most this many connections for the calls of processors and executors: 1 to 10000, 6 by
    /// default. Others are refused when the store is made. Their settings pin the plans of the
    /// store's statements, so handlers get none of them.
    pub const fn session_connections(mut self, connections: u32) -> Self {
        self.common.session_connections = connections;
        self
    }

    /// Whether a pooler that gives each transaction another connection of the server (PgBouncer
    /// with `pool_mode = transaction`) stands between; false by default. Then nothing is kept in
    /// the connection: every call is a transaction, in which plans are pinned, which costs two round
    /// trips more, or three; statements are not prepared, and there is no [listening](Self::listen).
    /// Pools of the application need `PgConnectOptions::extra_float_digits(None)`, which PgBouncer
    /// else refuses, and queries in transactions.
    pub const fn transaction_pooler(mut self, pooler: bool) -> Self {
        self.transaction_pooler = pooler;
        if pooler {
            self.listen = false;
            self.common.prepared_statements = false;
        }
        self
    }

    /// Whether schedulers hear of events that other processes raise, by LISTEN and NOTIFY; true by
    /// default. It takes one connection. Without it they poll.
    pub const fn listen(mut self, listen: bool) -> Self {
        self.listen = listen;
        self
    }
}
