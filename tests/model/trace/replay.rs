//! Holds a trace against the model.
//!
//! Calls overlap, and some have no answer, so a trace does not tell one order of effects but many. All
//! that it allows are followed at once: a set of possible states, each with the calls that have begun
//! and have not yet taken effect in it. When an answer comes, its call takes effect in each of them if
//! it has not yet, after any of the others that may have come before; states in which the answer cannot
//! be are dropped. When none is left, the trace is rejected. A call without an answer may take effect at
//! any later time, or never.

use std::fmt;

use tidings::store::Settled;

use super::{
    call::{Answer, Asked, Call, Fate},
    rows::Rows,
};

/// More possible states than that are a sign of a drive that is too wild to tell anything.
const MOST_STATES: usize = 20_000;

/// What a trace came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Replayed {
    pub(crate) calls: usize,
    /// Calls whose effect is not known.
    pub(crate) unknown: usize,
    /// The most states that were possible at one time.
    pub(crate) most_states: usize,
    /// Calls whose settlements or hand-backs the fence refused.
    pub(crate) fenced: usize,
    /// Calls that took back leases that had run out.
    pub(crate) rescues: usize,
    /// Claims of suspects that got one.
    pub(crate) suspects: usize,
}

/// The answer that cannot be, and why it cannot in one of the states that were possible.
#[derive(Clone, Debug)]
pub(crate) struct Rejected {
    pub(crate) call: String,
    pub(crate) why: String,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.why, self.call)
    }
}

/// A call of a session, or all calls of a transaction: what takes effect at once.
struct Effect {
    calls: Vec<Call>,
    begin: u64,
    end: Option<u64>,
    is_unknown: bool,
    /// Rolled back: its answers must be possible, and nothing of it stays.
    is_undone: bool,
}

#[derive(Clone, Debug, PartialEq)]
struct State {
    rows: Rows,
    /// Effects that have begun and not been taken over, by their numbers.
    open: Vec<usize>,
    /// Those that were taken over before their end.
    early: Vec<usize>,
}

pub(crate) fn replay(calls: &[Call]) -> Result<Replayed, Rejected> {
    let effects = effects(calls);
    let mut points = Vec::new();
    for (number, effect) in effects.iter().enumerate() {
        points.push((effect.begin, number, false));
        if let (Some(end), false) = (effect.end, effect.is_unknown) {
            points.push((end, number, true));
        }
    }
    points.sort_unstable();
    let mut states = vec![State {
        rows: Rows::default(),
        open: Vec::new(),
        early: Vec::new(),
    }];
    let mut replayed = Replayed {
        calls: calls.len(),
        unknown: effects.iter().filter(|effect| effect.is_unknown).count(),
        fenced: count(
            calls,
            |_, answer| matches!(answer, Answer::Settled(settled) if settled.contains(&Settled::Fenced)),
        ),
        rescues: count(
            calls,
            |_, answer| matches!(answer, Answer::Rescued(rescued) if !rescued.is_empty()),
        ),
        suspects: count(calls, |asked, answer| {
            let suspects = matches!(asked, Asked::Claim { suspects: true, .. });
            suspects && matches!(answer, Answer::Claimed(claimed) if !claimed.is_empty())
        }),
        ..Replayed::default()
    };
    for (_, number, is_end) in points {
        if !is_end {
            states.iter_mut().for_each(|state| state.open.push(number));
            continue;
        }
        let mut next = Vec::new();
        let mut why = String::new();
        for state in states {
            state.end(number, &effects, &mut next, &mut why);
        }
        states = next;
        replayed.most_states = replayed.most_states.max(states.len());
        assert!(states.len() <= MOST_STATES, "too many states are possible");
        if states.is_empty() {
            let call = format!("{:#?}", effects[number].calls);
            return Err(Rejected { call, why });
        }
    }
    Ok(replayed)
}

impl State {
    /// The states that are possible when this effect has ended.
    fn end(mut self, number: usize, effects: &[Effect], next: &mut Vec<Self>, why: &mut String) {
        let known = self.early.iter().position(|early| *early == number);
        if let Some(index) = known {
            self.early.swap_remove(index);
            return keep(next, self);
        }
        // Depth first: this one alone, and after each of those that may have come before.
        let mut pending = vec![self];
        let mut seen: Vec<Self> = Vec::new();
        while let Some(state) = pending.pop() {
            match state.after(number, effects) {
                Ok(mut after) => {
                    after.early.retain(|early| *early != number);
                    after.forget(effects);
                    keep(next, after);
                }
                Err(reason) => *why = reason,
            }
            for other in state.open.iter().filter(|other| **other != number) {
                let Ok(after) = state.after(*other, effects) else {
                    continue;
                };
                // Without an answer it makes no difference when it makes none to the rows.
                if effects[*other].is_unknown && after.rows == state.rows || seen.contains(&after) {
                    continue;
                }
                seen.push(after.clone());
                pending.push(after);
            }
        }
    }

    fn after(&self, number: usize, effects: &[Effect]) -> Result<Self, String> {
        let effect = &effects[number];
        let mut after = self.clone();
        for call in &effect.calls {
            match &call.fate {
                Fate::Answered(answer) => after.rows.allow(call.now, &call.asked, answer)?,
                Fate::Unknown => after.rows.assume(call.now, &call.asked),
                Fate::Failed => {}
            }
        }
        if effect.is_undone {
            after.rows.clone_from(&self.rows);
        }
        after.open.retain(|open| *open != number);
        if !effect.is_unknown {
            after.early.push(number);
        }
        Ok(after)
    }

    /// Lets go of what can have no effect any more.
    fn forget(&mut self, effects: &[Effect]) {
        let rows = &self.rows;
        self.open.retain(|open| {
            let effect = &effects[*open];
            !effect.is_unknown
                || effect
                    .calls
                    .iter()
                    .all(|call| rows.may_still_take_effect(&call.asked))
        });
    }
}

fn keep(states: &mut Vec<State>, mut state: State) {
    state.early.sort_unstable();
    if !states.contains(&state) {
        states.push(state);
    }
}

/// Puts the calls of transactions together.
fn effects(calls: &[Call]) -> Vec<Effect> {
    let mut effects: Vec<Effect> = Vec::new();
    for (index, call) in calls.iter().enumerate() {
        let Some(transaction) = call.transaction else {
            if call.fate != Fate::Failed {
                effects.push(Effect {
                    begin: call.begin,
                    end: call.end,
                    is_unknown: call.fate == Fate::Unknown,
                    is_undone: false,
                    calls: vec![call.clone()],
                });
            }
            continue;
        };
        let is_of_it = |other: &&Call| other.transaction == Some(transaction);
        if !calls[..index].iter().any(|other| is_of_it(&other)) {
            let of_it = calls[index..].iter().filter(is_of_it).cloned();
            effects.extend(effect_of(of_it.collect()));
        }
    }
    effects
}

fn effect_of(mut calls: Vec<Call>) -> Option<Effect> {
    let begin = calls.first()?.begin;
    let commit = calls
        .iter()
        .position(|call| matches!(call.asked, Asked::Commit));
    let commit = commit.map(|index| calls.remove(index));
    let (is_unknown, is_undone) = match commit.as_ref().map(|commit| &commit.fate) {
        Some(Fate::Answered(_)) => (false, false),
        Some(Fate::Unknown) => (true, false),
        Some(Fate::Failed) | None => (false, true),
    };
    if is_undone {
        // What came after an error tells nothing.
        let failed = calls
            .iter()
            .position(|call| !matches!(call.fate, Fate::Answered(_)));
        calls.truncate(failed.unwrap_or(calls.len()));
    }
    let last = commit.as_ref().or(calls.last())?;
    Some(Effect {
        begin,
        end: last.end,
        is_unknown,
        is_undone,
        calls,
    })
}

fn count(calls: &[Call], counts: impl Fn(&Asked, &Answer) -> bool) -> usize {
    let answered = calls.iter().filter(|call| match &call.fate {
        Fate::Answered(answer) => counts(&call.asked, answer),
        _ => false,
    });
    answered.count()
}
