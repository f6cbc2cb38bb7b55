//! Shared transactions on every SQL store: whatever one of several requests does, what each writes is
//! there once, and no other counts an error.

/// The tests, for the kind of a fresh store with `store`, `run(sql)` and `count(sql)`, its connection,
/// and a statement that takes a minute.
macro_rules! shared_transaction_tests {
    ($fresh:ty, $connection:ty, $slow:literal) => {
        use std::{
            collections::HashMap,
            sync::{Arc, Mutex},
            time::Duration,
        };

        use sqlx::{Connection as _, Executor as _};
        use tidings::{
            Backoff, ConcurrentScheduler, ConfigMap, Context, Event, EventId, Handler,
            HandlerError, HandlerRequest, HandlerRequestId, HandlerResult, Raiser, Scheduler,
            faulty::{Fault, Faults, FaultyStorer, Operation},
            sqlx,
            store::{EventFilter, Page, RequestFilter, Storer},
        };
        use tokio::sync::Notify;

        type Fresh = $fresh;
        type Connection = $connection;

        /// What takes longer is stuck.
        const LIMIT: Duration = Duration::from_secs(30);
        /// What a handler says, and nobody else.
        const HANDLED: &str = "SELECT 'handled'";

        #[derive(Clone)]
        struct State {
            store: Arc<dyn Storer>,
            raiser: Raiser,
            prefix: String,
            runs: Arc<Mutex<HashMap<EventId, u32>>>,
            running: Arc<Notify>,
        }

        async fn run(connection: &mut Connection, sql: String) -> Result<(), sqlx::Error> {
            connection.execute(sqlx::AssertSqlSafe(sql)).await?;
            Ok(())
        }

        /// Writes a row, raises an event in each way, then does what the event says, the first time.
        async fn write(
            state: State,
            event: Arc<Event>,
            context: Context,
            connection: &mut Connection,
        ) -> HandlerResult {
            let number = {
                let mut runs = state.runs.lock().unwrap();
                let runs = runs.entry(event.id).or_default();
                *runs += 1;
                *runs
            };
            let insert = format!("INSERT INTO {}ledger VALUES ('{}')", state.prefix, event.id);
            run(connection, insert.clone()).await?;
            let row = Event::new("row.written", &())?;
            state.raiser.raise(connection, row).await?;
            context.raise(Event::new("row.raised", &())?);
            run(connection, HANDLED.to_owned()).await?;
            if number > 1 && &*event.name != "test.slow_twice" || number > 2 {
                return Ok(());
            }
            match &*event.name {
                "test.error" => return Err(HandlerError::new("once")),
                "test.panic" => panic!("once"),
                "test.snooze" => return Err(HandlerError::snooze(Duration::from_millis(10))),
                "test.discard" => return Err(HandlerError::discard("never")),
                "test.twice" => run(connection, insert).await?,
                "test.slow_twice" | "test.slow" => run(connection, $slow.to_owned()).await?,
                // In the middle of a reply.
                "test.torn" => {
                    let mut asked = Box::pin(run(connection, "SELECT 'torn'".to_owned()));
                    let _ = futures_util::poll!(asked.as_mut());
                    panic!("once");
                }
                // As a time-out does that strikes in the round trip.
                "test.savepoint" => {
                    let mut savepoint = Box::pin(connection.begin());
                    let _ = futures_util::poll!(savepoint.as_mut());
                }
                // What may fail fails, and then what was to protect the rest from it.
                "test.swallow" => {
                    let _ = run(connection, "SELECT nothing FROM nowhere".to_owned()).await;
                    if let Ok(savepoint) = connection.begin().await {
                        savepoint.rollback().await?;
                    }
                }
                "test.own_savepoint" => {
                    let mut savepoint = connection.begin().await?;
                    let again = run(&mut savepoint, insert).await;
                    assert!(again.is_err());
                    savepoint.rollback().await?;
                }
                "test.rollback" => run(connection, "ROLLBACK".to_owned()).await?,
                "test.anew" => {
                    run(connection, "ROLLBACK".to_owned()).await?;
                    run(connection, "BEGIN".to_owned()).await?;
                }
                "test.leak" => std::mem::forget(connection.begin().await?),
                "test.cancel" => {
                    let mut session = state.store.session().await?;
                    let id = HandlerRequestId::derive(event.id, "writes");
                    session.handler_requests().cancel(id).await?;
                }
                "test.waits" => {
                    state.running.notify_one();
                    return std::future::pending().await;
                }
                // It is the one that waits first, and has done less.
                "test.deadlock" => {
                    for spot in [1, 2] {
                        let lock = format!(
                            "UPDATE {}spots SET n = n + 1 WHERE id = {spot}",
                            state.prefix
                        );
                        if spot == 2 {
                            state.running.notify_one();
                        }
                        run(connection, lock).await?;
                    }
                }
                "test.kill_postgres" => {
                    run(
                        connection,
                        "SELECT pg_terminate_backend(pg_backend_pid())".to_owned(),
                    )
                    .await?;
                }
                "test.kill_mysql" => run(connection, "KILL CONNECTION_ID()".to_owned()).await?,
                _ => {}
            }
            Ok(())
        }

        struct Scene {
            fresh: Fresh,
            state: State,
            faults: Faults,
            store: Arc<dyn Storer>,
            scheduler: ConcurrentScheduler,
            kept: Arc<Notify>,
            let_go: Arc<Notify>,
        }

        fn scheduler(
            state: &State,
            store: &Arc<dyn Storer>,
            keeps: Handler,
        ) -> ConcurrentScheduler {
            let writes = Handler::transactional_with_state("writes", state.clone(), write)
                .on("test.*")
                .timeout(Duration::from_millis(500))
                .backoff(Backoff::constant(Duration::from_millis(10)))
                .shared_transactions();
            let config = ConfigMap::builder().handler(writes).handler(keeps);
            ConcurrentScheduler::builder(Arc::clone(store), config.build().unwrap())
                .workers(1)
                .lease(Duration::from_secs(2))
                .call_timeout(Duration::from_secs(2))
                .build()
                .unwrap()
        }

        impl Scene {
            async fn new() -> Self {
                let fresh = Fresh::new().await;
                let store = Arc::new(fresh.store.clone());
                Self::on(fresh, store).await
            }

            /// With a scheduler on this store, which has the same tables.
            async fn on(fresh: Fresh, store: Arc<dyn Storer>) -> Self {
                fresh
                    .run("CREATE TABLE {p}ledger (id CHAR(36) PRIMARY KEY)")
                    .await;
                let state = State {
                    store: Arc::new(fresh.store.clone()),
                    raiser: fresh.store.raiser(),
                    prefix: fresh.prefix.clone(),
                    runs: Arc::default(),
                    running: Arc::default(),
                };
                let store = FaultyStorer::new(store);
                let faults = store.faults();
                let store: Arc<dyn Storer> = Arc::new(store);
                let (kept, let_go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
                let keeps = {
                    let (kept, let_go) = (Arc::clone(&kept), Arc::clone(&let_go));
                    move |_: Arc<Event>, _: Context| {
                        let (kept, let_go) = (Arc::clone(&kept), Arc::clone(&let_go));
                        async move {
                            kept.notify_one();
                            let_go.notified().await;
                            Ok::<_, HandlerError>(())
                        }
                    }
                };
                let keeps = Handler::new("keeps", keeps).on("keep");
                let scheduler = scheduler(&state, &store, keeps);
                scheduler.start().await.unwrap();
                let scene = Self {
                    fresh,
                    state,
                    faults,
                    store,
                    scheduler,
                    kept,
                    let_go,
                };
                // How long its runs take, so that it may hold more than it can run at once.
                for _ in 0..3 {
                    let first = scene.raise(&["test.first"]).await;
                    scene.end(&first).await;
                }
                scene
            }

            async fn raise(&self, names: &[&str]) -> Vec<EventId> {
                let events = names.iter().map(|name| Event::new(*name, &()).unwrap());
                let events: Vec<_> = events.collect();
                let mut session = self.state.store.session().await.unwrap();
                session.events().raise(&events).await.unwrap();
                events.iter().map(|event| event.id).collect()
            }

            /// Raises events whose requests wait together until they are let go.
            async fn wait_together(&self, names: &[&str]) -> Vec<EventId> {
                self.raise(&["keep"]).await;
                let kept = tokio::time::timeout(LIMIT, self.kept.notified());
                kept.await.expect("the worker is kept");
                let ids = self.raise(names).await;
                let buffered = async {
                    while self.scheduler.status().buffered < names.len() {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                };
                // On a slow machine not all of them may wait here; then they share less.
                let _ = tokio::time::timeout(Duration::from_secs(3), buffered).await;
                ids
            }

            async fn handle(&self, names: &[&str]) -> Vec<HandlerRequest> {
                let ids = self.wait_together(names).await;
                self.let_go.notify_one();
                self.end(&ids).await
            }

            /// Waits until their requests have ended, and answers them.
            async fn end(&self, ids: &[EventId]) -> Vec<HandlerRequest> {
                let mut session = self.state.store.session().await.unwrap();
                let ended = async {
                    loop {
                        let mut requests = Vec::new();
                        for id in ids {
                            let id = HandlerRequestId::derive(*id, "writes");
                            requests.extend(session.handler_requests().find(id).await.unwrap());
                        }
                        let is_open = |request: &HandlerRequest| {
                            let ends = [request.completed_at, request.dead_at, request.canceled_at];
                            ends == [None; 3]
                        };
                        if requests.len() == ids.len() && !requests.iter().any(is_open) {
                            return requests;
                        }
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                };
                match tokio::time::timeout(LIMIT, ended).await {
                    Ok(requests) => requests,
                    Err(_) => {
                        let mut requests = session.handler_requests();
                        let all = RequestFilter::default();
                        let all = requests.list(&all, &Page::first(100)).await.unwrap();
                        panic!("they do not end: {all:#?}");
                    }
                }
            }

            /// Each has as many rows and events as it should.
            async fn assert_written(&self, what: &str, requests: &[HandlerRequest], rows: &[u64]) {
                let mut all = 0;
                for (request, rows) in requests.iter().zip(rows) {
                    let of = format!(
                        "SELECT count(*) FROM {{p}}ledger WHERE id = '{}'",
                        request.event_id
                    );
                    let written = self.fresh.count(&of).await;
                    assert_eq!(written, *rows, "{what}: {request:?}");
                    all += rows;
                }
                let mut session = self.state.store.session().await.unwrap();
                for name in ["row.written", "row.raised"] {
                    let named = EventFilter::default().named([name]);
                    let raised = session.events().count(&named).await.unwrap();
                    // And those of the first events.
                    assert_eq!(raised, all + 3, "{what}: {name}");
                }
            }

            /// All complete, with so many errors, and have written once.
            async fn assert_completes(&self, names: &[&str], errors: &[u32]) {
                let requests = self.handle(names).await;
                self.assert_completed(names, &requests, errors).await;
            }

            async fn assert_completed(
                &self,
                names: &[&str],
                requests: &[HandlerRequest],
                errors: &[u32],
            ) {
                for (request, errors) in requests.iter().zip(errors) {
                    assert!(request.completed_at.is_some(), "{names:?}: {request:?}");
                    assert_eq!(request.errors, *errors, "{names:?}: {request:?}");
                }
                let rows = vec![1; names.len()];
                self.assert_written(&names.join(" "), requests, &rows).await;
            }

            fn commits(&self) -> u64 {
                self.faults.calls(Operation::Commit)
            }
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn several_share_a_commit() {
            let scene = Scene::new().await;
            let before = scene.commits();
            scene.assert_completes(&["test.ok"; 6], &[0; 6]).await;
            assert!(scene.commits() - before < 6);
            let before = scene.commits();
            scene.handle(&["test.own_savepoint"; 3]).await;
            assert!(scene.commits() - before < 3);
            // Connections come back.
            for _ in 0..12 {
                let requests = scene.handle(&["test.ok"; 2]).await;
                assert!(requests.iter().all(|request| request.errors == 0));
            }
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn one_that_fails_is_undone_alone_and_its_neighbours_commit() {
            for (name, errors) in [
                ("test.error", 1),
                ("test.panic", 1),
                ("test.torn", 1),
                ("test.snooze", 0),
                ("test.twice", 1),
            ] {
                let scene = Scene::new().await;
                let names = [name, "test.ok", name, "test.ok"];
                scene
                    .assert_completes(&names, &[errors, 0, errors, 0])
                    .await;
                let runs = scene.state.runs.lock().unwrap();
                let most = runs.values().max();
                assert_eq!(most, Some(&2), "{name}: {runs:?}");
            }
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_discarded_one_writes_nothing() {
            let scene = Scene::new().await;
            let requests = scene.handle(&["test.ok", "test.discard", "test.ok"]).await;
            assert!(requests[1].dead_at.is_some());
            scene.assert_written("discard", &requests, &[1, 0, 1]).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn one_that_is_past_its_time_runs_again_alone_and_no_neighbour_counts_an_error() {
            for (name, errors) in [("test.slow", 0), ("test.slow_twice", 1)] {
                let scene = Scene::new().await;
                let names = ["test.ok", "test.ok", name, "test.ok"];
                scene.assert_completes(&names, &[0, 0, errors, 0]).await;
            }
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_transaction_that_ends_under_one_of_them_is_not_settled() {
            for name in [
                "test.savepoint",
                "test.swallow",
                "test.rollback",
                "test.anew",
                "test.leak",
            ] {
                // Also as the last one.
                for names in [["test.ok", name, "test.ok"], ["test.ok", "test.ok", name]] {
                    let scene = Scene::new().await;
                    scene.assert_completes(&names, &[0; 3]).await;
                }
            }
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn one_that_is_canceled_while_it_waits_commits_nothing_and_the_others_once() {
            let scene = Scene::new().await;
            let ids = scene.wait_together(&["test.ok"; 3]).await;
            let mut session = scene.state.store.session().await.unwrap();
            let id = HandlerRequestId::derive(ids[1], "writes");
            session.handler_requests().cancel(id).await.unwrap();
            scene.let_go.notify_one();
            let requests = scene.end(&ids).await;
            assert!(requests[1].canceled_at.is_some());
            scene.assert_written("cancel", &requests, &[1, 0, 1]).await;
            assert!(requests.iter().all(|request| request.errors == 0));
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_commit_that_fails_or_whose_answer_is_lost_writes_each_once() {
            for (fault, operation) in [
                (Fault::Fail, Operation::Commit),
                (Fault::LoseAnswer, Operation::Commit),
                (Fault::LoseAnswer, Operation::Savepoint),
                (Fault::Fail, Operation::Begin),
            ] {
                let scene = Scene::new().await;
                let ids = scene.wait_together(&["test.ok"; 3]).await;
                scene.faults.inject(operation, fault, 1);
                scene.let_go.notify_one();
                let requests = scene.end(&ids).await;
                let what = [format!("{fault:?} {operation:?}")];
                let names = [&*what[0], "", ""];
                scene.assert_completed(&names, &requests, &[0; 3]).await;
            }
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn what_a_lost_process_shared_runs_elsewhere_and_writes_once() {
            let scene = Scene::new().await;
            let names = ["test.ok", "test.ok", "test.waits", "test.ok"];
            let ids = scene.wait_together(&names).await;
            scene.let_go.notify_one();
            let running = tokio::time::timeout(LIMIT, scene.state.running.notified());
            running.await.expect("it runs");
            let Scene {
                fresh,
                state,
                faults,
                store,
                scheduler: lost,
                kept,
                let_go,
            } = scene;
            drop(lost);
            let keeps = Handler::new("keeps", |_: Arc<Event>, _: Context| async {
                Ok::<_, HandlerError>(())
            });
            let scheduler = scheduler(&state, &store, keeps.on("keep"));
            scheduler.start().await.unwrap();
            let scene = Scene {
                fresh,
                state,
                faults,
                store,
                scheduler,
                kept,
                let_go,
            };
            let requests = scene.end(&ids).await;
            scene.assert_completed(&names, &requests, &[0; 4]).await;
        }
    };
}

/// What only servers can do, beside the tests above: the URL, the kind of the store and of its options,
/// and what kills the connection.
#[cfg(any(feature = "postgres", feature = "mysql"))]
macro_rules! server_tests {
    ($url:expr, $store:ty, $options:ty, $kill:literal) => {
        use crate::proxy::{Cut, Proxy};

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn one_that_is_canceled_while_it_runs_commits_nothing_and_the_others_once() {
            let scene = Scene::new().await;
            let requests = scene.handle(&["test.ok", "test.cancel", "test.ok"]).await;
            assert!(requests[1].canceled_at.is_some());
            scene.assert_written("cancel", &requests, &[1, 0, 1]).await;
            assert!(requests.iter().all(|request| request.errors == 0));
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_connection_that_is_killed_in_the_middle_costs_nobody_an_error() {
            let scene = Scene::new().await;
            let names = ["test.ok", $kill, "test.ok"];
            scene.assert_completes(&names, &[0; 3]).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_deadlock_costs_nobody_an_error() {
            let scene = Scene::new().await;
            scene
                .fresh
                .run("CREATE TABLE {p}spots (id BIGINT PRIMARY KEY, n BIGINT NOT NULL)")
                .await;
            for spot in 1..=200 {
                let insert = format!("INSERT INTO {{p}}spots VALUES ({spot}, 0)");
                scene.fresh.run(&insert).await;
            }
            let names = ["test.ok", "test.deadlock", "test.ok"];
            let ids = scene.wait_together(&names).await;
            let p = &scene.fresh.prefix;
            let mut other = scene.fresh.pool.begin().await.unwrap();
            let update = format!("UPDATE {p}spots SET n = n + 1 WHERE id > 1");
            run(&mut other, update).await.unwrap();
            scene.let_go.notify_one();
            let running = tokio::time::timeout(LIMIT, scene.state.running.notified());
            running.await.expect("it waits");
            tokio::time::sleep(Duration::from_millis(50)).await;
            let update = format!("UPDATE {p}spots SET n = n + 1 WHERE id = 1");
            run(&mut other, update).await.expect("the handler has lost");
            other.commit().await.unwrap();
            let requests = scene.end(&ids).await;
            scene.assert_completed(&names, &requests, &[0; 3]).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_shared_commit_that_is_cut_off_leaves_everything_or_nothing() {
            for cut in [Cut::Before, Cut::After] {
                let fresh = Fresh::new().await;
                let (proxy, through) = Proxy::of(&$url).await;
                let options = <$options>::new().table_prefix(&*fresh.prefix);
                let store = <$store>::connect(&through, options).await.unwrap();
                let scene = Scene::on(fresh, Arc::new(store)).await;
                let ids = scene.wait_together(&["test.ok"; 3]).await;
                proxy.cut_after(HANDLED.as_bytes(), b"COMMIT", cut);
                scene.let_go.notify_one();
                let requests = scene.end(&ids).await;
                assert!(proxy.has_cut());
                scene
                    .assert_completed(&["test.ok"; 3], &requests, &[0; 3])
                    .await;
                let runs = scene.state.runs.lock().unwrap();
                let ran = ids.iter().map(|id| runs[id]).max();
                assert_eq!(ran, Some(if cut == Cut::After { 1 } else { 2 }), "{cut:?}");
            }
        }

        /// The connection goes while neighbours have written.
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_savepoint_that_is_cut_off_costs_nobody_an_error() {
            for cut in [Cut::Before, Cut::After] {
                let fresh = Fresh::new().await;
                let (proxy, through) = Proxy::of(&$url).await;
                let options = <$options>::new().table_prefix(&*fresh.prefix);
                let store = <$store>::connect(&through, options).await.unwrap();
                let scene = Scene::on(fresh, Arc::new(store)).await;
                let ids = scene.wait_together(&["test.ok"; 4]).await;
                proxy.cut_after(HANDLED.as_bytes(), b"; SAVEPOINT tidings_kept", cut);
                scene.let_go.notify_one();
                let requests = scene.end(&ids).await;
                assert!(proxy.has_cut());
                scene
                    .assert_completed(&["test.ok"; 4], &requests, &[0; 4])
                    .await;
            }
        }
    };
}

#[cfg(feature = "postgres")]
mod postgres {
    use crate::server::postgres_url;

    shared_transaction_tests!(
        crate::fresh::postgres::Postgres,
        sqlx::PgConnection,
        "SELECT pg_sleep(60)"
    );
    server_tests!(
        postgres_url(),
        tidings::PostgresStore,
        tidings::PostgresOptions,
        "test.kill_postgres"
    );
}

#[cfg(any(feature = "sqlite", feature = "sqlite-unbundled"))]
mod sqlite {
    shared_transaction_tests!(
        crate::fresh::sqlite::Sqlite,
        sqlx::SqliteConnection,
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000000000) SELECT max(i) FROM n"
    );
}

#[cfg(feature = "mysql")]
mod mysql {
    use crate::server::mysql_url;

    shared_transaction_tests!(
        crate::fresh::mysql::MySql,
        sqlx::MySqlConnection,
        "SELECT SLEEP(60)"
    );
    server_tests!(
        mysql_url(),
        tidings::MySqlStore,
        tidings::MySqlOptions,
        "test.kill_mysql"
    );
}
