//! What changes while a prune looks for what nobody needs is not taken along. On SQLite nothing can: a prune
//! has the write lock from its beginning.

/// The test, for a fresh store, how its requests are locked and released, and how many wait for them.
macro_rules! pruned_tests {
    ($fresh:expr, $lock:literal, $unlock:literal, $waiting:literal) => {
        use std::time::Duration;

        use sqlx::Executor as _;
        use tidings::{
            Event,
            conformance::Target as _,
            sqlx,
            store::{FanOut, Prune, Raised, Storer},
        };

        /// As when another process prunes it and its source delivers it again.
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn an_event_that_was_deleted_and_raised_anew_meanwhile_stays() {
            let fresh = $fresh;
            let event = Event::new("thing.happened", &()).unwrap();
            let mut session = fresh.store.session().await.unwrap();
            let mut events = session.events();
            events.raise(std::slice::from_ref(&event)).await.unwrap();
            events.fan_out(&FanOut::due(10)).await.unwrap();
            fresh.pass_time(Duration::from_secs(3600)).await;
            // The prune stands still once it knows that the event is processed and that nobody wanted it.
            let mut holder = fresh.pool.acquire().await.unwrap();
            let lock = $lock.replace("{p}", &fresh.prefix);
            holder
                .execute(sqlx::raw_sql(sqlx::AssertSqlSafe(lock)))
                .await
                .unwrap();
            let store = fresh.store.clone();
            let pruning = tokio::spawn(async move {
                let mut session = store.session().await.unwrap();
                let prune = Prune::new(10).completed_for(Some(Duration::from_secs(60)));
                session.events().prune(&prune).await
            });
            while fresh.count($waiting).await == 0 {
                assert!(!pruning.is_finished(), "it waits for nothing");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            fresh.run("DELETE FROM {p}unwanted_events").await;
            fresh.run("DELETE FROM {p}events").await;
            let raised = events.raise(std::slice::from_ref(&event)).await.unwrap();
            assert_eq!(raised, [Raised::New]);
            holder.execute(sqlx::raw_sql($unlock)).await.unwrap();
            let pruned = pruning.await.unwrap().unwrap();
            assert_eq!(pruned.events, 0);
            assert!(events.find(event.id).await.unwrap().is_some());
            assert_eq!(events.count_unprocessed().await.unwrap(), 1);
        }
    };
}

#[cfg(feature = "postgres")]
mod postgres {
    pruned_tests!(
        crate::fresh::postgres::Postgres::new().await,
        "BEGIN; LOCK TABLE {p}handler_requests IN ACCESS EXCLUSIVE MODE",
        "COMMIT",
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = '{p}handler_requests'::regclass"
    );
}

#[cfg(feature = "mysql")]
mod mysql {
    pruned_tests!(
        crate::fresh::mysql::MySql::new().await,
        "LOCK TABLES {p}handler_requests WRITE",
        "UNLOCK TABLES",
        "SELECT COUNT(*) FROM information_schema.processlist \
         WHERE state LIKE 'Waiting for table%' AND info LIKE '%{p}handler_requests%' AND id <> CONNECTION_ID()"
    );
}
