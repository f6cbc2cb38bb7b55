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
        let end = if report.is_final {
            ", the request is dead"
        } else {
            ""
        };
        self.tell(format!("{}: {}{end}", report.handler, report.message));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
