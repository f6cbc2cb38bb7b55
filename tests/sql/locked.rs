//! Requests that somebody else has locked delay no others, and are settled when they are free.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tidings::{
    ConcurrentScheduler, ConfigMap, Context, CooperativeScheduler, Event, Handler, HandlerError,
    RequestState, Scheduler,
    store::{FanOut, LockMode, Page, RequestFilter, Storer},
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

/// The claims say that nothing waits, the fan-outs that something does.
async fn a_ready_request_that_somebody_has_locked_holds_no_flood_of_events_back(
    store: Arc<dyn Storer>,
    build: fn(Arc<dyn Storer>, ConfigMap) -> Box<dyn Scheduler>,
) {
    let scheduler = || {
        let handler = Handler::new("handles", |_: Arc<Event>, _: Context| async {
            Ok::<_, HandlerError>(())
        });
        let config = ConfigMap::builder().handler(handler.on("*"));
        build(Arc::clone(&store), config.build().unwrap())
    };
    // With a handler that is registered, and nobody to run it.
    let before = scheduler();
    before.start().await.unwrap();
    before.shutdown(Duration::from_secs(5)).await;
    let event = |_| Event::new("thing.happened", &()).unwrap();
    let mut session = store.session().await.unwrap();
    session.events().raise(&[event(0)]).await.unwrap();
    let made = session.events().fan_out(&FanOut::due(1)).await.unwrap();
    assert_eq!(made.processed.len(), 1);
    let (filter, page) = (RequestFilter::default(), Page::first(2));
    let ready = session.handler_requests().list(&filter, &page).await;
    let [ready] = &ready.unwrap()[..] else {
        panic!("one event, one handler");
    };
    assert_eq!(ready.attempt, 0);
    let mut holder = store.begin().await.unwrap();
    let mut requests = holder.handler_requests();
    let locked = requests.find_for_update(ready.id, LockMode::Wait).await;
    assert!(locked.unwrap().is_some());
    drop(requests);

    const FLOOD: usize = 3000;
    let flood: Vec<_> = (0..FLOOD).map(event).collect();
    for events in flood.chunks(1000) {
        session.events().raise(events).await.unwrap();
    }
    let scheduler = scheduler();
    scheduler.start().await.unwrap();
    let all = until_completed(&store, FLOOD);
    let all = tokio::time::timeout(Duration::from_secs(15), all).await;
    assert!(all.is_ok(), "only {} completed", completed(&store).await);
    holder.rollback().await.unwrap();
    until_completed(&store, FLOOD + 1).await;
    scheduler.shutdown(Duration::from_secs(5)).await;
}

fn concurrent(store: Arc<dyn Storer>, config: ConfigMap) -> Box<dyn Scheduler> {
    Box::new(ConcurrentScheduler::builder(store, config).build().unwrap())
}

fn cooperative(store: Arc<dyn Storer>, config: ConfigMap) -> Box<dyn Scheduler> {
    Box::new(
        CooperativeScheduler::builder(store, config)
            .build()
            .unwrap(),
    )
}

#[cfg(feature = "postgres")]
mod postgres {
    use std::{
        sync::Arc,
        time::{Duration, Instant},
    };

    use tidings::{
        Event, EventPattern, LeaseOwner, Outcome, Priority, Registration,
        sqlx::{self, AssertSqlSafe, Connection as _, Executor as _, PgConnection},
        store::{Claim, ClaimedRequest, FanOut, HandlerRoom, Renewal, Settled, Settlement, Storer},
    };

    use crate::{fresh::postgres::Postgres, server::postgres_url};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn locked_requests_delay_no_others() {
        let fresh = Postgres::new().await;
        super::locked_requests_delay_no_others(Arc::new(fresh.store.clone())).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_ready_request_that_somebody_has_locked_holds_no_flood_of_events_back() {
        let of = super::a_ready_request_that_somebody_has_locked_holds_no_flood_of_events_back;
        for build in [super::concurrent, super::cooperative] {
            let fresh = Postgres::new().await;
            of(Arc::new(fresh.store.clone()), build).await;
        }
    }

    /// Two requests that are claimed.
    async fn claimed(fresh: &Postgres, owner: LeaseOwner) -> Vec<ClaimedRequest> {
        let mut session = fresh.store.session().await.unwrap();
        let pattern = EventPattern::parse("*").unwrap();
        let handler = Registration::new(pattern, "h".into(), Priority::default(), 5);
        session.registrations().register(&[handler]).await.unwrap();
        let event = || Event::new("a", &()).unwrap();
        session.events().raise(&[event(), event()]).await.unwrap();
        session.events().fan_out(&FanOut::due(10)).await.unwrap();
        let handlers = vec![HandlerRoom::new("h", 10)];
        let claim = Claim::new(owner, Duration::from_secs(30), 10, handlers);
        let batch = session.handler_requests().claim(&claim).await.unwrap();
        assert_eq!(batch.requests.len(), 2);
        batch.requests
    }

    fn completed(request: &ClaimedRequest, owner: LeaseOwner) -> Settlement {
        Settlement::new(request.id, request.attempt, owner, Outcome::Completed)
    }

    /// An application's transaction in which a statement was run.
    async fn holder(sql: String) -> PgConnection {
        let mut holder = PgConnection::connect(&postgres_url()).await.unwrap();
        holder.execute("BEGIN").await.unwrap();
        holder
            .execute(sqlx::raw_sql(AssertSqlSafe(sql)))
            .await
            .unwrap();
        holder
    }

    /// PostgreSQL keeps such a lock in the row as a number of another kind than a transaction's.
    #[tokio::test]
    async fn a_lock_that_several_share_delays_no_other_settlement() {
        let fresh = Postgres::new().await;
        let owner = LeaseOwner::new();
        let claimed = claimed(&fresh, owner).await;
        let lock = || {
            let (prefix, id) = (&fresh.prefix, claimed[0].id);
            format!("SELECT id FROM {prefix}handler_requests WHERE id = '{id}' FOR SHARE")
        };
        let holders = [holder(lock()).await, holder(lock()).await];
        let mut session = fresh.store.session().await.unwrap();
        let settlements: Vec<_> = claimed.iter().map(|one| completed(one, owner)).collect();
        let begun = Instant::now();
        let settled = session.handler_requests().settle(&settlements).await;
        assert_eq!(settled.unwrap(), [Settled::Locked, Settled::Applied]);
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?}");
        drop(holders);
    }

    /// A row of the application's that refers to a request keeps its key, not its lease.
    #[tokio::test]
    async fn a_reference_to_a_request_keeps_its_lease_from_nothing() {
        let fresh = Postgres::new().await;
        let owner = LeaseOwner::new();
        let claimed = claimed(&fresh, owner).await;
        let (prefix, id) = (&fresh.prefix, claimed[0].id);
        let sql =
            format!("SELECT id FROM {prefix}handler_requests WHERE id = '{id}' FOR KEY SHARE");
        let holder = holder(sql).await;
        let requests = claimed.iter().map(|one| (one.id, one.attempt)).collect();
        let renewal = Renewal::new(owner, Duration::from_secs(30), requests);
        let mut renewer = fresh.store.lease_renewer().await.unwrap();
        let renewed = renewer.renew(&renewal).await.unwrap();
        assert_eq!((renewed.skipped, renewed.lost), (vec![], vec![]));
        drop(holder);
    }

    /// All other settlements of the process would wait with it, for a lock time-out and more.
    #[tokio::test]
    async fn an_id_that_somebody_is_raising_holds_settlements_up_for_a_moment_only() {
        let fresh = Postgres::new().await;
        let owner = LeaseOwner::new();
        let claimed = claimed(&fresh, owner).await;
        let raised = Event::new("b", &()).unwrap();
        let mut connection = PgConnection::connect(&postgres_url()).await.unwrap();
        let mut tx = connection.begin().await.unwrap();
        let raiser = fresh.store.raiser();
        raiser.raise(&mut *tx, raised.clone()).await.unwrap();
        let mut session = fresh.store.session().await.unwrap();
        let mut settlement = completed(&claimed[0], owner);
        settlement.raised.push(raised);
        let begun = Instant::now();
        let settled = session
            .handler_requests()
            .settle(&[settlement.clone()])
            .await;
        let took = begun.elapsed();
        let error = settled.unwrap_err();
        assert!(error.is_transient(), "{error:?}");
        assert!(took < Duration::from_secs(2), "{took:?}");
        tx.rollback().await.unwrap();
        let mut session = fresh.store.session().await.unwrap();
        let settled = session.handler_requests().settle(&[settlement]).await;
        assert_eq!(settled.unwrap(), [Settled::Applied]);
    }
}

#[cfg(feature = "mysql")]
mod mysql {
    use std::sync::Arc;

    use crate::fresh::mysql::MySql;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn locked_requests_delay_no_others() {
        let fresh = MySql::new().await;
        super::locked_requests_delay_no_others(Arc::new(fresh.store.clone())).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_ready_request_that_somebody_has_locked_holds_no_flood_of_events_back() {
        let of = super::a_ready_request_that_somebody_has_locked_holds_no_flood_of_events_back;
        for build in [super::concurrent, super::cooperative] {
            let fresh = MySql::new().await;
            of(Arc::new(fresh.store.clone()), build).await;
        }
    }
}
