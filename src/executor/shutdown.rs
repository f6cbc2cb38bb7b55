//! Pausing and ending the executor.

use std::time::Duration;

use super::{Deadline, Executor, buffer::Runnable, held::Held};
use crate::handler::CancellationCause;

/// How long a shutdown waits for reports that are under way.
const REPORTS_GRACE: Duration = Duration::from_secs(5);

impl Executor {
    /// Hands back what no worker has taken yet. Claims must have been stopped before.
    pub(crate) async fn hand_back_queued(&self) {
        let queued: Vec<Held> = self
            .0
            .buffer
            .drain()
            .into_iter()
            .map(|Runnable { held, .. }| held)
            .collect();
        if queued
            .iter()
            .any(|held| held.context.request().is_suspect())
        {
            self.end_suspect();
        }
        self.hand_back(queued).await;
    }

    /// Hands back what does not start soon, as its handler has turned slow: others may be idle, or
    /// faster. Looks at what has become of what waited when it was called last, `since` ago.
    pub(crate) async fn hand_back_surplus(&self, since: Duration) {
        let surplus = self.0.buffer.take_surplus(since);
        if surplus.is_empty() {
            return;
        }
        let surplus: Vec<Held> = surplus.into_iter().map(|one| one.held).collect();
        let handed_back = self.give_back(surplus).await;
        tracing::debug!(handed_back, "requests that do not start soon");
    }

    /// Waits for running handlers and for their outcomes to be written, breaks off those that run
    /// when `deadline` is near, and answers how many could not be ended.
    pub(crate) async fn finish(&self, deadline: &Deadline) -> usize {
        let finished = tokio::select! {
            biased;
            () = self.all_written() => true,
            () = deadline.near() => false,
        };
        if !finished {
            self.0.held.cancel_all(CancellationCause::Shutdown);
            tokio::select! {
                biased;
                () = self.all_written() => {}
                () = deadline.break_off() => self.0.break_off.raise(),
            }
            tokio::select! {
                biased;
                () = self.all_written() => {}
                // What has not ended by now is left to its lease.
                () = deadline.reached() => {}
            }
        }
        self.0.held.len()
    }

    async fn all_written(&self) {
        self.workers_ended().await;
        self.0.settler.emptied().await;
        // A reporter that is slow must not make every shutdown last its whole deadline.
        drop(tokio::time::timeout(REPORTS_GRACE, self.0.reports.emptied()).await);
    }

    async fn workers_ended(&self) {
        loop {
            let idle = self.0.buffer.idle.seen();
            if self.0.buffer.is_idle() {
                return;
            }
            self.0.buffer.idle.changed_since(idle).await;
        }
    }

    /// Stops every loop, the renewal thread, and every handler that yields. Leases that are still
    /// held run out.
    pub(crate) fn stop(&self) {
        self.0.break_off.raise();
        drop(self.0.buffer.drain());
        self.0.stop.raise();
        self.0.held.cancel_all(CancellationCause::Shutdown);
        self.0.held.clear();
    }
}
