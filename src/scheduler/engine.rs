//! The engine under both schedulers: the life cycle, and the loops.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::RwLock, task::AbortHandle, time::Instant};

use super::{
    SchedulerError, SchedulerStatus, ShutdownReport,
    beside::Contention,
    beside::{claim_beside, process_beside},
    hearing::{Hearing, listen},
    housekeeping::keep_house,
    lookout::{Known, look_out},
    loops,
    registration::register,
    renames::take_along,
    retention::retain,
    supervisor::supervise,
    surplus::hand_back_surplus,
};
use crate::{
    clock::instant_after,
    executor::{Deadline, Executor},
    model::SchedulerState,
    processor::Processor,
    signal::Signal,
    store::WakeUps,
    store_calls::StoreCalls,
    telemetry::Gauges,
};

/// Which loops run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Fan-out and claims at once.
    Concurrent,
    /// Fan-out and claims by turns.
    Cooperative,
}

/// Owns the life of a scheduler; dropping it stops everything.
#[derive(Debug)]
pub(super) struct Engine(Arc<Inner>);

pub(super) struct Inner {
    pub(super) calls: StoreCalls,
    pub(super) processor: Processor,
    pub(super) executor: Executor,
    plan: Plan,
    state: Mutex<SchedulerState>,
    /// Raised at every change of the state.
    pub(super) changed: Signal,
    /// Held for reading by whoever claims; a pause takes it for writing, so that afterwards no
    /// claim is under way.
    pub(super) gate: RwLock<()>,
    /// Held for reading by a round of fan-out; a shutdown takes it for writing, so that events which
    /// were claimed for hooks are fanned out and not left to the end of their claims.
    pub(super) rounds: RwLock<()>,
    pub(super) hearing: Hearing,
    /// What is known of events to fan out.
    pub(super) events: Known,
    pub(super) contention: Contention,
    /// What is known of requests to claim.
    pub(super) requests: Known,
    /// Whatever runs, except handlers.
    tasks: Mutex<Vec<AbortHandle>>,
    gauges: Arc<Gauges>,
    deadline: Deadline,
    report: Mutex<ShutdownReport>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scheduler")
            .field("plan", &self.plan)
            .field("state", &*self.state.lock())
            .field("settings", self.executor.settings())
            .finish_non_exhaustive()
    }
}

impl Engine {
    pub(super) fn new(calls: StoreCalls, executor: Executor, plan: Plan) -> Self {
        let settings = executor.settings().clone();
        settings
            .telemetry
            .scheduler_state(None, Some(SchedulerState::Created));
        let processor = Processor::new(calls.clone(), settings, executor.owner());
        Self(Arc::new(Inner {
            calls,
            processor,
            executor,
            plan,
            state: Mutex::new(SchedulerState::Created),
            changed: Signal::new(),
            gate: RwLock::new(()),
            rounds: RwLock::new(()),
            hearing: Hearing::default(),
            events: Known::new(),
            contention: Contention::default(),
            requests: Known::new(),
            tasks: Mutex::new(Vec::new()),
            gauges: Arc::new(Gauges::default()),
            deadline: Deadline::new(),
            report: Mutex::new(ShutdownReport::default()),
        }))
    }

    pub(super) async fn start(&self) -> Result<(), SchedulerError> {
        let starting = Starting::begin(&self.0)?;
        tokio::select! {
            biased;
            () = self.0.left(SchedulerState::Starting) => return Err(SchedulerError::Stopped),
            registered = register(&self.0.calls, self.0.executor.config()) => registered?,
        }
        starting.end()
    }

    pub(super) async fn pause(&self) -> Result<(), SchedulerError> {
        match self.0.go(SchedulerState::Running, SchedulerState::Paused) {
            Ok(()) => {}
            Err(SchedulerState::Paused) => return Ok(()),
            Err(state) => {
                return Err(SchedulerError::NotRunning {
                    action: "a pause",
                    state,
                });
            }
        }
        // A task of its own, so that it goes on when this future is dropped.
        let inner = Arc::clone(&self.0);
        let handed_back = self.0.executor.settings().spawn(async move {
            let _no_claims = inner.gate.write().await;
            // Resumed meanwhile, the workers want what is queued.
            if inner.state() == SchedulerState::Paused {
                inner.executor.hand_back_queued().await;
            }
        });
        if handed_back.await.is_err() {
            tracing::error!("the store panicked while requests were handed back");
        }
        Ok(())
    }

    #[expect(clippy::unused_async, reason = "the trait's method is async")]
    pub(super) async fn resume(&self) -> Result<(), SchedulerError> {
        match self.0.go(SchedulerState::Paused, SchedulerState::Running) {
            Ok(()) | Err(SchedulerState::Running) => Ok(()),
            Err(state) => Err(SchedulerError::NotRunning {
                action: "a resumption",
                state,
            }),
        }
    }

    pub(super) fn status(&self) -> SchedulerStatus {
        let (executing, buffered, settling) = self.0.executor.counts();
        SchedulerStatus {
            executing,
            buffered,
            settling,
            store_error: self.0.calls.error(),
            ..SchedulerStatus::new(*self.0.state.lock())
        }
    }

    pub(super) fn is_operational(&self) -> bool {
        matches!(
            *self.0.state.lock(),
            SchedulerState::Running | SchedulerState::Paused
        ) && self.0.calls.error().is_none()
    }

    pub(super) async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        let inner = &self.0;
        if inner
            .go(SchedulerState::Starting, SchedulerState::Stopped)
            .is_ok()
        {
            return ShutdownReport::default();
        }
        let deadline = instant_after(Instant::now(), deadline);
        let begins = inner
            .go(SchedulerState::Running, SchedulerState::ShuttingDown)
            .is_ok()
            || inner
                .go(SchedulerState::Paused, SchedulerState::ShuttingDown)
                .is_ok();
        if !begins && inner.state() != SchedulerState::ShuttingDown {
            // Nothing to end; the deadline of a later shutdown is not this one.
            return ShutdownReport::default();
        }
        inner.deadline.at_the_latest(deadline);
        if begins {
            // A task of its own, so that it goes on when this future is dropped.
            let shutting_down = Arc::clone(inner).shut_down();
            inner.executor.settings().spawn(shutting_down);
        }
        inner.left(SchedulerState::ShuttingDown).await;
        *inner.report.lock()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let state = self.0.state();
        if matches!(state, SchedulerState::Running | SchedulerState::Paused) {
            tracing::warn!(
                "a scheduler that runs was dropped, and is stopped; what it held is rescued when the leases run \
                 out; call `shutdown` instead"
            );
        }
        self.0.stop();
        let telemetry = self.0.executor.telemetry();
        telemetry.scheduler_state(Some(SchedulerState::Stopped), None);
    }
}

/// The time between the beginning and the end of a start; a start that is dropped in between was
/// none.
struct Starting<'a>(&'a Arc<Inner>);

impl<'a> Starting<'a> {
    fn begin(inner: &'a Arc<Inner>) -> Result<Self, SchedulerError> {
        match inner.go(SchedulerState::Created, SchedulerState::Starting) {
            Ok(()) => Ok(Self(inner)),
            Err(SchedulerState::ShuttingDown | SchedulerState::Stopped) => {
                Err(SchedulerError::Stopped)
            }
            Err(_) => Err(SchedulerError::AlreadyStarted),
        }
    }

    /// Everything begins under the lock of the state, so that a shutdown comes before it or after.
    fn end(self) -> Result<(), SchedulerError> {
        let inner = self.0;
        {
            let mut state = inner.state.lock();
            if *state != SchedulerState::Starting {
                return Err(SchedulerError::Stopped);
            }
            let executor = &inner.executor;
            executor.start_renewal().map_err(SchedulerError::Thread)?;
            inner.spawn_loops();
            let from = std::mem::replace(&mut *state, SchedulerState::Running);
            executor
                .telemetry()
                .scheduler_state(Some(from), Some(SchedulerState::Running));
        }
        inner.changed.raise();
        let (settings, store) = (inner.executor.settings(), inner.executor.store());
        tracing::info!(
            store = store.capabilities().system,
            handlers = inner.executor.config().handlers().count(),
            workers = settings.workers,
            lease = ?settings.lease,
            "the scheduler has started"
        );
        Ok(())
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        // Does nothing once the start has ended.
        let _ = self.0.go(SchedulerState::Starting, SchedulerState::Created);
    }
}

/// Stops everything when it is dropped.
struct Stops(Arc<Inner>);

impl Drop for Stops {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Inner {
    pub(super) fn state(&self) -> SchedulerState {
        *self.state.lock()
    }

    pub(super) fn is_running(&self) -> bool {
        self.state() == SchedulerState::Running
    }

    /// Changes the state if it is `from`; else answers what it is.
    fn go(&self, from: SchedulerState, to: SchedulerState) -> Result<(), SchedulerState> {
        {
            let mut state = self.state.lock();
            if *state != from {
                return Err(*state);
            }
            *state = to;
            self.executor
                .telemetry()
                .scheduler_state(Some(from), Some(to));
        }
        tracing::debug!(%from, %to, "scheduler");
        self.changed.raise();
        Ok(())
    }

    /// Waits until the state is another one than `state`. Cancellation safe.
    async fn left(&self, state: SchedulerState) {
        self.reached(|now| now != state).await;
    }

    /// Waits until the scheduler runs, or has been stopped.
    pub(super) async fn running(&self) {
        self.reached(|now| matches!(now, SchedulerState::Running | SchedulerState::Stopped))
            .await;
    }

    /// Waits until the scheduler shuts down, or has been stopped.
    pub(super) async fn ending(&self) {
        self.reached(|now| matches!(now, SchedulerState::ShuttingDown | SchedulerState::Stopped))
            .await;
    }

    async fn reached(&self, wanted: impl Fn(SchedulerState) -> bool) {
        loop {
            let changed = self.changed.seen();
            if wanted(self.state()) {
                return;
            }
            self.changed.changed_since(changed).await;
        }
    }

    fn spawn_loops(self: &Arc<Self>) {
        let executor = &self.executor;
        let telemetry = executor.telemetry();
        telemetry.observe(&self.gauges);
        telemetry.workers(i64::try_from(executor.settings().workers).unwrap_or(i64::MAX));
        let mut tasks = Vec::new();
        let spawn = |name,
                     begin: Box<
            dyn Fn() -> futures_util::future::BoxFuture<'static, ()> + Send + Sync,
        >| {
            executor
                .settings()
                .spawn(supervise(name, begin))
                .abort_handle()
        };
        match self.plan {
            Plan::Concurrent => {
                let (inner, other) = (Arc::clone(self), Arc::clone(self));
                tasks.push(spawn(
                    "process",
                    Box::new(move || Box::pin(loops::process(Arc::clone(&inner)))),
                ));
                tasks.push(spawn(
                    "claim",
                    Box::new(move || Box::pin(loops::claim(Arc::clone(&other)))),
                ));
                // With one writer, a second call would only wait for the first.
                if executor.store().capabilities().concurrent_writers {
                    let (inner, other) = (Arc::clone(self), Arc::clone(self));
                    tasks.push(spawn(
                        "process beside",
                        Box::new(move || Box::pin(process_beside(Arc::clone(&inner)))),
                    ));
                    tasks.push(spawn(
                        "claim beside",
                        Box::new(move || Box::pin(claim_beside(Arc::clone(&other)))),
                    ));
                }
            }
            Plan::Cooperative => {
                let inner = Arc::clone(self);
                tasks.push(spawn(
                    "cooperate",
                    Box::new(move || Box::pin(loops::cooperate(Arc::clone(&inner)))),
                ));
            }
        }
        let inner = Arc::clone(self);
        tasks.push(spawn(
            "look",
            Box::new(move || Box::pin(look_out(Arc::clone(&inner)))),
        ));
        if executor.store().capabilities().wake_ups == WakeUps::Listener {
            let inner = Arc::clone(self);
            tasks.push(spawn(
                "listen",
                Box::new(move || Box::pin(listen(Arc::clone(&inner)))),
            ));
        }
        let (settle, rescue, report, house) = (
            executor.clone(),
            executor.clone(),
            executor.clone(),
            executor.clone(),
        );
        let (calls, gauges) = (self.calls.clone(), Arc::clone(&self.gauges));
        let guard = StopsWithRuntime(settle.clone());
        let settling = supervise("settle", move || settle.clone().settle_loop());
        tasks.push(
            executor
                .settings()
                .spawn(async move {
                    let _guard = guard;
                    settling.await;
                })
                .abort_handle(),
        );
        tasks.push(spawn(
            "rescue",
            Box::new(move || Box::pin(rescue.clone().rescue_loop())),
        ));
        tasks.push(spawn(
            "report",
            Box::new(move || Box::pin(report.clone().report_loop())),
        ));
        tasks.push(spawn(
            "house",
            Box::new(move || {
                Box::pin(keep_house(
                    calls.clone(),
                    house.clone(),
                    Arc::clone(&gauges),
                ))
            }),
        ));
        let calls = self.calls.clone();
        let renames = !executor.config().renamed().is_empty();
        tasks.push(spawn(
            "renames",
            Box::new(move || Box::pin(take_along(calls.clone(), renames))),
        ));
        let inner = Arc::clone(self);
        tasks.push(spawn(
            "surplus",
            Box::new(move || Box::pin(hand_back_surplus(Arc::clone(&inner)))),
        ));
        let inner = Arc::clone(self);
        tasks.push(spawn(
            "retain",
            Box::new(move || Box::pin(retain(Arc::clone(&inner)))),
        ));
        self.tasks.lock().extend(tasks);
    }

    async fn shut_down(self: Arc<Self>) {
        // Also if a store panics in between.
        let stops = Stops(Arc::clone(&self));
        let deadline = &self.deadline;
        let no_claims = tokio::select! {
            biased;
            no_claims = self.gate.write() => Some(no_claims),
            () = deadline.near() => None,
        };
        tokio::select! {
            biased;
            () = self.executor.hand_back_queued() => {}
            () = deadline.reached() => {}
        }
        let rounds = async {
            tokio::select! {
                biased;
                _none = self.rounds.write() => {}
                () = deadline.near() => {}
            }
        };
        let (abandoned, ()) = tokio::join!(self.executor.finish(deadline), rounds);
        *self.report.lock() = ShutdownReport {
            handed_back: self.executor.handed_back(),
            abandoned,
        };
        drop(no_claims);
        drop(stops);
        let handed_back = self.executor.handed_back();
        tracing::info!(handed_back, abandoned, "the scheduler has stopped");
    }

    /// Stops everything at once.
    fn stop(&self) {
        let tasks;
        {
            let mut state = self.state.lock();
            let from = std::mem::replace(&mut *state, SchedulerState::Stopped);
            if from == SchedulerState::Stopped {
                return;
            }
            tasks = std::mem::take(&mut *self.tasks.lock());
            // Whoever sees the new state finds it in the metrics, too.
            let telemetry = self.executor.telemetry();
            telemetry.scheduler_state(Some(from), Some(SchedulerState::Stopped));
            self.gauges.end();
            if !tasks.is_empty() {
                let workers = self.executor.settings().workers;
                telemetry.workers(-i64::try_from(workers).unwrap_or(i64::MAX));
            }
        }
        self.executor.stop();
        for task in tasks {
            task.abort();
        }
        self.changed.raise();
    }
}

/// Dropped with its task: when the runtime ends while the scheduler lives on, nobody is left to run
/// or settle what the renewal thread would renew for ever.
struct StopsWithRuntime(Executor);

impl Drop for StopsWithRuntime {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// A public scheduler around an engine.
macro_rules! scheduler_from_engine {
    ($scheduler:ident) => {
        #[async_trait::async_trait]
        impl $crate::scheduler::Scheduler for $scheduler {
            async fn start(&self) -> Result<(), $crate::scheduler::SchedulerError> {
                self.0.start().await
            }

            async fn pause(&self) -> Result<(), $crate::scheduler::SchedulerError> {
                self.0.pause().await
            }

            async fn resume(&self) -> Result<(), $crate::scheduler::SchedulerError> {
                self.0.resume().await
            }

            fn status(&self) -> $crate::scheduler::SchedulerStatus {
                self.0.status()
            }

            fn is_operational(&self) -> bool {
                self.0.is_operational()
            }

            async fn shutdown(
                &self,
                deadline: std::time::Duration,
            ) -> $crate::scheduler::ShutdownReport {
                self.0.shutdown(deadline).await
            }
        }
    };
}

pub(super) use scheduler_from_engine;
