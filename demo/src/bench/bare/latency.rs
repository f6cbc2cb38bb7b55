//! The least that a wake-up through the database takes.

use std::time::{Duration, Instant};

use tidings::sqlx::{self, Connection as _, Executor as _, PgConnection, postgres::PgListener};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{Connector, Kind};
use crate::bench::{
    Result,
    patience::{PATIENCE, patiently},
    sample::Sample,
};

/// The pause before a sample: some 90 ms, never twice the same, so that it keeps step with no timer.
pub(in crate::bench) fn pause(number: usize) -> Duration {
    Duration::from_millis(80) + Duration::from_micros((number as u64 * 7919) % 20_000)
}

/// Milliseconds from the end of a commit that notifies until the listener has read a row.
pub(in crate::bench) async fn of_notifications(
    connector: &Connector,
    samples: usize,
) -> Result<Sample> {
    let mut listener = PgListener::connect(&connector.place.url).await?;
    listener.listen("reference").await?;
    let mut reader = PgConnection::connect(&connector.place.url).await?;
    let (read, mut reads) = mpsc::unbounded_channel();
    let listening = tokio::spawn(async move {
        loop {
            listener.recv().await?;
            reader.fetch_one("SELECT 1").await?;
            if read.send(Instant::now()).is_err() {
                return Ok::<_, sqlx::Error>(());
            }
        }
    });
    let mut connection = PgConnection::connect(&connector.place.url).await?;
    let mut sample = Sample::default();
    for number in 0..samples {
        tokio::time::sleep(pause(number)).await;
        let mut tx = connection.begin().await?;
        tx.execute("NOTIFY reference").await?;
        tx.commit().await?;
        let committed = Instant::now();
        let read = patiently(PATIENCE, reads.recv(), || ()).await?;
        let read = read.ok_or("the listener is gone")?;
        sample.push(read.saturating_duration_since(committed).as_secs_f64() * 1000.0);
    }
    listening.abort();
    Ok(sample)
}

/// Milliseconds from the end of a commit until another connection, which was told within the process, has
/// read what was committed: the least where servers notify nobody.
pub(in crate::bench) async fn of_reads(connector: &Connector, samples: usize) -> Result<Sample> {
    connector.connect(Kind::Raise).await?.run("create").await?;
    let mut reader = connector.connect(Kind::Raise).await?;
    let (committed, mut commits) = mpsc::unbounded_channel::<()>();
    let (read, mut reads) = mpsc::unbounded_channel();
    let reading = tokio::spawn(async move {
        while commits.recv().await.is_some() {
            let found = reader.number("count").await?;
            if read.send((found, Instant::now())).is_err() {
                break;
            }
        }
        Ok::<_, sqlx::Error>(())
    });
    let mut connection = connector.connect(Kind::Raise).await?;
    let mut sample = Sample::default();
    for number in 0..samples {
        tokio::time::sleep(pause(number)).await;
        connection.raise_one(Uuid::now_v7()).await?;
        let begun = Instant::now();
        committed.send(())?;
        let read = patiently(PATIENCE, reads.recv(), || ()).await?;
        let (found, read) = read.ok_or("the reader is gone")?;
        if found != i64::try_from(number)? + 1 {
            return Err(format!("after {number} commits {found} events can be read").into());
        }
        sample.push(read.saturating_duration_since(begun).as_secs_f64() * 1000.0);
    }
    drop(committed);
    reading.await??;
    connection.run("drop").await?;
    Ok(sample)
}
