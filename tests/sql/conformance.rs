//! The conformance suite on every SQL store.

#[cfg(feature = "postgres")]
mod postgres {
    use crate::fresh::postgres::Postgres;

    tidings::conformance_tests!(Postgres::new().await);
}

#[cfg(feature = "mysql")]
mod mysql {
    use crate::fresh::mysql::MySql;

    tidings::conformance_tests!(MySql::new().await);
}
