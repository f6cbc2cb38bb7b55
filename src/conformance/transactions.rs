//! Transactions: what they see, what they lock, and how they end.

use std::time::Duration;

use futures_util::TryStreamExt;

use super::{
    Target,
    kit::{ALL, Kit, WATCH, event, failed},
};
use crate::{
    error::StoreError,
    model::{Outcome, RequestState},
    raiser::Raiser,
    store::{
        EventFilter, FanOut, LockMode, Page, RENAME_BATCH, Raised, RequestFilter, Settled,
        StorerExt,
    },
};

/// Others see nothing of a transaction before its commit, and everything after it.
pub async fn what_is_not_committed_is_seen_inside_only(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("*", "h", 50, 5)]).await;
    let raised = event("a");
    let mut outside = kit.session().await;
    let mut tx = kit.begin().await;
    tx.events()
        .raise(std::slice::from_ref(&raised))
        .await
        .unwrap();
    assert_eq!(tx.events().count_unprocessed().await.unwrap(), 1);
    assert!(tx.events().find(raised.id).await.unwrap().is_some());
    assert!(tx.events().oldest_unprocessed().await.unwrap().is_some());
    assert_eq!(outside.events().count_unprocessed().await.unwrap(), 0);
    assert_eq!(outside.events().find(raised.id).await.unwrap(), None);
    assert_eq!(outside.events().oldest_unprocessed().await.unwrap(), None);
    tx.commit().await.unwrap();
    assert_eq!(outside.events().count_unprocessed().await.unwrap(), 1);
    assert!(outside.events().find(raised.id).await.unwrap().is_some());
}

/// A transaction's queries see its own changes of every kind.
pub async fn a_transaction_sees_its_own_changes(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("a", "h", 50, 5)]).await;
    let ids = kit.pending("h", 3).await;
    let claimed = kit.claim(&["h"], ALL).await;
    let mut tx = kit.begin().await;
    let settlements = [
        kit.settlement(&claimed[0], Outcome::Completed),
        kit.settlement(
            &claimed[1],
            Outcome::Discarded {
                reason: "no".into(),
            },
        ),
        kit.settlement(&claimed[2], failed("no")),
    ];
    tx.handler_requests().settle(&settlements).await.unwrap();
    tx.events().raise(&[event("a"), event("b")]).await.unwrap();
    let fan_out = FanOut::due(ALL);
    let fanned_out = tx.events().fan_out(&fan_out).await.unwrap();
    assert_eq!(fanned_out.processed.len(), 2);
    let new = tx
        .handler_requests()
        .of_event(fanned_out.processed[0].id)
        .await
        .unwrap();
    assert_eq!(new.len(), 1);
    let mut requests = tx.handler_requests();
    assert_eq!(requests.count_unexecuted().await.unwrap(), 2);
    assert_eq!(requests.count_dead().await.unwrap(), 1);
    assert_eq!(
        requests.oldest_unexecuted().await.unwrap().unwrap().id,
        ids[2].min(new[0].id)
    );
    assert_eq!(requests.dead_handler_names().await.unwrap(), ["h"]);
    assert_eq!(requests.dead_event_names().await.unwrap(), ["for.h"]);
    let all = RequestFilter::default();
    for (state, count) in RequestState::ALL.into_iter().zip([0, 1, 1, 0, 1, 1]) {
        let filter = RequestFilter {
            states: vec![state],
            ..all.clone()
        };
        assert_eq!(requests.count(&filter).await.unwrap(), count, "{state}");
        let listed = requests.list(&filter, &Page::first(ALL)).await.unwrap();
        assert_eq!(listed.len() as u64, count, "{state}");
    }
    assert_eq!(
        requests.dead(&all, &Page::first(ALL)).await.unwrap().len(),
        1
    );
    let streamed: Vec<_> = requests.stream(&all).try_collect().await.unwrap();
    assert_eq!(streamed.len(), 4);
    assert!(streamed.is_sorted_by_key(|request| request.id));
    drop(requests);
    assert_eq!(tx.events().count_unprocessed().await.unwrap(), 0);
    let events: Vec<_> = tx
        .events()
        .stream(&EventFilter::default())
        .try_collect()
        .await
        .unwrap();
    assert_eq!(events.len(), 5);
    tx.rollback().await.unwrap();
    let mut session = kit.session().await;
    assert_eq!(
        session.handler_requests().count_unexecuted().await.unwrap(),
        3
    );
    assert_eq!(session.handler_requests().count_dead().await.unwrap(), 0);
    assert_eq!(
        kit.settle(&claimed[0], Outcome::Completed).await,
        Settled::Applied
    );
}

/// A transaction that is dropped leaves nothing, and no lock.
pub async fn a_dropped_transaction_is_rolled_back(target: &dyn Target) {
    let kit = Kit::new(target);
    let request = kit.executing("h").await;
    let raised = event("a");
    let mut tx = kit.begin().await;
    tx.events()
        .raise(std::slice::from_ref(&raised))
        .await
        .unwrap();
    tx.handler_requests().cancel(request.id).await.unwrap();
    drop(tx);
    // A server may hear a moment later that it was dropped.
    let settling = async {
        loop {
            match kit.settle(&request, Outcome::Completed).await {
                Settled::Locked => tokio::time::sleep(Duration::from_millis(1)).await,
                settled => break settled,
            }
        }
    };
    let settled = tokio::time::timeout(Duration::from_secs(30), settling).await;
    assert_eq!(settled.expect("the lock is gone"), Settled::Applied);
    let mut session = kit.session().await;
    let answer = session
        .events()
        .raise(std::slice::from_ref(&raised))
        .await
        .unwrap();
    assert_eq!(answer, [Raised::New]);
}

/// The closure commits on `Ok` and rolls back on `Err`.
pub async fn the_closure_commits_or_rolls_back(target: &dyn Target) {
    let kit = Kit::new(target);
    let (kept, lost) = (event("kept"), event("lost"));
    let id = kept.id;
    let answer = kit
        .store
        .transaction(|tx| Box::pin(async move { tx.events().raise(&[kept]).await }))
        .await;
    assert_eq!(answer.unwrap(), [Raised::New]);
    assert!(kit.event_exists(id).await);
    let id = lost.id;
    let work = kit.store.transaction(|tx| {
        Box::pin(async move {
            tx.events().raise(&[lost]).await?;
            Err::<(), _>(StoreError::invalid("this", "fails", "nothing"))
        })
    });
    assert!(matches!(work.await, Err(StoreError::Invalid { .. })));
    assert!(!kit.event_exists(id).await);
}

/// The raiser raises in sessions and transactions, and in nothing that fails its checks.
pub async fn a_raiser_raises_in_the_callers_transaction(target: &dyn Target) {
    let kit = Kit::new(target);
    let raiser = Raiser::new(kit.store.signals());
    let mut tx = kit.begin().await;
    let [first, second] = [event("a"), event("b")];
    assert_eq!(
        raiser.raise(&mut *tx, first.clone()).await.unwrap(),
        Raised::New
    );
    let refused = raiser
        .raise_all(&mut *tx, vec![second.clone(), event(" bad")])
        .await;
    assert!(matches!(refused, Err(StoreError::Invalid { .. })));
    tx.commit().await.unwrap();
    assert!(kit.event_exists(first.id).await && !kit.event_exists(second.id).await);
    let mut session = kit.session().await;
    assert_eq!(
        raiser.raise(&mut *session, first).await.unwrap(),
        Raised::AlreadyRaised
    );
}

/// A raise waits for another one of the same id, and answers what became of it.
pub async fn a_raise_waits_for_one_in_flight(target: &dyn Target) {
    let kit = Kit::new(target);
    for commits in [true, false] {
        let raised = event("a");
        let mut tx = kit.begin().await;
        tx.events()
            .raise(std::slice::from_ref(&raised))
            .await
            .unwrap();
        let (store, again) = (kit.target.store(), event("again").with_id(raised.id));
        let other = tokio::spawn(async move {
            let mut session = store.session().await.unwrap();
            session.events().raise(&[again]).await.unwrap()[0]
        });
        tokio::time::sleep(WATCH).await;
        assert!(
            !other.is_finished(),
            "it must wait for the end of the first raise"
        );
        let (expected, name) = if commits {
            tx.commit().await.unwrap();
            (Raised::AlreadyRaised, "a")
        } else {
            tx.rollback().await.unwrap();
            (Raised::New, "again")
        };
        assert_eq!(other.await.unwrap(), expected);
        let mut session = kit.session().await;
        let stored = session.events().find(raised.id).await.unwrap().unwrap();
        assert_eq!(&*stored.event.name, name);
    }
}

/// A second writer of a row waits for the first, and then sees what it wrote.
pub async fn a_second_writer_waits_and_reads_again(target: &dyn Target) {
    let kit = Kit::new(target);
    let request = kit.executing("h").await;
    let mut tx = kit.begin().await;
    let settlement = kit.settlement(&request, Outcome::Completed);
    tx.handler_requests().settle(&[settlement]).await.unwrap();
    let store = kit.target.store();
    let other = tokio::spawn(async move {
        let mut session = store.session().await.unwrap();
        session.handler_requests().cancel(request.id).await
    });
    tokio::time::sleep(WATCH).await;
    assert!(!other.is_finished(), "it must wait for the lock");
    tx.commit().await.unwrap();
    super::kit::assert_refused(other.await.unwrap(), RequestState::Completed);
}

/// A row that was found for update stays as it is until the transaction ends.
pub async fn a_row_found_for_update_is_locked(target: &dyn Target) {
    let kit = Kit::new(target);
    let id = kit.pending("h", 1).await[0];
    let mut tx = kit.begin().await;
    let found = tx
        .handler_requests()
        .find_for_update(id, LockMode::Wait)
        .await
        .unwrap()
        .unwrap();
    let store = kit.target.store();
    let other = tokio::spawn(async move {
        let mut tx = store.begin().await.unwrap();
        let found = tx
            .handler_requests()
            .find_for_update(id, LockMode::Wait)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        found.unwrap()
    });
    tokio::time::sleep(WATCH).await;
    assert!(!other.is_finished(), "it must wait for the lock");
    let again = tx.handler_requests().find(id).await.unwrap().unwrap();
    assert_eq!(again, found);
    tx.handler_requests().cancel(id).await.unwrap();
    tx.commit().await.unwrap();
    assert!(
        other.await.unwrap().canceled_at.is_some(),
        "it reads the row again"
    );
}

/// Locked rows can be skipped; what is not there, too.
pub async fn locked_rows_can_be_skipped(target: &dyn Target) {
    let kit = Kit::new(target);
    let id = kit.pending("h", 1).await[0];
    let event = kit.raise(&["a"]).await.remove(0);
    let (wait, skip) = (LockMode::Wait, LockMode::SkipLocked);
    let mut tx = kit.begin().await;
    assert!(
        tx.handler_requests()
            .find_for_update(id, skip)
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        tx.handler_requests()
            .find_for_update(id, skip)
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        tx.events()
            .find_for_update(event.id, wait)
            .await
            .unwrap()
            .is_some()
    );
    if kit.concurrent_writers() {
        let mut other = kit.begin().await;
        assert_eq!(
            other
                .handler_requests()
                .find_for_update(id, skip)
                .await
                .unwrap(),
            None
        );
        assert_eq!(
            other
                .events()
                .find_for_update(event.id, skip)
                .await
                .unwrap(),
            None
        );
        assert!(
            other.handler_requests().find(id).await.unwrap().is_some(),
            "reading needs no lock"
        );
        let fan_out = FanOut::due(ALL);
        assert_eq!(
            other.events().fan_out(&fan_out).await.unwrap().processed,
            []
        );
        other.rollback().await.unwrap();
    }
    tx.rollback().await.unwrap();
    let unknown = crate::id::EventId::new();
    let mut session = kit.session().await;
    assert_eq!(
        session
            .events()
            .find_for_update(unknown, wait)
            .await
            .unwrap(),
        None
    );
    assert!(
        session
            .events()
            .find_for_update(event.id, skip)
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(kit.fan_out().await.processed.len(), 1);
}

/// Of two transactions that wait for each other one is told to run again; the other one goes on.
pub async fn a_deadlock_is_a_conflict_for_one(target: &dyn Target) {
    let kit = Kit::new(target);
    let ids = kit.pending("h", 2).await;
    if !kit.concurrent_writers() {
        // One writer at a time cannot wait for another one.
        let tx = kit.begin().await;
        let store = kit.target.store();
        let other = tokio::spawn(async move { store.begin().await.unwrap().rollback().await });
        tokio::time::sleep(WATCH).await;
        assert!(!other.is_finished(), "the second writer must wait");
        tx.rollback().await.unwrap();
        return other.await.unwrap().unwrap();
    }
    let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(2));
    let lockers: Vec<_> = [[ids[0], ids[1]], [ids[1], ids[0]]]
        .into_iter()
        .map(|[first, second]| {
            let (store, barrier) = (kit.target.store(), barrier.clone());
            tokio::spawn(async move {
                let mut tx = store.begin().await.unwrap();
                tx.handler_requests().cancel(first).await.unwrap();
                barrier.wait().await;
                tx.handler_requests().cancel(second).await?;
                tx.commit().await
            })
        })
        .collect();
    let mut answers = Vec::new();
    for locker in lockers {
        answers.push(locker.await.unwrap());
    }
    answers.sort_unstable_by_key(Result::is_err);
    assert!(answers[0].is_ok(), "{answers:?}");
    assert!(
        matches!(&answers[1], Err(error) if error.is_conflict()),
        "{answers:?}"
    );
    for id in ids {
        assert_eq!(kit.find(id).await.attempt, 1, "canceled once, not twice");
    }
}

/// Concurrent transactions that each count one error lose none.
pub async fn concurrent_transactions_lose_no_update(target: &dyn Target) {
    let kit = Kit::new(target);
    let id = kit.pending("h", 1).await[0];
    let workers: Vec<_> = (0..20)
        .map(|_| {
            let store = kit.target.store();
            tokio::spawn(async move {
                let work = store.transaction(|tx| {
                    Box::pin(async move {
                        let found = tx
                            .handler_requests()
                            .find_for_update(id, LockMode::Wait)
                            .await?;
                        tokio::task::yield_now().await;
                        match found.unwrap().canceled_at {
                            None => tx.handler_requests().cancel(id).await,
                            Some(_) => tx.handler_requests().reexecute(id).await,
                        }
                    })
                });
                work.await
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap().unwrap();
    }
    assert_eq!(kit.find(id).await.attempt, 20);
}

/// A rename excludes fan-outs: no request of the old name appears after it.
pub async fn a_rename_leaves_no_request_of_the_old_name(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("*", "old", 50, 5)]).await;
    kit.raise(&["a"; 100]).await;
    let store = kit.target.store();
    let processor = tokio::spawn(async move {
        let fan_out = FanOut::due(1);
        let mut session = store.session().await.unwrap();
        while !session
            .events()
            .fan_out(&fan_out)
            .await
            .unwrap()
            .processed
            .is_empty()
        {}
    });
    tokio::time::sleep(Duration::from_millis(1)).await;
    let store = kit.target.store();
    store.rename(&"old".into(), &"new".into()).await.unwrap();
    processor.await.unwrap();
    assert_eq!(kit.claim(&["old"], ALL).await, []);
    assert_eq!(kit.claim(&["new"], ALL).await.len(), 100);
}

/// A rename takes along what a fan-out in flight makes, and a fan-out obeys a rename in flight.
pub async fn a_rename_and_a_fan_out_in_flight_obey_each_other(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("*", "old", 50, 5)]).await;
    kit.raise(&["a"; 3]).await;
    let fan_out = FanOut::due(ALL);
    let mut tx = kit.begin().await;
    tx.events().fan_out(&fan_out).await.unwrap();
    let store = kit.target.store();
    let renamer =
        tokio::spawn(async move { store.rename(&"old".into(), &"new".into()).await.unwrap() });
    tokio::time::sleep(WATCH).await;
    tx.commit().await.unwrap();
    assert_eq!(renamer.await.unwrap().requests, 3);
    assert_eq!(kit.claim(&["new"], ALL).await.len(), 3);

    kit.raise(&["a"; 3]).await;
    let mut tx = kit.begin().await;
    let (new, newest) = ("new".into(), "newest".into());
    tx.registrations().rename(&new, &newest).await.unwrap();
    let store = kit.target.store();
    let processor = tokio::spawn(async move {
        let mut session = store.session().await.unwrap();
        session.events().fan_out(&fan_out).await.unwrap()
    });
    tokio::time::sleep(WATCH).await;
    tx.commit().await.unwrap();
    assert_eq!(processor.await.unwrap().processed.len(), 3);
    assert_eq!(kit.claim(&["old", "new"], ALL).await, []);
    assert_eq!(kit.claim(&["newest"], ALL).await.len(), 3);
}

/// A rename keeps fan-outs out for as long as its registrations take, and not for its requests: here
/// one of those cannot be had at all, and the others are under way.
pub async fn a_fan_out_does_not_wait_for_requests_that_are_renamed(target: &dyn Target) {
    let kit = Kit::new(target);
    if !kit.concurrent_writers() {
        return;
    }
    let id = kit.pending("old", 3).await[0];
    let (old, new) = ("old".into(), "new".into());
    let mut session = kit.session().await;
    session.registrations().rename(&old, &new).await.unwrap();
    let locking = kit.locking(id).await;
    let mut tx = kit.begin().await;
    let renamed = tx.registrations().rename_requests(&old, ALL).await.unwrap();
    assert_eq!((renamed.requests, renamed.skipped), (2, 1));
    kit.raise(&["for.old"]).await;
    assert_eq!(kit.fan_out().await.processed[0].requests, 1);
    assert_eq!(kit.claim(&["new"], ALL).await.len(), 1);
    tx.commit().await.unwrap();
    assert_eq!(kit.claim(&["new"], ALL).await.len(), 2);
    locking.rollback().await.unwrap();
    let renamed = kit.store.rename_all_requests(&old).await.unwrap();
    assert_eq!((renamed.requests, renamed.skipped), (1, 0));
    assert_eq!(kit.claim(&["new"], ALL).await.len(), 1);
}

/// More requests than one batch of a rename takes; each fan-out beside it makes requests of the new
/// name, and none waits for the whole.
pub async fn a_fan_out_goes_on_beside_a_rename_of_many_requests(target: &dyn Target) {
    const BATCHES: usize = 3;
    let kit = Kit::new(target);
    let old = kit.pending("old", BATCHES * RENAME_BATCH + 1).await;
    let store = kit.target.store();
    let renamer =
        tokio::spawn(async move { store.rename(&"old".into(), &"new".into()).await.unwrap() });
    let mut made = 0;
    while !renamer.is_finished() {
        kit.raise(&["for.old"]).await;
        made += kit.fan_out().await.processed.len();
        tokio::task::yield_now().await;
    }
    // Those of the first fan-outs may have been there before the name was another one.
    let renamed = renamer.await.unwrap();
    assert_eq!((renamed.superseded, renamed.more), (0, false));
    assert!(renamed.requests >= old.len() as u64);
    let mut claimed = 0;
    loop {
        let batch = kit.claim(&["old", "new"], ALL).await;
        assert!(batch.iter().all(|request| request.handler == "new"));
        if batch.is_empty() {
            break;
        }
        claimed += batch.len();
    }
    assert_eq!(claimed, old.len() + made);
}
