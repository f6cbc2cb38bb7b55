//! Giving back what this process has claimed and does not start soon.
//!
//! A handler that was fast may have thousands of requests in the buffer when it turns slow, or when all
//! workers turn to what is more urgent. Their leases are renewed, so no rescue would give them to others.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::engine::Inner;

/// So often it is looked how far the workers have come. What waits twice as long may be given back.
const INTERVAL: Duration = Duration::from_secs(10);

/// Looks until the executor stops.
pub(super) async fn hand_back_surplus(inner: Arc<Inner>) {
    let mut looked_at = Instant::now();
    loop {
        tokio::select! {
            biased;
            () = inner.executor.stopped() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        // Neither beside a pause nor beside a shutdown, which hand everything back.
        let _gate = inner.gate.read().await;
        if inner.is_running() {
            inner.executor.hand_back_surplus(looked_at.elapsed()).await;
        }
        looked_at = Instant::now();
    }
}
