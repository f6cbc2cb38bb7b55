//! Requests that somebody else has locked delay no others, and are settled when they are free.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tidings::{
    ConcurrentScheduler, ConfigMap, Context, Event, Handler, HandlerError, RequestState, Scheduler,
    store::{LockMode, RequestFilter, Storer},
};
use tokio::sync::{Semaphore, mpsc};

const REQUESTS: usize = 100;
/// More than a store has connections for sessions.
const LOCKED: usize = 12;

async fn completed(store: &Arc<dyn Storer>) -> u64 {
    let filter = RequestFilter::default().in_states([RequestState::Completed]);
    let mut session = store.session().await.unwrap();
    session.handler_requests().count(&filter).await.unwrap()
}

async fn until_completed(store: &Arc<dyn Storer>, count: usize) {
    while completed(store).await < count as u64 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn locked_requests_delay_no_others(store: Arc<dyn Storer>) {
    let go_on = Arc::new(Semaphore::new(0));
    let (running, mut begun) = mpsc::unbounded_channel();
    let gate = Arc::clone(&go_on);
    let handler = Handler::new("held", move |_: Arc<Event>, context: Context| {
        let (gate, running) = (Arc::clone(&gate), running.clone());
        async move {
            running.send(context.request_id()).unwrap();
            gate.acquire().await.unwrap().forget();
            // Errors are written by other statements than successes.
            if context.errors() == 0 && context.request_id().as_uuid().as_u128().is_multiple_of(2) {
                return Err(HandlerError::retry_after(Duration::ZERO, "once"));
            }
            Ok(())
        }
    });
    let handler = handler.on("*").concurrency(REQUESTS);
    let config = ConfigMap::builder().handler(handler).build().unwrap();
    let scheduler = ConcurrentScheduler::builder(Arc::clone(&store), config)
        .workers(REQUESTS)
        .build()
        .unwrap();
    scheduler.start().await.unwrap();
    let events: Vec<_> = (0..REQUESTS)
        .map(|_| Event::new("thing.happened", &()).unwrap())
        .collect();
    let mut session = store.session().await.unwrap();
    session.events().raise(&events).await.unwrap();
    drop(session);
    let mut ids = Vec::new();
    while ids.len() < REQUESTS {
        ids.push(begun.recv().await.unwrap());
    }
    let mut holder = store.begin().await.unwrap();
    for id in &ids[..LOCKED] {
        let mut requests = holder.handler_requests();
        let found = requests.find_for_update(*id, LockMode::Wait).await;
        assert!(found.unwrap().is_some());
    }
    let released = Instant::now();
    go_on.add_permits(2 * REQUESTS);
    until_completed(&store, REQUESTS - LOCKED).await;
    let took = released.elapsed();
    assert!(
        took < Duration::from_secs(3),
        "{took:?}: less than one lock time-out"
    );
    assert_eq!(completed(&store).await, (REQUESTS - LOCKED) as u64);
    holder.rollback().await.unwrap();
    until_completed(&store, REQUESTS).await;
    let mut session = store.session().await.unwrap();
    for id in ids {
        let request = session.handler_requests().find(id).await.unwrap().unwrap();
        assert_eq!(request.executions, 1 + request.errors, "{request:?}");
    }
    let report = scheduler.shutdown(Duration::from_secs(5)).await;
    assert_eq!(report.abandoned, 0);
}

#[cfg(feature = "postgres")]
mod postgres {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn locked_requests_delay_no_others() {
        let fresh = crate::fresh::postgres::Postgres::new().await;
        super::locked_requests_delay_no_others(std::sync::Arc::new(fresh.store.clone())).await;
    }
}

#[cfg(feature = "mysql")]
mod mysql {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn locked_requests_delay_no_others() {
        let fresh = crate::fresh::mysql::MySql::new().await;
        super::locked_requests_delay_no_others(std::sync::Arc::new(fresh.store.clone())).await;
    }
}
