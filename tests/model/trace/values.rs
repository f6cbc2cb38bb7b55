//! Values of the library, as the model has them, and what a verdict is made of.

use std::time::Duration;

use tidings::{Outcome as Settles, RequestState};

use crate::machine::row::{Outcome, Place};

/// Why an answer cannot be.
pub(super) type Verdict<T = ()> = Result<T, String>;

pub(super) fn is_in(place: Place, state: Option<RequestState>) -> bool {
    match place {
        Place::Waiting { .. } => matches!(
            state,
            Some(RequestState::Pending | RequestState::BackingOff)
        ),
        Place::Executing { .. } => state == Some(RequestState::Executing),
        Place::Completed => state == Some(RequestState::Completed),
        Place::Dead => state == Some(RequestState::Dead),
        Place::Canceled => state == Some(RequestState::Canceled),
    }
}

pub(super) fn outcome(outcome: &Settles) -> Outcome {
    match outcome {
        Settles::Completed => Outcome::Complete,
        Settles::Failed { backoff, .. } => Outcome::Fail {
            backoff: micros(*backoff),
        },
        Settles::Discarded { .. } => Outcome::Discard,
        Settles::Snoozed { duration } => Outcome::Snooze {
            wait: micros(*duration),
        },
        Settles::Canceled { .. } => Outcome::Cancel,
        other => panic!("{other:?} is new, and the model does not know it"),
    }
}

pub(super) fn paired<'a, A, B>(
    asked: &'a [A],
    answered: &'a [B],
) -> Verdict<impl Iterator<Item = (&'a A, &'a B)>> {
    require(
        asked.len() == answered.len(),
        "as many answers as questions",
    )?;
    Ok(asked.iter().zip(answered))
}

pub(super) fn require(holds: bool, what: &str) -> Verdict {
    if holds {
        Ok(())
    } else {
        Err(format!("expected {what}"))
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 4)
}
