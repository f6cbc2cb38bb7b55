//! Builds schedulers.

use std::{fmt, sync::Arc, time::Duration};

#[cfg(feature = "test-util")]
use futures_util::future::BoxFuture;

use super::engine::{Engine, Plan};
use crate::{
    config_map::ConfigMap,
    executor::Executor,
    handler::{BeforeExecute, BeforeProcess, ErrorReporter},
    instrumented::InstrumentedStorer,
    raiser::Raiser,
    settings::{BuildError, Retention, Settings},
    store::Storer,
    store_calls::StoreCalls,
    telemetry::Telemetry,
};

/// Builds a [`ConcurrentScheduler`](super::ConcurrentScheduler) or a
/// [`CooperativeScheduler`](super::CooperativeScheduler). The defaults suit most services.
#[must_use = "nothing is built until `build`"]
pub struct SchedulerBuilder<S> {
    store: Arc<dyn Storer>,
    config: ConfigMap,
    settings: Settings,
    plan: Plan,
    make: fn(Engine) -> S,
}

impl<S> SchedulerBuilder<S> {
    pub(super) fn new(
        store: Arc<dyn Storer>,
        config: ConfigMap,
        plan: Plan,
        make: fn(Engine) -> S,
    ) -> Self {
        Self {
            store,
            config,
            settings: Settings::default(),
            plan,
            make,
        }
    }

    /// How many handlers run at the same time in this process, from 1 to 10,000; the default is 16.
    /// More suit handlers that wait for other systems; those that compute want a pool of their own.
    pub fn workers(mut self, workers: usize) -> Self {
        self.settings.workers = workers;
        self
    }

    /// The most rows of one statement: events fanned out, requests claimed, outcomes settled; from
    /// 1 to 10,000, the default is 1000. It bounds, too, how many requests wait in this process.
    pub fn batch_size(mut self, rows: usize) -> Self {
        self.settings.batch_size = rows;
        self
    }

    /// How long a lost process keeps its requests from others, from 100 ms to 24 h; the default is
    /// 30 s. Leases are renewed three times in that while, so a handler may take longer.
    ///
    /// A call time-out that was set before and is longer becomes as long as the lease.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease;
        self.settings.call_timeout = self.settings.call_timeout.min(lease);
        self
    }

    /// How often to look for work that no wake-up told of, from 1 ms to 1 h; the default is 5 s. On
    /// a store that does not hear of the commits of others it is 1 s at most.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.settings.poll_interval = interval;
        self
    }

    /// The time limit of one call to the store, at most the lease; the default is 10 s.
    pub fn call_timeout(mut self, limit: Duration) -> Self {
        self.settings.call_timeout = limit;
        self
    }

    /// Adds a hook that runs before an event is fanned out, after those added earlier. With hooks,
    /// a batch costs one more statement and has at most 128 events, and is fanned out when the hooks
    /// of all of them have ended.
    pub fn before_process(mut self, hook: impl BeforeProcess) -> Self {
        self.settings.before_process.push(Arc::new(hook));
        self
    }

    /// Adds a hook that runs before a handler does, after those added earlier.
    pub fn before_execute(mut self, hook: impl BeforeExecute) -> Self {
        self.settings.before_execute.push(Arc::new(hook));
        self
    }

    /// Who hears of panics and final errors; nobody by default.
    pub fn error_reporter(mut self, reporter: impl ErrorReporter) -> Self {
        self.settings.reporter = Some(Arc::new(reporter));
        self
    }

    /// The raiser whose limits hold for events that handlers raise; the default limits otherwise.
    pub fn raiser(mut self, raiser: Raiser) -> Self {
        self.settings.raiser = Some(raiser);
        self
    }

    /// Where metrics and spans go; the global providers by default.
    pub fn telemetry(mut self, telemetry: Telemetry) -> Self {
        self.settings.telemetry = telemetry;
        self
    }

    /// How long what has ended is kept. By default, events whose requests have all completed or been
    /// canceled are **deleted** with these after seven days, and so are those that nobody wanted; what
    /// is dead is kept. [`Retention::never`] keeps everything.
    ///
    /// One scheduler on a store is enough to delete; several do not disturb each other, so all have
    /// the same setting best. Cost on SQL: a look at every event about once an hour in each process,
    /// a batch of 500 a call, with rests that are four times as long as the calls.
    pub fn retention(mut self, retention: Retention) -> Self {
        self.settings.retention = retention;
        self
    }

    /// Whether to install a panic hook, once per process, that records the backtraces of panics
    /// inside handlers and then calls the hook that was there before; the default is yes. Panics
    /// are caught either way.
    pub fn capture_panics(mut self, capture: bool) -> Self {
        self.settings.capture_panics = capture;
        self
    }

    /// Renews leases by a task on the runtime instead of a thread of its own, so that a runtime
    /// with paused time is the only clock. A handler that blocks all threads then loses its lease.
    #[cfg(feature = "test-util")]
    pub fn renew_on_runtime(mut self) -> Self {
        self.settings.renewal_thread = false;
        self
    }

    /// Passes every task that the scheduler spawns, its workers with their handlers included, through
    /// `wrap`, which answers what is spawned instead. What is never polled stands still, and what is
    /// dropped is lost: so a simulation lets one of several processes on a runtime freeze or crash.
    #[cfg(feature = "test-util")]
    pub fn wrap_tasks(
        mut self,
        wrap: impl Fn(BoxFuture<'static, ()>) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        self.settings.tasks = Some(Arc::new(wrap));
        self
    }

    /// Checks the settings and the `ConfigMap` against the store. Nothing runs before
    /// [`start`](super::Scheduler::start).
    ///
    /// # Errors
    /// The setting that is out of range, or the transactional handler that takes the connection of
    /// another database.
    pub fn build(self) -> Result<S, BuildError> {
        self.settings.check()?;
        self.config.check_connection(self.store.connection_type())?;
        let telemetry = &self.settings.telemetry;
        let store = if telemetry.is_enabled() {
            Arc::new(InstrumentedStorer::new(self.store, telemetry.clone()))
        } else {
            self.store
        };
        let calls = StoreCalls::new(store, &self.settings);
        let executor = Executor::new(calls.clone(), self.config, self.settings);
        Ok((self.make)(Engine::new(calls, executor, self.plan)))
    }
}

impl<S> fmt::Debug for SchedulerBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchedulerBuilder")
            .field("store", &self.store)
            .field("config", &self.config)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
