//! The processor: fans events out to handler requests. It knows no handler; the store's
//! registrations say which handlers want an event.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use futures_util::{FutureExt, StreamExt, stream};
use tokio::time::Instant;

use crate::{
    error::{Chain, Result},
    executor::{Executor, Offer},
    handler::{HandlerError, ProcessContext},
    id::EventId,
    model::{Backoff, Event},
    settings::Settings,
    store::{ClaimedEvent, EventClaim, EventFailure, FanOut, FannedOut, Selection},
};

/// Fans out events, and gives the executor the requests that were born leased to it.
#[derive(Clone)]
pub(crate) struct Processor {
    executor: Executor,
}

/// What a round came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Processed {
    /// So many events were fanned out or vetoed.
    pub(crate) events: usize,
    /// There may be more that are due.
    pub(crate) more: bool,
    /// When nothing more is due: how long until the next event is.
    pub(crate) next_due: Option<Duration>,
}

/// Hooks of one batch that run at the same time: enough to hide their waiting, few enough for the
/// systems that they ask.
const CONCURRENT_HOOKS: usize = 32;

impl Processor {
    pub(crate) const fn new(executor: Executor) -> Self {
        Self { executor }
    }

    fn settings(&self) -> &Settings {
        self.executor.settings()
    }

    /// Fans out one batch of due events.
    ///
    /// # Errors
    /// The store failed; nothing is lost.
    pub(crate) async fn round(&self) -> Result<Processed> {
        let offer = self.executor.offer();
        if self.settings().before_process.is_empty() {
            // More events than could be executed at once would only make requests to be claimed.
            let batch = self.settings().batch_size;
            let limit = offer
                .as_ref()
                .map_or(batch, |offer| offer.largest_room.clamp(1, batch));
            let fanned_out = self.fan_out(Selection::Due { limit }, offer).await?;
            let events = fanned_out.processed.len();
            return Ok(Processed {
                events,
                more: events >= limit,
                next_due: fanned_out.next_due,
            });
        }
        self.hooked_round(offer).await
    }

    async fn hooked_round(&self, offer: Option<Offer<'_>>) -> Result<Processed> {
        let limit = self.settings().batch_size;
        let claim = EventClaim {
            owner: self.executor.owner(),
            lease: self.settings().lease,
            limit,
        };
        let call = async {
            self.executor
                .store()
                .session()
                .await?
                .events()
                .claim(&claim)
                .await
        };
        let claimed = self.executor.call("claim events", call).await?;
        let events = claimed.len();
        let (passed, vetoed) = self.run_hooks(claimed).await;
        if !vetoed.is_empty() {
            let failures: Vec<_> = vetoed.iter().map(|(_, failure)| failure.clone()).collect();
            let call = async {
                self.executor
                    .store()
                    .session()
                    .await?
                    .events()
                    .fail(&failures)
                    .await
            };
            self.executor.call("let events back off", call).await?;
            let round = self.executor.telemetry().process_round();
            for (event, failure) in &vetoed {
                self.executor
                    .telemetry()
                    .event_failed(&round, event, &failure.error);
            }
        }
        // Even with nothing to fan out the store is asked, as it knows when the next event is due.
        let fanned_out = self.fan_out(Selection::Claimed(passed), offer).await?;
        Ok(Processed {
            events,
            more: events >= limit,
            next_due: fanned_out.next_due,
        })
    }

    async fn fan_out(&self, selection: Selection, offer: Option<Offer<'_>>) -> Result<FannedOut> {
        let fan_out = FanOut {
            selection,
            offer: offer.as_ref().map(|offer| offer.lease_offer.clone()),
        };
        let sent = Instant::now();
        let call = async {
            self.executor
                .store()
                .session()
                .await?
                .events()
                .fan_out(&fan_out)
                .await
        };
        let mut fanned_out = self.executor.call("fan events out", call).await?;
        if fanned_out.processed.is_empty() {
            return Ok(fanned_out);
        }
        let telemetry = self.executor.telemetry();
        let round = telemetry.process_round();
        telemetry.batch("fan out", fanned_out.processed.len(), sent.elapsed());
        let born_leased = std::mem::take(&mut fanned_out.born_leased);
        self.executor
            .accept(born_leased, &telemetry.execute_round().link(), sent);
        let now: DateTime<Utc> = Utc::now();
        for event in &fanned_out.processed {
            telemetry.event_processed(&round, event, now);
            if event.requests == 0 {
                tracing::warn!(event = %event.id, name = %event.name, "no registration wants this event");
            }
        }
        Ok(fanned_out)
    }

    /// Runs the hooks for each event; answers which events pass, and which are vetoed.
    async fn run_hooks(
        &self,
        claimed: Vec<ClaimedEvent>,
    ) -> (Vec<(EventId, u64)>, Vec<(Arc<Event>, EventFailure)>) {
        let mut passed = Vec::with_capacity(claimed.len());
        let mut vetoed = Vec::new();
        let mut running = stream::iter(claimed)
            .map(|claimed| async move {
                let result = self.run_hooks_for(&claimed).await;
                (claimed, result)
            })
            .buffer_unordered(CONCURRENT_HOOKS);
        while let Some((claimed, result)) = running.next().await {
            match result {
                Ok(()) => passed.push((claimed.event.id, claimed.attempt)),
                Err(error) => {
                    let error = Chain(error.source()).to_string();
                    tracing::info!(event = %claimed.event.id, name = %claimed.event.name, error, "vetoed by a hook");
                    let backoff = Backoff::default().after(claimed.errors.saturating_add(1));
                    let failure = EventFailure {
                        id: claimed.event.id,
                        attempt: claimed.attempt,
                        error,
                        backoff,
                    };
                    vetoed.push((claimed.event, failure));
                }
            }
        }
        // In the order of the events, whichever hook ended first.
        passed.sort_unstable();
        (passed, vetoed)
    }

    /// One event's hooks, in their order, within a time limit; a panic vetoes.
    async fn run_hooks_for(&self, claimed: &ClaimedEvent) -> Result<(), HandlerError> {
        let context = ProcessContext::new(Arc::clone(&claimed.event), claimed.errors);
        let hooks = async {
            for hook in &self.settings().before_process {
                hook.before_process(context.clone()).await?;
            }
            Ok(())
        };
        let guarded = std::panic::AssertUnwindSafe(hooks).catch_unwind();
        match tokio::time::timeout(Settings::HOOK_TIMEOUT, guarded).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(HandlerError::new("a before-process hook panicked")),
            Err(_) => Err(HandlerError::new(format!(
                "a hook took longer than {:?}",
                Settings::HOOK_TIMEOUT
            ))),
        }
    }
}
