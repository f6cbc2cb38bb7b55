//! What MySQL and MariaDB do in their own way.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, MySqlPool, SqlSafeStr as _, SqlStr};
use uuid::Uuid;

use super::{
    due, hot, kill, raise,
    rows::{self, hex},
    standstill,
    statements::{SLOTS, Statements},
};
use crate::{
    error::{Result, StoreError},
    id::{EventId, HandlerRequestId},
    model::{Event, HandlerRequest},
    sql::{
        arg::{Arg, args},
        claim::read_events,
        connection::{Handle, Held, Needs, lost_transaction},
        dialect::{Beginning, Dialect, Kill},
        error::is_forbidden,
        fan_out::set_aside,
        limit,
        link::Link,
        migrate::{Migration, apply, wait_for_turn},
        reach::InUse,
        records::{DueEvent, EVENTS, HANDLER_REQUESTS, Requests, WaitingEvent, last_errors, queue},
        row::Row,
        settle::Expired,
        shared::{Purpose, Shared},
    },
    store::{HandlerRoom, LockMode, Raised, Settled, Settlement},
    text::Name,
};

/// Begins a transaction in a connection of the application. Somebody may have left it in another one:
/// to begin this one would fail, or commit the other.
macro_rules! begin_on_any {
    () => {
        "ROLLBACK; SET TRANSACTION ISOLATION LEVEL READ COMMITTED; START TRANSACTION"
    };
}

/// Lifts the limits on statements and their waits in a connection of the store's own.
const UNBOUNDED: &str = "SET SESSION lock_wait_timeout = 31536000 \
     /*M!100300 , SESSION max_statement_time = 0 */";

/// The steps of the schema.
const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    sql: include_str!("../../../migrations/mysql/0001_create.sql"),
}];

/// How long ending a connection on the server may take; it ends by itself some time.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct MySqlDialect {
    pub(super) transactions: MySqlPool,
    pub(super) sessions: MySqlPool,
    /// What a connection of the store's own is told when it is opened; none for a pool of the
    /// application, whose connections are left as they are.
    pub(super) settings: Option<Arc<str>>,
    pub(super) statements: Statements,
}

impl fmt::Debug for MySqlDialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MySqlDialect")
    }
}

#[async_trait]
impl Dialect for MySqlDialect {
    fn system(&self) -> &'static str {
        "mysql"
    }

    async fn acquire(&self, purpose: Purpose) -> sqlx::Result<Handle> {
        Ok(Handle::MySql(Held::Pooled(
            self.pool(purpose).acquire().await?,
        )))
    }

    async fn connect(&self) -> sqlx::Result<Handle> {
        let mut connection = self.transactions.connect_options().connect().await?;
        if let Some(settings) = &self.settings {
            let settings = sqlx::raw_sql(AssertSqlSafe(Arc::clone(settings)));
            connection.execute(settings).await?;
        }
        Ok(Handle::MySql(Held::Single(Box::new(connection))))
    }

    fn server(&self) -> String {
        let options = self.transactions.connect_options();
        match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        }
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
        // Changes of a schema end a transaction, so there is none. The lock belongs to the session
        // and is gone at the latest when this connection is.
        wait_for_turn(link, &self.statements.try_lock_migrations).await?;
        if self.settings.is_some() {
            // Changes of a schema may take longer than a call, and wait for longer.
            run(link, UNBOUNDED).await?;
        }
        let applied = apply(link, shared).await;
        let unlocked = link.rows(&self.statements.unlock_migrations, args![]).await;
        if let Some(settings) = &self.settings {
            let settings = AssertSqlSafe(Arc::clone(settings)).into_sql_str();
            link.script(settings, shared.limits.statement).await?;
        }
        applied.and(unlocked.map(drop))
    }

    async fn check_rights(&self, link: &mut Link<'_>) -> Result<()> {
        // The tables of a database of which a user has no right are not in `information_schema`, and
        // one that asks for them is told of the right, whether they are there or not.
        match link
            .rows(&link.shared.common.applied_migrations, args![])
            .await
        {
            Err(error) if is_forbidden(&error) => Err(error),
            _ => Ok(()),
        }
    }

    fn begin(&self, _: Needs) -> SqlStr {
        SqlStr::from_static(match self.settings {
            Some(_) => "START TRANSACTION",
            None => begin_on_any!(),
        })
    }

    fn begin_lasting(&self) -> Beginning {
        match self.settings {
            Some(_) => kill::by_lock(),
            None => Beginning {
                text: SqlStr::from_static(concat!(begin_on_any!(), "; SAVEPOINT tidings")),
                kill: None,
            },
        }
    }

    async fn mark(&self, link: &mut Link<'_>) -> Result<()> {
        if self.settings.is_none() {
            let kill = kill::by_number(link, &self.statements.server_connection).await?;
            link.ends_by(kill);
        }
        Ok(())
    }

    /// Ends the connection on the server, which notices only after the statement that its client has
    /// gone: until then it would hold the transaction's locks.
    fn abandon(&self, kill: Kill) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let pool = self.sessions.clone();
        runtime.spawn(async move {
            let kill = pool.execute(sqlx::raw_sql(kill.statement));
            match tokio::time::timeout(KILL_TIMEOUT, kill).await {
                Ok(Ok(_)) => {}
                // It has ended by itself.
                Ok(Err(error)) => tracing::debug!(%error, "no connection to end"),
                Err(_) => tracing::debug!("could not end a connection in time"),
            }
        });
    }

    async fn check_transaction(&self, link: &mut Link<'_>) -> Result<bool> {
        let goes_on = "RELEASE SAVEPOINT tidings; SAVEPOINT tidings";
        if self.settings.is_some() && link.is_ending() {
            let limit = link.shared.limits.statement;
            let text = format!("{goes_on}; {}", standstill::bounded(limit));
            link.script(AssertSqlSafe(text).into_sql_str(), limit)
                .await?;
        } else {
            run(link, goes_on).await?;
        }
        Ok(true)
    }

    // The mark is released and set anew by each check of the transaction, which takes along what came
    // after it: so the savepoint comes before it.
    async fn savepoint(&self, link: &mut Link<'_>, _replaces: bool) -> Result<()> {
        let text = "RELEASE SAVEPOINT tidings; SAVEPOINT tidings_kept; SAVEPOINT tidings";
        run(link, text).await
    }

    async fn rollback_to_savepoint(&self, link: &mut Link<'_>) -> Result<()> {
        run(
            link,
            "ROLLBACK TO SAVEPOINT tidings_kept; SAVEPOINT tidings",
        )
        .await
    }

    async fn bound_standstill(&self, link: &mut Link<'_>) -> Result<()> {
        // Those of sessions are bounded from the beginning.
        if self.settings.is_some() && link.is_in_transaction() {
            let limit = link.shared.limits.statement;
            let text = AssertSqlSafe(standstill::bounded(limit));
            link.script(text.into_sql_str(), limit).await?;
        }
        Ok(())
    }

    async fn raises_elsewhere(&self, link: &mut Link<'_>, _: Needs) -> Result<bool> {
        // A savepoint outlives its statement in a transaction only, and does nothing elsewhere.
        let probe = "SAVEPOINT tidings_raise; RELEASE SAVEPOINT tidings_raise";
        match run(link, probe).await {
            // What sqlx still takes for a transaction was rolled back by the server.
            Err(ended @ StoreError::Ended { .. }) if link.depth() > 0 => {
                Err(lost_transaction("raise", ended))
            }
            Err(StoreError::Ended { .. }) => Ok(true),
            answer => answer.map(|()| false),
        }
    }

    fn raise_needs(&self, _: &[Event]) -> Needs {
        Needs::Atomicity
    }

    async fn raise(&self, link: &mut Link<'_>, events: &[Event]) -> Result<Vec<Raised>> {
        raise::raise(link, &self.statements, events).await
    }

    async fn due_events(&self, link: &mut Link<'_>, count: usize) -> Result<Vec<DueEvent>> {
        let args = args![limit(count)];
        let mut places = link.rows(&self.statements.due_waiting, args).await?;
        let waiting = places.len();
        let left = count.saturating_sub(waiting);
        if left > 0 {
            let args = args![limit(left)];
            places.extend(link.rows(&self.statements.due_fresh, args).await?);
        }
        self.due(link, &places, waiting).await
    }

    async fn lock_waiting(&self, link: &mut Link<'_>, ids: &[EventId]) -> Result<Vec<DueEvent>> {
        let mut sorted = ids.to_vec();
        sorted.sort_unstable();
        let mut places = Vec::with_capacity(ids.len());
        for ids in event_ids(&sorted)? {
            places.extend(
                link.rows(&self.statements.lock_waiting, args![&ids])
                    .await?,
            );
        }
        self.due(link, &places, places.len()).await
    }

    async fn unqueue(&self, link: &mut Link<'_>, ids: &[EventId]) -> Result<()> {
        for ids in event_ids(ids)? {
            for statement in [
                &self.statements.unqueue_waiting,
                &self.statements.unqueue_fresh,
            ] {
                link.execute(statement, args![&ids]).await?;
            }
        }
        Ok(())
    }

    async fn unqueue_due(&self, link: &mut Link<'_>, due: &[DueEvent]) -> Result<()> {
        let ids = |is_fresh| {
            let some = due.iter().filter(move |due| due.is_fresh == is_fresh);
            let ids: Vec<_> = some.map(|due| due.event.id).collect();
            ids
        };
        for ids in event_ids(&ids(true))? {
            link.execute(&self.statements.unqueue_fresh, args![&ids])
                .await?;
        }
        self.unqueue(link, &ids(false)).await
    }

    async fn put_waiting(&self, link: &mut Link<'_>, events: &[WaitingEvent]) -> Result<()> {
        let texts = rows::texts(events, |event| {
            (
                hex(event.id.as_uuid()),
                event.attempt.cast_signed(),
                event.errors,
                &event.last_error,
                event.owner.map(|owner| hex(owner.as_uuid())),
                event.due_at.timestamp_micros(),
            )
        })?;
        for text in texts {
            link.execute(&self.statements.put_waiting, args![&text])
                .await?;
        }
        let ids: Vec<_> = events.iter().map(|event| event.id).collect();
        for ids in event_ids(&ids)? {
            link.execute(&self.statements.unqueue_fresh, args![&ids])
                .await?;
        }
        Ok(())
    }

    async fn put_unwanted(
        &self,
        link: &mut Link<'_>,
        ids: &[EventId],
        now: DateTime<Utc>,
    ) -> Result<()> {
        for ids in event_ids(ids)? {
            link.execute(&self.statements.put_unwanted, args![now, &ids])
                .await?;
        }
        Ok(())
    }

    async fn first_requests(
        &self,
        link: &mut Link<'_>,
        ids: &[EventId],
    ) -> Result<HashMap<Uuid, DateTime<Utc>>> {
        let mut first = HashMap::with_capacity(ids.len());
        for ids in ids.chunks(SLOTS) {
            let args = ranges_of(ids);
            for row in link.rows(&self.statements.first_requests, args).await? {
                let mut columns = row.reader(HANDLER_REQUESTS);
                first.insert(columns.uuid("event_id")?, columns.time("created_at")?);
            }
        }
        Ok(first)
    }

    async fn lock_events(
        &self,
        link: &mut Link<'_>,
        ids: &[EventId],
        mode: LockMode,
    ) -> Result<Vec<EventId>> {
        let statement = match mode {
            LockMode::Wait => &self.statements.lock_events,
            LockMode::SkipLocked => &self.statements.lock_events_skip,
        };
        let mut sorted = ids.to_vec();
        sorted.sort_unstable();
        let mut locked = Vec::with_capacity(ids.len());
        for ids in event_ids(&sorted)? {
            for row in link.rows(statement, args![&ids]).await? {
                locked.push(EventId::from_uuid(row.reader(EVENTS).uuid("id")?));
            }
        }
        Ok(locked)
    }

    async fn requests_of_events(&self, link: &mut Link<'_>, ids: &[EventId]) -> Result<Requests> {
        let mut rows = Vec::with_capacity(ids.len());
        for ids in ids.chunks(SLOTS) {
            let statement = &self.statements.requests_of_events;
            rows.extend(link.rows(statement, ranges_of(ids)).await?);
        }
        let mut requests = Requests::read(&rows)?;
        let asked: HashSet<_> = ids.iter().collect();
        let is_asked = |event: &EventId| asked.contains(event);
        requests
            .readable
            .retain(|request| is_asked(&request.event_id));
        requests
            .unreadable
            .retain(|request| is_asked(&request.event_id));
        Ok(requests)
    }

    async fn delete_events(
        &self,
        link: &mut Link<'_>,
        events: &[EventId],
        requests: &[HandlerRequestId],
    ) -> Result<()> {
        for ids in rows::ids(requests.iter().map(|id| id.as_uuid()))? {
            let statement = &self.statements.delete_requests;
            link.execute(statement, args![&ids]).await?;
        }
        self.forget_unwanted(link, events).await?;
        for ids in event_ids(events)? {
            let statement = &self.statements.delete_events;
            link.execute(statement, args![&ids]).await?;
        }
        Ok(())
    }

    async fn forget_unwanted(&self, link: &mut Link<'_>, ids: &[EventId]) -> Result<()> {
        for ids in event_ids(ids)? {
            let statement = &self.statements.forget_unwanted;
            link.execute(statement, args![&ids]).await?;
        }
        Ok(())
    }

    async fn insert_requests(
        &self,
        link: &mut Link<'_>,
        requests: &[HandlerRequest],
    ) -> Result<()> {
        hot::insert(link, &self.statements, requests).await
    }

    async fn write_claims(&self, link: &mut Link<'_>, requests: &[HandlerRequest]) -> Result<()> {
        if requests.iter().any(HandlerRequest::is_suspect) {
            // Their claim changes more.
            return self.write_requests(link, requests).await;
        }
        hot::write_claims(link, &self.statements, requests).await
    }

    async fn settle(
        &self,
        link: &mut Link<'_>,
        settlements: &[Settlement],
    ) -> Result<Vec<Settled>> {
        hot::settle(link, &self.statements, settlements).await
    }

    async fn write_requests(&self, link: &mut Link<'_>, requests: &[HandlerRequest]) -> Result<()> {
        for text in rows::texts(requests, written)? {
            link.execute(&self.statements.write_requests, args![&text])
                .await?;
        }
        Ok(())
    }

    async fn rename_requests(
        &self,
        link: &mut Link<'_>,
        ids: &[HandlerRequestId],
        from: &Name,
        to: &Name,
    ) -> Result<u64> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        let mut renamed = 0;
        for ids in rows::ids(ids.iter().map(|id| id.as_uuid()))? {
            let args = args![&ids, to.as_str(), from.as_str()];
            renamed += link.execute(&self.statements.rename_requests, args).await?;
        }
        Ok(renamed)
    }

    async fn lock_requests(
        &self,
        link: &mut Link<'_>,
        ids: &[HandlerRequestId],
        mode: LockMode,
    ) -> Result<Requests> {
        let statement = match mode {
            LockMode::Wait => &self.statements.lock_requests,
            LockMode::SkipLocked => &self.statements.lock_requests_skip,
        };
        let mut rows = Vec::with_capacity(ids.len());
        for ids in rows::ids(ids.iter().map(|id| id.as_uuid()))? {
            rows.extend(link.rows(statement, args![&ids]).await?);
        }
        Requests::read(&rows)
    }

    async fn find_requests(
        &self,
        link: &mut Link<'_>,
        ids: &[HandlerRequestId],
    ) -> Result<Requests> {
        let mut rows = Vec::with_capacity(ids.len());
        for ids in rows::ids(ids.iter().map(|id| id.as_uuid()))? {
            let found = link.rows(&self.statements.find_requests, args![&ids]);
            rows.extend(found.await?);
        }
        Requests::read(&rows)
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
        if suspects {
            due::lock_suspect(link, &self.statements, handlers, count).await
        } else {
            due::lock_due(link, &self.statements, handlers, count).await
        }
    }

    async fn events(
        &self,
        link: &mut Link<'_>,
        ids: &[EventId],
    ) -> Result<HashMap<Uuid, Result<Event>>> {
        let mut rows = Vec::with_capacity(ids.len());
        for ids in event_ids(ids)? {
            rows.extend(link.rows(&self.statements.events, args![&ids]).await?);
        }
        read_events(&rows)
    }
}

impl MySqlDialect {
    const fn pool(&self, purpose: Purpose) -> &MySqlPool {
        match purpose {
            Purpose::Session => &self.sessions,
            Purpose::Transaction => &self.transactions,
        }
    }

    /// The events of locked places on the queue, which are read by a statement of its own: the
    /// snapshot of the one that locked them may be older than they are. So many of them waited, and the
    /// others are fresh.
    async fn due(
        &self,
        link: &mut Link<'_>,
        places: &[Row],
        waiting: usize,
    ) -> Result<Vec<DueEvent>> {
        let ids = places.iter().map(|place| place.reader(EVENTS).uuid("id"));
        let ids: Vec<_> = ids
            .map(|id| id.map(EventId::from_uuid))
            .collect::<Result<_>>()?;
        let mut events = self.events(link, &ids).await?;
        let mut due = Vec::with_capacity(places.len());
        let mut unreadable = Vec::new();
        for (number, place) in places.iter().enumerate() {
            let mut columns = place.reader("waiting_events");
            let id = columns.uuid("event_id")?;
            let read = |event| {
                Ok(DueEvent {
                    event: Arc::new(event),
                    attempt: columns.attempt()?,
                    errors: columns.int("errors")?,
                    last_error: columns.optional_text("last_error")?,
                    is_claimed: columns.bool("is_claimed")?,
                    is_fresh: number >= waiting,
                    now: columns.time("now")?,
                })
            };
            match events.remove(&id).map(|event| event.and_then(read)) {
                Some(Ok(event)) => due.push(event),
                Some(Err(error)) => unreadable.push((EventId::from_uuid(id), error)),
                None => {
                    let gone = place.reader(EVENTS).unreadable("id", "it is gone");
                    unreadable.push((EventId::from_uuid(id), gone));
                }
            }
        }
        set_aside(link, unreadable).await?;
        due.sort_unstable_by_key(|due| due.event.id);
        Ok(due)
    }
}

/// Runs statements without arguments and answers, in one round trip.
async fn run(link: &mut Link<'_>, text: &'static str) -> Result<()> {
    let limit = link.shared.limits.statement;
    link.script(SqlStr::from_static(text), limit).await
}

/// All columns of a request, as `write_requests` reads them.
fn written(request: &HandlerRequest) -> [serde_json::Value; 19] {
    use serde_json::Value;

    let time = |time| Value::from(micros(time));
    let id = |id: Uuid| Value::from(hex(id).to_string());
    [
        id(request.id.as_uuid()),
        id(request.event_id.as_uuid()),
        Value::from(request.handler.as_str()),
        Value::from(request.priority.get()),
        Value::from(request.max_errors),
        time(Some(request.created_at)),
        Value::from(request.errors),
        Value::from(request.attempt.cast_signed()),
        Value::from(request.executions),
        Value::from(request.rescues),
        Value::from(queue(request).map(|queue| queue as i64)),
        time(request.backoff_until),
        time(request.last_execution_at),
        time(request.completed_at),
        time(request.canceled_at),
        time(request.dead_at),
        request
            .lease
            .map_or(Value::Null, |lease| id(lease.owner.as_uuid())),
        time(request.lease.map(|lease| lease.until)),
        Value::from(last_errors(request)),
    ]
}

fn micros(time: Option<DateTime<Utc>>) -> Option<i64> {
    time.map(|time| time.timestamp_micros())
}

/// The lowest and highest ids of the requests of these events, and of none for the slots left.
fn ranges_of<'a>(ids: &[EventId]) -> Vec<Arg<'a>> {
    let ranges = ids.iter().map(|id| HandlerRequestId::range_of(*id));
    let ranges = ranges.map(|(lowest, highest)| (lowest.as_uuid(), highest.as_uuid()));
    let nothing = (Uuid::max(), Uuid::nil());
    ranges
        .chain(std::iter::repeat(nothing))
        .take(SLOTS)
        .flat_map(|(lowest, highest)| args![lowest, highest])
        .collect()
}

fn event_ids(ids: &[EventId]) -> Result<Vec<String>> {
    rows::ids(ids.iter().map(|id| id.as_uuid()))
}
