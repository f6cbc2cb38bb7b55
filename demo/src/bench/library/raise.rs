//! Applications that raise.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;
use tidings::{
    Event,
    sqlx::{Connection as _, PgConnection},
};

use super::{BATCH, Library, Result, Turn};
use crate::bench::bare::EVENT;

/// Connections that raise one by one, and those that raise in batches: as many as the references have.
const SINGLE: usize = 16;
const BATCHING: usize = 2;

impl Library {
    /// Raises so many events, each in a transaction of its own.
    pub(in crate::bench) async fn raise_one_by_one(&self, events: u64) -> Result<Duration> {
        let turn = self.turn().await?;
        let took = turn.raise_one_by_one(events).await?;
        turn.end().await?;
        Ok(took)
    }

    /// Raises so many events, a thousand at a time.
    pub(in crate::bench) async fn raise_in_batches(&self, events: u64) -> Result<Duration> {
        let turn = self.turn().await?;
        let raiser = turn.store.raiser();
        let data = turn.data.clone();
        let took = produce(
            &turn.url,
            BATCHING,
            events / BATCH,
            move |mut connection, left| {
                let (raiser, data) = (raiser.clone(), data.clone());
                async move {
                    while takes_one(&left) {
                        let batch = (0..BATCH).map(|_| Event::from_data(EVENT, data.clone()));
                        raiser.raise_all(&mut connection, batch.collect()).await?;
                    }
                    Ok(())
                }
            },
        );
        let took = took.await?;
        turn.end().await?;
        Ok(took)
    }
}

impl Turn {
    /// Raises so many events, each in a transaction of its own on one of 16 connections.
    pub(super) async fn raise_one_by_one(&self, events: u64) -> Result<Duration> {
        let (raiser, data) = (self.store.raiser(), self.data.clone());
        let took = produce(&self.url, SINGLE, events, move |mut connection, left| {
            let (raiser, data) = (raiser.clone(), data.clone());
            async move {
                while takes_one(&left) {
                    let mut tx = connection.begin().await?;
                    let event = Event::from_data(EVENT, data.clone());
                    raiser.raise(&mut *tx, event).await?;
                    tx.commit().await?;
                }
                Ok(())
            }
        });
        took.await
    }
}

/// How long it takes until so many turns are over, on so many connections, each in a task of its own.
async fn produce<F>(
    url: &str,
    connections: usize,
    turns: u64,
    part: impl Fn(PgConnection, Arc<AtomicU64>) -> F,
) -> Result<Duration>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let connections = (0..connections).map(|_| PgConnection::connect(url));
    let connections = try_join_all(connections).await?;
    let left = Arc::new(AtomicU64::new(turns));
    let begun = Instant::now();
    let tasks = connections
        .into_iter()
        .map(|one| tokio::spawn(part(one, Arc::clone(&left))));
    for ended in try_join_all(tasks).await? {
        ended?;
    }
    Ok(begun.elapsed())
}

/// Whether there is another turn.
fn takes_one(left: &AtomicU64) -> bool {
    let one_less = |left: u64| left.checked_sub(1);
    left.try_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
        .is_ok()
}
