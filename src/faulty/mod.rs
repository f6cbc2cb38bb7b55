//! A store that fails on demand (feature `test-util`): a decorator over any store, for tests of
//! what an application or a scheduler does when its database does not answer.
//!
//! ```
//! use std::sync::Arc;
//! use tidings::{
//!     Event, MemoryStore,
//!     faulty::{Fault, FaultyStorer, Operation},
//!     store::{Raised, Storer},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = FaultyStorer::new(Arc::new(MemoryStore::new()));
//! let faults = store.faults();
//! let mut session = store.session().await?;
//! let event = Event::new("order.placed", &())?;
//!
//! // The event is stored, but the answer is lost; raising it again tells.
//! faults.inject(Operation::RaiseEvents, Fault::LoseAnswer, 1);
//! let error = session.events().raise(&[event.clone()]).await.unwrap_err();
//! assert!(error.is_uncertain());
//! assert_eq!(session.events().raise(&[event]).await?, [Raised::AlreadyRaised]);
//! assert_eq!(faults.calls(Operation::RaiseEvents), 2);
//! # Ok(())
//! # }
//! ```

mod faults;
mod operation;
mod repositories;
mod storer;

pub use faults::{Fault, Faults};
pub use operation::Operation;
pub use storer::FaultyStorer;
