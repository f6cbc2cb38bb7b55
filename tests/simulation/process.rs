//! A process: a scheduler on the simulated store, behind its gate.

use std::{sync::Arc, time::Duration};

use tidings::{
    ConcurrentScheduler, ConfigMap, CooperativeScheduler, HandlerError, ProcessContext, Retention,
    Scheduler, Signals, Telemetry, store::Storer,
};

use crate::{
    calls::Caller,
    gate::{Gate, Mode},
    handlers::handler,
    history::What,
    plan::{Plan, ProcessPlan, ms},
    state::{Process, later},
    storer::SimulatedStorer,
    verdict::Wrong,
    world::World,
};

/// A process that was started, and may have ended.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) number: usize,
    pub(crate) gate: Gate,
    pub(crate) scheduler: Arc<dyn Scheduler>,
}

pub(crate) fn config(plan: &Plan, handlers: &[usize], world: &World, process: usize) -> ConfigMap {
    let handlers = handlers
        .iter()
        .map(|number| handler(&plan.handlers[*number], world, process, *number));
    handlers
        .fold(ConfigMap::builder(), |map, handler| map.handler(handler))
        .build()
        .expect("a good map")
}

impl Running {
    pub(crate) fn start(world: &World, plan: &Plan, of: &ProcessPlan) -> Self {
        let gate = Gate::default();
        let signals = if plan.hears_all {
            world.store.signals()
        } else {
            Signals::new()
        };
        let number = {
            let mut state = world.lock();
            let now = state.now;
            let number = state.processes.len();
            state.processes.push(Process {
                gate: gate.clone(),
                handlers: of.handlers.clone(),
                clock_ahead: of.clock_ahead,
                hears_all: plan.hears_all,
                started_at: None,
                paused: false,
                ends: false,
                stopped: false,
                disturbed_until: now,
                why_disturbed: "its start",
                held: 0,
                emptied_at: now,
                running: 0,
                idle_since: now,
            });
            state.log(Some(number), What::Process("starts"));
            number
        };
        world.add_signals(signals.clone());
        let store = SimulatedStorer {
            caller: Caller {
                world: world.clone(),
                process: number,
            },
            signals,
            hears_all: plan.hears_all,
            concurrent_writers: plan.concurrent_writers,
        };
        let scheduler = build(world, plan, of, Arc::new(store), &gate, number);
        let running = Self {
            number,
            gate,
            scheduler,
        };
        running.spawn_start(world);
        running
    }

    fn spawn_start(&self, world: &World) {
        let (scheduler, world, number) = (Arc::clone(&self.scheduler), world.clone(), self.number);
        tokio::spawn(self.gate.wrap(Box::pin(async move {
            // Only what the history did may keep it from starting.
            if scheduler.start().await.is_ok() {
                let mut state = world.lock();
                state.processes[number].started_at = Some(state.now);
                state.log(Some(number), What::Process("runs"));
            }
        })));
    }

    pub(crate) fn freeze(&self, world: &World, lasting: Duration) {
        if self.gate.mode() != Mode::Runs {
            return;
        }
        let mut state = world.lock();
        state.log(Some(self.number), What::Process("stands still"));
        state.count("freezes");
        state.disturb(self.number, lasting, "its process was frozen");
        drop(state);
        self.gate.set(Mode::Frozen);
        let (this, world) = (self.clone(), world.clone());
        tokio::spawn(async move {
            tokio::time::sleep(lasting).await;
            this.thaw(&world);
        });
    }

    pub(crate) fn thaw(&self, world: &World) {
        if self.gate.mode() == Mode::Frozen {
            let mut state = world.lock();
            state.log(Some(self.number), What::Process("goes on"));
            state.disturb(self.number, ms(5), "its process was frozen");
            drop(state);
            self.gate.set(Mode::Runs);
        }
    }

    pub(crate) fn pause(&self, world: &World, lasting: Duration) {
        let (scheduler, world, number) = (Arc::clone(&self.scheduler), world.clone(), self.number);
        tokio::spawn(self.gate.wrap(Box::pin(async move {
            world.lock().processes[number].paused = true;
            world.lock().log(Some(number), What::Process("pauses"));
            if scheduler.pause().await.is_ok() {
                world.lock().count("pauses");
                tokio::time::sleep(lasting).await;
            }
            drop(scheduler.resume().await);
            let mut state = world.lock();
            state.processes[number].paused = false;
            state.disturb(number, Duration::ZERO, "a pause");
            state.log(Some(number), What::Process("resumes"));
        })));
    }

    pub(crate) fn shut_down(&self, world: &World, deadline: Duration) {
        let (scheduler, world, number) = (Arc::clone(&self.scheduler), world.clone(), self.number);
        tokio::spawn(self.gate.wrap(Box::pin(async move {
            let began = {
                let mut state = world.lock();
                state.processes[number].ends = true;
                state.log(Some(number), What::Process("shuts down"));
                state.count("shutdowns");
                state.now
            };
            let _report = scheduler.shutdown(deadline).await;
            let mut state = world.lock();
            state.processes[number].stopped = true;
            state.log(Some(number), What::Process("has stopped"));
            // One that stood still has an excuse.
            let was_well = state.processes[number].disturbed_until < began;
            if was_well && state.now > later(began, deadline + ms(10)) {
                let took = state.now - began;
                let detail = format!("process {number} took {took} to stop, not {deadline:?}");
                state.object(Wrong::LateShutdown, detail);
            }
        })));
    }
}

fn build(
    world: &World,
    plan: &Plan,
    of: &ProcessPlan,
    store: Arc<dyn Storer>,
    gate: &Gate,
    number: usize,
) -> Arc<dyn Scheduler> {
    let config = config(plan, &of.handlers, world, number);
    macro_rules! build {
        ($scheduler:ty) => {{
            let gate = gate.clone();
            let mut builder = <$scheduler>::builder(store, config)
                .workers(of.workers)
                .batch_size(of.batch_size)
                .lease(plan.lease)
                .poll_interval(plan.poll_interval)
                .call_timeout(plan.call_timeout)
                .retention(retention(of))
                .telemetry(Telemetry::disabled())
                .capture_panics(false)
                .renew_on_runtime()
                .wrap_tasks(move |task| gate.wrap(task));
            if of.hooks {
                builder = builder.before_process(hook(world));
            }
            Arc::new(builder.build().expect("good settings"))
        }};
    }
    if of.cooperative {
        build!(CooperativeScheduler)
    } else {
        build!(ConcurrentScheduler)
    }
}

fn retention(of: &ProcessPlan) -> Retention {
    match of.keeps {
        None => Retention::never(),
        Some(time) => Retention::never()
            .completed_for(Some(time))
            .canceled_for(Some(time))
            .dead_for(Some(time))
            .keep_events_for(Duration::ZERO)
            .every(Duration::from_secs(1)),
    }
}

/// A hook that takes its time, and vetoes now and then.
fn hook(world: &World) -> impl tidings::BeforeProcess + use<> {
    use rand::RngExt;
    let world = world.clone();
    move |_: ProcessContext| {
        let (time, vetoes) = {
            let mut state = world.lock();
            let odd = state.mood.odd > 0.0;
            (
                ms(state.rng.random_range(0..30)),
                odd && state.rng.random_bool(0.2),
            )
        };
        async move {
            tokio::time::sleep(time).await;
            if vetoes {
                return Err(HandlerError::new("vetoed"));
            }
            Ok(())
        }
    }
}
