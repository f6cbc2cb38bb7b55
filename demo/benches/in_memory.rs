//! How fast events go from raise to settlement in memory, beside the bare cost of spawning the
//! same futures on tokio. Contenders are interleaved; medians and ratios are printed.
//!
//! `cargo bench -p demo --bench in_memory [-- EVENTS ROUNDS]`; without numbers also beside a store that
//! grows to a million events.
//!
//! `cargo bench -p demo --bench in_memory -- --check` is small, and ends with exit code 1 when a
//! floor is missed twice, the second time in more rounds: the first two contenders below cost at
//! most 8 bare spawns per event, and beside many held events at most 1.5 times of what they cost
//! beside few. `.ci/run` calls it.
//!
//! What it compares, per event:
//!
//! - *bare spawn*: the handler's future is spawned and ends; nothing is stored;
//! - *raise, then drain*: events are raised in batches of a thousand, then a scheduler starts and
//!   processes, executes and settles them all;
//! - *raise while draining*: the same with the scheduler at work from the beginning;
//! - *one by one*: each event is raised in a transaction of its own while the scheduler works.
//!
//! Where the time goes, as shares of all instructions (`valgrind --tool=callgrind` on this bench
//! with the arguments `20000 1`, built with `CARGO_PROFILE_BENCH_DEBUG=1`; inclusive, so they
//! overlap a little):
//!
//! | part | share |
//! | --- | --- |
//! | raising: making events (7 %), checking, storing them in a transaction (15 %) | 28 % |
//! | settling: gathering, the store's part (13 %), letting go of leases | 18 % |
//! | workers: taking requests from the buffer, running handlers, time-outs, panics | 12 % |
//! | fan-out: matching registrations, making requests, born leased or ready | 11 % |
//! | claims of what was born ready | 6 % |
//! | taking claimed requests in: contexts, held leases, buffer | 6 % |
//! | telemetry with no SDK installed | 3 % |
//! | bare spawns, tokio, and freeing what the rounds leave behind | the rest |
//!
//! Allocation is 9 % and hashing of ids 5 %, spread over the parts.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench talks to a person, and ends when something is wrong"
)]

use std::{
    fmt,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tidings::{
    ConcurrentScheduler, ConfigMap, Context, Event, EventData, Handler, HandlerError, MemoryStore,
    Scheduler,
    store::{RequestFilter, Storer},
};
use tokio::sync::Notify;

/// Events that are raised in one call, as the loops of a busy service would.
const BATCH: usize = 1000;

/// The most that an event may cost beside a bare spawn, however it is raised in batches.
const MOST_SPAWNS: f64 = 8.0;
/// The most that an event may cost beside many held ones, beside what it costs beside few.
const MOST_GROWTH: f64 = 1.5;

fn main() -> ExitCode {
    let numbers: Vec<usize> = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .collect();
    let events = numbers.first().copied().unwrap_or(100_000);
    let rounds = numbers.get(1).copied().unwrap_or(7);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    if std::env::args().any(|argument| argument == "--check") {
        return runtime.block_on(check_floors());
    }
    println!("{rounds} rounds, interleaved; medians in nanoseconds per event");
    runtime.block_on(compare(events, rounds));
    if numbers.is_empty() {
        runtime.block_on(grow(rounds));
    }
    ExitCode::SUCCESS
}

/// Whether all floors hold; what is missed is measured once more, as machines are noisy.
async fn check_floors() -> ExitCode {
    const ROUNDS: [usize; 2] = [15, 45];
    for rounds in ROUNDS {
        let floors = [
            measure_spawns(rounds).await.as_slice(),
            &[measure_growth(rounds).await],
        ]
        .concat();
        println!("{rounds} rounds, interleaved; ratios of medians");
        for floor in &floors {
            println!("{floor}");
        }
        if floors.iter().all(Floor::holds) {
            return ExitCode::SUCCESS;
        }
    }
    println!("a floor was missed twice: see the lines with MISSED");
    ExitCode::FAILURE
}

/// What was measured, and what it may be.
#[derive(Clone, Copy)]
struct Floor {
    what: &'static str,
    ratio: f64,
    most: f64,
}

impl Floor {
    fn new(what: &'static str, times: &[Duration], base: &[Duration], most: f64) -> Self {
        let ratio = median(times).as_secs_f64() / median(base).as_secs_f64();
        Self { what, ratio, most }
    }

    /// Not so for a ratio that is no number.
    fn holds(&self) -> bool {
        self.ratio <= self.most
    }
}

impl fmt::Display for Floor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, ratio, most } = self;
        let verdict = if self.holds() { "holds" } else { "MISSED" };
        write!(f, "{verdict}: {what}: {ratio:.2}, at most {most}")
    }
}

/// The cost of an event beside that of a bare spawn.
async fn measure_spawns(rounds: usize) -> [Floor; 2] {
    const EVENTS: usize = 20_000;
    let (mut spawn, mut drain, mut at_once) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        spawn.push(bare_spawn(EVENTS).await);
        drain.push(raise_then_drain(EVENTS).await);
        at_once.push(raise_while_draining(EVENTS, BATCH).await);
    }
    [
        Floor::new(
            "raise, then drain, in bare spawns",
            &drain,
            &spawn,
            MOST_SPAWNS,
        ),
        Floor::new(
            "raise while draining, in bare spawns",
            &at_once,
            &spawn,
            MOST_SPAWNS,
        ),
    ]
}

/// The cost of an event beside many held ones, beside what it costs beside few.
async fn measure_growth(rounds: usize) -> Floor {
    const NEW: usize = 10_000;
    const FEW: usize = 10_000;
    const MANY: usize = 1_000_000;
    let full = MemoryStore::new();
    run(&full, MANY, BATCH).await;
    let (mut beside_few, mut beside_many) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        // A new one each time, as it would not stay small.
        let small = MemoryStore::new();
        run(&small, FEW, BATCH).await;
        beside_few.push(run(&small, NEW, BATCH).await);
        beside_many.push(run(&full, NEW, BATCH).await);
    }
    Floor::new(
        "beside 1,000,000 held events, in the cost beside 10,000",
        &beside_many,
        &beside_few,
        MOST_GROWTH,
    )
}

/// All contenders at one size.
async fn compare(events: usize, rounds: usize) {
    let mut spawn = Vec::new();
    let mut contenders = [
        ("raise, then drain", Vec::new()),
        ("raise while draining", Vec::new()),
        ("one by one", Vec::new()),
    ];
    for _ in 0..rounds {
        spawn.push(bare_spawn(events).await);
        contenders[0].1.push(raise_then_drain(events).await);
        contenders[1]
            .1
            .push(raise_while_draining(events, BATCH).await);
        contenders[2].1.push(raise_while_draining(events, 1).await);
    }
    let spawn = median(&spawn);
    println!("{events} events");
    println!("{:<24}{:>8.0}", "bare spawn", per_event(spawn, events));
    for (name, times) in contenders {
        let median = median(&times);
        let ratio = median.as_secs_f64() / spawn.as_secs_f64();
        println!(
            "{name:<24}{:>8.0}{ratio:>8.1} x spawn",
            per_event(median, events)
        );
    }
}

/// The same work beside ever more events that the store holds already.
async fn grow(rounds: usize) {
    const NEW: usize = 10_000;
    println!("{NEW} more events, raised and drained beside those that the store holds");
    for held in [0, 10_000, 100_000, 1_000_000] {
        let store = MemoryStore::new();
        let mut spawn = Vec::new();
        let mut times = Vec::new();
        run(&store, held, BATCH).await;
        for _ in 0..rounds {
            spawn.push(bare_spawn(NEW).await);
            times.push(run(&store, NEW, BATCH).await);
        }
        let (spawn, time) = (median(&spawn), median(&times));
        let ratio = time.as_secs_f64() / spawn.as_secs_f64();
        println!(
            "{held:>10} held{:>17.0}{ratio:>8.1} x spawn",
            per_event(time, NEW)
        );
    }
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn per_event(time: Duration, events: usize) -> f64 {
    time.as_secs_f64() * 1e9 / events.max(1) as f64
}

/// What ends when the last event has been handled.
#[derive(Clone)]
struct Countdown(Arc<(AtomicUsize, Notify)>);

impl Countdown {
    fn new(events: usize) -> Self {
        Self(Arc::new((AtomicUsize::new(events), Notify::new())))
    }

    fn count(&self) {
        if self.0.0.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.1.notify_one();
        }
    }

    async fn ended(&self) {
        self.0.1.notified().await;
    }
}

/// The handler's future for each event, spawned from a task of the runtime.
async fn bare_spawn(events: usize) -> Duration {
    let countdown = Countdown::new(events);
    let begun = Instant::now();
    let ended = countdown.clone();
    tokio::spawn(async move {
        for _ in 0..events {
            let countdown = countdown.clone();
            tokio::spawn(async move { countdown.count() });
        }
    });
    ended.ended().await;
    begun.elapsed()
}

fn scheduler(store: &MemoryStore, countdown: &Countdown) -> ConcurrentScheduler {
    let countdown = countdown.clone();
    let handler = Handler::new("count", move |_: Arc<Event>, _: Context| {
        let countdown = countdown.clone();
        async move {
            countdown.count();
            Ok::<_, HandlerError>(())
        }
    });
    let config = ConfigMap::builder()
        .handler(handler.on("*"))
        .build()
        .expect("a map");
    ConcurrentScheduler::builder(Arc::new(store.clone()), config)
        .build()
        .expect("a scheduler")
}

/// Raises so many events, `batch` in each transaction.
async fn raise(store: MemoryStore, events: usize, batch: usize) {
    let raiser = store.raiser();
    let mut left = events;
    while left > 0 {
        let size = left.min(batch);
        left -= size;
        let events = (0..size)
            .map(|_| Event::from_data("order.placed", EventData::null()))
            .collect();
        let mut transaction = store.begin().await.expect("a transaction");
        raiser
            .raise_all(&mut *transaction, events)
            .await
            .expect("raised");
        transaction.commit().await.expect("committed");
    }
}

/// Waits until everything in the store is settled, and checks that it was handled once.
async fn settled(store: &MemoryStore) {
    let settled = store.signals().settled;
    loop {
        let seen = settled.seen();
        let mut session = store.session().await.expect("a session");
        let unprocessed = session.events().count_unprocessed().await.expect("a count");
        let unexecuted = session
            .handler_requests()
            .count_unexecuted()
            .await
            .expect("a count");
        if unprocessed == 0 && unexecuted == 0 {
            return;
        }
        drop(session);
        settled.changed_since(seen).await;
    }
}

async fn check(store: &MemoryStore, events: usize) {
    let mut session = store.session().await.expect("a session");
    let filter = RequestFilter::default().in_states([tidings::RequestState::Completed]);
    let completed = session
        .handler_requests()
        .count(&filter)
        .await
        .expect("a count");
    assert_eq!(
        completed, events as u64,
        "every event is handled exactly once"
    );
}

/// All events are raised before the scheduler starts; the time of both.
async fn raise_then_drain(events: usize) -> Duration {
    let store = MemoryStore::new();
    let countdown = Countdown::new(events);
    let scheduler = scheduler(&store, &countdown);
    let begun = Instant::now();
    tokio::spawn(raise(store.clone(), events, BATCH))
        .await
        .expect("raised");
    let raised = begun.elapsed();
    scheduler.start().await.expect("started");
    countdown.ended().await;
    settled(&store).await;
    let took = begun.elapsed();
    if std::env::var_os("DETAILS").is_some() {
        let (raise, drain) = (per_event(raised, events), per_event(took - raised, events));
        println!("  raise {raise:.0}, drain {drain:.0}");
    }
    scheduler.shutdown(Duration::from_secs(5)).await;
    check(&store, events).await;
    took
}

/// The scheduler works while events are raised.
async fn raise_while_draining(events: usize, batch: usize) -> Duration {
    let store = MemoryStore::new();
    let countdown = Countdown::new(events);
    let scheduler = scheduler(&store, &countdown);
    scheduler.start().await.expect("started");
    let begun = Instant::now();
    tokio::spawn(raise(store.clone(), events, batch))
        .await
        .expect("raised");
    countdown.ended().await;
    settled(&store).await;
    let took = begun.elapsed();
    scheduler.shutdown(Duration::from_secs(5)).await;
    check(&store, events).await;
    took
}

/// Raises and drains in a store that holds others already.
async fn run(store: &MemoryStore, events: usize, batch: usize) -> Duration {
    if events == 0 {
        return Duration::ZERO;
    }
    let countdown = Countdown::new(events);
    let scheduler = scheduler(store, &countdown);
    scheduler.start().await.expect("started");
    let begun = Instant::now();
    tokio::spawn(raise(store.clone(), events, batch))
        .await
        .expect("raised");
    countdown.ended().await;
    settled(store).await;
    let took = begun.elapsed();
    scheduler.shutdown(Duration::from_secs(5)).await;
    took
}
