//! The guarantees of tidings, checked in a model of it, and the model checked against what the stores
//! and schedulers really do.
//!
//! # What is here
//!
//! `machine` is a small model of everything that can happen to events and handler requests. A checker
//! visits every state that it can get into, in scopes that are small (`scopes`), and asks in each whether
//! the guarantees hold (`sound`). Then one rule after the other is broken on purpose, and the checker
//! must find which guarantee that breaks, on the shortest way there (`broken`).
//!
//! `trace` writes down what real stores are asked and answer, while they are driven at random and by
//! schedulers whose calls fail, hang and lose their answers. Each trace is held against the rules that
//! were explored: every answer must be one that they allow. Schedulers are held against what they may
//! ask for, and traces that were tampered with must be rejected.
//!
//! # What the model has
//!
//! - Events that are raised in transactions which commit in any order or roll back; registrations, also
//!   of a process that starts late, and their retirement; fan-outs with and without an offer.
//! - Processes with handlers of their own, which crash between any two steps and start again; leases that
//!   run out while their owners go on; claims, renewals, hand-backs, rescues and suspects.
//! - All answers of handlers; handlers that end their process; transactional handlers, whose rows are
//!   locked from the settlement to the commit.
//! - Answers that are lost: of fan-outs and claims, so that nobody knows who has a request; of settlements
//!   and hand-backs, which then take effect at any later time or never; of commits, which the database
//!   decides upon later, and after which the request is read again.
//! - Operators who cancel, reexecute and hurry requests at any time.
//! - Clocks of processes that are ahead of the database's. Time goes on by ticks, at any moment, so that no
//!   process is ever in time by itself. Leases last one tick or two.
//!
//! That nothing is lost is asked of every state like this: if nothing goes wrong from now on, does
//! everything come to an end? (`machine::fair`) So there is no state from which a request can never
//! be run, and the end of a request that kills its processes is reached, too.
//!
//! # What it leaves out
//!
//! - Priorities, limits and the order of claims: no guarantee that is checked here depends on them.
//!   Isolation, bounds and speed are about quantities and have tests of their own.
//! - Executions, texts of errors, and what handlers raise (traces have the latter); vetoes of hooks and
//!   the backoff of events; renames, replays and prunes, which `tests/state_machine` compares with a
//!   reference; savepoints, which only undo what nobody has seen.
//! - That a process gives up by itself what it could not renew. It makes zombies rarer, and nothing may
//!   depend on it: a zombie of the model never notices.
//! - Fairness: what may happen for ever, such as a lease that always runs out just before its handler
//!   ends, may happen for ever. It is bounded by how often rescues count no error.
//!
//! # Running more of it
//!
//! A run explores some 480,000 states in eleven scopes, each to its end. The
//! tests print the counts, the ways to what broken rules break, and what the traces met:
//!
//! ```text
//! cargo test -p tidings --features test-util --test model -- --nocapture
//! ```
//!
//! | variable | effect |
//! | --- | --- |
//! | `MODEL_MORE=1` | everything that may go wrong in a scope may do so once more; ten times the states and beyond, so name one test |
//! | `MODEL_TRACES=1000` | so many random drives of each kind |
//! | `MODEL_SEED=7` | only this drive, or this one and the following, with the variable above |
//!
//! A failing drive names its seed. Drives of a store choose the same again; those of two schedulers
//! nearly so, since the library's own jitter is random.
#![cfg(feature = "test-util")]
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it explored"
)]

mod broken;
mod machine;
mod scopes;
mod sound;
mod trace;

// The databases of the tests of the SQL stores.
#[cfg(feature = "_sql")]
#[path = "../sql/fresh.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    reason = "which databases there are, and what of them is used here, depends on the features"
)]
mod fresh;
#[cfg(feature = "_sql")]
#[path = "../sql/server.rs"]
#[allow(dead_code, reason = "only the shared servers are used here")]
mod server;
