//! All that is known of a history while it goes on: behind one mutex, which is never held across an
//! await point.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::SmallRng;
use tidings::{
    EventId, EventPattern, HandlerRequest, HandlerRequestId, LeaseOwner, Name, Priority,
};

use crate::{
    gate::{Gate, Mode},
    history::{Claimed, History, What},
    plan::{Faults, HandlerPlan, Kind, Mood, Plan},
    verdict::{Verdict, Wrong},
};

pub(crate) struct State {
    pub(crate) rng: SmallRng,
    pub(crate) history: History,
    pub(crate) verdicts: Vec<Verdict>,
    pub(crate) stats: BTreeMap<&'static str, u64>,
    /// Why ordinary handlers ran again, and how often.
    pub(crate) again: BTreeMap<&'static str, u64>,
    /// The store's time, which is also the time of the history.
    pub(crate) now: DateTime<Utc>,
    pub(crate) lease: Duration,
    pub(crate) poll_interval: Duration,
    pub(crate) faults: Faults,
    pub(crate) mood: Mood,
    pub(crate) outages: u32,
    pub(crate) wanted: Vec<Wanted>,
    pub(crate) any_hooks: bool,
    pub(crate) events: BTreeMap<EventId, EventEntry>,
    pub(crate) requests: BTreeMap<HandlerRequestId, Entry>,
    pub(crate) processes: Vec<Process>,
    pub(crate) owners: BTreeMap<LeaseOwner, usize>,
    pub(crate) runs: BTreeMap<Claimed, Vec<Run>>,
    /// Until when a process may think that it has a lease: one lease after the last claim or renewal
    /// that was answered was sent.
    pub(crate) valid_until: BTreeMap<(usize, Claimed), DateTime<Utc>>,
    /// What transactional handlers wrote in a run that ended well, by claim.
    pub(crate) written: BTreeMap<Claimed, EventId>,
    /// How many transactions may have locked a request.
    pub(crate) locked: BTreeMap<HandlerRequestId, usize>,
    /// Until when requests were locked.
    pub(crate) unlocked_at: BTreeMap<HandlerRequestId, DateTime<Utc>>,
}

/// A handler that wants events, on its terms.
pub(crate) struct Wanted {
    pub(crate) handler: Name,
    pub(crate) pattern: EventPattern,
    pub(crate) priority: Priority,
    pub(crate) max_errors: u32,
    pub(crate) kind: Kind,
    pub(crate) timeout: Duration,
}

pub(crate) struct EventEntry {
    pub(crate) name: Name,
    pub(crate) committed_at: DateTime<Utc>,
    pub(crate) processed: bool,
}

/// A request as it should be, and what is known beside it.
pub(crate) struct Entry {
    pub(crate) row: HandlerRequest,
    /// By its number.
    pub(crate) handler: usize,
    pub(crate) last_end: LastEnd,
    /// Since when it can be claimed, if it can or will be.
    pub(crate) due_at: Option<DateTime<Utc>>,
    pub(crate) leased_at: DateTime<Utc>,
}

/// How its last execution came to an end, which explains the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastEnd {
    None,
    Retried,
    Rescued(&'static str),
    HandedBack,
    Operator,
}

pub(crate) struct Process {
    pub(crate) gate: Gate,
    pub(crate) handlers: Vec<usize>,
    pub(crate) clock_ahead: i64,
    pub(crate) hears_all: bool,
    /// None until its start has been answered.
    pub(crate) started_at: Option<DateTime<Utc>>,
    pub(crate) paused: bool,
    /// A shutdown has begun.
    pub(crate) ends: bool,
    pub(crate) stopped: bool,
    /// Until when something was wrong with it or its calls.
    pub(crate) disturbed_until: DateTime<Utc>,
    pub(crate) why_disturbed: &'static str,
    /// How many leases the store has given it.
    pub(crate) held: usize,
    pub(crate) emptied_at: DateTime<Utc>,
    pub(crate) running: usize,
    pub(crate) idle_since: DateTime<Utc>,
}

/// One run of a handler.
pub(crate) struct Run {
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) end: Option<End>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Ok,
    Failed,
    /// With an error, after its context had been canceled.
    Stopped,
    Panicked,
    Snoozed,
    Discarded,
    Canceled,
    /// Its future was dropped after so long.
    Dropped(Duration),
}

impl State {
    pub(crate) fn at(&self) -> Duration {
        (self.now - start()).to_std().unwrap_or_default()
    }

    pub(crate) fn log(&mut self, process: Option<usize>, what: What) {
        let at = self.at();
        self.history.push(at, process, what);
    }

    pub(crate) fn object(&mut self, wrong: Wrong, detail: impl Into<String>) {
        /// The first ones tell what is wrong; what follows from them says nothing more.
        const MOST: usize = 5;
        if self.verdicts.len() < MOST {
            let verdict = Verdict {
                wrong,
                at: self.at(),
                detail: detail.into(),
            };
            self.verdicts.push(verdict);
        }
    }

    pub(crate) fn count(&mut self, what: &'static str) {
        *self.stats.entry(what).or_default() += 1;
    }

    pub(crate) fn disturb(&mut self, process: usize, lasting: Duration, why: &'static str) {
        let until = later(self.now, lasting);
        let process = &mut self.processes[process];
        if process.disturbed_until <= until {
            process.disturbed_until = until;
            process.why_disturbed = why;
        }
    }

    pub(crate) fn disturb_all(&mut self, lasting: Duration, why: &'static str) {
        for process in 0..self.processes.len() {
            self.disturb(process, lasting, why);
        }
    }

    /// Since when a process has worked as it should, with calls that do; none if it does not.
    pub(crate) fn healthy_since(&self, process: usize) -> Option<DateTime<Utc>> {
        let process = &self.processes[process];
        let works = process.gate.mode() == Mode::Runs && !process.ends && !process.stopped;
        let since = process.started_at?.max(process.disturbed_until);
        (works && since <= self.now && self.outages == 0).then_some(since)
    }

    pub(crate) fn new(plan: &Plan, rng: SmallRng) -> Self {
        let timeout = |handler: &HandlerPlan| match handler.kind {
            // Where one transaction keeps all others waiting, it is ended earlier.
            Kind::Transactional | Kind::Shared if !plan.concurrent_writers => handler
                .timeout
                .min(plan.lease / 4)
                .min(plan.call_timeout * 3 / 4),
            _ => handler.timeout,
        };
        let wanted = plan.handlers.iter().map(|handler| Wanted {
            handler: handler.name.as_str().into(),
            pattern: EventPattern::parse(handler.pattern).expect("a good pattern"),
            priority: Priority::new(handler.priority).expect("a good priority"),
            max_errors: handler.max_errors,
            kind: handler.kind,
            timeout: timeout(handler),
        });
        Self {
            rng,
            history: History::default(),
            verdicts: Vec::new(),
            stats: BTreeMap::new(),
            again: BTreeMap::new(),
            now: start(),
            lease: plan.lease,
            poll_interval: plan.poll_interval,
            faults: plan.faults,
            mood: plan.mood,
            outages: 0,
            wanted: wanted.collect(),
            any_hooks: plan.processes.iter().any(|process| process.hooks),
            events: BTreeMap::new(),
            requests: BTreeMap::new(),
            processes: Vec::new(),
            owners: BTreeMap::new(),
            runs: BTreeMap::new(),
            valid_until: BTreeMap::new(),
            written: BTreeMap::new(),
            locked: BTreeMap::new(),
            unlocked_at: BTreeMap::new(),
        }
    }
}

/// When all histories begin.
pub(crate) fn start() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

pub(crate) fn later(at: DateTime<Utc>, by: Duration) -> DateTime<Utc> {
    at + TimeDelta::from_std(by).expect("a short time")
}
