//! The stores on SQL databases: PostgreSQL, MySQL, MariaDB and SQLite.
//!
//! The repositories and the algorithms are here, once; `postgres`, `mysql` and `sqlite` hold what
//! differs: connections, schema, the text of statements, and what one database does in a single
//! statement. SQL is static text; only the table prefix is put into it, in `statement`.

// With all databases there is no dead code; each uses some of what is shared.
#![cfg_attr(
    not(all(feature = "postgres", feature = "mysql", feature = "_sqlite")),
    allow(
        dead_code,
        unused_macros,
        unused_imports,
        reason = "used by another database"
    )
)]

mod arg;
mod claim;
mod common;
mod connection;
mod dialect;
mod error;
mod event_repository;
mod fan_out;
mod guards;
mod handler_request_repository;
mod link;
mod look;
mod migrate;
#[cfg(feature = "mysql")]
mod mysql;
mod operations;
mod options;
mod plain;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod pool;
#[cfg(feature = "postgres")]
mod postgres;
mod prefix;
mod prune;
mod query;
mod raise;
mod reach;
mod records;
mod registration_repository;
mod registrations;
mod rename;
mod replay;
mod row;
mod session;
mod settle;
mod shared;
#[cfg(feature = "_sqlite")]
mod sqlite;
mod statement;
mod store;
mod tls;
mod url;
#[cfg(feature = "postgres")]
mod warm_pool;

#[cfg(feature = "mysql")]
pub use mysql::{MySqlOptions, MySqlStore};
#[cfg(feature = "postgres")]
pub use postgres::{PostgresOptions, PostgresStore};
#[cfg(feature = "_sqlite")]
pub use sqlite::{SqliteOptions, SqliteStore};

use chrono::{DateTime, Utc};

use crate::{
    error::Result,
    id::{EventId, HandlerRequestId},
    model::HandlerRequest,
};

/// The time of the database.
async fn now(link: &mut link::Link<'_>) -> Result<DateTime<Utc>> {
    let row = link.row(&link.shared.common.now, arg::args![]).await?;
    match row {
        Some(row) => row.reader("no table").time("now"),
        None => Err(missing_row()),
    }
}

/// What a counting statement answers.
async fn count(
    link: &mut link::Link<'_>,
    statement: &statement::Statement,
    args: Vec<arg::Arg<'_>>,
) -> Result<u64> {
    match link.row(statement, args).await? {
        Some(row) => row.reader("no table").int("count"),
        None => Err(missing_row()),
    }
}

fn missing_row() -> crate::error::StoreError {
    crate::error::StoreError::Backend {
        operation: "read an answer",
        source: "the database answered without a row".into(),
    }
}

/// All requests of an event, in the order of their handlers' names.
async fn requests_of_event(
    link: &mut link::Link<'_>,
    event: EventId,
) -> Result<Vec<HandlerRequest>> {
    let (lowest, highest) = HandlerRequestId::range_of(event);
    let args = arg::args![event.as_uuid(), lowest.as_uuid(), highest.as_uuid()];
    let rows = link
        .rows(&link.shared.common.requests_of_event, args)
        .await?;
    records::Requests::read_all(&rows)
}

/// A duration in microseconds, at most a hundred years, which every database can add to now.
fn micros(duration: std::time::Duration) -> i64 {
    const MAX: std::time::Duration = std::time::Duration::from_secs(100 * 365 * 86_400);
    i64::try_from(duration.min(MAX).as_micros()).unwrap_or(i64::MAX)
}

/// A bound as the databases take it.
fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
