//! What every SQL store can be told.

use std::{ops::RangeInclusive, time::Duration};

use super::{error::Limits, prefix::TablePrefix};
use crate::error::{Result, StoreError};

/// How many connections a pool may have. A pool of none cannot be made.
const CONNECTIONS: RangeInclusive<u32> = 1..=10_000;
/// How long a time-out may be: databases count in milliseconds and take no more than some days, and
/// a time that is too far away cannot be told.
const TIMEOUTS: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(24 * 60 * 60);

/// The options that all databases have; each store documents its own setters of them.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) max_connections: u32,
    pub(super) session_connections: u32,
    pub(super) acquire_timeout: Duration,
    pub(super) statement_timeout: Duration,
    pub(super) lock_timeout: Duration,
    pub(super) table_prefix: Option<String>,
    pub(super) prepared_statements: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            // As many as a scheduler has workers, which may all run transactional handlers.
            max_connections: 16,
            session_connections: 6,
            acquire_timeout: Duration::from_secs(5),
            // Less than a scheduler waits for a call, so that the database answers first.
            statement_timeout: Duration::from_secs(8),
            lock_timeout: Duration::from_secs(5),
            table_prefix: None,
            prepared_statements: true,
        }
    }
}

impl Options {
    /// Refuses options that no store can work with, before anything is opened; answers the prefix.
    pub(super) fn check(&self) -> Result<TablePrefix> {
        for (name, connections) in [
            ("max_connections", self.max_connections),
            ("session_connections", self.session_connections),
        ] {
            if !CONNECTIONS.contains(&connections) {
                return Err(StoreError::invalid(
                    format!("the store's option `{name}`"),
                    format!("is out of range ({connections})"),
                    "let it be 1 to 10000",
                ));
            }
        }
        for (name, timeout) in [
            ("acquire_timeout", self.acquire_timeout),
            ("statement_timeout", self.statement_timeout),
            ("lock_timeout", self.lock_timeout),
        ] {
            if !TIMEOUTS.contains(&timeout) {
                return Err(StoreError::invalid(
                    format!("the store's option `{name}`"),
                    format!("is out of range ({timeout:?})"),
                    "let it be 1 ms to 24 h",
                ));
            }
        }
        match &self.table_prefix {
            Some(prefix) => TablePrefix::parse(prefix),
            None => Ok(TablePrefix::default()),
        }
    }

    pub(super) const fn limits(&self) -> Limits {
        Limits {
            acquire: self.acquire_timeout,
            statement: self.statement_timeout,
            lock: self.lock_timeout,
        }
    }
}

/// The setters of the options that all databases have.
macro_rules! common_setters {
    // Those that mean the same everywhere.
    (shared) => {
        /// The options as they are by default.
        pub fn new() -> Self {
            Self::default()
        }

        /// At most this many connections for transactions, sessions and the application's own use
        /// of the store: 1 to 10000, 16 by default. Others are refused when the store is made. See
        /// the documentation of the store for what it opens beside these.
        pub const fn max_connections(mut self, connections: u32) -> Self {
            self.common.max_connections = connections;
            self
        }

        /// How long a call waits for a connection: 1 ms to 24 h, 5 s by default. Others are refused
        /// when the store is made.
        pub const fn acquire_timeout(mut self, limit: std::time::Duration) -> Self {
            self.common.acquire_timeout = limit;
            self
        }

        /// How long a statement of the store may take: 1 ms to 24 h, 8 s by default, which is less
        /// than a scheduler waits for a call. Others are refused when the store is made. A
        /// connection whose statement took longer is closed.
        pub const fn statement_timeout(mut self, limit: std::time::Duration) -> Self {
            self.common.statement_timeout = limit;
            self
        }

        /// What the names of the store's tables begin with; `tidings_` by default. It has 1 to 31
        /// characters of a-z, 0-9 and _, and does not begin with a digit; another one is refused
        /// when the store is made.
        pub fn table_prefix(mut self, prefix: impl Into<String>) -> Self {
            self.common.table_prefix = Some(prefix.into());
            self
        }
    };
    () => {
        $crate::sql::options::common_setters!(shared);

        /// How long a statement waits for a lock that another transaction has: 1 ms to 24 h, 5 s by
        /// default. Others are refused when the store is made.
        pub const fn lock_timeout(mut self, limit: std::time::Duration) -> Self {
            self.common.lock_timeout = limit;
            self
        }

        /// Whether statements are prepared once for each connection, which is faster; true by
        /// default. Switch it off behind a pooler that does not keep track of prepared statements.
        pub const fn prepared_statements(mut self, prepared: bool) -> Self {
            self.common.prepared_statements = prepared;
            self
        }
    };
}

pub(super) use common_setters;
