//! Deletes now and then what nobody needs any more, in small batches with long rests, so that the
//! hot path does not feel it.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::engine::Inner;
use crate::{
    chance,
    error::{Chain, Result},
    id::EventId,
    settings::Retention,
    store::Pruned,
};

/// How long the rest after a batch is, in times of the batch: a pass has a connection for a fifth of
/// its time, and row versions are not made faster than a database can sweep them.
const REST_FACTOR: u32 = 4;
/// The shortest rest: with the default batch, no more than 50,000 events a second.
const MIN_REST: Duration = Duration::from_millis(10);
/// The longest rest, so that one slow call does not end a pass.
const MAX_REST: Duration = Duration::from_secs(10);

/// Deletes until the scheduler shuts down; then at once not any more, a call that is under way
/// included.
pub(super) async fn retain(inner: Arc<Inner>) {
    let retention = inner.executor.settings().retention;
    if retention.keeps_everything() {
        return;
    }
    tokio::select! {
        biased;
        () = inner.ending() => {}
        () = prune_now_and_then(&inner, &retention) => {}
    }
}

async fn prune_now_and_then(inner: &Inner, retention: &Retention) {
    let mut pause = retention.every.mul_f64(chance::fraction());
    loop {
        tokio::time::sleep(pause).await;
        let mut pass = Pass::default();
        let outcome = pass.run(inner, retention).await;
        let Pass { pruned, .. } = pass;
        match outcome {
            Ok(()) if pruned.events == 0 => {}
            Ok(()) => {
                tracing::info!(events = pruned.events, requests = pruned.requests, "pruned");
            }
            Err(error) => {
                tracing::warn!(error = %Chain(&error), events = pruned.events, requests = pruned.requests, "pruning stopped; it is tried again another time");
            }
        }
        pause = retention.every.mul_f64(0.8 + 0.4 * chance::fraction());
    }
}

/// Once over all events.
#[derive(Default)]
struct Pass {
    after: Option<EventId>,
    pruned: Pruned,
}

impl Pass {
    async fn run(&mut self, inner: &Inner, retention: &Retention) -> Result<()> {
        let mut limit = retention.batch;
        loop {
            let began = Instant::now();
            match self.batch(inner, retention, limit).await {
                Ok(Some(next)) => self.after = Some(next),
                Ok(None) => return Ok(()),
                // Perhaps there are too many rows to a call, or in the way of another transaction.
                Err(error) if error.is_transient() && limit > 1 => limit /= 2,
                Err(error) => return Err(error),
            }
            let rest = began.elapsed() * REST_FACTOR;
            tokio::time::sleep(rest.clamp(MIN_REST, MAX_REST)).await;
        }
    }

    /// Answers where the next batch begins.
    async fn batch(
        &mut self,
        inner: &Inner,
        retention: &Retention,
        limit: usize,
    ) -> Result<Option<EventId>> {
        let prune = retention.prune(self.after, limit);
        let call = async {
            let mut session = inner.calls.store().session().await?;
            session.events().prune(&prune).await
        };
        let pruned = inner.calls.call("prune events", call).await?;
        inner.executor.telemetry().pruned(&pruned);
        self.pruned.events += pruned.events;
        self.pruned.requests += pruned.requests;
        Ok(pruned.next)
    }
}
