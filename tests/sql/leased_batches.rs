//! Where a rescue on PostgreSQL looks for leases that ran out: there is no index of them.

use std::time::Duration;

use tidings::{
    Backoff, Event, EventPattern, LeaseOwner, Outcome, PostgresOptions, PostgresStore, Priority,
    Registration,
    conformance::Target as _,
    sqlx,
    store::{
        Claim, ClaimedRequest, EventClaim, FanOut, HandlerRoom, LeaseOffer, LockMode, Renewal,
        RescueLost, Selection, Settled, Settlement, Storer,
    },
};

use crate::{fresh::postgres::Postgres, server::postgres_url};

const LEASE: Duration = Duration::from_secs(30);

/// Leased requests that a rescue would not find in time.
const OUT_OF_SIGHT: &str = "SELECT count(*) FROM {p}handler_requests r WHERE r.lease_until IS NOT NULL \
     AND NOT EXISTS (SELECT FROM {p}leases l WHERE r.id = ANY (l.requests) AND l.lease_until <= r.lease_until)";
const LEASED: &str = "SELECT count(*) FROM {p}handler_requests WHERE lease_until IS NOT NULL";
const NOTES: &str = "SELECT count(*) FROM {p}leases";

async fn count(fresh: &Postgres, sql: &str) -> i64 {
    let sql = sqlx::AssertSqlSafe(sql.replace("{p}", &fresh.prefix));
    let mut connection = fresh.pool.acquire().await.unwrap();
    sqlx::query_scalar(sql)
        .fetch_one(&mut *connection)
        .await
        .unwrap()
}

/// A store with so many unprocessed events, which `h` wants.
async fn with_events(events: usize) -> Postgres {
    let fresh = Postgres::new().await;
    let pattern = EventPattern::parse("*").unwrap();
    let registration = Registration::new(pattern, "h".into(), Priority::default(), 5);
    let mut session = fresh.store.session().await.unwrap();
    session
        .registrations()
        .register(&[registration])
        .await
        .unwrap();
    let events: Vec<_> = (0..events)
        .map(|number| Event::new("order.placed", &number).unwrap())
        .collect();
    session.events().raise(&events).await.unwrap();
    drop(session);
    fresh
}

fn offer(owner: LeaseOwner, room: usize) -> Option<LeaseOffer> {
    let rooms = vec![HandlerRoom::new("h", room)];
    Some(LeaseOffer::new(owner, LEASE, room, rooms))
}

async fn born_leased(store: &PostgresStore, owner: LeaseOwner, room: usize) -> Vec<ClaimedRequest> {
    let mut session = store.session().await.unwrap();
    let mut fan_out = FanOut::due(100);
    fan_out.offer = offer(owner, room);
    session
        .events()
        .fan_out(&fan_out)
        .await
        .unwrap()
        .born_leased
}

async fn claim(store: &PostgresStore, owner: LeaseOwner, limit: usize) -> Vec<ClaimedRequest> {
    let mut session = store.session().await.unwrap();
    let claim = Claim::new(owner, LEASE, limit, vec![HandlerRoom::new("h", limit)]);
    let mut requests = session.handler_requests();
    requests.claim(&claim).await.unwrap().requests
}

async fn complete(
    store: &PostgresStore,
    owner: LeaseOwner,
    claimed: &[ClaimedRequest],
) -> Vec<Settled> {
    let settlement = |one: &ClaimedRequest| {
        let mut settlement = Settlement::new(one.id, one.attempt, owner, Outcome::Completed);
        settlement.batch = one.batch;
        settlement
    };
    let settlements: Vec<_> = claimed.iter().map(settlement).collect();
    let mut session = store.session().await.unwrap();
    let mut requests = session.handler_requests();
    requests.settle(&settlements).await.unwrap()
}

#[tokio::test]
async fn whatever_is_leased_is_where_a_rescue_looks_for_it() {
    let fresh = with_events(10).await;
    let (store, owner) = (&fresh.store, LeaseOwner::new());
    let check = async |step: &str, leased: i64| {
        assert_eq!(count(&fresh, OUT_OF_SIGHT).await, 0, "{step}");
        assert_eq!(count(&fresh, LEASED).await, leased, "{step}");
    };
    let born = born_leased(store, owner, 4).await;
    check("born leased", 4).await;
    let claimed = claim(store, owner, 3).await;
    check("claimed", 7).await;
    let mut session = store.session().await.unwrap();
    session
        .events()
        .raise(&[Event::new("order.paid", &1).unwrap()])
        .await
        .unwrap();
    let hooked = EventClaim::new(owner, LEASE, 10);
    let hooked = session.events().claim(&hooked).await.unwrap();
    let fences = hooked.iter().map(|one| (one.event.id, one.attempt));
    // A backlog would keep it from being born leased.
    let backlog = claim(store, owner, 10).await;
    let mut fan_out = FanOut::new(Selection::Claimed(fences.collect()));
    fan_out.offer = offer(owner, 10);
    let after_hooks = session.events().fan_out(&fan_out).await.unwrap();
    assert_eq!(after_hooks.born_leased.len(), 1);
    check("claimed and born leased after hooks", 11).await;
    assert_eq!(
        complete(store, owner, &born[..3]).await,
        [Settled::Applied; 3]
    );
    let held: Vec<_> = [&born[3..], &claimed, &backlog].concat();
    let held = held.iter().map(|one| (one.id, one.attempt)).collect();
    let mut renewer = store.lease_renewer().await.unwrap();
    renewer
        .renew(&Renewal::new(owner, LEASE * 2, held))
        .await
        .unwrap();
    check("renewed", 8).await;
    fresh
        .run(
            "UPDATE {p}handler_requests SET queue = 2, rescues = 3, attempt = attempt + 1, owner = NULL, \
             lease_until = NULL WHERE owner IS NOT NULL",
        )
        .await;
    let suspect = Claim::new(owner, LEASE, 1, vec![HandlerRoom::new("h", 1)]);
    let suspect = session.handler_requests().claim_suspect(&suspect).await;
    assert_eq!(suspect.unwrap().requests.len(), 1);
    check("under suspicion", 1).await;
}

#[tokio::test]
async fn the_note_of_a_batch_goes_with_its_last_settlement() {
    let fresh = with_events(4).await;
    let (store, owner) = (&fresh.store, LeaseOwner::new());
    let born = born_leased(store, owner, 4).await;
    complete(store, owner, &born[..1]).await;
    // Again: what was refused was not settled, whatever it says.
    assert_eq!(
        complete(store, owner, &born[..1]).await,
        [Settled::Fenced; 1]
    );
    complete(store, owner, &born[1..3]).await;
    assert_eq!(count(&fresh, NOTES).await, 1, "one is leased");
    complete(store, owner, &born[3..]).await;
    assert_eq!(count(&fresh, NOTES).await, 0);
}

/// Its connection may break after the statement and before the commit, as an application's own pool
/// takes a transaction for it.
#[tokio::test]
async fn the_note_of_a_batch_goes_on_a_pool_of_the_application_too() {
    let fresh = with_events(2).await;
    let pool = sqlx::PgPool::connect(&postgres_url()).await.unwrap();
    let options = PostgresOptions::new().table_prefix(&*fresh.prefix);
    let store = PostgresStore::with_pool(pool, options).unwrap();
    let owner = LeaseOwner::new();
    let born = born_leased(&store, owner, 2).await;
    complete(&store, owner, &born[..1]).await;
    assert_eq!(count(&fresh, NOTES).await, 1);
    complete(&store, owner, &born[1..]).await;
    assert_eq!(count(&fresh, NOTES).await, 0);
}

#[tokio::test]
async fn a_batch_with_a_locked_request_keeps_its_note_until_a_rescue_has_it() {
    let fresh = with_events(3).await;
    let (store, owner) = (&fresh.store, LeaseOwner::new());
    let born = born_leased(store, owner, 3).await;
    let lock = format!(
        "SELECT id FROM {}handler_requests WHERE id = $1 FOR UPDATE",
        fresh.prefix
    );
    let locked = async || {
        let mut other = fresh.pool.begin().await.unwrap();
        sqlx::query(sqlx::AssertSqlSafe(lock.clone()))
            .bind(born[1].id.as_uuid())
            .execute(&mut *other)
            .await
            .unwrap();
        other
    };
    let other = locked().await;
    let settled = complete(store, owner, &born).await;
    assert_eq!(
        settled,
        [Settled::Applied, Settled::Locked, Settled::Applied]
    );
    assert_eq!(count(&fresh, OUT_OF_SIGHT).await, 0);
    other.rollback().await.unwrap();
    fresh.pass_time(LEASE * 2).await;
    let other = locked().await;
    let mut session = store.session().await.unwrap();
    let mut requests = session.handler_requests();
    let lost = RescueLost::new(10, Backoff::default());
    let rescued = requests.rescue(&lost).await.unwrap();
    assert_eq!(rescued.requests, []);
    assert_eq!(rescued.next_expiry, Some(Duration::ZERO));
    other.rollback().await.unwrap();
    assert_eq!(requests.rescue(&lost).await.unwrap().requests.len(), 1);
    assert_eq!(count(&fresh, NOTES).await, 0);
}

/// Such as those of transactional handlers, which settle one by one.
#[tokio::test]
async fn notes_that_nobody_needs_any_more_stand_in_no_way() {
    let fresh = with_events(1).await;
    let (store, owner) = (&fresh.store, LeaseOwner::new());
    fresh
        .run(
            "INSERT INTO {p}leases (lease_until, requests) \
             SELECT now() - interval '2 hours', ARRAY[gen_random_uuid()] FROM generate_series(1, 1000)",
        )
        .await;
    let born = born_leased(store, owner, 1).await;
    fresh
        .run(
            "UPDATE {p}handler_requests SET lease_until = now() - interval '1 second'; \
             UPDATE {p}leases SET lease_until = now() - interval '1 second' WHERE lease_until > now()",
        )
        .await;
    let mut session = store.session().await.unwrap();
    let lost = RescueLost::new(10, Backoff::default());
    let rescued = session.handler_requests().rescue(&lost).await.unwrap();
    assert_eq!(rescued.requests[0].id, born[0].id);
    assert_eq!(count(&fresh, NOTES).await, 0);
}

/// As of slow handlers whose requests came one by one. Each has a note of an earlier lease as well, and is
/// rescued once.
#[tokio::test]
async fn requests_that_were_leased_one_by_one_are_rescued_together() {
    let fresh = with_events(450).await;
    let (store, owner) = (&fresh.store, LeaseOwner::new());
    assert_eq!(born_leased(store, owner, 450).await.len(), 100);
    while !born_leased(store, owner, 450).await.is_empty() {}
    fresh
        .run(
            "INSERT INTO {p}leases (lease_until, requests) \
             SELECT lease_until, ARRAY[id] FROM {p}handler_requests; \
             DELETE FROM {p}leases WHERE cardinality(requests) > 1; \
             INSERT INTO {p}leases (lease_until, requests) \
             SELECT lease_until - interval '1 second', requests FROM {p}leases",
        )
        .await;
    fresh.pass_time(LEASE * 2).await;
    let mut session = store.session().await.unwrap();
    let lost = RescueLost::new(1000, Backoff::default());
    let rescued = session.handler_requests().rescue(&lost).await.unwrap();
    assert_eq!(rescued.requests.len(), 450);
    assert_eq!((rescued.next_expiry, count(&fresh, NOTES).await), (None, 0));
}

/// What one handler's registration says wrong costs the requests of others nothing.
#[tokio::test]
async fn a_registration_that_cannot_be_read_keeps_no_other_handler_from_its_requests() {
    let fresh = with_events(3).await;
    let (store, owner) = (&fresh.store, LeaseOwner::new());
    fresh
        .run(
            "INSERT INTO {p}registrations SELECT 'bad', pattern, priority, -1, hash + 1, prefix, specificity, \
             state, renamed_to, last_seen_at FROM {p}registrations",
        )
        .await;
    let mut session = store.session().await.unwrap();
    let mut fan_out = FanOut::due(100);
    fan_out.offer = offer(owner, 10);
    let fanned_out = session.events().fan_out(&fan_out).await.unwrap();
    let requests: Vec<_> = fanned_out
        .processed
        .iter()
        .map(|event| event.requests)
        .collect();
    assert_eq!(requests, [2; 3]);
    assert_eq!(fanned_out.born_leased.len(), 3);
    assert!(
        fanned_out
            .born_leased
            .iter()
            .all(|one| &*one.handler == "h")
    );
}

/// Some of these fail, and some raise an event.
async fn settle_mixed(
    store: &PostgresStore,
    owner: LeaseOwner,
    claimed: &[ClaimedRequest],
    fails: impl Fn(usize) -> bool,
    raises: impl Fn(usize) -> bool,
) -> Vec<Settled> {
    let settlement = |(index, one): (usize, &ClaimedRequest)| {
        let outcome = if fails(index) {
            Outcome::Failed {
                error: "no".into(),
                backoff: LEASE,
            }
        } else {
            Outcome::Completed
        };
        let mut settlement = Settlement::new(one.id, one.attempt, owner, outcome);
        settlement.batch = one.batch;
        if raises(index) {
            let event = Event::new("order.paid", &index).unwrap();
            settlement.raised.push(event.caused_by(&one.event));
        }
        settlement
    };
    let settlements: Vec<_> = claimed.iter().enumerate().map(settlement).collect();
    let mut session = store.session().await.unwrap();
    let settled = session.handler_requests().settle(&settlements).await;
    settled.unwrap()
}

#[tokio::test]
async fn the_note_of_a_batch_goes_whatever_became_of_its_requests() {
    let fresh = with_events(3).await;
    let own = fresh.store.clone();
    let pool = sqlx::PgPool::connect(&postgres_url()).await.unwrap();
    let options = PostgresOptions::new().table_prefix(&*fresh.prefix);
    let on_pool = PostgresStore::with_pool(pool, options).unwrap();
    let owner = LeaseOwner::new();
    type Choice = fn(usize) -> bool;
    let cases: [(&str, Choice, Choice); 4] = [
        ("one fails", |index| index == 0, |_| false),
        ("all fail", |_| true, |_| false),
        ("one raises", |_| false, |index| index == 1),
        (
            "one fails, one raises",
            |index| index == 0,
            |index| index == 1,
        ),
    ];
    for store in [&own, &on_pool] {
        for (case, fails, raises) in cases {
            fresh
                .run("TRUNCATE {p}unprocessed_events, {p}handler_requests")
                .await;
            let events = (0..3).map(|number| Event::new("order.placed", &number).unwrap());
            let events: Vec<_> = events.collect();
            let mut session = store.session().await.unwrap();
            session.events().raise(&events).await.unwrap();
            drop(session);
            let born = born_leased(store, owner, 3).await;
            assert_eq!(count(&fresh, NOTES).await, 1, "{case}");
            let settled = settle_mixed(store, owner, &born[..2], fails, raises).await;
            assert_eq!(settled, [Settled::Applied; 2], "{case}");
            assert_eq!(count(&fresh, NOTES).await, 1, "{case}: one is leased");
            let settled = settle_mixed(store, owner, &born[2..], fails, raises).await;
            assert_eq!(settled, [Settled::Applied; 1], "{case}");
            assert_eq!(count(&fresh, NOTES).await, 0, "{case}");
        }
    }
}

/// In whichever way it would have been written.
#[tokio::test]
async fn a_mixed_batch_with_a_locked_request_keeps_its_note() {
    for locked in [0, 1] {
        let fresh = with_events(3).await;
        let (store, owner) = (&fresh.store, LeaseOwner::new());
        let born = born_leased(store, owner, 3).await;
        let mut tx = store.begin().await.unwrap();
        let mut requests = tx.handler_requests();
        let found = requests.find_for_update(born[locked].id, LockMode::Wait);
        assert!(found.await.unwrap().is_some());
        drop(requests);
        let fails = |index| index == 0;
        let settled = settle_mixed(store, owner, &born, fails, |_| false).await;
        let mut expected = [Settled::Applied; 3];
        expected[locked] = Settled::Locked;
        assert_eq!(settled, expected);
        assert_eq!(count(&fresh, OUT_OF_SIGHT).await, 0);
        assert_eq!(count(&fresh, LEASED).await, 1);
        tx.rollback().await.unwrap();
        let again = &born[locked..=locked];
        let settled = settle_mixed(store, owner, again, fails, |_| false).await;
        assert_eq!(settled, [Settled::Applied]);
        assert_eq!(count(&fresh, NOTES).await, 0);
    }
}
