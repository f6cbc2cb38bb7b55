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
    handler::{Context, ErasedHandler, Handler, HandlerError, HandlerKind, HandlerResult},
    model::Event,
    telemetry::ExecutionSpan,
};

/// What a handler and the hooks before it came to. The flag says whether the handler ran.
pub(super) enum Guarded {
    Answered(HandlerResult, bool),
    Panicked(Panicked),
    TimedOut,
    BrokenOff,
}

impl Executor {
    /// Runs a handler within its time-out. Never panics, whatever the handler does.
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
        let result = match &handler.kind {
            HandlerKind::Ordinary(ordinary) => {
                let guarded = self
                    .run_ordinary(&**ordinary, context, deadline, span)
                    .await;
                self.conclude(guarded, handler, context)
            }
            HandlerKind::Transactional(transactional, _) => {
                self.run_transactional(&**transactional, handler, context, deadline, span)
                    .await
            }
        };
        context.run().overdue_at.store(0, Ordering::Relaxed);
        result
    }

    async fn run_ordinary(
        &self,
        handler: &dyn ErasedHandler,
        context: &Context,
        deadline: Instant,
        span: &ExecutionSpan,
    ) -> Guarded {
        if self.settings().before_execute.is_empty() {
            return match caught(|| span.enter(|| handler.call(context.clone()))) {
                Ok(running) => {
                    self.guard(running, |result| (result, true), deadline, span)
                        .await
                }
                Err(panicked) => Guarded::Panicked(panicked),
            };
        }
        let hooked: BoxFuture<'_, _> = Box::pin(async {
            match self.before_execute(context).await {
                ControlFlow::Continue(()) => (handler.call(context.clone()).await, true),
                ControlFlow::Break(veto) => (veto, false),
            }
        });
        self.guard(hooked, |answer| answer, deadline, span).await
    }

    /// Polls a handler until it answers, panics, is past its deadline, or a shutdown breaks it off.
    pub(super) async fn guard<F: Future + Unpin>(
        &self,
        running: F,
        answer: impl FnOnce(F::Output) -> (HandlerResult, bool),
        deadline: Instant,
        span: &ExecutionSpan,
    ) -> Guarded {
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
            Ok(output) => {
                let (result, executed) = answer(output);
                Guarded::Answered(result, executed)
            }
            Err(panicked) => Guarded::Panicked(panicked),
        }
    }

    /// Runs the hooks in their order, until one vetoes.
    pub(super) async fn before_execute(&self, context: &Context) -> ControlFlow<HandlerResult> {
        for hook in &self.settings().before_execute {
            hook.before_execute(context.clone()).await?;
        }
        ControlFlow::Continue(())
    }

    pub(super) fn conclude(
        &self,
        guarded: Guarded,
        handler: &Handler,
        context: &Context,
    ) -> RunResult {
        match guarded {
            Guarded::Answered(Ok(()), executed) => RunResult::Answered {
                result: self.checked_raised(context),
                executed,
            },
            Guarded::Answered(Err(error), executed) => RunResult::Answered {
                result: Err(error),
                executed,
            },
            Guarded::Panicked(panicked) => RunResult::Panicked(panicked),
            Guarded::TimedOut => RunResult::TimedOut(handler.timeout),
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
