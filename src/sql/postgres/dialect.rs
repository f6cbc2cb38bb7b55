//! What PostgreSQL does in its own way.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Postgres, SqlSafeStr as _, SqlStr};
use uuid::Uuid;

use super::{
    hot,
    leases::LeasedBatches,
    listener::{PostgresListener, TestChannel},
    notifier::Notifier,
    queue::{Queue, is_timed_out},
    statements::Statements,
    store::set_up_connection,
};
use crate::{
    error::{Result, StoreError},
    id::{EventId, HandlerRequestId},
    model::{Event, HandlerRequest},
    sql::{
        arg::{Arg, args},
        claim::read_events,
        connection::{Effects, Handle, Held, Needs},
        dialect::{Beginning, Dialect},
        error::{Limits, forbidden},
        fan_out::{self, readable},
        limit,
        link::Link,
        look,
        migrate::{Migration, apply, wait_for_turn},
        raise::{chunks, headers},
        reach::InUse,
        records::{DueEvent, EVENTS, Requests, WaitingEvent, last_errors, queue},
        row::Row,
        settle::{self, Expired},
        shared::{Purpose, Shared},
        statement::Statement,
        warm_pool::WarmPool,
    },
    store::{
        Claim, ClaimedBatch, FanOut, FannedOut, HandlerRoom, Listener, LockMode, Look, Outlook,
        Raised, Renewal, Renewed, Selection, Settled, Settlement, WakeUps,
    },
    text::Name,
};

/// The schema of the search path that has the tables of the store and that the user may not use, or the
/// whole path if there is no schema on it that the user may use.
const HIDDEN_SCHEMA: &str = "SELECT coalesce((SELECT n.nspname::text FROM pg_class c \
     JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relname = '{p}migrations' AND NOT has_schema_privilege(n.oid, 'USAGE') \
     AND n.nspname = ANY (string_to_array(replace(current_setting('search_path'), '\"', ''), ', ')) LIMIT 1), \
     CASE WHEN current_schema() IS NULL THEN current_setting('search_path') END) AS nspname";

/// Settings under which the planner walks indexes in nested loops, as the statements of the hot
/// path are meant, whatever the statistics say. Measured to be two to three times as fast as what
/// it chooses itself. And to plan a statement once: with its arguments at hand it would plan some of
/// them for each call, which takes longer than to run them for a few rows.
macro_rules! pins {
    ($set:literal) => {
        concat!(
            $set,
            " enable_seqscan = off; ",
            $set,
            " enable_hashjoin = off; ",
            $set,
            " enable_mergejoin = off; ",
            $set,
            " enable_bitmapscan = off; ",
            $set,
            " jit = off; ",
            $set,
            " plan_cache_mode = force_generic_plan"
        )
    };
}

pub(super) const PINS: &str = pins!("SET");
const LOCAL_PINS: &str = pins!("SET LOCAL");

/// Changes nothing in a transaction, and is refused outside of one.
const PROBE: &str = "SAVEPOINT tidings_raise; RELEASE SAVEPOINT tidings_raise";

/// The steps of the schema.
const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    sql: include_str!("../../../migrations/postgres/0001_create.sql"),
}];

/// The most bytes of data that are sent in one statement, so that neither side has to hold much
/// more.
const MAX_STATEMENT_LEN: usize = 16 * 1024 * 1024;

/// How many notes of leases a rescue looks at together, and of how many requests: each is looked at, at
/// some ten microseconds.
const NOTES_A_LOOK: i64 = 200;
const IDS_A_LOOK: usize = 5000;
/// Of how many requests a rescue looks at the notes in one call, mostly those of requests that were
/// settled meanwhile: about a second. What is left is for the next one.
const IDS_A_RESCUE: usize = 100_000;

/// How long a settlement waits for a lock: requests that somebody has locked it skips, but for an id
/// that somebody is raising just now it waits, and all other settlements of the process wait with it.
const HASTE: Duration = Duration::from_millis(200);

/// The texts that begin transactions. What they set holds for the transaction alone, on any pool
/// and behind any pooler, and costs no round trip.
pub(super) struct Begins {
    /// Of the store's own calls.
    own: SqlStr,
    /// The same, with the plans pinned.
    pinned: SqlStr,
    /// The same, with the plans pinned and little patience for locks.
    hasty: SqlStr,
    /// Whose owner ends it, in his own time.
    lasting: SqlStr,
    /// How long the server waits in a transaction for a process that stands still, or whose machine
    /// is gone, in milliseconds.
    standstill: String,
}

impl Begins {
    /// `pins_sessions` is whether the plans are pinned in the connections of sessions.
    pub(super) fn new(limits: Limits, pins_sessions: bool) -> Self {
        let lock = limits.lock.as_millis().max(1);
        let statement = limits.statement.as_millis().max(1);
        // The setting goes with the transaction, so it tells whether this one goes on.
        let lasting = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = {lock}; \
             SET LOCAL tidings.transaction = 'on'"
        );
        // A process that stands still, or whose machine is gone, keeps no lock that others need.
        let own = format!("{lasting}; SET LOCAL idle_in_transaction_session_timeout = {statement}");
        let pinned = format!("{own}; {LOCAL_PINS}");
        let short = limits.lock.min(HASTE).as_millis().max(1);
        let hasty = if pins_sessions { &own } else { &pinned };
        let hasty = format!("{hasty}; SET LOCAL lock_timeout = {short}");
        let text = |text: String| AssertSqlSafe(Arc::<str>::from(text)).into_sql_str();
        Self {
            own: text(own),
            pinned: text(pinned),
            hasty: text(hasty),
            lasting: text(lasting),
            standstill: statement.to_string(),
        }
    }
}

pub(super) struct PostgresDialect {
    pub(super) begins: Begins,
    pub(super) transactions: WarmPool<Postgres>,
    pub(super) sessions: WarmPool<Postgres>,
    /// How the connections of the store's own calls are set, with pinned plans; none on a pool of
    /// the application's and behind a pooler.
    pub(super) session_settings: Option<Arc<str>>,
    /// Whether each transaction may be on another connection of the server.
    pub(super) has_transaction_pooler: bool,
    pub(super) statements: Statements,
    /// Tells other processes; none if nobody is to listen.
    pub(super) notifier: Option<Notifier>,
    /// By which the listener of this process is tested, while there is one.
    pub(super) test_channel: TestChannel,
    /// What this process has leased.
    pub(super) leased: LeasedBatches,
    /// What is known of the queue of events.
    pub(super) queue: Queue,
}

impl fmt::Debug for PostgresDialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgresDialect")
    }
}

#[async_trait]
impl Dialect for PostgresDialect {
    fn system(&self) -> &'static str {
        "postgresql"
    }

    async fn acquire(&self, purpose: Purpose) -> sqlx::Result<Handle> {
        Ok(Handle::Postgres(Held::Warm(
            self.pool(purpose).acquire().await?,
        )))
    }

    async fn connect(&self) -> sqlx::Result<Handle> {
        let options = self.transactions.connect_options();
        let mut connection = PgConnection::connect_with(&options).await?;
        if let Some(settings) = &self.session_settings {
            set_up_connection(&mut connection, Some(Arc::clone(settings))).await?;
        }
        Ok(Handle::Postgres(Held::Single(Box::new(connection))))
    }

    fn server(&self) -> String {
        let options = self.transactions.connect_options();
        match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            // A directory of sockets among them.
            None => format!("{}:{}", options.get_host(), options.get_port()),
        }
    }

    fn in_use(&self, purpose: Purpose) -> InUse {
        self.pool(purpose).in_use()
    }

    async fn close(&self) {
        self.sessions.close().await;
        self.transactions.close().await;
    }

    fn migrations(&self) -> &'static [Migration] {
        MIGRATIONS
    }

    async fn migrate(&self, link: &mut Link<'_>, shared: &Shared) -> Result<()> {
        // Changes of a schema may have to wait for longer than a call.
        let begin =
            SqlStr::from_static("BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = 0");
        link.begin(begin).await?;
        wait_for_turn(link, &self.statements.try_lock_migrations).await?;
        apply(link, shared).await
    }

    async fn check_rights(&self, link: &mut Link<'_>) -> Result<()> {
        // A schema that the user may not use is left out of the search path without a word, and its
        // tables are not found; the catalog has them.
        let hidden = Statement::new(HIDDEN_SCHEMA, &link.shared.prefix);
        let Some(row) = link.row(&hidden, args![]).await? else {
            return Ok(());
        };
        match row.reader("pg_namespace").optional_text("nspname")? {
            Some(schema) => {
                let reason = format!("USAGE on schema {schema:?}, or there is none");
                Err(forbidden("check the schema", &reason))
            }
            None => Ok(()),
        }
    }

    fn begin(&self, needs: Needs) -> SqlStr {
        match needs {
            Needs::Pins => self.begins.pinned.clone(),
            Needs::Haste => self.begins.hasty.clone(),
            Needs::Nothing | Needs::OneStatement | Needs::Atomicity => self.begins.own.clone(),
        }
    }

    fn begin_lasting(&self) -> Beginning {
        Beginning {
            text: self.begins.lasting.clone(),
            kill: None,
        }
    }

    async fn check_transaction(&self, link: &mut Link<'_>) -> Result<bool> {
        // A settlement and a commit ask for themselves.
        if link.is_ending() {
            return Ok(false);
        }
        let row = link.row(&self.statements.is_ours, args![]).await?;
        let row = row.ok_or_else(crate::sql::missing_row)?;
        if row.reader("no table").bool("is_ours")? {
            return Ok(true);
        }
        Err(StoreError::Ended {
            operation: "go on in a transaction",
            thing: "the transaction",
        })
    }

    async fn check_commit(&self, link: &mut Link<'_>) -> Result<()> {
        // Refused after an error, as every statement is but the one that ends the transaction.
        let args = args![&self.begins.standstill];
        let row = link.row(&self.statements.bound_standstill, args).await?;
        let row = row.ok_or_else(crate::sql::missing_row)?;
        let mut columns = row.reader("no table");
        columns.skip(1);
        if columns.bool("is_ours")? {
            link.is_certain();
            return Ok(());
        }
        let operation = "go on in a transaction";
        let ended = StoreError::Ended {
            operation,
            thing: "the transaction",
        };
        // It is worth running again.
        Err(StoreError::Conflict {
            operation,
            source: Some(Box::new(ended)),
        })
    }

    async fn bound_standstill(&self, link: &mut Link<'_>) -> Result<()> {
        let args = args![&self.begins.standstill];
        link.rows(&self.statements.bound_standstill, args).await?;
        Ok(())
    }

    fn keeps_connection(&self) -> bool {
        !self.has_transaction_pooler
    }

    async fn raises_elsewhere(&self, link: &mut Link<'_>, needs: Needs) -> Result<bool> {
        if needs == Needs::OneStatement && self.keeps_connection() {
            return Ok(false);
        }
        Ok(link.depth() == 0 && !self.is_in_transaction(link).await?)
    }

    fn has_pinned_sessions(&self) -> bool {
        self.session_settings.is_some()
    }

    fn raise_needs(&self, events: &[Event]) -> Needs {
        match chunks(events, MAX_STATEMENT_LEN).count() {
            0 | 1 => Needs::OneStatement,
            _ => Needs::Atomicity,
        }
    }

    async fn raise(&self, link: &mut Link<'_>, events: &[Event]) -> Result<Vec<Raised>> {
        // What the store commits itself is told then.
        let notifies = link.is_foreign() && self.admits_notification();
        if let [event] = events
            && !notifies
        {
            return Ok(vec![self.raise_one(link, event).await?]);
        }
        // In one order, so that two raises of the same events do not wait for each other. Of those
        // with the same id the first one stays the first.
        let mut ordered: Vec<_> = events.iter().collect();
        ordered.sort_by_key(|event| event.id);
        let mut new = HashSet::new();
        for chunk in chunks(&ordered, MAX_STATEMENT_LEN) {
            let headers: Vec<_> = chunk.iter().map(|event| headers(event)).collect();
            let args = raise_args(chunk, &headers, notifies);
            let rows = link.rows(&self.statements.raise, args).await?;
            if rows.is_empty() {
                new.extend(chunk.iter().map(|event| event.id.as_uuid()));
            }
            for row in rows {
                new.extend(row.reader(EVENTS).optional_uuid("id")?);
            }
        }
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

    async fn due_events(&self, link: &mut Link<'_>, count: usize) -> Result<Vec<DueEvent>> {
        let args = args![limit(count)];
        let rows = link.rows(&self.statements.due_events, args).await?;
        readable(link, &rows).await
    }

    async fn lock_waiting(&self, link: &mut Link<'_>, ids: &[EventId]) -> Result<Vec<DueEvent>> {
        let args = vec![event_ids(ids)];
        let rows = link.rows(&self.statements.lock_waiting, args).await?;
        readable(link, &rows).await
    }

    async fn unqueue(&self, link: &mut Link<'_>, ids: &[EventId]) -> Result<()> {
        link.execute(&self.statements.unqueue, vec![event_ids(ids)])
            .await?;
        Ok(())
    }

    async fn put_waiting(&self, link: &mut Link<'_>, events: &[WaitingEvent]) -> Result<()> {
        let args = vec![
            Arg::uuids(events.iter().map(|event| event.id.as_uuid())),
            Arg::ints(events.iter().map(|event| event.attempt.cast_signed())),
            Arg::ints(events.iter().map(|event| integer(event.errors))),
            Arg::optional_texts(events.iter().map(|event| event.last_error.as_deref())),
            Arg::optional_uuids(
                events
                    .iter()
                    .map(|event| event.owner.map(|owner| owner.as_uuid())),
            ),
            Arg::times(events.iter().map(|event| event.due_at)),
        ];
        link.execute(&self.statements.put_waiting, args).await?;
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
        let rows = link
            .rows(&self.statements.first_requests, ranges_of(ids))
            .await?;
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
        mode: LockMode,
    ) -> Result<Vec<EventId>> {
        let statement = match mode {
            LockMode::Wait => &self.statements.lock_events,
            LockMode::SkipLocked => &self.statements.lock_events_skip,
        };
        let rows = link.rows(statement, vec![event_ids(ids)]).await?;
        let id = |row: &Row| row.reader(EVENTS).uuid("id").map(EventId::from_uuid);
        rows.iter().map(id).collect()
    }

    async fn requests_of_events(&self, link: &mut Link<'_>, ids: &[EventId]) -> Result<Requests> {
        let statement = &self.statements.requests_of_events;
        let rows = link.rows(statement, ranges_of(ids)).await?;
        Requests::read(&rows)
    }

    async fn delete_events(
        &self,
        link: &mut Link<'_>,
        events: &[EventId],
        requests: &[HandlerRequestId],
    ) -> Result<()> {
        let args = vec![event_ids(events), request_ids(requests.iter().copied())];
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
        let leases = || requests.iter().map(|request| request.lease);
        let args = vec![
            request_ids(requests.iter().map(|request| request.id)),
            Arg::uuids(requests.iter().map(|request| request.event_id.as_uuid())),
            Arg::texts(requests.iter().map(|request| request.handler.as_str())),
            Arg::ints(requests.iter().map(|request| request.priority.get().into())),
            Arg::ints(requests.iter().map(|request| request.max_errors.into())),
            Arg::ints(requests.iter().map(|request| request.attempt.cast_signed())),
            queues(requests),
            Arg::times(requests.iter().map(|request| request.created_at)),
            Arg::optional_uuids(leases().map(|lease| lease.map(|lease| lease.owner.as_uuid()))),
            Arg::optional_times(leases().map(|lease| lease.map(|lease| lease.until))),
        ];
        link.execute(&self.statements.insert_requests, args).await?;
        Ok(())
    }

    async fn write_requests(&self, link: &mut Link<'_>, requests: &[HandlerRequest]) -> Result<()> {
        let errors: Vec<_> = requests.iter().map(last_errors).collect();
        let leases = || requests.iter().map(|request| request.lease);
        let args = vec![
            request_ids(requests.iter().map(|request| request.id)),
            Arg::texts(requests.iter().map(|request| request.handler.as_str())),
            Arg::ints(requests.iter().map(|request| integer(request.errors))),
            Arg::ints(requests.iter().map(|request| request.attempt.cast_signed())),
            Arg::ints(requests.iter().map(|request| integer(request.executions))),
            Arg::ints(requests.iter().map(|request| integer(request.rescues))),
            queues(requests),
            Arg::optional_times(requests.iter().map(|request| request.backoff_until)),
            Arg::optional_times(requests.iter().map(|request| request.last_execution_at)),
            Arg::optional_times(requests.iter().map(|request| request.completed_at)),
            Arg::optional_times(requests.iter().map(|request| request.canceled_at)),
            Arg::optional_times(requests.iter().map(|request| request.dead_at)),
            Arg::optional_uuids(leases().map(|lease| lease.map(|lease| lease.owner.as_uuid()))),
            Arg::optional_times(leases().map(|lease| lease.map(|lease| lease.until))),
            Arg::optional_texts(errors.iter().map(Option::as_deref)),
        ];
        link.execute_planned_anew(&self.statements.write_requests, args)
            .await?;
        Ok(())
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
        mode: LockMode,
    ) -> Result<Requests> {
        let statement = match mode {
            LockMode::Wait => &self.statements.lock_requests,
            LockMode::SkipLocked => &self.statements.lock_requests_skip,
        };
        let args = vec![request_ids(ids.iter().copied())];
        Requests::read(&link.rows(statement, args).await?)
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
        let most = usize::try_from(limit).unwrap_or_default();
        let mut expired = Expired::default();
        let mut after = (None, 0);
        let mut probed = 0;
        while probed < IDS_A_RESCUE && expired.requests.len() < most {
            let args = args![after.0, after.1, NOTES_A_LOOK];
            let rows = link.rows(&self.statements.lock_leases, args).await?;
            let mut looked_at = Vec::with_capacity(rows.len());
            let mut ids = 0;
            for row in &rows {
                let mut columns = row.reader("leases");
                let id: i64 = columns.int("id")?;
                // Before any calendar, where the statement begins without a time.
                let since = columns.optional_time("lease_until").unwrap_or_default();
                ids += columns.int::<usize>("requests")?;
                if ids > IDS_A_LOOK && !looked_at.is_empty() {
                    break;
                }
                after = (since, id);
                looked_at.push(id);
            }
            if looked_at.is_empty() {
                break;
            }
            probed += ids;
            let left = most.saturating_sub(expired.requests.len());
            let args = vec![
                Arg::ints(looked_at.iter().copied()),
                Arg::from(crate::sql::limit(left)),
            ];
            let rows = link.rows(&self.statements.lock_expired, args).await?;
            if rows.is_empty() {
                self.tidy_leases(link, &looked_at).await?;
            } else {
                expired.requests.append(Requests::read(&rows)?);
                expired.looked_at.extend(looked_at);
            }
        }
        Ok(expired)
    }

    async fn tidy_leases(&self, link: &mut Link<'_>, looked_at: &[i64]) -> Result<()> {
        if looked_at.is_empty() {
            return Ok(());
        }
        let args = vec![Arg::ints(looked_at.iter().copied())];
        link.execute(&self.statements.tidy_leases, args).await?;
        Ok(())
    }

    fn note_settled(&self, settled: &[(u64, usize)], forgotten: &[u64]) {
        if !settled.is_empty() || !forgotten.is_empty() {
            self.leased.settled(settled, forgotten);
        }
    }

    async fn lock_due(
        &self,
        link: &mut Link<'_>,
        handlers: &[HandlerRoom],
        count: usize,
        suspects: bool,
    ) -> Result<Requests> {
        let statement = if suspects {
            &self.statements.lock_due_suspects
        } else {
            &self.statements.lock_due
        };
        let with_room = || handlers.iter().filter(|handler| handler.room > 0);
        let args = vec![
            Arg::texts(with_room().map(|handler| handler.handler.as_str())),
            Arg::ints(with_room().map(|handler| limit(handler.room))),
            Arg::from(limit(count)),
        ];
        Requests::read(&link.rows(statement, args).await?)
    }

    async fn events(
        &self,
        link: &mut Link<'_>,
        ids: &[EventId],
    ) -> Result<HashMap<Uuid, Result<Event>>> {
        let args = vec![event_ids(ids)];
        read_events(&link.rows(&self.statements.events, args).await?)
    }

    fn fan_out_needs(&self, asked: &FanOut) -> Needs {
        match asked.selection {
            Selection::Due { .. } => Needs::Pins,
            Selection::Claimed(_) => Needs::Atomicity,
        }
    }

    async fn fan_out(&self, link: &mut Link<'_>, asked: &FanOut) -> Result<FannedOut> {
        match asked.selection {
            Selection::Due { limit } => {
                let (statements, leased) = (&self.statements, &self.leased);
                hot::fan_out(link, statements, leased, &self.queue, limit, asked).await
            }
            Selection::Claimed(_) => fan_out::fan_out(link, asked).await,
        }
    }

    fn claim_needs(&self) -> Needs {
        Needs::Pins
    }

    async fn claim(&self, link: &mut Link<'_>, asked: &Claim) -> Result<ClaimedBatch> {
        hot::claim(link, &self.statements, &self.leased, asked).await
    }

    fn settle_needs(&self, settlements: &[Settlement]) -> Needs {
        let has_raised = || settlements.iter().any(|one| !one.raised.is_empty());
        if hot::sort(settlements).is_plain() && !has_raised() {
            Needs::Pins
        } else {
            Needs::Haste
        }
    }

    async fn settle(
        &self,
        link: &mut Link<'_>,
        settlements: &[Settlement],
    ) -> Result<Vec<Settled>> {
        let (statements, leased) = (&self.statements, &self.leased);
        let sorted = hot::sort(settlements);
        if !link.is_in_transaction() {
            return hot::settle(link, statements, leased, settlements, sorted).await;
        }
        // It waits for locks, so it takes all of them in one order: one statement does, and two that
        // lock one after the other might wait for a transaction that waits for this one.
        if !sorted.is_plain() {
            self.check_commit(link).await?;
            return settle::settle(link, settlements).await;
        }
        // Its owner commits it, and a handler had the connection.
        let standstill = &*self.begins.standstill;
        let settled = hot::settle_in(link, statements, settlements, standstill).await?;
        if settled.contains(&Settled::Applied) {
            link.is_certain();
        } else if link.is_in_doubt() {
            // Either the fence does not hold, or there is no transaction any more.
            self.check_commit(link).await?;
        }
        settle::conclude(link, settlements, &settled).await?;
        Ok(settled)
    }

    fn wake_ups(&self) -> WakeUps {
        match self.notifier {
            Some(_) => WakeUps::Listener,
            None => WakeUps::InProcess,
        }
    }

    async fn look(&self, link: &mut Link<'_>, asked: &Look) -> Result<Outlook> {
        let test = self.test_channel.lock().clone();
        let mut args = look::args(asked);
        args.push(Arg::Text(test.as_deref()));
        let lowest = self.queue.lowest_for_look();
        args.push(Arg::from(lowest.unwrap_or_default()));
        let limit = link.shared.limits.statement;
        let row = link.row(&self.statements.look, args).await;
        let row = row.inspect_err(|error| {
            if is_timed_out(error, limit) {
                self.queue.look_timed_out(lowest);
            }
        })?;
        if let Some(row) = &row {
            let mut columns = row.reader("unprocessed_events");
            columns.skip(look::COLUMNS);
            let first = columns.optional_uuid("event_id")?;
            let micros = columns.int("micros")?;
            self.queue
                .looked(lowest, first, Duration::from_micros(micros));
        }
        look::read(row)
    }

    async fn listener(&self, shared: &Shared) -> Result<Box<dyn Listener>> {
        let options = self.transactions.connect_options();
        let listener = PostgresListener::connect(
            (*options).clone(),
            shared.prefix.as_str(),
            TestChannel::clone(&self.test_channel),
            shared.signals.clone(),
            shared.limits,
        );
        Ok(Box::new(listener.await?))
    }

    fn tell(&self, effects: Effects) {
        if let Some(notifier) = &self.notifier {
            notifier.tell(effects.raised, effects.ready);
        }
    }

    fn renew_needs(&self) -> Needs {
        Needs::Pins
    }

    async fn renew(&self, link: &mut Link<'_>, renewal: &Renewal) -> Result<Renewed> {
        hot::renew(link, &self.statements, renewal).await
    }
}

impl PostgresDialect {
    const fn pool(&self, purpose: Purpose) -> &WarmPool<Postgres> {
        match purpose {
            Purpose::Session => &self.sessions,
            Purpose::Transaction => &self.transactions,
        }
    }

    /// Whether a connection of the application is in a transaction, however that was begun.
    async fn is_in_transaction(&self, link: &mut Link<'_>) -> Result<bool> {
        // Asked in a single message, since it is answered outside of transactions as well.
        let probe = SqlStr::from_static(PROBE);
        match link.script(probe, link.shared.limits.statement).await {
            Ok(()) => Ok(true),
            Err(StoreError::Ended { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Stores an event of which nobody is notified.
    async fn raise_one(&self, link: &mut Link<'_>, event: &Event) -> Result<Raised> {
        let headers = headers(event);
        let entity = event.entity.as_ref();
        let args = vec![
            Arg::from(event.id.as_uuid()),
            Arg::from(event.name.as_str()),
            Arg::Text(entity.map(|entity| entity.name.as_str())),
            Arg::Text(entity.map(|entity| entity.id.as_str())),
            Arg::from(event.data.as_str()),
            Arg::from(event.timestamp),
            Arg::from(event.correlation_id.as_uuid()),
            Arg::Uuid(event.causation_id.map(|id| id.as_uuid())),
            Arg::Text(headers.as_deref()),
            Arg::from(i64::from(event.version)),
        ];
        Ok(
            match link.execute(&self.statements.raise_one, args).await? {
                0 => Raised::AlreadyRaised,
                _ => Raised::New,
            },
        )
    }

    /// Whether a transaction of the application's may notify.
    fn admits_notification(&self) -> bool {
        self.notifier.as_ref().is_some_and(Notifier::admits)
    }
}

/// The columns of events, those without any value empty, which costs least.
fn raise_args<'a>(
    events: &[&'a Event],
    headers: &'a [Option<String>],
    notifies: bool,
) -> Vec<Arg<'a>> {
    let has_entities = events.iter().any(|event| event.entity.is_some());
    let has_correlations = |event: &&Event| event.correlation_id.as_uuid() != event.id.as_uuid();
    let has_correlations = events.iter().any(has_correlations);
    let has_causes = events.iter().any(|event| event.causation_id.is_some());
    let has_headers = headers.iter().any(Option::is_some);
    let has_versions = events.iter().any(|event| event.version != 1);
    let only = |is_there: bool| if is_there { events } else { &[] };
    vec![
        Arg::uuids(events.iter().map(|event| event.id.as_uuid())),
        Arg::texts(events.iter().map(|event| event.name.as_str())),
        Arg::optional_texts(
            only(has_entities)
                .iter()
                .map(|event| Some(event.entity.as_ref()?.name.as_str())),
        ),
        Arg::optional_texts(
            only(has_entities)
                .iter()
                .map(|event| Some(event.entity.as_ref()?.id.as_str())),
        ),
        Arg::texts(events.iter().map(|event| event.data.as_str())),
        Arg::times(events.iter().map(|event| event.timestamp)),
        Arg::uuids(
            only(has_correlations)
                .iter()
                .map(|event| event.correlation_id.as_uuid()),
        ),
        Arg::optional_uuids(
            only(has_causes)
                .iter()
                .map(|event| Some(event.causation_id?.as_uuid())),
        ),
        Arg::optional_texts(headers.iter().filter(|_| has_headers).map(Option::as_deref)),
        Arg::ints(
            only(has_versions)
                .iter()
                .map(|event| i64::from(event.version)),
        ),
        Arg::from(notifies),
    ]
}

fn event_ids<'a>(ids: &[EventId]) -> Arg<'a> {
    Arg::uuids(ids.iter().map(|id| id.as_uuid()))
}

/// Events, and the lowest and highest ids of their requests.
fn ranges_of<'a>(ids: &[EventId]) -> Vec<Arg<'a>> {
    let ranges = || ids.iter().map(|id| HandlerRequestId::range_of(*id));
    vec![
        event_ids(ids),
        Arg::uuids(ranges().map(|(lowest, _)| lowest.as_uuid())),
        Arg::uuids(ranges().map(|(_, highest)| highest.as_uuid())),
    ]
}

fn request_ids<'a>(ids: impl Iterator<Item = HandlerRequestId>) -> Arg<'a> {
    Arg::uuids(ids.map(|id| id.as_uuid()))
}

fn queues<'a>(requests: &[HandlerRequest]) -> Arg<'a> {
    Arg::optional_ints(
        requests
            .iter()
            .map(|request| queue(request).map(|queue| queue as i64)),
    )
}

/// A count for a column of the type `integer`, which ends before a count does.
fn integer(count: u32) -> i64 {
    i64::from(count.min(i32::MAX.unsigned_abs()))
}
