//! The ports: what tidings asks of a store. A store knows no handler.
//!
//! The ports are small and dyn-safe; comfort lives in [`StorerExt`]. Whoever writes a store runs
//! the [conformance suite](crate::conformance) against it (feature `test-util`). Methods that are
//! added later have defaults.
//!
//! # Who calls what
//!
//! Applications and operators need a part of it; the rest is what schedulers do with a store, and
//! whoever calls it by hand takes work away from them.
//!
//! | port | for applications and operators | for schedulers |
//! | --- | --- | --- |
//! | [`Storer`] | [`session`](Storer::session), [`begin`](Storer::begin), [`signals`](Storer::signals), [`capabilities`](Storer::capabilities) | [`look`](Storer::look), [`listener`](Storer::listener), [`lease_renewer`](Storer::lease_renewer) |
//! | [`StorerExt`] | [`transaction`](StorerExt::transaction), [`replay_all`](StorerExt::replay_all), [`prune_all`](StorerExt::prune_all) | |
//! | [`EventRepository`] | [`find`](EventRepository::find), [`list`](EventRepository::list), [`stream`](EventRepository::stream), [`count`](EventRepository::count), [`count_unprocessed`](EventRepository::count_unprocessed), [`oldest_unprocessed`](EventRepository::oldest_unprocessed), [`find_for_update`](EventRepository::find_for_update) | [`raise`](EventRepository::raise) (applications take a [`Raiser`](crate::Raiser)), [`claim`](EventRepository::claim), [`fan_out`](EventRepository::fan_out), [`fail`](EventRepository::fail), [`prune`](EventRepository::prune) |
//! | [`HandlerRequestRepository`] | [`find`](HandlerRequestRepository::find), [`of_event`](HandlerRequestRepository::of_event), [`list`](HandlerRequestRepository::list), [`stream`](HandlerRequestRepository::stream), [`count`](HandlerRequestRepository::count), [`count_unexecuted`](HandlerRequestRepository::count_unexecuted), [`count_dead`](HandlerRequestRepository::count_dead), [`dead`](HandlerRequestRepository::dead), [`cancel`](HandlerRequestRepository::cancel), [`reexecute`](HandlerRequestRepository::reexecute), [`reexecute_dead`](HandlerRequestRepository::reexecute_dead), [`run_now`](HandlerRequestRepository::run_now), [`replay`](HandlerRequestRepository::replay) | [`claim`](HandlerRequestRepository::claim), [`claim_suspect`](HandlerRequestRepository::claim_suspect), [`settle`](HandlerRequestRepository::settle), [`hand_back`](HandlerRequestRepository::hand_back), [`rescue`](HandlerRequestRepository::rescue) |
//! | [`RegistrationRepository`] | [`all`](RegistrationRepository::all), [`absent`](RegistrationRepository::absent), [`retire`](RegistrationRepository::retire), [`rename`](RegistrationRepository::rename) | [`register`](RegistrationRepository::register), [`touch`](RegistrationRepository::touch) |
//!
//! What an operator does with the requests of a day; the records serialize, for a page or a command
//! line:
//!
//! ```
//! use tidings::{MemoryStore, RequestState, store::{Page, RequestFilter, Storer}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let store = MemoryStore::new();
//! let mut session = store.session().await?;
//! let mut requests = session.handler_requests();
//! let open = RequestFilter::default()
//!     .in_states([RequestState::Pending, RequestState::BackingOff])
//!     .of_handlers(["mail"]);
//! for request in requests.list(&open, &Page::first(100)).await? {
//!     println!("{}", serde_json::to_string(&request)?);
//!     requests.cancel(request.id).await?;
//! }
//! let dead = RequestFilter::default().in_states([RequestState::Dead]).error_contains("no route");
//! for request in requests.list(&dead, &Page::first(100)).await? {
//!     requests.reexecute(request.id).await?;
//! }
//! # Ok(())
//! # }
//! ```

mod administration;
mod batch;
mod batches;
mod event_repository;
mod ext;
mod filter;
mod handler_request_repository;
mod lease_renewer;
mod listener;
mod look;
mod registration_repository;
mod rescue;
mod storer;

pub use administration::{Prune, Pruned, Replay, Replayed};
pub use batch::{
    Claim, ClaimedBatch, ClaimedEvent, ClaimedRequest, EventClaim, EventFailure, FanOut, FannedOut,
    HandlerRoom, LeaseOffer, ProcessedEvent, Renewal, Renewed, Selection, Settled, Settlement,
    UnreadableRequest,
};
pub use event_repository::{EventRepository, EventStream, Raised, StoredEvent};
pub(crate) use ext::RENAME_BATCH;
pub use ext::StorerExt;
pub use filter::{EventFilter, LockMode, Page, RequestFilter};
pub use handler_request_repository::{HandlerRequestRepository, HandlerRequestStream};
pub use lease_renewer::LeaseRenewer;
pub use listener::Listener;
pub use look::{Look, Outlook};
pub use registration_repository::{AbsentHandler, Registered, RegistrationRepository, Renamed};
pub use rescue::{RescueLost, Rescued, RescuedRequest};
pub use storer::{Capabilities, Connection, ConnectionType, Session, Storer, Transaction, WakeUps};
