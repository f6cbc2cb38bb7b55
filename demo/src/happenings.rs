//! The last things that happened, for people who watch.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use tidings::{ErrorReport, ErrorReporter};

/// How many are kept: what fits below the counts without filling the screen.
pub(crate) const KEPT: usize = 6;

/// The last things that happened, oldest first. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Happenings {
    since: Instant,
    last: Arc<Mutex<VecDeque<String>>>,
}

impl Happenings {
    /// Nothing has happened yet.
    pub(crate) fn new() -> Self {
        Self {
            since: Instant::now(),
            last: Arc::default(),
        }
    }

    /// Something has happened.
    pub(crate) fn tell(&self, what: impl AsRef<str>) {
        let line = format!(
            "{:>6.1} s  {}",
            self.since.elapsed().as_secs_f64(),
            what.as_ref()
        );
        let mut last = self.last.lock();
        if last.len() >= KEPT {
            last.pop_front();
        }
        last.push_back(line);
    }

    /// What happened last, oldest first, each with its time since the start.
    pub(crate) fn last(&self) -> Vec<String> {
        self.last.lock().iter().cloned().collect()
    }
}

#[async_trait]
impl ErrorReporter for Happenings {
    async fn report(&self, report: ErrorReport) -> bool {
        // In front, since a narrow terminal cuts the end.
        let end = if report.is_final { "dead: " } else { "" };
        self.tell(format!("{end}{}: {}", report.handler, report.message));
        true
    }
}

#[cfg(test)]
mod tests {
    use tidings::{EventId, HandlerRequestId, ReportKind};

    use super::*;

    #[tokio::test]
    async fn a_narrow_line_still_says_that_a_request_is_dead() {
        let event = EventId::new();
        let id = HandlerRequestId::derive(event, "mail");
        let (handler, name) = ("mail".into(), "order.placed".into());
        let mut report = ErrorReport::new(ReportKind::Final, id, handler, event, name);
        report.message = "x".repeat(200);
        report.is_final = true;
        let happenings = Happenings::new();
        assert!(happenings.report(report).await);
        let line = &happenings.last()[0];
        assert!(line.trim_start().contains("s  dead: mail: xxx"), "{line}");
    }

    #[test]
    fn only_the_last_ones_are_kept_in_their_order() {
        let happenings = Happenings::new();
        for number in 0..1000 {
            happenings.clone().tell(format!("number {number}"));
        }
        let last = happenings.last();
        assert_eq!(last.len(), KEPT);
        assert!(last.first().unwrap().ends_with("number 994"), "{last:?}");
        assert!(last.last().unwrap().ends_with("number 999"), "{last:?}");
    }
}
