//! The stores on SQL databases, on real servers; `tests/run` provides them.
#![cfg(test)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod conformance;
mod fresh;
#[cfg(feature = "mysql")]
mod mysql;
mod private_servers;
mod server;
