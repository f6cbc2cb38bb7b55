//! What can be tuned: few settings, each with the effect that it has.

mod retention;

use std::{fmt, future::Future, sync::Arc, time::Duration};

#[cfg(feature = "test-util")]
use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;

pub use retention::Retention;

use crate::{
    config_map::ConfigError,
    handler::{BeforeExecute, BeforeProcess, ErrorReporter},
    raiser::Raiser,
    telemetry::Telemetry,
};

/// The settings that a processor, an executor and a scheduler share.
#[derive(Clone)]
pub(crate) struct Settings {
    /// Handlers that run at the same time in this process.
    pub(crate) workers: usize,
    /// The most rows of one statement: events fanned out, requests claimed, outcomes settled.
    pub(crate) batch_size: usize,
    /// How long a claim holds without renewal.
    pub(crate) lease: Duration,
    /// How often to look for work that no wake-up told of.
    pub(crate) poll_interval: Duration,
    /// The time limit of one call to the store.
    pub(crate) call_timeout: Duration,
    pub(crate) before_process: Vec<Arc<dyn BeforeProcess>>,
    pub(crate) before_execute: Vec<Arc<dyn BeforeExecute>>,
    pub(crate) reporter: Option<Arc<dyn ErrorReporter>>,
    /// The limits of events that handlers raise; the defaults if there is none.
    pub(crate) raiser: Option<Raiser>,
    pub(crate) telemetry: Telemetry,
    /// Whether panics of handlers are recorded with their backtrace.
    pub(crate) capture_panics: bool,
    /// Whether leases are renewed by a thread of its own, which is what keeps them when handlers
    /// block all threads of the runtime. Off only where virtual time rules.
    pub(crate) renewal_thread: bool,
    /// What is deleted.
    pub(crate) retention: Retention,
    /// What each task of the scheduler runs in; plain tasks if there is none.
    #[cfg(feature = "test-util")]
    pub(crate) tasks: Option<TaskWrapper>,
}

/// Makes the future of a task from that of the scheduler's.
#[cfg(feature = "test-util")]
pub(crate) type TaskWrapper =
    Arc<dyn Fn(BoxFuture<'static, ()>) -> BoxFuture<'static, ()> + Send + Sync>;

impl Settings {
    /// Enough for handlers that wait for other systems; one that computes wants a thread pool.
    pub(crate) const DEFAULT_WORKERS: usize = 16;
    /// Where the cost of a round trip disappears beside that of the rows.
    pub(crate) const DEFAULT_BATCH_SIZE: usize = 1000;
    /// A lost process's requests run elsewhere after this.
    pub(crate) const DEFAULT_LEASE: Duration = Duration::from_secs(30);
    /// The safety net under wake-ups.
    pub(crate) const DEFAULT_POLL_INTERVAL: Duration = Duration::from_secs(5);
    /// A third of the lease, so that one slow call does not lose it.
    pub(crate) const DEFAULT_CALL_TIMEOUT: Duration = Duration::from_secs(10);

    /// The longest that outcomes wait for others to be settled with.
    pub(crate) const SETTLE_LINGER: Duration = Duration::from_millis(2);

    /// Three renewals per lease: two may fail.
    pub(crate) fn renewal_interval(&self) -> Duration {
        self.lease / 3
    }

    /// How long a transactional handler may take where its transaction keeps all other writers
    /// waiting: less than a renewal waits before the lease is in danger, and than any call waits.
    pub(crate) fn lone_transaction_timeout(&self) -> Duration {
        (self.lease / 4).min(self.call_timeout * 3 / 4)
    }

    /// Spawns a task of the scheduler's.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        #[cfg(feature = "test-util")]
        if let Some(wrap) = &self.tasks {
            return tokio::spawn(wrap(Box::pin(task)));
        }
        tokio::spawn(task)
    }

    /// Half of the 5 s in which, after its lease, a lost process's requests run elsewhere: the other
    /// half is for the calls.
    pub(crate) fn rescue_pause(&self) -> Duration {
        (self.lease / 4).clamp(Duration::from_millis(20), Duration::from_millis(2500))
    }

    /// How long one event's before-process hooks may take: the hooks of a round run in four turns,
    /// which must fit into the lease of the claimed events.
    pub(crate) fn hook_timeout(&self) -> Duration {
        const MOST: Duration = Duration::from_secs(5);
        MOST.min(self.lease / 6)
    }

    /// How many executions one handler may have at the same time if it does not say.
    pub(crate) fn default_concurrency(&self) -> usize {
        (self.workers * 3 / 4).max(1)
    }

    pub(crate) fn check(&self) -> Result<(), BuildError> {
        let rows = "choose 1 to 10,000";
        let is_bad_count = |count: usize| count == 0 || count > 10_000;
        let is_outside = |time: Duration, least: Duration, most_secs: u64| {
            time < least || time > Duration::from_secs(most_secs)
        };
        let (count, time) = (
            |count: usize| count.to_string(),
            |time: Duration| format!("{time:?}"),
        );
        for (setting, is_bad, value, remedy) in [
            (
                "workers",
                is_bad_count(self.workers),
                count(self.workers),
                rows,
            ),
            (
                "batch_size",
                is_bad_count(self.batch_size),
                count(self.batch_size),
                rows,
            ),
            (
                "lease",
                is_outside(self.lease, Duration::from_millis(100), 24 * 3600),
                time(self.lease),
                "choose 100 ms to 24 h",
            ),
            (
                "poll_interval",
                is_outside(self.poll_interval, Duration::from_millis(1), 3600),
                time(self.poll_interval),
                "choose 1 ms to 1 h",
            ),
            (
                "call_timeout",
                self.call_timeout.is_zero() || self.call_timeout > self.lease,
                format!("{:?}, with a lease of {:?}", self.call_timeout, self.lease),
                "choose more than zero and at most the lease",
            ),
            (
                "Retention::every",
                is_outside(self.retention.every, Duration::from_secs(1), 30 * 24 * 3600),
                time(self.retention.every),
                "choose 1 s to 30 days",
            ),
            (
                "Retention::batch",
                is_bad_count(self.retention.batch),
                count(self.retention.batch),
                rows,
            ),
        ] {
            if is_bad {
                return Err(BuildError::Setting {
                    setting,
                    value,
                    remedy,
                });
            }
        }
        Ok(())
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            workers: Self::DEFAULT_WORKERS,
            batch_size: Self::DEFAULT_BATCH_SIZE,
            lease: Self::DEFAULT_LEASE,
            poll_interval: Self::DEFAULT_POLL_INTERVAL,
            call_timeout: Self::DEFAULT_CALL_TIMEOUT,
            before_process: Vec::new(),
            before_execute: Vec::new(),
            reporter: None,
            raiser: None,
            telemetry: Telemetry::default(),
            capture_panics: true,
            renewal_thread: true,
            retention: Retention::default(),
            #[cfg(feature = "test-util")]
            tasks: None,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("workers", &self.workers)
            .field("batch_size", &self.batch_size)
            .field("lease", &self.lease)
            .field("poll_interval", &self.poll_interval)
            .field("call_timeout", &self.call_timeout)
            .field("retention", &self.retention)
            .finish_non_exhaustive()
    }
}

/// Why a scheduler could not be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A setting that is out of range.
    #[error("the scheduler's setting `{setting}` is out of range: {value}; {remedy}")]
    Setting {
        /// The setting, by the name of its method.
        setting: &'static str,
        /// What was given.
        value: String,
        /// The range.
        remedy: &'static str,
    },
    /// A `ConfigMap` that does not fit the store.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

#[cfg(test)]
mod tests;
