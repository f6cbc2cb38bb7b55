//! The hot path in single statements: fan-out, claim, settlement, renewal.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use uuid::Uuid;

use super::statements::Statements;
use crate::{
    clock::between,
    error::{Chain, Result},
    id::{CorrelationId, EventId, HandlerRequestId, LeaseOwner},
    model::{Entity, Event, Outcome},
    sql::{
        arg::Arg,
        limit,
        link::Link,
        records::{self, EVENTS, HANDLER_REQUESTS},
        row::{Reader, Row},
    },
    store::{
        Claim, ClaimedBatch, ClaimedRequest, FannedOut, HandlerRoom, LeaseOffer, ProcessedEvent,
        Renewal, Renewed, Settled, Settlement, UnreadableRequest,
    },
    text::Name,
};

/// The kinds of rows that a fan-out answers.
const PROCESSED: i64 = 0;
const BORN_LEASED: i64 = 1;

/// Fans out due events.
pub(super) async fn fan_out(
    link: &mut Link<'_>,
    statements: &Statements,
    events: usize,
    offer: Option<&LeaseOffer>,
) -> Result<FannedOut> {
    let none = &[][..];
    let mut args = vec![
        Arg::from(limit(events)),
        Arg::Uuid(offer.map(|offer| offer.owner.as_uuid())),
        Arg::from(micros(offer.map_or(Duration::ZERO, |offer| offer.lease))),
        Arg::from(limit(offer.map_or(0, |offer| offer.limit))),
    ];
    args.extend(rooms(offer.map_or(none, |offer| &offer.handlers)));
    let rows = link.rows(&statements.fan_out, args).await?;
    let mut answer = FannedOut::default();
    let mut events = HashMap::with_capacity(rows.len());
    let mut leased = Vec::new();
    for row in &rows {
        let mut columns = row.reader(EVENTS);
        match columns.int("kind")? {
            PROCESSED => {
                let read = read_processed(&mut columns, row, &mut answer, &mut events);
                read.unwrap_or_else(|error| {
                    // Its requests are there; those that were born leased are left to the rescue.
                    tracing::error!(error = %Chain(&error), "a processed event cannot be read");
                });
            }
            BORN_LEASED => leased.push(columns),
            _ => {
                columns.skip(15);
                let now = columns.time("now")?;
                let next = columns.optional_time("due_at")?;
                answer.next_due = next.map(|next| between(now, next));
            }
        }
    }
    answer.processed.sort_unstable_by_key(|event| event.id);
    for mut columns in leased {
        match read_born_leased(&mut columns, &events) {
            Ok(request) => answer.born_leased.extend(request),
            // It is left to the rescue, which puts it off.
            Err(error) => {
                tracing::error!(error = %Chain(&error), "a request cannot be read");
            }
        }
    }
    answer
        .born_leased
        .sort_unstable_by_key(|request| (request.priority, request.id));
    link.effects.ready |= answer
        .processed
        .iter()
        .map(|event| event.requests)
        .sum::<usize>()
        > answer.born_leased.len();
    Ok(answer)
}

/// Reads a processed event, and the whole of it if its requests may be born leased.
fn read_processed(
    columns: &mut Reader<'_>,
    row: &Row,
    answer: &mut FannedOut,
    events: &mut HashMap<Uuid, Result<Arc<Event>>>,
) -> Result<()> {
    let mut whole = row.reader(EVENTS);
    whole.skip(1);
    let id = columns.uuid("id")?;
    let name: Name = columns.text("name")?.into();
    let entity = columns.optional_text("entity_name")?;
    let entity = entity.zip(columns.optional_text("entity_id")?);
    let has_data = columns.optional_text("data")?.is_some();
    let timestamp = columns.time("timestamp")?;
    let correlation_id = CorrelationId::from_uuid(columns.uuid("correlation_id")?);
    columns.skip(3);
    let requests = columns.int("requests")?;
    let id_of_event = EventId::from_uuid(id);
    let mut processed = ProcessedEvent::new(id_of_event, name, correlation_id, timestamp, requests);
    processed.entity = entity.map(|(name, id)| Entity::new(name, id));
    answer.processed.push(processed);
    if has_data {
        events.insert(id, records::event(&mut whole).map(Arc::new));
    }
    Ok(())
}

/// Reads a request that was born leased. One whose event cannot be read is left to the rescue,
/// from which it goes to a claim, which tells of it.
fn read_born_leased(
    columns: &mut Reader<'_>,
    events: &HashMap<Uuid, Result<Arc<Event>>>,
) -> Result<Option<ClaimedRequest>> {
    let event = columns.uuid("event_id")?;
    columns.skip(10);
    let id = HandlerRequestId::from_uuid(columns.uuid("id")?);
    match events.get(&event) {
        Some(Ok(event)) => {
            let handler = columns.text("handler")?;
            let priority = records::priority(columns)?;
            let max_errors = columns.int("max_errors")?;
            let mut claimed = ClaimedRequest::new(id, Arc::clone(event), handler, 1, max_errors);
            claimed.priority = priority;
            Ok(Some(claimed))
        }
        Some(Err(error)) => {
            tracing::error!(request = %id, error = %Chain(error), "an event cannot be read");
            Ok(None)
        }
        None => Ok(None),
    }
}

/// Claims due requests.
pub(super) async fn claim(
    link: &mut Link<'_>,
    statements: &Statements,
    asked: &Claim,
) -> Result<ClaimedBatch> {
    let mut args: Vec<_> = rooms(&asked.handlers).into();
    args.push(Arg::from(limit(asked.limit)));
    args.push(Arg::from(asked.owner.as_uuid()));
    args.push(Arg::from(micros(asked.lease)));
    let rows = link.rows(&statements.claim, args).await?;
    let mut batch = ClaimedBatch::default();
    let mut events: HashMap<Uuid, Result<Arc<Event>>> = HashMap::new();
    for row in &rows {
        read_event(row, &mut events)?;
    }
    let mut any_unreadable = false;
    for row in &rows {
        if let Err(error) = read_claimed(row, &events, &mut batch) {
            // It has been claimed, and is left to the rescue, which puts it off.
            tracing::error!(error = %Chain(&error), "a request cannot be read");
            any_unreadable = true;
        }
    }
    if any_unreadable {
        // Others may have waited behind it.
        batch.next_due = Some(Duration::ZERO);
    }
    batch
        .requests
        .sort_unstable_by_key(|request| (request.priority, request.id));
    Ok(batch)
}

/// The columns of a request before those of its event, and of the answer as a whole.
const CLAIMED_COLUMNS: usize = 13;

fn read_event(row: &Row, events: &mut HashMap<Uuid, Result<Arc<Event>>>) -> Result<()> {
    let mut columns = row.reader(HANDLER_REQUESTS);
    columns.skip(1);
    let Some(id) = columns.optional_uuid("event_id")? else {
        return Ok(());
    };
    columns.skip(7);
    if columns.bool("place")? {
        let mut columns = row.reader(EVENTS);
        columns.skip(CLAIMED_COLUMNS);
        events.insert(id, records::event(&mut columns).map(Arc::new));
    }
    Ok(())
}

fn read_claimed(
    row: &Row,
    events: &HashMap<Uuid, Result<Arc<Event>>>,
    batch: &mut ClaimedBatch,
) -> Result<()> {
    let mut columns = row.reader(HANDLER_REQUESTS);
    let Some(id) = columns.optional_uuid("id")? else {
        columns.skip(9);
        return read_next_due(&mut columns, batch);
    };
    let id = HandlerRequestId::from_uuid(id);
    let event = columns.uuid("event_id")?;
    let handler: Name = columns.text("handler")?.into();
    let priority = records::priority(&mut columns)?;
    let attempt = columns.int("attempt")?;
    let errors = columns.int("errors")?;
    let max_errors = columns.int("max_errors")?;
    let executions = columns.int("executions")?;
    let rescues = columns.int("rescues")?;
    columns.skip(1);
    read_next_due(&mut columns, batch)?;
    match events.get(&event) {
        Some(Ok(event)) => {
            let event = Arc::clone(event);
            let mut claimed = ClaimedRequest::new(id, event, handler, attempt, max_errors);
            claimed.priority = priority;
            claimed.errors = errors;
            claimed.executions = executions;
            claimed.rescues = rescues;
            batch.requests.push(claimed);
        }
        Some(Err(error)) => batch.unreadable.push(UnreadableRequest::new(
            id,
            handler,
            attempt,
            errors,
            Chain(error).to_string(),
        )),
        None => {}
    }
    Ok(())
}

fn read_next_due(columns: &mut Reader<'_>, batch: &mut ClaimedBatch) -> Result<()> {
    let now = columns.time("now")?;
    let next = columns.optional_time("backoff_until")?;
    batch.next_due = next.map(|next| between(now, next));
    batch.suspect_waits = columns.bool("queue")?;
    Ok(())
}

/// Whether a settlement is one of those that a single statement writes: it keeps no text.
pub(super) const fn is_plain(settlement: &Settlement) -> bool {
    settlement.raised.is_empty()
        && matches!(
            settlement.outcome,
            Outcome::Completed | Outcome::Snoozed { .. }
        )
}

/// Completes and snoozes; answers in the order of the settlements. All ids differ. In a transaction
/// that its owner commits, `standstill` says how long the server waits for that.
pub(super) async fn settle(
    link: &mut Link<'_>,
    statements: &Statements,
    settlements: &[Settlement],
    standstill: Option<&str>,
) -> Result<Vec<Settled>> {
    let mut ordered: Vec<_> = settlements.iter().collect();
    ordered.sort_unstable_by_key(|settlement| settlement.id);
    let snoozes = ordered.iter().map(|settlement| match settlement.outcome {
        Outcome::Snoozed { duration } => Some(micros(duration)),
        _ => None,
    });
    let mut args = vec![
        Arg::uuids(ordered.iter().map(|settlement| settlement.id.as_uuid())),
        Arg::ints(
            ordered
                .iter()
                .map(|settlement| settlement.attempt.cast_signed()),
        ),
        Arg::uuids(ordered.iter().map(|settlement| settlement.owner.as_uuid())),
        Arg::bools(ordered.iter().map(|settlement| settlement.executed)),
        Arg::optional_ints(snoozes),
    ];
    let rows = match standstill {
        Some(standstill) => {
            args.push(Arg::from(standstill));
            link.rows_planned_anew(&statements.settle_in, args).await?
        }
        None => link.rows(&statements.settle, args).await?,
    };
    let settled = ids(&rows)?;
    link.effects.settled |= !settled.is_empty();
    let is_settled = |settlement: &Settlement| settled.contains(&settlement.id.as_uuid());
    ordered.retain(|settlement| !is_settled(settlement));
    // A transaction has waited for those that somebody had locked.
    let held = if ordered.is_empty() || standstill.is_some() {
        HashSet::new()
    } else {
        find_held(link, statements, &ordered).await?
    };
    let answer = |settlement: &Settlement| {
        if is_settled(settlement) {
            Settled::Applied
        } else if held.contains(&settlement.id.as_uuid()) {
            Settled::Locked
        } else {
            Settled::Fenced
        }
    };
    Ok(settlements.iter().map(answer).collect())
}

/// Those whose fence holds although they were not settled.
async fn find_held(
    link: &mut Link<'_>,
    statements: &Statements,
    settlements: &[&Settlement],
) -> Result<HashSet<Uuid>> {
    let attempt = |settlement: &&Settlement| settlement.attempt.cast_signed();
    let args = vec![
        Arg::uuids(settlements.iter().map(|settlement| settlement.id.as_uuid())),
        Arg::ints(settlements.iter().map(attempt)),
        Arg::uuids(
            settlements
                .iter()
                .map(|settlement| settlement.owner.as_uuid()),
        ),
    ];
    ids(&link.rows(&statements.held, args).await?)
}

fn ids(rows: &[Row]) -> Result<HashSet<Uuid>> {
    let id = |row: &Row| row.reader(HANDLER_REQUESTS).uuid("id");
    rows.iter().map(id).collect()
}

/// Renews leases; answers which are lost, and which were skipped.
pub(super) async fn renew(
    link: &mut Link<'_>,
    statements: &Statements,
    renewal: &Renewal,
) -> Result<Renewed> {
    let owner: LeaseOwner = renewal.owner;
    let args = vec![
        Arg::uuids(renewal.requests.iter().map(|(id, _)| id.as_uuid())),
        Arg::ints(
            renewal
                .requests
                .iter()
                .map(|(_, attempt)| attempt.cast_signed()),
        ),
        Arg::from(owner.as_uuid()),
        Arg::from(micros(renewal.lease)),
    ];
    let rows = link.rows(&statements.renew, args).await?;
    let mut answer = Renewed::default();
    for row in &rows {
        let mut columns = row.reader(HANDLER_REQUESTS);
        let id = HandlerRequestId::from_uuid(columns.uuid("id")?);
        let claim = (id, columns.int("attempt")?);
        if columns.bool("is_held")? {
            answer.skipped.push(claim);
        } else {
            answer.lost.push(claim);
        }
    }
    Ok(answer)
}

/// Handlers with room, and their rooms.
fn rooms(handlers: &[HandlerRoom]) -> [Arg<'_>; 2] {
    let with_room = || handlers.iter().filter(|handler| handler.room > 0);
    [
        Arg::texts(with_room().map(|handler| handler.handler.as_str())),
        Arg::ints(with_room().map(|handler| limit(handler.room))),
    ]
}

/// A duration in microseconds, at most a hundred years, which every database can add to now.
fn micros(duration: Duration) -> i64 {
    const MAX: Duration = Duration::from_secs(100 * 365 * 86_400);
    i64::try_from(duration.min(MAX).as_micros()).unwrap_or(i64::MAX)
}
