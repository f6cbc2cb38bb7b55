//! Wake-ups: a store raises them for its own commits, and only once those can be seen.

use super::{
    Target,
    kit::{ALL, Kit, event, failed},
};
use crate::{model::Outcome, signal::Signal, store::Settlement};

/// A commit with new events is told; a rollback and a raise that changed nothing need not be.
pub async fn raised_events_are_told_at_the_commit(target: &dyn Target) {
    let kit = Kit::new(target);
    let signal = kit.store.signals().raised;
    let seen = signal.seen();
    let mut tx = kit.begin().await;
    tx.events().raise(&[event("a")]).await.unwrap();
    assert_eq!(signal.seen(), seen, "not before the commit");
    tx.rollback().await.unwrap();
    assert_eq!(signal.seen(), seen, "not at a rollback");
    let mut tx = kit.begin().await;
    tx.events().raise(&[event("a")]).await.unwrap();
    tx.commit().await.unwrap();
    assert!(told(&signal, seen));
    let seen = signal.seen();
    kit.raise(&["a"]).await;
    assert!(told(&signal, seen), "a session commits at each call");
}

/// Events that a handler raised are told with its settlement.
pub async fn events_raised_with_a_settlement_are_told(target: &dyn Target) {
    let kit = Kit::new(target);
    let request = kit.executing("h").await;
    let signal = kit.store.signals().raised;
    let seen = signal.seen();
    let settlement = Settlement {
        raised: vec![event("a")],
        ..kit.settlement(&request, Outcome::Completed)
    };
    kit.settle_as(settlement).await;
    assert!(told(&signal, seen));
}

/// Whatever makes a request claimable is told.
pub async fn ready_requests_are_told(target: &dyn Target) {
    let kit = Kit::new(target);
    let signal = kit.store.signals().ready;
    let seen = signal.seen();
    kit.pending("h", 1).await;
    assert!(told(&signal, seen), "fan-out");

    let request = kit.claim_one("h").await;
    let seen = signal.seen();
    let mut session = kit.session().await;
    let fences = [(request.id, request.attempt)];
    session
        .handler_requests()
        .hand_back(kit.owner, &fences)
        .await
        .unwrap();
    assert!(told(&signal, seen), "hand back");

    kit.claim_one("h").await;
    let seen = signal.seen();
    kit.lose_all().await;
    assert!(told(&signal, seen), "rescue");

    let request = kit.claim_one("h").await;
    kit.settle(&request, failed("no")).await;
    let seen = signal.seen();
    session
        .handler_requests()
        .run_now(request.id)
        .await
        .unwrap();
    assert!(told(&signal, seen), "run now");

    kit.cancel(request.id).await;
    let seen = signal.seen();
    kit.reexecute(request.id).await;
    assert!(told(&signal, seen), "reexecute");

    let request = kit.claim_one("h").await;
    kit.settle(
        &request,
        Outcome::Discarded {
            reason: "no".into(),
        },
    )
    .await;
    let seen = signal.seen();
    let all = crate::store::RequestFilter::default();
    session
        .handler_requests()
        .reexecute_dead(&all, ALL)
        .await
        .unwrap();
    assert!(told(&signal, seen), "reexecute dead");
}

/// Settlements, cancels, reexecutions and rescues are told to who waits for ends.
pub async fn settled_requests_are_told(target: &dyn Target) {
    let kit = Kit::new(target);
    let signal = kit.store.signals().settled;
    let request = kit.executing("h").await;
    let seen = signal.seen();
    kit.settle(&request, failed("no")).await;
    assert!(told(&signal, seen), "settle");

    let seen = signal.seen();
    kit.cancel(request.id).await;
    assert!(told(&signal, seen), "cancel");

    let seen = signal.seen();
    kit.reexecute(request.id).await;
    assert!(told(&signal, seen), "reexecute");

    kit.claim_one("h").await;
    let seen = signal.seen();
    kit.lose_all().await;
    assert!(told(&signal, seen), "rescue");
}

/// Who waits for a signal sees the work when it wakes.
pub async fn who_wakes_sees_the_work(target: &dyn Target) {
    let kit = Kit::new(target);
    let (store, signal) = (kit.target.store(), kit.store.signals().raised);
    let seen = signal.seen();
    let waiter = tokio::spawn(async move {
        signal.changed_since(seen).await;
        let mut session = store.session().await.unwrap();
        session.events().count_unprocessed().await.unwrap()
    });
    let mut tx = kit.begin().await;
    tx.events().raise(&[event("a"), event("b")]).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(waiter.await.unwrap(), 2);
}

fn told(signal: &Signal, seen: u64) -> bool {
    signal.seen() > seen
}
