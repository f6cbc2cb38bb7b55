//! A store of its own for each test: its tables have a prefix that nothing else has.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tidings::{conformance::Target, store::Storer};

/// A prefix that no other test uses, in this process or another one.
pub(crate) fn prefix() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = std::time::SystemTime::now();
    let nanos = now
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_nanos()
        & 0xff_ffff_ffff;
    format!("t{:x}_{nanos:x}_{count:x}_", std::process::id())
}

#[cfg(feature = "postgres")]
pub(crate) mod postgres {
    use sqlx::Executor as _;
    use tidings::{PostgresOptions, PostgresStore, sqlx};

    use super::*;
    use crate::server::postgres_url as url;

    /// A migrated store, and a pool beside it.
    pub(crate) struct Postgres {
        pub(crate) store: PostgresStore,
        pub(crate) pool: sqlx::PgPool,
        pub(crate) prefix: String,
    }

    impl Postgres {
        pub(crate) async fn new() -> Self {
            Self::with(PostgresOptions::new().max_connections(10)).await
        }

        pub(crate) async fn with(options: PostgresOptions) -> Self {
            let prefix = prefix();
            let options = options.table_prefix(&*prefix);
            let store = PostgresStore::connect(&url(), options).await.unwrap();
            store.migrate().await.unwrap();
            let pool = sqlx::PgPool::connect_lazy(&url()).unwrap();
            Self {
                store,
                pool,
                prefix,
            }
        }

        pub(crate) async fn run(&self, sql: &str) {
            let sql = sql.replace("{p}", &self.prefix);
            self.pool
                .execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql)))
                .await
                .unwrap();
        }
    }

    impl Postgres {
        /// The number that a query answers.
        pub(crate) async fn count(&self, sql: &str) -> u64 {
            let sql = sql.replace("{p}", &self.prefix);
            let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
                .fetch_one(&self.pool)
                .await
                .unwrap();
            count.cast_unsigned()
        }
    }

    #[async_trait::async_trait]
    impl Target for Postgres {
        fn store(&self) -> Arc<dyn Storer> {
            Arc::new(self.store.clone())
        }

        async fn pass_time(&self, time: Duration) {
            let micros = time.as_micros();
            self.run(
                &"UPDATE {p}waiting_events SET due_at = due_at - $d; \
                 UPDATE {p}unwanted_events SET processed_at = processed_at - $d; \
                 UPDATE {p}registrations SET last_seen_at = last_seen_at - $d; \
                 UPDATE {p}handler_requests SET created_at = created_at - $d, \
                   backoff_until = backoff_until - $d, last_execution_at = last_execution_at - $d, \
                   completed_at = completed_at - $d, canceled_at = canceled_at - $d, \
                   dead_at = dead_at - $d, lease_until = lease_until - $d; \
                 UPDATE {p}leases SET lease_until = lease_until - $d"
                    .replace("$d", &format!("interval '{micros} microseconds'")),
            )
            .await;
        }
    }
}

#[cfg(any(feature = "sqlite", feature = "sqlite-unbundled"))]
pub(crate) mod sqlite {
    use sqlx::Executor as _;
    use tempfile::TempDir;
    use tidings::{SqliteOptions, SqliteStore, sqlx};

    use super::*;

    /// A migrated store in a file of its own, and a pool beside it.
    pub(crate) struct Sqlite {
        pub(crate) store: SqliteStore,
        pub(crate) pool: sqlx::SqlitePool,
        pub(crate) url: String,
        pub(crate) prefix: String,
        /// Removes the file in the end.
        _directory: TempDir,
    }

    impl Sqlite {
        pub(crate) async fn new() -> Self {
            Self::with(SqliteOptions::new()).await
        }

        pub(crate) async fn with(options: SqliteOptions) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let url = format!("sqlite:{}/test.db", directory.path().display());
            let store = SqliteStore::connect(&url, options).await.unwrap();
            store.migrate().await.unwrap();
            let pool = sqlx::SqlitePool::connect_lazy(&url).unwrap();
            Self {
                store,
                pool,
                url,
                prefix: "tidings_".to_owned(),
                _directory: directory,
            }
        }

        pub(crate) async fn run(&self, sql: &str) {
            let sql = sqlx::AssertSqlSafe(sql.replace("{p}", &self.prefix));
            self.pool.execute(sqlx::raw_sql(sql)).await.unwrap();
        }

        /// The number that a query answers.
        pub(crate) async fn count(&self, sql: &str) -> u64 {
            let sql = sql.replace("{p}", &self.prefix);
            let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
                .fetch_one(&self.pool)
                .await
                .unwrap();
            count.cast_unsigned()
        }
    }

    #[async_trait::async_trait]
    impl Target for Sqlite {
        fn store(&self) -> Arc<dyn Storer> {
            Arc::new(self.store.clone())
        }

        async fn pass_time(&self, time: Duration) {
            let micros = time.as_micros().to_string();
            self.run(
                &"BEGIN IMMEDIATE; \
                 UPDATE tidings_waiting_events SET due_at = due_at - $d; \
                 UPDATE tidings_unwanted_events SET processed_at = processed_at - $d; \
                 UPDATE tidings_registrations SET last_seen_at = last_seen_at - $d; \
                 UPDATE tidings_handler_requests SET created_at = created_at - $d, \
                   backoff_until = backoff_until - $d, last_execution_at = last_execution_at - $d, \
                   completed_at = completed_at - $d, canceled_at = canceled_at - $d, \
                   dead_at = dead_at - $d, lease_until = lease_until - $d; \
                 COMMIT"
                    .replace("$d", &micros),
            )
            .await;
        }
    }
}

#[cfg(feature = "mysql")]
pub(crate) mod mysql {
    use sqlx::Executor as _;
    use tidings::{MySqlOptions, MySqlStore, sqlx};

    use super::*;
    use crate::server::mysql_url as url;

    /// A migrated store, and a pool beside it.
    pub(crate) struct MySql {
        pub(crate) store: MySqlStore,
        pub(crate) pool: sqlx::MySqlPool,
        pub(crate) prefix: String,
    }

    impl MySql {
        pub(crate) async fn new() -> Self {
            Self::with(MySqlOptions::new().max_connections(10)).await
        }

        pub(crate) async fn with(options: MySqlOptions) -> Self {
            let prefix = prefix();
            let options = options.table_prefix(&*prefix);
            let store = MySqlStore::connect(&url(), options).await.unwrap();
            store.migrate().await.unwrap();
            let pool = sqlx::MySqlPool::connect_lazy(&url()).unwrap();
            Self {
                store,
                pool,
                prefix,
            }
        }

        pub(crate) async fn run(&self, sql: &str) {
            let sql = sql.replace("{p}", &self.prefix);
            self.pool
                .execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql)))
                .await
                .unwrap();
        }
    }

    impl MySql {
        /// The number that a query answers.
        pub(crate) async fn count(&self, sql: &str) -> u64 {
            let sql = sql.replace("{p}", &self.prefix);
            let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
                .fetch_one(&self.pool)
                .await
                .unwrap();
            count.cast_unsigned()
        }
    }

    #[async_trait::async_trait]
    impl Target for MySql {
        fn store(&self) -> Arc<dyn Storer> {
            Arc::new(self.store.clone())
        }

        async fn pass_time(&self, time: Duration) {
            self.run(
                &"UPDATE {p}waiting_events SET due_at = due_at - $d; \
                 UPDATE {p}unwanted_events SET processed_at = processed_at - $d; \
                 UPDATE {p}registrations SET last_seen_at = last_seen_at - $d; \
                 UPDATE {p}handler_requests SET created_at = created_at - $d, \
                   backoff_until = backoff_until - $d, last_execution_at = last_execution_at - $d, \
                   completed_at = completed_at - $d, canceled_at = canceled_at - $d, \
                   dead_at = dead_at - $d, lease_until = lease_until - $d"
                    .replace("$d", &time.as_micros().to_string()),
            )
            .await;
        }
    }
}
