//! The store on MySQL and MariaDB.

mod dialect;
mod due;
mod hot;
mod kill;
mod options;
mod raise;
mod rows;
mod standstill;
mod statements;
mod store;

pub use options::MySqlOptions;
pub use store::MySqlStore;

#[cfg(test)]
mod tests;
