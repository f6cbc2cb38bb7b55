//! The errors of stores. Each names the operation and, where there is one, the remedy.

use std::{
    error::Error as StdError,
    fmt::{self, Write as _},
    time::Duration,
};

use crate::id::EventId;

/// The result of a call to a store.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// The cause of a [`StoreError`], as the backend gives it.
pub type Source = Box<dyn StdError + Send + Sync + 'static>;

/// What went wrong in a store.
///
/// `Display` never repeats the [`source`](StdError::source).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database could not be reached, or the connection was lost. Whether a commit that was
    /// under way took effect is unknown.
    #[error(
        "{operation}: the database cannot be reached; check that it runs and accepts connections"
    )]
    Unavailable {
        /// What was being done.
        operation: &'static str,
        /// The backend's error.
        #[source]
        source: Option<Source>,
    },
    /// No connection could be had because the database did not admit one. Nothing has taken effect.
    #[error(
        "{operation}: no connection to the database at {server}; check that it runs there and accepts connections"
    )]
    Unreachable {
        /// What was being done.
        operation: &'static str,
        /// Where the database should be: host and port, a socket or a file.
        server: String,
        /// The backend's error.
        #[source]
        source: Option<Source>,
    },
    /// No connection could be had because the pool has none left. Nothing has taken effect.
    #[error(
        "{operation}: all connections ({connections}) are still in use after {waited:.0?}; end sessions and transactions earlier, or allow more connections"
    )]
    Exhausted {
        /// What was being done.
        operation: &'static str,
        /// How many connections the pool may have.
        connections: u32,
        /// How long one was waited for.
        waited: Duration,
    },
    /// The call took longer than it may. Whether it took effect is unknown.
    #[error("{operation}: no answer within {limit:?}")]
    TimedOut {
        /// What was being done.
        operation: &'static str,
        /// The limit that was passed.
        limit: Duration,
    },
    /// The transaction lost against another one (a deadlock or a serialization failure) and was
    /// rolled back as a whole; running it again is the remedy.
    #[error(
        "{operation}: rolled back in favour of a concurrent transaction; run the transaction again"
    )]
    Conflict {
        /// What was being done.
        operation: &'static str,
        /// The backend's error.
        #[source]
        source: Option<Source>,
    },
    /// Something that was to be stored is not acceptable. Nothing was stored.
    #[error("{thing} {reason}; {remedy}")]
    Invalid {
        /// The thing, by name.
        thing: String,
        /// What is wrong with it.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A row is not in a state that allows the change. Nothing was changed.
    #[error("{action} of {thing} is refused: it is {state}")]
    Refused {
        /// The change that was asked for.
        action: &'static str,
        /// The row.
        thing: String,
        /// The state that stands against it.
        state: String,
    },
    /// A stored value cannot be read.
    #[error("{table}.{column} of row {id} cannot be read; correct or delete the row")]
    Unreadable {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's id.
        id: String,
        /// Why not.
        #[source]
        source: Option<Source>,
    },
    /// A transaction was used after it ended, or a store after it was closed.
    #[error("{operation}: {thing} has ended already")]
    Ended {
        /// What was being done.
        operation: &'static str,
        /// What has ended.
        thing: &'static str,
    },
    /// Something that is done in many transactions stopped between them. What had been done is
    /// committed; whether the last transaction is among it is as unknown as the cause says.
    #[error(
        "{operation} stopped with {done}{}; remove the cause and go on from there",
        Place(*.after)
    )]
    Stopped {
        /// What was being done.
        operation: &'static str,
        /// What had been done, in numbers.
        done: String,
        /// Where to go on: everything up to this event is done. `None` is the beginning.
        after: Option<EventId>,
        /// Why.
        #[source]
        cause: Box<Self>,
    },
    /// Any other error of the backend.
    #[error("{operation}: the database answered with an error")]
    Backend {
        /// What was being done.
        operation: &'static str,
        /// The backend's error.
        #[source]
        source: Source,
    },
}

impl StoreError {
    /// Whether the same call may succeed if it is made again later: the database was away, slow,
    /// or preferred another transaction.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Stopped { cause, .. } => cause.is_transient(),
            Self::Unavailable { .. }
            | Self::Unreachable { .. }
            | Self::Exhausted { .. }
            | Self::TimedOut { .. }
            | Self::Conflict { .. } => true,
            _ => false,
        }
    }

    /// Whether the transaction lost against a concurrent one and is worth running again at once.
    #[must_use]
    pub const fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }

    /// Whether the call may have taken effect although it failed.
    #[must_use]
    pub const fn is_uncertain(&self) -> bool {
        match self {
            Self::Stopped { cause, .. } => cause.is_uncertain(),
            Self::Unavailable { .. } | Self::TimedOut { .. } => true,
            _ => false,
        }
    }

    /// An [`Invalid`](Self::Invalid) thing.
    #[must_use]
    pub fn invalid(
        thing: impl Into<String>,
        reason: impl Into<String>,
        remedy: &'static str,
    ) -> Self {
        Self::Invalid {
            thing: thing.into(),
            reason: reason.into(),
            remedy,
        }
    }
}

/// Where something stopped.
struct Place(Option<EventId>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(after) => write!(f, ", after event {after}"),
            None => f.write_str(", at the beginning"),
        }
    }
}

/// An error and all its sources in one line, for logs: `outer: inner: innermost`.
///
/// The errors of this library never repeat their sources, so `%error` in a log leaves out why the
/// database refused something. A source whose text the error before it ends with is left out, since
/// other libraries do repeat theirs.
///
/// ```
/// use tidings::{ErrorChain, StoreError};
///
/// let error = StoreError::Backend { operation: "raise", source: "disk full".into() };
/// assert_eq!(error.to_string(), "raise: the database answered with an error");
/// assert_eq!(
///     ErrorChain(&error).to_string(),
///     "raise: the database answered with an error: disk full"
/// );
/// ```
///
/// A boxed error is given as `ErrorChain(&*error)`.
#[derive(Clone, Copy, Debug)]
pub struct ErrorChain<'a>(pub &'a (dyn StdError + 'static));

pub(crate) use ErrorChain as Chain;

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Written by `write!`, which answers with an error of `Display` where `to_string` panics.
        let mut last = Text::of(self.0)?;
        f.write_str(&last.shown)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            let text = Text::of(error)?;
            if !last.repeats(&text) {
                write!(f, ": {}", text.shown)?;
                last = text;
            }
            source = error.source();
        }
        Ok(())
    }
}

/// What an error says.
struct Text {
    own: String,
    /// What is shown of it.
    shown: String,
}

impl Text {
    fn of(error: &(dyn StdError + 'static)) -> Result<Self, fmt::Error> {
        let mut own = String::new();
        write!(own, "{error}")?;
        let shown = shown(error).unwrap_or_else(|| own.clone());
        Ok(Self { own, shown })
    }

    /// Whether it ends with what its source says.
    fn repeats(&self, source: &Self) -> bool {
        self.own.ends_with(&source.own) || self.shown.ends_with(&source.shown)
    }
}

/// What a database says, where the text of its error is misleading.
fn shown(error: &(dyn StdError + 'static)) -> Option<String> {
    #[cfg(any(feature = "postgres", feature = "mysql", feature = "_sqlite"))]
    {
        if let Some(error) = error.downcast_ref::<sqlx::Error>() {
            let text = without_line(error.as_database_error()?)?;
            return Some(format!("error returned from database: {text}"));
        }
        // What is the source of the one above.
        let error = error.downcast_ref::<Box<dyn sqlx::error::DatabaseError>>()?;
        without_line(&**error)
    }
    #[cfg(not(any(feature = "postgres", feature = "mysql", feature = "_sqlite")))]
    {
        let _ = error;
        None
    }
}

/// PostgreSQL's own text and code. `sqlx` ends the text in a line number, which is not one of the
/// statement, but one of the server's source.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "_sqlite"))]
pub(crate) fn without_line(error: &dyn sqlx::error::DatabaseError) -> Option<String> {
    #[cfg(feature = "postgres")]
    if let Some(error) = error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() {
        return Some(format!("{} [SQLSTATE {}]", error.message(), error.code()));
    }
    let _ = error;
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Link {
        text: &'static str,
        source: Option<Box<Self>>,
    }

    fn chain(texts: &[&'static str]) -> String {
        let mut links = None;
        for text in texts.iter().rev() {
            links = Some(Box::new(Link {
                text,
                source: links,
            }));
        }
        ErrorChain(&*links.unwrap()).to_string()
    }

    #[test]
    fn an_exhausted_pool_says_how_long_it_was_waited_for() {
        let exhausted = StoreError::Exhausted {
            operation: "open a session",
            connections: 1,
            waited: Duration::from_nanos(1_040_998_418),
        };
        assert_eq!(
            exhausted.to_string(),
            "open a session: all connections (1) are still in use after 1s; end sessions and \
             transactions earlier, or allow more connections"
        );
    }

    #[test]
    fn a_source_that_was_said_already_is_left_out() {
        assert_eq!(chain(&["a", "b", "c"]), "a: b: c");
        assert_eq!(
            chain(&["a", "from the database: b", "b", "c"]),
            "a: from the database: b: c"
        );
        // Twice over, as by an error that wraps one that repeats its source.
        assert_eq!(chain(&["x: y: z", "y: z", "z", "why"]), "x: y: z: why");
        assert_eq!(chain(&["b", "a b"]), "b: a b");
        assert_eq!(chain(&["a", "", "b"]), "a: b");
    }
}
