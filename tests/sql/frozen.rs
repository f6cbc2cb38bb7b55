//! A process that stands still in the middle of a call keeps no lock for ever.

/// The test, for a fresh store, the URL of its server, and its kind.
macro_rules! frozen_tests {
    ($fresh:expr, $url:expr, $store:ty, $options:ty) => {
        use std::time::Duration;

        use tidings::{
            Event, EventPattern, Priority, Registration,
            store::{FanOut, Storer},
        };

        use crate::proxy::{Cut, Proxy};

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_process_that_stands_still_in_a_registration_holds_up_no_fan_out_for_long() {
            let fresh = $fresh;
            let (proxy, through) = Proxy::of(&$url).await;
            let options = <$options>::new()
                .table_prefix(&*fresh.prefix)
                .statement_timeout(Duration::from_secs(1));
            let store = <$store>::connect(&through, options).await.unwrap();
            let mut frozen = store.session().await.unwrap();
            let pattern = EventPattern::parse("*").unwrap();
            let handler = Registration::new(pattern, "h".into(), Priority::default(), 5);
            // It has the lock by then, and this never reaches the server.
            proxy.cut(b"INSERT INTO", Cut::Freeze);
            let standing = tokio::spawn(async move {
                // Longer than its own limit on a statement, which a frozen process does not see.
                let registered = frozen.registrations().register(&[handler]).await;
                assert!(registered.is_err());
                // The connection would be closed here; a frozen process keeps it.
                std::mem::forget(frozen);
            });
            standing.await.unwrap();
            assert!(proxy.has_cut());
            let mut session = fresh.store.session().await.unwrap();
            let event = Event::new("a", &()).unwrap();
            session.events().raise(&[event]).await.unwrap();
            let fan_out = async {
                while session.events().fan_out(&FanOut::due(1)).await.is_err() {
                    session = fresh.store.session().await.unwrap();
                }
            };
            tokio::time::timeout(Duration::from_secs(7), fan_out)
                .await
                .expect("the lock is free again");
        }
    };
}

pub(crate) use frozen_tests;

#[cfg(feature = "postgres")]
mod postgres {
    use crate::{fresh::postgres::Postgres, server::postgres_url};

    super::frozen_tests!(
        Postgres::new().await,
        postgres_url(),
        PostgresStore,
        PostgresOptions
    );

    use std::{sync::Arc, time::Instant};

    use sqlx::Executor as _;
    use tidings::{
        ConcurrentScheduler, ConfigMap, Context, Handler, HandlerResult, PostgresOptions,
        PostgresStore, RequestState, Scheduler, sqlx, store::RequestFilter,
    };

    async fn reads(
        _: Arc<Event>,
        _: Context,
        connection: &mut sqlx::PgConnection,
    ) -> HandlerResult {
        connection.execute("SELECT 1").await?;
        Ok(())
    }

    const LEASE: Duration = Duration::from_secs(2);

    fn scheduler(store: PostgresStore) -> ConcurrentScheduler {
        let handler = Handler::transactional("h", reads).on("*");
        let config = ConfigMap::builder().handler(handler).build().unwrap();
        ConcurrentScheduler::builder(Arc::new(store), config)
            .lease(LEASE)
            .build()
            .unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_process_that_stands_still_while_it_starts_holds_up_no_fan_out_for_long() {
        let fresh = Postgres::new().await;
        let (proxy, through) = Proxy::of(&postgres_url()).await;
        let options = PostgresOptions::new()
            .table_prefix(&*fresh.prefix)
            .statement_timeout(Duration::from_secs(1));
        let store = PostgresStore::connect(&through, options).await.unwrap();
        proxy.cut(b"INSERT INTO", Cut::Freeze);
        let starting = tokio::spawn(async move { scheduler(store).start().await });
        let mut session = fresh.store.session().await.unwrap();
        let event = Event::new("a", &()).unwrap();
        session.events().raise(&[event]).await.unwrap();
        while !proxy.has_cut() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let fan_out = async {
            while session.events().fan_out(&FanOut::due(1)).await.is_err() {
                session = fresh.store.session().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(7), fan_out)
            .await
            .expect("the lock is free again");
        starting.abort();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_commit_that_never_arrives_holds_up_no_rescue() {
        let fresh = Postgres::new().await;
        let (proxy, through) = Proxy::of(&postgres_url()).await;
        let options = PostgresOptions::new()
            .table_prefix(&*fresh.prefix)
            .statement_timeout(Duration::from_secs(1));
        let store = PostgresStore::connect(&through, options).await.unwrap();
        let freezes = scheduler(store);
        freezes.start().await.unwrap();
        proxy.cut_after(b"SELECT 1", b"COMMIT", Cut::Freeze);
        let mut session = fresh.store.session().await.unwrap();
        let event = Event::new("a", &()).unwrap();
        session.events().raise(&[event]).await.unwrap();
        while !proxy.has_cut() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let frozen_at = Instant::now();
        let rescues = scheduler(fresh.store.clone());
        rescues.start().await.unwrap();
        let completed = RequestFilter::default().in_states([RequestState::Completed]);
        while session.handler_requests().count(&completed).await.unwrap() == 0 {
            let waited = frozen_at.elapsed();
            assert!(waited < LEASE + Duration::from_secs(5), "{waited:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        rescues.shutdown(Duration::from_secs(3)).await;
        std::mem::forget(freezes);
    }
}

#[cfg(feature = "mysql")]
mod mysql {
    use crate::{fresh::mysql::MySql, server::mysql_url};

    super::frozen_tests!(
        MySql::new().await,
        mysql_url(),
        tidings::MySqlStore,
        tidings::MySqlOptions
    );
}
