//! Domain and application events for services that have a SQL database.
//!
//! An event is recorded in the transaction of the change that it describes. Every handler that
//! wants it gets a durable row of its own, the handler request, with its own attempts, errors,
//! backoff, priority and end. There are stores on PostgreSQL, SQLite, and MySQL or MariaDB, and one in
//! memory for tests.
//!
//! - Raise: [`DomainEvent`], [`Event`], [`EventRaiser`], [`Raiser`].
//! - Handle: [`Handler`], [`Context`], [`HandlerError`], [`ConfigMap`].
//! - Run: [`ConcurrentScheduler`], [`CooperativeScheduler`], [`Scheduler`].
//! - Store: `PostgresStore`, `SqliteStore`, `MySqlStore` (features), [`MemoryStore`].
//! - Look and act: [`store`].
//! - Watch: [`Telemetry`], [`ErrorReporter`].
//! - Test: `testkit`, `faulty` and `conformance` (feature `test-util`), `mocks` (feature `mocks`).
//!
//! The [`guide`] explains all of it; its [introduction](guide::introduction) is where to begin, and it has
//! a page for [PostgreSQL](guide::postgresql), [SQLite](guide::sqlite), [MySQL](guide::mysql), and
//! [production](guide::production).
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use tidings::{ConcurrentScheduler, ConfigMap, Context, Event, Handler, HandlerResult};
//! use tidings::{MemoryStore, Scheduler, store::Storer};
//!
//! async fn greet(came: Arc<Event>, _: Context) -> HandlerResult {
//!     println!("welcome, {}", came.data.decode::<String>()?);
//!     Ok(())
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = MemoryStore::new();
//! let raiser = store.raiser();
//! let config = ConfigMap::builder().handler(Handler::new("greet", greet).on("guest.came")).build()?;
//! let scheduler = ConcurrentScheduler::builder(Arc::new(store.clone()), config).build()?;
//! scheduler.start().await?;
//!
//! let mut tx = store.begin().await?;
//! raiser.raise(&mut *tx, Event::new("guest.came", "Ada")?).await?;
//! tx.commit().await?;
//!
//! scheduler.shutdown(Duration::from_secs(5)).await;
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! | feature | default | adds |
//! | --- | --- | --- |
//! | `telemetry` | yes | metrics and spans through the OpenTelemetry API |
//! | `postgres` | | `PostgresStore`: PostgreSQL 14 or later |
//! | `mysql` | | `MySqlStore`: MySQL 8.0 or later, MariaDB 10.6 or later |
//! | `sqlite` | | `SqliteStore`, with the library of SQLite compiled in |
//! | `sqlite-unbundled` | | `SqliteStore`, with the library of the system, 3.38 or later |
//! | `tls-rustls`, `tls-native-tls` | | TLS for connections to PostgreSQL and MySQL |
//! | `mocks` | | mocks of the ports, of `ErrorReporter` and of `Scheduler` |
//! | `test-util` | | test kit, conformance suite, a store that fails on demand, clocks for tests |
//!
//! Each is additive. The features of the stores bring `sqlx` 0.9 along, which is part of the public face
//! as `chrono` and `uuid` are: all three are re-exported. This `sqlx` is built without its feature
//! `macros`; an application that wants `query!` has `sqlx` 0.9 among its own dependencies, too.
#![forbid(unsafe_code)]
// On docs.rs, which builds with a nightly compiler, items say which feature they need.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod agenda;
mod batch_size;
mod chance;
mod clock;
mod config_map;
#[cfg(feature = "test-util")]
pub mod conformance;
mod error;
mod executor;
#[cfg(feature = "test-util")]
pub mod faulty;
pub mod guide;
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
#[cfg(feature = "_sql")]
mod sql;
pub mod store;
mod store_calls;
mod telemetry;
#[cfg(feature = "test-util")]
pub mod testkit;
mod text;

#[cfg(feature = "test-util")]
pub use crate::{
    chance::SeededThread,
    clock::{ManualClock, RuntimeClock},
};
pub use crate::{
    clock::{Clock, SystemClock},
    config_map::{ConfigError, ConfigMap, ConfigMapBuilder},
    error::{ErrorChain, Result, Source, StoreError},
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
        RequestState, RequestStateError, Rescue, SUSPECT_FROM_RESCUES, SchedulerState,
    },
    raiser::{RaiseConnection, Raiser, Raising},
    scheduler::{
        ConcurrentScheduler, CooperativeScheduler, Scheduler, SchedulerBuilder, SchedulerError,
        SchedulerExt, SchedulerStatus, ShutdownReport,
    },
    settings::{BuildError, Retention},
    signal::{Signal, Signals},
    telemetry::{Telemetry, TelemetryBuilder},
    text::Name,
};

#[cfg(feature = "mysql")]
pub use crate::sql::{MySqlOptions, MySqlStore};
#[cfg(feature = "postgres")]
pub use crate::sql::{PostgresOptions, PostgresStore};
#[cfg(feature = "_sqlite")]
pub use crate::sql::{SqliteOptions, SqliteStore};
/// The version of `chrono` whose instants events and requests carry. It is part of the public face,
/// as is `uuid`: another major version of either is another major version of this library.
pub use chrono;
/// The version of `uuid` whose values the ids wrap.
pub use uuid;

/// The version of `sqlx` whose pools, connections and transactions the stores take and give.
#[cfg(feature = "_sql")]
pub use sqlx;

// The examples of the README run as those here do.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
