//! What operators do to many events in batches: how it stops, where it goes on, and that others get
//! their turn.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use serde_json::json;
use tidings::{
    Event, EventId, EventPattern, MemoryStore, Priority, Registration, StoreError,
    faulty::{Fault, FaultyStorer, Operation},
    mocks::{MockHandlerRequestRepository, MockSession, MockStorer},
    store::{EventFilter, FanOut, Page, Prune, Replay, Replayed, RequestFilter, Storer, StorerExt},
};

/// A store with events that were processed before there was the handler `late`.
async fn past_events(count: u32) -> MemoryStore {
    let store = MemoryStore::new();
    let mut session = store.session().await.unwrap();
    let events: Vec<_> = (0..count)
        .map(|n| Event::new("order.placed", &json!({ "n": n })).unwrap())
        .collect();
    session.events().raise(&events).await.unwrap();
    let all = FanOut::due(events.len());
    session.events().fan_out(&all).await.unwrap();
    let pattern = EventPattern::parse("order.*").unwrap();
    let late = Registration::new(pattern, "late".into(), Priority::default(), 5);
    session.registrations().register(&[late]).await.unwrap();
    store
}

fn everything(limit: usize) -> Replay {
    Replay::new(EventFilter::default(), limit)
}

#[tokio::test]
async fn a_replay_whose_answer_was_lost_goes_on_and_makes_nothing_twice() {
    let store = FaultyStorer::new(Arc::new(past_events(7).await));
    store
        .faults()
        .inject(Operation::Replay, Fault::LoseAnswer, 1);
    let error = store.replay_all(everything(2)).await.unwrap_err();
    assert!(error.is_transient() && error.is_uncertain(), "{error:?}");
    let StoreError::Stopped { after, cause, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!(after, None);
    assert!(matches!(*cause, StoreError::Unavailable { .. }));

    let replayed = store.replay_all(everything(2)).await.unwrap();
    assert_eq!(
        (replayed.created, replayed.open),
        (5, 2),
        "the first batch had taken effect"
    );
    let mut session = store.session().await.unwrap();
    let (all, page) = (RequestFilter::default(), Page::first(100));
    let requests = session.handler_requests().list(&all, &page).await.unwrap();
    assert_eq!(requests.len(), 7);
}

#[tokio::test]
async fn a_replay_that_stops_in_the_middle_tells_where() {
    let last = EventId::new();
    let mut store = MockStorer::new();
    let mut batch = 0;
    store.expect_session().times(2).returning(move || {
        batch += 1;
        let mut requests = MockHandlerRequestRepository::new();
        requests.expect_replay().once().returning(move |replay| {
            if batch == 1 {
                let mut replayed = Replayed::default();
                (replayed.created, replayed.next) = (3, Some(last));
                return Ok(replayed);
            }
            assert_eq!(replay.after, Some(last));
            Err(StoreError::Unavailable {
                operation: "replay",
                source: None,
            })
        });
        let mut session = MockSession::new();
        session
            .expect_handler_requests()
            .return_once(move || Box::new(requests));
        Ok(Box::new(session))
    });
    let error = store.replay_all(everything(3)).await.unwrap_err();
    let text = error.to_string();
    for part in ["3 requests made", &last.to_string()] {
        assert!(text.contains(part), "{text:?} does not tell {part:?}");
    }
    assert!(matches!(error, StoreError::Stopped { after, .. } if after == Some(last)));
}

#[tokio::test]
async fn a_refused_replay_is_an_error_of_its_own() {
    let store = past_events(1).await;
    let refused = store
        .replay_all(everything(1).to_handlers(["nobody"]))
        .await;
    assert!(matches!(refused, Err(StoreError::Invalid { .. })));
    let refused = store.prune_all(Prune::new(0)).await;
    assert!(matches!(refused, Err(StoreError::Invalid { .. })));
}

/// A store in memory never waits, so that without a yield nobody else would run on its thread.
#[tokio::test(flavor = "current_thread")]
async fn many_batches_leave_others_their_turn() {
    let store = past_events(200).await;
    let prune = Prune::new(1).completed_for(Some(std::time::Duration::ZERO));
    let batches = async {
        store.replay_all(everything(1)).await.unwrap();
        store.prune_all(prune).await.unwrap();
    };
    let mut turns = 0;
    let others = async {
        loop {
            turns += 1;
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = batches => {}
        () = others => {}
    }
    assert!(turns > 300, "{turns}");
}

#[tokio::test]
async fn a_prune_that_failed_is_repeated_without_harm() {
    let memory = past_events(5).await;
    let store = FaultyStorer::new(Arc::new(memory));
    let prune = Prune::new(2).completed_for(Some(std::time::Duration::ZERO));
    store
        .faults()
        .inject(Operation::Prune, Fault::LoseAnswer, 1);
    let error = store.prune_all(prune).await.unwrap_err();
    assert!(matches!(error, StoreError::Stopped { .. }), "{error:?}");
    let pruned = store.prune_all(prune).await.unwrap();
    assert_eq!(pruned.events, 3, "two had gone");
    let mut session = store.session().await.unwrap();
    let left = session.events().count(&EventFilter::default()).await;
    assert_eq!(left.unwrap(), 0);
}
