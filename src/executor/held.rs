//! What this process holds a lease on: buffered, running, and waiting to be settled.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::Ordering,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    handler::{CancellationCause, Context},
    id::HandlerRequestId,
    signal::Signal,
    store::Renewed,
    telemetry::RoundLink,
};

/// A claimed request. Cheap to clone.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) context: Context,
    pub(super) round: RoundLink,
}

/// Identifies a claim: the same request may be claimed again while an execution that lost its
/// lease still runs.
pub(super) type Claimed = (HandlerRequestId, u64);

/// All that is held.
///
/// The renewal thread walks it a few times per lease; claims and settlements touch it once per
/// batch. Contexts are dropped outside of the lock, as what hooks left in them is the application's.
#[derive(Default)]
pub(super) struct HeldRequests {
    leases: Mutex<HashMap<Claimed, Lease>>,
    /// Raised when what was taken in may run out before anybody would look.
    pub(super) short: Signal,
}

struct Lease {
    context: Context,
    /// One lease after the last successful claim or renewal was sent, by the monotonic clock.
    valid_until: Instant,
}

impl HeldRequests {
    /// Takes claimed requests in. `sent` is when the claim was sent; what has run out since, because the
    /// answer took so long or the process stood still, is canceled and will not begin. Every
    /// `watched_every` somebody looks.
    pub(super) fn insert(
        &self,
        contexts: impl Iterator<Item = Context> + Clone,
        sent: Instant,
        lease: Duration,
        watched_every: Duration,
    ) {
        let (valid_until, now) = (sent + lease, Instant::now());
        if valid_until <= now {
            for context in contexts.clone() {
                context.cancel(CancellationCause::LeaseExpired);
            }
        }
        let mut held = self.leases.lock();
        held.extend(contexts.map(|context| {
            (
                key(&context),
                Lease {
                    context,
                    valid_until,
                },
            )
        }));
        drop(held);
        if valid_until < now + watched_every {
            self.short.raise();
        }
    }

    /// Lets go of requests that were settled, handed back, or lost.
    pub(super) fn remove(&self, claims: impl Iterator<Item = Claimed>) {
        let mut held = self.leases.lock();
        let removed: Vec<_> = claims.filter_map(|claim| held.remove(&claim)).collect();
        drop(held);
        drop(removed);
    }

    /// Lets go of everything.
    pub(super) fn clear(&self) {
        let all = std::mem::take(&mut *self.leases.lock());
        drop(all);
    }

    /// How many requests are held.
    pub(super) fn len(&self) -> usize {
        self.leases.lock().len()
    }

    /// The claims to renew: all but those that are stuck.
    pub(super) fn renewable(&self) -> Vec<Claimed> {
        let held = self.leases.lock();
        let renewable = held
            .iter()
            .filter(|(_, lease)| !lease.context.run().stuck.load(Ordering::Relaxed));
        let mut claims: Vec<_> = renewable.map(|(claim, _)| *claim).collect();
        drop(held);
        // One order for all who renew at the same time, and for a simulation.
        claims.sort_unstable();
        claims
    }

    /// Those of some claims that are still to be renewed.
    pub(super) fn still_renewable(&self, claims: &[Claimed]) -> Vec<Claimed> {
        let held = self.leases.lock();
        let is_renewable = |claim: &&Claimed| {
            let lease = held.get(claim);
            lease.is_some_and(|lease| !lease.context.run().stuck.load(Ordering::Relaxed))
        };
        claims.iter().filter(is_renewable).copied().collect()
    }

    /// Whether a claim has not been lost.
    pub(super) fn contains(&self, claim: &Claimed) -> bool {
        self.leases.lock().contains_key(claim)
    }

    /// A renewal of `claims` that was sent at `sent` succeeded but for what it tells.
    pub(super) fn renewed(
        &self,
        claims: &[Claimed],
        renewed: &Renewed,
        sent: Instant,
        lease: Duration,
    ) {
        let lost: HashSet<_> = renewed.lost.iter().collect();
        let skipped: HashSet<_> = renewed.skipped.iter().collect();
        let mut removed = Vec::new();
        let mut held = self.leases.lock();
        for claim in claims {
            if lost.contains(claim) {
                removed.extend(held.remove(claim));
            } else if skipped.contains(claim) {
                // Its lease in the store is the one that it had.
            } else if let Some(kept) = held.get_mut(claim) {
                kept.valid_until = sent + lease;
            }
        }
        drop(held);
        for lost in removed {
            lost.context.cancel(CancellationCause::Lost);
        }
    }

    /// Cancels the contexts whose lease has run out by `now`, and answers when the next one does.
    pub(super) fn cancel_expired(&self, now: Instant) -> Option<Instant> {
        let held = self.leases.lock();
        let (mut expired, mut next) = (Vec::new(), None);
        for lease in held.values() {
            if lease.valid_until <= now {
                expired.push(&lease.context);
            } else {
                next = Some(next.map_or(lease.valid_until, |next: Instant| {
                    next.min(lease.valid_until)
                }));
            }
        }
        in_order(&mut expired);
        for context in expired {
            context.cancel(CancellationCause::LeaseExpired);
        }
        next
    }

    /// Cancels all contexts.
    pub(super) fn cancel_all(&self, cause: CancellationCause) {
        let held = self.leases.lock();
        let mut contexts: Vec<_> = held.values().map(|lease| &lease.context).collect();
        in_order(&mut contexts);
        for context in contexts {
            context.cancel(cause);
        }
    }

    /// Marks and answers the executions that are past their time-out although time-outs end every
    /// handler that yields: they block their threads.
    pub(super) fn newly_stuck(&self, now_ms: u64, grace: Duration) -> Vec<Context> {
        let grace = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let held = self.leases.lock();
        let mut stuck: Vec<_> = held
            .values()
            .map(|lease| &lease.context)
            .filter(|context| {
                let overdue_at = context.run().overdue_at.load(Ordering::Relaxed);
                overdue_at != 0
                    && now_ms > overdue_at.saturating_add(grace)
                    && !context.run().stuck.swap(true, Ordering::Relaxed)
            })
            .collect();
        in_order(&mut stuck);
        stuck.into_iter().cloned().collect()
    }
}

/// So that those who wait for contexts are woken in an order of their own, not in that of a map.
fn in_order(contexts: &mut [&Context]) {
    contexts.sort_unstable_by_key(|context| key(context));
}

pub(super) fn key(context: &Context) -> Claimed {
    (context.request_id(), context.attempt())
}
