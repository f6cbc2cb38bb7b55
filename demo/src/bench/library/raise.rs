//! Applications that raise.

use std::collections::BTreeSet;

use futures_util::future::try_join_all;
use tidings::{
    EventId,
    store::{EventFilter, Page},
};

use super::{
    BATCH, Library, Result,
    application::{self, Application},
    turn::Turn,
};
use crate::bench::{
    costs::Measured,
    left::Left,
    patience::patiently,
    shape::{batching, single},
};

/// How many events are read at a time.
const PAGE: usize = 5000;

type Producers = Vec<Box<dyn Application>>;

impl Library {
    /// Raises so many events, each in a transaction of its own.
    pub(in crate::bench) async fn raise_one_by_one(&self, events: u64) -> Result<Measured> {
        let mut turn = self.turn().await?;
        let watch = turn.begin().await?;
        let producers = turn.producers().await?;
        let running = watch.start().await?;
        let raised = turn.raise_one_by_one(producers, events).await?;
        let stopped = running.stop().await?;
        let measured = turn.end_measurement(stopped).await?;
        turn.check_raised(&raised, events).await?;
        turn.end().await?;
        Ok(measured)
    }

    /// Raises so many events, a thousand at a time.
    pub(in crate::bench) async fn raise_in_batches(&self, events: u64) -> Result<Measured> {
        let mut turn = self.turn().await?;
        let watch = turn.begin().await?;
        let producers = connect(&turn, batching(turn.place.system)).await?;
        let running = watch.start().await?;
        let raised = turn.raise(producers, events, BATCH).await?;
        let stopped = running.stop().await?;
        let measured = turn.end_measurement(stopped).await?;
        turn.check_raised(&raised, events).await?;
        turn.end().await?;
        Ok(measured)
    }
}

async fn connect(turn: &Turn, count: usize) -> Result<Producers> {
    try_join_all((0..count).map(|_| application::connect(&turn.place))).await
}

impl Turn {
    /// Connections of those who raise one by one: as many as the reference has.
    pub(super) async fn producers(&self) -> Result<Producers> {
        connect(self, single(self.place.system)).await
    }

    /// Raises so many events, each in a transaction of its own; answers which.
    pub(super) async fn raise_one_by_one(
        &self,
        producers: Producers,
        events: u64,
    ) -> Result<Vec<EventId>> {
        self.raise(producers, events, 1).await
    }

    /// Raises so many events, so many at a time; each producer in a task of its own. Closes their connections.
    async fn raise(&self, producers: Producers, events: u64, batch: usize) -> Result<Vec<EventId>> {
        let left = Left::new(events);
        let tasks = producers.into_iter().map(|mut connection| {
            let (raiser, data, left) = (self.raiser(), self.data.clone(), left.clone());
            tokio::spawn(async move {
                let mut raised = Vec::new();
                let event = || tidings::Event::from_data(crate::bench::bare::EVENT, data.clone());
                while let Some(count) = left.take(batch) {
                    if batch == 1 {
                        let event = event();
                        raised.push(event.id);
                        connection.raise(&raiser, event).await?;
                    } else {
                        let events: Vec<_> = (0..count).map(|_| event()).collect();
                        raised.extend(events.iter().map(|event| event.id));
                        connection.raise_all(&raiser, events).await?;
                    }
                }
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(raised)
            })
        });
        // The first that fails ends it.
        let tasks = tasks.map(|task| async { task.await? });
        match patiently(self.patience, try_join_all(tasks), || left.count()).await {
            Ok(raised) => Ok(raised?.concat()),
            Err(stuck) => {
                let left = left.count();
                Err(format!("{stuck}: of {events} events {left} are left to raise").into())
            }
        }
    }

    /// Each of so many raised events is stored, once, and there are no others.
    async fn check_raised(&self, raised: &[EventId], events: u64) -> Result<()> {
        let should: BTreeSet<_> = raised.iter().copied().collect();
        let mut stored = BTreeSet::new();
        let mut session = self.storer().session().await?;
        let mut page = Page::first(PAGE);
        loop {
            let mut repository = session.events();
            let found = repository.list(&EventFilter::default(), &page).await?;
            let Some(last) = found.last() else {
                break;
            };
            page = Page::after(last.event.id, PAGE);
            stored.extend(found.iter().map(|one| one.event.id));
        }
        if stored == should && stored.len() as u64 == events {
            return Ok(());
        }
        let missing = should.difference(&stored).count();
        let foreign = stored.difference(&should).count();
        Err(format!(
            "of {events} events {} were raised, {missing} of them are not stored, and {foreign} are that nobody raised",
            should.len()
        )
        .into())
    }
}
