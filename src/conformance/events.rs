//! Raising events, and processing them with claims and backoff.

use std::time::Duration;

use super::{
    Target,
    kit::{ALL, BACKOFF, Kit, LEASE, event},
};
use crate::{
    id::{CorrelationId, EventId, LeaseOwner},
    model::{Entity, Event, EventData, ExecutionError},
    store::{ClaimedEvent, EventClaim, EventFailure, FanOut, FannedOut, Raised, Selection},
};

/// Names, texts and times come back to the byte and the microsecond.
pub async fn an_event_is_read_back_as_it_was_raised(target: &dyn Target) {
    let kit = Kit::new(target);
    let data =
        "{\"größe\": 1.50, \"b\":1e400,  \"a\":\"日本語 🎉 \\u0000 'quoted' \\\\\", \"a\": null}";
    let timestamp = chrono::DateTime::UNIX_EPOCH + Duration::from_micros(1_767_225_600_123_457);
    let cause = event("cause");
    let raised = Event::from_data("größe.geändert.日本語", EventData::from_json(data).unwrap())
        .with_entity(Entity::new("Bestellung ‘x’ *", "日本/4711"))
        .with_timestamp(timestamp)
        .caused_by(&cause)
        .with_correlation_id(CorrelationId::from_uuid(uuid::Uuid::from_u128(7)))
        .with_header("tenant", "nörd\n'; --")
        .with_header("Tenant", "")
        .with_version(u16::MAX);
    let plain = event("plain");
    let mut session = kit.session().await;
    let answer = session
        .events()
        .raise(&[raised.clone(), plain.clone()])
        .await;
    assert_eq!(answer.unwrap(), [Raised::New, Raised::New]);
    for event in [raised, plain] {
        let stored = session.events().find(event.id).await.unwrap().unwrap();
        assert_eq!(*stored.event, event);
        assert_eq!(stored.event.data.as_str(), event.data.as_str());
        assert_eq!(stored.processed_at, None);
        assert_eq!(
            (stored.errors, stored.last_error, stored.backoff_until),
            (0, None, None)
        );
    }
}

/// The earliest and latest times, and large data.
pub async fn extremes_are_read_back(target: &dyn Target) {
    let kit = Kit::new(target);
    let long = format!("\"{}\"", "ä".repeat(400_000));
    let large = Event::from_data("x".repeat(255), EventData::from_json(long).unwrap());
    let before_1970 = chrono::DateTime::UNIX_EPOCH - Duration::from_micros(1);
    let old = event("old").with_timestamp(before_1970);
    let far = chrono::DateTime::UNIX_EPOCH + Duration::from_secs(200 * 365 * 86_400);
    let future = event("future").with_timestamp(far);
    let mut session = kit.session().await;
    for event in [large, old, future] {
        session
            .events()
            .raise(std::slice::from_ref(&event))
            .await
            .unwrap();
        let stored = session.events().find(event.id).await.unwrap().unwrap();
        assert_eq!(*stored.event, event);
    }
}

/// What is not there is not found, and an empty call does nothing.
pub async fn nothing_is_found_in_an_empty_store(target: &dyn Target) {
    let kit = Kit::new(target);
    let mut session = kit.session().await;
    assert_eq!(session.events().raise(&[]).await.unwrap(), []);
    assert_eq!(session.events().find(EventId::new()).await.unwrap(), None);
    assert_eq!(session.events().oldest_unprocessed().await.unwrap(), None);
    assert_eq!(session.events().count_unprocessed().await.unwrap(), 0);
    assert_eq!(kit.fan_out().await, FannedOut::default());
    assert_eq!(claim(&kit, ALL).await, []);
    session.events().fail(&[]).await.unwrap();
}

/// The first one stays, whatever the second one says.
pub async fn raising_an_id_again_changes_nothing(target: &dyn Target) {
    let kit = Kit::new(target);
    let (first, other) = (event("first"), event("other"));
    let again = event("again").with_id(first.id);
    let batch = [first.clone(), again.clone(), other.clone(), first.clone()];
    let mut session = kit.session().await;
    let raised = session.events().raise(&batch).await.unwrap();
    let expected = [
        Raised::New,
        Raised::AlreadyRaised,
        Raised::New,
        Raised::AlreadyRaised,
    ];
    assert_eq!(raised, expected);
    kit.fan_out().await;
    let raised = session
        .events()
        .raise(&[again, event("new")])
        .await
        .unwrap();
    assert_eq!(raised, [Raised::AlreadyRaised, Raised::New]);
    let stored = session.events().find(first.id).await.unwrap().unwrap();
    assert_eq!(*stored.event, first);
    assert!(stored.processed_at.is_some());
    assert_eq!(session.events().count_unprocessed().await.unwrap(), 1);
}

/// Unprocessed means neither processed nor gone; the oldest is so by id.
pub async fn unprocessed_events_are_counted_and_the_oldest_is_found(target: &dyn Target) {
    let kit = Kit::new(target);
    let (oldest, middle, newest) = (event("a"), event("b"), event("c"));
    let mut session = kit.session().await;
    for event in [&newest, &oldest, &middle] {
        session
            .events()
            .raise(std::slice::from_ref(event))
            .await
            .unwrap();
    }
    for left in [&oldest, &middle, &newest] {
        let found = session
            .events()
            .oldest_unprocessed()
            .await
            .unwrap()
            .unwrap();
        assert_eq!(*found.event, *left);
        assert_eq!(kit.fan_out_with(1, None).await.processed.len(), 1);
    }
    assert_eq!(session.events().oldest_unprocessed().await.unwrap(), None);
    assert_eq!(session.events().count_unprocessed().await.unwrap(), 0);
}

/// A claim takes due events, oldest first, and nobody else gets them meanwhile.
pub async fn a_claimed_event_is_nobody_elses(target: &dyn Target) {
    let kit = Kit::new(target);
    let events = kit.raise(&["a", "b", "c"]).await;
    let claimed = claim(&kit, 2).await;
    let ids: Vec<_> = claimed.iter().map(|claimed| claimed.event.id).collect();
    assert_eq!(ids, [events[0].id, events[1].id]);
    assert_eq!(*claimed[0].event, events[0]);
    assert!(
        claimed
            .iter()
            .all(|claimed| claimed.errors == 0 && claimed.attempt > 0)
    );
    let rest = kit.fan_out().await;
    assert_eq!(processed(&rest), [events[2].id]);
    assert_eq!(claim(&kit, ALL).await, []);
    let mut session = kit.session().await;
    assert_eq!(session.events().count_unprocessed().await.unwrap(), 2);
    let oldest = session
        .events()
        .oldest_unprocessed()
        .await
        .unwrap()
        .unwrap();
    assert_eq!(oldest.event.id, events[0].id);
}

/// The fan-out of claimed events needs their fence.
pub async fn only_held_claims_are_fanned_out(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("*", "h", 50, 5)]).await;
    let events = kit.raise(&["a", "b", "c"]).await;
    let claimed = claim(&kit, 2).await;
    let fences = vec![
        (claimed[0].event.id, claimed[0].attempt),
        (claimed[1].event.id, claimed[1].attempt + 1),
        (events[2].id, 0),
        (EventId::new(), 1),
    ];
    let fanned_out = fan_out_claimed(&kit, fences.clone()).await;
    assert_eq!(processed(&fanned_out), [events[0].id]);
    assert_eq!(fanned_out.processed[0].requests, 1);
    assert_eq!(processed(&fan_out_claimed(&kit, fences).await), []);
}

/// After its claim ran out an event can be claimed by others; the first claim is void then, and
/// only then.
pub async fn a_claim_that_ran_out_is_void_once_somebody_else_has_it(target: &dyn Target) {
    let kit = Kit::new(target);
    let events = kit.raise(&["a", "b"]).await;
    let first = claim(&kit, ALL).await;
    kit.pass(LEASE + Duration::from_secs(1)).await;
    let second = claim(&kit, 1).await;
    assert_eq!(second[0].event.id, events[0].id);
    assert!(second[0].attempt > first[0].attempt);
    let mut session = kit.session().await;
    let failures: Vec<_> = first.iter().map(failure).collect();
    session.events().fail(&failures[..1]).await.unwrap();
    let stored = session.events().find(events[0].id).await.unwrap().unwrap();
    assert_eq!(
        stored.errors, 0,
        "the void claim failed somebody else's event"
    );
    let fences = first
        .iter()
        .map(|claimed| (claimed.event.id, claimed.attempt))
        .collect();
    assert_eq!(
        processed(&fan_out_claimed(&kit, fences).await),
        [events[1].id]
    );
    let fences = vec![(second[0].event.id, second[0].attempt)];
    assert_eq!(
        processed(&fan_out_claimed(&kit, fences).await),
        [events[0].id]
    );
}

/// An event whose claim ran out is fanned out by whoever comes by.
pub async fn events_of_a_lost_process_are_due_again(target: &dyn Target) {
    let kit = Kit::new(target);
    let events = kit.raise(&["a"]).await;
    claim(&kit, ALL).await;
    assert_eq!(kit.fan_out().await.processed, []);
    kit.pass(LEASE + Duration::from_secs(1)).await;
    assert_eq!(processed(&kit.fan_out().await), [events[0].id]);
}

/// A vetoed event counts an error and backs off; it is due again afterwards.
pub async fn a_failed_event_backs_off(target: &dyn Target) {
    let kit = Kit::new(target);
    let events = kit.raise(&["a"]).await;
    let claimed = claim(&kit, ALL).await;
    let mut session = kit.session().await;
    session
        .events()
        .fail(&[failure(&claimed[0])])
        .await
        .unwrap();
    // The fence is used up.
    session
        .events()
        .fail(&[failure(&claimed[0])])
        .await
        .unwrap();
    let stored = session.events().find(events[0].id).await.unwrap().unwrap();
    assert_eq!(stored.errors, 1);
    assert!(stored.last_error.unwrap().starts_with("vetoed: ä"));
    assert!(stored.backoff_until.is_some());
    assert_eq!(claim(&kit, ALL).await, []);
    let nothing = kit.fan_out().await;
    assert_eq!(nothing.processed, []);
    let next_due = nothing.next_due.unwrap();
    assert!(
        next_due <= BACKOFF && next_due > BACKOFF / 2,
        "{next_due:?}"
    );
    assert_eq!(session.events().count_unprocessed().await.unwrap(), 1);
    kit.pass(BACKOFF + Duration::from_secs(1)).await;
    let claimed = claim(&kit, ALL).await;
    assert_eq!((claimed.len(), claimed[0].errors), (1, 1));
    let fences = vec![(claimed[0].event.id, claimed[0].attempt)];
    assert_eq!(
        processed(&fan_out_claimed(&kit, fences).await),
        [events[0].id]
    );
}

/// However long a message is, what is kept of it is bounded and still text.
pub async fn the_error_of_an_event_is_cut(target: &dyn Target) {
    let kit = Kit::new(target);
    let events = kit.raise(&["a"]).await;
    let claimed = claim(&kit, ALL).await;
    let error = "ä".repeat(ExecutionError::MAX_LEN);
    let mut session = kit.session().await;
    let failure = EventFailure {
        error,
        ..failure(&claimed[0])
    };
    session.events().fail(&[failure]).await.unwrap();
    let stored = session.events().find(events[0].id).await.unwrap().unwrap();
    let kept = stored.last_error.unwrap();
    assert!(kept.len() <= ExecutionError::MAX_LEN && kept.starts_with("ää") && kept.ends_with('…'));
}

/// Any number of vetoed and claimed events ahead of a good one do not stand in its way.
pub async fn vetoed_and_claimed_events_delay_no_other(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.raise(&["bad"; 1000]).await;
    let claimed = claim(&kit, 500).await;
    assert_eq!(claimed.len(), 500);
    let failures: Vec<_> = claimed.iter().map(failure).collect();
    let mut session = kit.session().await;
    session.events().fail(&failures).await.unwrap();
    assert_eq!(claim(&kit, 500).await.len(), 500);
    let good = kit.raise(&["good"]).await;
    assert_eq!(processed(&kit.fan_out_with(1, None).await), [good[0].id]);
}

/// Concurrent claimers share the events, each to one.
pub async fn concurrent_claimers_share_events(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.raise(&["a"; 200]).await;
    let claimers = (0..8).map(|_| {
        let store = kit.target.store();
        tokio::spawn(async move {
            let mut ids = Vec::new();
            let mut session = store.session().await.unwrap();
            loop {
                let claimed = session
                    .events()
                    .claim(&event_claim(LeaseOwner::new(), 7))
                    .await
                    .unwrap();
                if claimed.is_empty() {
                    return ids;
                }
                ids.extend(claimed.into_iter().map(|claimed| claimed.event.id));
            }
        })
    });
    let mut ids: Vec<EventId> = Vec::new();
    for claimer in claimers.collect::<Vec<_>>() {
        ids.extend(claimer.await.unwrap());
    }
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((count, ids.len()), (200, 200));
}

fn event_claim(owner: LeaseOwner, limit: usize) -> EventClaim {
    EventClaim {
        owner,
        lease: LEASE,
        limit,
    }
}

async fn claim(kit: &Kit<'_>, limit: usize) -> Vec<ClaimedEvent> {
    let mut session = kit.session().await;
    session
        .events()
        .claim(&event_claim(kit.owner, limit))
        .await
        .unwrap()
}

async fn fan_out_claimed(kit: &Kit<'_>, fences: Vec<(EventId, u64)>) -> FannedOut {
    let fan_out = FanOut::new(Selection::Claimed(fences));
    let mut session = kit.session().await;
    session.events().fan_out(&fan_out).await.unwrap()
}

fn failure(claimed: &ClaimedEvent) -> EventFailure {
    EventFailure {
        id: claimed.event.id,
        attempt: claimed.attempt,
        error: "vetoed: ä".to_owned(),
        backoff: BACKOFF,
    }
}

fn processed(fanned_out: &FannedOut) -> Vec<EventId> {
    fanned_out.processed.iter().map(|event| event.id).collect()
}
