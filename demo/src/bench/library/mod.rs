//! The library under measurement: a store on tables of its own, made anew for each turn.

mod application;
mod check;
mod conditions;
mod drain;
mod effects;
mod failures;
mod filling;
mod held_snapshot;
mod idle;
mod latency;
mod names;
mod processes;
mod raise;
mod runs;
mod scale;
mod tables;
mod turn;

pub(crate) use self::tables::drop_all as drop_tables;
use self::turn::Turn;
pub(super) use self::{
    conditions::Conditions,
    drain::Drained,
    processes::Shared,
    turn::{SHUTDOWN, open},
};
use super::{Result, costs::Meter};
use crate::place::Place;

/// Of the tables, so that they are nobody else's.
pub(super) const PREFIX: &str = "bench_";
/// How many events a batch raises.
const BATCH: usize = 1000;

/// Where the library is measured.
#[derive(Debug)]
pub(super) struct Library {
    place: Place,
    meter: Meter,
}

impl Library {
    pub(super) const fn new(place: Place, meter: Meter) -> Self {
        Self { place, meter }
    }

    /// A store with empty tables.
    async fn turn(&self) -> Result<Turn> {
        Turn::new(&self.place, PREFIX, &self.meter).await
    }
}
