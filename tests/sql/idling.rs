//! What processes that only poll cost their database while there is nothing to do.

use std::{sync::Arc, time::Duration};

use tidings::{
    ConcurrentScheduler, ConfigMap, Context, Event, Handler, HandlerResult, Retention, Scheduler,
    Telemetry, store::Storer,
};
use tokio::sync::mpsc;

/// How long the idle process is watched.
const WATCHED: Duration = Duration::from_secs(10);

/// How many calls a scheduler makes while it is watched, by this counter, after it had work.
async fn idle_calls(store: impl Storer + Clone, calls: impl Fn() -> u64) -> u64 {
    let (runs, mut ran) = mpsc::unbounded_channel();
    let note =
        async |runs: mpsc::UnboundedSender<()>, _: Arc<Event>, _: Context| -> HandlerResult {
            let _ = runs.send(());
            Ok(())
        };
    let handler = Handler::with_state("h", runs, note).on("*");
    let config = ConfigMap::builder().handler(handler).build().unwrap();
    let scheduler = ConcurrentScheduler::builder(Arc::new(store.clone()), config)
        // Gauges that are watched have a price of their own, and so has a pass of retention, the first of
        // which comes at a random time.
        .telemetry(Telemetry::disabled())
        .retention(Retention::never())
        .build()
        .unwrap();
    scheduler.start().await.unwrap();
    let event = Event::new("a", &()).unwrap();
    let mut session = store.session().await.unwrap();
    session.events().raise(&[event]).await.unwrap();
    drop(session);
    ran.recv().await.unwrap();
    // What follows work: close looks with growing pauses.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let before = calls();
    tokio::time::sleep(WATCHED).await;
    let idle = calls() - before;
    scheduler.shutdown(Duration::from_secs(3)).await;
    idle
}

/// One in a second, and one at either end may fall into the time.
fn check(calls: u64) {
    let allowed = WATCHED.as_secs() + 1;
    assert!((1..=allowed).contains(&calls), "{calls} in {WATCHED:?}");
}

#[cfg(feature = "mysql")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_process_on_mysql_makes_one_statement_a_second() {
    use tidings::{MySqlOptions, MySqlStore};

    use crate::{fresh::mysql::MySql, proxy::Proxy, server::mysql_url};

    let fresh = MySql::new().await;
    let (proxy, through) = Proxy::of(&mysql_url()).await;
    let options = MySqlOptions::new().table_prefix(&*fresh.prefix);
    let store = MySqlStore::connect(&through, options).await.unwrap();
    check(idle_calls(store, || proxy.statements()).await);
}

/// There is no wire to count at; a connection is taken from the pool for each call.
#[cfg(any(feature = "sqlite", feature = "sqlite-unbundled"))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_process_on_sqlite_makes_one_call_a_second() {
    use std::sync::atomic::{AtomicU64, Ordering};

    use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
    use tidings::{SqliteOptions, SqliteStore, sqlx};

    let directory = tempfile::tempdir().unwrap();
    let file = SqliteConnectOptions::new()
        .filename(directory.path().join("test.db"))
        .create_if_missing(true);
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let pool = SqlitePoolOptions::new()
        .min_connections(4)
        .max_connections(4)
        .idle_timeout(None)
        .max_lifetime(None)
        .before_acquire(move |_, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            Box::pin(async { Ok(true) })
        })
        .connect_with(file)
        .await
        .unwrap();
    let store = SqliteStore::with_pool(pool, SqliteOptions::new())
        .await
        .unwrap();
    store.migrate().await.unwrap();
    check(idle_calls(store, || calls.load(Ordering::Relaxed)).await);
}
