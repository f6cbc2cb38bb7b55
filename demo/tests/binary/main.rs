//! Tests of the demo as people run it: the real binary, its output, its files and its exit codes.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test fails as the test does"
)]

mod bad_lines;
mod expected;
mod inputs;
mod numbers;
mod output;
mod program;
#[cfg(unix)]
mod signals;
#[cfg(unix)]
mod terminal;
