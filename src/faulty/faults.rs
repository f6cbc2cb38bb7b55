//! Which faults are injected where, and which calls have come.

use std::{collections::HashMap, future::Future, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::Operation;
use crate::{
    error::{Result, StoreError},
    signal::Signal,
};

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It fails with [`StoreError::Unavailable`] and has no effect.
    Fail,
    /// It fails with [`StoreError::Backend`], as a statement does that the database refuses for
    /// good, and has no effect.
    Refuse,
    /// It fails with [`StoreError::Conflict`], as if it had lost against a concurrent transaction, and has
    /// no effect.
    Conflict,
    /// It takes effect and fails with [`StoreError::Unavailable`]; an error of its own stays.
    LoseAnswer,
    /// It waits before it begins, by the timer of the runtime.
    Delay(Duration),
    /// It waits until the operation is [healed](Faults::heal), and then begins.
    Block,
    /// It takes effect, and waits with its answer until the operation is [healed](Faults::heal).
    BlockAnswer,
}

/// Controls the faults of a [`FaultyStorer`](super::FaultyStorer). Clones control the same one.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    plans: Arc<Mutex<HashMap<Operation, Plan>>>,
    /// Raised whenever a plan changes.
    changed: Signal,
}

/// What is known of one operation.
#[derive(Debug, Default)]
struct Plan {
    calls: u64,
    /// Calls that wait to be healed.
    blocked: usize,
    /// What to do with the next calls; `left` is `None` for all calls from now on.
    fault: Option<(Fault, Option<usize>)>,
    /// Counts heals: a call that waits goes on when it is higher than when it came.
    heals: u64,
}

impl Faults {
    /// Does this to the next `times` calls of an operation, instead of what was injected before.
    pub fn inject(&self, operation: Operation, fault: Fault, times: usize) {
        self.change(operation, |plan| {
            plan.fault = (times > 0).then_some((fault, Some(times)));
        });
    }

    /// Does this to all calls of an operation until it is healed.
    pub fn inject_always(&self, operation: Operation, fault: Fault) {
        self.change(operation, |plan| plan.fault = Some((fault, None)));
    }

    /// Does this to all calls of all operations until they are healed: an outage.
    pub fn inject_everywhere(&self, fault: Fault) {
        for operation in Operation::ALL {
            self.inject_always(*operation, fault);
        }
    }

    /// Ends the faults of an operation; calls that it blocks go on.
    pub fn heal(&self, operation: Operation) {
        self.change(operation, |plan| {
            plan.fault = None;
            plan.heals += 1;
        });
    }

    /// Ends all faults; calls that are blocked go on.
    pub fn heal_all(&self) {
        for operation in Operation::ALL {
            self.heal(*operation);
        }
    }

    /// How many calls of an operation have come, failed ones included.
    #[must_use]
    pub fn calls(&self, operation: Operation) -> u64 {
        self.read(operation, |plan| plan.calls)
    }

    /// How many calls of an operation are blocked now.
    #[must_use]
    pub fn blocked(&self, operation: Operation) -> usize {
        self.read(operation, |plan| plan.blocked)
    }

    /// Waits until so many calls of an operation have come, since the beginning. Cancellation safe.
    pub async fn until_called(&self, operation: Operation, calls: u64) {
        self.until(operation, |plan| plan.calls >= calls).await;
    }

    /// Waits until so many calls of an operation are blocked. Cancellation safe.
    pub async fn until_blocked(&self, operation: Operation, calls: usize) {
        self.until(operation, |plan| plan.blocked >= calls).await;
    }

    /// Makes a call, with what is injected.
    pub(super) async fn call<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let (fault, heals) = self.begin(operation);
        let unavailable = StoreError::Unavailable {
            operation: operation.as_str(),
            source: None,
        };
        match fault {
            None => call.await,
            Some(Fault::Fail) => Err(unavailable),
            Some(Fault::Refuse) => Err(StoreError::Backend {
                operation: operation.as_str(),
                source: "refused on demand".into(),
            }),
            Some(Fault::Conflict) => Err(StoreError::Conflict {
                operation: operation.as_str(),
                source: None,
            }),
            Some(Fault::LoseAnswer) => call.await.and(Err(unavailable)),
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                call.await
            }
            Some(Fault::Block) => {
                self.until_healed(operation, heals).await;
                call.await
            }
            Some(Fault::BlockAnswer) => {
                let answer = call.await;
                self.until_healed(operation, heals).await;
                answer
            }
        }
    }

    /// Counts a call and takes its fault.
    fn begin(&self, operation: Operation) -> (Option<Fault>, u64) {
        self.change(operation, |plan| {
            plan.calls += 1;
            let fault = plan.fault.map(|(fault, _)| fault);
            if let Some((_, Some(left))) = &mut plan.fault {
                *left -= 1;
                if *left == 0 {
                    plan.fault = None;
                }
            }
            (fault, plan.heals)
        })
    }

    async fn until_healed(&self, operation: Operation, heals: u64) {
        let blocked = Blocked::new(self, operation);
        self.until(operation, |plan| plan.heals > heals).await;
        drop(blocked);
    }

    async fn until(&self, operation: Operation, reached: impl Fn(&Plan) -> bool) {
        loop {
            let seen = self.changed.seen();
            if self.read(operation, &reached) {
                return;
            }
            self.changed.changed_since(seen).await;
        }
    }

    fn read<T>(&self, operation: Operation, read: impl FnOnce(&Plan) -> T) -> T {
        read(self.plans.lock().entry(operation).or_default())
    }

    fn change<T>(&self, operation: Operation, change: impl FnOnce(&mut Plan) -> T) -> T {
        let answer = change(self.plans.lock().entry(operation).or_default());
        self.changed.raise();
        answer
    }
}

/// Counts a blocked call, also when its future is dropped.
struct Blocked<'f> {
    faults: &'f Faults,
    operation: Operation,
}

impl<'f> Blocked<'f> {
    fn new(faults: &'f Faults, operation: Operation) -> Self {
        faults.change(operation, |plan| plan.blocked += 1);
        Self { faults, operation }
    }
}

impl Drop for Blocked<'_> {
    fn drop(&mut self) {
        self.faults.change(self.operation, |plan| plan.blocked -= 1);
    }
}
