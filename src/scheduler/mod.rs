//! Schedulers: what makes a processor and an executor work together, and when.
//!
//! [`ConcurrentScheduler`] runs fan-out and claims in two loops at once; [`CooperativeScheduler`]
//! alternates them in one. Everything else (life cycle, settling, leases, rescue, housekeeping) is
//! the same for both and lives in the engine.

mod beside;
mod builder;
mod concurrent;
mod cooperative;
mod engine;
mod hearing;
mod hold_back;
mod housekeeping;
mod lookout;
mod loops;
mod pace;
mod port;
mod registration;
mod renames;
mod retention;
mod status;
mod supervisor;
mod surplus;

pub use builder::SchedulerBuilder;
pub use concurrent::ConcurrentScheduler;
pub use cooperative::CooperativeScheduler;
pub use port::{Scheduler, SchedulerError, SchedulerExt, ShutdownReport};
pub use status::SchedulerStatus;
