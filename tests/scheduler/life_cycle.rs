//! Start, pause, resume, status, shutdown, drop: in every order.

use std::{sync::Arc, time::Duration};

use tidings::{
    ConcurrentScheduler, ConfigMap, Context, Event, Handler, HandlerError, HandlerResult,
    MemoryConnection, RequestState, Scheduler, SchedulerBuilder, SchedulerError, SchedulerExt,
    SchedulerState,
};
use tokio::sync::Notify;

use crate::rig::{KINDS, Rig, config, soon};

fn no_op() -> Handler {
    Handler::new("no_op", |_: Arc<Event>, _: Context| async {
        Ok::<_, HandlerError>(())
    })
    .on("*")
}

#[tokio::test(start_paused = true)]
async fn a_second_start_is_refused_and_harms_nothing() {
    for kind in KINDS {
        let rig = Rig::paused();
        let scheduler = rig.scheduler(config([no_op()])).kind(kind).start().await;
        assert!(matches!(
            scheduler.start().await,
            Err(SchedulerError::AlreadyStarted)
        ));
        rig.raise("thing.happened").await;
        rig.until_completed(1).await;
        assert_eq!(scheduler.status().state, SchedulerState::Running);
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_before_the_start_does_nothing_and_one_after_the_end_neither() {
    let rig = Rig::paused();
    let scheduler = rig.scheduler(config([no_op()])).build();
    assert_eq!(
        scheduler.shutdown(Duration::from_secs(1)).await.handed_back,
        0
    );
    assert_eq!(scheduler.status().state, SchedulerState::Created);
    assert!(!scheduler.is_operational());
    scheduler.start().await.unwrap();
    assert!(scheduler.is_operational());
    scheduler.shutdown(Duration::from_secs(1)).await;
    scheduler.shutdown(Duration::from_secs(1)).await;
    assert_eq!(scheduler.status().state, SchedulerState::Stopped);
    assert!(!scheduler.is_operational());
    assert!(matches!(
        scheduler.start().await,
        Err(SchedulerError::Stopped)
    ));
}

#[tokio::test(start_paused = true)]
async fn pause_and_resume_need_a_started_scheduler() {
    let rig = Rig::paused();
    let scheduler = rig.scheduler(config([no_op()])).build();
    let refused = |result: Result<(), SchedulerError>, state| match result {
        Err(SchedulerError::NotRunning { state: is, .. }) => assert_eq!(is, state),
        other => panic!("{other:?}"),
    };
    let early = scheduler.pause().await;
    assert_eq!(
        early.as_ref().unwrap_err().to_string(),
        "a pause needs a running scheduler, but it has not been started"
    );
    refused(early, SchedulerState::Created);
    refused(scheduler.resume().await, SchedulerState::Created);
    scheduler.start().await.unwrap();
    scheduler.resume().await.unwrap();
    scheduler.pause().await.unwrap();
    scheduler.pause().await.unwrap();
    scheduler.shutdown(Duration::from_secs(1)).await;
    refused(scheduler.pause().await, SchedulerState::Stopped);
    refused(scheduler.resume().await, SchedulerState::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_pause_while_shutting_down_is_refused_with_the_state() {
    let rig = Rig::paused();
    let running = Arc::new(Notify::new());
    let told = Arc::clone(&running);
    let handler = Handler::new("never", move |_: Arc<Event>, _: Context| {
        told.notify_one();
        std::future::pending::<HandlerResult>()
    });
    let scheduler: Arc<dyn Scheduler> =
        Arc::from(rig.scheduler(config([handler.on("*")])).start().await);
    rig.raise("thing.happened").await;
    running.notified().await;
    let ending = tokio::spawn({
        let scheduler = Arc::clone(&scheduler);
        async move { scheduler.shutdown(Duration::from_secs(10)).await }
    });
    while scheduler.status().state != SchedulerState::ShuttingDown {
        tokio::task::yield_now().await;
    }
    let refused = scheduler.pause().await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "a pause needs a running scheduler, but it is shutting down"
    );
    ending.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_second_shutdown_waits_for_the_same_end_at_the_earlier_deadline() {
    let rig = Rig::paused();
    let running = Arc::new(Notify::new());
    let told = Arc::clone(&running);
    let handler = Handler::new("never", move |_: Arc<Event>, _: Context| {
        told.notify_one();
        std::future::pending::<HandlerResult>()
    });
    let scheduler: Arc<dyn Scheduler> =
        Arc::from(rig.scheduler(config([handler.on("*")])).start().await);
    rig.raise("thing.happened").await;
    running.notified().await;
    let begun = tokio::time::Instant::now();
    let (first, second) = tokio::join!(
        scheduler.shutdown(Duration::from_secs(1000)),
        scheduler.shutdown(Duration::from_secs(5)),
    );
    assert!(
        begun.elapsed() <= Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!((first.handed_back, first), (1, second));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_whose_future_is_dropped_goes_on() {
    let rig = Rig::paused();
    let scheduler = rig.scheduler(config([no_op()])).start().await;
    let dropped =
        tokio::time::timeout(Duration::ZERO, scheduler.shutdown(Duration::from_secs(5))).await;
    drop(dropped);
    soon("it has stopped", async {
        while scheduler.status().state != SchedulerState::Stopped {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn while_paused_nothing_is_claimed_and_what_runs_goes_on() {
    for kind in KINDS {
        let rig = Rig::paused();
        let (running, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (told, waits) = (Arc::clone(&running), Arc::clone(&go_on));
        let handler = Handler::new("waits", move |_: Arc<Event>, _: Context| {
            let (told, waits) = (Arc::clone(&told), Arc::clone(&waits));
            async move {
                told.notify_one();
                waits.notified().await;
                Ok::<_, HandlerError>(())
            }
        });
        let handler = handler.on("*").concurrency(1);
        let scheduler = rig.scheduler(config([handler])).kind(kind).start().await;
        rig.raise_many("thing.happened", 50).await;
        running.notified().await;
        scheduler.pause().await.unwrap();
        assert_eq!(
            rig.count(RequestState::Executing).await,
            1,
            "the rest was handed back, {kind:?}"
        );
        assert_eq!(scheduler.status().buffered, 0);
        go_on.notify_one();
        rig.until_completed(1).await;
        rig.raise("thing.happened").await;
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(
            rig.count(RequestState::Completed).await,
            1,
            "an hour's pause, {kind:?}"
        );
        scheduler.resume().await.unwrap();
        for _ in 0..50 {
            go_on.notify_one();
            running.notified().await;
        }
        go_on.notify_one();
        rig.until_completed(51).await;
        let errors: u32 = rig
            .requests()
            .await
            .iter()
            .map(|request| request.errors)
            .sum();
        assert_eq!(errors, 0, "a hand-back counts no error");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_scheduler_stops_and_its_requests_are_rescued_by_another() {
    for kind in KINDS {
        let rig = Rig::paused();
        let running = Arc::new(Notify::new());
        let told = Arc::clone(&running);
        let handler = Handler::new("slow", move |_: Arc<Event>, context: Context| {
            told.notify_one();
            async move {
                if context.rescues() == 0 {
                    std::future::pending::<()>().await;
                }
                Ok::<_, HandlerError>(())
            }
        });
        let map = config([handler.on("*")]);
        let scheduler = rig.scheduler(map.clone()).kind(kind).start().await;
        rig.raise("thing.happened").await;
        running.notified().await;
        let lost_at = tokio::time::Instant::now();
        drop(scheduler);
        let _other = rig.scheduler(map).kind(kind).start().await;
        let request = rig.until_only(RequestState::Completed).await;
        assert_eq!(
            (request.rescues, request.errors, request.executions),
            (1, 0, 1)
        );
        let after = lost_at.elapsed();
        assert!(
            after <= Duration::from_secs(35),
            "within lease + 5 s, but {after:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn run_until_starts_works_and_ends_with_the_signal() {
    let rig = Rig::paused();
    let scheduler = rig.scheduler(config([no_op()])).build();
    rig.raise_many("thing.happened", 10).await;
    let report = scheduler
        .run_until(rig.until_completed(10), Duration::from_secs(1))
        .await
        .unwrap();
    assert_eq!(report.abandoned, 0);
    assert_eq!(scheduler.status().state, SchedulerState::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_is_dropped_can_be_made_again() {
    let rig = Rig::paused();
    let scheduler = rig.scheduler(config([no_op()])).build();
    {
        let start = scheduler.start();
        drop(start);
    }
    assert_eq!(scheduler.status().state, SchedulerState::Created);
    scheduler.start().await.unwrap();
}

type Tune = fn(SchedulerBuilder<ConcurrentScheduler>) -> SchedulerBuilder<ConcurrentScheduler>;

#[test]
fn settings_out_of_range_are_refused_with_the_range() {
    let build = |tune: Tune| {
        let store = Arc::new(tidings::MemoryStore::new());
        tune(ConcurrentScheduler::builder(store, config([no_op()])))
            .build()
            .map(drop)
            .map_err(|error| error.to_string())
    };
    assert_eq!(build(|builder| builder), Ok(()));
    for (tune, names) in [
        ((|builder| builder.workers(0)) as Tune, "workers"),
        (|builder| builder.workers(10_001), "workers"),
        (|builder| builder.batch_size(0), "batch_size"),
        (|builder| builder.lease(Duration::from_millis(99)), "lease"),
        (
            |builder| builder.poll_interval(Duration::ZERO),
            "poll_interval",
        ),
        (
            |builder| builder.call_timeout(Duration::ZERO),
            "call_timeout",
        ),
        (
            |builder| builder.call_timeout(Duration::from_secs(31)),
            "call_timeout",
        ),
    ] {
        let error = build(tune).unwrap_err();
        assert!(error.contains(names) && error.contains("choose"), "{error}");
    }
}

#[test]
fn a_transactional_handler_of_another_database_is_refused_when_the_scheduler_is_built() {
    struct OtherConnection;
    async fn other(_: Arc<Event>, _: Context, _: &mut OtherConnection) -> HandlerResult {
        Ok(())
    }
    async fn memory(_: Arc<Event>, _: Context, _: &mut MemoryConnection) -> HandlerResult {
        Ok(())
    }
    let build = |handler: Handler| {
        let config: ConfigMap = config([handler.on("*")]);
        ConcurrentScheduler::builder(Arc::new(tidings::MemoryStore::new()), config)
            .build()
            .map(drop)
    };
    build(Handler::transactional("good", memory)).unwrap();
    let error = build(Handler::transactional("bad", other)).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("\"bad\"")
            && text.contains("OtherConnection")
            && text.contains("MemoryConnection"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn work_goes_on_at_once_after_a_resume() {
    for kind in KINDS {
        let rig = Rig::paused();
        let handler = Handler::new("slow", |_: Arc<Event>, _: Context| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok::<_, HandlerError>(())
        });
        let scheduler = rig
            .scheduler(config([handler.on("*").concurrency(2)]))
            .kind(kind)
            .poll_interval(Duration::from_secs(3600))
            .start()
            .await;
        rig.raise_many("thing.happened", 100).await;
        rig.until_completed(1).await;
        scheduler.pause().await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        let before = rig.count(RequestState::Completed).await;
        scheduler.resume().await.unwrap();
        let begun = tokio::time::Instant::now();
        rig.until_completed(before + 1).await;
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(2), "{kind:?}: {took:?}");
        rig.until_completed(100).await;
        assert!(begun.elapsed() < Duration::from_secs(60), "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_hands_back_what_waits_in_the_buffer() {
    for kind in KINDS {
        let rig = Rig::paused();
        let handler = Handler::new("quick", |_: Arc<Event>, _: Context| async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok::<_, HandlerError>(())
        });
        let scheduler = rig
            .scheduler(config([handler.on("*")]))
            .kind(kind)
            .start()
            .await;
        rig.raise_many("thing.happened", 2000).await;
        soon("requests wait in the buffer", async {
            while scheduler.status().buffered < 100 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        scheduler.pause().await.unwrap();
        assert_eq!(scheduler.status().buffered, 0, "{kind:?}");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(rig.count(RequestState::Executing).await, 0, "{kind:?}");
        assert!(rig.count(RequestState::Pending).await > 0, "{kind:?}");
        scheduler.resume().await.unwrap();
        rig.until_completed(2000).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_before_the_start_leaves_its_deadline_to_nobody() {
    for kind in KINDS {
        let rig = Rig::paused();
        let running = Arc::new(Notify::new());
        let told = Arc::clone(&running);
        let handler = Handler::new("slow", move |_: Arc<Event>, _: Context| {
            told.notify_one();
            async {
                tokio::time::sleep(Duration::from_secs(5)).await;
                Ok::<_, HandlerError>(())
            }
        });
        let scheduler = rig.scheduler(config([handler.on("*")])).kind(kind).build();
        scheduler.shutdown(Duration::ZERO).await;
        scheduler.start().await.unwrap();
        rig.raise("thing.happened").await;
        running.notified().await;
        let report = scheduler.shutdown(Duration::from_secs(60)).await;
        assert_eq!((report.handed_back, report.abandoned), (0, 0), "{kind:?}");
        assert_eq!(rig.count(RequestState::Completed).await, 1, "{kind:?}");
    }
}
