//! The store on MySQL and MariaDB, as applications make it.

use std::{fmt, sync::Arc};

use sqlx::{Executor as _, MySqlPool, mysql::MySqlConnectOptions};

use super::{
    MySqlOptions,
    dialect::MySqlDialect,
    statements::{COMMON, TEXTS},
};
use crate::{
    error::{Result, StoreError},
    sql::{
        options::Options,
        pool,
        prefix::TablePrefix,
        shared::Shared,
        store::sql_store,
        url::{check_scheme, unreadable},
    },
};

/// A store of events and handler requests on MySQL 8.0 or later, or MariaDB 10.6 or later.
///
/// Clones share their connections.
///
/// # Transactions
/// The store's own transactions are READ COMMITTED: InnoDB then locks the rows that are meant and
/// no gaps between them. An application's own transactions, in which it raises events, can have any
/// isolation level. Raised through a connection that is in no transaction, events are stored in one
/// of the store's own, on a connection of its own.
///
/// After a deadlock the server has rolled back the whole transaction, and what follows would be
/// committed statement by statement. A transaction of the store notices that, also when a handler
/// has swallowed the error: nothing more is written, the handler is run again. A transaction of the
/// application does not; it must end when a statement in it fails with a deadlock.
///
/// # Settings of the server that matter
/// - `innodb_flush_log_at_trx_commit = 1` and `sync_binlog = 1` (their defaults): with other values
///   a crash of the machine loses the last commits, raised events and settlements among them.
/// - `binlog_format = ROW` or `MIXED`, if there is a binary log: READ COMMITTED needs it.
/// - `max_allowed_packet`: calls are cut into statements of a few MiB; an event whose data is longer
///   must fit into one packet. 16 MiB, MariaDB's default, are enough for the default limit.
/// - `innodb_deadlock_detect = ON` (the default): without it a deadlock lasts for the lock time-out.
///
/// # What it does not promise
/// - There are no notifications: events that other processes raise are found by polling.
/// - The lock time-out counts whole seconds. On an application's pool it is the one of its
///   connections (50 s unless they say otherwise), and the statement time-out ends the wait first.
/// - The character set of an application's connections has to be utf8mb4, and autocommit on, as
///   `sqlx` has them unless told otherwise.
/// - Clusters with several writers (Galera, Group Replication) are not supported: locks are not
///   shared between their nodes.
#[derive(Clone)]
pub struct MySqlStore {
    pub(super) shared: Arc<Shared>,
}

sql_store!(MySqlStore, sqlx::MySqlConnection, true);

impl MySqlStore {
    /// Connects to a database. It opens, when they are needed, up to
    /// [`max_connections`](MySqlOptions::max_connections) for transactions,
    /// [`session_connections`](MySqlOptions::session_connections) for the calls of schedulers, and
    /// for each running scheduler one that renews leases.
    ///
    /// Its connections, those of transactional handlers among them, are READ COMMITTED, have a
    /// strict `sql_mode`, and the store's lock time-out.
    ///
    /// # Errors
    /// The URL is not one of MySQL or MariaDB; the server cannot be reached, for which it is tried
    /// for [`acquire_timeout`](MySqlOptions::acquire_timeout), or does not know the database or
    /// admit the user; an option is not acceptable.
    pub async fn connect(url: &str, options: MySqlOptions) -> Result<Self> {
        let prefix = options.common.check()?;
        let connect = parse(url)?;
        let settings = settings(&options.common);
        // What a handler writes after an error that has ended its transaction is part of another one,
        // which nobody commits.
        let lasting: Arc<str> = format!("{settings}, autocommit = 0").into();
        // These are never lent. A process that stands still in the middle of a call, or whose
        // machine is gone, keeps no lock that others need; MySQL has nothing like it. And a statement
        // that was given up here does not go on there, nor wait for as long as a table is changed.
        let idle = options.common.statement_timeout.as_secs().max(1);
        let end = idle + 1;
        let own: Arc<str> = format!(
            "{settings}, autocommit = 1, SESSION lock_wait_timeout = {end} \
             /*M!100300 , SESSION idle_transaction_timeout = {idle}, SESSION max_statement_time = {end} */ \
             /*!80000 , SESSION max_execution_time = {end}000 */"
        )
        .into();
        let set_up = |connections, settings: &Arc<str>| {
            let settings = Arc::clone(settings);
            pool::pool::<sqlx::MySql>(&options.common, connections)
                .after_connect(move |connection, _| {
                    let settings = sqlx::AssertSqlSafe(Arc::clone(&settings));
                    Box::pin(async move {
                        connection.execute(sqlx::raw_sql(settings)).await?;
                        Ok(())
                    })
                })
                .connect_lazy_with(connect.clone())
        };
        let dialect = MySqlDialect {
            transactions: set_up(options.common.max_connections, &lasting),
            sessions: set_up(options.common.session_connections, &own),
            settings: Some(own),
            statements: TEXTS.fill(&prefix),
        };
        let store = Self::build(dialect, prefix, &options);
        store.shared.check_server().await?;
        Ok(store)
    }

    /// A store on the application's own pool, for transactions and sessions alike, with default
    /// options. Its connections are not changed in any way: each transaction of the store says its
    /// isolation level itself, in the same round trip, and asks for the number of its connection,
    /// which costs one more than [`connect`](Self::connect) does. It needs more connections than
    /// transactional handlers can run at once.
    #[must_use]
    pub fn new(pool: MySqlPool) -> Self {
        Self::on_pool(pool, TablePrefix::default(), &MySqlOptions::default())
    }

    /// As [`new`](Self::new), with options; those about connections and the lock time-out do not
    /// matter.
    ///
    /// # Errors
    /// An option is not acceptable.
    pub fn with_pool(pool: MySqlPool, options: MySqlOptions) -> Result<Self> {
        let prefix = options.common.check()?;
        Ok(Self::on_pool(pool, prefix, &options))
    }

    fn on_pool(pool: MySqlPool, prefix: TablePrefix, options: &MySqlOptions) -> Self {
        let dialect = MySqlDialect {
            transactions: pool.clone(),
            sessions: pool,
            settings: None,
            statements: TEXTS.fill(&prefix),
        };
        Self::build(dialect, prefix, options)
    }

    fn build(dialect: MySqlDialect, prefix: TablePrefix, options: &MySqlOptions) -> Self {
        Self {
            shared: Shared::new(Box::new(dialect), &COMMON, prefix, &options.common),
        }
    }
}

fn parse(url: &str) -> Result<MySqlConnectOptions> {
    const REMEDY: &str = "write mysql://user:password@host:port/database, with %XX for what is special in user and password";
    const PARAMETERS: &str = "let `ssl-mode` be DISABLED, PREFERRED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY, and `statement-cache-capacity` a number";
    check_scheme(
        url,
        &["mysql", "mariadb"],
        "://",
        "MySQL or MariaDB",
        REMEDY,
    )?;
    let options: MySqlConnectOptions = url
        .parse()
        .map_err(|error| unreadable(&error, REMEDY, PARAMETERS))?;
    // The server would refuse each statement instead.
    if options.get_database().is_none() {
        return Err(StoreError::invalid(
            "the database URL",
            "names no database",
            "append /NAME",
        ));
    }
    Ok(options)
}

/// What the store's own connections are told when they are opened.
fn settings(options: &Options) -> String {
    // The server counts in whole seconds; 0 would be an error at once.
    let lock_timeout = options.lock_timeout.as_millis().div_ceil(1000).max(1);
    format!(
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
         SET SESSION innodb_lock_wait_timeout = {lock_timeout}, \
         sql_mode = CONCAT(@@sql_mode, ',STRICT_TRANS_TABLES')"
    )
}

impl fmt::Debug for MySqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MySqlStore")
            .field("prefix", &self.shared.prefix)
            .finish_non_exhaustive()
    }
}
