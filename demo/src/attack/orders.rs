//! The application: it stores orders, and raises an event for each in the same transaction.

use std::time::Duration;

use tidings::{
    Event, EventId, Raiser,
    sqlx::{
        self, AssertSqlSafe, Connection as _, Executor as _, MySqlConnection, PgConnection,
        types::Uuid,
    },
};

use super::{Result, handlers::ORDERED};
use crate::place::{Place, System};

/// How long an order may take, after which nobody waits for it any more.
const PATIENCE: Duration = Duration::from_secs(3);

/// What became of an order, as far as its application knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Committed,
    /// On purpose, or because something failed before the commit.
    RolledBack,
    /// The answer to the commit never came.
    Unknown,
}

/// A row that a transactional handler has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Effect {
    pub(super) event_id: Uuid,
    pub(super) handler: String,
    pub(super) attempt: i64,
}

/// A connection of the application.
#[derive(Debug)]
pub(super) enum Application {
    Postgres(PgConnection),
    MySql(MySqlConnection),
}

/// Does the same with a connection of each kind.
macro_rules! each {
    ($application:expr, $connection:ident => $do:expr) => {
        match $application {
            Application::Postgres($connection) => $do,
            Application::MySql($connection) => $do,
        }
    };
}

impl Application {
    pub(super) async fn connect(place: &Place) -> Result<Self> {
        let url = &place.url;
        let connecting = async {
            Ok::<_, sqlx::Error>(match place.system {
                System::MySql => Self::MySql(MySqlConnection::connect(url).await?),
                _ => Self::Postgres(PgConnection::connect(url).await?),
            })
        };
        Ok(tokio::time::timeout(PATIENCE, connecting).await??)
    }

    /// Makes the application's tables anew.
    pub(super) async fn make_tables(&mut self) -> Result<()> {
        let uuid = match self {
            Self::Postgres(_) => "uuid",
            Self::MySql(_) => "binary(16)",
        };
        self.run(format!(
            "DROP TABLE IF EXISTS attack_orders; \
             DROP TABLE IF EXISTS attack_effects; \
             CREATE TABLE attack_orders (id {uuid} PRIMARY KEY); \
             CREATE TABLE attack_effects (event_id {uuid} NOT NULL, handler varchar(32) NOT NULL, \
               attempt bigint NOT NULL)"
        ))
        .await
    }

    pub(super) async fn run(&mut self, sql: String) -> Result<()> {
        each!(self, connection => {
            connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
        });
        Ok(())
    }

    /// Stores an order and raises its event; whoever does not commit takes it back. Answers also whether the
    /// connection is good for more: if not, a transaction may still be open on it.
    pub(super) async fn order(
        &mut self,
        raiser: &Raiser,
        id: EventId,
        commits: bool,
    ) -> (Fate, bool) {
        let Ok(event) = Event::new(ORDERED, &()) else {
            return (Fate::RolledBack, false);
        };
        let event = event.with_id(id);
        let prepared = async {
            match self {
                Self::Postgres(connection) => {
                    connection.execute("BEGIN").await?;
                    let insert = sqlx::query("INSERT INTO attack_orders (id) VALUES ($1)");
                    insert.bind(id.as_uuid()).execute(&mut *connection).await?;
                    raiser.raise(connection, event).await?;
                }
                Self::MySql(connection) => {
                    connection.execute("START TRANSACTION").await?;
                    let insert = sqlx::query("INSERT INTO attack_orders (id) VALUES (?)");
                    insert.bind(id.as_uuid()).execute(&mut *connection).await?;
                    raiser.raise(connection, event).await?;
                }
            }
            Result::<()>::Ok(())
        };
        if !matches!(tokio::time::timeout(PATIENCE, prepared).await, Ok(Ok(()))) {
            return (Fate::RolledBack, false);
        }
        let end = if commits { "COMMIT" } else { "ROLLBACK" };
        let ended = async { each!(self, connection => connection.execute(end).await.is_ok()) };
        match tokio::time::timeout(PATIENCE, ended).await {
            Ok(true) if commits => (Fate::Committed, true),
            _ if commits => (Fate::Unknown, false),
            ended => (Fate::RolledBack, ended == Ok(true)),
        }
    }

    /// Ends all other connections to the database.
    pub(super) async fn terminate_others(&mut self) -> Result<()> {
        match self {
            Self::Postgres(connection) => {
                connection
                    .execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                         WHERE pid <> pg_backend_pid() AND datname = current_database()",
                    )
                    .await?;
            }
            Self::MySql(connection) => {
                let others: Vec<(u64,)> = sqlx::query_as(
                    "SELECT CAST(id AS UNSIGNED) FROM information_schema.processlist \
                     WHERE id <> connection_id() AND db = database()",
                )
                .fetch_all(&mut *connection)
                .await?;
                for (id,) in others {
                    // It may have ended by itself.
                    let kill = AssertSqlSafe(format!("KILL CONNECTION {id}"));
                    drop(connection.execute(sqlx::raw_sql(kill)).await);
                }
            }
        }
        Ok(())
    }

    /// The ids of all orders that are stored.
    pub(super) async fn orders(&mut self) -> Result<Vec<Uuid>> {
        let select = "SELECT id FROM attack_orders";
        let rows: Vec<(Uuid,)> =
            each!(self, connection => sqlx::query_as(select).fetch_all(connection).await?);
        Ok(rows.into_iter().map(|(id,)| id).collect())
    }

    /// All rows that handlers have written.
    pub(super) async fn effects(&mut self) -> Result<Vec<Effect>> {
        let select = "SELECT event_id, handler, attempt FROM attack_effects";
        let rows: Vec<(Uuid, String, i64)> =
            each!(self, connection => sqlx::query_as(select).fetch_all(connection).await?);
        let effect = |(event_id, handler, attempt)| Effect {
            event_id,
            handler,
            attempt,
        };
        Ok(rows.into_iter().map(effect).collect())
    }
}
