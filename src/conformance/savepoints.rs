//! Savepoints: what is undone when a transaction goes back, and what stays.

use super::{
    Target,
    kit::{ALL, Kit, event},
};
use crate::{
    id::EventId,
    model::Outcome,
    store::{Settled, Transaction},
};

/// Raises an event of this name in a transaction.
async fn raise(tx: &mut dyn Transaction, name: &str) -> EventId {
    let raised = event(name);
    let id = raised.id;
    tx.events().raise(&[raised]).await.unwrap();
    id
}

/// A transaction, if the store has savepoints; else it says so when it is asked for one.
async fn begin(kit: &Kit<'_>) -> Option<Box<dyn Transaction>> {
    let mut tx = kit.begin().await;
    if kit.store.capabilities().savepoints {
        return Some(tx);
    }
    assert!(tx.savepoint().await.is_err());
    None
}

/// What came since the savepoint is undone, and nothing else, however often, whoever had the
/// connection in between.
pub async fn a_savepoint_keeps_what_came_before_and_undoes_what_came_after(target: &dyn Target) {
    let kit = Kit::new(target);
    for is_lent in [false, true] {
        let Some(mut tx) = begin(&kit).await else {
            return;
        };
        let mut kept = vec![raise(&mut *tx, "before").await];
        let mut undone = Vec::new();
        for _ in 0..3 {
            tx.savepoint().await.unwrap();
            if is_lent {
                let _ = tx.connection();
            }
            undone.push(raise(&mut *tx, "undone").await);
            undone.push(raise(&mut *tx, "undone, too").await);
            tx.rollback_to_savepoint().await.unwrap();
            // It stays.
            undone.push(raise(&mut *tx, "undone").await);
            tx.rollback_to_savepoint().await.unwrap();
            // Nothing came since.
            tx.rollback_to_savepoint().await.unwrap();
            kept.push(raise(&mut *tx, "kept").await);
            tx.savepoint().await.unwrap();
            kept.push(raise(&mut *tx, "kept, too").await);
            tx.savepoint().await.unwrap();
            tx.savepoint().await.unwrap();
        }
        undone.push(raise(&mut *tx, "undone").await);
        tx.rollback_to_savepoint().await.unwrap();
        for id in &undone {
            assert!(tx.events().find(*id).await.unwrap().is_none());
        }
        tx.commit().await.unwrap();
        for id in kept {
            assert!(kit.event_exists(id).await);
        }
        for id in undone {
            assert!(!kit.event_exists(id).await);
        }
    }
    let mut session = kit.session().await;
    assert_eq!(session.events().count_unprocessed().await.unwrap(), 14);
}

/// A rollback undoes what a savepoint had kept.
pub async fn a_rollback_undoes_what_savepoints_kept(target: &dyn Target) {
    let kit = Kit::new(target);
    let mut ids = Vec::new();
    for drops in [false, true] {
        let Some(mut tx) = begin(&kit).await else {
            return;
        };
        for _ in 0..2 {
            ids.push(raise(&mut *tx, "a").await);
            tx.savepoint().await.unwrap();
        }
        tx.rollback_to_savepoint().await.unwrap();
        if drops {
            drop(tx);
        } else {
            tx.rollback().await.unwrap();
        }
    }
    // Waits where only one can write.
    kit.begin().await.rollback().await.unwrap();
    for id in ids {
        assert!(!kit.event_exists(id).await);
    }
}

/// A settlement is undone with the rest; its lock may be kept, but no longer than the transaction.
pub async fn a_settlement_after_a_savepoint_is_undone(target: &dyn Target) {
    let kit = Kit::new(target);
    let Some(tx) = begin(&kit).await else {
        return;
    };
    tx.rollback().await.unwrap();
    kit.pending("h", 2).await;
    let claimed = kit.claim(&["h"], ALL).await;
    let settlements = claimed
        .iter()
        .map(|request| kit.settlement(request, Outcome::Completed));
    let settlements: Vec<_> = settlements.collect();
    let mut tx = kit.begin().await;
    let applied = tx.handler_requests().settle(&settlements[..1]).await;
    assert_eq!(applied.unwrap(), [Settled::Applied]);
    tx.savepoint().await.unwrap();
    let applied = tx.handler_requests().settle(&settlements[1..]).await;
    assert_eq!(applied.unwrap(), [Settled::Applied]);
    tx.rollback_to_savepoint().await.unwrap();
    tx.commit().await.unwrap();
    let settled = kit.settle(&claimed[0], Outcome::Completed).await;
    assert_eq!(settled, Settled::Fenced);
    let settled = kit.settle(&claimed[1], Outcome::Completed).await;
    assert_eq!(settled, Settled::Applied);
}

/// There is nothing to go back to, and nothing that such a transaction would commit unawares.
pub async fn without_a_savepoint_a_transaction_does_not_go_back(target: &dyn Target) {
    let kit = Kit::new(target);
    let Some(mut tx) = begin(&kit).await else {
        return;
    };
    let id = raise(&mut *tx, "a").await;
    assert!(tx.rollback_to_savepoint().await.is_err());
    drop(tx);
    kit.begin().await.rollback().await.unwrap();
    assert!(!kit.event_exists(id).await);
    // One of an earlier transaction on the same connection is not one of this.
    for _ in 0..2 {
        let mut tx = kit.begin().await;
        assert!(tx.rollback_to_savepoint().await.is_err());
        drop(tx);
        let mut tx = kit.begin().await;
        tx.savepoint().await.unwrap();
        raise(&mut *tx, "a").await;
        tx.commit().await.unwrap();
    }
}
