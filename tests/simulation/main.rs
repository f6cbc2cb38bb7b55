//! Simulations: processes, their schedulers and one store, in virtual time, where everything that can go
//! wrong does, by a seed. A checker decides of each history whether a guarantee was broken.
//!
//! A history follows from its seed, byte for byte, so one that went wrong can be had again:
//!
//! ```sh
//! TIDINGS_SIMULATION_SEED=4711 cargo test -p tidings --features test-util --test simulation -- --nocapture
//! ```
//!
//! runs that one and prints all of it. `TIDINGS_SIMULATION_HISTORIES` is how many are run, and
//! `TIDINGS_SIMULATION_FROM` the first seed. `.ci/run` runs a hundred thousand, for which it has the
//! library optimized.

#[cfg(test)]
mod actions;
#[cfg(test)]
mod broken;
#[cfg(test)]
mod calls;
#[cfg(test)]
mod gate;
#[cfg(test)]
mod handlers;
#[cfg(test)]
mod histories;
#[cfg(test)]
mod history;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod plan;
#[cfg(test)]
mod process;
#[cfg(test)]
mod promises;
#[cfg(test)]
mod repositories;
#[cfg(test)]
mod run;
#[cfg(test)]
mod state;
#[cfg(test)]
mod storer;
#[cfg(test)]
mod transaction;
#[cfg(test)]
mod verdict;
#[cfg(test)]
mod world;
