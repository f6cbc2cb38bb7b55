//! Schedulers: what makes a processor and an executor work together, and when.

mod state;
mod port;

pub use state::{SchedulerState, SchedulerStatus};
pub use port::{Scheduler, SchedulerError, SchedulerExt, ShutdownReport};
