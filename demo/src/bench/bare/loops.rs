//! The loops of the references, on as many connections as each is defined with. Each makes its tables
//! anew, and drops them; what is timed is the work alone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::try_join_all;
use tidings::sqlx;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::{Bare, Connector, Kind};
use crate::bench::{
    Result,
    costs::Measured,
    left::Left,
    shape::{batching, single},
};
use crate::place::System;

/// How many rows a statement takes that works in batches.
const BATCH: i64 = 1000;
/// How many events a batch raises.
const EVENT_BATCH: usize = 1000;

/// How long a loop that found less than a few waits for more, while producers are at work: commits
/// cost more than rows.
const LINGER: Duration = Duration::from_millis(5);
const FEW: usize = 100;

type Connections = Vec<Box<dyn Bare>>;
/// How many connections there are on which system.
type Count = fn(System) -> usize;

async fn open(connector: &Connector, kind: Kind, count: Count) -> sqlx::Result<Connections> {
    let count = count(connector.place.system);
    try_join_all((0..count).map(|_| connector.connect(kind))).await
}

/// What it takes until each connection has done its part, each in a task of its own. Together they do so
/// many things, which they count.
async fn time<F>(
    connector: &Connector,
    kind: Kind,
    connections: Count,
    wanted: i64,
    part: impl Fn(Box<dyn Bare>) -> F,
) -> Result<Measured>
where
    F: Future<Output = sqlx::Result<i64>> + Send + 'static,
{
    let watch = connector.meter.begin().await?;
    let connections = open(connector, kind, connections).await?;
    let running = watch.start().await?;
    let tasks = connections.into_iter().map(|one| tokio::spawn(part(one)));
    let done = join(tasks).await?;
    let measured = running.stop().await?.end().await?;
    counted(kind, done, wanted)?;
    Ok(measured)
}

/// The sum of what tasks did.
async fn join(tasks: impl Iterator<Item = JoinHandle<sqlx::Result<i64>>>) -> Result<i64> {
    let mut done = 0;
    for ended in try_join_all(tasks).await? {
        done += ended?;
    }
    Ok(done)
}

/// With as many rows done in the database, so many in the loops are each of them once.
fn counted(kind: Kind, done: i64, wanted: i64) -> Result<()> {
    if done == wanted {
        return Ok(());
    }
    Err(format!("a reference was given {done} of {wanted}: {kind:?}").into())
}

fn length<T>(all: &[T]) -> i64 {
    i64::try_from(all.len()).unwrap_or(i64::MAX)
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
        batching,
        jobs,
        |mut connection| async move {
            let mut done = 0;
            loop {
                let jobs = connection.claim_jobs(BATCH).await?;
                if jobs.is_empty() {
                    return Ok(done);
                }
                connection.complete_jobs(&jobs).await?;
                done += length(&jobs);
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
    let left = Left::new(u64::try_from(events)?);
    let took = time(connector, Kind::Raise, single, events, |connection| {
        raise_singly(connection, left.clone())
    });
    let took = took.await?;
    check(connector, Kind::Raise, "count", events).await?;
    Ok(took)
}

async fn raise_singly(mut connection: Box<dyn Bare>, left: Left) -> sqlx::Result<i64> {
    let mut done = 0;
    while left.take(1).is_some() {
        connection.raise_one(Uuid::now_v7()).await?;
        done += 1;
    }
    Ok(done)
}

/// R2: raises so many events, a thousand in each statement.
pub(in crate::bench) async fn raise_in_batches(
    connector: &Connector,
    events: i64,
) -> Result<Measured> {
    connector.connect(Kind::Raise).await?.run("create").await?;
    let left = Left::new(u64::try_from(events)?);
    let took = time(
        connector,
        Kind::Raise,
        batching,
        events,
        |mut connection| {
            let left = left.clone();
            async move {
                let mut done = 0;
                while let Some(count) = left.take(EVENT_BATCH) {
                    let ids = ids(count);
                    connection.raise_many(&ids).await?;
                    done += length(&ids);
                }
                Ok(done)
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

async fn prepare_work(connector: &Connector, events: i64, handlers: i32) -> Result<()> {
    let mut connection = connector.connect(Kind::Work).await?;
    connection.run("create").await?;
    connection.make_handlers(handlers).await?;
    let left = Left::new(u64::try_from(events)?);
    while let Some(count) = left.take(EVENT_BATCH) {
        connection.raise_many(&ids(count)).await?;
    }
    Ok(connection.run("analyze").await?)
}

/// R3: makes requests of so many events, born leased, and completes them.
pub(in crate::bench) async fn work(
    connector: &Connector,
    events: i64,
    handlers: i32,
) -> Result<Measured> {
    prepare_work(connector, events, handlers).await?;
    let (batch, wanted) = (BATCH / i64::from(handlers), events * i64::from(handlers));
    let took = time(connector, Kind::Work, batching, wanted, |connection| {
        work_off(connection, batch, None)
    });
    let took = took.await?;
    check(connector, Kind::Work, "count", wanted).await?;
    Ok(took)
}

/// Until nothing is left, and `goes_on` says that nothing more comes; answers how many requests there were.
async fn work_off(
    mut connection: Box<dyn Bare>,
    batch: i64,
    goes_on: Option<Arc<AtomicBool>>,
) -> sqlx::Result<i64> {
    let owner = Uuid::now_v7();
    let mut done = 0;
    loop {
        let more_comes = goes_on
            .as_ref()
            .is_some_and(|goes_on| goes_on.load(Ordering::Acquire));
        let made = connection.born_leased(batch, owner).await?;
        if !made.is_empty() {
            connection.settle(&made, owner).await?;
            done += length(&made);
        } else if !more_comes {
            return Ok(done);
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
    let (batch, wanted) = (BATCH / i64::from(handlers), events * i64::from(handlers));
    for made in open(connector, Kind::Work, batching).await? {
        make_ready(made, batch).await?;
    }
    let took = time(connector, Kind::Work, batching, wanted, |connection| {
        claim_and_settle(connection, handlers)
    });
    let took = took.await?;
    check(connector, Kind::Work, "count", wanted).await?;
    Ok(took)
}

async fn make_ready(mut connection: Box<dyn Bare>, batch: i64) -> sqlx::Result<()> {
    while connection.born_ready(batch).await? > 0 {}
    Ok(())
}

async fn claim_and_settle(mut connection: Box<dyn Bare>, handlers: i32) -> sqlx::Result<i64> {
    let owner = Uuid::now_v7();
    let mut done = 0;
    for handler in 1..=handlers {
        loop {
            let claimed = connection.claim(BATCH, handler, owner).await?;
            if claimed.is_empty() {
                break;
            }
            connection.settle(&claimed, owner).await?;
            done += length(&claimed);
        }
    }
    Ok(done)
}

/// R4: R1, into the queue of R3, while R3 works it off: so many events, one handler.
pub(in crate::bench) async fn raise_and_work(
    connector: &Connector,
    events: i64,
) -> Result<Measured> {
    prepare_work(connector, 0, 1).await?;
    let watch = connector.meter.begin().await?;
    let producers = open(connector, Kind::Work, single).await?;
    let workers = open(connector, Kind::Work, batching).await?;
    let goes_on = Arc::new(AtomicBool::new(true));
    let left = Left::new(u64::try_from(events)?);
    let running = watch.start().await?;
    let working = workers
        .into_iter()
        .map(|one| tokio::spawn(work_off(one, BATCH, Some(Arc::clone(&goes_on)))))
        .collect::<Vec<_>>();
    let raising = producers
        .into_iter()
        .map(|one| tokio::spawn(raise_singly(one, left.clone())));
    let raised = join(raising).await;
    goes_on.store(false, Ordering::Release);
    let done = join(working.into_iter()).await?;
    counted(Kind::Work, raised?, events)?;
    let took = running.stop().await?.end().await?;
    counted(Kind::Work, done, events)?;
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
        single,
        jobs,
        |mut connection| async move {
            let mut done = 0;
            loop {
                let worked = connection.work_in_transaction(at_once).await?;
                if worked == 0 {
                    return Ok(done);
                }
                done += i64::try_from(worked).unwrap_or(i64::MAX);
            }
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
