//! Running one handler: hooks, time-out, panics, and being broken off by a shutdown.

use std::{
    future::{Future, poll_fn},
    ops::ControlFlow,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    task::Poll,
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::{
    Executor,
    ended::RunResult,
    panic_capture::{CatchPanic, Panicked, caught},
};
use crate::{
    clock::instant_after,
    handler::{CancellationCause, Context, Handler, HandlerError, HandlerKind, HandlerResult},
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
        if let Some(result) = not_to_run(context) {
            return result;
        }
        let deadline = instant_after(Instant::now(), handler.timeout);
        match self.run_hooks(handler, context, deadline, span).await {
            Some(result) => result,
            None => match &handler.kind {
                HandlerKind::Ordinary(ordinary) => {
                    let watched = Watched::begin(context, self.milliseconds(deadline));
                    let called = caught(|| span.enter(|| ordinary.call(context.clone())));
                    drop(watched);
                    let guarded = match called {
                        Ok(running) => self.guard(running, context, deadline, span).await,
                        Err(panicked) => Guarded::Panicked(panicked),
                    };
                    self.conclude(guarded, handler.timeout, context, true)
                }
                HandlerKind::Transactional(transactional, _) => {
                    self.run_transactional(&**transactional, handler, context, span)
                        .await
                }
            },
        }
    }

    /// Runs the hooks in their order, until one vetoes; `None` when none does.
    pub(super) async fn run_hooks(
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
        let stopped = match self.guard(running, context, deadline, span).await {
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
        Some(self.conclude(stopped, handler.timeout, context, false))
    }

    /// Polls a future of the user's until it answers, panics, is past its deadline, or a shutdown
    /// breaks it off.
    pub(super) async fn guard<F: Future + Unpin>(
        &self,
        running: F,
        context: &Context,
        deadline: Instant,
        span: &ExecutionSpan,
    ) -> Guarded<F::Output> {
        let _watched = Watched::begin(context, self.milliseconds(deadline));
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

    /// What came of the handler, or, if it was not `executed`, of the hooks before it, within the
    /// time limit.
    pub(super) fn conclude(
        &self,
        guarded: Guarded,
        limit: Duration,
        context: &Context,
        executed: bool,
    ) -> RunResult {
        match guarded {
            Guarded::Answered(result) => RunResult::Answered {
                result: result.and_then(|()| self.checked_raised(context)),
                executed,
            },
            Guarded::Panicked(panicked) => RunResult::Panicked { panicked, executed },
            Guarded::TimedOut => RunResult::TimedOut { limit, executed },
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

/// What it means for a run that is about to begin that its context was canceled; none if it was not.
pub(super) fn not_to_run(context: &Context) -> Option<RunResult> {
    match context.cancellation_cause()? {
        CancellationCause::Lost => Some(RunResult::Lost),
        // Nobody may have taken it yet: others need not wait for a rescue.
        _ => Some(RunResult::BrokenOff),
    }
}

/// While it lives, the renewal thread knows when the handler is past its time-out.
struct Watched<'a>(&'a Context);

impl<'a> Watched<'a> {
    fn begin(context: &'a Context, overdue_at: u64) -> Self {
        context
            .run()
            .overdue_at
            .store(overdue_at, Ordering::Relaxed);
        Self(context)
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.0.run().overdue_at.store(0, Ordering::Relaxed);
    }
}
