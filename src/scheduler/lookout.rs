//! The safety net under wake-ups: one cheap look at the store, whenever nobody has looked for a poll
//! interval.
//!
//! It tells the loops that find work, and the rescuer, what there is for them, so that none of
//! them asks while there is nothing. It is a task of its own, so that a call which hangs in one of
//! them keeps no other from its work.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::engine::Inner;
use crate::{
    agenda::Agenda,
    clock::instant_after,
    error::{Chain, Result, StoreError},
    signal::Signal,
    store::{Look, Outlook},
    store_calls::LoopBackoff,
};

/// What is known of the work of one loop, beside the store's signals.
#[derive(Debug)]
pub(super) struct Known {
    /// Raised when a look found work.
    pub(super) found: Signal,
    /// Raised when a call of the loop filled a large batch, so that there may be more.
    pub(super) more: Signal,
    /// Raised when the calls beside the loop's have ended: it is to look once by itself.
    pub(super) again: Signal,
    /// When the next row becomes due.
    pub(super) due: Agenda,
    /// When the last call was sent that saw everything there was.
    looked_at: Mutex<Instant>,
}

impl Known {
    pub(super) fn new() -> Self {
        Self {
            found: Signal::new(),
            more: Signal::new(),
            again: Signal::new(),
            due: Agenda::default(),
            looked_at: Mutex::new(Instant::now()),
        }
    }

    /// A call that was sent then saw everything there was.
    pub(super) fn looked(&self, sent: Instant) {
        let mut looked_at = self.looked_at.lock();
        *looked_at = sent.max(*looked_at);
    }

    fn looked_at(&self) -> Instant {
        *self.looked_at.lock()
    }
}

/// Looks take half of the time at most: where they take seconds, as under a transaction that has been open for
/// hours, they are rarer than a poll interval. None takes longer than a call may. One alone that took so long, or
/// got no answer, tells nothing of the next: after it the net is where it was.
const REST: u32 = 2;

/// Looks until the executor stops.
pub(super) async fn look_out(inner: Arc<Inner>) {
    let mut backoff = LoopBackoff::default();
    let (mut rest, mut took_before) = (Duration::ZERO, Duration::ZERO);
    // The loops begin with a call each.
    for known in [&inner.events, &inner.requests] {
        known.looked(Instant::now());
    }
    let mut heard = inner.hearing.changed.seen();
    while !inner.executor.is_stopped() {
        let state = inner.changed.seen();
        inner.running().await;
        let looked_at = inner.events.looked_at().min(inner.requests.looked_at());
        let due = instant_after(looked_at, inner.heed().idle.max(rest));
        if due > Instant::now() && inner.hearing.changed.seen() == heard {
            tokio::select! {
                biased;
                () = inner.executor.stopped() => return,
                () = inner.changed.changed_since(state) => {}
                () = inner.hearing.changed.changed_since(heard) => {}
                () = tokio::time::sleep_until(due) => {}
            }
            continue;
        }
        // When a listener is established, or fails, nobody has heard of what came just before.
        heard = inner.hearing.changed.seen();
        match look_once(&inner).await {
            Ok(took) => {
                backoff.reset();
                rest = took.min(took_before).saturating_mul(REST);
                took_before = took;
            }
            Err(_) => tokio::time::sleep(backoff.next()).await,
        }
    }
}

/// Answers how long the store took.
async fn look_once(inner: &Inner) -> Result<Duration> {
    let executor = &inner.executor;
    let mut look = Look::new(executor.handlers_with_room());
    look.leases = executor.rescue_is_near(inner.heed().idle);
    let sent = Instant::now();
    let outlook = match inner
        .calls
        .call("look for work", executor.store().look(&look))
        .await
    {
        Ok(outlook) => outlook,
        Err(
            error @ (StoreError::Unavailable { .. }
            | StoreError::Unreachable { .. }
            | StoreError::Conflict { .. }),
        ) => {
            return Err(error);
        }
        Err(error) => {
            // Looks that fail take the net away from nobody.
            tracing::debug!(error = %Chain(&error), "no look; making the calls");
            Outlook::unknown()
        }
    };
    let took = sent.elapsed();
    for known in [&inner.events, &inner.requests] {
        known.looked(sent);
    }
    if outlook.event_waits {
        inner.events.found.raise();
    }
    if let Some(due) = outlook.next_event {
        inner.events.due.bring_forward(instant_after(sent, due));
    }
    // The claim that follows tells of the suspect again.
    let suspect_waits = outlook.suspect_waits && !executor.runs_suspect();
    if outlook.request_waits || suspect_waits {
        inner.requests.found.raise();
    }
    if let Some(due) = outlook.next_request {
        inner.requests.due.bring_forward(instant_after(sent, due));
    }
    if look.leases {
        executor.leases_seen(sent, outlook.next_expiry);
    }
    Ok(took)
}
