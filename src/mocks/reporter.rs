//! The mock of the error reporter.

use async_trait::async_trait;
use mockall::mock;

use crate::handler::{ErrorReport, ErrorReporter};

mock! {
    /// A mock of [`ErrorReporter`]: `expect_report`.
    pub ErrorReporter {}

    #[async_trait]
    impl ErrorReporter for ErrorReporter {
        async fn report(&self, report: ErrorReport) -> bool;
    }
}
