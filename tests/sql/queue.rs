//! The queue of events on PostgreSQL: what others do at the same time, and what was there before.

use std::{sync::Arc, time::Duration};

use tidings::{
    ConcurrentScheduler, ConfigMap, Context, Event, EventId, EventPattern, Handler, HandlerError,
    PostgresOptions, PostgresStore, Priority, Registration, Scheduler, StoreError,
    sqlx::{self, AssertSqlSafe, PgConnection},
    store::{FanOut, FannedOut, Look, Storer},
};

use crate::fresh::postgres::Postgres;

/// So many places of the queue that were taken off it, by events of a year ago: a look that walks over them
/// takes tens of milliseconds. A transaction that is open keeps them from being cleaned away.
const TAKEN: u32 = 400_000;

async fn registered() -> Postgres {
    let fresh = Postgres::new().await;
    let pattern = EventPattern::parse("*").unwrap();
    let registration = Registration::new(pattern, "h".into(), Priority::default(), 5);
    let mut session = fresh.store.session().await.unwrap();
    let mut registrations = session.registrations();
    registrations.register(&[registration]).await.unwrap();
    drop(registrations);
    drop(session);
    fresh
}

async fn raise(fresh: &Postgres, id: EventId) {
    let event = Event::new("order.placed", &()).unwrap().with_id(id);
    let mut session = fresh.store.session().await.unwrap();
    session.events().raise(&[event]).await.unwrap();
}

async fn fan_out(fresh: &Postgres) -> FannedOut {
    let mut session = fresh.store.session().await.unwrap();
    session.events().fan_out(&FanOut::due(10)).await.unwrap()
}

/// A transaction that sees everything as it is now, and keeps it so.
async fn hold_a_snapshot(fresh: &Postgres) -> sqlx::pool::PoolConnection<sqlx::Postgres> {
    let mut connection = fresh.pool.acquire().await.unwrap();
    run(
        &mut connection,
        fresh,
        "BEGIN ISOLATION LEVEL REPEATABLE READ",
    )
    .await;
    run(&mut connection, fresh, "SELECT FROM {p}unprocessed_events").await;
    connection
}

async fn run(connection: &mut PgConnection, fresh: &Postgres, sql: &str) {
    let sql = AssertSqlSafe(sql.replace("{p}", &fresh.prefix));
    sqlx::raw_sql(sql).execute(connection).await.unwrap();
}

async fn take(fresh: &Postgres, count: u32) {
    let mut connection = fresh.pool.acquire().await.unwrap();
    let taken = format!(
        "INSERT INTO {{p}}unprocessed_events \
         SELECT ('018d0000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid FROM generate_series(1, {count}) n; \
         DELETE FROM {{p}}unprocessed_events"
    );
    run(&mut connection, fresh, &taken).await;
}

/// An id of the time when those were raised that were taken.
fn of_a_year_ago(number: u128) -> EventId {
    let id = 0x018d_0000_0000_7000_9000_0000_0000_0000 + number;
    EventId::from_uuid(uuid::Uuid::from_u128(id))
}

/// Fans out new events until looks begin after what was taken.
async fn until_looks_are_partial(fresh: &Postgres) {
    for _ in 0..4 {
        raise(fresh, EventId::new()).await;
        let fanned_out = fan_out(fresh).await;
        assert_eq!(fanned_out.processed.len(), 1);
        if fanned_out.partial {
            return;
        }
    }
    panic!("all looks are from the beginning");
}

#[tokio::test]
async fn what_was_taken_off_the_queue_slows_a_few_looks_down_and_then_none() {
    let fresh = registered().await;
    let _snapshot = hold_a_snapshot(&fresh).await;
    take(&fresh, TAKEN).await;
    until_looks_are_partial(&fresh).await;
    for _ in 0..3 {
        raise(&fresh, EventId::new()).await;
        let next = fan_out(&fresh).await;
        assert_eq!((next.processed.len(), next.partial), (1, true));
    }
}

#[tokio::test]
async fn an_event_of_long_ago_that_a_partial_look_leaves_out_is_found_after_the_next_look() {
    let fresh = registered().await;
    let _snapshot = hold_a_snapshot(&fresh).await;
    take(&fresh, TAKEN).await;
    until_looks_are_partial(&fresh).await;

    let late = of_a_year_ago(1);
    raise(&fresh, late).await;
    let partial = fan_out(&fresh).await;
    assert_eq!((partial.processed.len(), partial.partial), (0, true));
    let outlook = fresh.store.look(&Look::new(Vec::new())).await.unwrap();
    assert!(outlook.event_waits);
    let thorough = fan_out(&fresh).await;
    let processed: Vec<_> = thorough.processed.iter().map(|event| event.id).collect();
    assert_eq!(processed, [late]);
}

/// As after hours at thousands of events a second.
#[tokio::test]
async fn fan_outs_go_on_where_none_from_the_beginning_ends_in_time() {
    let fresh = registered().await;
    let _snapshot = hold_a_snapshot(&fresh).await;
    take(&fresh, 3 * TAKEN).await;
    let options = PostgresOptions::new()
        .table_prefix(&*fresh.prefix)
        .statement_timeout(Duration::from_millis(60));
    let url = crate::server::postgres_url();
    let hurried = PostgresStore::connect(&url, options).await.unwrap();
    // A busy machine may be late by itself.
    for _ in 0..100 {
        raise(&fresh, EventId::new()).await;
        // A look that does not end in time stops no fan-out either.
        let _ = hurried.look(&Look::new(Vec::new())).await;
        let mut session = hurried.session().await.unwrap();
        match session.events().fan_out(&FanOut::due(10)).await {
            Ok(fanned_out) if !fanned_out.processed.is_empty() => return,
            Ok(_) | Err(StoreError::TimedOut { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("nothing is fanned out");
}

#[tokio::test]
async fn an_event_of_long_ago_is_found_by_the_safety_net_behind_what_was_taken() {
    let fresh = registered().await;
    let _snapshot = hold_a_snapshot(&fresh).await;
    take(&fresh, TAKEN).await;
    until_looks_are_partial(&fresh).await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let handler = Handler::new("h", move |event: Arc<Event>, _: Context| {
        tell.send(event.id).unwrap();
        async { Ok::<_, HandlerError>(()) }
    });
    let config = ConfigMap::builder()
        .handler(handler.on("*"))
        .build()
        .unwrap();
    let scheduler = ConcurrentScheduler::builder(Arc::new(fresh.store.clone()), config)
        .poll_interval(Duration::from_millis(500))
        .build()
        .unwrap();
    scheduler.start().await.unwrap();
    let mut until_handled = async |id| {
        // Some intervals, as looks take their time on a busy machine. Earlier events come first.
        let until = async { while told.recv().await.unwrap() != id {} };
        let in_time = tokio::time::timeout(Duration::from_secs(10), until).await;
        in_time.expect("it is handled in time");
    };
    let id = EventId::new();
    raise(&fresh, id).await;
    until_handled(id).await;
    for number in 0..3 {
        raise(&fresh, of_a_year_ago(number)).await;
        until_handled(of_a_year_ago(number)).await;
    }
    scheduler.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn looks_are_from_the_beginning_again_when_what_was_taken_is_cleaned_away() {
    let fresh = registered().await;
    let snapshot = hold_a_snapshot(&fresh).await;
    take(&fresh, TAKEN).await;
    until_looks_are_partial(&fresh).await;
    snapshot.close().await.unwrap();
    let mut connection = fresh.pool.acquire().await.unwrap();
    // Vacuum would have to wait for the snapshots of other tests.
    run(&mut connection, &fresh, "TRUNCATE {p}unprocessed_events").await;
    let look = Look::new(Vec::new());
    // The first one may still have to open a connection, and be slow by that.
    for _ in 0..5 {
        fresh.store.look(&look).await.unwrap();
    }
    assert!(!fan_out(&fresh).await.partial);
}

#[tokio::test]
async fn events_that_only_seem_to_be_locked_come_along_with_those_that_nobody_has() {
    let fresh = registered().await;
    // The first look is strict in its order, and asks nobody; after several events, the next one is for
    // many.
    for _ in 0..2 {
        raise(&fresh, EventId::new()).await;
    }
    assert_eq!(fan_out(&fresh).await.processed.len(), 2);
    let mut older = fresh.pool.acquire().await.unwrap();
    run(&mut older, &fresh, "BEGIN; SELECT pg_current_xact_id()").await;
    for _ in 0..8 {
        raise(&fresh, EventId::new()).await;
    }
    let mut broken_off = fresh.pool.acquire().await.unwrap();
    let last = "BEGIN; SELECT FROM {p}unprocessed_events WHERE event_id IN ( \
         SELECT event_id FROM {p}unprocessed_events ORDER BY event_id DESC LIMIT 3) FOR UPDATE; ROLLBACK";
    run(&mut broken_off, &fresh, last).await;
    let mut session = fresh.store.session().await.unwrap();
    let fanned_out = session.events().fan_out(&FanOut::due(8)).await.unwrap();
    assert_eq!(fanned_out.processed.len(), 8);
}

#[tokio::test]
async fn who_fans_out_beside_another_process_hears_of_it() {
    let fresh = registered().await;
    let contended = async |beside| {
        for _ in 0..2 {
            raise(&fresh, EventId::new()).await;
        }
        let mut fan_out = FanOut::due(10);
        fan_out.beside = beside;
        let mut session = fresh.store.session().await.unwrap();
        session.events().fan_out(&fan_out).await.unwrap().contended
    };
    assert!(!contended(false).await);
    let mut other = fresh.store.begin().await.unwrap();
    raise(&fresh, EventId::new()).await;
    other.events().fan_out(&FanOut::due(1)).await.unwrap();
    assert!(contended(false).await);
    assert!(!contended(true).await, "its process hears of it elsewhere");
    other.rollback().await.unwrap();
    assert!(!contended(false).await);
}
