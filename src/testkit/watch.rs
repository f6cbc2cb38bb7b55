//! Waiting for any change in a store.

use std::time::Duration;

use crate::signal::Signals;

/// What was known of a store's signals before it was looked at.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    signals: &'a Signals,
    raised: u64,
    ready: u64,
    settled: u64,
}

impl<'a> Watch<'a> {
    /// How often to look at a store whose signals do not tell of others who write to it.
    const POLL: Duration = Duration::from_millis(50);

    /// Notes what has been signaled; then look at the store.
    pub(super) fn begin(signals: &'a Signals) -> Self {
        Self {
            signals,
            raised: signals.raised.seen(),
            ready: signals.ready.seen(),
            settled: signals.settled.seen(),
        }
    }

    /// Whether nothing has been signaled since.
    pub(super) fn is_unchanged(&self) -> bool {
        let Self {
            signals,
            raised,
            ready,
            settled,
        } = self;
        (
            signals.raised.seen(),
            signals.ready.seen(),
            signals.settled.seen(),
        ) == (*raised, *ready, *settled)
    }

    /// Waits until something has been signaled since, or for a short while. Cancellation safe.
    pub(super) async fn changed(&self) {
        tokio::select! {
            biased;
            () = self.signals.raised.changed_since(self.raised) => {}
            () = self.signals.ready.changed_since(self.ready) => {}
            () = self.signals.settled.changed_since(self.settled) => {}
            () = tokio::time::sleep(Self::POLL) => {}
        }
    }
}
