//! What the parts of the way of an event take, each alone: raise, fan-out, claim and settlement of one
//! and of a thousand, through a store's port.
//!
//! `cargo bench -p demo --bench parts -- [NAME]` measures the in-memory store, which shows what the
//! library itself costs; `TIDINGS_BENCH_URL=postgres://…` (or `mysql://…`, `sqlite://…`) another one, in tables
//! of their own (`parts_…`) which stay. To compare two versions: `-- --save-baseline before`, then
//! `-- --baseline before`. Whole workloads beside bare SQL are what `demo bench` is for.

#![expect(clippy::expect_used, reason = "a bench ends when something is wrong")]

use std::{
    env,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tidings::{
    Event, EventPattern, LeaseOwner, MemoryStore, MySqlOptions, MySqlStore, Outcome,
    PostgresOptions, PostgresStore, Priority, Registration, SqliteOptions, SqliteStore,
    store::{Claim, ClaimedRequest, FanOut, HandlerRoom, LeaseOffer, Settlement, Storer},
};
use tokio::runtime::Runtime;

const NAME: &str = "order.placed";
const HANDLER: &str = "measured";
const PREFIX: &str = "parts_";
const LEASE: Duration = Duration::from_secs(3600);
const SIZES: [usize; 2] = [1, 1000];

/// The calls, in the order in which they come.
#[derive(Clone, Copy, Debug)]
enum Part {
    Raise,
    /// Into requests that are born leased.
    FanOut,
    /// Of requests that were born ready.
    Claim,
    Settle,
}

fn parts(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let store = runtime.block_on(open());
    for (part, name) in [
        (Part::Raise, "raise"),
        (Part::FanOut, "fan out"),
        (Part::Claim, "claim"),
        (Part::Settle, "settle"),
    ] {
        let mut group = criterion.benchmark_group(name);
        for size in SIZES {
            group.throughput(Throughput::Elements(size as u64));
            group.bench_with_input(
                BenchmarkId::from_parameter(size),
                &size,
                |bencher, &size| {
                    bencher
                        .to_async(&runtime)
                        .iter_custom(|rounds| measure(Arc::clone(&store), part, size, rounds));
                },
            );
        }
        group.finish();
    }
}

async fn open() -> Arc<dyn Storer> {
    let url = env::var("TIDINGS_BENCH_URL").unwrap_or_default();
    let store: Arc<dyn Storer> = match url.split(':').next().unwrap_or_default() {
        "" => Arc::new(MemoryStore::new()),
        "postgres" | "postgresql" => {
            let options = PostgresOptions::new().table_prefix(PREFIX);
            let store = PostgresStore::connect(&url, options).await;
            let store = store.expect("the database");
            store.migrate().await.expect("the tables");
            Arc::new(store)
        }
        "sqlite" => {
            let options = SqliteOptions::new().table_prefix(PREFIX);
            let store = SqliteStore::connect(&url, options).await;
            let store = store.expect("the database");
            store.migrate().await.expect("the tables");
            Arc::new(store)
        }
        _ => {
            let options = MySqlOptions::new().table_prefix(PREFIX);
            let store = MySqlStore::connect(&url, options).await;
            let store = store.expect("the database");
            store.migrate().await.expect("the tables");
            Arc::new(store)
        }
    };
    let mut tx = store.begin().await.expect("a transaction");
    let registration = Registration::new(
        EventPattern::parse(NAME).expect("a pattern"),
        HANDLER.into(),
        Priority::default(),
        5,
    );
    let mut registrations = tx.registrations();
    registrations
        .register(&[registration])
        .await
        .expect("the registration");
    drop(registrations);
    tx.commit().await.expect("the commit");
    store
}

/// How long so many calls of a part take; each goes the whole way, so that none finds what others left.
async fn measure(store: Arc<dyn Storer>, part: Part, size: usize, rounds: u64) -> Duration {
    let owner = LeaseOwner::new();
    let mut total = Duration::ZERO;
    for _ in 0..rounds {
        let mut session = store.session().await.expect("a session");
        let events: Vec<_> = (0..size)
            .map(|number| Event::new(NAME, &("x".repeat(180), number)).expect("an event"))
            .collect();

        let begun = Instant::now();
        session.events().raise(&events).await.expect("a raise");
        if matches!(part, Part::Raise) {
            total += begun.elapsed();
        }

        let room = || vec![HandlerRoom::new(HANDLER, size)];
        let mut fan_out = FanOut::due(size);
        if !matches!(part, Part::Claim) {
            fan_out.offer = Some(LeaseOffer::new(owner, LEASE, size, room()));
        }
        let begun = Instant::now();
        let fanned_out = session.events().fan_out(&fan_out).await;
        let mut held: Vec<ClaimedRequest> = fanned_out.expect("a fan-out").born_leased;
        if matches!(part, Part::FanOut) {
            total += begun.elapsed();
        }

        if matches!(part, Part::Claim) {
            let claim = Claim::new(owner, LEASE, size, room());
            let begun = Instant::now();
            let claimed = session.handler_requests().claim(&claim).await;
            held = claimed.expect("a claim").requests;
            total += begun.elapsed();
        }
        assert_eq!(held.len(), size, "all that was raised, and nothing else");

        let settle = |held: &ClaimedRequest| {
            let mut settlement = Settlement::new(held.id, held.attempt, owner, Outcome::Completed);
            settlement.batch = held.batch;
            settlement
        };
        let settlements: Vec<_> = held.iter().map(settle).collect();
        let begun = Instant::now();
        let settled = session.handler_requests().settle(&settlements).await;
        settled.expect("a settlement");
        if matches!(part, Part::Settle) {
            total += begun.elapsed();
        }
    }
    total
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).without_plots();
    targets = parts
}
criterion_main!(benches);
