//! Running one handler: hooks, time-out, panics, and being broken off by a shutdown.

use std::{
    future::{Future, poll_fn},
    ops::ControlFlow,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    task::Poll,
};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::{
    Executor,
    ended::RunResult,
    panic_capture::{CatchPanic, Panicked, caught},
};
use crate::{
    handler::{Context, Handler, HandlerError, HandlerKind, HandlerResult},
    model::Event,
    telemetry::ExecutionSpan,
};

/// What a future of the user's came to.
pub(super) enum Guarded<T = HandlerResult> {
    Answered(T),
    Panicked(Panicked),
    TimedOut,
    BrokenOff,
}

impl Executor {
    /// Runs the hooks and the handler within the handler's time-out. Never panics, whatever they
    /// do.
    pub(super) async fn run(
        &self,
        handler: &Arc<Handler>,
        context: &Context,
        span: &ExecutionSpan,
    ) -> RunResult {
        if context.is_canceled() {
            return RunResult::Lost;
        }
        let deadline = Instant::now() + handler.timeout;
        context
            .run()
            .overdue_at
            .store(self.milliseconds(deadline), Ordering::Relaxed);
        let result = match self.run_hooks(handler, context, deadline, span).await {
            Some(result) => result,
            None => match &handler.kind {
                HandlerKind::Ordinary(ordinary) => {
                    let guarded = match caught(|| span.enter(|| ordinary.call(context.clone()))) {
                        Ok(running) => self.guard(running, deadline, span).await,
                        Err(panicked) => Guarded::Panicked(panicked),
                    };
                    self.conclude(guarded, handler, context, true)
                }
                HandlerKind::Transactional(transactional, _) => {
                    self.run_transactional(&**transactional, handler, context, deadline, span)
                        .await
                }
            },
        };
        context.run().overdue_at.store(0, Ordering::Relaxed);
        result
    }

    /// Runs the hooks in their order, until one vetoes; `None` when none does.
    async fn run_hooks(
        &self,
        handler: &Handler,
        context: &Context,
        deadline: Instant,
        span: &ExecutionSpan,
    ) -> Option<RunResult> {
        let hooks = &self.settings().before_execute;
        if hooks.is_empty() {
            return None;
        }
        let running: BoxFuture<'_, ControlFlow<HandlerResult>> = Box::pin(async {
            for hook in hooks {
                hook.before_execute(context.clone()).await?;
            }
            ControlFlow::Continue(())
        });
        let stopped = match self.guard(running, deadline, span).await {
            Guarded::Answered(ControlFlow::Continue(())) => return None,
            Guarded::Answered(ControlFlow::Break(veto)) => {
                return Some(RunResult::Answered {
                    result: veto.and_then(|()| self.checked_raised(context)),
                    executed: false,
                });
            }
            Guarded::Panicked(panicked) => Guarded::Panicked(panicked),
            Guarded::TimedOut => Guarded::TimedOut,
            Guarded::BrokenOff => Guarded::BrokenOff,
        };
        Some(self.conclude(stopped, handler, context, false))
    }

    /// Polls a future of the user's until it answers, panics, is past its deadline, or a shutdown
    /// breaks it off.
    pub(super) async fn guard<F: Future + Unpin>(
        &self,
        running: F,
        deadline: Instant,
        span: &ExecutionSpan,
    ) -> Guarded<F::Output> {
        let mut running = pin!(span.instrument(CatchPanic::new(running)));
        // Many handlers end in their first poll; those need no timer.
        let first = poll_fn(|cx| Poll::Ready(running.as_mut().poll(cx))).await;
        let result = match first {
            Poll::Ready(result) => result,
            Poll::Pending => {
                tokio::select! {
                    biased;
                    result = running => result,
                    () = self.broken_off() => return Guarded::BrokenOff,
                    () = tokio::time::sleep_until(deadline) => return Guarded::TimedOut,
                }
            }
        };
        match result {
            Ok(answer) => Guarded::Answered(answer),
            Err(panicked) => Guarded::Panicked(panicked),
        }
    }

    /// What came of the handler, or, if it was not `executed`, of the hooks before it.
    pub(super) fn conclude(
        &self,
        guarded: Guarded,
        handler: &Handler,
        context: &Context,
        executed: bool,
    ) -> RunResult {
        match guarded {
            Guarded::Answered(result) => RunResult::Answered {
                result: result.and_then(|()| self.checked_raised(context)),
                executed,
            },
            Guarded::Panicked(panicked) => RunResult::Panicked { panicked, executed },
            Guarded::TimedOut => RunResult::TimedOut {
                limit: handler.timeout,
                executed,
            },
            Guarded::BrokenOff => RunResult::BrokenOff,
        }
    }

    /// What the handler raised, if a store will take it.
    pub(super) fn checked_raised(&self, context: &Context) -> Result<Vec<Event>, HandlerError> {
        let raised = context.take_raised();
        match self.raiser().check(&raised) {
            Ok(()) => Ok(raised),
            Err(error) => Err(HandlerError::from(error)),
        }
    }
}
