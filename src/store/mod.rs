//! The ports: what tidings asks of a store. A store knows no handler.
//!
//! The ports are small and dyn-safe; comfort lives in [`StorerExt`]. Whoever writes a store runs
//! the [conformance suite](crate::conformance) against it (feature `test-util`). Methods that are
//! added later have defaults.

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
