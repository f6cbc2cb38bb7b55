//! What a handler answers.

use std::{error::Error as StdError, fmt, time::Duration};

use crate::error::{Chain, Source};

/// What a handler returns: `Ok` completes its request.
pub type HandlerResult = Result<(), HandlerError>;

/// Why a handler did not complete its request, and what is to happen.
///
/// Any error converts into one with `?` and counts one error; the others are made by name. Like
/// `anyhow::Error`, it does not implement [`std::error::Error`] itself, so that everything that
/// does can be converted.
///
/// ```
/// use std::time::Duration;
/// use tidings::{HandlerError, HandlerResult};
///
/// fn charge(answer: u16) -> HandlerResult {
///     match answer {
///         200 => Ok(()),
///         402 => Err(HandlerError::discard("the card was declined")),
///         429 => Err(HandlerError::snooze(Duration::from_secs(30))),
///         503 => Err(HandlerError::retry_after(Duration::from_secs(5), "the bank is closed")),
///         code => Err(HandlerError::new(format!("unexpected answer {code}"))),
///     }
/// }
/// # assert!(charge(200).is_ok() && charge(402).is_err());
/// ```
pub struct HandlerError {
    verdict: Verdict,
    source: Source,
}

/// What is to happen with the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Count an error and back off as the handler's mapping says.
    Retry,
    /// Count an error and wait this long.
    RetryAfter(Duration),
    /// Wait this long; count nothing.
    Snooze(Duration),
    /// No retry can help: dead.
    Discard,
    /// Not wanted any more: canceled.
    Cancel,
}

impl HandlerError {
    /// An error: it is counted, and the request backs off.
    pub fn new(error: impl Into<Source>) -> Self {
        Self {
            verdict: Verdict::Retry,
            source: error.into(),
        }
    }

    /// An error: it is counted, and the request waits for `duration` instead of its backoff.
    pub fn retry_after(duration: Duration, error: impl Into<Source>) -> Self {
        Self {
            verdict: Verdict::RetryAfter(duration),
            source: error.into(),
        }
    }

    /// Not yet: the request waits for `duration`, and no error is counted.
    #[must_use]
    pub fn snooze(duration: Duration) -> Self {
        Self {
            verdict: Verdict::Snooze(duration),
            source: "snoozed".into(),
        }
    }

    /// Permanent: no retry can help, the request is dead at once.
    pub fn discard(reason: impl Into<Source>) -> Self {
        Self {
            verdict: Verdict::Discard,
            source: reason.into(),
        }
    }

    /// Not wanted any more: the request is canceled.
    pub fn cancel(reason: impl Into<Source>) -> Self {
        Self {
            verdict: Verdict::Cancel,
            source: reason.into(),
        }
    }

    /// Whether it counts as an error of the request that another execution may not have.
    pub(crate) const fn counts(&self) -> bool {
        matches!(self.verdict, Verdict::Retry | Verdict::RetryAfter(_))
    }

    /// The error itself.
    #[must_use]
    pub fn source(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &*self.source
    }

    pub(crate) const fn verdict(&self) -> Verdict {
        self.verdict
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Chain(&*self.source).fmt(f)
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.verdict, Chain(&*self.source))
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

/// What a handler may return as its error: a [`HandlerError`], or anything that becomes a boxed
/// error, such as every `std::error::Error`, a text, or an `anyhow::Error`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a handler",
    note = "return a `tidings::HandlerResult`, or an error type that implements `std::error::Error`"
)]
pub trait IntoHandlerError {
    /// Converts.
    fn into_handler_error(self) -> HandlerError;
}

impl IntoHandlerError for HandlerError {
    fn into_handler_error(self) -> HandlerError {
        self
    }
}

impl<E: Into<Source>> IntoHandlerError for E {
    fn into_handler_error(self) -> HandlerError {
        HandlerError::new(self)
    }
}
