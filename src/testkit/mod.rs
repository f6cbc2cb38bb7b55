//! Helps to test handlers, and what an application raises (feature `test-util`).
//!
//! - [`given`] an event, [`when`](Given::when) a handler gets it, then …: one handler in isolation,
//!   without a scheduler, and for an ordinary one without a store.
//! - [`drain`] runs everything that is due in a store to its end; with an in-memory store it is how
//!   a whole flow is tested.
//! - [`wait_for_event`] waits for the handlers of one event, where a scheduler runs already.
//! - [`raised_events`] and [`raised`] tell what was raised in a store, and [`RaisedEvents`] asserts
//!   on it.
//!
//! Beside these, a [`ManualClock`](crate::ManualClock) moves an in-memory store through backoffs
//! and leases. Whoever writes a store uses the conformance suite.
//!
//! Assertions panic, at the place in the test that calls them, with what was expected and what
//! happened.

mod drain;
mod executed;
mod given;
mod raised;
mod store_contents;
mod unfinished;
mod wait;
mod watch;

pub use drain::{Drain, DrainError, Drained, drain};
pub use executed::Executed;
pub use given::{Given, given, given_event};
pub use raised::{Expected, RaisedEvents, raised, raised_events};
pub use unfinished::Unfinished;
pub use wait::{WaitError, wait_for_event};
