//! Mocks of the ports and of what applications pass to them (feature `mocks`), made with
//! [mockall](https://docs.rs/mockall): unit tests of code that raises events, administers handler
//! requests or controls a scheduler need no store.
//!
//! A mock panics at a call that was not expected, and, when it is dropped, if an expected call did
//! not come. Sessions and transactions give out their repositories as boxes, so an expectation
//! makes one:
//!
//! ```
//! use serde_json::json;
//! use tidings::{
//!     Event, Raiser, Signals, StoreError,
//!     mocks::{MockEventRepository, MockStorer, MockTransaction},
//!     store::{Raised, Storer},
//! };
//!
//! /// The code under test.
//! async fn place_order(store: &dyn Storer, raiser: &Raiser, total: u64) -> Result<(), StoreError> {
//!     let placed = Event::new("order.placed", &json!({ "total": total }))
//!         .map_err(|error| StoreError::invalid("the order", error.to_string(), "correct it"))?;
//!     let mut tx = store.begin().await?;
//!     raiser.raise(&mut *tx, placed).await?;
//!     tx.commit().await
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut tx = MockTransaction::new();
//! tx.expect_events().once().returning(|| {
//!     let mut events = MockEventRepository::new();
//!     events
//!         .expect_raise()
//!         .withf(|raised| raised.len() == 1 && raised[0].name == "order.placed")
//!         .once()
//!         .returning(|_| Ok(vec![Raised::New]));
//!     Box::new(events)
//! });
//! tx.expect_commit().once().returning(|| Ok(()));
//!
//! let mut store = MockStorer::new();
//! store.expect_begin().return_once(|| Ok(Box::new(tx)));
//!
//! place_order(&store, &Raiser::new(Signals::default()), 12).await?;
//! # Ok(())
//! # }
//! ```
//!
//! What a handler does is tested without mocks, see `testkit`; and where a test is about
//! what comes out rather than about which calls are made, the in-memory store is the better
//! double.

mod reporter;
mod repositories;
mod scheduler;
mod storer;

pub use reporter::MockErrorReporter;
pub use repositories::{
    MockEventRepository, MockHandlerRequestRepository, MockLeaseRenewer, MockRegistrationRepository,
};
pub use scheduler::MockScheduler;
pub use storer::{MockListener, MockSession, MockStorer, MockTransaction};
