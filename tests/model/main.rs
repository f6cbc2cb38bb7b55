//! The guarantees of tidings, checked in a model of it.
//!
//! `machine` is a small model of everything that can happen to events and handler requests: several
//! processes with handlers of their own, leases that run out, processes that go on with what they have
//! lost, answers that nobody gets, crashes between any two steps. A checker visits every state that it
//! can get into, in scopes that are small (`scopes`), and asks in each whether the guarantees hold
//! (`sound`). Then each rule is broken on purpose, and it must find what that breaks (`broken`).
#![cfg(feature = "test-util")]
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it explored"
)]

mod broken;
mod machine;
mod scopes;
mod sound;
