//! Schedulers on the in-memory store, from raise to settlement.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tidings::{
    ConcurrentScheduler, ConfigMap, Context, Event, Handler, HandlerError, MemoryStore, Scheduler,
    store::Storer,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smoke() {
    let store = MemoryStore::new();
    let ran = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ran);
    let handler = Handler::new("count", move |_: Arc<Event>, _: Context| {
        let count = Arc::clone(&count);
        async move {
            count.fetch_add(1, Ordering::SeqCst);
            Ok::<_, HandlerError>(())
        }
    });
    let config = ConfigMap::builder()
        .handler(handler.on("*"))
        .build()
        .unwrap();
    let scheduler = ConcurrentScheduler::builder(Arc::new(store.clone()), config)
        .build()
        .unwrap();
    scheduler.start().await.unwrap();
    for n in 0..10 {
        let mut tx = store.begin().await.unwrap();
        let events: Vec<_> = (0..100)
            .map(|_| Event::new("a.b", &json!({ "n": n })).unwrap())
            .collect();
        store.raiser().raise_all(&mut *tx, events).await.unwrap();
        tx.commit().await.unwrap();
    }
    let settled = store.signals().settled;
    loop {
        let seen = settled.seen();
        let mut session = store.session().await.unwrap();
        if session
            .handler_requests()
            .count_unexecuted()
            .await
            .unwrap()
            == 0
            && session.events().count_unprocessed().await.unwrap() == 0
        {
            break;
        }
        drop(session);
        settled.changed_since(seen).await;
    }
    assert_eq!(ran.load(Ordering::SeqCst), 1000);
    let report = scheduler.shutdown(Duration::from_secs(5)).await;
    assert_eq!(report.abandoned, 0);
}
