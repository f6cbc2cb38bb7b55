//! A drain beside many millions of rows that are none of its business.

use std::time::Instant;

use tidings::sqlx::PgPool;

use super::{
    Library, Result, application,
    drain::Drained,
    filling::{Filling, KINDS, chunks},
    tables,
    turn::Turn,
};
use crate::place::System;
use crate::{arguments::SchedulerKind, bench::tell};

/// Of the tables that are full.
const FULL: &str = "bench_full_";
/// Whose requests are measured, and whose finished, dead and future ones are beside them.
const HANDLER: &str = "handler-1";

impl Library {
    /// Makes tables with so many finished requests, and a tenth as many of each other kind.
    pub(in crate::bench) async fn make_full(&self, rows: u64) -> Result<()> {
        Turn::new(&self.place, FULL, &self.meter)
            .await?
            .close()
            .await;
        match self.place.system {
            System::Postgres => self.fill_postgres(rows).await,
            System::Sqlite => self.fill(&SQLITE, rows).await,
            System::MySql => self.fill(&MYSQL, rows).await,
        }
    }

    async fn fill_postgres(&self, rows: u64) -> Result<()> {
        let pool = PgPool::connect(&self.place.url).await?;
        let filling = Filling {
            prefix: FULL,
            handler: HANDLER,
            rows,
        };
        let told = |kind: &str, count, took: std::time::Duration| {
            tell(&format!("  {count} {kind}: {took:.0?}"));
        };
        filling.fill(&pool, told).await?;
        pool.close().await;
        Ok(())
    }

    /// The same rows, where times are microseconds.
    async fn fill(&self, words: &Words, rows: u64) -> Result<()> {
        let mut connection = application::connect(&self.place).await?;
        let mut first = 0;
        for (kind, part) in KINDS.map(|(kind, part, _)| (kind, part)) {
            let (begun, last) = (Instant::now(), first + rows / part);
            for (first, end) in chunks(first, last) {
                connection.run(words.events(first, end)).await?;
                connection.run(words.requests(kind, first, end)).await?;
            }
            tell(&format!(
                "  {} {kind}: {:.0?}",
                last - first,
                begun.elapsed()
            ));
            first = last;
        }
        for (first, end) in chunks(first, first + rows / 10) {
            connection.run(words.events(first, end)).await?;
            connection.run(words.waiting_events(first, end)).await?;
        }
        // Where a trigger has put them.
        let queued = format!("DELETE FROM {FULL}unprocessed_events");
        connection.run(queued).await?;
        connection.close().await?;
        tables::bring_to_rest(&self.place, FULL).await
    }

    /// Drains as from empty tables, but from the full ones.
    pub(in crate::bench) async fn drain_from_full(&self, requests: u64) -> Result<Drained> {
        let mut turn = Turn::on(&self.place, FULL, &self.meter).await?;
        let events = turn.fill(requests).await?;
        let kind = SchedulerKind::Concurrent;
        let drained = turn.drain_all(kind, &events, 1).await?;
        turn.close().await;
        Ok(drained)
    }

    pub(in crate::bench) async fn drop_full(&self) -> Result<()> {
        tables::drop_all(&self.place, FULL).await
    }
}

/// What a system says in words of its own.
struct Words {
    /// The microseconds since 1970.
    now: &'static str,
    /// An id whose last twelve digits are the number `n`; `{v}` is the digit of its version.
    id: &'static str,
    /// What an INSERT selects: `{columns}` for each `n` from `{first}` on to before `{end}`.
    select: &'static str,
}

const SQLITE: Words = Words {
    now: "CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
    id: "unhex(printf('000000000000{v}0008000%012x', n))",
    select: "WITH RECURSIVE numbers (n) AS ( \
               SELECT {first} UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {end}) \
             SELECT {columns} FROM numbers",
};

const MYSQL: Words = Words {
    now: "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))",
    id: "UNHEX(CONCAT('000000000000{v}0008000', LPAD(HEX(n), 12, '0')))",
    // Recursion is limited there; six digits are as many numbers as one statement fills.
    select: "WITH d AS (SELECT 0 AS d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 \
               UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9), \
             numbers AS (SELECT {first} + a.d * 100000 + b.d * 10000 + c.d * 1000 + e.d * 100 + f.d * 10 + g.d AS n \
               FROM d a CROSS JOIN d b CROSS JOIN d c CROSS JOIN d e CROSS JOIN d f CROSS JOIN d g) \
             SELECT {columns} FROM numbers WHERE n < {end}",
};

impl Words {
    fn insert(&self, into: &str, columns: &str, first: u64, end: u64) -> String {
        let select = self
            .select
            .replace("{columns}", columns)
            .replace("{first}", &first.to_string())
            .replace("{end}", &end.to_string());
        format!("INSERT INTO {FULL}{into} {select}")
    }

    fn event(&self) -> String {
        self.id.replace("{v}", "7")
    }

    fn events(&self, first: u64, end: u64) -> String {
        let (id, now) = (self.event(), self.now);
        let columns = format!(
            "{id}, 'measured.before', '{{\"number\": 1, \"text\": \"some payload of no great length\"}}', {now}, {id}, 1"
        );
        let into = "events (id, name, data, timestamp, correlation_id, version)";
        self.insert(into, &columns, first, end)
    }

    fn requests(&self, kind: &str, first: u64, end: u64) -> String {
        let (id, event, now) = (self.id.replace("{v}", "8"), self.event(), self.now);
        let year = 365_u64 * 24 * 60 * 60 * 1_000_000;
        let state = match kind {
            "finished" => format!("'{HANDLER}', NULL, NULL, {now}, NULL"),
            "dead" => format!("'{HANDLER}', 3, NULL, NULL, {now}"),
            "future" => format!("'{HANDLER}', 1, {now} + {year}, NULL, NULL"),
            _ => "'unknown', 0, NULL, NULL, NULL".to_owned(),
        };
        let columns = format!("{id}, {event}, {state}, 0, 5, 1, {now}");
        let into = "handler_requests (id, event_id, handler, queue, backoff_until, completed_at, dead_at, \
                    priority, max_errors, attempt, created_at)";
        self.insert(into, &columns, first, end)
    }

    fn waiting_events(&self, first: u64, end: u64) -> String {
        let year = 365_u64 * 24 * 60 * 60 * 1_000_000;
        let columns = format!("{}, 1, 1, {} + {year}", self.event(), self.now);
        let into = "waiting_events (event_id, attempt, errors, due_at)";
        self.insert(into, &columns, first, end)
    }
}

#[cfg(test)]
mod tests {
    use tidings::sqlx::{self, AssertSqlSafe, Connection as _, SqliteConnection};

    use super::*;
    use crate::bench::library::filling::CHUNK;

    // Here, since a bench of its own shares that file, and has no tests.
    #[test]
    fn chunks_leave_nothing_out_and_nothing_twice() {
        let all: Vec<_> = chunks(5, 2 * CHUNK + 5).collect();
        assert_eq!(all, [(5, CHUNK + 5), (CHUNK + 5, 2 * CHUNK + 5)]);
        assert_eq!(chunks(5, 6).collect::<Vec<_>>(), [(5, 6)]);
        assert_eq!(chunks(5, 5).count(), 0);
    }

    #[tokio::test]
    async fn each_number_has_a_row_with_an_id_of_its_own() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let table = format!(
            "CREATE TABLE {FULL}waiting_events (event_id BLOB PRIMARY KEY, attempt, errors, due_at)"
        );
        let first = sqlx::query(AssertSqlSafe(table));
        first.execute(&mut connection).await.unwrap();
        let fill = sqlx::query(AssertSqlSafe(SQLITE.waiting_events(10, 300)));
        let filled = fill.execute(&mut connection).await.unwrap();
        assert_eq!(filled.rows_affected(), 290);
        let least = format!("SELECT hex(min(event_id)) FROM {FULL}waiting_events");
        let least: String = sqlx::query_scalar(AssertSqlSafe(least))
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(least, "0000000000007000800000000000000A");
    }
}
