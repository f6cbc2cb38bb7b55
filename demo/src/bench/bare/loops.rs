//! The loops of the references, on as many connections as each is defined with. Each makes its tables
//! anew, and drops them; what is timed is the work alone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use futures_util::future::try_join_all;
use tidings::sqlx;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::{Bare, Connector, EVENT_BATCH, Kind};
use crate::bench::{
    Result,
    costs::Measured,
    shape::{batching, single},
};

/// How many rows a statement takes that works in batches.
const BATCH: i64 = 1000;

/// How long a loop that found less than a few waits for more, while producers are at work: commits
/// cost more than rows.
const LINGER: Duration = Duration::from_millis(5);
const FEW: usize = 100;

type Connections = Vec<Box<dyn Bare>>;

async fn open(connector: &Connector, kind: Kind, count: usize) -> sqlx::Result<Connections> {
    try_join_all((0..count).map(|_| connector.connect(kind))).await
}

/// What it takes until each of so many connections has done its part, each in a task of its own.
async fn time<F>(
    connector: &Connector,
    kind: Kind,
    count: usize,
    part: impl Fn(Box<dyn Bare>) -> F,
) -> Result<Measured>
where
    F: Future<Output = sqlx::Result<()>> + Send + 'static,
{
    let watch = connector.meter.begin().await?;
    let connections = open(connector, kind, count).await?;
    let running = watch.start().await?;
    let tasks = connections.into_iter().map(|one| tokio::spawn(part(one)));
    join(tasks).await?;
    running.stop().await?.end().await
}

async fn join(tasks: impl Iterator<Item = JoinHandle<sqlx::Result<()>>>) -> Result<()> {
    for ended in try_join_all(tasks).await? {
        ended?;
    }
    Ok(())
}

/// Checks that the work was done, and drops the tables.
async fn check(connector: &Connector, kind: Kind, section: &str, wanted: i64) -> Result<()> {
    let mut connection = connector.connect(kind).await?;
    let found = connection.number(section).await?;
    connection.run("drop").await?;
    if found == wanted {
        return Ok(());
    }
    Err(format!("a reference did {found} of {wanted}: {kind:?}").into())
}

async fn prepare_jobs(connector: &Connector, kind: Kind, jobs: i64) -> sqlx::Result<()> {
    let mut connection = connector.connect(kind).await?;
    connection.run("create").await?;
    connection.fill(jobs).await?;
    connection.run("analyze").await
}

/// R0 and R0u: claims and completes so many jobs.
pub(in crate::bench) async fn drain_jobs(
    connector: &Connector,
    kind: Kind,
    jobs: i64,
) -> Result<Measured> {
    prepare_jobs(connector, kind, jobs).await?;
    let took = time(
        connector,
        kind,
        batching(connector.place.system),
        |mut connection| async move {
            loop {
                let jobs = connection.claim_jobs(BATCH).await?;
                if jobs.is_empty() {
                    return Ok(());
                }
                connection.complete_jobs(&jobs).await?;
            }
        },
    );
    let took = took.await?;
    check(connector, kind, "count", jobs).await?;
    Ok(took)
}

/// R1: raises so many events, one in each transaction.
pub(in crate::bench) async fn raise_one_by_one(
    connector: &Connector,
    events: i64,
) -> Result<Measured> {
    connector.connect(Kind::Raise).await?.run("create").await?;
    let left = Arc::new(AtomicI64::new(events));
    let took = time(
        connector,
        Kind::Raise,
        single(connector.place.system),
        |connection| raise_singly(connection, Arc::clone(&left)),
    )
    .await?;
    check(connector, Kind::Raise, "count", events).await?;
    Ok(took)
}

async fn raise_singly(mut connection: Box<dyn Bare>, left: Arc<AtomicI64>) -> sqlx::Result<()> {
    while left.fetch_sub(1, Ordering::Relaxed) > 0 {
        connection.raise_one(Uuid::now_v7()).await?;
    }
    Ok(())
}

/// R2: raises so many events, a thousand in each statement.
pub(in crate::bench) async fn raise_in_batches(
    connector: &Connector,
    events: i64,
) -> Result<Measured> {
    connector.connect(Kind::Raise).await?.run("create").await?;
    let left = Arc::new(AtomicI64::new(events));
    let took = time(
        connector,
        Kind::Raise,
        batching(connector.place.system),
        |mut connection| {
            let left = Arc::clone(&left);
            async move {
                while left.fetch_sub(BATCH, Ordering::Relaxed) > 0 {
                    connection.raise_many(&ids(EVENT_BATCH)).await?;
                }
                Ok(())
            }
        },
    );
    let took = took.await?;
    check(connector, Kind::Raise, "count", events).await?;
    Ok(took)
}

fn ids(count: usize) -> Vec<Uuid> {
    (0..count).map(|_| Uuid::now_v7()).collect()
}

async fn prepare_work(connector: &Connector, events: i64, handlers: i32) -> sqlx::Result<()> {
    let mut connection = connector.connect(Kind::Work).await?;
    connection.run("create").await?;
    connection.make_handlers(handlers).await?;
    for _ in 0..events / BATCH {
        connection.raise_many(&ids(EVENT_BATCH)).await?;
    }
    connection.run("analyze").await
}

/// R3: makes requests of so many events, born leased, and completes them.
pub(in crate::bench) async fn work(
    connector: &Connector,
    events: i64,
    handlers: i32,
) -> Result<Measured> {
    prepare_work(connector, events, handlers).await?;
    let batch = BATCH / i64::from(handlers);
    let took = time(
        connector,
        Kind::Work,
        batching(connector.place.system),
        |connection| work_off(connection, batch, None),
    );
    let took = took.await?;
    check(connector, Kind::Work, "count", events * i64::from(handlers)).await?;
    Ok(took)
}

/// Until nothing is left, and `goes_on` says that nothing more comes.
async fn work_off(
    mut connection: Box<dyn Bare>,
    batch: i64,
    goes_on: Option<Arc<AtomicBool>>,
) -> sqlx::Result<()> {
    let owner = Uuid::now_v7();
    loop {
        let more_comes = goes_on
            .as_ref()
            .is_some_and(|goes_on| goes_on.load(Ordering::Acquire));
        let made = connection.born_leased(batch, owner).await?;
        if !made.is_empty() {
            connection.settle(&made, owner).await?;
        } else if !more_comes {
            return Ok(());
        }
        if more_comes && made.len() < FEW {
            tokio::time::sleep(LINGER).await;
        }
    }
}

/// R3c: makes requests of so many events, which wait; what is timed is how they are claimed and completed.
pub(in crate::bench) async fn work_claimed(
    connector: &Connector,
    events: i64,
    handlers: i32,
) -> Result<Measured> {
    prepare_work(connector, events, handlers).await?;
    let batch = BATCH / i64::from(handlers);
    let made = time(
        connector,
        Kind::Work,
        batching(connector.place.system),
        |mut connection| async move {
            while connection.born_ready(batch).await? > 0 {}
            Ok(())
        },
    );
    made.await?;
    let took = time(
        connector,
        Kind::Work,
        batching(connector.place.system),
        |mut connection| async move {
            let owner = Uuid::now_v7();
            for handler in 1..=handlers {
                loop {
                    let claimed = connection.claim(BATCH, handler, owner).await?;
                    if claimed.is_empty() {
                        break;
                    }
                    connection.settle(&claimed, owner).await?;
                }
            }
            Ok(())
        },
    );
    let took = took.await?;
    check(connector, Kind::Work, "count", events * i64::from(handlers)).await?;
    Ok(took)
}

/// R4: R1, into the queue of R3, while R3 works it off: so many events, one handler.
pub(in crate::bench) async fn raise_and_work(
    connector: &Connector,
    events: i64,
) -> Result<Measured> {
    prepare_work(connector, 0, 1).await?;
    let watch = connector.meter.begin().await?;
    let producers = open(connector, Kind::Work, single(connector.place.system)).await?;
    let workers = open(connector, Kind::Work, batching(connector.place.system)).await?;
    let goes_on = Arc::new(AtomicBool::new(true));
    let left = Arc::new(AtomicI64::new(events));
    let running = watch.start().await?;
    let working = workers
        .into_iter()
        .map(|one| tokio::spawn(work_off(one, BATCH, Some(Arc::clone(&goes_on)))))
        .collect::<Vec<_>>();
    let raising = producers
        .into_iter()
        .map(|one| tokio::spawn(raise_singly(one, Arc::clone(&left))));
    let raised = join(raising).await;
    goes_on.store(false, Ordering::Release);
    join(working.into_iter()).await?;
    raised?;
    let took = running.stop().await?.end().await?;
    check(connector, Kind::Work, "count", events).await?;
    Ok(took)
}

/// R5: claims so many jobs, inserts a row for each and completes them, so many in each transaction.
pub(in crate::bench) async fn work_in_transactions(
    connector: &Connector,
    jobs: i64,
    at_once: i64,
) -> Result<Measured> {
    prepare_jobs(connector, Kind::Loop, jobs).await?;
    connector
        .connect(Kind::Loop)
        .await?
        .run("create_effects")
        .await?;
    let took = time(
        connector,
        Kind::Loop,
        single(connector.place.system),
        |mut connection| async move {
            while connection.work_in_transaction(at_once).await? > 0 {}
            Ok(())
        },
    );
    let took = took.await?;
    let mut connection = connector.connect(Kind::Loop).await?;
    let effects = connection.number("count_effects").await?;
    connection.run("drop_effects").await?;
    if effects != jobs {
        return Err(format!("a reference made {effects} of {jobs} rows").into());
    }
    check(connector, Kind::Loop, "count", jobs).await?;
    Ok(took)
}
