//! Registers a `ConfigMap` in the store when a scheduler starts.

use super::renames::take_requests_along;
use crate::{
    config_map::ConfigMap,
    error::{Chain, Result},
    store::Registered,
    store_calls::{LoopBackoff, StoreCalls},
};

/// Renames, retires and registers what the `ConfigMap` says. Waits, and says so, while the store
/// cannot be reached.
///
/// # Errors
/// The store refuses for good.
pub(super) async fn register(calls: &StoreCalls, config: &ConfigMap) -> Result<()> {
    let mut backoff = LoopBackoff::default();
    loop {
        match try_to_register(calls, config).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) if error.is_transient() => {
                tracing::warn!(error = %Chain(&error), "waiting for the store to register the handlers");
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

/// Answers whether the handlers are registered: not while somebody keeps requests locked that go by a
/// name which a rename gave up, and which is to be given away.
async fn try_to_register(calls: &StoreCalls, config: &ConfigMap) -> Result<bool> {
    for (_, to) in config.renamed() {
        // What still goes by it is not the new one's.
        let renamed = take_requests_along(calls, to).await?;
        if renamed.skipped > 0 {
            tracing::warn!(
                handler = %to,
                requests = renamed.skipped,
                "waiting for requests that go by this name of before a rename, and that somebody has locked"
            );
            return Ok(false);
        }
    }
    let registered = calls.call("register handlers", register_once(calls, config));
    registered.await.map(|()| true)
}

async fn register_once(calls: &StoreCalls, config: &ConfigMap) -> Result<()> {
    if config.renamed().is_empty() && config.retired().is_empty() {
        // One call is whole by itself, and a session is at hand.
        let mut session = calls.store().session().await?;
        let mut registrations = session.registrations();
        let registered = registrations.register(config.registrations()).await?;
        warn_of_renamed(&registered);
        return Ok(());
    }
    let mut transaction = calls.store().begin().await?;
    let mut registrations = transaction.registrations();
    for (from, to) in config.renamed() {
        let renamed = registrations.rename(from, to).await?;
        if renamed > 0 {
            tracing::info!(%from, %to, registrations = renamed, "renamed");
        }
    }
    for handler in config.retired() {
        let ended = registrations.retire(handler).await?;
        if ended > 0 {
            tracing::info!(%handler, registrations = ended, "retired");
        }
    }
    let registered = registrations.register(config.registrations()).await?;
    drop(registrations);
    transaction.commit().await?;
    warn_of_renamed(&registered);
    Ok(())
}

fn warn_of_renamed(registered: &Registered) {
    for (from, to) in &registered.renamed {
        tracing::warn!(handler = %from, renamed_to = %to, "this handler was renamed by another version; it gets nothing");
    }
}
