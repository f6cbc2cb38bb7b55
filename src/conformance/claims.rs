//! Claiming requests: the order, the bounds, and what stands in nobody's way.

use std::{sync::Arc, time::Duration};

use super::{
    Target,
    kit::{ALL, BACKOFF, Kit, LEASE, event, failed, rooms},
};
use crate::{
    id::{HandlerRequestId, LeaseOwner},
    model::{Outcome, RequestState},
    store::{Claim, ClaimedBatch},
};

/// The most urgent first, then by id, over all handlers.
pub async fn requests_come_by_priority_then_id(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[
        ("a", "h", 50, 5),
        ("b", "h", 10, 5),
        ("b", "i", 50, 5),
        ("c", "i", 0, 5),
    ])
    .await;
    kit.raise(&["a", "b", "c", "a", "b", "a", "c"]).await;
    kit.fan_out().await;
    let mut order = Vec::new();
    loop {
        let claimed = kit.claim(&["i", "h"], 2).await;
        assert!(claimed.is_sorted_by_key(|request| (request.priority, request.id)));
        if claimed.is_empty() {
            break;
        }
        order.extend(claimed.iter().map(|request| (request.priority, request.id)));
    }
    assert_eq!(order.len(), 9);
    assert!(order.is_sorted(), "{order:?}");
}

/// What an executor gets tells everything it needs.
pub async fn a_claimed_request_tells_what_an_executor_needs(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("a", "h", 7, 3), ("a", "i", 8, 4)]).await;
    let events = kit.raise(&["a"]).await;
    kit.fan_out().await;
    let claimed = kit.claim(&["h", "i"], ALL).await;
    assert_eq!(*claimed[0].event, events[0]);
    assert!(
        Arc::ptr_eq(&claimed[0].event, &claimed[1].event),
        "one batch shares its events"
    );
    assert_eq!(claimed[0].id, HandlerRequestId::derive(events[0].id, "h"));
    assert_eq!(
        (
            &*claimed[0].handler,
            claimed[0].priority.get(),
            claimed[0].max_errors
        ),
        ("h", 7, 3)
    );
    assert_eq!(
        (claimed[0].errors, claimed[0].executions, claimed[0].rescues),
        (0, 0, 0)
    );
    let stored = kit.find(claimed[0].id).await;
    assert_eq!(stored.attempt, claimed[0].attempt);
    assert_eq!(stored.lease.unwrap().owner, kit.owner);
    assert_eq!((stored.executions, stored.last_execution_at), (0, None));
    kit.settle(&claimed[0], failed("no")).await;
    kit.pass(BACKOFF).await;
    let again = kit.claim_one("h").await;
    assert_eq!(
        (again.attempt, again.errors, again.executions),
        (claimed[0].attempt + 1, 1, 1)
    );
    assert_eq!(kit.find(again.id).await.backoff_until, None);
}

/// The limit bounds all, the room each handler; no room and no handlers get nothing.
pub async fn limit_and_room_bound_a_claim(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("a", "h", 1, 5), ("a", "i", 2, 5), ("a", "j", 3, 5)])
        .await;
    kit.raise(&["a"; 5]).await;
    kit.fan_out().await;
    for (limit, rooms, expected) in [
        (0, &[("h", 9)][..], ""),
        (9, &[], ""),
        (9, &[("h", 0), ("i", 1)], "i"),
        (3, &[("h", 2), ("i", 2), ("j", 2)], "hhi"),
        (9, &[("h", 2), ("i", 9), ("j", 2)], "hhiiijj"),
        (9, &[("h", 9), ("i", 9)], "h"),
    ] {
        let claimed = claim(&kit, limit, rooms).await.requests;
        let handlers: String = claimed.iter().map(|request| &*request.handler).collect();
        assert_eq!(handlers, expected);
    }
}

/// A handler that this process does not have keeps its requests, untouched.
pub async fn requests_of_unknown_handlers_are_left_alone(target: &dyn Target) {
    let kit = Kit::new(target);
    let ids = kit.pending("theirs", 3).await;
    let before = kit.find(ids[0]).await;
    kit.pending("mine", 1).await;
    assert_eq!(
        kit.claim(&["mine", "nobody's", "their", "theirs "], ALL)
            .await
            .len(),
        1
    );
    assert_eq!(kit.find(ids[0]).await, before);
    assert_eq!(kit.claim(&["theirs"], ALL).await.len(), 3);
}

/// Executing, backing-off and ended requests are not claimed.
pub async fn only_pending_requests_are_claimed(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.pending("h", 6).await;
    let claimed = kit.claim(&["h"], 5).await;
    let discarded = Outcome::Discarded {
        reason: "no".into(),
    };
    let canceled = Outcome::Canceled {
        reason: "no".into(),
    };
    for (request, outcome) in
        claimed
            .iter()
            .zip([Outcome::Completed, failed("no"), discarded, canceled])
    {
        kit.settle(request, outcome).await;
    }
    assert_eq!(kit.claim(&["h"], ALL).await.len(), 1);
    assert_eq!(kit.claim(&["h"], ALL).await.len(), 0);
}

/// The answer tells how long to sleep when there is too little to do.
pub async fn the_next_due_request_is_told(target: &dyn Target) {
    let kit = Kit::new(target);
    assert_eq!(claim(&kit, 5, &[("h", 5)]).await, ClaimedBatch::default());
    for (handler, minutes) in [("h", 30), ("h", 20), ("i", 10)] {
        let request = kit.executing(handler).await;
        let backoff = Duration::from_secs(60 * minutes);
        kit.settle(
            &request,
            Outcome::Failed {
                error: "no".into(),
                backoff,
            },
        )
        .await;
    }
    kit.pending("h", 2).await;
    let full = claim(&kit, 1, &[("h", 5)]).await;
    assert_eq!(
        (full.requests.len(), full.next_due),
        (1, None),
        "the limit was reached"
    );
    let rest = claim(&kit, 5, &[("h", 5)]).await;
    assert_eq!(rest.requests.len(), 1);
    let minutes = rest.next_due.unwrap().as_secs_f64() / 60.0;
    assert!(
        minutes > 15.0 && minutes <= 20.0,
        "{minutes}: i is not asked for"
    );
    kit.pass(Duration::from_secs(60 * 20)).await;
    let due = claim(&kit, 5, &[("h", 5)]).await;
    assert_eq!(due.requests.len(), 1);
    assert!(due.next_due.is_some());
}

/// A claim that gets less than it might tells whether a claim of suspects would find one.
pub async fn suspects_that_wait_are_told(target: &dyn Target) {
    let kit = Kit::new(target);
    let suspect = kit.suspect("h").await;
    kit.pending("i", 2).await;
    let waits = async |rooms: &[(&str, usize)]| claim(&kit, 5, rooms).await.suspect_waits;
    assert!(waits(&[("h", 1)]).await);
    assert!(waits(&[("i", 1), ("h", 1)]).await, "beside another handler");
    assert!(!waits(&[("i", 1)]).await, "it is not asked for");
    assert!(!waits(&[("h", 0)]).await, "there is no room for it");
    let mut session = kit.session().await;
    let asked = kit.claim_of(&["h"], 1);
    let claimed = session.handler_requests().claim_suspect(&asked).await;
    let claimed = claimed.unwrap().requests.remove(0);
    assert_eq!(claimed.id, suspect);
    assert!(!waits(&[("h", 1)]).await, "it executes");
    kit.settle(&claimed, failed("no")).await;
    assert!(!waits(&[("h", 1)]).await, "it backs off");
    kit.pass(BACKOFF).await;
    assert!(waits(&[("h", 1)]).await);
}

/// Thousands of requests that back off, died, ended, run or belong to others do not hide a good one.
pub async fn rows_that_cannot_run_delay_no_other(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[
        ("bad", "h", 0, 2),
        ("unknown", "unknown", 0, 5),
        ("good", "h", 100, 5),
    ])
    .await;
    kit.raise(&vec!["bad"; 10_000]).await;
    kit.raise(&vec!["unknown"; 10_000]).await;
    kit.fan_out().await;
    let claimed = kit.claim(&["h"], 10_000).await;
    assert_eq!(claimed.len(), 10_000);
    let settlements: Vec<_> = claimed
        .iter()
        .take(8000)
        .enumerate()
        .map(|(number, request)| {
            let outcome = match number % 4 {
                0 => failed("poisonous"),
                1 => Outcome::Discarded {
                    reason: "poisonous".into(),
                },
                2 => Outcome::Canceled {
                    reason: "poisonous".into(),
                },
                _ => Outcome::Completed,
            };
            kit.settlement(request, outcome)
        })
        .collect();
    let mut session = kit.session().await;
    session
        .handler_requests()
        .settle(&settlements)
        .await
        .unwrap();
    let good = kit.raise(&["good"]).await;
    kit.fan_out().await;
    let claimed = kit.claim(&["h"], 1).await;
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].event.id, good[0].id);
}

/// However many processes claim at once, no request goes to two of them, and none is left.
pub async fn concurrent_claimers_never_get_the_same_request(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.pending("h", 400).await;
    let claimers: Vec<_> = (0..8)
        .map(|number| {
            let store = kit.target.store();
            let mut claim = kit.claim_of(&["h"], 1 + number);
            claim.owner = LeaseOwner::new();
            tokio::spawn(async move {
                let mut session = store.session().await.unwrap();
                let mut ids = Vec::new();
                loop {
                    let batch = session.handler_requests().claim(&claim).await.unwrap();
                    assert!(batch.requests.iter().all(|request| request.attempt == 1));
                    if batch.requests.is_empty() {
                        return ids;
                    }
                    ids.extend(batch.requests.into_iter().map(|request| request.id));
                }
            })
        })
        .collect();
    let mut ids = Vec::new();
    for claimer in claimers {
        ids.extend(claimer.await.unwrap());
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 400);
}

/// A claim that was rolled back never happened.
pub async fn a_rolled_back_claim_never_happened(target: &dyn Target) {
    let kit = Kit::new(target);
    let id = kit.pending("h", 1).await[0];
    let before = kit.find(id).await;
    let mut tx = kit.begin().await;
    let batch = tx
        .handler_requests()
        .claim(&kit.claim_of(&["h"], ALL))
        .await
        .unwrap();
    assert_eq!(batch.requests.len(), 1);
    drop(tx);
    // A server undoes it when it hears of it; who waits for the row's lock waits for that.
    let mut waits = kit.begin().await;
    let lock = crate::store::LockMode::Wait;
    let found = waits.handler_requests().find_for_update(id, lock).await;
    assert_eq!(found.unwrap(), Some(before.clone()));
    waits.rollback().await.unwrap();
    assert_eq!(kit.claim_one("h").await.attempt, before.attempt + 1);
}

/// A claim skips what another transaction has locked, and gets it afterwards.
pub async fn claims_skip_locked_requests(target: &dyn Target) {
    let kit = Kit::new(target);
    let ids = kit.pending("h", 3).await;
    if kit.concurrent_writers() {
        let mut tx = kit.begin().await;
        let lock = crate::store::LockMode::Wait;
        tx.handler_requests()
            .find_for_update(ids[0], lock)
            .await
            .unwrap();
        let claimed = kit.claim(&["h"], 1).await;
        assert_eq!(claimed[0].id, ids[1]);
        tx.rollback().await.unwrap();
    } else {
        assert_eq!(kit.claim(&["h"], 1).await.len(), 1);
    }
    assert_eq!(kit.claim(&["h"], ALL).await.len(), 2);
}

/// A request under suspicion is claimed alone, and its execution begins with the claim.
pub async fn suspects_are_claimed_alone(target: &dyn Target) {
    let kit = Kit::new(target);
    let first = kit.suspect("h").await;
    let rooms = [("h", 5)];
    let mut session = kit.session().await;
    assert_eq!(claim(&kit, 5, &rooms).await.requests, []);
    let asked = kit.claim_of(&["other"], 1);
    assert_eq!(
        session
            .handler_requests()
            .claim_suspect(&asked)
            .await
            .unwrap()
            .requests,
        []
    );
    for nothing in [claim_for(&kit, 0, &rooms), claim_for(&kit, 5, &[("h", 0)])] {
        assert_eq!(
            session
                .handler_requests()
                .claim_suspect(&nothing)
                .await
                .unwrap()
                .requests,
            []
        );
    }
    let asked = kit.claim_of(&["h"], 5);
    let suspect = session
        .handler_requests()
        .claim_suspect(&asked)
        .await
        .unwrap()
        .requests
        .remove(0);
    assert_eq!((suspect.id, suspect.rescues, suspect.errors), (first, 3, 0));
    assert_eq!(
        suspect.executions, 0,
        "its own execution is not one before it"
    );
    let stored = kit.find(first).await;
    assert_eq!((stored.executions, stored.attempt), (1, suspect.attempt));
    assert!(stored.last_execution_at.is_some());
    assert_eq!(
        session
            .handler_requests()
            .claim_suspect(&asked)
            .await
            .unwrap()
            .requests,
        []
    );
    kit.settle(&suspect, Outcome::Completed).await;
    let stored = kit.find(first).await;
    assert_eq!(
        stored.executions, 1,
        "the settlement does not count it again"
    );
    assert_eq!(kit.state(first).await, RequestState::Completed);
}

/// A claim of suspects takes none that is not.
pub async fn a_claim_of_suspects_takes_no_other(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.pending("h", 1).await;
    let mut session = kit.session().await;
    let asked = kit.claim_of(&["h"], 5);
    assert_eq!(
        session
            .handler_requests()
            .claim_suspect(&asked)
            .await
            .unwrap()
            .requests,
        []
    );
    assert_eq!(kit.claim(&["h"], ALL).await.len(), 1);
}

/// A request of an event that this very transaction has raised can be claimed in it.
pub async fn a_transaction_claims_what_it_has_made(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("a", "h", 50, 5)]).await;
    let raised = event("a");
    let mut tx = kit.begin().await;
    tx.events()
        .raise(std::slice::from_ref(&raised))
        .await
        .unwrap();
    let fan_out = crate::store::FanOut::due(ALL);
    assert_eq!(
        tx.events().fan_out(&fan_out).await.unwrap().processed.len(),
        1
    );
    let claimed = tx
        .handler_requests()
        .claim(&kit.claim_of(&["h"], ALL))
        .await
        .unwrap()
        .requests;
    assert_eq!(claimed.len(), 1);
    let settlement = kit.settlement(&claimed[0], Outcome::Completed);
    tx.handler_requests().settle(&[settlement]).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(kit.state(claimed[0].id).await, RequestState::Completed);
}

fn claim_for(kit: &Kit<'_>, limit: usize, of: &[(&str, usize)]) -> Claim {
    Claim {
        owner: kit.owner,
        lease: LEASE,
        limit,
        handlers: rooms(of),
    }
}

async fn claim(kit: &Kit<'_>, limit: usize, rooms: &[(&str, usize)]) -> ClaimedBatch {
    let claim = claim_for(kit, limit, rooms);
    let mut session = kit.session().await;
    session.handler_requests().claim(&claim).await.unwrap()
}
