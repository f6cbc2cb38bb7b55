//! What operators do to single requests and to the dead: cancel, reexecute, run now.

use super::{
    Target,
    kit::{ALL, BACKOFF, Kit, assert_refused},
};
use crate::{
    error::StoreError,
    id::HandlerRequestId,
    model::{Outcome, RequestState},
    store::RequestFilter,
};

/// Open and dead requests can be canceled; ended ones refuse and name their state.
pub async fn open_and_dead_requests_can_be_canceled(target: &dyn Target) {
    let kit = Kit::new(target);
    for state in RequestState::ALL {
        let id = in_state(&kit, state).await;
        let before = kit.find(id).await;
        let mut session = kit.session().await;
        let answer = session.handler_requests().cancel(id).await;
        let after = kit.find(id).await;
        if matches!(state, RequestState::Completed | RequestState::Canceled) {
            assert_refused(answer, state);
            assert_eq!(after, before);
        } else {
            answer.unwrap();
            assert_eq!(after.attempt, before.attempt + 1);
            assert_eq!(
                (after.lease, after.dead_at, after.backoff_until),
                (None, None, None)
            );
            assert_eq!(after.errors, before.errors);
            assert_eq!(kit.state(id).await, RequestState::Canceled, "{state}");
        }
    }
}

/// Ended requests run again with no errors; open ones refuse and name their state.
pub async fn ended_requests_can_be_reexecuted(target: &dyn Target) {
    let kit = Kit::new(target);
    for state in RequestState::ALL {
        let id = in_state(&kit, state).await;
        let before = kit.find(id).await;
        let mut session = kit.session().await;
        let answer = session.handler_requests().reexecute(id).await;
        let after = kit.find(id).await;
        if state.is_end() {
            answer.unwrap();
            assert_eq!((after.errors, after.attempt), (0, before.attempt + 1));
            assert_eq!(
                (after.executions, &after.last_errors),
                (before.executions, &before.last_errors)
            );
            assert_eq!(kit.state(id).await, RequestState::Pending);
            assert_eq!(kit.claim_one(&after.handler).await.id, id);
        } else {
            assert_refused(answer, state);
            assert_eq!(after, before);
        }
    }
}

/// A backoff can be cleared; pending requests stay as they are, others refuse.
pub async fn a_backoff_can_be_cleared(target: &dyn Target) {
    let kit = Kit::new(target);
    for state in RequestState::ALL {
        let id = in_state(&kit, state).await;
        let before = kit.find(id).await;
        let mut session = kit.session().await;
        let answer = session.handler_requests().run_now(id).await;
        let after = kit.find(id).await;
        match state {
            RequestState::BackingOff => {
                answer.unwrap();
                assert_eq!((after.backoff_until, after.errors), (None, before.errors));
                assert_eq!(after.attempt, before.attempt);
                assert_eq!(kit.claim_one(&after.handler).await.id, id);
            }
            RequestState::Pending => {
                answer.unwrap();
                assert_eq!(after, before);
            }
            _ => {
                assert_refused(answer, state);
                assert_eq!(after, before);
            }
        }
    }
}

/// What does not exist is refused, and the error names it.
pub async fn a_request_that_does_not_exist_is_refused(target: &dyn Target) {
    let kit = Kit::new(target);
    let id = HandlerRequestId::from_uuid(uuid::Uuid::from_u128(3));
    let mut session = kit.session().await;
    let canceled = session.handler_requests().cancel(id).await;
    let reexecuted = session.handler_requests().reexecute(id).await;
    let run = session.handler_requests().run_now(id).await;
    for answer in [canceled, reexecuted, run] {
        let error = answer.unwrap_err();
        assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
        assert!(error.to_string().contains(&id.to_string()), "{error}");
    }
}

/// The cancel of a running execution holds at once.
pub async fn a_canceled_execution_cannot_complete(target: &dyn Target) {
    let kit = Kit::new(target);
    let request = kit.executing("h").await;
    kit.cancel(request.id).await;
    kit.settle(&request, Outcome::Completed).await;
    assert_eq!(kit.state(request.id).await, RequestState::Canceled);
    assert_eq!(kit.lose_all().await, []);
}

/// Dead requests that match run again, the oldest first, up to the limit.
pub async fn matching_dead_requests_are_reexecuted(target: &dyn Target) {
    let kit = Kit::new(target);
    let ids = kit.pending("h", 5).await;
    kit.pending("i", 1).await;
    let claimed = kit.claim(&["h", "i"], ALL).await;
    for request in &claimed {
        let reason = if request.id == ids[0] {
            "other"
        } else {
            "the same"
        };
        kit.settle(
            request,
            Outcome::Discarded {
                reason: reason.into(),
            },
        )
        .await;
    }
    let filter = RequestFilter {
        handlers: vec!["h".into()],
        error_contains: Some("same".into()),
        ..RequestFilter::default()
    };
    let mut session = kit.session().await;
    for (limit, expected) in [(0, 0), (3, 3), (3, 1), (3, 0)] {
        let count = session
            .handler_requests()
            .reexecute_dead(&filter, limit)
            .await
            .unwrap();
        assert_eq!(count, expected);
        if limit == 3 && expected == 3 {
            let claimed = kit.claim(&["h"], ALL).await;
            let again: Vec<_> = claimed.iter().map(|request| request.id).collect();
            assert_eq!(again, ids[1..4], "the oldest first");
            assert!(
                claimed
                    .iter()
                    .all(|request| request.errors == 0 && request.attempt > 1)
            );
        }
    }
    assert_eq!(session.handler_requests().count_dead().await.unwrap(), 2);
    let all = RequestFilter {
        states: vec![RequestState::Completed],
        ..RequestFilter::default()
    };
    let count = session
        .handler_requests()
        .reexecute_dead(&all, ALL)
        .await
        .unwrap();
    assert_eq!(count, 2, "the states of the filter do not matter");
}

/// A request of a handler of its own in this state.
async fn in_state(kit: &Kit<'_>, state: RequestState) -> HandlerRequestId {
    let handler = format!("h {state} {}", crate::id::EventId::new());
    if state == RequestState::Pending {
        return kit.pending(&handler, 1).await[0];
    }
    let request = kit.executing(&handler).await;
    let outcome = match state {
        RequestState::Canceled => Outcome::Canceled {
            reason: "no".into(),
        },
        RequestState::Completed => Outcome::Completed,
        RequestState::Dead => Outcome::Discarded {
            reason: "no".into(),
        },
        RequestState::BackingOff => Outcome::Failed {
            error: "no".into(),
            backoff: BACKOFF,
        },
        RequestState::Executing | RequestState::Pending => return request.id,
    };
    kit.settle(&request, outcome).await;
    assert_eq!(kit.state(request.id).await, state);
    request.id
}
