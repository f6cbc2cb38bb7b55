//! Keeps a loop running: one that panics, as only a bug or a foreign store can make it, is logged
//! and begun again.

use std::{future::Future, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;

/// Runs what `begin` makes until it ends by itself.
pub(super) async fn supervise<F>(name: &'static str, mut begin: impl FnMut() -> F)
where
    F: Future<Output = ()>,
{
    /// Long enough to keep a loop that panics at once from filling the log.
    const PAUSE: Duration = Duration::from_secs(1);
    while AssertUnwindSafe(begin()).catch_unwind().await.is_err() {
        tracing::error!(name, "a loop of the scheduler panicked; it begins again");
        tokio::time::sleep(PAUSE).await;
    }
}
