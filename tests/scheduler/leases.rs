//! Leases, fences, rescue, cancels: what an execution may still do, and who has the request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tidings::{
    Backoff, CancellationCause, Context, ErrorReport, ErrorReporter, Event, Handler, HandlerError,
    HandlerRequestId, ReportKind, RequestState, SUSPECT_FROM_RESCUES, Scheduler,
    store::{LockMode, Storer},
};
use tokio::{sync::Notify, time::Instant};

use crate::rig::{Blocker, KINDS, Rig, config};

/// The handler tells that it runs, and which context it has; it ends when told.
#[derive(Clone, Default)]
struct Held {
    running: Arc<Notify>,
    go_on: Arc<Notify>,
    contexts: Arc<Mutex<Vec<Context>>>,
}

impl Held {
    fn handler(&self) -> Handler {
        let held = self.clone();
        Handler::new("held", move |_: Arc<Event>, context: Context| {
            let held = held.clone();
            async move {
                held.contexts.lock().push(context.clone());
                held.running.notify_one();
                held.go_on.notified().await;
                context.raise(Event::new("raised.event", &()).unwrap());
                Ok::<_, HandlerError>(())
            }
        })
        .on("thing.happened")
        .timeout(Duration::from_secs(24 * 3600))
    }

    fn context(&self, n: usize) -> Context {
        self.contexts.lock()[n].clone()
    }
}

async fn change(rig: &Rig, id: HandlerRequestId, what: &str) {
    let mut session = rig.store.session().await.unwrap();
    let mut requests = session.handler_requests();
    match what {
        "cancel" => requests.cancel(id).await.unwrap(),
        "reexecute" => requests.reexecute(id).await.unwrap(),
        other => panic!("{other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_is_not_stolen_while_its_process_renews() {
    for kind in KINDS {
        let rig = Rig::paused();
        let held = Held::default();
        let map = config([held.handler()]);
        let _scheduler = rig.scheduler(map.clone()).kind(kind).start().await;
        rig.raise("thing.happened").await;
        held.running.notified().await;
        let _other = rig.scheduler(map).kind(kind).start().await;
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(!held.context(0).is_canceled());
        held.go_on.notify_one();
        let request = rig.until_only(RequestState::Completed).await;
        assert_eq!(
            (request.attempt, request.rescues, request.executions),
            (1, 0, 1)
        );
    }
}

/// A renewal skips what a transaction has locked: the lease in the store runs out, and so does the
/// context's.
#[tokio::test(start_paused = true)]
async fn a_lease_that_a_lock_keeps_from_being_renewed_is_no_lease() {
    for kind in KINDS {
        let rig = Rig::paused();
        let held = Held::default();
        let map = config([held.handler()]);
        let _scheduler = rig.scheduler(map).kind(kind).start().await;
        rig.raise("thing.happened").await;
        held.running.notified().await;
        let begun = Instant::now();
        let mut holder = rig.store.begin().await.unwrap();
        let mut requests = holder.handler_requests();
        let id = rig.only().await.id;
        let found = requests.find_for_update(id, LockMode::Wait).await;
        assert!(found.unwrap().is_some());
        drop(requests);
        let context = held.context(0);
        let canceled = tokio::time::timeout(Duration::from_secs(60), context.canceled());
        assert_eq!(canceled.await, Ok(CancellationCause::LeaseExpired));
        assert!(begun.elapsed() <= Duration::from_secs(30));
        holder.rollback().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_locked_when_it_was_to_be_renewed_is_renewed_soon() {
    for kind in KINDS {
        let rig = Rig::paused();
        let held = Held::default();
        let map = config([held.handler()]);
        let _scheduler = rig.scheduler(map).kind(kind).start().await;
        rig.raise("thing.happened").await;
        held.running.notified().await;
        let before = rig.only().await;
        let mut holder = rig.store.begin().await.unwrap();
        let mut requests = holder.handler_requests();
        let found = requests.find_for_update(before.id, LockMode::Wait).await;
        assert!(found.unwrap().is_some());
        drop(requests);
        // Leases of 30 s are renewed every 10 s.
        tokio::time::sleep(Duration::from_secs(12)).await;
        assert_eq!(rig.only().await.lease, before.lease);
        holder.rollback().await.unwrap();
        tokio::time::sleep(Duration::from_secs(4)).await;
        let until = rig.only().await.lease.unwrap().until;
        assert!(until > before.lease.unwrap().until);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancel_while_executing_holds_at_once_and_reaches_the_context_at_the_next_renewal() {
    for kind in KINDS {
        let rig = Rig::paused();
        let held = Held::default();
        let scheduler = rig
            .scheduler(config([held.handler()]))
            .kind(kind)
            .start()
            .await;
        rig.raise("thing.happened").await;
        held.running.notified().await;
        change(&rig, rig.only().await.id, "cancel").await;
        let canceled = rig.only().await;
        let context = held.context(0);
        assert!(!context.is_canceled());
        let begun = Instant::now();
        assert_eq!(context.canceled().await, CancellationCause::Lost);
        assert!(begun.elapsed() <= Duration::from_secs(10));
        held.go_on.notify_one();
        scheduler.shutdown(Duration::from_secs(5)).await;
        assert_eq!(
            rig.only().await,
            canceled,
            "the execution's settlement and events are refused"
        );
        assert_eq!(
            rig.store
                .session()
                .await
                .unwrap()
                .events()
                .count_unprocessed()
                .await
                .unwrap(),
            0
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_reexecution_while_the_old_execution_runs_is_not_settled_by_it() {
    for kind in KINDS {
        let rig = Rig::paused();
        let held = Held::default();
        let scheduler = rig
            .scheduler(config([held.handler()]))
            .kind(kind)
            .start()
            .await;
        rig.raise("thing.happened").await;
        held.running.notified().await;
        let id = rig.only().await.id;
        change(&rig, id, "cancel").await;
        change(&rig, id, "reexecute").await;
        held.running.notified().await;
        assert_eq!(
            rig.only().await.attempt,
            4,
            "claim, cancel, reexecute, claim"
        );
        // Both run now; the first to end is the one that waited first: the old one.
        held.go_on.notify_one();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(
            rig.count(RequestState::Executing).await,
            1,
            "the zombie settled nothing"
        );
        held.go_on.notify_one();
        let request = rig.until_only(RequestState::Completed).await;
        assert_eq!((request.attempt, request.executions), (4, 1));
        scheduler.shutdown(Duration::from_secs(5)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_zombie_whose_lease_was_taken_changes_nothing() {
    for kind in KINDS {
        let rig = Rig::paused();
        let held = Held::default();
        // Its renewals fail from now on, as in a process that lost its network.
        let cut = CutOff::new(&rig);
        let zombie = rig
            .scheduler_on(cut.clone(), config([held.handler()]))
            .kind(kind)
            .start()
            .await;
        rig.raise("thing.happened").await;
        held.running.notified().await;
        cut.cut.store(true, Ordering::SeqCst);
        let other = rig
            .scheduler(config([held.handler()]))
            .kind(kind)
            .start()
            .await;
        let context = held.context(0);
        let begun = Instant::now();
        assert_eq!(context.canceled().await, CancellationCause::LeaseExpired);
        assert!(
            begun.elapsed() <= Duration::from_secs(30),
            "one lease after the last renewal was sent"
        );
        held.running.notified().await;
        assert!(begun.elapsed() <= Duration::from_secs(35), "lease + 5 s");
        cut.cut.store(false, Ordering::SeqCst);
        held.go_on.notify_one();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let request = rig.only().await;
        assert_eq!(
            request.state(request.created_at),
            RequestState::Executing,
            "the zombie settled nothing"
        );
        held.go_on.notify_one();
        let request = rig.until_only(RequestState::Completed).await;
        assert_eq!(
            (
                request.attempt,
                request.rescues,
                request.executions,
                request.errors
            ),
            (3, 1, 1, 0)
        );
        zombie.shutdown(Duration::from_secs(5)).await;
        other.shutdown(Duration::from_secs(5)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_expired_lease_that_nobody_took_may_still_settle() {
    let rig = Rig::paused();
    let held = Held::default();
    let cut = CutOff::new(&rig);
    let _scheduler = rig
        .scheduler_on(cut.clone(), config([held.handler()]))
        .start()
        .await;
    rig.raise("thing.happened").await;
    held.running.notified().await;
    cut.cut.store(true, Ordering::SeqCst);
    assert_eq!(
        held.context(0).canceled().await,
        CancellationCause::LeaseExpired
    );
    cut.cut.store(false, Ordering::SeqCst);
    held.go_on.notify_one();
    let request = rig.until_only(RequestState::Completed).await;
    assert_eq!((request.attempt, request.rescues), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_stops_when_its_lease_runs_out_counts_no_error_and_runs_again() {
    let rig = Rig::paused();
    let held = Held::default();
    let cut = CutOff::new(&rig);
    let (runs, told) = (Arc::new(AtomicU32::new(0)), held.clone());
    let counted = Arc::clone(&runs);
    let handler = Handler::new("stops", move |_: Arc<Event>, context: Context| {
        let is_first = counted.fetch_add(1, Ordering::SeqCst) == 0;
        told.running.notify_one();
        async move {
            if is_first {
                context.canceled().await;
                return Err(HandlerError::new("its connection is gone"));
            }
            Ok(())
        }
    });
    let map = config([handler.on("*").max_errors(1)]);
    let _scheduler = rig.scheduler_on(cut.clone(), map).start().await;
    rig.raise("thing.happened").await;
    held.running.notified().await;
    cut.cut.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(40)).await;
    cut.cut.store(false, Ordering::SeqCst);
    let request = rig.until_only(RequestState::Completed).await;
    assert_eq!(request.errors, 0, "{request:?}");
    assert_eq!(runs.load(Ordering::SeqCst), 2);
}

#[test]
fn handlers_that_block_every_thread_keep_their_leases() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let rig = Rig::real();
    let blocker = Blocker::default();
    let started = Arc::new(AtomicU32::new(0));
    let (blocks, counts) = (blocker.clone(), Arc::clone(&started));
    let handler = Handler::new("blocks", move |_: Arc<Event>, _: Context| {
        counts.fetch_add(1, Ordering::SeqCst);
        blocks.block();
        async { Ok::<_, HandlerError>(()) }
    });
    let map = config([handler.on("*")]);
    let lease = Duration::from_millis(400);
    let _scheduler = runtime.block_on(async {
        let scheduler = rig
            .scheduler(map.clone())
            .workers(4)
            .lease(lease)
            .start()
            .await;
        rig.raise_many("thing.happened", 2).await;
        scheduler
    });
    // A second process, on threads of its own, that would rescue what is not renewed.
    let other = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let renewed = other.block_on(async {
        while started.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        let _other = rig.scheduler(map).workers(1).lease(lease).start().await;
        let first = rig
            .requests()
            .await
            .iter()
            .filter_map(|r| r.lease.map(|lease| lease.until))
            .max()
            .unwrap();
        let mut renewed = first;
        while renewed < first + lease * 4 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let leases = rig.requests().await;
            assert!(
                leases
                    .iter()
                    .all(|request| request.rescues == 0 && request.attempt == 1),
                "{leases:#?}"
            );
            renewed = leases
                .iter()
                .filter_map(|r| r.lease.map(|lease| lease.until))
                .min()
                .unwrap();
        }
        renewed
    });
    assert!(renewed > chrono::Utc::now() - lease);
    blocker.release();
    runtime.block_on(rig.until_completed(2));
    assert_eq!(started.load(Ordering::SeqCst), 2, "each ran once");
}

#[derive(Clone, Default)]
struct Heard(Arc<(Mutex<Vec<ErrorReport>>, Notify)>);

#[async_trait]
impl ErrorReporter for Heard {
    async fn report(&self, report: ErrorReport) -> bool {
        self.0.0.lock().push(report);
        self.0.1.notify_waiters();
        true
    }
}

#[test]
fn a_handler_that_blocks_its_thread_past_its_timeout_is_reported_and_no_longer_renewed() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(3)
        .enable_all()
        .build()
        .unwrap();
    let rig = Rig::real();
    let (blocker, heard) = (Blocker::default(), Heard::default());
    let blocks = blocker.clone();
    let first = Arc::new(AtomicBool::new(true));
    let handler = Handler::new("blocks", move |_: Arc<Event>, _: Context| {
        if first.swap(false, Ordering::SeqCst) {
            blocks.block();
        }
        async { Ok::<_, HandlerError>(()) }
    });
    let map = config([handler.on("*").timeout(Duration::from_millis(200))]);
    runtime.block_on(async {
        let _scheduler = rig
            .scheduler(map)
            .lease(Duration::from_millis(400))
            .reporter(Arc::new(heard.clone()))
            .start()
            .await;
        rig.raise("thing.happened").await;
        let request = rig.until_only(RequestState::Completed).await;
        assert_eq!(
            (request.rescues, request.executions),
            (1, 1),
            "somebody else ran it"
        );
        let reports = heard.0.0.lock().clone();
        assert_eq!(
            reports.iter().map(|report| report.kind).collect::<Vec<_>>(),
            [ReportKind::Stuck]
        );
        blocker.release();
    });
    let request = runtime.block_on(rig.only());
    assert_eq!(
        request.executions, 1,
        "the stuck one's settlement is refused"
    );
}

/// Simulates processes that die with what they hold: a scheduler is dropped while it executes.
async fn crash(rig: &Rig, map: &tidings::ConfigMap, running: &Notify, heard: &Heard) {
    let scheduler: Box<dyn Scheduler> = rig
        .scheduler(map.clone())
        .reporter(Arc::new(heard.clone()))
        .start()
        .await;
    running.notified().await;
    drop(scheduler);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_kills_its_processes_ends_dead_and_is_reported() {
    let rig = Rig::paused();
    let running = Arc::new(Notify::new());
    let heard = Heard::default();
    let told = Arc::clone(&running);
    let killer = Handler::new("killer", move |_: Arc<Event>, _: Context| {
        told.notify_one();
        std::future::pending::<Result<(), HandlerError>>()
    });
    let killer = killer
        .on("*")
        .max_errors(2)
        .timeout(Duration::from_secs(3600))
        .backoff(Backoff::default());
    let map = config([killer]);
    rig.raise("thing.happened").await;
    for n in 0..SUSPECT_FROM_RESCUES {
        crash(&rig, &map, &running, &heard).await;
        let request = rig.only().await;
        assert_eq!(
            (request.rescues, request.errors),
            (n, 0),
            "a rescue counts no error"
        );
    }
    for errors in 0..2 {
        crash(&rig, &map, &running, &heard).await;
        let request = rig.only().await;
        assert_eq!(
            (request.rescues, request.errors),
            (SUSPECT_FROM_RESCUES + errors, errors)
        );
        assert_eq!(
            request.executions,
            errors + 1,
            "the start is committed before it runs"
        );
    }
    let last = rig
        .scheduler(map)
        .reporter(Arc::new(heard.clone()))
        .start()
        .await;
    let request = rig.until_only(RequestState::Dead).await;
    assert_eq!(
        (request.errors, request.rescues),
        (2, SUSPECT_FROM_RESCUES + 2)
    );
    assert!(request.last_errors[1].message.contains("worker lost"));
    last.shutdown(Duration::from_secs(5)).await;
    let reports = heard.0.0.lock().clone();
    let facts: Vec<_> = reports
        .iter()
        .map(|r| (r.kind, r.errors, r.is_final))
        .collect();
    assert_eq!(
        facts,
        [
            (ReportKind::WorkerLost, 1, false),
            (ReportKind::WorkerLost, 2, true)
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn suspects_that_cannot_be_claimed_stop_no_other_claim() {
    use tidings::faulty::{Fault, FaultyStorer, Operation};
    for kind in KINDS {
        let rig = Rig::paused();
        let store = Arc::new(FaultyStorer::new(Arc::new(rig.store.clone())));
        store
            .faults()
            .inject_always(Operation::ClaimSuspect, Fault::Refuse);
        let handler = Handler::new("fails", |_: Arc<Event>, context: Context| async move {
            if context.errors() == 0 {
                return Err(HandlerError::new("once"));
            }
            Ok(())
        });
        let handler = handler
            .on("*")
            .backoff(Backoff::constant(Duration::from_secs(1)));
        let map = config([handler]);
        let _scheduler = rig.scheduler_on(store, map).kind(kind).start().await;
        rig.raise_many("thing.happened", 100).await;
        rig.until_completed(100).await;
    }
}

#[tokio::test(start_paused = true)]
async fn requests_under_suspicion_run_one_at_a_time() {
    let rig = Rig::paused();
    let (now, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let begun = Arc::new(AtomicU32::new(0));
    let (begins, current, peak) = (Arc::clone(&begun), Arc::clone(&now), Arc::clone(&most));
    let handler = Handler::new("innocent", move |_: Arc<Event>, context: Context| {
        let (begins, current, peak) =
            (Arc::clone(&begins), Arc::clone(&current), Arc::clone(&peak));
        async move {
            if context.rescues() < SUSPECT_FROM_RESCUES {
                begins.fetch_add(1, Ordering::SeqCst);
                std::future::pending::<()>().await;
            }
            peak.fetch_max(current.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // Longer than a poll, which looks for another one.
            tokio::time::sleep(Duration::from_secs(12)).await;
            current.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, HandlerError>(())
        }
    });
    let map = config([handler.on("*")]);
    rig.raise_many("thing.happened", 6).await;
    for round in 1..=SUSPECT_FROM_RESCUES {
        let scheduler = rig.scheduler(map.clone()).start().await;
        rig.until("all run", |_| {
            let begun = Arc::clone(&begun);
            async move { begun.load(Ordering::SeqCst) == 6 * round }
        })
        .await;
        drop(scheduler);
    }
    let _scheduler = rig.scheduler(map).start().await;
    rig.until_completed(6).await;
    assert_eq!(most.load(Ordering::SeqCst), 1);
    assert!(
        rig.requests()
            .await
            .iter()
            .all(|request| request.errors == 0 && request.rescues == 3)
    );
}

use cut_off::CutOff;

/// A store whose connections can be cut for one process.
mod cut_off {
    use super::*;
    use tidings::{
        Result, Signals, StoreError,
        store::{
            Capabilities, ConnectionType, LeaseRenewer, Renewal, Renewed, Session, Transaction,
        },
    };

    #[derive(Debug)]
    pub(super) struct CutOff {
        inner: Arc<dyn Storer>,
        pub(super) cut: Arc<AtomicBool>,
    }

    impl CutOff {
        pub(super) fn new(rig: &Rig) -> Arc<Self> {
            Arc::new(Self {
                inner: Arc::new(rig.store.clone()),
                cut: Arc::default(),
            })
        }
    }

    fn check(cut: &AtomicBool) -> Result<()> {
        if cut.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable {
                operation: "test",
                source: None,
            });
        }
        Ok(())
    }

    struct Renewer(Box<dyn LeaseRenewer>, Arc<AtomicBool>);

    #[async_trait]
    impl LeaseRenewer for Renewer {
        async fn renew(&mut self, renewal: &Renewal) -> Result<Renewed> {
            check(&self.1)?;
            self.0.renew(renewal).await
        }
    }

    #[async_trait]
    impl Storer for CutOff {
        async fn session(&self) -> Result<Box<dyn Session>> {
            check(&self.cut)?;
            self.inner.session().await
        }

        async fn begin(&self) -> Result<Box<dyn Transaction>> {
            check(&self.cut)?;
            self.inner.begin().await
        }

        async fn lease_renewer(&self) -> Result<Box<dyn LeaseRenewer>> {
            check(&self.cut)?;
            Ok(Box::new(Renewer(
                self.inner.lease_renewer().await?,
                Arc::clone(&self.cut),
            )))
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
}
