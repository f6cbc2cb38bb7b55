//! The hot path in single statements: fan-out, claim, settlement, renewal.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use uuid::Uuid;

use super::{
    leases::LeasedBatches,
    queue::{Queue, is_timed_out},
    statements::Statements,
};
use crate::{
    clock::between,
    error::{Chain, Result, StoreError},
    id::{CorrelationId, EventId, HandlerHash, HandlerRequestId, LeaseOwner},
    model::{Entity, Event, Outcome, Priority},
    sql::{
        arg::Arg,
        limit,
        link::Link,
        micros, plain,
        records::{self, EVENTS, HANDLER_REQUESTS, REGISTRATIONS},
        row::{Reader, Row},
        settle::{self, count_batches},
    },
    store::{
        Claim, ClaimedBatch, ClaimedRequest, FanOut, FannedOut, HandlerRoom, ProcessedEvent,
        Renewal, Renewed, Settled, Settlement, UnreadableRequest,
    },
    text::Name,
};

/// The kinds of rows that a fan-out answers, of which there is another one. The last is no answer.
const PROCESSED: i64 = 0;
const TERMS: i64 = 1;
const TOO_MUCH: i64 = 3;

/// What the requests of events of one name for one handler are like.
struct Terms {
    number: u32,
    handler: Name,
    hash: HandlerHash,
    priority: Priority,
    max_errors: u32,
    /// They were born leased, unless the event says which were.
    is_leased: bool,
}

/// The terms of all requests of events of one name.
#[derive(Default)]
struct OfName {
    count: usize,
    readable: Vec<Terms>,
}

/// Fans out due events: with a statement for many, or if there were none lately, one that begins sooner.
pub(super) async fn fan_out(
    link: &mut Link<'_>,
    statements: &Statements,
    leased: &LeasedBatches,
    queue: &Queue,
    events: usize,
    asked: &FanOut,
) -> Result<FannedOut> {
    let offer = asked.offer.as_ref();
    let none = &[][..];
    let args = || {
        let mut args = vec![
            Arg::Uuid(offer.map(|offer| offer.owner.as_uuid())),
            Arg::from(micros(offer.map_or(Duration::ZERO, |offer| offer.lease))),
            Arg::from(limit(offer.map_or(0, |offer| offer.limit))),
        ];
        args.extend(rooms(offer.map_or(none, |offer| &offer.handlers)));
        args
    };
    let mut answer = FannedOut::default();
    let start = queue.start();
    let limit_of_statements = link.shared.limits.statement;
    let timed_out = |error: &StoreError| {
        if is_timed_out(error, limit_of_statements) {
            queue.timed_out(start);
        }
    };
    let mut took = None;
    let may_be_one = !queue.is_crowded() && asked.max_behind_backlog != Some(0);
    let is_done = may_be_one && {
        let mut args = args();
        // Their rooms: one event needs no more than a place of each.
        args.truncate(4);
        args.push(Arg::from(start.unwrap_or_default()));
        let rows = link.rows(&statements.fan_out_one, args).await;
        let rows = rows.inspect_err(timed_out)?;
        read_fanned_out(&rows, leased, offer.is_some(), &mut answer, &mut took)?
    };
    if !is_done {
        let mut args = args();
        args.insert(0, Arg::from(limit(events)));
        args.push(Arg::from(limit(
            asked.max_behind_backlog.unwrap_or(usize::MAX),
        )));
        args.push(Arg::from(asked.beside));
        args.push(Arg::from(start.unwrap_or_default()));
        // The statement for one event has locked the first two for a moment.
        args.push(Arg::from(may_be_one || queue.is_strict()));
        let rows = link.rows(&statements.fan_out, args).await;
        let rows = rows.inspect_err(timed_out)?;
        read_fanned_out(&rows, leased, offer.is_some(), &mut answer, &mut took)?;
    }
    queue.fanned_out(start, &answer, took.unwrap_or_default());
    answer.partial = start.is_some();
    let requests = answer.processed.iter().map(|event| event.requests);
    link.effects.ready |= requests.sum::<usize>() > answer.born_leased.len();
    Ok(answer)
}

/// Reads the answer of a fan-out; `is_whole` is whether the events are there with their data. Answers
/// whether it is one.
fn read_fanned_out(
    rows: &[Row],
    leased: &LeasedBatches,
    is_whole: bool,
    answer: &mut FannedOut,
    took: &mut Option<Duration>,
) -> Result<bool> {
    let mut processed = Vec::with_capacity(rows.len());
    let mut terms: HashMap<Name, OfName> = HashMap::new();
    let mut batch = None;
    for row in rows {
        let mut columns = row.reader(EVENTS);
        match columns.int("kind")? {
            PROCESSED => processed.push(row),
            TERMS => read_terms(row, &mut terms)?,
            TOO_MUCH => return Ok(false),
            _ => {
                columns.skip(4);
                batch = columns.optional_text("batch")?;
                columns.skip(4);
                let next: Option<i64> = columns.optional_int("due_at")?;
                let until = |next: i64| Duration::from_micros(next.max(0).cast_unsigned());
                answer.next_due = next.map(until);
                let state = columns.optional_text("state")?;
                let mut state = state.as_deref().unwrap_or_default().split(' ');
                let micros = state.next().and_then(|micros| micros.parse().ok());
                *took = micros.map(Duration::from_micros);
                answer.held_back = state.next() == Some("1");
                answer.contended = state.next() == Some("1");
            }
        }
    }
    let batch = note_leased(leased, batch.as_deref());
    answer.processed.reserve(processed.len());
    let mut ready = BTreeSet::new();
    for row in processed {
        let read = read_processed(row, &terms, batch, is_whole, &mut ready, answer);
        read.unwrap_or_else(|error| {
            // Its requests are there; those that were born leased are left to the rescue, which
            // leads to a claim, and that tells of it.
            tracing::error!(error = %Chain(&error), "a processed event cannot be read");
            // It is not counted, and others may have waited behind it.
            answer.next_due = Some(Duration::ZERO);
        });
    }
    if !answer.processed.is_empty() {
        answer.ready_handlers = Some(ready.into_iter().cloned().collect());
    }
    answer.processed.sort_unstable_by_key(|event| event.id);
    answer
        .born_leased
        .sort_unstable_by_key(|request| (request.priority, request.id));
    Ok(true)
}

/// Reads the terms of one name and one handler.
fn read_terms(row: &Row, terms: &mut HashMap<Name, OfName>) -> Result<()> {
    let name = row.reader_at(EVENTS, 2).text("name")?.into();
    let of_name = terms.entry(name).or_default();
    of_name.count += 1;
    match read_terms_of_handler(&mut row.reader_at(REGISTRATIONS, 3)) {
        Ok(of_handler) => of_name.readable.push(of_handler),
        // Its requests are left to the rescue, and no others.
        Err(error) => {
            tracing::error!(error = %Chain(&error), "a registration cannot be read");
        }
    }
    Ok(())
}

fn read_terms_of_handler(columns: &mut Reader<'_>) -> Result<Terms> {
    let handler = columns.text("handler")?.into();
    columns.skip(1);
    let numbers = columns.text("terms")?;
    let parsed: Result<Vec<i64>, _> = numbers.split(' ').map(str::parse).collect();
    let parsed = parsed.map_err(|error| columns.unreadable("terms", error))?;
    let [number, hash, priority, max_errors, is_leased] = parsed[..] else {
        return Err(columns.unreadable("terms", "there are not five numbers"));
    };
    let out_of_range = |error| columns.unreadable("terms", error);
    let to_priority = |number: i64| {
        let number = i16::try_from(number).map_err(out_of_range)?;
        Priority::new(number).map_err(|error| columns.unreadable("terms", error))
    };
    Ok(Terms {
        number: u32::try_from(number).map_err(out_of_range)?,
        handler,
        hash: HandlerHash::from_signed(i32::try_from(hash).map_err(out_of_range)?),
        priority: to_priority(priority)?,
        max_errors: u32::try_from(max_errors).map_err(out_of_range)?,
        is_leased: is_leased != 0,
    })
}

/// Remembers how many requests were leased together; answers how the batch is called.
fn note_leased(leased: &LeasedBatches, batch: Option<&str>) -> Option<u64> {
    let (id, count) = batch?.split_once(' ')?;
    let (id, count) = (id.parse().ok()?, count.parse().ok()?);
    leased.leased(id, count);
    Some(id)
}

/// Reads a processed event, and the whole of it if requests of it were born leased.
fn read_processed<'t>(
    row: &Row,
    terms: &'t HashMap<Name, OfName>,
    batch: Option<u64>,
    is_whole: bool,
    ready: &mut BTreeSet<&'t Name>,
    answer: &mut FannedOut,
) -> Result<()> {
    let read_whole = || {
        let mut columns = row.reader_at(EVENTS, 1);
        records::event(&mut columns).map(Arc::new)
    };
    let whole = is_whole.then(read_whole);
    let mut processed = match &whole {
        Some(Ok(event)) => processed_event(event),
        _ => read_head(row)?,
    };
    let of_name = terms.get(&processed.name);
    processed.requests = of_name.map_or(0, |terms| terms.count);
    answer.processed.push(processed);
    let all = of_name.into_iter().flat_map(|terms| &terms.readable);
    let whole = whole.transpose()?;
    let (Some(whole), Some(batch)) = (whole, batch) else {
        ready.extend(all.map(|one| &one.handler));
        return Ok(());
    };
    let mut columns = row.reader(EVENTS);
    columns.skip(11);
    let chosen = columns.optional_text("leased")?;
    let chosen: Option<HashSet<&str>> = chosen.as_deref().map(|some| some.split(' ').collect());
    for one in all {
        let is_leased = match &chosen {
            Some(chosen) => chosen.contains(&*one.number.to_string()),
            None => one.is_leased,
        };
        if is_leased {
            let id = HandlerRequestId::combine(whole.id, one.hash);
            let event = Arc::clone(&whole);
            let mut claimed =
                ClaimedRequest::new(id, event, one.handler.clone(), 1, one.max_errors);
            claimed.priority = one.priority;
            claimed.batch = Some(batch);
            answer.born_leased.push(claimed);
        } else {
            ready.insert(&one.handler);
        }
    }
    Ok(())
}

fn processed_event(event: &Event) -> ProcessedEvent {
    let (id, name) = (event.id, event.name.clone());
    let mut processed = ProcessedEvent::new(id, name, event.correlation_id, event.timestamp, 0);
    processed.entity.clone_from(&event.entity);
    processed
}

/// Reads an event without its data.
fn read_head(row: &Row) -> Result<ProcessedEvent> {
    let mut columns = row.reader_at(EVENTS, 1);
    let id = EventId::from_uuid(columns.uuid("id")?);
    let name: Name = columns.text("name")?.into();
    let entity = columns.optional_text("entity_name")?;
    let entity = entity.zip(columns.optional_text("entity_id")?);
    columns.skip(1);
    let timestamp = columns.time("timestamp")?;
    let correlation_id = CorrelationId::from_uuid(columns.uuid("correlation_id")?);
    let mut processed = ProcessedEvent::new(id, name, correlation_id, timestamp, 0);
    processed.entity = entity.map(|(name, id)| Entity::new(name, id));
    Ok(processed)
}

/// Claims due requests.
pub(super) async fn claim(
    link: &mut Link<'_>,
    statements: &Statements,
    leased: &LeasedBatches,
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
    let leased_as = match rows.first() {
        Some(row) => {
            let mut columns = row.reader(HANDLER_REQUESTS);
            columns.skip(CLAIMED_COLUMNS - 2);
            note_leased(leased, columns.optional_text("batch")?.as_deref())
        }
        None => None,
    };
    for row in &rows {
        if let Err(error) = read_claimed(row, &events, leased_as, &mut batch) {
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
const CLAIMED_COLUMNS: usize = 15;

fn read_event(row: &Row, events: &mut HashMap<Uuid, Result<Arc<Event>>>) -> Result<()> {
    let mut columns = row.reader(HANDLER_REQUESTS);
    columns.skip(1);
    let Some(id) = columns.optional_uuid("event_id")? else {
        return Ok(());
    };
    columns.skip(7);
    if columns.bool("place")? {
        let mut columns = row.reader_at(EVENTS, CLAIMED_COLUMNS);
        events.insert(id, records::event(&mut columns).map(Arc::new));
    }
    Ok(())
}

fn read_claimed(
    row: &Row,
    events: &HashMap<Uuid, Result<Arc<Event>>>,
    leased_as: Option<u64>,
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
    let attempt = columns.attempt()?;
    let errors = columns.int("errors")?;
    let max_errors = columns.int("max_errors")?;
    let executions = columns.int("executions")?;
    let rescues = columns.int("rescues")?;
    columns.skip(1);
    read_next_due(&mut columns, batch)?;
    columns.skip(1);
    if columns.bool("queue")? {
        return Err(columns.unreadable("queue", "the request has ended, and this says it has not"));
    }
    match events.get(&event) {
        Some(Ok(event)) => {
            let event = Arc::clone(event);
            let mut claimed = ClaimedRequest::new(id, event, handler, attempt, max_errors);
            claimed.priority = priority;
            claimed.errors = errors;
            claimed.executions = executions;
            claimed.rescues = rescues;
            claimed.batch = leased_as;
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
    let next = columns.optional_due("backoff_until")?;
    batch.next_due = next.map(|next| between(now, next));
    batch.suspect_waits = columns.bool("queue")?;
    Ok(())
}

/// Settlements, by the ways in which they are written.
pub(super) struct Sorted<'s> {
    /// Those that keep no text, which a single statement writes. All ids differ.
    plain: Vec<&'s Settlement>,
    others: Vec<&'s Settlement>,
}

impl Sorted<'_> {
    /// Whether all of them are written by a single statement.
    pub(super) const fn is_plain(&self) -> bool {
        self.others.is_empty()
    }
}

/// Sorts settlements. None is plain if a request is there twice: the second time it is to be found
/// settled.
pub(super) fn sort(settlements: &[Settlement]) -> Sorted<'_> {
    let mut seen = HashSet::with_capacity(settlements.len());
    if !settlements
        .iter()
        .all(|settlement| seen.insert(settlement.id))
    {
        return Sorted {
            plain: Vec::new(),
            others: settlements.iter().collect(),
        };
    }
    let is_plain = |settlement: &&Settlement| plain::kind(settlement).is_some();
    let (plain, others) = settlements.iter().partition(is_plain);
    Sorted { plain, others }
}

/// Settles in a session: what is plain with one statement, then the others. The first may wait for a
/// lock that somebody takes just then, and what comes later never waits for one: so two settlements
/// cannot wait for each other, although each goes by the order of the ids twice.
pub(super) async fn settle(
    link: &mut Link<'_>,
    statements: &Statements,
    leased: &LeasedBatches,
    settlements: &[Settlement],
    sorted: Sorted<'_>,
) -> Result<Vec<Settled>> {
    let Sorted { plain, others } = sorted;
    let has_plain = !plain.is_empty();
    // With others beside, it is not known yet which batches come to their end.
    let ending = if others.is_empty() {
        let batches = plain.iter().filter_map(|settlement| settlement.batch);
        leased.ending(&count_batches(batches))
    } else {
        Vec::new()
    };
    let refused = settle_plain(link, statements, plain, ending).await?;
    let mut of_others = settle::write(link, &others).await?.into_iter();
    let answer = |settlement: &Settlement| {
        if has_plain && plain::kind(settlement).is_some() {
            let refused = refused.get(&settlement.id).copied();
            Some(refused.unwrap_or(Settled::Applied))
        } else {
            of_others.next()
        }
    };
    let answers: Vec<_> = settlements.iter().map_while(answer).collect();
    settle::conclude(link, settlements, &answers).await?;
    if !others.is_empty() {
        let ending = leased.ending(&link.settled);
        if !ending.is_empty() {
            let args = vec![batch_ids(&ending)];
            link.execute(&statements.forget_leases, args).await?;
            link.forgotten = ending;
        }
    }
    Ok(answers)
}

/// Completes and snoozes; answers for those on which it had no effect. If there are none, it forgets
/// the batches that end.
async fn settle_plain(
    link: &mut Link<'_>,
    statements: &Statements,
    mut settlements: Vec<&Settlement>,
    ending: Vec<u64>,
) -> Result<HashMap<HandlerRequestId, Settled>> {
    if settlements.is_empty() {
        return Ok(HashMap::new());
    }
    settlements.sort_unstable_by_key(|settlement| settlement.id);
    let mut args = settle_args(&settlements, true);
    args.push(batch_ids(&ending));
    let row = link.row(&statements.settle, args).await?;
    let Some(settled) = read_settled(row, settlements.len())? else {
        link.forgotten = ending;
        return Ok(HashMap::new());
    };
    settlements.retain(|settlement| !settled.contains(&settlement.id.as_uuid()));
    let held = find_held(link, statements, &settlements).await?;
    let answer = |settlement: &Settlement| {
        if held.contains(&settlement.id.as_uuid()) {
            (settlement.id, Settled::Locked)
        } else {
            (settlement.id, Settled::Fenced)
        }
    };
    Ok(settlements.into_iter().map(answer).collect())
}

/// Completes and snoozes in a transaction that its owner commits, for which the server waits as
/// `standstill` says; answers in the order of the settlements. It waits for those that somebody has
/// locked. All ids differ.
pub(super) async fn settle_in(
    link: &mut Link<'_>,
    statements: &Statements,
    settlements: &[Settlement],
    standstill: &str,
) -> Result<Vec<Settled>> {
    let mut ordered: Vec<_> = settlements.iter().collect();
    ordered.sort_unstable_by_key(|settlement| settlement.id);
    let mut args = settle_args(&ordered, false);
    args.push(Arg::from(standstill));
    let settled = ids(&link.rows(&statements.settle_in, args).await?)?;
    let answer = |settlement: &Settlement| {
        if settled.contains(&settlement.id.as_uuid()) {
            Settled::Applied
        } else {
            Settled::Fenced
        }
    };
    Ok(settlements.iter().map(answer).collect())
}

fn batch_ids<'a>(batches: &[u64]) -> Arg<'a> {
    Arg::ints(batches.iter().copied().map(u64::cast_signed))
}

/// `is_short` is whether what all have in common is said once.
fn settle_args<'a>(settlements: &[&Settlement], is_short: bool) -> Vec<Arg<'a>> {
    let all = || settlements.iter();
    let snooze = |settlement: &Settlement| match settlement.outcome {
        Outcome::Snoozed { duration } => Some(micros(duration)),
        _ => None,
    };
    let first = settlements.first();
    let is_like_first = |settlement: &&Settlement| {
        first.is_none_or(|first| {
            settlement.executed == first.executed && snooze(settlement) == snooze(first)
        })
    };
    let is_uniform = is_short && all().all(is_like_first);
    let different = || all().take(if is_uniform { 1 } else { settlements.len() });
    vec![
        Arg::uuids(all().map(|settlement| settlement.id.as_uuid())),
        Arg::ints(all().map(|settlement| settlement.attempt.cast_signed())),
        Arg::uuids(all().map(|settlement| settlement.owner.as_uuid())),
        Arg::bools(different().map(|settlement| settlement.executed)),
        Arg::optional_ints(different().map(|settlement| snooze(settlement))),
    ]
}

/// The ids of those that were settled; nothing if all of them were.
fn read_settled(row: Option<Row>, all: usize) -> Result<Option<HashSet<Uuid>>> {
    let row = row.ok_or_else(crate::sql::missing_row)?;
    let mut columns = row.reader(HANDLER_REQUESTS);
    let count: usize = columns.int("count")?;
    if count >= all {
        return Ok(None);
    }
    let ids = columns.optional_text("ids")?.unwrap_or_default();
    let ids = ids.trim_matches(['{', '}']).split_terminator(',');
    let ids: Result<_, _> = ids.map(Uuid::parse_str).collect();
    ids.map(Some)
        .map_err(|error| columns.unreadable("ids", error))
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
