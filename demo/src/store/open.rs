//! Opening a store: connected, migrated, with the demo's own table.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use tidings::{
    MemoryStore, MySqlOptions, MySqlStore, PostgresOptions, PostgresStore, Result, SqliteOptions,
    SqliteStore, StoreError,
    sqlx::{MySqlConnection, PgConnection, SqliteConnection},
};

use tokio::time::sleep;

use super::{Database, Patience, Pauses, tables, url::Target};
use crate::{failure::Failure, screen::Screen, tallies::Tallies};

/// When to tell that it takes long: an attempt may take seconds, and is made again.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// Opens the store, and makes its tables if they are not there. A database that is away is waited
/// for, and told about.
///
/// Cancellation safe.
pub(crate) async fn open(
    target: Target<'_>,
    patience: Patience,
    screen: &Screen,
) -> Result<(Database, Tallies), Failure> {
    let mut opening = pin!(open_patiently(target, patience));
    tokio::select! {
        opened = &mut opening => return opened,
        () = sleep(TELL_AFTER) => {}
    }
    let seconds = patience.0.as_secs();
    screen.complain(&format!("waiting up to {seconds} s for the store {target}"));
    opening.await
}

async fn open_patiently(
    target: Target<'_>,
    patience: Patience,
) -> Result<(Database, Tallies), Failure> {
    let start = Instant::now();
    let mut pauses = Pauses::default();
    loop {
        let source = match open_once(target).await {
            Ok(opened) => return Ok(opened),
            Err(error) => error,
        };
        if !source.is_transient() || start.elapsed() >= patience.0 {
            let store = target.to_string();
            return Err(Failure::Open { store, source });
        }
        pauses.pause().await;
    }
}

async fn open_once(target: Target<'_>) -> Result<(Database, Tallies), StoreError> {
    let (database, tallies) = match target {
        Target::Memory => return Ok((Database::Memory(MemoryStore::new()), Tallies::memory())),
        Target::Postgres(url) => {
            let store = PostgresStore::connect(url, PostgresOptions::new()).await?;
            (Database::Postgres(store), Tallies::Postgres)
        }
        Target::Sqlite(url) => {
            let store = SqliteStore::connect(url, SqliteOptions::new()).await?;
            (Database::Sqlite(store), Tallies::Sqlite)
        }
        Target::MySql(url) => {
            let store = MySqlStore::connect(url, MySqlOptions::new()).await?;
            (Database::MySql(store), Tallies::MySql)
        }
    };
    database.migrate().await?;
    let storer = database.storer();
    match tallies {
        Tallies::Memory(_) => {}
        Tallies::Sqlite => tables::create::<SqliteConnection>(&*storer).await?,
        Tallies::MySql => tables::create::<MySqlConnection>(&*storer).await?,
        Tallies::Postgres => tables::create::<PgConnection>(&*storer).await?,
    }
    Ok((database, tallies))
}
