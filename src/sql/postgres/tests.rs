//! Every statement is prepared, and the plans of the hot ones are read, on a real server.

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};

use super::{
    dialect::PINS,
    statements::{COMMON, Statements, TEXTS},
};
use crate::sql::{common::Common, prefix::TablePrefix, statement::Statement};

/// A connection to a schema of its own, migrated, that is gone when the connection is.
struct Fresh {
    connection: PgConnection,
    common: Common,
    texts: Statements,
}

impl Fresh {
    async fn new() -> Self {
        let url = std::env::var("TIDINGS_TEST_POSTGRES_URL").unwrap_or_else(|_| {
            panic!("TIDINGS_TEST_POSTGRES_URL is not set; run the tests with tests/run")
        });
        let mut connection = PgConnection::connect(&url).await.unwrap();
        // Tables of pg_temp live as long as the connection, and no other test sees them.
        let migration = include_str!("../../../migrations/postgres/0001_create.sql")
            .replace("CREATE TABLE tidings_", "CREATE TEMPORARY TABLE tidings_")
            .replace("FUNCTION tidings_", "FUNCTION pg_temp.tidings_");
        run(&mut connection, migration).await;
        let prefix = TablePrefix::default();
        Self {
            connection,
            common: COMMON.fill(&prefix),
            texts: TEXTS.fill(&prefix),
        }
    }

    async fn run(&mut self, sql: impl Into<String>) {
        run(&mut self.connection, sql).await;
    }

    /// Prepares a statement under its name.
    async fn prepare(&mut self, name: &str, statement: &Statement) {
        let sql = text(statement);
        self.run(format!("PREPARE {name} AS {sql}")).await;
    }

    /// The lines of the plan of a prepared statement.
    async fn explain(&mut self, options: &str, name: &str, arguments: &str) -> Vec<String> {
        let sql = format!("EXPLAIN ({options}) EXECUTE {name} {arguments}");
        let rows = self
            .connection
            .fetch_all(sqlx::raw_sql(AssertSqlSafe(sql)))
            .await
            .unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// How many buffers a prepared statement touches, and its plan; it is rolled back.
    async fn buffers(&mut self, name: &str, arguments: &str) -> (u64, String) {
        self.run("BEGIN").await;
        let options = "ANALYZE, BUFFERS, COSTS OFF, TIMING OFF";
        let plan = self.explain(options, name, arguments).await;
        self.run("ROLLBACK").await;
        // The first line is of the whole statement; tables of pg_temp have local buffers.
        let whole = plan.iter().find(|line| line.contains("Buffers:"));
        let numbers = whole
            .iter()
            .flat_map(|line| line.split([' ', '=']))
            .filter_map(|word| word.parse::<u64>().ok());
        (numbers.sum(), plan.join("\n"))
    }
}

/// The text of a statement; functions of pg_temp are not found by their name alone.
fn text(statement: &Statement) -> String {
    statement.as_str().replace(
        "tidings_active_registrations",
        "pg_temp.tidings_active_registrations",
    )
}

async fn run(connection: &mut PgConnection, sql: impl Into<String>) {
    let sql = sql.into();
    let answer = connection
        .execute(sqlx::raw_sql(AssertSqlSafe(sql.clone())))
        .await;
    answer.unwrap_or_else(|error| panic!("{error}: {sql}"));
}

#[tokio::test]
async fn every_statement_can_be_prepared() {
    let mut fresh = Fresh::new().await;
    let mut all: Vec<_> = fresh.common.all();
    all.extend(fresh.texts.all());
    let all: Vec<_> = all
        .into_iter()
        .map(|(name, statement)| (name, statement.clone()))
        .collect();
    assert!(all.len() > 40);
    for (number, (name, statement)) in all.into_iter().enumerate() {
        fresh.prepare(&format!("{name}_{number}"), &statement).await;
    }
}

/// The hot statements, and arguments for them.
fn hot(common: &Common, texts: &Statements) -> [(&'static str, Statement, &'static str); 19] {
    [
        (
            "open_and_dead_of",
            common.open_and_dead_of.clone(),
            "('h', 500, 'h', 500, 'h', 500, 'h', 500, 'h', 500)",
        ),
        (
            "rename_requests",
            texts.rename_requests.clone(),
            "('{}', 'i', 'h')",
        ),
        ("look", texts.look.clone(), "('{h,i}', true, NULL)"),
        ("common_look", common.look.clone(), "('{h,i}', true)"),
        (
            "raise",
            texts.raise.clone(),
            "('{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', true)",
        ),
        ("lock_leases", texts.lock_leases.clone(), "(NULL, 0, 100)"),
        ("lock_expired", texts.lock_expired.clone(), "('{1}', 100)"),
        ("tidy_leases", texts.tidy_leases.clone(), "('{1}')"),
        ("best_due", common.best_due.clone(), "('{h,i}')"),
        (
            "insert_requests",
            texts.insert_requests.clone(),
            "('{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')",
        ),
        (
            "fan_out",
            texts.fan_out.clone(),
            "(1000, NULL, NULL, NULL, '{h,i}', '{10,10}')",
        ),
        (
            "claim",
            texts.claim.clone(),
            "('{h,i}', '{10,10}', 20, NULL, NULL)",
        ),
        (
            "settle",
            texts.settle.clone(),
            "('{}', '{}', '{}', '{}', '{}', '{}')",
        ),
        ("renew", texts.renew.clone(), "('{}', '{}', NULL, NULL)"),
        ("lock_requests", texts.lock_requests.clone(), "('{}')"),
        (
            "lock_due",
            texts.lock_due.clone(),
            "('{h,i}', '{10,10}', 20)",
        ),
        ("due_events", texts.due_events.clone(), "(1000)"),
        (
            "write_requests",
            texts.write_requests.clone(),
            "('{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')",
        ),
        (
            "first_requests",
            texts.first_requests.clone(),
            "('{}', '{}', '{}')",
        ),
    ]
}

/// What neither looks for its rows in order nor one by one.
const BAD_STEPS: [&str; 5] = [
    "Seq Scan",
    "Hash Join",
    "Merge Join",
    "Bitmap",
    "Hash Left Join",
];

/// What only inserts: the primary key refuses what is there.
const INSERTS: [&str; 2] = ["raise", "insert_requests"];

async fn assert_that_no_hot_statement_scans(fresh: &mut Fresh, statistics: &str) {
    for table in [
        "events",
        "unprocessed_events",
        "waiting_events",
        "handler_requests",
        "leases",
    ] {
        fresh.run(format!("ANALYZE tidings_{table}")).await;
    }
    for (name, statement, arguments) in hot(&fresh.common, &fresh.texts) {
        fresh.prepare(name, &statement).await;
        let plan = fresh.explain("COSTS OFF", name, arguments).await;
        for line in &plan {
            let is_bad = BAD_STEPS.iter().any(|bad| line.contains(bad));
            // The front of the queue of new events: as far as the first row.
            let is_front = line.contains("Seq Scan on tidings_unprocessed_events");
            // All that execute are in it.
            let is_whole = line.contains("Seq Scan on tidings_leases");
            assert!(
                !is_bad
                    || (is_front && name.ends_with("look"))
                    || (is_whole && name == "open_and_dead_of"),
                "{name} with {statistics}: {line}\n{}",
                plan.join("\n")
            );
        }
        assert!(
            INSERTS.contains(&name) || plan.iter().any(|line| line.contains("Index")),
            "{name} with {statistics} uses no index:\n{}",
            plan.join("\n")
        );
    }
}

#[tokio::test]
async fn statistics_from_when_the_tables_were_empty_change_no_plan() {
    let mut fresh = Fresh::new().await;
    fresh.run(PINS).await;
    assert_that_no_hot_statement_scans(&mut fresh, "statistics of empty tables").await;
}

#[tokio::test]
async fn statistics_from_when_the_tables_were_full_change_no_plan() {
    let mut fresh = Fresh::new().await;
    fresh.run(PINS).await;
    fresh.run(RUNNABLE).await;
    fresh.run(BALLAST).await;
    fresh.run(SUSPECTS).await;
    fresh.run(WAITING).await;
    assert_that_no_hot_statement_scans(&mut fresh, "fresh statistics").await;
}

/// Plans are made without the arguments, so a page must not depend on their being there.
#[tokio::test]
async fn a_page_begins_where_the_one_before_ended() {
    let mut fresh = Fresh::new().await;
    fresh.run(PINS).await;
    let common = &fresh.common;
    let nulls = |count| format!("({})", vec!["NULL"; count].join(", "));
    let pages = [
        (
            "processed_events",
            common.processed_events.clone(),
            nulls(2),
        ),
        ("list_events", common.list_events.clone(), nulls(10)),
        ("list_event_ids", common.list_event_ids.clone(), nulls(10)),
        ("list_requests", common.list_requests.clone(), nulls(11)),
        ("list_dead", common.list_dead.clone(), nulls(11)),
    ];
    for (name, statement, arguments) in pages {
        fresh.prepare(name, &statement).await;
        let plan = fresh.explain("COSTS OFF", name, &arguments).await;
        let starts = plan
            .iter()
            .any(|line| line.contains("Index Cond: (id > COALESCE("));
        assert!(starts, "{name}:\n{}", plan.join("\n"));
        assert!(!plan.join(" ").contains("Sort"), "{name} sorts");
    }
}

/// Rows that cannot run: finished, dead, in the future, under suspicion, leased, and of handlers
/// that nobody asks for; all of a better priority and with smaller ids than those that can.
const BALLAST: &str = "INSERT INTO tidings_handler_requests \
     (id, event_id, handler, priority, max_errors, created_at, queue, backoff_until, owner, lease_until, completed_at, dead_at, rescues) \
     SELECT ('00000000-0000-8000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, gen_random_uuid(), \
       CASE kind WHEN 5 THEN 'unknown' ELSE 'h' END, 0, 5, now(), \
       CASE kind WHEN 1 THEN 3 WHEN 2 THEN 1 WHEN 3 THEN 2 WHEN 5 THEN 0 END, \
       CASE kind WHEN 2 THEN now() + interval '1 day' END, \
       CASE kind WHEN 4 THEN gen_random_uuid() END, CASE kind WHEN 4 THEN now() + interval '1 day' END, \
       CASE kind WHEN 0 THEN now() END, CASE kind WHEN 1 THEN now() END, CASE kind WHEN 3 THEN 3 ELSE 0 END \
     FROM (SELECT n, n % 6 AS kind FROM generate_series(1, 60000) n) given";

/// Twenty requests that can run, and their events.
const RUNNABLE: &str = "INSERT INTO tidings_events (id, name, data, timestamp, correlation_id, version) \
     SELECT ('10000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'a', 'null', now(), gen_random_uuid(), 1 \
     FROM generate_series(1, 20) n; \
     INSERT INTO tidings_handler_requests (id, event_id, handler, priority, max_errors, created_at, queue) \
     SELECT id, id, 'h', 100, 5, now(), 0 FROM tidings_events";

/// Suspects that back off, as after a crash loop: many, and none of them is due.
const SUSPECTS: &str = "INSERT INTO tidings_handler_requests \
     (id, event_id, handler, priority, max_errors, created_at, queue, backoff_until, rescues) \
     SELECT ('00000001-0000-8000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, gen_random_uuid(), 'h', 0, 5, now(), 2, \
       now() + n * interval '1 hour', 4 \
     FROM generate_series(1, 10000) n";

/// Events that back off, beside others that are to be fanned out.
const WAITING: &str = "INSERT INTO tidings_waiting_events (event_id, attempt, errors, due_at) \
     SELECT gen_random_uuid(), 1, 1, now() + n * interval '1 hour' FROM generate_series(1, 10000) n; \
     INSERT INTO tidings_unprocessed_events (event_id) \
     SELECT gen_random_uuid() FROM generate_series(1, 10000) n";

#[tokio::test]
async fn rows_that_cannot_run_cost_a_claim_nothing() {
    let mut fresh = Fresh::new().await;
    fresh.run(PINS).await;
    fresh.run("ANALYZE tidings_handler_requests").await;
    let claim = fresh.texts.claim.clone();
    fresh.prepare("claim", &claim).await;
    fresh.run(RUNNABLE).await;
    let alone = claim_buffers(&mut fresh).await;
    fresh.run(BALLAST).await;
    let beside = claim_buffers(&mut fresh).await;
    // An index that grew may be some levels higher, and its pages were split.
    assert!(
        beside <= 2 * alone + 50,
        "a claim touches {beside} buffers beside 60,000 rows, and {alone} alone"
    );
    // Were they in the way, it would be thousands: each row is on one of some 1,000 pages.
    assert!(beside < 600, "{beside}");
}

/// Nothing but the handler's own rows is read, and no more of each kind than are asked for, but
/// for those that execute, of whomever: there are never many.
#[tokio::test]
async fn a_rename_reads_no_row_of_others_and_none_that_is_finished() {
    let mut fresh = Fresh::new().await;
    fresh.run(PINS).await;
    fresh.run("ANALYZE tidings_handler_requests").await;
    let find = fresh.common.open_and_dead_of.clone();
    fresh.prepare("find", &find).await;
    fresh.run(BALLAST).await;
    fresh
        .run("DELETE FROM tidings_handler_requests WHERE lease_until IS NOT NULL")
        .await;
    fresh.run("VACUUM tidings_handler_requests").await;
    let of =
        |handler: &str, limit| format!("({})", vec![format!("'{handler}', {limit}"); 5].join(", "));
    for (handler, most) in [("h", 5 * 20 * 3), ("nobody", 20)] {
        let (buffers, plan) = fresh.buffers("find", &of(handler, 20)).await;
        assert!(buffers <= most, "{handler}: {buffers}\n{plan}");
    }
}

/// What an idle process asks, and what it asks when it was woken for nothing.
#[tokio::test]
async fn suspects_that_back_off_cost_those_nothing_that_find_nothing() {
    let mut fresh = Fresh::new().await;
    fresh.run(PINS).await;
    fresh.run("ANALYZE tidings_handler_requests").await;
    let (common, texts) = (&fresh.common, &fresh.texts);
    let finding_nothing = [
        ("look", texts.look.clone(), "('{h}', true, NULL)"),
        (
            "claim",
            texts.claim.clone(),
            "('{h}', '{20}', 20, gen_random_uuid(), 1000000)",
        ),
        (
            "lock_due_suspects",
            texts.lock_due_suspects.clone(),
            "('{h}', '{1}', 1)",
        ),
        (
            "next_due_request",
            common.next_due_request.clone(),
            "('{h}')",
        ),
        ("suspect_due", common.suspect_due.clone(), "('{h}')"),
    ];
    for (name, statement, _) in &finding_nothing {
        fresh.prepare(name, statement).await;
    }
    fresh.run(SUSPECTS).await;
    for (name, _, arguments) in finding_nothing {
        let (buffers, plan) = fresh.buffers(name, arguments).await;
        // One way down an index for each question; their pages are hundreds, the rows' thousands.
        assert!(
            buffers <= 30,
            "{name} touches {buffers} buffers beside 10,000 suspects:\n{plan}"
        );
    }
}

/// How many buffers a claim of twenty touches.
async fn claim_buffers(fresh: &mut Fresh) -> u64 {
    let arguments = "('{h}', '{20}', 20, gen_random_uuid(), 1000000)";
    let (buffers, plan) = fresh.buffers("claim", arguments).await;
    let claimed = plan
        .lines()
        .any(|line| line.contains("Update on") && line.contains("rows=20"));
    assert!(claimed, "{plan}");
    buffers
}
