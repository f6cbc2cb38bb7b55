//! What a store on MySQL or MariaDB can be told.

use crate::sql::options::{Options, common_setters};

/// How a [`MySqlStore`](crate::MySqlStore) connects and works.
///
/// ```
/// use std::time::Duration;
/// use tidings::MySqlOptions;
///
/// let options = MySqlOptions::new()
///     .max_connections(20)
///     .lock_timeout(Duration::from_secs(2))
///     .table_prefix("shop_");
/// # let _ = options;
/// ```
///
/// The lock time-out becomes `innodb_lock_wait_timeout`, which counts whole seconds: it is rounded
/// up, and at least one.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct MySqlOptions {
    pub(super) common: Options,
}

impl MySqlOptions {
    common_setters!();

    /// At most this many connections for the calls of processors and executors: 1 to 10000, 6 by
    /// default. Others are refused when the store is made. Handlers get none of them, so their
    /// transactions never keep a settlement waiting.
    pub const fn session_connections(mut self, connections: u32) -> Self {
        self.common.session_connections = connections;
        self
    }
}
