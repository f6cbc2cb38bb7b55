//! What every test here needs: a store, a scheduler of either kind, and waiting on signals.

use std::{future::Future, sync::Arc, time::Duration};

use serde_json::json;
use tidings::{
    BeforeExecute, BeforeProcess, ConcurrentScheduler, ConfigMap, Context, CooperativeScheduler,
    ErrorReporter, Event, EventId, Handler, HandlerError, HandlerRequest, ManualClock, MemoryStore,
    RequestState, Retention, RuntimeClock, Scheduler, Signal,
    store::{Page, RequestFilter, Storer},
};

/// The two kinds of scheduler.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Kind {
    #[default]
    Concurrent,
    Cooperative,
}

pub(crate) const KINDS: [Kind; 2] = [Kind::Concurrent, Kind::Cooperative];

/// A store and what tests do with it.
#[derive(Clone, Debug)]
pub(crate) struct Rig {
    pub(crate) store: MemoryStore,
    /// A wait that takes longer is stuck.
    limit: Duration,
}

/// A scheduler that a test wants; `build` makes it, `start` starts it, too.
#[must_use]
pub(crate) struct Wanted {
    store: Arc<dyn Storer>,
    kind: Kind,
    config: ConfigMap,
    workers: usize,
    batch_size: usize,
    lease: Duration,
    poll_interval: Duration,
    call_timeout: Duration,
    renew_on_runtime: bool,
    before_process: Vec<Arc<dyn BeforeProcess>>,
    before_execute: Vec<Arc<dyn BeforeExecute>>,
    reporter: Option<Arc<dyn ErrorReporter>>,
    retention: Retention,
}

impl Rig {
    /// For tests with paused time: the store goes with the runtime's timers.
    pub(crate) fn paused() -> Self {
        Self {
            store: MemoryStore::with_clock(RuntimeClock::default()),
            limit: Duration::from_secs(24 * 3600),
        }
    }

    /// For tests with paused time whose store has a clock of its own.
    pub(crate) fn with_clock(clock: ManualClock) -> Self {
        Self {
            store: MemoryStore::with_clock(clock),
            ..Self::paused()
        }
    }

    /// For tests on real threads.
    pub(crate) fn real() -> Self {
        Self {
            store: MemoryStore::new(),
            limit: Duration::from_secs(60),
        }
    }

    pub(crate) fn scheduler(&self, config: ConfigMap) -> Wanted {
        self.scheduler_on(Arc::new(self.store.clone()), config)
    }

    /// A scheduler on a decorated store.
    pub(crate) fn scheduler_on(&self, store: Arc<dyn Storer>, config: ConfigMap) -> Wanted {
        Wanted {
            store,
            kind: Kind::default(),
            config,
            workers: 16,
            batch_size: 1000,
            lease: Duration::from_secs(30),
            poll_interval: Duration::from_secs(5),
            call_timeout: Duration::from_secs(10),
            renew_on_runtime: self.limit > Duration::from_secs(3600),
            before_process: Vec::new(),
            before_execute: Vec::new(),
            reporter: None,
            retention: Retention::default(),
        }
    }

    pub(crate) async fn raise(&self, name: &str) -> EventId {
        self.raise_many(name, 1).await[0]
    }

    pub(crate) async fn raise_many(&self, name: &str, count: usize) -> Vec<EventId> {
        let events: Vec<_> = (0..count)
            .map(|n| Event::new(name, &json!({ "n": n })).expect("JSON"))
            .collect();
        let ids = events.iter().map(|event| event.id).collect();
        let raiser = self.store.raiser();
        let mut session = self.store.session().await.expect("a session");
        for events in events.chunks(10_000) {
            let raised = raiser.raise_all(&mut *session, events.to_vec()).await;
            assert_eq!(raised.expect("raised").len(), events.len());
        }
        ids
    }

    pub(crate) async fn requests(&self) -> Vec<HandlerRequest> {
        let mut session = self.store.session().await.expect("a session");
        let filter = RequestFilter::default();
        let page = Page::first(100_000);
        session
            .handler_requests()
            .list(&filter, &page)
            .await
            .expect("a list")
    }

    pub(crate) async fn requests_of(&self, handler: &str) -> Vec<HandlerRequest> {
        let mut requests = self.requests().await;
        requests.retain(|request| request.handler == handler);
        requests
    }

    /// The one request that there is.
    pub(crate) async fn only(&self) -> HandlerRequest {
        let mut requests = self.requests().await;
        assert_eq!(requests.len(), 1, "{requests:#?}");
        requests.remove(0)
    }

    pub(crate) async fn count(&self, state: RequestState) -> u64 {
        let filter = RequestFilter::default().in_states([state]);
        let mut session = self.store.session().await.expect("a session");
        session
            .handler_requests()
            .count(&filter)
            .await
            .expect("a count")
    }

    /// Waits until a condition of the store holds, looking again at each of its signals.
    pub(crate) async fn until<F, Fut>(&self, what: &str, mut condition: F)
    where
        F: FnMut(Self) -> Fut,
        Fut: Future<Output = bool>,
    {
        let signals = self.store.signals();
        let holds = async {
            loop {
                let seen = [&signals.raised, &signals.ready, &signals.settled].map(Signal::seen);
                if condition(self.clone()).await {
                    return;
                }
                tokio::select! {
                    () = signals.raised.changed_since(seen[0]) => {}
                    () = signals.ready.changed_since(seen[1]) => {}
                    () = signals.settled.changed_since(seen[2]) => {}
                    // Some conditions change without a signal: a request that was born leased.
                    () = tokio::time::sleep(Duration::from_millis(100)) => {}
                }
            }
        };
        if tokio::time::timeout(self.limit, holds).await.is_err() {
            panic!("waited in vain until {what}: {:#?}", self.requests().await);
        }
    }

    /// Waits until so many requests have completed.
    pub(crate) async fn until_completed(&self, count: u64) {
        self.until(
            &format!("{count} requests have completed"),
            |rig| async move { rig.count(RequestState::Completed).await >= count },
        )
        .await;
    }

    /// Waits until every event is processed and every request has ended.
    pub(crate) async fn until_all_ended(&self) {
        self.until("everything has ended", |rig| async move {
            let mut session = rig.store.session().await.expect("a session");
            session.events().count_unprocessed().await.expect("a count") == 0
                && session
                    .handler_requests()
                    .count_unexecuted()
                    .await
                    .expect("a count")
                    == 0
        })
        .await;
    }

    /// Waits until the only request is in a state.
    pub(crate) async fn until_only(&self, state: RequestState) -> HandlerRequest {
        self.until(&format!("the request is {state}"), |rig| async move {
            rig.count(state).await == 1
        })
        .await;
        self.only().await
    }
}

/// Waits for something that has no signal of the store, with a limit.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(3600 * 24), future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain until {what}"),
    }
}

/// A handler that takes so long.
pub(crate) fn taking(name: &str, duration: Duration) -> Handler {
    Handler::new(name, move |_: Arc<Event>, _: Context| async move {
        tokio::time::sleep(duration).await;
        Ok::<_, HandlerError>(())
    })
}

pub(crate) fn config(handlers: impl IntoIterator<Item = Handler>) -> ConfigMap {
    handlers
        .into_iter()
        .fold(ConfigMap::builder(), |map, handler| map.handler(handler))
        .build()
        .expect("a good map")
}

impl Wanted {
    pub(crate) fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    pub(crate) fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    pub(crate) fn batch_size(mut self, rows: usize) -> Self {
        self.batch_size = rows;
        self
    }

    pub(crate) fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self.call_timeout = self.call_timeout.min(lease);
        self
    }

    pub(crate) fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    pub(crate) fn call_timeout(mut self, limit: Duration) -> Self {
        self.call_timeout = limit;
        self
    }

    pub(crate) fn before_process(mut self, hook: impl BeforeProcess) -> Self {
        self.before_process.push(Arc::new(hook));
        self
    }

    pub(crate) fn before_execute(mut self, hook: impl BeforeExecute) -> Self {
        self.before_execute.push(Arc::new(hook));
        self
    }

    pub(crate) fn reporter(mut self, reporter: Arc<dyn ErrorReporter>) -> Self {
        self.reporter = Some(reporter);
        self
    }

    pub(crate) fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    pub(crate) fn build(self) -> Box<dyn Scheduler> {
        macro_rules! build {
            ($scheduler:ty) => {{
                let mut builder = <$scheduler>::builder(self.store, self.config)
                    .workers(self.workers)
                    .batch_size(self.batch_size)
                    .lease(self.lease)
                    .poll_interval(self.poll_interval)
                    .call_timeout(self.call_timeout)
                    .retention(self.retention);
                if self.renew_on_runtime {
                    builder = builder.renew_on_runtime();
                }
                for hook in self.before_process {
                    builder = builder.before_process(hook);
                }
                for hook in self.before_execute {
                    builder = builder.before_execute(hook);
                }
                if let Some(reporter) = self.reporter {
                    builder = builder.error_reporter(reporter);
                }
                Box::new(builder.build().expect("good settings"))
            }};
        }
        match self.kind {
            Kind::Concurrent => build!(ConcurrentScheduler),
            Kind::Cooperative => build!(CooperativeScheduler),
        }
    }

    pub(crate) async fn start(self) -> Box<dyn Scheduler> {
        let scheduler = self.build();
        scheduler.start().await.expect("it starts");
        scheduler
    }
}

/// Blocks the thread until it is released or dropped, as a handler that never yields does.
#[derive(Clone, Default)]
pub(crate) struct Blocker(Arc<(parking_lot::Mutex<bool>, parking_lot::Condvar)>);

impl Blocker {
    pub(crate) fn block(&self) {
        let mut released = self.0.0.lock();
        while !*released {
            self.0.1.wait(&mut released);
        }
    }

    pub(crate) fn release(&self) {
        *self.0.0.lock() = true;
        self.0.1.notify_all();
    }
}
