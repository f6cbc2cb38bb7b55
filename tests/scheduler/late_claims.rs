//! Claims whose answers come so late that their lease has all but run out.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tidings::{
    CancellationCause, Context, Event, Handler, HandlerError, RequestState,
    faulty::{Fault, FaultyStorer, Operation},
};
use tokio::time::{Instant, advance, sleep};

use crate::rig::{KINDS, Kind, Rig, config, soon};

const LEASE: Duration = Duration::from_secs(30);

/// Attempts that began.
type Begun = Arc<Mutex<Vec<u64>>>;

fn handler(begun: &Begun, canceled: &Arc<Mutex<Option<(Instant, CancellationCause)>>>) -> Handler {
    let (begun, canceled) = (Arc::clone(begun), Arc::clone(canceled));
    Handler::new("late", move |_: Arc<Event>, context: Context| {
        begun.lock().push(context.attempt());
        let canceled = Arc::clone(&canceled);
        async move {
            if context.attempt() == 1 {
                let cause = context.canceled().await;
                *canceled.lock() = Some((Instant::now(), cause));
            }
            Ok::<_, HandlerError>(())
        }
    })
    .on("thing.happened")
}

async fn begin(kind: Kind, map: Handler) -> (Rig, FaultyStorer, Box<dyn tidings::Scheduler>) {
    let rig = Rig::paused();
    let store = FaultyStorer::new(Arc::new(rig.store.clone()));
    let wanted = rig
        .scheduler_on(Arc::new(store.clone()), config([map]))
        .kind(kind)
        .call_timeout(LEASE);
    let scheduler = wanted.start().await;
    (rig, store, scheduler)
}

#[tokio::test(start_paused = true)]
async fn what_a_process_that_stood_still_for_a_lease_was_given_before_does_not_begin() {
    for kind in KINDS {
        let (begun, canceled) = <(Begun, _)>::default();
        let (rig, store, _scheduler) = begin(kind, handler(&begun, &canceled)).await;
        let faults = store.faults();
        faults.inject(Operation::FanOut, Fault::BlockAnswer, 1);
        rig.raise("thing.happened").await;
        faults.until_blocked(Operation::FanOut, 1).await;
        // The answer is there, and nobody reads it until the lease has run out.
        faults.heal(Operation::FanOut);
        advance(LEASE + Duration::from_secs(1)).await;
        rig.until_only(RequestState::Completed).await;
        assert!(!begun.lock().contains(&1), "{kind:?}: {:?}", begun.lock());
        assert_eq!(rig.only().await.errors, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_runs_out_soon_after_its_late_answer_cancels_in_time() {
    for kind in KINDS {
        let (begun, canceled) = <(Begun, _)>::default();
        let (rig, store, _scheduler) = begin(kind, handler(&begun, &canceled)).await;
        let faults = store.faults();
        faults.inject_always(Operation::Renew, Fault::Fail);
        // Not when the lease would run out just when it is looked at.
        sleep(Duration::from_secs(1)).await;
        faults.inject(Operation::FanOut, Fault::BlockAnswer, 1);
        let sent = Instant::now();
        rig.raise("thing.happened").await;
        faults.until_blocked(Operation::FanOut, 1).await;
        sleep(LEASE - Duration::from_millis(100)).await;
        faults.heal(Operation::FanOut);
        soon("it is canceled", async {
            while canceled.lock().is_none() {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        let (at, cause) = canceled.lock().take().unwrap();
        assert_eq!(cause, CancellationCause::LeaseExpired);
        let late = (at - sent).saturating_sub(LEASE);
        assert!(late < Duration::from_millis(10), "{kind:?}: {late:?} late");
    }
}
