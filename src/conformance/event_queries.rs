//! Lists, filters and pages of events.

use std::time::Duration;

use futures_util::TryStreamExt;

use super::{
    Target,
    kit::{ALL, Kit, event},
};
use crate::{
    id::EventId,
    model::{Entity, Event},
    store::{EventFilter, Page},
};

/// An operator finds the events that nobody wanted, also before the transaction commits.
pub async fn events_are_found_by_whether_they_have_requests(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("wanted", "handler", 50, 5)]).await;
    let processed = kit.raise(&["wanted", "unwanted"]).await;
    kit.fan_out().await;
    let waiting = kit.raise(&["wanted"]).await;
    let filter = |processed, has_requests| EventFilter {
        processed,
        has_requests,
        ..EventFilter::default()
    };
    let mut session = kit.session().await;
    for (filter, expected) in [
        (filter(None, Some(true)), vec![processed[0].id]),
        (filter(Some(true), Some(false)), vec![processed[1].id]),
        (
            filter(None, Some(false)),
            vec![processed[1].id, waiting[0].id],
        ),
        (filter(Some(false), Some(true)), vec![]),
    ] {
        let count = session.events().count(&filter).await.unwrap();
        let page = Page::first(ALL);
        let found = session.events().list(&filter, &page).await.unwrap();
        let found: Vec<_> = found.iter().map(|stored| stored.event.id).collect();
        assert_eq!(found, expected, "{filter:?}");
        assert_eq!(count, expected.len() as u64, "{filter:?}");
    }
}

/// Every part of an event filter restricts, and parts restrict together.
pub async fn events_are_filtered(target: &dyn Target) {
    let kit = Kit::new(target);
    let events = [
        at(event("a"), 10).with_entity(Entity::new("order", "1")),
        at(event("b"), 20).with_entity(Entity::new("order", "2")),
        at(event("a"), 30).with_entity(Entity::new("Order", "1")),
        at(event("c"), 40),
    ];
    let mut session = kit.session().await;
    session.events().raise(&events[..2]).await.unwrap();
    kit.fan_out().await;
    session.events().raise(&events[2..]).await.unwrap();
    let all = EventFilter::default;
    for (filter, expected) in [
        (all(), &[0, 1, 2, 3][..]),
        (
            EventFilter {
                names: vec!["a".into()],
                ..all()
            },
            &[0, 2],
        ),
        (
            EventFilter {
                names: vec!["a".into(), "c".into(), "z".into()],
                ..all()
            },
            &[0, 2, 3],
        ),
        (
            EventFilter {
                entity: Some(Entity::new("order", "1")),
                ..all()
            },
            &[0],
        ),
        (
            EventFilter {
                since: Some(time(20)),
                ..all()
            },
            &[1, 2, 3],
        ),
        (
            EventFilter {
                until: Some(time(20)),
                ..all()
            },
            &[0],
        ),
        (
            EventFilter {
                since: Some(time(20)),
                until: Some(time(40)),
                ..all()
            },
            &[1, 2],
        ),
        (
            EventFilter {
                processed: Some(true),
                ..all()
            },
            &[0, 1],
        ),
        (
            EventFilter {
                processed: Some(false),
                ..all()
            },
            &[2, 3],
        ),
        (
            EventFilter {
                names: vec!["a".into()],
                processed: Some(false),
                ..all()
            },
            &[2],
        ),
        (
            EventFilter {
                names: vec!["A".into()],
                ..all()
            },
            &[],
        ),
    ] {
        let expected: Vec<_> = expected
            .iter()
            .map(|index: &usize| events[*index].id)
            .collect();
        let count = session.events().count(&filter).await.unwrap();
        assert_eq!(count, expected.len() as u64, "{filter:?}");
        let listed = session
            .events()
            .list(&filter, &Page::first(ALL))
            .await
            .unwrap();
        let listed: Vec<_> = listed.iter().map(|stored| stored.event.id).collect();
        assert_eq!(listed, expected, "{filter:?}");
        let streamed: Vec<_> = session
            .events()
            .stream(&filter)
            .try_collect()
            .await
            .unwrap();
        let streamed: Vec<_> = streamed.iter().map(|stored| stored.event.id).collect();
        assert_eq!(streamed, expected, "{filter:?}");
    }
}

/// Pages by key and by offset give every event once, in the order of the ids.
pub async fn events_are_paged(target: &dyn Target) {
    let kit = Kit::new(target);
    let mut ids: Vec<_> = kit
        .raise(&["a"; 23])
        .await
        .iter()
        .map(|event| event.id)
        .collect();
    ids.sort_unstable();
    let filter = EventFilter::default();
    let mut session = kit.session().await;
    let mut by_key: Vec<EventId> = Vec::new();
    loop {
        let page = by_key
            .last()
            .map_or(Page::first(5), |last| Page::after(*last, 5));
        let found = session.events().list(&filter, &page).await.unwrap();
        if found.is_empty() {
            break;
        }
        by_key.extend(found.iter().map(|stored| stored.event.id));
    }
    assert_eq!(by_key, ids);
    let page = Page {
        limit: 4,
        offset: 20,
        after: None,
    };
    let found = session.events().list(&filter, &page).await.unwrap();
    assert_eq!(
        found
            .iter()
            .map(|stored| stored.event.id)
            .collect::<Vec<_>>(),
        ids[20..]
    );
    let page = Page {
        limit: 2,
        offset: 3,
        after: Some(ids[9]),
    };
    let found = session.events().list(&filter, &page).await.unwrap();
    assert_eq!(
        found
            .iter()
            .map(|stored| stored.event.id)
            .collect::<Vec<_>>(),
        ids[13..15]
    );
    assert_eq!(
        session
            .events()
            .list(&filter, &Page::first(0))
            .await
            .unwrap(),
        []
    );
}

fn time(seconds: u64) -> chrono::DateTime<chrono::Utc> {
    chrono::DateTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
}

fn at(event: Event, seconds: u64) -> Event {
    event.with_timestamp(time(seconds))
}
