//! A store of one of the kinds that there are, and what only its own type can do.

use std::sync::Arc;

use tidings::{MemoryStore, MySqlStore, PostgresStore, Raiser, Result, SqliteStore, store::Storer};

/// An open store. Clones share it.
#[derive(Clone, Debug)]
pub(crate) enum Database {
    Memory(MemoryStore),
    Sqlite(SqliteStore),
    Postgres(PostgresStore),
    MySql(MySqlStore),
}

/// Does the same with the store of every kind.
macro_rules! each {
    ($database:expr, $store:ident => $do:expr) => {
        match $database {
            Database::Memory($store) => $do,
            Database::Sqlite($store) => $do,
            Database::Postgres($store) => $do,
            Database::MySql($store) => $do,
        }
    };
}

impl Database {
    /// The store as schedulers and queries use it.
    pub(crate) fn storer(&self) -> Arc<dyn Storer> {
        each!(self, store => Arc::new(store.clone()))
    }

    /// Raises events in it.
    pub(crate) fn raiser(&self) -> Raiser {
        each!(self, store => store.raiser())
    }

    /// Whether what it holds ends with the process.
    pub(crate) const fn is_memory(&self) -> bool {
        matches!(self, Self::Memory(_))
    }

    /// Brings the library's tables up to date.
    pub(crate) async fn migrate(&self) -> Result<()> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Sqlite(store) => store.migrate().await,
            Self::Postgres(store) => store.migrate().await,
            Self::MySql(store) => store.migrate().await,
        }
    }

    /// Closes its connections.
    pub(crate) async fn close(&self) {
        match self {
            Self::Memory(_) => {}
            Self::Sqlite(store) => store.close().await,
            Self::Postgres(store) => store.close().await,
            Self::MySql(store) => store.close().await,
        }
    }
}
