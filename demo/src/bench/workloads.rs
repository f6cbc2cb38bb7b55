//! What is measured: for each workload the library and the loops of bare SQL that it is held against.

use std::{fmt, time::Duration};

use clap::ValueEnum;
use futures_util::future::BoxFuture;

use super::{
    Contenders, Result,
    bare::{Kind, latency, loops},
    costs::Measured,
    figures::{Figures, MEBIBYTE, OURS, SHARED},
    library::{Drained, Library, Shared},
    options::BenchOptions,
    sample::Sample,
    unit::Unit,
};
use crate::arguments::SchedulerKind::{Concurrent, Cooperative};
use crate::place::System;

/// How many latencies are taken of an idle system.
const SAMPLES: usize = 500;
/// How many there are while only round trips are counted.
const COUNTED_SAMPLES: usize = 50;

/// How many processes share a database.
const PROCESSES: usize = 4;
/// How long a scheduler does nothing.
const IDLE: Duration = Duration::from_secs(60);
/// Backlogs of which memory must not depend.
const MEMORY_BACKLOGS: [u64; 2] = [50_000, 500_000];
/// Backlogs of which throughput should not depend.
const BACKLOGS: [u64; 6] = [1000, 5000, 20_000, 50_000, 150_000, 500_000];

/// What the library is called with its other scheduler.
const COOPERATIVE: &str = "tidings, cooperative";

/// A workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Workload {
    /// W1: events were raised before, one handler each; from start to the last completion
    Drain,
    /// W1: the same with requests that wait to be claimed
    Claim,
    /// W1b: ten handlers for each event, and as many requests
    FanOut,
    /// W2: one event in each transaction, 16 connections
    Raise,
    /// W2b: a thousand events in each statement, two connections
    RaiseBatches,
    /// W3: one event at a time, from its commit to the start of its handler
    Latency,
    /// W4: 16 connections raise while a scheduler works
    EndToEnd,
    /// W5: a handler that inserts a row in the transaction of its settlement
    Transactional,
    /// W5b: a drain in which one request in a hundred fails once, and is run again at once
    Failures,
    /// W6: a drain beside ten million finished rows, and a million dead, future and unknown ones each (long)
    Scale,
    /// W7: half the load of end-to-end for minutes, while another transaction stays open (long)
    HeldSnapshot,
    /// W8: four processes on one database, beside one
    Processes,
    /// W9: what a scheduler costs that has nothing to do, for a minute (long)
    Idle,
    /// The most memory of a process that drains a backlog of 50,000 and of 500,000 events (long)
    Memory,
    /// Drains of several backlogs (long)
    Backlog,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

impl Workload {
    /// Whether it takes minutes, so that it only runs when it is asked for.
    pub(super) const fn is_long(self) -> bool {
        matches!(
            self,
            Self::Scale | Self::HeldSnapshot | Self::Idle | Self::Memory | Self::Backlog
        )
    }

    /// Whether one round of it says enough.
    pub(super) const fn is_once(self) -> bool {
        matches!(self, Self::HeldSnapshot | Self::Idle | Self::Memory)
    }

    /// Whether its round trips are counted, in a pass of its own.
    pub(super) const fn counts_trips(self) -> bool {
        !self.is_long() && !matches!(self, Self::Processes)
    }

    /// Each contender has a turn, in their order or from the last to the first; what came of it is noted.
    pub(super) async fn run(
        self,
        contenders: &Contenders,
        options: &BenchOptions,
        is_reversed: bool,
        figures: &mut Figures,
    ) -> Result<()> {
        let turns = self.turns(contenders, options, figures.counts_trips())?;
        take(turns, is_reversed, self, figures).await?;
        // Those that have one contender, and one round.
        let library = &contenders.library;
        match self {
            Self::HeldSnapshot => measure_held_snapshot(self, library, options, figures).await,
            Self::Idle => measure_idle(self, library, figures).await,
            Self::Memory => measure_memory(self, library, figures).await,
            _ => Ok(()),
        }
    }

    /// The turns of all contenders.
    fn turns<'c>(
        self,
        contenders: &'c Contenders,
        options: &BenchOptions,
        counts_trips: bool,
    ) -> Result<Vec<Turn<'c>>> {
        let Contenders { bare, library, .. } = contenders;
        let count = options.requests();
        let signed = i64::try_from(count)?;
        Ok(match self {
            Self::Drain => {
                let mut turns = vec![
                    turn("R0", count, loops::drain_jobs(bare, Kind::Loop, signed)),
                    turn(OURS, count, library.drain(Concurrent, count, 1)),
                    turn("R3", count, loops::work(bare, signed, 1)),
                    turn(COOPERATIVE, count, library.drain(Cooperative, count, 1)),
                ];
                if contenders.system == System::Postgres {
                    let unpinned = loops::drain_jobs(bare, Kind::LoopUnpinned, signed);
                    turns.push(turn("R0u", count, unpinned));
                }
                turns
            }
            Self::Claim => vec![
                turn(OURS, count, library.drain_waiting(count)),
                turn("R3c", count, loops::work_claimed(bare, signed, 1)),
            ],
            Self::FanOut => vec![
                turn(OURS, count, library.drain(Concurrent, count, 10)),
                turn("R3", count, loops::work(bare, signed / 10, 10)),
            ],
            Self::Raise => vec![
                turn(OURS, count, library.raise_one_by_one(count)),
                turn("R1", count, loops::raise_one_by_one(bare, signed)),
            ],
            Self::RaiseBatches => vec![
                turn(OURS, count, library.raise_in_batches(count)),
                turn("R2", count, loops::raise_in_batches(bare, signed)),
            ],
            Self::Latency => {
                let most = match counts_trips {
                    true => COUNTED_SAMPLES,
                    false => SAMPLES,
                };
                let samples = most.min(options.samples());
                let count = samples as u64;
                let bare = match contenders.system {
                    System::Postgres => turn(
                        "bare NOTIFY",
                        count,
                        latency::of_notifications(bare, samples),
                    ),
                    _ => turn("bare SELECT", count, latency::of_reads(bare, samples)),
                };
                let ours = turn(OURS, count, library.latency(samples, false));
                let waking = turn("tidings, with wake", count, library.latency(samples, true));
                [bare, ours, waking]
                    .map(|turn| turn.tells(Tells::Latency))
                    .into()
            }
            Self::EndToEnd => {
                let ours = |kind, name| {
                    turn(name, count, library.end_to_end(kind, count)).tells(Tells::Both)
                };
                vec![
                    ours(Concurrent, OURS),
                    ours(Cooperative, COOPERATIVE),
                    turn("R4", count, loops::raise_and_work(bare, signed)),
                ]
            }
            Self::Transactional => {
                let (count, signed) = (count / 10, signed / 10);
                let ours =
                    |shared, name| turn(name, count, library.drain_transactionally(count, shared));
                let bare = |at_once, name| {
                    let worked = loops::work_in_transactions(bare, signed, at_once);
                    turn(name, count, worked)
                };
                vec![
                    ours(false, OURS),
                    ours(true, SHARED),
                    bare(1, "R5"),
                    bare(50, "R5 by 50"),
                ]
            }
            Self::Failures => vec![
                turn(OURS, count, library.drain_with_failures(count)),
                // Nothing fails there: beside the same of a drain it shows what failures cost.
                turn("R3", count, loops::work(bare, signed, 1)),
            ],
            Self::Scale => vec![
                turn("empty tables", count, library.drain(Concurrent, count, 1)),
                turn(OURS, count, library.drain_from_full(count)),
            ],
            Self::Processes => vec![
                turn(OURS, count, library.drain_by_processes(count, PROCESSES)),
                turn("one process", count, library.drain_by_processes(count, 1)),
            ],
            Self::Backlog => {
                let mut turns = Vec::new();
                for events in BACKLOGS {
                    let ours = turn(OURS, events, library.drain(Concurrent, events, 1));
                    let worked = loops::work(bare, i64::try_from(events)?, 1);
                    turns.extend([ours.of(events), turn("R3", events, worked).of(events)]);
                }
                turns
            }
            Self::HeldSnapshot | Self::Idle | Self::Memory => Vec::new(),
        })
    }
}

/// A turn of a contender, which begins when it is taken.
struct Turn<'c> {
    contender: &'static str,
    requests: u64,
    /// How many events it is about, where one contender is measured with several.
    events: Option<u64>,
    tells: Tells,
    work: BoxFuture<'c, Result<Outcome>>,
}

/// What a turn is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tells {
    Throughput,
    Latency,
    Both,
}

/// What came of a turn.
#[derive(Debug, Default)]
struct Outcome {
    measured: Option<Measured>,
    latencies: Option<Sample>,
    /// How many requests that process handled which handled the fewest.
    smallest_share: Option<u64>,
}

impl From<Measured> for Outcome {
    fn from(measured: Measured) -> Self {
        Self {
            measured: Some(measured),
            ..Self::default()
        }
    }
}

impl From<Drained> for Outcome {
    fn from(drained: Drained) -> Self {
        (drained.latencies, drained.measured).into()
    }
}

impl From<Sample> for Outcome {
    fn from(latencies: Sample) -> Self {
        Self {
            latencies: Some(latencies),
            ..Self::default()
        }
    }
}

impl From<(Sample, Measured)> for Outcome {
    fn from((latencies, measured): (Sample, Measured)) -> Self {
        Self {
            latencies: Some(latencies),
            ..measured.into()
        }
    }
}

impl From<Shared> for Outcome {
    fn from(shared: Shared) -> Self {
        Self {
            smallest_share: shared.shares.iter().min().copied(),
            ..shared.measured.into()
        }
    }
}

fn turn<'c, O: Into<Outcome>>(
    contender: &'static str,
    requests: u64,
    work: impl Future<Output = Result<O>> + Send + 'c,
) -> Turn<'c> {
    Turn {
        contender,
        requests,
        events: None,
        tells: Tells::Throughput,
        work: Box::pin(async { Ok(work.await?.into()) }),
    }
}

/// Takes turns in their order, or from the last to the first.
async fn take(
    mut turns: Vec<Turn<'_>>,
    is_reversed: bool,
    workload: Workload,
    figures: &mut Figures,
) -> Result<()> {
    if is_reversed {
        turns.reverse();
    }
    for turn in turns {
        turn.take(workload, figures).await?;
    }
    Ok(())
}

impl Turn<'_> {
    fn tells(self, tells: Tells) -> Self {
        Self { tells, ..self }
    }

    fn of(self, events: u64) -> Self {
        let events = Some(events);
        Self { events, ..self }
    }

    async fn take(self, workload: Workload, figures: &mut Figures) -> Result<()> {
        let Self {
            contender,
            requests,
            events,
            tells,
            work,
        } = self;
        let Outcome {
            measured,
            latencies,
            smallest_share,
        } = work.await?;
        if let Some(measured) = measured {
            match tells {
                Tells::Latency => {
                    figures.note_costs(workload, contender, events, requests, &measured)
                }
                Tells::Throughput | Tells::Both => {
                    figures.note_work(workload, contender, events, requests, &measured);
                }
            }
        }
        if let Some(latencies) = latencies.filter(|_| tells != Tells::Throughput) {
            figures.note_latency(workload, contender, &latencies);
        }
        if let Some(least) = smallest_share {
            let share = least as f64 * 100.0 / requests as f64;
            figures.note(workload, contender, Unit::SmallestSharePercent, share);
        }
        Ok(())
    }
}

/// Half as many events as the library can raise and handle in the same time, in this very run.
async fn measure_held_snapshot(
    workload: Workload,
    library: &Library,
    options: &BenchOptions,
    figures: &mut Figures,
) -> Result<()> {
    let count = options.requests();
    let full = library.end_to_end(Concurrent, count).await?;
    let rate = count as f64 / full.measured.took.as_secs_f64() / 2.0;
    let minutes = library.hold_a_snapshot(rate, options.time_held()).await?;
    for (minute, name) in minutes.iter().zip(["first minute", OURS]) {
        figures.note(workload, name, Unit::PerSecond, minute.rate);
        figures.note_latency(workload, name, &minute.latencies);
    }
    Ok(())
}

async fn measure_idle(workload: Workload, library: &Library, figures: &mut Figures) -> Result<()> {
    let Measured { took, costs } = library.idle(IDLE).await?;
    let each_second = |all: f64| all / took.as_secs_f64();
    if let Some(statements) = costs.statements {
        let rate = each_second(statements);
        figures.note(workload, OURS, Unit::StatementsPerSecond, rate);
    }
    if let Some(cpu) = costs.cpu {
        let share = each_second(cpu) * 100.0;
        figures.note(workload, OURS, Unit::CpuPercent, share);
    }
    Ok(())
}

async fn measure_memory(
    workload: Workload,
    library: &Library,
    figures: &mut Figures,
) -> Result<()> {
    for events in MEMORY_BACKLOGS {
        let drained = library.drain_by_processes(events, 1).await?;
        if let Some(peak) = drained.peak_memory {
            let (events, peak) = (Some(events), peak / MEBIBYTE);
            figures.note_of(workload, OURS, events, Unit::Mebibytes, peak);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    #[tokio::test]
    async fn turns_are_taken_in_either_order_and_figures_are_those_of_the_contender() {
        for (is_reversed, order) in [(false, [OURS, "R3"]), (true, ["R3", OURS])] {
            let (taken, mut figures) = (Mutex::new(Vec::new()), Figures::default());
            let one = |contender, share| {
                let taken = &taken;
                turn(contender, 100, async move {
                    taken.lock().push(contender);
                    Ok(Outcome {
                        smallest_share: Some(share),
                        ..Outcome::default()
                    })
                })
            };
            let turns = vec![one(OURS, 30), one("R3", 40)];
            let workload = Workload::Processes;
            take(turns, is_reversed, workload, &mut figures)
                .await
                .unwrap();
            assert_eq!(*taken.lock(), order);
            let unit = Unit::SmallestSharePercent;
            assert_eq!(figures.median(workload, OURS, None, unit), Some(30.0));
        }
    }
}
