//! The roles of the guide, made by its own text: each can do its part and nothing else, and what it may
//! not do it is told.

use std::{future::Future, panic::AssertUnwindSafe, time::SystemTime};

use futures_util::FutureExt as _;

const ROLES: [&str; 4] = ["migrate", "raise", "work", "read"];

/// Names of roles that are older than this many seconds are those of a test that was killed.
const STALE_AFTER: u64 = 3600;

/// What the names of all roles of tests begin with.
const MARK: &str = "trole_";

fn seconds() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().as_secs()
}

/// A name that no other test uses, with the time in it.
fn unique() -> String {
    let count = crate::fresh::prefix();
    format!("{MARK}{:x}_{}", seconds(), &count[..count.len() - 1])
}

/// Whether the test that made this name has been gone for long.
fn is_stale(name: &str) -> bool {
    let made = name
        .strip_prefix(MARK)
        .and_then(|rest| rest.split('_').next());
    let made = made.and_then(|made| u64::from_str_radix(made, 16).ok());
    made.is_some_and(|made| made + STALE_AFTER < seconds())
}

/// The blocks of SQL on a page of the guide whose first lines say that they are of roles, with the
/// names of the test.
fn blocks(page: &str, base: &str, prefix: &str) -> Vec<String> {
    let blocks = page.split("```sql\n").skip(1);
    let blocks = blocks.filter_map(|block| block.split("```").next());
    let blocks: Vec<_> = blocks
        .filter(|block| block.starts_with("-- tidings r"))
        .map(|block| {
            block
                .replace("shop.", &format!("{base}."))
                .replace("SCHEMA app ", &format!("SCHEMA {base} "))
                .replace("search_path = app;", &format!("search_path = {base};"))
                .replace("app_", &format!("{base}_"))
                .replace("tidings_", prefix)
        })
        .collect();
    assert_eq!(
        blocks.len(),
        2,
        "the blocks of the guide are not found any more"
    );
    blocks
}

/// The URL of the shared server for another user and database.
fn url_of(url: &str, user: &str, database: Option<&str>) -> String {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (_, place) = rest.rsplit_once('@').unwrap();
    let (host, old) = place.split_once('/').unwrap();
    format!("{scheme}://{user}@{host}/{}", database.unwrap_or(old))
}

/// Runs a test, and what removes its roles also when it fails.
async fn and_finally(test: impl Future<Output = ()>, end: impl Future<Output = ()>) {
    let answer = AssertUnwindSafe(test).catch_unwind().await;
    end.await;
    if let Err(panic) = answer {
        std::panic::resume_unwind(panic);
    }
}

macro_rules! roles_tests {
    ($roles:ty, $store:ty, $connection:ty, $denials:expr) => {
        use std::{sync::Arc, time::Duration};

        use futures_util::StreamExt as _;
        use tidings::{
            Backoff, ConcurrentScheduler, ConfigMap, Context, ErrorChain, Event, EventPattern,
            Handler, HandlerError, HandlerRequestId, HandlerResult, LeaseOwner, Outcome, Priority, Registration,
            RequestState, Scheduler, StoreError,
            store::{
                Claim, EventFilter, FanOut, HandlerRoom, LockMode, Page, Prune, Raised, Renewal,
                Replay, RequestFilter, RescueLost, Settled, Settlement, Storer, StorerExt as _,
            },
        };

        use super::and_finally;

        const REMEDY: &str = "grant it what its role needs";

        /// It was refused for want of a right, in words that say so.
        fn assert_forbidden<T>(what: &str, answer: Result<T, StoreError>) {
            let Err(error) = answer else {
                panic!("{what} is possible");
            };
            let told = error.to_string();
            assert!(matches!(error, StoreError::Invalid { .. }), "{what}: {error:?}");
            assert!(told.contains("the database user of the store lacks a right"), "{what}: {told}");
            assert!(told.contains(REMEDY), "{what}: {told}");
            assert!(!error.is_transient(), "{what}: {told}");
        }

        fn event() -> Event {
            Event::new("shop.thing_done", &serde_json::json!({"n": 1})).unwrap()
        }

        async fn check_raising(roles: &$roles, role: &str) {
            let store = roles.store(role).await;
            let pool = roles.pool(role);
            let raiser = store.raiser();
            // In the application's own transaction, and again.
            let one = event();
            let mut tx = pool.begin().await.unwrap();
            assert_eq!(raiser.raise(&mut *tx, one.clone()).await.unwrap(), Raised::New);
            tx.commit().await.unwrap();
            let mut connection = pool.acquire().await.unwrap();
            let again = raiser.raise(&mut *connection, one.clone()).await.unwrap();
            assert_eq!(again, Raised::AlreadyRaised);
            // Many, of which one is there: they take another way.
            let mut many: Vec<_> = (0..20).map(|_| event()).collect();
            many[7] = one;
            let answers = raiser.raise_all(&mut *connection, many).await.unwrap();
            assert_eq!(answers.iter().filter(|one| **one == Raised::New).count(), 19);
            let many: Vec<_> = (0..20).map(|_| event()).collect();
            raiser.raise_all(&mut *connection, many).await.unwrap();
            // Through the store.
            let mut session = store.session().await.unwrap();
            session.events().raise(&[event()]).await.unwrap();
            let mut tx = store.begin().await.unwrap();
            tx.events().raise(&[event(), event()]).await.unwrap();
            tx.commit().await.unwrap();
            raiser.wake();
            drop((session, connection));
            pool.close().await;
            store.close().await;
        }

        async fn check_reading(roles: &$roles, role: &str) {
            let store = roles.store(role).await;
            let mut session = store.session().await.unwrap();
            let (of_events, of_requests) = (EventFilter::default(), RequestFilter::default());
            let mut events = session.events();
            let found = events.list(&of_events, &Page::first(10)).await.unwrap();
            let id = found[0].event.id;
            events.find(id).await.unwrap().unwrap();
            events.count_unprocessed().await.unwrap();
            events.oldest_unprocessed().await.unwrap();
            assert!(events.count(&of_events).await.unwrap() > 0);
            for filter in [
                EventFilter::default().processed(true),
                EventFilter::default().with_requests(false),
            ] {
                events.list(&filter, &Page::first(10)).await.unwrap();
            }
            assert!(events.stream(&of_events).next().await.unwrap().is_ok());
            drop(events);
            let mut requests = session.handler_requests();
            let found = requests.list(&of_requests, &Page::first(10)).await.unwrap();
            let (request, event) = (found[0].id, found[0].event_id);
            requests.find(request).await.unwrap().unwrap();
            assert!(!requests.of_event(event).await.unwrap().is_empty());
            requests.count_unexecuted().await.unwrap();
            requests.oldest_unexecuted().await.unwrap();
            requests.count_dead().await.unwrap();
            requests.dead(&of_requests, &Page::first(10)).await.unwrap();
            requests.dead_event_names().await.unwrap();
            requests.dead_handler_names().await.unwrap();
            requests.count(&of_requests).await.unwrap();
            let filter = RequestFilter::default().error_contains("no");
            requests.list(&filter, &Page::first(10)).await.unwrap();
            assert!(requests.stream(&of_requests).next().await.unwrap().is_ok());
            drop(requests);
            let mut registrations = session.registrations();
            assert!(!registrations.all().await.unwrap().is_empty());
            registrations.absent(Duration::from_secs(1)).await.unwrap();
            drop(registrations);
            drop(session);
            store.look(&tidings::store::Look::new(vec!["plain".into()])).await.unwrap();
            store.close().await;
        }

        async fn plain(event: Arc<Event>, context: Context) -> HandlerResult {
            if event.name == "shop.thing_done" && context.attempt() > 1 {
                context.raise(Event::new("shop.thing_followed", &()).unwrap());
            }
            match context.attempt() {
                1 => Err(HandlerError::from(std::io::Error::other("not yet"))),
                _ => Ok(()),
            }
        }

        async fn dies(_: Arc<Event>, _: Context) -> HandlerResult {
            Err(HandlerError::discard("no"))
        }

        async fn writes(_: Arc<Event>, context: Context, _: &mut $connection) -> HandlerResult {
            if context.event().name == "shop.thing_done" {
                context.raise(Event::new("shop.thing_written", &()).unwrap());
            }
            Ok(())
        }

        fn config() -> ConfigMap {
            let backoff = Backoff::constant(Duration::from_millis(10));
            ConfigMap::builder()
                .handler(Handler::new("plain", plain).on("shop.*").backoff(backoff))
                .handler(Handler::new("dies", dies).on("shop.thing_done"))
                .handler(Handler::transactional("writes", writes).on("shop.*"))
                .handler(
                    Handler::transactional("shares", writes)
                        .on("shop.thing_done")
                        .shared_transactions(),
                )
                .retire("gone")
                .rename("old", "plain")
                .build()
                .unwrap()
        }

        /// A whole scheduler, then what it and an operator do now and then.
        async fn check_working(roles: &$roles, role: &str) {
            let store = roles.store(role).await;
            let storer: Arc<dyn Storer> = Arc::new(store.clone());
            let scheduler = ConcurrentScheduler::builder(storer.clone(), config()).build().unwrap();
            scheduler.start().await.unwrap();
            let mut session = store.session().await.unwrap();
            let done = async {
                loop {
                    let unprocessed = session.events().count_unprocessed().await.unwrap();
                    let open = session.handler_requests().count_unexecuted().await.unwrap();
                    if unprocessed + open == 0 {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            let limit = Duration::from_secs(40);
            tokio::time::timeout(limit, done).await.expect("all is done");
            scheduler.shutdown(Duration::from_secs(5)).await;
            let filter = RequestFilter::default().in_states([RequestState::Completed]);
            assert!(session.handler_requests().count(&filter).await.unwrap() > 40);
            let dead = session.handler_requests().count_dead().await.unwrap();
            assert!(dead > 0);

            // Registrations that come and go, a rename, and requests that it takes along.
            let handler = |name: &str| {
                let pattern = EventPattern::parse("shop.*").unwrap();
                Registration::new(pattern, name.into(), Priority::default(), 5)
            };
            let names = [handler("by_hand"), handler("before")];
            session.registrations().register(&names).await.unwrap();
            session.registrations().touch(&["by_hand".into()]).await.unwrap();
            let more: Vec<_> = (0..8).map(|_| event()).collect();
            session.events().raise(&more).await.unwrap();
            session.events().fan_out(&FanOut::due(1)).await.unwrap();
            session.events().fan_out(&FanOut::due(9)).await.unwrap();
            store.rename(&"before".into(), &"after".into()).await.unwrap();
            session.registrations().retire(&"after".into()).await.unwrap();

            // Claims, of which one is lost and rescued.
            let claim = |lease| {
                let room = vec![HandlerRoom::new("by_hand", 1)];
                Claim::new(LeaseOwner::new(), lease, 1, room)
            };
            let lost = claim(Duration::from_millis(1));
            let batch = session.handler_requests().claim(&lost).await.unwrap();
            assert_eq!(batch.requests.len(), 1);
            let rescue = RescueLost::new(9, Backoff::default());
            let rescued = async {
                loop {
                    let answer = session.handler_requests().rescue(&rescue).await.unwrap();
                    if !answer.requests.is_empty() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(limit, rescued).await.expect("it is rescued");
            let long = claim(Duration::from_secs(60));
            session.handler_requests().claim_suspect(&long).await.unwrap();
            let error = Outcome::Failed { error: "no".to_owned(), backoff: limit };
            for outcome in [Some(error), Some(Outcome::Completed), None] {
                let batch = session.handler_requests().claim(&long).await.unwrap();
                let (id, attempt) = (batch.requests[0].id, batch.requests[0].attempt);
                let renewal = Renewal::new(long.owner, long.lease, vec![(id, attempt)]);
                let mut renewer = store.lease_renewer().await.unwrap();
                assert!(renewer.renew(&renewal).await.unwrap().lost.is_empty());
                let mut requests = session.handler_requests();
                match outcome {
                    Some(outcome) => {
                        let settlement = Settlement::new(id, attempt, long.owner, outcome);
                        let settled = requests.settle(&[settlement]).await.unwrap();
                        assert_eq!(settled, [Settled::Applied]);
                    }
                    None => {
                        requests.hand_back(long.owner, &[(id, attempt)]).await.unwrap();
                        requests.cancel(id).await.unwrap();
                        requests.reexecute(id).await.unwrap();
                        requests.run_now(id).await.unwrap();
                    }
                }
            }
            let mut requests = session.handler_requests();
            let dead = RequestFilter::default().of_handlers(["dies"]);
            assert!(requests.reexecute_dead(&dead, 3).await.unwrap() > 0);
            drop(requests);
            let mut tx = store.begin().await.unwrap();
            let id = more[0].id;
            tx.events().find_for_update(id, LockMode::Wait).await.unwrap().unwrap();
            tx.events().find_for_update(id, LockMode::SkipLocked).await.unwrap().unwrap();
            let request = tx.handler_requests().of_event(id).await.unwrap()[0].id;
            let mut requests = tx.handler_requests();
            requests.find_for_update(request, LockMode::Wait).await.unwrap().unwrap();
            drop(requests);
            tx.commit().await.unwrap();
            let replayed = store.replay_all(Replay::new(EventFilter::default(), 9)).await.unwrap();
            assert!(replayed.reexecuted > 0);
            let mut requests = session.handler_requests();
            let filter = RequestFilter::default();
            for request in requests.list(&filter, &Page::first(1000)).await.unwrap() {
                if request.completed_at.is_none() && request.canceled_at.is_none() {
                    requests.cancel(request.id).await.unwrap();
                }
            }
            drop(requests);
            tokio::time::sleep(Duration::from_millis(5)).await;
            let time = Some(Duration::from_millis(1));
            let prune = Prune::new(2).canceled_for(time).completed_for(time);
            assert!(session.events().prune(&prune).await.unwrap().events > 0);
            drop(session);
            store.close().await;
        }

        /// What belongs to who works and administers, through the store.
        async fn check_no_work(roles: &$roles, role: &str, held: (HandlerRequestId, u64, LeaseOwner)) {
            let store = roles.store(role).await;
            let mut session = store.session().await.unwrap();
            let (id, attempt, owner) = held;
            let room = vec![HandlerRoom::new("plain", 1)];
            let claim = Claim::new(owner, Duration::from_secs(1), 1, room);
            assert_forbidden("claim", session.handler_requests().claim(&claim).await);
            let fan_out = session.events().fan_out(&FanOut::due(1)).await;
            assert_forbidden("fan out", fan_out);
            let rescue = RescueLost::new(1, Backoff::default());
            assert_forbidden("rescue", session.handler_requests().rescue(&rescue).await);
            let settlement = Settlement::new(id, attempt, owner, Outcome::Completed);
            let settled = session.handler_requests().settle(&[settlement]).await;
            assert_forbidden("settle", settled);
            assert_forbidden("cancel", session.handler_requests().cancel(id).await);
            let run_now = session.handler_requests().run_now(id).await;
            assert!(run_now.is_err(), "{role} can run it now");
            let pattern = EventPattern::parse("*").unwrap();
            let registration = Registration::new(pattern, "x".into(), Priority::default(), 5);
            let registered = session.registrations().register(&[registration]).await;
            assert_forbidden("register", registered);
            assert_forbidden("retire", session.registrations().retire(&"plain".into()).await);
            let prune = Prune::new(9).canceled_for(Some(Duration::from_millis(1)));
            assert_forbidden("prune", session.events().prune(&prune).await);
            let replay = Replay::new(EventFilter::default(), 9);
            assert_forbidden("replay", session.handler_requests().replay(&replay).await);
            let storer: Arc<dyn Storer> = Arc::new(store.clone());
            let scheduler = ConcurrentScheduler::builder(storer, config()).build().unwrap();
            let started = scheduler.start().await.unwrap_err();
            assert!(ErrorChain(&started).to_string().contains(REMEDY), "{started:?}");
            drop(session);
            store.close().await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn each_role_can_do_its_part_and_nothing_else() {
            let roles = <$roles>::new().await;
            let test = async {
                roles.before_migrating().await;
                let migrating = roles.store("migrate").await;
                migrating.migrate().await.unwrap();
                // Again, when there is nothing to do.
                migrating.migrate().await.unwrap();
                migrating.close().await;
                roles.after_migrating().await;
                check_raising(&roles, "raise").await;
                check_raising(&roles, "work").await;
                let work = roles.store("work").await;
                let mut session = work.session().await.unwrap();
                let pattern = EventPattern::parse("shop.*").unwrap();
                let old = Registration::new(pattern, "old".into(), Priority::default(), 5);
                session.registrations().register(&[old]).await.unwrap();
                session.events().fan_out(&FanOut::due(3)).await.unwrap();
                drop(session);
                work.close().await;
                check_reading(&roles, "read").await;
                check_reading(&roles, "work").await;
                check_working(&roles, "work").await;
                // Something for each of the calls that are refused.
                let work = roles.store("work").await;
                let mut session = work.session().await.unwrap();
                let more: Vec<_> = (0..9).map(|_| event()).collect();
                session.events().raise(&more[..6]).await.unwrap();
                session.events().fan_out(&FanOut::due(9)).await.unwrap();
                let room = vec![HandlerRoom::new("plain", 3)];
                let claim = Claim::new(LeaseOwner::new(), Duration::from_millis(1), 3, room);
                let batch = session.handler_requests().claim(&claim).await.unwrap();
                assert_eq!(batch.requests.len(), 3);
                let room = vec![HandlerRoom::new("plain", 1)];
                let claim = Claim::new(LeaseOwner::new(), Duration::from_secs(60), 1, room);
                let batch = session.handler_requests().claim(&claim).await.unwrap();
                let held = (batch.requests[0].id, batch.requests[0].attempt, claim.owner);
                session.events().raise(&more[6..]).await.unwrap();
                drop(session);
                work.close().await;
                check_no_work(&roles, "raise", held).await;
                check_no_work(&roles, "read", held).await;
                let store = roles.store("raise").await;
                let mut session = store.session().await.unwrap();
                let filter = EventFilter::default();
                let listed = session.events().list(&filter, &Page::first(1)).await;
                assert_forbidden("read what was raised", listed);
                assert_forbidden("count", session.events().count(&filter).await);
                let all = session.registrations().all().await;
                assert_forbidden("read registrations", all);
                drop(session);
                store.close().await;
                let store = roles.store("read").await;
                let mut session = store.session().await.unwrap();
                assert_forbidden("raise", session.events().raise(&[event()]).await);
                drop(session);
                store.close().await;
                for (role, statements) in $denials {
                    let pool = roles.pool(role);
                    for statement in statements {
                        let sql = statement.replace("{p}", &roles.prefix);
                        let answer = roles.run_as(&pool, &sql).await;
                        let error = answer.expect_err(&format!("{role} can {sql}"));
                        let code = error.as_database_error().and_then(|error| error.code());
                        let is_denied = code.as_deref().is_some_and(|code| code.starts_with("42"));
                        assert!(is_denied, "{role}: {sql}: {error}");
                    }
                    pool.close().await;
                }
            };
            and_finally(test, roles.remove()).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn what_a_role_may_not_do_is_told_with_the_remedy() {
            let roles = <$roles>::new().await;
            let test = async {
                // Before it was granted anything, whether the schema is there or not.
                roles.make_users_only().await;
                for migrated in [false, true] {
                    let store = roles.store("raise").await;
                    let error = store.migrate().await.unwrap_err();
                    assert!(!error.to_string().contains("is missing"), "{error}");
                    assert!(error.to_string().contains("grant"), "{error}");
                    if migrated {
                        let error = store.session().await.err().unwrap();
                        assert!(!error.to_string().contains("migrate()"), "{error}");
                        assert_forbidden("check the schema", Err::<(), _>(error));
                    } else {
                        roles.before_migrating().await;
                        let migrating = roles.store("migrate").await;
                        migrating.migrate().await.unwrap();
                        migrating.close().await;
                        roles.hide().await;
                    }
                    store.close().await;
                }
                roles.show().await;
                // It may look at the schema and no more: what is missing is named.
                roles.after_migrating().await;
                let store = roles.store("read").await;
                let mut session = store.session().await.unwrap();
                let error = session.events().raise(&[event()]).await.unwrap_err();
                let told = error.to_string();
                assert!(told.starts_with("raise"), "{told}");
                assert!(told.contains(&roles.prefix), "it names the thing: {told}");
                assert_forbidden("raise", Err::<(), _>(error));
                drop(session);
                store.close().await;
            };
            and_finally(test, roles.remove()).await;
        }
    };
}

#[cfg(feature = "postgres")]
mod postgres {
    use sqlx::{Executor as _, PgPool};
    use tidings::{PostgresOptions, PostgresStore, sqlx};

    use super::{ROLES, blocks, is_stale, unique, url_of};
    use crate::{fresh::prefix, server::postgres_url};

    roles_tests!(
        Roles,
        PostgresStore,
        sqlx::PgConnection,
        [
            (
                "migrate",
                &[
                    "SELECT * FROM not_of_the_store",
                    "DROP TABLE not_of_the_store"
                ][..]
            ),
            (
                "raise",
                &[
                    "SELECT data FROM {p}events",
                    "DELETE FROM {p}events",
                    "UPDATE {p}events SET data = '1'",
                    "SELECT * FROM {p}unprocessed_events",
                    "DELETE FROM {p}unprocessed_events",
                    "SELECT * FROM {p}handler_requests",
                    "SELECT * FROM {p}active_registrations()",
                    "INSERT INTO {p}migrations VALUES (9, 'x', '0.1.0')",
                    "CREATE TABLE mine (id int)",
                ][..]
            ),
            (
                "work",
                &[
                    "UPDATE {p}events SET data = '1'",
                    "TRUNCATE {p}events",
                    "DROP TABLE {p}events",
                    "DELETE FROM {p}migrations",
                    "ALTER TABLE {p}handler_requests ADD COLUMN mine int",
                    "SELECT * FROM not_of_the_store",
                    "CREATE TABLE mine (id int)",
                ][..]
            ),
            (
                "read",
                &[
                    "UPDATE {p}handler_requests SET errors = 0",
                    "DELETE FROM {p}handler_requests",
                    "SELECT id FROM {p}events FOR UPDATE",
                    "SELECT * FROM {p}settle(NULL, NULL, NULL, NULL, NULL, NULL)",
                    "INSERT INTO {p}unprocessed_events SELECT id FROM {p}events",
                    "CREATE TABLE mine (id int)",
                ][..]
            ),
        ]
    );

    /// A schema and roles of its own.
    pub(crate) struct Roles {
        base: String,
        pub(crate) prefix: String,
        admin: PgPool,
        blocks: Vec<String>,
    }

    impl Roles {
        async fn new() -> Self {
            let admin = PgPool::connect_lazy(&postgres_url()).unwrap();
            let (base, prefix) = (unique(), prefix());
            let page = include_str!("../../src/guide/postgresql.md");
            let blocks = blocks(page, &base, &prefix);
            let roles = Self {
                base,
                prefix,
                admin,
                blocks,
            };
            let names: Vec<String> = sqlx::query_scalar(
                "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'trole%'",
            )
            .fetch_all(&roles.admin)
            .await
            .unwrap();
            for name in names.iter().filter(|name| is_stale(name)) {
                roles.remove_all(name).await;
            }
            roles.run(&format!("CREATE SCHEMA {}", roles.base)).await;
            roles
                .run(&format!(
                    "CREATE TABLE {}.not_of_the_store (id int)",
                    roles.base
                ))
                .await;
            roles
        }

        async fn run(&self, sql: &str) {
            let sql = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()));
            self.admin.execute(sql).await.unwrap();
        }

        pub(crate) async fn run_as(&self, pool: &PgPool, sql: &str) -> sqlx::Result<()> {
            let sql = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()));
            pool.execute(sql).await.map(drop)
        }

        /// Those who have no right yet.
        async fn make_users_only(&self) {
            for line in self.blocks[0].lines() {
                if line.starts_with("CREATE ROLE") || line.starts_with("ALTER ROLE") {
                    self.run(line).await;
                }
            }
        }

        async fn before_migrating(&self) {
            let made: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_roles WHERE rolname = $1")
                .bind(format!("{}_read", self.base))
                .fetch_one(&self.admin)
                .await
                .unwrap();
            let is_missing = |line: &&str| {
                made == 0 || !line.starts_with("CREATE ROLE") && !line.starts_with("ALTER ROLE")
            };
            let lines: Vec<_> = self.blocks[0].lines().filter(is_missing).collect();
            self.run(&lines.join("\n")).await;
        }

        /// As who owns the tables, as the guide says.
        async fn after_migrating(&self) {
            let pool = self.pool("migrate");
            self.run_as(&pool, &self.blocks[1]).await.unwrap();
            pool.close().await;
        }

        /// Takes the right to use the schema from who raises.
        async fn hide(&self) {
            let base = &self.base;
            self.run(&format!("REVOKE USAGE ON SCHEMA {base} FROM {base}_raise"))
                .await;
        }

        async fn show(&self) {
            let base = &self.base;
            self.run(&format!("GRANT USAGE ON SCHEMA {base} TO {base}_raise"))
                .await;
        }

        fn url(&self, role: &str) -> String {
            url_of(&postgres_url(), &format!("{}_{role}", self.base), None)
        }

        async fn store(&self, role: &str) -> PostgresStore {
            let options = PostgresOptions::new()
                .table_prefix(&*self.prefix)
                .max_connections(4);
            PostgresStore::connect(&self.url(role), options)
                .await
                .unwrap()
        }

        fn pool(&self, role: &str) -> PgPool {
            PgPool::connect_lazy(&self.url(role)).unwrap()
        }

        async fn remove(&self) {
            self.remove_all(&self.base).await;
        }

        async fn remove_all(&self, base: &str) {
            let _ = self
                .run_as(
                    &self.admin,
                    &format!("DROP SCHEMA IF EXISTS {base} CASCADE"),
                )
                .await;
            for role in ROLES {
                let sql = format!("DROP OWNED BY {base}_{role}; DROP ROLE {base}_{role}");
                let _ = self.run_as(&self.admin, &sql).await;
            }
        }
    }
}

#[cfg(feature = "mysql")]
mod mysql {
    use sqlx::{Executor as _, MySqlPool};
    use tidings::{MySqlOptions, MySqlStore, sqlx};

    use super::{ROLES, blocks, is_stale, unique, url_of};
    use crate::{fresh::prefix, server::mysql_url};

    roles_tests!(
        Roles,
        MySqlStore,
        sqlx::MySqlConnection,
        [
            (
                "migrate",
                &[
                    "SELECT * FROM not_of_the_store",
                    "DROP TABLE not_of_the_store",
                    "SELECT data FROM {p}events",
                    "DELETE FROM {p}handler_requests",
                ][..]
            ),
            (
                "raise",
                &[
                    "SELECT data FROM {p}events",
                    "DELETE FROM {p}events",
                    "UPDATE {p}events SET data = '1'",
                    "SELECT * FROM {p}unprocessed_events",
                    "DELETE FROM {p}unprocessed_events",
                    "SELECT * FROM {p}handler_requests",
                    "DELETE FROM {p}migrations",
                    "CREATE TABLE mine (id int)",
                ][..]
            ),
            (
                "work",
                &[
                    "UPDATE {p}events SET data = '1'",
                    "TRUNCATE TABLE {p}events",
                    "DROP TABLE {p}events",
                    "DELETE FROM {p}migrations",
                    "DELETE FROM {p}locks",
                    "ALTER TABLE {p}handler_requests ADD COLUMN mine int",
                    "SELECT * FROM not_of_the_store",
                    "CREATE TABLE mine (id int)",
                ][..]
            ),
            (
                "read",
                &[
                    "UPDATE {p}handler_requests SET errors = 0",
                    "DELETE FROM {p}handler_requests",
                    "INSERT INTO {p}unprocessed_events SELECT id FROM {p}events",
                    "CREATE TABLE mine (id int)",
                ][..]
            ),
        ]
    );

    /// A database and users of its own.
    pub(crate) struct Roles {
        base: String,
        pub(crate) prefix: String,
        admin: MySqlPool,
        blocks: Vec<String>,
    }

    impl Roles {
        async fn new() -> Self {
            let admin = MySqlPool::connect_lazy(&mysql_url()).unwrap();
            let (base, prefix) = (unique(), prefix());
            let page = include_str!("../../src/guide/mysql.md");
            let blocks = blocks(page, &base, &prefix);
            let roles = Self {
                base,
                prefix,
                admin,
                blocks,
            };
            let names: Vec<String> = sqlx::query_scalar(
                "SELECT CAST(schema_name AS CHAR) FROM information_schema.schemata WHERE schema_name LIKE 'trole%'",
            )
            .fetch_all(&roles.admin)
            .await
            .unwrap();
            for name in names.iter().filter(|name| is_stale(name)) {
                roles.remove_all(name).await;
            }
            roles.run(&format!("CREATE DATABASE {}", roles.base)).await;
            roles
                .run(&format!(
                    "CREATE TABLE {}.not_of_the_store (id int)",
                    roles.base
                ))
                .await;
            roles
        }

        async fn run(&self, sql: &str) {
            self.run_as(&self.admin, sql).await.unwrap();
        }

        pub(crate) async fn run_as(&self, pool: &MySqlPool, sql: &str) -> sqlx::Result<()> {
            let sql = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()));
            pool.execute(sql).await.map(drop)
        }

        /// Those who have no right of the store's yet. A user who has no right at all in a database
        /// cannot connect to it.
        async fn make_users_only(&self) {
            for line in self.blocks[0]
                .lines()
                .filter(|line| line.starts_with("CREATE USER"))
            {
                self.run(line).await;
            }
            let base = &self.base;
            self.run(&format!(
                "GRANT SELECT ON {base}.not_of_the_store TO {base}_raise@'%'"
            ))
            .await;
        }

        async fn before_migrating(&self) {
            let block = self.blocks[0].replace("CREATE USER", "CREATE USER IF NOT EXISTS");
            self.run(&block).await;
        }

        async fn after_migrating(&self) {
            self.run(&self.blocks[1]).await;
        }

        /// What has not been granted is hidden here.
        async fn hide(&self) {}

        async fn show(&self) {}

        fn url(&self, role: &str) -> String {
            url_of(
                &mysql_url(),
                &format!("{}_{role}", self.base),
                Some(&self.base),
            )
        }

        async fn store(&self, role: &str) -> MySqlStore {
            let options = MySqlOptions::new()
                .table_prefix(&*self.prefix)
                .max_connections(4);
            MySqlStore::connect(&self.url(role), options).await.unwrap()
        }

        fn pool(&self, role: &str) -> MySqlPool {
            MySqlPool::connect_lazy(&self.url(role)).unwrap()
        }

        async fn remove(&self) {
            self.remove_all(&self.base).await;
        }

        async fn remove_all(&self, base: &str) {
            let _ = self
                .run_as(&self.admin, &format!("DROP DATABASE IF EXISTS {base}"))
                .await;
            for role in ROLES {
                let _ = self
                    .run_as(
                        &self.admin,
                        &format!("DROP USER IF EXISTS {base}_{role}@'%'"),
                    )
                    .await;
            }
        }
    }
}
