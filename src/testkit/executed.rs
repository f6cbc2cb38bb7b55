//! What a handler did with an event, and assertions on it.

use std::{fmt, time::Duration};

use super::{Expected, RaisedEvents};
use crate::{
    handler::{Context, HandlerError, HandlerResult, Verdict},
    model::DomainEvent,
};

/// What a handler answered, and what it raised.
///
/// The assertions panic with what was expected and what happened. As in a running application,
/// the events that a handler raised before it answered with an error are gone.
#[derive(Debug)]
#[must_use = "assert what the handler did"]
pub struct Executed {
    context: Context,
    result: HandlerResult,
    raised: RaisedEvents,
}

impl Executed {
    pub(super) const fn new(context: Context, result: HandlerResult, raised: RaisedEvents) -> Self {
        Self {
            context,
            result,
            raised,
        }
    }

    /// The handler answered `Ok`.
    ///
    /// # Panics
    /// It did not.
    #[track_caller]
    pub fn then_completed(&self) -> &Self {
        self.check(self.result.is_ok(), format_args!("complete"))
    }

    /// The handler answered with an error that counts, and whose text, with its causes, contains
    /// this. It is run again unless this was the last error; see [`then_dead`](Self::then_dead).
    ///
    /// # Panics
    /// It did not.
    #[track_caller]
    pub fn then_failed(&self, text: &str) -> &Self {
        let failed = matches!(
            self.verdict(),
            Some(Verdict::Retry | Verdict::RetryAfter(_))
        );
        self.check(
            failed && self.says(text),
            format_args!("fail with {text:?}"),
        )
    }

    /// The handler asked to be run again after this time; the error counts.
    ///
    /// # Panics
    /// It did not.
    #[track_caller]
    pub fn then_retried_after(&self, duration: Duration) -> &Self {
        let retried = self.verdict() == Some(Verdict::RetryAfter(duration));
        self.check(retried, format_args!("ask for a retry after {duration:?}"))
    }

    /// The handler snoozed for this time; no error counts.
    ///
    /// # Panics
    /// It did not.
    #[track_caller]
    pub fn then_snoozed(&self, duration: Duration) -> &Self {
        let snoozed = self.verdict() == Some(Verdict::Snooze(duration));
        self.check(snoozed, format_args!("snooze for {duration:?}"))
    }

    /// The handler discarded the request, with a reason that contains this.
    ///
    /// # Panics
    /// It did not.
    #[track_caller]
    pub fn then_discarded(&self, reason: &str) -> &Self {
        let discarded = self.verdict() == Some(Verdict::Discard) && self.says(reason);
        self.check(discarded, format_args!("discard with {reason:?}"))
    }

    /// The handler canceled the request, with a reason that contains this.
    ///
    /// # Panics
    /// It did not.
    #[track_caller]
    pub fn then_canceled(&self, reason: &str) -> &Self {
        let canceled = self.verdict() == Some(Verdict::Cancel) && self.says(reason);
        self.check(canceled, format_args!("cancel with {reason:?}"))
    }

    /// The request is dead now: this was the last error, or the handler discarded it.
    ///
    /// # Panics
    /// It is not.
    #[track_caller]
    pub fn then_dead(&self) -> &Self {
        self.check(self.is_dead(), format_args!("be dead"))
    }

    /// The handler raised exactly these events, in this order.
    ///
    /// # Panics
    /// It did not; the message says which events differ, and where.
    #[track_caller]
    pub fn then_raised(&self, expected: &[Expected]) -> &Self {
        self.raised.assert_exactly(expected);
        self
    }

    /// What the handler answered.
    pub const fn result(&self) -> &HandlerResult {
        &self.result
    }

    /// The events that the handler raised and that are stored, in their order.
    #[must_use]
    pub const fn raised_events(&self) -> &RaisedEvents {
        &self.raised
    }

    /// The raised events of one type, in their order.
    ///
    /// # Panics
    /// The data of one does not decode.
    #[track_caller]
    #[must_use]
    pub fn raised<E: DomainEvent>(&self) -> Vec<E> {
        self.raised.of()
    }

    fn verdict(&self) -> Option<Verdict> {
        self.result.as_ref().err().map(HandlerError::verdict)
    }

    fn says(&self, text: &str) -> bool {
        self.result
            .as_ref()
            .is_err_and(|error| error.to_string().contains(text))
    }

    fn is_dead(&self) -> bool {
        match self.verdict() {
            Some(Verdict::Discard) => true,
            Some(Verdict::Retry | Verdict::RetryAfter(_)) => {
                self.context.errors() + 1 >= self.context.max_errors()
            }
            _ => false,
        }
    }

    #[track_caller]
    #[expect(clippy::panic, reason = "a test kit fails tests by panicking")]
    fn check(&self, holds: bool, expectation: fmt::Arguments<'_>) -> &Self {
        if !holds {
            let (handler, event) = (self.context.handler(), &self.context.event().name);
            panic!("handler {handler:?} of event {event:?} was to {expectation}, but it {self}");
        }
        self
    }
}

/// What the handler did, as the end of a sentence.
impl fmt::Display for Executed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Err(error) = &self.result else {
            return f.write_str("completed");
        };
        match error.verdict() {
            Verdict::Retry => write!(f, "failed: {error}"),
            Verdict::RetryAfter(duration) => {
                write!(f, "asked for a retry after {duration:?}: {error}")
            }
            Verdict::Snooze(duration) => write!(f, "snoozed for {duration:?}"),
            Verdict::Discard => write!(f, "discarded: {error}"),
            Verdict::Cancel => write!(f, "canceled: {error}"),
        }?;
        if self.is_dead() && error.verdict() != Verdict::Discard {
            write!(f, " (the last of {} errors)", self.context.max_errors())?;
        }
        Ok(())
    }
}
