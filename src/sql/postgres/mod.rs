//! The store on PostgreSQL.

mod dialect;
mod hot;
mod leases;
mod listener;
mod notifier;
mod options;
mod queue;
mod statements;
mod store;

pub use options::PostgresOptions;
pub use store::PostgresStore;

#[cfg(test)]
mod tests;
