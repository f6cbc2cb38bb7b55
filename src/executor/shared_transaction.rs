//! Shared transactions: several requests of one handler, which opted in, in one transaction.
//!
//! ```text
//!  BEGIN ── SAVEPOINT ── run 1 ── RELEASE, SAVEPOINT ── run 2 ── … ── settle all ── COMMIT
//!                          │ Err, panic
//!                          └── ROLLBACK TO SAVEPOINT: this one is settled outside, with its error
//! ```
//!
//! A worker that takes a request of such a handler takes along, one after the other and in their
//! order, those of the same handler that wait in the local buffer, in the slot of the first. What
//! they raised through their contexts is stored after the last of them has run. The settlement of all
//! that returned `Ok` is one call and the last before the commit, so it is the first that locks their
//! rows and the latest possible check of their fences.
//!
//! One that answers with an error, or panics, is rolled back to the savepoint before it, and settled
//! outside once the transaction has ended: where only one transaction writes at a time, its settlement
//! would wait for this one, and this one for room in the settler.
//!
//! Whatever else goes wrong takes the transaction along: a run that is past its time, a conflict, a
//! connection that was lost or that its handler left unusable, a settlement that does not apply to each
//! of them, a commit that fails. It is then rolled back, and each of its requests runs again alone, in
//! a transaction of its own, without an error being counted for the sake of another: they go back to the
//! buffer, marked so that they share nothing any more. What was lost to somebody else is not run again.
//! After a commit whose answer was lost, the store tells for each request what became of it.
//!
//! A request runs alone from the beginning if it had an error or a rescue before: what fails again and
//! again, or ends its process, troubles its neighbours once.
//!
//! Hooks run before the transaction begins, as they do for a single one, since they may write where
//! this transaction would keep them waiting. So where there are any, what is taken along is taken
//! before.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Executor,
    ended::RunResult,
    run::{Guarded, not_to_run},
    shared_group::{Group, Member},
};
use crate::{
    clock::instant_after,
    error::{Chain, Result, StoreError},
    handler::{ErasedTransactionalHandler, Handler},
    model::Outcome,
    raiser::Raiser,
    store::{Settled, Settlement, Transaction},
};

/// The most requests of one transaction: the commit hardly costs anything beside so many of them, and
/// PostgreSQL keeps 64 subtransactions of a transaction at hand, beyond which each look at a row that
/// one of them wrote becomes dearer, also for others.
pub(super) const MOST: usize = 50;
/// No further request is taken along when the transaction has been open for so long: the first ones
/// wait for their commit no longer than that and one run, and so do locks that they took.
pub(super) const OPEN_FOR: Duration = Duration::from_millis(50);

/// A shared transaction, while requests are run in it.
pub(super) struct SharedTransaction<'a> {
    executor: &'a Executor,
    handler: &'a Handler,
    transactional: &'a dyn ErasedTransactionalHandler,
    transaction: Box<dyn Transaction>,
    opened_at: Instant,
    /// Of each run.
    limit: Duration,
    /// Those that returned `Ok`.
    kept: Vec<Member>,
    /// How many events they raised.
    raised: usize,
}

/// What one run came to.
enum Step {
    /// It is to be committed with the others.
    Kept,
    /// Nothing of it is left in the transaction.
    Undone(RunResult),
    /// The transaction goes no further. One that has a result of its own does not run again.
    Failed(Failure, Option<RunResult>),
    /// A shutdown broke it off, and the others with it.
    BrokenOff,
}

/// Why a transaction goes no further.
enum Failure {
    /// It can be rolled back.
    Conflict(String),
    /// Its connection may be in the middle of a reply, or is of no use otherwise.
    Unusable(String),
}

impl<'a> SharedTransaction<'a> {
    pub(super) fn new(
        executor: &'a Executor,
        handler: &'a Handler,
        transactional: &'a dyn ErasedTransactionalHandler,
        transaction: Box<dyn Transaction>,
    ) -> Self {
        let most = executor.settings().call_timeout;
        Self {
            executor,
            handler,
            transactional,
            transaction,
            opened_at: Instant::now(),
            // One that takes longer is not short: it runs alone, with all the time that it may have.
            limit: executor.transaction_timeout(handler).min(most),
            kept: Vec::new(),
            raised: 0,
        }
    }

    /// Runs the first, and what can be taken along, and commits.
    pub(super) async fn run(mut self, first: Member, group: &mut Group<'_>) {
        let mut next = Some(first);
        let mut taken = 0;
        while let Some(mut member) = next {
            taken += 1;
            let step = self.step(&mut member).await;
            match step {
                Step::Kept => self.kept.push(member),
                Step::Undone(result) => group.finish(member, result),
                Step::BrokenOff => {
                    for member in std::mem::take(&mut self.kept).into_iter().chain([member]) {
                        group.finish(member, RunResult::BrokenOff);
                    }
                    return;
                }
                Step::Failed(failure, result) => {
                    match result {
                        Some(result) => group.finish(member, result),
                        None => self.kept.push(member),
                    }
                    return self.give_up(failure, group).await;
                }
            }
            next = if self.takes_along(taken) {
                group.next().await
            } else {
                None
            };
        }
        self.end(group).await;
    }

    fn takes_along(&self, taken: usize) -> bool {
        taken < MOST
            && self.opened_at.elapsed() < OPEN_FOR.min(self.limit)
            && self.raised < Raiser::DEFAULT_MAX_BATCH
    }

    /// Runs one after a savepoint.
    async fn step(&mut self, member: &mut Member) -> Step {
        let executor = self.executor;
        let context = &member.held.context;
        if let Some(result) = not_to_run(context) {
            return Step::Undone(result);
        }
        // It tells as well in which state the run before has left the transaction.
        let savepoint = executor.call("set a savepoint", self.transaction.savepoint());
        if let Err(error) = savepoint.await {
            return Step::Failed(Failure::Unusable(Chain(&error).to_string()), None);
        }
        let deadline = instant_after(Instant::now(), self.limit);
        let connection = self.transaction.connection();
        let running = self.transactional.call(context.clone(), connection);
        let guarded = executor
            .guard(running, context, deadline, &member.span)
            .await;
        member.ran();
        let context = &member.held.context;
        match guarded {
            Guarded::Answered(Ok(())) => match executor.checked_raised(context) {
                Ok(raised) => {
                    self.raised += raised.len();
                    member.raised = raised;
                    Step::Kept
                }
                Err(error) => {
                    let result = Err(error);
                    let executed = true;
                    self.undo(RunResult::Answered { result, executed }).await
                }
            },
            Guarded::Answered(Err(error)) if executor.store().is_conflict(error.source()) => {
                Step::Failed(Failure::Conflict(error.to_string()), None)
            }
            Guarded::TimedOut => {
                tracing::warn!(
                    handler = self.handler.name(),
                    request = %context.request_id(),
                    limit = ?self.limit,
                    "a handler took too long for a shared transaction"
                );
                let text = "a run took too long".to_owned();
                Step::Failed(Failure::Unusable(text), None)
            }
            Guarded::BrokenOff => Step::BrokenOff,
            ended @ (Guarded::Answered(Err(_)) | Guarded::Panicked(_)) => {
                let result = executor.conclude(ended, self.limit, context, true);
                self.undo(result).await
            }
        }
    }

    /// Undoes the run that came to this.
    async fn undo(&mut self, result: RunResult) -> Step {
        let undone = self.transaction.rollback_to_savepoint();
        match self.executor.call("roll back to a savepoint", undone).await {
            Ok(()) => Step::Undone(result),
            Err(error) => {
                let failure = Failure::Unusable(Chain(&error).to_string());
                // An error may come from what has become of the connection; a panic is one anyway.
                let own = matches!(result, RunResult::Panicked { .. }).then_some(result);
                Step::Failed(failure, own)
            }
        }
    }

    /// Rolls back; those that were to be committed run again.
    async fn give_up(self, failure: Failure, group: &mut Group<'_>) {
        let error = match failure {
            Failure::Conflict(error) => {
                // Should it fail, the database does it.
                let _ = self.executor.roll_back(self.transaction).await;
                error
            }
            Failure::Unusable(error) => {
                drop(self.transaction);
                group.keeps_locks = true;
                error
            }
        };
        group.run_again(self.kept, &error);
    }

    /// Settles and commits.
    async fn end(mut self, group: &mut Group<'_>) {
        let executor = self.executor;
        if self.kept.is_empty() {
            let _ = executor.roll_back(self.transaction).await;
            executor.0.transactions.succeeded();
            return;
        }
        let settled = match self.settle().await {
            Ok(settled) => settled,
            Err(error) => {
                let failure = Failure::Unusable(Chain(&error).to_string());
                return self.give_up(failure, group).await;
            }
        };
        if settled.len() != self.kept.len()
            || settled.iter().any(|settled| *settled != Settled::Applied)
        {
            // Whoever has them now runs them.
            let kept = std::mem::take(&mut self.kept).into_iter().zip(settled);
            for (member, settled) in kept {
                match settled {
                    Settled::Fenced => group.finish(member, RunResult::Lost),
                    _ => self.kept.push(member),
                }
            }
            let text = "a request was lost, or is locked".to_owned();
            return self.give_up(Failure::Conflict(text), group).await;
        }
        let Self {
            transaction, kept, ..
        } = self;
        let commit = executor.call("commit a shared transaction", transaction.commit());
        match commit.await {
            Ok(()) => {
                executor.0.transactions.succeeded();
                for member in kept {
                    group.finish(member, RunResult::Committed);
                }
            }
            Err(error) if error.is_uncertain() => find_out(executor, kept, &error, group).await,
            Err(error) => group.run_again(kept, &Chain(&error).to_string()),
        }
    }

    /// Stores what was raised, and settles: the last call before the commit.
    async fn settle(&mut self) -> Result<Vec<Settled>> {
        let owner = self.executor.owner();
        let mut raised = Vec::with_capacity(self.raised);
        let mut settlements = Vec::with_capacity(self.kept.len());
        for member in &mut self.kept {
            raised.append(&mut member.raised);
            let context = &member.held.context;
            settlements.push(Settlement {
                id: context.request_id(),
                attempt: context.attempt(),
                owner,
                outcome: Outcome::Completed,
                executed: true,
                raised: Vec::new(),
                batch: context.request().batch,
            });
        }
        let transaction = &mut self.transaction;
        self.executor
            .call("settle in a shared transaction", async {
                for events in raised.chunks(Raiser::DEFAULT_MAX_BATCH) {
                    transaction.events().raise(events).await?;
                }
                transaction.handler_requests().settle(&settlements).await
            })
            .await
    }
}

/// The answer to a commit was lost: each is settled, or runs again, or somebody else has it.
async fn find_out(
    executor: &Executor,
    kept: Vec<Member>,
    lost: &StoreError,
    group: &mut Group<'_>,
) {
    let mut undone = Vec::new();
    for member in kept {
        match executor.find_out(&member.held.context, lost).await {
            RunResult::BrokenOff => undone.push(member),
            result => group.finish(member, result),
        }
    }
    group.run_again(undone, &Chain(lost).to_string());
}
