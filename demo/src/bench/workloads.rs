//! What is measured: for each workload the library and the loops of bare SQL that it is held against.

use std::{fmt, time::Duration};

use clap::ValueEnum;

use super::{
    Result,
    bare::{Connector, Kind, latency, loops},
    figures::{Figures, Unit},
    library::Library,
    options::BenchOptions,
};
use crate::arguments::SchedulerKind::{Concurrent, Cooperative};

/// How many latencies are taken of an idle system.
const SAMPLES: usize = 500;

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
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

impl Workload {
    pub(super) async fn run(
        self,
        bare: &Connector,
        library: &Library,
        options: &BenchOptions,
        figures: &mut Figures,
    ) -> Result<()> {
        let count = options.requests();
        let rate = |count: u64, took: Duration| count as f64 / took.as_secs_f64();
        let signed = i64::try_from(count)?;
        match self {
            Self::Drain => {
                let took = loops::drain_jobs(bare, Kind::Loop, signed).await?;
                figures.note(self, "R0", Unit::PerSecond, rate(count, took));
                let drained = library.drain(Concurrent, count, 1).await?;
                figures.note(self, "tidings", Unit::PerSecond, rate(count, drained.took));
                let took = loops::work(bare, signed, 1).await?;
                figures.note(self, "R3", Unit::PerSecond, rate(count, took));
                let drained = library.drain(Cooperative, count, 1).await?;
                figures.note(
                    self,
                    "tidings, cooperative",
                    Unit::PerSecond,
                    rate(count, drained.took),
                );
                let took = loops::drain_jobs(bare, Kind::LoopUnpinned, signed).await?;
                figures.note(self, "R0u", Unit::PerSecond, rate(count, took));
            }
            Self::Claim => {
                let drained = library.drain_waiting(count).await?;
                figures.note(self, "tidings", Unit::PerSecond, rate(count, drained.took));
                let took = loops::work_claimed(bare, signed, 1).await?;
                figures.note(self, "R3c", Unit::PerSecond, rate(count, took));
            }
            Self::FanOut => {
                let drained = library.drain(Concurrent, count, 10).await?;
                figures.note(self, "tidings", Unit::PerSecond, rate(count, drained.took));
                let took = loops::work(bare, signed / 10, 10).await?;
                figures.note(self, "R3", Unit::PerSecond, rate(count, took));
            }
            Self::Raise => {
                let took = library.raise_one_by_one(count).await?;
                figures.note(self, "tidings", Unit::PerSecond, rate(count, took));
                let took = loops::raise_one_by_one(bare, signed).await?;
                figures.note(self, "R1", Unit::PerSecond, rate(count, took));
            }
            Self::RaiseBatches => {
                let took = library.raise_in_batches(count).await?;
                figures.note(self, "tidings", Unit::PerSecond, rate(count, took));
                let took = loops::raise_in_batches(bare, signed).await?;
                figures.note(self, "R2", Unit::PerSecond, rate(count, took));
            }
            Self::Latency => {
                let bare = latency::of_notifications(bare, SAMPLES).await?;
                figures.note_latency(self, "bare NOTIFY", &bare);
                let idle = library.latency(SAMPLES, false).await?;
                figures.note_latency(self, "tidings", &idle);
                let woken = library.latency(SAMPLES, true).await?;
                figures.note_latency(self, "tidings, with wake", &woken);
            }
            Self::EndToEnd => {
                for (kind, name) in [
                    (Concurrent, "tidings"),
                    (Cooperative, "tidings, cooperative"),
                ] {
                    let drained = library.end_to_end(kind, count).await?;
                    figures.note(self, name, Unit::PerSecond, rate(count, drained.took));
                    figures.note_latency(self, name, &drained.latencies);
                }
                let took = loops::raise_and_work(bare, signed).await?;
                figures.note(self, "R4", Unit::PerSecond, rate(count, took));
            }
            Self::Transactional => {
                for (shared, name) in [(false, "tidings"), (true, "tidings, shared")] {
                    let took = library.drain_transactionally(count / 10, shared).await?;
                    figures.note(self, name, Unit::PerSecond, rate(count / 10, took));
                }
                for (at_once, name) in [(1, "R5"), (50, "R5 by 50")] {
                    let took = loops::work_in_transactions(bare, signed / 10, at_once).await?;
                    figures.note(self, name, Unit::PerSecond, rate(count / 10, took));
                }
            }
        }
        Ok(())
    }
}
