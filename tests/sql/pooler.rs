//! PostgreSQL behind a PgBouncer with `pool_mode = transaction`: every transaction may run on
//! another of two connections to the server, which others use in between.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use tidings::{
    ConcurrentScheduler, ConfigMap, Context, Event, EventId, Handler, HandlerError, HandlerResult,
    LeaseOwner, PostgresOptions, PostgresStore, Raiser, Scheduler,
    sqlx::{
        self, AssertSqlSafe, Connection as _, Executor as _, PgConnection, PgPool, Row as _,
        postgres::{PgConnectOptions, PgPoolOptions},
    },
    store::{Claim, EventFilter, HandlerRoom, Page, RequestFilter, Storer},
};

use crate::{
    fresh::prefix,
    server::{Kind, Private},
};

/// A PgBouncer, and the prefix of tables that are migrated through it.
struct Pooled {
    pooler: Private,
    prefix: String,
}

impl Pooled {
    async fn new() -> Self {
        let pooler = tokio::task::spawn_blocking(|| Private::start(Kind::PgBouncer));
        let pooled = Self {
            pooler: pooler.await.unwrap(),
            prefix: prefix(),
        };
        pooled.store().await.migrate().await.unwrap();
        pooled
    }

    /// The store of one more process.
    async fn store(&self) -> PostgresStore {
        let options = PostgresOptions::new()
            .table_prefix(&*self.prefix)
            .max_connections(6)
            .transaction_pooler(true);
        PostgresStore::connect(self.pooler.url(), options)
            .await
            .unwrap()
    }

    /// How an application connects: poolers refuse what `sqlx` asks for by default.
    fn application(&self) -> PgConnectOptions {
        let options: PgConnectOptions = self.pooler.url().parse().unwrap();
        options.extra_float_digits(None)
    }

    /// What is left in each of the connections to the server.
    async fn left_behind(&self) -> Vec<(String, String)> {
        const LEFT: &str = "SELECT pg_backend_pid()::text, concat_ws(' ', \
             (SELECT string_agg(name || '=' || setting, ' ') FROM pg_settings WHERE source = 'session' \
              AND name NOT IN ('application_name', 'client_encoding', 'DateStyle', 'TimeZone', \
                'standard_conforming_strings')), \
             (SELECT string_agg(statement, ' ') FROM pg_prepared_statements), \
             (SELECT string_agg(channel, ' ') FROM pg_listening_channels() AS l (channel)), \
             (SELECT string_agg(mode, ' ') FROM pg_locks \
              WHERE locktype = 'advisory' AND pid = pg_backend_pid()))";
        let mut clients = Vec::new();
        // Each holds one, so that they see different ones.
        for _ in 0..2 {
            let mut client = PgConnection::connect_with(&self.application())
                .await
                .unwrap();
            client.execute(sqlx::raw_sql("BEGIN")).await.unwrap();
            clients.push(client);
        }
        let mut left = Vec::new();
        for client in &mut clients {
            let row = client.fetch_one(sqlx::raw_sql(LEFT)).await.unwrap();
            left.push((row.get(0), row.get(1)));
        }
        left
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_of_clients_that_share_a_connection_are_not_mixed_up() {
    const CLIENTS: usize = 6;
    let pooled = Pooled::new().await;
    let clients = (0..CLIENTS).map(async |number| {
        let store = pooled.store().await;
        let mut session = store.session().await.unwrap();
        let name = format!("of.{number}");
        for round in 1..=20 {
            let event = Event::new(name.clone(), &number).unwrap();
            session
                .events()
                .raise(std::slice::from_ref(&event))
                .await
                .unwrap();
            let found = session.events().find(event.id).await.unwrap().unwrap();
            assert_eq!(*found.event, event);
            let mine = EventFilter::default().named([&*name]);
            assert_eq!(session.events().count(&mine).await.unwrap(), round);
            let none = session.handler_requests().count_unexecuted().await.unwrap();
            assert_eq!(none, 0);
            assert_eq!(session.registrations().all().await.unwrap(), []);
        }
    });
    join_all(clients).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raise_is_in_the_transaction_of_whoever_began_one_or_whole() {
    let pooled = Pooled::new().await;
    let store = pooled.store().await;
    let raiser = store.raiser();
    let clients = (0..6).map(async |number| {
        let mut connection = PgConnection::connect_with(&pooled.application())
            .await
            .unwrap();
        for _ in 0..10 {
            let event = Event::new("alone", &number).unwrap();
            raiser.raise(&mut connection, event).await.unwrap();
            // Begun by hand, which sqlx does not know of.
            for (end, count) in [("COMMIT", 2), ("ROLLBACK", 0)] {
                connection.execute(sqlx::raw_sql("BEGIN")).await.unwrap();
                for _ in 0..2 {
                    let event = Event::new(end.to_lowercase(), &count).unwrap();
                    raiser.raise(&mut connection, event).await.unwrap();
                }
                connection.execute(sqlx::raw_sql(end)).await.unwrap();
            }
        }
    });
    join_all(clients).await;
    let mut session = store.session().await.unwrap();
    for (name, count) in [("alone", 60), ("commit", 120), ("rollback", 0)] {
        let named = EventFilter::default().named([name]);
        let found = session.events().count(&named).await.unwrap();
        assert_eq!(found, count, "{name}");
    }
}

/// How often each handler ran to its end for each event.
type Runs = Arc<Mutex<HashMap<(&'static str, EventId), u32>>>;

#[derive(Clone)]
struct Programs {
    runs: Runs,
    raiser: Raiser,
    prefix: String,
}

/// Longer than a lease for some events; an error for the first run of others.
async fn plain(programs: Programs, event: Arc<Event>, context: Context) -> HandlerResult {
    if &*event.name == "order.slow" {
        tokio::time::sleep(Duration::from_millis(2500)).await;
    }
    if &*event.name == "order.flaky" && context.errors() == 0 {
        return Err(HandlerError::new("once"));
    }
    let mut runs = programs.runs.lock().unwrap();
    *runs.entry(("plain", event.id)).or_default() += 1;
    Ok(())
}

/// Writes, and raises what follows, in its own transaction.
async fn writes(
    programs: Programs,
    event: Arc<Event>,
    context: Context,
    connection: &mut PgConnection,
) -> HandlerResult {
    let insert = format!("INSERT INTO {}ledger VALUES ($1)", programs.prefix);
    sqlx::query(AssertSqlSafe(insert))
        .persistent(false)
        .bind(event.id.as_uuid())
        .execute(&mut *connection)
        .await?;
    let follows = Event::new("ledger.written", &()).unwrap();
    programs.raiser.raise(&mut *connection, follows).await?;
    if &*event.name == "order.flaky" && context.errors() == 0 {
        return Err(HandlerError::new("once"));
    }
    Ok(())
}

async fn program(store: &PostgresStore, programs: &Programs) -> ConcurrentScheduler {
    let backoff = tidings::Backoff::constant(Duration::from_millis(50));
    let config = ConfigMap::builder()
        .handler(
            Handler::with_state("plain", programs.clone(), plain)
                .on("order.*")
                .backoff(backoff),
        )
        .handler(
            Handler::transactional_with_state("writes", programs.clone(), writes)
                .on("order.*")
                .backoff(backoff),
        )
        .build()
        .unwrap();
    let scheduler = ConcurrentScheduler::builder(Arc::new(store.clone()), config)
        .workers(6)
        .lease(Duration::from_secs(1))
        .build()
        .unwrap();
    scheduler.start().await.unwrap();
    scheduler
}

/// Raises in transactions of the application, some of which are rolled back; answers what was
/// committed.
async fn raise_orders(pooled: &Pooled, raiser: &Raiser) -> Vec<EventId> {
    let pool = PgPoolOptions::new()
        .max_connections(4)
        .connect_lazy_with(pooled.application());
    let orders = (0..60).map(async |number| {
        let name = match number {
            0..4 => "order.slow",
            4..16 => "order.flaky",
            _ => "order.placed",
        };
        let event = Event::new(name, &number).unwrap();
        let id = event.id;
        let mut tx = pool.begin().await.unwrap();
        raiser.raise(&mut tx, event).await.unwrap();
        if number % 5 == 4 {
            tx.rollback().await.unwrap();
            return None;
        }
        tx.commit().await.unwrap();
        Some(id)
    });
    join_all(orders).await.into_iter().flatten().collect()
}

/// Claims a request as a process does that is then lost.
async fn claim_and_vanish(store: &PostgresStore) -> usize {
    let lease = Duration::from_millis(700);
    let rooms = vec![HandlerRoom::new("plain", 2), HandlerRoom::new("writes", 2)];
    let claim = Claim::new(LeaseOwner::new(), lease, 4, rooms);
    let mut session = store.session().await.unwrap();
    session
        .events()
        .fan_out(&tidings::store::FanOut::due(2))
        .await
        .unwrap();
    let claimed = session.handler_requests().claim(&claim).await.unwrap();
    claimed.requests.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schedulers_behind_a_transaction_pooler_leave_nothing_in_a_connection() {
    let pooled = Pooled::new().await;
    let (one, other) = (pooled.store().await, pooled.store().await);
    let programs = Programs {
        runs: Runs::default(),
        raiser: one.raiser(),
        prefix: pooled.prefix.clone(),
    };
    let pool = PgPool::connect_lazy_with(pooled.application());
    let ledger = format!("CREATE TABLE {}ledger (id uuid PRIMARY KEY)", pooled.prefix);
    pool.execute(sqlx::raw_sql(AssertSqlSafe(ledger)))
        .await
        .unwrap();
    // The registrations are there before the first fan-out.
    program(&one, &programs)
        .await
        .shutdown(Duration::from_secs(5))
        .await;
    let orders = raise_orders(&pooled, &programs.raiser).await;
    assert!(claim_and_vanish(&one).await > 0);
    let running = [
        program(&one, &programs).await,
        program(&other, &programs).await,
    ];
    let done = async {
        loop {
            let mut session = other.session().await.unwrap();
            let unprocessed = session.events().count_unprocessed().await.unwrap();
            let open = session.handler_requests().count_unexecuted().await.unwrap();
            drop(session);
            if unprocessed + open == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(40), done)
        .await
        .expect("all is done");
    for scheduler in running {
        scheduler.shutdown(Duration::from_secs(5)).await;
    }
    check_outcome(&one, &programs, &orders).await;
    let ledger = format!("SELECT count(*)::text FROM {}ledger", pooled.prefix);
    let written = pool
        .fetch_one(sqlx::raw_sql(AssertSqlSafe(ledger)))
        .await
        .unwrap();
    assert_eq!(written.get::<String, _>(0), orders.len().to_string());
    let left = pooled.left_behind().await;
    assert_ne!(left[0].0, left[1].0, "both connections were looked at");
    for (_, left) in left {
        assert_eq!(left, "");
    }
}

/// Each handler ran to its end once for each event, those that a lost process had as well.
async fn check_outcome(store: &PostgresStore, programs: &Programs, orders: &[EventId]) {
    let mut session = store.session().await.unwrap();
    let requests = session
        .handler_requests()
        .list(&RequestFilter::default(), &Page::first(1000))
        .await
        .unwrap();
    assert_eq!(requests.len(), 2 * orders.len());
    let rescues: u32 = requests.iter().map(|request| request.rescues).sum();
    assert!(rescues > 0, "nothing was lost");
    for request in &requests {
        assert!(request.completed_at.is_some(), "{request:?}");
        let expected = u32::from(&*request.event_name == "order.flaky");
        assert_eq!(request.errors, expected, "{request:?}");
        // Slow ones were renewed, and nothing else was late.
        assert!(request.rescues <= 1, "{request:?}");
    }
    let runs = programs.runs.lock().unwrap().clone();
    assert_eq!(runs.len(), orders.len());
    assert!(runs.values().all(|&runs| runs == 1), "{runs:?}");
    let written = EventFilter::default().named(["ledger.written"]);
    let written = session.events().count(&written).await.unwrap();
    assert_eq!(written, orders.len() as u64);
}
