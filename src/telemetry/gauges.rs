//! Values that a scheduler refreshes now and then and that scrapes read without any query.

use std::sync::atomic::{AtomicU64, Ordering};

/// The latest counts and ages. Ages are in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    unprocessed: AtomicU64,
    unprocessed_max_age: AtomicU64,
    unexecuted: AtomicU64,
    unexecuted_max_age: AtomicU64,
    dead: AtomicU64,
}

/// One reading of all gauges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) unprocessed: u64,
    pub(crate) unprocessed_max_age_ms: u64,
    pub(crate) unexecuted: u64,
    pub(crate) unexecuted_max_age_ms: u64,
    pub(crate) dead: u64,
}

impl Gauges {
    /// Replaces the values.
    pub(crate) fn set(&self, reading: Reading) {
        self.unprocessed
            .store(reading.unprocessed, Ordering::Relaxed);
        self.unprocessed_max_age
            .store(reading.unprocessed_max_age_ms, Ordering::Relaxed);
        self.unexecuted.store(reading.unexecuted, Ordering::Relaxed);
        self.unexecuted_max_age
            .store(reading.unexecuted_max_age_ms, Ordering::Relaxed);
        self.dead.store(reading.dead, Ordering::Relaxed);
    }

    /// The values.
    pub(crate) fn get(&self) -> Reading {
        Reading {
            unprocessed: self.unprocessed.load(Ordering::Relaxed),
            unprocessed_max_age_ms: self.unprocessed_max_age.load(Ordering::Relaxed),
            unexecuted: self.unexecuted.load(Ordering::Relaxed),
            unexecuted_max_age_ms: self.unexecuted_max_age.load(Ordering::Relaxed),
            dead: self.dead.load(Ordering::Relaxed),
        }
    }
}
