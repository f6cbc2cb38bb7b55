//! The library under measurement: a store on tables of its own, made anew for each turn.

mod drain;
mod effects;
mod latency;
mod raise;
mod runs;

use std::{sync::Arc, time::Duration};

use tidings::{
    ConcurrentScheduler, ConfigMap, CooperativeScheduler, Event, EventData, PostgresOptions,
    PostgresStore, Scheduler,
    sqlx::{self, AssertSqlSafe, Connection as _, Executor as _, PgConnection},
    store::Storer,
};

use super::{
    Result,
    bare::{DATA, EVENT},
};
use crate::arguments::SchedulerKind;

/// Of the tables, so that they are nobody else's.
const PREFIX: &str = "bench_";
/// How many events a batch raises.
const BATCH: u64 = 1000;
/// How long a scheduler may take to stop.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// Where the library is measured.
#[derive(Debug)]
pub(super) struct Library {
    url: String,
}

/// A store with tables of its own.
struct Turn {
    url: String,
    store: PostgresStore,
    data: EventData,
}

impl Library {
    pub(super) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
        }
    }

    /// A store with empty tables.
    async fn turn(&self) -> Result<Turn> {
        drop_tables(&self.url).await?;
        let options = PostgresOptions::new().table_prefix(PREFIX);
        let store = PostgresStore::connect(&self.url, options).await?;
        store.migrate().await?;
        Ok(Turn {
            url: self.url.clone(),
            store,
            data: EventData::from_json(DATA.to_owned())?,
        })
    }
}

impl Turn {
    /// Closes the store and drops its tables.
    async fn end(self) -> Result<()> {
        self.store.close().await;
        drop_tables(&self.url).await
    }

    fn events(&self, count: u64) -> Vec<Event> {
        (0..count)
            .map(|_| Event::from_data(EVENT, self.data.clone()))
            .collect()
    }

    /// Raises so many events, and lets the server come to rest, as the references do.
    async fn fill(&self, events: u64) -> Result<()> {
        let mut session = self.store.session().await?;
        for _ in 0..events / BATCH {
            session.events().raise(&self.events(BATCH)).await?;
        }
        drop(session);
        for table in ["events", "unprocessed_events", "handler_requests"] {
            run(&self.url, format!("VACUUM (ANALYZE) {PREFIX}{table}")).await?;
        }
        Ok(())
    }

    /// A scheduler with the settings that it has by default.
    fn scheduler(&self, kind: SchedulerKind, config: ConfigMap) -> Result<Box<dyn Scheduler>> {
        let store = Arc::new(self.store.clone());
        Ok(match kind {
            SchedulerKind::Concurrent => {
                Box::new(ConcurrentScheduler::builder(store, config).build()?)
            }
            SchedulerKind::Cooperative => {
                Box::new(CooperativeScheduler::builder(store, config).build()?)
            }
        })
    }
}

async fn drop_tables(url: &str) -> Result<()> {
    let p = PREFIX;
    let all = format!(
        "DROP FUNCTION IF EXISTS {p}active_registrations; \
         DROP TABLE IF EXISTS {p}events, {p}handler_requests, {p}unprocessed_events, {p}waiting_events, \
           {p}unwanted_events, {p}leases, {p}registrations, {p}migrations, {p}effects"
    );
    run(url, all).await
}

async fn run(url: &str, sql: String) -> Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    connection
        .execute(sqlx::raw_sql(AssertSqlSafe(sql)))
        .await?;
    connection.close().await?;
    Ok(())
}
