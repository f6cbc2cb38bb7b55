//! Takes requests along that still go by a name of before a rename.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    error::Result,
    model::RegistrationState,
    store::{RENAME_BATCH, Renamed},
    store_calls::{LoopBackoff, StoreCalls},
    text::Name,
};

/// How often it is looked for requests that a rename left behind: one that was broken off, by
/// whomever, or one of a request that somebody reexecuted under its old name. Rarely enough that it
/// does not count beside the looks of an idle process.
const INTERVAL: Duration = Duration::from_secs(1200);

/// When a process first looks that renames nothing itself: what others left has time, and a start opens as
/// few connections as it can.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// After how long it is looked again for requests that somebody had locked.
const LOCKED_PAUSE: Duration = Duration::from_secs(2);

/// Takes along what every rename left, those of this process's start at once, and now and then. It is none of
/// a start's time: a handler can have any number of requests, and others need not wait for them.
pub(super) async fn take_along(calls: StoreCalls, renames: bool) {
    let mut backoff = LoopBackoff::default();
    if !renames {
        tokio::time::sleep(FIRST_PAUSE).await;
    }
    loop {
        // Failures are noted where calls are made.
        let pause = match take_all_along(&calls).await {
            Err(error) if error.is_transient() => backoff.next(),
            Ok(renamed) if renamed.skipped > 0 => LOCKED_PAUSE,
            Ok(_) | Err(_) => {
                backoff.reset();
                INTERVAL
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// What one handler's requests cannot be done to keeps no other handler's from it.
async fn take_all_along(calls: &StoreCalls) -> Result<Renamed> {
    let all = async { calls.store().session().await?.registrations().all().await };
    let all = calls.call("list registrations", all).await?;
    let renamed = all
        .into_iter()
        .filter(|one| matches!(one.state, RegistrationState::RenamedTo(_)))
        .map(|one| one.handler);
    let mut total = Ok(Renamed::default());
    for from in renamed.collect::<BTreeSet<_>>() {
        match (take_requests_along(calls, &from).await, &mut total) {
            (Ok(renamed), Ok(total)) => total.skipped += renamed.skipped,
            (Err(error), total) => *total = Err(error),
            (Ok(_), Err(_)) => {}
        }
    }
    total
}

/// Takes along whatever goes by a name of before a rename; each batch is a call of its own.
pub(super) async fn take_requests_along(calls: &StoreCalls, from: &Name) -> Result<Renamed> {
    let mut total = Renamed::default();
    loop {
        let batch = async {
            let mut session = calls.store().session().await?;
            let mut registrations = session.registrations();
            registrations.rename_requests(from, RENAME_BATCH).await
        };
        let renamed = calls.call("rename requests", batch).await?;
        total.requests += renamed.requests;
        total.superseded += renamed.superseded;
        total.skipped = renamed.skipped;
        if !renamed.more {
            break;
        }
    }
    if total.requests > 0 || total.superseded > 0 {
        tracing::info!(%from, requests = total.requests, superseded = total.superseded, "requests go by their handler's new name");
    }
    Ok(total)
}
