//! Registers a `ConfigMap` in the store when a scheduler starts.

use crate::{
    config_map::ConfigMap,
    error::{Chain, Result, StoreError},
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
        match calls
            .call("register handlers", register_once(calls, config))
            .await
        {
            Ok(()) => return Ok(()),
            Err(error) if error.is_transient() => {
                tracing::warn!(error = %Chain(&error), "waiting for the store to register the handlers");
                tokio::time::sleep(backoff.next()).await;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn register_once(calls: &StoreCalls, config: &ConfigMap) -> Result<()> {
    let mut transaction = calls.store().begin().await?;
    let mut registrations = transaction.registrations();
    for (from, to) in config.renamed() {
        let renamed = registrations.rename(from, to).await?;
        if renamed.requests > 0 || renamed.superseded > 0 {
            tracing::info!(%from, %to, requests = renamed.requests, superseded = renamed.superseded, "renamed");
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
    for (from, to) in registered.renamed {
        tracing::warn!(handler = %from, renamed_to = %to, "this handler was renamed by another version; it gets nothing");
    }
    Ok::<_, StoreError>(())
}
