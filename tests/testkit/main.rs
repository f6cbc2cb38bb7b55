//! The test kit itself: what it tells apart, and what its failing assertions say.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod drain;
mod given;
mod raised;
mod shop;
mod wait;
