//! Schedulers that work off what was raised.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tidings::{
    ConfigMap, Context, Event, Handler, HandlerError, RequestState, Scheduler,
    store::{FanOut, RequestFilter, Storer},
};

use super::{BATCH, Library, Result, SHUTDOWN, Turn, runs::Runs};
use crate::{
    arguments::SchedulerKind,
    bench::{bare::EVENT, sample::Sample},
};

/// What a run of a scheduler came to.
#[derive(Debug)]
pub(in crate::bench) struct Drained {
    /// From the start of the scheduler until every request was completed in the database.
    pub(in crate::bench) took: Duration,
    /// Milliseconds from the timestamps of events to the starts of their handlers.
    pub(in crate::bench) latencies: Sample,
}

impl Library {
    /// Raises events before, so many that each handler's requests come to this number, and drains.
    pub(in crate::bench) async fn drain(
        &self,
        kind: SchedulerKind,
        requests: u64,
        handlers: u64,
    ) -> Result<Drained> {
        let turn = self.turn().await?;
        turn.fill(requests / handlers).await?;
        let runs = Runs::new(requests);
        let config = config(&runs, handlers)?;
        let drained = turn.drain(kind, config, &runs, requests).await?;
        turn.end().await?;
        Ok(drained)
    }

    /// Drains requests that were made before and wait to be claimed.
    pub(in crate::bench) async fn drain_waiting(&self, requests: u64) -> Result<Drained> {
        let turn = self.turn().await?;
        turn.fill(requests).await?;
        let runs = Runs::new(requests);
        let config = config(&runs, 1)?;
        let mut session = turn.store.session().await?;
        session
            .registrations()
            .register(config.registrations())
            .await?;
        let batch = FanOut::due(usize::try_from(BATCH)?);
        while !session.events().fan_out(&batch).await?.processed.is_empty() {}
        drop(session);
        let drained = turn
            .drain(SchedulerKind::Concurrent, config, &runs, requests)
            .await?;
        turn.end().await?;
        Ok(drained)
    }

    /// Drains while 16 connections raise.
    pub(in crate::bench) async fn end_to_end(
        &self,
        kind: SchedulerKind,
        events: u64,
    ) -> Result<Drained> {
        let turn = self.turn().await?;
        let runs = Runs::new(events);
        let scheduler = turn.scheduler(kind, config(&runs, 1)?)?;
        scheduler.start().await?;
        let begun = Instant::now();
        let (raised, ()) = tokio::join!(
            turn.raise_one_by_one(events),
            turn.until_completed(&runs, &*scheduler)
        );
        raised?;
        let took = begun.elapsed();
        scheduler.shutdown(SHUTDOWN).await;
        turn.check(&runs, events).await?;
        turn.end().await?;
        let latencies = runs.latencies();
        Ok(Drained { took, latencies })
    }
}

impl Turn {
    pub(super) async fn drain(
        &self,
        kind: SchedulerKind,
        config: ConfigMap,
        runs: &Runs,
        requests: u64,
    ) -> Result<Drained> {
        let scheduler = self.scheduler(kind, config)?;
        let begun = Instant::now();
        scheduler.start().await?;
        self.until_completed(runs, &*scheduler).await;
        let took = begun.elapsed();
        scheduler.shutdown(SHUTDOWN).await;
        self.check(runs, requests).await?;
        let latencies = runs.latencies();
        Ok(Drained { took, latencies })
    }

    /// Waits until all have run, and what came of it is written.
    async fn until_completed(&self, runs: &Runs, scheduler: &dyn Scheduler) {
        runs.done().await;
        let settled = self.store.signals().settled;
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

    /// Each request was handled exactly as often as it should be.
    async fn check(&self, runs: &Runs, requests: u64) -> Result<()> {
        let completed = RequestFilter::default().in_states([RequestState::Completed]);
        let mut session = self.store.session().await?;
        let completed = session.handler_requests().count(&completed).await?;
        let ran = runs.count();
        if (completed, ran) == (requests, requests) {
            return Ok(());
        }
        Err(format!(
            "of {requests} requests {completed} are completed, and handlers ran {ran} times"
        )
        .into())
    }
}

/// So many handlers that want each event.
fn config(runs: &Runs, handlers: u64) -> Result<ConfigMap> {
    let mut config = ConfigMap::builder();
    for number in 1..=handlers {
        let runs = runs.clone();
        let handle = move |event: Arc<Event>, _: Context| {
            runs.note(&event);
            async { Ok::<_, HandlerError>(()) }
        };
        config = config.handler(Handler::new(format!("handler-{number}"), handle).on(EVENT));
    }
    Ok(config.build()?)
}
