//! Shutdown at every stage and under load: nothing is lost, no error is counted, the deadline holds.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tidings::{
    CancellationCause, Context, Event, Handler, HandlerError, ProcessContext, RequestState,
    SchedulerState,
};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};

use crate::rig::{Blocker, KINDS, Rig, config};

#[tokio::test(start_paused = true)]
async fn running_handlers_are_waited_for_and_the_rest_is_handed_back() {
    for kind in KINDS {
        let rig = Rig::paused();
        let handler = Handler::new("slow", |_: Arc<Event>, _: Context| async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            Ok::<_, HandlerError>(())
        });
        let scheduler = rig
            .scheduler(config([handler.on("*").concurrency(4)]))
            .kind(kind)
            .workers(4)
            .start()
            .await;
        rig.raise_many("thing.happened", 100).await;
        rig.until("four run", |rig| async move {
            rig.count(RequestState::Executing).await == 4
        })
        .await;
        let report = scheduler.shutdown(Duration::from_secs(60)).await;
        assert_eq!(report.abandoned, 0);
        assert_eq!(rig.count(RequestState::Completed).await, 4, "{kind:?}");
        assert_eq!(
            rig.count(RequestState::Executing).await,
            0,
            "no lease is left behind, {kind:?}"
        );
        assert!(
            rig.requests()
                .await
                .iter()
                .all(|request| request.errors == 0)
        );
        assert_eq!(scheduler.status().state, SchedulerState::Stopped);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_never_ends_is_told_dropped_and_handed_back_by_the_deadline() {
    for kind in KINDS {
        let rig = Rig::paused();
        let running = Arc::new(Notify::new());
        let dropped = Arc::new(AtomicU32::new(0));
        struct CountDrop(Arc<AtomicU32>);
        impl Drop for CountDrop {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let causes = Arc::new(Mutex::new(Vec::new()));
        let (told, drops, heard) = (
            Arc::clone(&running),
            Arc::clone(&dropped),
            Arc::clone(&causes),
        );
        let handler = Handler::new("never", move |_: Arc<Event>, context: Context| {
            let (told, drops, heard) = (
                Arc::clone(&told),
                CountDrop(Arc::clone(&drops)),
                Arc::clone(&heard),
            );
            tokio::spawn(async move {
                let cause = context.canceled().await;
                heard.lock().push(cause);
            });
            async move {
                let _drops = drops;
                told.notify_one();
                std::future::pending::<()>().await;
                Ok::<_, HandlerError>(())
            }
        });
        let scheduler = rig
            .scheduler(config([handler.on("*")]))
            .kind(kind)
            .start()
            .await;
        rig.raise("thing.happened").await;
        running.notified().await;
        let begun = Instant::now();
        let report = scheduler.shutdown(Duration::from_secs(10)).await;
        assert!(
            begun.elapsed() <= Duration::from_secs(10),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!((report.handed_back, report.abandoned), (1, 0));
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
        tokio::task::yield_now().await;
        assert_eq!(*causes.lock(), [CancellationCause::Shutdown]);
        let request = rig.only().await;
        assert_eq!(
            request.state(request.created_at),
            RequestState::Pending,
            "at once for others"
        );
        assert_eq!((request.errors, request.rescues), (0, 0));
    }
}

#[test]
fn a_handler_that_blocks_its_thread_is_abandoned_at_the_deadline_and_rescued_later() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(3)
        .enable_all()
        .build()
        .unwrap();
    let rig = Rig::real();
    let blocker = Blocker::default();
    let running = Arc::new(Notify::new());
    let (blocks, told) = (blocker.clone(), Arc::clone(&running));
    let handler = Handler::new("blocks", move |_: Arc<Event>, context: Context| {
        told.notify_one();
        if context.rescues() == 0 {
            blocks.block();
        }
        async { Ok::<_, HandlerError>(()) }
    });
    let map = config([handler.on("*")]);
    let lease = Duration::from_millis(500);
    runtime.block_on(async {
        let scheduler = rig.scheduler(map.clone()).lease(lease).start().await;
        rig.raise("thing.happened").await;
        running.notified().await;
        let begun = std::time::Instant::now();
        let report = scheduler.shutdown(Duration::from_millis(300)).await;
        assert!(
            begun.elapsed() < Duration::from_millis(1000),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!((report.handed_back, report.abandoned), (0, 1));
        let _other = rig.scheduler(map).lease(lease).start().await;
        let request = rig.until_only(RequestState::Completed).await;
        assert_eq!((request.rescues, request.errors), (1, 0));
        blocker.release();
    });
}

/// Shuts down at a different moment in each round, and lets a successor finish.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_at_any_moment_under_load_loses_and_repeats_nothing() {
    const EVENTS: usize = 400;
    for round in 0..40_u32 {
        let kind = KINDS[round as usize % 2];
        let rig = Rig::real();
        let runs = Arc::new(Mutex::new(std::collections::HashMap::<_, u32>::new()));
        let ran = Arc::clone(&runs);
        let handler = Handler::new("counts", move |event: Arc<Event>, _: Context| {
            *ran.lock().entry(event.id).or_default() += 1;
            async { Ok::<_, HandlerError>(()) }
        });
        let map = config([handler.on("*")]);
        let first = rig
            .scheduler(map.clone())
            .kind(kind)
            .workers(8)
            .batch_size(50)
            .start()
            .await;
        let ids = rig.raise_many("thing.happened", EVENTS).await;
        // So many turns of the other tasks from the very beginning to nearly the end.
        let until = u64::from(round) * 10;
        rig.until("some are done", |rig| async move {
            rig.count(RequestState::Completed).await >= until
        })
        .await;
        let report = first.shutdown(Duration::from_secs(30)).await;
        assert_eq!(report.abandoned, 0);
        assert_eq!(rig.count(RequestState::Executing).await, 0, "round {round}");
        let _second = rig.scheduler(map).kind(kind).start().await;
        rig.until_completed(EVENTS as u64).await;
        let runs = runs.lock().clone();
        for id in ids {
            assert_eq!(
                runs.get(&id),
                Some(&1),
                "round {round}: a graceful end repeats nothing"
            );
        }
        assert!(
            rig.requests()
                .await
                .iter()
                .all(|request| request.errors == 0 && request.rescues == 0)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_while_handlers_keep_failing_keeps_its_deadline() {
    let rig = Rig::paused();
    let handler = Handler::new("fails", |_: Arc<Event>, _: Context| async {
        Err::<(), _>(HandlerError::new("no"))
    });
    let scheduler = rig
        .scheduler(config([handler
            .on("*")
            .max_errors(1000)
            .backoff_with(|_| Duration::ZERO)]))
        .start()
        .await;
    rig.raise_many("thing.happened", 100).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let begun = Instant::now();
    scheduler.shutdown(Duration::from_secs(5)).await;
    assert!(begun.elapsed() <= Duration::from_secs(5));
    assert_eq!(rig.count(RequestState::Executing).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_hook_or_a_claim_that_hangs_keeps_nothing_from_being_handed_back() {
    use tidings::faulty::{Fault, FaultyStorer, Operation};
    for kind in KINDS {
        for hangs in [Operation::FanOut, Operation::ClaimEvents, Operation::Claim] {
            let rig = Rig::paused();
            let store = Arc::new(FaultyStorer::new(Arc::new(rig.store.clone())));
            let running = Arc::new(Notify::new());
            let told = Arc::clone(&running);
            let handler = Handler::new("slow", move |_: Arc<Event>, _: Context| {
                told.notify_one();
                std::future::pending::<Result<(), HandlerError>>()
            });
            let map = config([handler.on("*")]);
            let mut wanted = rig.scheduler_on(store.clone(), map).kind(kind);
            if hangs == Operation::ClaimEvents {
                wanted = wanted.before_process(|_: ProcessContext| async { Ok(()) });
            }
            let scheduler = wanted.start().await;
            rig.raise_many("thing.happened", 100).await;
            running.notified().await;
            store.faults().inject_always(hangs, Fault::Block);
            rig.raise("thing.happened").await;
            tokio::time::sleep(Duration::from_secs(6)).await;
            let begun = Instant::now();
            let report = scheduler.shutdown(Duration::from_secs(5)).await;
            assert!(begun.elapsed() <= Duration::from_secs(5));
            assert_eq!(report.abandoned, 0, "{kind:?} {hangs:?}");
            assert_eq!(
                rig.count(RequestState::Executing).await,
                0,
                "{kind:?} {hangs:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_heeds_its_context_ends_by_itself_before_it_is_broken_off() {
    let rig = Rig::paused();
    let running = Arc::new(Notify::new());
    let told = Arc::clone(&running);
    let handler = Handler::new("heeds", move |_: Arc<Event>, context: Context| {
        told.notify_one();
        async move {
            context.canceled().await;
            // What it takes to save its work.
            tokio::time::sleep(Duration::from_millis(200)).await;
            Ok::<_, HandlerError>(())
        }
    });
    let scheduler = rig.scheduler(config([handler.on("*")])).start().await;
    rig.raise("thing.happened").await;
    running.notified().await;
    let report = scheduler.shutdown(Duration::from_secs(10)).await;
    assert_eq!((report.handed_back, report.abandoned), (0, 0));
    assert_eq!(rig.count(RequestState::Completed).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_stops_with_an_error_when_it_is_told_to_counts_none() {
    for kind in KINDS {
        let rig = Rig::paused();
        let running = Arc::new(Notify::new());
        let told = Arc::clone(&running);
        let handler = Handler::new("stops", move |_: Arc<Event>, context: Context| {
            told.notify_one();
            async move {
                context.canceled().await;
                Err::<(), _>(HandlerError::new("stopped in the middle"))
            }
        });
        let map = config([handler.on("*").max_errors(1)]);
        let scheduler = rig.scheduler(map).kind(kind).start().await;
        rig.raise("thing.happened").await;
        running.notified().await;
        let report = scheduler.shutdown(Duration::from_secs(10)).await;
        assert_eq!((report.handed_back, report.abandoned), (1, 0));
        let request = rig.only().await;
        assert_eq!(
            request.state(request.created_at),
            RequestState::Pending,
            "at once for others"
        );
        assert_eq!((request.errors, request.rescues), (0, 0));
        assert!(request.last_errors.is_empty(), "{request:?}");
    }
}

/// Deploys would delay them by as long as a claim lasts.
#[tokio::test(start_paused = true)]
async fn events_whose_hooks_run_at_a_shutdown_are_not_left_to_their_claims() {
    for kind in KINDS {
        let rig = Rig::paused();
        let handler = || {
            let handle = |_: Arc<Event>, _: Context| async { Ok::<_, HandlerError>(()) };
            Handler::new("h", handle).on("*")
        };
        let (runs, mut begun) = mpsc::unbounded_channel();
        let scheduler = rig
            .scheduler(config([handler()]))
            .kind(kind)
            .before_process(move |_: ProcessContext| {
                let _ = runs.send(());
                async {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    Ok(())
                }
            })
            .start()
            .await;
        rig.raise_many("thing.happened", 100).await;
        begun.recv().await.unwrap();
        let begins = Instant::now();
        scheduler.shutdown(Duration::from_secs(20)).await;
        let took = begins.elapsed();
        // So many hooks run at a time that it takes some seconds.
        assert!(took < Duration::from_secs(10), "{kind:?} {took:?}");
        let other = rig.scheduler(config([handler()])).kind(kind).start().await;
        let begins = Instant::now();
        rig.until_all_ended().await;
        let took = begins.elapsed();
        assert!(took < Duration::from_secs(1), "{kind:?} {took:?}");
        other.shutdown(Duration::from_secs(1)).await;
    }
}
