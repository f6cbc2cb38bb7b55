//! How schedulers on PostgreSQL hear of what others do, and what it costs to wait.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tidings::{
    ConcurrentScheduler, ConfigMap, Context, Event, Handler, HandlerResult, PostgresOptions,
    PostgresStore, Retention, Scheduler, Telemetry, store::Storer,
};
use tokio::sync::mpsc;

use crate::{fresh::postgres::Postgres, proxy::Proxy, server::postgres_url};

/// Longer than any test: whoever finds work before has heard of it.
const NEVER: Duration = Duration::from_secs(300);
/// How long a test waits for what should take a moment; machines are slow at times.
const SOON: Duration = Duration::from_secs(3);

/// Another process on the same tables, as far as the database can tell.
async fn other(fresh: &Postgres, options: PostgresOptions) -> PostgresStore {
    let options = options.table_prefix(&*fresh.prefix);
    PostgresStore::connect(&postgres_url(), options)
        .await
        .unwrap()
}

type Runs = mpsc::UnboundedSender<Arc<Event>>;

async fn note(runs: Runs, event: Arc<Event>, _: Context) -> HandlerResult {
    let _ = runs.send(event);
    Ok(())
}

fn config(handler: &str, runs: &Runs) -> ConfigMap {
    let handler = Handler::with_state(handler.to_owned(), runs.clone(), note).on("*");
    ConfigMap::builder().handler(handler).build().unwrap()
}

/// A scheduler that is idle, and polls almost never.
async fn idle(
    store: &PostgresStore,
    handler: &str,
    poll: Duration,
) -> (ConcurrentScheduler, mpsc::UnboundedReceiver<Arc<Event>>) {
    let (runs, ran) = mpsc::unbounded_channel();
    let scheduler = ConcurrentScheduler::builder(Arc::new(store.clone()), config(handler, &runs))
        .poll_interval(poll)
        // Gauges that are watched have a price of their own, and so has a pass of retention, the first of
        // which comes at a random time.
        .telemetry(Telemetry::disabled())
        .retention(Retention::never())
        .build()
        .unwrap();
    scheduler.start().await.unwrap();
    (scheduler, ran)
}

/// Waits until so many connections listen to the tables of this test.
async fn until_listening(fresh: &Postgres, count: u64) {
    let listening = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%{p}raised%'";
    let begun = Instant::now();
    while fresh.count(listening).await != count {
        assert!(begun.elapsed() < Duration::from_secs(20), "nobody listens");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn event() -> Event {
    Event::new("order.placed", &()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_of_another_process_is_heard_of() {
    let fresh = Postgres::new().await;
    let listens = other(&fresh, PostgresOptions::new()).await;
    let (scheduler, mut ran) = idle(&listens, "h", NEVER).await;
    until_listening(&fresh, 1).await;
    for own in [true, false] {
        let event = event();
        if own {
            let mut session = fresh.store.session().await.unwrap();
            session
                .events()
                .raise(std::slice::from_ref(&event))
                .await
                .unwrap();
        } else {
            let mut tx = fresh.pool.begin().await.unwrap();
            fresh
                .store
                .raiser()
                .raise(&mut tx, event.clone())
                .await
                .unwrap();
            tx.commit().await.unwrap();
        }
        let handled = tokio::time::timeout(SOON, ran.recv())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(handled.id, event.id);
    }
    scheduler.shutdown(SOON).await;
}

/// The first of two raises notifies, the second is too close behind it; and the first commits long
/// after the second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_notification_was_suppressed_is_heard_of_all_the_same() {
    let fresh = Postgres::new().await;
    let listens = other(&fresh, PostgresOptions::new()).await;
    let (scheduler, mut ran) = idle(&listens, "h", NEVER).await;
    until_listening(&fresh, 1).await;
    let raiser = fresh.store.raiser();
    let mut first = fresh.pool.begin().await.unwrap();
    raiser.raise(&mut first, event()).await.unwrap();
    let mut second = fresh.pool.begin().await.unwrap();
    raiser.raise(&mut second, event()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(600)).await;
    second.commit().await.unwrap();
    tokio::time::timeout(SOON, ran.recv())
        .await
        .unwrap()
        .unwrap();
    first.commit().await.unwrap();
    tokio::time::timeout(SOON, ran.recv())
        .await
        .unwrap()
        .unwrap();
    scheduler.shutdown(SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_for_another_process_is_heard_of() {
    let fresh = Postgres::new().await;
    let executes = other(&fresh, PostgresOptions::new()).await;
    let (executor, mut ran) = idle(&executes, "there", NEVER).await;
    let (processor, mut ran_here) = idle(&fresh.store, "here", NEVER).await;
    until_listening(&fresh, 2).await;
    let mut session = fresh.store.session().await.unwrap();
    session.events().raise(&[event()]).await.unwrap();
    for ran in [&mut ran, &mut ran_here] {
        tokio::time::timeout(SOON, ran.recv())
            .await
            .unwrap()
            .unwrap();
    }
    executor.shutdown(SOON).await;
    processor.shutdown(SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_was_killed_is_replaced_by_polling_and_comes_back() {
    let fresh = Postgres::new().await;
    let listens = other(&fresh, PostgresOptions::new()).await;
    let (scheduler, mut ran) = idle(&listens, "h", Duration::from_secs(5)).await;
    until_listening(&fresh, 1).await;
    fresh
        .run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%{p}raised%'")
        .await;
    let mut session = fresh.store.session().await.unwrap();
    session.events().raise(&[event()]).await.unwrap();
    tokio::time::timeout(SOON, ran.recv())
        .await
        .unwrap()
        .unwrap();
    until_listening(&fresh, 1).await;
    scheduler.shutdown(SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_listen_polls() {
    let fresh = Postgres::new().await;
    let deaf = other(&fresh, PostgresOptions::new().listen(false)).await;
    let (scheduler, mut ran) = idle(&deaf, "h", Duration::from_secs(5)).await;
    let mut session = fresh.store.session().await.unwrap();
    session.events().raise(&[event()]).await.unwrap();
    tokio::time::timeout(SOON, ran.recv())
        .await
        .unwrap()
        .unwrap();
    until_listening(&fresh, 0).await;
    scheduler.shutdown(SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_process_with_a_listener_makes_one_statement_in_five_seconds() {
    const WATCHED: Duration = Duration::from_secs(16);
    let fresh = Postgres::new().await;
    let (proxy, through) = Proxy::of(&postgres_url()).await;
    let options = PostgresOptions::new().table_prefix(&*fresh.prefix);
    let store = PostgresStore::connect(&through, options).await.unwrap();
    let (scheduler, mut ran) = idle(&store, "h", Duration::from_secs(5)).await;
    until_listening(&fresh, 1).await;
    let mut session = store.session().await.unwrap();
    session.events().raise(&[event()]).await.unwrap();
    drop(session);
    ran.recv().await.unwrap();
    // What follows work: close looks with growing pauses, and what notifies others.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let before = proxy.statements();
    tokio::time::sleep(WATCHED).await;
    let sent = proxy.statements() - before;
    // One at either end may fall into the time.
    let allowed = WATCHED.as_secs() / 5 + 1;
    assert!(
        (1..=allowed).contains(&sent),
        "{sent} statements in {WATCHED:?}"
    );
    scheduler.shutdown(SOON).await;
}
