//! The references on MySQL and MariaDB.

use async_trait::async_trait;
use tidings::sqlx::{
    self, Connection as _, MySql, MySqlConnection, Row as _, Transaction, mysql::MySqlRow,
};
use uuid::Uuid;

use super::{
    Bare, DATA, EVENT, Kind, Made, Sections,
    common::{Common as _, Reference},
    json::{self, numbers},
};

macro_rules! file {
    ($name:literal) => {
        include_str!(concat!("../../../benches/reference/mysql/", $name, ".sql"))
    };
}

/// A connection and its statements.
pub(super) type MySqlBare = Reference<MySqlConnection>;

impl MySqlBare {
    pub(super) async fn connect(url: &str, kind: Kind) -> sqlx::Result<Self> {
        let files: &[&str] = match kind {
            Kind::Loop | Kind::LoopUnpinned => &[file!("loop"), file!("transaction")],
            Kind::Raise => &[file!("raise")],
            Kind::Work => &[file!("work")],
        };
        let mut this = Self {
            connection: MySqlConnection::connect(url).await?,
            sections: Sections::of(files),
        };
        this.run("pin").await?;
        Ok(this)
    }
}

/// Jobs that a worker is given.
fn jobs(rows: &[MySqlRow]) -> sqlx::Result<Vec<i64>> {
    let read = |row: &MySqlRow| {
        // A worker reads what it is given.
        let _data: &str = row.try_get(1)?;
        row.try_get(0)
    };
    rows.iter().map(read).collect()
}

fn uuids(rows: &[MySqlRow]) -> sqlx::Result<Vec<Uuid>> {
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Reads the events of requests, as whoever executes them does.
async fn read_events(
    tx: &mut Transaction<'_, MySql>,
    sections: &Sections,
    ids: &str,
) -> sqlx::Result<Vec<Uuid>> {
    let events = sqlx::query(sections.get("events")?).bind(ids);
    let rows = events.fetch_all(&mut **tx).await?;
    for row in &rows {
        let _data: &str = row.try_get(2)?;
    }
    uuids(&rows)
}

#[async_trait]
impl Bare for MySqlBare {
    async fn fill(&mut self, count: i64) -> sqlx::Result<()> {
        let all: Vec<_> = (1..=count).collect();
        for part in all.chunks(1000) {
            let fill = sqlx::query(self.sections.get("fill")?).bind(DATA);
            fill.bind(numbers(part))
                .execute(&mut self.connection)
                .await?;
        }
        Ok(())
    }

    async fn claim_jobs(&mut self, limit: i64) -> sqlx::Result<Vec<i64>> {
        let mut tx = self.connection.begin().await?;
        let ids = sqlx::query(self.sections.get("claim_ids")?).bind(limit);
        let ids = jobs(&ids.fetch_all(&mut *tx).await?)?;
        if !ids.is_empty() {
            let claim = sqlx::query(self.sections.get("claim")?);
            claim.bind(numbers(&ids)).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(ids)
    }

    async fn raise_many(&mut self, ids: &[Uuid]) -> sqlx::Result<()> {
        let raise = sqlx::query(self.sections.get("many")?).bind(json::events(ids));
        let Some(queue) = self.sections.find("queue_many") else {
            raise.execute(&mut self.connection).await?;
            return Ok(());
        };
        let mut tx = self.connection.begin().await?;
        raise.execute(&mut *tx).await?;
        let queue = sqlx::query(queue).bind(json::uuids(ids));
        queue.execute(&mut *tx).await?;
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
        let mut tx = self.connection.begin().await?;
        let due = sqlx::query(self.sections.get("due")?).bind(events);
        let due = uuids(&due.fetch_all(&mut *tx).await?)?;
        if due.is_empty() {
            tx.commit().await?;
            return Ok(Vec::new());
        }
        let ids = json::uuids(&due);
        let make = sqlx::query(self.sections.get("make_leased")?).bind(owner);
        make.bind(&ids).execute(&mut *tx).await?;
        let dequeue = sqlx::query(self.sections.get("dequeue")?);
        dequeue.bind(&ids).execute(&mut *tx).await?;
        let handlers = sqlx::query_scalar(self.sections.get("handlers_of_event")?);
        let handlers: Vec<i32> = handlers.bind(EVENT.as_bytes()).fetch_all(&mut *tx).await?;
        let events = read_events(&mut tx, &self.sections, &ids).await?;
        tx.commit().await?;
        let made = |event: Uuid| {
            let handlers = handlers.iter();
            handlers.map(move |&handler| Made { event, handler })
        };
        Ok(events.into_iter().flat_map(made).collect())
    }

    async fn born_ready(&mut self, events: i64) -> sqlx::Result<u64> {
        let mut tx = self.connection.begin().await?;
        let due = sqlx::query(self.sections.get("due")?).bind(events);
        let due = uuids(&due.fetch_all(&mut *tx).await?)?;
        let mut made = 0;
        if !due.is_empty() {
            let ids = json::uuids(&due);
            let make = sqlx::query(self.sections.get("make_ready")?).bind(&ids);
            made = make.execute(&mut *tx).await?.rows_affected();
            let dequeue = sqlx::query(self.sections.get("dequeue")?).bind(&ids);
            dequeue.execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(made)
    }

    async fn claim(&mut self, limit: i64, handler: i32, owner: Uuid) -> sqlx::Result<Vec<Made>> {
        let mut tx = self.connection.begin().await?;
        let ready = sqlx::query(self.sections.get("ready")?);
        let handler = format!("handler-{handler}");
        let ready = ready.bind(handler.as_bytes()).bind(limit);
        let read = |row: &MySqlRow| {
            let (event, handler) = (row.try_get(0)?, row.try_get(1)?);
            Ok(Made { event, handler })
        };
        let rows = ready.fetch_all(&mut *tx).await?;
        let made: sqlx::Result<Vec<_>> = rows.iter().map(read).collect();
        let made = made?;
        if !made.is_empty() {
            let claim = sqlx::query(self.sections.get("claim")?);
            let claim = claim.bind(json::made(&made)).bind(owner);
            claim.execute(&mut *tx).await?;
            let events: Vec<_> = made.iter().map(|made| made.event).collect();
            read_events(&mut tx, &self.sections, &json::uuids(&events)).await?;
        }
        tx.commit().await?;
        Ok(made)
    }

    async fn settle(&mut self, made: &[Made], owner: Uuid) -> sqlx::Result<()> {
        let settle = sqlx::query(self.sections.get("settle")?);
        let settle = settle.bind(json::made(made)).bind(owner);
        settle.execute(&mut self.connection).await?;
        Ok(())
    }
}
