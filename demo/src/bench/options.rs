//! What can be asked of the bench.

use clap::{
    Args, ValueEnum as _,
    builder::{StringValueParser, TypedValueParser},
};

use super::workloads::Workload;
use crate::{arguments::Format, store::StoreUrl};

/// Measures the library beside loops of bare SQL
///
/// Use a database of its own on a machine that does nothing else: the tables `bench_…` and `reference_…` are
/// made anew in it, and dropped at the end. Contenders take turns; the figures are medians of all rounds, and
/// the ratios those of the medians.
#[derive(Debug, Args)]
pub(crate) struct BenchOptions {
    /// Where to measure: postgres://…
    #[arg(long, value_name = "URL", env = "TIDINGS_STORE", hide_env_values = true,
        value_parser = StringValueParser::new().map(StoreUrl::from))]
    pub(super) store: StoreUrl,

    /// How often each contender has its turn
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) rounds: u32,

    /// How many requests a round handles, in thousands; a tenth of them where a transaction is made for each
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(10..=10_000))]
    pub(super) thousands: u32,

    /// The workloads, all if none is named
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Workload>,

    /// How the figures are printed; json: one object a line
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(super) format: Format,
}

impl BenchOptions {
    pub(super) fn workloads(&self) -> impl Iterator<Item = Workload> {
        let all = Workload::value_variants().iter().copied();
        all.filter(|one| self.only.is_empty() || self.only.contains(one))
    }

    /// How many requests a round handles.
    pub(super) fn requests(&self) -> u64 {
        u64::from(self.thousands) * 1000
    }
}
