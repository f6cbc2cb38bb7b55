//! Whose turn it is to write.
//!
//! SQLite lets one connection write at a time and makes the others sleep and look again, in no
//! order: under load some wait for ever. So the writers of a process queue here first, in the order
//! in which they came, and at most one of them, and a renewal of leases, look for SQLite's own lock.
//! They look often, and a process that has written for a while without a break takes one, so that
//! those that look in other processes find the lock free.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::Instant,
};

/// How long to wait before looking again whether SQLite's lock is free: a small part of a break.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// How long a process writes without a break: some breaks fit into the time that others wait.
const STREAK: Duration = Duration::from_millis(100);
/// A break: others look several times meanwhile, and it costs little beside a streak.
const BREAK: Duration = Duration::from_millis(4);

/// The queue of a store's writers.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Writers wait here for their turn.
    queue: Arc<Mutex<()>>,
    /// Whoever holds it writes. Only the first of the queue and renewals wait for it, so that a
    /// renewal waits for one writer, however many there are.
    turn: Arc<Mutex<Streak>>,
}

/// Since when this process writes without a break.
#[derive(Debug, Default)]
struct Streak {
    began_at: Option<Instant>,
    ended_at: Option<Instant>,
}

/// The turn of one writer, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    // Dropped first: who waits for the turn has it before the next of the queue asks for it.
    turn: OwnedMutexGuard<Streak>,
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
        let mut turn = Arc::clone(&self.turn).lock_owned().await;
        turn.go_on().await;
        Turn {
            turn,
            _queue: queue,
        }
    }
}

impl Streak {
    /// Goes on with the streak, after a break if it has been long.
    async fn go_on(&mut self) {
        let now = Instant::now();
        let is_unbroken = self.ended_at.is_some_and(|ended| now < ended + BREAK);
        match self.began_at {
            Some(began) if is_unbroken && now < began + STREAK => {}
            Some(_) if is_unbroken => {
                tokio::time::sleep(BREAK).await;
                self.began_at = Some(Instant::now());
            }
            _ => self.began_at = Some(now),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turn.ended_at = Some(Instant::now());
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

    #[tokio::test(start_paused = true)]
    async fn who_writes_all_the_time_takes_breaks() {
        let turns = Turns::default();
        let began = Instant::now();
        for _ in 0..100 {
            let writing = turns.wait(false).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
            drop(writing);
        }
        // A second of work, with a break after each tenth but the last.
        assert_eq!(began.elapsed(), Duration::from_secs(1) + 9 * BREAK);
        // Pauses of its own are breaks as well.
        let began = Instant::now();
        for _ in 0..100 {
            tokio::time::sleep(BREAK).await;
            let writing = turns.wait(false).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
            drop(writing);
        }
        assert_eq!(began.elapsed(), 100 * (BREAK + Duration::from_millis(10)));
    }
}
