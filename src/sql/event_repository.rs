//! The port to events.

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use uuid::Uuid;

use super::{
    arg::args,
    connection::{Needs, SqlConnection},
    fan_out,
    link::Link,
    prune,
    query::EventArgs,
    raise,
    records::{EVENTS, stored_event},
    row::Row,
};
use crate::{
    batch_size::BatchSize,
    error::Result,
    id::EventId,
    model::Event,
    store::{
        ClaimedEvent, EventClaim, EventFailure, EventFilter, EventRepository, EventStream, FanOut,
        FannedOut, LockMode, Page, Prune, Pruned, Raised, StoredEvent,
    },
    text::Name,
};

/// How many rows of a stream are held at once, or fewer if they are large.
pub(super) const STREAM_PAGE: usize = 500;

/// How often a raise of the store's own is run again that lost to a concurrent one of the same id. Once
/// is enough, unless that one is rolled back as well.
const RERUNS: usize = 3;

pub(super) struct SqlEvents<'c>(pub(super) &'c mut SqlConnection);

impl SqlEvents<'_> {
    async fn raise_once(&mut self, events: &[Event], needs: Needs) -> Result<Vec<Raised>> {
        let mut link = self.0.open("raise", needs).await?;
        let answer = raise::raise(&mut link, events).await;
        link.close(answer).await
    }
}

#[async_trait]
impl EventRepository for SqlEvents<'_> {
    async fn raise(&mut self, events: &[Event]) -> Result<Vec<Raised>> {
        let dialect = &self.0.shared().dialect;
        let needs = match dialect.raise_needs(events) {
            // On a pool of the application's it would run at the isolation level that this has.
            Needs::OneStatement if !dialect.has_pinned_sessions() => Needs::Atomicity,
            needs => needs,
        };
        for _ in 0..RERUNS {
            match self.raise_once(events, needs).await {
                Err(error) if error.is_conflict() && self.0.is_in_autocommit() => {}
                answer => return answer,
            }
        }
        self.raise_once(events, needs).await
    }

    async fn claim(&mut self, claim: &EventClaim) -> Result<Vec<ClaimedEvent>> {
        let mut link = self.0.open("claim events", Needs::Atomicity).await?;
        let answer = fan_out::claim_events(&mut link, claim).await;
        link.close(answer).await
    }

    async fn fan_out(&mut self, asked: &FanOut) -> Result<FannedOut> {
        let needs = self.0.shared().dialect.fan_out_needs(asked);
        let mut link = self.0.open("fan out", needs).await?;
        let answer = link.shared.dialect.fan_out(&mut link, asked).await;
        link.close(answer).await
    }

    async fn fail(&mut self, failures: &[EventFailure]) -> Result<()> {
        let mut link = self.0.open("fail events", Needs::Atomicity).await?;
        let answer = fan_out::fail_events(&mut link, failures).await;
        link.close(answer).await
    }

    async fn prune(&mut self, asked: &Prune) -> Result<Pruned> {
        let mut link = self.0.open("prune", Needs::Atomicity).await?;
        let answer = prune::prune(&mut link, asked).await;
        link.close(answer).await
    }

    async fn find(&mut self, id: EventId) -> Result<Option<StoredEvent>> {
        let mut link = self.0.open("find an event", Needs::OneStatement).await?;
        let answer = find(&mut link, id).await;
        link.close(answer).await
    }

    async fn find_for_update(
        &mut self,
        id: EventId,
        lock: LockMode,
    ) -> Result<Option<StoredEvent>> {
        let mut link = self.0.open("lock an event", Needs::Atomicity).await?;
        let answer = find_for_update(&mut link, id, lock).await;
        link.close(answer).await
    }

    async fn count_unprocessed(&mut self) -> Result<u64> {
        let mut link = self.0.open("count events", Needs::OneStatement).await?;
        let count = &link.shared.common.count_unprocessed;
        let answer = super::count(&mut link, count, args![]).await;
        link.close(answer).await
    }

    async fn oldest_unprocessed(&mut self) -> Result<Option<StoredEvent>> {
        let mut link = self.0.open("find an event", Needs::OneStatement).await?;
        let answer = oldest_unprocessed(&mut link).await;
        link.close(answer).await
    }

    async fn count(&mut self, filter: &EventFilter) -> Result<u64> {
        let mut link = self.0.open("count events", Needs::OneStatement).await?;
        let count = &link.shared.common.count_events;
        let args = EventArgs::new(filter).count();
        let answer = super::count(&mut link, count, args).await;
        link.close(answer).await
    }

    async fn list(
        &mut self,
        filter: &EventFilter,
        page: &Page<EventId>,
    ) -> Result<Vec<StoredEvent>> {
        let mut link = self.0.open("list events", Needs::OneStatement).await?;
        let answer = list(&mut link, filter, page).await;
        let answer = answer.and_then(|events| events.into_iter().collect());
        link.close(answer).await
    }

    fn stream(&mut self, filter: &EventFilter) -> EventStream<'_> {
        let filter = filter.clone();
        let pages = stream::unfold(
            (
                &mut *self.0,
                BatchSize::new(STREAM_PAGE),
                Some(EventId::from_uuid(Uuid::nil())),
            ),
            move |(connection, mut size, after)| {
                let filter = filter.clone();
                async move {
                    let page = Page::after(after?, size.limit());
                    let (events, next) = next_page(connection, &filter, &page).await;
                    let lens = events.iter().flatten();
                    let len = lens.map(|event| event.event.data.as_str().len()).sum();
                    size.brought(events.len(), len);
                    Some((stream::iter(events), (connection, size, next)))
                }
            },
        );
        pages.flatten().boxed()
    }
}

/// A page of a stream, and the event after which the next one begins.
async fn next_page(
    connection: &mut SqlConnection,
    filter: &EventFilter,
    page: &Page<EventId>,
) -> (Vec<Result<StoredEvent>>, Option<EventId>) {
    let events = async {
        let mut link = connection.open("list events", Needs::OneStatement).await?;
        let answer = match rows(&mut link, filter, page).await {
            Ok(rows) => {
                // Also of a row that cannot be read otherwise.
                let last = rows.last().filter(|_| rows.len() == page.limit);
                let last = last.and_then(|row| row.reader(EVENTS).uuid("id").ok());
                let events = stored_events(&mut link, &rows).await;
                events.map(|events| (events, last.map(EventId::from_uuid)))
            }
            Err(error) => Err(error),
        };
        link.close(answer).await
    };
    match events.await {
        Ok(page) => page,
        Err(error) => (vec![Err(error)], None),
    }
}

async fn find(link: &mut Link<'_>, id: EventId) -> Result<Option<StoredEvent>> {
    let find = &link.shared.common.find_event;
    let rows = link.rows(find, args![id.as_uuid()]).await?;
    let found = stored_events(link, &rows).await?.pop();
    found.transpose()
}

async fn find_for_update(
    link: &mut Link<'_>,
    id: EventId,
    lock: LockMode,
) -> Result<Option<StoredEvent>> {
    let common = &link.shared.common;
    let (event, unprocessed, waiting) = match lock {
        LockMode::Wait => (
            &common.lock_event,
            &common.lock_unprocessed,
            &common.lock_waiting_event,
        ),
        LockMode::SkipLocked => (
            &common.lock_event_skip,
            &common.lock_unprocessed_skip,
            &common.lock_waiting_event_skip,
        ),
    };
    if link.row(event, args![id.as_uuid()]).await?.is_none() {
        return Ok(None);
    }
    // Whoever fans it out locks the row of the queue alone.
    let is_queued = link.row(unprocessed, args![id.as_uuid()]).await?.is_some()
        || link.row(waiting, args![id.as_uuid()]).await?.is_some();
    let found = find(link, id).await?;
    let is_skipped = |stored: &StoredEvent| {
        lock == LockMode::SkipLocked && stored.processed_at.is_none() && !is_queued
    };
    Ok(found.filter(|stored| !is_skipped(stored)))
}

async fn oldest_unprocessed(link: &mut Link<'_>) -> Result<Option<StoredEvent>> {
    let oldest = &link.shared.common.oldest_unprocessed;
    let Some(row) = link.row(oldest, args![]).await? else {
        return Ok(None);
    };
    match row.reader("unprocessed_events").optional_uuid("event_id")? {
        Some(id) => find(link, EventId::from_uuid(id)).await,
        None => Ok(None),
    }
}

async fn list(
    link: &mut Link<'_>,
    filter: &EventFilter,
    page: &Page<EventId>,
) -> Result<Vec<Result<StoredEvent>>> {
    let rows = rows(link, filter, page).await?;
    stored_events(link, &rows).await
}

async fn rows(link: &mut Link<'_>, filter: &EventFilter, page: &Page<EventId>) -> Result<Vec<Row>> {
    let args = EventArgs::new(filter).page(page);
    link.rows(&link.shared.common.list_events, args).await
}

/// The ids and names of events of a page.
pub(super) async fn list_ids(
    link: &mut Link<'_>,
    filter: &EventFilter,
    page: &Page<EventId>,
) -> Result<Vec<(EventId, Name)>> {
    let args = EventArgs::new(filter).page(page);
    let rows = link.rows(&link.shared.common.list_event_ids, args).await?;
    rows.iter()
        .map(|row| {
            let mut columns = row.reader(EVENTS);
            let id = EventId::from_uuid(columns.uuid("id")?);
            Ok((id, columns.text("name")?.into()))
        })
        .collect()
}

/// Reads stored events, and finds out when they were processed: when their first request was made.
async fn stored_events(link: &mut Link<'_>, rows: &[Row]) -> Result<Vec<Result<StoredEvent>>> {
    let events: Vec<_> = rows.iter().map(stored_event).collect();
    let is_open = |event: &Result<(StoredEvent, bool)>| match event {
        Ok((stored, is_unprocessed)) if !is_unprocessed && stored.processed_at.is_none() => {
            Some(stored.event.id)
        }
        _ => None,
    };
    let ids: Vec<_> = events.iter().filter_map(is_open).collect();
    let first_requests = if ids.is_empty() {
        Default::default()
    } else {
        link.shared.dialect.first_requests(link, &ids).await?
    };
    let complete = |(mut stored, is_unprocessed): (StoredEvent, bool)| {
        if !is_unprocessed && stored.processed_at.is_none() {
            let first = first_requests.get(&stored.event.id.as_uuid()).copied();
            // Requests that somebody has deleted by hand leave no other trace of it.
            stored.processed_at = Some(first.unwrap_or(stored.event.timestamp));
        }
        stored
    };
    Ok(events
        .into_iter()
        .map(|event| event.map(complete))
        .collect())
}
