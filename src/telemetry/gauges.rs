//! Values that a scheduler refreshes now and then and that scrapes read without any query.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};

use parking_lot::Mutex;

use crate::text::Name;

/// Handlers that no process has, with their open requests.
type AbsentHandlers = Arc<[(Name, u64)]>;

/// The latest counts and ages. Ages are in milliseconds.
#[derive(Debug)]
pub(crate) struct Gauges {
    /// Whether the values below have been set: zeros that nobody has counted would look healthy.
    known: AtomicBool,
    /// Whether the scheduler has stopped. Its tasks may hold the gauges a little longer.
    ended: AtomicBool,
    /// Refreshes since a scrape last looked.
    unseen: AtomicU32,
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

impl Default for Gauges {
    fn default() -> Self {
        Self {
            known: AtomicBool::default(),
            ended: AtomicBool::default(),
            unseen: AtomicU32::new(Self::UNSEEN_REFRESHES),
            unprocessed: AtomicU64::default(),
            unprocessed_max_age: AtomicU64::default(),
            unexecuted: AtomicU64::default(),
            unexecuted_max_age: AtomicU64::default(),
            dead: AtomicU64::default(),
            absent: Mutex::default(),
        }
    }
}

impl Gauges {
    /// After so many refreshes that nobody looked at there are no more until somebody does, since
    /// each asks the store to count. It is ten minutes' worth, longer than exporters wait. In the
    /// beginning there is none: many applications have no exporter, the first scrape tells of the others,
    /// and a store with millions of open requests counts for half a second, just when work waits.
    pub(crate) const UNSEEN_REFRESHES: u32 = 40;

    /// The scheduler has stopped: nothing is shown any more.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    #[cfg_attr(
        not(feature = "telemetry"),
        expect(dead_code, reason = "nobody looks at the values")
    )]
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Whether to refresh. When not, the values are forgotten: who looks then finds none, rather
    /// than old ones, and new ones soon after.
    pub(crate) fn are_watched(&self) -> bool {
        let watched = self.unseen.fetch_add(1, Ordering::Relaxed) < Self::UNSEEN_REFRESHES;
        if !watched {
            self.unseen.store(Self::UNSEEN_REFRESHES, Ordering::Relaxed);
            self.known.store(false, Ordering::Release);
        }
        watched
    }

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
        self.unseen.store(0, Ordering::Relaxed);
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
