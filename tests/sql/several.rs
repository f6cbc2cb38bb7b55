//! Several processes on one database, as far as it can tell: each has a store and a scheduler of
//! its own.

/// The tests, for a fresh store and a way to open its tables once more.
macro_rules! several_tests {
    ($fresh:expr, $again:expr) => {
        use std::{
            collections::HashMap,
            sync::{Arc, Mutex},
            time::Duration,
        };

        use tidings::{
            ConcurrentScheduler, ConfigMap, Context, Event, EventId, Handler, HandlerResult,
            Scheduler,
            store::{EventFilter, Page, RequestFilter, Storer},
        };

        /// How often each handler ran for each event.
        type Runs = Arc<Mutex<HashMap<(&'static str, EventId), u32>>>;

        async fn note(
            (handler, runs): (&'static str, Runs),
            event: Arc<Event>,
            _: Context,
        ) -> HandlerResult {
            *runs.lock().unwrap().entry((handler, event.id)).or_default() += 1;
            Ok(())
        }

        /// A program that has these handlers, running.
        async fn program(
            store: Arc<dyn Storer>,
            handlers: &[&'static str],
            runs: &Runs,
        ) -> ConcurrentScheduler {
            let mut config = ConfigMap::builder();
            for &handler in handlers {
                let state = (handler, runs.clone());
                config = config.handler(Handler::with_state(handler, state, note).on("*"));
            }
            let scheduler = ConcurrentScheduler::builder(store, config.build().unwrap())
                .batch_size(20)
                .build()
                .unwrap();
            scheduler.start().await.unwrap();
            scheduler
        }

        /// Raises so many events here and there, waits until all is done, and checks that each of
        /// these handlers ran once for each of them.
        async fn assert_each_once(
            stores: &[Arc<dyn Storer>],
            runs: &Runs,
            handlers: &[&'static str],
        ) {
            const EVENTS: usize = 300;
            for number in 0..EVENTS / 10 {
                let events: Vec<_> = (0..10).map(|_| Event::new("test", &()).unwrap()).collect();
                let store = &stores[number % stores.len()];
                let mut session = store.session().await.unwrap();
                session.events().raise(&events).await.unwrap();
            }
            let mut session = stores[0].session().await.unwrap();
            let done = async {
                loop {
                    let unprocessed = session.events().count_unprocessed().await.unwrap();
                    let open = session.handler_requests().count_unexecuted().await.unwrap();
                    if unprocessed + open == 0 {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            let limit = Duration::from_secs(40);
            tokio::time::timeout(limit, done)
                .await
                .expect("all is done");
            let requests = session
                .handler_requests()
                .list(&RequestFilter::default(), &Page::first(10_000))
                .await
                .unwrap();
            assert_eq!(requests.len(), EVENTS * handlers.len());
            for request in &requests {
                assert!(request.completed_at.is_some(), "{request:?}");
                assert_eq!((request.errors, request.rescues), (0, 0), "{request:?}");
            }
            let filter = EventFilter::default();
            assert_eq!(
                session.events().count(&filter).await.unwrap(),
                EVENTS as u64
            );
            let runs = runs.lock().unwrap();
            assert_eq!(runs.len(), EVENTS * handlers.len());
            assert!(runs.values().all(|&runs| runs == 1), "{runs:?}");
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn an_old_and_a_new_version_side_by_side_lose_no_request() {
            let fresh = $fresh;
            let old: Arc<dyn Storer> = Arc::new(fresh.store.clone());
            let new: Arc<dyn Storer> = Arc::new($again(&fresh).await);
            let runs = Runs::default();
            let of_old = program(old.clone(), &["kept", "dropped"], &runs).await;
            let of_new = program(new.clone(), &["kept", "added"], &runs).await;
            assert_each_once(&[old, new], &runs, &["kept", "dropped", "added"]).await;
            of_old.shutdown(Duration::from_secs(5)).await;
            of_new.shutdown(Duration::from_secs(5)).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn handlers_that_are_split_over_programs_get_every_event_once() {
            let fresh = $fresh;
            let mail: Arc<dyn Storer> = Arc::new(fresh.store.clone());
            let stock: Arc<dyn Storer> = Arc::new($again(&fresh).await);
            let runs = Runs::default();
            let programs = [
                program(mail.clone(), &["mail"], &runs).await,
                program(stock.clone(), &["stock"], &runs).await,
                program(stock.clone(), &["stock"], &runs).await,
            ];
            assert_each_once(&[mail, stock], &runs, &["mail", "stock"]).await;
            for program in programs {
                program.shutdown(Duration::from_secs(5)).await;
            }
        }
    };
}

pub(crate) use several_tests;

#[cfg(feature = "postgres")]
mod postgres {
    use tidings::{PostgresOptions, PostgresStore};

    use crate::{fresh::postgres::Postgres, server::postgres_url};

    async fn again(fresh: &Postgres) -> PostgresStore {
        let options = PostgresOptions::new().table_prefix(&*fresh.prefix);
        PostgresStore::connect(&postgres_url(), options)
            .await
            .unwrap()
    }

    super::several_tests!(Postgres::new().await, again);
}

#[cfg(any(feature = "sqlite", feature = "sqlite-unbundled"))]
mod sqlite {
    use tidings::{SqliteOptions, SqliteStore};

    use crate::fresh::sqlite::Sqlite;

    async fn again(fresh: &Sqlite) -> SqliteStore {
        SqliteStore::connect(&fresh.url, SqliteOptions::new())
            .await
            .unwrap()
    }

    super::several_tests!(Sqlite::new().await, again);
}

#[cfg(feature = "mysql")]
mod mysql {
    use tidings::{MySqlOptions, MySqlStore};

    use crate::{fresh::mysql::MySql, server::mysql_url};

    async fn again(fresh: &MySql) -> MySqlStore {
        let options = MySqlOptions::new().table_prefix(&*fresh.prefix);
        MySqlStore::connect(&mysql_url(), options).await.unwrap()
    }

    super::several_tests!(MySql::new().await, again);
}
