//! The tables of the library under measurement, which are nobody else's.

use super::{
    application,
    names::{TABLES, drop_functions},
};
use crate::bench::Result;
use crate::place::{Place, System};

/// Tables whose rows come and go.
const BUSY: [&str; 3] = ["events", "unprocessed_events", "handler_requests"];

/// Drops the tables with this prefix.
pub(crate) async fn drop_all(place: &Place, prefix: &str) -> Result<()> {
    // And that into which its handlers write here.
    let mut all: Vec<_> = TABLES
        .iter()
        .chain(&["effects"])
        .map(|table| format!("DROP TABLE IF EXISTS {prefix}{table}"))
        .collect();
    match place.system {
        System::Postgres => {
            all.insert(0, drop_functions(prefix));
        }
        System::MySql => all.push(format!("DROP TABLE IF EXISTS {prefix}locks")),
        System::Sqlite => {}
    }
    run(place, all.join("; ")).await
}

/// Fresh statistics, and nothing left to be cleaned up, as references have it.
pub(super) async fn bring_to_rest(place: &Place, prefix: &str) -> Result<()> {
    let tables = BUSY.map(|table| format!("{prefix}{table}"));
    match place.system {
        System::Postgres => {
            for table in tables {
                run(place, format!("VACUUM (ANALYZE) {table}")).await?;
            }
            Ok(())
        }
        System::MySql => run(place, format!("ANALYZE TABLE {}", tables.join(", "))).await,
        System::Sqlite => {
            let tables = tables.map(|table| format!("ANALYZE {table}"));
            let all = format!("{}; PRAGMA wal_checkpoint(TRUNCATE)", tables.join("; "));
            run(place, all).await
        }
    }
}

/// Runs statements on a connection of their own.
pub(super) async fn run(place: &Place, sql: String) -> Result<()> {
    let mut connection = application::connect(place).await?;
    connection.run(sql).await?;
    connection.close().await
}
