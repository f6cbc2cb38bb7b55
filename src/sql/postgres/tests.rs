//! Every statement is prepared, and the plans of the hot ones are read, on a real server.

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _, ValueRef as _};

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

    /// The same, of three runs the one that read least: tables that others make and drop empty the server's
    /// caches of what tables there are, and the next call fills them.
    async fn least_buffers(&mut self, name: &str, arguments: &str) -> (u64, String) {
        let mut least = self.buffers(name, arguments).await;
        for _ in 0..2 {
            let next = self.buffers(name, arguments).await;
            if next.0 < least.0 {
                least = next;
            }
        }
        least
    }
}

/// The text of a statement; functions of pg_temp are not found by their name alone.
fn text(statement: &Statement) -> String {
    let functions = ["active_registrations", "fan_out_one", "raise", "settle"];
    let text = statement.as_str().to_owned();
    functions.iter().fold(text, |text, function| {
        let name = format!("tidings_{function}(");
        text.replace(&name, &format!("pg_temp.{name}"))
    })
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
fn hot(common: &Common, texts: &Statements) -> [(&'static str, Statement, &'static str); 21] {
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
        (
            "look",
            texts.look.clone(),
            "('{h,i}', true, NULL, '00000000-0000-0000-0000-000000000000')",
        ),
        ("common_look", common.look.clone(), "('{h,i}', true)"),
        (
            "raise",
            texts.raise.clone(),
            "('{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', true)",
        ),
        ("lock_leases", texts.lock_leases.clone(), "(NULL, 0, 100)"),
        ("lock_expired", texts.lock_expired.clone(), "('{1}', 100)"),
        ("tidy_leases", texts.tidy_leases.clone(), "('{1}')"),
        ("forget_leases", texts.forget_leases.clone(), "('{1}')"),
        ("best_due", common.best_due.clone(), "('{h,i}')"),
        (
            "insert_requests",
            texts.insert_requests.clone(),
            "('{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')",
        ),
        (
            "fan_out",
            texts.fan_out.clone(),
            "(1000, NULL, NULL, NULL, '{h,i}', '{10,10}', 64, false, '00000000-0000-0000-0000-000000000000', false)",
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
        ("find_requests", texts.find_requests.clone(), "('{}')"),
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

/// Whether a step walks the whole of an index on a table that grows for ever.
fn is_walked_from_end_to_end(line: &str, next: Option<&String>) -> bool {
    let of_large = [" on tidings_events", " on tidings_handler_requests"];
    let is_scan = line.contains("Scan using") && of_large.iter().any(|table| line.contains(table));
    // What is dead is kept for people to look at.
    let is_of_dead = line.contains("handler_requests_dead");
    is_scan && !is_of_dead && !next.is_some_and(|next| next.contains("Index Cond"))
}

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
        for (number, line) in plan.iter().enumerate() {
            // Planned anew each time.
            assert!(
                name == "write_requests" || !is_walked_from_end_to_end(line, plan.get(number + 1)),
                "{name} with {statistics}: {line}\n{}",
                plan.join("\n")
            );
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
        (
            "look",
            texts.look.clone(),
            "('{h}', true, NULL, '00000000-0000-0000-0000-000000000000')",
        ),
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

/// Registrations of every kind: exact names, prefixes of which the longer one decides, priorities, ended
/// ones, and two handlers of which one id hash has its highest bit set.
const REGISTRATIONS: &str = "INSERT INTO tidings_registrations \
     (handler, pattern, priority, max_errors, hash, prefix, specificity, state, last_seen_at) VALUES \
     ('h', 'order.placed', 50, 5, 1234567, NULL, 1000, 0, now()), \
     ('h', 'order.*', 10, 7, 1234567, 'order.', 6, 0, now()), \
     ('i', 'order.*', 40, 3, -2000000000, 'order.', 6, 0, now()), \
     ('i', '*', 30, 2, -2000000000, '', 0, 0, now()), \
     ('j', 'order.placed', 60, 5, 77, NULL, 1000, 0, now()), \
     ('k', 'order.placed', 0, 5, 78, NULL, 1000, 1, now())";

/// The lowest id.
const FIRST: &str = "00000000-0000-0000-0000-000000000000";

/// One event, with everything that an event can have.
const ONE_EVENT: &str = "INSERT INTO tidings_events VALUES ('10000000-0000-7000-8000-0000000000aa', 'order.placed', \
       'order', '7', '{\"a\": 1}', '2026-01-02 03:04:05Z', '10000000-0000-7000-8000-0000000000bb', \
       '10000000-0000-7000-8000-0000000000cc', '{\"b\":\"c\"}', 3); \
     INSERT INTO tidings_unprocessed_events VALUES ('10000000-0000-7000-8000-0000000000aa')";

impl Fresh {
    /// What a fan-out answers, and what it leaves behind; it is rolled back.
    async fn fanned_out(&mut self, name: &str, arguments: &str) -> Vec<Vec<String>> {
        const LEFT: [&str; 5] = [
            "SELECT id, event_id, handler, priority, max_errors, errors, attempt, executions, rescues, queue, \
               created_at = statement_timestamp() OR created_at > now() - interval '1 minute', owner, \
               round(extract(epoch FROM lease_until - created_at)), backoff_until FROM tidings_handler_requests \
             ORDER BY id",
            "SELECT requests FROM tidings_leases WHERE lease_until > now() ORDER BY 1",
            "SELECT event_id FROM tidings_unprocessed_events",
            "SELECT event_id FROM tidings_waiting_events ORDER BY 1",
            "SELECT event_id FROM tidings_unwanted_events",
        ];
        self.run("BEGIN").await;
        let mut all = vec![self.texts_of(format!("EXECUTE {name} {arguments}")).await];
        // Ids of notes are never given twice.
        for row in all.iter_mut().flatten().filter(|row| row.starts_with("2|")) {
            // Nor does anything take the same time twice.
            let (but_micros, _) = row.rsplit_once('|').unwrap();
            let columns = but_micros
                .split('|')
                .map(|column| match column.split_once(' ') {
                    Some((_, count)) => format!("batch of {count}"),
                    None => column.to_owned(),
                });
            *row = columns.collect::<Vec<_>>().join("|");
        }
        for left in LEFT {
            all.push(self.texts_of(left.to_owned()).await);
        }
        self.run("ROLLBACK").await;
        all
    }

    /// Rows as texts, with bars between the columns.
    async fn texts_of(&mut self, sql: String) -> Vec<String> {
        let rows = self
            .connection
            .fetch_all(sqlx::raw_sql(AssertSqlSafe(sql)))
            .await
            .unwrap();
        let text = |row: &sqlx::postgres::PgRow| {
            let column = |index| {
                let value = row.try_get_raw(index).unwrap();
                if value.is_null() {
                    "-"
                } else {
                    value.as_str().unwrap()
                }
            };
            (0..row.len()).map(column).collect::<Vec<_>>().join("|")
        };
        rows.iter().map(text).collect()
    }
}

/// There are two statements that fan out, one for many events and one for a single one.
#[tokio::test]
async fn one_event_is_fanned_out_as_it_would_be_among_many() {
    let mut fresh = Fresh::new().await;
    fresh.run(PINS).await;
    let (many, one) = (fresh.texts.fan_out.clone(), fresh.texts.fan_out_one.clone());
    fresh.prepare("many", &many).await;
    fresh.prepare("one", &one).await;
    let ready = "INSERT INTO tidings_handler_requests (id, event_id, handler, priority, max_errors, created_at, queue, backoff_until) \
         VALUES (gen_random_uuid(), gen_random_uuid(), 'i'";
    // What is there beforehand, and what is offered: total room, handlers, and their rooms.
    let by_all = "4, '{h,i,j}', '{4,4,4}'";
    let cases = [
        ("nothing is there", String::new(), by_all),
        ("nobody wants it", ONE_EVENT.to_owned(), by_all),
        (
            "all is leased",
            format!("{REGISTRATIONS}; {ONE_EVENT}"),
            by_all,
        ),
        (
            "the room is just enough",
            format!("{REGISTRATIONS}; {ONE_EVENT}"),
            "3, '{h,i,j}', '{1,1,1}'",
        ),
        (
            "some have no room",
            format!("{REGISTRATIONS}; {ONE_EVENT}"),
            "4, '{i,x}', '{4,4}'",
        ),
        (
            "nobody has room",
            format!("{REGISTRATIONS}; {ONE_EVENT}"),
            "0, '{}', '{}'",
        ),
        (
            "others wait",
            format!("{REGISTRATIONS}; {ONE_EVENT}; {ready}, 45, 5, now(), 0, NULL)"),
            by_all,
        ),
        (
            "others that backed off wait",
            format!("{REGISTRATIONS}; {ONE_EVENT}; {ready}, 40, 5, now(), 1, now())"),
            by_all,
        ),
        (
            "others back off",
            format!(
                "{REGISTRATIONS}; {ONE_EVENT}; {ready}, 0, 5, now(), 1, now() + interval '1 day')"
            ),
            by_all,
        ),
        (
            "a pattern as long as the name",
            format!("{REGISTRATIONS}; {ONE_EVENT}; UPDATE tidings_events SET name = 'order.'"),
            by_all,
        ),
    ];
    for (case, setup, offer) in cases {
        fresh.run("TRUNCATE tidings_events, tidings_unprocessed_events, tidings_handler_requests, tidings_registrations").await;
        fresh.run(setup).await;
        let owner = "'10000000-0000-7000-8000-0000000000dd', 30000000";
        for offer in [
            format!("{owner}, {offer}"),
            "NULL, 0, 0, '{}', '{}'".to_owned(),
        ] {
            let arguments = format!("(10, {offer}, 64, false, '{FIRST}', false)");
            let many = fresh.fanned_out("many", &arguments).await;
            let (but_rooms, _) = offer.rsplit_once(", '").expect("rooms");
            let one = fresh
                .fanned_out("one", &format!("({but_rooms}, '{FIRST}')"))
                .await;
            assert_eq!(many, one, "{case}, offered {offer}");
        }
    }
}

#[tokio::test]
async fn the_statement_for_one_event_leaves_to_the_other_what_it_cannot_do() {
    let mut fresh = Fresh::new().await;
    let one = fresh.texts.fan_out_one.clone();
    fresh.prepare("one", &one).await;
    let offer = format!("gen_random_uuid(), 1000000, 2, '{{h,i,j}}', '{FIRST}'");
    let two = "INSERT INTO tidings_unprocessed_events VALUES (gen_random_uuid())";
    let waiting =
        "INSERT INTO tidings_waiting_events VALUES (gen_random_uuid(), 1, 1, NULL, NULL, now())";
    for (case, setup) in [
        ("room for two of three", REGISTRATIONS),
        ("two events", two),
        ("one has waited", waiting),
    ] {
        fresh.run("TRUNCATE tidings_events, tidings_unprocessed_events, tidings_waiting_events, tidings_registrations").await;
        fresh.run(ONE_EVENT).await;
        fresh.run(setup).await;
        let left = fresh.fanned_out("one", &format!("({offer})")).await;
        assert!(
            matches!(&left[0][..], [row] if row.starts_with("3|")),
            "{case}: {:?}",
            left[0]
        );
        assert!(
            left[1].is_empty() && left[2].is_empty() && !left[3].is_empty(),
            "{case}"
        );
    }
}

#[tokio::test]
async fn events_that_back_off_turn_no_other_away_from_the_statement_for_one() {
    let mut fresh = Fresh::new().await;
    let one = fresh.texts.fan_out_one.clone();
    fresh.prepare("one", &one).await;
    fresh
        .run(
            "INSERT INTO tidings_waiting_events VALUES \
         (gen_random_uuid(), 1, 1, NULL, NULL, now() + interval '1 day'), \
         (gen_random_uuid(), 1, 1, NULL, gen_random_uuid(), now() + interval '1 hour')",
        )
        .await;
    for setup in ["", ONE_EVENT] {
        fresh.run(setup).await;
        let offer = format!("gen_random_uuid(), 1000000, 2, '{{h}}', '{FIRST}'");
        let fanned_out = fresh.fanned_out("one", &format!("({offer})")).await;
        let [.., last] = &fanned_out[0][..] else {
            panic!("no answer");
        };
        let columns: Vec<_> = last.split('|').collect();
        let next: i64 = columns[10].parse().unwrap();
        let day = 24 * 3600 * 1_000_000;
        assert_eq!(columns[0], "2");
        assert!(next <= day && next > day - 600_000_000, "{last}");
    }
}

/// What was deleted stays in the index of the queue while a transaction could see it.
#[tokio::test]
async fn a_look_that_begins_later_passes_nothing_of_what_was_taken_before() {
    let lowest = "10000000-0000-7000-8000-000000000000";
    let offer = "NULL, 0, 0, '{}'";
    let calls = |lowest: &str| {
        [
            (
                "many",
                format!("(10, {offer}, '{{}}', 64, false, '{lowest}', false)"),
            ),
            ("one", format!("({offer}, '{lowest}')")),
            ("look", format!("('{{h}}', false, NULL, '{lowest}')")),
        ]
    };
    let mut fresh = Fresh::new().await;
    fresh.run(PINS).await;
    let texts = &fresh.texts;
    let statements = [
        ("many", texts.fan_out.clone()),
        ("one", texts.fan_out_one.clone()),
        ("look", texts.look.clone()),
    ];
    for (name, statement) in statements {
        fresh.prepare(name, &statement).await;
    }
    fresh
        .run(
            "INSERT INTO tidings_unprocessed_events \
             SELECT ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid FROM generate_series(1, 60000) n; \
             DELETE FROM tidings_unprocessed_events",
        )
        .await;
    fresh.run(ONE_EVENT).await;
    for (name, arguments) in calls(lowest) {
        let (buffers, plan) = fresh.least_buffers(name, &arguments).await;
        assert!(buffers < 150, "{name}: {buffers} buffers\n{plan}");
    }
    // Whoever passes the places of deleted rows once marks them, so one look from the beginning shows it.
    let (name, arguments) = calls(FIRST)[2].clone();
    let (buffers, plan) = fresh.buffers(name, &arguments).await;
    assert!(buffers > 200, "nothing is in the way: {buffers}\n{plan}");
}

/// Plans are kept, so that of an empty table must do for a full one: by the ids that are named, in
/// sessions and in the connections of handlers, which are set as the application wants it.
#[tokio::test]
async fn a_settlement_that_was_planned_for_empty_tables_reads_no_row_but_its_own() {
    let id = "10000000-0000-8000-8000-000000000000";
    for is_session in [true, false] {
        let mut fresh = Fresh::new().await;
        fresh.run("ANALYZE tidings_handler_requests").await;
        let (settle, last) = if is_session {
            fresh.run(PINS).await;
            (fresh.texts.settle.clone(), "'{}'")
        } else {
            fresh.run("SET tidings.transaction = 'on'").await;
            (fresh.texts.settle_in.clone(), "'1000'")
        };
        fresh.prepare("settle", &settle).await;
        let arguments =
            format!("('{{{id}}}', '{{0}}', '{{{id}}}', '{{true}}', '{{NULL}}', {last})");
        // So that a plan is made and kept.
        for _ in 0..7 {
            fresh.buffers("settle", &arguments).await;
        }
        fresh.run(BALLAST).await;
        let (buffers, plan) = fresh.least_buffers("settle", &arguments).await;
        assert!(
            buffers <= 20,
            "{buffers} buffers beside 60,000 rows:\n{plan}"
        );
    }
}

/// An index entry for each settlement would be half of its cost.
#[tokio::test]
async fn a_settlement_writes_no_index() {
    let mut fresh = Fresh::new().await;
    fresh.run(PINS).await;
    fresh
        .run(
            "INSERT INTO tidings_handler_requests \
               (id, event_id, handler, priority, max_errors, attempt, created_at, owner, lease_until) \
             SELECT ('10000000-0000-8000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, gen_random_uuid(), 'h', 50, 5, 1, \
               now(), '10000000-0000-7000-8000-0000000000dd', now() FROM generate_series(1, 1000) n",
        )
        .await;
    let settle = fresh.texts.settle.clone();
    fresh.prepare("settle", &settle).await;
    fresh.run("BEGIN").await;
    // In parts, since the second versions of all rows of a page are to fit beside the first.
    for part in 0..10 {
        let id = |n: usize| format!("10000000-0000-8000-8000-{n:012x}");
        let ids: Vec<_> = (1..=100).map(|n| id(part * 100 + n)).collect();
        let owner = vec!["10000000-0000-7000-8000-0000000000dd"; 100].join(",");
        let attempts = vec!["1"; 100].join(",");
        let arguments = format!(
            "('{{{}}}', '{{{attempts}}}', '{{{owner}}}', '{{true}}', '{{NULL}}', '{{}}')",
            ids.join(",")
        );
        let answer = fresh.texts_of(format!("EXECUTE settle {arguments}")).await;
        assert_eq!(answer, ["100|-"]);
    }
    let updated = fresh
        .texts_of(
            "SELECT pg_stat_get_xact_tuples_updated(oid), pg_stat_get_xact_tuples_hot_updated(oid) \
             FROM pg_class WHERE oid = 'tidings_handler_requests'::regclass"
                .to_owned(),
        )
        .await;
    assert_eq!(updated, ["1000|1000"]);
}
