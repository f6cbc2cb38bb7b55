//! What runs for every request, without reading and writing all of its columns. Taking rows apart that
//! are JSON costs the servers as much as storing them, so a statement is told once what many rows have
//! in common.

use std::collections::BTreeMap;

use serde::Serialize;
use uuid::Uuid;

use super::{
    rows::{self, hex},
    statements::Statements,
};
use crate::{
    error::Result,
    id::HandlerRequestId,
    model::HandlerRequest,
    sql::{
        arg::args,
        link::Link,
        plain::{self, Kind},
        records::{HANDLER_REQUESTS, queue},
        settle,
    },
    store::{Settled, Settlement},
};

/// Settles. What is locked by others is skipped, except in a transaction.
pub(super) async fn settle(
    link: &mut Link<'_>,
    statements: &Statements,
    settlements: &[Settlement],
) -> Result<Vec<Settled>> {
    let Some(sorted) = plain::sort(settlements) else {
        return settle::settle(link, settlements).await;
    };
    // Nobody is waited for, unless it is a transaction, whose locks are to be taken in one order.
    let is_waiting = link.is_in_transaction();
    let is_of_one_kind = sorted.plain.len() == 1 && sorted.others.is_empty();
    if is_waiting && !is_of_one_kind {
        return settle::settle(link, settlements).await;
    }
    let mut locked = Vec::with_capacity(sorted.plain.len());
    for (kind, ids) in sorted.plain {
        let Some(texts) = lock_all(link, statements, kind, ids, is_waiting).await? else {
            // Which of them are locked by others or in other hands, the requests themselves tell.
            return settle::settle(link, settlements).await;
        };
        locked.push((kind, texts));
    }
    for (kind, texts) in &locked {
        for text in texts {
            write(link, statements, *kind, text).await?;
        }
    }
    plain::finish(link, settlements, &sorted.others).await
}

/// Locks requests in the order of their ids, if they are all there, the fence of each holds and none
/// is locked by others; answers their ids as texts.
async fn lock_all(
    link: &mut Link<'_>,
    statements: &Statements,
    kind: Kind,
    mut ids: Vec<HandlerRequestId>,
    is_waiting: bool,
) -> Result<Option<Vec<String>>> {
    ids.sort_unstable();
    let statement = if is_waiting {
        &statements.lock_held
    } else {
        &statements.lock_held_skip
    };
    let texts = rows::ids(ids.iter().map(|id| id.as_uuid()))?;
    let mut locked = 0;
    for text in &texts {
        let args = args![text, kind.attempt.cast_signed(), kind.owner.as_uuid()];
        let row = link.row(statement, args).await?;
        let row = row.ok_or_else(crate::sql::missing_row)?;
        locked += row.reader(HANDLER_REQUESTS).int::<usize>("count")?;
    }
    Ok((locked == ids.len()).then_some(texts))
}

async fn write(link: &mut Link<'_>, statements: &Statements, kind: Kind, ids: &str) -> Result<()> {
    let executed = i64::from(kind.executed);
    match kind.snoozes_for {
        None => {
            let args = args![ids, executed, executed];
            link.execute(&statements.complete, args).await?;
        }
        Some(micros) => {
            let args = args![ids, micros, executed, executed];
            link.execute(&statements.snooze, args).await?;
        }
    }
    Ok(())
}

/// Writes that locked requests were claimed, by one owner and until one time.
pub(super) async fn write_claims(
    link: &mut Link<'_>,
    statements: &Statements,
    requests: &[HandlerRequest],
) -> Result<()> {
    let lease = requests.first().and_then(|request| request.lease);
    let owner = lease.map(|lease| lease.owner.as_uuid());
    let until = lease.map(|lease| lease.until);
    let mut ids: Vec<_> = requests
        .iter()
        .map(|request| request.id.as_uuid())
        .collect();
    ids.sort_unstable();
    for text in rows::ids(ids)? {
        let args = args![&text, owner, until];
        link.execute(&statements.claim, args).await?;
    }
    Ok(())
}

/// What many new requests have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Terms<'r>(&'r str, i16, u32, i64, Option<i64>, i64, Option<i64>);

impl<'r> Terms<'r> {
    fn of(request: &'r HandlerRequest) -> Self {
        Self(
            &request.handler,
            request.priority.get(),
            request.max_errors,
            request.attempt.cast_signed(),
            queue(request).map(|queue| queue as i64),
            request.created_at.timestamp_micros(),
            request.lease.map(|lease| lease.until.timestamp_micros()),
        )
    }
}

/// Inserts new requests, in the order of the primary key, which all that lock several requests go by.
pub(super) async fn insert(
    link: &mut Link<'_>,
    statements: &Statements,
    requests: &[HandlerRequest],
) -> Result<()> {
    let mut places = BTreeMap::new();
    let mut placed: Vec<(Uuid, Uuid, usize)> = Vec::with_capacity(requests.len());
    for request in requests {
        let count = places.len();
        let place = *places.entry(Terms::of(request)).or_insert(count);
        placed.push((request.id.as_uuid(), request.event_id.as_uuid(), place));
    }
    placed.sort_unstable();
    let terms = rows::texts(&places, |(terms, place)| (*place, *terms))?;
    let mut leases = requests.iter().filter_map(|request| request.lease);
    let owner = leases.next().map(|lease| lease.owner.as_uuid());
    let texts = rows::texts(&placed, |(id, event, place)| (hex(*id), hex(*event), place))?;
    // Mostly one of each; rows are inserted with the text that has their terms.
    for terms in &terms {
        for text in &texts {
            let args = args![owner, text, terms];
            link.execute(&statements.insert_new, args).await?;
        }
    }
    Ok(())
}
