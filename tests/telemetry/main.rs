//! Metrics and spans of whole applications: an in-memory store, a scheduler, handlers, and the
//! SDK's in-memory exporters to read everything back from.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests, too"
)]

#[path = "../../src/telemetry/tests/collector.rs"]
mod collector;
mod gauges;
mod global;
mod instrumented;
mod metrics;
mod nesting;
mod spans;

use std::{future::Future, sync::Arc, time::Duration};

use tidings::{
    ConcurrentScheduler, ConfigMap, CooperativeScheduler, Event, HandlerResult, MemoryStore,
    Scheduler, SchedulerBuilder, Telemetry,
    store::{RequestFilter, Storer},
};

use collector::Collector;

/// How long a test waits at most for what must come: far longer than it takes.
const PATIENCE: Duration = Duration::from_secs(30);

impl Collector {
    fn telemetry(&self) -> Telemetry {
        Telemetry::builder()
            .meter_provider(self.meter_provider.clone())
            .tracer_provider(self.tracer_provider.clone())
            .build()
    }
}

fn event(name: &str) -> Event {
    Event::new(name, &()).unwrap()
}

async fn raise(store: &MemoryStore, events: Vec<Event>) {
    let mut tx = store.begin().await.unwrap();
    store.raiser().raise_all(&mut *tx, events).await.unwrap();
    tx.commit().await.unwrap();
}

/// Waits until every event is processed and every request has ended.
async fn drained(store: &MemoryStore) {
    let (raised, settled) = (store.signals().raised, store.signals().settled);
    loop {
        let seen = settled.seen();
        let mut session = store.session().await.unwrap();
        let unprocessed = session.events().count_unprocessed().await.unwrap();
        let open = session.handler_requests().count_unexecuted().await.unwrap();
        drop(session);
        if unprocessed + open == 0 {
            return;
        }
        raised.raise();
        let wait = settled.changed_since(seen);
        // Events that nobody wants settle nothing.
        let _ = tokio::time::timeout(Duration::from_millis(20), wait).await;
    }
}

/// Waits for something that no signal tells of.
async fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            match look() {
                Some(found) => return found,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap()
}

/// Builds a scheduler that is fast with everything.
fn brisk<S: Scheduler>(builder: SchedulerBuilder<S>, telemetry: Telemetry) -> S {
    builder
        .workers(4)
        .lease(Duration::from_secs(2))
        .poll_interval(Duration::from_millis(20))
        .telemetry(telemetry)
        .build()
        .unwrap()
}

/// Runs until every request has ended, and until the scheduler is gone.
async fn run_until_drained(store: &MemoryStore, config: ConfigMap, telemetry: Telemetry) {
    let scheduler = brisk(
        ConcurrentScheduler::builder(Arc::new(store.clone()), config),
        telemetry,
    );
    run(&scheduler, drained(store)).await;
}

/// As [`run_until_drained`], with the other scheduler.
async fn cooperate_until_drained(store: &MemoryStore, config: ConfigMap, telemetry: Telemetry) {
    let scheduler = brisk(
        CooperativeScheduler::builder(Arc::new(store.clone()), config),
        telemetry,
    );
    run(&scheduler, drained(store)).await;
}

async fn run<S: Scheduler>(scheduler: &S, until: impl Future<Output = ()>) {
    scheduler.start().await.unwrap();
    tokio::time::timeout(PATIENCE, until).await.unwrap();
    scheduler.shutdown(PATIENCE).await;
}

async fn succeed(_: Arc<Event>, _: tidings::Context) -> HandlerResult {
    tokio::task::yield_now().await;
    Ok(())
}

/// How many requests match.
async fn count(store: &MemoryStore, filter: RequestFilter) -> u64 {
    let mut session = store.session().await.unwrap();
    session.handler_requests().count(&filter).await.unwrap()
}
