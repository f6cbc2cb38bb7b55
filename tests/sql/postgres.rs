//! What can go wrong on PostgreSQL.

use std::time::Duration;

use tidings::{
    Entity, Event, EventBuffer, EventPattern, EventRaiser, HandlerRequestId, LeaseOwner, Outcome,
    PostgresOptions, PostgresStore, Priority, Registration, RequestState, StoreError,
    sqlx::{self, Connection as _, Executor as _, PgConnection, PgPool},
    store::{
        Claim, EventFilter, FanOut, HandlerRoom, LockMode, Look, Prune, Raised, Renewal, Replay,
        RequestFilter, Settled, Settlement, Storer, StorerExt,
    },
};

use crate::{
    fresh::{postgres::Postgres, prefix},
    proxy::Proxy,
    server::postgres_url,
};

fn event() -> Event {
    Event::new("order.placed", "a payload").unwrap()
}

fn registration(pattern: &str, handler: &str) -> Registration {
    let pattern = EventPattern::parse(pattern).unwrap();
    Registration::new(pattern, handler.into(), Priority::default(), 5)
}

/// A pool whose sessions are as an application may have set them.
async fn odd_pool() -> PgPool {
    sqlx::postgres::PgPoolOptions::new()
        .after_connect(|connection, _| {
            Box::pin(async move {
                connection
                    .execute(
                        "SET default_transaction_isolation = 'serializable'; \
                         SET TimeZone = 'Asia/Kathmandu'; SET DateStyle = 'SQL, DMY'; \
                         SET standard_conforming_strings = on; SET bytea_output = 'escape'",
                    )
                    .await?;
                Ok(())
            })
        })
        .connect(&postgres_url())
        .await
        .unwrap()
}

#[derive(Default)]
struct Order {
    events: EventBuffer,
}

impl EventRaiser for Order {
    fn event_buffer(&mut self) -> &mut EventBuffer {
        &mut self.events
    }
}

#[tokio::test]
async fn an_event_commits_or_rolls_back_with_the_change_of_the_application() {
    let fresh = Postgres::new().await;
    fresh
        .run("CREATE TABLE {p}orders (id text PRIMARY KEY)")
        .await;
    let raiser = fresh.store.raiser();
    let insert = format!("INSERT INTO {}orders VALUES ('7')", fresh.prefix);
    let orders = format!("SELECT count(*) FROM {}orders", fresh.prefix);
    let mut session = fresh.store.session().await.unwrap();
    for commits in [false, true] {
        let mut tx = fresh.pool.begin().await.unwrap();
        tx.execute(sqlx::AssertSqlSafe(insert.clone()))
            .await
            .unwrap();
        // The transaction, the connection inside, and all that an entity has collected.
        let (one, two) = (event(), event().with_entity(Entity::new("order", "7")));
        raiser.raise(&mut tx, one.clone()).await.unwrap();
        raiser.raise(&mut *tx, two.clone()).await.unwrap();
        let mut order = Order::default();
        order.events.push(event());
        raiser.raise_collected(&mut tx, &mut order).await.unwrap();
        assert_eq!(session.events().count_unprocessed().await.unwrap(), 0);
        let expected = if commits {
            tx.commit().await.unwrap();
            3
        } else {
            tx.rollback().await.unwrap();
            0
        };
        assert_eq!(
            session.events().count_unprocessed().await.unwrap(),
            expected
        );
        let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(orders.clone()))
            .fetch_one(&fresh.pool)
            .await
            .unwrap();
        assert_eq!(count, i64::from(commits));
        let found = session.events().find(two.id).await.unwrap();
        assert_eq!(
            found.map(|stored| (*stored.event).clone()),
            commits.then_some(two)
        );
    }
    // A connection without a transaction commits at once.
    let mut connection = PgConnection::connect(&postgres_url()).await.unwrap();
    raiser.raise(&mut connection, event()).await.unwrap();
    let mut pooled = fresh.pool.acquire().await.unwrap();
    raiser.raise(&mut pooled, event()).await.unwrap();
    assert_eq!(session.events().count_unprocessed().await.unwrap(), 5);
}

#[tokio::test]
async fn a_raiser_of_another_store_is_refused() {
    let mut connection = PgConnection::connect(&postgres_url()).await.unwrap();
    let raiser = tidings::MemoryStore::new().raiser();
    let error = raiser.raise(&mut connection, event()).await.unwrap_err();
    assert!(matches!(error, StoreError::Invalid { .. }), "{error}");
}

#[tokio::test]
async fn thousands_of_events_are_raised_at_once() {
    let fresh = Postgres::new().await;
    let events: Vec<_> = (0..10_000).map(|_| event()).collect();
    let mut tx = fresh.pool.begin().await.unwrap();
    let raised = fresh
        .store
        .raiser()
        .raise_all(&mut tx, events)
        .await
        .unwrap();
    assert_eq!(raised, vec![Raised::New; 10_000]);
    tx.commit().await.unwrap();
    let mut session = fresh.store.session().await.unwrap();
    assert_eq!(session.events().count_unprocessed().await.unwrap(), 10_000);
}

/// They are several statements, of which none is to be committed alone.
#[tokio::test]
async fn large_events_without_a_transaction_are_stored_as_a_whole() {
    let fresh = Postgres::new().await;
    let raiser = fresh.store.raiser();
    let raiser = raiser.clone().max_data_len(16 << 20);
    let large = || Event::new("large", &"x".repeat(9 << 20)).unwrap();
    let mut connection = PgConnection::connect(&postgres_url()).await.unwrap();
    let (first, second) = (large(), large());
    // The second one is refused by the server.
    let refuse = format!(
        "CREATE FUNCTION {p}refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$; \
         CREATE TRIGGER refuse BEFORE INSERT ON {p}events FOR EACH ROW \
         WHEN (NEW.id = '{id}') EXECUTE FUNCTION {p}refuse()",
        p = fresh.prefix,
        id = second.id,
    );
    fresh
        .pool
        .execute(sqlx::raw_sql(sqlx::AssertSqlSafe(refuse)))
        .await
        .unwrap();
    let both = vec![first.clone(), second];
    assert!(raiser.raise_all(&mut connection, both).await.is_err());
    let mut session = fresh.store.session().await.unwrap();
    assert_eq!(session.events().count_unprocessed().await.unwrap(), 0);
    let raised = raiser
        .raise_all(&mut connection, vec![first, large()])
        .await;
    assert_eq!(raised.unwrap(), [Raised::New; 2]);
    assert_eq!(session.events().count_unprocessed().await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_processes_migrate_at_once() {
    let prefix = prefix();
    let starts: Vec<_> = (0..10)
        .map(|_| {
            let options = PostgresOptions::new().table_prefix(&*prefix);
            tokio::spawn(async move {
                let store = PostgresStore::connect(&postgres_url(), options)
                    .await
                    .unwrap();
                store.migrate().await.unwrap();
                store.check_schema().await.unwrap();
                store
            })
        })
        .collect();
    for start in starts {
        let store = start.await.unwrap();
        let mut session = store.session().await.unwrap();
        assert_eq!(session.events().count_unprocessed().await.unwrap(), 0);
    }
}

/// A session remembers which tables are not there, and hears of new ones only when it locks one.
#[tokio::test]
async fn a_migration_that_waited_for_another_one_sees_what_it_made() {
    let prefix = prefix();
    let options = PostgresOptions::new().table_prefix(&*prefix);
    // The session that looks in vain is the one that waits.
    let only = sqlx::postgres::PgPoolOptions::new().max_connections(1);
    let only = only.connect_lazy(&postgres_url()).unwrap();
    let store = PostgresStore::with_pool(only, options).unwrap();
    let mut other = PgConnection::connect(&postgres_url()).await.unwrap();
    let mut other = other.begin().await.unwrap();
    let name = format!("current_schema() || '.{prefix}migrations'");
    let lock = format!("SELECT pg_advisory_xact_lock(hashtextextended({name}, 0))::text");
    other.execute(sqlx::AssertSqlSafe(lock)).await.unwrap();
    let migration = tokio::spawn({
        let store = store.clone();
        async move { store.migrate().await }
    });
    let pool = PgPool::connect_lazy(&postgres_url()).unwrap();
    let waiting = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() \
         AND query LIKE '%pg_try_advisory%{prefix}migrations%'"
    );
    while sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(waiting.clone()))
        .fetch_one(&pool)
        .await
        .unwrap()
        == 0
    {
        tokio::task::yield_now().await;
    }
    let file = include_str!("../../migrations/postgres/0001_create.sql");
    let file = sqlx::AssertSqlSafe(file.replace("tidings_", &prefix));
    other.execute(sqlx::raw_sql(file)).await.unwrap();
    other.commit().await.unwrap();
    migration.await.unwrap().unwrap();
    store.check_schema().await.unwrap();
}

#[tokio::test]
async fn a_schema_that_does_not_fit_is_refused_with_the_remedy() {
    let prefix = prefix();
    let options = || PostgresOptions::new().table_prefix(&*prefix);
    let connect = async || {
        PostgresStore::connect(&postgres_url(), options())
            .await
            .unwrap()
    };
    let missing = connect().await.session().await.err().unwrap();
    assert!(missing.to_string().contains("is missing"), "{missing}");
    assert!(missing.to_string().contains("migrate()"), "{missing}");

    let store = connect().await;
    store.migrate().await.unwrap();
    let fresh = Postgres {
        store: store.clone(),
        pool: PgPool::connect_lazy(&postgres_url()).unwrap(),
        prefix: prefix.clone(),
    };
    // A newer version has migrated, and says that this one still works.
    fresh
        .run("INSERT INTO {p}migrations VALUES (1000, 'more', '0.1.0')")
        .await;
    connect().await.session().await.unwrap();
    // And then one that says that it does not.
    fresh
        .run("INSERT INTO {p}migrations VALUES (1001, 'most', '999.0.0')")
        .await;
    for error in [
        connect().await.session().await.err().unwrap(),
        connect().await.migrate().await.unwrap_err(),
    ] {
        assert!(error.to_string().contains("too old"), "{error}");
        assert!(error.to_string().contains("999.0.0"), "{error}");
    }
    fresh
        .run("DELETE FROM {p}migrations WHERE version > 0")
        .await;
    let behind = connect().await.session().await.err().unwrap();
    assert!(behind.to_string().contains("migrate()"), "{behind}");
}

#[tokio::test]
async fn bad_options_and_urls_are_refused_by_name() {
    for url in [
        "mysql://root@127.0.0.1/x",
        "nonsense",
        "postgres://a:secret@127.0.0.1:x/y",
    ] {
        let error = PostgresStore::connect(url, PostgresOptions::new())
            .await
            .unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(matches!(error, StoreError::Invalid { .. }), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
    let options = PostgresOptions::new().table_prefix("Robert'); DROP TABLE students;--");
    let error = PostgresStore::connect(&postgres_url(), options)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("table prefix"), "{error}");
    let nobody = "postgres://root:secret@127.0.0.1:1/test";
    let error = PostgresStore::connect(nobody, PostgresOptions::new())
        .await
        .unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(matches!(error, StoreError::Unreachable { .. }), "{text}");
    assert!(!text.contains("secret"), "{text}");
    let store = PostgresStore::new(PgPool::connect_lazy(nobody).unwrap());
    assert!(!format!("{store:?}").contains("secret"));
}

/// All steps of the hot path through a store, and what else needs a transaction.
async fn use_all_of(store: &PostgresStore) {
    let mut session = store.session().await.unwrap();
    let registrations = [registration("order.*", "h"), registration("*", "i")];
    session
        .registrations()
        .register(&registrations)
        .await
        .unwrap();
    let events = [event(), event(), event()];
    session.events().raise(&events).await.unwrap();
    let fanned_out = session.events().fan_out(&FanOut::due(10)).await.unwrap();
    assert_eq!(fanned_out.processed.len(), 3);
    let owner = LeaseOwner::new();
    let lease = Duration::from_secs(30);
    let rooms = vec![HandlerRoom::new("h", 10), HandlerRoom::new("i", 10)];
    let claim = Claim::new(owner, lease, 4, rooms);
    let claimed = session
        .handler_requests()
        .claim(&claim)
        .await
        .unwrap()
        .requests;
    assert_eq!(claimed.len(), 4);
    let held: Vec<_> = claimed.iter().map(|one| (one.id, one.attempt)).collect();
    let mut renewer = store.lease_renewer().await.unwrap();
    let lost = renewer
        .renew(&Renewal::new(owner, lease, held))
        .await
        .unwrap()
        .lost;
    assert_eq!(lost, []);
    let outcomes = [
        Outcome::Completed,
        Outcome::Snoozed { duration: lease },
        Outcome::Discarded {
            reason: "no".into(),
        },
        Outcome::Failed {
            error: "no\0".into(),
            backoff: lease,
        },
    ];
    let settlements: Vec<_> = claimed
        .iter()
        .zip(outcomes)
        .map(|(one, outcome)| Settlement::new(one.id, one.attempt, owner, outcome))
        .collect();
    let settled = session
        .handler_requests()
        .settle(&settlements)
        .await
        .unwrap();
    assert_eq!(settled, [Settled::Applied; 4]);
    let dead = RequestFilter::default().in_states([RequestState::Dead]);
    let mut requests = session.handler_requests();
    assert_eq!(requests.count(&dead).await.unwrap(), 1);
    assert_eq!(requests.reexecute_dead(&dead, 10).await.unwrap(), 1);
    let found = requests
        .find_for_update(claimed[3].id, LockMode::SkipLocked)
        .await
        .unwrap();
    assert_eq!(found.unwrap().errors, 1);
    drop(requests);
    // It takes a connection for each of its calls.
    drop(session);
    let renamed = store.rename(&"i".into(), &"j".into()).await;
    assert!(renamed.unwrap().requests > 0);
    let mut session = store.session().await.unwrap();
    session.registrations().touch(&["h".into()]).await.unwrap();
    let prune = Prune::new(10).completed_for(Some(Duration::ZERO));
    session.events().prune(&prune).await.unwrap();
    let replay = Replay::new(EventFilter::default(), 10);
    session.handler_requests().replay(&replay).await.unwrap();
    drop(session);
    let mut tx = store.begin().await.unwrap();
    tx.events().raise(&[event()]).await.unwrap();
    tx.commit().await.unwrap();
}

/// Lets the server refuse what is written at another level than the one the store is made for.
async fn refuse_other_levels(prefix: &str) {
    const TABLES: [&str; 6] = [
        "events",
        "unprocessed_events",
        "waiting_events",
        "unwanted_events",
        "handler_requests",
        "registrations",
    ];
    let mut connection = PgConnection::connect(&postgres_url()).await.unwrap();
    let function = format!(
        "CREATE FUNCTION {prefix}level() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
           IF current_setting('transaction_isolation') <> 'read committed' THEN \
             RAISE EXCEPTION 'written at another level'; \
           END IF; RETURN NULL; END $$"
    );
    let triggers = TABLES.map(|table| {
        format!(
            "CREATE TRIGGER level BEFORE INSERT OR UPDATE OR DELETE ON {prefix}{table} \
             FOR EACH STATEMENT EXECUTE FUNCTION {prefix}level()"
        )
    });
    for statement in std::iter::once(function).chain(triggers) {
        let statement = sqlx::raw_sql(sqlx::AssertSqlSafe(statement));
        connection.execute(statement).await.unwrap();
    }
}

#[tokio::test]
async fn a_pool_with_settings_of_its_own_does_not_matter() {
    let prefix = prefix();
    let options = PostgresOptions::new().table_prefix(&*prefix);
    let store = PostgresStore::with_pool(odd_pool().await, options).unwrap();
    store.migrate().await.unwrap();
    refuse_other_levels(&prefix).await;
    use_all_of(&store).await;
}

#[tokio::test]
async fn a_role_with_an_isolation_level_of_its_own_does_not_matter() {
    let prefix = prefix();
    let options = PostgresOptions::new().table_prefix(&*prefix);
    let level = "options=-c%20default_transaction_isolation%3Drepeatable%5C%20read";
    let url = format!("{}?{level}", postgres_url());
    let store = PostgresStore::connect(&url, options).await.unwrap();
    store.migrate().await.unwrap();
    refuse_other_levels(&prefix).await;
    use_all_of(&store).await;
}

#[tokio::test]
async fn nothing_is_kept_in_a_connection_behind_a_transaction_pooler() {
    let options = PostgresOptions::new()
        .table_prefix(prefix())
        .max_connections(1)
        .transaction_pooler(true);
    let store = PostgresStore::connect(&postgres_url(), options)
        .await
        .unwrap();
    store.migrate().await.unwrap();
    use_all_of(&store).await;
    // What the pooler would give to somebody else is as it was when it was opened.
    let mut session = store.session().await.unwrap();
    let connection = session.connection().downcast::<PgConnection>().unwrap();
    let state: (String, String, i64) = sqlx::query_as(
        "SELECT current_setting('enable_hashjoin'), current_setting('lock_timeout'), \
           (SELECT count(*) FROM pg_prepared_statements WHERE statement NOT LIKE '%pg_prepared_statements%')",
    )
    .persistent(false)
    .fetch_one(connection)
    .await
    .unwrap();
    assert_eq!(state, ("on".to_owned(), "0".to_owned(), 0));
}

#[tokio::test]
async fn handlers_get_connections_without_pinned_plans() {
    let fresh = Postgres::new().await;
    let mut tx = fresh.store.begin().await.unwrap();
    let connection = tx.connection().downcast::<PgConnection>().unwrap();
    let setting: String = sqlx::query_scalar("SELECT current_setting('enable_hashjoin')")
        .fetch_one(connection)
        .await
        .unwrap();
    assert_eq!(setting, "on");
}

/// An event with one pending request.
async fn pending(fresh: &Postgres) -> HandlerRequestId {
    let mut session = fresh.store.session().await.unwrap();
    let registrations = [registration("*", "h")];
    session
        .registrations()
        .register(&registrations)
        .await
        .unwrap();
    let event = event();
    session
        .events()
        .raise(std::slice::from_ref(&event))
        .await
        .unwrap();
    session.events().fan_out(&FanOut::due(10)).await.unwrap();
    HandlerRequestId::derive(event.id, "h")
}

#[tokio::test]
async fn a_connection_whose_call_was_dropped_is_closed_and_changes_nothing() {
    let fresh = Postgres::new().await;
    let id = pending(&fresh).await;
    let mut holder = fresh.store.begin().await.unwrap();
    let lock = LockMode::Wait;
    holder
        .handler_requests()
        .find_for_update(id, lock)
        .await
        .unwrap();
    let mut session = fresh.store.session().await.unwrap();
    {
        let mut requests = session.handler_requests();
        let cancel = requests.cancel(id);
        let dropped = tokio::time::timeout(Duration::from_millis(100), cancel).await;
        assert!(dropped.is_err(), "the row is locked");
    }
    let error = session.handler_requests().cancel(id).await.unwrap_err();
    assert!(error.to_string().contains("cannot be reached"), "{error}");
    drop(session);
    holder.rollback().await.unwrap();
    // The server may go on with the statement until it finds the connection closed.
    let mut tx = fresh.store.begin().await.unwrap();
    let found = tx
        .handler_requests()
        .find_for_update(id, lock)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((found.attempt, found.canceled_at), (0, None));
}

#[tokio::test]
async fn a_transaction_that_is_dropped_gives_its_connection_back_to_nobody() {
    let options = PostgresOptions::new().max_connections(1);
    let fresh = Postgres::with(options).await;
    async fn pid(fresh: &Postgres, rolls_back: bool) -> i32 {
        let mut tx = fresh.store.begin().await.unwrap();
        let connection = tx.connection().downcast::<PgConnection>().unwrap();
        let pid = sqlx::query_scalar("SELECT pg_backend_pid()")
            .fetch_one(&mut *connection)
            .await
            .unwrap();
        if rolls_back {
            tx.rollback().await.unwrap();
        } else {
            // As a handler that was broken off leaves it.
            let sleep = connection.execute("SELECT pg_sleep(60)");
            let _ = tokio::time::timeout(Duration::from_millis(50), sleep).await;
            drop(tx);
        }
        pid
    }
    let first = pid(&fresh, true).await;
    assert_eq!(
        pid(&fresh, false).await,
        first,
        "a rollback keeps the connection"
    );
    assert_ne!(
        pid(&fresh, true).await,
        first,
        "a connection in the middle of a reply was reused"
    );
}

#[tokio::test]
async fn a_call_does_not_test_a_connection_that_has_just_come_back() {
    const CALLS: u64 = 50;
    let fresh = Postgres::new().await;
    let (proxy, through) = Proxy::of(&postgres_url()).await;
    let options = PostgresOptions::new()
        .table_prefix(&*fresh.prefix)
        .session_connections(1);
    let store = PostgresStore::connect(&through, options).await.unwrap();
    let call = async || {
        let mut session = store.session().await.unwrap();
        session.events().count_unprocessed().await.unwrap()
    };
    call().await;
    let before = proxy.sendings();
    for _ in 0..CALLS {
        call().await;
    }
    // The statement, and the test after it that nobody waits for.
    let sent = proxy.sendings() - before;
    assert!(
        sent <= 2 * CALLS + 1,
        "{sent} round trips for {CALLS} calls"
    );
}

/// Names of indexes and channels are cut after 63 bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_prefix_works_listening_included() {
    let mut longest = prefix();
    longest.push_str(&"x".repeat(31 - longest.len()));
    let options = PostgresOptions::new().table_prefix(&*longest);
    let store = PostgresStore::connect(&postgres_url(), options)
        .await
        .unwrap();
    store.migrate().await.unwrap();
    let mut listener = store.listener().await.unwrap();
    let ready = store.signals().ready;
    let seen = ready.seen();
    let listening = tokio::spawn(async move { listener.listen().await });
    let look = Look::new(vec!["h".into()]);
    store.look(&look).await.unwrap();
    use_all_of(&store).await;
    let changed = ready.changed_since(seen);
    tokio::time::timeout(Duration::from_secs(5), changed)
        .await
        .unwrap();
    assert!(!listening.is_finished());
    let names = "SELECT count(*) FROM pg_class WHERE starts_with(relname, $1)";
    let pool = PgPool::connect(&postgres_url()).await.unwrap();
    let named: i64 = sqlx::query_scalar(names)
        .bind(&longest)
        .fetch_one(&pool)
        .await
        .unwrap();
    // Eight tables, their keys, seven indexes and a sequence.
    assert_eq!(named, 24);
}

#[tokio::test]
async fn a_claim_whose_best_were_taken_by_another_is_soon_tried_again() {
    let fresh = Postgres::new().await;
    let mut session = fresh.store.session().await.unwrap();
    let registrations = [registration("*", "h"), registration("*", "i")];
    let mut registrations = registrations.to_vec();
    registrations[0].priority = Priority::new(1).unwrap();
    session
        .registrations()
        .register(&registrations)
        .await
        .unwrap();
    session.events().raise(&[event(), event()]).await.unwrap();
    session.events().fan_out(&FanOut::due(10)).await.unwrap();
    let rooms = vec![HandlerRoom::new("h", 2), HandlerRoom::new("i", 2)];
    let claim = |limit| {
        Claim::new(
            LeaseOwner::new(),
            Duration::from_secs(9),
            limit,
            rooms.clone(),
        )
    };
    // Another process is in the middle of its claim of the better ones.
    let mut other = fresh.store.begin().await.unwrap();
    let taken = other.handler_requests().claim(&claim(2)).await.unwrap();
    assert!(taken.requests.iter().all(|one| &*one.handler == "h"));
    let batch = session.handler_requests().claim(&claim(2)).await.unwrap();
    assert!(batch.requests.is_empty());
    let again = batch.next_due.expect("there are more");
    assert!(again <= Duration::from_millis(100), "{again:?}");
    other.commit().await.unwrap();
    let batch = session.handler_requests().claim(&claim(2)).await.unwrap();
    assert_eq!(batch.requests.len(), 2);
    assert_eq!(batch.next_due, None);
}

/// PostgreSQL answers such a commit as if it were one, and rolls back.
#[tokio::test]
async fn a_commit_after_a_statement_that_failed_is_an_error() {
    let fresh = Postgres::new().await;
    let id = pending(&fresh).await;
    let mut holder = fresh.store.begin().await.unwrap();
    holder.handler_requests().cancel(id).await.unwrap();
    for by_handler in [true, false] {
        let mut tx = fresh.store.begin().await.unwrap();
        let event = event();
        tx.events()
            .raise(std::slice::from_ref(&event))
            .await
            .unwrap();
        if by_handler {
            let connection = tx.connection().downcast::<PgConnection>().unwrap();
            connection.execute("SELECT 1 / 0").await.unwrap_err();
        } else {
            let connection = tx.connection().downcast::<PgConnection>().unwrap();
            connection
                .execute("SET LOCAL lock_timeout = 10")
                .await
                .unwrap();
            // The connection is not in doubt because of the handler any more.
            tx.events().count_unprocessed().await.unwrap();
            tx.handler_requests().cancel(id).await.unwrap_err();
        }
        tx.commit().await.unwrap_err();
        let mut session = fresh.store.session().await.unwrap();
        assert!(session.events().find(event.id).await.unwrap().is_none());
    }
}

/// Whatever a call that has nothing to do learns of it.
#[tokio::test]
async fn a_commit_after_an_error_and_an_empty_call_is_an_error() {
    let fresh = Postgres::new().await;
    let mut tx = fresh.store.begin().await.unwrap();
    let event = event();
    tx.events()
        .raise(std::slice::from_ref(&event))
        .await
        .unwrap();
    let connection = tx.connection().downcast::<PgConnection>().unwrap();
    connection.execute("SELECT 1 / 0").await.unwrap_err();
    drop(tx.events().raise(&[]).await);
    tx.commit().await.unwrap_err();
    let mut session = fresh.store.session().await.unwrap();
    assert!(session.events().find(event.id).await.unwrap().is_none());
}

#[tokio::test]
async fn a_transaction_waits_for_a_lock_as_long_as_the_option_says() {
    let fresh = Postgres::new().await;
    let id = pending(&fresh).await;
    let mut holder = fresh.store.begin().await.unwrap();
    let lock = LockMode::Wait;
    let mut requests = holder.handler_requests();
    requests.find_for_update(id, lock).await.unwrap();
    drop(requests);
    let limit = Duration::from_millis(200);
    let options = PostgresOptions::new()
        .table_prefix(&*fresh.prefix)
        .lock_timeout(limit);
    // On a pool of the application, of which nothing is set.
    let waits = PostgresStore::with_pool(fresh.pool.clone(), options).unwrap();
    let mut tx = waits.begin().await.unwrap();
    let found = tx.handler_requests().find_for_update(id, lock).await;
    match found.unwrap_err() {
        StoreError::TimedOut { limit: told, .. } => assert_eq!(told, limit),
        error => panic!("{error}"),
    }
    tx.rollback().await.unwrap();
    holder.rollback().await.unwrap();
}
