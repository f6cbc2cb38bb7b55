//! A deadline that can only come nearer.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::signal::Signal;

/// Handing back takes a round trip or two, however short the deadline is.
const LEAST_MARGIN: Duration = Duration::from_millis(250);

/// The deadline of a shutdown.
#[derive(Debug)]
pub(crate) struct Deadline {
    set: Mutex<Option<Set>>,
    changed: Signal,
}

#[derive(Clone, Copy, Debug)]
struct Set {
    at: Instant,
    /// When to tell handlers to stop.
    near_at: Instant,
    /// When to break off what still runs, so that it can be handed back by the deadline.
    break_off_at: Instant,
}

impl Deadline {
    pub(crate) fn new() -> Self {
        Self {
            set: Mutex::new(None),
            changed: Signal::new(),
        }
    }

    /// Sets the deadline, or brings it nearer.
    pub(crate) fn at_the_latest(&self, at: Instant) {
        let left = at.saturating_duration_since(Instant::now());
        let margin = (left / 10)
            .clamp(LEAST_MARGIN, Duration::from_secs(1))
            .min(left / 2);
        let near_at = at.checked_sub(margin).unwrap_or(at);
        let break_off_at = at.checked_sub(margin / 2).unwrap_or(at);
        let mut set = self.set.lock();
        if set.is_none_or(|set| at < set.at) {
            *set = Some(Set {
                at,
                near_at,
                break_off_at,
            });
            drop(set);
            self.changed.raise();
        }
    }

    /// Waits until the deadline is so near that handlers must stop. Cancellation safe.
    pub(crate) async fn near(&self) {
        self.wait(|set| set.near_at).await;
    }

    /// Waits until what still runs must be broken off. Cancellation safe.
    pub(crate) async fn break_off(&self) {
        self.wait(|set| set.break_off_at).await;
    }

    /// Waits until the deadline. Cancellation safe.
    pub(crate) async fn reached(&self) {
        self.wait(|set| set.at).await;
    }

    async fn wait(&self, until: impl Fn(Set) -> Instant) {
        loop {
            let changed = self.changed.seen();
            let set = *self.set.lock();
            match set {
                None => self.changed.changed_since(changed).await,
                Some(set) => tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(until(set)) => return,
                    () = self.changed.changed_since(changed) => {}
                },
            }
        }
    }
}
