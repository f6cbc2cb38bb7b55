//! The store on SQLite.

mod dialect;
mod options;
mod rows;
mod statements;
mod store;
mod turns;

pub use options::SqliteOptions;
pub use store::SqliteStore;
