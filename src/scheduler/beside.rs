//! Calls beside those of the loops, while there is more to do than one call takes.
//!
//! A call that fills its batch leaves more behind, and the next one would begin only when its answer
//! has been taken in: the store would wait for this process, and this process for the store. So a
//! second call of the same kind is under way then. What is claimed or fanned out is locked, so the two
//! never get the same rows.
//!
//! Nothing relies on what runs here. It keeps no appointments and retries nothing: it stops as soon
//! as there is no more, or no room, or an error, and then the loop looks once by itself.

use std::sync::Arc;

use super::{
    engine::Inner,
    hold_back::HoldBack,
    lookout::Known,
    loops::{claim_once, process_once},
    pace::Woken,
};
use crate::executor::Claimer;

/// Fans out beside [`process`](super::loops::process).
pub(super) async fn process_beside(inner: Arc<Inner>) {
    let known = &inner.events;
    let mut seen = known.more.seen();
    while more(&inner, known, &mut seen).await {
        let mut hold_back = HoldBack::default();
        loop {
            hold_back.passed(&inner.executor).await;
            let (processor, waits) = (&inner.processor, hold_back.take_over());
            match process_once(&inner, processor, Woken::Told, waits).await {
                Ok(Some(found)) if found.more => {}
                _ => break,
            }
        }
        seen = known.more.seen();
        known.again.raise();
    }
}

/// Claims beside [`claim`](super::loops::claim).
pub(super) async fn claim_beside(inner: Arc<Inner>) {
    let known = &inner.requests;
    let mut claimer = Claimer::default();
    let mut seen = known.more.seen();
    while more(&inner, known, &mut seen).await {
        while let Ok(Some(refill)) = claim_once(&inner, &mut claimer).await
            && refill.more
        {}
        seen = known.more.seen();
        known.again.raise();
    }
}

/// Waits until a call of the loop has left more behind; `false` when everything is to stop.
async fn more(inner: &Inner, known: &Known, seen: &mut u64) -> bool {
    tokio::select! {
        () = known.more.changed_since(*seen) => {}
        () = inner.executor.stopped() => return false,
    }
    *seen = known.more.seen();
    true
}
