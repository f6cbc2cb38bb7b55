//! What a scheduler deletes by itself, what it keeps, and that nobody feels it.

use std::{sync::Arc, time::Duration};

use tidings::{
    BuildError, ConcurrentScheduler, Context, Event, EventId, Handler, HandlerError, HandlerResult,
    ManualClock, RequestState, Retention, Scheduler,
    faulty::{Fault, Faults, FaultyStorer, Operation},
    store::{EventFilter, Page, Storer},
};
use tokio::{sync::Notify, time::Instant};

use crate::rig::{KINDS, Kind, Rig, Wanted, config, soon};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Longer than the default pause between two passes, however random it is.
const A_PASS: Duration = Duration::from_secs(2 * 3600);

/// A store whose time the test moves, and that fails on demand.
struct Kept {
    rig: Rig,
    clock: ManualClock,
    store: Arc<FaultyStorer>,
    faults: Faults,
}

impl Kept {
    fn new() -> Self {
        let clock = ManualClock::default();
        let rig = Rig::with_clock(clock.clone());
        let store = Arc::new(FaultyStorer::new(Arc::new(rig.store.clone())));
        let faults = store.faults();
        Self {
            rig,
            clock,
            store,
            faults,
        }
    }

    fn scheduler(&self, kind: Kind) -> Wanted {
        let store: Arc<dyn Storer> = self.store.clone();
        let handler = Handler::new("ends", end).on("ends.*");
        self.rig.scheduler_on(store, config([handler])).kind(kind)
    }

    /// Events that completed long ago.
    async fn completed(&self, count: usize) {
        self.rig.raise_many("ends.well", count).await;
        self.rig.until_completed(count as u64).await;
        self.clock.advance(8 * DAY);
    }

    async fn events(&self) -> Vec<EventId> {
        let mut session = self.rig.store.session().await.unwrap();
        let (all, page) = (EventFilter::default(), Page::first(100_000));
        let events = session.events().list(&all, &page).await.unwrap();
        events.iter().map(|stored| stored.event.id).collect()
    }

    async fn until_left(&self, count: usize) {
        let left = async {
            while self.events().await.len() > count {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        soon("enough is deleted", left).await;
        assert_eq!(self.events().await.len(), count);
    }

    fn prunes(&self) -> u64 {
        self.faults.calls(Operation::Prune)
    }
}

/// Ends as the event says.
async fn end(event: Arc<Event>, _: Context) -> HandlerResult {
    match &*event.name {
        "ends.well" => Ok(()),
        "ends.dead" => Err(HandlerError::discard("no")),
        "ends.canceled" => Err(HandlerError::cancel("no")),
        _ => Err(HandlerError::snooze(365 * DAY)),
    }
}

#[tokio::test(start_paused = true)]
async fn by_default_what_ended_a_week_ago_goes_and_what_is_dead_or_open_stays() {
    for kind in KINDS {
        let kept = Kept::new();
        let _scheduler = kept.scheduler(kind).start().await;
        for name in ["ends.well", "ends.canceled", "unwanted"] {
            kept.rig.raise(name).await;
        }
        let dead = kept.rig.raise("ends.dead").await;
        let open = kept.rig.raise("ends.later").await;
        kept.rig.until_completed(1).await;
        kept.rig
            .until("all ran", |rig| async move {
                rig.count(RequestState::BackingOff).await == 1
            })
            .await;
        kept.clock.advance(6 * DAY);
        tokio::time::sleep(A_PASS).await;
        assert!(kept.prunes() > 0);
        assert_eq!(kept.events().await.len(), 5);
        kept.clock.advance(2 * DAY);
        tokio::time::sleep(A_PASS).await;
        assert_eq!(kept.events().await, [dead, open]);
        assert_eq!(kept.rig.requests().await.len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn dead_requests_go_and_events_stay_for_replays_if_asked() {
    let kept = Kept::new();
    let retention = Retention::default()
        .dead_for(Some(HOUR))
        .keep_events_for(30 * DAY);
    let _scheduler = (kept.scheduler(Kind::Concurrent).retention(retention))
        .start()
        .await;
    kept.rig.raise("ends.well").await;
    kept.rig.raise("ends.dead").await;
    kept.rig.until_all_ended().await;
    kept.clock.advance(29 * DAY);
    tokio::time::sleep(A_PASS).await;
    assert_eq!(kept.events().await.len(), 2);
    kept.clock.advance(2 * DAY);
    tokio::time::sleep(A_PASS).await;
    assert_eq!(kept.events().await.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_deleted_and_nobody_asked_when_everything_is_kept() {
    let kept = Kept::new();
    let wanted = kept.scheduler(Kind::Concurrent);
    let _scheduler = wanted.retention(Retention::never()).start().await;
    kept.completed(3).await;
    kept.clock.advance(10_000 * DAY);
    tokio::time::sleep(3 * A_PASS).await;
    assert_eq!(kept.events().await.len(), 3);
    assert_eq!(kept.prunes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_large_backlog_goes_in_small_batches_with_rests_between_them() {
    let kept = Kept::new();
    let retention = Retention::default().batch(10).every(HOUR);
    let wanted = kept.scheduler(Kind::Concurrent).retention(retention);
    let _scheduler = wanted.start().await;
    kept.completed(300).await;
    // Each call takes some time, and the rests are longer than the calls.
    let call = Duration::from_secs(1);
    kept.faults
        .inject(Operation::Prune, Fault::Delay(call), 1000);
    kept.faults.until_called(Operation::Prune, 1).await;
    let began = Instant::now();
    let new = kept.rig.raise("ends.well").await;
    kept.rig.until_all_ended().await;
    assert!(began.elapsed() < call, "work waits for nothing");
    kept.until_left(1).await;
    assert_eq!(kept.events().await, [new]);
    assert!(kept.prunes() >= 30, "{}", kept.prunes());
    let took = began.elapsed();
    assert!(took > 29 * (call + 4 * call), "no rests: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_fails_is_tried_again_another_time() {
    for fault in [Fault::Fail, Fault::Refuse] {
        let kept = Kept::new();
        let scheduler = kept.scheduler(Kind::Concurrent).start().await;
        kept.completed(3).await;
        kept.faults.inject_always(Operation::Prune, fault);
        kept.faults.until_called(Operation::Prune, 1).await;
        tokio::time::sleep(3 * A_PASS).await;
        let passes = kept.prunes();
        assert!(passes > 1);
        assert!(passes < 100, "it is no hot loop: {passes}");
        assert_eq!(kept.events().await.len(), 3);
        kept.faults.heal(Operation::Prune);
        kept.until_left(0).await;
        tokio::time::sleep(A_PASS).await;
        assert!(scheduler.is_operational());
    }
}

#[tokio::test(start_paused = true)]
async fn batches_that_take_too_long_become_smaller() {
    let kept = Kept::new();
    let _scheduler = kept.scheduler(Kind::Concurrent).start().await;
    kept.completed(3).await;
    // Longer than a call may take, twice.
    let slow = Fault::Delay(Duration::from_secs(60));
    kept.faults.inject(Operation::Prune, slow, 2);
    kept.faults.until_called(Operation::Prune, 1).await;
    let began = Instant::now();
    kept.until_left(0).await;
    assert!(
        began.elapsed() < Duration::from_secs(120),
        "not in the next pass"
    );
    assert_eq!(kept.prunes(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_no_prune_and_begins_none() {
    for kind in KINDS {
        let kept = Kept::new();
        let (running, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let held = (Arc::clone(&running), Arc::clone(&go_on));
        let handler = Handler::new("held", move |_: Arc<Event>, _: Context| {
            let (running, go_on) = held.clone();
            async move {
                running.notify_one();
                go_on.notified().await;
                Ok::<_, HandlerError>(())
            }
        });
        let handler = handler.on("thing.happened").timeout(100 * DAY);
        let store: Arc<dyn Storer> = kept.store.clone();
        let scheduler = kept.rig.scheduler_on(store, config([handler])).kind(kind);
        let scheduler: Arc<dyn Scheduler> = Arc::from(scheduler.start().await);
        kept.rig.raise("thing.happened").await;
        running.notified().await;
        kept.faults.inject_always(Operation::Prune, Fault::Block);
        kept.faults.until_blocked(Operation::Prune, 1).await;
        let shutdown = tokio::spawn({
            let scheduler = Arc::clone(&scheduler);
            async move { scheduler.shutdown(10 * A_PASS).await }
        });
        // While the handler still runs, and long before the call's time limit.
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(kept.faults.blocked(Operation::Prune), 0);
        kept.faults.heal_all();
        let prunes = kept.prunes();
        tokio::time::sleep(3 * A_PASS).await;
        assert_eq!(kept.prunes(), prunes, "nothing begins any more");
        go_on.notify_one();
        assert_eq!(shutdown.await.unwrap().abandoned, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn processes_that_start_together_do_not_prune_together() {
    let all: Vec<_> = (0..6).map(|_| Kept::new()).collect();
    let mut schedulers = Vec::new();
    for kept in &all {
        schedulers.push(kept.scheduler(Kind::Concurrent).start().await);
    }
    let mut first = Vec::new();
    for minute in 0..120 {
        tokio::time::sleep(Duration::from_secs(60)).await;
        let begun = all.iter().filter(|kept| kept.prunes() > 0).count();
        while first.len() < begun {
            first.push(minute);
        }
    }
    assert_eq!(first.len(), all.len(), "each began within its interval");
    first.dedup();
    assert!(first.len() > 1, "all began in the same minute");
}

#[tokio::test]
async fn a_retention_that_would_spin_or_never_end_is_refused() {
    let rig = Rig::real();
    let default = Retention::default;
    for (retention, named) in [
        (
            default().every(Duration::ZERO),
            "`Retention::every` is out of range: 0ns;",
        ),
        (default().every(Duration::MAX), "`Retention::every`"),
        (default().batch(0), "`Retention::batch` is out of range: 0;"),
        (
            default().batch(10_001),
            "`Retention::batch` is out of range: 10001;",
        ),
    ] {
        let builder = ConcurrentScheduler::builder(Arc::new(rig.store.clone()), config([]));
        let refused = builder.retention(retention).build().unwrap_err();
        assert!(matches!(refused, BuildError::Setting { .. }), "{refused}");
        assert!(refused.to_string().contains(named), "{refused}");
    }
}
