//! The stores on SQL databases, on real servers; `tests/run` provides them.
#![cfg(test)]

mod conformance;
mod damaged;
mod fresh;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod frozen;
#[cfg(any(feature = "mysql", feature = "sqlite", feature = "sqlite-unbundled"))]
mod idling;
#[cfg(feature = "postgres")]
mod leased_batches;
mod listening;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod locked;
mod lost_commits;
#[cfg(feature = "postgres")]
mod mixed_settlements;
#[cfg(feature = "mysql")]
mod mysql;
mod options;
#[cfg(feature = "postgres")]
mod pooler;
#[cfg(feature = "postgres")]
mod postgres;
mod private_servers;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod proxy;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod pruned;
#[cfg(feature = "postgres")]
mod queue;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod roles;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod round_trips;
mod server;
mod several;
mod shared_transactions;
#[cfg(any(feature = "sqlite", feature = "sqlite-unbundled"))]
mod sqlite;
mod stress;
mod transactional;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod unreachable;
mod unreadable;
