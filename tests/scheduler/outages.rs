//! Stores that fail, hang, refuse, or lose their answers: nothing is lost, nothing that was settled
//! runs again, and no restart is needed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tidings::{
    Backoff, Context, Event, EventPattern, Handler, HandlerError, HandlerResult, MemoryConnection,
    Priority, Registration, RequestState, SchedulerState,
    faulty::{Fault, Faults, FaultyStorer, Operation},
    store::{EventFilter, FanOut, Storer},
};
use tokio::time::Instant;

use crate::rig::{KINDS, Kind, Rig, config};

/// A scheduler on a store that fails on demand, and a count of its handler's runs.
struct Outage {
    rig: Rig,
    store: Arc<FaultyStorer>,
    faults: Faults,
    runs: Arc<AtomicU32>,
    kind: Kind,
}

impl Outage {
    fn new(kind: Kind) -> Self {
        let rig = Rig::paused();
        let store = Arc::new(FaultyStorer::new(Arc::new(rig.store.clone())));
        let faults = store.faults();
        Self {
            rig,
            store,
            faults,
            runs: Arc::default(),
            kind,
        }
    }

    fn handler(&self) -> Handler {
        let runs = Arc::clone(&self.runs);
        Handler::new("counts", move |_: Arc<Event>, _: Context| {
            runs.fetch_add(1, Ordering::SeqCst);
            async { Ok::<_, HandlerError>(()) }
        })
        .on("thing.*")
    }

    /// Fast enough to be claimed in numbers, slow enough to be found in the buffer.
    fn slow_handler(&self) -> Handler {
        let runs = Arc::clone(&self.runs);
        Handler::new("slow", move |_: Arc<Event>, _: Context| {
            runs.fetch_add(1, Ordering::SeqCst);
            async {
                tokio::time::sleep(Duration::from_millis(1)).await;
                Ok::<_, HandlerError>(())
            }
        })
        .on("thing.*")
    }

    fn build(&self, handler: Handler) -> Box<dyn tidings::Scheduler> {
        self.rig
            .scheduler_on(self.store.clone(), config([handler]))
            .kind(self.kind)
            .build()
    }

    async fn start(&self) -> Box<dyn tidings::Scheduler> {
        let scheduler = self.build(self.handler());
        scheduler.start().await.unwrap();
        scheduler
    }

    fn runs(&self) -> u32 {
        self.runs.load(Ordering::SeqCst)
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_waits_for_the_store_and_a_shutdown_ends_the_wait() {
    for kind in KINDS {
        let outage = Outage::new(kind);
        outage.faults.inject_everywhere(Fault::Fail);
        let scheduler: Arc<dyn tidings::Scheduler> = Arc::from(outage.build(outage.handler()));
        let starting = tokio::spawn({
            let scheduler = Arc::clone(&scheduler);
            async move { scheduler.start().await }
        });
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(scheduler.status().state, SchedulerState::Starting);
        assert!(
            scheduler
                .status()
                .store_error
                .unwrap()
                .contains("cannot be reached")
        );
        assert!(!scheduler.is_operational());
        outage.faults.heal_all();
        let healed = Instant::now();
        starting.await.unwrap().unwrap();
        assert!(healed.elapsed() <= Duration::from_secs(1));
        assert!(scheduler.is_operational());

        let outage = Outage::new(kind);
        outage.faults.inject_everywhere(Fault::Fail);
        let scheduler: Arc<dyn tidings::Scheduler> = Arc::from(outage.build(outage.handler()));
        let starting = tokio::spawn({
            let scheduler = Arc::clone(&scheduler);
            async move { scheduler.start().await }
        });
        tokio::time::sleep(Duration::from_secs(10)).await;
        scheduler.shutdown(Duration::from_secs(1)).await;
        let ended = starting.await.unwrap();
        assert!(
            matches!(ended, Err(tidings::SchedulerError::Stopped)),
            "{ended:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn after_an_hours_outage_work_goes_on_within_a_second_without_a_restart() {
    for kind in KINDS {
        for fault in [Fault::Fail, Fault::Block] {
            let outage = Outage::new(kind);
            let scheduler = outage.start().await;
            outage.rig.raise("thing.happened").await;
            outage.rig.until_completed(1).await;
            outage.faults.inject_everywhere(fault);
            outage.rig.raise_many("thing.happened", 100).await;
            tokio::time::sleep(Duration::from_secs(3600)).await;
            assert!(!scheduler.is_operational());
            assert_eq!(outage.runs(), 1);
            outage.faults.heal_all();
            let healed = Instant::now();
            outage.rig.until_completed(101).await;
            assert!(
                healed.elapsed() <= Duration::from_secs(2),
                "{kind:?} {fault:?}: {:?}",
                healed.elapsed()
            );
            assert_eq!(outage.runs(), 101, "nothing runs twice");
            assert!(
                outage
                    .rig
                    .requests()
                    .await
                    .iter()
                    .all(|request| request.errors == 0)
            );
            assert!(scheduler.is_operational());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_whose_future_is_dropped_strands_nothing() {
    for kind in KINDS {
        let outage = Outage::new(kind);
        let scheduler = outage.build(outage.slow_handler());
        scheduler.start().await.unwrap();
        outage.rig.raise_many("thing.happened", 500).await;
        outage
            .rig
            .until("some run", |rig| async move {
                rig.count(RequestState::Executing).await > 0
            })
            .await;
        outage
            .faults
            .inject_always(Operation::HandBack, Fault::Block);
        let pause = tokio::time::timeout(Duration::from_millis(10), scheduler.pause()).await;
        drop(pause);
        scheduler.resume().await.unwrap();
        outage.faults.heal_all();
        outage.rig.until_completed(500).await;
        assert_eq!(outage.runs(), 500);
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_asks_the_store_a_few_times_a_second_at_most() {
    for kind in KINDS {
        let outage = Outage::new(kind);
        let _scheduler = outage.start().await;
        outage.faults.inject_everywhere(Fault::Fail);
        outage.rig.raise("thing.happened").await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let before = outage.faults.calls(Operation::Session);
        tokio::time::sleep(Duration::from_secs(100)).await;
        let calls = outage.faults.calls(Operation::Session) - before;
        assert!(calls <= 500, "{kind:?}: {calls} in 100 s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_settlement_that_fails_or_whose_answer_is_lost_does_not_run_the_handler_again() {
    for kind in KINDS {
        for (fault, times) in [
            (Fault::Fail, 20),
            (Fault::LoseAnswer, 1),
            (Fault::LoseAnswer, 3),
            (Fault::BlockAnswer, 1),
        ] {
            let outage = Outage::new(kind);
            let scheduler = outage.start().await;
            outage.faults.inject(Operation::Settle, fault, times);
            outage.rig.raise_many("thing.happened", 10).await;
            tokio::time::sleep(Duration::from_secs(25)).await;
            outage.faults.heal_all();
            outage.rig.until_completed(10).await;
            assert_eq!(outage.runs(), 10, "{kind:?} {fault:?}");
            assert!(outage.rig.requests().await.iter().all(|request| {
                (request.executions, request.errors, request.rescues) == (1, 0, 0)
            }));
            let report = scheduler.shutdown(Duration::from_secs(5)).await;
            assert_eq!(report.abandoned, 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_settlement_is_found_by_halving_and_costs_its_neighbours_nothing() {
    for kind in KINDS {
        let outage = Outage::new(kind);
        let handler = outage.handler().max_errors(1);
        let scheduler = outage.build(handler);
        // All four, the first two, the first: then the culprit is alone.
        outage.faults.inject(Operation::Settle, Fault::Refuse, 3);
        let ids = outage.rig.raise_many("thing.happened", 4).await;
        scheduler.start().await.unwrap();
        outage.rig.until_all_ended().await;
        for request in outage.rig.requests().await {
            if request.event_id == ids[0] {
                assert!(request.dead_at.is_some());
                assert!(
                    request.last_errors[0]
                        .message
                        .contains("its settlement was refused"),
                    "{request:?}"
                );
                assert!(request.last_errors[0].message.contains("refused on demand"));
            } else {
                assert!(request.completed_at.is_some(), "{request:?}");
                assert_eq!(request.errors, 0);
            }
        }
        assert_eq!(outage.runs(), 4);
    }
}

#[tokio::test(start_paused = true)]
async fn requests_whose_claim_or_fan_out_lost_its_answer_run_after_their_lease() {
    for kind in KINDS {
        for operation in [Operation::FanOut, Operation::Claim] {
            let outage = Outage::new(kind);
            let scheduler = outage.build(outage.handler());
            if operation == Operation::Claim {
                // Born ready, and then claimed.
                let other = outage
                    .rig
                    .scheduler(config([outage.handler()]))
                    .start()
                    .await;
                other.pause().await.unwrap();
                other.shutdown(Duration::from_secs(1)).await;
                let fan_out = FanOut::due(10);
                outage.rig.raise("thing.happened").await;
                let mut session = outage.rig.store.session().await.unwrap();
                session.events().fan_out(&fan_out).await.unwrap();
            } else {
                outage.rig.raise("thing.happened").await;
            }
            outage.faults.inject(operation, Fault::LoseAnswer, 1);
            let begun = Instant::now();
            scheduler.start().await.unwrap();
            let request = outage.rig.until_only(RequestState::Completed).await;
            assert_eq!(
                (request.errors, outage.runs()),
                (0, 1),
                "{kind:?} {operation:?}"
            );
            assert_eq!(request.rescues, 1, "{kind:?} {operation:?}");
            assert!(
                begun.elapsed() <= Duration::from_secs(35),
                "{kind:?} {operation:?}: {:?}",
                begun.elapsed()
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_fails_or_whose_answer_is_lost_writes_exactly_once() {
    async fn writes(
        state: (tidings::Raiser, Arc<AtomicU32>),
        _: Arc<Event>,
        _: Context,
        connection: &mut MemoryConnection,
    ) -> HandlerResult {
        state.1.fetch_add(1, Ordering::SeqCst);
        state
            .0
            .raise(connection, Event::new("written.row", &json!({}))?)
            .await?;
        Ok(())
    }
    for kind in KINDS {
        for (fault, runs) in [
            (Fault::LoseAnswer, 1),
            (Fault::Fail, 2),
            (Fault::BlockAnswer, 1),
            (Fault::Block, 2),
            (Fault::Refuse, 2),
        ] {
            let outage = Outage::new(kind);
            let state = (outage.rig.store.raiser(), Arc::clone(&outage.runs));
            let handler = Handler::transactional_with_state("writes", state, writes)
                .on("thing.*")
                .backoff(Backoff::constant(Duration::from_secs(1)));
            let scheduler = outage.build(handler);
            scheduler.start().await.unwrap();
            outage.faults.inject(Operation::Commit, fault, 1);
            outage.rig.raise("thing.happened").await;
            let request = outage.rig.until_only(RequestState::Completed).await;
            let filter = EventFilter::default().named(["written.row"]);
            let rows = outage
                .rig
                .store
                .session()
                .await
                .unwrap()
                .events()
                .count(&filter)
                .await
                .unwrap();
            assert_eq!(rows, 1, "{kind:?} {fault:?}");
            assert_eq!(outage.runs(), runs, "{kind:?} {fault:?}");
            let errors = u32::from(fault == Fault::Refuse);
            assert_eq!(
                (request.errors, request.rescues),
                (errors, 0),
                "{kind:?} {fault:?}"
            );
        }
    }
}

/// A renewal takes what the commit has settled for lost, which ends the wait for the store's answer.
#[tokio::test(start_paused = true)]
async fn a_commit_whose_answer_was_lost_is_looked_for_once_more_after_the_lease() {
    async fn nothing(_: Arc<Event>, _: Context, _: &mut MemoryConnection) -> HandlerResult {
        Ok(())
    }
    for kind in KINDS {
        let outage = Outage::new(kind);
        let handler = Handler::transactional("nothing", nothing).on("thing.*");
        // The first look is given up after the first renewal, which is after 10 s.
        let wanted = outage
            .rig
            .scheduler_on(outage.store.clone(), config([handler]));
        let _scheduler = wanted
            .kind(kind)
            .call_timeout(Duration::from_secs(12))
            .start()
            .await;
        let look = Operation::FindRequestForUpdate;
        outage
            .faults
            .inject(Operation::Commit, Fault::LoseAnswer, 1);
        outage.faults.inject(look, Fault::Block, 1);
        outage.rig.raise("thing.happened").await;
        outage.rig.until_only(RequestState::Completed).await;
        outage.faults.until_blocked(look, 1).await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(outage.faults.calls(look), 2, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fan_out_that_fails_after_the_hooks_is_made_again_while_its_claims_hold() {
    for kind in KINDS {
        let outage = Outage::new(kind);
        let wanted = outage
            .rig
            .scheduler_on(outage.store.clone(), config([outage.handler()]));
        let passes = |_: tidings::ProcessContext| async { Ok(()) };
        let _scheduler = wanted.kind(kind).before_process(passes).start().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        outage.faults.inject(Operation::FanOut, Fault::Fail, 3);
        outage.rig.raise("thing.happened").await;
        let begun = Instant::now();
        outage.rig.until_completed(1).await;
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(10), "{kind:?}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn rescue_waits_until_live_owners_could_renew_after_an_outage() {
    let outage = Outage::new(Kind::Concurrent);
    let rig = &outage.rig;
    let slow = Handler::new("slow", |_: Arc<Event>, context: Context| async move {
        // It does not heed its context, as its work cannot be undone.
        tokio::time::sleep(Duration::from_secs(200)).await;
        assert_eq!(context.rescues(), 0, "nobody else has it");
        Ok::<_, HandlerError>(())
    });
    let map = config([slow.on("*")]);
    let _one = rig
        .scheduler_on(outage.store.clone(), map.clone())
        .start()
        .await;
    let _two = rig.scheduler_on(outage.store.clone(), map).start().await;
    rig.raise_many("thing.happened", 10).await;
    rig.until("all run", |rig| async move {
        rig.count(RequestState::Executing).await == 10
    })
    .await;
    // Longer than the lease: all leases have run out when the store is back.
    outage.faults.inject_everywhere(Fault::Fail);
    tokio::time::sleep(Duration::from_secs(120)).await;
    outage.faults.heal_all();
    rig.until_completed(10).await;
    let requests = rig.requests().await;
    assert!(
        requests
            .iter()
            .all(|request| (request.rescues, request.executions) == (0, 1)),
        "{requests:#?}"
    );
}

#[tokio::test(start_paused = true)]
async fn work_that_no_wake_up_told_of_is_found_by_the_next_poll() {
    for kind in KINDS {
        let outage = Outage::new(kind);
        let wanted = outage
            .rig
            .scheduler_on(outage.store.clone(), config([outage.handler()]));
        let _scheduler = wanted
            .kind(kind)
            .poll_interval(Duration::from_secs(60))
            .start()
            .await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        // The wake-up comes while the store is away, and the loop has backed off when it is back.
        outage.faults.inject(Operation::FanOut, Fault::Fail, 1);
        outage.rig.raise("thing.happened").await;
        let begun = Instant::now();
        outage.rig.until_completed(1).await;
        assert!(begun.elapsed() <= Duration::from_secs(60), "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_is_given_up_and_made_again() {
    for kind in KINDS {
        let outage = Outage::new(kind);
        let wanted = outage
            .rig
            .scheduler_on(outage.store.clone(), config([outage.handler()]));
        let scheduler = wanted
            .kind(kind)
            .call_timeout(Duration::from_secs(3))
            .start()
            .await;
        outage.faults.inject(Operation::FanOut, Fault::Block, 1);
        outage.rig.raise("thing.happened").await;
        let begun = Instant::now();
        outage.rig.until_completed(1).await;
        let took = begun.elapsed();
        assert!(
            took >= Duration::from_secs(3) && took <= Duration::from_secs(5),
            "{kind:?}: {took:?}"
        );
        assert!(scheduler.is_operational());
    }
}

#[tokio::test(start_paused = true)]
async fn a_fan_out_that_hangs_holds_up_no_claim() {
    let outage = Outage::new(Kind::Concurrent);
    let fails_once = Handler::new("fails", |_: Arc<Event>, context: Context| async move {
        if context.errors() == 0 {
            return Err(HandlerError::new("once"));
        }
        Ok(())
    });
    let handler = fails_once
        .on("thing.*")
        .backoff(Backoff::constant(Duration::from_secs(2)));
    let scheduler = outage.build(handler);
    scheduler.start().await.unwrap();
    outage.rig.raise_many("thing.happened", 100).await;
    outage
        .rig
        .until("all back off", |rig| async move {
            rig.count(RequestState::BackingOff).await == 100
        })
        .await;
    outage.faults.inject_always(Operation::FanOut, Fault::Block);
    outage.rig.raise("thing.happened").await;
    outage.faults.until_blocked(Operation::FanOut, 1).await;
    let begun = Instant::now();
    outage.rig.until_completed(100).await;
    assert!(
        begun.elapsed() <= Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_settlement_too_large_for_its_time_limit_is_made_smaller() {
    for kind in KINDS {
        let outage = Outage::new(kind);
        let scheduler = outage.build(outage.handler());
        // The first three tries, of ever smaller batches, hang.
        outage.faults.inject(
            Operation::Settle,
            Fault::Delay(Duration::from_secs(3600)),
            3,
        );
        outage.rig.raise_many("thing.happened", 8).await;
        scheduler.start().await.unwrap();
        outage.rig.until_completed(8).await;
        assert_eq!(outage.runs(), 8);
        assert!(outage.faults.calls(Operation::Settle) >= 5);
        assert!(
            outage
                .rig
                .requests()
                .await
                .iter()
                .all(|request| request.rescues == 0)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn one_locked_row_holds_up_no_other_settlement() {
    for kind in KINDS {
        let outage = Outage::new(kind);
        let scheduler = outage.build(outage.slow_handler());
        scheduler.start().await.unwrap();
        scheduler.pause().await.unwrap();
        outage.rig.raise_many("thing.happened", 101).await;
        let fan_out = FanOut::due(1000);
        let mut session = outage.rig.store.session().await.unwrap();
        session.events().fan_out(&fan_out).await.unwrap();
        drop(session);
        scheduler.resume().await.unwrap();
        outage
            .rig
            .until("some run", |rig| async move {
                rig.count(RequestState::Executing).await > 0
            })
            .await;
        let executing = outage.rig.requests().await;
        let locked = executing
            .iter()
            .find(|request| request.lease.is_some())
            .unwrap()
            .id;
        let mut transaction = outage.rig.store.begin().await.unwrap();
        let lock = tidings::store::LockMode::Wait;
        transaction
            .handler_requests()
            .find_for_update(locked, lock)
            .await
            .unwrap();
        outage.rig.until_completed(100).await;
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(outage.rig.count(RequestState::Completed).await, 100);
        transaction.rollback().await.unwrap();
        outage.rig.until_completed(101).await;
        // The locked one could not be renewed: if a rescue comes before its settlement, it runs again.
        let others = outage.rig.requests().await;
        let mut others = others.iter().filter(|request| request.id != locked);
        assert!(others.all(|request| (request.attempt, request.executions) == (1, 1)));
        assert!(matches!(outage.runs(), 101 | 102), "{kind:?}");
        let report = scheduler.shutdown(Duration::from_secs(5)).await;
        assert_eq!(report.abandoned, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fan_out_that_fails_for_good_stops_no_claim() {
    for kind in KINDS {
        let outage = Outage::new(kind);
        let fails_once = Handler::new("fails", |_: Arc<Event>, context: Context| async move {
            if context.errors() == 0 {
                return Err(HandlerError::new("once"));
            }
            Ok(())
        });
        let handler = fails_once
            .on("thing.*")
            .backoff(Backoff::constant(Duration::from_secs(2)));
        let scheduler = outage.build(handler);
        scheduler.start().await.unwrap();
        outage.rig.raise_many("thing.happened", 10).await;
        outage
            .rig
            .until("all back off", |rig| async move {
                rig.count(RequestState::BackingOff).await == 10
            })
            .await;
        outage
            .faults
            .inject_always(Operation::FanOut, Fault::Refuse);
        outage.rig.until_completed(10).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_veto_that_cannot_be_stored_holds_up_no_other_event() {
    use tidings::ProcessContext;
    for kind in KINDS {
        let outage = Outage::new(kind);
        let wanted = outage
            .rig
            .scheduler_on(outage.store.clone(), config([outage.handler()]));
        let veto = |context: ProcessContext| async move {
            if context.event.data.as_str().contains('3') {
                return Err(HandlerError::new("not this one"));
            }
            Ok(())
        };
        outage
            .faults
            .inject_always(Operation::FailEvents, Fault::Refuse);
        outage.rig.raise_many("thing.happened", 6).await;
        let _scheduler = wanted.kind(kind).before_process(veto).start().await;
        outage.rig.until_completed(5).await;
    }
}

#[test]
fn after_its_runtime_is_gone_a_scheduler_renews_nothing() {
    let rig = Rig::real();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let handler = Handler::new("never", |_: Arc<Event>, _: Context| {
        std::future::pending::<HandlerResult>()
    });
    let map = config([handler.on("*").concurrency(1)]);
    let lease = Duration::from_millis(300);
    let scheduler = runtime.block_on(async {
        let scheduler = rig.scheduler(map).workers(1).lease(lease).start().await;
        rig.raise_many("thing.happened", 5).await;
        rig.until("one runs", |rig| async move {
            rig.count(RequestState::Executing).await > 0
        })
        .await;
        scheduler
    });
    drop(runtime);
    let other = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let good = Handler::new("never", |_: Arc<Event>, _: Context| async {
        Ok::<_, HandlerError>(())
    });
    other.block_on(async {
        let _other = rig
            .scheduler(config([good.on("*")]))
            .lease(lease)
            .start()
            .await;
        rig.until_completed(5).await;
    });
    drop(scheduler);
}

/// More requests than one batch takes, which a process left that died in the middle of a rename.
#[tokio::test(start_paused = true)]
async fn a_rename_that_was_broken_off_goes_on_with_the_start_of_any_process_and_holds_up_none() {
    const REQUESTS: u32 = 1100;
    for kind in KINDS {
        let outage = Outage::new(kind);
        let old = Registration::new(
            EventPattern::parse("thing.*").unwrap(),
            "old".into(),
            Priority::default(),
            5,
        );
        let mut session = outage.rig.store.session().await.unwrap();
        session.registrations().register(&[old]).await.unwrap();
        let events: Vec<_> = (0..REQUESTS)
            .map(|_| Event::new("thing.happened", &()).unwrap())
            .collect();
        session.events().raise(&events).await.unwrap();
        let all = FanOut::due(events.len());
        session.events().fan_out(&all).await.unwrap();
        let mut registrations = session.registrations();
        let (from, to) = ("old".into(), "counts".into());
        registrations.rename(&from, &to).await.unwrap();
        drop(registrations);
        outage
            .faults
            .inject_always(Operation::RenameRequests, Fault::Block);
        let _scheduler = outage.start().await;
        // What is new is handled meanwhile.
        outage.rig.raise("thing.happened").await;
        outage.rig.until_completed(1).await;
        assert_eq!(outage.runs(), 1);
        outage.faults.heal(Operation::RenameRequests);
        outage
            .faults
            .inject(Operation::RenameRequests, Fault::LoseAnswer, 1);
        outage.rig.until_completed(u64::from(1 + REQUESTS)).await;
        assert_eq!(outage.runs(), 1 + REQUESTS);
    }
}
