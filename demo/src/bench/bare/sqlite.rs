//! The references on SQLite.

use std::time::Duration;

use async_trait::async_trait;
use tidings::sqlx::{
    self, Connection as _, Row as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous},
};
use uuid::Uuid;

use super::{Bare, DATA, EVENT, Kind, Made, Sections, common::Reference, json};

/// What begins a transaction that writes: it takes the one write lock, or waits for it, right away.
const BEGIN: &str = "BEGIN IMMEDIATE";

macro_rules! file {
    ($name:literal) => {
        include_str!(concat!("../../../benches/reference/sqlite/", $name, ".sql"))
    };
}

/// A connection and its statements.
pub(super) type SqliteBare = Reference<SqliteConnection>;

/// How applications and references open a file: as durable as the library does.
pub(in crate::bench) fn options(url: &str) -> sqlx::Result<SqliteConnectOptions> {
    let options: SqliteConnectOptions = url.parse()?;
    Ok(options
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(30)))
}

impl SqliteBare {
    pub(super) async fn connect(url: &str, kind: Kind) -> sqlx::Result<Self> {
        let files: &[&str] = match kind {
            Kind::Loop | Kind::LoopUnpinned => &[file!("loop"), file!("transaction")],
            Kind::Raise => &[file!("raise")],
            Kind::Work => &[file!("work")],
        };
        Ok(Self {
            connection: SqliteConnection::connect_with(&options(url)?).await?,
            sections: Sections::of(files),
        })
    }
}

fn made(row: &SqliteRow) -> sqlx::Result<Made> {
    let (event, handler) = (row.try_get(0)?, row.try_get(1)?);
    Ok(Made { event, handler })
}

/// Jobs that a worker is given.
fn jobs(rows: &[SqliteRow]) -> sqlx::Result<Vec<i64>> {
    let read = |row: &SqliteRow| {
        // A worker reads what it is given.
        let _data: &str = row.try_get(1)?;
        row.try_get(0)
    };
    rows.iter().map(read).collect()
}

#[async_trait]
impl Bare for SqliteBare {
    async fn fill(&mut self, count: i64) -> sqlx::Result<()> {
        let fill = sqlx::query(self.sections.get("fill")?)
            .bind(count)
            .bind(DATA);
        fill.execute(&mut self.connection).await?;
        Ok(())
    }

    async fn claim_jobs(&mut self, limit: i64) -> sqlx::Result<Vec<i64>> {
        let claim = sqlx::query(self.sections.get("claim")?).bind(limit);
        jobs(&claim.fetch_all(&mut self.connection).await?)
    }

    async fn raise_many(&mut self, ids: &[Uuid]) -> sqlx::Result<()> {
        let mut tx = self.connection.begin_with(BEGIN).await?;
        let raise = sqlx::query(self.sections.get("many")?).bind(json::events(ids));
        raise.execute(&mut *tx).await?;
        if let Some(queue) = self.sections.find("queue_many") {
            let queue = sqlx::query(queue).bind(json::uuids(ids));
            queue.execute(&mut *tx).await?;
        }
        tx.commit().await
    }

    async fn make_handlers(&mut self, count: i32) -> sqlx::Result<()> {
        for number in 1..=count {
            let make = sqlx::query(self.sections.get("handler")?).bind(number);
            let make = make.bind(format!("handler-{number}")).bind(EVENT);
            make.execute(&mut self.connection).await?;
        }
        Ok(())
    }

    async fn born_leased(&mut self, events: i64, owner: Uuid) -> sqlx::Result<Vec<Made>> {
        let mut tx = self.connection.begin_with(BEGIN).await?;
        let make = sqlx::query(self.sections.get("make_leased")?).bind(events);
        let rows = make.bind(owner).fetch_all(&mut *tx).await?;
        let made: sqlx::Result<Vec<_>> = rows.iter().map(made).collect();
        let made = made?;
        if !made.is_empty() {
            let due = sqlx::query(self.sections.get("due_events")?).bind(events);
            for row in due.fetch_all(&mut *tx).await? {
                let _data: &str = row.try_get(2)?;
            }
            let dequeue = sqlx::query(self.sections.get("dequeue")?).bind(events);
            dequeue.execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(made)
    }

    async fn born_ready(&mut self, events: i64) -> sqlx::Result<u64> {
        let mut tx = self.connection.begin_with(BEGIN).await?;
        let make = sqlx::query(self.sections.get("make_ready")?).bind(events);
        let made = make.execute(&mut *tx).await?.rows_affected();
        let dequeue = sqlx::query(self.sections.get("dequeue")?).bind(events);
        dequeue.execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(made)
    }

    async fn claim(&mut self, limit: i64, handler: i32, owner: Uuid) -> sqlx::Result<Vec<Made>> {
        let claim = sqlx::query(self.sections.get("claim")?).bind(limit);
        let claim = claim.bind(format!("handler-{handler}")).bind(owner);
        let rows = claim.fetch_all(&mut self.connection).await?;
        let read = |row: &SqliteRow| {
            let _data: &str = row.try_get(2)?;
            made(row)
        };
        rows.iter().map(read).collect()
    }

    async fn settle(&mut self, made: &[Made], owner: Uuid) -> sqlx::Result<()> {
        let settle = sqlx::query(self.sections.get("settle")?);
        let settle = settle.bind(json::made(made)).bind(owner);
        settle.execute(&mut self.connection).await?;
        Ok(())
    }
}
