//! What can be asked of the bench.

use std::{path::PathBuf, time::Duration};

use clap::{
    Args, ValueEnum as _,
    builder::{StringValueParser, TypedValueParser},
};

use super::workloads::Workload;
use crate::{arguments::Format, store::StoreUrl};

/// Measures the library beside loops of bare SQL
///
/// Use a database of its own on a machine that does nothing else: the tables `bench_…` and `reference_…` are
/// made anew in it, and dropped at the end. Contenders take turns, in every other round from the last to the
/// first; the figures are medians of all rounds, and the ratios those of the medians, beside which stand the
/// lowest and the highest ratio of a single round.
///
/// Beside a throughput stands what each request has cost: bytes of the server's log (with SQLite, bytes that were
/// written at all), transactions (with MySQL, those that wrote), round trips and statements (counted in a pass of
/// its own), processor time of this process and of the server, if it runs here; and the most memory that this
/// process had meanwhile, loops of bare SQL included. What cannot be known is told as none.
#[derive(Debug, Args)]
pub(crate) struct BenchOptions {
    /// Where to measure: postgres://…, mysql://…, mariadb://… or sqlite:FILE
    #[arg(long, value_name = "URL", env = "TIDINGS_STORE", hide_env_values = true,
        value_parser = StringValueParser::new().map(StoreUrl::from))]
    pub(super) store: StoreUrl,

    /// How often each contender has its turn
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) rounds: u32,

    /// How many requests a round handles, in thousands; a tenth of them where a transaction is made for each,
    /// and ten for each thousand, 500 at most, where latencies are taken one by one
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) thousands: u32,

    /// The workloads; all that are not long if none is named
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Workload>,

    /// Runs all workloads, the long ones too
    #[arg(long, conflicts_with = "only")]
    all: bool,

    /// How many millions of finished rows `scale` has beside it
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    millions: u32,

    /// How many minutes `held-snapshot` takes
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(2..=600))]
    minutes: u32,

    /// Writes plots into DIR, as SVG: of latencies, and of throughput over the backlog if `backlog` runs
    #[arg(long, value_name = "DIR")]
    pub(super) plots: Option<PathBuf>,

    /// Ends with exit code 1 when a floor is missed
    ///
    /// A floor is what the library ought to reach, most of the time a ratio to a loop of bare SQL. On a server
    /// whose commits are not durable nothing is measured then.
    #[arg(long)]
    pub(super) check: bool,

    /// How the figures are printed; json: one object a line, the first of which says what was measured on
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(super) format: Format,
}

impl BenchOptions {
    pub(super) fn workloads(&self) -> impl Iterator<Item = Workload> {
        let all = Workload::value_variants().iter().copied();
        all.filter(|one| match self.only.as_slice() {
            [] => self.all || !one.is_long(),
            only => only.contains(one),
        })
    }

    /// How many requests a round handles.
    pub(super) fn requests(&self) -> u64 {
        u64::from(self.thousands) * 1000
    }

    /// How many latencies are taken of an idle system at most, which takes a second for ten.
    pub(super) fn samples(&self) -> usize {
        usize::try_from(self.thousands).map_or(usize::MAX, |thousands| thousands * 10)
    }

    /// How many finished rows there are beside those that are measured.
    pub(super) fn finished_rows(&self) -> u64 {
        u64::from(self.millions) * 1_000_000
    }

    /// How long a transaction stays open.
    pub(super) fn time_held(&self) -> Duration {
        Duration::from_secs(60) * self.minutes
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: BenchOptions,
    }

    fn workloads(arguments: &[&str]) -> Vec<Workload> {
        let line = [&["bench", "--store", "memory:"], arguments].concat();
        Line::try_parse_from(line)
            .unwrap()
            .options
            .workloads()
            .collect()
    }

    #[test]
    fn what_takes_minutes_runs_only_when_it_is_asked_for() {
        assert!(workloads(&[]).iter().all(|one| !one.is_long()));
        assert_eq!(workloads(&["--all"]), Workload::value_variants());
        assert_eq!(
            workloads(&["--only", "idle,drain"]),
            [Workload::Drain, Workload::Idle]
        );
    }
}
