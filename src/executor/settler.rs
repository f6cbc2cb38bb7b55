//! Gathers outcomes and writes them in batches.
//!
//! Outcomes wait for others for at most a few milliseconds, and not at all when the pool is idle.
//! When the store is away they wait, and workers with them: the space is bounded.

use std::{
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use chrono::Utc;
use futures_util::FutureExt;
use parking_lot::Mutex;

use super::{
    Executor,
    ended::{self, Disposition, Ended},
    held::{Claimed, Held, key},
    kept_back::{Kept, KeptBack},
    panic_capture::Panicked,
};
use crate::{
    error::{Chain, Result, StoreError},
    model::{Backoff, Outcome},
    raiser::Raiser,
    settings::Settings,
    signal::Signal,
    store::{Settled, Settlement},
    store_calls::LoopBackoff,
};

pub(super) struct Settler {
    pending: Mutex<Vec<Ended>>,
    /// Taken from `pending` and not yet written.
    in_flight: AtomicUsize,
    /// What could not be written and is tried again.
    pub(super) kept_back: KeptBack,
    /// Somebody wants no waiting for a fuller batch.
    flush: AtomicBool,
    /// Raised when there is something to do for the settling loop.
    work: Signal,
    /// Raised after each batch.
    pub(super) written: Signal,
    pub(super) batch_size: usize,
}

impl Settler {
    /// Workers wait when so many batches are pending: enough to keep them busy during a slow
    /// write, and a bound on what is in memory during an outage.
    const MAX_PENDING_BATCHES: usize = 4;

    pub(super) fn new(batch_size: usize) -> Self {
        Self {
            pending: Mutex::new(Vec::new()),
            in_flight: AtomicUsize::new(0),
            kept_back: KeptBack::new(),
            flush: AtomicBool::new(false),
            work: Signal::new(),
            written: Signal::new(),
            batch_size,
        }
    }

    /// Outcomes that have not been written.
    pub(super) fn len(&self) -> usize {
        self.pending.lock().len() + self.in_flight.load(Ordering::Acquire) + self.kept_back.len()
    }

    /// Takes an end in, after waiting for space; answers whether that woke the settling loop.
    pub(super) async fn push(&self, ended: Ended, stop: &Signal) -> bool {
        let mut ended = Some(ended);
        loop {
            let written = self.written.seen();
            {
                let mut pending = self.pending.lock();
                if pending.len() < self.batch_size * Self::MAX_PENDING_BATCHES {
                    pending.extend(ended.take());
                    let len = pending.len();
                    drop(pending);
                    let wake = len == 1 || len == self.batch_size;
                    if wake {
                        self.work.raise();
                    }
                    return wake;
                }
            }
            tokio::select! {
                biased;
                // Nobody writes any more: its lease runs out.
                () = stop.changed_since(0) => return false,
                () = self.written.changed_since(written) => {}
            }
        }
    }

    /// Writes what is pending without waiting for more.
    pub(super) fn flush_now(&self) {
        if !self.pending.lock().is_empty() {
            self.flush.store(true, Ordering::Release);
            self.work.raise();
        }
    }

    /// Waits until everything has been written. Cancellation safe.
    pub(super) async fn emptied(&self) {
        loop {
            let written = self.written.seen();
            if self.len() == 0 {
                return;
            }
            self.flush_now();
            self.written.changed_since(written).await;
        }
    }

    /// The next batch, after lingering for it to fill.
    async fn next_batch(&self) -> Vec<Ended> {
        loop {
            let work = self.work.seen();
            let len = self.pending.lock().len();
            if len == 0 {
                self.work.changed_since(work).await;
                continue;
            }
            if len < self.batch_size && !self.flush.load(Ordering::Acquire) {
                tokio::select! {
                    biased;
                    () = self.fuller(work) => {}
                    () = tokio::time::sleep(Settings::SETTLE_LINGER) => {}
                }
            }
            let mut pending = self.pending.lock();
            let size = batch_len(&pending, self.batch_size);
            let batch = if size == pending.len() {
                self.flush.store(false, Ordering::Release);
                std::mem::replace(&mut *pending, Vec::with_capacity(size))
            } else {
                pending.drain(..size).collect()
            };
            self.in_flight.store(batch.len(), Ordering::Release);
            return batch;
        }
    }

    /// Waits until a batch is full or is to be flushed.
    async fn fuller(&self, mut work: u64) {
        loop {
            self.work.changed_since(work).await;
            work = self.work.seen();
            if self.flush.load(Ordering::Acquire) || self.pending.lock().len() >= self.batch_size {
                return;
            }
        }
    }
}

/// How many ends make a batch: at most `rows`, and at most so many raised events as one call may
/// raise, unless a single one has more.
fn batch_len(pending: &[Ended], rows: usize) -> usize {
    let mut raised = 0;
    let fitting = pending.iter().take(rows).take_while(|ended| {
        raised += ended.raised();
        raised <= Raiser::DEFAULT_MAX_BATCH
    });
    fitting.count().max(1).min(pending.len())
}

/// An execution that has ended, and whose settlement is to be written.
pub(super) struct End {
    pub(super) held: Held,
    pub(super) panicked: Option<Panicked>,
    /// How often it was kept back.
    pub(super) tries: u32,
}

/// What is written in one statement, and whom it concerns.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) settlements: Vec<Settlement>,
    pub(super) ends: Vec<End>,
    /// An earlier try may have taken effect although its answer was lost.
    pub(super) uncertain: bool,
    /// The one settlement of this batch was refused by the store, and replaced by an error.
    replaced: bool,
}

impl Batch {
    /// Two batches, of which the last is to be written first.
    fn halves(mut self) -> Vec<Self> {
        let middle = self.settlements.len() / 2;
        let second = Self {
            settlements: self.settlements.split_off(middle),
            ends: self.ends.split_off(middle),
            uncertain: self.uncertain,
            replaced: false,
        };
        vec![second, self]
    }

    fn claims(&self) -> impl Iterator<Item = Claimed> {
        self.ends.iter().map(|end| key(&end.held.context))
    }
}

impl Executor {
    /// Settles until the executor stops; then what is pending is left to be rescued.
    pub(crate) async fn settle_loop(self) {
        tokio::join!(self.settle_pending(), self.settle_kept_back());
    }

    async fn settle_pending(&self) {
        loop {
            let batch = tokio::select! {
                biased;
                () = self.stopped() => return,
                batch = self.0.settler.next_batch() => batch,
            };
            let claims: Vec<_> = batch.iter().map(|ended| key(&ended.held.context)).collect();
            if AssertUnwindSafe(self.write(batch))
                .catch_unwind()
                .await
                .is_err()
            {
                self.panicked(claims);
            }
            self.0.settler.in_flight.store(0, Ordering::Release);
            self.0.settler.written.raise();
        }
    }

    /// A store that panics has an unknown outcome. What is not held is not renewed, so the requests
    /// are rescued and run again if they were not settled.
    pub(super) fn panicked(&self, claims: Vec<Claimed>) {
        tracing::error!(requests = claims.len(), "the store panicked while settling");
        self.0.held.remove(claims.into_iter());
    }

    async fn write(&self, ends: Vec<Ended>) {
        let mut batch = Batch::default();
        batch.settlements.reserve(ends.len());
        batch.ends.reserve(ends.len());
        let mut hand_back = Vec::new();
        let mut gone = Vec::new();
        for Ended {
            held,
            disposition,
            panicked,
        } in ends
        {
            match disposition {
                Disposition::Settle(settlement) => {
                    batch.settlements.push(settlement);
                    batch.ends.push(End {
                        held,
                        panicked,
                        tries: 0,
                    });
                }
                Disposition::HandBack => hand_back.push(held),
                Disposition::Settled(outcome) => {
                    self.telemetry()
                        .request_settled(held.context.request(), &outcome, Utc::now());
                    gone.push(key(&held.context));
                }
                Disposition::Lost => {
                    self.telemetry().settlement_refused(held.context.request());
                    gone.push(key(&held.context));
                }
            }
        }
        if !gone.is_empty() {
            self.0.held.remove(gone.into_iter());
        }
        // What has ended first: a store that hangs would keep it waiting.
        self.settle_all(batch).await;
        self.hand_back(hand_back).await;
    }

    pub(super) async fn settle_all(&self, batch: Batch) {
        let mut batches = vec![batch];
        while let Some(batch) = batches.pop() {
            if !batch.settlements.is_empty() {
                batches.extend(self.settle(batch).await);
            }
        }
    }

    /// Settles a batch, again and again while the store is away. When the store refuses it, it
    /// answers with the halves, until the culprit is alone and gets the error itself.
    async fn settle(&self, mut batch: Batch) -> Vec<Batch> {
        let mut backoff = LoopBackoff::default();
        loop {
            match self
                .call(
                    "settle handler requests",
                    self.settle_once(&batch.settlements),
                )
                .await
            {
                Ok(results) => {
                    self.settled(batch, results).await;
                    return Vec::new();
                }
                Err(StoreError::TimedOut { .. } | StoreError::Conflict { .. })
                    if batch.settlements.len() > 1 =>
                {
                    // So much at once may never be done in time, or somebody is raising an event of
                    // one of them.
                    batch.uncertain = true;
                    return batch.halves();
                }
                Err(StoreError::TimedOut { .. } | StoreError::Conflict { .. }) => {
                    batch.uncertain = true;
                    for (settlement, end) in batch.settlements.into_iter().zip(batch.ends) {
                        self.keep_back(Kept {
                            settlement,
                            end,
                            uncertain: true,
                            is_slow: true,
                        });
                    }
                    return Vec::new();
                }
                Err(error) if error.is_transient() => {
                    batch.uncertain |= error.is_uncertain();
                    tokio::select! {
                        biased;
                        () = self.stopped() => return Vec::new(),
                        () = tokio::time::sleep(backoff.next()) => {}
                    }
                }
                Err(error) => return self.divide(batch, &error),
            }
        }
    }

    async fn settle_once(&self, settlements: &[Settlement]) -> Result<Vec<Settled>> {
        self.store()
            .session()
            .await?
            .handler_requests()
            .settle(settlements)
            .await
    }

    fn divide(&self, mut batch: Batch, error: &StoreError) -> Vec<Batch> {
        if batch.settlements.len() > 1 {
            return batch.halves();
        }
        let text = Chain(error).to_string();
        for (settlement, end) in batch.settlements.iter_mut().zip(&batch.ends) {
            let request = end.held.context.request();
            tracing::error!(request = %request.id, handler = %request.handler, error = text, "a settlement was refused");
            settlement.raised.clear();
            let backoff = Backoff::default().after(request.errors.saturating_add(1));
            settlement.outcome = Outcome::Failed {
                error: format!("its settlement was refused: {text}"),
                backoff,
            };
        }
        if batch.replaced {
            // Not even the error can be written: the lease runs out, and a rescue has it next.
            self.0.held.remove(batch.claims());
            return Vec::new();
        }
        batch.replaced = true;
        vec![batch]
    }

    /// Keeps a settlement for another try.
    fn keep_back(&self, kept: Kept) {
        let Err(kept) = self.0.settler.kept_back.keep(kept) else {
            return;
        };
        let claim = key(&kept.end.held.context);
        tracing::warn!(request = %kept.settlement.id, "too many settlements wait for locks: this one is left to its lease");
        self.0.held.remove(std::iter::once(claim));
    }

    async fn settled(&self, batch: Batch, mut results: Vec<Settled>) {
        if batch.uncertain {
            self.find_out_fenced(&batch.settlements, &mut results).await;
        }
        let now = Utc::now();
        let mut comes_back = false;
        let mut gone = Vec::with_capacity(batch.ends.len());
        let ended = batch.settlements.into_iter().zip(batch.ends);
        for (index, (settlement, end)) in ended.enumerate() {
            let claim = key(&end.held.context);
            let result = results.get(index).copied().unwrap_or(Settled::Fenced);
            // What is lost has had its last try.
            if result == Settled::Locked && self.0.held.contains(&claim) {
                self.keep_back(Kept {
                    settlement,
                    end,
                    uncertain: batch.uncertain,
                    is_slow: false,
                });
                continue;
            }
            gone.push(claim);
            let End { held, panicked, .. } = &end;
            let applied = result == Settled::Applied;
            if applied {
                comes_back |= is_retried(&settlement.outcome);
                self.telemetry()
                    .request_settled(held.context.request(), &settlement.outcome, now);
            } else {
                self.telemetry().settlement_refused(held.context.request());
                tracing::debug!(request = %settlement.id, attempt = settlement.attempt, "fenced: somebody else has it");
            }
            if applied {
                ended::log(held, &settlement.outcome, panicked.as_ref());
            }
            if let Some(report) =
                ended::report(held, &settlement.outcome, panicked.as_ref(), applied)
            {
                self.0.reports.send(report);
            }
        }
        self.0.held.remove(gone.into_iter());
        if comes_back {
            // The claim that waits does not know of these yet: it would sleep past their backoff.
            self.store().signals().ready.raise();
        }
    }

    /// After a lost answer, a fence may be that of the settlement itself: the same attempt without
    /// a lease means that it took effect. Asks until the store answers, a few at a time, and what is
    /// known stays known: the store may be slow, but a call has its limit.
    async fn find_out_fenced(&self, settlements: &[Settlement], results: &mut [Settled]) {
        /// How many are asked for in one call at first.
        const AT_ONCE: usize = 64;
        let is_fenced = |index: &usize| results.get(*index) == Some(&Settled::Fenced);
        let mut unknown: Vec<_> = (0..settlements.len()).filter(is_fenced).collect();
        let mut at_once = AT_ONCE;
        let mut backoff = LoopBackoff::default();
        while !unknown.is_empty() {
            let asked = unknown.len().saturating_sub(at_once);
            let asked = unknown.get(asked..).unwrap_or_default();
            let call = self.find_applied(settlements, asked);
            match self.call("read requests after a lost answer", call).await {
                Ok(applied) => {
                    for index in applied {
                        if let Some(result) = results.get_mut(index) {
                            *result = Settled::Applied;
                        }
                    }
                    unknown.truncate(unknown.len() - asked.len());
                    backoff.reset();
                }
                Err(error) if error.is_transient() => {
                    if matches!(error, StoreError::TimedOut { .. }) {
                        at_once = (at_once / 2).max(1);
                    }
                    tokio::select! {
                        biased;
                        () = self.stopped() => return,
                        () = tokio::time::sleep(backoff.next()) => {}
                    }
                }
                Err(_) => return,
            }
        }
    }

    /// Which of these settlements took effect all the same.
    async fn find_applied(
        &self,
        settlements: &[Settlement],
        asked: &[usize],
    ) -> Result<Vec<usize>> {
        let mut session = self.store().session().await?;
        let mut requests = session.handler_requests();
        let mut applied = Vec::new();
        for &index in asked {
            if let Some(settlement) = settlements.get(index)
                && let Some(request) = requests.find(settlement.id).await?
                && request.attempt == settlement.attempt
                && request.lease.is_none()
            {
                applied.push(index);
            }
        }
        Ok(applied)
    }

    /// Gives requests back that this process would have run, but ends.
    pub(super) async fn hand_back(&self, held: Vec<Held>) {
        let applied = self.give_back(held).await;
        self.0.handed_back.fetch_add(applied, Ordering::AcqRel);
    }

    /// Gives requests back, so that others run them at once, and answers how many. What cannot be given
    /// back is rescued when its lease runs out.
    pub(super) async fn give_back(&self, held: Vec<Held>) -> usize {
        let claims: Vec<_> = held.iter().map(|held| key(&held.context)).collect();
        let mut applied = 0;
        let mut left = StillHeld(self, &claims);
        for claims in claims.chunks(self.settings().batch_size) {
            applied += self.give_back_batch(claims).await;
            left.1 = left.1.get(claims.len()..).unwrap_or_default();
            self.0.held.remove(claims.iter().copied());
        }
        applied
    }

    async fn give_back_batch(&self, claims: &[Claimed]) -> usize {
        /// An outage is bridged by leases, and so is a lock that outlasts one of our own renewals,
        /// not by waiting here.
        const TRIES: u32 = 3;
        let (mut left, mut applied) = (claims.to_vec(), 0);
        let mut backoff = LoopBackoff::default();
        for number in 0..TRIES {
            if number > 0 {
                tokio::time::sleep(backoff.next()).await;
            }
            let call = async {
                self.store()
                    .session()
                    .await?
                    .handler_requests()
                    .hand_back(self.owner(), &left)
                    .await
            };
            if let Ok(results) = self.call("hand requests back", call).await {
                let is_applied = |result: &&Settled| **result == Settled::Applied;
                applied += results.iter().filter(is_applied).count();
                let mut results = results.into_iter();
                left.retain(|_| results.next() == Some(Settled::Locked));
                if left.is_empty() {
                    break;
                }
            }
        }
        applied
    }
}

/// What is let go of if a store panics, as it would be renewed for ever. If a deadline cuts it short, it is still
/// counted as held.
struct StillHeld<'a>(&'a Executor, &'a [Claimed]);

impl Drop for StillHeld<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.0.held.remove(self.1.iter().copied());
        }
    }
}

/// Whether the request runs again after this outcome, unless that was its last error.
const fn is_retried(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed { .. } | Outcome::Snoozed { .. })
}
