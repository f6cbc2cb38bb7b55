//! Takes requests along that go by a name of before a rename.

use std::collections::HashSet;

use super::{
    arg::Arg,
    limit,
    link::Link,
    records::HANDLER_REQUESTS,
    registrations::{registrations, share_names},
    settle::lock,
};
use crate::{
    error::Result,
    id::{EventId, HandlerRequestId},
    model::{HandlerRequest, Refusal, Registration},
    store::{LockMode, Renamed},
    text::Name,
};

/// How often the statement that finds them takes its arguments: for each of the four queues, and
/// for those that execute.
const SOURCES: usize = 5;

/// A request that is to be renamed.
type Found = (HandlerRequestId, EventId);

/// See [`RegistrationRepository::rename_requests`](crate::store::RegistrationRepository::rename_requests).
pub(super) async fn rename_requests(
    link: &mut Link<'_>,
    from: &Name,
    limit: usize,
) -> Result<Renamed> {
    // The name of today is that until the transaction ends.
    share_names(link).await?;
    let all = registrations(link).await?;
    let Some(today) = Registration::name_today(&all, from) else {
        return Ok(Renamed::default());
    };
    let found = open_and_dead_of(link, from, limit).await?;
    if found.is_empty() {
        return Ok(Renamed::default());
    }
    let held = hold(link, &found, &today).await?;
    let (superseded, free): (Vec<_>, Vec<_>) = held
        .requests
        .iter()
        .partition(|(_, event)| held.taken.contains(event));
    let superseded = superseded.into_iter().map(|(id, _)| id);
    let mut renamed = Renamed {
        superseded: supersede(link, superseded, from, &today).await?,
        skipped: held.skipped,
        ..Renamed::default()
    };
    let free: Vec<_> = free.into_iter().map(|(id, _)| id).collect();
    if !free.is_empty() {
        let dialect = &link.shared.dialect;
        renamed.requests = dialect.rename_requests(link, &free, from, &today).await?;
    }
    link.effects.settled |= renamed.superseded > 0;
    link.effects.ready |= renamed.requests > 0;
    // Where others did the same meanwhile, there is nothing left to do of this batch, but perhaps of
    // the next one; where nothing can be done, as rows cannot be read, another call does no more.
    renamed.more = found.len() >= limit
        && (renamed.requests + renamed.superseded > 0 || {
            let again = open_and_dead_of(link, from, limit).await?;
            again.iter().any(|one| !found.contains(one))
        });
    Ok(renamed)
}

/// Open and dead requests of a handler.
pub(super) async fn open_and_dead_of(
    link: &mut Link<'_>,
    handler: &Name,
    count: usize,
) -> Result<Vec<Found>> {
    let args = (0..SOURCES).flat_map(|_| [Arg::from(handler.as_str()), Arg::from(limit(count))]);
    let find = &link.shared.common.open_and_dead_of;
    let rows = link.rows(find, args.collect()).await?;
    rows.iter()
        .take(count)
        .map(|row| {
            let mut columns = row.reader(HANDLER_REQUESTS);
            let id = HandlerRequestId::from_uuid(columns.uuid("id")?);
            Ok((id, EventId::from_uuid(columns.uuid("event_id")?)))
        })
        .collect()
}

/// Requests that this transaction has locked, with their events.
struct Held {
    requests: Vec<Found>,
    /// Those of their events that have a request of the new name.
    taken: HashSet<EventId>,
    /// How many somebody else has locked.
    skipped: u64,
}

/// Locks requests, and their events first, so that no replay makes one of the new name meanwhile, and
/// no other process renames one. What somebody else has locked is left out: who waits here keeps
/// whoever registers waiting, and behind him all fan-outs.
async fn hold(link: &mut Link<'_>, found: &[Found], name: &Name) -> Result<Held> {
    let skip = LockMode::SkipLocked;
    let dialect = &link.shared.dialect;
    let mut events: Vec<_> = found.iter().map(|(_, event)| *event).collect();
    events.sort_unstable();
    events.dedup();
    let events = dialect.lock_events(link, &events, skip).await?;
    let mut free: HashSet<_> = events.iter().copied().collect();
    free.extend(events_that_are_gone(link, found, &free).await?);
    let mut ids: Vec<_> = found
        .iter()
        .filter(|(_, event)| free.contains(event))
        .map(|(id, _)| *id)
        .collect();
    ids.sort_unstable();
    let locked = dialect.lock_requests(link, &ids, skip).await?;
    let unreadable = locked.unreadable.iter().map(|row| row.id);
    let readable = locked.readable.iter().map(|request| request.id);
    let held: HashSet<_> = readable.chain(unreadable).collect();
    let is_held = |(id, _): &&Found| held.contains(id);
    let requests: Vec<_> = found.iter().filter(is_held).copied().collect();
    let skipped = u64::try_from(found.len() - requests.len()).unwrap_or(u64::MAX);
    Ok(Held {
        taken: events_that_have(link, &events, name).await?,
        requests,
        skipped,
    })
}

/// Those events of requests that nobody can lock, as they are not there any more.
async fn events_that_are_gone(
    link: &mut Link<'_>,
    found: &[Found],
    locked: &HashSet<EventId>,
) -> Result<Vec<EventId>> {
    let events = found.iter().map(|(_, event)| *event);
    let mut others: Vec<_> = events.filter(|event| !locked.contains(event)).collect();
    others.sort_unstable();
    others.dedup();
    if others.is_empty() {
        return Ok(others);
    }
    let dialect = &link.shared.dialect;
    let requests = dialect.requests_of_events(link, &others).await?;
    // No event has such a name.
    let is_alone = |request: &&HandlerRequest| request.event_name.is_empty();
    let alone = requests.readable.iter().filter(is_alone);
    let alone: HashSet<_> = alone.map(|request| request.event_id).collect();
    others.retain(|event| alone.contains(event));
    Ok(others)
}

/// Those events that have a request of this name.
async fn events_that_have(
    link: &mut Link<'_>,
    events: &[EventId],
    name: &Name,
) -> Result<HashSet<EventId>> {
    let dialect = &link.shared.dialect;
    let requests = dialect.requests_of_events(link, events).await?;
    let readable = requests.readable.into_iter();
    let readable = readable.filter(|request| request.handler == *name);
    // One whose name cannot be read may be this one's.
    let unreadable = requests.unreadable.into_iter();
    let unreadable = unreadable.filter(|row| row.handler.as_ref().is_none_or(|it| it == name));
    Ok(readable
        .map(|request| request.event_id)
        .chain(unreadable.map(|row| row.event_id))
        .collect())
}

/// Cancels requests whose events have one of the new name.
async fn supersede(
    link: &mut Link<'_>,
    ids: impl Iterator<Item = HandlerRequestId>,
    from: &Name,
    today: &Name,
) -> Result<u64> {
    let Some(mut locked) = lock(link, ids, LockMode::Wait).await? else {
        return Ok(0);
    };
    let (now, mut superseded) = (locked.now, 0);
    let ids: Vec<_> = locked.by_id.keys().copied().collect();
    for id in ids {
        let canceled = locked.change(id, |request| {
            if request.handler != *from {
                return Err(Refusal::State(request.state(now)));
            }
            request.supersede(now, today)
        });
        superseded += u64::from(matches!(canceled, Some(Ok(()))));
    }
    locked.write(link).await?;
    Ok(superseded)
}
