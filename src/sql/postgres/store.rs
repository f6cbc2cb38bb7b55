//! The store on PostgreSQL, as applications make it.

use std::{fmt, sync::Arc};

use sqlx::{
    Executor as _, PgPool, Postgres,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{
    PostgresOptions,
    dialect::{Begins, PINS, PostgresDialect},
    leases::LeasedBatches,
    listener::TestChannel,
    notifier::{Notifier, Texts},
    queue::Queue,
    statements::{COMMON, TEXTS},
};
use crate::{
    error::Result,
    sql::{
        pool,
        shared::Shared,
        store::sql_store,
        url::{check_scheme, unreadable},
        warm_pool::WarmPool,
    },
};

/// A store of events and handler requests on PostgreSQL 14 or later.
///
/// Clones share their connections.
#[derive(Clone)]
pub struct PostgresStore {
    pub(super) shared: Arc<Shared>,
}

sql_store!(PostgresStore, sqlx::PgConnection, true);

impl PostgresStore {
    /// Connects to a database. It opens, when they are needed, up to
    /// [`max_connections`](PostgresOptions::max_connections) for transactions,
    /// [`session_connections`](PostgresOptions::session_connections) for the calls of schedulers,
    /// and for each running scheduler one that renews leases and one that listens.
    ///
    /// # Errors
    /// The URL is not one of PostgreSQL; the server cannot be reached, for which it is tried for
    /// [`acquire_timeout`](PostgresOptions::acquire_timeout), or does not know the database or
    /// admit the user; an option is not acceptable.
    pub async fn connect(url: &str, options: PostgresOptions) -> Result<Self> {
        let prefix = options.common.check()?;
        let mut connect = parse(url)?;
        if options.transaction_pooler {
            // Which poolers refuse to pass on, and which servers from 12 on do not need.
            connect = connect.extra_float_digits(None);
        }
        let transactions = set_up(&options, options.common.max_connections, None)
            .connect_lazy_with(connect.clone());
        let transactions = WarmPool::new(transactions, true);
        let settings = (!options.transaction_pooler).then(|| session_settings(&options));
        let sessions = match &settings {
            Some(settings) => {
                let settings = Some(Arc::clone(settings));
                let pool = set_up(&options, options.common.session_connections, settings);
                WarmPool::new(pool.connect_lazy_with(connect), true)
            }
            None => transactions.clone(),
        };
        let store = Self::build(transactions, sessions, settings, prefix, &options);
        store.shared.check_server().await?;
        Ok(store)
    }

    /// A store on the application's own pool, for transactions and sessions alike, with default
    /// options. Its connections are not changed in any way: plans are pinned within transactions,
    /// which costs two round trips more a call than [`connect`](Self::connect) does. It needs more
    /// connections than transactional handlers can run at once.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        let options = PostgresOptions::default();
        let pool = WarmPool::new(pool, false);
        Self::build(pool.clone(), pool, None, Default::default(), &options)
    }

    /// As [`new`](Self::new), with options; those about connections do not matter.
    ///
    /// # Errors
    /// An option is not acceptable.
    pub fn with_pool(pool: PgPool, options: PostgresOptions) -> Result<Self> {
        let prefix = options.common.check()?;
        let pool = WarmPool::new(pool, false);
        Ok(Self::build(pool.clone(), pool, None, prefix, &options))
    }

    fn build(
        transactions: WarmPool<Postgres>,
        sessions: WarmPool<Postgres>,
        session_settings: Option<Arc<str>>,
        prefix: crate::sql::prefix::TablePrefix,
        options: &PostgresOptions,
    ) -> Self {
        let statements = TEXTS.fill(&prefix);
        let notifier = options.listen.then(|| {
            let texts = Texts {
                raised: statements.notify_raised.sql(),
                ready: statements.notify_ready.sql(),
                both: statements.notify_both.sql(),
            };
            Notifier::new(sessions.clone(), texts, options.common.acquire_timeout)
        });
        let dialect = PostgresDialect {
            begins: Begins::new(options.common.limits(), session_settings.is_some()),
            transactions,
            sessions,
            session_settings,
            has_transaction_pooler: options.transaction_pooler,
            statements,
            notifier,
            test_channel: TestChannel::default(),
            leased: LeasedBatches::default(),
            queue: Queue::default(),
        };
        Self {
            shared: Shared::new(Box::new(dialect), &COMMON, prefix, &options.common),
        }
    }
}

/// How the connections of the store's own calls are set.
fn session_settings(options: &PostgresOptions) -> Arc<str> {
    let lock_timeout = options.common.lock_timeout.as_millis();
    let settings = format!(
        "{PINS}; SET lock_timeout = {lock_timeout}; \
         SET default_transaction_isolation = 'read committed'"
    );
    settings.into()
}

/// A pool whose connections are set up so.
fn set_up(
    options: &PostgresOptions,
    max_connections: u32,
    settings: Option<Arc<str>>,
) -> PgPoolOptions {
    let has_sessions = !options.transaction_pooler;
    pool::pool::<Postgres>(&options.common, max_connections).after_connect(move |connection, _| {
        let settings = settings.clone();
        Box::pin(async move {
            if has_sessions {
                set_up_connection(connection, settings).await?;
            }
            Ok(())
        })
    })
}

/// Sets up a connection that keeps its session.
pub(super) async fn set_up_connection(
    connection: &mut sqlx::PgConnection,
    settings: Option<Arc<str>>,
) -> sqlx::Result<()> {
    // A statement whose client has gone is ended within a second, with the locks that it has. Not
    // every platform can do that, and it is not needed for correctness.
    const NOTICE_LOSS: &str = "SET client_connection_check_interval = '1s'";
    if let Err(error) = connection.execute(sqlx::raw_sql(NOTICE_LOSS)).await {
        tracing::debug!(%error, "the server cannot notice that a client has gone");
    }
    if let Some(settings) = settings {
        let settings = sqlx::AssertSqlSafe(settings);
        connection.execute(sqlx::raw_sql(settings)).await?;
    }
    Ok(())
}

fn parse(url: &str) -> Result<PgConnectOptions> {
    const REMEDY: &str = "write postgres://user:password@host:port/database, with %XX for what is special in user and password";
    const PARAMETERS: &str = "let `sslmode` be disable, allow, prefer, require, verify-ca or verify-full, `port` and `statement-cache-capacity` numbers, and `hostaddr` an IP address";
    check_scheme(
        url,
        &["postgres", "postgresql"],
        "://",
        "PostgreSQL",
        REMEDY,
    )?;
    url.parse()
        .map_err(|error| unreadable(&error, REMEDY, PARAMETERS))
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("prefix", &self.shared.prefix)
            .finish_non_exhaustive()
    }
}
