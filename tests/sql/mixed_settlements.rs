//! Batches of settlements that PostgreSQL writes in two ways are still settled as one.

use std::{sync::Arc, time::Duration};

use tidings::{
    ConcurrentScheduler, ConfigMap, Context, Event, EventPattern, Handler, HandlerError,
    LeaseOwner, Outcome, Priority, Registration, RequestState, Scheduler,
    sqlx::{self, Connection as _, PgConnection},
    store::{
        Claim, ClaimedRequest, FanOut, HandlerRoom, LockMode, Page, RequestFilter, Settled,
        Settlement, Storer,
    },
};

use crate::{fresh::postgres::Postgres, server::postgres_url};

/// What the database refuses from now on: errors with this text, and events of this name.
const REFUSED: &str = "unstorable";
const REFUSE: &str = "ALTER TABLE {p}handler_requests ADD CONSTRAINT refuses CHECK (last_errors::text NOT LIKE '%unstorable%'); \
     ALTER TABLE {p}events ADD CONSTRAINT refuses CHECK (name <> 'unstorable')";

/// So many requests that are claimed, in the order of their ids.
async fn claimed(fresh: &Postgres, owner: LeaseOwner, count: usize) -> Vec<ClaimedRequest> {
    let mut session = fresh.store.session().await.unwrap();
    let pattern = EventPattern::parse("a").unwrap();
    let handler = Registration::new(pattern, "h".into(), Priority::default(), 5);
    session.registrations().register(&[handler]).await.unwrap();
    let events: Vec<_> = (0..count).map(|_| Event::new("a", &()).unwrap()).collect();
    session.events().raise(&events).await.unwrap();
    session.events().fan_out(&FanOut::due(count)).await.unwrap();
    let handlers = vec![HandlerRoom::new("h", count)];
    let claim = Claim::new(owner, Duration::from_secs(30), count, handlers);
    let batch = session.handler_requests().claim(&claim).await.unwrap();
    assert_eq!(batch.requests.len(), count);
    batch.requests
}

fn settlement(request: &ClaimedRequest, owner: LeaseOwner, outcome: Outcome) -> Settlement {
    Settlement::new(request.id, request.attempt, owner, outcome)
}

fn failed(error: &str) -> Outcome {
    Outcome::Failed {
        error: error.to_owned(),
        backoff: Duration::from_secs(3600),
    }
}

/// A caller divides a batch that fails until the culprit is alone: what was settled the first time
/// would be refused then.
#[tokio::test]
async fn one_that_cannot_be_stored_takes_all_back() {
    for is_event in [false, true] {
        let fresh = Postgres::new().await;
        let owner = LeaseOwner::new();
        let claimed = claimed(&fresh, owner, 4).await;
        fresh.run(REFUSE).await;
        let mut settlements: Vec<_> = claimed
            .iter()
            .map(|one| settlement(one, owner, Outcome::Completed))
            .collect();
        let raised = Event::new("b", &()).unwrap();
        settlements[1].raised.push(raised.clone());
        settlements[2].outcome = failed("no");
        if is_event {
            let refused = Event::new(REFUSED, &()).unwrap();
            settlements[3].raised.push(refused);
        } else {
            settlements[3].outcome = failed(REFUSED);
        }
        let mut session = fresh.store.session().await.unwrap();
        let settled = session.handler_requests().settle(&settlements).await;
        let error = settled.unwrap_err();
        assert!(!error.is_transient(), "{error:?}");
        let mut session = fresh.store.session().await.unwrap();
        let mut requests = session.handler_requests();
        for one in &claimed {
            let request = requests.find(one.id).await.unwrap().unwrap();
            assert!(request.check_fence(owner, one.attempt).is_ok());
        }
        drop(requests);
        let found = session.events().find(raised.id).await.unwrap();
        assert!(found.is_none());
        let settled = session.handler_requests().settle(&settlements[..3]).await;
        assert_eq!(settled.unwrap(), [Settled::Applied; 3]);
        assert!(session.events().find(raised.id).await.unwrap().is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_culprit_of_a_batch_alone_gets_the_error() {
    const REQUESTS: usize = 40;
    let fresh = Postgres::new().await;
    let store: Arc<dyn Storer> = Arc::new(fresh.store.clone());
    let handler = Handler::new("h", |event: Arc<Event>, _: Context| async move {
        match event.data.as_str() {
            "7" => Err(HandlerError::retry_after(
                Duration::from_secs(3600),
                REFUSED,
            )),
            "8" => Err(HandlerError::retry_after(Duration::from_secs(3600), "no")),
            _ => Ok(()),
        }
    });
    let config = ConfigMap::builder().handler(handler.on("a"));
    let scheduler = ConcurrentScheduler::builder(Arc::clone(&store), config.build().unwrap());
    let scheduler = scheduler.build().unwrap();
    fresh.run(REFUSE).await;
    let events = (0..REQUESTS).map(|number| Event::new("a", &number).unwrap());
    let events: Vec<_> = events.collect();
    let mut session = store.session().await.unwrap();
    session.events().raise(&events).await.unwrap();
    scheduler.start().await.unwrap();
    let executing =
        RequestFilter::default().in_states([RequestState::Executing, RequestState::Pending]);
    loop {
        let mut requests = session.handler_requests();
        let all = requests.count(&RequestFilter::default()).await.unwrap();
        if all == REQUESTS as u64 && requests.count(&executing).await.unwrap() == 0 {
            break;
        }
        drop(requests);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let page = Page::first(REQUESTS);
    let mut requests = session.handler_requests();
    let all = requests.list(&RequestFilter::default(), &page).await;
    for request in all.unwrap() {
        assert_eq!(request.executions, 1);
        let errors: Vec<_> = request
            .last_errors
            .iter()
            .map(|one| &*one.message)
            .collect();
        if request.event_id == events[7].id {
            assert!(
                errors[0].contains("its settlement was refused"),
                "{errors:?}"
            );
        } else if request.event_id == events[8].id {
            assert_eq!(errors, ["no"]);
        } else {
            assert!(request.completed_at.is_some(), "{request:?}");
        }
    }
    scheduler.shutdown(Duration::from_secs(5)).await;
}

/// Two transactions that wait, each with some of the other's requests, would otherwise wait for each
/// other.
#[tokio::test]
async fn a_transaction_locks_a_mixed_batch_in_one_order() {
    let fresh = Postgres::new().await;
    let owner = LeaseOwner::new();
    let mut claimed = claimed(&fresh, owner, 2).await;
    claimed.sort_unstable_by_key(|one| one.id);
    let settlements = [
        settlement(&claimed[0], owner, failed("no")),
        settlement(&claimed[1], owner, Outcome::Completed),
    ];
    let mut holder = fresh.store.begin().await.unwrap();
    let mut requests = holder.handler_requests();
    let found = requests.find_for_update(claimed[0].id, LockMode::Wait);
    assert!(found.await.unwrap().is_some());
    drop(requests);
    let store = fresh.store.clone();
    let waiting = tokio::spawn(async move {
        let mut tx = store.begin().await.unwrap();
        let settled = tx.handler_requests().settle(&settlements).await;
        tx.commit().await.unwrap();
        settled
    });
    let mut watch = PgConnection::connect(&postgres_url()).await.unwrap();
    let sql = format!(
        "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
         WHERE NOT l.granted AND a.query LIKE '%{}handler_requests%'",
        fresh.prefix
    );
    loop {
        let waits: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql.clone()))
            .fetch_one(&mut watch)
            .await
            .unwrap();
        if waits > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut requests = holder.handler_requests();
    let second = requests.find_for_update(claimed[1].id, LockMode::SkipLocked);
    assert!(
        second.await.unwrap().is_some(),
        "the second was locked first"
    );
    drop(requests);
    holder.rollback().await.unwrap();
    let settled = waiting.await.unwrap();
    assert_eq!(settled.unwrap(), [Settled::Applied; 2]);
}
