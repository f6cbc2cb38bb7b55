//! Fan-out in several statements, for databases that cannot do it in one.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use chrono::{DateTime, Utc};

use super::{
    arg::{Arg, args},
    claim::{best_due, claimed_request},
    link::Link,
    records::{DueEvent, WaitingEvent},
    registrations::{registrations_for_fan_out, share_names},
};
use crate::{
    clock::{between, later},
    error::{Chain, Result, StoreError},
    id::{EventId, HandlerHash, HandlerRequestId},
    model::{
        Event, ExecutionError, HandlerRequest, Lease, Priority, Registration, RegistrationState,
    },
    store::{
        ClaimedEvent, EventClaim, EventFailure, FanOut, FannedOut, LeaseOffer, ProcessedEvent,
        Selection,
    },
    text::{Name, cut, without_nul},
};

/// How long an event waits that cannot be read, so that it stands in nobody's way.
const UNREADABLE_BACKOFF: std::time::Duration = std::time::Duration::from_secs(60);

/// What is left of an offer.
struct Offer {
    lease: Lease,
    left: usize,
    rooms: HashMap<Name, usize>,
    /// The best priority that waits already.
    backlog: Option<Priority>,
}

impl Offer {
    /// Whether a request is born leased.
    fn take(&mut self, priority: Priority, handler: &Name) -> bool {
        if self.left == 0 || self.backlog.is_some_and(|waiting| waiting <= priority) {
            return false;
        }
        match self.rooms.get_mut(handler) {
            Some(room) if *room > 0 => {
                *room -= 1;
                self.left -= 1;
                true
            }
            _ => false,
        }
    }
}

/// See [`EventRepository::fan_out`](crate::store::EventRepository::fan_out).
pub(super) async fn fan_out(link: &mut Link<'_>, asked: &FanOut) -> Result<FannedOut> {
    share_names(link).await?;
    let due = select(link, &asked.selection).await?;
    let mut fanned_out = FannedOut::default();
    if let Some(now) = due.first().map(|due| due.now) {
        let all = registrations_for_fan_out(link).await?;
        let offer = match &asked.offer {
            Some(offer) => Some(open_offer(link, offer, now).await?),
            None => None,
        };
        fanned_out.held_back = is_held_back(asked, due.len(), offer.as_ref());
        if fanned_out.held_back {
            return Ok(fanned_out);
        }
        process(link, due, &all, offer, now, &mut fanned_out).await?;
    }
    fanned_out.next_due = next_due(link).await?;
    Ok(fanned_out)
}

/// Whether the events are to wait for those who claim.
fn is_held_back(asked: &FanOut, due: usize, offer: Option<&Offer>) -> bool {
    let is_selected = matches!(asked.selection, Selection::Due { .. });
    let most = asked.max_behind_backlog.filter(|_| is_selected);
    most.is_some_and(|most| due > most) && offer.is_some_and(|offer| offer.backlog.is_some())
}

async fn select(link: &mut Link<'_>, selection: &Selection) -> Result<Vec<DueEvent>> {
    let dialect = &link.shared.dialect;
    match selection {
        Selection::Due { limit } => dialect.due_events(link, *limit).await,
        Selection::Claimed(claims) => {
            let fences: HashMap<_, _> = claims.iter().copied().collect();
            let ids: Vec<_> = fences.keys().copied().collect();
            let mut held = dialect.lock_waiting(link, &ids).await?;
            held.retain(|due| due.is_claimed && fences.get(&due.event.id) == Some(&due.attempt));
            held.sort_unstable_by_key(|due| due.event.id);
            Ok(held)
        }
    }
}

async fn open_offer(link: &mut Link<'_>, offer: &LeaseOffer, now: DateTime<Utc>) -> Result<Offer> {
    let rooms: HashMap<_, _> = offer
        .handlers
        .iter()
        .filter(|handler| handler.room > 0)
        .map(|handler| (handler.handler.clone(), handler.room))
        .collect();
    let backlog = best_due(link, rooms.keys()).await?;
    Ok(Offer {
        lease: Lease {
            owner: offer.owner,
            until: later(now, offer.lease),
        },
        left: offer.limit,
        rooms,
        backlog,
    })
}

/// Makes requests of locked events and takes these off the queue.
async fn process(
    link: &mut Link<'_>,
    due: Vec<DueEvent>,
    all: &[Registration],
    mut offer: Option<Offer>,
    now: DateTime<Utc>,
    fanned_out: &mut FannedOut,
) -> Result<()> {
    let mut matches = HashMap::new();
    let mut births = Vec::with_capacity(due.len());
    let mut unwanted = Vec::new();
    for (parent, due) in due.iter().enumerate() {
        let event = &due.event;
        let wanted: &Vec<_> = matches.entry(event.name.clone()).or_insert_with(|| {
            let hashed = |one: &&Registration| HandlerHash::of(&one.handler);
            let wanted = matching(all, &event.name);
            let hashes: Vec<_> = wanted.iter().map(hashed).collect();
            wanted.into_iter().zip(hashes).collect()
        });
        fanned_out.processed.push(processed(event, wanted.len()));
        if wanted.is_empty() {
            unwanted.push(event.id);
        }
        for (wanted, hash) in wanted {
            let mut request = HandlerRequest::with_id(
                HandlerRequestId::combine(event.id, *hash),
                event.id,
                event.name.clone(),
                wanted.handler.clone(),
                wanted.priority,
                wanted.max_errors,
                now,
            );
            request.lease = None;
            births.push((request, parent));
        }
    }
    births.sort_unstable_by_key(|(request, _)| (request.priority, request.id));
    let mut ready = BTreeSet::new();
    for (request, parent) in &mut births {
        if let Some(offer) = offer.as_mut()
            && offer.take(request.priority, &request.handler)
            && let Some(due) = due.get(*parent)
        {
            request.attempt += 1;
            request.lease = Some(offer.lease);
            let claimed = claimed_request(request, Arc::clone(&due.event));
            fanned_out.born_leased.push(claimed);
        } else if !ready.contains(&request.handler) {
            ready.insert(request.handler.clone());
        }
    }
    let requests: Vec<_> = births.into_iter().map(|(request, _)| request).collect();
    let dialect = &link.shared.dialect;
    dialect.insert_requests(link, &requests).await?;
    dialect.unqueue_due(link, &due).await?;
    if !unwanted.is_empty() {
        dialect.put_unwanted(link, &unwanted, now).await?;
    }
    link.effects.ready |= !ready.is_empty();
    fanned_out.ready_handlers = Some(ready.into_iter().collect());
    Ok(())
}

/// The registrations of the handlers that want events of this name: of each handler the one with
/// the most specific pattern.
pub(super) fn matching<'r>(all: &'r [Registration], name: &Name) -> Vec<&'r Registration> {
    let mut best: HashMap<&Name, &Registration> = HashMap::new();
    for registration in all {
        if registration.state != RegistrationState::Active || !registration.pattern.matches(name) {
            continue;
        }
        let kept = best.entry(&registration.handler).or_insert(registration);
        if registration.pattern.specificity() > kept.pattern.specificity() {
            *kept = registration;
        }
    }
    best.into_values().collect()
}

/// When nothing is due now: how long until the next event that backs off is.
pub(super) async fn next_due(link: &mut Link<'_>) -> Result<Option<std::time::Duration>> {
    let row = link
        .row(&link.shared.common.next_due_event, args![])
        .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let mut columns = row.reader("waiting_events");
    let now = columns.time("now")?;
    let is_due = columns.bool("is_due")?;
    let next = columns.optional_due("due_at")?;
    Ok(next.filter(|_| !is_due).map(|next| between(now, next)))
}

/// See [`EventRepository::claim`](crate::store::EventRepository::claim).
pub(super) async fn claim_events(
    link: &mut Link<'_>,
    claim: &EventClaim,
) -> Result<Vec<ClaimedEvent>> {
    let dialect = &link.shared.dialect;
    let due = dialect.due_events(link, claim.limit).await?;
    let mut waiting = Vec::with_capacity(due.len());
    let mut claimed = Vec::with_capacity(due.len());
    for due in due {
        waiting.push(WaitingEvent {
            id: due.event.id,
            attempt: due.attempt + 1,
            errors: due.errors,
            last_error: due.last_error,
            owner: Some(claim.owner),
            due_at: later(due.now, claim.lease),
        });
        claimed.push(ClaimedEvent::new(due.event, due.attempt + 1, due.errors));
    }
    requeue(link, &waiting).await?;
    Ok(claimed)
}

/// See [`EventRepository::fail`](crate::store::EventRepository::fail).
pub(super) async fn fail_events(link: &mut Link<'_>, failures: &[EventFailure]) -> Result<()> {
    let by_id: HashMap<_, _> = failures
        .iter()
        .map(|failure| (failure.id, failure))
        .collect();
    let mut ids: Vec<_> = by_id.keys().copied().collect();
    ids.sort_unstable();
    let held = link.shared.dialect.lock_waiting(link, &ids).await?;
    let failed = held.into_iter().filter_map(|due| {
        let failure = by_id.get(&due.event.id)?;
        (due.is_claimed && due.attempt == failure.attempt).then(|| WaitingEvent {
            id: due.event.id,
            attempt: due.attempt,
            errors: due.errors.saturating_add(1),
            last_error: Some(cut(&without_nul(&failure.error), ExecutionError::MAX_LEN)),
            owner: None,
            due_at: later(due.now, failure.backoff),
        })
    });
    let failed: Vec<_> = failed.collect();
    requeue(link, &failed).await
}

async fn requeue(link: &mut Link<'_>, waiting: &[WaitingEvent]) -> Result<()> {
    if waiting.is_empty() {
        return Ok(());
    }
    link.shared.dialect.put_waiting(link, waiting).await
}

/// Reads due events. One that cannot be read waits, with the error, and stands in nobody's way.
pub(super) async fn readable(
    link: &mut Link<'_>,
    rows: &[super::row::Row],
) -> Result<Vec<DueEvent>> {
    let mut readable = Vec::with_capacity(rows.len());
    let mut unreadable = Vec::new();
    for row in rows {
        match super::records::due_event(row) {
            Ok(due) => readable.push(due),
            Err(error) => {
                unreadable.push((EventId::from_uuid(row.reader("events").uuid("id")?), error))
            }
        }
    }
    set_aside(link, unreadable).await?;
    Ok(readable)
}

/// Lets events wait that cannot be read, with their errors.
pub(super) async fn set_aside(
    link: &mut Link<'_>,
    unreadable: Vec<(EventId, StoreError)>,
) -> Result<()> {
    if unreadable.is_empty() {
        return Ok(());
    }
    let now = super::now(link).await?;
    let waiting: Vec<_> = unreadable
        .into_iter()
        .map(|(id, error)| {
            // What cannot be read may be quoted at any length.
            let error_text = cut(
                &without_nul(&Chain(&error).to_string()),
                ExecutionError::MAX_LEN,
            );
            tracing::error!(event = %id, error = error_text, "an event cannot be read; it waits");
            WaitingEvent {
                id,
                attempt: 0,
                errors: 1,
                last_error: Some(error_text),
                owner: None,
                due_at: later(now, UNREADABLE_BACKOFF),
            }
        })
        .collect();
    requeue(link, &waiting).await
}

fn processed(event: &Event, requests: usize) -> ProcessedEvent {
    let mut processed = ProcessedEvent::new(
        event.id,
        event.name.clone(),
        event.correlation_id,
        event.timestamp,
        requests,
    );
    processed.entity.clone_from(&event.entity);
    processed
}

/// Names as an argument.
pub(super) fn names<'a>(names: impl IntoIterator<Item = &'a Name>) -> Arg<'a> {
    Arg::texts(names.into_iter().map(Name::as_str))
}
