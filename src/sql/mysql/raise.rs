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
    for part in parts(&distinct) {
        insert(link, statements, part, &mut new).await?;
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

/// Inserts those events that are not there.
async fn insert(
    link: &mut Link<'_>,
    statements: &Statements,
    events: &[&Event],
    new: &mut HashSet<Uuid>,
) -> Result<()> {
    let mut rest = events.to_vec();
    for _ in 0..ROUNDS {
        if rest.is_empty() || insert_all(link, statements, &rest).await? {
            new.extend(rest.iter().map(|event| event.id.as_uuid()));
            return Ok(());
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
        if insert_all(link, statements, &[event]).await? {
            new.insert(event.id.as_uuid());
        }
    }
    Ok(())
}

/// Inserts all, or none if one of them is there.
async fn insert_all(
    link: &mut Link<'_>,
    statements: &Statements,
    events: &[&Event],
) -> Result<bool> {
    let inserted = match events {
        [event] => {
            let headers = headers(event);
            let args = args_of(event, headers.as_deref());
            link.execute(&statements.raise_one, args).await
        }
        events => {
            // They are one part, so they are one text.
            let mut inserted = Ok(0);
            for text in rows::texts(events, |event| row(event))? {
                inserted = link.execute(&statements.raise_many, args![&text]).await;
                if inserted.is_err() {
                    break;
                }
            }
            inserted
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

/// The most bytes of data in a part. As JSON in JSON it may become twice as long, beside what comes
/// with it; a single event that is longer is not made JSON.
const MAX_PART_LEN: usize = 1024 * 1024;
/// The most events in a part: each has some hundred bytes beside its data, and names and headers.
const MAX_PART_COUNT: usize = 1000;

/// Events in parts that are one statement each.
fn parts<'a, 'e>(events: &'a [&'e Event]) -> impl Iterator<Item = &'a [&'e Event]> {
    let mut rest = events;
    std::iter::from_fn(move || {
        let mut len = 0;
        let fits = |event: &&&Event| {
            len += event.data.as_str().len();
            len <= MAX_PART_LEN
        };
        // At least one, however large it is.
        let count = rest.iter().take(MAX_PART_COUNT).take_while(fits).count();
        let (part, others) = rest.split_at_checked(count.max(1).min(rest.len()))?;
        rest = others;
        (!part.is_empty()).then_some(part)
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn event(len: usize) -> Event {
        Event::new("a", &"x".repeat(len)).unwrap()
    }

    #[test]
    fn parts_are_bounded_and_lose_nothing() {
        let mut events: Vec<_> = (0..2500).map(|_| event(1)).collect();
        events.push(event(3 * MAX_PART_LEN));
        events.extend((0..5).map(|_| event(MAX_PART_LEN / 3)));
        let all: Vec<_> = events.iter().collect();
        let parts: Vec<_> = parts(&all).collect();
        for part in &parts {
            let len: usize = part.iter().map(|event| event.data.as_str().len()).sum();
            assert!(!part.is_empty() && part.len() <= MAX_PART_COUNT);
            assert!(len <= MAX_PART_LEN || part.len() == 1);
        }
        assert_eq!(parts.concat(), all);
    }
}
