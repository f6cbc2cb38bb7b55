//! Two schedulers with different handlers on one store, while calls fail, hang and lose their answers,
//! requests are canceled and reexecuted, and one scheduler after the other is lost or shut down. What
//! the store did the model must allow, and what the schedulers asked for they must have had a right to.
//!
//! Each scheduler's calls are written down twice: as it sees them, with the answers that got lost, and
//! behind the faults, as they took effect.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tidings::{
    Backoff, Clock, ConcurrentScheduler, ConfigMap, Context, CooperativeScheduler, Event,
    EventData, Handler, HandlerError, HandlerRequestId, MemoryConnection, MemoryStore,
    RuntimeClock, Scheduler,
    faulty::{Fault, Faults, FaultyStorer, Operation},
    store::{Page, RequestFilter, Storer},
};

use super::{
    log::Log,
    obligations::check,
    recorder::Recorder,
    replay::{Replayed, replay},
    seeds::{Chance, failed, is_rerun, seeds},
    stores::Total,
};

const LEASE: Duration = Duration::from_secs(6);
const ROUNDS: usize = 60;
/// Of the paused clock: what has not ended by then never does.
const LIMIT: Duration = Duration::from_secs(24 * 3600);

/// What goes wrong, and where: only calls of which it makes a difference.
const OPERATIONS: &[Operation] = &[
    Operation::Settle,
    Operation::Commit,
    Operation::Claim,
    Operation::FanOut,
    Operation::HandBack,
    Operation::Renew,
    Operation::Rescue,
    Operation::FindRequest,
    Operation::FindRequestForUpdate,
    Operation::Begin,
];
const FAULTS: &[Fault] = &[
    Fault::LoseAnswer,
    Fault::LoseAnswer,
    Fault::Fail,
    Fault::Conflict,
    Fault::Delay(Duration::from_secs(1)),
    // Longer than a call may take, so that it is given up.
    Fault::Delay(Duration::from_secs(4)),
];

#[tokio::test(start_paused = true)]
async fn whatever_two_schedulers_do_the_model_allows() {
    let (mut total, mut locked_reads) = (Total::default(), 0);
    for seed in seeds(60) {
        let (replayed, reads) = run(seed).await;
        total.add(replayed);
        locked_reads += reads;
    }
    total.tell("schedulers");
    println!("schedulers: {locked_reads} commits without an answer were read again");
    assert!(
        locked_reads > 0 || is_rerun(),
        "no answer to a commit was lost"
    );
}

type Shared = Arc<Mutex<Chance>>;

/// A store, and who uses it.
struct World {
    store: Arc<dyn Storer>,
    /// What took effect.
    inner: Log,
    /// What the schedulers saw.
    outer: Log,
    chance: Shared,
}

/// A scheduler, its faults, and its number, which no other one had before.
struct Running {
    scheduler: Box<dyn Scheduler>,
    faults: Faults,
}

/// What the trace came to, and how often a commit without an answer was followed by a locked read.
async fn run(seed: u64) -> (Replayed, usize) {
    let clock = RuntimeClock::default();
    let log = move || Log::new(move || clock.now().timestamp_micros().unsigned_abs());
    let world = World {
        store: Arc::new(MemoryStore::with_clock(clock)),
        inner: log(),
        outer: log(),
        chance: Arc::new(Mutex::new(Chance::new(seed))),
    };
    let mut running = vec![world.start(0).await, world.start(1).await];
    let operator = Recorder::new(Arc::clone(&world.store), &world.inner, 0);
    for round in 0..ROUNDS {
        let (what, which, wait) = {
            let mut chance = world.chance.lock().expect("no panic");
            (chance.below(100), chance.below(2), chance.below(2500))
        };
        match what {
            0..35 => raise(&operator, if which == 0 { "a" } else { "b" }).await,
            35..75 => world.inject(&running[which].faults),
            75..85 => world.operate(&operator).await,
            85..92 => {
                let fresh = world.start(round + 2).await;
                let old = std::mem::replace(&mut running[which], fresh);
                if what % 2 == 0 {
                    old.scheduler.shutdown(Duration::from_secs(1)).await;
                }
                // Else it is lost with all that it holds.
            }
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(wait as u64)).await;
    }
    for it in &running {
        it.faults.heal_all();
    }
    // The first number has the handlers that the last ones may not have.
    running.push(world.start(ROUNDS * 2).await);
    let ended = tokio::time::timeout(LIMIT, until_all_ended(&*world.store)).await;
    if ended.is_err() {
        failed(seed, "something was left open");
    }
    for it in &running {
        it.scheduler.shutdown(Duration::from_secs(5)).await;
    }
    read_everything(&operator).await;
    let outer = world.outer.calls();
    let locked_reads = check(&outer).unwrap_or_else(|broken| failed(seed, broken));
    let replayed = replay(&world.inner.calls());
    let replayed = replayed.unwrap_or_else(|rejected| failed(seed, rejected));
    (replayed, locked_reads)
}

impl World {
    /// Starts a scheduler; even ones are concurrent and have all handlers, odd ones have one less.
    async fn start(&self, number: usize) -> Running {
        let inner = Recorder::new(Arc::clone(&self.store), &self.inner, number);
        let faulty = FaultyStorer::new(Arc::new(inner));
        let faults = faulty.faults();
        let store = Arc::new(Recorder::new(Arc::new(faulty), &self.outer, number));
        macro_rules! build {
            ($scheduler:ty) => {{
                let builder = <$scheduler>::builder(store, self.config(number))
                    .lease(LEASE)
                    .call_timeout(Duration::from_secs(3))
                    .renew_on_runtime();
                Box::new(builder.build().expect("good settings")) as Box<dyn Scheduler>
            }};
        }
        let scheduler = if number.is_multiple_of(2) {
            build!(ConcurrentScheduler)
        } else {
            build!(CooperativeScheduler)
        };
        scheduler.start().await.expect("it starts");
        Running { scheduler, faults }
    }

    fn config(&self, number: usize) -> ConfigMap {
        let chance = Arc::clone(&self.chance);
        let plain = Handler::new("plain", move |_: Arc<Event>, context: Context| {
            let chance = Arc::clone(&chance);
            async move {
                if context.event().name == "a" {
                    context.raise(Event::from_data("followed", EventData::null()));
                }
                answer(&chance).await
            }
        });
        let chance = Arc::clone(&self.chance);
        let writes = Handler::transactional_with_state("writes", chance, writes);
        let short = Backoff::exponential(Duration::from_secs(2), Duration::from_secs(10));
        let map = ConfigMap::builder();
        let map = map.handler(plain.on("a").on("b").max_errors(3).backoff(short));
        let map = if number.is_multiple_of(2) {
            // Every other one lets its executions share a transaction.
            let writes = writes.on("b").max_errors(2).backoff(short);
            map.handler(if number.is_multiple_of(4) {
                writes.shared_transactions()
            } else {
                writes
            })
        } else {
            map
        };
        map.build().expect("a good map")
    }

    fn inject(&self, faults: &Faults) {
        let mut chance = self.chance.lock().expect("no panic");
        let operation = chance.one_of(OPERATIONS).expect("one");
        let fault = chance.one_of(FAULTS).expect("one");
        let times = 1 + chance.below(2);
        faults.inject(operation, fault, times);
    }

    /// An operator cancels, reexecutes or hurries something.
    async fn operate(&self, store: &Recorder) {
        let ids = ids(store).await;
        let (id, what) = {
            let mut chance = self.chance.lock().expect("no panic");
            (chance.one_of(&ids), chance.below(3))
        };
        let Some(id) = id else { return };
        let mut session = store.session().await.expect("a session");
        let mut requests = session.handler_requests();
        // What its state does not allow is refused, which the model is asked about, too.
        let _ = match what {
            0 => requests.cancel(id).await,
            1 => requests.reexecute(id).await,
            _ => requests.run_now(id).await,
        };
    }
}

async fn writes(
    chance: Shared,
    _: Arc<Event>,
    context: Context,
    _: &mut MemoryConnection,
) -> Result<(), HandlerError> {
    // Stored in the handler's transaction: what it writes.
    context.raise(Event::from_data("written", EventData::null()));
    answer(&chance).await
}

/// Takes a while, longer than a lease at times, and answers anything.
async fn answer(chance: &Shared) -> Result<(), HandlerError> {
    let (millis, answer) = {
        let mut chance = chance.lock().expect("no panic");
        (chance.below(9000), chance.below(20))
    };
    tokio::time::sleep(Duration::from_millis(millis as u64)).await;
    match answer {
        0..4 => Err(HandlerError::new("broken")),
        4 => Err(HandlerError::discard("no")),
        5 => Err(HandlerError::snooze(Duration::from_secs(3))),
        6 => Err(HandlerError::cancel("no")),
        _ => Ok(()),
    }
}

async fn raise(store: &Recorder, name: &str) {
    let mut tx = store.begin().await.expect("a transaction");
    let event = Event::from_data(name, EventData::null());
    tx.events().raise(&[event]).await.expect("raised");
    tx.commit().await.expect("committed");
}

async fn ids(store: &dyn Storer) -> Vec<HandlerRequestId> {
    let mut session = store.session().await.expect("a session");
    let (filter, page) = (RequestFilter::default(), Page::first(100_000));
    let requests = session.handler_requests().list(&filter, &page).await;
    let requests = requests.expect("a list");
    requests.into_iter().map(|request| request.id).collect()
}

/// The clock is paused, so that looking every second costs no time.
async fn until_all_ended(store: &dyn Storer) {
    loop {
        let mut session = store.session().await.expect("a session");
        let events = session.events().count_unprocessed().await;
        let requests = session.handler_requests().count_unexecuted().await;
        if (events.expect("a count"), requests.expect("a count")) == (0, 0) {
            return;
        }
        drop(session);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn read_everything(store: &Recorder) {
    for id in ids(store).await {
        let mut session = store.session().await.expect("a session");
        let found = session.handler_requests().find(id).await;
        assert!(
            found.expect("an answer").is_some(),
            "what is listed is found"
        );
    }
}
