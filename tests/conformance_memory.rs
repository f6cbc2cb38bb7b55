//! What the in-memory store promises beyond the conformance suite: its locks, and its connection.
#![cfg(feature = "test-util")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{sync::Arc, time::Duration};

use futures_util::TryStreamExt;
use tidings::{
    Clock, Event, EventData, EventPattern, HandlerRequestId, LeaseOwner, ManualClock,
    MemoryConnection, MemoryStore, Outcome, Priority, Registration, RequestState, StoreError,
    store::{
        Claim, EventFilter, FanOut, HandlerRoom, LockMode, Raised, Renewal, RequestFilter,
        Settlement, Storer, StorerExt, Transaction,
    },
};

const LEASE: Duration = Duration::from_secs(30);

/// A store with pending requests of the handler `h`, in the order of their ids.
async fn pending(store: &MemoryStore, count: usize) -> Vec<HandlerRequestId> {
    let pattern = EventPattern::parse("a").unwrap();
    let registration = Registration::new(pattern, "h".into(), Priority::default(), 1000);
    let events: Vec<_> = (0..count).map(|_| event()).collect();
    let fan_out = FanOut::due(count);
    let mut session = store.session().await.unwrap();
    session
        .registrations()
        .register(&[registration])
        .await
        .unwrap();
    session.events().raise(&events).await.unwrap();
    session.events().fan_out(&fan_out).await.unwrap();
    let mut ids: Vec<_> = events
        .iter()
        .map(|event| HandlerRequestId::derive(event.id, "h"))
        .collect();
    ids.sort_unstable();
    ids
}

fn event() -> Event {
    Event::from_data("a", EventData::null())
}

fn claim(owner: LeaseOwner, limit: usize) -> Claim {
    let handlers = vec![HandlerRoom::new("h", limit)];
    Claim::new(owner, LEASE, limit, handlers)
}

async fn lock(tx: &mut Box<dyn Transaction>, id: HandlerRequestId) -> Result<(), StoreError> {
    let found = tx
        .handler_requests()
        .find_for_update(id, LockMode::Wait)
        .await?;
    assert!(found.is_some());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_not_had_in_time_undoes_the_transaction() {
    let store = MemoryStore::new().lock_timeout(Duration::from_secs(3));
    let ids = pending(&store, 2).await;
    let mut holder = store.begin().await.unwrap();
    lock(&mut holder, ids[0]).await.unwrap();
    let mut waiter = store.begin().await.unwrap();
    waiter.events().raise(&[event()]).await.unwrap();
    lock(&mut waiter, ids[1]).await.unwrap();
    let begin = tokio::time::Instant::now();
    let error = lock(&mut waiter, ids[0]).await.unwrap_err();
    assert!(matches!(error, StoreError::TimedOut { limit, .. } if limit == Duration::from_secs(3)));
    assert_eq!(begin.elapsed().as_secs(), 3);
    // Its own locks are free at once, and it is of no more use.
    lock(&mut holder, ids[1]).await.unwrap();
    assert!(matches!(
        lock(&mut waiter, ids[1]).await,
        Err(StoreError::Ended { .. })
    ));
    assert!(matches!(
        waiter.commit().await,
        Err(StoreError::Ended { .. })
    ));
    let mut session = store.session().await.unwrap();
    assert_eq!(session.events().count_unprocessed().await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_session_survives_a_lock_that_is_not_had_in_time() {
    let store = MemoryStore::new();
    let ids = pending(&store, 1).await;
    let mut holder = store.begin().await.unwrap();
    lock(&mut holder, ids[0]).await.unwrap();
    let mut session = store.session().await.unwrap();
    let answer = session.handler_requests().cancel(ids[0]).await;
    assert!(matches!(answer, Err(StoreError::TimedOut { .. })));
    drop(holder);
    session.handler_requests().cancel(ids[0]).await.unwrap();
}

#[tokio::test]
async fn three_that_wait_in_a_circle_are_a_deadlock() {
    let store = MemoryStore::new();
    let ids = pending(&store, 3).await;
    let barrier = Arc::new(tokio::sync::Barrier::new(3));
    let lockers: Vec<_> = (0..3)
        .map(|number| {
            let (store, barrier, ids) = (store.clone(), barrier.clone(), ids.clone());
            tokio::spawn(async move {
                let mut tx = store.begin().await.unwrap();
                lock(&mut tx, ids[number]).await.unwrap();
                barrier.wait().await;
                lock(&mut tx, ids[(number + 1) % 3]).await?;
                tx.commit().await
            })
        })
        .collect();
    let mut conflicts = 0;
    for locker in lockers {
        match locker.await.unwrap() {
            Ok(()) => {}
            Err(error) if error.is_conflict() => conflicts += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(conflicts, 1);
}

#[tokio::test]
async fn two_that_share_the_names_and_want_them_alone_are_a_deadlock() {
    let store = MemoryStore::new();
    let fan_out = FanOut::due(1);
    let barrier = Arc::new(tokio::sync::Barrier::new(2));
    let renamers: Vec<_> = [("a", "b"), ("c", "d")]
        .into_iter()
        .map(|(from, to)| {
            let (store, barrier, fan_out) = (store.clone(), barrier.clone(), fan_out.clone());
            tokio::spawn(async move {
                let mut tx = store.begin().await.unwrap();
                tx.events().fan_out(&fan_out).await.unwrap();
                barrier.wait().await;
                tx.registrations().rename(&from.into(), &to.into()).await?;
                tx.commit().await
            })
        })
        .collect();
    let mut conflicts = 0;
    for renamer in renamers {
        conflicts += usize::from(
            renamer
                .await
                .unwrap()
                .is_err_and(|error| error.is_conflict()),
        );
    }
    assert_eq!(conflicts, 1);
}

#[tokio::test]
async fn a_wait_that_was_given_up_is_no_part_of_a_deadlock() {
    let store = MemoryStore::new();
    let ids = pending(&store, 2).await;
    let mut first = store.begin().await.unwrap();
    let mut second = store.begin().await.unwrap();
    lock(&mut first, ids[0]).await.unwrap();
    lock(&mut second, ids[1]).await.unwrap();
    let given_up = tokio::time::timeout(Duration::from_millis(5), lock(&mut first, ids[1])).await;
    assert!(given_up.is_err());
    let waiter = tokio::spawn(async move { lock(&mut second, ids[0]).await });
    tokio::task::yield_now().await;
    drop(first);
    waiter.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_handlers_connection_is_the_transaction() {
    let store = MemoryStore::new();
    assert!(store.connection_type().name().ends_with("MemoryConnection"));
    let raiser = store.raiser();
    let mut tx = store.begin().await.unwrap();
    let connection: &mut MemoryConnection = tx.connection().downcast().unwrap();
    assert_eq!(
        raiser.raise(connection, event()).await.unwrap(),
        Raised::New
    );
    let mut session = store.session().await.unwrap();
    assert_eq!(session.events().count_unprocessed().await.unwrap(), 0);
    tx.commit().await.unwrap();
    assert_eq!(session.events().count_unprocessed().await.unwrap(), 1);
    let connection: &mut MemoryConnection = session.connection().downcast().unwrap();
    assert_eq!(
        raiser.raise(connection, event()).await.unwrap(),
        Raised::New
    );
    assert!(session.connection().downcast::<String>().is_none());
}

#[tokio::test]
async fn a_locked_request_delays_the_renewal_of_no_other() {
    let clock = ManualClock::default();
    let store = MemoryStore::with_clock(clock.clone());
    let ids = pending(&store, 3).await;
    let owner = LeaseOwner::new();
    let mut session = store.session().await.unwrap();
    let claimed = session
        .handler_requests()
        .claim(&claim(owner, 3))
        .await
        .unwrap()
        .requests;
    let requests = claimed
        .iter()
        .map(|request| (request.id, request.attempt))
        .collect();
    let mut tx = store.begin().await.unwrap();
    lock(&mut tx, ids[0]).await.unwrap();
    clock.advance(LEASE / 2);
    let renewal = Renewal::new(owner, LEASE, requests);
    let mut renewer = store.lease_renewer().await.unwrap();
    let until = clock.now() + LEASE;
    let skipped = renewer.renew(&renewal).await.unwrap().skipped;
    assert_eq!(skipped, [renewal.requests[0]]);
    for (id, renewed) in ids.iter().zip([false, true, true]) {
        let found = session.handler_requests().find(*id).await.unwrap().unwrap();
        assert_eq!(found.lease.unwrap().until == until, renewed);
    }
    tx.rollback().await.unwrap();
    let renewed = renewer.renew(&renewal).await.unwrap();
    assert_eq!(renewed, tidings::store::Renewed::default());
    let found = session
        .handler_requests()
        .find(ids[0])
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.lease.unwrap().until, until);
}

#[tokio::test]
async fn a_stream_lets_writers_write() {
    let store = MemoryStore::new();
    let ids = pending(&store, 1000).await;
    let mut session = store.session().await.unwrap();
    let filter = RequestFilter::default();
    let mut requests = session.handler_requests();
    let mut stream = requests.stream(&filter);
    let mut other = store.session().await.unwrap();
    let mut seen = 0;
    while let Some(request) = stream.try_next().await.unwrap() {
        let id = ids[(seen + 500) % ids.len()];
        other.handler_requests().cancel(id).await.unwrap();
        assert_eq!(request.id, ids[seen]);
        seen += 1;
    }
    assert_eq!(seen, 1000);
}

#[tokio::test]
async fn a_stream_of_an_ended_transaction_says_so_once() {
    let store = MemoryStore::new().lock_timeout(Duration::ZERO);
    let ids = pending(&store, 1).await;
    let mut holder = store.begin().await.unwrap();
    lock(&mut holder, ids[0]).await.unwrap();
    let mut ended = store.begin().await.unwrap();
    lock(&mut ended, ids[0]).await.unwrap_err();
    let mut events = ended.events();
    let mut stream = events.stream(&EventFilter::default());
    assert!(matches!(
        stream.try_next().await,
        Err(StoreError::Ended { .. })
    ));
    assert!(stream.try_next().await.unwrap().is_none());
}

/// Transactions that lock rows in any order, commit, roll back and are dropped, at once: in the
/// end nothing is locked, and each request has the attempts that were committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_stays_locked_after_a_storm() {
    const WORKERS: usize = 16;
    const ROUNDS: usize = 200;
    let store = MemoryStore::new();
    let ids = pending(&store, 8).await;
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let (store, ids) = (store.clone(), ids.clone());
            tokio::spawn(async move {
                let mut committed = vec![0_u64; ids.len()];
                for round in 0..ROUNDS {
                    let first = (worker * 7 + round * 3) % ids.len();
                    let second = (worker * 5 + round) % ids.len();
                    if storm(&store, ids[first], ids[second], round).await {
                        committed[first] += 1;
                        committed[second] += u64::from(first != second);
                    }
                }
                committed
            })
        })
        .collect();
    let mut expected = vec![0; ids.len()];
    for worker in workers {
        for (sum, count) in expected.iter_mut().zip(worker.await.unwrap()) {
            *sum += count;
        }
    }
    let mut tx = store.begin().await.unwrap();
    for (id, expected) in ids.iter().zip(expected) {
        let found = tx
            .handler_requests()
            .find_for_update(*id, LockMode::SkipLocked)
            .await
            .unwrap();
        assert_eq!(found.unwrap().attempt, expected);
    }
}

/// Cancels or reexecutes two requests; answers whether that was committed.
async fn storm(
    store: &MemoryStore,
    first: HandlerRequestId,
    second: HandlerRequestId,
    round: usize,
) -> bool {
    let mut tx = store.begin().await.unwrap();
    let mut ids = vec![first, second];
    ids.dedup();
    for id in ids {
        let found = match tx
            .handler_requests()
            .find_for_update(id, LockMode::Wait)
            .await
        {
            Ok(found) => found.unwrap(),
            Err(error) => {
                assert!(error.is_conflict(), "{error}");
                return false;
            }
        };
        tokio::task::yield_now().await;
        let mut requests = tx.handler_requests();
        match found.state(tidings::SystemClock.now()) {
            RequestState::Canceled => requests.reexecute(id).await.unwrap(),
            _ => requests.cancel(id).await.unwrap(),
        }
    }
    match round % 5 {
        0 => drop(tx),
        1 => tx.rollback().await.unwrap(),
        _ => {
            tx.commit().await.unwrap();
            return true;
        }
    }
    false
}

/// Claims, settlements in transactions, zombies' settlements and rescues at once: each request is
/// completed exactly once, and raises its consequence exactly once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_request_completes_once_under_rescues() {
    const REQUESTS: usize = 500;
    let clock = ManualClock::default();
    let store = MemoryStore::with_clock(clock.clone());
    pending(&store, REQUESTS).await;
    let workers: Vec<_> = (0..8)
        .map(|worker| {
            let (store, clock) = (store.clone(), clock.clone());
            tokio::spawn(async move { work(&store, &clock, worker).await })
        })
        .collect();
    let mut applied = 0;
    for worker in workers {
        applied += worker.await.unwrap();
    }
    assert_eq!(applied, REQUESTS);
    let mut session = store.session().await.unwrap();
    assert_eq!(
        session.handler_requests().count_unexecuted().await.unwrap(),
        0
    );
    assert_eq!(
        session.events().count_unprocessed().await.unwrap(),
        REQUESTS as u64
    );
}

/// Works until nothing is left; some executions outlive their lease, and settle all the same.
async fn work(store: &MemoryStore, clock: &ManualClock, worker: usize) -> usize {
    let owner = LeaseOwner::new();
    let rescue = tidings::store::RescueLost::new(50, tidings::Backoff::constant(Duration::ZERO));
    let mut session = store.session().await.unwrap();
    let mut applied = 0;
    for round in 0.. {
        session.handler_requests().rescue(&rescue).await.unwrap();
        let mut claimed = session
            .handler_requests()
            .claim(&claim(owner, 7))
            .await
            .unwrap()
            .requests;
        claimed.extend(
            session
                .handler_requests()
                .claim_suspect(&claim(owner, 1))
                .await
                .unwrap()
                .requests,
        );
        if claimed.is_empty() && session.handler_requests().count_unexecuted().await.unwrap() == 0 {
            break;
        }
        if (round + worker).is_multiple_of(9) {
            clock.advance(LEASE);
        }
        tokio::task::yield_now().await;
        for request in claimed {
            let mut settlement =
                Settlement::new(request.id, request.attempt, owner, Outcome::Completed);
            settlement.raised = vec![event().caused_by(&request.event)];
            let settled = store
                .transaction(|tx| {
                    Box::pin(async move { tx.handler_requests().settle(&[settlement]).await })
                })
                .await
                .unwrap();
            applied += usize::from(settled == [tidings::store::Settled::Applied]);
        }
    }
    applied
}
