//! One call on a connection: its statements run here, each within a time limit.

use std::time::Duration;

use sqlx::{Executor as _, SqlStr};
use tokio::time::Instant;

use super::{
    arg::Arg,
    connection::{Effects, Mode, Progress, begin, depth, end, start_rollback},
    dialect::Kill,
    error::after_lending,
    row::Row,
    shared::Shared,
    statement::Statement,
};
use crate::{
    error::{Result, StoreError},
    store::Connection,
};

/// A borrowed connection of any of the databases.
pub(super) enum Raw<'c> {
    #[cfg(feature = "postgres")]
    Postgres(&'c mut sqlx::PgConnection),
    #[cfg(feature = "mysql")]
    MySql(&'c mut sqlx::MySqlConnection),
    #[cfg(feature = "_sqlite")]
    Sqlite(&'c mut sqlx::SqliteConnection),
}

/// Does the same with each kind of connection.
macro_rules! each {
    ($raw:expr, $connection:ident: $database:ident, $row:ident, $bind:ident => $body:expr) => {
        match $raw {
            #[cfg(feature = "postgres")]
            Raw::Postgres($connection) => {
                use sqlx::Postgres as $database;

                use super::{arg::bind_postgres as $bind, row::Row::Postgres as $row};
                $body
            }
            #[cfg(feature = "mysql")]
            Raw::MySql($connection) => {
                use sqlx::MySql as $database;

                use super::{arg::bind_mysql as $bind, row::Row::MySql as $row};
                $body
            }
            #[cfg(feature = "_sqlite")]
            Raw::Sqlite($connection) => {
                use sqlx::Sqlite as $database;

                use super::{arg::bind_sqlite as $bind, row::Row::Sqlite as $row};
                $body
            }
        }
    };
}

#[expect(
    unused_imports,
    reason = "each database uses some of what is imported for it"
)]
impl<'c> Raw<'c> {
    async fn rows(
        &mut self,
        sql: SqlStr,
        persistent: bool,
        args: Vec<Arg<'_>>,
    ) -> sqlx::Result<Vec<Row>> {
        each!(self, connection: DB, of, bind => {
            let query = bind(sqlx::query(sql).persistent(persistent), args);
            let rows = query.fetch_all(&mut **connection).await?;
            Ok(rows.into_iter().map(of).collect())
        })
    }

    async fn execute(
        &mut self,
        sql: SqlStr,
        persistent: bool,
        args: Vec<Arg<'_>>,
    ) -> sqlx::Result<u64> {
        each!(self, connection: DB, of, bind => {
            let query = bind(sqlx::query(sql).persistent(persistent), args);
            Ok(query.execute(&mut **connection).await?.rows_affected())
        })
    }

    /// Runs statements without arguments and answers, any number of them in one text.
    async fn script(&mut self, sql: SqlStr) -> sqlx::Result<()> {
        each!(self, connection: DB, of, bind => {
            connection.execute(sqlx::raw_sql(sql)).await?;
            Ok(())
        })
    }

    async fn begin(&mut self, statement: SqlStr) -> sqlx::Result<()> {
        each!(self, connection: DB, of, bind => begin::<DB>(connection, statement).await)
    }

    async fn end(&mut self, commits: bool) -> sqlx::Result<()> {
        each!(self, connection: DB, of, bind => end::<DB>(connection, commits).await)
    }

    /// How many transactions are open, one in the other, as far as sqlx knows.
    pub(super) fn depth(&mut self) -> usize {
        each!(self, connection: DB, of, bind => depth::<DB>(connection))
    }

    /// Lets the transaction be rolled back before anything else runs on the connection.
    fn start_rollback(&mut self) {
        each!(self, connection: DB, of, bind => start_rollback::<DB>(connection));
    }

    /// The connection as a handler gets it.
    pub(super) fn lend(self) -> Connection<'c> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(connection) => Connection::new(connection),
            #[cfg(feature = "mysql")]
            Self::MySql(connection) => Connection::new(connection),
            #[cfg(feature = "_sqlite")]
            Self::Sqlite(connection) => Connection::new(connection),
        }
    }
}

/// One call on a connection. It ends with [`close`](Self::close); a connection whose call did not
/// end is not used again.
pub(super) struct Link<'c> {
    raw: Raw<'c>,
    pub(super) shared: &'c Shared,
    operation: &'static str,
    /// Of the store's own connection; none for one that the application holds.
    progress: Option<&'c mut Progress>,
    /// What this call has done that others wait for.
    pub(super) effects: Effects,
    /// How many requests of each batch this call has settled.
    pub(super) settled: Vec<(u64, usize)>,
    /// The batches of which the store keeps no note any more.
    pub(super) forgotten: Vec<u64>,
    /// Whether the call has begun a transaction of its own.
    began: bool,
    /// Whether a reply may still be under way, or the connection is gone.
    broken: bool,
    /// Whether a statement is under way.
    running: bool,
}

impl<'c> Link<'c> {
    pub(super) fn own(
        raw: Raw<'c>,
        shared: &'c Shared,
        operation: &'static str,
        progress: &'c mut Progress,
    ) -> Self {
        Self {
            raw,
            shared,
            operation,
            progress: Some(progress),
            effects: Effects::default(),
            settled: Vec::new(),
            forgotten: Vec::new(),
            began: false,
            broken: false,
            running: false,
        }
    }

    /// A call on a connection that the application holds.
    pub(super) fn foreign(raw: Raw<'c>, shared: &'c Shared, operation: &'static str) -> Self {
        Self {
            raw,
            shared,
            operation,
            progress: None,
            effects: Effects::default(),
            settled: Vec::new(),
            forgotten: Vec::new(),
            began: false,
            broken: false,
            running: false,
        }
    }

    /// The rows that a statement answers.
    pub(super) async fn rows(
        &mut self,
        statement: &Statement,
        args: Vec<Arg<'_>>,
    ) -> Result<Vec<Row>> {
        self.running = true;
        let call = self.raw.rows(statement.sql(), self.shared.prepares, args);
        let answer = tokio::time::timeout(self.shared.limits.statement, call).await;
        self.answer(answer)
    }

    /// Whether the connection is one that the application holds.
    pub(super) const fn is_foreign(&self) -> bool {
        self.progress.is_none()
    }

    /// Whether the call is part of a transaction that somebody else began.
    pub(super) fn is_in_transaction(&self) -> bool {
        match &self.progress {
            Some(progress) => progress.mode == Mode::Transaction,
            None => true,
        }
    }

    /// How many transactions are open, one in the other, as far as sqlx knows.
    pub(super) fn depth(&mut self) -> usize {
        self.raw.depth()
    }

    /// Whether the database may have ended the transaction unseen.
    pub(super) fn is_in_doubt(&self) -> bool {
        let progress = self.progress.as_deref();
        progress.is_some_and(|progress| progress.mode == Mode::Transaction && progress.in_doubt)
    }

    /// Whether nothing but the store's own statements comes in the transaction any more.
    pub(super) fn is_ending(&self) -> bool {
        let progress = self.progress.as_deref();
        progress.is_some_and(|progress| progress.is_ending)
    }

    /// The transaction is the one that was begun.
    pub(super) fn is_certain(&mut self) {
        if let Some(progress) = self.progress.as_deref_mut() {
            progress.in_doubt = false;
        }
    }

    /// The first row that a statement answers.
    pub(super) async fn row(
        &mut self,
        statement: &Statement,
        args: Vec<Arg<'_>>,
    ) -> Result<Option<Row>> {
        Ok(self.rows(statement, args).await?.into_iter().next())
    }

    /// Runs a statement; answers how many rows it changed.
    pub(super) async fn execute(
        &mut self,
        statement: &Statement,
        args: Vec<Arg<'_>>,
    ) -> Result<u64> {
        self.running = true;
        let call = self
            .raw
            .execute(statement.sql(), self.shared.prepares, args);
        let answer = tokio::time::timeout(self.shared.limits.statement, call).await;
        self.answer(answer)
    }

    /// As [`execute`](Self::execute), but a plan that was made on this connection earlier is not used: that
    /// of a join may be one for tables that were empty then.
    #[cfg(feature = "postgres")]
    pub(super) async fn execute_planned_anew(
        &mut self,
        statement: &Statement,
        args: Vec<Arg<'_>>,
    ) -> Result<u64> {
        self.running = true;
        let call = self.raw.execute(statement.sql(), false, args);
        let answer = tokio::time::timeout(self.shared.limits.statement, call).await;
        self.answer(answer)
    }

    /// Runs a text of any number of statements, within a limit of its own.
    pub(super) async fn script(&mut self, sql: SqlStr, limit: Duration) -> Result<()> {
        self.running = true;
        let answer = tokio::time::timeout(limit, self.raw.script(sql)).await;
        self.answer(answer)
    }

    /// Begins the call's own transaction, when it is its turn.
    pub(super) async fn begin(&mut self, statement: SqlStr) -> Result<()> {
        if let Some(progress) = self.progress.as_deref_mut() {
            let turn = self.shared.dialect.turn(progress.is_first);
            let limit = self.shared.limits.lock;
            progress.turn =
                tokio::time::timeout(limit, turn)
                    .await
                    .map_err(|_| StoreError::TimedOut {
                        operation: self.operation,
                        limit,
                    })?;
        }
        let answer = self.begin_in_turn(statement).await;
        if answer.is_ok() {
            self.began = true;
        } else {
            self.end_turn();
            // Part of the text may have been run.
            self.broken |= self.shared.dialect.retry_begin_after().is_none();
        }
        answer
    }

    async fn begin_in_turn(&mut self, statement: SqlStr) -> Result<()> {
        let give_up_at = Instant::now() + self.shared.limits.lock;
        loop {
            self.running = true;
            let call = self.raw.begin(statement.clone());
            let answer = tokio::time::timeout(self.shared.limits.statement, call).await;
            let answer = self.answer(answer);
            let is_locked = matches!(answer, Err(StoreError::TimedOut { .. })) && !self.broken;
            match self.shared.dialect.retry_begin_after() {
                Some(pause) if is_locked && Instant::now() < give_up_at => {
                    tokio::time::sleep(pause).await;
                }
                _ => {
                    if answer.is_err() && !self.broken {
                        self.undo_begin().await?;
                    }
                    return answer;
                }
            }
        }
    }

    /// Takes back what the text that begins has changed before it failed.
    async fn undo_begin(&mut self) -> Result<()> {
        match self.shared.dialect.undo_begin() {
            Some(undo) if !self.is_foreign() => {
                self.script(undo, self.shared.limits.statement).await
            }
            _ => Ok(()),
        }
    }

    /// Lets others write.
    fn end_turn(&mut self) {
        if let Some(progress) = self.progress.as_deref_mut() {
            progress.turn = None;
        }
    }

    /// Notes what ends the connection on the server.
    pub(super) fn ends_by(&mut self, kill: Kill) {
        if let Some(progress) = self.progress.as_deref_mut() {
            progress.kill = Some(kill);
        }
    }

    /// Leaves the transaction that was begun to the owner of the connection.
    pub(super) fn keep_open(mut self) {
        self.began = false;
        self.progress = None;
    }

    pub(super) async fn end(&mut self, commits: bool) -> Result<()> {
        self.running = true;
        let call = self.raw.end(commits);
        let answer = tokio::time::timeout(self.shared.limits.statement, call).await;
        let answer = self.answer(answer);
        if answer.is_ok() {
            self.began = false;
            self.end_turn();
        }
        answer
    }

    /// Rolls back what the call began.
    async fn undo(&mut self) -> Result<()> {
        let undone = self.end(false).await;
        match (&undone, self.shared.dialect.begin_lost()) {
            // The application uses the connection again, and so must sqlx know where it stands.
            (Err(_), Some(begin)) if self.is_foreign() && !self.running => {
                self.script(begin, self.shared.limits.statement).await?;
                self.end(false).await
            }
            _ => undone,
        }
    }

    /// Ends the call: commits or rolls back what it began, and tells others what was done.
    pub(super) async fn close<T>(mut self, answer: Result<T>) -> Result<T> {
        let answer = match answer {
            Ok(value) => {
                if self.began
                    && let Err(error) = self.end(true).await
                {
                    if self.is_foreign() && !self.running {
                        // Should it fail as well, it is done once the call has ended.
                        let _ = self.undo().await;
                    }
                    return Err(error);
                }
                Ok(value)
            }
            Err(error) => {
                // The connection stays marked as busy, and is closed.
                let is_lost = match self.is_foreign() {
                    true => self.running,
                    false => self.broken,
                };
                if self.began && (is_lost || self.undo().await.is_err()) {
                    return Err(error);
                }
                Err(error)
            }
        };
        let Some(progress) = self.progress.take() else {
            return answer;
        };
        let answer = match answer {
            Err(error) if progress.lent => Err(after_lending(error)),
            answer => answer,
        };
        match &answer {
            Ok(_) if progress.mode == Mode::Autocommit => {
                self.shared.tell(self.effects);
                self.shared
                    .dialect
                    .note_settled(&self.settled, &self.forgotten);
            }
            Ok(_) => progress.effects |= self.effects,
            // The database has undone the transaction; a statement after it would be one of its own.
            Err(error) if error.is_conflict() && progress.mode == Mode::Transaction => {
                progress.mode = Mode::Ended;
                return answer;
            }
            Err(_) if self.broken => {
                give_up(&mut self.raw, progress, self.running);
                return answer;
            }
            Err(_) => progress.in_doubt = true,
        }
        progress.busy = false;
        answer
    }

    fn answer<T>(
        &mut self,
        answer: Result<sqlx::Result<T>, tokio::time::error::Elapsed>,
    ) -> Result<T> {
        // After a time-out it still is.
        self.running = answer.is_err();
        match answer {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                let error = self.shared.limits.error(self.operation, error);
                if matches!(error, StoreError::Unavailable { .. }) {
                    self.broken = true;
                    if let Some(progress) = self.progress.as_deref_mut() {
                        progress.is_lost = true;
                    }
                }
                Err(error)
            }
            Err(_) => {
                self.broken = true;
                Err(StoreError::TimedOut {
                    operation: self.operation,
                    limit: self.shared.limits.statement,
                })
            }
        }
    }
}

/// Lets go of a connection of the store whose call did not end: what it wrote is undone and others may
/// write, also while its owner keeps it. Servers are told when it is closed.
///
/// Where nothing refuses commits, a transaction is left to be rolled back with its connection, and its
/// statement to be broken off then, which would end it as well: what its owner writes after that would
/// be committed.
fn give_up(raw: &mut Raw<'_>, progress: &mut Progress, is_running: bool) {
    if let Some(guards) = &progress.guards {
        if progress.mode == Mode::Transaction && !guards.refuses_commits() {
            return;
        }
        if is_running {
            guards.give_up();
        }
        raw.start_rollback();
        progress.turn = None;
    }
}

impl Drop for Link<'_> {
    /// A connection of the application's does not stay in a transaction that it does not know of.
    /// One of the store's own is closed if its call did not end.
    fn drop(&mut self) {
        match self.progress.take() {
            None if self.began => self.raw.start_rollback(),
            None => {}
            // Checks of a transaction end without being closed.
            Some(progress) if self.running || self.broken || progress.mode == Mode::Autocommit => {
                give_up(&mut self.raw, progress, self.running);
            }
            Some(_) => {}
        }
    }
}
