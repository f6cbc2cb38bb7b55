//! An application's unit tests, with mocks only: code that raises events, administers handler
//! requests, and controls a scheduler.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::sync::Arc;

use async_trait::async_trait;
use mockall::{Sequence, predicate::eq};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tidings::{
    DomainEvent, Entity, ErrorReport, ErrorReporter, EventBuffer, EventId, EventRaiser,
    HandlerRequest, LeaseOwner, Priority, Raiser, ReportKind, Scheduler, SchedulerError,
    SchedulerState, SchedulerStatus, Signals, StoreError,
    mocks::{
        MockErrorReporter, MockEventRepository, MockHandlerRequestRepository, MockLeaseRenewer,
        MockRegistrationRepository, MockScheduler, MockSession, MockStorer, MockTransaction,
    },
    store::{
        Connection, LeaseRenewer, Raised, Renewal, Renewed, RequestFilter, Session, Storer,
        StorerExt,
    },
};

// The application under test.

#[derive(Debug, Serialize, Deserialize)]
struct OrderPlaced {
    order: String,
    total: u64,
}

impl DomainEvent for OrderPlaced {
    const NAME: &'static str = "order.placed";

    fn entity(&self) -> Option<Entity> {
        Some(Entity::new("order", self.order.as_str()))
    }
}

/// The application's table, behind the connection of the transaction.
#[derive(Clone, Debug, Default)]
struct OrderTable(Arc<Mutex<Vec<String>>>);

struct Order {
    id: String,
    events: EventBuffer,
}

impl EventRaiser for Order {
    fn event_buffer(&mut self) -> &mut EventBuffer {
        &mut self.events
    }
}

impl Order {
    fn place(id: &str, total: u64) -> Self {
        let mut order = Self {
            id: id.to_owned(),
            events: EventBuffer::new(),
        };
        order
            .collect(&OrderPlaced {
                order: id.to_owned(),
                total,
            })
            .unwrap();
        order
    }
}

struct Orders {
    store: Arc<dyn Storer>,
    raiser: Raiser,
}

impl Orders {
    /// Inserts an order and raises its event in one transaction.
    async fn place(&self, order: &str, total: u64) -> Result<(), StoreError> {
        let mut tx = self.store.begin().await?;
        insert(&mut *tx, order)?;
        self.raiser
            .raise_typed(
                &mut *tx,
                &OrderPlaced {
                    order: order.to_owned(),
                    total,
                },
            )
            .await?;
        tx.commit().await?;
        self.raiser.wake();
        Ok(())
    }

    /// Inserts an order and raises the events that it has collected in one transaction.
    async fn save(&self, order: &mut Order) -> Result<(), StoreError> {
        let mut tx = self.store.begin().await?;
        insert(&mut *tx, &order.id)?;
        self.raiser.raise_collected(&mut *tx, order).await?;
        tx.commit().await
    }
}

fn insert(session: &mut (impl Session + ?Sized), order: &str) -> Result<(), StoreError> {
    let table: &mut OrderTable = session.connection().downcast().ok_or_else(|| {
        StoreError::invalid(
            "the connection",
            "is another one",
            "use the shop's database",
        )
    })?;
    table.0.lock().push(order.to_owned());
    Ok(())
}

/// Runs all dead requests of a handler again, a hundred at a time, and answers how many.
async fn reexecute_dead(store: &dyn Storer, handler: &str) -> Result<u64, StoreError> {
    const LIMIT: usize = 100;
    let filter = RequestFilter::default().of_handlers([handler]);
    let mut session = store.session().await?;
    let mut total = 0;
    loop {
        let count = session
            .handler_requests()
            .reexecute_dead(&filter, LIMIT)
            .await?;
        total += count;
        if count < LIMIT as u64 {
            return Ok(total);
        }
    }
}

/// Does something while the scheduler pauses.
async fn while_paused(
    scheduler: &dyn Scheduler,
    work: impl FnOnce(),
) -> Result<(), SchedulerError> {
    scheduler.pause().await?;
    work();
    scheduler.resume().await
}

/// Passes final errors on, and no others.
struct OnlyFinal<R>(R);

#[async_trait]
impl<R: ErrorReporter> ErrorReporter for OnlyFinal<R> {
    async fn report(&self, report: ErrorReport) -> bool {
        !report.is_final || self.0.report(report).await
    }
}

// Its tests.

fn unavailable(operation: &'static str) -> StoreError {
    StoreError::Unavailable {
        operation,
        source: None,
    }
}

/// A transaction in which `table` is the connection and raising answers `raised`.
fn transaction(
    table: &OrderTable,
    raised: fn() -> Result<Vec<Raised>, StoreError>,
) -> MockTransaction {
    let table = table.clone();
    let mut tx = MockTransaction::new();
    tx.expect_connection()
        .returning(move || Connection::new(Box::leak(Box::new(table.clone()))));
    tx.expect_events().once().returning(move || {
        let mut events = MockEventRepository::new();
        events
            .expect_raise()
            .withf(|events| {
                let [event] = events else { return false };
                event.name == OrderPlaced::NAME
                    && event.entity == Some(Entity::new("order", "4711"))
                    && event.data.as_str() == r#"{"order":"4711","total":12}"#
            })
            .once()
            .returning(move |_| raised());
        Box::new(events)
    });
    tx
}

fn orders(begin: Result<MockTransaction, StoreError>) -> (Orders, Signals) {
    let mut store = MockStorer::new();
    store
        .expect_begin()
        .once()
        .return_once(|| begin.map(|tx| Box::new(tx) as _));
    let signals = Signals::default();
    (
        Orders {
            store: Arc::new(store),
            raiser: Raiser::new(signals.clone()),
        },
        signals,
    )
}

#[tokio::test]
async fn an_order_and_its_event_commit_together() {
    let table = OrderTable::default();
    let mut tx = transaction(&table, || Ok(vec![Raised::New]));
    tx.expect_commit().once().returning(|| Ok(()));
    let (orders, signals) = orders(Ok(tx));
    orders.place("4711", 12).await.unwrap();
    assert_eq!(*table.0.lock(), ["4711"]);
    assert_eq!(signals.raised.seen(), 1);
}

#[tokio::test]
async fn a_database_that_is_away_raises_nothing() {
    let (orders, signals) = orders(Err(unavailable("begin")));
    let error = orders.place("4711", 12).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert_eq!(signals.raised.seen(), 0);
}

#[tokio::test]
async fn when_the_event_cannot_be_raised_nothing_commits() {
    // No commit is expected: one would panic.
    let tx = transaction(&OrderTable::default(), || Err(unavailable("raise events")));
    let (orders, signals) = orders(Ok(tx));
    let error = orders.place("4711", 12).await.unwrap_err();
    assert!(error.to_string().starts_with("raise events"), "{error}");
    assert_eq!(signals.raised.seen(), 0);
}

#[tokio::test]
async fn when_the_commit_fails_nobody_is_woken() {
    let mut tx = transaction(&OrderTable::default(), || Ok(vec![Raised::New]));
    tx.expect_commit()
        .once()
        .returning(|| Err(unavailable("commit")));
    let (orders, signals) = orders(Ok(tx));
    let error = orders.place("4711", 12).await.unwrap_err();
    assert!(error.is_uncertain(), "{error}");
    assert_eq!(signals.raised.seen(), 0);
}

#[tokio::test]
#[should_panic(expected = "commit")]
async fn a_commit_that_nobody_expected_fails_the_test() {
    let tx = transaction(&OrderTable::default(), || Ok(vec![Raised::New]));
    let (orders, _) = orders(Ok(tx));
    let _ = orders.place("4711", 12).await;
}

#[tokio::test]
async fn collected_events_leave_the_entity_once_they_are_stored() {
    let mut order = Order::place("4711", 12);

    let tx = transaction(&OrderTable::default(), || Err(unavailable("raise events")));
    let (failing, _) = orders(Ok(tx));
    failing.save(&mut order).await.unwrap_err();
    assert_eq!(order.events.len(), 1, "the entity can be saved again");

    let mut tx = transaction(&OrderTable::default(), || Ok(vec![Raised::New]));
    tx.expect_commit().once().returning(|| Ok(()));
    let (working, _) = orders(Ok(tx));
    working.save(&mut order).await.unwrap();
    assert!(order.events.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_closure_form_commits_in_a_spawned_task() {
    let mut tx = transaction(&OrderTable::default(), || Ok(vec![Raised::New]));
    tx.expect_commit().once().returning(|| Ok(()));
    let (orders, _) = orders(Ok(tx));
    let placed = tokio::spawn(async move {
        let raiser = orders.raiser.clone();
        orders
            .store
            .transaction(|session| {
                Box::pin(async move {
                    let placed = OrderPlaced {
                        order: "4711".to_owned(),
                        total: 12,
                    };
                    raiser.raise_typed(session, &placed).await
                })
            })
            .await
    });
    assert_eq!(placed.await.unwrap().unwrap(), Raised::New);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_closure_form_rolls_back_on_an_error() {
    let mut tx = MockTransaction::new();
    tx.expect_rollback()
        .once()
        .returning(|| Err(unavailable("rollback")));
    let (orders, _) = orders(Ok(tx));
    let result: Result<(), StoreError> = tokio::spawn(async move {
        orders
            .store
            .transaction(|_| Box::pin(async { Err(unavailable("find the order")) }))
            .await
    })
    .await
    .unwrap();
    assert!(
        result
            .unwrap_err()
            .to_string()
            .starts_with("find the order"),
        "the first error is the one that counts"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_closure_form_tells_that_its_commit_failed() {
    let mut tx = MockTransaction::new();
    tx.expect_commit()
        .once()
        .returning(|| Err(unavailable("commit")));
    let (orders, _) = orders(Ok(tx));
    let result: Result<u32, StoreError> = orders
        .store
        .transaction(|_| Box::pin(async { Ok(1) }))
        .await;
    assert!(result.unwrap_err().to_string().starts_with("commit"));
}

#[tokio::test]
async fn dead_requests_are_reexecuted_until_none_is_left() {
    let counts = Arc::new(Mutex::new(vec![7, 100, 100]));
    let mut session = MockSession::new();
    session
        .expect_handler_requests()
        .times(3)
        .returning(move || {
            let counts = Arc::clone(&counts);
            let filter = RequestFilter::default().of_handlers(["send_mail"]);
            let mut requests = MockHandlerRequestRepository::new();
            requests
                .expect_reexecute_dead()
                .with(eq(filter), eq(100))
                .once()
                .returning(move |_, _| Ok(counts.lock().pop().unwrap()));
            Box::new(requests)
        });
    let mut store = MockStorer::new();
    store
        .expect_session()
        .once()
        .return_once(|| Ok(Box::new(session)));
    assert_eq!(reexecute_dead(&store, "send_mail").await.unwrap(), 207);
}

#[tokio::test]
async fn reexecuting_stops_at_the_first_error() {
    let mut session = MockSession::new();
    session.expect_handler_requests().once().returning(|| {
        let mut requests = MockHandlerRequestRepository::new();
        requests
            .expect_reexecute_dead()
            .once()
            .returning(|_, _| Err(unavailable("reexecute dead requests")));
        Box::new(requests)
    });
    let mut store = MockStorer::new();
    store
        .expect_session()
        .once()
        .return_once(|| Ok(Box::new(session)));
    assert!(
        reexecute_dead(&store, "send_mail")
            .await
            .unwrap_err()
            .is_transient()
    );
}

#[tokio::test]
async fn the_scheduler_pauses_around_the_work() {
    let mut order = Sequence::new();
    let mut scheduler = MockScheduler::new();
    scheduler
        .expect_pause()
        .once()
        .in_sequence(&mut order)
        .returning(|| Ok(()));
    scheduler
        .expect_resume()
        .once()
        .in_sequence(&mut order)
        .returning(|| Ok(()));
    scheduler
        .expect_status()
        .returning(|| SchedulerStatus::new(SchedulerState::Paused));
    let mut seen = None;
    while_paused(&scheduler, || seen = Some(scheduler.status().state))
        .await
        .unwrap();
    assert_eq!(seen, Some(SchedulerState::Paused));
}

#[tokio::test]
async fn a_scheduler_that_cannot_pause_stops_the_work() {
    let mut scheduler = MockScheduler::new();
    scheduler.expect_pause().once().returning(|| {
        Err(SchedulerError::NotRunning {
            action: "pause",
            state: SchedulerState::Stopped,
        })
    });
    let mut done = false;
    let error = while_paused(&scheduler, || done = true).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "pause needs a running scheduler, but it is stopped"
    );
    assert!(!done);
}

#[tokio::test]
async fn only_final_errors_are_passed_on() {
    let report = |is_final| {
        let mut report = ErrorReport::new(
            ReportKind::Panic,
            tidings::HandlerRequestId::derive(EventId::new(), "send_mail"),
            "send_mail".into(),
            EventId::new(),
            "order.placed".into(),
        );
        report.is_final = is_final;
        report
    };
    let mut inner = MockErrorReporter::new();
    inner
        .expect_report()
        .withf(|report| report.is_final)
        .once()
        .returning(|_| false);
    let reporter = OnlyFinal(inner);
    assert!(reporter.report(report(false)).await);
    assert!(!reporter.report(report(true)).await);
}

#[tokio::test]
async fn registrations_requests_and_leases_are_mocked_as_well() {
    let event = EventId::new();
    let request = HandlerRequest::new(
        event,
        "order.placed".into(),
        "send_mail".into(),
        Priority::default(),
        5,
        chrono::DateTime::UNIX_EPOCH,
    );
    let id = request.id;

    let mut session = MockSession::new();
    session.expect_registrations().once().returning(|| {
        let mut registrations = MockRegistrationRepository::new();
        registrations
            .expect_retire()
            .withf(|handler| handler == "send_fax")
            .once()
            .returning(|_| Ok(2));
        Box::new(registrations)
    });
    session.expect_handler_requests().once().returning(move || {
        let request = request.clone();
        let mut requests = MockHandlerRequestRepository::new();
        requests.expect_stream().once().returning(move |_| {
            let all = vec![
                Ok(request.clone()),
                Err(unavailable("read handler requests")),
            ];
            Box::pin(futures_util::stream::iter(all))
        });
        Box::new(requests)
    });
    assert_eq!(
        session
            .registrations()
            .retire(&"send_fax".into())
            .await
            .unwrap(),
        2
    );
    let mut repository = session.handler_requests();
    let mut all = repository.stream(&RequestFilter::default());
    assert_eq!(
        futures_util::StreamExt::next(&mut all)
            .await
            .unwrap()
            .unwrap()
            .id,
        id
    );
    assert!(
        futures_util::StreamExt::next(&mut all)
            .await
            .unwrap()
            .is_err()
    );

    let mut renewer = MockLeaseRenewer::new();
    renewer
        .expect_renew()
        .once()
        .returning(move |_| Ok(Renewed::new(vec![(id, 1)])));
    let renewal = Renewal::new(
        LeaseOwner::new(),
        std::time::Duration::from_secs(30),
        vec![(id, 1)],
    );
    assert_eq!(renewer.renew(&renewal).await.unwrap().lost, [(id, 1)]);
}
