//! Claims in several statements, for databases that cannot do them in one.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{
    fan_out::names,
    link::Link,
    records::{HANDLER_REQUESTS, priority},
    settle::put_off_unreadable,
};
use crate::{
    clock::between,
    error::{Chain, Result, StoreError},
    model::{Event, HandlerRequest, Priority},
    store::{Claim, ClaimedBatch, ClaimedRequest, UnreadableRequest},
    text::Name,
};

/// See [`HandlerRequestRepository::claim`](crate::store::HandlerRequestRepository::claim).
pub(super) async fn claim(link: &mut Link<'_>, asked: &Claim) -> Result<ClaimedBatch> {
    let batch = claim_best(link, asked, asked.limit, false).await?;
    complete(link, asked, batch).await
}

/// Tells of what comes next, if a claim did not bring all that was asked for.
pub(super) async fn complete(
    link: &mut Link<'_>,
    asked: &Claim,
    mut batch: ClaimedBatch,
) -> Result<ClaimedBatch> {
    if batch.requests.len() + batch.unreadable.len() < asked.limit {
        if batch.next_due.is_none() {
            batch.next_due = next_due(link, asked).await?;
        }
        batch.suspect_waits = suspect_waits(link, asked).await?;
    }
    Ok(batch)
}

/// See [`HandlerRequestRepository::claim_suspect`](crate::store::HandlerRequestRepository::claim_suspect).
pub(super) async fn claim_suspect(link: &mut Link<'_>, asked: &Claim) -> Result<ClaimedBatch> {
    claim_best(link, asked, asked.limit.min(1), true).await
}

async fn claim_best(
    link: &mut Link<'_>,
    asked: &Claim,
    limit: usize,
    suspects: bool,
) -> Result<ClaimedBatch> {
    let dialect = &link.shared.dialect;
    let due = dialect
        .lock_due(link, &asked.handlers, limit, suspects)
        .await?;
    let put_off = &link.shared.common.put_off_claim;
    put_off_unreadable(link, put_off, &due.unreadable).await?;
    let mut batch = ClaimedBatch::default();
    if !due.unreadable.is_empty() {
        // Others may have waited behind them.
        batch.next_due = Some(Duration::ZERO);
    }
    let Some(now) = due.now else {
        return Ok(batch);
    };
    let mut requests = due.readable;
    let mut misplaced = Vec::new();
    // The claim of a suspect counts its execution, which the handler is not to see as one before
    // its own.
    let mut executions = HashMap::with_capacity(requests.len());
    requests.retain_mut(|request| {
        let before = request.executions;
        match request.claim(now, asked.owner, asked.lease) {
            Ok(()) => {
                executions.insert(request.id, before);
                true
            }
            // What was locked is due by its queue, which nothing writes that leaves the request in
            // another state.
            Err(_) => {
                misplaced.push(request.clone());
                false
            }
        }
    });
    if !misplaced.is_empty() {
        put_right(link, &misplaced).await?;
        // Others may have waited behind them.
        batch.next_due = Some(Duration::ZERO);
    }
    if requests.is_empty() {
        return Ok(batch);
    }
    dialect.write_claims(link, &requests).await?;
    with_events(link, &requests, &mut batch).await?;
    batch
        .requests
        .sort_unstable_by_key(|request| (request.priority, request.id));
    for request in &mut batch.requests {
        request.executions = executions.get(&request.id).copied().unwrap_or_default();
    }
    Ok(batch)
}

/// Writes requests anew that are not in the queue where they belong, so that each goes where its other
/// columns say: that is what an operator sees, and what decides whether it may be executed.
pub(super) async fn put_right(link: &mut Link<'_>, misplaced: &[HandlerRequest]) -> Result<()> {
    for request in misplaced {
        let error = StoreError::Unreadable {
            table: HANDLER_REQUESTS,
            column: "queue",
            id: request.id.to_string(),
            source: Some("it contradicts the other columns, and is set to what they say".into()),
        };
        tracing::error!(request = %request.id, error = %Chain(&error), "a request is in the wrong queue");
    }
    link.shared.dialect.write_requests(link, misplaced).await
}

/// Claimed requests with their events, each of which is read once.
async fn with_events(
    link: &mut Link<'_>,
    requests: &[HandlerRequest],
    batch: &mut ClaimedBatch,
) -> Result<()> {
    let mut ids: Vec<_> = requests.iter().map(|request| request.event_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let events = link.shared.dialect.events(link, &ids).await?;
    let events: HashMap<_, _> = events
        .into_iter()
        .map(|(id, event)| (id, event.map(Arc::new)))
        .collect();
    for request in requests {
        match events.get(&request.event_id.as_uuid()) {
            Some(Ok(event)) => batch
                .requests
                .push(claimed_request(request, Arc::clone(event))),
            Some(Err(error)) => batch
                .unreadable
                .push(unreadable(request, &Chain(error).to_string())),
            None => {
                let error = format!("events.id of row {} is gone", request.event_id);
                batch.unreadable.push(unreadable(request, &error));
            }
        }
    }
    Ok(())
}

fn unreadable(request: &HandlerRequest, error: &str) -> UnreadableRequest {
    UnreadableRequest::new(
        request.id,
        request.handler.clone(),
        request.attempt,
        request.errors,
        error,
    )
}

/// What an executor needs to know of a request that was just claimed.
pub(super) fn claimed_request(request: &HandlerRequest, event: Arc<Event>) -> ClaimedRequest {
    let mut claimed = ClaimedRequest::new(
        request.id,
        event,
        request.handler.clone(),
        request.attempt,
        request.max_errors,
    );
    claimed.priority = request.priority;
    claimed.errors = request.errors;
    claimed.executions = request.executions;
    claimed.rescues = request.rescues;
    claimed
}

/// When the next request of the asked handlers that backs off is due.
async fn next_due(link: &mut Link<'_>, asked: &Claim) -> Result<Option<Duration>> {
    let handlers = names(asked.handlers.iter().map(|handler| &handler.handler));
    let row = link
        .row(&link.shared.common.next_due_request, vec![handlers])
        .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let mut columns = row.reader(HANDLER_REQUESTS);
    let now = columns.time("now")?;
    let next = columns.optional_due("backoff_until")?;
    Ok(next.map(|next| between(now, next)))
}

/// Whether a claim of suspects would find one.
async fn suspect_waits(link: &mut Link<'_>, asked: &Claim) -> Result<bool> {
    let with_room = asked.handlers.iter().filter(|handler| handler.room > 0);
    let handlers = names(with_room.map(|handler| &handler.handler));
    let due = &link.shared.common.suspect_due;
    Ok(super::count(link, due, vec![handlers]).await? > 0)
}

/// The best priority among the requests of these handlers that are due.
pub(super) async fn best_due<'a>(
    link: &mut Link<'_>,
    handlers: impl Iterator<Item = &'a Name>,
) -> Result<Option<Priority>> {
    let handlers = names(handlers);
    let row = link
        .row(&link.shared.common.best_due, vec![handlers])
        .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let mut columns = row.reader(HANDLER_REQUESTS);
    // One that cannot be read is in front of all others until a claim puts it off.
    let best = |_| priority(&mut row.reader(HANDLER_REQUESTS)).unwrap_or(Priority::HIGHEST);
    Ok(columns.optional_int("priority")?.map(best))
}

/// The events themselves, from rows of their columns.
pub(super) fn read_events(rows: &[super::row::Row]) -> Result<HashMap<uuid::Uuid, Result<Event>>> {
    rows.iter()
        .map(|row| {
            let id = row.reader(super::records::EVENTS).uuid("id")?;
            let event = super::records::event(&mut row.reader(super::records::EVENTS));
            Ok((id, event))
        })
        .collect()
}
