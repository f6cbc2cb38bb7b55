//! A row that is not running delays nobody, and a running one holds one slot.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tidings::{
    Backoff, Context, Event, Handler, HandlerError, HandlerResult, ProcessContext, RequestState,
    store::{Storer, WakeUps},
};
use tokio::time::Instant;

use crate::{
    process::Process,
    rig::{Blocker, KINDS, Rig, config, taking},
};

const MANY: usize = 10_000;

fn good() -> Handler {
    Handler::new("good", |_: Arc<Event>, _: Context| async {
        Ok::<_, HandlerError>(())
    })
    .on("good.*")
    .priority(50)
}

/// How long one good event takes beside what stands before it.
async fn latency(rig: &Rig) -> Duration {
    let before = rig.count(RequestState::Completed).await;
    let begun = Instant::now();
    rig.raise("good.event").await;
    rig.until_completed(before + 1).await;
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_poisonous_requests_delay_nobody() {
    for kind in KINDS {
        let rig = Rig::paused();
        let poison = Handler::new("poison", |_: Arc<Event>, _: Context| async {
            Err::<(), _>(HandlerError::new("always"))
        });
        let poison = poison
            .on("bad.*")
            .priority(0)
            .max_errors(100)
            .backoff(Backoff::constant(Duration::from_secs(3600)));
        rig.raise_many("bad.event", MANY).await;
        let _scheduler = rig
            .scheduler(config([poison, good()]))
            .kind(kind)
            .start()
            .await;
        rig.until("all have failed once", |rig| async move {
            rig.count(RequestState::BackingOff).await == MANY as u64
        })
        .await;
        let took = latency(&rig).await;
        assert!(took < Duration::from_millis(50), "{kind:?}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_vetoed_events_delay_nobody() {
    for kind in KINDS {
        let rig = Rig::paused();
        rig.raise_many("bad.event", MANY).await;
        let veto = |context: ProcessContext| async move {
            if context.event.name.starts_with("bad") {
                Err(HandlerError::new("not yet"))
            } else {
                Ok(())
            }
        };
        let _scheduler = rig
            .scheduler(config([good()]))
            .kind(kind)
            .before_process(veto)
            .start()
            .await;
        let took = latency(&rig).await;
        assert!(took < Duration::from_secs(5), "{kind:?}: {took:?}");
        let mut session = rig.store.session().await.unwrap();
        assert_eq!(
            session.events().count_unprocessed().await.unwrap(),
            MANY as u64
        );
        assert_eq!(
            rig.requests().await.len(),
            1,
            "a vetoed event has no requests"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_requests_of_a_handler_that_nobody_has_delay_nobody_and_count_no_error() {
    for kind in KINDS {
        let rig = Rig::paused();
        let unknown = Handler::new("unknown", |_: Arc<Event>, _: Context| async {
            Ok::<_, HandlerError>(())
        });
        let other = rig
            .scheduler(config([unknown.on("bad.*").priority(0)]))
            .start()
            .await;
        other.shutdown(Duration::from_secs(1)).await;
        rig.raise_many("bad.event", MANY).await;
        let _scheduler = rig.scheduler(config([good()])).kind(kind).start().await;
        rig.until("all have been fanned out", |rig| async move {
            rig.count(RequestState::Pending).await == MANY as u64
        })
        .await;
        let took = latency(&rig).await;
        assert!(took < Duration::from_millis(50), "{kind:?}: {took:?}");
        assert!(
            rig.requests_of("unknown")
                .await
                .iter()
                .all(|request| request.errors == 0 && request.attempt == 0)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_never_returns_leaves_a_quarter_of_the_pool_to_others() {
    for kind in KINDS {
        let rig = Rig::paused();
        let never = Handler::new("never", |_: Arc<Event>, _: Context| {
            std::future::pending::<HandlerResult>()
        });
        let never = never
            .on("bad.*")
            .priority(0)
            .timeout(Duration::from_secs(3600))
            .max_errors(1);
        let _scheduler = rig
            .scheduler(config([never, good()]))
            .kind(kind)
            .workers(4)
            .start()
            .await;
        rig.raise_many("bad.event", 1000).await;
        rig.until("it holds its slots", |rig| async move {
            rig.count(RequestState::Executing).await >= 3
        })
        .await;
        for _ in 0..100 {
            let took = latency(&rig).await;
            assert!(took < Duration::from_millis(50), "{kind:?}: {took:?}");
        }
        assert_eq!(
            rig.count(RequestState::Executing).await,
            3,
            "no more are held than can run"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_concurrency_limit_is_never_passed_and_always_reached() {
    for kind in KINDS {
        let rig = Rig::paused();
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (running, peak) = (Arc::clone(&now), Arc::clone(&most));
        let handler = Handler::new("limited", move |_: Arc<Event>, _: Context| {
            let (running, peak) = (Arc::clone(&running), Arc::clone(&peak));
            async move {
                peak.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_secs(1)).await;
                running.fetch_sub(1, Ordering::SeqCst);
                Ok::<_, HandlerError>(())
            }
        });
        let begun = Instant::now();
        let _scheduler = rig
            .scheduler(config([handler.on("*").concurrency(5)]))
            .kind(kind)
            .workers(16)
            .start()
            .await;
        rig.raise_many("thing.happened", 50).await;
        rig.until_completed(50).await;
        assert_eq!(most.load(Ordering::SeqCst), 5, "{kind:?}");
        let took = begun.elapsed();
        assert!(
            took < Duration::from_millis(10_500),
            "ten turns of a second, not {took:?}, {kind:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_holds_no_more_than_it_can_run() {
    for kind in KINDS {
        let rig = Rig::paused();
        let slow = Handler::new("slow", |_: Arc<Event>, _: Context| async {
            tokio::time::sleep(Duration::from_secs(30)).await;
            Ok::<_, HandlerError>(())
        });
        let scheduler = rig
            .scheduler(config([slow.on("*")]))
            .kind(kind)
            .workers(16)
            .start()
            .await;
        rig.raise_many("thing.happened", 500).await;
        for _ in 0..10 {
            rig.until("twelve run", |rig| async move {
                rig.count(RequestState::Executing).await == 12
            })
            .await;
            assert_eq!(scheduler.status().buffered, 0, "{kind:?}");
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_no_registration_wants_is_processed_and_in_nobodys_way() {
    for kind in KINDS {
        let rig = Rig::paused();
        let _scheduler = rig.scheduler(config([good()])).kind(kind).start().await;
        rig.raise_many("strange.event", 5000).await;
        rig.raise("good.event").await;
        rig.until_all_ended().await;
        assert_eq!(rig.requests().await.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_handler_hears_of_its_room_also_when_the_buffer_was_full_then() {
    for kind in KINDS {
        let rig = Rig::paused();
        let slow = |name: &'static str| {
            Handler::new(name, |_: Arc<Event>, _: Context| async {
                tokio::time::sleep(Duration::from_millis(500)).await;
                Ok::<_, HandlerError>(())
            })
        };
        let handlers = [
            slow("one").on("one.event").concurrency(1),
            slow("many").on("many.event").concurrency(2),
        ];
        let _scheduler = rig
            .scheduler(config(handlers))
            .kind(kind)
            .batch_size(10)
            .poll_interval(Duration::from_secs(3600))
            .start()
            .await;
        let begun = Instant::now();
        rig.raise_many("one.event", 20).await;
        rig.raise_many("many.event", 40).await;
        rig.until_completed(60).await;
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(30), "{kind:?}: {took:?}");
    }
}

#[test]
fn a_handler_that_blocks_its_thread_takes_no_other_task_along() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let rig = Rig::real();
    let blocker = Blocker::default();
    let blocks = blocker.clone();
    let handler = Handler::new("blocks", move |event: Arc<Event>, _: Context| {
        if event.name == "blocks.now" {
            blocks.block();
        }
        async { Ok::<_, HandlerError>(()) }
    });
    runtime.block_on(async {
        let map = config([handler.on("*")]);
        let _scheduler = rig.scheduler(map).workers(1).start().await;
        // Once it is known to be quick, several wait in the buffer at the same time.
        rig.raise_many("a.quick", 20).await;
        rig.until_completed(20).await;
        // One worker runs both: the quick one, which wakes the settling loop, and then the other.
        let events = ["a.quick", "blocks.now"]
            .map(|name| Event::from_data(name, tidings::EventData::null()));
        let mut session = rig.store.session().await.unwrap();
        let raiser = rig.store.raiser();
        raiser
            .raise_all(&mut *session, events.to_vec())
            .await
            .unwrap();
        drop(session);
        rig.until_completed(21).await;
        blocker.release();
        rig.until_completed(22).await;
    });
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_that_turned_slow_had_claimed_is_run_by_others() {
    for kind in KINDS {
        let here = Process::new(WakeUps::Complete);
        let is_slow = Arc::new(AtomicBool::new(false));
        let turns = Arc::clone(&is_slow);
        let turns_slow = Handler::new("h", move |_: Arc<Event>, _: Context| {
            let takes = match turns.load(Ordering::SeqCst) {
                true => Duration::from_secs(200),
                false => Duration::from_millis(1),
            };
            async move {
                tokio::time::sleep(takes).await;
                Ok::<_, HandlerError>(())
            }
        });
        let slows = here.start_with(kind, config([turns_slow.on("*")])).await;
        here.rig.raise_many("thing.happened", 8000).await;
        here.rig.until_completed(500).await;
        is_slow.store(true, Ordering::SeqCst);
        let begun = Instant::now();
        let there = Process::on(&here.rig, WakeUps::Complete);
        let fast = taking("h", Duration::from_millis(1)).on("*");
        let helps = there.start_with(kind, config([fast])).await;
        // 12 run.
        here.rig.until_completed(8000 - 12).await;
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(60), "{kind:?}: {took:?}");
        here.rig.until_all_ended().await;
        let requests = here.rig.requests().await;
        assert!(
            requests
                .iter()
                .all(|one| one.executions == 1 && one.errors == 0)
        );
        for scheduler in [slows, helps] {
            scheduler.shutdown(Duration::from_secs(5)).await;
        }
    }
}
