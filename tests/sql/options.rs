//! Options that no store can work with are refused, before anything is opened.

use std::time::Duration;

use tidings::StoreError;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// All options of a store that are out of range, with their names and the remedy.
macro_rules! out_of_range {
    ($options:ty) => {{
        let mut all = Vec::new();
        for connections in [0, 10_001, u32::MAX] {
            let remedy = "let it be 1 to 10000";
            let options = <$options>::new();
            all.extend([
                (
                    "max_connections",
                    options.clone().max_connections(connections),
                    remedy,
                ),
                (
                    "session_connections",
                    options.session_connections(connections),
                    remedy,
                ),
            ]);
        }
        let too_long = DAY + Duration::from_nanos(1);
        let too_short = Duration::from_micros(999);
        for limit in [Duration::ZERO, too_short, too_long, Duration::MAX] {
            let remedy = "let it be 1 ms to 24 h";
            let options = <$options>::new();
            all.extend([
                (
                    "acquire_timeout",
                    options.clone().acquire_timeout(limit),
                    remedy,
                ),
                (
                    "statement_timeout",
                    options.clone().statement_timeout(limit),
                    remedy,
                ),
                ("lock_timeout", options.lock_timeout(limit), remedy),
            ]);
        }
        all
    }};
}

/// The options of a store with everything as long, or as many, as it may be.
macro_rules! largest {
    ($options:ty) => {
        <$options>::new()
            .max_connections(10_000)
            .session_connections(10_000)
            .acquire_timeout(DAY)
            .statement_timeout(DAY)
            .lock_timeout(DAY)
            .table_prefix(crate::fresh::prefix())
    };
}

#[track_caller]
fn check(error: &StoreError, name: &str, remedy: &str) {
    assert!(matches!(error, StoreError::Invalid { .. }), "{error:?}");
    let text = error.to_string();
    let begin = format!("the store's option `{name}` is out of range (");
    assert!(text.starts_with(&begin) && text.ends_with(remedy), "{text}");
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
macro_rules! tests_on_a_server {
    ($store:ty, $options:ty, $pool:ty, $nowhere:literal, $shared:expr) => {
        use super::*;

        #[tokio::test]
        async fn options_out_of_range_are_refused_and_none_panics() {
            let pool = <$pool>::connect_lazy($nowhere).unwrap();
            for (name, options, remedy) in out_of_range!($options) {
                let error = <$store>::with_pool(pool.clone(), options.clone()).unwrap_err();
                check(&error, name, remedy);
                // Nobody listens there: what is opened before is another error.
                let error = <$store>::connect($nowhere, options).await.unwrap_err();
                check(&error, name, remedy);
            }
        }

        #[tokio::test]
        async fn the_largest_options_work() {
            let store = <$store>::connect(&$shared, largest!($options)).await;
            let store = store.unwrap();
            store.migrate().await.unwrap();
            let transaction = tidings::store::Storer::begin(&store).await.unwrap();
            transaction.commit().await.unwrap();
        }
    };
}

#[cfg(feature = "postgres")]
mod postgres {
    tests_on_a_server!(
        tidings::PostgresStore,
        tidings::PostgresOptions,
        sqlx::PgPool,
        "postgres://a@127.0.0.1:1/x",
        crate::server::postgres_url()
    );
}

#[cfg(feature = "mysql")]
mod mysql {
    tests_on_a_server!(
        tidings::MySqlStore,
        tidings::MySqlOptions,
        sqlx::MySqlPool,
        "mysql://a@127.0.0.1:1/x",
        crate::server::mysql_url()
    );
}

#[cfg(any(feature = "sqlite", feature = "sqlite-unbundled"))]
mod sqlite {
    use tidings::{SqliteOptions, SqliteStore, sqlx::SqlitePool};

    use super::*;

    #[tokio::test]
    async fn options_out_of_range_are_refused_and_none_panics() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("shop.db");
        let url = format!("sqlite:{}", file.display());
        let pool = SqlitePool::connect_lazy(&url).unwrap();
        for (name, options, remedy) in out_of_range!(SqliteOptions) {
            let answer = SqliteStore::with_pool(pool.clone(), options.clone()).await;
            check(&answer.unwrap_err(), name, remedy);
            let error = SqliteStore::connect(&url, options).await.unwrap_err();
            check(&error, name, remedy);
            assert!(!file.exists());
        }
    }

    #[tokio::test]
    async fn the_largest_options_work() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", directory.path().join("shop.db").display());
        let store = SqliteStore::connect(&url, largest!(SqliteOptions))
            .await
            .unwrap();
        store.migrate().await.unwrap();
        let transaction = tidings::store::Storer::begin(&store).await.unwrap();
        transaction.commit().await.unwrap();
    }

    #[tokio::test]
    async fn an_unknown_parameter_of_the_url_is_told() {
        for (parameter, reason) in [
            ("mode=secret", "an unknown `mode` after the ?; leave it out"),
            ("secret=1", "an unknown parameter after the ?; leave it out"),
        ] {
            let url = format!("sqlite:shop.db?{parameter}");
            let error = SqliteStore::connect(&url, SqliteOptions::new()).await;
            let text = error.unwrap_err().to_string();
            assert!(text.contains(reason) && !text.contains("secret"), "{text}");
        }
    }
}
