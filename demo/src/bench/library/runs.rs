//! What handlers note of their runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::Utc;
use parking_lot::Mutex;
use tidings::{Event, EventId};
use tokio::sync::Notify;

use crate::bench::sample::Sample;

/// How often it looks whether there are enough.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Counts runs of handlers. Clones share the count.
#[derive(Clone, Debug)]
pub(super) struct Runs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    count: AtomicU64,
    wanted: u64,
    done: Notify,
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

impl Runs {
    pub(super) fn new(wanted: u64) -> Self {
        Self(Arc::new(Inner {
            count: AtomicU64::new(0),
            wanted,
            done: Notify::new(),
            all: Mutex::default(),
        }))
    }

    /// A handler runs.
    pub(super) fn note(&self, event: &Event, handler: u32) {
        let latency = Utc::now() - event.timestamp;
        let run = Run {
            event: event.id,
            handler,
            latency: (latency.as_seconds_f64() * 1000.0) as f32,
        };
        self.0.all.lock().push(run);
        if self.0.count.fetch_add(1, Ordering::AcqRel) + 1 == self.0.wanted {
            self.0.done.notify_one();
        }
    }

    /// Waits until as many have run as were wanted.
    pub(super) async fn done(&self) {
        self.0.done.notified().await;
    }

    /// Waits until so many have run, if it was not known before.
    pub(super) async fn reach(&self, count: u64) {
        while self.0.count.load(Ordering::Acquire) < count {
            tokio::time::sleep(LOOK_EVERY).await;
        }
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
