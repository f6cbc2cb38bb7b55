//! A scheduler that has nothing to do.

use std::{sync::Arc, time::Duration};

use super::{
    Library, PREFIX, Result,
    drain::config,
    runs::Runs,
    turn::{SHUTDOWN, Turn},
};
use crate::{
    arguments::SchedulerKind,
    bench::{costs::Measured, proxy::Proxy},
};

/// How long it has to come to rest.
const SETTLE: Duration = Duration::from_secs(15);

impl Library {
    /// What a scheduler costs that has had nothing to do for a while, and goes on like that for so long.
    /// Where the server is reached by TCP, its statements are counted.
    pub(in crate::bench) async fn idle(&self, time: Duration) -> Result<Measured> {
        let proxy = Proxy::before(&self.place).await?;
        let (place, meter) = match &proxy {
            Some(proxy) => (
                &proxy.place,
                self.meter.counting(Arc::clone(&proxy.traffic)),
            ),
            None => (&self.place, self.meter.clone()),
        };
        let mut turn = Turn::new(place, PREFIX, &meter).await?;
        let watch = turn.begin().await?;
        let scheduler = turn.scheduler(SchedulerKind::Concurrent, config(&Runs::default(), 1)?)?;
        scheduler.start().await?;
        tokio::time::sleep(SETTLE).await;
        let running = watch.start().await?;
        tokio::time::sleep(time).await;
        let stopped = running.stop().await?;
        scheduler.shutdown(SHUTDOWN).await;
        let measured = turn.end_measurement(stopped).await?;
        turn.check(&[], 1, &[]).await?;
        turn.end().await?;
        Ok(measured)
    }
}
