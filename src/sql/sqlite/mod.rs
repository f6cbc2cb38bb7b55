//! The store on SQLite.

mod dialect;
mod hot;
mod options;
mod rows;
mod statements;
mod store;
#[cfg(test)]
mod tests;
mod turns;

pub use options::SqliteOptions;
pub use store::SqliteStore;
