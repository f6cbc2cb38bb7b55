//! How long handlers wait whose transactions fail for the store's sake.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Since when transactions of handlers have been failing, one after the other, without any that
/// came to an end.
///
/// It counts time rather than failures, as all workers fail together.
#[derive(Debug, Default)]
pub(super) struct TransactionHealth(Mutex<Option<Instant>>);

impl TransactionHealth {
    /// The first waits: as short as a failover.
    const SHORTEST: Duration = Duration::from_secs(1);
    /// The longest: what waits when the store is well again does not wait much longer.
    const LONGEST: Duration = Duration::from_secs(15);

    /// A transaction came to an end of its own.
    pub(super) fn succeeded(&self) {
        *self.0.lock() = None;
    }

    /// A transaction failed at `now`; answers how long its handler waits: about as long as they have
    /// been failing, so that the waits double, times a `random` factor between a half and one.
    pub(super) fn failed(&self, now: Instant, random: f64) -> Duration {
        let since = *self.0.lock().get_or_insert(now);
        let wait = (now - since).clamp(Self::SHORTEST, Self::LONGEST);
        wait.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_while_transactions_fail_whoever_fails_and_begin_again_after_a_success() {
        let (health, begun) = (TransactionHealth::default(), Instant::now());
        let at = |second| begun + Duration::from_secs(second);
        let waits = [0, 0, 1, 2, 4, 8, 16, 3600].map(|second| health.failed(at(second), 1.0));
        assert_eq!(waits.map(|wait| wait.as_secs()), [1, 1, 1, 2, 4, 8, 15, 15]);
        assert_eq!(health.failed(at(8), 0.0), Duration::from_secs(4));
        health.succeeded();
        assert_eq!(health.failed(at(3601), 1.0), Duration::from_secs(1));
    }
}
