//! A handler that writes in the transaction in which its request is settled.

use std::{sync::Arc, time::Duration};

use tidings::{
    ConfigMap, Context, Event, Handler, HandlerResult,
    sqlx::{self, PgConnection},
};

use super::{Library, PREFIX, Result, run, runs::Runs};
use crate::{arguments::SchedulerKind, bench::bare::EVENT};

impl Library {
    /// Drains with a handler that inserts a row for each event, in a transaction of its own or in a
    /// shared one.
    pub(in crate::bench) async fn drain_transactionally(
        &self,
        requests: u64,
        shared: bool,
    ) -> Result<Duration> {
        let turn = self.turn().await?;
        turn.fill(requests).await?;
        let create =
            format!("CREATE TABLE {PREFIX}effects (event_id uuid PRIMARY KEY, data text NOT NULL)");
        run(&turn.url, create).await?;
        let runs = Runs::new(requests);
        let handler = Handler::transactional_with_state("handler-1", runs.clone(), insert);
        let handler = if shared {
            handler.shared_transactions()
        } else {
            handler
        };
        let config = ConfigMap::builder().handler(handler.on(EVENT)).build()?;
        let drained = turn
            .drain(SchedulerKind::Concurrent, config, &runs, requests)
            .await?;
        turn.end().await?;
        Ok(drained.took)
    }
}

async fn insert(
    runs: Runs,
    event: Arc<Event>,
    _: Context,
    connection: &mut PgConnection,
) -> HandlerResult {
    sqlx::query("INSERT INTO bench_effects (event_id, data) VALUES ($1, $2)")
        .bind(event.id.as_uuid())
        .bind(event.data.as_str())
        .execute(connection)
        .await?;
    runs.note(&event);
    Ok(())
}
