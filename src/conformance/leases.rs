//! Leases: renewed, handed back, and taken back when they ran out.

use std::time::Duration;

use super::{
    Target,
    kit::{ALL, BACKOFF, Kit, LEASE},
};
use crate::{
    id::{HandlerRequestId, LeaseOwner},
    model::{Backoff, HandlerRequest, Outcome, RequestState, Rescue},
    store::{Claim, ClaimedRequest, LockMode, Renewal, Renewed, RescueLost, Rescued, Settled},
};

/// A lease that is renewed does not run out.
pub async fn a_renewed_lease_lives_on(target: &dyn Target) {
    let kit = Kit::new(target);
    let request = kit.executing("h").await;
    for _ in 0..5 {
        kit.pass(LEASE * 2 / 3).await;
        assert_eq!(renew(&kit, &[fence(&request)]).await, []);
        assert_eq!(kit.rescue().await, []);
    }
    let after = kit.find(request.id).await;
    assert_eq!(
        (after.attempt, after.lease.unwrap().owner),
        (request.attempt, kit.owner)
    );
    assert_eq!(kit.lose_all().await.len(), 1);
}

/// A renewal begins from now, also when it shortens the lease.
pub async fn a_renewal_counts_from_now(target: &dyn Target) {
    let kit = Kit::new(target);
    let request = kit.executing("h").await;
    let renewal = Renewal {
        owner: kit.owner,
        lease: Duration::from_secs(60),
        requests: vec![fence(&request)],
    };
    let mut renewer = kit.store.lease_renewer().await.unwrap();
    assert_eq!(renewer.renew(&renewal).await.unwrap(), Renewed::default());
    kit.pass(Duration::from_secs(61)).await;
    assert_eq!(kit.rescue().await.len(), 1);
}

/// A process that lost a request and has claimed it again asks for both claims at once: the old one
/// is lost, and the new one lives on.
pub async fn an_old_and_a_new_claim_of_one_request_are_told_apart(target: &dyn Target) {
    let kit = Kit::new(target);
    let old = kit.executing("h").await;
    kit.cancel(old.id).await;
    kit.reexecute(old.id).await;
    let new = kit.claim_one("h").await;
    assert_eq!(new.id, old.id);
    for fences in [[fence(&old), fence(&new)], [fence(&new), fence(&old)]] {
        assert_eq!(renew(&kit, &fences).await, [fence(&old)]);
    }
}

/// An expired lease that nobody took is renewed.
pub async fn an_expired_lease_that_nobody_took_is_renewed(target: &dyn Target) {
    let kit = Kit::new(target);
    let request = kit.executing("h").await;
    kit.pass(LEASE * 2).await;
    assert_eq!(renew(&kit, &[fence(&request)]).await, []);
    assert_eq!(kit.rescue().await, []);
}

/// What was settled, canceled, rescued, handed back or is somebody else's is told as lost.
pub async fn lost_leases_are_told(target: &dyn Target) {
    let kit = Kit::new(target);
    let [held, settled, canceled, handed_back, wrong] = {
        kit.pending("h", 5).await;
        <[ClaimedRequest; 5]>::try_from(kit.claim(&["h"], ALL).await).unwrap()
    };
    kit.settle(&settled, Outcome::Completed).await;
    kit.cancel(canceled.id).await;
    let mut session = kit.session().await;
    session
        .handler_requests()
        .hand_back(kit.owner, &[fence(&handed_back)])
        .await
        .unwrap();
    let unknown = HandlerRequestId::from_uuid(uuid::Uuid::from_u128(9));
    let fences = [
        fence(&held),
        fence(&settled),
        fence(&canceled),
        fence(&handed_back),
        (wrong.id, wrong.attempt + 1),
        (unknown, 1),
    ];
    let mut lost = renew(&kit, &fences).await;
    lost.sort_unstable();
    let mut expected = fences[1..].to_vec();
    expected.sort_unstable();
    assert_eq!(lost, expected);
    let stranger = Renewal {
        owner: LeaseOwner::new(),
        lease: LEASE * 9,
        requests: vec![fence(&held)],
    };
    let mut renewer = kit.store.lease_renewer().await.unwrap();
    let renewed = renewer.renew(&stranger).await.unwrap();
    assert_eq!(renewed, Renewed::new(vec![fence(&held)]));
    assert_eq!(
        kit.lose_all().await.len(),
        2,
        "nobody's lease was made longer"
    );
    assert_eq!(renew(&kit, &[fence(&held)]).await, [fence(&held)]);
}

/// A lease that runs is nobody's to take; one that ran out is, and counts no error.
pub async fn only_lost_requests_are_rescued(target: &dyn Target) {
    let kit = Kit::new(target);
    let request = kit.executing("h").await;
    assert_eq!(kit.rescue().await, []);
    kit.pass(LEASE - Duration::from_secs(60)).await;
    assert_eq!(kit.rescue().await, []);
    kit.pass(Duration::from_secs(60)).await;
    let rescued = kit.rescue().await;
    let [rescued] = &rescued[..] else {
        panic!("one request is lost")
    };
    assert_eq!(
        (rescued.id, rescued.owner, rescued.event_id),
        (request.id, kit.owner, request.event.id)
    );
    assert_eq!(
        (&*rescued.handler, &rescued.event_name),
        ("h", &request.event.name)
    );
    assert_eq!(
        (rescued.errors, rescued.rescues, rescued.rescue),
        (0, 1, Rescue::Ready)
    );
    let after = kit.find(request.id).await;
    assert_eq!(
        (after.attempt, after.rescues, after.errors),
        (request.attempt + 1, 1, 0)
    );
    assert_eq!((after.lease, after.last_errors.len()), (None, 0));
    assert_eq!(kit.state(after.id).await, RequestState::Pending);
    assert_eq!(kit.rescue().await, []);
    assert_eq!(kit.claim_one("h").await.rescues, 1);
}

/// The limit bounds a rescue; the rest comes with the next.
pub async fn a_limit_bounds_a_rescue(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.pending("h", 5).await;
    kit.claim(&["h"], ALL).await;
    kit.pass(LEASE * 2).await;
    let mut session = kit.session().await;
    let mut ids = Vec::new();
    for expected in [2, 2, 1, 0] {
        let rescue = RescueLost {
            limit: 2,
            backoff: Backoff::default(),
        };
        let rescued = session.handler_requests().rescue(&rescue).await.unwrap();
        let rescued = rescued.requests;
        assert_eq!(rescued.len(), expected);
        ids.extend(rescued.into_iter().map(|request| request.id));
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 5);
}

/// A rescue tells when the next lease runs out, whoever has it, so that a rescuer sleeps until then.
pub async fn the_next_expiry_is_told(target: &dyn Target) {
    let kit = Kit::new(target);
    let minutes = |expiry: Option<Duration>| expiry.unwrap().as_secs_f64() / 60.0;
    kit.pending("h", 3).await;
    assert_eq!(kit.rescue_and_look_ahead().await, Rescued::default());
    let first = kit.claim_one("h").await;
    let next = minutes(kit.rescue_and_look_ahead().await.next_expiry);
    assert!(next > 9.0 && next <= 10.0, "{next}: LEASE is ten minutes");
    let soon = Claim {
        owner: LeaseOwner::new(),
        lease: LEASE / 2,
        ..kit.claim_of(&["h"], 1)
    };
    let mut session = kit.session().await;
    let mine = session.handler_requests().claim(&soon).await.unwrap();
    assert_eq!(mine.requests.len(), 1);
    let next = minutes(kit.rescue_and_look_ahead().await.next_expiry);
    assert!(next > 4.0 && next <= 5.0, "{next}: a stranger's counts");
    kit.pass(LEASE / 2).await;
    let rescued = kit.rescue_and_look_ahead().await;
    assert_eq!(rescued.requests.len(), 1);
    let next = minutes(rescued.next_expiry);
    assert!(next > 4.0 && next <= 5.0, "{next}: what is left");
    assert_eq!(renew(&kit, &[fence(&first)]).await, []);
    let next = kit.rescue_and_look_ahead().await.next_expiry.unwrap();
    assert!(next <= LEASE, "{next:?}");
    // A store that looks earlier than it need finds out when it should have.
    kit.pass(next.min(LEASE / 2)).await;
    let renewed = kit.rescue_and_look_ahead().await;
    assert_eq!(renewed.requests, []);
    let next = minutes(renewed.next_expiry);
    assert!(next > 4.0 && next <= 5.1, "{next}: a renewal counts");
    kit.settle(&first, Outcome::Completed).await;
    assert_eq!(kit.rescue_and_look_ahead().await, Rescued::default());
}

/// A lease that has run out and cannot be taken back, because its row is locked, is told as due at
/// once: the lock may be gone soon.
pub async fn a_locked_lost_request_is_told(target: &dyn Target) {
    let kit = Kit::new(target);
    if !kit.concurrent_writers() {
        // Who would rescue waits until the lock is gone.
        return;
    }
    let request = kit.executing("h").await;
    kit.pass(LEASE * 2).await;
    let mut tx = kit.begin().await;
    let lock = LockMode::Wait;
    let found = tx
        .handler_requests()
        .find_for_update(request.id, lock)
        .await;
    assert!(found.unwrap().is_some());
    let rescued = kit.rescue_and_look_ahead().await;
    assert_eq!(rescued.requests, []);
    assert_eq!(rescued.next_expiry, Some(Duration::ZERO));
    tx.rollback().await.unwrap();
    assert_eq!(kit.rescue().await.len(), 1);
}

/// A lease whose request a transaction has locked is neither renewed nor lost, and keeps no other
/// from being renewed.
pub async fn a_locked_lease_is_skipped(target: &dyn Target) {
    let kit = Kit::new(target);
    if !kit.concurrent_writers() {
        // Who would renew waits until the lock is gone.
        return;
    }
    kit.pending("h", 3).await;
    let claimed = kit.claim(&["h"], ALL).await;
    let [locked, free, ended] = &claimed[..] else {
        panic!("three are claimed")
    };
    kit.settle(ended, Outcome::Completed).await;
    let until = |request: HandlerRequest| request.lease.unwrap().until;
    kit.pass(LEASE / 2).await;
    let before = until(kit.find(locked.id).await);
    let tx = kit.locking(locked.id).await;
    let renewed = try_to_renew(&kit, &[fence(locked), fence(free), fence(ended)]).await;
    assert_eq!(renewed.skipped, [fence(locked)]);
    assert_eq!(renewed.lost, [fence(ended)]);
    assert_eq!(until(kit.find(locked.id).await), before);
    assert!(until(kit.find(free.id).await) > before);
    tx.rollback().await.unwrap();
    assert_eq!(renew(&kit, &[fence(locked)]).await, []);
    assert!(until(kit.find(locked.id).await) > before);
}

/// A request under suspicion counts an error at each rescue, backs off, and dies in the end.
pub async fn a_suspect_counts_errors_and_dies(target: &dyn Target) {
    let kit = Kit::new(target);
    let id = kit.suspect("h").await;
    for errors in 1..=5 {
        let mut session = kit.session().await;
        let claim = kit.claim_of(&["h"], 1);
        let suspect = session
            .handler_requests()
            .claim_suspect(&claim)
            .await
            .unwrap()
            .requests
            .remove(0);
        assert_eq!((suspect.id, suspect.errors), (id, errors - 1));
        let rescued = kit.lose_all().await;
        let expected = if errors == 5 {
            Rescue::Dead
        } else {
            Rescue::BackedOff
        };
        assert_eq!((rescued[0].errors, rescued[0].rescue), (errors, expected));
        let after = kit.find(id).await;
        assert_eq!(
            (after.errors, after.rescues, after.executions),
            (errors, errors + 3, errors)
        );
        assert!(
            after
                .last_errors
                .last()
                .unwrap()
                .message
                .starts_with("worker lost")
        );
        if errors < 5 {
            assert_eq!(kit.state(id).await, RequestState::BackingOff);
            let early = session
                .handler_requests()
                .claim_suspect(&claim)
                .await
                .unwrap();
            assert_eq!(early.requests, []);
            kit.pass(BACKOFF).await;
        }
    }
    assert_eq!(kit.state(id).await, RequestState::Dead);
    kit.reexecute(id).await;
    let after = kit.find(id).await;
    assert_eq!(
        (after.errors, after.rescues),
        (0, 8),
        "it stays under suspicion"
    );
}

/// A request that is handed back can be claimed at once, and has lost nothing.
pub async fn a_hand_back_costs_nothing(target: &dyn Target) {
    let kit = Kit::new(target);
    let request = kit.executing("h").await;
    let mut session = kit.session().await;
    let fences = [fence(&request), fence(&request), (request.id, 0)];
    let answers = session
        .handler_requests()
        .hand_back(kit.owner, &fences)
        .await
        .unwrap();
    assert_eq!(
        answers,
        [Settled::Applied, Settled::Fenced, Settled::Fenced]
    );
    let after = kit.find(request.id).await;
    assert_eq!(
        (after.attempt, after.errors, after.executions),
        (request.attempt + 1, 0, 0)
    );
    assert_eq!(
        (after.lease, after.backoff_until, after.rescues),
        (None, None, 0)
    );
    assert_eq!(kit.claim_one("h").await.id, request.id);
}

/// Nobody hands back what is somebody else's, or has ended.
pub async fn a_hand_back_is_fenced(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.pending("h", 2).await;
    let claimed = kit.claim(&["h"], ALL).await;
    kit.settle(&claimed[1], Outcome::Completed).await;
    let mut session = kit.session().await;
    let stranger = LeaseOwner::new();
    let answers = session
        .handler_requests()
        .hand_back(stranger, &[fence(&claimed[0])])
        .await;
    assert_eq!(answers.unwrap(), [Settled::Fenced]);
    let answers = session
        .handler_requests()
        .hand_back(kit.owner, &[fence(&claimed[1])])
        .await;
    assert_eq!(answers.unwrap(), [Settled::Fenced]);
    assert_eq!(kit.state(claimed[0].id).await, RequestState::Executing);
    assert_eq!(kit.state(claimed[1].id).await, RequestState::Completed);
}

/// A locked request keeps no other from being handed back, and stays where it is.
pub async fn a_hand_back_waits_for_no_lock(target: &dyn Target) {
    let kit = Kit::new(target);
    if !kit.concurrent_writers() {
        // Who would hand back waits until the lock is gone.
        return;
    }
    kit.pending("h", 3).await;
    let claimed = kit.claim(&["h"], ALL).await;
    let tx = kit.locking(claimed[1].id).await;
    let mut fences: Vec<_> = claimed.iter().map(fence).collect();
    fences.push((claimed[1].id, 0));
    let mut session = kit.session().await;
    let mut requests = session.handler_requests();
    let answers = requests.hand_back(kit.owner, &fences).await.unwrap();
    use Settled::{Applied, Fenced, Locked};
    assert_eq!(answers, [Applied, Locked, Applied, Fenced]);
    tx.rollback().await.unwrap();
    let answers = requests.hand_back(kit.owner, &fences).await.unwrap();
    assert_eq!(answers, [Fenced, Applied, Fenced, Fenced]);
}

/// Concurrent rescuers take each lost request once.
pub async fn concurrent_rescuers_take_each_request_once(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.pending("h", 100).await;
    kit.claim(&["h"], ALL).await;
    kit.pass(LEASE * 2).await;
    let rescuers: Vec<_> = (0..6)
        .map(|_| {
            let store = kit.target.store();
            tokio::spawn(async move {
                let rescue = RescueLost {
                    limit: 7,
                    backoff: Backoff::default(),
                };
                let mut session = store.session().await.unwrap();
                let mut count = 0;
                loop {
                    let rescued = session.handler_requests().rescue(&rescue).await.unwrap();
                    let rescued = rescued.requests;
                    if rescued.is_empty() {
                        return count;
                    }
                    assert!(rescued.iter().all(|request| request.rescues == 1));
                    count += rescued.len();
                }
            })
        })
        .collect();
    let mut count = 0;
    for rescuer in rescuers {
        count += rescuer.await.unwrap();
    }
    assert_eq!(count, 100);
}

fn fence(request: &ClaimedRequest) -> (HandlerRequestId, u64) {
    (request.id, request.attempt)
}

async fn renew(
    kit: &Kit<'_>,
    requests: &[(HandlerRequestId, u64)],
) -> Vec<(HandlerRequestId, u64)> {
    let renewed = try_to_renew(kit, requests).await;
    assert_eq!(renewed.skipped, []);
    renewed.lost
}

async fn try_to_renew(kit: &Kit<'_>, requests: &[(HandlerRequestId, u64)]) -> Renewed {
    let renewal = Renewal {
        owner: kit.owner,
        lease: LEASE,
        requests: requests.to_vec(),
    };
    let mut renewer = kit.store.lease_renewer().await.unwrap();
    renewer.renew(&renewal).await.unwrap()
}
