//! A trace that was tampered with is rejected: each kind of lie that a store could tell.

use tidings::{
    HandlerRequestId, Outcome,
    store::{Raised, Settled},
};

use super::{
    call::{Answer, Asked, Call, Fate, Leased},
    drive::drive_calmly,
    replay::replay,
    seeds::{failed, seeds},
    stores::Memory,
};

const TRACES: u64 = 12;
const STEPS: usize = 150;

/// Changes a trace, at the last place where that is possible; whether there was one.
type Tamper = fn(&mut Vec<Call>) -> bool;

#[tokio::test]
async fn a_trace_that_was_tampered_with_is_rejected() {
    const LIES: &[(&str, Tamper)] = &[
        ("a stale settlement is accepted", |calls| {
            change_settled(calls, Settled::Fenced, Settled::Applied)
        }),
        ("a good settlement is refused", |calls| {
            change_settled(calls, Settled::Applied, Settled::Fenced)
        }),
        ("an attempt does not increase", |calls| {
            repeat_attempt(calls)
        }),
        ("a completed request is claimed", claim_completed),
        ("a request completes twice", complete_twice),
        ("a lease is taken before it has run out", |calls| {
            change_rescue(calls, |call, _| call.now.latest = 0)
        }),
        ("a rescue counts no error, or one too many", |calls| {
            change_rescue(calls, |_, rescued| rescued.errors += 1)
        }),
        ("a request is not made", |calls| make_one_less(calls)),
        ("an event that was rolled back is processed", |calls| {
            roll_back_raise(calls)
        }),
        ("a cancel is forgotten", forget_cancel),
        ("a claim is of a handler that was not asked for", |calls| {
            claim_unasked(calls)
        }),
        ("an event is new that was there", |calls| raise_again(calls)),
    ];
    let mut told = vec![0; LIES.len()];
    for seed in seeds(TRACES) {
        let calls = drive_calmly(&Memory::default(), seed, STEPS).await.calls();
        if let Err(rejected) = replay(&calls) {
            failed(seed, rejected);
        }
        for (number, (lie, tamper)) in LIES.iter().enumerate() {
            let mut tampered = calls.clone();
            if tamper(&mut tampered) {
                told[number] += 1;
                if replay(&tampered).is_ok() {
                    failed(seed, format!("nobody noticed that {lie}"));
                }
            }
        }
    }
    for ((lie, _), times) in LIES.iter().zip(told) {
        println!("{lie}: rejected in {times} traces");
        assert!(times > 0, "there was no occasion for: {lie}");
    }
}

fn change_settled(calls: &mut [Call], from: Settled, to: Settled) -> bool {
    let changed = calls.iter_mut().rev().find_map(|call| {
        let settles = matches!(call.asked, Asked::Settle(_)) && call.transaction.is_none();
        match &mut call.fate {
            Fate::Answered(Answer::Settled(settled)) if settles => {
                settled.iter_mut().find(|it| **it == from)
            }
            _ => None,
        }
    });
    changed.map(|settled| *settled = to).is_some()
}

fn claimed(calls: &mut [Call]) -> impl Iterator<Item = (&Asked, &mut Vec<Leased>)> {
    calls
        .iter_mut()
        .rev()
        .filter_map(|call| match &mut call.fate {
            Fate::Answered(Answer::Claimed(leased)) => Some((&call.asked, leased)),
            _ => None,
        })
}

fn repeat_attempt(calls: &mut [Call]) -> bool {
    let leased = claimed(calls).find_map(|(_, leased)| leased.first_mut());
    leased.map(|leased| leased.attempt -= 1).is_some()
}

/// The place of the last call that completed a request outside of a transaction.
fn completion(calls: &[Call]) -> Option<(usize, HandlerRequestId, u64)> {
    calls.iter().enumerate().rev().find_map(|(index, call)| {
        let (Asked::Settle(settling), Fate::Answered(Answer::Settled(settled))) =
            (&call.asked, &call.fate)
        else {
            return None;
        };
        let mut both = settling.iter().zip(settled);
        let (it, _) = both.find(|(it, settled)| {
            it.outcome == Outcome::Completed && **settled == Settled::Applied
        })?;
        call.transaction
            .is_none()
            .then_some((index, it.id, it.attempt))
    })
}

/// Adds a claim of what has just been completed.
fn claim_completed(calls: &mut Vec<Call>) -> bool {
    let Some((index, id, attempt)) = completion(calls) else {
        return false;
    };
    let given = calls
        .iter()
        .find_map(|call| match (&call.asked, &call.fate) {
            (
                Asked::Claim {
                    suspects: false, ..
                },
                Fate::Answered(Answer::Claimed(leased)),
            ) => {
                let mut leased = leased.iter().filter(|it| it.id == id);
                leased.next().map(|leased| (call.clone(), leased.clone()))
            }
            _ => None,
        });
    let Some((mut claim, mut leased)) = given else {
        return false;
    };
    leased.attempt = attempt + 1;
    claim.fate = Fate::Answered(Answer::Claimed(vec![leased]));
    claim.now = calls[index].now;
    insert_after(calls, index, claim);
    true
}

fn complete_twice(calls: &mut Vec<Call>) -> bool {
    let Some((index, ..)) = completion(calls) else {
        return false;
    };
    insert_after(calls, index, calls[index].clone());
    true
}

fn insert_after(calls: &mut Vec<Call>, index: usize, mut call: Call) {
    let end = calls[index].end.expect("it was answered");
    for other in calls.iter_mut() {
        for at in [Some(&mut other.begin), other.end.as_mut()]
            .into_iter()
            .flatten()
        {
            if *at > end {
                *at += 2;
            }
        }
    }
    (call.begin, call.end) = (end + 1, Some(end + 2));
    calls.insert(index + 1, call);
}

fn change_rescue(
    calls: &mut [Call],
    change: impl Fn(&mut Call, &mut super::call::TakenBack),
) -> bool {
    for call in calls.iter_mut().rev() {
        let Fate::Answered(Answer::Rescued(mut rescued)) = call.fate.clone() else {
            continue;
        };
        if let Some(first) = rescued.first_mut() {
            change(call, first);
            call.fate = Fate::Answered(Answer::Rescued(rescued));
            return true;
        }
    }
    false
}

fn make_one_less(calls: &mut [Call]) -> bool {
    let processed = calls
        .iter_mut()
        .rev()
        .find_map(|call| match &mut call.fate {
            Fate::Answered(Answer::FannedOut { processed, .. }) => processed.first_mut(),
            _ => None,
        });
    processed.map(|(_, requests)| *requests -= 1).is_some()
}

fn roll_back_raise(calls: &mut [Call]) -> bool {
    let processed = calls.iter().rev().find_map(|call| match &call.fate {
        Fate::Answered(Answer::FannedOut { processed, .. }) => processed.first(),
        _ => None,
    });
    let Some((event, _)) = processed.copied() else {
        return false;
    };
    let raised = calls.iter().find(|call| match &call.asked {
        Asked::Raise(events) => events.iter().any(|(id, _)| *id == event),
        _ => false,
    });
    let transaction = raised.and_then(|call| call.transaction);
    let commit = calls
        .iter_mut()
        .find(|call| call.transaction == transaction && matches!(call.asked, Asked::Commit));
    commit
        .map(|commit| commit.asked = Asked::Rollback)
        .is_some()
}

/// The request is read later, as it is.
fn forget_cancel(calls: &mut Vec<Call>) -> bool {
    let cancel = calls.iter().rposition(|call| {
        matches!(call.asked, Asked::Cancel(_)) && call.fate == Fate::Answered(Answer::Done)
    });
    cancel.map(|index| calls.remove(index)).is_some()
}

fn claim_unasked(calls: &mut [Call]) -> bool {
    let leased = calls
        .iter_mut()
        .rev()
        .find_map(|call| match &mut call.fate {
            Fate::Answered(Answer::Claimed(leased)) if !leased.is_empty() => {
                Some((&mut call.asked, &leased[0]))
            }
            _ => None,
        });
    let Some((Asked::Claim { claim, .. }, leased)) = leased else {
        return false;
    };
    claim.handlers.retain(|room| room.handler != leased.handler);
    true
}

fn raise_again(calls: &mut [Call]) -> bool {
    let raised = calls
        .iter_mut()
        .find_map(|call| match (&call.asked, &mut call.fate) {
            (Asked::Raise(events), Fate::Answered(Answer::Raised(raised)))
                if !events.is_empty() =>
            {
                raised.first_mut()
            }
            _ => None,
        });
    raised
        .map(|raised| *raised = Raised::AlreadyRaised)
        .is_some()
}
