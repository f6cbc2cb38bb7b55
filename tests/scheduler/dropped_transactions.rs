//! The transaction of a handler that was dropped in the middle of a call is dropped, too: neither
//! committed nor rolled back over a connection that may be in the middle of a reply.

use std::{sync::Arc, time::Duration};

use tidings::{
    Backoff, Context, Event, Handler, HandlerError, HandlerResult, MemoryConnection, RequestState,
    faulty::{Fault, Operation},
    store::{Session, Storer, WakeUps},
};
use tokio::{sync::Notify, time::Instant};

use crate::{
    process::Process,
    rig::{KINDS, Kind, config, soon},
};

const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Default)]
struct State {
    in_call: Arc<Notify>,
    go_on: Arc<Notify>,
}

/// Writes, and is then in the middle of something; what, the event's name says.
async fn in_the_middle(
    state: State,
    event: Arc<Event>,
    context: Context,
    connection: &mut MemoryConnection,
) -> HandlerResult {
    if context.executions() > 0 || context.errors() > 0 || context.attempt() > 1 {
        return Ok(());
    }
    let row = Event::new("written.row", &())?;
    connection.events().raise(&[row]).await?;
    state.in_call.notify_one();
    match &*event.name {
        "thing.panics" => panic!("in the middle"),
        "thing.heeds" => {
            // It ends its calls before it answers.
            context.canceled().await;
            Err(HandlerError::new("canceled"))
        }
        "thing.waits" => {
            state.go_on.notified().await;
            Ok(())
        }
        "thing.fails" => Err(HandlerError::new("no")),
        _ => std::future::pending().await,
    }
}

struct Dropped {
    process: Process,
    state: State,
}

impl Dropped {
    async fn start(kind: Kind, name: &str) -> (Self, Box<dyn tidings::Scheduler>) {
        let (process, state) = (Process::new(WakeUps::Complete), State::default());
        let handler =
            Handler::transactional_with_state("in_the_middle", state.clone(), in_the_middle);
        let handler = handler
            .on("thing.*")
            .timeout(30 * SECOND)
            .backoff(Backoff::constant(SECOND));
        let scheduler = process.start_with(kind, config([handler])).await;
        process.rig.raise(name).await;
        soon("it runs", state.in_call.notified()).await;
        (Self { process, state }, scheduler)
    }

    /// How many transactions were ended by a call, by way of which.
    fn ended(&self) -> (u64, u64) {
        let calls = |operation| self.process.faults.calls(operation);
        (calls(Operation::Commit), calls(Operation::Rollback))
    }

    /// Checks that what the handler wrote is gone, and that nothing is locked.
    async fn assert_undone(&self) {
        let mut session = self.process.rig.store.session().await.unwrap();
        let filter = tidings::store::EventFilter::default().named(["written.row"]);
        assert_eq!(session.events().count(&filter).await.unwrap(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_time_out_or_a_panic_the_transaction_is_dropped() {
    for kind in KINDS {
        for name in ["thing.hangs", "thing.panics"] {
            let (dropped, _scheduler) = Dropped::start(kind, name).await;
            let (before, _) = dropped.ended();
            dropped
                .process
                .rig
                .until_only(RequestState::BackingOff)
                .await;
            assert_eq!(dropped.ended(), (before, 0), "{kind:?} {name}");
            dropped.assert_undone().await;
            dropped
                .process
                .rig
                .until_only(RequestState::Completed)
                .await;
            assert_eq!(dropped.ended(), (before + 1, 0), "{kind:?} {name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_that_breaks_it_off_drops_the_transaction() {
    for kind in KINDS {
        let (dropped, scheduler) = Dropped::start(kind, "thing.hangs").await;
        let ended = dropped.ended();
        scheduler.shutdown(2 * SECOND).await;
        assert_eq!(dropped.ended(), ended, "{kind:?}");
        assert_eq!(ended.1, 0);
        dropped.assert_undone().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_scheduler_that_is_dropped_drops_the_transaction() {
    for kind in KINDS {
        let (dropped, scheduler) = Dropped::start(kind, "thing.hangs").await;
        let ended = dropped.ended();
        drop(scheduler);
        tokio::time::sleep(SECOND).await;
        assert_eq!((dropped.ended(), ended.1), (ended, 0), "{kind:?}");
        dropped.assert_undone().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_canceled_handler_answers_and_is_rolled_back() {
    for kind in KINDS {
        for name in ["thing.heeds", "thing.waits"] {
            let (dropped, _scheduler) = Dropped::start(kind, name).await;
            let (commits, rollbacks) = dropped.ended();
            assert_eq!(rollbacks, 0);
            let id = dropped.process.rig.only().await.id;
            let mut session = dropped.process.rig.store.session().await.unwrap();
            session.handler_requests().cancel(id).await.unwrap();
            if name == "thing.waits" {
                dropped.state.go_on.notify_one();
            }
            let rolled_back = dropped.process.faults.until_called(Operation::Rollback, 1);
            soon("it is rolled back", rolled_back).await;
            assert_eq!(dropped.ended(), (commits, 1), "{kind:?} {name}");
            dropped.assert_undone().await;
        }
        let (dropped, _scheduler) = Dropped::start(kind, "thing.fails").await;
        let rig = &dropped.process.rig;
        rig.until_only(RequestState::BackingOff).await;
        assert_eq!(dropped.ended().1, 1, "an error is rolled back");
    }
}

#[tokio::test(start_paused = true)]
async fn a_settlement_or_a_commit_that_hangs_is_not_rolled_back_over() {
    for kind in KINDS {
        for operation in [Operation::Settle, Operation::Commit] {
            let (dropped, _scheduler) = Dropped::start(kind, "thing.waits").await;
            dropped.process.faults.inject(operation, Fault::Block, 1);
            dropped.state.go_on.notify_one();
            let blocked = dropped.process.faults.until_blocked(operation, 1);
            soon("the call hangs", blocked).await;
            let rig = &dropped.process.rig;
            rig.until_only(RequestState::Completed).await;
            // Only who reads a request after a lost commit rolls back, on a connection of its own.
            let most = u64::from(operation == Operation::Commit);
            assert!(dropped.ended().1 <= most, "{kind:?} {operation:?}");
            dropped.assert_undone().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn transactions_that_cannot_begin_are_tried_ever_more_rarely_and_soon_after_an_outage() {
    for kind in KINDS {
        let process = Process::new(WakeUps::Complete);
        async fn succeeds(_: Arc<Event>, _: Context, _: &mut MemoryConnection) -> HandlerResult {
            Ok(())
        }
        let handler = Handler::transactional("succeeds", succeeds).on("thing.*");
        let _scheduler = process.start_with(kind, config([handler])).await;
        let begins = |process: &Process| process.faults.calls(Operation::Begin);
        let before = begins(&process);
        process.faults.inject_always(Operation::Begin, Fault::Fail);
        process.rig.raise_many("thing.happened", 20).await;
        tokio::time::sleep(60 * SECOND).await;
        let in_a_minute = begins(&process) - before;
        // Each waits half to all of 1, 1, 2, 4, 8, 15, 15, 15 s.
        assert!(in_a_minute <= 20 * 16, "{kind:?}: {in_a_minute}");
        let before = begins(&process);
        tokio::time::sleep(600 * SECOND).await;
        let later = begins(&process) - before;
        assert!((20 * 39..=20 * 81).contains(&later), "{kind:?}: {later}");
        process.faults.heal_all();
        let healed = Instant::now();
        process.rig.until_completed(20).await;
        assert!(healed.elapsed() <= 16 * SECOND, "{:?}", healed.elapsed());
        let requests = process.rig.requests().await;
        let unhurt = |request: &tidings::HandlerRequest| request.errors == 0;
        assert!(requests.iter().all(unhurt), "{kind:?}");
        // The next outage begins with short waits.
        process.faults.inject(Operation::Begin, Fault::Fail, 1);
        let begun = Instant::now();
        process.rig.raise("thing.happened").await;
        process.rig.until_completed(21).await;
        assert!(begun.elapsed() <= SECOND + SECOND / 10, "{kind:?}");
    }
}
