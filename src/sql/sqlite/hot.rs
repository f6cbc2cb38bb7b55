//! What runs for every request, in as few statements and with as few rows as it takes: each row that
//! comes from SQLite crosses from its thread to this one, and costs as much as the work on it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use chrono::{DateTime, Utc};

use super::{
    dialect::{SqliteDialect, ids_and_places, zeros},
    rows::{json, row},
    statements::Statements,
};
use crate::{
    error::Result,
    id::{EventId, HandlerRequestId},
    model::{Event, HandlerRequest, Priority},
    sql::{
        arg::{Arg, args},
        claim,
        dialect::Dialect as _,
        limit,
        link::Link,
        micros,
        plain::{self, Kind},
        records::{self, HANDLER_REQUESTS, queue},
        row::{Reader, Row},
        settle,
    },
    store::{Claim, ClaimedBatch, ClaimedRequest, HandlerRoom, Settled, Settlement},
    text::Name,
};

/// Settles, if it is no part of a transaction; that begins with the savepoint which
/// [`settle_needs`](crate::sql::dialect::Dialect::settle_needs) asks for.
pub(super) async fn settle(
    link: &mut Link<'_>,
    statements: &Statements,
    settlements: &[Settlement],
) -> Result<Vec<Settled>> {
    let Some(sorted) = plain::sort(settlements) else {
        return settle::settle(link, settlements).await;
    };
    for (kind, ids) in &sorted.plain {
        if !settle_all(link, statements, *kind, ids).await? {
            // Some fence does not hold. Which one, the requests themselves tell.
            link.execute(&statements.unsettle, args![]).await?;
            return settle::settle(link, settlements).await;
        }
    }
    plain::finish(link, settlements, &sorted.others).await
}

/// Whether the fences of all of these have held; if not, only some were settled.
async fn settle_all(
    link: &mut Link<'_>,
    statements: &Statements,
    kind: Kind,
    ids: &[HandlerRequestId],
) -> Result<bool> {
    let places = zeros(ids.len());
    let mut args = ids_and_places(ids.iter().map(|id| id.as_uuid()), &places);
    args.extend([
        Arg::from(kind.attempt.cast_signed()),
        Arg::from(kind.owner.as_uuid()),
        Arg::from(kind.executed),
    ]);
    let statement = match kind.snoozes_for {
        None => &statements.complete,
        Some(micros) => {
            args.push(Arg::from(micros));
            &statements.snooze
        }
    };
    let settled = link.execute(statement, args).await?;
    Ok(usize::try_from(settled).is_ok_and(|settled| settled == ids.len()))
}

/// Claims due requests, if it is no part of a transaction, as [`settle`] settles. Should a request or
/// its event be unreadable, it is left to what deals with that.
pub(super) async fn claim(
    link: &mut Link<'_>,
    dialect: &SqliteDialect,
    asked: &Claim,
) -> Result<ClaimedBatch> {
    let Some(mut requests) = due(link, dialect, asked).await? else {
        return claim::claim(link, asked).await;
    };
    requests.sort_unstable_by_key(|request| (request.priority, request.id));
    requests.truncate(asked.limit);
    if !requests.is_empty() {
        let places = zeros(requests.len());
        let mut args = ids_and_places(requests.iter().map(|one| one.id.as_uuid()), &places);
        args.push(Arg::from(asked.owner.as_uuid()));
        args.push(Arg::from(micros(asked.lease)));
        let claimed = link.execute(&dialect.statements.claim, args).await?;
        if usize::try_from(claimed).ok() != Some(requests.len()) {
            // One of them is on the queue and yet not pending.
            link.execute(&dialect.statements.unsettle, args![]).await?;
            return claim::claim(link, asked).await;
        }
    }
    let batch = ClaimedBatch {
        requests,
        ..ClaimedBatch::default()
    };
    claim::complete(link, asked, batch).await
}

/// The best that are due, as they will be once they are claimed, and perhaps more; nothing if one
/// cannot be read.
async fn due(
    link: &mut Link<'_>,
    dialect: &SqliteDialect,
    asked: &Claim,
) -> Result<Option<Vec<ClaimedRequest>>> {
    let with_room: Vec<_> = asked.handlers.iter().filter(|one| one.room > 0).collect();
    let due = dialect.handlers_due(link, &with_room).await?;
    let requests = match due[..] {
        [] => Ok(Vec::new()),
        [one] => due_of(link, dialect, one, asked.limit).await?,
        _ => due_of_all(link, dialect, &due, asked.limit).await?,
    };
    Ok(requests.ok())
}

/// The best that are due of one handler, each of which is for another event.
async fn due_of(
    link: &mut Link<'_>,
    dialect: &SqliteDialect,
    asked: &HandlerRoom,
    most: usize,
) -> Result<Result<Vec<ClaimedRequest>>> {
    let most = most.min(asked.room);
    let args = args![asked.handler.as_str(), limit(most)];
    let rows = link.rows(&dialect.statements.due_of, args).await?;
    let read = |row| {
        read_claimed(row, |columns| {
            let event = records::event(columns)?;
            Ok((Arc::new(event), asked.handler.clone()))
        })
    };
    let requests: Result<Vec<_>> = rows.iter().map(read).collect();
    Ok(requests.map(|mut requests| {
        requests.sort_unstable_by_key(|request| (request.priority, request.id));
        requests.truncate(most);
        requests
    }))
}

/// The best that are due of several handlers; events that they share are read once.
async fn due_of_all(
    link: &mut Link<'_>,
    dialect: &SqliteDialect,
    asked: &[&HandlerRoom],
    most: usize,
) -> Result<Result<Vec<ClaimedRequest>>> {
    let best = dialect.best(link, asked, most).await?;
    let places = zeros(best.len());
    let args = ids_and_places(best.iter().map(|(_, id)| id.as_uuid()), &places);
    let rows = link.rows(&dialect.statements.due_by_id, args).await?;
    let event_id = |row: &Row| {
        let mut columns = row.reader(HANDLER_REQUESTS);
        columns.skip(CLAIMED_COLUMNS);
        columns.uuid("event_id").map(EventId::from_uuid)
    };
    let ids: Result<Vec<_>> = rows.iter().map(event_id).collect();
    let mut ids = match ids {
        Ok(ids) => ids,
        Err(error) => return Ok(Err(error)),
    };
    ids.sort_unstable();
    ids.dedup();
    let mut events = HashMap::with_capacity(ids.len());
    for (id, event) in dialect.events(link, &ids).await? {
        match event {
            Ok(event) => events.insert(id, Arc::new(event)),
            Err(error) => return Ok(Err(error)),
        };
    }
    let mut names: HashMap<String, Name> = HashMap::new();
    let mut read = |row| {
        read_claimed(row, |columns| {
            let event = events.get(&columns.uuid("event_id")?);
            let event = columns.needed("event_id", event)?;
            let handler = columns.text("handler")?;
            let name = || Name::from(handler.as_str());
            let handler = names.entry(handler.clone()).or_insert_with(name);
            Ok((Arc::clone(event), handler.clone()))
        })
    };
    Ok(rows.iter().map(&mut read).collect())
}

/// The columns of a request before those of its event.
const CLAIMED_COLUMNS: usize = 10;

/// Reads a request as it will be once it is claimed.
fn read_claimed(
    row: &Row,
    event_and_handler: impl FnOnce(&mut Reader<'_>) -> Result<(Arc<Event>, Name)>,
) -> Result<ClaimedRequest> {
    let mut columns = row.reader(HANDLER_REQUESTS);
    let id = HandlerRequestId::from_uuid(columns.uuid("id")?);
    let priority = records::priority(&mut columns)?;
    let max_errors = columns.int("max_errors")?;
    let errors = columns.int("errors")?;
    let attempt = columns.attempt()?;
    let executions = columns.int("executions")?;
    let rescues = columns.int("rescues")?;
    // They are not needed, but could not be settled.
    records::read_last_errors(&mut columns)?;
    columns.time("created_at")?;
    columns.optional_time("last_execution_at")?;
    let (event, handler) = event_and_handler(&mut columns)?;
    let mut request = ClaimedRequest::new(id, event, handler, attempt + 1, max_errors);
    request.priority = priority;
    request.errors = errors;
    request.executions = executions;
    request.rescues = rescues;
    Ok(request)
}

/// What many new requests have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Terms<'r> {
    handler: &'r str,
    priority: Priority,
    max_errors: u32,
    attempt: u64,
    queue: Option<i64>,
    created_at: DateTime<Utc>,
    lease_until: Option<DateTime<Utc>>,
}

impl<'r> Terms<'r> {
    fn of(request: &'r HandlerRequest) -> Self {
        Self {
            handler: &request.handler,
            priority: request.priority,
            max_errors: request.max_errors,
            attempt: request.attempt,
            queue: queue(request).map(|queue| queue as i64),
            created_at: request.created_at,
            lease_until: request.lease.map(|lease| lease.until),
        }
    }
}

/// Inserts new requests, each row of which only says which terms it has; those that are leased are so
/// to one owner.
pub(super) async fn insert(
    link: &mut Link<'_>,
    statements: &Statements,
    requests: &[HandlerRequest],
) -> Result<()> {
    // In the order of the ids, so that pages of the table are filled and not split.
    let mut sorted: Vec<_> = requests.iter().collect();
    sorted.sort_unstable_by_key(|request| request.id);
    let mut places = BTreeMap::new();
    let mut terms = Vec::new();
    let mut places_of_rows = Vec::with_capacity(sorted.len());
    for request in &sorted {
        let one = Terms::of(request);
        let place = *places.entry(one).or_insert_with(|| {
            terms.push(one);
            terms.len() - 1
        });
        places_of_rows.push(i64::try_from(place).unwrap_or(i64::MAX));
    }
    let terms = json(terms.iter().map(|one| {
        row![
            one.handler,
            i64::from(one.priority.get()),
            i64::from(one.max_errors),
            one.attempt.cast_signed(),
            one.queue,
            one.created_at,
            one.lease_until,
        ]
    }))?;
    let mut leases = requests.iter().filter_map(|request| request.lease);
    let args = vec![
        Arg::uuids(sorted.iter().map(|request| request.id.as_uuid())),
        Arg::ints(places_of_rows),
        Arg::uuids(sorted.iter().map(|request| request.event_id.as_uuid())),
        Arg::from(&terms),
        Arg::from(leases.next().map(|lease| lease.owner.as_uuid())),
    ];
    link.execute(&statements.insert_new, args).await?;
    Ok(())
}
