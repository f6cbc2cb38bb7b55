//! A worker: takes requests from the buffer one after the other, and ends when there are none.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::Instant;

use super::{
    Executor,
    buffer::Runnable,
    ended::{Disposition, Ended, RunResult},
    held::{Claimed, key},
};
use crate::handler::HandlerKind;

/// After so many runs a worker lets other tasks of its thread run, as handlers that never wait
/// would otherwise keep it for a whole batch.
const RUNS_PER_TURN: u32 = 64;

impl Executor {
    /// Runs requests while there are any.
    ///
    /// Between waking another task and running a handler it yields: a task that was woken last
    /// stays with this thread, and a handler that blocks the thread would keep it from running.
    pub(super) async fn work(self) {
        let active = Active::begin(&self);
        let mut runs = 0_u32;
        let mut woke = false;
        while let Some((runnable, made_room)) = self.0.buffer.next() {
            runs += 1;
            if woke || made_room || runs.is_multiple_of(RUNS_PER_TURN) {
                tokio::task::yield_now().await;
            }
            woke = self.execute(runnable).await;
        }
        active.end();
        if self.0.buffer.is_idle() {
            self.0.settler.flush_now();
        }
    }

    /// Runs one request; answers whether that woke another task of ours.
    async fn execute(&self, runnable: Runnable) -> bool {
        let Runnable {
            held,
            handler: number,
        } = runnable;
        // The slot is given back even if this future is dropped with the runtime.
        let mut slot = Slot {
            executor: self,
            handler: number,
            claim: key(&held.context),
            is_suspect: held.context.request().is_suspect(),
            took: None,
            ended: false,
        };
        let Some(handler) = self.0.handlers.get(number) else {
            return false;
        };
        if self.is_breaking_off() {
            let ended = Ended {
                held,
                disposition: Disposition::HandBack,
                panicked: None,
            };
            slot.end();
            return self.0.settler.push(ended, &self.0.stop).await;
        }
        if let Some(transactional) = self.shares_transactions(handler, &held.context) {
            return self
                .execute_shared(slot, held, handler, transactional)
                .await;
        }
        let context = held.context.clone();
        let request = context.request();
        let span = self.telemetry().execution(&held.round, request);
        let begun = Instant::now();
        let result = self.run(handler, &context, &span).await;
        let took = begun.elapsed();
        let ran = !matches!(result, RunResult::Lost | RunResult::NotBegun { .. });
        slot.took = ran.then_some(took);
        let ended = Ended::new(held, handler, self.owner(), result);
        let error = ended.error();
        if ran {
            self.telemetry().handler_ran(request, took, error);
        }
        span.finish(error);
        let mut woke = slot.end() | matches!(handler.kind, HandlerKind::Transactional(..));
        if request.is_suspect() {
            self.end_suspect();
            self.0.suspects_known.store(true, Ordering::Release);
            self.store().signals().ready.raise();
            woke = true;
        }
        self.0.settler.push(ended, &self.0.stop).await | woke
    }
}

/// A worker that counts as active. What it runs is caught, but an exporter of telemetry that
/// panics would take the worker along; its place in the pool must not be lost then.
struct Active<'a> {
    executor: &'a Executor,
    ended: bool,
}

impl<'a> Active<'a> {
    fn begin(executor: &'a Executor) -> Self {
        executor.telemetry().workers_busy(1);
        Self {
            executor,
            ended: false,
        }
    }

    /// The buffer has counted the worker as gone.
    fn end(mut self) {
        self.ended = true;
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let replace = self.executor.0.buffer.worker_lost();
            if replace && tokio::runtime::Handle::try_current().is_ok() {
                let work = self.executor.clone().work();
                self.executor.settings().spawn(work);
            }
        }
        self.executor.telemetry().workers_busy(-1);
    }
}

/// A handler's slot in the pool.
pub(super) struct Slot<'a> {
    executor: &'a Executor,
    pub(super) handler: usize,
    claim: Claimed,
    is_suspect: bool,
    /// How long a run took; none if nothing ran.
    pub(super) took: Option<Duration>,
    ended: bool,
}

impl Slot<'_> {
    /// Gives the slot back; answers whether that woke somebody.
    pub(super) fn end(&mut self) -> bool {
        self.ended = true;
        self.executor.0.buffer.finished(self.handler, self.took)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.executor.0.buffer.finished(self.handler, self.took);
            // Nobody will settle it, so nobody renews it, and it is rescued.
            self.executor.0.held.remove(std::iter::once(self.claim));
            if self.is_suspect {
                self.executor.end_suspect();
            }
        }
    }
}
