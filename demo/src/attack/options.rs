//! What can be asked of an attack.

use std::{path::PathBuf, time::Duration};

use clap::{
    Args,
    builder::{StringValueParser, TypedValueParser},
};

use super::{faults::Fault, server::Kind};
use crate::store::StoreUrl;

/// Attacks the guarantees, and tells what held
///
/// An application stores orders and raises an event for each, some of which it rolls back, while workers that
/// are processes of their own handle them and everything is done to them and to their database that happens to
/// services: they are killed, frozen and deployed, their connections cut, blocked, forgotten and slowed, the
/// server ends their sessions, is restarted and crashes, its clock jumps and its disk is full. A ledger of files
/// has every run of a handler. Then the faults end, everything has to come to its end, and the ledger is
/// compared with the database: what was lost, what ran again and why, and what counted twice.
///
/// Use a database of its own, in which the tables `attack_…` are made anew, or let it start a server.
#[derive(Debug, Args)]
pub(crate) struct AttackOptions {
    /// A database on a server that others use, too: postgres://…, mysql://… or mariadb://…
    #[arg(long, value_name = "URL", env = "TIDINGS_STORE", hide_env_values = true, conflicts_with = "server",
        required_unless_present = "server", value_parser = StringValueParser::new().map(StoreUrl::from))]
    pub(super) store: Option<StoreUrl>,

    /// Starts a server, to which more can be done: it is restarted, crashes, moves in time and fills its disk.
    /// Those two take libfaketime, and the right to mount
    #[arg(long, value_enum, value_name = "KIND")]
    pub(super) server: Option<Kind>,

    /// How long the faults go on
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,

    /// How many workers there are
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(super) workers: u8,

    /// Orders a second
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) orders: u32,

    /// How long a worker that is lost keeps its work from others
    #[arg(long, value_name = "MILLIS", default_value_t = 3000, value_parser = clap::value_parser!(u32).range(500..=60_000))]
    lease: u32,

    /// How long a call to the store may take: no longer than a lease
    #[arg(long, value_name = "MILLIS", default_value_t = 1500, value_parser = clap::value_parser!(u32).range(100..=60_000))]
    call_timeout: u32,

    /// What is done; everything that is possible if nothing is named
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(super) only: Vec<Fault>,

    /// Draws the faults; random if it is not given, and told in any case. When they happen, the machine has a
    /// say in
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,

    /// Where ledger and verdict are written to; the directory is made anew
    #[arg(long, value_name = "DIR", default_value = "target/attack")]
    pub(super) report: PathBuf,
}

impl AttackOptions {
    pub(super) fn time(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }

    pub(super) fn lease(&self) -> Duration {
        Duration::from_millis(self.lease.into())
    }

    pub(super) fn call_timeout(&self) -> Duration {
        Duration::from_millis(self.call_timeout.into())
    }
}
