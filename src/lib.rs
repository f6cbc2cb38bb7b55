//! tidings.
mod clock;
mod config_map;
mod error;
mod handler;
mod id;
mod instrumented;
mod model;
mod raiser;
mod scheduler;
mod signal;
pub mod store;
mod telemetry;
mod text;

pub use crate::{
    clock::{Clock, SystemClock},
    config_map::{ConfigError, ConfigMap, ConfigMapBuilder},
    error::{Result, Source, StoreError},
    handler::{
        BeforeExecute, BeforeProcess, CancellationCause, Context, ErrorReport, ErrorReporter, Handler, HandlerError,
        HandlerResult, IntoHandlerError, NoReporter, ProcessContext, ReportKind, TransactionalFn, WithState,
    },
    id::{CorrelationId, EventId, HandlerHash, HandlerRequestId, LeaseOwner},
    instrumented::InstrumentedStorer,
    model::{
        Backoff, DecodeError, DomainEvent, Entity, Event, EventBuffer, EventData, EventPattern, EventRaiser,
        ExecutionError, FromEvent, HandlerRequest, Headers, Lease, Outcome, PatternError, Payload, Priority,
        PriorityError, Refusal, Registration, RegistrationState, RequestState, Rescue, SUSPECT_FROM_RESCUES,
    },
    raiser::{RaiseConnection, Raiser},
    scheduler::{Scheduler, SchedulerError, SchedulerExt, SchedulerState, SchedulerStatus, ShutdownReport},
    signal::{Signal, Signals},
    telemetry::{Telemetry, TelemetryBuilder},
    text::Name,
};
#[cfg(feature = "test-util")]
pub use crate::clock::ManualClock;
