//! Deleting what nobody needs any more.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};

use super::{arg::args, limit, link::Link, records::EVENTS};
use crate::{
    error::Result,
    id::{EventId, HandlerRequestId},
    model::HandlerRequest,
    store::{LockMode, Prune, Pruned},
};

/// See [`EventRepository::prune`](crate::store::EventRepository::prune).
pub(super) async fn prune(link: &mut Link<'_>, prune: &Prune) -> Result<Pruned> {
    prune.check()?;
    let now = super::now(link).await?;
    let looked_at = processed_events(link, prune).await?;
    let mut pruned = Pruned::default();
    if looked_at.len() >= prune.limit {
        pruned.next = looked_at.last().map(|(id, _)| *id);
    }
    let ids: Vec<_> = looked_at.iter().map(|(id, _)| *id).collect();
    let requests = requests_of(link, &ids).await?;
    let goes = |(event, unwanted_at): &Processed, requests: &OfEvents| {
        let Some(requests) = requests.of(event) else {
            return false;
        };
        let first = requests.iter().map(|request| request.created_at).min();
        let processed_at = (*unwanted_at).or(first);
        processed_at.is_some_and(|processed_at| prune.lets_go(now, processed_at, requests))
    };
    let mut candidates = looked_at;
    candidates.retain(|event| goes(event, &requests));
    if candidates.is_empty() {
        return Ok(pruned);
    }
    let held = lock_all(link, &mut candidates, &requests).await?;
    // Under the locks it is looked at again: others may have changed it meanwhile, or have deleted the
    // event and raised it anew, which then is not processed. From here on the lock on the event keeps
    // it from being deleted and its requests from being made; and what is processed stays so.
    let still: HashMap<_, _> = processed_events(link, prune).await?.into_iter().collect();
    candidates.retain_mut(|(id, unwanted_at)| {
        let now_unwanted_at = still.get(id);
        *unwanted_at = now_unwanted_at.copied().flatten();
        now_unwanted_at.is_some()
    });
    let ids: Vec<_> = candidates.iter().map(|(id, _)| *id).collect();
    let requests = requests_of(link, &ids).await?;
    let is_held = |event: &EventId| {
        let mut of_event = requests.of(event).into_iter().flatten();
        of_event.all(|request| held.contains(&request.id))
    };
    candidates.retain(|event| is_held(&event.0) && goes(event, &requests));
    let events: Vec<_> = candidates.iter().map(|(id, _)| *id).collect();
    let of_events = events.iter().filter_map(|event| requests.of(event));
    let requests: Vec<_> = of_events.flatten().map(|request| request.id).collect();
    if !events.is_empty() {
        let dialect = &link.shared.dialect;
        dialect.delete_events(link, &events, &requests).await?;
    }
    pruned.events = events.len() as u64;
    pruned.requests = requests.len() as u64;
    Ok(pruned)
}

/// A processed event, and when it was found that nobody wants it.
type Processed = (EventId, Option<DateTime<Utc>>);

/// Requests by their events.
#[derive(Default)]
pub(super) struct OfEvents {
    readable: HashMap<EventId, Vec<HandlerRequest>>,
    unreadable: HashSet<EventId>,
}

impl OfEvents {
    /// The requests of an event; nothing if one of them cannot be read.
    pub(super) fn of(&self, event: &EventId) -> Option<&[HandlerRequest]> {
        if self.unreadable.contains(event) {
            return None;
        }
        Some(self.readable.get(event).map_or(&[], Vec::as_slice))
    }
}

async fn processed_events(link: &mut Link<'_>, prune: &Prune) -> Result<Vec<Processed>> {
    let after = prune.after.map(|id| id.as_uuid());
    let args = args![after, limit(prune.limit)];
    let rows = link
        .rows(&link.shared.common.processed_events, args)
        .await?;
    rows.iter()
        .map(|row| {
            let mut columns = row.reader(EVENTS);
            let id = EventId::from_uuid(columns.uuid("id")?);
            Ok((id, columns.optional_time("processed_at")?))
        })
        .collect()
}

/// The requests of these events.
pub(super) async fn requests_of(link: &mut Link<'_>, events: &[EventId]) -> Result<OfEvents> {
    let mut of_events = OfEvents::default();
    if events.is_empty() {
        return Ok(of_events);
    }
    let requests = link.shared.dialect.requests_of_events(link, events).await?;
    for request in requests.readable {
        let of_event = of_events.readable.entry(request.event_id).or_default();
        of_event.push(request);
    }
    let unreadable = requests.unreadable.into_iter();
    of_events.unreadable = unreadable.map(|row| row.event_id).collect();
    Ok(of_events)
}

/// Locks events and their requests, as far as nobody else has; lets go of other candidates, and
/// answers the requests that are locked.
async fn lock_all(
    link: &mut Link<'_>,
    candidates: &mut Vec<Processed>,
    requests: &OfEvents,
) -> Result<HashSet<HandlerRequestId>> {
    let dialect = &link.shared.dialect;
    let skip = LockMode::SkipLocked;
    let ids: Vec<_> = candidates.iter().map(|(id, _)| *id).collect();
    let held: HashSet<_> = dialect
        .lock_events(link, &ids, skip)
        .await?
        .into_iter()
        .collect();
    candidates.retain(|(id, _)| held.contains(id));
    let of_events = candidates.iter().filter_map(|(id, _)| requests.of(id));
    let mut ids: Vec<_> = of_events.flatten().map(|request| request.id).collect();
    ids.sort_unstable();
    let locked = dialect.lock_requests(link, &ids, skip).await?;
    Ok(locked.readable.iter().map(|request| request.id).collect())
}
