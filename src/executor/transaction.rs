//! Transactional handlers: the handler's writes and the settlement of its request commit together.

use std::time::Duration;

use tokio::time::Instant;

use super::{Executor, ended::RunResult, run::Guarded};
use crate::{
    chance,
    clock::instant_after,
    error::{Chain, Result, StoreError},
    handler::{Context, ErasedTransactionalHandler, Handler, HandlerError},
    model::{Backoff, Event, Outcome},
    store::{LockMode, Settled, Settlement, Transaction},
    telemetry::ExecutionSpan,
};

/// How often a transaction that lost against a concurrent one is run again, without an error
/// being counted: enough for chance, too few to hide a deadlock by design.
const CONFLICT_RETRIES: u32 = 3;

impl Executor {
    pub(super) async fn run_transactional(
        &self,
        transactional: &dyn ErasedTransactionalHandler,
        handler: &Handler,
        context: &Context,
        span: &ExecutionSpan,
    ) -> RunResult {
        let by_hooks = context.raised();
        let mut conflicts = 0;
        let limit = self.transaction_timeout(handler);
        // All runs share the handler's time, so that it holds its slot no longer than that.
        let mut left = limit;
        loop {
            // What a run that was rolled back has raised is void; hooks do not run again.
            context.set_raised(by_hooks.clone());
            let transaction = match self
                .call("begin a handler's transaction", self.store().begin())
                .await
            {
                Ok(transaction) => transaction,
                Err(error) => return self.not_begun(&error),
            };
            match self
                .run_in(transaction, transactional, context, span, &mut left)
                .await
            {
                TransactionRun::Ended(RunResult::TimedOut { executed, .. }) => {
                    return RunResult::TimedOut { limit, executed };
                }
                TransactionRun::Failed(error) => return self.not_begun(&error),
                TransactionRun::Ended(result) => {
                    self.0.transactions.succeeded();
                    return result;
                }
                TransactionRun::Conflict(error) if conflicts == CONFLICT_RETRIES => {
                    return RunResult::Answered {
                        result: Err(error),
                        executed: true,
                    };
                }
                TransactionRun::Conflict(error) => {
                    conflicts += 1;
                    tracing::debug!(handler = handler.name(), %error, conflicts, "running a transaction again");
                    let pause =
                        Backoff::exponential(Duration::from_millis(5), Duration::from_millis(50));
                    tokio::time::sleep(pause.after(conflicts)).await;
                }
            }
        }
    }

    async fn run_in(
        &self,
        mut transaction: Box<dyn Transaction>,
        transactional: &dyn ErasedTransactionalHandler,
        context: &Context,
        span: &ExecutionSpan,
        left: &mut Duration,
    ) -> TransactionRun {
        // The wait for a connection is not the handler's.
        let limit = *left;
        let begun_at = Instant::now();
        let connection = transaction.connection();
        let running = transactional.call(context.clone(), connection);
        let deadline = instant_after(begun_at, limit);
        let guarded = self.guard(running, context, deadline, span).await;
        *left = limit.saturating_sub(begun_at.elapsed());
        match guarded {
            Guarded::Answered(Ok(())) => match self.checked_raised(context) {
                Ok(raised) => self.settle_in(transaction, context, raised).await,
                Err(error) => {
                    let _ = self.roll_back(transaction).await;
                    TransactionRun::Ended(RunResult::Answered {
                        result: Err(error),
                        executed: true,
                    })
                }
            },
            Guarded::Answered(Err(error)) if self.store().is_conflict(error.source()) => {
                let _ = self.roll_back(transaction).await;
                TransactionRun::Conflict(error)
            }
            // A handler that was dropped may have left its connection in the middle of a reply, so
            // the transaction is dropped, too, rather than rolled back.
            dropped @ (Guarded::TimedOut | Guarded::BrokenOff | Guarded::Panicked(_)) => {
                drop(transaction);
                TransactionRun::Ended(self.conclude(dropped, limit, context, true))
            }
            Guarded::Answered(Err(error)) if error.counts() => {
                match self.roll_back(transaction).await {
                    // The connection was lost under the handler, which says nothing of the event.
                    Err(lost @ StoreError::Unavailable { .. }) => TransactionRun::Failed(lost),
                    _ => {
                        let answered = Guarded::Answered(Err(error));
                        TransactionRun::Ended(self.conclude(answered, limit, context, true))
                    }
                }
            }
            answered => {
                let _ = self.roll_back(transaction).await;
                TransactionRun::Ended(self.conclude(answered, limit, context, true))
            }
        }
    }

    /// The handler's time-out, or less where its transaction keeps all others from writing, also
    /// the renewals of leases.
    pub(super) fn transaction_timeout(&self, handler: &Handler) -> Duration {
        if self.store().capabilities().concurrent_writers {
            handler.timeout
        } else {
            let most = self.settings().lone_transaction_timeout();
            handler.timeout.min(most)
        }
    }

    /// Stores what was raised, settles, and commits. The settlement is the last statement, so it
    /// is the first that locks the request's row and the latest possible check of the fence.
    async fn settle_in(
        &self,
        mut transaction: Box<dyn Transaction>,
        context: &Context,
        raised: Vec<Event>,
    ) -> TransactionRun {
        let settlement = Settlement {
            id: context.request_id(),
            attempt: context.attempt(),
            owner: self.owner(),
            outcome: Outcome::Completed,
            executed: true,
            raised: Vec::new(),
            batch: context.request().batch,
        };
        let written: Result<Settled> = self
            .call("settle in a handler's transaction", async {
                if !raised.is_empty() {
                    transaction.events().raise(&raised).await?;
                }
                let settled = transaction
                    .handler_requests()
                    .settle(std::slice::from_ref(&settlement))
                    .await?;
                Ok(settled.first().copied().unwrap_or(Settled::Fenced))
            })
            .await;
        match written {
            Ok(Settled::Applied) => match self
                .call("commit a handler's transaction", transaction.commit())
                .await
            {
                Ok(()) => TransactionRun::Ended(RunResult::Committed),
                Err(error) if error.is_uncertain() => {
                    TransactionRun::Ended(self.find_out(context, &error).await)
                }
                Err(error) => Self::store_failed(error),
            },
            Ok(Settled::Fenced) => {
                let _ = self.roll_back(transaction).await;
                TransactionRun::Ended(RunResult::Lost)
            }
            // A store waits here for others, or says that it did so for too long.
            Ok(Settled::Locked) => {
                let _ = self.roll_back(transaction).await;
                Self::store_failed(StoreError::Conflict {
                    operation: "settle in a handler's transaction",
                    source: None,
                })
            }
            Err(error) => {
                drop(transaction);
                Self::store_failed(error)
            }
        }
    }

    fn store_failed(error: StoreError) -> TransactionRun {
        if error.is_conflict() {
            TransactionRun::Conflict(HandlerError::from(error))
        } else if error.is_transient() {
            // Rolled back, and not the handler's fault.
            TransactionRun::Failed(error)
        } else {
            TransactionRun::Ended(RunResult::Answered {
                result: Err(HandlerError::from(error)),
                executed: true,
            })
        }
    }

    /// The answer to a commit was lost: reads the request again, locked, until the store answers
    /// or the lease has run out. It looks once more after that: a renewal takes what the commit has
    /// settled for lost.
    pub(super) async fn find_out(&self, context: &Context, lost: &StoreError) -> RunResult {
        tracing::warn!(request = %context.request_id(), error = %Chain(lost), "the answer to a commit was lost");
        let backoff = Backoff::exponential(Duration::from_millis(50), Duration::from_secs(1));
        let mut errors = 0;
        loop {
            let was_canceled = context.is_canceled();
            let read = async {
                let mut transaction = self.store().begin().await?;
                let found = transaction
                    .handler_requests()
                    .find_for_update(context.request_id(), LockMode::Wait)
                    .await?;
                transaction.rollback().await?;
                Ok(found)
            };
            match self.call("read a request after a lost answer", read).await {
                Ok(Some(request))
                    if request.check_fence(self.owner(), context.attempt()).is_ok() =>
                {
                    return RunResult::BrokenOff;
                }
                Ok(Some(request))
                    if request.attempt == context.attempt() && request.completed_at.is_some() =>
                {
                    return RunResult::Committed;
                }
                Ok(_) => return RunResult::Lost,
                Err(error) => {
                    errors += 1;
                    tracing::debug!(error = %Chain(&error), "the store does not tell yet");
                    if was_canceled {
                        return RunResult::Lost;
                    }
                    tokio::select! {
                        biased;
                        _ = context.canceled() => {}
                        () = tokio::time::sleep(backoff.after(errors)) => {}
                    }
                }
            }
        }
    }

    pub(super) fn not_begun(&self, error: &StoreError) -> RunResult {
        let health = &self.0.transactions;
        RunResult::NotBegun {
            error: Chain(error).to_string(),
            wait: health.failed(Instant::now(), chance::fraction()),
        }
    }

    /// Rolls back. If that fails, the database undoes the transaction by itself.
    pub(super) async fn roll_back(&self, transaction: Box<dyn Transaction>) -> Result<()> {
        let rolled_back = self
            .call("roll back a handler's transaction", transaction.rollback())
            .await;
        if let Err(error) = &rolled_back {
            tracing::debug!(%error, "rollback failed; the database undoes the transaction");
        }
        rolled_back
    }
}

/// One run in one transaction.
enum TransactionRun {
    Ended(RunResult),
    /// The store was away.
    Failed(StoreError),
    /// It lost against a concurrent transaction.
    Conflict(HandlerError),
}
