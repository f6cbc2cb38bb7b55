//! Tests that need database servers; `tests/run` provides them.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod private_servers;
mod server;
