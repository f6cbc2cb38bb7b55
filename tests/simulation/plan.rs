//! What a history is about, drawn from its seed: processes, handlers, raises, faults, incidents.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::SmallRng};

/// All that is drawn before a history begins. What calls and handlers do is drawn while it goes on.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) lease: Duration,
    pub(crate) call_timeout: Duration,
    pub(crate) poll_interval: Duration,
    pub(crate) lock_timeout: Duration,
    /// Whether processes hear of the commits of others.
    pub(crate) hears_all: bool,
    pub(crate) concurrent_writers: bool,
    pub(crate) handlers: Vec<HandlerPlan>,
    pub(crate) processes: Vec<ProcessPlan>,
    pub(crate) faults: Faults,
    pub(crate) mood: Mood,
    /// By when; the faults end at the end.
    pub(crate) timeline: Vec<(Duration, Action)>,
    /// How long faults and incidents last.
    pub(crate) active: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ordinary,
    Transactional,
    /// Transactional, and shares transactions.
    Shared,
}

#[derive(Clone, Debug)]
pub(crate) struct HandlerPlan {
    pub(crate) name: String,
    pub(crate) pattern: &'static str,
    pub(crate) kind: Kind,
    pub(crate) priority: i16,
    pub(crate) max_errors: u32,
    pub(crate) backoff: Duration,
    pub(crate) timeout: Duration,
    pub(crate) concurrency: Option<usize>,
}

#[derive(Clone, Debug)]
pub(crate) struct ProcessPlan {
    pub(crate) cooperative: bool,
    pub(crate) workers: usize,
    pub(crate) batch_size: usize,
    /// The handlers that it has, by their numbers.
    pub(crate) handlers: Vec<usize>,
    /// How far its clock is ahead (or behind), in milliseconds.
    pub(crate) clock_ahead: i64,
    pub(crate) hooks: bool,
    /// It deletes what has ended so long ago.
    pub(crate) keeps: Option<Duration>,
}

/// How probable it is that something goes wrong with a call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) fail: f64,
    pub(crate) conflict: f64,
    pub(crate) lose_answer: f64,
    /// A call never gets there.
    pub(crate) hang: f64,
    pub(crate) usual_latency: Duration,
    /// How often a call takes up to a call time-out and a half.
    pub(crate) slow: f64,
    /// How often a renewal takes up to a lease and a half.
    pub(crate) slow_renewal: f64,
}

/// How handlers behave.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mood {
    /// How often one does anything else than succeed soon.
    pub(crate) odd: f64,
    /// How often one ends its process.
    pub(crate) kills: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Raise(Raise),
    Crash { process: usize },
    Restart { process: usize },
    Freeze { process: usize, lasting: Duration },
    Shutdown { process: usize, deadline: Duration },
    Pause { process: usize, lasting: Duration },
    Outage { lasting: Duration },
    Operate(Operation),
}

/// What an application does: some events in a transaction or a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Raise {
    /// In which process.
    pub(crate) process: usize,
    pub(crate) events: u8,
    pub(crate) how: How,
    pub(crate) commits_after: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    InSession,
    Commits,
    RollsBack,
    /// It is dropped, as if the application had given up.
    Drops,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Cancel,
    Reexecute,
    CancelAndReexecute,
    RunNow,
    Replay,
    Prune,
}

pub(crate) const EVENT_NAMES: [&str; 4] = ["order.placed", "order.paid", "guest.came", "unwanted"];

impl Plan {
    pub(crate) fn draw(seed: u64) -> Self {
        let rng = &mut SmallRng::seed_from_u64(seed);
        let lease = ms(pick(rng, &[900, 3_000, 3_000, 10_000]));
        let handlers: Vec<_> = (0..rng.random_range(1..=4))
            .map(|number| HandlerPlan::draw(rng, number, lease))
            .collect();
        let processes: Vec<_> = (0..rng.random_range(1..=3))
            .map(|_| ProcessPlan::draw(rng, handlers.len(), lease))
            .collect();
        let active = lease.mul_f64(rng.random_range(0.5..3.0));
        let mut plan = Self {
            lease,
            call_timeout: lease / pick(rng, &[1, 3, 3, 10]),
            poll_interval: ms(pick(rng, &[500, 2_000, 5_000])),
            lock_timeout: lease / pick(rng, &[2, 6]),
            hears_all: rng.random_bool(0.6),
            concurrent_writers: rng.random_bool(0.8),
            faults: Faults::draw(rng),
            mood: Mood {
                odd: pick(rng, &[0.0, 0.1, 0.3, 0.6]),
                kills: pick(rng, &[0.0, 0.0, 0.0, 0.05]),
            },
            handlers,
            processes,
            timeline: Vec::new(),
            active,
        };
        plan.draw_timeline(rng);
        plan
    }

    fn draw_timeline(&mut self, rng: &mut SmallRng) {
        let mut timeline = Vec::new();
        for _ in 0..rng.random_range(1..=4) {
            let raise = Raise {
                process: rng.random_range(0..self.processes.len()),
                events: rng.random_range(1..=3),
                how: pick(
                    rng,
                    &[
                        How::InSession,
                        How::InSession,
                        How::Commits,
                        How::Commits,
                        How::Commits,
                        How::RollsBack,
                        How::Drops,
                    ],
                ),
                commits_after: match rng.random_range(0..4) {
                    0 => self.lease.mul_f64(rng.random_range(0.0..1.5)),
                    _ => ms(rng.random_range(0..50)),
                },
            };
            // Most at the beginning, so that there is work while things go wrong.
            let part = rng.random_range(0.0_f64..1.0).powi(2);
            timeline.push((self.active.mul_f64(part), Action::Raise(raise)));
        }
        let incidents = pick(rng, &[0, 1, 1, 2, 3]);
        for _ in 0..incidents {
            self.draw_incident(rng, &mut timeline);
        }
        for _ in 0..pick(rng, &[0, 0, 1, 3]) {
            let operation = pick(
                rng,
                &[
                    Operation::Cancel,
                    Operation::Reexecute,
                    Operation::CancelAndReexecute,
                    Operation::RunNow,
                    Operation::Replay,
                    Operation::Prune,
                ],
            );
            let at = self.active.mul_f64(rng.random_range(0.0..1.0));
            timeline.push((at, Action::Operate(operation)));
        }
        timeline.sort_by_key(|(at, _)| *at);
        self.timeline = timeline;
    }

    fn draw_incident(&self, rng: &mut SmallRng, timeline: &mut Vec<(Duration, Action)>) {
        let process = rng.random_range(0..self.processes.len());
        let at = self.active.mul_f64(rng.random_range(0.0..1.0));
        let lasting = self.lease.mul_f64(rng.random_range(0.0..2.5));
        match rng.random_range(0..10) {
            0..3 => {
                timeline.push((at, Action::Crash { process }));
                timeline.push((at + lasting, Action::Restart { process }));
            }
            3..6 => timeline.push((at, Action::Freeze { process, lasting })),
            6..8 => {
                let deadline = match rng.random_range(0..3) {
                    0 => Duration::ZERO,
                    _ => ms(rng.random_range(1..2_000)),
                };
                timeline.push((at, Action::Shutdown { process, deadline }));
                timeline.push((at + lasting, Action::Restart { process }));
            }
            8 => timeline.push((at, Action::Pause { process, lasting })),
            _ => timeline.push((at, Action::Outage { lasting })),
        }
    }
}

impl HandlerPlan {
    fn draw(rng: &mut SmallRng, number: usize, lease: Duration) -> Self {
        Self {
            name: format!("handler_{number}"),
            pattern: pick(rng, &["order.*", "order.placed", "guest.*", "order.*"]),
            kind: pick(
                rng,
                &[
                    Kind::Ordinary,
                    Kind::Ordinary,
                    Kind::Ordinary,
                    Kind::Transactional,
                    Kind::Shared,
                ],
            ),
            priority: pick(rng, &[10, 50, 50, 90]),
            max_errors: rng.random_range(1..=4),
            backoff: ms(pick(rng, &[1, 50, 400])),
            timeout: lease.mul_f64(pick(rng, &[0.3, 1.0, 3.0])),
            concurrency: pick(rng, &[None, None, Some(1), Some(2)]),
        }
    }
}

impl ProcessPlan {
    fn draw(rng: &mut SmallRng, handlers: usize, lease: Duration) -> Self {
        Self {
            cooperative: rng.random_bool(0.4),
            workers: pick(rng, &[1, 2, 4, 16]),
            batch_size: pick(rng, &[1, 3, 1000]),
            handlers: (0..handlers).filter(|_| rng.random_bool(0.8)).collect(),
            clock_ahead: rng.random_range(-100_000..100_000),
            hooks: rng.random_bool(0.15),
            keeps: rng.random_bool(0.1).then(|| lease / 3),
        }
    }
}

impl Faults {
    fn draw(rng: &mut SmallRng) -> Self {
        // A third of all histories has calls that work, so that the bounds of time are decided, too.
        let is_calm = rng.random_bool(0.35);
        let mut rate = |rates: &[f64]| if is_calm { 0.0 } else { pick(rng, rates) };
        Self {
            fail: rate(&[0.0, 0.03, 0.2]),
            conflict: rate(&[0.0, 0.0, 0.05]),
            lose_answer: rate(&[0.0, 0.05, 0.2]),
            hang: rate(&[0.0, 0.0, 0.02]),
            slow: rate(&[0.0, 0.0, 0.1]),
            slow_renewal: rate(&[0.0, 0.0, 0.5]),
            usual_latency: ms(pick(rng, &[0, 0, 2, 20])),
        }
    }
}

pub(crate) fn pick<T: Copy>(rng: &mut SmallRng, among: &[T]) -> T {
    among[rng.random_range(0..among.len())]
}

pub(crate) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
