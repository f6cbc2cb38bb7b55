//! The conformance suite on every SQL store.

#[cfg(feature = "postgres")]
mod postgres {
    use crate::fresh::postgres::Postgres;

    tidings::conformance_tests!(Postgres::new().await);
}

#[cfg(any(feature = "sqlite", feature = "sqlite-unbundled"))]
mod sqlite {
    use crate::fresh::sqlite::Sqlite;

    tidings::conformance_tests!(Sqlite::new().await);
}

#[cfg(feature = "mysql")]
mod mysql {
    use crate::fresh::mysql::MySql;

    tidings::conformance_tests!(MySql::new().await);
}

/// On a pool of the application, whose sessions have other settings than the store's own.
#[cfg(feature = "mysql")]
mod mysql_pool {
    use crate::mysql::on_foreign_pool;

    tidings::conformance_tests!(on_foreign_pool().await);
}
