//! What references do in the same way on each system.

use async_trait::async_trait;
use chrono::Utc;
use tidings::sqlx::{
    self, Connection as _, Executor as _, MySqlConnection, PgConnection, Row as _, SqliteConnection,
};
use uuid::Uuid;

use super::{DATA, EVENT, Sections, json::numbers};

/// A connection and its statements.
pub(super) struct Reference<C> {
    pub(super) connection: C,
    pub(super) sections: Sections,
}

/// What has the same words for each system, and so is written once.
#[async_trait]
pub(super) trait Common: Send {
    /// Runs a section that has no arguments.
    async fn run(&mut self, section: &str) -> sqlx::Result<()>;

    /// The number that a section answers.
    async fn number(&mut self, section: &str) -> sqlx::Result<i64>;

    /// Completes jobs.
    async fn complete_jobs(&mut self, jobs: &[i64]) -> sqlx::Result<()>;

    /// Claims jobs, inserts a row for each, and completes them, in a transaction, one statement for
    /// each; answers how many there were.
    async fn work_in_transaction(&mut self, limit: i64) -> sqlx::Result<usize>;

    /// Raises an event in a transaction.
    async fn raise_one(&mut self, id: Uuid) -> sqlx::Result<()>;
}

/// For a connection: what begins a transaction that writes, a list of jobs and the time as arguments, and
/// whether an argument that a statement has twice is given twice.
macro_rules! common {
    ($connection:ty, $begin:literal, $jobs:expr, $now:expr, $repeats:literal) => {
        #[async_trait]
        impl Common for Reference<$connection> {
            async fn run(&mut self, section: &str) -> sqlx::Result<()> {
                let sql = sqlx::raw_sql(self.sections.get(section)?);
                self.connection.execute(sql).await?;
                Ok(())
            }

            async fn number(&mut self, section: &str) -> sqlx::Result<i64> {
                let sql = self.sections.get(section)?;
                sqlx::query_scalar(sql)
                    .fetch_one(&mut self.connection)
                    .await
            }

            async fn complete_jobs(&mut self, jobs: &[i64]) -> sqlx::Result<()> {
                let complete = sqlx::query(self.sections.get("complete")?).bind($jobs(jobs));
                complete.execute(&mut self.connection).await?;
                Ok(())
            }

            async fn work_in_transaction(&mut self, limit: i64) -> sqlx::Result<usize> {
                let mut tx = self.connection.begin_with($begin).await?;
                let claim = sqlx::query(self.sections.get("lock")?).bind(limit);
                let rows = claim.fetch_all(&mut *tx).await?;
                for row in &rows {
                    let (id, data): (i64, &str) = (row.try_get(0)?, row.try_get(1)?);
                    let effect = sqlx::query(self.sections.get("effect")?);
                    effect.bind(id).bind(data).execute(&mut *tx).await?;
                    let complete = sqlx::query(self.sections.get("complete_one")?);
                    complete.bind(id).execute(&mut *tx).await?;
                }
                tx.commit().await?;
                Ok(rows.len())
            }

            async fn raise_one(&mut self, id: Uuid) -> sqlx::Result<()> {
                let mut tx = self.connection.begin_with($begin).await?;
                let raise = sqlx::query(self.sections.get("one")?).bind(id).bind(EVENT);
                let raise = raise.bind(DATA).bind($now);
                let raise = if $repeats { raise.bind(id) } else { raise };
                raise.execute(&mut *tx).await?;
                if let Some(queue) = self.sections.find("queue_one") {
                    sqlx::query(queue).bind(id).execute(&mut *tx).await?;
                }
                tx.commit().await
            }
        }
    };
}

common!(PgConnection, "BEGIN", <[i64]>::to_vec, Utc::now(), false);
// It takes the one write lock, or waits for it, right away.
common!(
    SqliteConnection,
    "BEGIN IMMEDIATE",
    numbers,
    Utc::now().timestamp_micros(),
    false
);
common!(
    MySqlConnection,
    "START TRANSACTION",
    numbers,
    Utc::now().timestamp_micros(),
    true
);
