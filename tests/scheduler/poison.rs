//! Events that the store refuses to fan out: they stop no other.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use tidings::{
    Event, EventId, ProcessContext, Result, Signals, StoreError,
    faulty::{Fault, Operation},
    store::{
        Capabilities, ClaimedEvent, Connection, ConnectionType, EventClaim, EventFailure,
        EventFilter, EventRepository, EventStream, FanOut, FannedOut, HandlerRequestRepository,
        LeaseRenewer, LockMode, Page, Prune, Pruned, Raised, RegistrationRepository, Selection,
        Session, StoredEvent, Storer, Transaction, WakeUps,
    },
};
use tokio::time::Instant;

use crate::{
    process::Process,
    rig::{KINDS, Kind, Rig, soon},
};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_refused_fan_out_is_divided_until_the_culprit_alone_backs_off() {
    for kind in KINDS {
        let process = Process::new(WakeUps::Complete);
        // All that are due, all four that are claimed, the first two, the first.
        process.faults.inject(Operation::FanOut, Fault::Refuse, 4);
        let ids = process.rig.raise_many("thing.happened", 4).await;
        let _scheduler = process.start(kind).await;
        process.until_handled(3).await;
        let mut session = process.rig.store.session().await.unwrap();
        let culprit = session.events().find(ids[0]).await.unwrap().unwrap();
        assert_eq!((culprit.errors, culprit.processed_at), (1, None));
        let text = culprit.last_error.unwrap();
        assert!(text.contains("its fan-out was refused"), "{text}");
        assert!(text.contains("refused on demand"), "{text}");
        process.until_handled(4).await;
    }
}

#[tokio::test(start_paused = true)]
async fn poisonous_events_among_thousands_stop_no_other_for_ever() {
    for (kind, hooked) in [
        (Kind::Concurrent, false),
        (Kind::Cooperative, false),
        (Kind::Concurrent, true),
    ] {
        let rig = Rig::paused();
        let poisoned = Poisoned::new(&rig);
        let ids = rig.raise_many("thing.happened", 1000).await;
        poisoned
            .ids
            .lock()
            .extend([ids[0], ids[500], ids[501], ids[999]]);
        let process = Process::on(&rig, WakeUps::Complete);
        let map = crate::rig::config([process.handler()]);
        let wanted = rig.scheduler_on(Arc::new(poisoned.clone()), map);
        let wanted = match hooked {
            true => wanted.before_process(|_: ProcessContext| async { Ok(()) }),
            false => wanted,
        };
        let _scheduler = wanted.kind(kind).start().await;
        let begun = Instant::now();
        process.until_handled(996).await;
        assert!(begun.elapsed() <= 5 * SECOND, "{:?}", begun.elapsed());
        tokio::time::sleep(600 * SECOND).await;
        // Those that come later do not wait either, and what cannot be stored costs little.
        assert!(process.takes_to_handle().await <= SECOND, "{kind:?}");
        let before = *poisoned.calls.lock();
        tokio::time::sleep(600 * SECOND).await;
        let calls = *poisoned.calls.lock() - before;
        assert!(
            calls <= 4 * 20 * 10,
            "{kind:?} {hooked}: {calls} in 10 minutes"
        );
        // Once the cause is mended they are processed within a minute.
        poisoned.ids.lock().clear();
        let mended = Instant::now();
        process.until_handled(1001).await;
        assert!(mended.elapsed() <= 61 * SECOND, "{:?}", mended.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_every_fan_out_is_asked_seldom_and_goes_on_when_mended() {
    for kind in KINDS {
        let process = Process::new(WakeUps::Complete);
        process
            .faults
            .inject_always(Operation::FanOut, Fault::Refuse);
        let _scheduler = process.start(kind).await;
        process.rig.raise_many("thing.happened", 100).await;
        tokio::time::sleep(600 * SECOND).await;
        let before = process.faults.calls(Operation::FanOut);
        tokio::time::sleep(600 * SECOND).await;
        let calls = process.faults.calls(Operation::FanOut) - before;
        assert!(calls <= 20 * 600, "{kind:?}: {calls}");
        process.faults.heal_all();
        let mended = Instant::now();
        process.until_handled(100).await;
        assert!(mended.elapsed() <= 61 * SECOND, "{:?}", mended.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_while_a_refused_fan_out_is_divided_loses_nothing() {
    for kind in KINDS {
        let process = Process::new(WakeUps::Complete);
        process.faults.inject(Operation::FanOut, Fault::Refuse, 2);
        process
            .faults
            .inject_always(Operation::FailEvents, Fault::Fail);
        process.rig.raise_many("thing.happened", 4).await;
        let _scheduler = process.start(kind).await;
        let called = process.faults.until_called(Operation::FanOut, 2);
        soon("it is refused", called).await;
        process.faults.inject(Operation::FanOut, Fault::Fail, 3);
        let begun = Instant::now();
        process.until_handled(4).await;
        assert!(begun.elapsed() <= 40 * SECOND, "{:?}", begun.elapsed());
    }
}

/// A store that refuses to fan out certain events, and whatever is fanned out with them.
#[derive(Clone, Debug)]
struct Poisoned {
    inner: Arc<dyn Storer>,
    ids: Arc<Mutex<HashSet<EventId>>>,
    /// Fan-outs that were asked for.
    calls: Arc<Mutex<u64>>,
}

impl Poisoned {
    fn new(rig: &Rig) -> Self {
        Self {
            inner: Arc::new(rig.store.clone()),
            ids: Arc::default(),
            calls: Arc::default(),
        }
    }
}

#[async_trait]
impl Storer for Poisoned {
    async fn session(&self) -> Result<Box<dyn Session>> {
        let inner = self.inner.session().await?;
        Ok(Box::new(PoisonedSession(inner, self.clone())))
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        self.inner.begin().await
    }

    async fn lease_renewer(&self) -> Result<Box<dyn LeaseRenewer>> {
        self.inner.lease_renewer().await
    }

    fn signals(&self) -> Signals {
        self.inner.signals()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn connection_type(&self) -> ConnectionType {
        self.inner.connection_type()
    }
}

struct PoisonedSession(Box<dyn Session>, Poisoned);

impl Session for PoisonedSession {
    fn events(&mut self) -> Box<dyn EventRepository + '_> {
        Box::new(PoisonedEvents(self.0.events(), self.1.clone()))
    }

    fn handler_requests(&mut self) -> Box<dyn HandlerRequestRepository + '_> {
        self.0.handler_requests()
    }

    fn registrations(&mut self) -> Box<dyn RegistrationRepository + '_> {
        self.0.registrations()
    }

    fn connection(&mut self) -> Connection<'_> {
        self.0.connection()
    }
}

struct PoisonedEvents<'a>(Box<dyn EventRepository + 'a>, Poisoned);

#[async_trait]
impl EventRepository for PoisonedEvents<'_> {
    async fn raise(&mut self, events: &[Event]) -> Result<Vec<Raised>> {
        self.0.raise(events).await
    }

    async fn claim(&mut self, claim: &EventClaim) -> Result<Vec<ClaimedEvent>> {
        self.0.claim(claim).await
    }

    async fn fan_out(&mut self, fan_out: &FanOut) -> Result<FannedOut> {
        *self.1.calls.lock() += 1;
        let poison = self.1.ids.lock().clone();
        let mut selected = Vec::new();
        match &fan_out.selection {
            Selection::Claimed(claimed) => selected.extend(claimed.iter().map(|(id, _)| *id)),
            Selection::Due { limit } => {
                // Claimed and given back at once, to see which they are.
                let mut transaction = self.1.inner.begin().await?;
                let claim = EventClaim::new(tidings::LeaseOwner::new(), SECOND, *limit);
                let due = transaction.events().claim(&claim).await?;
                selected.extend(due.iter().map(|claimed| claimed.event.id));
                transaction.rollback().await?;
            }
            other => panic!("{other:?}"),
        }
        if selected.iter().any(|id| poison.contains(id)) {
            let table = "events";
            return Err(StoreError::Unreadable {
                table,
                column: "data",
                id: "poison".to_owned(),
                source: None,
            });
        }
        self.0.fan_out(fan_out).await
    }

    async fn fail(&mut self, failures: &[EventFailure]) -> Result<()> {
        self.0.fail(failures).await
    }

    async fn prune(&mut self, prune: &Prune) -> Result<Pruned> {
        self.0.prune(prune).await
    }

    async fn find(&mut self, id: EventId) -> Result<Option<StoredEvent>> {
        self.0.find(id).await
    }

    async fn find_for_update(
        &mut self,
        id: EventId,
        lock: LockMode,
    ) -> Result<Option<StoredEvent>> {
        self.0.find_for_update(id, lock).await
    }

    async fn count_unprocessed(&mut self) -> Result<u64> {
        self.0.count_unprocessed().await
    }

    async fn oldest_unprocessed(&mut self) -> Result<Option<StoredEvent>> {
        self.0.oldest_unprocessed().await
    }

    async fn count(&mut self, filter: &EventFilter) -> Result<u64> {
        self.0.count(filter).await
    }

    async fn list(
        &mut self,
        filter: &EventFilter,
        page: &Page<EventId>,
    ) -> Result<Vec<StoredEvent>> {
        self.0.list(filter, page).await
    }

    fn stream(&mut self, filter: &EventFilter) -> EventStream<'_> {
        self.0.stream(filter)
    }
}
