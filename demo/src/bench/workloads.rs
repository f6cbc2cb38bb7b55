//! What is measured: for each workload the library and the loops of bare SQL that it is held against.

use std::{fmt, time::Duration};

use clap::ValueEnum;

use super::{
    Contenders, Result,
    bare::{Kind, latency, loops},
    costs::Measured,
    figures::{Figures, MEBIBYTE, OURS, SHARED},
    library::Library,
    options::BenchOptions,
    system::System,
    unit::Unit,
};
use crate::arguments::SchedulerKind::{Concurrent, Cooperative};

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

    pub(super) async fn run(
        self,
        contenders: &Contenders,
        options: &BenchOptions,
        figures: &mut Figures,
    ) -> Result<()> {
        let Contenders { bare, library, .. } = contenders;
        let count = options.requests();
        let signed = i64::try_from(count)?;
        match self {
            Self::Drain => {
                let bare_loop = loops::drain_jobs(bare, Kind::Loop, signed).await?;
                figures.note_work(self, "R0", count, &bare_loop);
                let drained = library.drain(Concurrent, count, 1).await?;
                figures.note_work(self, OURS, count, &drained.measured);
                let worked = loops::work(bare, signed, 1).await?;
                figures.note_work(self, "R3", count, &worked);
                let drained = library.drain(Cooperative, count, 1).await?;
                figures.note_work(self, COOPERATIVE, count, &drained.measured);
                if contenders.system == System::Postgres {
                    let unpinned = loops::drain_jobs(bare, Kind::LoopUnpinned, signed).await?;
                    figures.note_work(self, "R0u", count, &unpinned);
                }
            }
            Self::Claim => {
                let drained = library.drain_waiting(count).await?;
                figures.note_work(self, OURS, count, &drained.measured);
                let worked = loops::work_claimed(bare, signed, 1).await?;
                figures.note_work(self, "R3c", count, &worked);
            }
            Self::FanOut => {
                let drained = library.drain(Concurrent, count, 10).await?;
                figures.note_work(self, OURS, count, &drained.measured);
                let worked = loops::work(bare, signed / 10, 10).await?;
                figures.note_work(self, "R3", count, &worked);
            }
            Self::Raise => {
                let raised = library.raise_one_by_one(count).await?;
                figures.note_work(self, OURS, count, &raised);
                let raised = loops::raise_one_by_one(bare, signed).await?;
                figures.note_work(self, "R1", count, &raised);
            }
            Self::RaiseBatches => {
                let raised = library.raise_in_batches(count).await?;
                figures.note_work(self, OURS, count, &raised);
                let raised = loops::raise_in_batches(bare, signed).await?;
                figures.note_work(self, "R2", count, &raised);
            }
            Self::Latency => measure_latency(self, contenders, figures).await?,
            Self::EndToEnd => {
                for (kind, name) in [(Concurrent, OURS), (Cooperative, COOPERATIVE)] {
                    let drained = library.end_to_end(kind, count).await?;
                    figures.note_work(self, name, count, &drained.measured);
                    figures.note_latency(self, name, &drained.latencies);
                }
                let worked = loops::raise_and_work(bare, signed).await?;
                figures.note_work(self, "R4", count, &worked);
            }
            Self::Transactional => {
                let (count, signed) = (count / 10, signed / 10);
                for (shared, name) in [(false, OURS), (true, SHARED)] {
                    let drained = library.drain_transactionally(count, shared).await?;
                    figures.note_work(self, name, count, &drained.measured);
                }
                for (at_once, name) in [(1, "R5"), (50, "R5 by 50")] {
                    let worked = loops::work_in_transactions(bare, signed, at_once).await?;
                    figures.note_work(self, name, count, &worked);
                }
            }
            Self::Scale => {
                let drained = library.drain(Concurrent, count, 1).await?;
                figures.note_work(self, "empty tables", count, &drained.measured);
                let drained = library.drain_from_full(count).await?;
                figures.note_work(self, OURS, count, &drained.measured);
            }
            Self::HeldSnapshot => measure_held_snapshot(self, library, options, figures).await?,
            Self::Processes => {
                for (processes, name) in [(PROCESSES, OURS), (1, "one process")] {
                    let shared = library.drain_by_processes(count, processes).await?;
                    figures.note_work(self, name, count, &shared.measured);
                    let least = shared.shares.iter().min().copied().unwrap_or(0);
                    let share = least as f64 * 100.0 / count as f64;
                    figures.note(self, name, Unit::SmallestSharePercent, share);
                }
            }
            Self::Idle => {
                let Measured { took, costs } = library.idle(IDLE).await?;
                let each_second = |all: f64| all / took.as_secs_f64();
                if let Some(statements) = costs.statements {
                    let rate = each_second(statements);
                    figures.note(self, OURS, Unit::StatementsPerSecond, rate);
                }
                if let Some(cpu) = costs.cpu {
                    let share = each_second(cpu) * 100.0;
                    figures.note(self, OURS, Unit::CpuPercent, share);
                }
            }
            Self::Memory => {
                for events in MEMORY_BACKLOGS {
                    let drained = library.drain_by_processes(events, 1).await?;
                    if let Some(peak) = drained.peak_memory {
                        let (events, peak) = (Some(events), peak / MEBIBYTE);
                        figures.note_of(self, OURS, events, Unit::Mebibytes, peak);
                    }
                }
            }
            Self::Backlog => {
                for events in BACKLOGS {
                    let drained = library.drain(Concurrent, events, 1).await?;
                    let known = Some(events);
                    figures.note_work_of(self, OURS, known, events, &drained.measured);
                    let worked = loops::work(bare, i64::try_from(events)?, 1).await?;
                    figures.note_work_of(self, "R3", known, events, &worked);
                }
            }
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

async fn measure_latency(
    workload: Workload,
    contenders: &Contenders,
    figures: &mut Figures,
) -> Result<()> {
    let Contenders { bare, library, .. } = contenders;
    let samples = match figures.counts_trips() {
        true => COUNTED_SAMPLES,
        false => SAMPLES,
    };
    let (name, waited) = match contenders.system {
        System::Postgres => (
            "bare NOTIFY",
            latency::of_notifications(bare, samples).await?,
        ),
        _ => ("bare SELECT", latency::of_reads(bare, samples).await?),
    };
    figures.note_latency(workload, name, &waited);
    for (wakes, name) in [(false, OURS), (true, "tidings, with wake")] {
        let (waited, measured) = library.latency(samples, wakes).await?;
        figures.note_latency(workload, name, &waited);
        figures.note_costs(workload, name, samples as u64, &measured);
    }
    Ok(())
}
