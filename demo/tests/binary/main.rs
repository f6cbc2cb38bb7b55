//! Tests of the demo as people run it: the real binary, its output, its files and its exit codes.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test fails as the test does"
)]

#[cfg(unix)]
mod attack;
mod bad_lines;
#[cfg(unix)]
mod bench;
#[cfg(unix)]
mod database;
#[cfg(unix)]
mod exactly_once;
mod expected;
mod inputs;
mod numbers;
#[cfg(unix)]
mod outages;
mod output;
mod program;
#[cfg(unix)]
#[path = "../../../tests/sql/server.rs"]
#[expect(dead_code, reason = "the tests of the library use all of it")]
#[expect(
    clippy::expect_used,
    reason = "a helper of a test fails as the test does"
)]
mod server;
#[cfg(unix)]
mod signals;
#[cfg(unix)]
mod stores;
#[cfg(unix)]
mod terminal;
#[cfg(unix)]
mod trouble;
