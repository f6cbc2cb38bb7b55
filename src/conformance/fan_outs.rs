//! Making handler requests of events, born ready or born leased.

use super::{
    Target,
    kit::{ALL, BACKOFF, Kit, event, failed},
};
use crate::{
    id::HandlerRequestId,
    model::{Entity, Event, HandlerRequest, RequestState},
    store::{FanOut, FannedOut, Settled},
};

/// An event gets a request of every handler whose registration matches, each once.
pub async fn an_event_gets_one_request_for_each_handler(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[
        ("order.placed", "exact", 10, 3),
        ("order.*", "prefix", 20, 4),
    ])
    .await;
    kit.register(&[
        ("*", "all", 30, 7),
        ("orders.*", "other", 1, 1),
        ("order.paid", "paid", 1, 1),
    ])
    .await;
    let raised = event("order.placed").with_entity(Entity::new("order", "7"));
    let mut session = kit.session().await;
    session
        .events()
        .raise(std::slice::from_ref(&raised))
        .await
        .unwrap();
    let fanned_out = kit.fan_out().await;
    let processed = &fanned_out.processed[0];
    assert_eq!((processed.id, &processed.name), (raised.id, &raised.name));
    assert_eq!(
        (&processed.entity, processed.timestamp),
        (&raised.entity, raised.timestamp)
    );
    assert_eq!(
        (processed.correlation_id, processed.requests),
        (raised.correlation_id, 3)
    );
    assert_eq!(fanned_out.born_leased, []);
    let requests = session
        .handler_requests()
        .of_event(raised.id)
        .await
        .unwrap();
    let terms: Vec<_> = requests
        .iter()
        .map(|request| {
            (
                &*request.handler,
                request.priority.get(),
                request.max_errors,
            )
        })
        .collect();
    assert_eq!(terms, [("all", 30, 7), ("exact", 10, 3), ("prefix", 20, 4)]);
    for request in &requests {
        let fresh = HandlerRequest::new(
            raised.id,
            raised.name.clone(),
            request.handler.clone(),
            request.priority,
            request.max_errors,
            request.created_at,
        );
        assert_eq!(*request, fresh);
        assert_eq!(kit.state(request.id).await, RequestState::Pending);
    }
    let stored = session.events().find(raised.id).await.unwrap().unwrap();
    assert!(stored.processed_at.is_some());
}

/// Of several patterns of one handler the most specific one gives the terms.
pub async fn the_most_specific_pattern_decides(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[
        ("*", "h", 1, 1),
        ("a.*", "h", 2, 2),
        ("a.b.*", "h", 3, 3),
        ("a.b.c", "h", 4, 4),
    ])
    .await;
    let events = kit.raise(&["z", "a.z", "a.b.z", "a.b.c", "a.b"]).await;
    kit.fan_out().await;
    let mut terms = Vec::new();
    for event in events {
        let request = kit.find(HandlerRequestId::derive(event.id, "h")).await;
        terms.push((request.priority.get(), request.max_errors));
    }
    assert_eq!(terms, [(1, 1), (2, 2), (3, 3), (4, 4), (2, 2)]);
}

/// Names are compared bytewise: no case, no accents, no trailing space is ignored.
pub async fn names_are_compared_bytewise(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[
        ("größe.a", "h", 50, 5),
        ("größe.a", "H", 50, 5),
        ("Größe.*", "ḣ", 50, 5),
    ])
    .await;
    kit.register(&[("a_b.*", "underscore", 50, 5), ("a%b", "percent", 50, 5)])
        .await;
    kit.raise(&[
        "größe.a",
        "Größe.a",
        "grosse.a",
        "GRÖSSE.A",
        "axb.c",
        "a_b.c",
        "axb",
        "a%b",
    ])
    .await;
    let fanned_out = kit.fan_out().await;
    let requests: Vec<_> = fanned_out
        .processed
        .iter()
        .map(|event| event.requests)
        .collect();
    assert_eq!(requests, [2, 1, 0, 0, 0, 1, 0, 1]);
    assert_eq!(kit.claim(&["h"], ALL).await.len(), 1);
    assert_eq!(kit.claim(&["H"], ALL).await.len(), 1);
}

/// An event without a handler is processed and never comes back.
pub async fn an_event_that_nobody_wants_is_processed(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("other", "h", 50, 5)]).await;
    kit.raise(&["a"]).await;
    assert_eq!(kit.fan_out().await.processed[0].requests, 0);
    assert_eq!(kit.fan_out().await, FannedOut::default());
    let mut session = kit.session().await;
    assert_eq!(session.events().count_unprocessed().await.unwrap(), 0);
    assert_eq!(
        session.handler_requests().count_unexecuted().await.unwrap(),
        0
    );
}

/// The oldest come first, a limit leaves the rest, and nothing is made twice.
pub async fn a_limit_leaves_the_rest_for_the_next(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("*", "h", 50, 5)]).await;
    let events = kit.raise(&["a", "b", "c", "d", "e"]).await;
    let mut order = Vec::new();
    for expected in [2, 2, 1, 0] {
        let fanned_out = kit.fan_out_with(2, None).await;
        assert_eq!(
            (fanned_out.processed.len(), fanned_out.next_due),
            (expected, None)
        );
        order.extend(fanned_out.processed.iter().map(|event| event.id));
    }
    assert_eq!(
        order,
        events.iter().map(|event| event.id).collect::<Vec<_>>()
    );
    let mut session = kit.session().await;
    assert_eq!(
        session.handler_requests().count_unexecuted().await.unwrap(),
        5
    );
    assert_eq!(kit.fan_out_with(0, None).await.processed, []);
}

/// However many processes fan out at once, each event gets each request once.
pub async fn concurrent_fan_outs_never_double(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("*", "h", 50, 5), ("*", "i", 10, 5)]).await;
    kit.raise(&["a"; 300]).await;
    let processors: Vec<_> = (0..8)
        .map(|_| {
            let store = kit.target.store();
            let offer = kit.offer(5, &[("h", 3), ("i", 3)]);
            tokio::spawn(async move {
                let mut fan_out = FanOut::due(11);
                fan_out.offer = Some(offer);
                let (mut events, mut leased) = (0, Vec::new());
                let mut session = store.session().await.unwrap();
                loop {
                    let fanned_out = session.events().fan_out(&fan_out).await.unwrap();
                    if fanned_out.processed.is_empty() {
                        return (events, leased);
                    }
                    events += fanned_out.processed.len();
                    leased.extend(fanned_out.born_leased.into_iter().map(|request| request.id));
                }
            })
        })
        .collect();
    let (mut events, mut leased) = (0, Vec::new());
    for processor in processors {
        let (its_events, its_leased) = processor.await.unwrap();
        events += its_events;
        leased.extend(its_leased);
    }
    let mut session = kit.session().await;
    let open = session.handler_requests().count_unexecuted().await.unwrap();
    assert_eq!((events, open), (300, 600));
    let ready = kit.claim(&["h", "i"], ALL).await;
    assert_eq!(ready.len() + leased.len(), 600);
    leased.extend(ready.iter().map(|request| request.id));
    leased.sort_unstable();
    leased.dedup();
    assert_eq!(leased.len(), 600);
}

/// Who offers to execute gets the requests leased, and can settle them at once.
pub async fn requests_are_born_leased_to_who_offers(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("*", "h", 50, 5)]).await;
    let events = kit.raise(&["a", "b"]).await;
    let offer = kit.offer(10, &[("h", 10)]);
    let fanned_out = kit.fan_out_with(ALL, Some(offer)).await;
    assert!(fanned_out.ready_handlers.unwrap_or_default().is_empty());
    let leased = fanned_out.born_leased;
    assert_eq!(leased.len(), 2);
    let first = leased
        .iter()
        .find(|request| request.event.id == events[0].id)
        .unwrap();
    assert_eq!(*first.event, events[0]);
    assert_eq!(
        (&*first.handler, first.attempt, first.max_errors),
        ("h", 1, 5)
    );
    assert_eq!((first.errors, first.executions, first.rescues), (0, 0, 0));
    assert_eq!(kit.state(first.id).await, RequestState::Executing);
    let stored = kit.find(first.id).await;
    assert_eq!(
        (stored.attempt, stored.lease.unwrap().owner),
        (1, kit.owner)
    );
    assert_eq!(kit.claim(&["h"], ALL).await, []);
    assert_eq!(
        kit.settle(first, crate::model::Outcome::Completed).await,
        Settled::Applied
    );
    assert_eq!(
        kit.lose_all().await.len(),
        1,
        "the other one's lease runs out as any"
    );
}

/// Room and limit bound what is born leased; the most urgent come first.
pub async fn room_and_limit_bound_what_is_born_leased(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[
        ("*", "late", 60, 5),
        ("*", "soon", 40, 5),
        ("*", "elsewhere", 1, 5),
    ])
    .await;
    kit.raise(&["a", "b", "c"]).await;
    let offer = kit.offer(4, &[("late", 9), ("soon", 2)]);
    let fanned_out = kit.fan_out_with(ALL, Some(offer)).await;
    if let Some(mut ready) = fanned_out.ready_handlers {
        ready.sort_unstable();
        assert_eq!(ready, ["elsewhere", "late", "soon"]);
    }
    let leased = fanned_out.born_leased;
    let handlers: Vec<_> = leased.iter().map(|request| &*request.handler).collect();
    assert_eq!(handlers, ["soon", "soon", "late", "late"]);
    assert!(leased.is_sorted_by_key(|request| (request.priority, request.id)));
    assert_eq!(
        kit.claim(&["late", "soon", "elsewhere"], ALL).await.len(),
        5
    );
}

/// A new request does not overtake what waits with the same or a better priority.
pub async fn nothing_is_born_leased_in_front_of_a_backlog(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[
        ("first", "h", 50, 5),
        ("better", "h", 49, 5),
        ("same", "h", 50, 5),
    ])
    .await;
    kit.register(&[
        ("worse", "h", 51, 5),
        ("mine", "i", 50, 5),
        ("best", "i", 10, 5),
    ])
    .await;
    kit.raise(&["first"]).await;
    if let Some(ready) = kit.fan_out().await.ready_handlers {
        assert_eq!(ready, ["h"]);
    }
    let born_leased = |fanned_out: FannedOut| !fanned_out.born_leased.is_empty();
    for (name, expected) in [("same", false), ("worse", false), ("better", true)] {
        kit.raise(&[name]).await;
        let offer = kit.offer(10, &[("h", 10)]);
        assert_eq!(
            born_leased(kit.fan_out_with(ALL, Some(offer)).await),
            expected,
            "{name}"
        );
    }
    for (name, rooms, expected) in [
        ("mine", &[("h", 10), ("i", 10)][..], false),
        ("best", &[("h", 10), ("i", 10)][..], true),
        ("worse", &[("i", 10)][..], false),
    ] {
        kit.raise(&[name]).await;
        let offer = kit.offer(10, rooms);
        assert_eq!(
            born_leased(kit.fan_out_with(ALL, Some(offer)).await),
            expected,
            "{name}"
        );
    }
}

/// Many events wait while requests of an offered handler do, if the one who asks wants that, and few do
/// not: among these may be one that matters more.
pub async fn many_events_wait_behind_a_backlog_and_few_do_not(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("first", "h", 50, 5), ("*", "i", 10, 5)])
        .await;
    let fan_out = async |limit, handlers: &[(&str, usize)], most| {
        let mut fan_out = FanOut::due(limit);
        fan_out.offer = Some(kit.offer(10, handlers));
        fan_out.max_behind_backlog = most;
        let mut session = kit.session().await;
        let fanned_out = session.events().fan_out(&fan_out).await.unwrap();
        (fanned_out.processed.len(), fanned_out.held_back)
    };
    let (both, one) = (&[("h", 10), ("i", 10)][..], &[("i", 10)][..]);
    kit.raise(&["other"; 4]).await;
    assert_eq!(fan_out(3, both, Some(2)).await, (3, false), "nothing waits");

    kit.raise(&["first"]).await;
    kit.fan_out().await;
    assert_eq!(kit.claim(&["i"], ALL).await.len(), 2);
    kit.raise(&["other"; 3]).await;
    assert_eq!(fan_out(ALL, both, Some(2)).await, (0, true), "of h");
    assert_eq!(fan_out(ALL, one, Some(3)).await, (3, false), "few enough");
    kit.raise(&["other"; 3]).await;
    assert_eq!(fan_out(ALL, one, Some(2)).await, (3, false), "none of i");
    kit.raise(&["other"; 3]).await;
    assert_eq!(fan_out(2, both, Some(2)).await, (2, false), "few at a time");
    assert_eq!(fan_out(ALL, both, None).await, (1, false), "nobody waits");
    kit.raise(&["other"; 3]).await;
    assert_eq!(fan_out(ALL, both, Some(2)).await, (0, true));
    assert_eq!(kit.claim(&["h"], ALL).await.len(), 1);
    assert_eq!(fan_out(ALL, both, Some(2)).await, (3, false), "none waits");
}

/// A backlog of handlers that are not offered, or that backs off or runs, holds nothing up.
pub async fn a_backlog_that_cannot_run_holds_nothing_up(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("other", "other", 1, 5), ("a", "h", 50, 5)])
        .await;
    kit.raise(&["other", "a", "a"]).await;
    kit.fan_out().await;
    let claimed = kit.claim(&["h"], ALL).await;
    kit.settle(&claimed[0], failed("later")).await;
    kit.raise(&["a"]).await;
    let offer = || Some(kit.offer(10, &[("h", 10)]));
    assert_eq!(kit.fan_out_with(ALL, offer()).await.born_leased.len(), 1);
    kit.pass(BACKOFF).await;
    kit.raise(&["a"]).await;
    let behind = kit.fan_out_with(ALL, offer()).await;
    assert_eq!(
        behind.born_leased,
        [],
        "what backed off is due again and comes first"
    );
}

/// Thousands of events with thousands of requests in one call.
pub async fn a_large_batch_is_one_call(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("*", "h", 50, 5), ("*", "i", 50, 5)]).await;
    let events: Vec<Event> = (0..2000).map(|_| event("a")).collect();
    let mut session = kit.session().await;
    session.events().raise(&events).await.unwrap();
    let offer = kit.offer(1500, &[("h", 1500), ("i", 1500)]);
    let fanned_out = kit.fan_out_with(ALL, Some(offer)).await;
    assert_eq!(fanned_out.processed.len(), 2000);
    assert_eq!(fanned_out.born_leased.len(), 1500);
    assert_eq!(
        session.handler_requests().count_unexecuted().await.unwrap(),
        4000
    );
    assert_eq!(kit.claim(&["h", "i"], ALL).await.len(), 2500);
}
