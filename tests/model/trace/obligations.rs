//! What a scheduler may ask of a store, whatever the store does: it is judged by what it was told, and
//! by nothing that it cannot know.

use std::collections::{BTreeMap, BTreeSet};

use tidings::{HandlerRequestId, LeaseOwner};

use super::call::{Answer, Asked, Call, Fate};

/// A claim: the request, its owner and the attempt.
type Claim = (HandlerRequestId, LeaseOwner, u64);

/// What one scheduler was told, and what it owes since.
#[derive(Default)]
struct Told {
    /// The handlers that it has registered.
    handlers: BTreeSet<String>,
    /// What it was given.
    claims: BTreeSet<Claim>,
    /// In which transactions it has settled what.
    settled_in: BTreeMap<u32, Vec<Claim>>,
    /// Claims whose requests it must read, locked, before it writes anything for them.
    must_read: BTreeSet<Claim>,
    /// How often it did.
    locked_reads: usize,
}

/// Answers with the first call to which its scheduler had no right, or how often a request was read
/// after a commit without an answer.
pub(super) fn check(calls: &[Call]) -> Result<usize, String> {
    let mut told: BTreeMap<usize, Told> = BTreeMap::new();
    // What was told counts from the end of its call on, so both points of each are gone through.
    let mut points: Vec<_> = calls
        .iter()
        .flat_map(|call| {
            let end = call.end.map(|end| (end, true, call));
            [Some((call.begin, false, call)), end]
        })
        .flatten()
        .collect();
    points.sort_unstable_by_key(|(at, ..)| *at);
    for (_, is_end, call) in points {
        let told = told.entry(call.process).or_default();
        if is_end {
            told.hear(call);
        } else {
            let asked = told.ask(call);
            asked.map_err(|why| format!("{why}: {call:#?}"))?;
        }
    }
    Ok(told.values().map(|told| told.locked_reads).sum())
}

impl Told {
    /// Whether it may ask so.
    fn ask(&mut self, call: &Call) -> Result<(), String> {
        match &call.asked {
            Asked::Register(registrations) => {
                let handlers = registrations.iter().map(|it| it.handler.to_string());
                self.handlers.extend(handlers);
            }
            Asked::Claim { claim, suspects } => {
                for room in &claim.handlers {
                    require(
                        self.handlers.contains(&*room.handler),
                        "a handler that it has",
                    )?;
                }
                require(!suspects || claim.limit == 1, "one suspect at a time")?;
            }
            Asked::FanOut(Some(offer)) => {
                for room in &offer.handlers {
                    require(
                        self.handlers.contains(&*room.handler),
                        "a handler that it has",
                    )?;
                }
            }
            Asked::Settle(settling) => {
                for it in settling {
                    self.may_write((it.id, it.owner, it.attempt))?;
                    if let Some(transaction) = call.transaction {
                        self.settled_in
                            .entry(transaction)
                            .or_default()
                            .push((it.id, it.owner, it.attempt));
                    }
                }
            }
            Asked::HandBack(owner, claims) => {
                for (id, attempt) in claims {
                    self.may_write((*id, *owner, *attempt))?;
                }
            }
            Asked::Renew(renewal) => {
                for (id, attempt) in &renewal.requests {
                    let claim = (*id, renewal.owner, *attempt);
                    require(self.claims.contains(&claim), "a claim that it was given")?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn may_write(&self, claim: Claim) -> Result<(), String> {
        require(self.claims.contains(&claim), "a claim that it was given")?;
        require(
            !self.must_read.contains(&claim),
            "a locked read after a commit without an answer",
        )
    }

    fn hear(&mut self, call: &Call) {
        match (&call.asked, &call.fate) {
            (Asked::FanOut(Some(offer)), Fate::Answered(Answer::FannedOut { born, .. })) => {
                let born = born.iter().map(|it| (it.id, offer.owner, it.attempt));
                self.claims.extend(born);
            }
            (Asked::Claim { claim, .. }, Fate::Answered(Answer::Claimed(leased))) => {
                let leased = leased.iter().map(|it| (it.id, claim.owner, it.attempt));
                self.claims.extend(leased);
            }
            (Asked::Commit, Fate::Unknown) => {
                let settled = call.transaction.and_then(|it| self.settled_in.remove(&it));
                self.must_read.extend(settled.unwrap_or_default());
            }
            (Asked::Find { id, locked: true }, Fate::Answered(_)) => {
                let owed = self.must_read.len();
                self.must_read.retain(|(request, ..)| request != id);
                self.locked_reads += owed - self.must_read.len();
            }
            _ => {}
        }
    }
}

fn require(holds: bool, what: &str) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(format!("a scheduler needs {what}"))
    }
}
