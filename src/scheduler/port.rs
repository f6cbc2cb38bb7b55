//! What all schedulers can do.

use std::{fmt, future::Future, time::Duration};

use async_trait::async_trait;

use super::SchedulerStatus;
use crate::{error::StoreError, model::SchedulerState};

/// Starts, pauses and stops the work on events. Dropping a scheduler stops it at once; its leases
/// are then rescued by others.
#[async_trait]
pub trait Scheduler: Send + Sync {
    /// Registers the `ConfigMap` in the store and begins to work. Waits, and logs why, while the
    /// store cannot be reached. Cancellation safe: a start that is dropped can be made again.
    ///
    /// # Errors
    /// [`SchedulerError::AlreadyStarted`], [`SchedulerError::Stopped`], or what the store refuses
    /// for good.
    async fn start(&self) -> Result<(), SchedulerError>;

    /// Stops claiming and hands back what has not started; handlers that run go on. Returns when
    /// it has been handed back, or could not be in three tries; then it is left to its lease.
    /// Nothing happens when it is paused already.
    ///
    /// Cancellation safe: it goes on when the future is dropped.
    ///
    /// # Errors
    /// It is not running: [`SchedulerError::NotRunning`].
    async fn pause(&self) -> Result<(), SchedulerError>;

    /// Works again. Nothing happens when it is running. Cancellation safe.
    ///
    /// # Errors
    /// It is neither paused nor running: [`SchedulerError::NotRunning`].
    async fn resume(&self) -> Result<(), SchedulerError>;

    /// What it does now. Cheap: it asks no store.
    fn status(&self) -> SchedulerStatus;

    /// Whether it is running or paused and its last calls to the store succeeded: what a readiness
    /// probe wants to know. Cheap: it asks no store.
    fn is_operational(&self) -> bool;

    /// Stops claiming, hands back what has not started, and waits for running handlers until
    /// shortly before `deadline` has passed (a tenth of it, between 250 ms and a second, and at most
    /// half of it); then their contexts are canceled, and they are dropped and handed back. Outcomes
    /// that are not written at the deadline are left to the leases. A handler that blocks its thread
    /// cannot be dropped: it keeps its lease and is rescued when that runs out.
    ///
    /// A shutdown before the start, or after a shutdown, does nothing; one during a shutdown waits
    /// for the same end, at the earlier deadline. Cancellation safe: it goes on when the future is
    /// dropped.
    async fn shutdown(&self, deadline: Duration) -> ShutdownReport;
}

/// Comfort for every [`Scheduler`].
#[async_trait]
pub trait SchedulerExt: Scheduler {
    /// Starts, works until `signal` ends, and shuts down with `deadline`.
    ///
    /// When the future is dropped the scheduler goes on as it is: shut it down, or drop it, too.
    ///
    /// ```
    /// use std::{sync::Arc, time::Duration};
    /// use tidings::{ConfigMap, CooperativeScheduler, MemoryStore, SchedulerExt};
    /// use tokio::sync::oneshot;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = ConfigMap::builder().build()?;
    /// let scheduler = CooperativeScheduler::builder(Arc::new(MemoryStore::new()), config).build()?;
    /// // In a service, for example `tokio::signal::ctrl_c()`.
    /// let (stop, stopped) = oneshot::channel::<()>();
    /// stop.send(()).ok();
    /// let signal = async move { drop(stopped.await) };
    /// let report = scheduler.run_until(signal, Duration::from_secs(20)).await?;
    /// assert_eq!(report.abandoned, 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What [`start`](Scheduler::start) gives.
    async fn run_until<F>(
        &self,
        signal: F,
        deadline: Duration,
    ) -> Result<ShutdownReport, SchedulerError>
    where
        F: Future<Output = ()> + Send,
    {
        let mut signal = Box::pin(signal);
        tokio::select! {
            biased;
            () = &mut signal => return Ok(self.shutdown(deadline).await),
            started = self.start() => started?,
        }
        signal.await;
        Ok(self.shutdown(deadline).await)
    }
}

impl<S: Scheduler + ?Sized> SchedulerExt for S {}

/// How a shutdown went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Requests that were given back, so that others run them at once.
    pub handed_back: usize,
    /// Executions that could not be stopped by the deadline; their requests are rescued when
    /// their leases run out.
    pub abandoned: usize,
}

/// Why a scheduler did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchedulerError {
    /// It was started before.
    #[error("the scheduler has been started already; build another one to run two")]
    AlreadyStarted,
    /// It was shut down, and does not start again.
    #[error("the scheduler was shut down; build another one")]
    Stopped,
    /// It is not running.
    #[error("{action} needs a running scheduler, but it {}", IsInstead(*.state))]
    NotRunning {
        /// What was asked.
        action: &'static str,
        /// What it is.
        state: SchedulerState,
    },
    /// The operating system gave no thread for the renewal of leases.
    #[error("no thread could be started for the renewal of leases; raise the limit of threads")]
    Thread(#[source] std::io::Error),
    /// The store refuses to take the handlers' registrations: its schema is missing, for example.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How it is, in place of running.
struct IsInstead(SchedulerState);

impl fmt::Display for IsInstead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            SchedulerState::Created => f.write_str("has not been started"),
            state => write!(f, "is {state}"),
        }
    }
}
