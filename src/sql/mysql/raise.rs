//! Storing events. Neither server can insert many rows and tell which of them are new, so they are
//! inserted as if all were, and sorted out only if one is not.

use std::collections::{BTreeMap, HashSet};

use uuid::Uuid;

use super::{
    rows::{self, hex},
    statements::Statements,
};
use crate::{
    error::Result,
    model::Event,
    sql::{
        arg::{Arg, args},
        error::is_duplicate,
        link::Link,
    },
    store::Raised,
};

/// How often the events of a part that are known are left out and the others inserted. Each time
/// another transaction must have stored one in between.
const ROUNDS: usize = 3;

/// Stores events and puts the new ones on the queue; answers in their order. In a transaction.
pub(super) async fn raise(
    link: &mut Link<'_>,
    statements: &Statements,
    events: &[Event],
) -> Result<Vec<Raised>> {
    // Of several with the same id the first one is stored. All processes go by the order of ids,
    // so that two which store the same events do not wait for each other in a circle.
    let mut first = BTreeMap::new();
    for event in events {
        first.entry(event.id).or_insert(event);
    }
    let distinct: Vec<&Event> = first.into_values().collect();
    let mut new = HashSet::with_capacity(distinct.len());
    let mut rest = &distinct[..];
    while !rest.is_empty() {
        let count = insert(link, statements, rest, &mut new).await?;
        rest = rest.get(count..).unwrap_or_default();
    }
    let queued = distinct.iter().map(|event| event.id.as_uuid());
    for ids in rows::ids(queued.filter(|id| new.contains(id)))? {
        link.execute(&statements.queue_events, args![&ids]).await?;
    }
    let raised = |event: &Event| {
        if new.remove(&event.id.as_uuid()) {
            Raised::New
        } else {
            Raised::AlreadyRaised
        }
    };
    Ok(events.iter().map(raised).collect())
}

/// Inserts those of the first events that are not there: of as many as one statement takes, which it
/// answers.
async fn insert(
    link: &mut Link<'_>,
    statements: &Statements,
    events: &[&Event],
    new: &mut HashSet<Uuid>,
) -> Result<usize> {
    let (text, count) = rows::first_text(events, row)?;
    let mut text = Some(text);
    let mut rest: Vec<_> = events.iter().take(count).copied().collect();
    for _ in 0..ROUNDS {
        if rest.is_empty() || insert_all(link, statements, &rest, text.take()).await? {
            new.extend(rest.iter().map(|event| event.id.as_uuid()));
            return Ok(count);
        }
        let known = known(link, statements, &rest).await?;
        rest.retain(|event| !known.contains(&event.id.as_uuid()));
        if known.is_empty() {
            break;
        }
    }
    // The snapshot of an application's REPEATABLE READ transaction does not show them, or they
    // come faster than they can be left out.
    for event in rest {
        if insert_all(link, statements, &[event], None).await? {
            new.insert(event.id.as_uuid());
        }
    }
    Ok(count)
}

/// Inserts all, or none if one of them is there. They fit into one text, which may be made already.
async fn insert_all(
    link: &mut Link<'_>,
    statements: &Statements,
    events: &[&Event],
    text: Option<String>,
) -> Result<bool> {
    let inserted = match events {
        [event] => {
            let headers = headers(event);
            let args = args_of(event, headers.as_deref());
            link.execute(&statements.raise_one, args).await
        }
        events => {
            let text = match text {
                Some(text) => text,
                None => rows::first_text(events, row)?.0,
            };
            link.execute(&statements.raise_many, args![&text]).await
        }
    };
    match inserted {
        Ok(_) => Ok(true),
        Err(error) if is_duplicate(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn known(
    link: &mut Link<'_>,
    statements: &Statements,
    events: &[&Event],
) -> Result<HashSet<Uuid>> {
    let mut known = HashSet::new();
    for ids in rows::ids(events.iter().map(|event| event.id.as_uuid()))? {
        for row in link.rows(&statements.known_events, args![&ids]).await? {
            known.insert(row.reader("events").uuid("id")?);
        }
    }
    Ok(known)
}

fn headers(event: &Event) -> Option<String> {
    if event.headers.is_empty() {
        return None;
    }
    serde_json::to_string(&event.headers).ok()
}

fn args_of<'e>(event: &'e Event, headers: Option<&'e str>) -> Vec<Arg<'e>> {
    let entity = event.entity.as_ref();
    args![
        event.id.as_uuid(),
        event.name.as_str(),
        entity.map(|entity| entity.name.as_str()),
        entity.map(|entity| entity.id.as_str()),
        event.data.as_str(),
        event.timestamp,
        event.correlation_id.as_uuid(),
        event.causation_id.map(|id| id.as_uuid()),
        headers,
        i64::from(event.version),
    ]
}

fn row(event: &Event) -> impl serde::Serialize + use<'_> {
    let entity = event.entity.as_ref();
    (
        hex(event.id.as_uuid()),
        event.name.as_str(),
        entity.map(|entity| entity.name.as_str()),
        entity.map(|entity| entity.id.as_str()),
        event.data.as_str(),
        event.timestamp.timestamp_micros(),
        hex(event.correlation_id.as_uuid()),
        event.causation_id.map(|id| hex(id.as_uuid())),
        headers(event),
        event.version,
    )
}
