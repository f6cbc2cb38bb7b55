//! A handler that writes in the transaction in which its request is settled.

use std::sync::Arc;

use tidings::{
    ConfigMap, Context, Event, Handler, HandlerResult,
    sqlx::{self, MySqlConnection, PgConnection, SqliteConnection},
};

use super::{Library, Result, application, drain::Drained, runs::Runs, tables};
use crate::place::System;
use crate::{arguments::SchedulerKind, bench::bare::EVENT};

impl Library {
    /// Drains with a handler that inserts a row for each event, in a transaction of its own or in a
    /// shared one.
    pub(in crate::bench) async fn drain_transactionally(
        &self,
        requests: u64,
        shared: bool,
    ) -> Result<Drained> {
        let mut turn = self.turn().await?;
        let events = turn.fill(requests).await?;
        let uuid = match self.place.system {
            System::Postgres => "uuid",
            System::MySql => "binary(16)",
            System::Sqlite => "blob",
        };
        let create =
            format!("CREATE TABLE bench_effects (event_id {uuid} PRIMARY KEY, data text NOT NULL)");
        tables::run(&turn.place, create).await?;
        let runs = Runs::default();
        let config = config(&runs, self.place.system, shared)?;
        let kind = SchedulerKind::Concurrent;
        let drained = turn.drain(kind, config, &runs, &events, 1).await?;
        // Keys are the events' ids, so as many rows are one for each.
        let mut connection = application::connect(&turn.place).await?;
        let effects = connection
            .number("SELECT count(*) FROM bench_effects")
            .await?;
        connection.close().await?;
        if effects != i64::try_from(requests)? {
            return Err(format!("{effects} of {requests} handlers have written").into());
        }
        turn.end().await?;
        Ok(drained)
    }
}

fn config(runs: &Runs, system: System, shared: bool) -> Result<ConfigMap> {
    let (name, runs) = ("handler-1", runs.clone());
    let handler = match system {
        System::Postgres => Handler::transactional_with_state(name, runs, postgres),
        System::Sqlite => Handler::transactional_with_state(name, runs, sqlite),
        System::MySql => Handler::transactional_with_state(name, runs, mysql),
    };
    let handler = if shared {
        handler.shared_transactions()
    } else {
        handler
    };
    Ok(ConfigMap::builder().handler(handler.on(EVENT)).build()?)
}

macro_rules! handler {
    ($name:ident, $connection:ty, $insert:literal) => {
        async fn $name(
            runs: Runs,
            event: Arc<Event>,
            _: Context,
            connection: &mut $connection,
        ) -> HandlerResult {
            sqlx::query($insert)
                .bind(event.id.as_uuid())
                .bind(event.data.as_str())
                .execute(connection)
                .await?;
            runs.note(&event, 1);
            Ok(())
        }
    };
}

handler!(
    postgres,
    PgConnection,
    "INSERT INTO bench_effects (event_id, data) VALUES ($1, $2)"
);
handler!(
    sqlite,
    SqliteConnection,
    "INSERT INTO bench_effects (event_id, data) VALUES (?, ?)"
);
handler!(
    mysql,
    MySqlConnection,
    "INSERT INTO bench_effects (event_id, data) VALUES (?, ?)"
);
