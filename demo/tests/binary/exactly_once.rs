//! What a transactional handler writes is there exactly once, whoever is killed when: not an option
//! of the demo, but processes of this test's own, since the demo's handlers only add up.

use std::{
    env,
    io::{self, Read as _},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use tidings::{
    Backoff, ConcurrentScheduler, ConfigMap, Context, Event, Handler, HandlerResult,
    PostgresOptions, PostgresStore, Scheduler as _, StoreError,
    sqlx::{self, PgConnection},
};

use crate::{
    database::{block_on, execute, number},
    program::alone,
    server::Kind,
    trouble::Trouble,
};

const EVENTS: usize = 100_000;
const BATCH: usize = 5000;
const WORKERS: usize = 4;
/// How long to wait after an error.
const PAUSE: Duration = Duration::from_millis(50);
/// Where a worker finds its database.
const URL: &str = "TIDINGS_TEST_WORKER_URL";

/// No conflict clause: a second run of an event that was recorded fails for ever.
async fn record(event: Arc<Event>, _: Context, connection: &mut PgConnection) -> HandlerResult {
    sqlx::query("INSERT INTO recorded (event_id) VALUES ($1)")
        .bind(event.id.as_uuid())
        .execute(connection)
        .await?;
    Ok(())
}

/// Runs handlers until its standard input ends, as it does when the test dies.
fn work(url: &str) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = loop {
            match PostgresStore::connect(url, PostgresOptions::new()).await {
                Ok(store) => break store,
                Err(error) => assert!(error.is_transient(), "{error:?}"),
            }
            tokio::time::sleep(PAUSE).await;
        };
        let record = Handler::transactional("record", record)
            .on("happened")
            // Errors of restarts and, from the third rescue on, of kills must not end a request.
            .max_errors(1000)
            .backoff(Backoff::constant(PAUSE))
            .concurrency(16);
        let config = ConfigMap::builder().handler(record).build().unwrap();
        let scheduler = ConcurrentScheduler::builder(Arc::new(store), config)
            .lease(Duration::from_secs(1))
            .build()
            .unwrap();
        scheduler.start().await.unwrap();
        let input = tokio::task::spawn_blocking(|| io::stdin().read_to_end(&mut Vec::new()));
        input.await.unwrap().unwrap();
        scheduler.shutdown(Duration::from_secs(5)).await;
    });
}

/// A worker, which is killed when this is dropped.
struct Worker(Child);

impl Worker {
    fn start(url: &str) -> Self {
        let child = Command::new(env::current_exe().unwrap())
            .args([
                "--exact",
                "exactly_once::a_hundred_thousand_events_are_recorded_once",
                "--nocapture",
            ])
            .env(URL, url)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

async fn raise(url: &str) -> Result<(), StoreError> {
    let store = PostgresStore::connect(url, PostgresOptions::new()).await?;
    store.migrate().await?;
    let raiser = store.raiser();
    let mut session = tidings::store::Storer::session(&store).await?;
    for _ in 0..EVENTS / BATCH {
        let event = || Event::new("happened", &Value::Null).unwrap();
        let events = (0..BATCH).map(|_| event()).collect();
        raiser.raise_all(&mut *session, events).await?;
    }
    drop(session);
    store.close().await;
    Ok(())
}

#[test]
fn a_hundred_thousand_events_are_recorded_once() {
    // The workers are this test once more.
    if let Ok(url) = env::var(URL) {
        return work(&url);
    }
    let _alone = alone();
    let recorded = "SELECT count(*) FROM recorded";
    let [first, second] = [(recorded, EVENTS / 4), (recorded, EVENTS / 2)];
    let mut trouble = Trouble::new(Kind::Postgres, first, second);
    let url = trouble.url().to_owned();
    block_on(raise(&url)).unwrap();
    execute(&url, "CREATE TABLE recorded (event_id uuid PRIMARY KEY)").unwrap();
    let mut workers: Vec<Worker> = (0..WORKERS).map(|_| Worker::start(&url)).collect();
    trouble.make(
        &mut workers,
        |_| number(&url, recorded) >= Some(EVENTS),
        |workers, _| {
            // The one that has lived longest.
            drop(workers.remove(0));
            workers.push(Worker::start(&url));
        },
    );
    drop(workers);
    assert_eq!(number(&url, recorded), Some(EVENTS));
    let requests = "SELECT count(*) FROM tidings_handler_requests";
    let completed = format!("{requests} WHERE completed_at IS NOT NULL");
    assert_eq!(number(&url, requests), Some(EVENTS));
    assert_eq!(number(&url, &completed), Some(EVENTS));
}
