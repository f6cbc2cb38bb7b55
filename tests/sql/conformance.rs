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
