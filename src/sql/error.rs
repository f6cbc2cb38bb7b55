//! How errors of the databases become those of a store.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use super::tls;
use crate::error::{StoreError, without_line};

/// The limits that a time-out names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Of getting a connection.
    pub(super) acquire: Duration,
    /// Of one statement.
    pub(super) statement: Duration,
    /// Of waiting for a lock.
    pub(super) lock: Duration,
}

/// What an error of a database says.
enum Verdict {
    Conflict,
    LockTimeout,
    StatementTimeout,
    Unavailable,
    NoSchema,
    NoTransaction,
    NoDatabase,
    /// There is no schema in which tables could be made, or none that the user may use.
    NoPlace,
    Denied,
    /// The user lacks a right.
    Forbidden,
    /// An earlier statement has failed, and the transaction with it.
    Aborted,
    Other,
}

impl Limits {
    /// The error of a store for an error of sqlx.
    pub(super) fn error(&self, operation: &'static str, error: sqlx::Error) -> StoreError {
        let verdict = match &error {
            sqlx::Error::PoolTimedOut => {
                return StoreError::TimedOut {
                    operation,
                    limit: self.acquire,
                };
            }
            sqlx::Error::PoolClosed => {
                return StoreError::Ended {
                    operation,
                    thing: "the pool of connections",
                };
            }
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::BeginFailed
            | sqlx::Error::WorkerCrashed => Verdict::Unavailable,
            sqlx::Error::Database(error) => verdict(&**error),
            _ => Verdict::Other,
        };
        let source = Box::new(error);
        match verdict {
            Verdict::Conflict => StoreError::Conflict {
                operation,
                source: Some(source),
            },
            Verdict::LockTimeout => StoreError::TimedOut {
                operation,
                limit: self.lock,
            },
            Verdict::StatementTimeout => StoreError::TimedOut {
                operation,
                limit: self.statement,
            },
            Verdict::Unavailable => StoreError::Unavailable {
                operation,
                source: Some(source),
            },
            Verdict::NoSchema => StoreError::invalid(
                "the schema of the store",
                format!("is not there or not complete ({})", Reason(&source)),
                "run `migrate()` of the store, or apply its migrations, with the same table prefix",
            ),
            Verdict::NoTransaction => StoreError::Ended {
                operation,
                thing: "the transaction",
            },
            Verdict::NoPlace => StoreError::invalid(
                "the schema that the search_path names",
                format!("is not there, or not for this user ({})", Reason(&source)),
                "create it, or grant USAGE on it, and CREATE to who migrates",
            ),
            // A server may admit a user to itself and not to what a statement names.
            Verdict::Forbidden | Verdict::Denied => forbidden(operation, &Reason(&source)),
            Verdict::NoDatabase | Verdict::Aborted | Verdict::Other => {
                StoreError::Backend { operation, source }
            }
        }
    }
}

impl Limits {
    /// The error of a store whose database at `server` gave no connection.
    pub(super) fn connect_error(
        &self,
        operation: &'static str,
        server: String,
        error: Arc<sqlx::Error>,
    ) -> StoreError {
        if let Some(tls) = tls::refusal(&error) {
            return tls.error(server, &error);
        }
        let verdict = match &*error {
            sqlx::Error::PoolClosed => {
                return StoreError::Ended {
                    operation,
                    thing: "the pool of connections",
                };
            }
            sqlx::Error::Database(said) => verdict(&**said),
            sqlx::Error::Configuration(_) => Verdict::Other,
            _ => Verdict::Unavailable,
        };
        let source = Box::new(Cause(Arc::clone(&error)));
        match verdict {
            Verdict::NoDatabase => StoreError::invalid(
                format!("the database of the URL is not known to the server at {server}"),
                format!("({})", Reason(&error)),
                "create it, or correct the end of the URL",
            ),
            Verdict::Denied | Verdict::Forbidden => StoreError::invalid(
                format!("the server at {server} does not admit the user of the URL"),
                format!("({})", Reason(&error)),
                "correct user and password, or let the server admit this user from here to this database",
            ),
            Verdict::Unavailable => StoreError::Unreachable {
                operation,
                server,
                source: Some(source),
            },
            Verdict::LockTimeout => StoreError::TimedOut {
                operation,
                limit: self.lock,
            },
            _ => StoreError::Backend { operation, source },
        }
    }
}

const LACKS_A_RIGHT: &str = "lacks a right";

/// Whether an operation failed because the user of the store has no right to it.
pub(super) fn is_forbidden(error: &StoreError) -> bool {
    matches!(error, StoreError::Invalid { reason, .. } if reason.starts_with(LACKS_A_RIGHT))
}

/// The error of an operation that the user of the store has no right to. Databases name the thing, and
/// MySQL the right; what each role needs beside it is told by the guide.
pub(super) fn forbidden(operation: &'static str, reason: &dyn fmt::Display) -> StoreError {
    StoreError::invalid(
        format!("{operation}: the database user of the store"),
        format!("{LACKS_A_RIGHT} ({reason})"),
        "grant it what its role needs: the GRANT statements are in the guide, under \"Roles\" on the page of the database",
    )
}

/// Whether a server that gave no connection may be about to start.
pub(super) fn may_be_starting(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        sqlx::Error::Database(error) => matches!(verdict(&**error), Verdict::Unavailable),
        _ => false,
    }
}

/// No answer came in time.
pub(super) fn silence(limit: Duration) -> sqlx::Error {
    let text = format!("no answer within {limit:?}");
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, text))
}

/// An error that several calls have as their cause.
#[derive(Debug)]
struct Cause(Arc<sqlx::Error>);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_database_error().and_then(without_line) {
            Some(text) => write!(f, "error returned from database: {text}"),
            None => fmt::Display::fmt(&self.0, f),
        }
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// What the database says, for brackets: without what `sqlx` puts before it.
struct Reason<'a>(&'a sqlx::Error);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_database_error() {
            Some(error) => match without_line(error) {
                Some(text) => f.write_str(&text),
                None => fmt::Display::fmt(error, f),
            },
            None => fmt::Display::fmt(self.0, f),
        }
    }
}

/// Whether an error of a handler tells that its transaction lost against a concurrent one: it, or
/// one of its sources, is an error of a store or of sqlx that says so.
///
/// So does one that says that an earlier statement failed: which one and why nobody can tell any
/// more, and a conflict must not count as the handler's error.
pub(super) fn is_conflict_of_handler(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| (*error).source()).any(|error| {
        let of_store = error
            .downcast_ref::<StoreError>()
            .is_some_and(StoreError::is_conflict);
        let of_sqlx = error
            .downcast_ref::<sqlx::Error>()
            .and_then(sqlx::Error::as_database_error)
            .is_some_and(|error| matches!(verdict(error), Verdict::Conflict | Verdict::Aborted));
        of_store || of_sqlx
    })
}

/// The error of a call in a transaction whose connection was lent: what failed earlier was a statement
/// of whoever had it.
pub(super) fn after_lending(error: StoreError) -> StoreError {
    match error {
        StoreError::Backend { operation, source }
            if source
                .downcast_ref::<sqlx::Error>()
                .and_then(sqlx::Error::as_database_error)
                .is_some_and(|error| matches!(verdict(error), Verdict::Aborted)) =>
        {
            StoreError::Conflict {
                operation,
                source: Some(Box::new(Swallowed(source))),
            }
        }
        error => error,
    }
}

/// Somebody went on after an error that had ended the transaction.
#[derive(Debug)]
struct Swallowed(crate::error::Source);

impl fmt::Display for Swallowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "an earlier statement on its connection failed, and its error was swallowed; what may fail belongs into a savepoint",
        )
    }
}

impl Error for Swallowed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

/// Whether a row was not stored because its key is there.
#[cfg(any(feature = "mysql", feature = "_sqlite"))]
pub(super) fn is_duplicate(error: &StoreError) -> bool {
    let StoreError::Backend { source, .. } = error else {
        return false;
    };
    source
        .downcast_ref::<sqlx::Error>()
        .and_then(sqlx::Error::as_database_error)
        .is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

fn verdict(error: &dyn sqlx::error::DatabaseError) -> Verdict {
    #[cfg(feature = "postgres")]
    if let Some(error) = error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() {
        return postgres(error.code());
    }
    #[cfg(feature = "mysql")]
    if let Some(error) = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
        return mysql(error.number());
    }
    #[cfg(feature = "_sqlite")]
    if error
        .try_downcast_ref::<sqlx::sqlite::SqliteError>()
        .is_some()
    {
        let code = error.code().and_then(|code| code.parse().ok());
        return sqlite(code.unwrap_or_default(), error.message());
    }
    let _ = error;
    Verdict::Other
}

/// By the codes of PostgreSQL's manual, appendix A.
#[cfg(feature = "postgres")]
fn postgres(code: &str) -> Verdict {
    match code {
        // serialization_failure, deadlock_detected
        "40001" | "40P01" => Verdict::Conflict,
        // lock_not_available
        "55P03" => Verdict::LockTimeout,
        // query_canceled
        "57014" => Verdict::StatementTimeout,
        // undefined_table, undefined_column, undefined_function
        "42P01" | "42703" | "42883" => Verdict::NoSchema,
        // invalid_catalog_name
        "3D000" => Verdict::NoDatabase,
        // invalid_schema_name
        "3F000" => Verdict::NoPlace,
        // insufficient_privilege
        "42501" => Verdict::Forbidden,
        // invalid_authorization_specification, invalid_password
        "28000" | "28P01" => Verdict::Denied,
        // in_failed_sql_transaction
        "25P02" => Verdict::Aborted,
        // no_active_sql_transaction, invalid_savepoint_specification
        "25P01" | "3B001" => Verdict::NoTransaction,
        // admin_shutdown, crash_shutdown, cannot_connect_now, idle sessions and transactions that
        // were ended, read_only_sql_transaction (what was the primary has become a standby)
        "57P01" | "57P02" | "57P03" | "57P05" | "25P03" | "25006" => Verdict::Unavailable,
        // connection exceptions; insufficient resources (disk, memory, connections)
        _ if code.starts_with("08") || code.starts_with("53") => Verdict::Unavailable,
        _ => Verdict::Other,
    }
}

/// By the numbers of MySQL's and MariaDB's references of server errors.
#[cfg(feature = "mysql")]
const fn mysql(number: u16) -> Verdict {
    match number {
        // deadlock; a row changed since it was last read (MariaDB with snapshot isolation)
        1213 | 1020 => Verdict::Conflict,
        // lock wait time-out; NOWAIT
        1205 | 3572 => Verdict::LockTimeout,
        // statement time-out (MariaDB, MySQL)
        1969 | 3024 => Verdict::StatementTimeout,
        // no such table or column
        1146 | 1054 => Verdict::NoSchema,
        // no such database
        1049 => Verdict::NoDatabase,
        // the user is not admitted, or not to the database
        1044 | 1045 | 1698 => Verdict::Denied,
        // a command, a column, a routine, or something that only administrators may do
        1142 | 1143 | 1227 | 1370 => Verdict::Forbidden,
        // no such savepoint (nor procedure, but the store calls none)
        1305 => Verdict::NoTransaction,
        // disk full, too many connections, shutdown, killed, lost, read-only, out of memory or of
        // room for locks, in service, a session that is being ended, going offline
        1021 | 1040 | 1053 | 1077 | 1079 | 1152 | 1158 | 1159 | 1160 | 1161 | 1203 | 1226
        | 1290 | 1317 | 1836 | 1927 | 4031 | 1037 | 1038 | 1206 | 3032 | 3168 | 3169 => {
            Verdict::Unavailable
        }
        _ => Verdict::Other,
    }
}

/// By SQLite's result codes; the lower eight bits are the primary one.
#[cfg(feature = "_sqlite")]
fn sqlite(code: i32, message: &str) -> Verdict {
    const BUSY_SNAPSHOT: i32 = 517;
    const COMMIT_HOOK: i32 = 531;
    match (code, code & 0xff) {
        // With the second one the transaction of a handler has ended before, and what came after it
        // was not committed.
        (BUSY_SNAPSHOT | COMMIT_HOOK, _) => Verdict::Conflict,
        // busy, locked
        (_, 5 | 6) => Verdict::LockTimeout,
        // out of memory, read-only, interrupted, i/o error, full, cannot open, a log that others have
        // changed too often meanwhile
        (_, 7..=10 | 13..=15) => Verdict::Unavailable,
        _ if message.starts_with("no such table") || message.starts_with("no such column") => {
            Verdict::NoSchema
        }
        _ => Verdict::Other,
    }
}
