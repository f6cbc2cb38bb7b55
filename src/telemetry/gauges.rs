//! Values that a scheduler refreshes now and then and that scrapes read without any query.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use parking_lot::Mutex;

use crate::text::Name;

/// Handlers that no process has, with their open requests.
type AbsentHandlers = Arc<[(Name, u64)]>;

/// The latest counts and ages. Ages are in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    /// Whether the values below have been set: zeros that nobody has counted would look healthy.
    known: AtomicBool,
    unprocessed: AtomicU64,
    unprocessed_max_age: AtomicU64,
    unexecuted: AtomicU64,
    unexecuted_max_age: AtomicU64,
    dead: AtomicU64,
    /// Shared with scrapes under way.
    absent: Mutex<Option<AbsentHandlers>>,
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
        self.known.store(true, Ordering::Release);
    }

    /// The values; none before the first have been set.
    #[cfg_attr(
        not(feature = "telemetry"),
        expect(dead_code, reason = "nobody looks at the values")
    )]
    pub(crate) fn get(&self) -> Option<Reading> {
        self.known.load(Ordering::Acquire).then(|| Reading {
            unprocessed: self.unprocessed.load(Ordering::Relaxed),
            unprocessed_max_age_ms: self.unprocessed_max_age.load(Ordering::Relaxed),
            unexecuted: self.unexecuted.load(Ordering::Relaxed),
            unexecuted_max_age_ms: self.unexecuted_max_age.load(Ordering::Relaxed),
            dead: self.dead.load(Ordering::Relaxed),
        })
    }

    /// Replaces the handlers that no process has, and the number of their open requests.
    pub(crate) fn set_absent(&self, handlers: &[(Name, u64)]) {
        *self.absent.lock() = (!handlers.is_empty()).then(|| handlers.into());
    }

    /// The handlers that no process has.
    #[cfg_attr(
        not(feature = "telemetry"),
        expect(dead_code, reason = "nobody looks at the values")
    )]
    pub(crate) fn absent(&self) -> Option<AbsentHandlers> {
        self.absent.lock().clone()
    }
}
