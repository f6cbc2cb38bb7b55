//! Calls beside those of the loops, while there is more to do than one call takes.
//!
//! A call that fills its batch leaves more behind, and the next one would begin only when its answer
//! has been taken in: the store would wait for this process, and this process for the store. So a
//! second call of the same kind is under way then. What is claimed or fanned out is locked, so the two
//! never get the same rows.
//!
//! Nothing relies on what runs here. It keeps no appointments and retries nothing: it stops as soon
//! as there is no more, or no room, or an error, and then the loop looks once by itself.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::{
    engine::Inner,
    hold_back::HoldBack,
    lookout::Known,
    loops::{Way, claim_once, process_once},
    pace::Woken,
};
use crate::executor::Claimer;

/// Whether other processes fan out at the same time as this one: two calls of each beside each other would
/// skip more rows that others have locked than they get.
#[derive(Debug, Default)]
pub(super) struct Contention {
    /// So many fan-outs of the loop have to meet nobody first.
    rest: AtomicUsize,
}

impl Contention {
    /// Processes that take turns do not meet at each turn.
    const REST: usize = 16;

    /// A fan-out of the loop met another process, or nobody.
    pub(super) fn met(&self, somebody: bool) {
        let rest = self.rest.load(Ordering::Relaxed);
        let rest = if somebody {
            Self::REST
        } else {
            rest.saturating_sub(1)
        };
        self.rest.store(rest, Ordering::Relaxed);
    }

    pub(super) fn is_felt(&self) -> bool {
        self.rest.load(Ordering::Relaxed) > 0
    }
}

/// Fans out beside [`process`](super::loops::process).
pub(super) async fn process_beside(inner: Arc<Inner>) {
    let known = &inner.events;
    let mut seen = known.more.seen();
    while more(&inner, known, &mut seen).await {
        let mut hold_back = HoldBack::default();
        loop {
            hold_back.passed(&inner.executor).await;
            let way = Way {
                woken: Woken::Told,
                patience: hold_back.patience(),
                beside: true,
            };
            match process_once(&inner, &inner.processor, way).await {
                Ok(Some(found)) if found.more && !inner.contention.is_felt() => {
                    hold_back.answered(found);
                }
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
        biased;
        () = inner.executor.stopped() => return false,
        () = known.more.changed_since(*seen) => {}
    }
    *seen = known.more.seen();
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_fan_out_waits_until_other_processes_have_been_away_for_a_while() {
        let contention = Contention::default();
        assert!(!contention.is_felt());
        contention.met(true);
        for _ in 1..Contention::REST {
            contention.met(false);
            assert!(contention.is_felt(), "they take turns");
        }
        contention.met(false);
        assert!(!contention.is_felt());
        contention.met(false);
        assert!(!contention.is_felt());
    }
}
