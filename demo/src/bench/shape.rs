//! How many connections work at once, for the library's producers and for references alike.

use crate::place::System;

/// Those that work in batches.
pub(super) const fn batching(system: System) -> usize {
    match system {
        System::Postgres | System::MySql => 2,
        System::Sqlite => ONE_WRITER,
    }
}

/// Those that work one by one.
pub(super) const fn single(system: System) -> usize {
    match system {
        System::Postgres | System::MySql => 16,
        System::Sqlite => ONE_WRITER,
    }
}

/// SQLite lets one connection write at a time; others would only wait, and look every now and then whether
/// they may.
const ONE_WRITER: usize = 1;
