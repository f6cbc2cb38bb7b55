//! Running everything that is due to its end.

use std::{future::IntoFuture, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

use super::{Unfinished, watch::Watch};
use crate::{
    config_map::ConfigMap,
    error::{Result, StoreError},
    model::{HandlerRequest, RequestState},
    scheduler::{ConcurrentScheduler, Scheduler, SchedulerError},
    settings::BuildError,
    store::{EventFilter, Page, RequestFilter, Session, Storer},
};

/// Runs everything that is due now to its end, with a scheduler of its own: events are processed,
/// handlers run, what they raise is handled as well. Requests that back off, or snooze, are left,
/// unless [`run_backing_off`](Drain::run_backing_off) asks for them; so are those of handlers that
/// the `ConfigMap` does not have.
///
/// ```
/// use std::sync::Arc;
/// use serde_json::json;
/// use tidings::{
///     ConfigMap, Context, Event, Handler, HandlerError, HandlerResult, MemoryStore,
///     store::{Storer, StorerExt}, testkit::drain,
/// };
///
/// async fn reserve(placed: Arc<Event>, context: Context) -> HandlerResult {
///     context.raise(Event::new("stock.reserved", &json!({}))?);
///     Ok(())
/// }
///
/// async fn fail_once(_: Arc<Event>, context: Context) -> HandlerResult {
///     if context.errors() == 0 { Err(HandlerError::new("the first error")) } else { Ok(()) }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let memory = MemoryStore::new();
/// let store: Arc<dyn Storer> = Arc::new(memory.clone());
/// let config = ConfigMap::builder()
///     .handler(Handler::new("reserve", reserve).on("order.placed"))
///     .handler(Handler::new("fail_once", fail_once).on("stock.reserved"))
///     .build()?;
///
/// let raiser = memory.raiser();
/// let placed = Event::new("order.placed", &json!({ "total": 12 }))?;
/// store.transaction(|tx| Box::pin(async move { raiser.raise(tx, placed).await })).await?;
///
/// let drained = drain(&store, &config).await?;
/// assert_eq!((drained.processed, drained.completed, drained.backing_off), (2, 1, 1));
///
/// let drained = drain(&store, &config).run_backing_off().await?;
/// assert_eq!((drained.completed, drained.backing_off), (1, 0));
/// # Ok(())
/// # }
/// ```
pub const fn drain<'a>(store: &'a Arc<dyn Storer>, config: &'a ConfigMap) -> Drain<'a> {
    Drain {
        store,
        config,
        deadline: Drain::DEFAULT_DEADLINE,
        workers: 16,
        run_backing_off: false,
    }
}

/// A drain that is being prepared; `await` it to run it.
///
/// Not cancellation safe: when the future is dropped, the scheduler is dropped with it, and what
/// was executing is rescued by a later one when the leases have run out.
#[derive(Clone, Copy, Debug)]
#[must_use = "nothing runs until it is awaited"]
pub struct Drain<'a> {
    store: &'a Arc<dyn Storer>,
    config: &'a ConfigMap,
    deadline: Duration,
    workers: usize,
    run_backing_off: bool,
}

impl<'a> Drain<'a> {
    /// The deadline of a drain that names none.
    pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);
    /// The most backoffs that are ended between two looks at the store.
    const BATCH: usize = 1000;
    /// How long to wait before requests that back off again are run again: so that time passes,
    /// paused time too, and the deadline comes although a handler snoozes for ever.
    const PACE: Duration = Duration::from_millis(1);
    /// How long handlers that still run at the deadline have to end. A tenth of it is left to hand
    /// back those that do not, also on a busy machine.
    const GRACE: Duration = Duration::from_secs(2);

    /// By when everything must have ended; the default is 10 s.
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How many handlers run at the same time; the default is 16. With one, handlers run one after
    /// the other, in the order of priority and id.
    pub const fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Runs requests that back off or snooze at once, again and again, until every event is
    /// processed and every request of the `ConfigMap`'s handlers has ended.
    pub const fn run_backing_off(mut self) -> Self {
        self.run_backing_off = true;
        self
    }

    async fn run(self) -> Result<Drained, DrainError> {
        let scheduler = ConcurrentScheduler::builder(Arc::clone(self.store), self.config.clone())
            .workers(self.workers)
            .renew_on_runtime()
            .build()?;
        let before = Ends::count(&mut *self.store.session().await?).await?;
        let ended = tokio::time::timeout(self.deadline, self.work(&scheduler)).await;
        // Before the shutdown, so that what executes is seen to.
        let unfinished = match &ended {
            Ok(_) => None,
            Err(_) => Some(self.unfinished(&mut *self.store.session().await?).await?),
        };
        scheduler.shutdown(Self::GRACE).await;
        if let Ok(result) = ended {
            result?;
        }
        if let Some(unfinished) = unfinished {
            return Err(DrainError::Unfinished {
                deadline: self.deadline,
                unfinished,
            });
        }
        let mut session = self.store.session().await?;
        let after = Ends::count(&mut *session).await?;
        let backing_off = self
            .count(&mut *session, &[RequestState::BackingOff])
            .await?;
        Ok(after.since(&before, backing_off))
    }

    /// Works until nothing is left that it is to run.
    async fn work(&self, scheduler: &ConcurrentScheduler) -> Result<(), DrainError> {
        scheduler.start().await?;
        let signals = self.store.signals();
        loop {
            let watch = Watch::begin(&signals);
            // The store is asked only when this process has nothing to do, for it may hold much.
            if is_idle(scheduler) {
                let mut session = self.store.session().await?;
                let nothing_left = if self.run_backing_off {
                    self.hurry(&mut *session).await?
                } else {
                    self.nothing_is_due(&mut *session).await?
                };
                // While the store was asked, an event may have become requests or the other way
                // round; then something was signaled, or is under way in this process.
                if nothing_left && is_idle(scheduler) && watch.is_unchanged() {
                    return Ok(());
                }
            }
            watch.changed().await;
        }
    }

    async fn nothing_is_due(&self, session: &mut dyn Session) -> Result<bool> {
        if has_due_event(session).await? {
            return Ok(false);
        }
        let due = self
            .count(session, &[RequestState::Pending, RequestState::Executing])
            .await?;
        Ok(due == 0)
    }

    /// Ends the backoff of requests, a batch at a time; answers whether there is nothing left at all.
    async fn hurry(&self, session: &mut dyn Session) -> Result<bool> {
        let events = session.events().count_unprocessed().await?;
        let open = self.count(session, OPEN).await?;
        let waiting = self
            .list(session, &[RequestState::BackingOff], Self::BATCH)
            .await?;
        if !waiting.is_empty() {
            tokio::time::sleep(Self::PACE).await;
        }
        for request in waiting {
            match session.handler_requests().run_now(request.id).await {
                // It runs already, or ended.
                Ok(()) | Err(StoreError::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(events == 0 && open == 0)
    }

    async fn unfinished(&self, session: &mut dyn Session) -> Result<Unfinished> {
        const LIMIT: usize = Unfinished::MAX_LISTED;
        let filter = EventFilter {
            processed: Some(false),
            ..EventFilter::default()
        };
        let events = session.events().list(&filter, &Page::first(LIMIT)).await?;
        let requests = self.list(session, OPEN, LIMIT).await?;
        let mut total = session.events().count_unprocessed().await?;
        total += self.count(session, OPEN).await?;
        let unlisted = total.saturating_sub((events.len() + requests.len()) as u64);
        Ok(Unfinished {
            events,
            requests,
            unlisted,
        })
    }

    /// Requests of this map's handlers in these states. An empty filter would mean all handlers.
    async fn count(&self, session: &mut dyn Session, states: &[RequestState]) -> Result<u64> {
        match self.filter(states) {
            filter if filter.handlers.is_empty() => Ok(0),
            filter => session.handler_requests().count(&filter).await,
        }
    }

    async fn list(
        &self,
        session: &mut dyn Session,
        states: &[RequestState],
        limit: usize,
    ) -> Result<Vec<HandlerRequest>> {
        match self.filter(states) {
            filter if filter.handlers.is_empty() => Ok(Vec::new()),
            filter => {
                session
                    .handler_requests()
                    .list(&filter, &Page::first(limit))
                    .await
            }
        }
    }

    fn filter(&self, states: &[RequestState]) -> RequestFilter {
        RequestFilter {
            states: states.to_vec(),
            handlers: self.config.handler_names(),
            ..RequestFilter::default()
        }
    }
}

impl<'a> IntoFuture for Drain<'a> {
    type Output = Result<Drained, DrainError>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

const OPEN: &[RequestState] = &[
    RequestState::Pending,
    RequestState::Executing,
    RequestState::BackingOff,
];

fn is_idle(scheduler: &ConcurrentScheduler) -> bool {
    let status = scheduler.status();
    status.executing + status.buffered + status.settling == 0
}

/// Whether an event is unprocessed and does not back off.
async fn has_due_event(session: &mut dyn Session) -> Result<bool> {
    let filter = EventFilter {
        processed: Some(false),
        ..EventFilter::default()
    };
    let mut page = Page::first(100);
    loop {
        let events = session.events().list(&filter, &page).await?;
        if events.iter().any(|event| event.backoff_until.is_none()) {
            return Ok(true);
        }
        match events.last() {
            Some(last) if events.len() == page.limit => page.after = Some(last.event.id),
            _ => return Ok(false),
        }
    }
}

/// How much has ended in a store.
struct Ends {
    processed: u64,
    completed: u64,
    dead: u64,
    canceled: u64,
}

impl Ends {
    async fn count(session: &mut dyn Session) -> Result<Self> {
        let processed = EventFilter {
            processed: Some(true),
            ..EventFilter::default()
        };
        let processed = session.events().count(&processed).await?;
        let mut requests = session.handler_requests();
        let mut counts = [0; 3];
        let ends = [
            RequestState::Completed,
            RequestState::Dead,
            RequestState::Canceled,
        ];
        for (count, state) in counts.iter_mut().zip(ends) {
            let filter = RequestFilter {
                states: vec![state],
                ..RequestFilter::default()
            };
            *count = requests.count(&filter).await?;
        }
        let [completed, dead, canceled] = counts;
        Ok(Self {
            processed,
            completed,
            dead,
            canceled,
        })
    }

    const fn since(&self, before: &Self, backing_off: u64) -> Drained {
        Drained {
            processed: self.processed.saturating_sub(before.processed),
            completed: self.completed.saturating_sub(before.completed),
            dead: self.dead.saturating_sub(before.dead),
            canceled: self.canceled.saturating_sub(before.canceled),
            backing_off,
        }
    }
}

/// What a drain did. Ends are counted in the whole store, whoever brought them about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Events that were processed.
    pub processed: u64,
    /// Requests that were completed.
    pub completed: u64,
    /// Requests that died.
    pub dead: u64,
    /// Requests that were canceled.
    pub canceled: u64,
    /// Requests that back off or snooze, and were left.
    pub backing_off: u64,
}

/// Why a drain did not come to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DrainError {
    /// Something had not ended at the deadline.
    #[error("not everything ended within {deadline:?}:{unfinished}")]
    Unfinished {
        /// The deadline.
        deadline: Duration,
        /// What was left, and why.
        unfinished: Unfinished,
    },
    /// The `ConfigMap` does not go with the store, or there are no workers.
    #[error("the scheduler cannot be built")]
    Build(#[from] BuildError),
    /// The scheduler did not start.
    #[error("the scheduler did not start")]
    Scheduler(#[from] SchedulerError),
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}
