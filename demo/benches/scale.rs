//! What fan-out, claim and settlement cost on PostgreSQL beside many millions of rows that are none
//! of their business, in what they cost beside none.
//!
//! `cargo bench -p demo --bench scale -- --store URL [--rows 10000000] [--rounds 15]`
//!
//! Use a database of its own; the tables `scale_empty_…` and `scale_full_…` are made anew in it, and
//! dropped at the end. The full size takes some 6 GB and, most of it for filling, two minutes or so.
//!
//! The full tables hold so many finished rows and a tenth as many of each of the others: dead,
//! backing off for a year (requests, and events whose processing is put off), and pending for a
//! handler that nobody has; all of the best priority and with smaller ids than what is measured, so
//! that whoever looks at them looks at all. Both sets of tables are never vacuumed or analyzed by
//! the server itself, so that nothing else changes plans or moves the clock. It measures twice: with
//! statistics from when the tables were empty, and with fresh ones; with connections, and so plans,
//! of its own each time.
//!
//! A round raises events, then times one fan-out, one claim and one settlement of a thousand, or a
//! series of them of one, through the store's port. Rounds on the empty and on the full tables
//! alternate. Buffers are those that one call touches, of tables and indexes alike.
//!
//! Ratios (full to empty) of the full size, with 31 rounds on two cores, PostgreSQL 15:
//!
//! | call | of | statistics of empty tables | fresh ones |
//! | --- | --- | --- | --- |
//! | fan out | 1000 | 1.08 | 1.08 |
//! | claim | 1000 | 1.00 | 1.04 |
//! | settle | 1000 | 1.07 | 1.01 |
//! | fan out | 1 | 1.03 | 0.97 |
//! | claim | 1 | 1.07 | 1.00 |
//! | settle | 1 | 1.01 | 0.93 |
//!
//! A claim of one touches more buffers the more has been claimed before, 744 to 422 at first and 1459
//! to 817 in the end: with nobody vacuuming, it walks pages of the index of ready requests whose
//! entries are all dead. Beside rows of a handler that comes later in the alphabet those pages are
//! split in halves, and so twice as many. Where the server vacuums, as it does by default, they go.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench talks to a person, and ends when something is wrong"
)]

// What is beside the rows that are measured is the same as in `demo bench --only scale`.
#[path = "../src/bench/library/filling.rs"]
mod filling;
#[path = "../src/bench/library/names.rs"]
mod names;

use std::{
    env,
    time::{Duration, Instant},
};

use tidings::{
    Event, EventPattern, LeaseOwner, Outcome, PostgresOptions, PostgresStore, Priority,
    Registration,
    sqlx::{self, AssertSqlSafe, Executor as _, PgConnection, PgPool},
    store::{Claim, ClaimedRequest, FanOut, HandlerRoom, Session, Settled, Settlement, Storer},
};

use self::{
    filling::Filling,
    names::{TABLES, drop_functions},
};

/// How many are handled in one call, and how many such calls make a sample.
const SIZES: [(usize, usize); 2] = [(1000, 1), (1, 50)];
/// The calls that are measured.
const CALLS: [&str; 3] = ["fan out", "claim", "settle"];
const EMPTY: &str = "scale_empty_";
const FULL: &str = "scale_full_";
const HANDLER: &str = "measured";

fn main() {
    let url = argument("--store").expect("--store URL of a PostgreSQL database");
    let number = |name, default| {
        argument(name).map_or(default, |text| text.parse().expect("a whole number"))
    };
    let (rows, rounds) = (number("--rows", 10_000_000), number("--rounds", 15));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(measure(&url, rows, rounds));
}

fn argument(name: &str) -> Option<String> {
    let mut arguments = env::args().skip_while(|argument| argument != name);
    arguments.nth(1)
}

async fn measure(url: &str, rows: u64, rounds: u64) {
    let pool = PgPool::connect(url).await.expect("the database");
    for prefix in [EMPTY, FULL] {
        drop_tables(&pool, prefix).await;
        prepare(url, &pool, prefix).await;
    }
    let begun = Instant::now();
    fill(&pool, rows).await;
    let size = size_of(&pool).await;
    println!(
        "{rows} finished requests, {} of each other kind: filled in {:.0?}, {} MB",
        rows / 10,
        begun.elapsed(),
        size / 1_000_000
    );
    compare(url, rounds, "statistics from when the tables were empty").await;
    analyze(&pool, FULL).await;
    compare(url, rounds, "fresh statistics").await;
    for prefix in [EMPTY, FULL] {
        drop_tables(&pool, prefix).await;
    }
}

// --- Tables

async fn run(pool: &PgPool, sql: String) {
    let ran = pool.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await;
    ran.expect("a statement");
}

async fn drop_tables(pool: &PgPool, prefix: &str) {
    run(pool, drop_functions(prefix)).await;
    for table in TABLES {
        run(pool, format!("DROP TABLE IF EXISTS {prefix}{table}")).await;
    }
}

/// Makes the tables, with statistics of how empty they are.
async fn prepare(url: &str, pool: &PgPool, prefix: &str) {
    let store = connect(url, prefix).await;
    store.migrate().await.expect("migrated");
    let pattern = EventPattern::parse("measured.*").expect("a pattern");
    let registration = Registration::new(pattern, HANDLER.into(), Priority::default(), 5);
    let mut session = store.session().await.expect("a session");
    let registered = session.registrations().register(&[registration]).await;
    registered.expect("registered");
    for table in TABLES {
        let off = format!("ALTER TABLE {prefix}{table} SET (autovacuum_enabled = off)");
        run(pool, off).await;
    }
    analyze(pool, prefix).await;
}

async fn analyze(pool: &PgPool, prefix: &str) {
    for table in TABLES {
        run(pool, format!("ANALYZE {prefix}{table}")).await;
    }
}

async fn fill(pool: &PgPool, rows: u64) {
    let filling = Filling {
        prefix: FULL,
        handler: HANDLER,
        rows,
    };
    let told = |kind: &str, count, took: Duration| println!("{count} {kind}: {took:.0?}");
    filling.fill(pool, told).await.expect("filled");
}

async fn size_of(pool: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT pg_database_size(current_database())")
        .fetch_one(pool)
        .await
        .expect("a size")
}

// --- Measuring

async fn connect(url: &str, prefix: &str) -> PostgresStore {
    let options = PostgresOptions::new().table_prefix(prefix).listen(false);
    let store = PostgresStore::connect(url, options).await;
    store.expect("the database")
}

/// One side of the comparison.
struct Side {
    prefix: &'static str,
    session: Box<dyn Session>,
    owner: LeaseOwner,
    /// Samples by size and call.
    times: [[Vec<Duration>; 3]; 2],
    buffers: [[i64; 3]; 2],
}

impl Side {
    async fn new(url: &str, prefix: &'static str) -> Self {
        let store = connect(url, prefix).await;
        store.migrate().await.expect("migrated");
        Self {
            prefix,
            session: store.session().await.expect("a session"),
            owner: LeaseOwner::new(),
            times: Default::default(),
            buffers: Default::default(),
        }
    }

    async fn raise(&mut self, count: usize) {
        let events: Vec<_> = (0..count)
            .map(|_| Event::new("measured.now", &1).expect("an event"))
            .collect();
        let raised = self.session.events().raise(&events).await;
        raised.expect("raised");
    }

    async fn fan_out(&mut self, count: usize) {
        let fanned_out = self.session.events().fan_out(&FanOut::due(count)).await;
        assert_eq!(fanned_out.expect("fanned out").processed.len(), count);
    }

    async fn claim(&mut self, count: usize) -> Vec<ClaimedRequest> {
        let rooms = vec![HandlerRoom::new(HANDLER, count)];
        let claim = Claim::new(self.owner, Duration::from_secs(30), count, rooms);
        let claimed = self.session.handler_requests().claim(&claim).await;
        let claimed = claimed.expect("claimed").requests;
        assert_eq!(claimed.len(), count);
        claimed
    }

    async fn settle(&mut self, claimed: &[ClaimedRequest]) {
        let settle = |one: &ClaimedRequest| {
            Settlement::new(one.id, one.attempt, self.owner, Outcome::Completed)
        };
        let settlements: Vec<_> = claimed.iter().map(settle).collect();
        let settled = self.session.handler_requests().settle(&settlements).await;
        let settled = settled.expect("settled");
        assert!(settled.iter().all(|one| *one == Settled::Applied));
    }

    /// A sample of each call, of this size.
    async fn sample(&mut self, of: usize) {
        let (size, calls) = SIZES[of];
        let mut sums = [Duration::ZERO; 3];
        for _ in 0..calls {
            self.raise(size).await;
            let begun = Instant::now();
            self.fan_out(size).await;
            sums[0] += begun.elapsed();
            let begun = Instant::now();
            let claimed = self.claim(size).await;
            sums[1] += begun.elapsed();
            let begun = Instant::now();
            self.settle(&claimed).await;
            sums[2] += begun.elapsed();
        }
        for (times, sum) in self.times[of].iter_mut().zip(sums) {
            times.push(sum / u32::try_from(calls).unwrap_or(u32::MAX));
        }
    }

    /// How many buffers the tables of this side have touched so far, as far as the server counts.
    async fn touched(&mut self) -> i64 {
        let connection = self.session.connection().downcast::<PgConnection>();
        let connection = connection.expect("a connection of PostgreSQL");
        // From version 15 on; before, it counts what is a second old.
        let _ = sqlx::query("SELECT pg_stat_force_next_flush()")
            .execute(&mut *connection)
            .await;
        let touched = "SELECT coalesce(sum(heap_blks_read + heap_blks_hit \
               + coalesce(idx_blks_read, 0) + coalesce(idx_blks_hit, 0)), 0)::bigint \
             FROM pg_statio_user_tables WHERE starts_with(relname, $1)";
        sqlx::query_scalar(touched)
            .bind(self.prefix)
            .fetch_one(connection)
            .await
            .expect("a number")
    }

    async fn count_buffers(&mut self, of: usize) {
        let (size, _) = SIZES[of];
        self.raise(size).await;
        let mut touched = [self.touched().await, 0, 0, 0];
        self.fan_out(size).await;
        touched[1] = self.touched().await;
        let claimed = self.claim(size).await;
        touched[2] = self.touched().await;
        self.settle(&claimed).await;
        touched[3] = self.touched().await;
        for call in 0..CALLS.len() {
            self.buffers[of][call] = touched[call + 1] - touched[call];
        }
    }
}

async fn compare(url: &str, rounds: u64, statistics: &str) {
    let mut empty = Side::new(url, EMPTY).await;
    let mut full = Side::new(url, FULL).await;
    for of in 0..SIZES.len() {
        for round in 0..=rounds {
            empty.sample(of).await;
            full.sample(of).await;
            if round == 0 {
                // It has warmed the caches, and made the plans.
                empty.times[of] = Default::default();
                full.times[of] = Default::default();
            }
        }
        empty.count_buffers(of).await;
        full.count_buffers(of).await;
    }
    println!("\n{statistics}; {rounds} rounds, interleaved; medians, in microseconds for a call");
    println!("call       of     empty      full   ratio   buffers empty, full");
    for (of, (size, _)) in SIZES.into_iter().enumerate() {
        for (call, name) in CALLS.into_iter().enumerate() {
            let [beside_none, beside_many] =
                [&empty, &full].map(|side| median(&side.times[of][call]).as_secs_f64() * 1e6);
            let ratio = beside_many / beside_none;
            let buffers = [&empty, &full].map(|side| side.buffers[of][call]);
            println!(
                "{name:<8}{size:>5}{beside_none:>10.0}{beside_many:>10.0}{ratio:>8.2}{:>10}{:>7}",
                buffers[0], buffers[1]
            );
        }
    }
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
