//! How often a store waits for its server, counted on the wire.

/// The tests, for a fresh store, the URL of its server, its types, and the round trips of: a handler's
/// transaction, the same on an application's pool, one that ten share, raising in a transaction of the application's,
/// and in a session; fanning out, claiming and settling a batch; settling one of mixed outcomes, and one of errors half of
/// which are locked.
macro_rules! round_trip_tests {
    (
        $fresh:expr, $url:expr, $store:ty, $options:expr, $pool_options:ty, $connection:ty,
        $handled:literal, $handled_on_pool:literal, $shared:literal, $raised:literal, $raised_in_session:literal,
        $batch:expr, $mixed:expr
    ) => {
        use std::time::Duration;

        use sqlx::{Connection as _, Executor as _};
        use tidings::{
            Event, EventPattern, LeaseOwner, Outcome, Priority, Registration, sqlx,
            store::{Claim, ClaimedRequest, FanOut, HandlerRoom, LeaseOffer, LockMode, Raised, Settled, Settlement, Storer},
        };

        use crate::proxy::Proxy;

        /// The round trips of a transaction of so many handlers, from its beginning to its commit, without
        /// those of the handlers.
        async fn handle(store: &$store, proxy: &Proxy, handlers: usize) -> u64 {
            const ROUNDS: u64 = 20;
            let owner = LeaseOwner::new();
            let mut tx = store.begin().await.unwrap();
            let registration = Registration::new(
                EventPattern::parse("a").unwrap(),
                "h".into(),
                Priority::default(),
                5,
            );
            tx.registrations().register(&[registration]).await.unwrap();
            tx.commit().await.unwrap();
            let mut trips = 0;
            for round in 0..=ROUNDS {
                let mut session = store.session().await.unwrap();
                let events = (0..handlers).map(|_| Event::new("a", &()).unwrap());
                let events: Vec<_> = events.collect();
                session.events().raise(&events).await.unwrap();
                let due = FanOut::due(10);
                session.events().fan_out(&due).await.unwrap();
                let room = HandlerRoom::new("h", handlers);
                let lease = Duration::from_secs(60);
                let claim = Claim::new(owner, lease, handlers, vec![room]);
                let claimed = session.handler_requests().claim(&claim).await.unwrap();
                drop(session);
                let settlements = claimed.requests.iter().map(|claimed| {
                    Settlement::new(claimed.id, claimed.attempt, owner, Outcome::Completed)
                });
                let settlements: Vec<_> = settlements.collect();
                // Connections that come back are tested, for which nobody waits.
                tokio::time::sleep(Duration::from_millis(20)).await;
                let before = proxy.sendings();
                let mut tx = store.begin().await.unwrap();
                for _ in 0..handlers {
                    if handlers > 1 {
                        tx.savepoint().await.unwrap();
                    }
                    let _ = tx.connection();
                }
                let settled = tx.handler_requests().settle(&settlements).await.unwrap();
                assert_eq!(settled, vec![Settled::Applied; handlers]);
                tx.commit().await.unwrap();
                // The first one prepares its statements.
                if round > 0 {
                    trips += proxy.sendings() - before;
                }
            }
            assert_eq!(trips % ROUNDS, 0, "{trips} in {ROUNDS} rounds");
            trips / ROUNDS
        }

        #[tokio::test]
        async fn a_transactional_handler_costs_few_round_trips() {
            let fresh = $fresh;
            let (proxy, through) = Proxy::of(&$url).await;
            // Each connection prepares its statements.
            let options = $options.max_connections(1).table_prefix(&*fresh.prefix);
            let own = <$store>::connect(&through, options.clone()).await.unwrap();
            assert_eq!(handle(&own, &proxy, 1).await, $handled);
            assert_eq!(handle(&own, &proxy, 10).await, $shared);
            own.close().await;
            let pool = <$pool_options>::new()
                .test_before_acquire(false)
                .connect_lazy(&through)
                .unwrap();
            let on_pool = <$store>::with_pool(pool, options).unwrap();
            assert_eq!(handle(&on_pool, &proxy, 1).await, $handled_on_pool);
        }

        /// The round trips of a fan-out whose requests are born leased, of one whose requests are born ready,
        /// of their claim, and of a settlement, all of so many.
        async fn batch(store: &$store, proxy: &Proxy, count: usize) -> [u64; 4] {
            let owner = LeaseOwner::new();
            let lease = Duration::from_secs(60);
            let rooms = || vec![HandlerRoom::new("h", count)];
            let settlements = |held: &[ClaimedRequest]| {
                let settle = |held: &ClaimedRequest| {
                    let mut settlement = Settlement::new(held.id, held.attempt, owner, Outcome::Completed);
                    settlement.batch = held.batch;
                    settlement
                };
                held.iter().map(settle).collect::<Vec<_>>()
            };
            let mut session = store.session().await.unwrap();
            let mut trips = [0; 4];
            // The first round prepares the statements.
            for _ in 0..2 {
                for leased in [true, false] {
                    let events = (0..count).map(|_| Event::new("a", &()).unwrap());
                    let events: Vec<_> = events.collect();
                    session.events().raise(&events).await.unwrap();
                    let mut due = FanOut::due(count);
                    if leased {
                        due.offer = Some(LeaseOffer::new(owner, lease, count, rooms()));
                    }
                    let before = proxy.sendings();
                    let fanned_out = session.events().fan_out(&due).await.unwrap();
                    trips[usize::from(!leased)] = proxy.sendings() - before;
                    assert_eq!(fanned_out.processed.len(), count);
                    let mut held = fanned_out.born_leased;
                    if !leased {
                        let before = proxy.sendings();
                        let claim = Claim::new(owner, lease, count, rooms());
                        held = session.handler_requests().claim(&claim).await.unwrap().requests;
                        trips[2] = proxy.sendings() - before;
                    }
                    let before = proxy.sendings();
                    let settled = session.handler_requests().settle(&settlements(&held)).await.unwrap();
                    trips[3] = proxy.sendings() - before;
                    assert_eq!(settled, vec![Settled::Applied; count]);
                }
            }
            trips
        }

        #[tokio::test]
        async fn a_thousand_cost_as_many_round_trips_as_two() {
            let fresh = $fresh;
            let (proxy, through) = Proxy::of(&$url).await;
            let options = $options.table_prefix(&*fresh.prefix);
            let store = <$store>::connect(&through, options).await.unwrap();
            let mut tx = store.begin().await.unwrap();
            let pattern = EventPattern::parse("a").unwrap();
            let registration = Registration::new(pattern, "h".into(), Priority::default(), 5);
            tx.registrations().register(&[registration]).await.unwrap();
            tx.commit().await.unwrap();
            for count in [1, 2, 1000] {
                // Connections that come back are tested, for which nobody waits.
                let mut least = [u64::MAX; 4];
                for _ in 0..3 {
                    let trips = batch(&store, &proxy, count).await;
                    least = std::array::from_fn(|step| least[step].min(trips[step]));
                }
                assert_eq!(least, $batch, "{count} at once");
            }
            store.close().await;
        }

        /// The round trips of settling so many, of which some fail and some raise events, and of settling so many that
        /// fail, half of which somebody has locked.
        async fn mixed(store: &$store, holder: &$store, proxy: &Proxy, count: usize) -> [u64; 2] {
            let owner = LeaseOwner::new();
            let lease = Duration::from_secs(60);
            let failed = || Outcome::Failed {
                error: "no".into(),
                backoff: lease,
            };
            let mut trips = [u64::MAX; 2];
            let mut session = store.session().await.unwrap();
            // The first round prepares the statements, and connections that come back are tested, for which nobody
            // waits.
            for _ in 0..3 {
                for (number, trips) in trips.iter_mut().enumerate() {
                    let events: Vec<_> = (0..count).map(|_| Event::new("a", &()).unwrap()).collect();
                    session.events().raise(&events).await.unwrap();
                    let mut due = FanOut::due(10 * count);
                    let rooms = vec![HandlerRoom::new("h", count)];
                    due.offer = Some(LeaseOffer::new(owner, lease, count, rooms));
                    let held = session.events().fan_out(&due).await.unwrap().born_leased;
                    assert_eq!(held.len(), count);
                    let settlement = |(index, held): (usize, &ClaimedRequest)| {
                        let fails = number == 1 || index % 100 == 0;
                        let outcome = if fails { failed() } else { Outcome::Completed };
                        let mut settlement = Settlement::new(held.id, held.attempt, owner, outcome);
                        settlement.batch = held.batch;
                        if !fails && index % 100 == 1 {
                            settlement.raised.push(Event::new("b", &()).unwrap());
                        }
                        settlement
                    };
                    let settlements: Vec<_> = held.iter().enumerate().map(settlement).collect();
                    let mut tx = holder.begin().await.unwrap();
                    let mut locked = 0;
                    if number == 1 {
                        for held in held.iter().skip(count / 2) {
                            let mut requests = tx.handler_requests();
                            let found = requests.find_for_update(held.id, LockMode::Wait).await;
                            assert!(found.unwrap().is_some());
                            locked += 1;
                        }
                    }
                    let before = proxy.sendings();
                    let settled = session.handler_requests().settle(&settlements).await.unwrap();
                    *trips = (*trips).min(proxy.sendings() - before);
                    let mut expected = vec![Settled::Applied; count - locked];
                    expected.resize(count, Settled::Locked);
                    assert_eq!(settled, expected);
                    tx.rollback().await.unwrap();
                }
            }
            trips
        }

        #[tokio::test]
        async fn a_thousand_of_mixed_outcomes_cost_as_many_round_trips_as_two() {
            let fresh = $fresh;
            let (proxy, through) = Proxy::of(&$url).await;
            let options = $options.table_prefix(&*fresh.prefix);
            let store = <$store>::connect(&through, options).await.unwrap();
            let mut tx = store.begin().await.unwrap();
            let pattern = EventPattern::parse("a").unwrap();
            let registration = Registration::new(pattern, "h".into(), Priority::default(), 5);
            tx.registrations().register(&[registration]).await.unwrap();
            tx.commit().await.unwrap();
            for count in [2, 1000] {
                let trips = mixed(&store, &fresh.store, &proxy, count).await;
                assert_eq!(trips, $mixed, "{count} at once");
            }
            store.close().await;
        }

        #[tokio::test]
        async fn raising_thousands_costs_as_many_round_trips_as_raising_one() {
            let fresh = $fresh;
            let (proxy, through) = Proxy::of(&$url).await;
            let raiser = fresh.store.raiser();
            let options = $options.table_prefix(&*fresh.prefix);
            let store = <$store>::connect(&through, options).await.unwrap();
            let mut session = store.session().await.unwrap();
            let mut connection = <$connection>::connect(&through).await.unwrap();
            connection.execute("BEGIN").await.unwrap();
            for count in [1, 5000] {
                let events = || -> Vec<_> {
                    let data = serde_json::json!({ "order": 4711, "total_cents": 1290 });
                    (0..count)
                        .map(|_| Event::new("order.placed", &data).unwrap())
                        .collect()
                };
                // The first ones prepare the statements: one that notifies, and one that does not.
                let mut least = u64::MAX;
                for _ in 0..4 {
                    let before = proxy.sendings();
                    let raised = raiser.raise_all(&mut connection, events()).await.unwrap();
                    least = least.min(proxy.sendings() - before);
                    assert_eq!(raised, vec![Raised::New; count]);
                }
                assert_eq!(least, $raised, "{count} events");

                session.events().raise(&events()).await.unwrap();
                let before = proxy.sendings();
                session.events().raise(&events()).await.unwrap();
                assert_eq!(proxy.sendings() - before, $raised_in_session, "{count} events");
            }
            connection.execute("COMMIT").await.unwrap();
        }
    };
}

#[cfg(feature = "postgres")]
mod postgres {
    use crate::{fresh::postgres::Postgres, server::postgres_url};

    round_trip_tests!(
        Postgres::new().await,
        postgres_url(),
        tidings::PostgresStore,
        // Other processes are told by a task that nobody waits for.
        tidings::PostgresOptions::new().listen(false),
        sqlx::postgres::PgPoolOptions,
        sqlx::PgConnection,
        // BEGIN, the settlement, COMMIT.
        3,
        3,
        // And a savepoint for each.
        13,
        1,
        1,
        // One statement each.
        [1, 1, 1, 1],
        // BEGIN, those that complete, locking the others, writing them with a plan of its own, the events, the note
        // of the batch, COMMIT; BEGIN, locking, those that are locked, writing the others, COMMIT.
        [8, 6]
    );
}

#[cfg(feature = "mysql")]
mod mysql {
    use crate::{fresh::mysql::MySql, server::mysql_url};

    round_trip_tests!(
        MySql::new().await,
        mysql_url(),
        tidings::MySqlStore,
        tidings::MySqlOptions::new(),
        sqlx::mysql::MySqlPoolOptions,
        sqlx::MySqlConnection,
        // START TRANSACTION, whether it goes on, locking the request, writing it, COMMIT.
        5,
        // And the number of the connection.
        6,
        // And a savepoint for each.
        15,
        // Whether there is a transaction, the events, the queue.
        3,
        // START TRANSACTION, the events, the queue, COMMIT.
        4,
        // Each in a transaction of its own.
        [11, 10, 6, 4],
        // START TRANSACTION, locking and writing those that complete, and then the others, the events, the queue,
        // COMMIT; START TRANSACTION, locking, those that are locked, writing the others, COMMIT.
        [8, 5]
    );
}
