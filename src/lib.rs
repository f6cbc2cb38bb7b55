//! tidings.
mod clock;
mod config_map;
#[cfg(feature = "test-util")]
pub mod conformance;
mod error;
mod executor;
#[cfg(feature = "test-util")]
pub mod faulty;
mod handler;
mod id;
mod instrumented;
mod memory;
#[cfg(feature = "mocks")]
pub mod mocks;
mod model;
mod outage;
mod processor;
mod raiser;
mod scheduler;
mod settings;
mod signal;
pub mod store;
mod store_calls;
mod telemetry;
#[cfg(feature = "test-util")]
pub mod testkit;
mod text;

#[cfg(feature = "test-util")]
pub use crate::clock::{ManualClock, RuntimeClock};
pub use crate::{
    clock::{Clock, SystemClock},
    config_map::{ConfigError, ConfigMap, ConfigMapBuilder},
    error::{Result, Source, StoreError},
    handler::{
        BeforeExecute, BeforeProcess, CancellationCause, Context, ErrorReport, ErrorReporter,
        Handler, HandlerError, HandlerResult, IntoHandlerError, NoReporter, ProcessContext,
        ReportKind, TransactionalFn, WithState,
    },
    id::{CorrelationId, EventId, HandlerHash, HandlerRequestId, LeaseOwner},
    instrumented::InstrumentedStorer,
    memory::{MemoryConnection, MemoryStore},
    model::{
        Backoff, DecodeError, DomainEvent, Entity, Event, EventBuffer, EventData, EventPattern,
        EventRaiser, ExecutionError, FromEvent, HandlerRequest, Headers, Lease, Outcome,
        PatternError, Payload, Priority, PriorityError, Refusal, Registration, RegistrationState,
        RequestState, Rescue, SUSPECT_FROM_RESCUES, SchedulerState,
    },
    raiser::{RaiseConnection, Raiser},
    scheduler::{
        ConcurrentScheduler, CooperativeScheduler, Scheduler, SchedulerBuilder, SchedulerError,
        SchedulerExt, SchedulerStatus, ShutdownReport,
    },
    settings::BuildError,
    signal::{Signal, Signals},
    telemetry::{Telemetry, TelemetryBuilder},
    text::Name,
};
