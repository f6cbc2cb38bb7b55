//! The world of one history: a store, processes, and what is known of them.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use parking_lot::{Mutex, MutexGuard};
use rand::{SeedableRng, rngs::SmallRng};
use tidings::{
    Clock, MemoryStore, Result, Signals,
    store::{ClaimedRequest, Prune, Pruned, Storer},
};
use tokio::time::Instant;

use crate::{
    broken::{Breakage, Server},
    gate::Mode,
    history::{Effect, What},
    plan::Plan,
    state::{State, later, start},
    verdict::Wrong,
};

/// Clones are the same world.
#[derive(Clone)]
pub(crate) struct World(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) store: MemoryStore,
    pub(crate) breakage: Breakage,
    clock: SimulatedClock,
    state: Mutex<State>,
    /// The signals of each process.
    signals: Mutex<Vec<Signals>>,
    /// For a store that gives a claim twice.
    pub(crate) given: Mutex<Option<ClaimedRequest>>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

impl Deref for World {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// The virtual time of the runtime, from the same beginning in all histories.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SimulatedClock {
    origin: Instant,
}

impl Clock for SimulatedClock {
    fn now(&self) -> DateTime<Utc> {
        later(start(), self.origin.elapsed())
    }
}

pub(crate) struct Locked<'w>(MutexGuard<'w, State>);

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.0
    }
}

impl World {
    pub(crate) fn new(seed: u64, plan: &Plan, breakage: Breakage) -> Self {
        let clock = SimulatedClock {
            origin: Instant::now(),
        };
        // Other numbers than those by which the plan was drawn.
        let rng = SmallRng::seed_from_u64(seed ^ 0x5eed);
        Self(Arc::new(Inner {
            store: MemoryStore::with_clock(clock).lock_timeout(plan.lock_timeout),
            breakage,
            clock,
            state: Mutex::new(State::new(plan, rng)),
            signals: Mutex::default(),
            given: Mutex::default(),
        }))
    }

    /// What is known, with the time as it is.
    pub(crate) fn lock(&self) -> Locked<'_> {
        let mut state = self.state.lock();
        state.now = self.clock.now();
        Locked(state)
    }

    /// Looks at what is known, or changes it; never across an await point.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.lock())
    }

    pub(crate) fn server(&self) -> Server<'_> {
        Server(self)
    }

    pub(crate) fn add_signals(&self, signals: Signals) {
        self.signals.lock().push(signals);
    }

    /// A process has made work, of which it hears itself.
    pub(crate) fn wake(&self, process: usize, raised: bool) {
        let signals = self.signals.lock()[process].clone();
        let hears_all = self.state.lock().processes[process].hears_all;
        if hears_all {
            return;
        }
        signals.ready.raise();
        signals.settled.raise();
        if raised {
            signals.raised.raise();
        }
    }

    /// A process ends where it stands.
    pub(crate) fn crash(&self, process: usize) {
        let mut state = self.lock();
        state.log(Some(process), What::Process("crashes"));
        state.count("crashes");
        let gate = state.processes[process].gate.clone();
        drop(state);
        gate.set(Mode::Crashed);
    }

    /// Deletes, and sees to it that nothing went that had not ended.
    pub(crate) async fn prune(&self, prune: &Prune) -> Result<Pruned> {
        let mut session = self.store.session().await?;
        let pruned = session.events().prune(prune).await?;
        if pruned.events == 0 {
            return Ok(pruned);
        }
        let processed: Vec<_> = {
            let state = self.lock();
            let processed = state.events.iter().filter(|(_, event)| event.processed);
            processed.map(|(id, _)| *id).collect()
        };
        let mut gone = 0;
        for id in processed {
            if session.events().find(id).await?.is_some() {
                continue;
            }
            gone += 1;
            let mut state = self.lock();
            let now = state.now;
            state.events.remove(&id);
            let requests = state.requests.iter();
            let requests: Vec<_> = requests
                .filter(|(_, entry)| entry.row.event_id == id)
                .map(|(id, entry)| (*id, entry.row.state(now)))
                .collect();
            for (request, at_last) in requests {
                if !at_last.is_end() {
                    let detail = format!("{request} was {at_last} and was deleted");
                    state.object(Wrong::Lost, detail);
                }
                state.requests.remove(&request);
            }
        }
        let mut state = self.lock();
        if gone != pruned.events {
            let detail = format!("{gone} events are gone, not {}", pruned.events);
            state.object(Wrong::Lost, detail);
        }
        state.log(None, What::Took(Effect::Pruned(gone)));
        drop(state);
        Ok(pruned)
    }

    /// Whether nothing is left to do.
    pub(crate) fn is_done(&self) -> bool {
        let state = self.lock();
        state.events.values().all(|event| event.processed)
            && state
                .requests
                .values()
                .all(|entry| entry.row.state(state.now).is_end())
    }

    /// All is well from now on: nothing goes wrong any more.
    pub(crate) fn heal(&self) {
        let mut state = self.lock();
        let latency = state.faults.usual_latency;
        state.faults = crate::plan::Faults {
            usual_latency: latency,
            ..Default::default()
        };
        state.mood.kills = 0.0;
        state.mood.odd = state.mood.odd.min(0.2);
        state.outages = 0;
        state.disturb_all(Duration::ZERO, "what was before");
        state.log(None, What::World("heals"));
    }
}
