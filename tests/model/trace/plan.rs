//! What a process of a drive does next, chosen among what there is.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tidings::{Event, EventData, EventId, HandlerRequestId, LeaseOwner, Outcome};

use super::{
    call::{Answer, Asked, Call, Fate, Leased},
    seeds::Chance,
};

pub(super) const BACKOFF: Duration = Duration::from_secs(40);

/// What a process does next.
pub(super) enum Plan {
    Raise {
        event: Event,
        commit: bool,
    },
    FanOut {
        offer: bool,
    },
    Claim {
        limit: usize,
        suspects: bool,
    },
    Settle {
        claims: Vec<Claimed>,
        outcomes: Vec<Outcome>,
        transaction: bool,
    },
    HandBack {
        claim: Claimed,
    },
    Renew {
        claims: Vec<Claimed>,
    },
    Rescue,
    Cancel(HandlerRequestId),
    Reexecute(HandlerRequestId),
    RunNow(HandlerRequestId),
    Find(HandlerRequestId),
}

/// A claim: the request, its owner and the attempt.
pub(super) type Claimed = (HandlerRequestId, LeaseOwner, u64);

/// What anybody was ever given, by the log.
#[derive(Default)]
pub(super) struct Known {
    claims: Vec<Claimed>,
    requests: Vec<HandlerRequestId>,
    /// How many calls it has gone through.
    calls: usize,
    /// Little is settled, so that leases run out again and again and requests become suspects.
    is_forgetful: bool,
}

impl Known {
    pub(super) fn new(is_forgetful: bool) -> Self {
        Self {
            is_forgetful,
            ..Self::default()
        }
    }

    pub(super) fn update(&mut self, calls: &[Call]) {
        for call in &calls[self.calls..] {
            let (owner, leased) = match (&call.asked, &call.fate) {
                (Asked::FanOut(Some(offer)), Fate::Answered(Answer::FannedOut { born, .. })) => {
                    (offer.owner, born)
                }
                (Asked::Claim { claim, .. }, Fate::Answered(Answer::Claimed(leased))) => {
                    (claim.owner, leased)
                }
                _ => continue,
            };
            for Leased { id, attempt, .. } in leased {
                self.claims.push((*id, owner, *attempt));
                self.requests.push(*id);
            }
        }
        self.calls = calls.len();
    }

    /// One of the latest, mostly.
    fn claim(&self, chance: &mut Chance) -> Option<Claimed> {
        let recent = if chance.percent(70) { 6 } else { 100 };
        let from = self.claims.len().saturating_sub(recent);
        chance.one_of(&self.claims[from..])
    }

    fn request(&self, chance: &mut Chance) -> Option<HandlerRequestId> {
        chance.one_of(&self.requests)
    }
}

/// Chooses until it has something to do it with.
pub(super) fn plan(chance: &mut Chance, known: &Known) -> Plan {
    loop {
        if let Some(plan) = try_plan(chance, known) {
            return plan;
        }
    }
}

fn try_plan(chance: &mut Chance, known: &Known) -> Option<Plan> {
    let mut what = chance.below(100);
    if known.is_forgetful && (44..64).contains(&what) && chance.percent(70) {
        what = 75;
    }
    Some(match what {
        0..14 => Plan::Raise {
            event: event(if chance.percent(50) { "a" } else { "b" }),
            commit: chance.percent(80),
        },
        14..26 => Plan::FanOut {
            offer: chance.percent(50),
        },
        26..44 => Plan::Claim {
            limit: 1 + chance.below(3),
            suspects: chance.percent(30),
        },
        44..64 => {
            let claims: Vec<_> = (0..=chance.below(2))
                .filter_map(|_| known.claim(chance))
                .collect();
            let outcomes = claims.iter().map(|_| outcome(chance)).collect();
            let transaction = chance.percent(40);
            if claims.is_empty() || claims[0].0 == claims[claims.len() - 1].0 && claims.len() > 1 {
                return None;
            }
            Plan::Settle {
                claims,
                outcomes,
                transaction,
            }
        }
        64..69 => Plan::HandBack {
            claim: known.claim(chance)?,
        },
        69..75 => Plan::Renew {
            claims: vec![known.claim(chance)?],
        },
        75..85 => Plan::Rescue,
        85..90 => Plan::Cancel(known.request(chance)?),
        90..95 => Plan::Reexecute(known.request(chance)?),
        95..97 => Plan::RunNow(known.request(chance)?),
        _ => Plan::Find(known.request(chance)?),
    })
}

/// Ids in the order in which they are given, so that a seed chooses among the same rows again.
fn event(name: &str) -> Event {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = chrono::Utc::now().timestamp_millis().unsigned_abs();
    let next = |last: u64| last.max(now) + 1;
    let last = LAST.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last| Some(next(last)));
    let millis = next(last.expect("there is always a next one"));
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &[7; 10]).into_uuid();
    Event::from_data(name, EventData::null()).with_id(EventId::from_uuid(id))
}

fn outcome(chance: &mut Chance) -> Outcome {
    match chance.below(8) {
        0..3 => Outcome::Completed,
        3..5 => Outcome::Failed {
            error: "broken".into(),
            backoff: BACKOFF,
        },
        5 => Outcome::Discarded {
            reason: "no".into(),
        },
        6 => Outcome::Snoozed { duration: BACKOFF },
        _ => Outcome::Canceled {
            reason: "no".into(),
        },
    }
}
