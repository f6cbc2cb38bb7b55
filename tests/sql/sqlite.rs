//! What can go wrong on SQLite.

use std::{
    collections::HashSet,
    future::poll_fn,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::Poll,
    time::Duration,
};

use sqlx::{
    Connection as _, Executor as _, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};
use tidings::{
    Event, EventPattern, HandlerRequestId, LeaseOwner, Outcome, Priority, Registration,
    RequestState, SqliteOptions, SqliteStore, StoreError, sqlx,
    store::{
        Claim, ClaimedRequest, FanOut, HandlerRoom, LockMode, Raised, Renewal, Settled, Settlement,
        Storer, Transaction,
    },
};

use crate::fresh::sqlite::Sqlite;

const LEASE: Duration = Duration::from_secs(30);

fn event() -> Event {
    Event::new("order.placed", "a payload").unwrap()
}

fn short_of_patience() -> SqliteOptions {
    SqliteOptions::new().lock_timeout(Duration::from_millis(100))
}

async fn raise(store: &SqliteStore, events: &[Event]) {
    let mut session = store.session().await.unwrap();
    session.events().raise(events).await.unwrap();
}

async fn unprocessed(store: &SqliteStore) -> u64 {
    let mut session = store.session().await.unwrap();
    session.events().count_unprocessed().await.unwrap()
}

async fn register(store: &SqliteStore) {
    let pattern = EventPattern::parse("*").unwrap();
    let registration = Registration::new(pattern, "h".into(), Priority::default(), 5);
    let mut session = store.session().await.unwrap();
    let mut registrations = session.registrations();
    registrations.register(&[registration]).await.unwrap();
}

/// An event with one pending request.
async fn pending(store: &SqliteStore) -> HandlerRequestId {
    register(store).await;
    let event = event();
    raise(store, std::slice::from_ref(&event)).await;
    let mut session = store.session().await.unwrap();
    session.events().fan_out(&FanOut::due(10)).await.unwrap();
    HandlerRequestId::derive(event.id, "h")
}

async fn claim(store: &SqliteStore, owner: LeaseOwner) -> Vec<ClaimedRequest> {
    let claim = Claim::new(owner, LEASE, 100, vec![HandlerRoom::new("h", 100)]);
    let mut session = store.session().await.unwrap();
    let batch = session.handler_requests().claim(&claim).await.unwrap();
    batch.requests
}

/// The connection of a transaction, as a handler gets it.
fn lent(tx: &mut Box<dyn Transaction>) -> &mut SqliteConnection {
    tx.connection().downcast().unwrap()
}

#[tokio::test]
async fn an_event_commits_or_rolls_back_with_the_change_of_the_application() {
    let fresh = Sqlite::new().await;
    fresh.run("CREATE TABLE orders (id TEXT PRIMARY KEY)").await;
    let raiser = fresh.store.raiser();
    for begin in ["BEGIN", "BEGIN IMMEDIATE"] {
        for commits in [false, true] {
            fresh
                .run("DELETE FROM orders; DELETE FROM tidings_unprocessed_events")
                .await;
            let mut tx = fresh.pool.begin_with(begin).await.unwrap();
            tx.execute("INSERT INTO orders VALUES ('7')").await.unwrap();
            // The transaction, and the connection inside.
            raiser.raise(&mut tx, event()).await.unwrap();
            raiser.raise(&mut *tx, event()).await.unwrap();
            assert_eq!(unprocessed(&fresh.store).await, 0);
            if commits {
                tx.commit().await.unwrap();
            } else {
                tx.rollback().await.unwrap();
            }
            let count: i64 = sqlx::query_scalar("SELECT count(*) FROM orders")
                .fetch_one(&fresh.pool)
                .await
                .unwrap();
            assert_eq!(count, i64::from(commits));
            assert_eq!(unprocessed(&fresh.store).await, 2 * u64::from(commits));
        }
    }
}

#[tokio::test]
async fn an_event_without_a_transaction_is_on_the_queue_as_soon_as_it_is_stored() {
    let fresh = Sqlite::new().await;
    let raiser = fresh.store.raiser();
    let mut connection = fresh.pool.acquire().await.unwrap();
    // Whatever comes after the statement that stores the event never happens.
    let statements = AtomicU32::new(0);
    let mut handle = connection.lock_handle().await.unwrap();
    let count = Arc::new(statements);
    let counted = Arc::clone(&count);
    handle.set_commit_hook(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        true
    });
    drop(handle);
    let event = event();
    raiser.raise(&mut connection, event.clone()).await.unwrap();
    assert_eq!(count.load(Ordering::Relaxed), 1, "one commit for all of it");
    assert_eq!(unprocessed(&fresh.store).await, 1);
    let again = raiser.raise(&mut connection, event).await.unwrap();
    assert_eq!(again, Raised::AlreadyRaised);
}

/// More events than one statement takes: 8 of them, and the last one in a second statement.
fn much(last: &str) -> Vec<Event> {
    let large = "x".repeat(1_000_000);
    let names = [["large"; 8].as_slice(), &[last]].concat();
    let event = |name: &str| Event::new(name.to_owned(), &large).unwrap();
    names.into_iter().map(event).collect()
}

/// Polls a future so often and drops it, unless it is done by then.
async fn dropped_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut left = polls;
    poll_fn(|context| {
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// What the application writes on its connection is committed at once.
async fn assert_in_no_transaction(fresh: &Sqlite, connection: &mut SqliteConnection) {
    let before = fresh.count("SELECT count(*) FROM kept").await;
    connection
        .execute("INSERT INTO kept DEFAULT VALUES")
        .await
        .unwrap();
    let after = fresh.count("SELECT count(*) FROM kept").await;
    assert_eq!(after, before + 1);
    let nested = connection.begin_with("BEGIN IMMEDIATE").await;
    nested.unwrap().rollback().await.unwrap();
}

#[tokio::test]
async fn a_raise_in_several_statements_without_a_transaction_stores_nothing_when_one_fails() {
    let fresh = Sqlite::new().await;
    fresh
        .run("CREATE TABLE kept (id INTEGER PRIMARY KEY)")
        .await;
    let raiser = fresh.store.raiser();
    let mut connection = fresh.pool.acquire().await.unwrap();
    // The second one ends the whole transaction.
    for how in ["ABORT", "ROLLBACK"] {
        let trigger = format!(
            "CREATE TRIGGER refuse_{how} BEFORE INSERT ON {{p}}events WHEN new.name = '{how}' \
             BEGIN SELECT RAISE({how}, 'refused'); END"
        );
        fresh.run(&trigger).await;
        let error = raiser.raise_all(&mut connection, much(how)).await;
        let error = format!("{:?}", error.unwrap_err());
        assert!(error.contains("refused"), "{error}");
        assert_eq!(unprocessed(&fresh.store).await, 0, "{how}");
        assert_in_no_transaction(&fresh, &mut connection).await;
    }
    // Neither when it is the commit that fails.
    let mut handle = connection.lock_handle().await.unwrap();
    handle.set_commit_hook(|| false);
    drop(handle);
    let error = raiser.raise_all(&mut connection, much("last")).await;
    error.unwrap_err();
    connection.lock_handle().await.unwrap().remove_commit_hook();
    assert_eq!(unprocessed(&fresh.store).await, 0);
    assert_in_no_transaction(&fresh, &mut connection).await;
    // Neither when the application breaks it off, by which SQLite ends the transaction.
    let mut handle = connection.lock_handle().await.unwrap();
    handle.set_progress_handler(1000, || false);
    drop(handle);
    let error = raiser.raise_all(&mut connection, much("last")).await;
    assert!(error.unwrap_err().is_transient());
    let mut handle = connection.lock_handle().await.unwrap();
    handle.remove_progress_handler();
    drop(handle);
    assert_eq!(unprocessed(&fresh.store).await, 0);
    assert_in_no_transaction(&fresh, &mut connection).await;
    let raised = raiser.raise_all(&mut connection, much("last")).await;
    assert_eq!(raised.unwrap(), [Raised::New; 9]);
    assert_eq!(unprocessed(&fresh.store).await, 9);
    assert_in_no_transaction(&fresh, &mut connection).await;
}

#[tokio::test]
async fn a_raise_in_several_statements_that_is_dropped_stores_all_or_nothing() {
    let fresh = Sqlite::new().await;
    fresh
        .run("CREATE TABLE kept (id INTEGER PRIMARY KEY)")
        .await;
    let raiser = fresh.store.raiser();
    let mut connection = fresh.pool.acquire().await.unwrap();
    for polls in 1.. {
        let before = unprocessed(&fresh.store).await;
        let raise = raiser.raise_all(&mut connection, much("last"));
        let raised = dropped_after(polls, raise).await;
        // Whatever was under way on the connection is over afterwards.
        assert_in_no_transaction(&fresh, &mut connection).await;
        let stored = unprocessed(&fresh.store).await - before;
        assert!([0, 9].contains(&stored), "{stored} after {polls} polls");
        if let Some(raised) = raised {
            assert_eq!(raised.unwrap(), [Raised::New; 9]);
            assert!(polls > 2, "{polls}");
            break;
        }
    }
}

#[tokio::test]
async fn a_raise_in_several_statements_is_part_of_a_transaction_that_sqlx_does_not_know_of() {
    let fresh = Sqlite::new().await;
    let raiser = fresh.store.raiser();
    let mut connection = fresh.pool.acquire().await.unwrap();
    for (begin, end, stored) in [
        ("BEGIN", "ROLLBACK", 0),
        ("SAVEPOINT mine", "RELEASE mine", 9),
    ] {
        connection.execute(begin).await.unwrap();
        let raised = raiser.raise_all(&mut connection, much("last")).await;
        assert_eq!(raised.unwrap(), [Raised::New; 9]);
        assert_eq!(unprocessed(&fresh.store).await, 0);
        connection.execute(end).await.unwrap();
        assert_eq!(unprocessed(&fresh.store).await, stored);
    }
}

#[tokio::test]
async fn a_transaction_that_read_before_others_wrote_is_a_conflict() {
    let fresh = Sqlite::new().await;
    let raiser = fresh.store.raiser();
    let mut tx = fresh.pool.begin().await.unwrap();
    tx.execute("SELECT count(*) FROM tidings_events")
        .await
        .unwrap();
    raise(&fresh.store, &[event()]).await;
    let error = raiser.raise(&mut tx, event()).await.unwrap_err();
    assert!(error.is_conflict(), "{error}");
}

#[tokio::test]
async fn thousands_of_events_and_large_ones_are_raised_at_once() {
    let fresh = Sqlite::new().await;
    let mut events: Vec<_> = (0..10_000).map(|_| event()).collect();
    // More than one statement takes.
    let large = "ä\u{1}\"\\".repeat(150_000);
    events.extend((0..12).map(|_| Event::new("large", &large).unwrap()));
    let mut session = fresh.store.session().await.unwrap();
    let raised = session.events().raise(&events).await.unwrap();
    assert_eq!(raised, vec![Raised::New; 10_012]);
    assert_eq!(unprocessed(&fresh.store).await, 10_012);
    let last = events.last().unwrap();
    let found = session.events().find(last.id).await.unwrap().unwrap();
    assert_eq!(*found.event, *last);
}

#[tokio::test]
async fn connections_are_durable_and_patient() {
    let fresh = Sqlite::new().await;
    let mut tx = fresh.store.begin().await.unwrap();
    let settings: (String, i64, i64) = sqlx::query_as(
        "SELECT (SELECT journal_mode FROM pragma_journal_mode), \
                (SELECT synchronous FROM pragma_synchronous), \
                (SELECT timeout FROM pragma_busy_timeout)",
    )
    .fetch_one(lent(&mut tx))
    .await
    .unwrap();
    assert_eq!(settings, ("wal".to_owned(), 2, 8000));
}

#[tokio::test]
async fn bad_urls_and_files_are_refused_with_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display();
    let garbage = format!("{path}/garbage.db");
    std::fs::write(&garbage, "no database".repeat(1000)).unwrap();
    for (url, remedy) in [
        ("sqlite::memory:".to_owned(), "in-memory store"),
        ("sqlite://:memory:".to_owned(), "in-memory store"),
        ("sqlite:x.db?mode=memory".to_owned(), "in-memory store"),
        (
            "sqlite:file:x?mode=memory&cache=shared".to_owned(),
            "in-memory store",
        ),
        ("sqlite:".to_owned(), "in-memory store"),
        (format!("sqlite:{path}/x.db?mode=ro"), "mode=ro"),
        (format!("sqlite:{path}/x.db?immutable=1"), "immutable"),
        (
            format!("sqlite:{path}/x.db?nonsense=1"),
            "unknown parameter",
        ),
        (format!("sqlite:{path}/no/such/x.db"), "directory"),
        (format!("sqlite:{path}/missing.db?mode=rw"), "directory"),
        ("postgres://a:secret@b/c".to_owned(), "sqlite:FILE"),
        (format!("{path}/x.db"), "sqlite:FILE"),
    ] {
        let error = SqliteStore::connect(&url, SqliteOptions::new()).await;
        let error = error.expect_err(&url);
        let text = format!("{error} {error:?}");
        assert!(matches!(error, StoreError::Invalid { .. }), "{url}: {text}");
        assert!(error.to_string().contains(remedy), "{url}: {error}");
        assert!(!text.contains("secret"), "{text}");
    }
    let url = format!("sqlite:{garbage}");
    let error = SqliteStore::connect(&url, SqliteOptions::new()).await;
    let error = format!("{:?}", error.unwrap_err());
    assert!(error.contains("not a database"), "{error}");
    let options = SqliteOptions::new().table_prefix("x; DROP TABLE y");
    let url = format!("sqlite:{path}/y.db");
    let error = SqliteStore::connect(&url, options).await.unwrap_err();
    assert!(error.to_string().contains("table prefix"), "{error}");
    let pool = SqlitePool::connect("sqlite::memory:").await.unwrap();
    let error = SqliteStore::with_pool(pool, SqliteOptions::new()).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("in-memory store"), "{error}");
}

#[tokio::test]
async fn a_schema_that_does_not_fit_is_refused_with_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/a b#.db", directory.path().display());
    let url = url.replace(' ', "%20").replace('#', "%23");
    let connect = async || {
        SqliteStore::connect(&url, SqliteOptions::new())
            .await
            .unwrap()
    };
    let missing = connect().await.session().await.err().unwrap();
    assert!(missing.to_string().contains("migrate"), "{missing}");
    let store = connect().await;
    store.migrate().await.unwrap();
    store.migrate().await.unwrap();
    let mut tx = store.begin().await.unwrap();
    lent(&mut tx)
        .execute("UPDATE tidings_migrations SET compatible_from = '99.0.0'")
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let newer = connect().await.migrate().await.unwrap_err();
    assert!(newer.to_string().contains("99.0.0"), "{newer}");
}

#[tokio::test]
async fn a_schema_whose_migrations_are_forgotten_is_told_with_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", directory.path().join("x.db").display());
    let connect = async || {
        SqliteStore::connect(&url, SqliteOptions::new())
            .await
            .unwrap()
    };
    let store = connect().await;
    store.migrate().await.unwrap();
    let mut tx = store.begin().await.unwrap();
    lent(&mut tx)
        .execute("DELETE FROM tidings_migrations")
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let error = connect().await.migrate().await.unwrap_err().to_string();
    for part in ["migration 1", "already exists", "record it"] {
        assert!(error.contains(part), "{error}");
    }
}

#[tokio::test]
async fn a_file_that_is_gone_does_not_come_back_empty() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.db");
    let url = format!("sqlite:{}", path.display());
    let store = SqliteStore::connect(&url, SqliteOptions::new())
        .await
        .unwrap();
    store.migrate().await.unwrap();
    std::fs::remove_file(&path).unwrap();
    // The renewer opens a connection of its own.
    let error = store.lease_renewer().await.err().unwrap();
    assert!(error.is_transient(), "{error}");
    assert!(!path.exists());
}

#[tokio::test]
async fn a_file_that_others_use_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    // A reader keeps the file from being set to a write-ahead log, a writer from being read.
    for (n, begin) in ["BEGIN", "BEGIN EXCLUSIVE"].into_iter().enumerate() {
        let url = format!("sqlite:{}/{n}.db", directory.path().display());
        let pool = plain_pool(&url, 1).await;
        let hold = async || {
            let mut holder = pool.begin_with(begin).await.unwrap();
            let reads = "SELECT count(*) FROM sqlite_master";
            holder.execute(reads).await.unwrap();
            holder
        };
        let holder = hold().await;
        let error = SqliteStore::connect(&url, short_of_patience()).await;
        let error = error.unwrap_err();
        assert!(matches!(error, StoreError::TimedOut { .. }), "{error}");
        let mut connecting = Box::pin(SqliteStore::connect(&url, SqliteOptions::new()));
        let early = tokio::time::timeout(Duration::from_millis(100), &mut connecting).await;
        assert!(early.is_err(), "{early:?}");
        holder.rollback().await.unwrap();
        connecting.await.unwrap().migrate().await.unwrap();
        // Once it has the log, readers are in nobody's way.
        let _holder = pool.begin_with("BEGIN").await.unwrap();
        SqliteStore::connect(&url, short_of_patience())
            .await
            .unwrap();
    }
}

/// A pool as an application may have made it.
async fn plain_pool(url: &str, connections: u32) -> SqlitePool {
    let options: SqliteConnectOptions = url.parse().unwrap();
    SqlitePoolOptions::new()
        .max_connections(connections)
        .connect_with(options.create_if_missing(true))
        .await
        .unwrap()
}

#[tokio::test]
async fn a_pool_of_one_connection_without_a_write_ahead_log_does() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/x.db", directory.path().display());
    let options = SqliteOptions::new().table_prefix("shop_");
    let store = SqliteStore::with_pool(plain_pool(&url, 1).await, options)
        .await
        .unwrap();
    store.migrate().await.unwrap();
    let id = pending(&store).await;
    let owner = LeaseOwner::new();
    let claimed = claim(&store, owner).await;
    let mut renewer = store.lease_renewer().await.unwrap();
    let held = vec![(id, claimed[0].attempt)];
    let lost = renewer.renew(&Renewal::new(owner, LEASE, held)).await;
    assert_eq!(lost.unwrap().lost, []);
    let settlement = Settlement::new(id, claimed[0].attempt, owner, Outcome::Completed);
    let mut tx = store.begin().await.unwrap();
    let settled = tx.handler_requests().settle(&[settlement]).await.unwrap();
    assert_eq!(settled, [Settled::Applied]);
    tx.commit().await.unwrap();
}

/// What a handler may do to its transaction behind the store's back.
const ENDINGS: &[&str] = &[
    "COMMIT",
    "ROLLBACK",
    "COMMIT; BEGIN IMMEDIATE",
    "INSERT OR ROLLBACK INTO kept VALUES (1)",
];

#[tokio::test]
async fn a_transaction_that_its_handler_ended_settles_nothing() {
    let fresh = Sqlite::new().await;
    fresh
        .run("CREATE TABLE kept (id INTEGER PRIMARY KEY); INSERT INTO kept VALUES (1)")
        .await;
    let owner = LeaseOwner::new();
    for ending in ENDINGS {
        let id = pending(&fresh.store).await;
        let claimed = claim(&fresh.store, owner).await;
        let settlement = Settlement::new(id, claimed[0].attempt, owner, Outcome::Completed);
        let mut tx = fresh.store.begin().await.unwrap();
        let _ = lent(&mut tx).execute(sqlx::raw_sql(*ending)).await;
        let settled = tx
            .handler_requests()
            .settle(std::slice::from_ref(&settlement))
            .await;
        let error = settled.unwrap_err();
        assert!(
            matches!(error, StoreError::Conflict { .. }),
            "{ending}: {error}"
        );
        assert!(tx.events().raise(&[event()]).await.is_err(), "{ending}");
        assert!(tx.commit().await.is_err(), "{ending}");
        let mut session = fresh.store.session().await.unwrap();
        let mut requests = session.handler_requests();
        let found = requests.find(id).await.unwrap().unwrap();
        assert_eq!(found.completed_at, None, "{ending}");
        // The connection is not used again, and nobody waits for it.
        let settled = requests.settle(&[settlement]).await.unwrap();
        assert_eq!(settled, [Settled::Applied], "{ending}");
        assert_eq!(unprocessed(&fresh.store).await, 0);
    }
}

#[tokio::test]
async fn what_a_handler_writes_after_its_transaction_has_ended_is_not_committed() {
    let fresh = Sqlite::with(SqliteOptions::new().max_connections(1)).await;
    fresh
        .run("CREATE TABLE kept (id INTEGER PRIMARY KEY); INSERT INTO kept VALUES (1)")
        .await;
    for ending in ENDINGS {
        let mut tx = fresh.store.begin().await.unwrap();
        let connection = lent(&mut tx);
        connection
            .execute("INSERT INTO kept VALUES (2)")
            .await
            .unwrap();
        let _ = connection.execute(sqlx::raw_sql(*ending)).await;
        for write in [
            "INSERT INTO kept VALUES (3)",
            "BEGIN; INSERT INTO kept VALUES (4); COMMIT",
            "SAVEPOINT mine; INSERT INTO kept VALUES (5); RELEASE mine",
            "CREATE TABLE more (id INTEGER PRIMARY KEY)",
        ] {
            if let Err(error) = connection.execute(sqlx::raw_sql(write)).await {
                assert!(
                    fresh.store.is_conflict(&error),
                    "{ending}: {write}: {error}"
                );
            }
        }
        let error = tx.commit().await.unwrap_err();
        assert!(error.is_conflict(), "{ending}: {error}");
        let tables = "SELECT count(*) FROM sqlite_master WHERE name = 'more'";
        let found = (
            fresh.count("SELECT count(*) FROM kept").await,
            fresh.count(tables).await,
        );
        assert_eq!(found, (1, 0), "{ending}");
        // The next transaction on the one connection commits as ever.
        let mut tx = fresh.store.begin().await.unwrap();
        tx.events().raise(&[event()]).await.unwrap();
        tx.commit().await.unwrap();
    }
    assert_eq!(unprocessed(&fresh.store).await, ENDINGS.len() as u64);
}

#[tokio::test]
async fn savepoints_of_a_handler_do_not_matter() {
    let fresh = Sqlite::new().await;
    fresh
        .run("CREATE TABLE kept (id INTEGER PRIMARY KEY)")
        .await;
    let mut tx = fresh.store.begin().await.unwrap();
    for commits in [true, false] {
        let mut nested = lent(&mut tx).begin().await.unwrap();
        nested
            .execute("INSERT INTO kept DEFAULT VALUES")
            .await
            .unwrap();
        if commits {
            nested.commit().await.unwrap();
        } else {
            nested.rollback().await.unwrap();
        }
        tx.events().raise(&[event()]).await.unwrap();
    }
    // One that is left open belongs to the transaction, too.
    let open = "SAVEPOINT open; INSERT INTO kept DEFAULT VALUES";
    lent(&mut tx).execute(sqlx::raw_sql(open)).await.unwrap();
    tx.commit().await.unwrap();
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM kept")
        .fetch_one(&fresh.pool)
        .await
        .unwrap();
    assert_eq!((kept, unprocessed(&fresh.store).await), (2, 2));
}

#[tokio::test]
async fn a_connection_whose_call_was_dropped_is_closed_and_changes_nothing() {
    let fresh = Sqlite::new().await;
    let other = SqliteStore::connect(&fresh.url, SqliteOptions::new())
        .await
        .unwrap();
    let id = pending(&fresh.store).await;
    // Dropped while it waits for its turn, and while it waits for SQLite's lock.
    for holder in [&fresh.store, &other] {
        let holder = holder.begin().await.unwrap();
        let mut session = fresh.store.session().await.unwrap();
        {
            let mut requests = session.handler_requests();
            let cancel = requests.cancel(id);
            let dropped = tokio::time::timeout(Duration::from_millis(100), cancel).await;
            assert!(dropped.is_err(), "somebody else writes");
        }
        let error = session.handler_requests().cancel(id).await.unwrap_err();
        assert!(error.to_string().contains("cannot be reached"), "{error}");
        drop(session);
        holder.rollback().await.unwrap();
        let mut tx = fresh.store.begin().await.unwrap();
        let mut requests = tx.handler_requests();
        let found = requests.find_for_update(id, LockMode::Wait).await.unwrap();
        assert_eq!(found.unwrap().canceled_at, None);
    }
}

/// Lets storing an event of this name take so many steps.
async fn slow_down(fresh: &Sqlite, name: &str, steps: u64) {
    let trigger = format!(
        "CREATE TRIGGER slow_{name} AFTER INSERT ON {{p}}events WHEN new.name = '{name}' BEGIN SELECT ( \
           WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {steps}) \
           SELECT max(i) FROM n); END"
    );
    fresh.run(&trigger).await;
}

async fn assert_all_can_write(stores: &[SqliteStore]) {
    for store in stores {
        let events = [event()];
        let write = raise(store, &events);
        let written = tokio::time::timeout(Duration::from_secs(4), write).await;
        assert!(written.is_ok(), "somebody still writes");
    }
}

#[tokio::test]
async fn a_session_that_is_kept_after_a_dropped_call_lets_others_write() {
    let fresh = Sqlite::new().await;
    let other = SqliteStore::connect(&fresh.url, SqliteOptions::new())
        .await
        .unwrap();
    let stores = [fresh.store.clone(), other];
    // So slow that it is not done when it is first polled, and so slow that it is never done.
    slow_down(&fresh, "slow", 100_000).await;
    slow_down(&fresh, "endless", 1_000_000_000).await;
    for polls in 1.. {
        let mut session = fresh.store.session().await.unwrap();
        let slow = [Event::new("slow", &()).unwrap()];
        let done = dropped_after(polls, session.events().raise(&slow)).await;
        assert_all_can_write(&stores).await;
        // The session is kept until here.
        let again = session.events().count_unprocessed().await;
        assert_eq!(again.is_ok(), done.is_some());
        if let Some(done) = done {
            assert_eq!(done.unwrap(), [Raised::New]);
            assert!(polls > 1, "it was not slow");
            break;
        }
    }
    let mut session = fresh.store.session().await.unwrap();
    let endless = [Event::new("endless", &()).unwrap()];
    let mut events = session.events();
    let raise = events.raise(&endless);
    let dropped = tokio::time::timeout(Duration::from_millis(200), raise).await;
    assert!(dropped.is_err());
    drop(events);
    assert_all_can_write(&stores).await;
    session.events().count_unprocessed().await.unwrap_err();
}

#[tokio::test]
async fn a_transaction_that_is_kept_after_a_dropped_call_lets_others_write() {
    let fresh = Sqlite::new().await;
    slow_down(&fresh, "endless", u64::MAX >> 1).await;
    let mut tx = fresh.store.begin().await.unwrap();
    let endless = [Event::new("endless", &()).unwrap()];
    let dropped = dropped_after(1, tx.events().raise(&endless)).await;
    assert!(dropped.is_none());
    assert_all_can_write(std::slice::from_ref(&fresh.store)).await;
    tx.commit().await.unwrap_err();
    assert_eq!(unprocessed(&fresh.store).await, 1);
}

/// Nothing refuses commits there, so what the owner writes afterwards must not stand alone.
#[tokio::test]
async fn what_is_written_after_a_dropped_call_on_a_foreign_pool_is_not_there() {
    let fresh = Sqlite::new().await;
    fresh
        .run("CREATE TABLE kept (id INTEGER PRIMARY KEY)")
        .await;
    let store = SqliteStore::with_pool(fresh.pool.clone(), SqliteOptions::new())
        .await
        .unwrap();
    slow_down(&fresh, "slow", 100_000).await;
    let slow = [Event::new("slow", &()).unwrap()];
    for polls in 1.. {
        let mut tx = store.begin().await.unwrap();
        let done = dropped_after(polls, tx.events().raise(&slow)).await;
        if done.is_some() {
            assert!(polls > 1, "it was not slow");
            break;
        }
        let connection = tx.connection().downcast::<SqliteConnection>().unwrap();
        // It may be refused, as the transaction may be over.
        let _ = connection.execute("INSERT INTO kept VALUES (1)").await;
        drop(tx);
        assert_eq!(fresh.count("SELECT count(*) FROM kept").await, 0, "{polls}");
    }
}

/// Lets counting the unprocessed events take for ever.
const ENDLESS: &str = "ALTER TABLE tidings_unprocessed_events RENAME TO elsewhere; \
     CREATE VIEW tidings_unprocessed_events (event_id) AS \
     WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n";

#[tokio::test]
async fn a_query_that_was_given_up_ends() {
    for times_out in [false, true] {
        // The store's own limit, and the caller's.
        let (limit, patience) = if times_out {
            (500, 10_000)
        } else {
            (60_000, 200)
        };
        let limit = Duration::from_millis(limit);
        let fresh = Sqlite::with(SqliteOptions::new().statement_timeout(limit)).await;
        let mut session = fresh.store.session().await.unwrap();
        session.events().count_unprocessed().await.unwrap();
        fresh.run(ENDLESS).await;
        let mut events = session.events();
        let count = events.count_unprocessed();
        let given_up = tokio::time::timeout(Duration::from_millis(patience), count).await;
        match given_up {
            Err(_) => assert!(!times_out),
            Ok(answer) => {
                let error = answer.unwrap_err();
                let timed_out = matches!(error, StoreError::TimedOut { .. });
                assert!(timed_out && times_out, "{error}");
            }
        }
        drop(events);
        // Nobody reads what was before any more, although the session is kept: the log can be reset.
        fresh.run("CREATE TABLE later (id INTEGER)").await;
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        assert_eq!(fresh.count(checkpoint).await, 0, "a query goes on");
        drop(session);
        let closed = tokio::time::timeout(Duration::from_secs(4), fresh.store.close()).await;
        assert!(closed.is_ok(), "its thread goes on");
    }
}

#[tokio::test]
async fn a_handler_that_is_broken_off_lets_others_write() {
    let fresh = Sqlite::with(SqliteOptions::new().max_connections(1)).await;
    fresh
        .run("CREATE TABLE kept (id INTEGER PRIMARY KEY)")
        .await;
    for _ in 0..3 {
        let mut tx = fresh.store.begin().await.unwrap();
        let endless = "INSERT INTO kept DEFAULT VALUES; \
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n";
        let running = lent(&mut tx).execute(sqlx::raw_sql(endless));
        let broken_off = tokio::time::timeout(Duration::from_millis(50), running).await;
        assert!(broken_off.is_err());
        drop(tx);
        raise(&fresh.store, &[event()]).await;
    }
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM kept")
        .fetch_one(&fresh.pool)
        .await
        .unwrap();
    assert_eq!((kept, unprocessed(&fresh.store).await), (0, 3));
}

#[tokio::test]
async fn who_waited_in_vain_for_the_lock_can_try_again() {
    let fresh = Sqlite::with(short_of_patience()).await;
    let other = SqliteStore::connect(&fresh.url, SqliteOptions::new())
        .await
        .unwrap();
    let mut session = fresh.store.session().await.unwrap();
    for holder in [&fresh.store, &other] {
        let holder = holder.begin().await.unwrap();
        let error = session.events().raise(&[event()]).await.unwrap_err();
        let limit_named = matches!(
            error,
            StoreError::TimedOut { limit, .. } if limit == Duration::from_millis(100)
        );
        assert!(limit_named && error.is_transient(), "{error}");
        // Reading goes on all the while.
        session.events().count_unprocessed().await.unwrap();
        holder.rollback().await.unwrap();
        session.events().raise(&[event()]).await.unwrap();
    }
    assert_eq!(unprocessed(&fresh.store).await, 2);
}

/// Writers that leave each other no pause, until they are stopped.
struct Writers {
    stops: Arc<AtomicBool>,
    /// How many transactions have begun.
    begun: Arc<AtomicU32>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Writers {
    fn start(store: &SqliteStore) -> Self {
        let (stops, begun) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU32::new(0)),
        );
        let writer = |_| {
            let (store, stops, begun) = (store.clone(), Arc::clone(&stops), Arc::clone(&begun));
            tokio::spawn(async move {
                while !stops.load(Ordering::Relaxed) {
                    let mut tx = store.begin().await.unwrap();
                    begun.fetch_add(1, Ordering::Relaxed);
                    tx.events().raise(&[event()]).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    tx.commit().await.unwrap();
                }
            })
        };
        let tasks = (0..8).map(writer).collect();
        Self {
            stops,
            begun,
            tasks,
        }
    }

    fn begun(&self) -> u32 {
        self.begun.load(Ordering::Relaxed)
    }

    async fn stop(self) {
        self.stops.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

/// The most transactions that began during one of twenty renewals.
async fn most_begun_during_a_renewal(store: &SqliteStore, writing: &SqliteStore) -> u32 {
    let id = pending(store).await;
    let owner = LeaseOwner::new();
    let attempt = claim(store, owner).await[0].attempt;
    let writers = Writers::start(writing);
    let mut renewer = store.lease_renewer().await.unwrap();
    let mut most = 0;
    for _ in 0..20 {
        let before = writers.begun();
        let renewal = Renewal::new(owner, LEASE, vec![(id, attempt)]);
        let lost = tokio::time::timeout(Duration::from_secs(5), renewer.renew(&renewal)).await;
        assert_eq!(lost.expect("renewed in time").unwrap().lost, []);
        most = most.max(writers.begun() - before);
    }
    writers.stop().await;
    most
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_waits_for_one_writer_however_many_there_are() {
    let fresh = Sqlite::new().await;
    let most = most_begun_during_a_renewal(&fresh.store, &fresh.store).await;
    // The one whose turn it was when it asked, and the one that was next when it was done.
    assert!(most <= 2, "{most} transactions began during a renewal");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_gets_through_beside_a_process_that_writes_all_the_time() {
    let fresh = Sqlite::new().await;
    let other = SqliteStore::connect(&fresh.url, SqliteOptions::new())
        .await
        .unwrap();
    let most = most_begun_during_a_renewal(&fresh.store, &other).await;
    // It breaks off after some ten of them; a busy machine may let a break or two go by.
    assert!(most <= 60, "{most} transactions began during a renewal");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_that_write_all_the_time_both_get_on() {
    let fresh = Sqlite::new().await;
    let other = SqliteStore::connect(&fresh.url, SqliteOptions::new())
        .await
        .unwrap();
    let writers: Vec<_> = (0..8)
        .map(|n| {
            let store = if n % 2 == 0 { &fresh.store } else { &other };
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..40 {
                    let mut tx = store.begin().await.unwrap();
                    tx.events().raise(&[event()]).await.unwrap();
                    tx.commit().await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(unprocessed(&other).await, 8 * 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_stores_open_and_migrate_a_new_file_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/new.db", directory.path().display());
    let starts: Vec<_> = (0..10)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move {
                let store = SqliteStore::connect(&url, SqliteOptions::new())
                    .await
                    .unwrap();
                store.migrate().await.unwrap();
                store
            })
        })
        .collect();
    for start in starts {
        assert_eq!(unprocessed(&start.await.unwrap()).await, 0);
    }
}

/// The file that processes of the next test share.
const CHILD: &str = "TIDINGS_TEST_SQLITE_CHILD";
const CHILDREN: usize = 4;
const RAISED_BY_EACH: usize = 25;

#[tokio::test]
async fn processes_share_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/shared.db", directory.path().display());
    let children: Vec<_> = (0..CHILDREN)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "sqlite::a_process_of_several", "--nocapture"])
                .env(CHILD, &url)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut claimed = Vec::new();
    for child in children {
        let output = tokio::task::spawn_blocking(|| child.wait_with_output());
        let output = output.await.unwrap().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        let ids = text
            .lines()
            .filter_map(|line| line.strip_prefix("claimed "));
        claimed.extend(ids.map(str::to_owned));
    }
    let distinct: HashSet<_> = claimed.iter().collect();
    assert_eq!(distinct.len(), claimed.len(), "a request ran twice");
    let store = SqliteStore::connect(&url, SqliteOptions::new())
        .await
        .unwrap();
    let mut session = store.session().await.unwrap();
    let mut requests = session.handler_requests();
    let completed = tidings::store::RequestFilter::default().in_states([RequestState::Completed]);
    let count = requests.count(&completed).await.unwrap();
    assert_eq!(count, claimed.len() as u64);
    let open = requests.count_unexecuted().await.unwrap();
    drop(requests);
    assert_eq!(
        count + open + session.events().count_unprocessed().await.unwrap(),
        (CHILDREN * RAISED_BY_EACH) as u64
    );
}

/// One of the processes; nothing when it is run as a test.
#[tokio::test]
#[expect(clippy::print_stdout, reason = "this is what the other process reads")]
async fn a_process_of_several() {
    let Ok(url) = std::env::var(CHILD) else {
        return;
    };
    let store = SqliteStore::connect(&url, SqliteOptions::new())
        .await
        .unwrap();
    store.migrate().await.unwrap();
    register(&store).await;
    let owner = LeaseOwner::new();
    for _ in 0..RAISED_BY_EACH {
        raise(&store, &[event()]).await;
        let mut session = store.session().await.unwrap();
        session.events().fan_out(&FanOut::due(3)).await.unwrap();
        for request in claim(&store, owner).await {
            println!("claimed {}", request.id);
            let settlement =
                Settlement::new(request.id, request.attempt, owner, Outcome::Completed);
            let settled = session.handler_requests().settle(&[settlement]).await;
            assert_eq!(settled.unwrap(), [Settled::Applied]);
        }
    }
}

/// How long SQLite itself waits for a lock on the connections of sessions and of transactions.
async fn busy_timeouts(store: &SqliteStore) -> [i64; 2] {
    let mut session = store.session().await.unwrap();
    let mut tx = store.begin().await.unwrap();
    let mut found = [0; 2];
    for (found, connection) in found
        .iter_mut()
        .zip([session.connection(), tx.connection()])
    {
        let connection = connection.downcast::<SqliteConnection>().unwrap();
        let asked = sqlx::query_scalar("PRAGMA busy_timeout");
        *found = asked.fetch_one(connection).await.unwrap();
    }
    tx.rollback().await.unwrap();
    found
}

#[tokio::test]
async fn connections_wait_for_locks_as_the_option_says_whatever_became_of_a_transaction() {
    let target = Sqlite::with(
        short_of_patience()
            .max_connections(1)
            .session_connections(1),
    )
    .await;
    assert_eq!(busy_timeouts(&target.store).await, [100, 100]);
    raise(&target.store, &[event()]).await;
    assert_eq!(busy_timeouts(&target.store).await, [100, 100]);
    // Somebody else writes for longer than a call waits.
    let mut other = target.pool.acquire().await.unwrap();
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    let mut session = target.store.session().await.unwrap();
    session.events().raise(&[event()]).await.unwrap_err();
    drop(session);
    target.store.begin().await.map(drop).unwrap_err();
    other.execute("ROLLBACK").await.unwrap();
    assert_eq!(busy_timeouts(&target.store).await, [100, 100]);
}
