//! Schedulers: what makes a processor and an executor work together, and when.

mod port;
mod status;

pub use port::{Scheduler, SchedulerError, SchedulerExt, ShutdownReport};
pub use status::SchedulerStatus;
