//! A worker: takes requests from the buffer one after the other, and ends when there are none.

use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::{
    Executor,
    buffer::Runnable,
    ended::{Disposition, Ended, RunResult},
};

/// After so many runs a worker lets other tasks of its thread run, as handlers that never wait
/// would otherwise keep it for a whole batch.
const RUNS_PER_TURN: u32 = 64;

impl Executor {
    pub(super) async fn work(self) {
        self.telemetry().workers_busy(1);
        let mut runs = 0_u32;
        while let Some(runnable) = self.0.buffer.next() {
            self.execute(runnable).await;
            runs += 1;
            if runs.is_multiple_of(RUNS_PER_TURN) {
                tokio::task::yield_now().await;
            }
        }
        self.telemetry().workers_busy(-1);
        if self.0.buffer.is_idle() {
            self.0.settler.flush_now();
        }
    }

    async fn execute(&self, runnable: Runnable) {
        // The slot is given back even if this future is dropped with the runtime.
        let mut slot = Slot {
            executor: self,
            handler: runnable.handler,
            took: None,
        };
        let Runnable { held, handler } = runnable;
        let Some(handler) = self.0.handlers.get(handler) else {
            return;
        };
        let context = held.context.clone();
        let request = context.request();
        let suspect = request.rescues >= crate::model::SUSPECT_FROM_RESCUES;
        if self.is_breaking_off() {
            self.end(Ended {
                held,
                disposition: Disposition::HandBack,
                panicked: None,
            })
            .await;
            return;
        }
        let span = self.telemetry().execution(&held.round, request);
        let begun = Instant::now();
        let result = self.run(handler, &context, &span).await;
        let took = begun.elapsed();
        let ran = !matches!(result, RunResult::Lost | RunResult::NotBegun(_));
        slot.took = ran.then_some(took);
        let ended = Ended::new(held, handler, self.owner(), result);
        let error = ended.error();
        if ran {
            self.telemetry().handler_ran(request, took, error);
        }
        span.finish(error);
        drop(slot);
        if suspect {
            self.end_suspect();
            self.0.suspects_known.store(true, Ordering::Release);
            self.store().signals().ready.raise();
        }
        self.end(ended).await;
    }

    /// Hands an end to the settler, after waiting for space.
    async fn end(&self, ended: Ended) {
        self.0.settler.push(ended).await;
    }
}

/// A handler's slot in the pool.
struct Slot<'a> {
    executor: &'a Executor,
    handler: usize,
    took: Option<std::time::Duration>,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.executor.0.buffer.finished(self.handler, self.took);
    }
}
