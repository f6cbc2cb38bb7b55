//! How a scheduler learns of others' commits, and the listener that tells of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{engine::Inner, pace::Heed};
use crate::{
    error::{Chain, Result, StoreError},
    model::Backoff,
    signal::Signal,
    store::WakeUps,
};

/// How often to look where the commits of others are not heard of.
const UNHEARD_POLL: Duration = Duration::from_secs(1);

/// Whether others' commits are heard of now.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    listens: AtomicBool,
    /// Raised when a listener was established or has failed.
    pub(super) changed: Signal,
}

impl Hearing {
    fn set(&self, listens: bool) {
        self.listens.store(listens, Ordering::Release);
        self.changed.raise();
    }
}

/// While it lives, there is a listener.
struct Listening<'a>(&'a Hearing);

impl<'a> Listening<'a> {
    fn begin(hearing: &'a Hearing) -> Self {
        hearing.set(true);
        Self(hearing)
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl Inner {
    /// How closely to look for work that no signal told of.
    pub(super) fn heed(&self) -> Heed {
        let poll = self.executor.settings().poll_interval;
        let hears = match self.executor.store().capabilities().wake_ups {
            WakeUps::Complete => true,
            WakeUps::Listener => self.hearing.listens.load(Ordering::Acquire),
            WakeUps::InProcess => false,
        };
        Heed {
            idle: if hears { poll } else { poll.min(UNHEARD_POLL) },
            hears,
        }
    }
}

/// Keeps a store's listener running.
pub(super) async fn listen(inner: Arc<Inner>) {
    /// Polling keeps the bounds meanwhile, so the tries can be rare: each is a connection, and where
    /// a pooler stands between, none may ever succeed.
    const LONGEST_PAUSE: Duration = Duration::from_secs(30);
    /// A listener that lived so long was a good one.
    const GOOD_AFTER: Duration = Duration::from_secs(10);
    let backoff = Backoff::exponential(Duration::from_millis(100), LONGEST_PAUSE);
    let mut failures = 0_u32;
    while !inner.executor.is_stopped() {
        let begun = Instant::now();
        let result = tokio::select! {
            biased;
            () = inner.executor.stopped() => return,
            result = listen_once(&inner) => result,
        };
        if begun.elapsed() > inner.executor.settings().call_timeout + GOOD_AFTER {
            failures = 0;
        }
        failures = failures.saturating_add(1);
        let error = result.err().map(|error| Chain(&error).to_string());
        if failures == 1 {
            tracing::warn!(error, "there is no listener; polling until it is back");
        } else {
            tracing::debug!(error, failures, "there is no listener yet");
        }
        tokio::select! {
            biased;
            () = inner.executor.stopped() => return,
            () = tokio::time::sleep(backoff.after(failures)) => {}
        }
    }
}

async fn listen_once(inner: &Inner) -> Result<()> {
    let limit = inner.executor.settings().call_timeout;
    let connecting = inner.executor.store().listener();
    let mut listener = match tokio::time::timeout(limit, connecting).await {
        Ok(listener) => listener?,
        Err(_) => {
            let operation = "begin to listen";
            return Err(StoreError::TimedOut { operation, limit });
        }
    };
    let _listening = Listening::begin(&inner.hearing);
    listener.listen().await
}
