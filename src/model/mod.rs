//! What events, handler requests and the life of a scheduler are and how they change: plain values
//! and pure functions.
//!
//! Nothing here waits, reads a clock, or knows a store or a handler.

mod backoff;
mod data;
mod domain_event;
mod event;
mod event_raiser;
mod handler_request;
mod pattern;
mod priority;
mod registration;
mod scheduler_state;
mod transition;

pub use backoff::Backoff;
pub use data::EventData;
pub use domain_event::{DecodeError, DomainEvent, FromEvent, Payload};
pub use event::{Entity, Event, Headers};
pub use event_raiser::{EventBuffer, EventRaiser};
pub use handler_request::{ExecutionError, HandlerRequest, Lease, RequestState, RequestStateError};
pub use pattern::{EventPattern, PatternError};
pub use priority::{Priority, PriorityError};
pub use registration::{Registration, RegistrationState};
pub use scheduler_state::SchedulerState;
pub use transition::{Outcome, Refusal, Rescue, SUSPECT_FROM_RESCUES};
