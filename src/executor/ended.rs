//! How an execution ended, on its way to being settled.

use std::time::Duration;

use super::{held::Held, panic_capture::Panicked};
use crate::{
    error::Chain,
    handler::{
        CancellationCause, Context, ErrorReport, Handler, HandlerError, ReportKind, Verdict,
    },
    id::LeaseOwner,
    model::{Backoff, Event, ExecutionError, Outcome},
    store::Settlement,
    text::{cut, rounded},
};

/// Of the lines that tell of handlers' errors, so that filters can choose them by a name that stays.
pub(super) const LOG_TARGET: &str = "tidings::handler_errors";

/// An execution that has ended.
pub(super) struct Ended {
    pub(super) held: Held,
    pub(super) disposition: Disposition,
    /// Reported whatever becomes of the settlement: a panic.
    pub(super) panicked: Option<Panicked>,
}

/// What is to be done with its request.
pub(super) enum Disposition {
    /// Write the outcome.
    Settle(Settlement),
    /// Give it back: the execution did not begin, or it was broken off.
    HandBack,
    /// The outcome was written in the handler's own transaction.
    Settled(Outcome),
    /// The request was lost meanwhile; nothing may be written.
    Lost,
}

/// What running a handler came to.
pub(super) enum RunResult {
    /// It answered. `executed` is whether the handler ran, or a hook answered for it.
    Answered {
        result: Result<Vec<Event>, HandlerError>,
        executed: bool,
    },
    /// It panicked.
    Panicked { panicked: Panicked, executed: bool },
    /// It took longer than it may.
    TimedOut { limit: Duration, executed: bool },
    /// A shutdown broke it off, or it did not begin.
    BrokenOff,
    /// The store could not begin its transaction, or not keep it: nothing that ran has taken effect.
    NotBegun {
        error: String,
        /// How long to wait for the store.
        wait: Duration,
    },
    /// Its transaction was committed together with this outcome.
    Committed,
    /// Its request was lost; its transaction was rolled back.
    Lost,
}

impl Ended {
    /// Decides what the result means for the request.
    pub(super) fn new(held: Held, handler: &Handler, owner: LeaseOwner, result: RunResult) -> Self {
        let context = &held.context;
        let errors = context.errors().saturating_add(1);
        let failed = |error: String| Outcome::Failed {
            error,
            backoff: backoff(handler, errors),
        };
        let settle = |outcome, executed, raised| {
            Disposition::Settle(Settlement {
                id: context.request_id(),
                attempt: context.attempt(),
                owner,
                outcome,
                executed,
                raised,
                batch: context.request().batch,
            })
        };
        let mut panicked = None;
        let disposition = match result {
            RunResult::Answered {
                result: Ok(raised),
                executed,
            } => settle(Outcome::Completed, executed, raised),
            // It stopped because it was told to, which is no error of its own.
            RunResult::Answered {
                result: Err(error), ..
            } if was_told_to_stop(context, &error) => {
                let error = text_of(error);
                tracing::debug!(
                    handler = handler.name(),
                    request = %context.request_id(),
                    error = cut(&error, ExecutionError::MAX_LEN),
                    "a handler stopped when its context was canceled"
                );
                match context.cancellation_cause() {
                    Some(CancellationCause::Shutdown) => Disposition::HandBack,
                    // Whoever rescues it bounds how often that may happen.
                    _ => Disposition::Lost,
                }
            }
            RunResult::Answered {
                result: Err(error),
                executed,
            } => {
                let verdict = error.verdict();
                let text = text_of(error);
                let outcome = match verdict {
                    Verdict::Retry => failed(text),
                    Verdict::RetryAfter(backoff) => Outcome::Failed {
                        error: text,
                        backoff,
                    },
                    Verdict::Snooze(duration) => Outcome::Snoozed { duration },
                    Verdict::Discard => Outcome::Discarded { reason: text },
                    Verdict::Cancel => Outcome::Canceled { reason: text },
                };
                settle(outcome, executed, Vec::new())
            }
            RunResult::Panicked {
                panicked: panic,
                executed,
            } => {
                let backtrace = panic.backtrace.as_deref().unwrap_or_default();
                let error = format!("{}\n{backtrace}", panic.message);
                panicked = Some(panic);
                settle(failed(error.trim_end().to_owned()), executed, Vec::new())
            }
            RunResult::TimedOut { limit, executed } => settle(
                failed(format!("timed out after {limit:?}")),
                executed,
                Vec::new(),
            ),
            RunResult::NotBegun { error, wait } => {
                tracing::warn!(
                    handler = handler.name(),
                    error,
                    wait = ?rounded(wait),
                    "no transaction for a handler; it runs again later"
                );
                settle(Outcome::Snoozed { duration: wait }, false, Vec::new())
            }
            RunResult::BrokenOff => Disposition::HandBack,
            RunResult::Committed => Disposition::Settled(Outcome::Completed),
            RunResult::Lost => Disposition::Lost,
        };
        Self {
            held,
            disposition,
            panicked,
        }
    }

    /// How many events are to be stored with it.
    pub(super) fn raised(&self) -> usize {
        match &self.disposition {
            Disposition::Settle(settlement) => settlement.raised.len(),
            _ => 0,
        }
    }

    /// What the execution answered, if it was not `Ok`.
    pub(super) fn error(&self) -> Option<&str> {
        match &self.disposition {
            Disposition::Settle(settlement) => match &settlement.outcome {
                Outcome::Completed => None,
                Outcome::Failed { error, .. } => Some(error),
                Outcome::Snoozed { .. } => Some("snoozed"),
                Outcome::Discarded { reason } | Outcome::Canceled { reason } => Some(reason),
            },
            Disposition::HandBack => Some("broken off"),
            Disposition::Settled(_) => None,
            Disposition::Lost => Some("the request was lost"),
        }
    }
}

/// Whether a handler that failed was told to stop before, by a shutdown or since its lease could not be
/// renewed. If the request was lost, the fence decides.
fn was_told_to_stop(context: &Context, error: &HandlerError) -> bool {
    matches!(
        context.cancellation_cause(),
        Some(CancellationCause::Shutdown | CancellationCause::LeaseExpired)
    ) && matches!(error.verdict(), Verdict::Retry | Verdict::RetryAfter(_))
}

/// Logs an error that counts, once it has been counted: whoever sets no reporter finds it here. The
/// event's data is no part of it.
pub(super) fn log(held: &Held, outcome: &Outcome, panicked: Option<&Panicked>) {
    let request = held.context.request();
    let errors = request.errors.saturating_add(1);
    let (error, again_in) = match outcome {
        Outcome::Failed { error, backoff } => {
            let again_in = Some(*backoff).filter(|_| errors < request.max_errors);
            (error, again_in)
        }
        // It was not the last error that it may have, so their numbers would mislead.
        Outcome::Discarded { reason } => {
            tracing::error!(
                target: LOG_TARGET,
                handler = %request.handler,
                event = %request.event.id,
                event_name = %request.event.name,
                request = %request.id,
                error = cut(reason, ExecutionError::MAX_LEN),
                "a handler discarded its request; it is dead"
            );
            return;
        }
        _ => return,
    };
    // A stored error goes on with the backtrace, and may be long.
    let error = panicked.map_or(error, |panic| &panic.message);
    match again_in {
        Some(again_in) => tracing::warn!(
            target: LOG_TARGET,
            handler = %request.handler,
            event = %request.event.id,
            event_name = %request.event.name,
            request = %request.id,
            errors,
            max_errors = request.max_errors,
            again_in = ?rounded(again_in),
            error = cut(error, ExecutionError::MAX_LEN),
            "a handler failed"
        ),
        None => tracing::error!(
            target: LOG_TARGET,
            handler = %request.handler,
            event = %request.event.id,
            event_name = %request.event.name,
            request = %request.id,
            errors,
            max_errors = request.max_errors,
            error = cut(error, ExecutionError::MAX_LEN),
            "a handler failed for the last time; the request is dead"
        ),
    }
}

/// The report of an end, if it is worth one: a panic always, an error if it was the last and has
/// been `applied`.
pub(super) fn report(
    held: &Held,
    outcome: &Outcome,
    panicked: Option<&Panicked>,
    applied: bool,
) -> Option<ErrorReport> {
    let request = held.context.request();
    let errors = request.errors.saturating_add(1);
    let (message, is_last) = match outcome {
        Outcome::Failed { error, .. } => (error, errors >= request.max_errors),
        Outcome::Discarded { reason } => (reason, true),
        _ => return None,
    };
    let is_final = is_last && applied;
    let kind = match panicked {
        Some(_) => ReportKind::Panic,
        None if is_final => ReportKind::Final,
        None => return None,
    };
    let (event, name) = (request.event.id, request.event.name.clone());
    let mut report = ErrorReport::new(kind, request.id, request.handler.clone(), event, name);
    report.errors = errors;
    report.is_final = is_final;
    report.message = panicked.map_or_else(|| message.clone(), |panic| panic.message.clone());
    report.backtrace = panicked.and_then(|panic| panic.backtrace.clone());
    Some(report)
}

/// The text of an error of the user's, whose `Display` and `Drop` may panic as well.
fn text_of(error: HandlerError) -> String {
    let mut text = None;
    let said = super::panic_capture::caught(|| {
        text = Some(Chain(error.source()).to_string());
        drop(error);
    });
    match (text, said) {
        (Some(text), _) => text,
        (None, Err(panicked)) => {
            format!("an error whose text cannot be made: {}", panicked.message)
        }
        (None, Ok(())) => "an error without a text".to_owned(),
    }
}

/// The wait after an error, by the handler's policy; by the default one if the user's function
/// panics.
fn backoff(handler: &Handler, errors: u32) -> Duration {
    super::panic_capture::caught(|| handler.backoff.after(errors)).unwrap_or_else(|panic| {
        tracing::error!(
            handler = handler.name(),
            message = panic.message,
            "the backoff function panicked"
        );
        Backoff::default().after(errors)
    })
}
