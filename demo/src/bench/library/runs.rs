//! What handlers note of their runs.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use chrono::Utc;
use parking_lot::Mutex;
use tidings::{Event, EventId};
use tokio::sync::Notify;

use crate::bench::sample::Sample;

/// Counts runs of handlers. Clones share the count.
#[derive(Clone, Debug, Default)]
pub(super) struct Runs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    count: AtomicU64,
    /// How many somebody waits for.
    wanted: AtomicU64,
    reached: Notify,
    all: Mutex<Vec<Run>>,
}

/// A handler ran.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Run {
    pub(super) event: EventId,
    /// Which of the handlers, from 1 on.
    pub(super) handler: u32,
    /// Milliseconds from the timestamp of the event to the start of the handler.
    pub(super) latency: f32,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            count: AtomicU64::new(0),
            wanted: AtomicU64::new(u64::MAX),
            reached: Notify::new(),
            all: Mutex::default(),
        }
    }
}

impl Runs {
    /// A handler runs.
    pub(super) fn note(&self, event: &Event, handler: u32) {
        let latency = Utc::now() - event.timestamp;
        let run = Run {
            event: event.id,
            handler,
            latency: (latency.as_seconds_f64() * 1000.0) as f32,
        };
        self.0.all.lock().push(run);
        // In one order with the two of whoever waits, so that one of both sees what the other has written.
        let count = self.0.count.fetch_add(1, Ordering::SeqCst) + 1;
        if count >= self.0.wanted.load(Ordering::SeqCst) {
            self.0.reached.notify_one();
        }
    }

    /// Waits until so many have run.
    pub(super) async fn reach(&self, wanted: u64) {
        self.0.wanted.store(wanted, Ordering::SeqCst);
        while self.count() < wanted {
            self.0.reached.notified().await;
        }
    }

    /// How many have run so far.
    pub(super) fn count(&self) -> u64 {
        self.0.count.load(Ordering::SeqCst)
    }

    /// All runs so far, in their order.
    pub(super) fn all(&self) -> Vec<Run> {
        self.0.all.lock().clone()
    }
}

/// How long the events of these runs waited.
pub(super) fn latencies(runs: &[Run]) -> Sample {
    Sample::of(runs.iter().map(|run| f64::from(run.latency)))
}
