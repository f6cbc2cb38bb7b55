//! Schedulers that work off what was raised.

use std::{error::Error, sync::Arc, time::Duration};

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
    bench::{
        bare::EVENT,
        costs::Measured,
        patience::{Stuck, patiently},
        sample::Sample,
    },
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
        let runs = Runs::default();
        let config = config(&runs, 1)?;
        let mut session = turn.storer().session().await?;
        session
            .registrations()
            .register(config.registrations())
            .await?;
        let batch = FanOut::due(BATCH);
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
        let drained = turn.end_to_end(kind, events).await?;
        turn.end().await?;
        Ok(drained)
    }
}

impl Turn {
    /// Raises so many events while a scheduler works, and waits until all are handled.
    async fn end_to_end(&mut self, kind: SchedulerKind, events: u64) -> Result<Drained> {
        let runs = Runs::default();
        let config = config(&runs, 1)?;
        let watch = self.begin().await?;
        let producers = self.producers().await?;
        let scheduler = self.scheduler(kind, config)?;
        scheduler.start().await?;
        let running = watch.start().await?;
        // Tasks raise and others handle; only who waits for them does so one after the other, and a
        // producer that fails ends it.
        let raised = self.raise_one_by_one(producers, events).await?;
        self.until_completed(&runs, &*scheduler, &raised, 1).await?;
        let stopped = running.stop().await?;
        scheduler.shutdown(SHUTDOWN).await;
        let measured = self.end_measurement(stopped).await?;
        let all = runs.all();
        self.check(&raised, 1, &all).await?;
        let latencies = latencies(&all);
        Ok(Drained {
            measured,
            latencies,
        })
    }

    /// Drains with so many handlers that do nothing.
    pub(super) async fn drain_all(
        &mut self,
        kind: SchedulerKind,
        events: &[EventId],
        handlers: u32,
    ) -> Result<Drained> {
        let runs = Runs::default();
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
        self.until_completed(runs, &*scheduler, events, handlers)
            .await?;
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

    /// Waits until so many handlers have run for each of these events, and what came of it is written.
    pub(super) async fn until_completed(
        &self,
        runs: &Runs,
        scheduler: &dyn Scheduler,
        events: &[EventId],
        handlers: u32,
    ) -> Result<()> {
        let completed = async {
            runs.reach(wanted(events, handlers)).await;
            self.until_settled(scheduler).await;
        };
        let mark = || {
            let status = scheduler.status();
            (runs.count(), status.executing, status.settling)
        };
        match patiently(self.patience, completed, mark).await {
            Ok(()) => Ok(()),
            Err(stuck) => Err(self.explain(stuck, runs, scheduler, events, handlers).await),
        }
    }

    /// Why these events, which so many handlers want, are not all handled.
    pub(super) async fn explain(
        &self,
        stuck: Stuck,
        runs: &Runs,
        scheduler: &dyn Scheduler,
        events: &[EventId],
        handlers: u32,
    ) -> Box<dyn Error + Send + Sync> {
        let wanted = wanted(events, handlers);
        let (count, status) = (runs.count(), scheduler.status());
        let found = self.findings(events, handlers, &runs.all()).await;
        let text = format!(
            "{stuck}: of {wanted} requests {count} have run, {} are executing and {} are being settled; {found}",
            status.executing, status.settling
        );
        text.into()
    }

    /// Waits until nothing is under way.
    async fn until_settled(&self, scheduler: &dyn Scheduler) {
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

/// How many requests there are of these events.
fn wanted(events: &[EventId], handlers: u32) -> u64 {
    events.len() as u64 * u64::from(handlers)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{costs::Meter, library::tables};
    use crate::place::Place;

    const CONCURRENT: SchedulerKind = SchedulerKind::Concurrent;

    /// A turn on a file, which waits for a few seconds at most.
    async fn turn(directory: &std::path::Path) -> Turn {
        let place = Place::of_file(directory);
        let meter = Meter::connect(&place).await.unwrap();
        let mut turn = Turn::new(&place, "bench_", &meter).await.unwrap();
        turn.patience = Duration::from_secs(3);
        turn
    }

    #[tokio::test]
    async fn a_request_that_is_lost_ends_the_drain_and_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let mut turn = turn(directory.path()).await;
        let events = turn.fill(3).await.unwrap();
        let lose = "DELETE FROM bench_unprocessed_events WHERE event_id = \
             (SELECT min(event_id) FROM bench_unprocessed_events)";
        tables::run(&turn.place, lose.to_owned()).await.unwrap();
        let text = turn.drain_all(CONCURRENT, &events, 1).await.unwrap_err();
        let text = text.to_string();
        assert!(
            text.contains("of 3 requests 2 have run, 0 are executing"),
            "{text}"
        );
        assert!(text.contains("handler 1 of event"), "{text}");
        assert!(
            text.contains("requests are not completed as they should"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_producer_that_fails_ends_the_measurement() {
        let directory = tempfile::tempdir().unwrap();
        let mut turn = turn(directory.path()).await;
        let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON bench_events \
             WHEN (SELECT count(*) FROM bench_events) >= 5 BEGIN SELECT RAISE(ABORT, 'no more'); END";
        tables::run(&turn.place, refuse.to_owned()).await.unwrap();
        let error = turn.end_to_end(CONCURRENT, 10).await.unwrap_err();
        assert!(
            tidings::ErrorChain(&*error).to_string().contains("no more"),
            "{error}"
        );
    }
}
