//! A connection that the store holds: what it runs is guarded, so that a connection that was left
//! in the middle of a reply, or that somebody else may have left so, is closed and never reused.

use std::{ops::BitOrAssign, sync::Arc};

#[cfg(any(feature = "mysql", feature = "_sqlite"))]
use sqlx::pool::PoolConnection;
use sqlx::{Connection as _, Database};
use sqlx_core::transaction::TransactionManager;

#[cfg(feature = "postgres")]
use super::warm_pool::Warm;
use super::{
    arg::args,
    dialect::{Kill, Turn},
    error::after_lending,
    guards::Guards,
    link::{Link, Raw},
    shared::Shared,
};
use crate::{
    error::{Result, StoreError},
    signal::Signals,
};

/// A connection of a pool, or one of its own.
pub(super) enum Held<DB: Database> {
    #[cfg(any(feature = "mysql", feature = "_sqlite"))]
    Pooled(PoolConnection<DB>),
    #[cfg(feature = "postgres")]
    Warm(Warm<DB>),
    Single(Box<DB::Connection>),
}

impl<DB: Database> Held<DB> {
    pub(super) fn get(&mut self) -> &mut DB::Connection {
        match self {
            #[cfg(any(feature = "mysql", feature = "_sqlite"))]
            Self::Pooled(connection) => connection,
            #[cfg(feature = "postgres")]
            Self::Warm(connection) => connection.get(),
            Self::Single(connection) => connection,
        }
    }

    pub(super) async fn close(self) -> sqlx::Result<()> {
        match self {
            #[cfg(any(feature = "mysql", feature = "_sqlite"))]
            Self::Pooled(connection) => connection.close().await,
            #[cfg(feature = "postgres")]
            Self::Warm(connection) => connection.close().await,
            Self::Single(connection) => connection.close().await,
        }
    }

    /// Closes it when it is dropped.
    fn spoil(&mut self) {
        match self {
            #[cfg(any(feature = "mysql", feature = "_sqlite"))]
            Self::Pooled(connection) => connection.close_on_drop(),
            #[cfg(feature = "postgres")]
            Self::Warm(connection) => connection.spoil(true),
            Self::Single(_) => {}
        }
    }
}

/// A connection of any of the databases.
pub(super) enum Handle {
    #[cfg(feature = "postgres")]
    Postgres(Held<sqlx::Postgres>),
    #[cfg(feature = "mysql")]
    MySql(Held<sqlx::MySql>),
    #[cfg(feature = "_sqlite")]
    Sqlite(Held<sqlx::Sqlite>, Guards),
}

impl Handle {
    pub(super) fn raw(&mut self) -> Raw<'_> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(held) => Raw::Postgres(held.get()),
            #[cfg(feature = "mysql")]
            Self::MySql(held) => Raw::MySql(held.get()),
            #[cfg(feature = "_sqlite")]
            Self::Sqlite(held, _) => Raw::Sqlite(held.get()),
        }
    }

    /// What keeps it in hand, where no server does.
    const fn guards(&self) -> Option<&Guards> {
        match self {
            #[cfg(feature = "_sqlite")]
            Self::Sqlite(_, guards) => Some(guards),
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            _ => None,
        }
    }

    fn spoil(&mut self) {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(held) => held.spoil(),
            #[cfg(feature = "mysql")]
            Self::MySql(held) => held.spoil(),
            #[cfg(feature = "_sqlite")]
            Self::Sqlite(held, guards) => {
                held.spoil();
                guards.give_up();
            }
        }
    }
}

/// What a transaction has done that others wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Effects {
    pub(super) raised: bool,
    pub(super) ready: bool,
    pub(super) settled: bool,
}

impl BitOrAssign for Effects {
    fn bitor_assign(&mut self, other: Self) {
        self.raised |= other.raised;
        self.ready |= other.ready;
        self.settled |= other.settled;
    }
}

impl Effects {
    /// Whether nothing was done that others wait for.
    pub(super) fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Tells this process, once others can see what was done.
    pub(super) fn signal(self, signals: &Signals) {
        if self.raised {
            signals.raised.raise();
        }
        if self.ready {
            signals.ready.raise();
        }
        if self.settled {
            signals.settled.raise();
        }
    }
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Each call is a transaction of its own.
    Autocommit,
    /// In a transaction that its owner ends.
    Transaction,
    /// The transaction has been committed or rolled back, here or by the database.
    Ended,
}

/// The savepoint of a transaction, which its owner sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Savepoint {
    /// There is none.
    None,
    /// Nothing was done since it was set.
    Untouched,
    /// Something may have been done since.
    Passed,
}

impl Savepoint {
    /// Something is about to be done.
    fn pass(&mut self) {
        if *self == Self::Untouched {
            *self = Self::Passed;
        }
    }
}

/// The state of a connection, beside the connection itself.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) mode: Mode,
    /// A call is under way, or its future was dropped.
    pub(super) busy: bool,
    /// A handler got the connection; what it does with it is not seen.
    pub(super) lent: bool,
    /// How often anybody in this process had raised events through a connection of his own, when
    /// the connection was lent.
    pub(super) uncommitted_seen: u64,
    /// The database may have ended the transaction: a handler had the connection since it was
    /// checked, or a statement failed.
    pub(super) in_doubt: bool,
    /// Nothing but the store's own statements comes in this transaction any more.
    pub(super) is_ending: bool,
    pub(super) effects: Effects,
    /// The savepoint of a transaction.
    pub(super) savepoint: Savepoint,
    /// What ends it on the server, where that must be told.
    pub(super) kill: Option<Kill>,
    /// Nothing comes through it any more.
    pub(super) is_lost: bool,
    /// Whether it goes past those that wait to write.
    pub(super) is_first: bool,
    /// Held while it writes, where only one connection can.
    pub(super) turn: Option<Turn>,
    /// What breaks off its statements, where nothing else would.
    pub(super) guards: Option<Guards>,
}

/// A connection of a store.
pub(super) struct SqlConnection {
    handle: Handle,
    progress: Progress,
    shared: Arc<Shared>,
}

impl SqlConnection {
    pub(super) fn new(handle: Handle, shared: Arc<Shared>) -> Self {
        let guards = handle.guards().cloned();
        Self {
            handle,
            progress: Progress {
                mode: Mode::Autocommit,
                busy: false,
                lent: false,
                uncommitted_seen: 0,
                in_doubt: false,
                is_ending: false,
                effects: Effects {
                    raised: false,
                    ready: false,
                    settled: false,
                },
                savepoint: Savepoint::None,
                kill: None,
                is_lost: false,
                is_first: false,
                turn: None,
                guards,
            },
            shared,
        }
    }

    /// A connection whose transactions go past those that wait to write.
    pub(super) fn going_first(mut self) -> Self {
        self.progress.is_first = true;
        self
    }

    pub(super) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether each call is a transaction of its own, and another one can follow.
    pub(super) fn is_in_autocommit(&self) -> bool {
        self.progress.mode == Mode::Autocommit && !self.progress.busy
    }

    /// Starts a call. What it needs beyond one statement is begun here, if no transaction is open.
    pub(super) async fn open(&mut self, operation: &'static str, needs: Needs) -> Result<Link<'_>> {
        if self.progress.mode == Mode::Ended {
            return Err(StoreError::Ended {
                operation,
                thing: "the transaction",
            });
        }
        if self.progress.busy {
            return Err(StoreError::Unavailable {
                operation,
                source: Some("an earlier call on this connection was broken off".into()),
            });
        }
        self.progress.busy = true;
        self.progress.savepoint.pass();
        self.check_transaction(operation).await?;
        let needs_transaction = match needs {
            Needs::Nothing => false,
            Needs::OneStatement => !self.shared.dialect.keeps_connection(),
            Needs::Atomicity | Needs::Haste => true,
            Needs::Pins => !self.shared.dialect.has_pinned_sessions(),
        };
        let begins = needs_transaction && self.progress.mode == Mode::Autocommit;
        let begin = begins.then(|| self.shared.dialect.begin(needs));
        let mut link = Link::own(
            self.handle.raw(),
            &self.shared,
            operation,
            &mut self.progress,
        );
        let begun = match begin {
            Some(statement) => link.begin(statement).await,
            None => Ok(()),
        };
        match begun {
            Ok(()) => Ok(link),
            Err(error) => link.close(Err(error)).await,
        }
    }

    /// As [`open`](Self::open), for what comes last in a transaction of a handler, but for its commit.
    pub(super) async fn open_last(
        &mut self,
        operation: &'static str,
        needs: Needs,
    ) -> Result<Link<'_>> {
        let was_ending = std::mem::replace(&mut self.progress.is_ending, true);
        // Checked again, since that may tell the server what to do if nothing follows.
        self.progress.in_doubt |= self.progress.lent && !was_ending;
        self.open(operation, needs).await
    }

    /// Makes sure that the transaction of this connection, if it is in one, goes on. One that does
    /// not is a lost one, and worth running again.
    async fn check_transaction(&mut self, operation: &'static str) -> Result<()> {
        if self.progress.mode != Mode::Transaction || !self.progress.in_doubt {
            return Ok(());
        }
        // A savepoint that failed may have taken the transaction along, and one that was left open
        // would be what is committed; sqlx knows of both.
        let checked = if self.handle.raw().depth() == 1 {
            let mut link = Link::own(
                self.handle.raw(),
                &self.shared,
                operation,
                &mut self.progress,
            );
            self.shared.dialect.check_transaction(&mut link).await
        } else {
            Err(StoreError::Ended {
                operation,
                thing: "the transaction",
            })
        };
        match checked {
            Ok(was_asked) => {
                self.progress.in_doubt = !was_asked;
                Ok(())
            }
            Err(error) => {
                self.progress.mode = Mode::Ended;
                Err(lost_transaction(operation, after_lending(error)))
            }
        }
    }

    /// Makes sure that a commit of this connection's transaction is not a rollback in truth.
    async fn check_commit(&mut self, operation: &'static str) -> Result<()> {
        if self.progress.busy || !self.progress.in_doubt {
            return Ok(());
        }
        let mut link = Link::own(
            self.handle.raw(),
            &self.shared,
            operation,
            &mut self.progress,
        );
        self.shared.dialect.check_commit(&mut link).await
    }

    /// Begins the transaction that the owner of this connection ends.
    pub(super) async fn begin(&mut self) -> Result<()> {
        self.progress.busy = true;
        self.progress.is_ending = false;
        self.progress.savepoint = Savepoint::None;
        let beginning = self.shared.dialect.begin_lasting();
        self.progress.kill = beginning.kill;
        let mut link = Link::own(self.handle.raw(), &self.shared, "begin", &mut self.progress);
        link.begin(beginning.text).await?;
        self.shared.dialect.mark(&mut link).await?;
        link.keep_open();
        self.progress.mode = Mode::Transaction;
        self.progress.busy = false;
        Ok(())
    }

    /// Ends the transaction.
    pub(super) async fn end(&mut self, commits: bool) -> Result<()> {
        let operation = if commits { "commit" } else { "rollback" };
        if self.progress.mode != Mode::Transaction {
            return if commits {
                Err(StoreError::Ended {
                    operation,
                    thing: "the transaction",
                })
            } else {
                Ok(())
            };
        }
        if commits {
            self.check_commit(operation).await?;
        }
        let mut effects = std::mem::take(&mut self.progress.effects);
        effects.raised |= self.progress.lent && {
            let uncommitted = &self.shared.signals.uncommitted;
            uncommitted.seen() != self.progress.uncommitted_seen
        };
        // Whether the transaction has ended is not known until the answer is there.
        self.progress.kill.take_if(|kill| kill.is_of_transaction);
        self.progress.is_ending = true;
        let guards = self.handle.guards().cloned();
        let mut link = self.open(operation, Needs::OneStatement).await?;
        // Not before it is known that nothing else is under way.
        if commits && let Some(guards) = guards {
            guards.allow_commit();
        }
        let ended = link.end(commits).await;
        drop(link);
        self.progress.mode = Mode::Ended;
        ended?;
        self.progress.busy = false;
        self.progress.lent = false;
        if commits {
            self.shared.tell(effects);
        }
        Ok(())
    }

    /// See [`Transaction::savepoint`](crate::store::Transaction::savepoint).
    pub(super) async fn savepoint(&mut self) -> Result<()> {
        if self.progress.savepoint == Savepoint::Untouched {
            return Ok(());
        }
        let replaces = self.progress.savepoint == Savepoint::Passed;
        let mut link = self.open_as_it_is("set a savepoint")?;
        let set = link.shared.dialect.savepoint(&mut link, replaces).await;
        link.close(set).await.map_err(|error| self.lost(error))?;
        self.progress.savepoint = Savepoint::Untouched;
        Ok(())
    }

    /// See [`Transaction::rollback_to_savepoint`](crate::store::Transaction::rollback_to_savepoint).
    pub(super) async fn rollback_to_savepoint(&mut self) -> Result<()> {
        let operation = "roll back to a savepoint";
        if self.progress.savepoint == Savepoint::None {
            let thing = "the savepoint";
            return Err(StoreError::Ended { operation, thing });
        }
        let mut link = self.open_as_it_is(operation)?;
        let rolled_back = async {
            link.shared.dialect.rollback_to_savepoint(&mut link).await?;
            make_sure_of_answers(&mut link).await
        };
        let rolled_back = rolled_back.await;
        link.close(rolled_back)
            .await
            .map_err(|error| self.lost(error))?;
        self.progress.savepoint = Savepoint::Untouched;
        Ok(())
    }

    /// Starts a call on a transaction, which tells by itself whether the transaction goes on.
    fn open_as_it_is(&mut self, operation: &'static str) -> Result<Link<'_>> {
        let is_open = self.progress.mode == Mode::Transaction && !self.progress.busy;
        // A savepoint of somebody who had the connection, and left it open, would be what follows goes
        // into.
        if !is_open || self.handle.raw().depth() != 1 {
            let thing = "the transaction";
            return Err(self.lost(StoreError::Ended { operation, thing }));
        }
        self.progress.busy = true;
        Ok(Link::own(
            self.handle.raw(),
            &self.shared,
            operation,
            &mut self.progress,
        ))
    }

    /// After this error no call comes in the transaction any more.
    fn lost(&mut self, error: StoreError) -> StoreError {
        if self.progress.mode == Mode::Transaction {
            self.progress.mode = Mode::Ended;
            // It is not given to anybody else, in whatever state it is.
            self.progress.busy = true;
        }
        lost_transaction("go on in a transaction", error)
    }

    /// The connection itself, for a handler.
    pub(super) fn lend(&mut self) -> crate::store::Connection<'_> {
        self.progress.savepoint.pass();
        if !self.progress.lent {
            self.progress.uncommitted_seen = self.shared.signals.uncommitted.seen();
        }
        self.progress.lent = true;
        self.progress.in_doubt = true;
        self.progress.is_ending = false;
        self.handle.raw().lend()
    }
}

/// Asks what only this question has as its answer: whoever was dropped in the middle of a reply may
/// have left the rest of it, which would be taken for the answers to what is asked from now on.
async fn make_sure_of_answers(link: &mut Link<'_>) -> Result<()> {
    let question = uuid::Uuid::now_v7().simple().to_string();
    let row = link.row(&link.shared.common.echo, args![&question]).await?;
    let answer = match &row {
        Some(row) => row.reader("no table").optional_text("text")?,
        None => None,
    };
    if answer.as_deref() == Some(&*question) {
        return Ok(());
    }
    Err(StoreError::Unavailable {
        operation: "roll back to a savepoint",
        source: Some("the connection answers something else than was asked".into()),
    })
}

/// A transaction that has ended unseen is worth running again, as one that lost against another is.
pub(super) fn lost_transaction(operation: &'static str, error: StoreError) -> StoreError {
    match error {
        ended @ StoreError::Ended { .. } => StoreError::Conflict {
            operation,
            source: Some(Box::new(ended)),
        },
        error => error,
    }
}

/// What a call needs beyond its statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// It begins itself what it needs.
    Nothing,
    /// It is one statement whose plan the planner may choose.
    OneStatement,
    /// It is several statements, all or none.
    Atomicity,
    /// As atomicity, with pinned plans, and where the database can it fails soon rather than wait for a
    /// lock: others wait behind it.
    Haste,
    /// It is one statement whose plan is pinned.
    Pins,
}

impl Drop for SqlConnection {
    fn drop(&mut self) {
        let in_transaction = self.progress.mode == Mode::Transaction;
        if self.progress.busy || self.progress.lent || in_transaction {
            self.handle.spoil();
            // A connection that was lost ends on the server as well, and if the server went down
            // with it, all that come back would ask a server that has just started.
            if let Some(kill) = self.progress.kill.take_if(|_| !self.progress.is_lost) {
                self.shared.dialect.abandon(kill);
            }
        }
    }
}

/// Begins a transaction on a connection of the database.
pub(super) async fn begin<DB: Database>(
    connection: &mut DB::Connection,
    statement: sqlx::SqlStr,
) -> sqlx::Result<()> {
    DB::TransactionManager::begin(connection, Some(statement)).await
}

/// Commits or rolls back the transaction of a connection of the database.
pub(super) async fn end<DB: Database>(
    connection: &mut DB::Connection,
    commits: bool,
) -> sqlx::Result<()> {
    if commits {
        DB::TransactionManager::commit(connection).await
    } else {
        DB::TransactionManager::rollback(connection).await
    }
}

/// How many transactions of a connection of the database are open, one in the other.
pub(super) fn depth<DB: Database>(connection: &mut DB::Connection) -> usize {
    DB::TransactionManager::get_transaction_depth(connection)
}

/// Lets the transaction of a connection of the database be rolled back before it is used again.
pub(super) fn start_rollback<DB: Database>(connection: &mut DB::Connection) {
    DB::TransactionManager::start_rollback(connection);
}
