//! The store that fails on demand.
#![cfg(feature = "test-util")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{sync::Arc, time::Duration};

use tidings::{
    Event, EventData, ManualClock, MemoryStore, StoreError,
    conformance::Target,
    faulty::{Fault, Faults, FaultyStorer, Operation},
    store::{EventFilter, Session, Storer},
};

/// Without faults it is what it decorates.
mod without_faults {
    use super::*;

    struct Faultless {
        store: FaultyStorer,
        clock: ManualClock,
    }

    #[async_trait::async_trait]
    impl Target for Faultless {
        fn store(&self) -> Arc<dyn Storer> {
            Arc::new(self.store.clone())
        }

        async fn pass_time(&self, time: Duration) {
            self.clock.advance(time);
        }
    }

    fn faultless() -> Faultless {
        let clock = ManualClock::default();
        let store = FaultyStorer::new(Arc::new(MemoryStore::with_clock(clock.clone())));
        Faultless { store, clock }
    }

    tidings::conformance_tests!(faultless());
}

async fn faulty() -> (FaultyStorer, Faults, Box<dyn Session>) {
    let store = FaultyStorer::new(Arc::new(MemoryStore::new()));
    let (faults, session) = (store.faults(), store.session().await.unwrap());
    (store, faults, session)
}

fn event() -> Event {
    Event::from_data("a", EventData::null())
}

async fn raise(session: &mut Box<dyn Session>) -> Result<(), StoreError> {
    session.events().raise(&[event()]).await.map(drop)
}

#[tokio::test]
async fn a_failed_call_has_no_effect_and_a_lost_answer_has() {
    let (_store, faults, mut session) = faulty().await;
    for (fault, stored) in [(Fault::Fail, 0), (Fault::LoseAnswer, 1)] {
        faults.inject(Operation::RaiseEvents, fault, 1);
        let error = raise(&mut session).await.unwrap_err();
        assert!(matches!(
            error,
            StoreError::Unavailable {
                operation: "EventRepository::raise",
                ..
            }
        ));
        assert_eq!(session.events().count_unprocessed().await.unwrap(), stored);
    }
    raise(&mut session).await.unwrap();
    assert_eq!(faults.calls(Operation::RaiseEvents), 3);
    assert_eq!(faults.calls(Operation::CountUnprocessed), 2);
}

#[tokio::test]
async fn a_commit_can_fail_before_and_after_its_effect() {
    let (store, faults, mut session) = faulty().await;
    for (fault, stored) in [(Fault::Fail, 0), (Fault::LoseAnswer, 1)] {
        faults.inject_always(Operation::Commit, fault);
        let mut tx = store.begin().await.unwrap();
        tx.events().raise(&[event()]).await.unwrap();
        assert!(tx.commit().await.unwrap_err().is_uncertain());
        assert_eq!(session.events().count_unprocessed().await.unwrap(), stored);
    }
}

#[tokio::test]
async fn a_blocked_call_goes_on_when_it_is_healed() {
    for (fault, stored) in [(Fault::Block, 0), (Fault::BlockAnswer, 1)] {
        let (store, faults, mut session) = faulty().await;
        faults.inject_always(Operation::RaiseEvents, fault);
        let blocked = tokio::spawn(async move { raise(&mut session).await });
        faults.until_blocked(Operation::RaiseEvents, 1).await;
        let mut session = store.session().await.unwrap();
        assert_eq!(session.events().count_unprocessed().await.unwrap(), stored);
        faults.heal(Operation::RaiseEvents);
        blocked.await.unwrap().unwrap();
        assert_eq!(session.events().count_unprocessed().await.unwrap(), 1);
        assert_eq!(faults.blocked(Operation::RaiseEvents), 0);
        raise(&mut session).await.unwrap();
    }
}

#[tokio::test]
async fn a_blocked_call_that_is_dropped_has_no_effect() {
    let (_store, faults, mut session) = faulty().await;
    faults.inject(Operation::RaiseEvents, Fault::Block, 1);
    tokio::select! {
        biased;
        answer = raise(&mut session) => panic!("it is blocked, but answers {answer:?}"),
        () = faults.until_blocked(Operation::RaiseEvents, 1) => {}
    }
    assert_eq!(faults.blocked(Operation::RaiseEvents), 0);
    assert_eq!(session.events().count_unprocessed().await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_delayed_call_waits() {
    let (_store, faults, mut session) = faulty().await;
    faults.inject(
        Operation::RaiseEvents,
        Fault::Delay(Duration::from_secs(7)),
        1,
    );
    let begin = tokio::time::Instant::now();
    raise(&mut session).await.unwrap();
    assert_eq!(begin.elapsed().as_secs(), 7);
}

#[tokio::test]
async fn in_an_outage_everything_fails() {
    use futures_util::TryStreamExt;

    let (store, faults, mut session) = faulty().await;
    faults.inject_everywhere(Fault::Fail);
    assert!(store.session().await.is_err());
    assert!(store.begin().await.is_err());
    assert!(store.lease_renewer().await.is_err());
    assert!(store.listener().await.is_err());
    assert!(raise(&mut session).await.is_err());
    assert!(session.registrations().all().await.is_err());
    assert!(session.handler_requests().count_dead().await.is_err());
    let streamed: Result<Vec<_>, _> = session
        .events()
        .stream(&EventFilter::default())
        .try_collect()
        .await;
    assert!(streamed.is_err());
    faults.heal_all();
    raise(&mut session).await.unwrap();
    let calls = faults.clone();
    let waiter = tokio::spawn(async move { calls.until_called(Operation::RaiseEvents, 3).await });
    raise(&mut session).await.unwrap();
    waiter.await.unwrap();
}
