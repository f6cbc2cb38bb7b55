//! The executor: claims handler requests, runs their handlers in a pool of workers, and settles
//! what came of it. It knows nothing of events that have not been fanned out.
//!
//! Three activities that never wait for one another while they have work: claiming fills the
//! [buffer], workers empty it, and the [settler] writes outcomes in batches. Beside them a thread
//! of its own [renews](renewal) the leases of everything [held], and a task [rescues](rescuer)
//! what lost processes held.

mod buffer;
mod capacity;
mod claimer;
mod deadline;
mod ended;
mod held;
mod kept_back;
mod panic_capture;
mod renewal;
mod reports;
mod rescuer;
mod run;
mod settler;
mod shared_group;
mod shared_transaction;
mod shutdown;
mod transaction;
mod transaction_health;
mod worker;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use self::{
    buffer::{LocalBuffer, Reservation, Runnable},
    held::{Held, HeldRequests},
    reports::Reports,
    settler::Settler,
    transaction_health::TransactionHealth,
};
use crate::{
    agenda::Agenda,
    config_map::ConfigMap,
    error::{Result, StoreError},
    handler::{Context, Handler},
    id::LeaseOwner,
    outage::OutageWatch,
    raiser::Raiser,
    settings::Settings,
    signal::Signal,
    store::{ClaimedRequest, LeaseOffer, Storer},
    store_calls::StoreCalls,
    telemetry::{RoundLink, Telemetry},
    text::Name,
};

pub(crate) use buffer::Started;
pub(crate) use claimer::{Claimer, Refill};
pub(crate) use deadline::Deadline;

/// Runs handler requests. Clones share everything.
#[derive(Clone)]
pub(crate) struct Executor(Arc<Shared>);

struct Shared {
    calls: StoreCalls,
    config: ConfigMap,
    settings: Settings,
    raiser: Raiser,
    owner: LeaseOwner,
    /// The handlers in the order of their numbers.
    handlers: Vec<Arc<Handler>>,
    buffer: LocalBuffer,
    held: HeldRequests,
    settler: Settler,
    reports: Reports,
    renewal_outages: OutageWatch,
    /// A request under suspicion is running; only one does at a time, so that whatever kills the
    /// process is known.
    suspect_runs: AtomicBool,
    /// There may be requests under suspicion: the next claim looks for them.
    suspects_known: AtomicBool,
    /// When to rescue next.
    rescues: Agenda,
    /// How long transactions of handlers have been failing for the store's sake.
    transactions: TransactionHealth,
    /// The last claim or fan-out left requests behind that are due.
    backlog: AtomicBool,
    /// Requests given back so far.
    handed_back: AtomicUsize,
    /// Raised once, at the end: running handlers are dropped.
    break_off: Signal,
    /// Raised once, at the very end: the renewal thread and all loops stop.
    stop: Signal,
    /// What the milliseconds of time-outs count from.
    epoch: Instant,
}

impl Executor {
    pub(crate) fn new(calls: StoreCalls, config: ConfigMap, settings: Settings) -> Self {
        if settings.capture_panics {
            panic_capture::install();
        }
        let default_limit = settings.default_concurrency();
        let handlers: Vec<_> = config.handlers().cloned().collect();
        let limits = handlers
            .iter()
            .map(|handler| {
                let limit = handler
                    .concurrency
                    .unwrap_or(default_limit)
                    .min(settings.workers);
                (handler.name.clone(), limit)
            })
            .collect();
        Self(Arc::new(Shared {
            raiser: settings
                .raiser
                .clone()
                .unwrap_or_else(|| Raiser::new(calls.store().signals())),
            owner: LeaseOwner::new(),
            handlers,
            buffer: LocalBuffer::new(limits, settings.workers, settings.batch_size),
            held: HeldRequests::default(),
            settler: Settler::new(settings.batch_size),
            reports: Reports::new(settings.reporter.clone()),
            renewal_outages: OutageWatch::default(),
            suspect_runs: AtomicBool::new(false),
            suspects_known: AtomicBool::new(false),
            rescues: Agenda::default(),
            transactions: TransactionHealth::default(),
            backlog: AtomicBool::new(false),
            handed_back: AtomicUsize::new(0),
            break_off: Signal::new(),
            stop: Signal::new(),
            epoch: Instant::now(),
            calls,
            config,
            settings,
        }))
    }

    pub(crate) fn store(&self) -> &Arc<dyn Storer> {
        self.0.calls.store()
    }

    pub(crate) fn config(&self) -> &ConfigMap {
        &self.0.config
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    pub(crate) fn telemetry(&self) -> &Telemetry {
        &self.0.settings.telemetry
    }

    pub(crate) fn owner(&self) -> LeaseOwner {
        self.0.owner
    }

    fn raiser(&self) -> &Raiser {
        &self.0.raiser
    }

    /// A point of the monotonic clock in milliseconds since this executor was made; never 0.
    fn milliseconds(&self, instant: Instant) -> u64 {
        let since = instant.saturating_duration_since(self.0.epoch).as_millis();
        u64::try_from(since).unwrap_or(u64::MAX).max(1)
    }

    /// Room for what this process could execute at once of what is fanned out; `None` when there
    /// is none. It stays reserved until the answer is dropped.
    pub(crate) fn reserve_for_offer(&self) -> Option<OfferedRoom<'_>> {
        let reservation = self.0.buffer.reserve_for_offer()?;
        let lease_offer = LeaseOffer {
            owner: self.owner(),
            lease: self.settings().lease,
            limit: reservation.total(),
            handlers: reservation.rooms(),
        };
        Some(OfferedRoom {
            lease_offer,
            largest_room: reservation.largest(),
            _reservation: reservation,
        })
    }

    /// Raised when there may be room again after there was none.
    pub(crate) fn room(&self) -> &Signal {
        &self.0.buffer.room
    }

    /// Waits until requests can be born leased: there is room, and no others wait to be claimed.
    /// Cancellation safe.
    pub(crate) async fn room_for_offers(&self) {
        loop {
            let room = self.0.buffer.room_for_offers.seen();
            if self.0.buffer.has_room_for_offers() && !self.has_backlog() {
                return;
            }
            self.0.buffer.room_for_offers.changed_since(room).await;
        }
    }

    /// Whether all room there is was promised to calls under way: it returns with them.
    pub(crate) fn room_is_promised(&self) -> bool {
        self.0.buffer.room_is_promised()
    }

    /// Whether requests that are due wait to be claimed, as far as is known here.
    pub(crate) fn has_backlog(&self) -> bool {
        self.0.backlog.load(Ordering::Acquire)
    }

    /// How many runs workers have begun so far.
    pub(crate) fn started(&self) -> Started {
        self.0.buffer.started()
    }

    /// Whether a buffer that is full now has room again `within` this time, if workers go on as they did in
    /// the time that `took` since they had begun so many runs.
    pub(crate) fn room_is_near(&self, since: Started, took: Duration, within: Duration) -> bool {
        self.0.buffer.room_is_near(since, took, within)
    }

    /// Whether anything can be executed here at all.
    pub(crate) fn has_handlers(&self) -> bool {
        !self.0.handlers.is_empty()
    }

    /// A claim or a fan-out for this executor failed: after one that took too long, the next ones
    /// bring less.
    pub(crate) fn note_failure(&self, error: &StoreError) {
        if matches!(error, StoreError::TimedOut { .. }) {
            self.0.buffer.timed_out();
        }
    }

    /// A fan-out left requests of these handlers to be claimed, or of any. Answers whether a claim for
    /// this process could have some of them; those of a handler that is full here wait for its room.
    pub(crate) fn is_for_claims(&self, ready: Option<&[Name]>) -> bool {
        let number = |handler| self.0.buffer.number(handler);
        ready.is_none_or(|ready| {
            let numbers: Vec<_> = ready.iter().filter_map(number).collect();
            self.0.buffer.filled(&numbers)
        })
    }

    /// Whether requests that are due wait to be claimed.
    pub(crate) fn note_backlog(&self, backlog: bool) {
        if self.0.backlog.swap(backlog, Ordering::AcqRel) && !backlog {
            self.0.buffer.room_for_offers.raise();
        }
    }

    /// Takes claimed or born-leased requests in and sees to it that workers run them. `sent` is
    /// when the statement was sent, from which the lease counts.
    pub(crate) fn accept(
        &self,
        requests: Vec<ClaimedRequest>,
        round: &RoundLink,
        sent: Instant,
    ) -> usize {
        let runnables: Vec<_> = requests
            .into_iter()
            .filter_map(|request| {
                // A store only gives requests of the handlers it was asked for.
                let handler = self.0.buffer.number(&request.handler)?;
                let held = Held {
                    context: Context::new(request),
                    round: round.clone(),
                };
                Some(Runnable { held, handler })
            })
            .collect();
        let accepted = runnables.len();
        self.hold(&runnables, sent);
        self.enqueue(runnables);
        accepted
    }

    fn hold(&self, runnables: &[Runnable], sent: Instant) {
        let contexts = runnables
            .iter()
            .map(|runnable| runnable.held.context.clone());
        let (lease, watched_every) = (self.settings().lease, self.watch_interval());
        self.0.held.insert(contexts, sent, lease, watched_every);
    }

    fn enqueue(&self, runnables: Vec<Runnable>) {
        for _ in 0..self.0.buffer.push(runnables) {
            self.settings().spawn(self.clone().work());
        }
    }

    /// Handlers that run, requests that wait for a worker, and outcomes that wait to be settled.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let (executing, queued) = self.0.buffer.counts();
        (executing, queued, self.0.settler.len())
    }

    /// How many requests have been given back.
    pub(crate) fn handed_back(&self) -> usize {
        self.0.handed_back.load(Ordering::Acquire)
    }

    /// Makes a call to the store within the time limit.
    async fn call<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.0.calls.call(operation, call).await
    }

    /// Waits until running handlers are to be dropped. Cancellation safe.
    async fn broken_off(&self) {
        self.0.break_off.changed_since(0).await;
    }

    fn is_breaking_off(&self) -> bool {
        self.0.break_off.seen() > 0
    }

    /// Waits until everything is to stop. Cancellation safe.
    pub(crate) async fn stopped(&self) {
        self.0.stop.changed_since(0).await;
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.0.stop.seen() > 0
    }

    fn begin_suspect(&self) -> bool {
        !self.0.suspect_runs.swap(true, Ordering::AcqRel)
    }

    /// Whether a request under suspicion runs here, so that no other is claimed.
    pub(crate) fn runs_suspect(&self) -> bool {
        self.0.suspect_runs.load(Ordering::Acquire)
    }

    /// The handlers whose requests could be claimed now.
    pub(crate) fn handlers_with_room(&self) -> Vec<Name> {
        self.0.buffer.handlers_with_room()
    }

    /// A request under suspicion has ended; there may be another one.
    fn end_suspect(&self) {
        self.0.suspect_runs.store(false, Ordering::Release);
    }
}

/// An offer to execute what is fanned out, with the room that is reserved for it until it is
/// dropped.
pub(crate) struct OfferedRoom<'a> {
    pub(crate) lease_offer: LeaseOffer,
    /// The most requests that one handler could take: fanning out many more events than this only
    /// makes requests that must be claimed.
    pub(crate) largest_room: usize,
    _reservation: Reservation<'a>,
}
