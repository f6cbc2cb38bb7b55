//! Every statement is prepared, and the plans of the hot ones are read, on a real server.

use std::collections::HashMap;

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, MySqlConnection, Row as _};

use super::statements::{COMMON, SLOTS, Statements, TEXTS};
use crate::sql::{common::Common, prefix::TablePrefix, statement::Statement};

/// A connection to migrated tables of its own.
struct Fresh {
    connection: MySqlConnection,
    common: Common,
    texts: Statements,
    prefix: String,
}

impl Fresh {
    async fn new(name: &str) -> Self {
        let url = std::env::var("TIDINGS_TEST_MYSQL_URL").unwrap_or_else(|_| {
            panic!("TIDINGS_TEST_MYSQL_URL is not set; run the tests with tests/run")
        });
        let connection = MySqlConnection::connect(&url).await.unwrap();
        let prefix = format!("u{:x}_{name}_", std::process::id());
        let parsed = TablePrefix::parse(&prefix).unwrap();
        let mut fresh = Self {
            connection,
            common: COMMON.fill(&parsed),
            texts: TEXTS.fill(&parsed),
            prefix,
        };
        let migration = include_str!("../../../migrations/mysql/0001_create.sql");
        fresh.run(migration).await;
        fresh
            .run("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
            .await;
        fresh
    }

    async fn run(&mut self, sql: &str) {
        let sql = sql.replace("tidings_", &self.prefix);
        let answer = self
            .connection
            .execute(sqlx::raw_sql(AssertSqlSafe(sql.clone())))
            .await;
        answer.unwrap_or_else(|error| panic!("{error}: {sql}"));
    }

    /// The tables of a statement with how each is read: its kind of access and its key.
    async fn explain(&mut self, statement: &Statement, args: &[&str]) -> Vec<Access> {
        let sql = format!("EXPLAIN {}", filled(statement, args));
        let rows = self
            .connection
            .fetch_all(sqlx::raw_sql(AssertSqlSafe(sql.clone())))
            .await
            .unwrap_or_else(|error| panic!("{error}: {sql}"));
        let text = |row: &sqlx::mysql::MySqlRow, column: &str| {
            row.get::<Option<String>, _>(column).unwrap_or_default()
        };
        rows.iter()
            .map(|row| Access {
                table: text(row, "table"),
                kind: text(row, "type"),
                key: text(row, "key"),
                extra: text(row, "Extra"),
            })
            .collect()
    }

    /// How many rows and index entries a statement reads, in a transaction that is rolled back.
    async fn reads(&mut self, statement: &Statement, args: &[&str]) -> u64 {
        self.run("START TRANSACTION; FLUSH STATUS").await;
        let sql = filled(statement, args);
        self.connection
            .fetch_all(sqlx::raw_sql(AssertSqlSafe(sql)))
            .await
            .unwrap();
        let status = "SHOW SESSION STATUS LIKE 'Handler_read%'";
        let rows = self
            .connection
            .fetch_all(sqlx::raw_sql(status))
            .await
            .unwrap();
        self.run("ROLLBACK").await;
        rows.iter()
            .map(|row| row.get::<String, _>(1).parse::<u64>().unwrap())
            .sum()
    }

    async fn drop_tables(mut self) {
        let sql = format!(
            "SELECT CONCAT('DROP TABLE ', table_name) FROM information_schema.tables \
             WHERE table_schema = DATABASE() AND LEFT(table_name, {}) = '{}'",
            self.prefix.len(),
            self.prefix
        );
        let rows = self
            .connection
            .fetch_all(sqlx::raw_sql(AssertSqlSafe(sql)))
            .await
            .unwrap();
        assert!(!rows.is_empty());
        for row in rows {
            self.run(&row.get::<String, _>(0)).await;
        }
    }
}

/// How a statement reads a table.
#[derive(Debug)]
struct Access {
    table: String,
    kind: String,
    key: String,
    extra: String,
}

/// A statement with values for its parameters.
fn filled(statement: &Statement, args: &[&str]) -> String {
    let mut parts = statement.as_str().split('?');
    let mut text = parts.next().unwrap().to_owned();
    let mut args = args.iter();
    for part in parts {
        text.push_str(args.next().unwrap());
        text.push_str(part);
    }
    assert_eq!(args.next(), None, "{text}");
    text
}

#[tokio::test]
async fn every_statement_can_be_prepared() {
    let mut fresh = Fresh::new("prepare").await;
    let mut all = fresh.common.all();
    all.extend(fresh.texts.all());
    let all: Vec<_> = all
        .into_iter()
        .map(|(name, statement)| (name, statement.sql()))
        .collect();
    assert!(all.len() > 40);
    for (name, sql) in all {
        // Nothing but single quotes, and no backslash: whatever the sql_mode is, they mean the same.
        let text = sql.as_str();
        assert!(!text.contains(['"', '\\', '`']), "{name}: {text}");
        let prepared = (&mut fresh.connection).prepare(sql).await;
        prepared.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    fresh.drop_tables().await;
}

const ID: &str = "'[\"00000000000000000000000000000001\"]'";
const ONE: &str = "X'00000000000000000000000000000001'";
const TWO: &str = "X'00000000000000000000000000000002'";
const NAMES: &str = "'[\"h\", \"i\"]'";

/// A statement with its name, its arguments, and by which index it reads which table.
type Hot = (
    &'static str,
    Statement,
    Vec<&'static str>,
    Vec<(&'static str, &'static str)>,
);

/// Statements that must not scan, with arguments, and the index by which they read a table.
fn hot(fresh: &Fresh) -> Vec<Hot> {
    let (common, texts) = (&fresh.common, &fresh.texts);
    let slots = |args: &[&'static str]| args.repeat(SLOTS);
    vec![
        (
            "share_names",
            common.share_names.clone(),
            vec![],
            vec![("locks", "PRIMARY")],
        ),
        (
            "lock_request",
            common.lock_request.clone(),
            vec![ONE],
            vec![("r", "PRIMARY"), ("e", "PRIMARY")],
        ),
        (
            "lock_expired",
            texts.lock_expired.clone(),
            vec!["100"],
            vec![("r", "leased"), ("e", "PRIMARY")],
        ),
        (
            "next_due_request",
            common.next_due_request.clone(),
            vec![NAMES],
            vec![("r", "queued")],
        ),
        (
            "rename_requests",
            texts.rename_requests.clone(),
            vec![ID, "'i'", "'h'"],
            vec![("r", "PRIMARY")],
        ),
        (
            "requests_of_event",
            common.requests_of_event.clone(),
            vec![ONE, ONE, TWO],
            vec![("r", "PRIMARY")],
        ),
        (
            "known_events",
            texts.known_events.clone(),
            vec![ID],
            vec![("e", "PRIMARY")],
        ),
        (
            "due_waiting",
            texts.due_waiting.clone(),
            vec!["100"],
            vec![("waiting_events", "due")],
        ),
        (
            "due_fresh",
            texts.due_fresh.clone(),
            vec!["100"],
            vec![("unprocessed_events", "PRIMARY")],
        ),
        (
            "lock_waiting",
            texts.lock_waiting.clone(),
            vec![ID],
            vec![("w", "PRIMARY")],
        ),
        (
            "unqueue_fresh",
            texts.unqueue_fresh.clone(),
            vec![ID],
            vec![("u", "PRIMARY")],
        ),
        (
            "unqueue_waiting",
            texts.unqueue_waiting.clone(),
            vec![ID],
            vec![("w", "PRIMARY")],
        ),
        (
            "first_requests",
            texts.first_requests.clone(),
            slots(&[ONE, TWO]),
            vec![("r", "PRIMARY")],
        ),
        (
            "lock_requests",
            texts.lock_requests.clone(),
            vec![ID],
            vec![("r", "PRIMARY")],
        ),
        (
            "lock_requests_skip",
            texts.lock_requests_skip.clone(),
            vec![ID],
            vec![("r", "PRIMARY")],
        ),
        (
            "lock_held",
            texts.lock_held.clone(),
            vec![ID, "1", "'o'"],
            vec![("r", "PRIMARY")],
        ),
        (
            "lock_held_skip",
            texts.lock_held_skip.clone(),
            vec![ID, "1", "'o'"],
            vec![("r", "PRIMARY")],
        ),
        (
            "complete",
            texts.complete.clone(),
            vec![ID, "1", "1"],
            vec![("r", "PRIMARY")],
        ),
        (
            "snooze",
            texts.snooze.clone(),
            vec![ID, "5", "1", "1"],
            vec![("r", "PRIMARY")],
        ),
        (
            "claim",
            texts.claim.clone(),
            vec![ID, "'o'", "5"],
            vec![("r", "PRIMARY")],
        ),
        (
            "suspects_of",
            texts.suspects_of.clone(),
            slots(&["'h'", "1", "'h'", "1"]),
            vec![("r", "queued")],
        ),
        (
            "lock_suspects",
            texts.lock_suspects.clone(),
            vec!["'h'", "1", "'h'", "1"],
            vec![("r", "queued")],
        ),
        (
            "events",
            texts.events.clone(),
            vec![ID],
            vec![("e", "PRIMARY")],
        ),
    ]
}

/// Statements that read several queues.
fn hot_of_queues(fresh: &Fresh) -> Vec<(&'static str, Statement, Vec<&'static str>)> {
    let slots = |args: &[&'static str]| args.repeat(SLOTS);
    let two = &["'h'", "10", "'h'", "10"];
    vec![
        ("best_due", fresh.common.best_due.clone(), vec![NAMES]),
        ("look", fresh.common.look.clone(), vec![NAMES, "1"]),
        ("best_of", fresh.texts.best_of.clone(), slots(two)),
        ("lock_due", fresh.texts.lock_due.clone(), slots(two)),
        ("best_of_one", fresh.texts.best_of_one.clone(), two.to_vec()),
        (
            "lock_due_one",
            fresh.texts.lock_due_one.clone(),
            two.to_vec(),
        ),
    ]
}

fn assert_no_scan(name: &str, statement: &Statement, plan: &[Access]) {
    for access in plan {
        let is_ours = !access.table.is_empty()
            && access.table != "j"
            && access.table != "a"
            && !access.table.starts_with('<');
        if is_ours {
            // By `index` the queue's front is read in order, as far as the limit.
            let is_good = ["const", "eq_ref", "ref", "range"].contains(&access.kind.as_str())
                || (access.kind == "index" && ["due_fresh", "look"].contains(&name));
            assert!(is_good, "{name}: {plan:#?}");
        }
        let locks = statement.as_str().contains("FOR UPDATE");
        let sorts = locks && access.extra.contains("filesort");
        assert!(!sorts, "{name} sorts what it has locked: {plan:#?}");
    }
}

#[tokio::test]
async fn no_statistics_make_a_hot_statement_scan() {
    let mut fresh = Fresh::new("plans").await;
    for rows in [0, 3, 5000] {
        fresh.run(&ballast(rows)).await;
        for table in [
            "events",
            "unprocessed_events",
            "waiting_events",
            "handler_requests",
        ] {
            fresh.run(&format!("ANALYZE TABLE tidings_{table}")).await;
        }
        for (name, statement, args, expected) in hot(&fresh) {
            let plan = fresh.explain(&statement, &args).await;
            assert_no_scan(name, &statement, &plan);
            let keys: HashMap<_, _> = plan
                .iter()
                .map(|access| {
                    let table = access.table.strip_prefix(&fresh.prefix);
                    (table.unwrap_or(&access.table), access.key.as_str())
                })
                .collect();
            for (table, key) in expected {
                let found = keys.get(table).copied();
                // A row that is known not to be there is not in the plan.
                assert!(
                    found.is_none_or(|found| found == key),
                    "{name} of {rows} rows: {plan:#?}"
                );
                assert!(
                    found.is_some() || rows < 5000 || table == "e",
                    "{name}: {plan:#?}"
                );
            }
        }
        for (name, statement, args) in hot_of_queues(&fresh) {
            let plan = fresh.explain(&statement, &args).await;
            assert_no_scan(name, &statement, &plan);
            assert!(
                plan.iter().any(|access| access.key == "queued"),
                "{name}: {plan:#?}"
            );
        }
    }
    fresh.drop_tables().await;
}

/// Requests that cannot run: finished, dead, in the future, under suspicion, leased, and of handlers
/// that nobody asks for; all of a better priority and with smaller ids than those that can. Beside
/// them events that are processed.
fn ballast(rows: u32) -> String {
    format!(
        "INSERT IGNORE INTO tidings_handler_requests \
           (id, event_id, handler, priority, max_errors, created_at, queue, backoff_until, owner, \
            lease_until, completed_at, dead_at, rescues) \
         SELECT UNHEX(LPAD(HEX(n), 32, '0')), UNHEX(LPAD(HEX(n), 32, '0')), IF(kind = 5, 'unknown', 'h'), 0, 5, 1, \
           CASE kind WHEN 1 THEN 3 WHEN 2 THEN 1 WHEN 3 THEN 2 WHEN 5 THEN 0 END, \
           IF(kind = 2, 9000000000000000, NULL), IF(kind = 4, REPEAT('o', 16), NULL), \
           IF(kind = 4, 9000000000000000, NULL), IF(kind = 0, 1, NULL), IF(kind = 1, 1, NULL), \
           IF(kind = 3, 3, 0) \
         FROM ({numbers}) given; \
         INSERT IGNORE INTO tidings_events (id, name, data, timestamp, correlation_id, version) \
         SELECT UNHEX(LPAD(HEX(n), 32, '0')), 'a', 'null', 1, REPEAT('c', 16), 1 FROM ({numbers}) given",
        numbers = format!(
            "SELECT n, n % 6 AS kind FROM (WITH RECURSIVE d (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM d WHERE n < 9) \
             SELECT 1 + a.n + 10 * b.n + 100 * c.n + 1000 * e.n + 10000 * f.n AS n \
             FROM d a, d b, d c, d e, d f) all_numbers WHERE n <= {rows}"
        )
    )
}

/// Twenty requests that can run.
const RUNNABLE: &str = "INSERT INTO tidings_handler_requests \
       (id, event_id, handler, priority, max_errors, created_at, queue) \
     WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 20) \
     SELECT UNHEX(CONCAT('10', LPAD(HEX(n), 30, '0'))), REPEAT('e', 16), 'h', 100, 5, 1, 0 FROM numbers";

#[tokio::test]
async fn rows_that_cannot_run_cost_a_claim_nothing() {
    let mut fresh = Fresh::new("ballast").await;
    fresh.run("ANALYZE TABLE tidings_handler_requests").await;
    fresh.run(RUNNABLE).await;
    let args = ["'h'", "20", "'h'", "20"].repeat(SLOTS);
    let statements = [fresh.texts.best_of.clone(), fresh.texts.lock_due.clone()];
    let mut alone = Vec::new();
    for statement in &statements {
        alone.push(fresh.reads(statement, &args).await);
    }
    fresh.run(&ballast(60_000)).await;
    for (statement, alone) in statements.iter().zip(alone) {
        let beside = fresh.reads(statement, &args).await;
        assert!(alone >= 20, "{alone}");
        assert!(
            beside <= alone + 10,
            "a claim reads {beside} entries beside 60,000 rows, and {alone} alone"
        );
    }
    fresh.drop_tables().await;
}

/// Nothing but the handler's own rows is read, and no more of each kind than are asked for, but
/// for those that execute, of whomever: there are never many.
#[tokio::test]
async fn a_rename_reads_no_row_of_others_and_none_that_is_finished() {
    let mut fresh = Fresh::new("rename").await;
    fresh.run(&ballast(60_000)).await;
    fresh.run("ANALYZE TABLE tidings_handler_requests").await;
    let find = fresh.common.open_and_dead_of.clone();
    let executing = 10_000;
    for (handler, most) in [("'h'", 5 * 501), ("'nobody'", 10)] {
        let args = [handler, "500"].repeat(5);
        let plan = fresh.explain(&find, &args).await;
        assert_no_scan("open_and_dead_of", &find, &plan);
        let reads = fresh.reads(&find, &args).await;
        assert!(reads <= most + executing, "{handler}: {reads}");
    }
    fresh
        .run("DELETE FROM tidings_handler_requests WHERE lease_until IS NOT NULL")
        .await;
    let reads = fresh.reads(&find, &["'nobody'", "500"].repeat(5)).await;
    assert!(reads <= 10, "{reads}");
    fresh.drop_tables().await;
}

/// Requests whose backoff has passed, as after an outage of what their handler needs, and others that
/// still back off.
#[tokio::test]
async fn a_backlog_costs_a_fan_out_and_a_retirement_of_others_nothing() {
    let mut fresh = Fresh::new("backlog").await;
    fresh.run("ANALYZE TABLE tidings_handler_requests").await;
    for due in ["1", "9000000000000000"] {
        fresh.run("DELETE FROM tidings_handler_requests").await;
        fresh.run(&SUSPECTS.replace("9000000000000000", due)).await;
        let best_due = fresh.common.best_due.clone();
        let reads = fresh.reads(&best_due, &["'[\"h\", \"i\"]'"]).await;
        assert!(reads <= 20, "the best priority takes {reads} reads");
        let count_open_of = fresh.common.count_open_of.clone();
        let reads = fresh.reads(&count_open_of, &["'nobody'"]).await;
        assert!(reads <= 20, "counting nothing takes {reads} reads");
    }
    fresh.drop_tables().await;
}

/// What an idle process asks, and what it asks when it was woken for nothing.
#[tokio::test]
async fn suspects_that_back_off_cost_those_nothing_that_find_nothing() {
    let mut fresh = Fresh::new("suspects").await;
    fresh.run("ANALYZE TABLE tidings_handler_requests").await;
    fresh.run(SUSPECTS).await;
    let (common, texts) = (&fresh.common, &fresh.texts);
    let two = ["'h'", "20", "'h'", "20"];
    let finding_nothing = [
        ("look", common.look.clone(), vec!["'[\"h\"]'", "1"]),
        (
            "next_due_request",
            common.next_due_request.clone(),
            vec!["'[\"h\"]'"],
        ),
        ("suspect_due", common.suspect_due.clone(), vec!["'[\"h\"]'"]),
        ("lock_due", texts.lock_due.clone(), two.repeat(SLOTS)),
        ("suspects_of", texts.suspects_of.clone(), two.repeat(SLOTS)),
        ("lock_suspects", texts.lock_suspects.clone(), two.to_vec()),
    ];
    for (name, statement, args) in finding_nothing {
        let reads = fresh.reads(&statement, &args).await;
        assert!(
            reads <= 60,
            "{name} reads {reads} entries beside 20,000 that back off"
        );
    }
    fresh.drop_tables().await;
}

/// Suspects that back off, as after a crash loop, and others: many, and none of them is due.
const SUSPECTS: &str = "INSERT INTO tidings_handler_requests \
       (id, event_id, handler, priority, max_errors, created_at, queue, backoff_until, rescues) \
     WITH RECURSIVE d (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM d WHERE n < 9) \
     SELECT UNHEX(CONCAT('01', LPAD(HEX(a.n + 10 * b.n + 100 * c.n + 1000 * e.n + 10000 * f.n), 30, '0'))), REPEAT('e', 16), 'h', 0, 5, 1, 1 + a.n MOD 2, \
       9000000000000000 + a.n, 4 FROM d a, d b, d c, d e, (SELECT 0 AS n UNION ALL SELECT 1) f";
