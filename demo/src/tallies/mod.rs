//! What the handlers count, and where it is kept.
//!
//! In memory the tallies live beside the store and end with the process, as the store does. In a
//! database they are rows, which handlers change in the transaction in which their request is
//! settled: each event counts once, whoever is killed when.

mod memory;

use std::fmt;

use tidings::{
    Context, FromEvent, Handler, HandlerError, HandlerResult, Result,
    sqlx::{MySqlConnection, PgConnection, SqliteConnection},
    store::Storer,
};

use self::memory::MemoryTallies;
use crate::store::{TallyConnection, tallies_of};

/// One of the things that handlers count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tally {
    /// Commits that were pushed.
    Commits,
    /// Stars that were given, less those that were taken back.
    Stars,
    /// Events in issues and pull requests.
    Activity,
    /// Notifications of maintainers.
    Notifications,
    /// Issues that were opened without labels.
    UntriagedIssues,
}

impl Tally {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [
        Self::Commits,
        Self::Stars,
        Self::Activity,
        Self::Notifications,
        Self::UntriagedIssues,
    ];

    /// Its name in databases, which never changes.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Commits => "commits",
            Self::Stars => "stars",
            Self::Activity => "activity",
            Self::Notifications => "notifications",
            Self::UntriagedIssues => "untriaged_issues",
        }
    }
}

/// Where tallies are kept. Clones share them.
#[derive(Clone, Debug)]
pub(crate) enum Tallies {
    Memory(MemoryTallies),
    Sqlite,
    Postgres,
    MySql,
}

/// How much an event counts.
pub(crate) type Count<E> = fn(E) -> Result<i64, HandlerError>;

impl Tallies {
    /// Tallies in memory.
    pub(crate) fn memory() -> Self {
        Self::Memory(MemoryTallies::default())
    }

    /// A handler that counts in a tally.
    pub(crate) fn handler<E: FromEvent>(
        &self,
        name: &'static str,
        tally: Tally,
        count: Count<E>,
    ) -> Handler {
        match self {
            Self::Memory(tallies) => {
                let tallies = tallies.clone();
                Handler::new(name, move |event: E, _: Context| {
                    let counted = count(event).map(|amount| tallies.add(tally, amount));
                    std::future::ready(counted)
                })
            }
            Self::Sqlite => transactional::<E, SqliteConnection>(name, tally, count),
            Self::MySql => transactional::<E, MySqlConnection>(name, tally, count),
            Self::Postgres => transactional::<E, PgConnection>(name, tally, count),
        }
    }

    /// What has been counted so far, by everybody on this store.
    pub(crate) async fn read(&self, store: &dyn Storer) -> Result<Counts> {
        match self {
            Self::Memory(tallies) => Ok(tallies.read()),
            Self::Sqlite => tallies_of::<SqliteConnection>(store).await,
            Self::MySql => tallies_of::<MySqlConnection>(store).await,
            Self::Postgres => tallies_of::<PgConnection>(store).await,
        }
    }
}

fn transactional<E: FromEvent, C: TallyConnection>(
    name: &'static str,
    tally: Tally,
    count: Count<E>,
) -> Handler {
    Handler::transactional_with_state(name, (tally, count), count_in::<E, C>)
}

/// Counts in the transaction of the settlement.
async fn count_in<E: FromEvent, C: TallyConnection>(
    (tally, count): (Tally, Count<E>),
    event: E,
    context: Context,
    connection: &mut C,
) -> HandlerResult {
    let amount = count(event)?;
    if amount == 0 {
        return Ok(());
    }
    let shard = context.event().id.as_uuid().as_bytes()[15];
    match connection.add(tally, shard, amount).await? {
        1 => Ok(()),
        rows => Err(HandlerError::new(format!(
            "the table demo_tallies has {rows} rows of {} and {shard}, not one",
            tally.name()
        ))),
    }
}

/// The tallies at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) commits: i64,
    pub(crate) stars: i64,
    pub(crate) activity: i64,
    pub(crate) notifications: i64,
    pub(crate) untriaged_issues: i64,
}

impl Counts {
    /// The count of one tally.
    pub(crate) const fn of_mut(&mut self, tally: Tally) -> &mut i64 {
        match tally {
            Tally::Commits => &mut self.commits,
            Tally::Stars => &mut self.stars,
            Tally::Activity => &mut self.activity,
            Tally::Notifications => &mut self.notifications,
            Tally::UntriagedIssues => &mut self.untriaged_issues,
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            commits,
            stars,
            activity,
            notifications,
            untriaged_issues,
        } = self;
        write!(f, "commits {commits}, stars {stars}, activity {activity}, ")?;
        write!(
            f,
            "notifications {notifications}, untriaged issues {untriaged_issues}"
        )
    }
}
