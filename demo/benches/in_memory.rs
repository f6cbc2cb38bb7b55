//! How fast events go from raise to settlement in memory, beside the bare cost of spawning the same
//! futures on tokio, interleaved in one run.
//!
//! `cargo bench -p demo --bench in_memory [-- EVENTS ROUNDS]`

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tidings::{
    ConcurrentScheduler, ConfigMap, Context, Event, EventData, Handler, HandlerError, MemoryStore,
    Scheduler,
    store::{Session, Storer},
};
use tokio::sync::Notify;

/// Events that are raised in one call, as the loops of a busy service would.
const BATCH: usize = 1000;

fn main() {
    let numbers: Vec<usize> = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .collect();
    let events = numbers.first().copied().unwrap_or(100_000);
    let rounds = numbers.get(1).copied().unwrap_or(5);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        println!("{events} events, {rounds} rounds, medians in nanoseconds per event");
        let mut spawn = Vec::new();
        let mut drain = Vec::new();
        let mut end_to_end = Vec::new();
        for _ in 0..rounds {
            spawn.push(bare_spawn(events).await);
            drain.push(raise_then_drain(events).await);
            end_to_end.push(raise_while_draining(events).await);
        }
        let spawn = median(spawn);
        println!(
            "bare spawn                  {:>8.0}",
            per_event(spawn, events)
        );
        for (name, times) in [
            ("raise, then drain", drain),
            ("raise while draining", end_to_end),
        ] {
            let median = median(times);
            let ratio = median.as_secs_f64() / spawn.as_secs_f64();
            println!(
                "{name:<27} {:>8.0}   {ratio:.1} x spawn",
                per_event(median, events)
            );
        }
    });
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn per_event(time: Duration, events: usize) -> f64 {
    time.as_secs_f64() * 1e9 / events as f64
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

/// The no-op handler's future for each event, spawned and awaited as tokio does it.
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
        countdown.count();
        async { Ok::<_, HandlerError>(()) }
    });
    let config = ConfigMap::builder()
        .handler(handler.on("*"))
        .build()
        .expect("a map");
    ConcurrentScheduler::builder(Arc::new(store.clone()), config)
        .build()
        .expect("a scheduler")
}

async fn raise(store: &MemoryStore, events: usize) {
    let raiser = store.raiser();
    let mut left = events;
    while left > 0 {
        let batch = left.min(BATCH);
        left -= batch;
        let events = (0..batch)
            .map(|_| Event::from_data("order.placed", EventData::null()))
            .collect();
        let mut session: Box<dyn Session> = store.session().await.expect("a session");
        raiser
            .raise_all(&mut *session, events)
            .await
            .expect("raised");
    }
}

async fn settled(store: &MemoryStore) {
    let settled = store.signals().settled;
    loop {
        let seen = settled.seen();
        let mut session = store.session().await.expect("a session");
        if session
            .handler_requests()
            .count_unexecuted()
            .await
            .expect("a count")
            == 0
            && session.events().count_unprocessed().await.expect("a count") == 0
        {
            return;
        }
        drop(session);
        settled.changed_since(seen).await;
    }
}

/// All events are raised before the scheduler starts; the time of both.
async fn raise_then_drain(events: usize) -> Duration {
    let store = MemoryStore::new();
    let countdown = Countdown::new(events);
    let scheduler = scheduler(&store, &countdown);
    let begun = Instant::now();
    let raiser = store.clone();
    tokio::spawn(async move { raise(&raiser, events).await })
        .await
        .expect("raised");
    let raised = begun.elapsed();
    scheduler.start().await.expect("started");
    countdown.ended().await;
    settled(&store).await;
    let took = begun.elapsed();
    if std::env::var_os("DETAILS").is_some() {
        println!(
            "  raise {:.0} ns, drain {:.0} ns",
            per_event(raised, events),
            per_event(took - raised, events)
        );
    }
    scheduler.shutdown(Duration::from_secs(5)).await;
    took
}

/// The scheduler works while events are raised.
async fn raise_while_draining(events: usize) -> Duration {
    let store = MemoryStore::new();
    let countdown = Countdown::new(events);
    let scheduler = scheduler(&store, &countdown);
    scheduler.start().await.expect("started");
    let begun = Instant::now();
    let raiser = store.clone();
    tokio::spawn(async move { raise(&raiser, events).await })
        .await
        .expect("raised");
    countdown.ended().await;
    settled(&store).await;
    let took = begun.elapsed();
    scheduler.shutdown(Duration::from_secs(5)).await;
    took
}
