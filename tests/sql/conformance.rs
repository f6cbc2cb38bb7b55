//! The conformance suite on every SQL store.

#[cfg(feature = "postgres")]
mod postgres {
    use crate::fresh::postgres::Postgres;

    tidings::conformance_tests!(Postgres::new().await);
}
