//! Every state × every transition: the refusal, or all fields that change.

use super::*;
use crate::{
    id::EventId,
    model::{ExecutionError, Priority},
};

const LEASE: Duration = Duration::from_secs(30);
const WAIT: Duration = Duration::from_secs(7);
const ATTEMPT: u64 = 7;

/// What a request can be. A lease that has run out makes a difference to a rescue only, and a
/// backoff that has passed none at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Canceled,
    Completed,
    Dead,
    Executing,
    Expired,
    BackingOff,
    BackedOff,
    Pending,
}

use Case::{BackedOff, BackingOff, Canceled, Completed, Dead, Executing, Expired, Pending};

const CASES: [Case; 8] = [
    Canceled, Completed, Dead, Executing, Expired, BackingOff, BackedOff, Pending,
];

/// A cell of the table.
#[derive(Clone, Copy)]
enum Cell {
    /// It is refused, and nothing changes.
    No(Refusal),
    /// It happens, and this is everything that changes.
    Yes(fn(&mut HandlerRequest)),
}

use Cell::{No, Yes};

type Apply = fn(&mut HandlerRequest) -> Result<(), Refusal>;

const FENCED: Cell = No(Refusal::Fenced);
const IS_CANCELED: Cell = No(Refusal::State(RequestState::Canceled));
const IS_COMPLETED: Cell = No(Refusal::State(RequestState::Completed));
const IS_DEAD: Cell = No(Refusal::State(RequestState::Dead));
const IS_EXECUTING: Cell = No(Refusal::State(RequestState::Executing));
const IS_BACKING_OFF: Cell = No(Refusal::State(RequestState::BackingOff));
const IS_PENDING: Cell = No(Refusal::State(RequestState::Pending));

/// Each transition, and what it does to [`CASES`], in their order.
const TABLE: [(&str, Apply, [Cell; 8]); 16] = [
    ("claim", |request| request.claim(now(), owner(), LEASE), {
        const CLAIMED: Cell = Yes(|request| {
            request.attempt = 8;
            request.backoff_until = None;
            request.lease = Some(Lease {
                owner: owner(),
                until: now() + LEASE,
            });
        });
        [
            IS_CANCELED,
            IS_COMPLETED,
            IS_DEAD,
            IS_EXECUTING,
            IS_EXECUTING,
            IS_BACKING_OFF,
            CLAIMED,
            CLAIMED,
        ]
    }),
    (
        "settle: completed",
        |request| request.settle(now(), owner(), ATTEMPT, &Outcome::Completed, true),
        held(Yes(|request| {
            executed(request);
            request.completed_at = Some(now());
        })),
    ),
    (
        "settle: failed",
        |request| request.settle(now(), owner(), ATTEMPT, &failed(), true),
        held(Yes(|request| {
            executed(request);
            remembered(request, "broken");
            request.errors = 3;
            request.backoff_until = Some(now() + WAIT);
        })),
    ),
    (
        "settle: discarded",
        |request| {
            request.settle(
                now(),
                owner(),
                ATTEMPT,
                &Outcome::Discarded {
                    reason: "useless".into(),
                },
                true,
            )
        },
        held(Yes(|request| {
            executed(request);
            remembered(request, "useless");
            request.errors = 3;
            request.dead_at = Some(now());
        })),
    ),
    (
        "settle: snoozed",
        |request| {
            request.settle(
                now(),
                owner(),
                ATTEMPT,
                &Outcome::Snoozed { duration: WAIT },
                true,
            )
        },
        held(Yes(|request| {
            executed(request);
            request.backoff_until = Some(now() + WAIT);
        })),
    ),
    (
        "settle: canceled",
        |request| {
            request.settle(
                now(),
                owner(),
                ATTEMPT,
                &Outcome::Canceled {
                    reason: "unwanted".into(),
                },
                true,
            )
        },
        held(Yes(|request| {
            executed(request);
            remembered(request, "unwanted");
            request.canceled_at = Some(now());
        })),
    ),
    (
        "settle: vetoed",
        |request| request.settle(now(), owner(), ATTEMPT, &failed(), false),
        held(Yes(|request| {
            request.lease = None;
            remembered(request, "broken");
            request.errors = 3;
            request.backoff_until = Some(now() + WAIT);
        })),
    ),
    (
        "settle: earlier attempt",
        |request| request.settle(now(), owner(), ATTEMPT - 1, &failed(), true),
        [FENCED; 8],
    ),
    (
        "settle: later attempt",
        |request| request.settle(now(), owner(), ATTEMPT + 1, &failed(), true),
        [FENCED; 8],
    ),
    (
        "settle: other owner",
        |request| request.settle(now(), stranger(), ATTEMPT, &failed(), true),
        [FENCED; 8],
    ),
    (
        "hand back",
        |request| request.hand_back(owner(), ATTEMPT),
        held(Yes(|request| {
            request.attempt = 8;
            request.lease = None;
        })),
    ),
    (
        "renew",
        |request| request.renew(now(), owner(), ATTEMPT, WAIT),
        held(Yes(|request| {
            request.lease = Some(Lease {
                owner: owner(),
                until: now() + WAIT,
            })
        })),
    ),
    (
        "rescue",
        |request| {
            request
                .rescue(now(), WAIT)
                .map(|rescue| assert_eq!(rescue, Rescue::Ready))
        },
        {
            const RESCUED: Cell = Yes(|request| {
                request.attempt = 8;
                request.rescues = 2;
                request.lease = None;
            });
            [
                IS_CANCELED,
                IS_COMPLETED,
                IS_DEAD,
                No(Refusal::Leased),
                RESCUED,
                IS_BACKING_OFF,
                IS_PENDING,
                IS_PENDING,
            ]
        },
    ),
    ("cancel", |request| request.cancel(now()), {
        const CANCELED: Cell = Yes(|request| {
            request.attempt = 8;
            request.lease = None;
            request.backoff_until = None;
            request.dead_at = None;
            request.canceled_at = Some(now());
        });
        [
            IS_CANCELED,
            IS_COMPLETED,
            CANCELED,
            CANCELED,
            CANCELED,
            CANCELED,
            CANCELED,
            CANCELED,
        ]
    }),
    ("reexecute", |request| request.reexecute(now()), {
        const AGAIN: Cell = Yes(|request| {
            request.attempt = 8;
            request.errors = 0;
            request.completed_at = None;
            request.canceled_at = None;
            request.dead_at = None;
        });
        [
            AGAIN,
            AGAIN,
            AGAIN,
            IS_EXECUTING,
            IS_EXECUTING,
            IS_BACKING_OFF,
            IS_PENDING,
            IS_PENDING,
        ]
    }),
    ("run now", |request| request.run_now(now()), {
        const AT_ONCE: Cell = Yes(|request| request.backoff_until = None);
        [
            IS_CANCELED,
            IS_COMPLETED,
            IS_DEAD,
            IS_EXECUTING,
            IS_EXECUTING,
            AT_ONCE,
            AT_ONCE,
            AT_ONCE,
        ]
    }),
];

/// A row of a transition that needs the fence.
const fn held(cell: Cell) -> [Cell; 8] {
    [FENCED, FENCED, FENCED, cell, cell, FENCED, FENCED, FENCED]
}

#[test]
fn every_transition_does_what_the_table_says_in_every_state() {
    for (transition, apply, cells) in TABLE {
        for (case, cell) in CASES.into_iter().zip(cells) {
            let before = request(case);
            let mut after = before.clone();
            let answer = apply(&mut after);
            let mut expected = before;
            let allowed = match cell {
                No(refusal) => Err(refusal),
                Yes(change) => {
                    change(&mut expected);
                    Ok(())
                }
            };
            assert_eq!(answer, allowed, "{transition} of {case:?}");
            assert_eq!(after, expected, "{transition} of {case:?}");
        }
    }
}

#[test]
fn the_last_error_kills() {
    let mut last = HandlerRequest {
        errors: 4,
        ..request(Executing)
    };
    last.settle(now(), owner(), ATTEMPT, &failed(), true)
        .unwrap();
    assert_eq!(
        (last.errors, last.dead_at, last.backoff_until),
        (5, Some(now()), None)
    );
    assert_eq!(last.state(now()), RequestState::Dead);
}

#[test]
fn a_discarded_request_is_dead_below_its_max_errors() {
    let mut first = HandlerRequest {
        errors: 0,
        ..request(Executing)
    };
    let discarded = Outcome::Discarded {
        reason: "useless".into(),
    };
    first
        .settle(now(), owner(), ATTEMPT, &discarded, true)
        .unwrap();
    assert_eq!((first.errors, first.state(now())), (1, RequestState::Dead));
}

#[test]
fn from_the_third_rescue_on_each_counts_an_error() {
    for (rescues, is_suspect) in [(0, false), (2, false), (3, true), (9, true)] {
        let mut lost = HandlerRequest {
            rescues,
            ..request(Expired)
        };
        assert_eq!(lost.is_suspect(), is_suspect);
        let rescue = lost.rescue(now(), WAIT).unwrap();
        assert_eq!(
            (lost.rescues, lost.attempt, lost.lease),
            (rescues + 1, ATTEMPT + 1, None)
        );
        if is_suspect {
            assert_eq!((rescue, lost.errors), (Rescue::BackedOff, 3));
            assert_eq!(lost.backoff_until, Some(now() + WAIT));
            let error = lost.last_errors.last().unwrap();
            assert!(error.message.starts_with("worker lost"));
            assert_eq!(error.attempt, ATTEMPT, "the attempt that was lost");
        } else {
            assert_eq!(
                (rescue, lost.errors, lost.backoff_until),
                (Rescue::Ready, 2, None)
            );
        }
    }
    let mut last = HandlerRequest {
        rescues: 3,
        errors: 4,
        ..request(Expired)
    };
    assert_eq!(last.rescue(now(), WAIT), Ok(Rescue::Dead));
    assert_eq!(
        (last.state(now()), last.backoff_until),
        (RequestState::Dead, None)
    );
}

#[test]
fn a_suspects_execution_counts_at_its_claim_and_not_again() {
    let mut suspect = HandlerRequest {
        rescues: 3,
        ..request(Pending)
    };
    suspect.claim(now(), owner(), LEASE).unwrap();
    assert_eq!(
        (suspect.executions, suspect.last_execution_at),
        (4, Some(now()))
    );
    suspect
        .settle(now(), owner(), ATTEMPT + 1, &Outcome::Completed, true)
        .unwrap();
    assert_eq!(suspect.executions, 4);
}

#[test]
fn ends_come_before_all_else_in_the_state() {
    let at = Some(now());
    let all = HandlerRequest {
        canceled_at: at,
        completed_at: at,
        dead_at: at,
        backoff_until: Some(now() + WAIT),
        ..request(Executing)
    };
    let without: [fn(&mut HandlerRequest); 5] = [
        |request| request.canceled_at = None,
        |request| request.completed_at = None,
        |request| request.dead_at = None,
        |request| request.lease = None,
        |request| request.backoff_until = None,
    ];
    let mut request = all;
    for (state, remove) in RequestState::ALL.into_iter().zip(without) {
        assert_eq!(request.state(now()), state);
        remove(&mut request);
    }
    assert_eq!(request.state(now()), RequestState::Pending);
}

#[test]
fn a_backoff_and_a_lease_end_at_their_very_instant() {
    let backing_off = HandlerRequest {
        backoff_until: Some(now()),
        ..request(Pending)
    };
    assert_eq!(backing_off.state(now()), RequestState::Pending);
    let microsecond = Duration::from_micros(1);
    assert_eq!(
        backing_off.state(now() - microsecond),
        RequestState::BackingOff
    );
    let mut leased = HandlerRequest {
        lease: Some(Lease {
            owner: owner(),
            until: now(),
        }),
        ..request(Pending)
    };
    assert_eq!(
        leased.clone().rescue(now() - microsecond, WAIT),
        Err(Refusal::Leased)
    );
    assert_eq!(leased.rescue(now(), WAIT), Ok(Rescue::Ready));
}

#[test]
fn counters_at_their_end_do_not_wrap() {
    let mut request = HandlerRequest {
        errors: u32::MAX,
        executions: u32::MAX,
        rescues: u32::MAX,
        ..request(Executing)
    };
    request
        .settle(now(), owner(), ATTEMPT, &failed(), true)
        .unwrap();
    assert_eq!((request.errors, request.executions), (u32::MAX, u32::MAX));
}

fn request(case: Case) -> HandlerRequest {
    let event = EventId::from_uuid(uuid::Uuid::from_u128(1));
    let created = now() - Duration::from_secs(100);
    let (name, handler) = ("order.placed".into(), "notify".into());
    let mut request = HandlerRequest::new(event, name, handler, Priority::default(), 5, created);
    request.attempt = ATTEMPT;
    (request.errors, request.executions, request.rescues) = (2, 3, 1);
    request.last_execution_at = Some(created);
    remembered(&mut request, "earlier");
    let until = |until| {
        Some(Lease {
            owner: owner(),
            until,
        })
    };
    match case {
        Canceled => request.canceled_at = Some(created),
        Completed => request.completed_at = Some(created),
        Dead => request.dead_at = Some(created),
        Executing => request.lease = until(now() + LEASE),
        Expired => request.lease = until(now()),
        BackingOff => request.backoff_until = Some(now() + LEASE),
        BackedOff => request.backoff_until = Some(now()),
        Pending => {}
    }
    request
}

/// The change of every settlement of an execution.
fn executed(request: &mut HandlerRequest) {
    request.lease = None;
    request.executions = 4;
    request.last_execution_at = Some(now());
}

fn remembered(request: &mut HandlerRequest, message: &str) {
    request.last_errors.push(ExecutionError {
        at: now(),
        attempt: ATTEMPT,
        message: message.to_owned(),
    });
}

fn failed() -> Outcome {
    Outcome::Failed {
        error: "broken".into(),
        backoff: WAIT,
    }
}

fn now() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600)
}

fn owner() -> LeaseOwner {
    LeaseOwner::from_uuid(uuid::Uuid::from_u128(2))
}

fn stranger() -> LeaseOwner {
    LeaseOwner::from_uuid(uuid::Uuid::from_u128(3))
}
