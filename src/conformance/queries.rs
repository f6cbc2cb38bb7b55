//! Counts, lists, filters, pages and streams of requests, and streams of events.

use std::time::Duration;

use futures_util::TryStreamExt;

use super::{
    Target,
    kit::{ALL, BACKOFF, Kit, event, failed},
};
use crate::{
    id::{EventId, HandlerRequestId},
    model::{Entity, Outcome, RequestState},
    store::{EventFilter, Page, RequestFilter},
};

/// Every part of a request filter restricts, and parts restrict together.
pub async fn requests_are_filtered(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("*", "h", 50, 5), ("b", "i", 50, 5)]).await;
    let entity = Entity::new("order", "1");
    let events = [event("a").with_entity(entity.clone()), event("b")];
    let mut session = kit.session().await;
    session.events().raise(&events).await.unwrap();
    kit.fan_out().await;
    let [a_h, b_h, b_i] = [("h", 0), ("h", 1), ("i", 1)]
        .map(|(handler, index)| HandlerRequestId::derive(events[index].id, handler));
    for request in kit.claim(&["h"], ALL).await {
        let error = if request.id == a_h {
            "100% größer_als"
        } else {
            "100 größer als"
        };
        kit.settle(&request, failed(error)).await;
    }
    let created = kit.find(a_h).await.created_at;
    let all = RequestFilter::default;
    let error = |text: &str| RequestFilter {
        error_contains: Some(text.into()),
        ..all()
    };
    for (filter, expected) in [
        (all(), vec![a_h, b_h, b_i]),
        (
            RequestFilter {
                states: vec![RequestState::Pending],
                ..all()
            },
            vec![b_i],
        ),
        (
            RequestFilter {
                states: vec![RequestState::BackingOff],
                ..all()
            },
            vec![a_h, b_h],
        ),
        (
            RequestFilter {
                states: RequestState::ALL.to_vec(),
                ..all()
            },
            vec![a_h, b_h, b_i],
        ),
        (
            RequestFilter {
                states: vec![RequestState::Dead],
                ..all()
            },
            vec![],
        ),
        (
            RequestFilter {
                event_names: vec!["b".into()],
                ..all()
            },
            vec![b_h, b_i],
        ),
        (
            RequestFilter {
                handlers: vec!["h".into(), "z".into()],
                ..all()
            },
            vec![a_h, b_h],
        ),
        (
            RequestFilter {
                entity: Some(entity),
                ..all()
            },
            vec![a_h],
        ),
        (
            RequestFilter {
                entity: Some(Entity::new("order", "2")),
                ..all()
            },
            vec![],
        ),
        (
            RequestFilter {
                since: Some(created),
                ..all()
            },
            vec![a_h, b_h, b_i],
        ),
        (
            RequestFilter {
                until: Some(created),
                ..all()
            },
            vec![],
        ),
        (
            RequestFilter {
                since: Some(created + Duration::from_secs(60)),
                ..all()
            },
            vec![],
        ),
        (error("größer"), vec![a_h, b_h]),
        (error("%"), vec![a_h]),
        (error("größer_als"), vec![a_h]),
        (error("Größer"), vec![]),
        (
            RequestFilter {
                handlers: vec!["i".into()],
                ..error("größer")
            },
            vec![],
        ),
    ] {
        let mut expected = expected;
        expected.sort_unstable();
        let mut requests = session.handler_requests();
        assert_eq!(
            requests.count(&filter).await.unwrap(),
            expected.len() as u64,
            "{filter:?}"
        );
        let listed = requests.list(&filter, &Page::first(ALL)).await.unwrap();
        assert_eq!(ids(&listed), expected, "{filter:?}");
        let streamed: Vec<_> = requests.stream(&filter).try_collect().await.unwrap();
        assert_eq!(ids(&streamed), expected, "{filter:?}");
    }
}

/// The text that is looked for is looked for in the last error alone.
pub async fn only_the_last_error_is_searched(target: &dyn Target) {
    let kit = Kit::new(target);
    let request = kit.executing("h").await;
    kit.settle(&request, failed("early")).await;
    kit.pass(BACKOFF).await;
    let request = kit.claim_one("h").await;
    kit.settle(&request, failed("late")).await;
    let mut session = kit.session().await;
    for (text, expected) in [("early", 0), ("late", 1)] {
        let filter = RequestFilter {
            error_contains: Some(text.into()),
            ..RequestFilter::default()
        };
        assert_eq!(
            session.handler_requests().count(&filter).await.unwrap(),
            expected,
            "{text}"
        );
    }
}

/// Counts by state change with every transition, and with time.
pub async fn requests_are_counted_by_state(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.pending("h", 6).await;
    let claimed = kit.claim(&["h"], 5).await;
    assert_counts(&kit, [0, 0, 0, 5, 0, 1]).await;
    kit.settle(&claimed[0], Outcome::Completed).await;
    kit.settle(&claimed[1], failed("no")).await;
    kit.settle(
        &claimed[2],
        Outcome::Discarded {
            reason: "no".into(),
        },
    )
    .await;
    kit.settle(
        &claimed[3],
        Outcome::Canceled {
            reason: "no".into(),
        },
    )
    .await;
    assert_counts(&kit, [1, 1, 1, 1, 1, 1]).await;
    kit.pass(BACKOFF).await;
    assert_counts(&kit, [1, 1, 1, 1, 0, 2]).await;
    kit.rescue().await;
    assert_counts(&kit, [1, 1, 1, 0, 0, 3]).await;
    kit.reexecute(claimed[2].id).await;
    assert_counts(&kit, [1, 1, 0, 0, 0, 4]).await;
}

/// The oldest open request is so by id, and ended ones do not count.
pub async fn the_oldest_unexecuted_request_is_found(target: &dyn Target) {
    let kit = Kit::new(target);
    let mut session = kit.session().await;
    assert_eq!(
        session
            .handler_requests()
            .oldest_unexecuted()
            .await
            .unwrap(),
        None
    );
    let ids = kit.pending("h", 3).await;
    let claimed = kit.claim(&["h"], ALL).await;
    let oldest = session
        .handler_requests()
        .oldest_unexecuted()
        .await
        .unwrap()
        .unwrap();
    assert_eq!(oldest.id, ids[0], "an executing one is open");
    for (left, request) in [2, 1, 0].into_iter().zip(&claimed) {
        kit.settle(request, Outcome::Completed).await;
        assert_eq!(
            session.handler_requests().count_unexecuted().await.unwrap(),
            left
        );
        let oldest = session
            .handler_requests()
            .oldest_unexecuted()
            .await
            .unwrap();
        let expected = ids.get(3 - left as usize).copied();
        assert_eq!(oldest.map(|request| request.id), expected);
    }
    kit.reexecute(ids[1]).await;
    let oldest = session
        .handler_requests()
        .oldest_unexecuted()
        .await
        .unwrap()
        .unwrap();
    assert_eq!(oldest.id, ids[1]);
}

/// The dead can be listed, paged and named, whatever states the filter asks for.
pub async fn the_dead_are_listed(target: &dyn Target) {
    let kit = Kit::new(target);
    let mut session = kit.session().await;
    assert_eq!(
        session.handler_requests().dead_event_names().await.unwrap(),
        [""; 0]
    );
    kit.register(&[
        ("b", "z", 50, 5),
        ("b", "y", 50, 5),
        ("a", "y", 50, 5),
        ("c", "x", 50, 5),
    ])
    .await;
    kit.raise(&["b", "a", "c"]).await;
    kit.fan_out().await;
    let mut expected = Vec::new();
    for request in kit.claim(&["y", "z"], ALL).await {
        kit.settle(
            &request,
            Outcome::Discarded {
                reason: "no".into(),
            },
        )
        .await;
        expected.push(request.id);
    }
    expected.sort_unstable();
    let mut requests = session.handler_requests();
    let filter = RequestFilter {
        states: vec![RequestState::Pending],
        ..RequestFilter::default()
    };
    assert_eq!(
        ids(&requests.dead(&filter, &Page::first(ALL)).await.unwrap()),
        expected
    );
    assert_eq!(
        ids(&requests
            .dead(&filter, &Page::after(expected[0], 1))
            .await
            .unwrap()),
        expected[1..2]
    );
    let page = Page {
        limit: 9,
        offset: 2,
        after: None,
    };
    assert_eq!(
        ids(&requests.dead(&filter, &page).await.unwrap()),
        expected[2..]
    );
    let named = RequestFilter {
        event_names: vec!["a".into()],
        ..RequestFilter::default()
    };
    assert_eq!(
        requests
            .dead(&named, &Page::first(ALL))
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(requests.count_dead().await.unwrap(), 3);
    assert_eq!(requests.dead_event_names().await.unwrap(), ["a", "b"]);
    assert_eq!(requests.dead_handler_names().await.unwrap(), ["y", "z"]);
    drop(requests);
    for id in expected {
        kit.reexecute(id).await;
    }
    assert_eq!(
        session
            .handler_requests()
            .dead_handler_names()
            .await
            .unwrap(),
        [""; 0]
    );
}

/// Pages by key and by offset give every request once, in the order of the ids.
pub async fn requests_are_paged(target: &dyn Target) {
    let kit = Kit::new(target);
    let expected = kit.pending("h", 23).await;
    let filter = RequestFilter::default();
    let mut session = kit.session().await;
    let mut requests = session.handler_requests();
    let mut by_key: Vec<HandlerRequestId> = Vec::new();
    loop {
        let page = by_key
            .last()
            .map_or(Page::first(5), |last| Page::after(*last, 5));
        let found = requests.list(&filter, &page).await.unwrap();
        if found.is_empty() {
            break;
        }
        by_key.extend(ids(&found));
    }
    assert_eq!(by_key, expected);
    let page = Page {
        limit: 2,
        offset: 3,
        after: Some(expected[9]),
    };
    assert_eq!(
        ids(&requests.list(&filter, &page).await.unwrap()),
        expected[13..15]
    );
}

/// A stream gives everything, in the order of the ids, over any number of rows.
pub async fn streams_go_over_everything(target: &dyn Target) {
    let kit = Kit::new(target);
    let expected = kit.pending("h", 1500).await;
    let mut session = kit.session().await;
    let streamed: Vec<_> = session
        .handler_requests()
        .stream(&RequestFilter::default())
        .try_collect()
        .await
        .unwrap();
    assert_eq!(ids(&streamed), expected);
    let streamed: Vec<_> = session
        .events()
        .stream(&EventFilter::default())
        .try_collect()
        .await
        .unwrap();
    assert_eq!(streamed.len(), 1500);
    assert!(streamed.is_sorted_by_key(|stored| stored.event.id));
    let first = session
        .events()
        .stream(&EventFilter::default())
        .try_next()
        .await
        .unwrap();
    assert!(first.is_some(), "a stream can be dropped early");
    assert_eq!(session.events().count_unprocessed().await.unwrap(), 0);
}

/// The requests of an event come by handler; an unknown event has none.
pub async fn requests_of_an_event_come_by_handler(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[
        ("*", "b", 1, 5),
        ("*", "a", 2, 5),
        ("*", "B", 3, 5),
        ("*", "ä", 4, 5),
    ])
    .await;
    let events = kit.raise(&["x", "y"]).await;
    kit.fan_out().await;
    let mut session = kit.session().await;
    let requests = session
        .handler_requests()
        .of_event(events[0].id)
        .await
        .unwrap();
    let handlers: Vec<_> = requests.iter().map(|request| &*request.handler).collect();
    assert_eq!(handlers, ["B", "a", "b", "ä"]);
    assert!(
        requests
            .iter()
            .all(|request| request.event_id == events[0].id)
    );
    assert_eq!(
        session
            .handler_requests()
            .of_event(EventId::new())
            .await
            .unwrap(),
        []
    );
    let unknown = HandlerRequestId::derive(events[0].id, "unknown");
    assert_eq!(
        session.handler_requests().find(unknown).await.unwrap(),
        None
    );
}

async fn assert_counts(kit: &Kit<'_>, expected: [u64; 6]) {
    let mut session = kit.session().await;
    let mut requests = session.handler_requests();
    for (state, expected) in RequestState::ALL.into_iter().zip(expected) {
        let filter = RequestFilter {
            states: vec![state],
            ..RequestFilter::default()
        };
        assert_eq!(requests.count(&filter).await.unwrap(), expected, "{state}");
        let listed = requests.list(&filter, &Page::first(ALL)).await.unwrap();
        assert_eq!(listed.len() as u64, expected, "{state}");
    }
    assert_eq!(
        requests.count_unexecuted().await.unwrap(),
        expected[3..].iter().sum::<u64>()
    );
    assert_eq!(requests.count_dead().await.unwrap(), expected[2]);
    assert_eq!(
        requests.count(&RequestFilter::default()).await.unwrap(),
        expected.iter().sum::<u64>()
    );
}

fn ids(requests: &[crate::model::HandlerRequest]) -> Vec<HandlerRequestId> {
    requests.iter().map(|request| request.id).collect()
}
