//! Random drives of each store, whose answers the model must allow.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tidings::{ManualClock, MemoryStore, conformance::Target, store::Storer};

use super::{
    drive::drive,
    replay::{Replayed, replay},
    seeds::{failed, is_rerun, seeds},
};

const STEPS: usize = 120;

#[tokio::test]
async fn whatever_the_store_in_memory_answers_the_model_allows() {
    let mut total = Total::default();
    for seed in seeds(150) {
        total.add(run(&Memory::default(), seed).await);
    }
    total.tell("memory");
}

#[cfg(any(feature = "sqlite", feature = "sqlite-unbundled"))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_sqlite_answers_the_model_allows() {
    let mut total = Total::default();
    for seed in seeds(8) {
        total.add(run(&crate::fresh::sqlite::Sqlite::new().await, seed).await);
    }
    total.tell("SQLite");
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_postgresql_answers_the_model_allows() {
    let mut total = Total::default();
    for seed in seeds(4) {
        total.add(run(&crate::fresh::postgres::Postgres::new().await, seed).await);
    }
    total.tell("PostgreSQL");
}

#[cfg(feature = "mysql")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_mysql_answers_the_model_allows() {
    let mut total = Total::default();
    for seed in seeds(8) {
        total.add(run(&crate::fresh::mysql::MySql::new().await, seed).await);
    }
    total.tell("MySQL");
}

async fn run(target: &dyn Target, seed: u64) -> Replayed {
    let log = drive(target, seed, STEPS).await;
    replay(&log.calls()).unwrap_or_else(|rejected| failed(seed, rejected))
}

/// The in-memory store, whose clock the drive moves.
#[derive(Default)]
pub(super) struct Memory {
    clock: ManualClock,
    store: std::sync::OnceLock<MemoryStore>,
}

#[async_trait]
impl Target for Memory {
    fn store(&self) -> Arc<dyn Storer> {
        let new = || MemoryStore::with_clock(self.clock.clone());
        Arc::new(self.store.get_or_init(new).clone())
    }

    async fn pass_time(&self, time: Duration) {
        self.clock.advance(time);
    }
}

/// What all traces of one kind came to.
#[derive(Default)]
pub(super) struct Total {
    traces: usize,
    sum: Replayed,
}

impl Total {
    pub(super) fn add(&mut self, replayed: Replayed) {
        self.traces += 1;
        self.sum.calls += replayed.calls;
        self.sum.unknown += replayed.unknown;
        self.sum.fenced += replayed.fenced;
        self.sum.rescues += replayed.rescues;
        self.sum.suspects += replayed.suspects;
        self.sum.most_states = self.sum.most_states.max(replayed.most_states);
    }

    /// What the drives never met they show nothing of.
    pub(super) fn tell(&self, name: &str) {
        let Self { traces, sum } = self;
        println!("{name}: {traces} traces, {sum:?}");
        if !is_rerun() {
            // Suspects are too rare for that in a few traces; the machine has a scope for them.
            assert!(sum.fenced > 0, "nothing was fenced");
            assert!(sum.rescues > 0, "nothing was rescued");
        }
    }
}
