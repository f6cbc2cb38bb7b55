//! Rows that go when nobody needs them any more, and those that must not.

use std::time::Duration;

use super::{
    Target,
    kit::{ALL, BACKOFF, Kit, WATCH, failed},
};
use crate::{
    error::StoreError,
    id::EventId,
    model::{Event, Outcome, RequestState},
    store::{
        EventClaim, EventFailure, EventFilter, LockMode, Page, Prune, Pruned, Raised, Replay,
        Replayed, RequestFilter, StorerExt,
    },
};

const KEPT: Duration = Duration::from_secs(100);
/// Longer than [`KEPT`], however coarse the store's time is.
const OVER: Duration = Duration::from_secs(110);

/// An event goes with all its requests, when the last one has ended for long enough, and takes
/// nothing else along.
pub async fn an_event_goes_with_all_its_requests(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("a", "h", 50, 5), ("a", "i", 50, 5)]).await;
    let events = processed(&kit, &["a", "a"]).await;
    settle_all(&kit, "h", Outcome::Completed).await;
    complete_one(&kit, "i").await;
    kit.pass(OVER).await;
    complete_one(&kit, "i").await;
    assert_eq!(counts(&prune(&kit, &all()).await), (1, 2));
    assert_eq!(left(&kit).await, [events[1].id]);
    let mut session = kit.session().await;
    let mut requests = session.handler_requests();
    assert_eq!(requests.of_event(events[0].id).await.unwrap(), []);
    assert_eq!(requests.of_event(events[1].id).await.unwrap().len(), 2);
    let filter = RequestFilter::default().in_states([RequestState::Completed]);
    assert_eq!(requests.count(&filter).await.unwrap(), 2);
    assert_eq!(counts(&prune(&kit, &all()).await), (0, 0));
    kit.pass(OVER).await;
    assert_eq!(counts(&prune(&kit, &all()).await), (1, 2));
    assert_eq!(left(&kit).await, []);
}

/// What completed, what was canceled and what died are each kept for a time of their own, or for
/// ever.
pub async fn each_end_is_kept_for_its_own_time(target: &dyn Target) {
    let kit = Kit::new(target);
    let reason = String::from("no");
    let ends = [
        Outcome::Completed,
        Outcome::Canceled {
            reason: reason.clone(),
        },
        Outcome::Discarded { reason },
    ];
    for (end, outcome) in ends.iter().enumerate() {
        kit.pending("h", 1).await;
        settle_all(&kit, "h", outcome.clone()).await;
        assert_eq!(left(&kit).await.len(), 1);
        kit.pass(OVER).await;
        for kind in 0..ends.len() {
            let kept_for = |of: usize, time: Option<Duration>| if of == kind { time } else { None };
            for (time, goes) in [
                (None, false),
                (Some(2 * OVER), false),
                (Some(KEPT), kind == end),
            ] {
                let prune_kind = Prune::new(ALL)
                    .completed_for(kept_for(0, time))
                    .canceled_for(kept_for(1, time))
                    .dead_for(kept_for(2, time));
                let pruned = prune(&kit, &prune_kind).await;
                assert_eq!(
                    pruned.events == 1,
                    goes,
                    "{end} is pruned as {kind} {time:?}"
                );
            }
            if kind == end {
                break;
            }
        }
        assert_eq!(left(&kit).await, [], "{end}");
    }
}

/// One request that has not ended keeps its event, and those that have ended.
pub async fn an_open_request_keeps_its_event(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("a", "h", 50, 5), ("a", "i", 50, 5)]).await;
    let events = processed(&kit, &["a"; 3]).await;
    settle_all(&kit, "h", Outcome::Completed).await;
    let claimed = kit.claim(&["i"], 2).await;
    kit.settle(&claimed[0], failed("later")).await;
    for request in &claimed {
        assert!(!kit.state(request.id).await.is_end());
    }
    kit.pass(OVER).await;
    assert_eq!(counts(&prune(&kit, &forgetful()).await), (0, 0));
    assert_eq!(left(&kit).await.len(), 3);
    kit.cancel(claimed[0].id).await;
    kit.settle(&claimed[1], Outcome::Completed).await;
    complete_one(&kit, "i").await;
    kit.pass(OVER).await;
    assert_eq!(counts(&prune(&kit, &forgetful()).await), (3, 6));
    assert_eq!(left(&kit).await, [] as [EventId; 0], "{events:?}");
}

/// A dead request is kept for ever unless somebody says otherwise, with its event and the others.
pub async fn a_dead_request_keeps_its_event(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("a", "h", 50, 5), ("a", "i", 50, 5)]).await;
    let event = processed(&kit, &["a"]).await[0].id;
    settle_all(&kit, "h", Outcome::Completed).await;
    let reason = "no".into();
    settle_all(&kit, "i", Outcome::Discarded { reason }).await;
    kit.pass(Duration::from_secs(400 * 24 * 3600)).await;
    assert_eq!(counts(&prune(&kit, &Prune::new(ALL)).await), (0, 0));
    assert_eq!(left(&kit).await, [event]);
    let mut session = kit.session().await;
    assert_eq!(session.handler_requests().count_dead().await.unwrap(), 1);
    let dead_too = Prune::new(ALL).dead_for(Some(KEPT));
    assert_eq!(counts(&prune(&kit, &dead_too).await), (1, 2));
    assert_eq!(session.handler_requests().count_dead().await.unwrap(), 0);
    let names = session.handler_requests().dead_handler_names().await;
    assert!(names.unwrap().is_empty());
}

/// Events are kept for replays, whatever became of their requests.
pub async fn events_are_kept_for_replays(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("a", "h", 50, 5)]).await;
    processed(&kit, &["a", "unwanted"]).await;
    settle_all(&kit, "h", Outcome::Completed).await;
    kit.pass(OVER).await;
    let keep = all().keep_events_for(2 * KEPT);
    assert_eq!(counts(&prune(&kit, &keep).await), (0, 0));
    kit.pass(OVER).await;
    assert_eq!(counts(&prune(&kit, &keep).await), (2, 1));
}

/// An event that nobody wanted goes as if it had been completed when it was processed.
pub async fn unwanted_events_go_as_completed_ones_do(target: &dyn Target) {
    let kit = Kit::new(target);
    let first = processed(&kit, &["a"]).await;
    kit.pass(OVER).await;
    let second = processed(&kit, &["a"]).await;
    let never = forgetful().completed_for(None);
    assert_eq!(counts(&prune(&kit, &never).await), (0, 0));
    assert_eq!(left(&kit).await, [first[0].id, second[0].id]);
    assert_eq!(counts(&prune(&kit, &all()).await), (1, 0));
    assert_eq!(left(&kit).await, [second[0].id]);
}

/// An event that has not been processed never goes, however old it is.
pub async fn unprocessed_events_never_go(target: &dyn Target) {
    let kit = Kit::new(target);
    let events = kit.raise(&["a"; 3]).await;
    let mut session = kit.session().await;
    let claim = EventClaim::new(kit.owner, 2 * OVER, 2);
    let claimed = session.events().claim(&claim).await.unwrap();
    let failure = EventFailure::new(claimed[0].event.id, claimed[0].attempt, "no", BACKOFF);
    session.events().fail(&[failure]).await.unwrap();
    kit.pass(OVER).await;
    assert_eq!(counts(&prune(&kit, &forgetful()).await), (0, 0));
    assert_eq!(left(&kit).await.len(), events.len());
    assert_eq!(session.events().count_unprocessed().await.unwrap(), 3);
}

/// A request that runs again keeps its event, and the time begins anew when it ends again.
pub async fn what_runs_again_stays(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("a", "h", 50, 5)]).await;
    processed(&kit, &["a"]).await;
    let request = kit.claim_one("h").await;
    kit.settle(&request, Outcome::Completed).await;
    kit.pass(OVER).await;
    kit.reexecute(request.id).await;
    assert_eq!(counts(&prune(&kit, &all()).await), (0, 0));
    complete_one(&kit, "h").await;
    assert_eq!(counts(&prune(&kit, &all()).await), (0, 0));
    kit.pass(OVER).await;
    assert_eq!(counts(&prune(&kit, &all()).await), (1, 1));
}

/// A call deletes no more than its limit, the next one goes on where it ended, and events that stay
/// keep nobody from those behind them.
pub async fn bounded_batches_go_on_where_the_last_one_ended(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("a", "h", 50, 5), ("stays", "h", 50, 5)])
        .await;
    let names = [["stays"; 5].as_slice(), ["a"; 7].as_slice()].concat();
    let events = processed(&kit, &names).await;
    for request in kit.claim(&["h"], ALL).await {
        if request.event.name == "a" {
            kit.settle(&request, Outcome::Completed).await;
        }
    }
    kit.pass(OVER).await;
    let mut part = forgetful();
    part.limit = 2;
    let mut total = 0;
    for _ in 0..names.len() {
        let pruned = prune(&kit, &part).await;
        assert!(pruned.events <= 2, "{pruned:?}");
        total += pruned.events;
        match pruned.next {
            Some(next) => part.after = Some(next),
            None => break,
        }
    }
    assert_eq!(total, 7);
    let stayed: Vec<_> = events[..5].iter().map(|event| event.id).collect();
    assert_eq!(left(&kit).await, stayed);
}

/// The comfortable form goes over everything, in batches.
pub async fn all_batches_of_a_prune_add_up(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("a", "h", 50, 5)]).await;
    processed(&kit, &["a"; 7]).await;
    settle_all(&kit, "h", Outcome::Completed).await;
    kit.pass(OVER).await;
    let mut part = all();
    part.limit = 3;
    let pruned = kit.store.prune_all(part).await.unwrap();
    assert_eq!((counts(&pruned), pruned.next), ((7, 7), None));
}

/// A batch of no events would never come to an end.
pub async fn a_prune_without_a_limit_is_refused(target: &dyn Target) {
    let kit = Kit::new(target);
    let mut session = kit.session().await;
    let error = session.events().prune(&Prune::new(0)).await.unwrap_err();
    assert!(matches!(error, StoreError::Invalid { .. }), "{error:?}");
    assert!(error.to_string().contains("limit"), "{error}");
}

/// What another transaction has locked is skipped, not waited for, and goes another time.
pub async fn a_prune_skips_what_is_locked(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("a", "h", 50, 5), ("a", "i", 50, 5)]).await;
    let events = processed(&kit, &["a"; 3]).await;
    settle_all(&kit, "h", Outcome::Completed).await;
    settle_all(&kit, "i", Outcome::Completed).await;
    kit.pass(OVER).await;
    if kit.concurrent_writers() {
        let mut session = kit.session().await;
        let requests = session.handler_requests().of_event(events[1].id).await;
        let mut tx = kit.begin().await;
        tx.events()
            .find_for_update(events[0].id, LockMode::Wait)
            .await
            .unwrap();
        tx.handler_requests()
            .reexecute(requests.unwrap()[1].id)
            .await
            .unwrap();
        assert_eq!(counts(&prune(&kit, &all()).await), (1, 2));
        tx.rollback().await.unwrap();
        assert_eq!(left(&kit).await, [events[0].id, events[1].id]);
        assert_eq!(counts(&prune(&kit, &all()).await), (2, 4));
    } else {
        assert_eq!(counts(&prune(&kit, &all()).await), (3, 6));
    }
    assert_eq!(left(&kit).await, []);
}

/// Several who prune at the same time disturb neither each other nor those who work.
pub async fn concurrent_prunes_delete_each_event_once(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("a", "h", 50, 5), ("a", "i", 50, 5)]).await;
    processed(&kit, &["a"; 60]).await;
    settle_all(&kit, "h", Outcome::Completed).await;
    settle_all(&kit, "i", Outcome::Completed).await;
    kit.pass(OVER).await;
    let open = kit.raise(&["a"; 10]).await;
    kit.fan_out().await;
    let pruners: Vec<_> = (0..4)
        .map(|_| {
            let (store, mut part) = (kit.target.store(), all());
            part.limit = 7;
            tokio::spawn(async move { store.prune_all(part).await.unwrap() })
        })
        .collect();
    assert_eq!(kit.claim(&["h", "i"], ALL).await.len(), 20);
    let mut total = prune(&kit, &all()).await;
    for pruner in pruners {
        let pruned = pruner.await.unwrap();
        total.events += pruned.events;
        total.requests += pruned.requests;
    }
    // Two who each had locked a part of an event have left it both.
    let rest = prune(&kit, &all()).await;
    let events = total.events + rest.events;
    assert_eq!((events, total.requests + rest.requests), (60, 120));
    let open: Vec<_> = open.iter().map(|event| event.id).collect();
    assert_eq!(left(&kit).await, open);
}

/// A transaction sees what it deletes, others do not before the commit, and a rollback undoes it.
pub async fn a_rolled_back_prune_never_happened(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("a", "h", 50, 5)]).await;
    let event = processed(&kit, &["a"]).await[0].clone();
    settle_all(&kit, "h", Outcome::Completed).await;
    kit.pass(OVER).await;
    let filter = RequestFilter::default().in_states([RequestState::Completed]);
    for commit in [false, true] {
        let mut tx = kit.begin().await;
        let pruned = tx.events().prune(&all()).await.unwrap();
        assert_eq!(counts(&pruned), (1, 1));
        assert_eq!(tx.events().find(event.id).await.unwrap(), None);
        let everything = EventFilter::default();
        assert_eq!(tx.events().count(&everything).await.unwrap(), 0);
        let of_event = tx.handler_requests().of_event(event.id).await;
        assert_eq!(of_event.unwrap(), []);
        assert_eq!(tx.handler_requests().count(&filter).await.unwrap(), 0);
        assert_eq!(left(&kit).await, [event.id], "not before the commit");
        if commit {
            tx.commit().await.unwrap();
            assert_eq!(left(&kit).await, []);
        } else {
            tx.rollback().await.unwrap();
            assert_eq!(left(&kit).await, [event.id]);
        }
    }
}

/// What is gone cannot be replayed.
pub async fn a_replay_after_a_prune_finds_nothing(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("a", "h", 50, 5)]).await;
    processed(&kit, &["a"; 2]).await;
    settle_all(&kit, "h", Outcome::Completed).await;
    kit.pass(OVER).await;
    prune(&kit, &all()).await;
    let mut session = kit.session().await;
    let everything = Replay::new(EventFilter::default(), ALL);
    let replayed = session.handler_requests().replay(&everything).await;
    assert_eq!(replayed.unwrap(), Replayed::default());
    assert_eq!(left(&kit).await, []);
}

/// A request that a replay is making keeps its event from a prune, and a replay waits for a prune
/// under way: no request is left without its event.
pub async fn a_prune_and_a_replay_in_flight_obey_each_other(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("a", "h", 50, 5)]).await;
    let event = processed(&kit, &["a"]).await[0].id;
    settle_all(&kit, "h", Outcome::Completed).await;
    kit.pass(OVER).await;
    kit.register(&[("a", "new", 50, 5)]).await;
    let to_new = Replay::new(EventFilter::default(), ALL).to_handlers(["new"]);
    let mut tx = kit.begin().await;
    let replayed = tx.handler_requests().replay(&to_new).await.unwrap();
    assert_eq!(replayed.created, 1);
    if kit.concurrent_writers() {
        assert_eq!(counts(&prune(&kit, &all()).await), (0, 0));
    }
    tx.commit().await.unwrap();
    assert_eq!(counts(&prune(&kit, &all()).await), (0, 0));
    assert_eq!(left(&kit).await, [event]);
    complete_one(&kit, "new").await;
    kit.pass(OVER).await;

    kit.register(&[("a", "newer", 50, 5)]).await;
    let mut tx = kit.begin().await;
    assert_eq!(counts(&tx.events().prune(&all()).await.unwrap()), (1, 2));
    let store = kit.target.store();
    let everything = Replay::new(EventFilter::default(), ALL);
    let replay = tokio::spawn(async move { store.replay_all(everything).await.unwrap() });
    tokio::time::sleep(WATCH).await;
    assert!(!replay.is_finished(), "the prune might be rolled back");
    tx.commit().await.unwrap();
    assert_eq!(replay.await.unwrap(), Replayed::default());
    let mut session = kit.session().await;
    let filter = RequestFilter::default();
    assert_eq!(session.handler_requests().count(&filter).await.unwrap(), 0);
    let newer = session.handler_requests().of_event(event).await;
    assert_eq!(newer.unwrap(), []);
}

/// An id that is gone is a new one to whoever raises it, also in the transaction that deleted it,
/// and gets its handlers again.
pub async fn an_id_that_is_gone_can_be_raised_anew(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("a", "h", 50, 5)]).await;
    let event = processed(&kit, &["a"]).await;
    for inside in [false, true] {
        settle_all(&kit, "h", Outcome::Completed).await;
        kit.pass(OVER).await;
        let mut tx = kit.begin().await;
        assert_eq!(tx.events().prune(&all()).await.unwrap().events, 1);
        let raised = if inside {
            let raised = tx.events().raise(&event).await.unwrap();
            assert_eq!(tx.events().count_unprocessed().await.unwrap(), 1);
            tx.commit().await.unwrap();
            raised
        } else {
            tx.commit().await.unwrap();
            kit.session().await.events().raise(&event).await.unwrap()
        };
        assert_eq!(raised, [Raised::New]);
        assert_eq!(kit.fan_out().await.processed.len(), 1);
        assert_eq!(left(&kit).await, [event[0].id]);
    }
    assert_eq!(kit.claim(&["h"], ALL).await.len(), 1);
}

/// What has ended goes after [`KEPT`].
fn forgetful() -> Prune {
    all().canceled_for(Some(KEPT)).dead_for(Some(KEPT))
}

/// What completed goes after [`KEPT`].
fn all() -> Prune {
    Prune::new(ALL).completed_for(Some(KEPT))
}

fn counts(pruned: &Pruned) -> (u64, u64) {
    (pruned.events, pruned.requests)
}

async fn processed(kit: &Kit<'_>, names: &[&str]) -> Vec<Event> {
    let events = kit.raise(names).await;
    assert_eq!(kit.fan_out().await.processed.len(), names.len());
    events
}

/// Claims all requests of a handler and ends them so.
async fn settle_all(kit: &Kit<'_>, handler: &str, outcome: Outcome) {
    for request in kit.claim(&[handler], ALL).await {
        kit.settle(&request, outcome.clone()).await;
    }
}

async fn complete_one(kit: &Kit<'_>, handler: &str) {
    let request = kit.claim_one(handler).await;
    kit.settle(&request, Outcome::Completed).await;
}

async fn prune(kit: &Kit<'_>, prune: &Prune) -> Pruned {
    let mut session = kit.session().await;
    session.events().prune(prune).await.unwrap()
}

/// The events that are there.
async fn left(kit: &Kit<'_>) -> Vec<EventId> {
    let mut session = kit.session().await;
    let page = Page::first(ALL);
    let events = session.events().list(&EventFilter::default(), &page).await;
    let events = events.unwrap().into_iter();
    events.map(|stored| stored.event.id).collect()
}
