//! What a scheduler does now and then: says that its handlers live, refreshes the gauges, and
//! warns of handlers that nobody has.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    error::Result,
    executor::Executor,
    store::AbsentHandler,
    store_calls::StoreCalls,
    telemetry::{Gauges, Reading},
    text::Name,
};

/// How fresh gauges are: one cheap round of counts in so much time.
const GAUGE_INTERVAL: Duration = Duration::from_secs(15);
/// A handler that nobody has had for so long, with open requests, is worth a warning: longer than
/// any deployment.
const ABSENT_AFTER: Duration = Duration::from_secs(3600);
/// How often registrations are marked as seen: three times in that while, so that two may fail, and
/// so rarely that it does not count beside the looks of an idle process.
const SEEN_INTERVAL: Duration = Duration::from_secs(ABSENT_AFTER.as_secs() / 3);

/// How fresh the gauge of absent handlers is, while somebody reads the gauges; else they are looked
/// for whenever registrations are marked as seen.
const ABSENT_INTERVAL: Duration = Duration::from_secs(60);

/// Keeps house until the executor stops.
pub(super) async fn keep_house(calls: StoreCalls, executor: Executor, gauges: Arc<Gauges>) {
    let mut warned = HashSet::new();
    let (mut marked_at, mut absent_at) = (Instant::now(), Instant::now());
    loop {
        // Failures are noted where calls are made; the next round tries again.
        let are_read = executor.telemetry().is_enabled() && gauges.are_watched();
        if are_read {
            drop(refresh(&calls, &gauges).await);
        }
        if marked_at.elapsed() >= SEEN_INTERVAL {
            drop(mark_seen(&calls, &executor).await);
            marked_at = Instant::now();
        }
        let interval = if are_read {
            ABSENT_INTERVAL
        } else {
            SEEN_INTERVAL
        };
        if absent_at.elapsed() >= interval {
            drop(find_absent(&calls, &gauges, &mut warned).await);
            absent_at = Instant::now();
        }
        tokio::select! {
            biased;
            () = executor.stopped() => return,
            () = tokio::time::sleep(GAUGE_INTERVAL) => {}
        }
    }
}

async fn refresh(calls: &StoreCalls, gauges: &Gauges) -> Result<()> {
    let read = async {
        let mut session = calls.store().session().await?;
        let unprocessed = session.events().count_unprocessed().await?;
        let oldest_event = session.events().oldest_unprocessed().await?;
        let unexecuted = session.handler_requests().count_unexecuted().await?;
        let oldest_request = session.handler_requests().oldest_unexecuted().await?;
        let dead = session.handler_requests().count_dead().await?;
        let now = chrono::Utc::now();
        let age = |since: Option<chrono::DateTime<chrono::Utc>>| {
            since
                .and_then(|since| u64::try_from((now - since).num_milliseconds()).ok())
                .unwrap_or_default()
        };
        Ok(Reading {
            unprocessed,
            unprocessed_max_age_ms: age(oldest_event.map(|stored| stored.event.timestamp)),
            unexecuted,
            unexecuted_max_age_ms: age(oldest_request.map(|request| request.created_at)),
            dead,
        })
    };
    gauges.set(calls.call("read the gauges", read).await?);
    Ok(())
}

/// Marks this process's handlers as seen.
async fn mark_seen(calls: &StoreCalls, executor: &Executor) -> Result<()> {
    let handlers = executor.config().handler_names();
    let call = async {
        calls
            .store()
            .session()
            .await?
            .registrations()
            .touch(&handlers)
            .await
    };
    calls.call("say that the handlers live", call).await
}

/// Looks for handlers that nobody has; warns of each once, until it is seen again.
async fn find_absent(
    calls: &StoreCalls,
    gauges: &Gauges,
    warned: &mut HashSet<Name>,
) -> Result<()> {
    let call = async {
        calls
            .store()
            .session()
            .await?
            .registrations()
            .absent(ABSENT_AFTER)
            .await
    };
    let absent = calls.call("find absent handlers", call).await?;
    warned.retain(|name| absent.iter().any(|absent| absent.handler == *name));
    for AbsentHandler {
        handler,
        last_seen_at,
        open_requests,
    } in &absent
    {
        if warned.insert(handler.clone()) {
            tracing::warn!(%handler, %last_seen_at, open_requests, "no process has this handler; deploy it, rename or retire it");
        }
    }
    let counts: Vec<_> = absent
        .into_iter()
        .map(|absent| (absent.handler, absent.open_requests))
        .collect();
    gauges.set_absent(&counts);
    Ok(())
}
