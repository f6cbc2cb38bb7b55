//! Past events that run again: which ones, for which handlers, and what that leaves alone.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    Target,
    kit::{ALL, Kit, event, failed},
};
use crate::{
    error::StoreError,
    id::{EventId, HandlerRequestId},
    model::{Entity, Event, HandlerRequest, Outcome, RequestState},
    store::{EventClaim, EventFilter, Replay, Replayed, RequestFilter, StorerExt},
};

/// A handler gets events from before its time, on the terms of its most specific registration.
pub async fn a_handler_that_came_later_gets_past_events(target: &dyn Target) {
    let kit = Kit::new(target);
    let events = processed(&kit, &["a", "a", "b"]).await;
    let before = all_requests(&kit).await;
    let registrations = [("*", "new", 70, 9), ("a", "new", 10, 3)];
    kit.register(&registrations).await;
    let replayed = replay(&kit, &everything().to_handlers(["new"])).await;
    assert_eq!(counts(&replayed), (3, 0, 0));
    assert_eq!(replayed.next, None);
    for (event, terms) in events.iter().zip([(10, 3), (10, 3), (70, 9)]) {
        let request = of(&kit, event.id, "new").await;
        assert_eq!((request.priority.get(), request.max_errors), terms);
        assert_eq!((request.attempt, request.errors), (0, 0));
        assert_eq!(request.id, HandlerRequestId::derive(event.id, "new"));
        assert_eq!(kit.state(request.id).await, RequestState::Pending);
    }
    for request in before {
        assert_eq!(kit.find(request.id).await, request, "others do not change");
    }
    assert_eq!(kit.claim(&["new"], ALL).await.len(), 3);
}

/// A missing request is made, one that has ended runs again, an open one stays as it is.
pub async fn missing_ended_and_open_requests_are_told_apart(target: &dyn Target) {
    let kit = Kit::new(target);
    let events = processed(&kit, &["a"; 6]).await;
    let claimed = kit.claim(&["h"], 5).await;
    for (request, outcome) in claimed.iter().zip(outcomes()) {
        kit.settle(request, outcome).await;
    }
    kit.settle(&claimed[3], failed("later")).await;
    let before = all_requests(&kit).await;
    kit.register(&[("a", "new", 50, 5)]).await;

    let replayed = replay(&kit, &everything()).await;
    assert_eq!(counts(&replayed), (6, 3, 3), "all active handlers get it");
    for event in &events {
        let made = of(&kit, event.id, "new").await;
        assert_eq!(kit.state(made.id).await, RequestState::Pending);
    }
    for before in before {
        let after = kit.find(before.id).await;
        if before.is_open() {
            assert_eq!(after, before);
        } else {
            assert_eq!((after.errors, after.attempt), (0, before.attempt + 1));
            let kept = (after.executions, &after.last_errors);
            assert_eq!(kept, (before.executions, &before.last_errors));
            assert_eq!(kit.state(after.id).await, RequestState::Pending);
        }
    }
    let again = replay(&kit, &everything()).await;
    assert_eq!(counts(&again), (0, 0, 12), "nothing has ended meanwhile");
}

/// Handlers that are not named, and retired ones, get nothing.
pub async fn only_wanted_handlers_get_past_events(target: &dyn Target) {
    let kit = Kit::new(target);
    let events = processed(&kit, &["a", "b"]).await;
    let registrations = [("a", "named", 50, 5), ("a", "other", 50, 5)];
    kit.register(&registrations).await;
    kit.register(&[("a", "retired", 50, 5)]).await;
    retire(&kit, "retired").await;
    let named = everything().to_handlers(["named"]);
    assert_eq!(counts(&replay(&kit, &named).await), (1, 0, 0));
    let all = replay(&kit, &everything()).await;
    assert_eq!(counts(&all), (1, 0, 3), "other is made, and not retired");
    let handlers = handlers_of(&kit, events[0].id).await;
    assert_eq!(handlers, ["h", "named", "other"]);
    assert_eq!(handlers_of(&kit, events[1].id).await, ["h"]);
}

/// Its neighbours get nothing, whether they come before or after it, and nor does any when it is not
/// there.
pub async fn one_event_is_replayed_alone(target: &dyn Target) {
    let kit = Kit::new(target);
    let events = processed(&kit, &["a"; 3]).await;
    let mut ids: Vec<_> = events.iter().map(|event| event.id).collect();
    ids.sort_unstable();
    kit.register(&[("a", "new", 50, 5)]).await;
    let one = Replay::of(ids[1]);
    let replayed = replay(&kit, &one.clone().to_handlers(["new"])).await;
    assert_eq!((counts(&replayed), replayed.next), ((1, 0, 0), None));
    let replayed = replay(&kit, &one).await;
    assert_eq!((counts(&replayed), replayed.next), ((0, 0, 2), None));
    assert_eq!(handlers_of(&kit, ids[1]).await, ["h", "new"]);
    for id in [ids[0], ids[2]] {
        assert_eq!(handlers_of(&kit, id).await, ["h"]);
    }
    let waiting = kit.raise(&["a"]).await;
    // Behind which there are others.
    let gone = EventId::from_uuid(Uuid::from_u128(ids[1].as_uuid().as_u128() - 1));
    for none in [waiting[0].id, gone] {
        assert_eq!(replay(&kit, &Replay::of(none)).await, Replayed::default());
    }
    let behind = one.after(ids[1]);
    assert_eq!(replay(&kit, &behind).await, Replayed::default());
}

/// An event that waits for its fan-out gets its requests from that, and takes up no room.
pub async fn unprocessed_events_are_left_alone(target: &dyn Target) {
    let kit = Kit::new(target);
    let first = processed(&kit, &["a"]).await;
    let waiting = kit.raise(&["a"; 3]).await;
    let mut session = kit.session().await;
    let claim = EventClaim::new(kit.owner, super::kit::LEASE, ALL);
    assert_eq!(session.events().claim(&claim).await.unwrap().len(), 3);
    let last = processed(&kit, &["a"]).await;
    kit.register(&[("a", "new", 50, 5)]).await;

    let unprocessed = EventFilter::default().processed(false);
    let nothing = replay(&kit, &Replay::new(unprocessed, ALL)).await;
    assert_eq!(nothing, Replayed::default());
    let mut replay_new = everything().to_handlers(["new"]);
    replay_new.limit = 2;
    assert_eq!(counts(&replay(&kit, &replay_new).await), (2, 0, 0));
    for event in first.iter().chain(&last) {
        assert_eq!(handlers_of(&kit, event.id).await, ["h", "new"]);
    }
    for event in waiting {
        assert_eq!(handlers_of(&kit, event.id).await, [""; 0]);
    }
    assert_eq!(session.events().count_unprocessed().await.unwrap(), 3);
}

/// Names, times and entities bound what runs again, together.
pub async fn a_range_bounds_what_is_replayed(target: &dyn Target) {
    let kit = Kit::new(target);
    let events = [
        at(event("a"), 10).with_entity(Entity::new("order", "1")),
        at(event("a"), 20),
        at(event("b"), 30),
        at(event("a"), 40),
    ];
    kit.register(&[("*", "h", 50, 5)]).await;
    let mut session = kit.session().await;
    session.events().raise(&events).await.unwrap();
    kit.fan_out().await;
    kit.register(&[("unheard", "new", 50, 5)]).await;
    let all = EventFilter::default;
    for (handler, filter, expected) in [
        ("by name", all().named(["a"]), &[0, 1, 3][..]),
        ("by entity", all().about(Entity::new("order", "1")), &[0]),
        ("by time", all().since(time(20)).until(time(40)), &[1, 2]),
        ("by both", all().named(["a"]).since(time(20)), &[1, 3]),
        ("unhandled", all().with_requests(false), &[]),
    ] {
        kit.register(&[("*", handler, 50, 5)]).await;
        let replay_range = Replay::new(filter, ALL).to_handlers([handler]);
        let replayed = replay(&kit, &replay_range).await;
        assert_eq!(
            counts(&replayed),
            (expected.len() as u64, 0, 0),
            "{handler}"
        );
        for (index, event) in events.iter().enumerate() {
            let handlers = handlers_of(&kit, event.id).await;
            let got = handlers.iter().any(|name| name == handler);
            assert_eq!(got, expected.contains(&index), "{handler} {index}");
        }
    }
}

/// A batch looks at so many events, and the next one goes on where it ended.
pub async fn batches_go_on_where_the_last_one_ended(target: &dyn Target) {
    let kit = Kit::new(target);
    let events = processed(&kit, &["a"; 7]).await;
    kit.register(&[("a", "new", 50, 5)]).await;
    let mut part = everything().to_handlers(["new"]);
    part.limit = 3;
    for (created, next) in [(3, Some(events[2].id)), (3, Some(events[5].id)), (1, None)] {
        let replayed = replay(&kit, &part).await;
        assert_eq!(counts(&replayed), (created, 0, 0));
        assert_eq!(replayed.next, next);
        part.after = next.or(part.after);
    }
    let after = everything().to_handlers(["new"]).after(events[4].id);
    assert_eq!(counts(&replay(&kit, &after).await), (0, 0, 2));
    let mut all = everything();
    all.limit = 2;
    let replayed = kit.store.replay_all(all).await.unwrap();
    assert_eq!(counts(&replayed), (0, 0, 14), "all batches add up");
    assert_eq!(replayed.next, None);
}

/// A batch of no events would never come to an end.
pub async fn a_replay_without_a_limit_is_refused(target: &dyn Target) {
    let kit = Kit::new(target);
    processed(&kit, &["a"]).await;
    let mut nothing = everything();
    nothing.limit = 0;
    assert_refused(&kit, &nothing, &["limit"]).await;
    let error = kit.store.replay_all(nothing).await.unwrap_err();
    assert!(matches!(error, StoreError::Invalid { .. }), "{error:?}");
}

/// Who names a handler that gets nothing is told so, and what became of it; nothing is changed.
pub async fn a_replay_to_nobody_is_refused(target: &dyn Target) {
    let kit = Kit::new(target);
    processed(&kit, &["a"]).await;
    kit.register(&[("a", "new", 50, 5)]).await;
    kit.register(&[("a", "gone", 50, 5), ("a", "old", 50, 5)])
        .await;
    retire(&kit, "gone").await;
    rename(&kit, "old", "today").await;
    for (handler, told) in [
        ("nobody", "not registered"),
        ("gone", "retired"),
        ("old", "\"today\""),
    ] {
        let replay = everything().to_handlers(["new", handler]);
        assert_refused(&kit, &replay, &[handler, told]).await;
    }
}

/// What a rename took along is the handler's own, and is not made a second time.
pub async fn renamed_requests_are_not_doubled(target: &dyn Target) {
    let kit = Kit::new(target);
    let events = processed(&kit, &["a"; 3]).await;
    let claimed = kit.claim(&["h"], 2).await;
    kit.settle(&claimed[0], discarded()).await;
    kit.settle(&claimed[1], Outcome::Completed).await;
    rename(&kit, "h", "today").await;
    let replayed = replay(&kit, &everything()).await;
    let made_anew = 1;
    assert_eq!(
        counts(&replayed),
        (made_anew, 1, 1),
        "what completed under the old name stays there"
    );
    assert_eq!(handlers_of(&kit, events[0].id).await, ["today"]);
    assert_eq!(handlers_of(&kit, events[1].id).await, ["h", "today"]);
    assert_eq!(handlers_of(&kit, events[2].id).await, ["today"]);
    assert_eq!(kit.claim(&["today"], ALL).await.len(), 3);
}

/// A name that a rename gave up, and another handler took, gets a request of its own, although the
/// id that would be derived for it is in use.
pub async fn a_name_that_was_taken_over_gets_requests_of_its_own(target: &dyn Target) {
    let kit = Kit::new(target);
    let event = processed(&kit, &["a"]).await[0].id;
    rename(&kit, "h", "first").await;
    kit.register(&[("a", "second", 50, 5)]).await;
    rename(&kit, "second", "h").await;
    assert_eq!(handlers_of(&kit, event).await, ["first"]);
    assert_eq!(counts(&replay(&kit, &everything()).await), (1, 0, 1));
    assert_eq!(handlers_of(&kit, event).await, ["first", "h"]);
    assert_eq!(counts(&replay(&kit, &everything()).await), (0, 0, 2));
    assert_eq!(kit.claim(&["first", "h"], ALL).await.len(), 2);
}

/// An old execution of a request that runs again settles nothing.
pub async fn a_zombie_is_refused_after_a_replay(target: &dyn Target) {
    let kit = Kit::new(target);
    processed(&kit, &["a"]).await;
    let zombie = kit.claim_one("h").await;
    kit.cancel(zombie.id).await;
    assert_eq!(counts(&replay(&kit, &everything()).await), (0, 1, 0));
    let settled = kit.settle(&zombie, Outcome::Completed).await;
    assert_eq!(settled, crate::store::Settled::Fenced);
    assert_eq!(kit.state(zombie.id).await, RequestState::Pending);
}

/// Several who replay the same events at the same time make each request once.
pub async fn concurrent_replays_make_each_request_once(target: &dyn Target) {
    let kit = Kit::new(target);
    let events = processed(&kit, &["a"; 60]).await;
    kit.register(&[("a", "new", 50, 5), ("*", "too", 50, 5)])
        .await;
    let operators: Vec<_> = (0..6)
        .map(|_| {
            let (store, mut all) = (kit.target.store(), everything());
            all.limit = 7;
            tokio::spawn(async move { store.replay_all(all).await.unwrap() })
        })
        .collect();
    let mut total = Replayed::default();
    for operator in operators {
        let replayed = operator.await.unwrap();
        total.created += replayed.created;
        total.reexecuted += replayed.reexecuted;
        total.open += replayed.open;
    }
    assert_eq!(counts(&total), (120, 0, 6 * 180 - 120));
    for event in events {
        assert_eq!(handlers_of(&kit, event.id).await, ["h", "new", "too"]);
    }
    assert_eq!(kit.claim(&["h", "new", "too"], ALL).await.len(), 180);
}

/// A transaction sees what it replays, others do not before the commit, and a rollback undoes it.
pub async fn a_rolled_back_replay_never_happened(target: &dyn Target) {
    let kit = Kit::new(target);
    let event = processed(&kit, &["a"]).await[0].id;
    let completed = kit.claim_one("h").await;
    kit.settle(&completed, Outcome::Completed).await;
    kit.register(&[("a", "new", 50, 5)]).await;
    let before = all_requests(&kit).await;
    let mut tx = kit.begin().await;
    let replayed = tx.handler_requests().replay(&everything()).await.unwrap();
    assert_eq!(counts(&replayed), (1, 1, 0));
    let inside = tx.handler_requests().of_event(event).await.unwrap();
    assert_eq!(inside.len(), 2);
    assert!(inside.iter().all(HandlerRequest::is_open));
    assert_eq!(all_requests(&kit).await, before, "not before the commit");
    tx.rollback().await.unwrap();
    assert_eq!(all_requests(&kit).await, before);
    assert_eq!(counts(&replay(&kit, &everything()).await), (1, 1, 0));
}

/// Whatever a replay makes ready is told at the commit, and to who waits for ends, too.
pub async fn a_replay_is_told(target: &dyn Target) {
    let kit = Kit::new(target);
    processed(&kit, &["a"]).await;
    kit.register(&[("a", "new", 50, 5)]).await;
    let signals = kit.store.signals();
    let ready = signals.ready.seen();
    let mut tx = kit.begin().await;
    tx.handler_requests().replay(&everything()).await.unwrap();
    assert_eq!(signals.ready.seen(), ready, "not before the commit");
    tx.commit().await.unwrap();
    assert!(signals.ready.seen() > ready, "a request was made");

    let request = kit.claim_one("h").await;
    kit.settle(&request, Outcome::Completed).await;
    let (ready, settled) = (signals.ready.seen(), signals.settled.seen());
    replay(&kit, &everything()).await;
    assert!(signals.ready.seen() > ready, "a request runs again");
    assert!(
        signals.settled.seen() > settled,
        "it has not ended any more"
    );
}

fn everything() -> Replay {
    Replay::new(EventFilter::default(), ALL)
}

fn counts(replayed: &Replayed) -> (u64, u64, u64) {
    (replayed.created, replayed.reexecuted, replayed.open)
}

fn discarded() -> Outcome {
    Outcome::Discarded {
        reason: "no".into(),
    }
}

/// One for each end.
fn outcomes() -> [Outcome; 3] {
    let reason = "no".into();
    [
        Outcome::Completed,
        discarded(),
        Outcome::Canceled { reason },
    ]
}

/// Events that the handler `h` had got.
async fn processed(kit: &Kit<'_>, names: &[&str]) -> Vec<Event> {
    kit.register(&[("*", "h", 50, 5)]).await;
    let events = kit.raise(names).await;
    assert_eq!(kit.fan_out().await.processed.len(), names.len());
    events
}

async fn replay(kit: &Kit<'_>, replay: &Replay) -> Replayed {
    let mut session = kit.session().await;
    session.handler_requests().replay(replay).await.unwrap()
}

async fn assert_refused(kit: &Kit<'_>, replay: &Replay, told: &[&str]) {
    let before = all_requests(kit).await;
    let mut session = kit.session().await;
    let error = session.handler_requests().replay(replay).await.unwrap_err();
    assert!(matches!(error, StoreError::Invalid { .. }), "{error:?}");
    for part in told {
        assert!(error.to_string().contains(part), "{error} names no {part}");
    }
    assert_eq!(all_requests(kit).await, before);
}

async fn all_requests(kit: &Kit<'_>) -> Vec<HandlerRequest> {
    let mut session = kit.session().await;
    let page = crate::store::Page::first(ALL);
    let all = RequestFilter::default();
    session.handler_requests().list(&all, &page).await.unwrap()
}

async fn of(kit: &Kit<'_>, event: EventId, handler: &str) -> HandlerRequest {
    let mut session = kit.session().await;
    let requests = session.handler_requests().of_event(event).await.unwrap();
    let mut requests = requests.into_iter();
    let found = requests.find(|request| request.handler == handler);
    found.expect("the handler has a request")
}

async fn handlers_of(kit: &Kit<'_>, event: EventId) -> Vec<crate::text::Name> {
    let mut session = kit.session().await;
    let requests = session.handler_requests().of_event(event).await.unwrap();
    requests
        .into_iter()
        .map(|request| request.handler)
        .collect()
}

async fn retire(kit: &Kit<'_>, handler: &str) {
    let mut session = kit.session().await;
    let retired = session.registrations().retire(&handler.into()).await;
    assert_eq!(retired.unwrap(), 1);
}

async fn rename(kit: &Kit<'_>, from: &str, to: &str) {
    let store = kit.target.store();
    store.rename(&from.into(), &to.into()).await.unwrap();
}

fn at(mut event: Event, seconds: i64) -> Event {
    event.timestamp = time(seconds);
    event
}

fn time(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}
