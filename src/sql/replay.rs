//! Running past events again.

use std::collections::{HashMap, HashSet};

use super::{
    event_repository::list_ids,
    fan_out::matching,
    link::Link,
    prune::requests_of,
    records::HANDLER_REQUESTS,
    registrations::{registrations, share_names},
    settle::lock,
};
use crate::{
    error::{Result, StoreError},
    id::{EventId, HandlerHash, HandlerRequestId},
    model::{HandlerRequest, Refusal, Registration},
    store::{LockMode, Page, Replay, Replayed},
    text::Name,
};

/// How many ids are tried for a request whose derived id is taken by one that was renamed.
const MAX_TRIES: u32 = 64;

/// See [`HandlerRequestRepository::replay`](crate::store::HandlerRequestRepository::replay).
pub(super) async fn replay(link: &mut Link<'_>, replay: &Replay) -> Result<Replayed> {
    share_names(link).await?;
    let all = registrations(link).await?;
    replay.check(&all)?;
    let (looked_at, names) = events_to_replay(link, replay).await?;
    // The lock keeps the events from being pruned, and another replay from making their requests.
    let dialect = &link.shared.dialect;
    let held = dialect
        .lock_events(link, &looked_at, LockMode::Wait)
        .await?;
    let existing = requests_of(link, &held).await?;
    let mut replayed = Replayed {
        next: replay.next(&looked_at),
        ..Replayed::default()
    };
    let now = super::now(link).await?;
    let mut missing = Vec::new();
    let mut ended = Vec::new();
    let mut matches = HashMap::new();
    for event in held {
        let Some(name) = names.get(&event) else {
            continue;
        };
        let wanted = matches
            .entry(name.clone())
            .or_insert_with(|| wanted(&all, name, replay));
        // Of what cannot be read it is not known whether it has ended, nor whose it is.
        let Some(existing) = existing.of(&event) else {
            continue;
        };
        for one in wanted.iter() {
            match existing
                .iter()
                .find(|request| request.handler == one.handler)
            {
                Some(request) if request.is_open() => replayed.open += 1,
                Some(request) => ended.push(request.id),
                None => missing.push(new_request(event, name, one, existing, now)?),
            }
        }
    }
    replayed.created = missing.len() as u64;
    replayed.reexecuted = reexecute(link, ended).await?;
    if !missing.is_empty() {
        dialect.insert_requests(link, &missing).await?;
        let wanted: Vec<_> = missing.iter().map(|request| request.event_id).collect();
        dialect.forget_unwanted(link, &wanted).await?;
    }
    link.effects.ready |= replayed.created + replayed.reexecuted > 0;
    link.effects.settled |= replayed.reexecuted > 0;
    Ok(replayed)
}

/// The processed events of this batch, in the order of their ids, and their names.
async fn events_to_replay(
    link: &mut Link<'_>,
    replay: &Replay,
) -> Result<(Vec<EventId>, HashMap<EventId, Name>)> {
    let Some((filter, after, limit)) = replay.events_to_look_at() else {
        return Ok(Default::default());
    };
    let mut page = Page::first(limit);
    page.after = after;
    let mut events = list_ids(link, &filter, &page).await?;
    events.retain(|(id, _)| replay.takes(*id));
    let ids = events.iter().map(|(id, _)| *id).collect();
    Ok((ids, events.into_iter().collect()))
}

fn wanted<'r>(all: &'r [Registration], name: &Name, replay: &Replay) -> Vec<&'r Registration> {
    let is_asked = |handler: &Name| replay.handlers.is_empty() || replay.handlers.contains(handler);
    let mut wanted = matching(all, name);
    wanted.retain(|registration| is_asked(&registration.handler));
    wanted
}

/// A request of an event that was processed without it. A rename may have given the id that is
/// derived for it to another handler; another one beside it is taken then, so that the event's
/// requests stay together.
fn new_request(
    event: EventId,
    name: &Name,
    wanted: &Registration,
    existing: &[HandlerRequest],
    now: chrono::DateTime<chrono::Utc>,
) -> Result<HandlerRequest> {
    let taken: HashSet<_> = existing.iter().map(|request| request.id).collect();
    let hash = HandlerHash::of(&wanted.handler);
    let id = (0..MAX_TRIES)
        .map(|step| HandlerRequestId::combine(event, hash.plus(step)))
        .find(|id| !taken.contains(id))
        .ok_or_else(|| StoreError::Unreadable {
            table: HANDLER_REQUESTS,
            column: "id",
            id: event.to_string(),
            source: Some("all ids for a request of this event are taken".into()),
        })?;
    Ok(HandlerRequest::with_id(
        id,
        event,
        name.clone(),
        wanted.handler.clone(),
        wanted.priority,
        wanted.max_errors,
        now,
    ))
}

async fn reexecute(link: &mut Link<'_>, ended: Vec<HandlerRequestId>) -> Result<u64> {
    let Some(mut locked) = lock(link, ended.iter().copied(), LockMode::Wait).await? else {
        return Ok(0);
    };
    let now = locked.now;
    let mut count = 0;
    for id in ended {
        let reexecuted: Option<Result<(), Refusal>> =
            locked.change(id, |request| request.reexecute(now));
        count += u64::from(matches!(reexecuted, Some(Ok(()))));
    }
    locked.write(link).await?;
    Ok(count)
}
