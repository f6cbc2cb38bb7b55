//! What differs between the databases beyond the text of statements.

use std::{collections::HashMap, fmt, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::SqlStr;
use uuid::Uuid;

use super::{
    claim,
    connection::{Effects, Handle, Needs},
    fan_out,
    link::Link,
    look,
    migrate::Migration,
    reach::InUse,
    records::{DueEvent, Requests, WaitingEvent},
    settle::{self, Expired},
    shared::{Purpose, Shared},
};
use crate::{
    error::{Result, StoreError},
    id::{EventId, HandlerRequestId},
    model::{Event, HandlerRequest},
    store::{
        Claim, ClaimedBatch, FanOut, FannedOut, HandlerRoom, Listener, LockMode, Look, Outlook,
        Raised, Renewal, Renewed, Settled, Settlement, WakeUps,
    },
    text::Name,
};

/// Held for as long as a connection writes, where only one can.
pub(super) type Turn = Box<dyn fmt::Debug + Send + Sync>;

/// How a transaction begins.
pub(super) struct Beginning {
    pub(super) text: SqlStr,
    /// What ends its connection on the server, if that is known before it begins.
    pub(super) kill: Option<Kill>,
}

/// What ends a connection on the server, and no other one, whichever server gets it, and whatever
/// has become of the connection or the server meanwhile.
#[derive(Clone, Debug)]
pub(super) struct Kill {
    pub(super) statement: SqlStr,
    /// Whether the connection may belong to somebody else once its transaction has ended.
    pub(super) is_of_transaction: bool,
}

/// A kind of database. The operations with a default are made of the others, in several statements;
/// a database that can do one in a single statement overrides it.
///
/// Everything is called in a transaction, unless it is one statement.
#[async_trait]
pub(super) trait Dialect: fmt::Debug + Send + Sync + 'static {
    /// The kind of database, as telemetry shows it.
    fn system(&self) -> &'static str;

    /// How completely schedulers hear of work.
    fn wake_ups(&self) -> WakeUps {
        WakeUps::InProcess
    }

    /// A connection from the pool.
    async fn acquire(&self, purpose: Purpose) -> sqlx::Result<Handle>;

    /// A connection of its own, outside of every pool.
    async fn connect(&self) -> sqlx::Result<Handle>;

    /// Where the database is, for errors.
    fn server(&self) -> String;

    /// How many connections of a pool are in use.
    fn in_use(&self, purpose: Purpose) -> InUse;

    /// Closes the pools.
    async fn close(&self);

    /// The steps of the schema.
    fn migrations(&self) -> &'static [Migration];

    /// Applies the steps that are missing, while no other process does.
    async fn migrate(&self, link: &mut Link<'_>, shared: &Shared) -> Result<()>;

    /// Fails if the schema may be there and be hidden from a user who lacks a right, where the database
    /// does not tell one from the other.
    async fn check_rights(&self, _link: &mut Link<'_>) -> Result<()> {
        Ok(())
    }

    /// The text that begins a transaction in which so much is needed.
    fn begin(&self, needs: Needs) -> SqlStr;

    /// Waits until it is this connection's turn to begin a transaction that writes; past the queue
    /// if it is to be first.
    async fn turn(&self, _is_first: bool) -> Option<Turn> {
        None
    }

    /// After how long to try again to begin a transaction while somebody else has the lock that it
    /// needs, if the database does not wait for it by itself.
    fn retry_begin_after(&self) -> Option<Duration> {
        None
    }

    /// The text that takes back what the one that begins has changed in the connection, if it failed.
    fn undo_begin(&self) -> Option<SqlStr> {
        None
    }

    /// How a transaction begins that its owner ends, who may lend its connection.
    fn begin_lasting(&self) -> Beginning {
        Beginning {
            text: self.begin(Needs::Atomicity),
            kill: None,
        }
    }

    /// Marks a transaction that has just begun, and whose connection may be lent, for
    /// [`check_transaction`](Self::check_transaction), as far as its beginning has not.
    async fn mark(&self, _link: &mut Link<'_>) -> Result<()> {
        Ok(())
    }

    /// Ends a connection on the server that may still work for a client that has gone.
    fn abandon(&self, _kill: Kill) {}

    /// Fails with [`Ended`](crate::StoreError::Ended) if the database has ended the transaction that
    /// was [marked](Self::mark). Where an error ends a transaction behind the back of its owner, what
    /// follows would be committed although what came before is gone. Answers whether it was asked; a
    /// database that refuses everything after an error need not be, before a settlement or a commit.
    ///
    /// In a transaction that [is ending](Link::is_ending), this may do what
    /// [`bound_standstill`](Self::bound_standstill) does.
    async fn check_transaction(&self, _link: &mut Link<'_>) -> Result<bool> {
        Ok(false)
    }

    /// Sets the savepoint to which a transaction can go back, in place of the one before if it
    /// `replaces` one. Fails if the database has ended the transaction, or refuses to go on in it; it is
    /// asked of one whose connection was lent.
    async fn savepoint(&self, link: &mut Link<'_>, replaces: bool) -> Result<()> {
        let text = if replaces {
            "RELEASE SAVEPOINT tidings_kept; SAVEPOINT tidings_kept"
        } else {
            "SAVEPOINT tidings_kept"
        };
        let limit = link.shared.limits.statement;
        link.script(SqlStr::from_static(text), limit).await
    }

    /// Undoes what was done since the savepoint, which stays. Fails if it is gone.
    async fn rollback_to_savepoint(&self, link: &mut Link<'_>) -> Result<()> {
        let text = SqlStr::from_static("ROLLBACK TO SAVEPOINT tidings_kept");
        let limit = link.shared.limits.statement;
        link.script(text, limit).await
    }

    /// Fails with [`Conflict`](crate::StoreError::Conflict) if the database has ended the
    /// transaction, and otherwise if a statement has failed in it and the database would answer a
    /// commit as if nothing had, but roll back.
    async fn check_commit(&self, _link: &mut Link<'_>) -> Result<()> {
        Ok(())
    }

    /// Lets the server end this transaction, whose owner ends it in his own time, if it hears nothing
    /// from this process for as long as a statement may take. For one that has locks which others
    /// need from now on.
    async fn bound_standstill(&self, _link: &mut Link<'_>) -> Result<()> {
        Ok(())
    }

    /// Begins a transaction in which events are raised, if a connection of the application is in
    /// none and raising them [needs](Self::foreign_raise_needs) one; answers whether it has. Where a
    /// begin that is dropped cannot stay behind on the connection.
    async fn begin_foreign(&self, _link: &mut Link<'_>, _needs: Needs) -> Result<bool> {
        Ok(false)
    }

    /// Whether events that were given to a connection of the application, and whose raise has these
    /// [needs](Self::foreign_raise_needs), have to be raised through one of the store's own instead: because
    /// the application's is in no transaction. One that was begun there would stay open if the raise
    /// were dropped meanwhile, and take along what the application writes later.
    async fn raises_elsewhere(&self, _link: &mut Link<'_>, _needs: Needs) -> Result<bool> {
        Ok(false)
    }

    /// The text that begins a transaction in place of one that an error has ended behind the back of
    /// sqlx, which could not end what is gone and would take the connection to be in it for ever.
    fn begin_lost(&self) -> Option<SqlStr> {
        None
    }

    /// Whether a connection is always the same one of the server. If not, it is only within a
    /// transaction: even a single statement, which is prepared in one round trip and executed in
    /// another one, needs it then.
    fn keeps_connection(&self) -> bool {
        true
    }

    /// Whether the connections of sessions have their plans pinned.
    fn has_pinned_sessions(&self) -> bool {
        true
    }

    /// Stores events; answers in their order. One statement, or several in a transaction.
    async fn raise(&self, link: &mut Link<'_>, events: &[Event]) -> Result<Vec<Raised>>;

    /// Whether raising so many events takes several statements.
    fn raise_needs(&self, events: &[Event]) -> Needs;

    /// As [`raise_needs`](Self::raise_needs), on a connection of the application.
    fn foreign_raise_needs(&self, events: &[Event]) -> Needs {
        self.raise_needs(events)
    }

    /// Due events, oldest first, locked; those that are locked are skipped.
    async fn due_events(&self, link: &mut Link<'_>, limit: usize) -> Result<Vec<DueEvent>>;

    /// Waiting events of these ids, locked.
    async fn lock_waiting(&self, link: &mut Link<'_>, ids: &[EventId]) -> Result<Vec<DueEvent>>;

    /// Takes unprocessed events off the queue, wherever they wait.
    async fn unqueue(&self, link: &mut Link<'_>, ids: &[EventId]) -> Result<()>;

    /// Takes due events off the queue: all that [`due_events`](Self::due_events) or
    /// [`lock_waiting`](Self::lock_waiting) has just answered and that go on being due.
    async fn unqueue_due(&self, link: &mut Link<'_>, due: &[DueEvent]) -> Result<()> {
        let ids: Vec<_> = due.iter().map(|due| due.event.id).collect();
        self.unqueue(link, &ids).await
    }

    /// Lets events wait that are off the queue or wait already.
    async fn put_waiting(&self, link: &mut Link<'_>, events: &[WaitingEvent]) -> Result<()>;

    /// Notes that nobody wanted these events.
    async fn put_unwanted(
        &self,
        link: &mut Link<'_>,
        ids: &[EventId],
        now: DateTime<Utc>,
    ) -> Result<()>;

    /// Takes back that nobody wanted these events.
    async fn forget_unwanted(&self, link: &mut Link<'_>, ids: &[EventId]) -> Result<()>;

    /// When the earliest request of each of these events was made, where there is one.
    async fn first_requests(
        &self,
        link: &mut Link<'_>,
        ids: &[EventId],
    ) -> Result<HashMap<Uuid, DateTime<Utc>>>;

    /// Locks those of these events that are there, in the order of their ids.
    async fn lock_events(
        &self,
        link: &mut Link<'_>,
        ids: &[EventId],
        mode: LockMode,
    ) -> Result<Vec<EventId>>;

    /// All requests of these events.
    async fn requests_of_events(&self, link: &mut Link<'_>, ids: &[EventId]) -> Result<Requests>;

    /// Deletes processed events and their requests.
    async fn delete_events(
        &self,
        link: &mut Link<'_>,
        events: &[EventId],
        requests: &[HandlerRequestId],
    ) -> Result<()>;

    /// Inserts new requests; leaves those alone whose id exists. Those that are born leased are so to one
    /// owner.
    async fn insert_requests(&self, link: &mut Link<'_>, requests: &[HandlerRequest])
    -> Result<()>;

    /// Writes what can change of requests.
    async fn write_requests(&self, link: &mut Link<'_>, requests: &[HandlerRequest]) -> Result<()>;

    /// Writes that locked requests were claimed, by one owner and until one time.
    async fn write_claims(&self, link: &mut Link<'_>, requests: &[HandlerRequest]) -> Result<()> {
        self.write_requests(link, requests).await
    }

    /// Renames those of these requests that go by the old name and are open or dead; answers how
    /// many.
    async fn rename_requests(
        &self,
        link: &mut Link<'_>,
        ids: &[HandlerRequestId],
        from: &Name,
        to: &Name,
    ) -> Result<u64>;

    /// The requests with these ids, locked in the order of their ids.
    async fn lock_requests(
        &self,
        link: &mut Link<'_>,
        ids: &[HandlerRequestId],
        mode: LockMode,
    ) -> Result<Requests>;

    /// The requests with these ids, in any order, whoever has locked them.
    async fn find_requests(
        &self,
        link: &mut Link<'_>,
        ids: &[HandlerRequestId],
    ) -> Result<Requests>;

    /// The best requests that are due, locked, within the rooms and the limit; those that are
    /// locked are skipped.
    async fn lock_due(
        &self,
        link: &mut Link<'_>,
        handlers: &[HandlerRoom],
        limit: usize,
        suspects: bool,
    ) -> Result<Requests>;

    /// So many requests of each batch were settled, and the store keeps no note any more of the batches
    /// that are `forgotten`; that is committed.
    fn note_settled(&self, _settled: &[(u64, usize)], _forgotten: &[u64]) {}

    /// Requests whose lease ran out, the longest ago first, locked; those that are locked are skipped.
    async fn lock_expired(&self, link: &mut Link<'_>, limit: i64) -> Result<Expired>;

    /// Notes which leases go on, of those that [`lock_expired`](Self::lock_expired) has looked at, once
    /// what it found was dealt with.
    async fn tidy_leases(&self, _link: &mut Link<'_>, _looked_at: &[i64]) -> Result<()> {
        Ok(())
    }

    /// Events by their ids, in any order; what cannot be read tells why.
    async fn events(
        &self,
        link: &mut Link<'_>,
        ids: &[EventId],
    ) -> Result<HashMap<Uuid, Result<Event>>>;

    /// What [`fan_out`](Self::fan_out) needs.
    fn fan_out_needs(&self, _asked: &FanOut) -> Needs {
        Needs::Atomicity
    }

    /// What [`claim`](Self::claim) needs.
    fn claim_needs(&self) -> Needs {
        Needs::Atomicity
    }

    /// What [`settle`](Self::settle) needs for these.
    fn settle_needs(&self, _settlements: &[Settlement]) -> Needs {
        Needs::Atomicity
    }

    /// What [`renew`](Self::renew) needs.
    fn renew_needs(&self) -> Needs {
        Needs::Atomicity
    }

    /// See [`EventRepository::fan_out`](crate::store::EventRepository::fan_out).
    async fn fan_out(&self, link: &mut Link<'_>, asked: &FanOut) -> Result<FannedOut> {
        fan_out::fan_out(link, asked).await
    }

    /// See [`HandlerRequestRepository::claim`](crate::store::HandlerRequestRepository::claim).
    async fn claim(&self, link: &mut Link<'_>, asked: &Claim) -> Result<ClaimedBatch> {
        claim::claim(link, asked).await
    }

    /// See [`HandlerRequestRepository::settle`](crate::store::HandlerRequestRepository::settle).
    async fn settle(
        &self,
        link: &mut Link<'_>,
        settlements: &[Settlement],
    ) -> Result<Vec<Settled>> {
        settle::settle(link, settlements).await
    }

    /// See [`LeaseRenewer::renew`](crate::store::LeaseRenewer::renew).
    async fn renew(&self, link: &mut Link<'_>, renewal: &Renewal) -> Result<Renewed> {
        settle::renew(link, renewal).await
    }

    /// See [`Storer::look`](crate::store::Storer::look).
    async fn look(&self, link: &mut Link<'_>, asked: &Look) -> Result<Outlook> {
        look::look(link, asked).await
    }

    /// See [`Storer::listener`](crate::store::Storer::listener).
    async fn listener(&self, _shared: &Shared) -> Result<Box<dyn Listener>> {
        Err(StoreError::invalid(
            "a listener",
            "is not what this store has",
            "let it poll",
        ))
    }

    /// Tells other processes of what was done and can be seen.
    fn tell(&self, _effects: Effects) {}
}
