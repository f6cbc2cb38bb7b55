//! The in-memory store: the store of the demo and of tests, which behaves as a SQL store at READ
//! COMMITTED does. Nothing here outlives the process.
//!
//! How it is built, from the bottom up:
//!
//! - [`slab`], [`run_map`], [`merge`] — plain containers.
//! - [`event_table`], [`request_table`], [`registration_table`] — the committed rows with their
//!   indexes. Rows that a transaction has locked are in no index that claims read, so they cost
//!   claims nothing.
//! - [`lock_table`] — who has locked which row, who waits for it, and whether that is a deadlock.
//! - [`overlay`] — what one transaction has written and locked: its own version of those rows.
//! - [`scope`] — one statement: it sees the committed rows below the overlay, and writes to the
//!   overlay in a transaction and to the tables outside of one. The statements themselves are in
//!   `claim`, `fan_out`, `settle`, `replay`, `prune`, `register` and `query`.
//! - [`connection`] — runs statements, waits for locks, commits and rolls back.
//! - `event_repository`, `request_repository`, `registration_repository`, `lease_renewer`, [`store`]
//!   — the ports.
//!
//! One mutex guards all tables. It is never held across an await point, and statements of a
//! transaction change nothing but locks under it until the commit. A statement first takes all
//! locks that it needs and then writes, so that it can begin anew after waiting for one.

mod claim;
mod connection;
mod event_repository;
mod event_table;
mod fan_out;
mod lease_renewer;
mod lock_table;
mod look;
mod merge;
mod overlay;
mod prune;
mod query;
mod register;
mod registration_repository;
mod registration_table;
mod replay;
mod request_repository;
mod request_table;
mod run_map;
mod scope;
mod settle;
mod slab;
mod store;

pub use connection::MemoryConnection;
pub use store::MemoryStore;
