//! How long an event waits for its handler while there is nothing else to do.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tidings::{ConfigMap, Context, Event, Handler, HandlerError};
use tokio::sync::mpsc;

use super::{Library, Result, application, runs::Runs, turn::SHUTDOWN};
use crate::{
    arguments::SchedulerKind,
    bench::{
        bare::{EVENT, latency::pause},
        costs::Measured,
        patience::patiently,
        sample::Sample,
    },
};

impl Library {
    /// Milliseconds from the end of a commit to the start of the handler, one event at a time; with or
    /// without telling the process of the commit. And what it cost.
    pub(in crate::bench) async fn latency(
        &self,
        samples: usize,
        wakes: bool,
    ) -> Result<(Sample, Measured)> {
        let mut turn = self.turn().await?;
        let (started, mut starts) = mpsc::unbounded_channel();
        let runs = Runs::default();
        let noted = runs.clone();
        let handle = move |event: Arc<Event>, _: Context| {
            // Nobody waits for it any more at the end.
            let _ = started.send(Instant::now());
            noted.note(&event, 1);
            async { Ok::<_, HandlerError>(()) }
        };
        let config = ConfigMap::builder().handler(Handler::new("handler-1", handle).on(EVENT));
        let watch = turn.begin().await?;
        let scheduler = turn.scheduler(SchedulerKind::Concurrent, config.build()?)?;
        scheduler.start().await?;
        let raiser = turn.raiser();
        let mut connection = application::connect(&turn.place).await?;
        let (mut sample, mut raised) = (Sample::default(), Vec::new());
        let running = watch.start().await?;
        for number in 0..samples {
            tokio::time::sleep(pause(number)).await;
            let event = turn.event();
            raised.push(event.id);
            connection.raise(&raiser, event).await?;
            let committed = Instant::now();
            if wakes {
                raiser.wake();
            }
            let start = match patiently(turn.patience, starts.recv(), || ()).await {
                Ok(start) => start.ok_or("the scheduler is gone")?,
                Err(stuck) => {
                    return Err(turn.explain(stuck, &runs, &*scheduler, &raised, 1).await);
                }
            };
            // It may start before the answer of the commit has been read.
            let waited: Duration = start.saturating_duration_since(committed);
            sample.push(waited.as_secs_f64() * 1000.0);
        }
        turn.until_completed(&runs, &*scheduler, &raised, 1).await?;
        let stopped = running.stop().await?;
        scheduler.shutdown(SHUTDOWN).await;
        connection.close().await?;
        let measured = turn.end_measurement(stopped).await?;
        turn.check(&raised, 1, &runs.all()).await?;
        turn.end().await?;
        Ok((sample, measured))
    }
}
