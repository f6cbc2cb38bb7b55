//! What can go wrong on MySQL and MariaDB alone.

use std::{sync::Arc, task::Poll, time::Duration};

use chrono::Utc;
use sqlx::{Connection as _, Executor as _};
use tidings::{
    Entity, Event, EventPattern, HandlerRequestId, LeaseOwner, MySqlOptions, MySqlStore, Outcome,
    Priority, Registration, StoreError,
    sqlx::{self, MySqlConnection},
    store::{
        Claim, ClaimedRequest, EventFilter, FanOut, HandlerRoom, Page, Raised, RequestFilter,
        Session, Settled, Settlement, Storer, Transaction,
    },
};

use crate::{
    fresh::{mysql::MySql, prefix},
    server::{Kind, Private, mysql_url},
};

const LEASE: Duration = Duration::from_secs(600);

fn event(name: &str) -> Event {
    Event::new(name, &()).unwrap()
}

fn registration(pattern: &str, handler: &str) -> Registration {
    let pattern = EventPattern::parse(pattern).unwrap();
    Registration::new(pattern, handler.into(), Priority::default(), 5)
}

async fn register(session: &mut dyn Session, registrations: &[(&str, &str)]) {
    let registrations: Vec<_> = registrations
        .iter()
        .map(|(pattern, handler)| registration(pattern, handler))
        .collect();
    let registered = session.registrations().register(&registrations).await;
    registered.unwrap();
}

fn claim(owner: LeaseOwner, handlers: &[&str], limit: usize) -> Claim {
    let rooms = handlers
        .iter()
        .map(|handler| HandlerRoom::new(*handler, limit));
    Claim::new(owner, LEASE, limit, rooms.collect())
}

/// A request that this owner executes.
async fn executing(store: &MySqlStore, owner: LeaseOwner) -> ClaimedRequest {
    let mut session = store.session().await.unwrap();
    register(&mut *session, &[("a", "h")]).await;
    session.events().raise(&[event("a")]).await.unwrap();
    session.events().fan_out(&FanOut::due(10)).await.unwrap();
    let claimed = session
        .handler_requests()
        .claim(&claim(owner, &["h"], 1))
        .await;
    claimed.unwrap().requests.remove(0)
}

/// A transaction that has written what its handler wanted, whose handler met a deadlock and said
/// nothing of it.
async fn with_swallowed_deadlock(target: &MySql) -> Box<dyn Transaction> {
    target
        .run(
            "CREATE TABLE {p}stock (id INT PRIMARY KEY, n INT NOT NULL) ENGINE = InnoDB; \
             INSERT INTO {p}stock VALUES (1, 0), (2, 0), (3, 0)",
        )
        .await;
    let update = |id: u32| {
        let table = format!("{}stock", target.prefix);
        sqlx::AssertSqlSafe(format!("UPDATE {table} SET n = n + 1 WHERE id = {id}"))
    };
    // It changes more rows, so the server prefers it to the handler's.
    let mut other = target.pool.begin().await.unwrap();
    let many: Vec<_> = (10..200).map(|id| format!("({id}, 0)")).collect();
    let many = format!(
        "INSERT INTO {}stock VALUES {}",
        target.prefix,
        many.join(", ")
    );
    other.execute(sqlx::AssertSqlSafe(many)).await.unwrap();
    other.execute(update(2)).await.unwrap();

    let mut tx = target.store.begin().await.unwrap();
    let connection = tx.connection().downcast::<MySqlConnection>().unwrap();
    connection.execute(update(1)).await.unwrap();
    let first = update(1);
    let waits = tokio::spawn(async move {
        other.execute(first).await.unwrap();
        other
    });
    // Whichever of the two waits first.
    let error = connection.execute(update(2)).await.unwrap_err();
    let error = error.into_database_error().unwrap();
    let number = error.downcast::<sqlx::mysql::MySqlDatabaseError>().number();
    assert_eq!(number, 1213, "a deadlock");
    waits.await.unwrap().commit().await.unwrap();
    tx
}

async fn is_executing(store: &MySqlStore, request: &ClaimedRequest) -> bool {
    let mut session = store.session().await.unwrap();
    let found = session.handler_requests().find(request.id).await.unwrap();
    let found = found.unwrap();
    found.lease.is_some() && found.completed_at.is_none() && found.attempt == request.attempt
}

#[tokio::test]
async fn a_swallowed_deadlock_is_settled_by_nobody() {
    let target = MySql::new().await;
    let owner = LeaseOwner::new();
    let request = executing(&target.store, owner).await;
    let mut tx = with_swallowed_deadlock(&target).await;
    let settlement = Settlement::new(request.id, request.attempt, owner, Outcome::Completed);
    let settled = tx.handler_requests().settle(&[settlement]).await;
    assert!(settled.as_ref().unwrap_err().is_conflict(), "{settled:?}");
    // And it stays so.
    let raised = tx.events().raise(&[event("b")]).await;
    assert!(
        matches!(raised, Err(StoreError::Ended { .. })),
        "{raised:?}"
    );
    assert!(tx.commit().await.is_err());
    assert!(is_executing(&target.store, &request).await);
}

#[tokio::test]
async fn a_swallowed_deadlock_raises_nothing() {
    let target = MySql::new().await;
    let raised = event("a");
    let mut tx = with_swallowed_deadlock(&target).await;
    let answer = tx.events().raise(std::slice::from_ref(&raised)).await;
    assert!(answer.as_ref().unwrap_err().is_conflict(), "{answer:?}");
    drop(tx);
    let mut session = target.store.session().await.unwrap();
    assert_eq!(session.events().find(raised.id).await.unwrap(), None);
}

#[tokio::test]
async fn a_swallowed_deadlock_commits_nothing() {
    let target = MySql::new().await;
    let tx = with_swallowed_deadlock(&target).await;
    let answer = tx.commit().await;
    assert!(answer.as_ref().unwrap_err().is_conflict(), "{answer:?}");
}

/// It is in a transaction that nobody commits.
#[tokio::test]
async fn what_is_written_after_a_swallowed_deadlock_is_not_there() {
    let target = MySql::new().await;
    target.run("CREATE TABLE {p}ledger (id INT)").await;
    let mut tx = with_swallowed_deadlock(&target).await;
    let connection = tx.connection().downcast::<MySqlConnection>().unwrap();
    let insert = format!("INSERT INTO {}ledger VALUES (1)", target.prefix);
    connection
        .execute(sqlx::AssertSqlSafe(insert))
        .await
        .unwrap();
    let answer = tx.commit().await;
    assert!(answer.as_ref().unwrap_err().is_conflict(), "{answer:?}");
    assert_eq!(target.count("SELECT COUNT(*) FROM {p}ledger").await, 0);
}

/// While a table is changed or locked for long, those who give up leave no statement behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_that_were_given_up_do_not_pile_up_behind_a_locked_table() {
    let prefix = prefix();
    let options = MySqlOptions::new()
        .table_prefix(&*prefix)
        .statement_timeout(Duration::from_secs(1));
    let store = MySqlStore::connect(&mysql_url(), options).await.unwrap();
    store.migrate().await.unwrap();
    let mut other = MySqlConnection::connect(&mysql_url()).await.unwrap();
    let lock = format!("LOCK TABLES {prefix}handler_requests WRITE");
    other.execute(sqlx::AssertSqlSafe(lock)).await.unwrap();
    let mut beside = MySqlConnection::connect(&mysql_url()).await.unwrap();
    let waiting = format!(
        "SELECT COUNT(*) FROM information_schema.processlist \
         WHERE state LIKE 'Waiting for table metadata%' AND info LIKE '%{prefix}%'"
    );
    let mut most = 0;
    for _ in 0..6 {
        let mut session = store.session().await.unwrap();
        let counted = session.handler_requests().count_unexecuted().await;
        assert!(counted.is_err());
        let now: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(waiting.clone()))
            .fetch_one(&mut beside)
            .await
            .unwrap();
        most = most.max(now);
    }
    assert!((1..=3).contains(&most), "{most} statements wait");
}

#[tokio::test]
async fn a_handler_that_keeps_its_transaction_is_settled() {
    let target = MySql::new().await;
    let owner = LeaseOwner::new();
    let request = executing(&target.store, owner).await;
    let mut tx = target.store.begin().await.unwrap();
    for _ in 0..2 {
        let connection = tx.connection().downcast::<MySqlConnection>().unwrap();
        // A nested transaction is a savepoint.
        let mut nested = connection.begin().await.unwrap();
        nested.execute("SELECT 1").await.unwrap();
        nested.commit().await.unwrap();
        tx.events().raise(&[event("b")]).await.unwrap();
    }
    let settlement = Settlement::new(request.id, request.attempt, owner, Outcome::Completed);
    let settled = tx.handler_requests().settle(&[settlement]).await;
    assert_eq!(settled.unwrap(), [Settled::Applied]);
    tx.commit().await.unwrap();
    assert!(!is_executing(&target.store, &request).await);
}

#[tokio::test]
async fn ten_processes_migrate_at_once() {
    let prefix = prefix();
    let mut stores = Vec::new();
    for _ in 0..10 {
        let options = MySqlOptions::new().table_prefix(&*prefix);
        stores.push(MySqlStore::connect(&mysql_url(), options).await.unwrap());
    }
    let migrations = stores.iter().map(|store| {
        let store = store.clone();
        tokio::spawn(async move { store.migrate().await })
    });
    for migration in migrations.collect::<Vec<_>>() {
        migration.await.unwrap().unwrap();
    }
    for store in stores {
        store.check_schema().await.unwrap();
    }
}

#[tokio::test]
async fn a_migration_waits_for_another_one() {
    let prefix = prefix();
    let options = MySqlOptions::new().table_prefix(&*prefix);
    let store = MySqlStore::connect(&mysql_url(), options).await.unwrap();
    let mut other = MySqlConnection::connect(&mysql_url()).await.unwrap();
    let lock = format!(
        "SELECT GET_LOCK(CONCAT('tidings.', MD5(CONCAT(DATABASE(), '.{prefix}migrations'))), 0)"
    );
    other.execute(sqlx::AssertSqlSafe(lock)).await.unwrap();
    let migration = tokio::spawn(async move { store.migrate().await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!migration.is_finished(), "it must wait for the other one");
    // Whoever migrates may die, and its lock with it.
    other.close().await.unwrap();
    migration.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_migration_that_was_broken_off_goes_on() {
    let target = MySql::new().await;
    // As after a crash in the middle: what comes last is not there.
    target
        .run("DROP TABLE {p}registrations, {p}handler_requests; DELETE FROM {p}migrations")
        .await;
    let options = MySqlOptions::new().table_prefix(&*target.prefix);
    let store = MySqlStore::connect(&mysql_url(), options).await.unwrap();
    let missing = store.session().await.map(drop).unwrap_err();
    assert!(missing.to_string().contains("migrate()"), "{missing}");
    store.migrate().await.unwrap();
    executing(&store, LeaseOwner::new()).await;
}

#[tokio::test]
async fn large_batches_fit_into_packets() {
    const EVENTS: usize = 10_000;
    let target = MySql::with(MySqlOptions::new().statement_timeout(Duration::from_secs(30))).await;
    let mut session = target.store.session().await.unwrap();
    let handlers: Vec<_> = (0..10).map(|number| format!("handler{number}")).collect();
    let registrations: Vec<_> = handlers.iter().map(|handler| ("*", &**handler)).collect();
    register(&mut *session, &registrations).await;
    // 20 MB of data, and twice as much as a JSON text in a JSON text.
    let data = "\"\\".repeat(500);
    let mut events: Vec<_> = (0..EVENTS)
        .map(|_| Event::new("a", &data).unwrap())
        .collect();
    let raised = session.events().raise(&events).await.unwrap();
    assert!(raised.iter().all(|raised| *raised == Raised::New));
    // One that is new, between those that exist.
    events.insert(EVENTS / 2, Event::new("a", &data).unwrap());
    let raised = session.events().raise(&events).await.unwrap();
    let new: Vec<_> = (0..=EVENTS)
        .filter(|place| raised[*place] == Raised::New)
        .collect();
    assert_eq!(new, [EVENTS / 2]);
    let found = session.events().find(events[7].id).await.unwrap().unwrap();
    assert_eq!(found.event.data.decode::<String>().unwrap(), data);

    let fanned_out = session
        .events()
        .fan_out(&FanOut::due(EVENTS + 10))
        .await
        .unwrap();
    assert_eq!(fanned_out.processed.len(), EVENTS + 1);
    let mut requests = session.handler_requests();
    assert_eq!(
        requests.count_unexecuted().await.unwrap(),
        10 * (EVENTS as u64 + 1)
    );
    let owner = LeaseOwner::new();
    let names: Vec<_> = handlers.iter().map(|handler| &**handler).collect();
    let claimed = requests.claim(&claim(owner, &names, EVENTS)).await.unwrap();
    assert_eq!(claimed.requests.len(), EVENTS);
    let settlements: Vec<_> = claimed
        .requests
        .iter()
        .map(|claimed| Settlement::new(claimed.id, claimed.attempt, owner, Outcome::Completed))
        .collect();
    let settled = requests.settle(&settlements).await.unwrap();
    assert!(settled.iter().all(|settled| *settled == Settled::Applied));
}

#[tokio::test]
async fn a_long_event_needs_no_second_packet() {
    let target = MySql::new().await;
    let mut session = target.store.session().await.unwrap();
    let long = Event::new("a", &"\"".repeat(5_000_000)).unwrap();
    let raised = [event("a"), long.clone(), event("a")];
    let answer = session.events().raise(&raised).await.unwrap();
    assert_eq!(answer, [Raised::New; 3]);
    let found = session.events().find(long.id).await.unwrap().unwrap();
    assert_eq!(found.event.data, long.data);
}

/// A pool as an application may have it, with other settings than the store's own.
async fn foreign_pool() -> sqlx::MySqlPool {
    sqlx::mysql::MySqlPoolOptions::new()
        .max_connections(10)
        .after_connect(|connection, _| {
            Box::pin(async move {
                let settings = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; \
                     SET SESSION time_zone = '+05:00', sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'";
                connection.execute(sqlx::raw_sql(settings)).await?;
                Ok(())
            })
        })
        .connect(&mysql_url())
        .await
        .unwrap()
}

/// A migrated store on such a pool.
pub(crate) async fn on_foreign_pool() -> MySql {
    let prefix = prefix();
    let pool = foreign_pool().await;
    let options = MySqlOptions::new().table_prefix(&*prefix);
    let store = MySqlStore::with_pool(pool.clone(), options).unwrap();
    store.migrate().await.unwrap();
    MySql {
        store,
        pool,
        prefix,
    }
}

#[tokio::test]
async fn the_time_does_not_depend_on_the_sessions_time_zone() {
    for target in [MySql::new().await, on_foreign_pool().await] {
        let mut session = target.store.session().await.unwrap();
        let before = Utc::now();
        register(&mut *session, &[("a", "h")]).await;
        let registered = session.registrations().all().await.unwrap();
        let seen = registered[0].last_seen_at;
        // The server is this machine's.
        assert!(
            (seen - before).abs() < chrono::TimeDelta::seconds(60),
            "{seen} {before}"
        );
    }
}

#[tokio::test]
async fn similar_names_are_different() {
    let target = MySql::new().await;
    let mut session = target.store.session().await.unwrap();
    let names = ["cafe", "Cafe", "café", "cafe\u{301}", "\"\\'"];
    let registrations: Vec<_> = names.iter().map(|name| (*name, *name)).collect();
    register(&mut *session, &registrations).await;
    assert_eq!(
        session.registrations().all().await.unwrap().len(),
        names.len()
    );
    let mut events: Vec<_> = names.iter().map(|name| event(name)).collect();
    for (event, name) in events.iter_mut().zip(names) {
        event.entity = Some(Entity::new(name, name));
    }
    session.events().raise(&events).await.unwrap();
    let fanned_out = session.events().fan_out(&FanOut::due(100)).await.unwrap();
    assert!(fanned_out.processed.iter().all(|event| event.requests == 1));
    for (name, event) in names.iter().zip(&events) {
        let mut about = EventFilter::default();
        about.entity = Some(Entity::new(*name, *name));
        let filters = [EventFilter::default().named([*name]), about];
        for filter in filters {
            let page = Page::first(10);
            let found = session.events().list(&filter, &page).await.unwrap();
            assert_eq!(found.len(), 1, "{name:?} {filter:?}");
            assert_eq!(found[0].event.id, event.id);
        }
        let mut requests = session.handler_requests();
        let mut of_handler = RequestFilter::default();
        of_handler.handlers = vec![(*name).into()];
        for filter in [
            of_handler,
            RequestFilter::default().of_events_named([*name]),
        ] {
            let found = requests.list(&filter, &Page::first(10)).await.unwrap();
            assert_eq!(found.len(), 1, "{name:?} {filter:?}");
            assert_eq!(found[0].id, HandlerRequestId::derive(event.id, name));
        }
        let claim = claim(LeaseOwner::new(), &[name], 10);
        let claimed = requests.claim(&claim).await.unwrap().requests;
        assert_eq!(claimed.len(), 1, "{name:?}");
        assert_eq!(&*claimed[0].handler, *name);
    }
}

#[tokio::test]
async fn an_event_is_raised_as_a_whole_without_a_transaction() {
    let target = MySql::new().await;
    let raiser = target.store.raiser();
    let mut connection = target.pool.acquire().await.unwrap();
    target
        .run("RENAME TABLE {p}unprocessed_events TO {p}away")
        .await;
    let raised = event("a");
    raiser
        .raise(&mut *connection, raised.clone())
        .await
        .unwrap_err();
    target
        .run("RENAME TABLE {p}away TO {p}unprocessed_events")
        .await;
    let mut session = target.store.session().await.unwrap();
    assert_eq!(session.events().find(raised.id).await.unwrap(), None);
    let seen = target.store.signals().raised.seen();
    // The connection is still good, and in no transaction.
    let answer = raiser.raise(&mut *connection, raised.clone()).await;
    assert_eq!(answer.unwrap(), Raised::New);
    assert!(session.events().find(raised.id).await.unwrap().is_some());
    // It is committed, so a scheduler need not look for it again and again.
    assert_ne!(target.store.signals().raised.seen(), seen);
}

/// Polls a future so often, and drops it when it could go on.
async fn polled<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    let mut polls = 0;
    std::future::poll_fn(|context| {
        if polls == times {
            return Poll::Ready(None);
        }
        polls += 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

/// What the application writes afterwards would be part of a transaction that it does not know of.
#[tokio::test]
async fn a_raise_that_is_dropped_leaves_the_applications_connection_in_no_transaction() {
    for target in [MySql::new().await, on_foreign_pool().await] {
        target.run("CREATE TABLE {p}ledger (id INT)").await;
        let raiser = target.store.raiser();
        let mut connection = MySqlConnection::connect(&mysql_url()).await.unwrap();
        let insert = format!("INSERT INTO {}ledger VALUES (1)", target.prefix);
        let mut written = 0;
        for polls in 1.. {
            let raise = raiser.raise_all(&mut connection, vec![event("a"), event("b")]);
            let raised = polled(raise, polls).await;
            let mut write = async || {
                let insertion = connection.execute(sqlx::AssertSqlSafe(insert.clone()));
                let answer = tokio::time::timeout(Duration::from_secs(5), insertion).await;
                answer.expect("the connection answers")
            };
            // The first statement may get the answer that was not waited for.
            if write().await.is_err() {
                write().await.unwrap();
            }
            written += 1;
            let committed = target.count("SELECT COUNT(*) FROM {p}ledger").await;
            assert_eq!(committed, written, "after {polls} polls");
            let halves = "SELECT COUNT(*) % 2 FROM {p}events";
            assert_eq!(target.count(halves).await, 0, "after {polls} polls");
            if let Some(raised) = raised {
                assert_eq!(raised.unwrap(), [Raised::New; 2]);
                assert!(polls > 1, "it was never dropped in the middle");
                break;
            }
        }
    }
}

/// The connection that the application holds is not one that the store can raise through then.
#[tokio::test]
async fn a_raise_outside_of_a_transaction_needs_a_second_connection_of_the_pool() {
    let target = MySql::new().await;
    let pool = sqlx::mysql::MySqlPoolOptions::new()
        .max_connections(1)
        .connect_lazy(&mysql_url())
        .unwrap();
    let options = MySqlOptions::new()
        .table_prefix(&*target.prefix)
        .acquire_timeout(Duration::from_millis(300));
    let store = MySqlStore::with_pool(pool.clone(), options).unwrap();
    store.check_schema().await.unwrap();
    let mut connection = pool.acquire().await.unwrap();
    let refused = store.raiser().raise(&mut *connection, event("a")).await;
    assert!(
        matches!(refused, Err(StoreError::Exhausted { connections: 1, .. })),
        "{refused:?}"
    );
    let mut tx = connection.begin().await.unwrap();
    store.raiser().raise(&mut *tx, event("a")).await.unwrap();
    tx.commit().await.unwrap();
}

/// The server has rolled back what its owner still takes for a transaction: what was raised after that
/// would be there without the change that it tells of.
#[tokio::test]
async fn nothing_is_raised_for_a_transaction_that_was_lost() {
    let target = MySql::new().await;
    let mut tx = target.pool.begin().await.unwrap();
    // As after a deadlock.
    tx.execute("ROLLBACK").await.unwrap();
    let raised = target.store.raiser().raise(&mut *tx, event("a")).await;
    assert!(raised.as_ref().unwrap_err().is_conflict(), "{raised:?}");
    tx.commit().await.unwrap();
    assert_eq!(target.count("SELECT COUNT(*) FROM {p}events").await, 0);
}

#[tokio::test]
async fn a_connection_that_was_left_in_a_transaction_is_used_all_the_same() {
    let target = MySql::new().await;
    target.run("CREATE TABLE {p}ledger (id INT)").await;
    let insert = format!("INSERT INTO {}ledger VALUES (1)", target.prefix);
    let pool = sqlx::mysql::MySqlPoolOptions::new()
        .max_connections(1)
        .connect_lazy(&mysql_url())
        .unwrap();
    let options = MySqlOptions::new().table_prefix(&*target.prefix);
    let store = MySqlStore::with_pool(pool.clone(), options).unwrap();
    store.check_schema().await.unwrap();
    let leave = async || {
        let mut left = pool.acquire().await.unwrap();
        left.execute("START TRANSACTION").await.unwrap();
        left.execute(sqlx::AssertSqlSafe(insert.clone()))
            .await
            .unwrap();
    };
    leave().await;
    let mut session = store.session().await.unwrap();
    session.events().raise(&[event("a")]).await.unwrap();
    drop(session);
    leave().await;
    let mut tx = store.begin().await.unwrap();
    tx.events().raise(&[event("b")]).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(target.count("SELECT COUNT(*) FROM {p}events").await, 2);
    // What nobody has committed stays so.
    assert_eq!(target.count("SELECT COUNT(*) FROM {p}ledger").await, 0);
}

#[tokio::test]
async fn a_transaction_that_sqlx_does_not_know_of_stays_open() {
    for target in [MySql::new().await, on_foreign_pool().await] {
        let raiser = target.store.raiser();
        let mut connection = target.pool.acquire().await.unwrap();
        let raised = event("a");
        for (end, is_there) in [("ROLLBACK", false), ("COMMIT", true)] {
            connection.execute("START TRANSACTION").await.unwrap();
            let answer = raiser.raise(&mut *connection, raised.clone()).await;
            assert_eq!(answer.unwrap(), Raised::New);
            connection.execute(end).await.unwrap();
            let mut session = target.store.session().await.unwrap();
            let found = session.events().find(raised.id).await.unwrap();
            assert_eq!(found.is_some(), is_there, "{end}");
        }
    }
}

#[tokio::test]
async fn an_old_snapshot_does_not_hide_that_an_id_exists() {
    let target = on_foreign_pool().await;
    let raiser = target.store.raiser();
    let mut tx = target.pool.begin().await.unwrap();
    let find = format!("SELECT COUNT(*) FROM {}events", target.prefix);
    tx.execute(sqlx::AssertSqlSafe(find)).await.unwrap();
    let known = [event("a"), event("a")];
    let mut session = target.store.session().await.unwrap();
    session.events().raise(&known).await.unwrap();
    let mut asked = known.to_vec();
    asked.push(event("a"));
    let raised = raiser.raise_all(&mut *tx, asked).await.unwrap();
    let (new, old) = (Raised::New, Raised::AlreadyRaised);
    assert_eq!(raised, [old, old, new]);
    tx.commit().await.unwrap();
    assert_eq!(session.events().count_unprocessed().await.unwrap(), 3);
}

/// Both that wait have a shared lock then, and want it alone: one of them loses to a deadlock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raises_that_wait_for_one_that_is_rolled_back_are_run_again() {
    let target = MySql::new().await;
    let raised = event("a");
    let mut first = target.pool.begin().await.unwrap();
    let raiser = target.store.raiser();
    raiser.raise(&mut *first, raised.clone()).await.unwrap();
    let raises = [(); 4].map(|()| {
        let (store, raised) = (target.store.clone(), raised.clone());
        tokio::spawn(async move {
            let mut session = store.session().await?;
            session.events().raise(&[raised]).await
        })
    });
    let waiting = format!(
        "SELECT COUNT(*) FROM information_schema.innodb_trx \
         WHERE trx_state = 'LOCK WAIT' AND trx_query LIKE '%{}events%'",
        target.prefix
    );
    while target.count(&waiting).await < 4 {
        // The server answers what it last found, unless nobody has asked for a tenth of a second.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    first.rollback().await.unwrap();
    let mut new = 0;
    for raise in raises {
        let answer = raise.await.unwrap().unwrap();
        new += answer
            .iter()
            .filter(|raised| **raised == Raised::New)
            .count();
    }
    assert_eq!(new, 1);
    assert_eq!(
        target
            .count("SELECT COUNT(*) FROM {p}unprocessed_events")
            .await,
        1
    );
}

/// MariaDB 11.6 and later have it on. An id that came after the snapshot cannot be told to be there.
#[tokio::test]
async fn with_snapshot_isolation_an_id_that_the_snapshot_hides_is_a_conflict() {
    let target = MySql::new().await;
    let raiser = target.store.raiser();
    let mut connection = MySqlConnection::connect(&mysql_url()).await.unwrap();
    let settings = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; \
         SET SESSION innodb_snapshot_isolation = ON";
    connection.execute(sqlx::raw_sql(settings)).await.unwrap();
    let find = format!("SELECT COUNT(*) FROM {}events", target.prefix);
    let known = event("a");
    for (asked, is_refused) in [(known.clone(), true), (event("b"), false)] {
        let mut tx = connection.begin().await.unwrap();
        tx.execute(sqlx::AssertSqlSafe(find.clone())).await.unwrap();
        let mut session = target.store.session().await.unwrap();
        session
            .events()
            .raise(&[known.clone(), event("c")])
            .await
            .unwrap();
        let raised = raiser.raise(&mut *tx, asked).await;
        if is_refused {
            assert!(raised.as_ref().unwrap_err().is_conflict(), "{raised:?}");
            tx.rollback().await.unwrap();
        } else {
            assert_eq!(raised.unwrap(), Raised::New);
            tx.commit().await.unwrap();
        }
    }
    // `known`, two of `c`, and `b`.
    assert_eq!(
        target
            .count("SELECT COUNT(*) FROM {p}unprocessed_events")
            .await,
        4
    );
}

/// Whatever runs at once on the hot path, nothing of it loses to a deadlock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hot_path_does_not_deadlock_with_itself() {
    const ROUNDS: usize = 30;
    let target = MySql::with(MySqlOptions::new().session_connections(10)).await;
    let store = target.store.clone();
    let mut session = store.session().await.unwrap();
    register(&mut *session, &[("a", "h"), ("a", "i"), ("b", "h")]).await;
    drop(session);
    let mut tasks = Vec::new();
    for _ in 0..3 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            for round in 0..ROUNDS {
                let name = if round % 2 == 0 { "a" } else { "b" };
                let events: Vec<_> = (0..20).map(|_| event(name)).collect();
                let mut session = store.session().await?;
                session.events().raise(&events).await?;
            }
            Ok::<_, StoreError>(0)
        }));
    }
    for _ in 0..4 {
        let store = Arc::new(store.clone());
        tasks.push(tokio::spawn(async move {
            let owner = LeaseOwner::new();
            let mut renewer = store.lease_renewer().await?;
            let mut settled = 0;
            let mut idle = 0;
            while idle < 5 {
                let mut session = store.session().await?;
                session.events().fan_out(&FanOut::due(50)).await?;
                let asked = claim(owner, &["h", "i"], 40);
                let claimed = session.handler_requests().claim(&asked).await?.requests;
                idle = if claimed.is_empty() { idle + 1 } else { 0 };
                let held: Vec<_> = claimed
                    .iter()
                    .map(|request| (request.id, request.attempt))
                    .collect();
                let renewal = tidings::store::Renewal::new(owner, LEASE, held);
                let lost = renewer.renew(&renewal).await?.lost;
                assert_eq!(lost, []);
                let settlements: Vec<_> = claimed
                    .iter()
                    .rev()
                    .map(|request| {
                        let mut settlement =
                            Settlement::new(request.id, request.attempt, owner, Outcome::Completed);
                        if &*request.event.name == "a" && &*request.handler == "i" {
                            settlement.raised = vec![event("b")];
                        }
                        settlement
                    })
                    .collect();
                let answers = session.handler_requests().settle(&settlements).await?;
                settled += answers
                    .iter()
                    .filter(|answer| **answer == Settled::Applied)
                    .count();
                if claimed.is_empty() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            Ok::<_, StoreError>(settled)
        }));
    }
    let mut settled = 0;
    for task in tasks {
        settled += task.await.unwrap().unwrap();
    }
    // Each `a` has two requests and one of the events that its second one raises has one.
    let (a, b) = (3 * ROUNDS / 2 * 20, 3 * ROUNDS / 2 * 20);
    assert_eq!(settled, 2 * a + a + b);
}

/// Names cannot end in a space any more, but rows of another version may, and entities' ids do.
#[tokio::test]
async fn a_space_at_the_end_counts() {
    let target = MySql::new().await;
    let mut session = target.store.session().await.unwrap();
    let ids = ["1", "1 ", "1  "];
    let mut events: Vec<_> = ids.iter().map(|_| event("a")).collect();
    for (event, id) in events.iter_mut().zip(ids) {
        event.name = format!("a{}", id.trim_start_matches('1')).into();
        event.entity = Some(Entity::new("order", id));
    }
    session.events().raise(&events).await.unwrap();
    for event in &events {
        let mut about = EventFilter::default();
        about.entity.clone_from(&event.entity);
        for filter in [about, EventFilter::default().named([event.name.clone()])] {
            let found = session.events().list(&filter, &Page::first(9)).await;
            let found = found.unwrap();
            assert_eq!(found.len(), 1, "{filter:?}");
            assert_eq!(*found[0].event, *event);
        }
    }
}

/// Whether a connection still answers.
async fn lives(connection: &mut MySqlConnection) -> bool {
    connection.execute("SELECT 1").await.is_ok()
}

async fn number(connection: &mut MySqlConnection) -> u64 {
    let number = sqlx::query_scalar("SELECT CONNECTION_ID()");
    number.fetch_one(connection).await.unwrap()
}

/// A store on connections of its own, and one on an application's pool.
async fn on_both_kinds_of_pools(url: &str) -> [MySqlStore; 2] {
    let own = MySqlStore::connect(url, MySqlOptions::new()).await.unwrap();
    own.migrate().await.unwrap();
    let pool = sqlx::MySqlPool::connect_lazy(url).unwrap();
    [own, MySqlStore::new(pool)]
}

/// Numbers of connections begin anew then, and are given to others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_was_lost_in_a_restart_ends_nobody_elses_connection() {
    let server = Arc::new(Private::start(Kind::MariaDb));
    for is_known in [false, true] {
        for store in on_both_kinds_of_pools(server.url()).await {
            let mut tx = store.begin().await.unwrap();
            let connection = tx.connection().downcast::<MySqlConnection>().unwrap();
            let ours = number(connection).await;
            // The life of a server is known by the second in which it began; none but these is so
            // short.
            tokio::time::sleep(Duration::from_millis(1100)).await;
            let private = Arc::clone(&server);
            let restart = tokio::task::spawn_blocking(move || private.restart());
            restart.await.unwrap();
            if is_known {
                tx.events().count_unprocessed().await.unwrap_err();
            }
            // The store has a connection again before any of these, so none of its own is needed.
            drop(store.session().await);
            let mut others = Vec::new();
            loop {
                let mut other = MySqlConnection::connect(server.url()).await.unwrap();
                let given = number(&mut other).await;
                others.push(other);
                if given >= ours {
                    break;
                }
            }
            drop(tx);
            // Behind what was to end the connection, if anything: both go by the sessions' pool.
            wait_for_ends(&store).await;
            for other in &mut others {
                assert!(lives(other).await, "an innocent connection was ended");
            }
        }
    }
}

/// What ends connections has had its turn.
async fn wait_for_ends(store: &MySqlStore) {
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(store.session().await);
    }
}

/// The statement would hold the transaction's locks to its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_is_dropped_in_a_statement_leaves_no_locks() {
    let target = MySql::new().await;
    target
        .run("CREATE TABLE {p}stock (id INT PRIMARY KEY) ENGINE = InnoDB; INSERT INTO {p}stock VALUES (1)")
        .await;
    let lock = format!("SELECT id FROM {}stock FOR UPDATE", target.prefix);
    let stores = [
        target.store.clone(),
        MySqlStore::with_pool(
            target.pool.clone(),
            MySqlOptions::new().table_prefix(&*target.prefix),
        )
        .unwrap(),
    ];
    for store in stores {
        // Also when it is not the connection's first transaction.
        store.begin().await.unwrap().rollback().await.unwrap();
        let mut tx = store.begin().await.unwrap();
        let connection = tx.connection().downcast::<MySqlConnection>().unwrap();
        connection
            .execute(sqlx::AssertSqlSafe(lock.clone()))
            .await
            .unwrap();
        let sleeps = connection.execute("SELECT SLEEP(60)");
        let broken_off = tokio::time::timeout(Duration::from_millis(100), sleeps).await;
        assert!(broken_off.is_err());
        drop(tx);
        let mut other = target.pool.begin().await.unwrap();
        let locked = other.execute(sqlx::AssertSqlSafe(lock.clone()));
        let locked = tokio::time::timeout(Duration::from_secs(10), locked).await;
        locked.expect("the lock is free").unwrap();
    }
}
