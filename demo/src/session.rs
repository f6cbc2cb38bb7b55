//! Everything that runs during a demo, started and stopped in the right order.

use std::{sync::Arc, time::Duration};

use tidings::{
    ConcurrentScheduler, CooperativeScheduler, Raiser, Retention, Scheduler, Telemetry,
    store::Storer,
};
use tokio::time::timeout;

use crate::{
    arguments::{Arguments, SchedulerKind},
    failure::Failure,
    handlers,
    happenings::Happenings,
    screen::Screen,
    store::{Database, Patience, Target, open},
    tallies::Tallies,
    telemetry::Exports,
};

/// How long running handlers may go on after a stop. With what telemetry may take, it stays below
/// the ten seconds after which service managers kill.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(7);

/// How long closing the connections may take.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(300);

/// A demo that runs.
pub(crate) struct Session {
    pub(crate) patience: Patience,
    database: Database,
    pub(crate) store: Arc<dyn Storer>,
    pub(crate) raiser: Raiser,
    pub(crate) tallies: Tallies,
    pub(crate) happenings: Happenings,
    scheduler: Box<dyn Scheduler>,
    exports: Option<Exports>,
}

impl Session {
    /// Opens the store and starts the scheduler.
    pub(crate) async fn start(
        arguments: &Arguments,
        target: Target<'_>,
        screen: &Screen,
    ) -> Result<Self, Failure> {
        let exports = Exports::open(arguments)?;
        let telemetry = exports
            .as_ref()
            .map_or_else(Telemetry::default, Exports::telemetry);
        let patience = Patience(Duration::from_secs(arguments.wait.into()));
        let (database, tallies) = open(target, patience, screen).await?;
        let (store, raiser) = (database.storer(), database.raiser());
        let happenings = Happenings::new();
        let config = handlers::config_map(&tallies, &happenings)?;
        // An imported event that is gone would be raised again, and count again.
        let retention = Retention::never();
        let workers = usize::from(arguments.workers);
        let scheduler: Box<dyn Scheduler> = match arguments.scheduler {
            SchedulerKind::Concurrent => Box::new(
                ConcurrentScheduler::builder(Arc::clone(&store), config)
                    .workers(workers)
                    .lease(arguments.lease)
                    .retention(retention)
                    .error_reporter(happenings.clone())
                    .telemetry(telemetry)
                    .build()?,
            ),
            SchedulerKind::Cooperative => Box::new(
                CooperativeScheduler::builder(Arc::clone(&store), config)
                    .workers(workers)
                    .lease(arguments.lease)
                    .retention(retention)
                    .error_reporter(happenings.clone())
                    .telemetry(telemetry)
                    .build()?,
            ),
        };
        scheduler.start().await?;
        Ok(Self {
            patience,
            database,
            store,
            raiser,
            tallies,
            happenings,
            scheduler,
            exports,
        })
    }

    /// Where telemetry goes, if anywhere.
    pub(crate) const fn exports(&self) -> Option<&Exports> {
        self.exports.as_ref()
    }

    /// Whether what is counted ends with the process.
    pub(crate) const fn is_in_memory(&self) -> bool {
        self.database.is_memory()
    }

    /// Closes the connections, so that the database need not find out that they are gone.
    pub(crate) async fn close(&self) {
        drop(timeout(CLOSE_TIMEOUT, self.database.close()).await);
    }

    /// Lets running handlers end and gives back the rest; then nothing makes spans or counts any
    /// more, and the rest of the telemetry is written.
    pub(crate) async fn stop(&mut self) -> Result<(), Failure> {
        let report = self.scheduler.shutdown(SHUTDOWN_DEADLINE).await;
        if report.abandoned > 0 {
            tracing::warn!(abandoned = report.abandoned, "handlers did not end in time");
        }
        match self.exports.take() {
            Some(exports) => Ok(exports.finish().await?),
            None => Ok(()),
        }
    }
}
