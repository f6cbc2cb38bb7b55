//! Schedulers that work off what was raised.

use std::{sync::Arc, time::Duration};

use tidings::{
    ConfigMap, Context, Event, EventId, Handler, HandlerError, Scheduler, store::FanOut,
};

use super::{
    BATCH, Library, Result,
    runs::{Runs, latencies},
    turn::{SHUTDOWN, Turn},
};
use crate::{
    arguments::SchedulerKind,
    bench::{bare::EVENT, costs::Measured, sample::Sample},
};

/// What a run of a scheduler came to.
#[derive(Debug)]
pub(in crate::bench) struct Drained {
    /// From the start of the scheduler until every request was completed in the database.
    pub(in crate::bench) measured: Measured,
    /// Milliseconds from the timestamps of events to the starts of their handlers.
    pub(in crate::bench) latencies: Sample,
}

impl Library {
    /// Raises events before, so many that each handler's requests come to this number, and drains.
    pub(in crate::bench) async fn drain(
        &self,
        kind: SchedulerKind,
        requests: u64,
        handlers: u32,
    ) -> Result<Drained> {
        let mut turn = self.turn().await?;
        let events = turn.fill(requests / u64::from(handlers)).await?;
        let drained = turn.drain_all(kind, &events, handlers).await?;
        turn.end().await?;
        Ok(drained)
    }

    /// Drains requests that were made before and wait to be claimed.
    pub(in crate::bench) async fn drain_waiting(&self, requests: u64) -> Result<Drained> {
        let mut turn = self.turn().await?;
        let events = turn.fill(requests).await?;
        let runs = Runs::new(requests);
        let config = config(&runs, 1)?;
        let mut session = turn.storer().session().await?;
        session
            .registrations()
            .register(config.registrations())
            .await?;
        let batch = FanOut::due(usize::try_from(BATCH)?);
        while !session.events().fan_out(&batch).await?.processed.is_empty() {}
        drop(session);
        let kind = SchedulerKind::Concurrent;
        let drained = turn.drain(kind, config, &runs, &events, 1).await?;
        turn.end().await?;
        Ok(drained)
    }

    /// Raises so many events, one at a time on 16 connections, while a scheduler works.
    pub(in crate::bench) async fn end_to_end(
        &self,
        kind: SchedulerKind,
        events: u64,
    ) -> Result<Drained> {
        let mut turn = self.turn().await?;
        let runs = Runs::new(events);
        let config = config(&runs, 1)?;
        let watch = turn.begin().await?;
        let producers = turn.producers().await?;
        let scheduler = turn.scheduler(kind, config)?;
        scheduler.start().await?;
        let running = watch.start().await?;
        let (raised, ()) = tokio::join!(
            turn.raise_one_by_one(producers, events),
            turn.until_completed(&runs, &*scheduler)
        );
        let stopped = running.stop().await?;
        scheduler.shutdown(SHUTDOWN).await;
        let measured = turn.end_measurement(stopped).await?;
        let all = runs.all();
        turn.check(&raised?, 1, &all).await?;
        turn.end().await?;
        let latencies = latencies(&all);
        Ok(Drained {
            measured,
            latencies,
        })
    }
}

impl Turn {
    /// Drains with so many handlers that do nothing.
    pub(super) async fn drain_all(
        &mut self,
        kind: SchedulerKind,
        events: &[EventId],
        handlers: u32,
    ) -> Result<Drained> {
        let runs = Runs::new(events.len() as u64 * u64::from(handlers));
        let config = config(&runs, handlers)?;
        self.drain(kind, config, &runs, events, handlers).await
    }

    /// Drains these events, which so many handlers want.
    pub(super) async fn drain(
        &mut self,
        kind: SchedulerKind,
        config: ConfigMap,
        runs: &Runs,
        events: &[EventId],
        handlers: u32,
    ) -> Result<Drained> {
        let watch = self.begin().await?;
        let scheduler = self.scheduler(kind, config)?;
        let running = watch.start().await?;
        scheduler.start().await?;
        self.until_completed(runs, &*scheduler).await;
        let stopped = running.stop().await?;
        scheduler.shutdown(SHUTDOWN).await;
        let measured = self.end_measurement(stopped).await?;
        let all = runs.all();
        self.check(events, handlers, &all).await?;
        let latencies = latencies(&all);
        Ok(Drained {
            measured,
            latencies,
        })
    }

    /// Waits until all have run, and what came of it is written.
    pub(super) async fn until_completed(&self, runs: &Runs, scheduler: &dyn Scheduler) {
        runs.done().await;
        self.until_settled(scheduler).await;
    }

    /// Waits until nothing is under way.
    pub(super) async fn until_settled(&self, scheduler: &dyn Scheduler) {
        let settled = self.storer().signals().settled;
        loop {
            let seen = settled.seen();
            let status = scheduler.status();
            if status.executing == 0 && status.settling == 0 {
                return;
            }
            tokio::select! {
                () = settled.changed_since(seen) => {}
                () = tokio::time::sleep(Duration::from_millis(1)) => {}
            }
        }
    }
}

/// So many handlers that want each event.
pub(super) fn config(runs: &Runs, handlers: u32) -> Result<ConfigMap> {
    let mut config = ConfigMap::builder();
    for number in 1..=handlers {
        let runs = runs.clone();
        let handle = move |event: Arc<Event>, _: Context| {
            runs.note(&event, number);
            async { Ok::<_, HandlerError>(()) }
        };
        config = config.handler(Handler::new(format!("handler-{number}"), handle).on(EVENT));
    }
    Ok(config.build()?)
}
