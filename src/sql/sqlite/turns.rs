//! Whose turn it is to write.
//!
//! SQLite lets one connection write at a time and makes the others sleep and look again, in no
//! order: under load some wait for ever. So the writers of a process queue here first, in the order
//! in which they came, and at most one of them waits for SQLite's own lock.

use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard};

/// The queue of a store's writers.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Writers wait here for their turn.
    queue: Arc<Mutex<()>>,
    /// Whoever holds it writes. Only the first of the queue and renewals wait for it, so that a
    /// renewal waits for one writer, however many there are.
    turn: Arc<Mutex<()>>,
}

/// The turn of one writer, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    // Dropped first: who waits for the turn has it before the next of the queue asks for it.
    _turn: OwnedMutexGuard<()>,
    _queue: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits for a turn at the end of the queue, or past it. Cancellation safe; whoever stops
    /// waiting loses the place.
    pub(super) async fn wait(&self, is_first: bool) -> Turn {
        let queue = if is_first {
            None
        } else {
            Some(Arc::clone(&self.queue).lock_owned().await)
        };
        Turn {
            _turn: Arc::clone(&self.turn).lock_owned().await,
            _queue: queue,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, poll};

    use super::*;

    #[tokio::test]
    async fn turns_come_in_order_and_a_renewal_goes_past_the_queue() {
        let turns = Turns::default();
        let writing = turns.wait(false).await;
        let mut second = Box::pin(turns.wait(false));
        let mut third = Box::pin(turns.wait(false));
        let mut renewal = Box::pin(turns.wait(true));
        assert!(poll!(&mut second).is_pending());
        assert!(poll!(&mut third).is_pending());
        assert!(poll!(&mut renewal).is_pending());
        drop(writing);
        assert!(poll!(&mut third).is_pending());
        assert!(poll!(&mut second).is_pending());
        let renewing = renewal.now_or_never().unwrap();
        assert!(poll!(&mut second).is_pending());
        drop(renewing);
        let writing = second.now_or_never().unwrap();
        assert!(poll!(&mut third).is_pending());
        drop(writing);
        assert!(third.now_or_never().is_some());
    }

    #[tokio::test]
    async fn who_stops_waiting_stops_nobody() {
        let turns = Turns::default();
        let writing = turns.wait(false).await;
        let mut second = Box::pin(turns.wait(false));
        let mut third = Box::pin(turns.wait(false));
        assert!(poll!(&mut second).is_pending());
        assert!(poll!(&mut third).is_pending());
        drop(second);
        drop(writing);
        assert!(third.now_or_never().is_some());
    }
}
