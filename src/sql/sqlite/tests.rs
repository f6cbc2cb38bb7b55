//! Every statement is prepared, and the plans of the hot ones are read.

use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, Row as _, SqliteConnection, sqlite::SqliteRow,
};

use super::statements::{COMMON, Statements, TEXTS};
use crate::sql::{common::Common, prefix::TablePrefix, statement::Statement};

/// A migrated database in memory.
struct Fresh {
    connection: SqliteConnection,
    common: Common,
    texts: Statements,
}

impl Fresh {
    async fn new() -> Self {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let migration = include_str!("../../../migrations/sqlite/0001_create.sql");
        connection.execute(sqlx::raw_sql(migration)).await.unwrap();
        let prefix = TablePrefix::default();
        Self {
            connection,
            common: COMMON.fill(&prefix),
            texts: TEXTS.fill(&prefix),
        }
    }

    fn all(&self) -> Vec<(&'static str, Statement)> {
        let all = self.common.all().into_iter().chain(self.texts.all());
        all.map(|(name, statement)| (name, statement.clone()))
            .collect()
    }

    async fn rows(&mut self, sql: String) -> Vec<SqliteRow> {
        let answer = self
            .connection
            .fetch_all(sqlx::raw_sql(AssertSqlSafe(sql.clone())))
            .await;
        answer.unwrap_or_else(|error| panic!("{error}: {sql}"))
    }

    /// The steps of the plan of a statement.
    async fn plan(&mut self, statement: &Statement) -> Vec<String> {
        let sql = format!("EXPLAIN QUERY PLAN {}", statement.as_str());
        let rows = self.rows(sql).await;
        rows.iter().map(|row| row.get("detail")).collect()
    }

    /// Statistics as of tables that were small when they were taken.
    async fn analyze_when_empty(&mut self) {
        self.rows("INSERT INTO tidings_events (id, name, data, timestamp, correlation_id, version) \
                   VALUES (zeroblob(16), 'a', '1', 1, zeroblob(16), 1); \
                   INSERT INTO tidings_handler_requests (id, event_id, handler, priority, max_errors, queue, created_at) \
                   VALUES (zeroblob(16), zeroblob(16), 'h', 50, 5, 0, 1); \
                   INSERT INTO tidings_waiting_events (event_id, attempt, errors, due_at) VALUES (zeroblob(16), 1, 1, 1); \
                   INSERT INTO tidings_unwanted_events (event_id, processed_at) VALUES (zeroblob(16), 1); ANALYZE"
            .to_owned())
            .await;
    }
}

#[tokio::test]
async fn every_statement_can_be_prepared() {
    let mut fresh = Fresh::new().await;
    let all = fresh.all();
    assert!(all.len() > 50);
    for (name, statement) in all {
        let prepared = sqlx::Executor::prepare(&mut fresh.connection, statement.sql()).await;
        assert!(prepared.is_ok(), "{name}: {:?}", prepared.err());
    }
}

/// What operators ask for may read a whole table, and what reads a small one or a queue does.
const MAY_SCAN: &[(&str, &str)] = &[
    ("applied_migrations", "tidings_migrations"),
    ("has_migrations", "sqlite_master"),
    ("all_registrations", "tidings_registrations"),
    ("touch_handlers", "tidings_registrations"),
    ("count_events", "e"),
    ("list_events", "e"),
    ("list_event_ids", "e"),
    // As many rows as are asked for.
    ("processed_events", "e"),
    ("look", "tidings_unprocessed_events"),
    ("look", "tidings_waiting_events"),
    ("count_requests", "r"),
    ("list_requests", "r"),
    ("count_unprocessed", "tidings_unprocessed_events"),
    ("count_unprocessed", "tidings_waiting_events"),
    // The first row of the queue, and no more.
    ("next_due_event", "tidings_unprocessed_events"),
    ("next_due_event", "tidings_waiting_events"),
    // As many rows of the queue as are asked for.
    ("fresh_events", "tidings_unprocessed_events"),
];

/// What is no table: rows of arguments and of steps before.
const NO_TABLES: &[&str] = &[
    "CONSTANT",
    "asked",
    "g",
    "n",
    "d",
    "due",
    "late",
    "fresh",
    "json_each",
    "pragma_database_list",
    "pragma_journal_mode",
    "(subquery-",
];

#[tokio::test]
async fn no_statement_reads_a_table_that_grows_from_end_to_end() {
    for analyzed in [false, true] {
        let mut fresh = Fresh::new().await;
        if analyzed {
            fresh.analyze_when_empty().await;
        }
        for (name, statement) in fresh.all() {
            let plan = fresh.plan(&statement).await;
            for step in &plan {
                let Some(scanned) = step.strip_prefix("SCAN ") else {
                    continue;
                };
                let mut words = scanned.split(' ');
                let table = words.next().unwrap();
                let is_partial = scanned.contains("INDEX tidings_handler_requests_");
                let is_allowed = MAY_SCAN.contains(&(name, table))
                    || is_partial
                    || NO_TABLES.iter().any(|one| table.starts_with(one));
                assert!(is_allowed, "{name}: {step}\n{}", plan.join("\n"));
            }
        }
    }
}

#[tokio::test]
async fn the_hot_path_finds_its_rows_by_indexes() {
    let mut fresh = Fresh::new().await;
    fresh.analyze_when_empty().await;
    let texts = &fresh.texts;
    let by_id = "USING PRIMARY KEY (id=?)";
    let hot = [
        (
            "events",
            texts.events.clone(),
            "SEARCH e USING INDEX tidings_events_id (id=?)",
        ),
        (
            "fresh_events",
            texts.fresh_events.clone(),
            "SEARCH e USING INDEX tidings_events_id (id=?)",
        ),
        (
            "late_events",
            texts.late_events.clone(),
            "SEARCH e USING INDEX tidings_events_id (id=?)",
        ),
        (
            "late_events",
            texts.late_events.clone(),
            "INDEX tidings_waiting_events_due (due_at<?)",
        ),
        (
            "unqueue",
            texts.delete_unprocessed.clone(),
            "SEARCH tidings_unprocessed_events USING PRIMARY KEY (event_id=?)",
        ),
        (
            "unqueue",
            texts.delete_waiting.clone(),
            "SEARCH tidings_waiting_events USING PRIMARY KEY (event_id=?)",
        ),
        (
            "unqueue",
            texts.delete_fresh.clone(),
            "SEARCH tidings_unprocessed_events USING PRIMARY KEY (event_id<?)",
        ),
        ("find_requests", texts.find_requests.clone(), by_id),
        ("complete", texts.complete.clone(), by_id),
        ("snooze", texts.snooze.clone(), by_id),
        ("claim", texts.claim.clone(), by_id),
        ("due_by_id", texts.due_by_id.clone(), by_id),
        (
            "due_of",
            texts.due_of.clone(),
            "INDEX tidings_handler_requests_ready (handler=?)",
        ),
        (
            "due_of",
            texts.due_of.clone(),
            "INDEX tidings_handler_requests_backing_off (handler=? AND backoff_until<?)",
        ),
        (
            "handlers_due",
            texts.handlers_due.clone(),
            "INDEX tidings_handler_requests_ready (handler=?)",
        ),
        (
            "best_of",
            texts.best_of.clone(),
            "INDEX tidings_handler_requests_ready (handler=?)",
        ),
        (
            "best_of",
            texts.best_of.clone(),
            "INDEX tidings_handler_requests_backing_off (handler=? AND backoff_until<?)",
        ),
        (
            "best_due",
            fresh.common.best_due.clone(),
            "tidings_handler_requests_ready (handler=?)",
        ),
        (
            "next_due_request",
            fresh.common.next_due_request.clone(),
            "tidings_handler_requests_backing_off (handler=? AND backoff_until>?)",
        ),
        (
            "next_due_request",
            fresh.common.next_due_request.clone(),
            "tidings_handler_requests_suspect (handler=? AND backoff_until>?)",
        ),
        (
            "suspect_due",
            fresh.common.suspect_due.clone(),
            "tidings_handler_requests_suspect (handler=? AND backoff_until=?)",
        ),
        (
            "suspect_due",
            fresh.common.suspect_due.clone(),
            "tidings_handler_requests_suspect (handler=? AND backoff_until<?)",
        ),
        (
            "look",
            fresh.common.look.clone(),
            "tidings_handler_requests_suspect (handler=? AND backoff_until>?)",
        ),
        (
            "lock_due_suspects",
            texts.lock_due_suspects.clone(),
            "tidings_handler_requests_suspect (handler=? AND backoff_until=?)",
        ),
        (
            "lock_due_suspects",
            texts.lock_due_suspects.clone(),
            "tidings_handler_requests_suspect (handler=? AND backoff_until<?)",
        ),
        (
            "open_and_dead_of",
            fresh.common.open_and_dead_of.clone(),
            "INDEX tidings_handler_requests_ready (handler=?)",
        ),
        (
            "open_and_dead_of",
            fresh.common.open_and_dead_of.clone(),
            "INDEX tidings_handler_requests_dead_of (handler=?)",
        ),
        ("rename_requests", texts.rename_requests.clone(), by_id),
        (
            "lock_expired",
            texts.lock_expired.clone(),
            "tidings_handler_requests_leased (lease_until<?)",
        ),
        (
            "first_requests",
            texts.first_requests.clone(),
            "SEARCH r USING PRIMARY KEY (id>? AND id<?)",
        ),
    ];
    for (name, statement, needed) in hot {
        let plan = fresh.plan(&statement).await;
        let found = plan.iter().any(|step| step.contains(needed));
        assert!(found, "{name} has no {needed}:\n{}", plan.join("\n"));
        let sorts = plan.iter().any(|step| step.contains("B-TREE FOR ORDER BY"));
        assert!(
            // A few rows that were found by their ids.
            !sorts || ["late_events", "lock_due_suspects"].contains(&name),
            "{name} sorts:\n{}",
            plan.join("\n")
        );
    }
}
