//! What SQLite does in its own way.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Connection as _, SqlSafeStr as _, SqlStr, SqliteConnection, SqlitePool};
use uuid::Uuid;

use super::{
    hot,
    rows::{json, row},
    statements::Statements,
    turns::{LOOK_AGAIN, Turns},
};
use crate::{
    error::{Result, StoreError},
    id::{EventId, HandlerRequestId},
    model::{Event, HandlerRequest},
    sql::{
        arg::{Arg, args},
        claim::{self, read_events},
        connection::{Handle, Held, Needs},
        dialect::{Dialect, Turn},
        error::{Limits, is_duplicate},
        fan_out::{names, readable, set_aside},
        guards::Guards,
        limit,
        link::Link,
        migrate::{Migration, apply},
        raise::{chunks, headers},
        reach::InUse,
        records::{DueEvent, EVENTS, Requests, WaitingEvent, event, last_errors, queue},
        row::Row,
        settle::{self, Expired},
        shared::{Purpose, Shared},
        statement::Statement,
    },
    store::{Claim, ClaimedBatch, HandlerRoom, LockMode, Raised, Settled, Settlement},
    text::Name,
};

/// Takes the write lock at once: a transaction that reads first and writes later fails when somebody
/// else has written in between, and could only be run again.
const BEGIN: &str = "BEGIN IMMEDIATE";

/// As [`BEGIN`], with a savepoint to which what settles and claims goes back if not all of it has come
/// as it was expected.
const BEGIN_SETTLING: &str = "BEGIN IMMEDIATE; SAVEPOINT tidings_settles";

/// What the store's own connections are told around the beginning of a transaction.
pub(super) struct Begins {
    /// As [`BEGIN`], without SQLite's own waiting, which looks every 100 ms only and so finds the lock
    /// free when nobody else wants it.
    at_once: SqlStr,
    /// As [`BEGIN_SETTLING`], in the same way.
    at_once_settling: SqlStr,
    /// Lets SQLite wait again, which the text above does itself unless it fails.
    wait_again: SqlStr,
}

impl Begins {
    pub(super) fn new(limits: Limits) -> Self {
        let wait = i32::try_from(limits.lock.as_millis()).unwrap_or(i32::MAX);
        let wait_again = format!("PRAGMA busy_timeout = {wait}");
        let at_once = |begin| format!("PRAGMA busy_timeout = 0; {begin}; {wait_again}");
        let (plain, settling) = (at_once(BEGIN), at_once(BEGIN_SETTLING));
        let text = |text: String| AssertSqlSafe(text).into_sql_str();
        Self {
            at_once: text(plain),
            at_once_settling: text(settling),
            wait_again: text(wait_again),
        }
    }
}

/// The steps of the schema.
const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    sql: include_str!("../../../migrations/sqlite/0001_create.sql"),
}];

/// The most bytes of data that are sent in one statement: SQLite copies them several times when it
/// takes them apart.
const MAX_STATEMENT_LEN: usize = 8 * 1024 * 1024;

pub(super) struct SqliteDialect {
    pub(super) transactions: SqlitePool,
    pub(super) sessions: SqlitePool,
    pub(super) turns: Turns,
    /// None if the connections are the application's, whose settings are left as they are.
    pub(super) begins: Option<Begins>,
    pub(super) statements: Statements,
}

impl fmt::Debug for SqliteDialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SqliteDialect")
    }
}

#[async_trait]
impl Dialect for SqliteDialect {
    fn system(&self) -> &'static str {
        "sqlite"
    }

    async fn acquire(&self, purpose: Purpose) -> sqlx::Result<Handle> {
        let mut connection = self.pool(purpose).acquire().await?;
        let guards = self.guard(&mut connection, Some(purpose)).await?;
        Ok(Handle::Sqlite(Held::Pooled(connection), guards))
    }

    async fn connect(&self) -> sqlx::Result<Handle> {
        let options = self.transactions.connect_options();
        let mut connection = SqliteConnection::connect_with(&options).await?;
        let guards = self.guard(&mut connection, None).await?;
        Ok(Handle::Sqlite(Held::Single(Box::new(connection)), guards))
    }

    fn server(&self) -> String {
        self.transactions
            .connect_options()
            .get_filename()
            .display()
            .to_string()
    }

    fn in_use(&self, purpose: Purpose) -> InUse {
        InUse::of(self.pool(purpose))
    }

    async fn close(&self) {
        self.sessions.close().await;
        self.transactions.close().await;
    }

    fn migrations(&self) -> &'static [Migration] {
        MIGRATIONS
    }

    async fn migrate(&self, link: &mut Link<'_>, shared: &Shared) -> Result<()> {
        link.begin(self.begin(Needs::Atomicity)).await?;
        apply(link, shared).await
    }

    fn begin(&self, needs: Needs) -> SqlStr {
        match (&self.begins, needs) {
            (Some(begins), Needs::Haste) => begins.at_once_settling.clone(),
            (Some(begins), _) => begins.at_once.clone(),
            (None, Needs::Haste) => SqlStr::from_static(BEGIN_SETTLING),
            (None, _) => SqlStr::from_static(BEGIN),
        }
    }

    fn settle_needs(&self, _settlements: &[Settlement]) -> Needs {
        Needs::Haste
    }

    fn claim_needs(&self) -> Needs {
        Needs::Haste
    }

    async fn settle(
        &self,
        link: &mut Link<'_>,
        settlements: &[Settlement],
    ) -> Result<Vec<Settled>> {
        if link.is_in_transaction() {
            return settle::settle(link, settlements).await;
        }
        hot::settle(link, &self.statements, settlements).await
    }

    async fn claim(&self, link: &mut Link<'_>, asked: &Claim) -> Result<ClaimedBatch> {
        if link.is_in_transaction() {
            return claim::claim(link, asked).await;
        }
        hot::claim(link, self, asked).await
    }

    fn undo_begin(&self) -> Option<SqlStr> {
        let begins = self.begins.as_ref()?;
        Some(begins.wait_again.clone())
    }

    fn retry_begin_after(&self) -> Option<Duration> {
        Some(LOOK_AGAIN)
    }

    async fn turn(&self, is_first: bool) -> Option<Turn> {
        Some(Box::new(self.turns.wait(is_first).await))
    }

    async fn mark(&self, link: &mut Link<'_>) -> Result<()> {
        link.execute(&self.statements.mark, args![]).await?;
        Ok(())
    }

    async fn check_transaction(&self, link: &mut Link<'_>) -> Result<bool> {
        // Without the mark there is no transaction, and it cannot be taken off.
        match link.execute(&self.statements.unmark, args![]).await {
            Ok(_) => self.mark(link).await.map(|()| true),
            Err(error) => Err(ended(error)),
        }
    }

    // The mark is released and set anew by each check of the transaction, which takes along what came
    // after it: so the savepoint comes before it.
    async fn savepoint(&self, link: &mut Link<'_>, replaces: bool) -> Result<()> {
        let text = if replaces {
            "RELEASE SAVEPOINT tidings; RELEASE SAVEPOINT tidings_kept; \
             SAVEPOINT tidings_kept; SAVEPOINT tidings"
        } else {
            "RELEASE SAVEPOINT tidings; SAVEPOINT tidings_kept; SAVEPOINT tidings"
        };
        let limit = link.shared.limits.statement;
        let set = link.script(SqlStr::from_static(text), limit).await;
        set.map_err(ended)
    }

    async fn rollback_to_savepoint(&self, link: &mut Link<'_>) -> Result<()> {
        let text = SqlStr::from_static("ROLLBACK TO SAVEPOINT tidings_kept; SAVEPOINT tidings");
        let limit = link.shared.limits.statement;
        link.script(text, limit).await.map_err(ended)
    }

    async fn begin_foreign(&self, link: &mut Link<'_>, needs: Needs) -> Result<bool> {
        if needs != Needs::Atomicity || link.depth() > 0 {
            return Ok(false);
        }
        // One that the application began with a statement of its own is not known to sqlx, but to
        // SQLite, which refuses a second one and changes nothing.
        match link.begin(SqlStr::from_static(BEGIN)).await {
            Ok(()) => Ok(true),
            Err(error) if is_in_transaction(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn begin_lost(&self) -> Option<SqlStr> {
        Some(SqlStr::from_static("BEGIN"))
    }

    fn raise_needs(&self, _events: &[Event]) -> Needs {
        // It is one statement, and yet a transaction: that queues in the order of arrival.
        Needs::Atomicity
    }

    fn foreign_raise_needs(&self, events: &[Event]) -> Needs {
        match chunks(events, MAX_STATEMENT_LEN).nth(1) {
            Some(_) => Needs::Atomicity,
            None => Needs::OneStatement,
        }
    }

    async fn raise(&self, link: &mut Link<'_>, events: &[Event]) -> Result<Vec<Raised>> {
        let mut raised = Vec::with_capacity(events.len());
        for chunk in chunks(events, MAX_STATEMENT_LEN) {
            raised.extend(self.raise_chunk(link, chunk).await?);
        }
        Ok(raised)
    }

    async fn due_events(&self, link: &mut Link<'_>, count: usize) -> Result<Vec<DueEvent>> {
        let args = args![limit(count)];
        let rows = link.rows(&self.statements.late_events, args).await?;
        let mut due = readable(link, &rows).await?;
        let left = count.saturating_sub(rows.len());
        let args = args![limit(left)];
        let rows = link.rows(&self.statements.fresh_events, args).await?;
        let mut unreadable = Vec::new();
        for row in &rows {
            let mut columns = row.reader(EVENTS);
            match event(&mut columns) {
                Ok(event) => due.push(DueEvent {
                    event: Arc::new(event),
                    attempt: 0,
                    errors: 0,
                    last_error: None,
                    is_claimed: false,
                    is_fresh: true,
                    now: columns.time("now")?,
                }),
                Err(error) => {
                    let id = row.reader(EVENTS).uuid("id")?;
                    unreadable.push((EventId::from_uuid(id), error));
                }
            }
        }
        set_aside(link, unreadable).await?;
        due.sort_unstable_by_key(|due| due.event.id);
        Ok(due)
    }

    async fn lock_waiting(&self, link: &mut Link<'_>, ids: &[EventId]) -> Result<Vec<DueEvent>> {
        let args = vec![event_ids(ids)];
        let rows = link.rows(&self.statements.lock_waiting, args).await?;
        readable(link, &rows).await
    }

    async fn unqueue(&self, link: &mut Link<'_>, ids: &[EventId]) -> Result<()> {
        let statements = &self.statements;
        for statement in [&statements.delete_unprocessed, &statements.delete_waiting] {
            link.execute(statement, vec![event_ids(ids)]).await?;
        }
        Ok(())
    }

    async fn unqueue_due(&self, link: &mut Link<'_>, due: &[DueEvent]) -> Result<()> {
        let fresh = due.iter().filter(|due| due.is_fresh);
        if let Some(last) = fresh.map(|due| due.event.id).max() {
            // They are the first of the queue, and nobody else writes meanwhile.
            let args = args![last.as_uuid()];
            link.execute(&self.statements.delete_fresh, args).await?;
        }
        let others = due.iter().filter(|due| !due.is_fresh);
        let others: Vec<_> = others.map(|due| due.event.id).collect();
        if others.is_empty() {
            return Ok(());
        }
        self.unqueue(link, &others).await
    }

    async fn put_waiting(&self, link: &mut Link<'_>, events: &[WaitingEvent]) -> Result<()> {
        let ids = || Arg::uuids(events.iter().map(|event| event.id.as_uuid()));
        let rows = json(events.iter().map(|event| {
            row![
                event.attempt.cast_signed(),
                i64::from(event.errors),
                event.last_error.as_deref(),
                event.due_at,
                i64::from(event.owner.is_some()),
            ]
        }))?;
        let owners = events.iter().map(|event| event.owner);
        let owners = Arg::optional_uuids(owners.map(|owner| owner.map(|owner| owner.as_uuid())));
        let args = vec![ids(), Arg::from(&rows), owners];
        link.execute(&self.statements.put_waiting, args).await?;
        link.execute(&self.statements.delete_unprocessed, vec![ids()])
            .await?;
        Ok(())
    }

    async fn put_unwanted(
        &self,
        link: &mut Link<'_>,
        ids: &[EventId],
        now: DateTime<Utc>,
    ) -> Result<()> {
        let args = vec![event_ids(ids), Arg::from(now)];
        link.execute(&self.statements.put_unwanted, args).await?;
        Ok(())
    }

    async fn first_requests(
        &self,
        link: &mut Link<'_>,
        ids: &[EventId],
    ) -> Result<HashMap<Uuid, DateTime<Utc>>> {
        let places = zeros(ids.len());
        let args = ranges_of(&places, ids);
        let rows = link.rows(&self.statements.first_requests, args).await?;
        rows.iter()
            .map(|row| {
                let mut columns = row.reader("handler_requests");
                Ok((columns.uuid("event_id")?, columns.time("created_at")?))
            })
            .collect()
    }

    async fn lock_events(
        &self,
        link: &mut Link<'_>,
        ids: &[EventId],
        _mode: LockMode,
    ) -> Result<Vec<EventId>> {
        let args = vec![event_ids(ids)];
        let rows = link.rows(&self.statements.lock_events, args).await?;
        let id = |row: &Row| row.reader(EVENTS).uuid("id").map(EventId::from_uuid);
        rows.iter().map(id).collect()
    }

    async fn requests_of_events(&self, link: &mut Link<'_>, ids: &[EventId]) -> Result<Requests> {
        let places = zeros(ids.len());
        let statement = &self.statements.requests_of_events;
        let rows = link.rows(statement, ranges_of(&places, ids)).await?;
        Requests::read(&rows)
    }

    async fn delete_events(
        &self,
        link: &mut Link<'_>,
        events: &[EventId],
        requests: &[HandlerRequestId],
    ) -> Result<()> {
        let args = vec![request_ids(requests.iter().copied())];
        link.execute(&self.statements.delete_requests, args).await?;
        self.forget_unwanted(link, events).await?;
        let args = vec![event_ids(events)];
        link.execute(&self.statements.delete_events, args).await?;
        Ok(())
    }

    async fn forget_unwanted(&self, link: &mut Link<'_>, ids: &[EventId]) -> Result<()> {
        let args = vec![event_ids(ids)];
        link.execute(&self.statements.forget_unwanted, args).await?;
        Ok(())
    }

    async fn insert_requests(
        &self,
        link: &mut Link<'_>,
        requests: &[HandlerRequest],
    ) -> Result<()> {
        if requests.is_empty() {
            return Ok(());
        }
        hot::insert(link, &self.statements, requests).await
    }

    async fn write_requests(&self, link: &mut Link<'_>, requests: &[HandlerRequest]) -> Result<()> {
        put_requests(link, &self.statements.write_requests, requests).await
    }

    async fn rename_requests(
        &self,
        link: &mut Link<'_>,
        ids: &[HandlerRequestId],
        from: &Name,
        to: &Name,
    ) -> Result<u64> {
        let args = vec![
            request_ids(ids.iter().copied()),
            Arg::from(to.as_str()),
            Arg::from(from.as_str()),
        ];
        link.execute(&self.statements.rename_requests, args).await
    }

    async fn lock_requests(
        &self,
        link: &mut Link<'_>,
        ids: &[HandlerRequestId],
        _mode: LockMode,
    ) -> Result<Requests> {
        self.find_requests(link, ids).await
    }

    async fn find_requests(
        &self,
        link: &mut Link<'_>,
        ids: &[HandlerRequestId],
    ) -> Result<Requests> {
        let args = vec![request_ids(ids.iter().copied())];
        Requests::read(&link.rows(&self.statements.find_requests, args).await?)
    }

    async fn lock_expired(&self, link: &mut Link<'_>, limit: i64) -> Result<Expired> {
        let rows = link
            .rows(&self.statements.lock_expired, args![limit])
            .await?;
        Ok(Expired {
            requests: Requests::read(&rows)?,
            looked_at: Vec::new(),
        })
    }

    async fn lock_due(
        &self,
        link: &mut Link<'_>,
        handlers: &[HandlerRoom],
        count: usize,
        suspects: bool,
    ) -> Result<Requests> {
        let with_room: Vec<_> = handlers.iter().filter(|one| one.room > 0).collect();
        if suspects {
            let handlers = names(with_room.iter().map(|one| &one.handler));
            let args = vec![handlers, Arg::from(limit(count))];
            let suspects = &self.statements.lock_due_suspects;
            return Requests::read(&link.rows(suspects, args).await?);
        }
        let due = self.handlers_due(link, &with_room).await?;
        let best = self.best(link, &due, count).await?;
        let ids: Vec<_> = best.into_iter().map(|(_, id)| id).collect();
        if ids.is_empty() {
            return Ok(Requests::default());
        }
        let mut locked = self.lock_requests(link, &ids, LockMode::Wait).await?;
        // Should the machine's clock have been set back meanwhile, what was due is due later.
        if let Some(now) = locked.now {
            let is_due =
                |request: &HandlerRequest| request.backoff_until.is_none_or(|at| at <= now);
            locked.readable.retain(is_due);
        }
        Ok(locked)
    }

    async fn events(
        &self,
        link: &mut Link<'_>,
        ids: &[EventId],
    ) -> Result<HashMap<Uuid, Result<Event>>> {
        let args = vec![event_ids(ids)];
        read_events(&link.rows(&self.statements.events, args).await?)
    }
}

/// What it means that there is no such savepoint.
fn ended(error: StoreError) -> StoreError {
    match error {
        StoreError::Backend { operation, .. } => StoreError::Ended {
            operation,
            thing: "the transaction",
        },
        error => error,
    }
}

impl SqliteDialect {
    const fn pool(&self, purpose: Purpose) -> &SqlitePool {
        match purpose {
            Purpose::Session => &self.sessions,
            Purpose::Transaction => &self.transactions,
        }
    }

    /// Puts a connection under guard: one trip to its thread. Of one that is the application's only
    /// a transaction's statements are broken off, which keep everybody else from writing; what it has
    /// set itself there to refuse commits stays.
    async fn guard(
        &self,
        connection: &mut SqliteConnection,
        purpose: Option<Purpose>,
    ) -> sqlx::Result<Guards> {
        let guards = Guards::default();
        let is_own = self.begins.is_some() || purpose.is_none();
        let is_transaction = purpose == Some(Purpose::Transaction);
        if is_own || is_transaction {
            let mut locked = connection.lock_handle().await?;
            guards.watch(&mut locked);
            if self.begins.is_some() && is_transaction {
                guards.refuse_commits(&mut locked);
            }
        }
        Ok(guards)
    }

    /// Stores as many events as one statement takes: first as if all were new, which costs least, since
    /// nothing has to be told of each.
    async fn raise_chunk(&self, link: &mut Link<'_>, events: &[Event]) -> Result<Vec<Raised>> {
        let headers: Vec<_> = events.iter().map(headers).collect();
        let rows = json(events.iter().zip(&headers).map(|(event, headers)| {
            let entity = event.entity.as_ref();
            row![
                event.name.as_str(),
                entity.map(|entity| entity.name.as_str()),
                entity.map(|entity| entity.id.as_str()),
                event.data.as_str(),
                event.timestamp,
                i64::from(event.causation_id.is_some()),
                headers.as_deref(),
                i64::from(event.version),
            ]
        }))?;
        let args = || {
            let causes = events.iter().map(|event| event.causation_id);
            vec![
                Arg::uuids(events.iter().map(|event| event.id.as_uuid())),
                Arg::from(&rows),
                Arg::uuids(events.iter().map(|event| event.correlation_id.as_uuid())),
                Arg::optional_uuids(causes.map(|id| id.map(|id| id.as_uuid()))),
            ]
        };
        match link.execute(&self.statements.raise_new, args()).await {
            Ok(_) => return Ok(vec![Raised::New; events.len()]),
            // The statement is undone, and nothing else.
            Err(error) if is_duplicate(&error) => {}
            Err(error) => return Err(error),
        }
        let rows = link.rows(&self.statements.raise, args()).await?;
        let id = |row: &Row| row.reader(EVENTS).uuid("id");
        let mut new: HashSet<_> = rows.iter().map(id).collect::<Result<_>>()?;
        // The first of several with the same id is the one that was stored.
        let raised = |event: &Event| {
            if new.remove(&event.id.as_uuid()) {
                Raised::New
            } else {
                Raised::AlreadyRaised
            }
        };
        Ok(events.iter().map(raised).collect())
    }

    /// Those of these handlers that have requests which are due.
    pub(super) async fn handlers_due<'h>(
        &self,
        link: &mut Link<'_>,
        handlers: &[&'h HandlerRoom],
    ) -> Result<Vec<&'h HandlerRoom>> {
        let asked = names(handlers.iter().map(|one| &one.handler));
        let rows = link
            .rows(&self.statements.handlers_due, vec![asked])
            .await?;
        let mut due = Vec::with_capacity(rows.len());
        for row in rows {
            let place: usize = row.reader("handler_requests").int("handler")?;
            due.extend(handlers.get(place));
        }
        Ok(due)
    }

    /// The best due requests of these handlers, each within its room. A limit cannot differ from row
    /// to row in SQLite, so each handler is asked for alone.
    pub(super) async fn best(
        &self,
        link: &mut Link<'_>,
        handlers: &[&HandlerRoom],
        count: usize,
    ) -> Result<Vec<(i64, HandlerRequestId)>> {
        let mut best = Vec::new();
        for HandlerRoom { handler, room, .. } in handlers {
            let mut of_handler = self.best_of(link, handler, (*room).min(count)).await?;
            of_handler.sort_unstable();
            of_handler.truncate(*room);
            best.append(&mut of_handler);
        }
        best.sort_unstable();
        best.truncate(count);
        Ok(best)
    }

    async fn best_of(
        &self,
        link: &mut Link<'_>,
        handler: &Name,
        count: usize,
    ) -> Result<Vec<(i64, HandlerRequestId)>> {
        let args = args![handler.as_str(), limit(count)];
        let rows = link.rows(&self.statements.best_of, args).await?;
        rows.iter()
            .map(|row| {
                let mut columns = row.reader("handler_requests");
                let priority = columns.int("priority")?;
                Ok((priority, HandlerRequestId::from_uuid(columns.uuid("id")?)))
            })
            .collect()
    }
}

/// Whether a transaction was not begun because the connection is in one.
fn is_in_transaction(error: &StoreError) -> bool {
    let StoreError::Backend { source, .. } = error else {
        return false;
    };
    source
        .downcast_ref::<sqlx::Error>()
        .and_then(sqlx::Error::as_database_error)
        // The code is that of any error; the text tells this one.
        .is_some_and(|error| error.message() == "cannot start a transaction within a transaction")
}

/// So many rows.
pub(super) fn zeros(count: usize) -> String {
    let mut text = "0,".repeat(count);
    text.pop();
    format!("[{text}]")
}

/// UUIDs, and as many rows, which the places are.
pub(super) fn ids_and_places<'a>(
    ids: impl Iterator<Item = Uuid>,
    places: &'a String,
) -> Vec<Arg<'a>> {
    vec![Arg::uuids(ids), Arg::from(places)]
}

/// Events, and the lowest and highest ids of their requests.
fn ranges_of<'a>(places: &'a String, ids: &[EventId]) -> Vec<Arg<'a>> {
    let ranges = || ids.iter().map(|id| HandlerRequestId::range_of(*id));
    vec![
        Arg::from(places),
        event_ids(ids),
        Arg::uuids(ranges().map(|(lowest, _)| lowest.as_uuid())),
        Arg::uuids(ranges().map(|(_, highest)| highest.as_uuid())),
    ]
}

fn event_ids<'a>(ids: &[EventId]) -> Arg<'a> {
    Arg::uuids(ids.iter().map(|id| id.as_uuid()))
}

fn request_ids<'a>(ids: impl Iterator<Item = HandlerRequestId>) -> Arg<'a> {
    Arg::uuids(ids.map(|id| id.as_uuid()))
}

async fn put_requests(
    link: &mut Link<'_>,
    statement: &Statement,
    requests: &[HandlerRequest],
) -> Result<()> {
    if requests.is_empty() {
        return Ok(());
    }
    let errors: Vec<_> = requests.iter().map(last_errors).collect();
    let rows = json(requests.iter().zip(&errors).map(|(request, errors)| {
        row![
            request.handler.as_str(),
            i64::from(request.priority.get()),
            i64::from(request.max_errors),
            i64::from(request.errors),
            request.attempt.cast_signed(),
            i64::from(request.executions),
            i64::from(request.rescues),
            queue(request).map(|queue| queue as i64),
            request.created_at,
            request.backoff_until,
            request.last_execution_at,
            request.completed_at,
            request.canceled_at,
            request.dead_at,
            request.lease.map(|lease| lease.until),
            errors.as_deref(),
        ]
    }))?;
    let leases = requests.iter().map(|request| request.lease);
    let args = vec![
        request_ids(requests.iter().map(|request| request.id)),
        Arg::from(&rows),
        Arg::uuids(requests.iter().map(|request| request.event_id.as_uuid())),
        Arg::optional_uuids(leases.map(|lease| lease.map(|lease| lease.owner.as_uuid()))),
    ];
    link.execute(statement, args).await?;
    Ok(())
}
