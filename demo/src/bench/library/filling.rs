//! Rows on PostgreSQL that are none of anybody's business: finished requests, a tenth as many of each of
//! the others, which are dead, back off for a year (requests, and events whose processing is put off), or
//! are pending for a handler that nobody has. All are of the best priority and have smaller ids than what
//! is raised now, so that whoever looks at them looks at all.

use std::time::{Duration, Instant};

use tidings::sqlx::{self, AssertSqlSafe, Executor as _, PgPool};

/// Rows that are filled in by one statement, so that somebody who waits sees that it goes on.
pub(super) const CHUNK: u64 = 1_000_000;

/// What is filled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filling<'a> {
    /// Of the tables.
    pub(super) prefix: &'a str,
    /// Whose requests are finished, dead or back off.
    pub(super) handler: &'a str,
    /// Finished ones.
    pub(super) rows: u64,
}

/// The kinds of requests, the parts of `rows` that they are, and the columns that tell them apart; a `{h}`
/// is the handler.
pub(super) const KINDS: [(&str, u64, &str); 4] = [
    ("finished", 1, "'{h}', NULL, NULL, now(), NULL"),
    ("dead", 10, "'{h}', 3, NULL, NULL, now()"),
    (
        "future",
        10,
        "'{h}', 1, now() + interval '1 year', NULL, NULL",
    ),
    ("unknown", 10, "'unknown', 0, NULL, NULL, NULL"),
];

impl Filling<'_> {
    /// Fills; `told` hears how many of which kind there are now, and how long that took.
    pub(super) async fn fill(
        &self,
        pool: &PgPool,
        told: impl Fn(&str, u64, Duration),
    ) -> sqlx::Result<()> {
        let mut first = 0;
        for (kind, part, columns) in KINDS {
            let begun = Instant::now();
            let last = first + self.rows / part;
            let columns = columns.replace("{h}", self.handler);
            for (first, end) in chunks(first, last) {
                tokio::try_join!(
                    run(pool, self.events(first, end)),
                    run(pool, self.requests(first, end, &columns)),
                )?;
            }
            told(kind, last - first, begun.elapsed());
            first = last;
        }
        let begun = Instant::now();
        let end = first + self.rows / 10;
        tokio::try_join!(
            run(pool, self.events(first, end)),
            run(pool, self.waiting_events(first, end)),
        )?;
        told("put off", end - first, begun.elapsed());
        // What the fill left to write is not to be written while something is measured.
        run(pool, "CHECKPOINT".to_owned()).await
    }

    /// Events with these numbers.
    fn events(&self, first: u64, end: u64) -> String {
        let (prefix, id) = (self.prefix, id('7'));
        format!(
            "INSERT INTO {prefix}events (id, name, data, timestamp, correlation_id, version) \
             SELECT {id}, 'measured.before', \
               '{{\"number\": 1, \"text\": \"some payload of no great length\"}}', now(), {id}, 1 \
             FROM generate_series({first}, {end} - 1) n"
        )
    }

    /// Their requests, one for each.
    fn requests(&self, first: u64, end: u64, columns: &str) -> String {
        let (prefix, id, event) = (self.prefix, id('8'), id('7'));
        format!(
            "INSERT INTO {prefix}handler_requests (id, event_id, handler, queue, backoff_until, \
               completed_at, dead_at, priority, max_errors, attempt, created_at) \
             SELECT {id}, {event}, {columns}, 0, 5, 1, now() FROM generate_series({first}, {end} - 1) n"
        )
    }

    fn waiting_events(&self, first: u64, end: u64) -> String {
        let (prefix, id) = (self.prefix, id('7'));
        format!(
            "INSERT INTO {prefix}waiting_events (event_id, attempt, errors, due_at) \
             SELECT {id}, 1, 1, now() + interval '1 year' FROM generate_series({first}, {end} - 1) n"
        )
    }
}

/// The id with the number `n`, of a version: the bits that tell events and requests apart as the store has
/// them.
fn id(version: char) -> String {
    format!("('00000000-0000-{version}000-8000-' || lpad(to_hex(n), 12, '0'))::uuid")
}

/// The numbers from the first on to before the end, in parts.
pub(super) fn chunks(first: u64, end: u64) -> impl Iterator<Item = (u64, u64)> {
    let next = move |begin: &u64| Some(begin + CHUNK).filter(|next| *next < end);
    let begins = std::iter::successors(Some(first).filter(|first| *first < end), next);
    begins.map(move |begin| (begin, end.min(begin + CHUNK)))
}

async fn run(pool: &PgPool, sql: String) -> sqlx::Result<()> {
    pool.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
    Ok(())
}
