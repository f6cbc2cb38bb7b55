//! The pools that a store opens itself.

use std::time::Duration;

use sqlx::{Connection as _, Database, pool::PoolOptions};

use super::options::Options;

/// A connection that came back to its pool within this time was tested then, and is not tested
/// again: that would be a round trip more for each call of a scheduler. Of a server that restarts
/// meanwhile, each such connection fails one call, as those do that are under way.
pub(super) const FRESH: Duration = Duration::from_secs(1);

/// A pool of at most so many connections.
pub(super) fn pool<DB: Database>(options: &Options, max_connections: u32) -> PoolOptions<DB> {
    PoolOptions::new()
        .acquire_timeout(options.acquire_timeout)
        .max_connections(max_connections)
        .test_before_acquire(false)
        .before_acquire(|connection: &mut DB::Connection, about| {
            Box::pin(async move { Ok(about.idle_for < FRESH || connection.ping().await.is_ok()) })
        })
}
