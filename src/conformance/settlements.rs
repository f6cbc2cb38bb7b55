//! Settling executions: every outcome, and the fence that guards each.

use std::time::Duration;

use super::{
    Target,
    kit::{ALL, BACKOFF, Kit, WATCH, event, failed},
};
use crate::{
    id::{HandlerRequestId, LeaseOwner},
    model::{Event, ExecutionError, HandlerRequest, Outcome, RequestState},
    store::{ClaimedRequest, LockMode, Settled, Settlement},
};

/// Success ends a request.
pub async fn success_completes(target: &dyn Target) {
    let kit = Kit::new(target);
    let (request, after) = settled(&kit, Outcome::Completed).await;
    assert!(after.completed_at.is_some());
    assert_eq!(
        (after.executions, after.errors, after.attempt),
        (1, 0, request.attempt)
    );
    assert_eq!(after.last_execution_at, after.completed_at);
    assert_eq!(kit.state(after.id).await, RequestState::Completed);
    let mut session = kit.session().await;
    assert_eq!(
        session.handler_requests().count_unexecuted().await.unwrap(),
        0
    );
}

/// An error counts and backs off; then the request runs again.
pub async fn an_error_backs_off(target: &dyn Target) {
    let kit = Kit::new(target);
    let (request, after) = settled(&kit, failed("größer als 日本")).await;
    assert_eq!((after.executions, after.errors), (1, 1));
    assert_eq!(kit.state(after.id).await, RequestState::BackingOff);
    let [error] = &after.last_errors[..] else {
        panic!("one error")
    };
    assert_eq!(
        (&*error.message, error.attempt),
        ("größer als 日本", request.attempt)
    );
    assert_eq!(Some(error.at), after.last_execution_at);
    let backoff = after.backoff_until.unwrap() - error.at;
    assert_eq!(
        backoff.to_std().unwrap(),
        BACKOFF,
        "the store adds it to its own time"
    );
    kit.pass(BACKOFF - Duration::from_secs(60)).await;
    assert_eq!(kit.claim(&["h"], ALL).await, []);
    kit.pass(Duration::from_secs(60)).await;
    assert_eq!(kit.state(after.id).await, RequestState::Pending);
    assert_eq!(kit.claim_one("h").await.errors, 1);
}

/// The last error is the end.
pub async fn the_last_error_kills(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.pending("h", 1).await;
    for errors in 0..5 {
        let request = kit.claim_one("h").await;
        assert_eq!((request.errors, request.executions), (errors, errors));
        assert_eq!(
            kit.settle(&request, failed(&format!("error {errors}")))
                .await,
            Settled::Applied
        );
        let after = kit.find(request.id).await;
        assert_eq!(after.dead_at.is_some(), errors == 4);
        assert_eq!(after.backoff_until.is_some(), errors < 4);
        kit.pass(BACKOFF).await;
    }
    assert_eq!(kit.claim(&["h"], ALL).await, []);
    let mut session = kit.session().await;
    assert_eq!(session.handler_requests().count_dead().await.unwrap(), 1);
    assert_eq!(
        session.handler_requests().count_unexecuted().await.unwrap(),
        0
    );
}

/// Discarding kills at once, and tells why.
pub async fn a_discarded_request_is_dead(target: &dyn Target) {
    let kit = Kit::new(target);
    let (_, after) = settled(
        &kit,
        Outcome::Discarded {
            reason: "gone for good".into(),
        },
    )
    .await;
    assert_eq!((after.errors, after.executions), (1, 1));
    assert_eq!(after.last_errors[0].message, "gone for good");
    assert_eq!(kit.state(after.id).await, RequestState::Dead);
}

/// A snooze counts no error.
pub async fn a_snoozed_request_waits_without_an_error(target: &dyn Target) {
    let kit = Kit::new(target);
    let (_, after) = settled(&kit, Outcome::Snoozed { duration: BACKOFF }).await;
    assert_eq!(
        (after.errors, after.executions, after.last_errors.len()),
        (0, 1, 0)
    );
    assert_eq!(kit.state(after.id).await, RequestState::BackingOff);
    kit.pass(BACKOFF).await;
    assert_eq!(kit.claim(&["h"], ALL).await.len(), 1);
}

/// A handler can cancel its own request.
pub async fn a_handler_cancels_its_request(target: &dyn Target) {
    let kit = Kit::new(target);
    let (_, after) = settled(
        &kit,
        Outcome::Canceled {
            reason: "not wanted".into(),
        },
    )
    .await;
    assert_eq!(
        (after.errors, &*after.last_errors[0].message),
        (0, "not wanted")
    );
    assert_eq!(kit.state(after.id).await, RequestState::Canceled);
}

/// A veto settles without an execution.
pub async fn a_veto_counts_no_execution(target: &dyn Target) {
    let kit = Kit::new(target);
    let request = kit.executing("h").await;
    let settlement = Settlement {
        executed: false,
        ..kit.settlement(&request, failed("vetoed"))
    };
    assert_eq!(kit.settle_as(settlement).await, Settled::Applied);
    let after = kit.find(request.id).await;
    assert_eq!(
        (after.executions, after.errors, after.last_execution_at),
        (0, 1, None)
    );
}

/// A backoff that is longer than time itself ends at the end of time, or near it.
pub async fn an_endless_backoff_is_no_error(target: &dyn Target) {
    let kit = Kit::new(target);
    let outcome = Outcome::Snoozed {
        duration: Duration::from_secs(3_000_000_000),
    };
    let (_, after) = settled(&kit, outcome).await;
    assert_eq!(kit.state(after.id).await, RequestState::BackingOff);
    kit.pass(BACKOFF).await;
    assert_eq!(kit.claim(&["h"], ALL).await, []);
}

/// Only so many errors are kept, the latest, each cut on a character.
pub async fn kept_errors_are_bounded(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("a", "h", 50, 100)]).await;
    kit.raise(&["a"]).await;
    kit.fan_out().await;
    let count = ExecutionError::KEPT + 3;
    let mut id = None;
    for number in 0..count {
        let request = kit.claim_one("h").await;
        let message = format!("{number} {}", "ä".repeat(ExecutionError::MAX_LEN));
        let outcome = Outcome::Failed {
            error: message,
            backoff: Duration::ZERO,
        };
        kit.settle(&request, outcome).await;
        id = Some(request.id);
    }
    let after = kit.find(id.unwrap()).await;
    assert_eq!(after.errors as usize, count);
    let numbers: Vec<_> = after
        .last_errors
        .iter()
        .map(|error| error.message.split(' ').next().unwrap())
        .collect();
    assert_eq!(
        numbers,
        ["3", "4", "5", "6", "7", "8", "9", "10", "11", "12"]
    );
    let is_cut = |error: &ExecutionError| {
        error.message.len() <= ExecutionError::MAX_LEN && error.message.ends_with("ä…")
    };
    assert!(after.last_errors.iter().all(is_cut));
}

/// Answers come in the order of the call, whatever is refused in between.
pub async fn a_batch_answers_in_its_order(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.pending("h", 4).await;
    let claimed = kit.claim(&["h"], ALL).await;
    let mut settlements: Vec<_> = claimed
        .iter()
        .map(|request| kit.settlement(request, Outcome::Completed))
        .collect();
    settlements.reverse();
    settlements[1].attempt += 1;
    settlements.insert(
        3,
        Settlement {
            id: HandlerRequestId::from_uuid(uuid::Uuid::from_u128(1)),
            ..settlements[0].clone()
        },
    );
    settlements.push(settlements[0].clone());
    let mut session = kit.session().await;
    let answers = session
        .handler_requests()
        .settle(&settlements)
        .await
        .unwrap();
    use Settled::{Applied, Fenced};
    assert_eq!(answers, [Applied, Fenced, Applied, Fenced, Applied, Fenced]);
    assert_eq!(
        session.handler_requests().count_unexecuted().await.unwrap(),
        1
    );
    assert_eq!(session.handler_requests().settle(&[]).await.unwrap(), []);
}

/// A wrong attempt, a wrong owner, and a second settlement change nothing.
pub async fn the_fence_refuses_strangers_and_repetition(target: &dyn Target) {
    let kit = Kit::new(target);
    let request = kit.executing("h").await;
    let right = kit.settlement(&request, Outcome::Completed);
    let before = kit.find(request.id).await;
    for wrong in [
        Settlement {
            attempt: request.attempt - 1,
            ..right.clone()
        },
        Settlement {
            attempt: request.attempt + 1,
            ..right.clone()
        },
        Settlement {
            owner: LeaseOwner::new(),
            ..right.clone()
        },
    ] {
        assert_refused_settlement(&kit, wrong).await;
        assert_eq!(kit.find(request.id).await, before);
    }
    assert_eq!(kit.settle_as(right.clone()).await, Settled::Applied);
    let after = kit.find(request.id).await;
    let again = Settlement {
        outcome: failed("again"),
        ..right
    };
    assert_refused_settlement(&kit, again).await;
    assert_eq!(kit.find(request.id).await, after);
}

/// A settlement after a failure that backs off cannot be repeated either.
pub async fn a_failure_is_settled_once(target: &dyn Target) {
    let kit = Kit::new(target);
    let request = kit.executing("h").await;
    kit.settle(&request, failed("once")).await;
    assert_refused_settlement(&kit, kit.settlement(&request, failed("twice"))).await;
    assert_eq!(kit.find(request.id).await.errors, 1);
}

/// A zombie whose request was rescued is refused, before and after the next claim and settlement.
pub async fn a_zombie_is_refused_after_a_rescue(target: &dyn Target) {
    let kit = Kit::new(target);
    let zombie = kit.executing("h").await;
    assert_eq!(kit.lose_all().await.len(), 1);
    assert_refused_settlement(&kit, kit.settlement(&zombie, failed("zombie"))).await;
    let successor = kit.claim_one("h").await;
    assert!(
        successor.attempt > zombie.attempt + 1,
        "the rescue counts as an attempt"
    );
    assert_refused_settlement(&kit, kit.settlement(&zombie, failed("zombie"))).await;
    assert_eq!(
        kit.settle(&successor, Outcome::Completed).await,
        Settled::Applied
    );
    assert_refused_settlement(&kit, kit.settlement(&zombie, failed("zombie"))).await;
    assert_eq!(kit.find(zombie.id).await.errors, 0);
}

/// What was handed back cannot be settled any more, even by the one who has it again.
pub async fn a_zombie_is_refused_after_a_hand_back(target: &dyn Target) {
    let kit = Kit::new(target);
    let zombie = kit.executing("h").await;
    let mut session = kit.session().await;
    let fences = [(zombie.id, zombie.attempt)];
    let answers = session
        .handler_requests()
        .hand_back(kit.owner, &fences)
        .await
        .unwrap();
    assert_eq!(answers, [Settled::Applied]);
    assert_refused_settlement(&kit, kit.settlement(&zombie, Outcome::Completed)).await;
    kit.claim_one("h").await;
    assert_refused_settlement(&kit, kit.settlement(&zombie, Outcome::Completed)).await;
}

/// A canceled execution cannot be settled, nor after a reexecution in its place.
pub async fn a_zombie_is_refused_after_cancel_and_reexecute(target: &dyn Target) {
    let kit = Kit::new(target);
    let zombie = kit.executing("h").await;
    kit.cancel(zombie.id).await;
    assert_refused_settlement(&kit, kit.settlement(&zombie, Outcome::Completed)).await;
    kit.reexecute(zombie.id).await;
    assert_refused_settlement(&kit, kit.settlement(&zombie, Outcome::Completed)).await;
    kit.claim_one("h").await;
    assert_refused_settlement(&kit, kit.settlement(&zombie, Outcome::Completed)).await;
    assert_eq!(kit.state(zombie.id).await, RequestState::Executing);
}

/// A lease that ran out and that nobody took still settles.
pub async fn an_expired_lease_that_nobody_took_settles(target: &dyn Target) {
    let kit = Kit::new(target);
    let request = kit.executing("h").await;
    kit.pass(super::kit::LEASE * 2).await;
    assert_eq!(
        kit.settle(&request, Outcome::Completed).await,
        Settled::Applied
    );
    assert_eq!(kit.rescue().await, []);
}

/// What a handler raised is stored with its settlement.
pub async fn raised_events_are_stored_with_the_settlement(target: &dyn Target) {
    let kit = Kit::new(target);
    let request = kit.executing("h").await;
    let raised = [consequence(&request), consequence(&request)];
    let settlement = Settlement {
        raised: raised.to_vec(),
        ..kit.settlement(&request, Outcome::Completed)
    };
    assert_eq!(kit.settle_as(settlement).await, Settled::Applied);
    let mut session = kit.session().await;
    for event in &raised {
        let stored = session.events().find(event.id).await.unwrap().unwrap();
        assert_eq!(*stored.event, *event);
        assert_eq!(stored.event.causation_id, Some(request.event.id));
    }
    assert_eq!(session.events().count_unprocessed().await.unwrap(), 2);
}

/// A refused settlement stores nothing of what its handler raised, and its neighbours lose nothing.
pub async fn raised_events_of_a_refused_settlement_are_not_stored(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.pending("h", 2).await;
    let claimed = kit.claim(&["h"], ALL).await;
    let raised: Vec<_> = claimed.iter().map(consequence).collect();
    let mut settlements: Vec<_> = claimed
        .iter()
        .zip(&raised)
        .map(|(request, event)| Settlement {
            raised: vec![event.clone()],
            ..kit.settlement(request, Outcome::Completed)
        })
        .collect();
    settlements[0].attempt -= 1;
    let mut session = kit.session().await;
    let answers = session
        .handler_requests()
        .settle(&settlements)
        .await
        .unwrap();
    assert_eq!(answers, [Settled::Fenced, Settled::Applied]);
    assert!(!kit.event_exists(raised[0].id).await);
    assert!(kit.event_exists(raised[1].id).await);
}

/// A raised event that exists already is no error, and stays as it was.
pub async fn a_raised_event_that_exists_is_no_error(target: &dyn Target) {
    let kit = Kit::new(target);
    let existing = kit.raise(&["existing"]).await.remove(0);
    let request = kit.executing("h").await;
    let again = event("again").with_id(existing.id);
    let settlement = Settlement {
        raised: vec![again, consequence(&request)],
        ..kit.settlement(&request, Outcome::Completed)
    };
    assert_eq!(kit.settle_as(settlement).await, Settled::Applied);
    let mut session = kit.session().await;
    let stored = session.events().find(existing.id).await.unwrap().unwrap();
    assert_eq!(*stored.event, existing);
}

/// A settlement that is rolled back leaves nothing, its raised events included.
pub async fn a_rolled_back_settlement_never_happened(target: &dyn Target) {
    let kit = Kit::new(target);
    let request = kit.executing("h").await;
    let raised = consequence(&request);
    let settlement = Settlement {
        raised: vec![raised.clone()],
        ..kit.settlement(&request, Outcome::Completed)
    };
    let mut tx = kit.begin().await;
    let answers = tx
        .handler_requests()
        .settle(std::slice::from_ref(&settlement))
        .await
        .unwrap();
    assert_eq!(answers, [Settled::Applied]);
    tx.rollback().await.unwrap();
    assert!(!kit.event_exists(raised.id).await);
    assert_eq!(kit.settle_as(settlement).await, Settled::Applied);
    assert!(kit.event_exists(raised.id).await);
}

/// Of two that settle the same execution at once, one is refused, at once or when it tries again.
pub async fn one_of_two_concurrent_settlements_is_refused(target: &dyn Target) {
    let kit = Kit::new(target);
    for round in 0..20 {
        let request = kit.executing(&format!("h{round}")).await;
        let settlers: Vec<_> = [Outcome::Completed, failed("other")]
            .map(|outcome| {
                let (store, settlement) = (kit.target.store(), kit.settlement(&request, outcome));
                tokio::spawn(async move {
                    let mut session = store.session().await.unwrap();
                    loop {
                        let settle = std::slice::from_ref(&settlement);
                        let answers = session.handler_requests().settle(settle).await;
                        let answer = answers.unwrap()[0];
                        if answer != Settled::Locked {
                            return answer;
                        }
                    }
                })
            })
            .into_iter()
            .collect();
        let mut answers = Vec::new();
        for settler in settlers {
            answers.push(settler.await.unwrap());
        }
        answers.sort_unstable_by_key(|answer| *answer == Settled::Fenced);
        assert_eq!(answers, [Settled::Applied, Settled::Fenced]);
    }
}

/// In a session, a locked request keeps no other from being settled, and can be settled later; what
/// was raised with it is stored only then. In a transaction, a settlement waits.
pub async fn a_settlement_waits_for_no_lock(target: &dyn Target) {
    let kit = Kit::new(target);
    if !kit.concurrent_writers() {
        // Who would settle waits until the lock is gone.
        return;
    }
    use Settled::{Applied, Fenced, Locked};
    for plain in [true, false] {
        kit.pending("h", 3).await;
        let claimed = kit.claim(&["h"], ALL).await;
        let raised = event("raised.under.a.lock");
        let mut settlements: Vec<_> = claimed
            .iter()
            .map(|request| kit.settlement(request, Outcome::Completed))
            .collect();
        if !plain {
            settlements[1].raised.push(raised.clone());
            // One request twice, which a store may have a statement of its own for.
            settlements.push(Settlement {
                attempt: 0,
                ..settlements[1].clone()
            });
        }
        let tx = kit.locking(claimed[1].id).await;
        let mut session = kit.session().await;
        let mut requests = session.handler_requests();
        let answers = requests.settle(&settlements).await.unwrap();
        assert_eq!(answers[..3], [Applied, Locked, Applied]);
        assert!(answers[3..].iter().all(|answer| *answer == Fenced));
        assert!(!kit.event_exists(raised.id).await);
        let waiting = {
            let (store, settlement) = (kit.target.store(), settlements[1].clone());
            tokio::spawn(async move {
                let mut tx = store.begin().await.unwrap();
                let answers = tx.handler_requests().settle(&[settlement]).await;
                tx.rollback().await.unwrap();
                answers
            })
        };
        tokio::time::sleep(WATCH).await;
        assert!(!waiting.is_finished());
        tx.rollback().await.unwrap();
        assert_eq!(waiting.await.unwrap().unwrap(), [Applied]);
        assert_eq!(kit.settle_as(settlements[1].clone()).await, Applied);
        assert_eq!(kit.event_exists(raised.id).await, !plain);
    }
}

/// Whatever the outcomes beside it are, which a store may write in other ways.
pub async fn each_of_a_mixed_batch_has_its_own_fence(target: &dyn Target) {
    use Settled::{Applied, Fenced};
    let kit = Kit::new(target);
    for in_transaction in [false, true] {
        kit.pending("h", 6).await;
        let claimed = kit.claim(&["h"], ALL).await;
        let snoozed = Outcome::Snoozed { duration: BACKOFF };
        let discarded = Outcome::Discarded {
            reason: "gone".into(),
        };
        let outcomes = [
            Outcome::Completed,
            failed("an error"),
            Outcome::Completed,
            failed("another error"),
            snoozed,
            discarded,
        ];
        let raised: Vec<_> = claimed.iter().map(consequence).collect();
        let mut settlements: Vec<_> = claimed
            .iter()
            .zip(outcomes)
            .zip(&raised)
            .map(|((request, outcome), event)| Settlement {
                raised: vec![event.clone()],
                ..kit.settlement(request, outcome)
            })
            .collect();
        settlements[2].attempt += 1;
        settlements[3].owner = LeaseOwner::new();
        let answers = if in_transaction {
            let mut tx = kit.begin().await;
            let answers = tx.handler_requests().settle(&settlements).await.unwrap();
            tx.commit().await.unwrap();
            answers
        } else {
            let mut session = kit.session().await;
            let mut requests = session.handler_requests();
            requests.settle(&settlements).await.unwrap()
        };
        let expected = [
            (Applied, RequestState::Completed),
            (Applied, RequestState::BackingOff),
            (Fenced, RequestState::Executing),
            (Fenced, RequestState::Executing),
            (Applied, RequestState::BackingOff),
            (Applied, RequestState::Dead),
        ];
        for (index, (answer, state)) in expected.into_iter().enumerate() {
            assert_eq!(answers[index], answer, "{index}");
            assert_eq!(kit.state(claimed[index].id).await, state, "{index}");
            let is_stored = kit.event_exists(raised[index].id).await;
            assert_eq!(is_stored, answer == Applied, "{index}");
        }
        assert_eq!(answers.len(), expected.len());
    }
}

/// What is locked is left as it was, and can be settled later, with what was raised.
pub async fn a_mixed_batch_waits_for_no_lock(target: &dyn Target) {
    let kit = Kit::new(target);
    if !kit.concurrent_writers() {
        return;
    }
    use Settled::{Applied, Fenced, Locked};
    kit.pending("h", 6).await;
    let claimed = kit.claim(&["h"], ALL).await;
    let raised: Vec<_> = claimed.iter().map(consequence).collect();
    let settlement = |(index, request): (usize, &ClaimedRequest)| Settlement {
        raised: vec![raised[index].clone()],
        ..kit.settlement(
            request,
            if index % 2 == 0 {
                Outcome::Completed
            } else {
                failed("an error")
            },
        )
    };
    let mut settlements: Vec<_> = claimed.iter().enumerate().map(settlement).collect();
    settlements[4].attempt += 1;
    settlements[5].attempt += 1;
    let mut tx = kit.locking(claimed[2].id).await;
    for index in [3, 4, 5] {
        let mut requests = tx.handler_requests();
        let id = claimed[index].id;
        let found = requests.find_for_update(id, LockMode::Wait).await;
        assert!(found.unwrap().is_some());
    }
    let mut session = kit.session().await;
    let answers = session.handler_requests().settle(&settlements).await;
    assert_eq!(
        answers.unwrap(),
        [Applied, Applied, Locked, Locked, Fenced, Fenced]
    );
    tx.rollback().await.unwrap();
    for (index, state) in [(2, RequestState::Completed), (3, RequestState::BackingOff)] {
        let id = claimed[index].id;
        assert_eq!(kit.state(id).await, RequestState::Executing);
        assert!(!kit.event_exists(raised[index].id).await);
        assert_eq!(kit.settle_as(settlements[index].clone()).await, Applied);
        assert_eq!(kit.state(id).await, state);
        assert!(kit.event_exists(raised[index].id).await);
    }
}

async fn settled(kit: &Kit<'_>, outcome: Outcome) -> (ClaimedRequest, HandlerRequest) {
    let request = kit.executing("h").await;
    assert_eq!(kit.settle(&request, outcome).await, Settled::Applied);
    let after = kit.find(request.id).await;
    assert_eq!(after.lease, None, "every settlement clears the owner");
    (request, after)
}

async fn assert_refused_settlement(kit: &Kit<'_>, settlement: Settlement) {
    let before = kit.find(settlement.id).await;
    let raised = event("raised.by.a.zombie");
    let id = raised.id;
    let settlement = Settlement {
        raised: vec![raised],
        ..settlement
    };
    assert_eq!(kit.settle_as(settlement.clone()).await, Settled::Fenced);
    assert_eq!(kit.find(settlement.id).await, before);
    assert!(!kit.event_exists(id).await);
}

fn consequence(request: &ClaimedRequest) -> Event {
    event("consequence").caused_by(&request.event)
}
