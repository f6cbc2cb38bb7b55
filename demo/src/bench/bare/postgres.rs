//! The references on PostgreSQL.

use async_trait::async_trait;
use chrono::Utc;
use tidings::sqlx::{self, Connection as _, PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{
    Bare, DATA, EVENT, Kind, Made, Sections,
    common::{Common as _, Reference},
};

macro_rules! file {
    ($name:literal) => {
        include_str!(concat!(
            "../../../benches/reference/postgres/",
            $name,
            ".sql"
        ))
    };
}

/// A connection and its statements.
pub(super) type Postgres = Reference<PgConnection>;

impl Postgres {
    pub(super) async fn connect(url: &str, kind: Kind) -> sqlx::Result<Self> {
        let files: &[&str] = match kind {
            Kind::Loop => &[file!("loop"), file!("transaction")],
            Kind::LoopUnpinned => &[file!("loop"), file!("loop_unpinned")],
            Kind::Raise => &[file!("raise")],
            Kind::Work => &[file!("work")],
        };
        let connection = PgConnection::connect(url).await?;
        let sections = Sections::of(files);
        let mut this = Self {
            connection,
            sections,
        };
        if kind != Kind::LoopUnpinned && this.sections.find("pin").is_some() {
            this.run("pin").await?;
        }
        Ok(this)
    }
}

fn made(row: &PgRow) -> sqlx::Result<Option<Made>> {
    let handler: Option<i32> = row.try_get(1)?;
    let event = row.try_get(0)?;
    // A worker reads what it is given.
    let _data: Option<&str> = row.try_get(3)?;
    Ok(handler.map(|handler| Made { event, handler }))
}

fn all(rows: &[PgRow]) -> sqlx::Result<Vec<Made>> {
    rows.iter()
        .filter_map(|row| made(row).transpose())
        .collect()
}

#[async_trait]
impl Bare for Postgres {
    async fn fill(&mut self, count: i64) -> sqlx::Result<()> {
        let fill = sqlx::query(self.sections.get("fill")?)
            .bind(count)
            .bind(DATA);
        fill.execute(&mut self.connection).await?;
        Ok(())
    }

    async fn claim_jobs(&mut self, limit: i64) -> sqlx::Result<Vec<i64>> {
        let claim = sqlx::query(self.sections.get("claim")?).bind(limit);
        let rows = claim.fetch_all(&mut self.connection).await?;
        let read = |row: &PgRow| {
            let _data: &str = row.try_get(1)?;
            row.try_get(0)
        };
        rows.iter().map(read).collect()
    }

    async fn raise_many(&mut self, ids: &[Uuid]) -> sqlx::Result<()> {
        let raise = sqlx::query(self.sections.get("many")?);
        let count = ids.len();
        let raise = raise.bind(ids).bind(vec![EVENT; count]);
        let raise = raise.bind(vec![DATA; count]).bind(vec![Utc::now(); count]);
        raise.execute(&mut self.connection).await?;
        Ok(())
    }

    async fn make_handlers(&mut self, count: i32) -> sqlx::Result<()> {
        let make = sqlx::query(self.sections.get("handlers")?);
        make.bind(count)
            .bind(EVENT)
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }

    async fn born_leased(&mut self, events: i64, owner: Uuid) -> sqlx::Result<Vec<Made>> {
        let make = sqlx::query(self.sections.get("born_leased")?);
        all(&make
            .bind(events)
            .bind(owner)
            .fetch_all(&mut self.connection)
            .await?)
    }

    async fn born_ready(&mut self, events: i64) -> sqlx::Result<u64> {
        let make = sqlx::query(self.sections.get("born_ready")?);
        let done = make.bind(events).execute(&mut self.connection).await?;
        Ok(done.rows_affected())
    }

    async fn claim(&mut self, limit: i64, handler: i32, owner: Uuid) -> sqlx::Result<Vec<Made>> {
        let claim = sqlx::query(self.sections.get("claim")?).bind(limit);
        let claim = claim.bind(format!("handler-{handler}")).bind(owner);
        all(&claim.fetch_all(&mut self.connection).await?)
    }

    async fn settle(&mut self, made: &[Made], owner: Uuid) -> sqlx::Result<()> {
        let events: Vec<_> = made.iter().map(|made| made.event).collect();
        let handlers: Vec<_> = made.iter().map(|made| made.handler).collect();
        let settle = sqlx::query(self.sections.get("settle")?);
        let settle = settle.bind(events).bind(handlers).bind(owner);
        settle.execute(&mut self.connection).await?;
        Ok(())
    }
}
