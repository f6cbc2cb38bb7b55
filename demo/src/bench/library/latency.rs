//! How long an event waits for its handler while there is nothing else to do.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tidings::{
    ConfigMap, Context, Event, Handler, HandlerError,
    sqlx::{Connection as _, PgConnection},
};
use tokio::sync::mpsc;

use super::{Library, Result, SHUTDOWN};
use crate::{
    arguments::SchedulerKind,
    bench::{
        bare::{EVENT, latency::pause},
        sample::Sample,
    },
};

impl Library {
    /// Milliseconds from the end of a commit to the start of the handler, one event at a time; with or
    /// without telling the process of the commit.
    pub(in crate::bench) async fn latency(&self, samples: usize, wakes: bool) -> Result<Sample> {
        let turn = self.turn().await?;
        let (started, mut starts) = mpsc::unbounded_channel();
        let handle = move |_: Arc<Event>, _: Context| {
            // Nobody waits for it any more at the end.
            let _ = started.send(Instant::now());
            async { Ok::<_, HandlerError>(()) }
        };
        let config = ConfigMap::builder().handler(Handler::new("handler-1", handle).on(EVENT));
        let scheduler = turn.scheduler(SchedulerKind::Concurrent, config.build()?)?;
        scheduler.start().await?;
        let raiser = turn.store.raiser();
        let mut connection = PgConnection::connect(&turn.url).await?;
        let mut sample = Sample::default();
        for number in 0..samples {
            tokio::time::sleep(pause(number)).await;
            let mut tx = connection.begin().await?;
            let event = Event::from_data(EVENT, turn.data.clone());
            raiser.raise(&mut *tx, event).await?;
            tx.commit().await?;
            let committed = Instant::now();
            if wakes {
                raiser.wake();
            }
            let start = starts.recv().await.ok_or("the scheduler is gone")?;
            // It may start before the answer of the commit has been read.
            let waited: Duration = start.saturating_duration_since(committed);
            sample.push(waited.as_secs_f64() * 1000.0);
        }
        scheduler.shutdown(SHUTDOWN).await;
        turn.end().await?;
        Ok(sample)
    }
}
