//! The verdict: what the ledger and the database say together, and which guarantee was broken.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Serialize;
use tidings::{HandlerRequest, sqlx::types::Uuid};

use super::{
    faults::{Fault, Target, Window},
    handlers::{
        CHAINS, FAILS, FOLLOWED, FOLLOWS, Fate, MAX_ERRORS, OF_ORDERS, ORDERED, TRANSACTIONAL,
    },
    ledger::{Entry, How, Life, Micros, What},
    orders::{self, Effect},
};

/// Rescues from which on an execution that is lost counts an error.
const SUSPECT: u32 = 3;
/// How long after a fault calls may still fail of it: on connections that it has left dead, which nobody knows
/// before they are used. A renewal may come too late by that.
const AFTERMATH: Micros = 5_000_000;
/// How many things that are wrong are kept one by one.
const KEPT: usize = 1000;

/// Everything that is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    pub(super) entries: Vec<Entry>,
    pub(super) windows: Vec<Window>,
    /// What the application knows of its orders.
    pub(super) fates: HashMap<Uuid, orders::Fate>,
    /// The orders in the database.
    pub(super) orders: HashSet<Uuid>,
    /// The events in the database.
    pub(super) events: Vec<StoredEvent>,
    pub(super) requests: Vec<HandlerRequest>,
    pub(super) effects: Vec<Effect>,
}

/// What matters of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredEvent {
    pub(super) id: Uuid,
    pub(super) name: String,
    pub(super) cause: Option<Uuid>,
}

/// What came of an attack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Verdict {
    pub(super) orders: u64,
    pub(super) rolled_back: u64,
    /// The answer to the commit was lost, and the order is there.
    pub(super) committed_in_doubt: u64,
    pub(super) events: u64,
    pub(super) requests: u64,
    pub(super) completed: u64,
    pub(super) dead: u64,
    pub(super) runs: u64,
    pub(super) failed_runs: u64,
    /// Runs of ordinary handlers beside the one that counts, and what explains them.
    pub(super) run_again: BTreeMap<String, u64>,
    /// Runs of transactional handlers that were taken back, and what explains them.
    pub(super) taken_back: BTreeMap<String, u64>,
    /// Errors that were counted and that handlers did not make, and what explains them.
    pub(super) excused_errors: BTreeMap<&'static str, u64>,
    /// Runs of one request at the same time, and what explains them.
    pub(super) overlapping: BTreeMap<String, u64>,
    pub(super) lost: u64,
    pub(super) duplicated_effects: u64,
    pub(super) broken: Vec<String>,
    /// Things that are wrong beside those.
    pub(super) more_broken: u64,
}

/// A run, as the ledger has it.
#[derive(Clone, Debug)]
struct Run<'a> {
    life: Life,
    handler: &'a str,
    event: Uuid,
    request: Uuid,
    attempt: u64,
    began: Micros,
    /// None if its process was lost.
    ended: Option<(Micros, How)>,
}

impl Verdict {
    /// Whether everything holds.
    pub(super) const fn holds(&self) -> bool {
        self.broken.is_empty()
    }

    pub(super) fn of(evidence: &Evidence) -> Self {
        let mut verdict = Self::default();
        verdict.check_orders(evidence);
        verdict.check_events(evidence);
        let runs = runs(evidence);
        verdict.check_requests(evidence, &runs);
        verdict.check_effects(evidence);
        verdict.check_runs(evidence, &runs);
        verdict
    }

    pub(super) fn break_with(&mut self, what: String) {
        if self.broken.len() < KEPT {
            self.broken.push(what);
        } else {
            self.more_broken += 1;
        }
    }

    /// An order and its event are both there, or neither.
    fn check_orders(&mut self, evidence: &Evidence) {
        let raised: HashSet<_> = evidence
            .events
            .iter()
            .filter(|event| event.name == ORDERED)
            .map(|event| event.id)
            .collect();
        for (&order, fate) in &evidence.fates {
            let is_there = evidence.orders.contains(&order);
            match fate {
                orders::Fate::Committed => {
                    self.orders += 1;
                    if !is_there {
                        self.break_with(format!("the order {order} was committed, and is gone"));
                    }
                }
                orders::Fate::RolledBack => {
                    self.rolled_back += 1;
                    if is_there {
                        self.break_with(format!("the order {order} was rolled back, and is there"));
                    }
                }
                orders::Fate::Unknown => self.committed_in_doubt += u64::from(is_there),
            }
            if is_there != raised.contains(&order) {
                self.lost += u64::from(is_there);
                let broken = if is_there {
                    "an order without its event"
                } else {
                    "an event without its order"
                };
                self.break_with(format!("{broken}: {order}"));
            }
        }
    }

    /// Each event that is handled has been followed by one, and by one only.
    fn check_events(&mut self, evidence: &Evidence) {
        self.events = evidence.events.len() as u64;
        let mut followers: HashMap<_, u32> = HashMap::new();
        for event in &evidence.events {
            if event.name == FOLLOWED {
                let cause = event.cause.unwrap_or_default();
                *followers.entry(cause).or_default() += 1;
            }
        }
        for &order in &evidence.orders {
            match followers.remove(&order).unwrap_or_default() {
                1 => {}
                0 => {
                    self.lost += 1;
                    self.break_with(format!("what `{CHAINS}` raised for {order} is lost"));
                }
                count => {
                    self.duplicated_effects += u64::from(count) - 1;
                    self.break_with(format!(
                        "what `{CHAINS}` raised for {order} is there {count} times"
                    ));
                }
            }
        }
        for cause in followers.into_keys() {
            self.break_with(format!("an event follows {cause}, which is no order"));
        }
    }

    /// Each event has a request for each handler that wants it, and all of them have ended.
    fn check_requests(&mut self, evidence: &Evidence, runs: &BTreeMap<Uuid, Vec<Run<'_>>>) {
        let mut wanted = BTreeSet::new();
        for event in &evidence.events {
            let handlers: &[&str] = match event.name.as_str() {
                ORDERED => &OF_ORDERS,
                _ => &[FOLLOWS],
            };
            wanted.extend(handlers.iter().map(|&handler| (event.id, handler)));
        }
        for request in &evidence.requests {
            self.requests += 1;
            let (event, handler) = (request.event_id.as_uuid(), &*request.handler);
            if !wanted.remove(&(event, handler)) {
                self.break_with(format!(
                    "a second request of {event} for `{handler}`, or one that nobody wants"
                ));
            }
            let runs = runs.get(&request.id.as_uuid());
            // It says so before it answers, so before it is settled.
            let has_run = runs.is_some_and(|runs| {
                runs.iter().any(|run| {
                    run.attempt == request.attempt && matches!(run.ended, Some((_, How::Completed)))
                })
            });
            self.check_request(evidence, request, has_run);
        }
        for (event, handler) in wanted {
            self.lost += 1;
            self.break_with(format!("there is no request of {event} for `{handler}`"));
        }
    }

    fn check_request(&mut self, evidence: &Evidence, request: &HandlerRequest, has_run: bool) {
        let (id, handler) = (request.id, &request.handler);
        let is_meant_to_fail = &**handler == FAILS;
        let failures = match is_meant_to_fail {
            true => Fate::of(request.event_id.as_uuid()).failures,
            false => 0,
        };
        if request.completed_at.is_some() {
            self.completed += 1;
            if !has_run {
                self.lost += 1;
                self.break_with(format!(
                    "the request {id} of `{handler}` is completed and no run of its attempt was"
                ));
            }
        } else if request.dead_at.is_some() {
            self.dead += 1;
            if failures < MAX_ERRORS && request.rescues <= SUSPECT {
                self.lost += 1;
                let last = request.last_errors.last();
                let why = last.map_or("", |error| error.message.as_str());
                self.break_with(format!("the request {id} of `{handler}` is dead: {why}"));
            }
        } else {
            self.lost += 1;
            self.break_with(format!(
                "the request {id} of `{handler}` is open: {request:?}"
            ));
        }
        let excused = request
            .last_errors
            .iter()
            .filter_map(|error| excuse(evidence, handler, &error.message));
        let mut excuses = 0;
        for excuse in excused {
            *self.excused_errors.entry(excuse).or_default() += 1;
            excuses += 1;
        }
        if request.errors > failures + excuses && request.rescues <= SUSPECT {
            let last = request.last_errors.last();
            let why = last.map_or("", |error| error.message.as_str());
            let errors = request.errors;
            self.break_with(format!(
                "the request {id} of `{handler}` counts {errors} errors where its handler made {failures}: {why}"
            ));
        }
    }

    /// A transactional handler has written once for each request that is completed, and never else.
    fn check_effects(&mut self, evidence: &Evidence) {
        let mut written: HashMap<(Uuid, &str), u64> = HashMap::new();
        for effect in &evidence.effects {
            *written
                .entry((effect.event_id, &effect.handler))
                .or_default() += 1;
        }
        for request in &evidence.requests {
            let handler = &*request.handler;
            if !TRANSACTIONAL.contains(&handler) {
                continue;
            }
            let event = request.event_id.as_uuid();
            let count = written.remove(&(event, handler)).unwrap_or_default();
            let expected = u64::from(request.completed_at.is_some());
            if count > expected {
                self.duplicated_effects += count - expected;
                self.break_with(format!("`{handler}` has written {count} times for {event}"));
            } else if count < expected {
                self.lost += 1;
                self.break_with(format!("what `{handler}` wrote for {event} is lost"));
            }
        }
        for (event, handler) in written.into_keys() {
            self.break_with(format!(
                "`{handler}` has written for {event} without a request"
            ));
        }
    }

    /// What ran again has a reason, and attempts grow.
    fn check_runs(&mut self, evidence: &Evidence, runs: &BTreeMap<Uuid, Vec<Run<'_>>>) {
        for runs in runs.values() {
            self.runs += runs.len() as u64;
            for (at, run) in runs.iter().enumerate() {
                let Some(next) = runs.get(at + 1) else { break };
                self.check_pair(evidence, run, next);
            }
            self.check_overlaps(evidence, runs);
        }
    }

    /// A run, and the next one of the same request.
    fn check_pair(&mut self, evidence: &Evidence, run: &Run<'_>, next: &Run<'_>) {
        let (handler, request) = (run.handler, run.request);
        if next.attempt == run.attempt {
            // A shared transaction that fails is undone, and each of its handlers runs again alone.
            if !TRANSACTIONAL.contains(&handler) || next.life != run.life {
                let attempt = run.attempt;
                self.break_with(format!(
                    "the attempt {attempt} of {request} (`{handler}`) ran twice"
                ));
            }
        }
        if matches!(run.ended, Some((_, How::Failed))) && next.attempt > run.attempt {
            self.failed_runs += 1;
            return;
        }
        let why = reason(evidence, run, next).map(|window| window.fault.to_string());
        let counted = if TRANSACTIONAL.contains(&handler) {
            &mut self.taken_back
        } else {
            &mut self.run_again
        };
        match why {
            Some(why) => *counted.entry(why).or_default() += 1,
            None => {
                let (event, from, to) = (run.event, run.attempt, next.attempt);
                let pause = next.began.saturating_sub(run.began) / 1000;
                self.break_with(format!(
                    "`{handler}` ran again for {event} after {pause} ms (attempts {from} and {to}, {:?} and {:?}), and nothing explains it",
                    run.life, next.life
                ));
            }
        }
    }

    /// No two runs of a request at the same time, but where a process could not know.
    fn check_overlaps(&mut self, evidence: &Evidence, runs: &[Run<'_>]) {
        for (at, run) in runs.iter().enumerate() {
            let Some((ended, _)) = run.ended else {
                continue;
            };
            for next in runs.iter().skip(at + 1) {
                if next.began >= ended {
                    continue;
                }
                // It waits for its own statement, whatever its context says, and will be taken back.
                let waits = TRANSACTIONAL.contains(&run.handler);
                let why = evidence.windows.iter().find(|window| {
                    (window.fault.lets_runs_overlap() || waits)
                        && touches(window, run.life, run.began, ended)
                });
                match why {
                    Some(window) => {
                        let why = window.fault.to_string();
                        *self.overlapping.entry(why).or_default() += 1;
                    }
                    None => {
                        let (handler, event) = (run.handler, run.event);
                        let by = (ended - next.began) / 1000;
                        self.break_with(format!(
                            "`{handler}` ran twice at once for {event}, for {by} ms"
                        ));
                    }
                }
            }
        }
    }
}

/// What explains that an error was counted which the handler did not make.
fn excuse(evidence: &Evidence, handler: &str, error: &str) -> Option<&'static str> {
    let had = |faults: &[Fault]| {
        evidence
            .windows
            .iter()
            .any(|window| faults.contains(&window.fault))
    };
    if !TRANSACTIONAL.contains(&handler) {
        return None;
    }
    // Its own query waited on a connection that was dead, which nobody can tell from one that is slow.
    if error.starts_with("timed out") && had(&[Fault::Block, Fault::Forget]) {
        return Some("timed out on a dead connection");
    }
    let is_full = [
        "No space left on device",
        "Disk full",
        "is full",
        "Error writing file",
    ];
    let is_full = is_full.iter().any(|text| error.contains(text));
    (is_full && had(&[Fault::Disk])).then_some("the disk was full")
}

/// What explains that a run was followed by another: a fault between them, on its process or on all.
fn reason<'a>(evidence: &'a Evidence, run: &Run<'_>, next: &Run<'_>) -> Option<&'a Window> {
    let from = run.began.saturating_sub(AFTERMATH);
    let between = |window: &&Window| touches(window, run.life, from, next.began);
    let windows = &evidence.windows;
    // What happened to its own process, before what happened to everybody.
    let own = windows.iter().filter(|window| window.target != Target::All);
    let all = windows.iter().filter(|window| window.target == Target::All);
    own.chain(all).find(between)
}

fn touches(window: &Window, life: Life, from: Micros, until: Micros) -> bool {
    window.target.is(life) && window.from <= until && window.until >= from
}

/// The runs of each request, in the order of their attempts, and of their beginnings.
fn runs(evidence: &Evidence) -> BTreeMap<Uuid, Vec<Run<'_>>> {
    let mut ends = HashMap::new();
    for entry in &evidence.entries {
        if let What::Ended { how } = entry.what {
            ends.insert((entry.life, entry.run), (entry.at, how));
        }
    }
    let mut runs: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for entry in &evidence.entries {
        if let What::Began {
            handler,
            event,
            request,
            attempt,
        } = &entry.what
        {
            let run = Run {
                life: entry.life,
                handler,
                event: *event,
                request: *request,
                attempt: *attempt,
                began: entry.at,
                ended: ends.get(&(entry.life, entry.run)).copied(),
            };
            runs.entry(*request).or_default().push(run);
        }
    }
    for runs in runs.values_mut() {
        runs.sort_by_key(|run| (run.attempt, run.began));
    }
    runs
}

#[cfg(test)]
mod tests;
