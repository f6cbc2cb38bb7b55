//! The store on SQLite, as applications make it.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use sqlx::{
    Connection as _, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::time::Instant;

use super::{
    SqliteOptions,
    dialect::{Begins, SqliteDialect},
    statements::{COMMON, TEXTS},
    turns::Turns,
};
use crate::{
    error::{Result, StoreError},
    sql::{
        arg::args,
        connection::Needs,
        link::Link,
        prefix::TablePrefix,
        shared::Shared,
        statement::Statement,
        store::sql_store,
        url::{check_scheme, unreadable},
    },
};

/// How long to wait before a database file that is locked is opened again.
const REOPEN_PAUSE: Duration = Duration::from_millis(20);

/// How many rows wait between the thread of a connection and who asked for them: the thread works
/// on, and is not woken for a few at a time, and what a batch brings is in memory anyway.
const ROW_BUFFER: usize = 1024;

/// The oldest library that knows what the statements use.
const OLDEST_LIBRARY: (u32, u32) = (3, 38);

/// A store of events and handler requests in a file of SQLite 3.38 or later, for services that run
/// on one machine.
///
/// ```no_run
/// # async fn example() -> tidings::Result<()> {
/// use tidings::{SqliteOptions, SqliteStore};
///
/// let store = SqliteStore::connect("sqlite:shop.db", SqliteOptions::new()).await?;
/// store.migrate().await?;
/// # Ok(())
/// # }
/// ```
///
/// Clones share their connections and their queue of writers.
///
/// # What it promises
///
/// The same as the stores on servers, with the conformance suite to show it. What is committed is
/// on the disk when the commit returns (`synchronous = FULL`), and outlives a crash of the process,
/// of the system and a power failure, as far as the disk tells the truth.
///
/// Time is the clock of the machine, to the millisecond. That is why, and because a write-ahead log
/// needs shared memory, **all processes that share the file run on one machine**, and the file is
/// on a local disk: never on a network file system, and never on a volume that two virtual machines
/// or containers of two hosts mount. A clock that is set back lengthens backoffs and leases by as
/// much.
///
/// There is no store in memory on SQLite, where every connection would have a database of its own:
/// [`connect`](Self::connect) refuses it, and [`MemoryStore`](crate::MemoryStore) is there for it.
///
/// # One writer at a time
///
/// SQLite lets one connection write and any number read meanwhile. This store's writers queue in
/// the order in which they come, within the process; renewals of leases go past them. Processes
/// look for the file's lock every millisecond, and one that has written for 100 ms without a pause
/// makes one of 4 ms, so that the others get their share. The application's own connections wait as
/// SQLite does, which looks every 100 ms: give them a generous `busy_timeout`. One busy process with
/// many workers does more than several busy ones.
///
/// Whoever holds a transaction and asks for a second one before it ends waits for itself, until
/// [`lock_timeout`](SqliteOptions::lock_timeout): within a transaction, use its own connection.
///
/// A **transactional handler** holds the one write lock from its beginning, whether it writes or
/// not, so it should be over in milliseconds. A scheduler ends it after a quarter of the lease, and
/// of the time that other calls wait, at the latest. Call other services in ordinary handlers.
///
/// Transactions of the application should begin with `BEGIN IMMEDIATE` (`begin_with` of `sqlx`) if
/// they are going to write, and so to raise: one that has read before it writes is refused by SQLite
/// when somebody else has written in between, which
/// [is a conflict](crate::StoreError::is_conflict).
///
/// # Sizing
///
/// Each connection is a thread, most of the time asleep. `max_connections` bounds how many
/// transactions are open or wait for their turn, `session_connections` how many calls of schedulers
/// are under way. Each running scheduler has one more connection, which renews its leases.
///
/// # Files and backups
///
/// Beside `shop.db` there are `shop.db-wal` and `shop.db-shm` while it is open; the three belong
/// together. The log is written back every 1000 pages (4 MB), but grows without limit while a
/// transaction that only reads is left open. Back up with `VACUUM INTO`, or with the tool of SQLite
/// (`sqlite3 shop.db ".backup …"`), never by copying the file alone while a process has it open.
/// Deleted rows leave free pages for new ones; `VACUUM` gives them back, and locks everybody out.
///
/// The application's tables can live in the same file. That is what makes a change and its events
/// one transaction.
#[derive(Clone)]
pub struct SqliteStore {
    pub(super) shared: Arc<Shared>,
}

sql_store!(SqliteStore, SqliteConnection, false);

impl SqliteStore {
    /// Opens a database file, or makes it, and sets it to a write-ahead log, which it keeps.
    ///
    /// The URL is `sqlite:FILE` or `sqlite://FILE`; the file is made if it is not there, unless the
    /// URL ends in `?mode=rw`. The directory must be there, and writable: SQLite keeps files beside
    /// the database.
    ///
    /// Cost: three statements, and a wait of up to [`lock_timeout`](SqliteOptions::lock_timeout)
    /// while others have the file locked. Cancellation safe.
    ///
    /// # Errors
    /// The URL is not one of SQLite, or of a database in memory or for reading only; the file cannot
    /// be opened, or its file system cannot have a write-ahead log; the library is too old; the
    /// an option is not acceptable.
    pub async fn connect(url: &str, options: SqliteOptions) -> Result<Self> {
        let prefix = options.common.check()?;
        let connect = parse(url)?
            .busy_timeout(options.common.lock_timeout)
            .row_buffer_size(ROW_BUFFER)
            .synchronous(SqliteSynchronous::Full);
        let wal = connect.clone().journal_mode(SqliteJournalMode::Wal);
        let first = open(&wal, &options).await?;
        // A file that is gone must not come back empty.
        let connect = connect.create_if_missing(false);
        let pool = |connections| {
            SqlitePoolOptions::new()
                .acquire_timeout(options.common.acquire_timeout)
                .max_connections(connections)
                // It is a thread of this process: there is no network to be cut off from.
                .test_before_acquire(false)
                .connect_lazy_with(connect.clone())
        };
        let transactions = pool(options.common.max_connections);
        let sessions = pool(options.common.session_connections);
        let store = Self::build(transactions, sessions, true, prefix, &options);
        store.check(true).await?;
        // Open until another connection is: the last one to close takes the log away.
        drop(first);
        Ok(store)
    }

    /// A store on the application's own pool, for transactions and sessions alike, with options; those
    /// about connections do not matter. There is no `new` without: what a file must be is looked at here,
    /// which the other stores need not do. The connections and the file are not changed in any way: the pool should set a `journal_mode` of WAL, without
    /// which readers and writers wait for each other, a `busy_timeout` of some seconds, and leave
    /// `synchronous` at FULL. It needs more connections than transactional handlers can run at once.
    ///
    /// Each transaction of the store sets a progress handler on its connection. Commit hooks are not
    /// set, so a handler whose transaction SQLite has ended must not go on: what it writes is committed.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn with_pool(pool: SqlitePool, options: SqliteOptions) -> Result<Self> {
        let prefix = options.common.check()?;
        let store = Self::build(pool.clone(), pool, false, prefix, &options);
        store.check(false).await?;
        Ok(store)
    }

    fn build(
        transactions: SqlitePool,
        sessions: SqlitePool,
        owns_connections: bool,
        prefix: TablePrefix,
        options: &SqliteOptions,
    ) -> Self {
        let dialect = SqliteDialect {
            transactions,
            sessions,
            turns: Turns::default(),
            begins: owns_connections.then(|| Begins::new(options.common.limits())),
            statements: TEXTS.fill(&prefix),
        };
        Self {
            shared: Shared::new(Box::new(dialect), &COMMON, prefix, &options.common),
        }
    }

    /// Refuses what the store cannot work with.
    async fn check(&self, needs_wal: bool) -> Result<()> {
        let texts = TEXTS.fill(&self.shared.prefix);
        let mut connection = self.shared.acquire_unchecked("connect").await?;
        let mut link = connection.open("connect", Needs::OneStatement).await?;
        let answer = async {
            if text(&mut link, &texts.file).await?.is_empty() {
                return Err(in_memory());
            }
            let version = text(&mut link, &texts.version).await?;
            if is_too_old(&version) {
                return Err(StoreError::invalid(
                    format!("version {version} of SQLite"),
                    "is too old",
                    "link SQLite 3.38 or later, or the one of the feature `sqlite`",
                ));
            }
            let mode = text(&mut link, &texts.journal_mode).await?;
            if needs_wal && mode != "wal" {
                return Err(StoreError::invalid(
                    "the database file",
                    format!("cannot have a write-ahead log (its journal mode is {mode})"),
                    "put it on a local disk",
                ));
            }
            Ok(())
        };
        let answer = answer.await;
        link.close(answer).await
    }
}

async fn text(link: &mut Link<'_>, statement: &Statement) -> Result<String> {
    match link.row(statement, args![]).await? {
        Some(row) => Ok(row
            .reader("no table")
            .optional_text("text")?
            .unwrap_or_default()),
        None => Ok(String::new()),
    }
}

/// Opens the file for the first time. Setting it to a write-ahead log takes the whole file, for
/// which SQLite does not wait by itself.
async fn open(connect: &SqliteConnectOptions, options: &SqliteOptions) -> Result<SqliteConnection> {
    let limits = options.common.limits();
    let give_up_at = Instant::now() + limits.lock;
    loop {
        let error = match SqliteConnection::connect_with(connect).await {
            Ok(connection) => return Ok(connection),
            Err(error) => limits.error("connect", error),
        };
        let is_locked = matches!(error, StoreError::TimedOut { .. });
        if is_locked && Instant::now() < give_up_at {
            tokio::time::sleep(REOPEN_PAUSE).await;
            continue;
        }
        return Err(match error {
            StoreError::Unavailable { source, .. } => StoreError::invalid(
                format!("the database file {}", connect.get_filename().display()),
                match source {
                    Some(source) => format!("cannot be opened ({source})"),
                    None => "cannot be opened".to_owned(),
                },
                "check that its directory is there, and that both may be written",
            ),
            error => error,
        });
    }
}

fn parse(url: &str) -> Result<SqliteConnectOptions> {
    const REMEDY: &str = "write sqlite:FILE";
    const PARAMETERS: &str = "leave it out, or write `mode=rw`, `mode=rwc`, `cache=private`, `cache=shared` or `vfs=NAME`";
    check_scheme(url, &["sqlite"], ":", "a file of SQLite", REMEDY)?;
    let options = SqliteConnectOptions::from_str(url)
        .map_err(|error| unreadable(&error, REMEDY, PARAMETERS))?;
    let settings = url.split_once('?').map_or("", |(_, settings)| settings);
    let says = |setting: &str| settings.split('&').any(|one| one == setting);
    let file = options.get_filename();
    // What sqlx makes of `:memory:`.
    let is_memory = file.to_string_lossy().starts_with("file:sqlx-in-memory");
    if is_memory || file.as_os_str().is_empty() || says("mode=memory") {
        return Err(in_memory());
    }
    if says("mode=ro") || settings.contains("immutable=") {
        return Err(StoreError::invalid(
            "the database URL",
            "opens the file for reading only",
            "leave out `mode=ro` and `immutable`: a store writes",
        ));
    }
    Ok(options.create_if_missing(!says("mode=rw")))
}

fn in_memory() -> StoreError {
    StoreError::invalid(
        "the database of the store",
        "is in memory, where every connection of SQLite has one of its own",
        "write sqlite:FILE, or use the in-memory store",
    )
}

fn is_too_old(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    ) < OLDEST_LIBRARY
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("prefix", &self.shared.prefix)
            .finish_non_exhaustive()
    }
}
