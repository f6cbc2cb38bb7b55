//! Connections of an application that raises in its own transactions.

use async_trait::async_trait;
use tidings::{
    Event, Raiser,
    sqlx::{
        self, AssertSqlSafe, Connection as _, Executor as _, MySqlConnection, PgConnection,
        SqliteConnection,
    },
};

use crate::bench::{Result, bare::sqlite};
use crate::place::{Place, System};

/// A connection of an application.
#[async_trait]
pub(super) trait Application: Send {
    /// Raises an event in a transaction of its own.
    async fn raise(&mut self, raiser: &Raiser, event: Event) -> Result<()>;

    /// Raises events, all at once.
    async fn raise_all(&mut self, raiser: &Raiser, events: Vec<Event>) -> Result<()>;

    /// Runs statements of this program.
    async fn run(&mut self, sql: String) -> Result<()>;

    /// The number that a statement answers.
    async fn number(&mut self, sql: &'static str) -> Result<i64>;

    /// Ends the connection, so that the server knows it.
    async fn close(self: Box<Self>) -> Result<()>;
}

/// Opens a connection.
pub(super) async fn connect(place: &Place) -> Result<Box<dyn Application>> {
    let url = &place.url;
    Ok(match place.system {
        System::Postgres => Box::new(PgConnection::connect(url).await?),
        System::Sqlite => Box::new(SqliteConnection::connect_with(&sqlite::options(url)?).await?),
        System::MySql => Box::new(MySqlConnection::connect(url).await?),
    })
}

macro_rules! application {
    ($connection:ty, $begin:literal, $raises_alone:literal) => {
        #[async_trait]
        impl Application for $connection {
            async fn raise(&mut self, raiser: &Raiser, event: Event) -> Result<()> {
                let mut tx = self.begin_with($begin).await?;
                raiser.raise(&mut *tx, event).await?;
                tx.commit().await?;
                Ok(())
            }

            async fn raise_all(&mut self, raiser: &Raiser, events: Vec<Event>) -> Result<()> {
                if $raises_alone {
                    raiser.raise_all(self, events).await?;
                    return Ok(());
                }
                let mut tx = self.begin_with($begin).await?;
                raiser.raise_all(&mut *tx, events).await?;
                tx.commit().await?;
                Ok(())
            }

            async fn run(&mut self, sql: String) -> Result<()> {
                self.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
                Ok(())
            }

            async fn number(&mut self, sql: &'static str) -> Result<i64> {
                Ok(sqlx::query_scalar(sql).fetch_one(self).await?)
            }

            async fn close(self: Box<Self>) -> Result<()> {
                (*self).close().await?;
                Ok(())
            }
        }
    };
}

// One statement raises all of them there; elsewhere it takes several.
application!(PgConnection, "BEGIN", true);
application!(SqliteConnection, "BEGIN IMMEDIATE", false);
application!(MySqlConnection, "START TRANSACTION", false);
