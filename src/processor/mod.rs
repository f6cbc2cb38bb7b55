//! The processor: fans events out to handler requests. It knows no handler; the store's
//! registrations say which handlers want an event.

mod apart;

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures_util::{FutureExt, StreamExt, stream};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    batch_size::BatchSize,
    error::{Chain, Result, StoreError},
    handler::{HandlerError, ProcessContext},
    id::{EventId, LeaseOwner},
    model::{Backoff, Event},
    settings::Settings,
    store::{
        ClaimedEvent, ClaimedRequest, EventClaim, EventFailure, FanOut, FannedOut, LeaseOffer,
        ProcessedEvent, Selection,
    },
    store_calls::StoreCalls,
    telemetry::{Round, Telemetry},
    text::Name,
};

/// Fans out events. Clones share everything.
#[derive(Clone)]
pub(crate) struct Processor {
    calls: StoreCalls,
    settings: Settings,
    /// Who claims events while their hooks run.
    owner: LeaseOwner,
    /// Names of events that no registration wants and that were warned of.
    warned: Arc<Mutex<HashSet<Name>>>,
    /// How many events a fan-out takes.
    size: Arc<Mutex<BatchSize>>,
    /// How many requests each event of the last fan-out got, at least 1: the next one takes fewer
    /// events if each makes many.
    requests_per_event: Arc<AtomicUsize>,
}

/// What is to be fanned out.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The claimed events that passed the hooks; `None` without hooks, for whatever is due.
    passed: Option<Vec<ClaimedEvent>>,
    /// Until when the claims of these hold.
    claimed_until: Instant,
    /// There may be more that are due.
    more: bool,
    round: Round,
}

impl Prepared {
    /// Whether it is known that there is nothing to fan out.
    pub(crate) fn is_empty(&self) -> bool {
        self.passed.as_ref().is_some_and(Vec::is_empty)
    }

    /// Whether events are claimed for it, which others cannot have before the claims run out.
    pub(crate) fn holds_claims(&self) -> bool {
        self.passed
            .as_ref()
            .is_some_and(|passed| !passed.is_empty())
    }

    /// Whether its claims still hold after this pause.
    pub(crate) fn holds_claims_for(&self, pause: Duration) -> bool {
        self.holds_claims() && Instant::now() + pause < self.claimed_until
    }
}

/// Somebody offers to execute what is fanned out.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) lease_offer: LeaseOffer,
    /// The most requests that one handler could take.
    pub(crate) largest_room: usize,
    /// When more events are due, all are to wait while requests of these handlers wait to be claimed.
    pub(crate) max_behind_backlog: Option<usize>,
}

/// What a round came to.
#[derive(Debug)]
pub(crate) struct Processed {
    /// Something was processed.
    pub(crate) any: bool,
    /// How many events were processed.
    pub(crate) events: usize,
    /// Whether requests wait to be claimed, and of which handlers, if the store tells.
    pub(crate) is_any_ready: bool,
    pub(crate) ready_handlers: Option<Vec<Name>>,
    /// Events wait for requests to be claimed.
    pub(crate) held_back: bool,
    /// Another process fanned out at the same time.
    pub(crate) contended: bool,
    /// Not all of the queue was looked at.
    pub(crate) partial: bool,
    /// There may be more that are due.
    pub(crate) more: bool,
    /// When nothing more is due: how long until the next event is.
    pub(crate) next_due: Option<Duration>,
    /// Requests that were born leased to the one who offered.
    pub(crate) born_leased: Vec<ClaimedRequest>,
    /// When the fan-out was sent, from which those leases count.
    pub(crate) sent: Instant,
}

/// An event that is to back off, and why.
type Failed = (Arc<Event>, EventFailure);

/// Hooks of one batch that run at the same time: enough to hide their waiting, few enough for the
/// systems that they ask.
const CONCURRENT_HOOKS: usize = 32;
/// Events whose hooks run in one round: so few that their claims hold until the last hook has
/// ended, even if each takes its whole time.
const MAX_HOOKED_BATCH: usize = 4 * CONCURRENT_HOOKS;

impl Processor {
    pub(crate) fn new(calls: StoreCalls, settings: Settings, owner: LeaseOwner) -> Self {
        Self {
            calls,
            owner,
            warned: Arc::default(),
            size: Arc::new(Mutex::new(BatchSize::new(settings.batch_size))),
            requests_per_event: Arc::new(AtomicUsize::new(1)),
            settings,
        }
    }

    fn telemetry(&self) -> &Telemetry {
        &self.settings.telemetry
    }

    /// Finds out what to fan out: whatever is due or, with hooks, what has passed them. It takes as
    /// long as the hooks do.
    ///
    /// # Errors
    /// The store failed; nothing is lost.
    pub(crate) async fn prepare(&self) -> Result<Prepared> {
        let round = self.telemetry().process_round();
        let most = self.size.lock().limit();
        let claimed_until = Instant::now() + self.settings.lease;
        if self.settings.before_process.is_empty() {
            return Ok(Prepared {
                passed: None,
                claimed_until,
                more: false,
                round,
            });
        }
        let most = most.min(MAX_HOOKED_BATCH);
        let claimed = self.claim(most).await;
        let claimed = claimed.inspect_err(|error| self.note_failure(error))?;
        let more = claimed.len() >= most;
        let (passed, vetoed) = self.run_hooks(claimed).await;
        // Should this fail, their claims run out; those that passed are fanned out all the same.
        drop(self.let_back_off(vetoed, &round).await);
        Ok(Prepared {
            passed: Some(passed),
            claimed_until,
            more,
            round,
        })
    }

    /// Fans out what was prepared, or at most so many due events; born leased to the one who offers.
    /// `beside` is whether this process has another fan-out under way.
    ///
    /// # Errors
    /// The store failed; nothing is lost. After an error that passes, what was prepared can be sent
    /// again while its claims hold.
    pub(crate) async fn fan_out(
        &self,
        prepared: &Prepared,
        offer: Option<Offer>,
        most: Option<usize>,
        beside: bool,
    ) -> Result<Processed> {
        let batch = self.size.lock().limit();
        let each = self.requests_per_event.load(Ordering::Relaxed);
        let room = offer.as_ref().map_or(batch, |offer| {
            offer.largest_room.min(offer.lease_offer.limit / each)
        });
        let most = room
            .min(batch / each)
            .min(most.unwrap_or(usize::MAX))
            .max(1);
        let hooked = prepared.passed.is_some();
        // Even with nothing to fan out the store is asked, as it knows when the next event is due.
        let selection = match &prepared.passed {
            Some(passed) => Selection::Claimed(fences(passed)),
            None => Selection::Due { limit: most },
        };
        let fan_out = FanOut {
            selection,
            max_behind_backlog: offer.as_ref().and_then(|offer| offer.max_behind_backlog),
            offer: offer.map(|offer| offer.lease_offer),
            beside,
        };
        let sent = Instant::now();
        let fanned_out = match self.send(&fan_out).await {
            Err(error) if !error.is_transient() => {
                return self.fan_out_apart(prepared, most, error).await;
            }
            answer => answer.inspect_err(|error| self.note_failure(error))?,
        };
        let count = fanned_out.processed.len();
        let requests = fanned_out.processed.iter().map(|event| event.requests);
        let requests: usize = requests.sum();
        if count > 0 {
            let each = requests.div_ceil(count).max(1);
            self.requests_per_event.store(each, Ordering::Relaxed);
        }
        let lens = fanned_out.born_leased.iter();
        let len = lens.map(|request| request.event.data.as_str().len()).sum();
        let brought = match fanned_out.born_leased.len() {
            0 => count.max(requests),
            leased => leased,
        };
        self.size.lock().brought(brought, len);
        if count > 0 {
            self.note(&fanned_out, &prepared.round);
        }
        Ok(Processed {
            any: count > 0,
            events: count,
            is_any_ready: requests > fanned_out.born_leased.len(),
            ready_handlers: fanned_out.ready_handlers,
            held_back: fanned_out.held_back,
            contended: fanned_out.contended,
            partial: fanned_out.partial,
            more: prepared.more || fanned_out.held_back || (!hooked && count >= most),
            next_due: fanned_out.next_due,
            born_leased: fanned_out.born_leased,
            sent,
        })
    }

    /// After a call that took too long, the next ones are for fewer events.
    fn note_failure(&self, error: &StoreError) {
        if matches!(error, StoreError::TimedOut { .. }) {
            self.size.lock().timed_out();
        }
    }

    async fn send(&self, fan_out: &FanOut) -> Result<FannedOut> {
        let call = async {
            self.calls
                .store()
                .session()
                .await?
                .events()
                .fan_out(fan_out)
                .await
        };
        self.calls.call("fan events out", call).await
    }

    async fn claim(&self, limit: usize) -> Result<Vec<ClaimedEvent>> {
        let claim = EventClaim {
            owner: self.owner,
            lease: self.settings.lease,
            limit,
        };
        let call = async {
            self.calls
                .store()
                .session()
                .await?
                .events()
                .claim(&claim)
                .await
        };
        self.calls.call("claim events", call).await
    }

    async fn let_back_off(&self, failed: Vec<Failed>, round: &Round) -> Result<()> {
        if failed.is_empty() {
            return Ok(());
        }
        let (events, failures): (Vec<_>, Vec<_>) = failed.into_iter().unzip();
        let call = async {
            self.calls
                .store()
                .session()
                .await?
                .events()
                .fail(&failures)
                .await
        };
        self.calls.call("let events back off", call).await?;
        for (event, failure) in events.iter().zip(&failures) {
            self.telemetry().event_failed(round, event, &failure.error);
        }
        Ok(())
    }

    fn note(&self, fanned_out: &FannedOut, round: &Round) {
        let telemetry = self.telemetry();
        let now: DateTime<Utc> = Utc::now();
        for event in &fanned_out.processed {
            telemetry.event_processed(round, event, now);
            if event.requests == 0 {
                self.warn_unwanted(event);
            }
        }
    }

    /// Warns once for each name: what nobody wants may come by the thousand.
    fn warn_unwanted(&self, event: &ProcessedEvent) {
        /// Names are the application's, so there are few; but nobody promises that.
        const MOST_NAMES: usize = 1000;
        let mut warned = self.warned.lock();
        if warned.len() < MOST_NAMES && warned.insert(event.name.clone()) {
            tracing::warn!(event = %event.id, name = %event.name, "no registration wants events of this name");
        } else {
            tracing::debug!(event = %event.id, name = %event.name, "no registration wants this event");
        }
    }

    /// Runs the hooks for each event; answers which events pass, and which are vetoed.
    async fn run_hooks(&self, claimed: Vec<ClaimedEvent>) -> (Vec<ClaimedEvent>, Vec<Failed>) {
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
                Ok(()) => passed.push(claimed),
                Err(error) => {
                    let error = text_of(error);
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
        passed.sort_unstable_by_key(|claimed| claimed.event.id);
        (passed, vetoed)
    }

    /// One event's hooks, in their order, within a time limit; a panic vetoes.
    async fn run_hooks_for(&self, claimed: &ClaimedEvent) -> Result<(), HandlerError> {
        let context = ProcessContext::new(Arc::clone(&claimed.event), claimed.errors);
        let hooks = async {
            for hook in &self.settings.before_process {
                hook.before_process(context.clone()).await?;
            }
            Ok(())
        };
        let guarded = std::panic::AssertUnwindSafe(hooks).catch_unwind();
        let limit = self.settings.hook_timeout();
        match tokio::time::timeout(limit, guarded).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(HandlerError::new("a before-process hook panicked")),
            Err(_) => Err(HandlerError::new(format!(
                "a hook took longer than {limit:?}"
            ))),
        }
    }
}

/// What a fan-out of claimed events names.
fn fences(claimed: &[ClaimedEvent]) -> Vec<(EventId, u64)> {
    let fence = |claimed: &ClaimedEvent| (claimed.event.id, claimed.attempt);
    claimed.iter().map(fence).collect()
}

/// The text of a veto, whose `Display` and `Drop` are the user's and may panic.
fn text_of(error: HandlerError) -> String {
    let text = std::panic::AssertUnwindSafe(|| {
        let text = Chain(error.source()).to_string();
        drop(error);
        text
    });
    std::panic::catch_unwind(text).unwrap_or_else(|_| "a veto whose text cannot be made".to_owned())
}
