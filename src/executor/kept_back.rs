//! Settlements that wait because somebody else has locked what they need: kept in the process, they
//! hold no connection and delay no other.

use std::{
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    Executor,
    held::key,
    settler::{Batch, End},
};
use crate::{model::Backoff, raiser::Raiser, signal::Signal, store::Settlement};

/// A settlement that is tried again.
pub(super) struct Kept {
    pub(super) settlement: Settlement,
    pub(super) end: End,
    /// An earlier try may have taken effect although its answer was lost.
    pub(super) uncertain: bool,
    /// The store does not say at once that it cannot be written, so it is tried alone.
    pub(super) is_slow: bool,
}

pub(super) struct KeptBack {
    /// With the times of their next tries.
    queue: Mutex<Vec<(Instant, Kept)>>,
    /// Taken from `queue` to be tried.
    under_way: AtomicUsize,
    /// Raised when there is one more.
    added: Signal,
}

impl KeptBack {
    /// The pause after the first try: a lock of our own renewals is gone by then.
    const FIRST_PAUSE: Duration = Duration::from_millis(10);
    /// The longest pause: what an operator locks for minutes costs a statement a second.
    const LONGEST_PAUSE: Duration = Duration::from_secs(1);
    /// A bound on what is in memory, should somebody lock whatever is executed: more than are ever
    /// executed at once. What is beyond it is left to its lease.
    const MOST: usize = 10_000;

    pub(super) fn new() -> Self {
        Self {
            queue: Mutex::new(Vec::new()),
            under_way: AtomicUsize::new(0),
            added: Signal::new(),
        }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.queue.lock().len() + self.under_way.load(Ordering::Acquire)
    }

    /// Keeps one for its next try; gives it back if there are too many.
    pub(super) fn keep(&self, mut kept: Kept) -> Result<(), Box<Kept>> {
        let mut queue = self.queue.lock();
        if queue.len() >= Self::MOST {
            return Err(Box::new(kept));
        }
        kept.end.tries = kept.end.tries.saturating_add(1);
        let pause = Backoff::exponential(Self::FIRST_PAUSE, Self::LONGEST_PAUSE);
        let next = Instant::now() + pause.after(kept.end.tries);
        queue.push((next, kept));
        drop(queue);
        self.added.raise();
        Ok(())
    }

    fn next_try(&self) -> Option<Instant> {
        self.queue.lock().iter().map(|(next, _)| *next).min()
    }

    /// What is to be tried by `now` in one call: a slow one alone, or many others.
    fn take_due(&self, now: Instant, most: usize) -> Batch {
        let mut queue = self.queue.lock();
        queue.sort_by_key(|(next, _)| *next);
        let alone = queue.first().is_some_and(|(_, kept)| kept.is_slow);
        let mut batch = Batch::default();
        let mut raised = 0;
        let mut left = Vec::with_capacity(queue.len());
        for (next, kept) in queue.drain(..) {
            let len = batch.settlements.len();
            raised += kept.settlement.raised.len();
            let fits = len == 0
                || !alone && !kept.is_slow && len < most && raised <= Raiser::DEFAULT_MAX_BATCH;
            if next <= now && fits {
                batch.uncertain |= kept.uncertain;
                batch.settlements.push(kept.settlement);
                batch.ends.push(kept.end);
            } else {
                left.push((next, kept));
            }
        }
        *queue = left;
        self.under_way
            .store(batch.settlements.len(), Ordering::Release);
        batch
    }
}

impl Executor {
    /// Tries again what was kept back, one call at a time, until the executor stops.
    pub(super) async fn settle_kept_back(&self) {
        let kept_back = &self.0.settler.kept_back;
        loop {
            let added = kept_back.added.seen();
            let now = Instant::now();
            let next = kept_back.next_try();
            if next.is_none_or(|next| next > now) {
                let due = async {
                    match next {
                        Some(next) => tokio::time::sleep_until(next).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    () = self.stopped() => return,
                    () = due => {}
                    () = kept_back.added.changed_since(added) => {}
                }
                continue;
            }
            let batch = kept_back.take_due(now, self.0.settler.batch_size);
            let claims: Vec<_> = batch
                .ends
                .iter()
                .map(|end| key(&end.held.context))
                .collect();
            let settling = AssertUnwindSafe(self.settle_all(batch)).catch_unwind();
            if settling.await.is_err() {
                self.panicked(claims);
            }
            kept_back.under_way.store(0, Ordering::Release);
            self.0.settler.written.raise();
            if self.is_stopped() {
                return;
            }
        }
    }
}
