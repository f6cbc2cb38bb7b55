//! The demo's own table: the tallies, one for all demos on a database.
//!
//! A tally is 256 rows that are summed up when it is read. Were it one row, every handler that
//! counts would wait for the commit of the one before, in all processes: a row stays locked until
//! its transaction ends. So each event counts in the row that the last byte of its id names, which
//! is random: 40 transactions at once (10 connections in each of 4 processes) seldom meet, and one
//! that meets another waits for one commit. A handler changes one of these rows and then settles
//! its request, which nobody holds who waits for a tally, so there is no deadlock. All rows are
//! there from the beginning, since two that insert the same row can deadlock on MySQL. A row for
//! each happening would need no such care, but reading a tally would cost ever more.

use async_trait::async_trait;
use tidings::{
    Result, StoreError,
    sqlx::{self, AssertSqlSafe, MySqlConnection, PgConnection, Row as _, SqliteConnection},
    store::{Connection, Storer},
};

use crate::tallies::{Counts, Tally};

/// The rows of one tally: as many as a byte has values.
const SHARDS: usize = 256;

/// A connection to a database with the demo's table.
#[async_trait]
pub(crate) trait TallyConnection: Send + Sized + 'static {
    /// Whether a change of the schema ends the transaction that it is in.
    const SCHEMA_COMMITS: bool;

    /// Makes the table with all its rows, if it is not complete. In a transaction, unless a change
    /// of the schema ends one.
    async fn create(&mut self) -> sqlx::Result<()>;

    /// Counts `amount` more in one row; answers how many rows were changed.
    async fn add(&mut self, tally: Tally, shard: u8, amount: i64) -> sqlx::Result<u64>;

    /// All tallies. Cost: one round trip, and as many rows as there ever are.
    async fn read(&mut self) -> sqlx::Result<Counts>;
}

macro_rules! tally_connection {
    ($connection:ty, $file:literal, $schema_commits:literal, $lock:expr, $insert:literal, $sum:literal, $add:literal) => {
        #[async_trait]
        impl TallyConnection for $connection {
            const SCHEMA_COMMITS: bool = $schema_commits;

            async fn create(&mut self) -> sqlx::Result<()> {
                for statement in $lock {
                    sqlx::query(statement).execute(&mut *self).await?;
                }
                sqlx::raw_sql(include_str!($file))
                    .execute(&mut *self)
                    .await?;
                let rows: i64 = sqlx::query("SELECT count(*) FROM demo_tallies")
                    .fetch_one(&mut *self)
                    .await?
                    .try_get(0)?;
                if usize::try_from(rows).is_ok_and(|rows| rows >= Tally::ALL.len() * SHARDS) {
                    return Ok(());
                }
                // Names and numbers of this program only.
                let insert = AssertSqlSafe(insert($insert));
                sqlx::query(insert).execute(&mut *self).await?;
                Ok(())
            }

            async fn add(&mut self, tally: Tally, shard: u8, amount: i64) -> sqlx::Result<u64> {
                let done = sqlx::query($add)
                    .bind(amount)
                    .bind(tally.name())
                    .bind(i16::from(shard))
                    .execute(self)
                    .await?;
                Ok(done.rows_affected())
            }

            async fn read(&mut self) -> sqlx::Result<Counts> {
                let rows = sqlx::query($sum).fetch_all(self).await?;
                let mut counts = Counts::default();
                for row in rows {
                    let (name, sum): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
                    if let Some(tally) = Tally::ALL.into_iter().find(|tally| tally.name() == name) {
                        *counts.of_mut(tally) = sum;
                    }
                }
                Ok(counts)
            }
        }
    };
}

// IF NOT EXISTS does not keep two from creating the same table on PostgreSQL, so a lock does.
tally_connection!(
    PgConnection,
    "../../migrations/postgres.sql",
    false,
    ["SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || '.demo_tallies', 0))"],
    "INSERT INTO",
    "SELECT tally, sum(amount)::bigint FROM demo_tallies GROUP BY tally",
    "UPDATE demo_tallies SET amount = amount + $1 WHERE tally = $2 AND shard = $3"
);

// A second one that finds the table without rows waits for those of the first one.
tally_connection!(
    MySqlConnection,
    "../../migrations/mysql.sql",
    true,
    [] as [&str; 0],
    "INSERT IGNORE INTO",
    "SELECT tally, CAST(sum(amount) AS SIGNED) FROM demo_tallies GROUP BY tally",
    "UPDATE demo_tallies SET amount = amount + ? WHERE tally = ? AND shard = ?"
);

// A transaction of the store is the only one that writes.
tally_connection!(
    SqliteConnection,
    "../../migrations/sqlite.sql",
    false,
    [] as [&str; 0],
    "INSERT INTO",
    "SELECT tally, sum(amount) FROM demo_tallies GROUP BY tally",
    "UPDATE demo_tallies SET amount = amount + ? WHERE tally = ? AND shard = ?"
);

/// The statement that inserts every row.
fn insert(insert: &str) -> String {
    let rows = Tally::ALL.into_iter().flat_map(|tally| {
        (0..SHARDS).map(move |shard| format!("('{}', {shard}, 0)", tally.name()))
    });
    let rows: Vec<_> = rows.collect();
    format!(
        "{insert} demo_tallies (tally, shard, amount) VALUES {}",
        rows.join(", ")
    )
}

/// Makes the table, if it is not there.
pub(super) async fn create<C: TallyConnection>(store: &dyn Storer) -> Result<()> {
    if C::SCHEMA_COMMITS {
        let mut session = store.session().await?;
        return create_on::<C>(session.connection()).await;
    }
    let mut transaction = store.begin().await?;
    create_on::<C>(transaction.connection()).await?;
    transaction.commit().await
}

async fn create_on<C: TallyConnection>(connection: Connection<'_>) -> Result<()> {
    const DOING: &str = "create the table of tallies";
    let connection = connection.downcast::<C>();
    let connection = connection.ok_or_else(|| another_connection(DOING))?;
    let created = connection.create().await;
    created.map_err(|error| store_error(DOING, error))
}

/// All tallies of a store. Cost: three round trips.
pub(crate) async fn tallies_of<C: TallyConnection>(store: &dyn Storer) -> Result<Counts> {
    const DOING: &str = "read the tallies";
    let mut transaction = store.begin().await?;
    let connection = transaction.connection().downcast::<C>();
    let connection = connection.ok_or_else(|| another_connection(DOING))?;
    let counts = connection.read().await;
    let counts = counts.map_err(|error| store_error(DOING, error))?;
    transaction.rollback().await?;
    Ok(counts)
}

fn another_connection(operation: &'static str) -> StoreError {
    StoreError::Backend {
        operation,
        source: "the store gave a connection to another database".into(),
    }
}

/// What the database refuses for good has the SQLSTATE of a wrong statement, 42; everything else
/// may pass.
fn store_error(operation: &'static str, error: sqlx::Error) -> StoreError {
    let is_wrong = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .is_some_and(|code| code.starts_with("42"));
    if is_wrong {
        StoreError::Backend {
            operation,
            source: error.into(),
        }
    } else {
        StoreError::Unavailable {
            operation,
            source: Some(error.into()),
        }
    }
}
