//! A process that shares its store with others: what they commit it hears of as a test says, and
//! every call that it makes is counted.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tidings::{
    ConfigMap, Context, Event, Handler, HandlerError, Result, Scheduler, Signal, Signals,
    StoreError,
    faulty::{Fault, Faults, FaultyStorer, Operation},
    store::{
        Capabilities, ConnectionType, LeaseRenewer, Listener, Look, Outlook, Session, Storer,
        Transaction, WakeUps,
    },
};
use tokio::time::Instant;

use crate::rig::{Kind, Rig, config, soon};

/// What becomes of an attempt to listen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Line {
    #[default]
    Good,
    /// It is refused.
    Refused,
    /// Nothing answers.
    Hangs,
}

/// The store as one process has it.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) rig: Rig,
    pub(crate) faults: Faults,
    /// Its own signals: what is committed past them, as by another process, is not heard of.
    pub(crate) signals: Signals,
    pub(crate) line: Arc<Mutex<Line>>,
    /// Raised: whoever listens loses the line.
    pub(crate) hang_up: Signal,
    /// While set, nothing comes over the line, which looks good.
    deaf: Arc<AtomicBool>,
    /// Attempts to listen, and those that succeeded.
    pub(crate) attempts: Arc<AtomicU32>,
    pub(crate) established: Signal,
    /// When each event was handled.
    pub(crate) handled: Arc<Mutex<Vec<Instant>>>,
    /// When it looked for work.
    pub(crate) looks: Arc<Mutex<Vec<Instant>>>,
    /// Its looks are not answered.
    pub(crate) cannot_tell: bool,
    inner: Arc<FaultyStorer>,
    wake_ups: WakeUps,
}

impl Process {
    pub(crate) fn new(wake_ups: WakeUps) -> Self {
        Self::on(&Rig::paused(), wake_ups)
    }

    /// A process beside others on one store.
    pub(crate) fn on(rig: &Rig, wake_ups: WakeUps) -> Self {
        let inner = FaultyStorer::new(Arc::new(rig.store.clone()));
        let mut signals = rig.store.signals();
        if wake_ups != WakeUps::Complete {
            signals.raised = Signal::new();
        }
        Self {
            rig: rig.clone(),
            faults: inner.faults(),
            signals,
            line: Arc::default(),
            hang_up: Signal::new(),
            deaf: Arc::default(),
            attempts: Arc::default(),
            established: Signal::new(),
            handled: Arc::default(),
            looks: Arc::default(),
            cannot_tell: false,
            inner: Arc::new(inner),
            wake_ups,
        }
    }

    /// One whose fan-outs and claims take a millisecond, as those of a server do.
    pub(crate) fn delayed() -> Self {
        let process = Self::new(WakeUps::Complete);
        for operation in [Operation::FanOut, Operation::Claim] {
            let delay = Fault::Delay(Duration::from_millis(1));
            process.faults.inject_always(operation, delay);
        }
        process
    }

    pub(crate) fn handler(&self) -> Handler {
        let handled = Arc::clone(&self.handled);
        Handler::new("handles", move |_: Arc<Event>, _: Context| {
            handled.lock().push(Instant::now());
            async { Ok::<_, HandlerError>(()) }
        })
        .on("thing.*")
    }

    pub(crate) async fn start(&self, kind: Kind) -> Box<dyn Scheduler> {
        self.start_with(kind, config([self.handler()])).await
    }

    pub(crate) async fn start_with(&self, kind: Kind, config: ConfigMap) -> Box<dyn Scheduler> {
        let wanted = self.rig.scheduler_on(Arc::new(self.clone()), config);
        let scheduler = wanted.kind(kind).start().await;
        if self.wake_ups == WakeUps::Listener && *self.line.lock() == Line::Good {
            soon("there is a listener", self.established.changed_since(0)).await;
        }
        scheduler
    }

    pub(crate) fn go_deaf(&self) {
        self.deaf.store(true, Ordering::SeqCst);
    }

    /// Raises an event as another process does, and answers after how long it was handled.
    pub(crate) async fn takes_to_handle(&self) -> Duration {
        let before = self.handled.lock().len();
        let begun = Instant::now();
        self.rig.raise("thing.happened").await;
        self.until_handled(before + 1).await;
        self.handled.lock()[before] - begun
    }

    pub(crate) async fn until_handled(&self, count: usize) {
        let what = format!("{count} events are handled");
        let handled = &self.handled;
        self.rig
            .until(&what, |_| async { handled.lock().len() >= count })
            .await;
    }

    /// Every call to the store so far, but for the opening of sessions, in each of which are calls, and
    /// for the search for what can be deleted, which comes once in an hour, and when is random.
    pub(crate) fn calls(&self) -> BTreeMap<&'static str, u64> {
        let operations = Operation::ALL.iter().copied();
        operations
            .filter(|operation| !matches!(operation, Operation::Session | Operation::Prune))
            .map(|operation| (operation.as_str(), self.faults.calls(operation)))
            .filter(|(_, calls)| *calls > 0)
            .collect()
    }

    /// The calls of this while.
    pub(crate) async fn calls_in(&self, time: Duration) -> BTreeMap<&'static str, u64> {
        let before = self.calls();
        tokio::time::sleep(time).await;
        let mut calls = self.calls();
        for (operation, count) in &mut calls {
            *count -= before.get(operation).copied().unwrap_or_default();
        }
        calls.retain(|_, count| *count > 0);
        calls
    }
}

#[async_trait]
impl Storer for Process {
    async fn session(&self) -> Result<Box<dyn Session>> {
        self.inner.session().await
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        self.inner.begin().await
    }

    async fn lease_renewer(&self) -> Result<Box<dyn LeaseRenewer>> {
        self.inner.lease_renewer().await
    }

    fn signals(&self) -> Signals {
        self.signals.clone()
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.inner.capabilities();
        capabilities.wake_ups = self.wake_ups;
        capabilities
    }

    fn connection_type(&self) -> ConnectionType {
        self.inner.connection_type()
    }

    async fn look(&self, look: &Look) -> Result<Outlook> {
        self.looks.lock().push(Instant::now());
        match self.cannot_tell {
            true => Ok(Outlook::unknown()),
            false => self.inner.look(look).await,
        }
    }

    async fn listener(&self) -> Result<Box<dyn Listener>> {
        self.attempts.fetch_add(1, Ordering::SeqCst);
        let line = *self.line.lock();
        match line {
            Line::Good => {}
            Line::Refused => return Err(lost()),
            Line::Hangs => std::future::pending().await,
        }
        let listener = Ear {
            all: self.rig.store.signals().raised,
            heard: self.rig.store.signals().raised.seen(),
            told: self.signals.raised.clone(),
            hung_up: self.hang_up.seen(),
            hang_up: self.hang_up.clone(),
            deaf: Arc::clone(&self.deaf),
        };
        self.established.raise();
        Ok(Box::new(listener))
    }
}

struct Ear {
    all: Signal,
    heard: u64,
    told: Signal,
    hung_up: u64,
    hang_up: Signal,
    deaf: Arc<AtomicBool>,
}

#[async_trait]
impl Listener for Ear {
    async fn listen(&mut self) -> Result<()> {
        loop {
            tokio::select! {
                () = self.all.changed_since(self.heard) => {
                    self.heard = self.all.seen();
                    if !self.deaf.load(Ordering::SeqCst) {
                        self.told.raise();
                    }
                }
                () = self.hang_up.changed_since(self.hung_up) => return Err(lost()),
            }
        }
    }
}

fn lost() -> StoreError {
    StoreError::Unavailable {
        operation: "listen",
        source: None,
    }
}
