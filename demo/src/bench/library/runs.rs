//! What handlers note of their runs.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use chrono::Utc;
use parking_lot::Mutex;
use tidings::Event;
use tokio::sync::Notify;

use crate::bench::sample::Sample;

/// Counts runs of handlers. Clones share the count.
#[derive(Clone, Debug)]
pub(super) struct Runs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    count: AtomicU64,
    wanted: u64,
    done: Notify,
    /// Milliseconds from the timestamps of events to the starts of their handlers.
    latencies: Mutex<Vec<f64>>,
}

impl Runs {
    pub(super) fn new(wanted: u64) -> Self {
        Self(Arc::new(Inner {
            count: AtomicU64::new(0),
            wanted,
            done: Notify::new(),
            latencies: Mutex::default(),
        }))
    }

    /// A handler runs.
    pub(super) fn note(&self, event: &Event) {
        let latency = Utc::now() - event.timestamp;
        let latency = latency.as_seconds_f64() * 1000.0;
        self.0.latencies.lock().push(latency);
        if self.0.count.fetch_add(1, Ordering::AcqRel) + 1 == self.0.wanted {
            self.0.done.notify_one();
        }
    }

    /// Waits until as many have run as were wanted.
    pub(super) async fn done(&self) {
        self.0.done.notified().await;
    }

    pub(super) fn count(&self) -> u64 {
        self.0.count.load(Ordering::Acquire)
    }

    pub(super) fn latencies(&self) -> Sample {
        Sample::of(std::mem::take(&mut *self.0.latencies.lock()))
    }
}
