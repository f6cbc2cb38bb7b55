//! The mock of schedulers.

use std::time::Duration;

use async_trait::async_trait;
use mockall::mock;

use crate::scheduler::{Scheduler, SchedulerError, SchedulerStatus, ShutdownReport};

mock! {
    /// A mock of [`Scheduler`]: `expect_pause`, `expect_status`, ….
    /// [`SchedulerStatus::new`] makes a status to return.
    pub Scheduler {}

    #[async_trait]
    impl Scheduler for Scheduler {
        async fn start(&self) -> Result<(), SchedulerError>;
        async fn pause(&self) -> Result<(), SchedulerError>;
        async fn resume(&self) -> Result<(), SchedulerError>;
        fn status(&self) -> SchedulerStatus;
        fn is_operational(&self) -> bool;
        async fn shutdown(&self, deadline: Duration) -> ShutdownReport;
    }
}
