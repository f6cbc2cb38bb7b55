//! A process that stands still in the middle of a call keeps no lock for ever.

/// The tests, for a fresh store, the URL of its server, its kind, and the connections that its handlers
/// get.
macro_rules! frozen_tests {
    ($fresh:expr, $url:expr, $store:ty, $options:ty, $connection:ty) => {
        use std::{
            sync::Arc,
            time::{Duration, Instant},
        };

        use sqlx::Executor as _;
        use tidings::{
            ConcurrentScheduler, ConfigMap, Context, Event, EventPattern, Handler, HandlerResult,
            Priority, Registration, RequestState, Scheduler, sqlx,
            store::{FanOut, RequestFilter, Session, Storer},
        };

        use crate::proxy::{Cut, Proxy};

        const LEASE: Duration = Duration::from_secs(2);

        /// What a handler says, and nobody else.
        const HANDLED: &str = "SELECT 'handled'";

        async fn reads(
            event: Arc<Event>,
            context: Context,
            connection: &mut $connection,
        ) -> HandlerResult {
            if &*event.name == "raises" {
                context.raise(Event::new("raised", &()).unwrap());
            }
            connection.execute(HANDLED).await?;
            Ok(())
        }

        fn scheduler(store: $store) -> ConcurrentScheduler {
            let handler = Handler::transactional("h", reads).on("a").on("raises");
            let config = ConfigMap::builder().handler(handler).build().unwrap();
            ConcurrentScheduler::builder(Arc::new(store), config)
                .lease(LEASE)
                .build()
                .unwrap()
        }

        async fn raise(session: &mut dyn Session, name: &str) {
            let event = Event::new(name, &()).unwrap();
            session.events().raise(&[event]).await.unwrap();
        }

        async fn assert_fans_out_soon(store: &$store, mut session: Box<dyn Session>) {
            let fan_out = async {
                while session.events().fan_out(&FanOut::due(1)).await.is_err() {
                    session = store.session().await.unwrap();
                }
            };
            tokio::time::timeout(Duration::from_secs(7), fan_out)
                .await
                .expect("the lock is free again");
        }

        async fn until_cut(proxy: &Proxy) {
            let cut = async {
                while !proxy.has_cut() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            let cut = tokio::time::timeout(Duration::from_secs(30), cut).await;
            cut.expect("what is to be cut off comes");
        }

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
            raise(&mut *session, "a").await;
            assert_fans_out_soon(&fresh.store, session).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_process_that_stands_still_while_it_starts_holds_up_no_fan_out_for_long() {
            let fresh = $fresh;
            let (proxy, through) = Proxy::of(&$url).await;
            let options = <$options>::new()
                .table_prefix(&*fresh.prefix)
                .statement_timeout(Duration::from_secs(1));
            let store = <$store>::connect(&through, options).await.unwrap();
            proxy.cut(b"INSERT INTO", Cut::Freeze);
            let starting = tokio::spawn(async move { scheduler(store).start().await });
            let mut session = fresh.store.session().await.unwrap();
            raise(&mut *session, "a").await;
            until_cut(&proxy).await;
            assert_fans_out_soon(&fresh.store, session).await;
            starting.abort();
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_commit_that_never_arrives_holds_up_no_rescue() {
            for name in ["a", "raises"] {
                let fresh = $fresh;
                let (proxy, through) = Proxy::of(&$url).await;
                let options = <$options>::new()
                    .table_prefix(&*fresh.prefix)
                    .statement_timeout(Duration::from_secs(1));
                let store = <$store>::connect(&through, options).await.unwrap();
                let freezes = scheduler(store);
                freezes.start().await.unwrap();
                proxy.cut_after(HANDLED.as_bytes(), b"COMMIT", Cut::Freeze);
                let mut session = fresh.store.session().await.unwrap();
                raise(&mut *session, name).await;
                until_cut(&proxy).await;
                let frozen_at = Instant::now();
                let rescues = scheduler(fresh.store.clone());
                rescues.start().await.unwrap();
                let completed = RequestFilter::default().in_states([RequestState::Completed]);
                while session.handler_requests().count(&completed).await.unwrap() == 0 {
                    let waited = frozen_at.elapsed();
                    assert!(
                        waited < LEASE + Duration::from_secs(5),
                        "{name}: {waited:?}"
                    );
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                rescues.shutdown(Duration::from_secs(3)).await;
                std::mem::forget(freezes);
            }
        }

        /// What waits in a transaction of its own is not one that stands still.
        #[tokio::test]
        async fn a_handler_may_wait_longer_than_a_statement_may_take() {
            let fresh = $fresh;
            let options = <$options>::new()
                .table_prefix(&*fresh.prefix)
                .max_connections(1)
                .statement_timeout(Duration::from_secs(1));
            let store = <$store>::connect(&$url, options).await.unwrap();
            // Also after one in this connection that was bounded.
            for _ in 0..2 {
                let mut tx = store.begin().await.unwrap();
                let connection = tx.connection().downcast::<$connection>().unwrap();
                connection.execute(HANDLED).await.unwrap();
                // Longer than the statement time-out, which is the least that counts.
                tokio::time::sleep(Duration::from_millis(2500)).await;
                connection.execute(HANDLED).await.unwrap();
                let pattern = EventPattern::parse("*").unwrap();
                let handler = Registration::new(pattern, "h".into(), Priority::default(), 5);
                tx.registrations().register(&[handler]).await.unwrap();
                tx.commit().await.unwrap();
            }
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
        tidings::PostgresStore,
        tidings::PostgresOptions,
        sqlx::PgConnection
    );
}

#[cfg(feature = "mysql")]
mod mysql {
    use crate::{fresh::mysql::MySql, server::mysql_url};

    super::frozen_tests!(
        MySql::new().await,
        mysql_url(),
        tidings::MySqlStore,
        tidings::MySqlOptions,
        sqlx::MySqlConnection
    );
}
