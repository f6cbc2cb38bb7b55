//! A turn of the library: a store on tables of its own, made anew.

use std::{sync::Arc, time::Duration};

use tidings::{
    ConcurrentScheduler, ConfigMap, CooperativeScheduler, Event, EventData, EventId, MySqlOptions,
    MySqlStore, PostgresOptions, PostgresStore, Raiser, Scheduler, SqliteOptions, SqliteStore,
    store::Storer,
};

use super::{BATCH, tables};
use crate::place::{Place, System};
use crate::{
    arguments::SchedulerKind,
    bench::{
        Result,
        bare::{DATA, EVENT},
        costs::{Measured, Meter, Stopped, Watch},
        left::Left,
        patience::PATIENCE,
    },
    store::Database,
};

/// How long a scheduler may take to stop.
pub(in crate::bench) const SHUTDOWN: Duration = Duration::from_secs(10);

/// A store with tables of its own.
pub(in crate::bench) struct Turn {
    pub(super) place: Place,
    pub(super) prefix: &'static str,
    pub(super) meter: Meter,
    pub(super) store: Database,
    pub(super) data: EventData,
    /// How often the handlers of an event are executed.
    pub(super) executions: fn(EventId) -> u32,
    /// How long nothing may go on until it is given up.
    pub(super) patience: Duration,
}

impl Turn {
    /// With tables that are there.
    pub(in crate::bench) async fn on(
        place: &Place,
        prefix: &'static str,
        meter: &Meter,
    ) -> Result<Self> {
        Ok(Self {
            place: place.clone(),
            prefix,
            meter: meter.clone(),
            store: open(place, prefix).await?,
            data: EventData::from_json(DATA.to_owned())?,
            executions: |_| 1,
            patience: PATIENCE,
        })
    }

    /// With new and empty tables.
    pub(super) async fn new(place: &Place, prefix: &'static str, meter: &Meter) -> Result<Self> {
        tables::drop_all(place, prefix).await?;
        let turn = Self::on(place, prefix, meter).await?;
        turn.store.migrate().await?;
        Ok(turn)
    }

    /// Closes the store.
    pub(super) async fn close(self) {
        self.store.close().await;
    }

    /// Closes the store and drops its tables.
    pub(super) async fn end(self) -> Result<()> {
        self.store.close().await;
        tables::drop_all(&self.place, self.prefix).await
    }

    pub(in crate::bench) fn storer(&self) -> Arc<dyn Storer> {
        self.store.storer()
    }

    pub(super) fn raiser(&self) -> Raiser {
        self.store.raiser()
    }

    pub(super) fn event(&self) -> Event {
        Event::from_data(EVENT, self.data.clone())
    }

    /// Raises so many events, and lets the server come to rest, as the references do; answers which.
    pub(super) async fn fill(&self, events: u64) -> Result<Vec<EventId>> {
        let mut raised = Vec::new();
        let mut session = self.storer().session().await?;
        let left = Left::new(events);
        while let Some(count) = left.take(BATCH) {
            let batch: Vec<_> = (0..count).map(|_| self.event()).collect();
            session.events().raise(&batch).await?;
            raised.extend(batch.iter().map(|event| event.id));
        }
        drop(session);
        tables::bring_to_rest(&self.place, self.prefix).await?;
        Ok(raised)
    }

    /// A measurement begins, with a store that has just one connection open: what others have done is not
    /// counted any more.
    pub(super) async fn begin(&mut self) -> Result<Watch> {
        self.store.close().await;
        let watch = self.meter.begin().await?;
        self.reopen().await?;
        Ok(watch)
    }

    /// A measurement ends: the connections of the store are closed, and it is opened anew.
    pub(super) async fn end_measurement(&mut self, stopped: Stopped) -> Result<Measured> {
        self.store.close().await;
        let measured = stopped.end().await?;
        self.reopen().await?;
        Ok(measured)
    }

    async fn reopen(&mut self) -> Result<()> {
        self.store = open(&self.place, self.prefix).await?;
        let mut session = self.storer().session().await?;
        session.events().count_unprocessed().await?;
        Ok(())
    }

    /// A scheduler with the settings that it has by default.
    pub(in crate::bench) fn scheduler(
        &self,
        kind: SchedulerKind,
        config: ConfigMap,
    ) -> Result<Box<dyn Scheduler>> {
        let store = self.storer();
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

/// Opens a store on the tables with this prefix.
pub(in crate::bench) async fn open(place: &Place, prefix: &str) -> Result<Database> {
    let url = &place.url;
    Ok(match place.system {
        System::Postgres => {
            let options = PostgresOptions::new().table_prefix(prefix);
            Database::Postgres(PostgresStore::connect(url, options).await?)
        }
        System::Sqlite => {
            let options = SqliteOptions::new().table_prefix(prefix);
            Database::Sqlite(SqliteStore::connect(url, options).await?)
        }
        System::MySql => {
            let options = MySqlOptions::new().table_prefix(prefix);
            Database::MySql(MySqlStore::connect(url, options).await?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn exactly_so_many_events_are_filled_in_also_if_the_last_batch_is_not_full() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::of_file(directory.path());
        let meter = Meter::connect(&place).await.unwrap();
        let turn = Turn::new(&place, "fill_", &meter).await.unwrap();
        let raised = turn.fill(1100).await.unwrap();
        assert_eq!(raised.len(), 1100);
        let mut session = turn.storer().session().await.unwrap();
        assert_eq!(session.events().count_unprocessed().await.unwrap(), 1100);
    }
}
