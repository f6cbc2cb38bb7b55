//! The loops that find work.
//!
//! Each notes the signals before it looks, so that a wake-up while it looks is not lost, and drains
//! before it waits.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::engine::Inner;
use crate::{
    error::Result,
    executor::{Claimer, Executor, Refill},
    processor::{Offer, Processor},
    store_calls::LoopBackoff,
};

/// How long fan-out holds back when requests would have to be claimed because there is no room for
/// them or others wait: long enough for room to return, short enough not to delay an event that
/// matters more than those.
const HOLD_BACK: Duration = Duration::from_millis(20);

/// Fans events out.
pub(super) async fn process(inner: Arc<Inner>) {
    let processor = inner.processor.clone();
    let raised = inner.executor.store().signals().raised;
    let mut backoff = LoopBackoff::default();
    while !inner.executor.is_stopped() {
        let state = inner.changed.seen();
        inner.running().await;
        let seen = raised.seen();
        match process_once(&inner, &processor).await {
            Ok(processed) => {
                backoff.reset();
                if processed.more {
                    inner.executor.room_for_offers(HOLD_BACK).await;
                } else {
                    let wait = wait_at_most(&inner, processed.next_due);
                    tokio::select! {
                        () = raised.changed_since(seen) => inner.executor.telemetry().notification_received(),
                        () = inner.changed.changed_since(state) => {}
                        () = tokio::time::sleep(wait) => {}
                        () = inner.executor.stopped() => {}
                    }
                }
            }
            Err(_) => tokio::time::sleep(backoff.next()).await,
        }
    }
}

/// Claims requests.
pub(super) async fn claim(inner: Arc<Inner>) {
    let mut claimer = Claimer::default();
    let ready = inner.executor.store().signals().ready;
    let room = inner.executor.room().clone();
    let mut backoff = LoopBackoff::default();
    while !inner.executor.is_stopped() {
        let state = inner.changed.seen();
        inner.running().await;
        let (ready_seen, room_seen) = (ready.seen(), room.seen());
        match claim_once(&inner, &mut claimer).await {
            Ok(refill) => {
                backoff.reset();
                if refill.more {
                    continue;
                }
                let wait = wait_at_most(&inner, refill.next_due);
                tokio::select! {
                    // With no room, more ready requests change nothing.
                    () = ready.changed_since(ready_seen), if !refill.no_room => {}
                    () = room.changed_since(room_seen) => {}
                    () = inner.changed.changed_since(state) => {}
                    () = tokio::time::sleep(wait) => {}
                    () = inner.executor.stopped() => {}
                }
            }
            Err(_) => tokio::time::sleep(backoff.next()).await,
        }
    }
}

/// Fans out and claims by turns.
pub(super) async fn cooperate(inner: Arc<Inner>) {
    let processor = inner.processor.clone();
    let mut claimer = Claimer::default();
    let signals = inner.executor.store().signals();
    let room = inner.executor.room().clone();
    let mut backoff = LoopBackoff::default();
    while !inner.executor.is_stopped() {
        let state = inner.changed.seen();
        inner.running().await;
        let (raised, ready, roomy) = (signals.raised.seen(), signals.ready.seen(), room.seen());
        // One that fails keeps the other from nothing.
        let processed = process_once(&inner, &processor).await;
        let refill = claim_once(&inner, &mut claimer).await;
        match (processed, refill) {
            (Ok(processed), Ok(refill)) => {
                backoff.reset();
                if processed.more || refill.more {
                    if !refill.more {
                        inner.executor.room_for_offers(HOLD_BACK).await;
                    }
                    continue;
                }
                let next_due = [processed.next_due, refill.next_due]
                    .into_iter()
                    .flatten()
                    .min();
                let wait = wait_at_most(&inner, next_due);
                tokio::select! {
                    () = signals.raised.changed_since(raised) => inner.executor.telemetry().notification_received(),
                    () = signals.ready.changed_since(ready), if !refill.no_room => {}
                    () = room.changed_since(roomy) => {}
                    () = inner.changed.changed_since(state) => {}
                    () = tokio::time::sleep(wait) => {}
                    () = inner.executor.stopped() => {}
                }
            }
            _ => tokio::time::sleep(backoff.next()).await,
        }
    }
}

/// Keeps a store's listener running.
pub(super) async fn listen(executor: Executor) {
    let mut backoff = LoopBackoff::default();
    while !executor.is_stopped() {
        let begun = Instant::now();
        let result = tokio::select! {
            result = executor.store().listen() => result,
            () = executor.stopped() => return,
        };
        if let Err(error) = result {
            tracing::warn!(%error, "the listener ended; polling until it is back");
        }
        if begun.elapsed() > Duration::from_secs(10) {
            backoff.reset();
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

/// Whether there was more than was taken, and if not, when there will be.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    more: bool,
    next_due: Option<Duration>,
}

/// Hooks run without the gate, as they may take long. What was claimed for them is fanned out also
/// when the scheduler has been paused meanwhile, but not to run here.
async fn process_once(inner: &Inner, processor: &Processor) -> Result<Found> {
    if !inner.is_running() {
        return Ok(Found::default());
    }
    let prepared = processor.prepare().await?;
    let _gate = inner.gate.read().await;
    let executor = &inner.executor;
    let is_running = inner.is_running();
    if !is_running && !prepared.holds_claims() {
        return Ok(Found::default());
    }
    let room = if is_running {
        executor.reserve_for_offer()
    } else {
        None
    };
    let offer = room.as_ref().map(|room| Offer {
        lease_offer: room.lease_offer.clone(),
        most_events: room.largest_room,
    });
    let processed = processor.fan_out(prepared, offer).await?;
    if !processed.born_leased.is_empty() {
        let round = executor.telemetry().execute_round();
        round.claimed(processed.born_leased.len());
        executor.accept(processed.born_leased, &round.link(), processed.sent);
    }
    drop(room);
    Ok(Found {
        more: processed.more,
        next_due: processed.next_due,
    })
}

async fn claim_once(inner: &Inner, claimer: &mut Claimer) -> Result<Refill> {
    let _gate = inner.gate.read().await;
    if !inner.is_running() {
        return Ok(Refill::default());
    }
    claimer.refill(&inner.executor).await
}

fn wait_at_most(inner: &Inner, next_due: Option<Duration>) -> Duration {
    /// Rows become due at the microsecond, timers fire at the millisecond: a wait of zero would
    /// ask again before anything can be due.
    const AT_LEAST: Duration = Duration::from_millis(1);
    let poll = inner.poll_interval();
    next_due.map_or(poll, |due| due.clamp(AT_LEAST, poll.max(AT_LEAST)))
}
