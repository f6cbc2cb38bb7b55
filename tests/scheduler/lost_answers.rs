//! A settlement that took effect although its answer was lost, in a store that has become slow.

use std::{sync::Arc, time::Duration};

use tidings::{
    Context, Event, Handler, HandlerError, RequestState,
    faulty::{Fault, FaultyStorer, Operation},
};
use tokio::time::Instant;

use crate::rig::{KINDS, Rig, config};

const REQUESTS: usize = 700;

/// To ask for one after the other takes longer than a call may.
#[tokio::test(start_paused = true)]
async fn what_became_of_many_settlements_is_found_out_however_slowly() {
    for kind in KINDS {
        for find in [20, 400, 4_000] {
            let rig = Rig::paused();
            let store = Arc::new(FaultyStorer::new(Arc::new(rig.store.clone())));
            let end = Instant::now() + Duration::from_secs(10);
            let handler = Handler::new("h", move |_: Arc<Event>, _: Context| async move {
                tokio::time::sleep_until(end).await;
                Ok::<_, HandlerError>(())
            });
            let config = config([handler.on("*").concurrency(REQUESTS)]);
            let scheduler = rig.scheduler_on(Arc::clone(&store) as _, config);
            let scheduler = scheduler.kind(kind).workers(REQUESTS).start().await;
            rig.raise_many("thing.happened", REQUESTS).await;
            rig.until("all execute", |rig| async move {
                rig.count(RequestState::Executing).await == REQUESTS as u64
            })
            .await;
            let faults = store.faults();
            faults.inject(Operation::Settle, Fault::LoseAnswer, 1);
            let slow = Fault::Delay(Duration::from_millis(find));
            faults.inject_always(Operation::FindRequest, slow);
            tokio::time::sleep_until(end).await;
            rig.until_completed(REQUESTS as u64).await;
            let known = async {
                while scheduler.status().settling > 0 {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            };
            let known = tokio::time::timeout(Duration::from_secs(3600), known).await;
            known.expect("it is known what became of them");
            // Those whose answer was lost were asked for once each, and not again and again.
            let calls = faults.calls(Operation::FindRequest);
            assert!(calls <= REQUESTS as u64 + 64, "{kind:?} {find}: {calls}");
            let report = scheduler.shutdown(Duration::from_secs(5)).await;
            assert_eq!(report.abandoned, 0, "{kind:?} {find}");
        }
    }
}
