//! Wake-ups inside one process: a counter that can be waited on, so that no wake-up is lost
//! between looking for work and going to sleep.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::Notify;

/// A signal that can be raised any number of times and awaited by any number of tasks.
///
/// Whoever waits first notes [`seen`](Self::seen), then looks for work, then awaits
/// [`changed_since`](Self::changed_since): a signal in between ends the wait at once. Raising it
/// costs an atomic addition when nobody waits.
#[derive(Clone, Debug, Default)]
pub struct Signal(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    count: AtomicU64,
    waiters: Notify,
}

impl Signal {
    /// A signal that nobody has raised yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Wakes everyone who waits.
    pub fn raise(&self) {
        self.0.count.fetch_add(1, Ordering::SeqCst);
        self.0.waiters.notify_waiters();
    }

    /// How often the signal has been raised.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.0.count.load(Ordering::SeqCst)
    }

    /// Waits until the signal has been raised more often than `seen` times. Cancellation safe.
    pub async fn changed_since(&self, seen: u64) {
        loop {
            let notified = self.0.waiters.notified();
            let mut notified = std::pin::pin!(notified);
            notified.as_mut().enable();
            if self.seen() != seen {
                return;
            }
            notified.await;
        }
    }
}

/// The wake-ups that a store gives to the processors, executors and tests of its own process.
///
/// They are hints: whoever waits for one also looks by itself from time to time.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Signals {
    /// An event was committed, or an application called [`Raiser::wake`](crate::Raiser::wake).
    pub raised: Signal,
    /// Events were written in a transaction of the application's, and whether and when that commits
    /// is not seen: a scheduler polls closely for a while.
    pub uncommitted: Signal,
    /// A handler request became ready to be claimed.
    pub ready: Signal,
    /// A handler request was settled, canceled, reexecuted or rescued.
    pub settled: Signal,
}

impl Signals {
    /// Signals that nobody has raised yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_signal_between_looking_and_waiting_is_not_lost() {
        let signal = Signal::new();
        let seen = signal.seen();
        signal.raise();
        signal.changed_since(seen).await;
    }

    #[tokio::test]
    async fn every_waiter_wakes() {
        let signal = Signal::new();
        let waiters: Vec<_> = (0..10)
            .map(|_| {
                let signal = signal.clone();
                tokio::spawn(async move { signal.changed_since(0).await })
            })
            .collect();
        tokio::task::yield_now().await;
        signal.raise();
        for waiter in waiters {
            waiter.await.unwrap();
        }
    }
}
