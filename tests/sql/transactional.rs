//! Transactional handlers on every SQL store: what they write commits with their settlement, or not
//! at all.

/// The tests, for a fresh store with `store`, `run(sql)` and `count(sql)`, its connection, and a
/// statement that takes a minute.
macro_rules! transactional_tests {
    ($fresh:expr, $connection:ty, $slow:literal) => {
        use std::{
            sync::{
                Arc,
                atomic::{AtomicU32, Ordering},
            },
            time::Duration,
        };

        use sqlx::{Connection as _, Executor as _};
        use tidings::{
            Backoff, ConcurrentScheduler, ConfigMap, Context, Event, Handler, HandlerError,
            HandlerRequest, HandlerRequestId, HandlerResult, Raiser, RequestState, Scheduler, sqlx,
            store::{EventFilter, RequestFilter, Storer},
        };

        type Connection = $connection;

        #[derive(Clone)]
        struct State {
            store: Arc<dyn Storer>,
            raiser: Raiser,
            prefix: String,
            runs: Arc<AtomicU32>,
        }

        async fn run(connection: &mut Connection, sql: String) -> Result<(), sqlx::Error> {
            connection.execute(sqlx::AssertSqlSafe(sql)).await?;
            Ok(())
        }

        /// Writes a row with a plain INSERT and raises an event, and another one through its context, then
        /// does what the event says.
        async fn write(
            state: State,
            event: Arc<Event>,
            context: Context,
            connection: &mut Connection,
        ) -> HandlerResult {
            context.raise(Event::new("row.raised", &())?);
            let number = state.runs.fetch_add(1, Ordering::SeqCst);
            let insert = format!("INSERT INTO {}ledger VALUES ('{}')", state.prefix, event.id);
            run(connection, insert).await?;
            let consequence = Event::new("row.written", &()).unwrap();
            state.raiser.raise(connection, consequence).await?;
            match (&*event.name, number) {
                ("test.error", 0) => Err(HandlerError::new("once")),
                ("test.panic", 0) => panic!("once"),
                ("test.snooze", 0) => Err(HandlerError::snooze(Duration::from_millis(10))),
                ("test.slow", 0) => Ok(run(connection, $slow.to_owned()).await?),
                ("test.discard", _) => Err(HandlerError::discard("never")),
                ("test.twice", 0) => {
                    let again =
                        format!("INSERT INTO {}ledger VALUES ('{}')", state.prefix, event.id);
                    Ok(run(connection, again).await?)
                }
                // As a time-out does that strikes in the round trip.
                ("test.savepoint", 0) => {
                    let mut savepoint = Box::pin(connection.begin());
                    let _ = futures_util::poll!(savepoint.as_mut());
                    Ok(())
                }
                // What may fail fails, and then what was to protect the rest from it.
                ("test.swallow", 0) => {
                    let _ = run(connection, "SELECT nothing FROM nowhere".to_owned()).await;
                    if let Ok(savepoint) = connection.begin().await {
                        savepoint.rollback().await?;
                    }
                    Ok(())
                }
                ("test.rollback", 0) => Ok(run(connection, "ROLLBACK".to_owned()).await?),
                ("test.anew", 0) => {
                    run(connection, "ROLLBACK".to_owned()).await?;
                    Ok(run(connection, "BEGIN".to_owned()).await?)
                }
                ("test.leak", 0) => {
                    std::mem::forget(connection.begin().await?);
                    Ok(())
                }
                // What a transaction of PostgreSQL does not survive, and nobody is told.
                ("test.hush", 0) | ("test.hush_always", _) => {
                    let _ = run(connection, "SELECT 1 FROM nowhere_at_all".to_owned()).await;
                    Ok(())
                }
                ("test.go_on", 0) => {
                    let _ = run(connection, "SELECT 1 FROM nowhere_at_all".to_owned()).await;
                    Ok(run(connection, "SELECT 1".to_owned()).await?)
                }
                ("test.raise_on", 0) => {
                    let _ = run(connection, "SELECT 1 FROM nowhere_at_all".to_owned()).await;
                    state
                        .raiser
                        .raise(connection, Event::new("late", &())?)
                        .await?;
                    Ok(())
                }
                // SQLite alone knows this, and ends the transaction by itself.
                ("test.or_rollback", 0) | ("test.or_rollback_hushed", 0) => {
                    let row = format!("INTO {}ledger VALUES ('{}')", state.prefix, event.id);
                    let _ = run(connection, format!("INSERT OR ROLLBACK {row}")).await;
                    let again = run(connection, format!("INSERT {row}")).await;
                    if &*event.name == "test.or_rollback" {
                        again?;
                    }
                    Ok(())
                }
                ("test.cancel", _) => {
                    let mut session = state.store.session().await?;
                    let id = HandlerRequestId::derive(event.id, "writes");
                    session.handler_requests().cancel(id).await?;
                    Ok(())
                }
                _ => Ok(()),
            }
        }

        /// Handles one event of this name to its end; answers its request, how often the handler
        /// ran, and how many rows and events there are.
        async fn handled(name: &str) -> (HandlerRequest, u32, u64, u64) {
            let fresh = $fresh;
            fresh
                .run("CREATE TABLE {p}ledger (id CHAR(36) PRIMARY KEY)")
                .await;
            let store: Arc<dyn Storer> = Arc::new(fresh.store.clone());
            let state = State {
                store: store.clone(),
                raiser: fresh.store.raiser(),
                prefix: fresh.prefix.clone(),
                runs: Arc::default(),
            };
            let handler = Handler::transactional_with_state("writes", state.clone(), write)
                .on("test.*")
                .timeout(Duration::from_millis(500))
                .backoff(Backoff::constant(Duration::from_millis(10)));
            let config = ConfigMap::builder().handler(handler).build().unwrap();
            let scheduler = ConcurrentScheduler::builder(store.clone(), config)
                .build()
                .unwrap();
            scheduler.start().await.unwrap();
            let mut session = store.session().await.unwrap();
            let event = Event::new(name.to_owned(), &()).unwrap();
            session
                .events()
                .raise(std::slice::from_ref(&event))
                .await
                .unwrap();
            let settled = store.signals().settled;
            let ends = RequestFilter::default().in_states([
                RequestState::Completed,
                RequestState::Dead,
                RequestState::Canceled,
            ]);
            loop {
                let seen = settled.seen();
                if session.handler_requests().count(&ends).await.unwrap() == 1 {
                    break;
                }
                let changed = settled.changed_since(seen);
                tokio::time::timeout(Duration::from_secs(20), changed)
                    .await
                    .unwrap();
            }
            scheduler.shutdown(Duration::from_secs(5)).await;
            let id = HandlerRequestId::derive(event.id, "writes");
            let request = session.handler_requests().find(id).await.unwrap().unwrap();
            let raised = EventFilter::default().named(["row.written"]);
            let raised = session.events().count(&raised).await.unwrap();
            let kept = EventFilter::default().named(["row.raised"]);
            let kept = session.events().count(&kept).await.unwrap();
            assert_eq!(kept, raised, "{name}: what was kept for the settlement");
            let rows = fresh.count("SELECT count(*) FROM {p}ledger").await;
            (request, state.runs.load(Ordering::SeqCst), rows, raised)
        }

        async fn assert_completes(name: &str, runs: u32, errors: u32) {
            let (request, ran, rows, raised) = handled(name).await;
            assert!(request.completed_at.is_some(), "{name}: {request:?}");
            assert_eq!((ran, request.errors), (runs, errors), "{name}: {request:?}");
            assert_eq!((rows, raised), (1, 1), "{name}");
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn ok_commits() {
            assert_completes("test.ok", 1, 0).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn an_error_rolls_back() {
            assert_completes("test.error", 2, 1).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_panic_rolls_back() {
            assert_completes("test.panic", 2, 1).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_snooze_rolls_back() {
            assert_completes("test.snooze", 2, 0).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_statement_that_fails_rolls_back() {
            assert_completes("test.twice", 2, 1).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_time_out_in_the_middle_of_a_statement_rolls_back() {
            assert_completes("test.slow", 2, 1).await;
        }

        /// Whether or not it had to run again, no write of the run that counts is missing.
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_transaction_that_ends_under_the_handler_is_not_settled() {
            for name in [
                "test.savepoint",
                "test.swallow",
                "test.rollback",
                "test.anew",
                "test.leak",
            ] {
                let (request, _, rows, raised) = handled(name).await;
                assert!(request.completed_at.is_some(), "{name}: {request:?}");
                assert_eq!(request.errors, 0, "{name}: {request:?}");
                assert_eq!((rows, raised), (1, 1), "{name}");
            }
        }

        /// Every look for events that are not there would cost this process and others statements.
        #[tokio::test]
        async fn only_a_handler_that_raised_wakes_others() {
            let fresh = $fresh;
            let raised = fresh.store.signals().raised;
            for raises in [false, true, false] {
                let seen = raised.seen();
                let mut tx = fresh.store.begin().await.unwrap();
                let connection = tx.connection().downcast::<Connection>().unwrap();
                run(connection, "SELECT 1".to_owned()).await.unwrap();
                if raises {
                    let event = Event::new("row.written", &()).unwrap();
                    let raiser = fresh.store.raiser();
                    raiser.raise(connection, event).await.unwrap();
                    assert_eq!(raised.seen(), seen, "it can still roll back");
                }
                tx.commit().await.unwrap();
                assert_eq!(raised.seen() > seen, raises);
            }
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_discard_writes_nothing() {
            let (request, ran, rows, raised) = handled("test.discard").await;
            assert!(request.dead_at.is_some(), "{request:?}");
            assert_eq!((ran, rows, raised), (1, 0, 0));
        }
    };
}

pub(crate) use transactional_tests;

#[cfg(feature = "postgres")]
mod postgres {
    use crate::fresh::postgres::Postgres;

    super::transactional_tests!(
        Postgres::new().await,
        sqlx::PgConnection,
        "SELECT pg_sleep(60)"
    );

    /// It may have been a deadlock, which nobody can tell any more.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn after_an_error_that_was_swallowed_a_handler_runs_again_and_no_error_counts() {
        for name in ["test.hush", "test.go_on", "test.raise_on"] {
            assert_completes(name, 2, 0).await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_error_that_is_swallowed_each_time_counts_after_a_few_runs_and_is_named() {
        let (request, ran, rows, raised) = handled("test.hush_always").await;
        assert!(request.dead_at.is_some(), "{request:?}");
        assert_eq!((ran, request.errors, rows, raised), (4 * 5, 5, 0, 0));
        let last = format!("{:?}", request.last_errors.last());
        assert!(last.contains("its error was swallowed"), "{last}");
    }

    /// On SQLite the cancel would wait for the handler's own transaction.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_settlement_that_is_refused_rolls_back() {
        let (request, ran, rows, raised) = handled("test.cancel").await;
        assert!(request.canceled_at.is_some(), "{request:?}");
        assert_eq!((ran, rows, raised), (1, 0, 0));
    }
}

#[cfg(any(feature = "sqlite", feature = "sqlite-unbundled"))]
mod sqlite {
    use crate::fresh::sqlite::Sqlite;

    super::transactional_tests!(
        Sqlite::new().await,
        sqlx::SqliteConnection,
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000000000) SELECT max(i) FROM n"
    );

    /// Committed alone, it would be there twice, or in the way of the run that counts.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_written_after_sqlite_has_ended_the_transaction_is_not_committed() {
        for name in ["test.or_rollback", "test.or_rollback_hushed"] {
            assert_completes(name, 2, 0).await;
        }
    }
}

#[cfg(feature = "mysql")]
mod mysql {
    use crate::fresh::mysql::MySql;

    super::transactional_tests!(
        MySql::new().await,
        sqlx::MySqlConnection,
        "SELECT SLEEP(60)"
    );

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_settlement_that_is_refused_rolls_back() {
        let (request, ran, rows, raised) = handled("test.cancel").await;
        assert!(request.canceled_at.is_some(), "{request:?}");
        assert_eq!((ran, rows, raised), (1, 0, 0));
    }
}
