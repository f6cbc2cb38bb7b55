//! The statements of SQLite. Whatever writes runs in a transaction that has SQLite's one write lock
//! from its beginning, so nothing is locked row by row, and nothing that is locked is skipped.
//!
//! The time is that of the statement, to the millisecond, by the clock of this machine, which all
//! processes that share the file run on. Where a statement must not depend on statistics, it names
//! the index that it uses; SQLite refuses it if it cannot.

use crate::sql::{common::CommonTexts, statement::statements};

/// The time of the statement in microseconds.
macro_rules! now {
    () => {
        "(CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000)"
    };
}

/// The UUIDs of an argument, which has them one behind the other.
macro_rules! uuids {
    ($arg:literal) => {
        concat!(
            "(WITH RECURSIVE n (i) AS ( \
               SELECT 0 WHERE length(",
            $arg,
            ") >= 16 UNION ALL SELECT i + 1 FROM n WHERE 16 * (i + 2) <= length(",
            $arg,
            ")) SELECT substr(",
            $arg,
            ", 1 + 16 * i, 16) FROM n) "
        )
    };
}

/// The UUID of an argument that belongs to the row `g` of a `json_each`.
macro_rules! uuid {
    ($arg:literal) => {
        concat!("substr(", $arg, ", 1 + 16 * g.key, 16)")
    };
}

/// The UUIDs of the first argument, which belong to the rows of the second one.
macro_rules! placed_uuids {
    () => {
        concat!("(SELECT ", uuid!("?1"), " FROM json_each(?2) g) ")
    };
}

/// Stores events.
macro_rules! raise {
    ($conflict:literal) => {
        concat!(
            "INSERT INTO {p}events \
               (id, name, entity_name, entity_id, data, timestamp, correlation_id, causation_id, headers, version) \
             SELECT ",
            uuid!("?1"),
            ", g.value ->> 0, g.value ->> 1, g.value ->> 2, g.value ->> 3, g.value ->> 4, ",
            uuid!("?3"),
            ", CASE WHEN g.value ->> 5 THEN ",
            uuid!("?4"),
            " END, g.value ->> 6, g.value ->> 7 FROM json_each(?2) g ",
            $conflict
        )
    };
}

/// What the columns of a settled request become. (ids, places, attempt, owner, executed) From three
/// rescues on, it is the claim that has counted the execution.
macro_rules! settle {
    ($outcome:expr) => {
        concat!(
            "UPDATE {p}handler_requests SET ",
            $outcome,
            ", executions = executions + (?5 AND rescues < 3), \
             last_execution_at = CASE WHEN ?5 AND rescues < 3 THEN ",
            now!(),
            " ELSE last_execution_at END, owner = NULL, lease_until = NULL WHERE id IN ",
            placed_uuids!(),
            "AND attempt = ?3 AND owner = ?4 AND +lease_until IS NOT NULL \
             AND completed_at IS NULL AND canceled_at IS NULL AND dead_at IS NULL"
        )
    };
}

/// What a claim needs to know of a request, before its event.
macro_rules! claimed {
    () => {
        "SELECT r.id, r.priority, r.max_errors, r.errors, r.attempt, r.executions, r.rescues, r.last_errors, \
           r.created_at, r.last_execution_at, "
    };
}

/// The columns of an event, in the order in which they are read; `e` is its table.
macro_rules! event {
    () => {
        "e.id, e.name, e.entity_name, e.entity_id, e.data, e.timestamp, e.correlation_id, \
         e.causation_id, e.headers, e.version"
    };
}

/// An event that is due, with its place on the queue, `d`; its id is there even if its row is gone.
macro_rules! due_event {
    () => {
        concat!(
            "SELECT d.event_id, e.name, e.entity_name, e.entity_id, e.data, e.timestamp, e.correlation_id, \
               e.causation_id, e.headers, e.version, d.attempt, d.errors, d.last_error, d.is_claimed, ",
            now!(),
            " FROM due d LEFT JOIN {p}events e INDEXED BY {p}events_id ON e.id = d.event_id ORDER BY d.event_id"
        )
    };
}

macro_rules! from_events {
    () => {
        "FROM {p}events e INDEXED BY {p}events_id \
         LEFT JOIN {p}unprocessed_events u ON u.event_id = e.id \
         LEFT JOIN {p}waiting_events w ON w.event_id = e.id \
         LEFT JOIN {p}unwanted_events n ON n.event_id = e.id "
    };
}

/// A stored event, with where it waits.
macro_rules! stored_event {
    () => {
        concat!(
            "SELECT ",
            event!(),
            ", u.event_id IS NOT NULL OR w.event_id IS NOT NULL, coalesce(w.errors, 0), w.last_error, \
               CASE WHEN w.owner IS NULL THEN w.due_at END, n.processed_at ",
            from_events!()
        )
    };
}

/// The condition of an event filter.
macro_rules! event_filter {
    () => {
        "WHERE (json_array_length(?1) = 0 OR e.name IN (SELECT value FROM json_each(?1))) \
           AND (?2 IS NULL OR (e.entity_name = ?2 AND e.entity_id = ?3)) \
           AND (?4 IS NULL OR e.timestamp >= ?4) \
           AND (?5 IS NULL OR e.timestamp < ?5) \
           AND (?6 IS NULL OR (u.event_id IS NULL AND w.event_id IS NULL) = ?6) \
           AND (?7 IS NULL OR (u.event_id IS NULL AND w.event_id IS NULL AND n.event_id IS NULL) = ?7) "
    };
}

/// A request as it is read; `r` is its table, `e` that of its event.
macro_rules! request {
    () => {
        concat!(
            "SELECT r.id, r.event_id, e.name, r.handler, r.priority, r.max_errors, r.errors, r.attempt, \
               r.executions, r.rescues, r.created_at, r.backoff_until, r.last_execution_at, \
               r.last_errors, r.completed_at, r.canceled_at, r.dead_at, r.owner, r.lease_until, ",
            now!(),
            " "
        )
    };
}

macro_rules! from_requests {
    () => {
        from_requests!("")
    };
    ($index:literal) => {
        concat!(
            "FROM {p}handler_requests r ",
            $index,
            " LEFT JOIN {p}events e INDEXED BY {p}events_id ON e.id = r.event_id "
        )
    };
}

/// The condition of a request filter, but for the states.
macro_rules! request_filter {
    () => {
        "(json_array_length(?2) = 0 OR e.name IN (SELECT value FROM json_each(?2))) \
           AND (json_array_length(?3) = 0 OR r.handler IN (SELECT value FROM json_each(?3))) \
           AND (?4 IS NULL OR (e.entity_name = ?4 AND e.entity_id = ?5)) \
           AND (?6 IS NULL OR r.created_at >= ?6) \
           AND (?7 IS NULL OR r.created_at < ?7) \
           AND (?8 IS NULL OR instr(CASE WHEN json_valid(r.last_errors) \
                 THEN json_extract(r.last_errors, '$[#-1].message') END, ?8) > 0) "
    };
}

/// The condition of a request filter on the states, as bits.
macro_rules! request_states {
    () => {
        concat!(
            "(?1 = 0 OR (?1 >> CASE \
               WHEN r.canceled_at IS NOT NULL THEN 0 \
               WHEN r.completed_at IS NOT NULL THEN 1 \
               WHEN r.dead_at IS NOT NULL THEN 2 \
               WHEN r.owner IS NOT NULL THEN 3 \
               WHEN r.backoff_until > ",
            now!(),
            " THEN 4 ELSE 5 END) & 1 = 1) "
        )
    };
}

/// Stores requests; what to do about those that are there is to follow. (ids, rows of what is not
/// a UUID in the order of the columns, event_ids, owners)
macro_rules! put_requests {
    () => {
        concat!(
            "INSERT INTO {p}handler_requests \
               (id, event_id, handler, priority, max_errors, errors, attempt, executions, rescues, queue, \
                created_at, backoff_until, last_execution_at, completed_at, canceled_at, dead_at, owner, \
                lease_until, last_errors) \
             SELECT ",
            uuid!("?1"),
            ", ",
            uuid!("?3"),
            ", g.value ->> 0, g.value ->> 1, g.value ->> 2, g.value ->> 3, g.value ->> 4, g.value ->> 5, \
             g.value ->> 6, g.value ->> 7, g.value ->> 8, g.value ->> 9, g.value ->> 10, g.value ->> 11, \
             g.value ->> 12, g.value ->> 13, CASE WHEN g.value ->> 14 IS NOT NULL THEN ",
            uuid!("?4"),
            " END, g.value ->> 14, g.value ->> 15 FROM json_each(?2) g WHERE true ON CONFLICT (id) "
        )
    };
}

/// When the next request that backs off of the handlers in the first argument is due.
macro_rules! next_due {
    () => {
        concat!(
            "(SELECT min(d.backoff_until) FROM ( \
               SELECT (SELECT r.backoff_until FROM {p}handler_requests r INDEXED BY {p}handler_requests_backing_off \
                 WHERE r.handler = asked.value AND r.queue = 1 AND r.backoff_until > ",
            now!(),
            " ORDER BY r.backoff_until LIMIT 1) AS backoff_until FROM json_each(?1) asked \
               UNION ALL \
               SELECT (SELECT r.backoff_until FROM {p}handler_requests r INDEXED BY {p}handler_requests_suspect \
                 WHERE r.handler = asked.value AND r.queue = 2 AND r.backoff_until > ",
            now!(),
            " ORDER BY r.backoff_until LIMIT 1) FROM json_each(?1) asked) d)"
        )
    };
}

/// Whether a request of the handlers in the first argument is due that is under suspicion.
macro_rules! suspect_due {
    () => {
        concat!(
            "EXISTS (SELECT 1 FROM json_each(?1) asked WHERE EXISTS ( \
               SELECT 1 FROM {p}handler_requests r INDEXED BY {p}handler_requests_suspect \
               WHERE r.handler = asked.value AND r.queue = 2 AND r.backoff_until IS NULL) \
             OR EXISTS ( \
               SELECT 1 FROM {p}handler_requests r INDEXED BY {p}handler_requests_suspect \
               WHERE r.handler = asked.value AND r.queue = 2 AND r.backoff_until <= ",
            now!(),
            "))"
        )
    };
}

/// When the earliest lease runs out.
macro_rules! next_expiry {
    () => {
        "(SELECT min(lease_until) FROM {p}handler_requests INDEXED BY {p}handler_requests_leased \
          WHERE lease_until IS NOT NULL)"
    };
}

const FIND_REQUEST: &str = concat!(request!(), from_requests!(), "WHERE r.id = ?1");
const LOCK_EVENT: &str = "SELECT id FROM {p}events INDEXED BY {p}events_id WHERE id = ?1";
const LOCK_UNPROCESSED: &str = "SELECT event_id FROM {p}unprocessed_events WHERE event_id = ?1";
const LOCK_WAITING: &str = "SELECT event_id FROM {p}waiting_events WHERE event_id = ?1";
/// The transaction has SQLite's write lock, which keeps everybody out.
const LOCKED_ALREADY: &str = "SELECT 1";

pub(super) const COMMON: CommonTexts = CommonTexts {
    now: concat!("SELECT ", now!()),
    echo: "SELECT ?1",
    has_migrations: "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = '{p}migrations'",
    applied_migrations: "SELECT version, compatible_from FROM {p}migrations",
    share_names: LOCKED_ALREADY,
    lock_names: LOCKED_ALREADY,

    find_event: concat!(stored_event!(), "WHERE e.id = ?1"),
    lock_event: LOCK_EVENT,
    lock_event_skip: LOCK_EVENT,
    lock_unprocessed: LOCK_UNPROCESSED,
    lock_unprocessed_skip: LOCK_UNPROCESSED,
    lock_waiting_event: LOCK_WAITING,
    lock_waiting_event_skip: LOCK_WAITING,
    count_unprocessed: "SELECT (SELECT count(*) FROM {p}unprocessed_events) + (SELECT count(*) FROM {p}waiting_events)",
    oldest_unprocessed: "SELECT min(event_id) FROM ( \
           SELECT (SELECT min(event_id) FROM {p}unprocessed_events) AS event_id \
           UNION ALL SELECT (SELECT min(event_id) FROM {p}waiting_events))",
    count_events: concat!("SELECT count(*) ", from_events!(), event_filter!()),
    list_events: concat!(
        stored_event!(),
        event_filter!(),
        "AND (?8 IS NULL OR e.id > ?8) ORDER BY e.id LIMIT ?9 OFFSET ?10"
    ),
    list_event_ids: concat!(
        "SELECT e.id, e.name ",
        from_events!(),
        event_filter!(),
        "AND (?8 IS NULL OR e.id > ?8) ORDER BY e.id LIMIT ?9 OFFSET ?10"
    ),
    processed_events: concat!(
        "SELECT e.id, n.processed_at ",
        from_events!(),
        "WHERE u.event_id IS NULL AND w.event_id IS NULL AND (?1 IS NULL OR e.id > ?1) ORDER BY e.id LIMIT ?2"
    ),
    next_due_event: concat!(
        "SELECT ",
        now!(),
        ", EXISTS (SELECT 1 FROM {p}unprocessed_events) \
             OR EXISTS (SELECT 1 FROM {p}waiting_events WHERE due_at <= ",
        now!(),
        "), (SELECT min(due_at) FROM {p}waiting_events WHERE owner IS NULL)"
    ),

    find_request: FIND_REQUEST,
    lock_request: FIND_REQUEST,
    lock_request_skip: FIND_REQUEST,
    requests_of_event: concat!(
        request!(),
        from_requests!(),
        "WHERE r.id BETWEEN ?2 AND ?3 AND r.event_id = ?1 ORDER BY r.handler"
    ),
    count_open: "SELECT (SELECT count(*) FROM {p}handler_requests INDEXED BY {p}handler_requests_ready WHERE queue = 0) \
           + (SELECT count(*) FROM {p}handler_requests INDEXED BY {p}handler_requests_backing_off WHERE queue = 1) \
           + (SELECT count(*) FROM {p}handler_requests INDEXED BY {p}handler_requests_suspect WHERE queue = 2) \
           + (SELECT count(*) FROM {p}handler_requests INDEXED BY {p}handler_requests_leased WHERE lease_until IS NOT NULL)",
    oldest_open: "SELECT min(id) FROM ( \
           SELECT min(id) AS id FROM {p}handler_requests INDEXED BY {p}handler_requests_ready WHERE queue = 0 \
           UNION ALL SELECT min(id) FROM {p}handler_requests INDEXED BY {p}handler_requests_backing_off WHERE queue = 1 \
           UNION ALL SELECT min(id) FROM {p}handler_requests INDEXED BY {p}handler_requests_suspect WHERE queue = 2 \
           UNION ALL SELECT min(id) FROM {p}handler_requests INDEXED BY {p}handler_requests_leased WHERE lease_until IS NOT NULL)",
    count_dead: "SELECT count(*) FROM {p}handler_requests INDEXED BY {p}handler_requests_dead WHERE queue = 3",
    count_requests: concat!(
        "SELECT count(*) ",
        from_requests!(),
        "WHERE ",
        request_states!(),
        "AND ",
        request_filter!()
    ),
    list_requests: concat!(
        request!(),
        from_requests!(),
        "WHERE ",
        request_states!(),
        "AND ",
        request_filter!(),
        "AND (?9 IS NULL OR r.id > ?9) ORDER BY r.id LIMIT ?10 OFFSET ?11"
    ),
    list_dead: concat!(
        request!(),
        from_requests!("INDEXED BY {p}handler_requests_dead"),
        "WHERE r.queue = 3 AND ?1 IS NOT NULL AND ",
        request_filter!(),
        "AND (?9 IS NULL OR r.id > ?9) ORDER BY r.id LIMIT ?10 OFFSET ?11"
    ),
    dead_event_names: "SELECT DISTINCT e.name FROM {p}handler_requests r INDEXED BY {p}handler_requests_dead \
         CROSS JOIN {p}events e INDEXED BY {p}events_id ON e.id = r.event_id WHERE r.queue = 3 ORDER BY e.name",
    dead_handler_names: "SELECT DISTINCT handler FROM {p}handler_requests INDEXED BY {p}handler_requests_dead_of \
         WHERE queue = 3 ORDER BY handler",
    next_due_request: concat!("SELECT ", now!(), ", ", next_due!()),
    suspect_due: concat!("SELECT ", suspect_due!()),
    next_expiry: concat!("SELECT ", now!(), ", ", next_expiry!()),
    put_off_rescue: "UPDATE {p}handler_requests SET lease_until = ?1 WHERE id = ?2",
    put_off_claim: "UPDATE {p}handler_requests SET backoff_until = ?1, \
         queue = CASE queue WHEN 2 THEN 2 ELSE 1 END WHERE id = ?2",
    look: concat!(
        "SELECT ",
        now!(),
        ", EXISTS (SELECT 1 FROM {p}unprocessed_events) \
             OR EXISTS (SELECT 1 FROM {p}waiting_events INDEXED BY {p}waiting_events_due WHERE due_at <= ",
        now!(),
        "), (SELECT min(due_at) FROM {p}waiting_events WHERE owner IS NULL), \
         EXISTS (SELECT 1 FROM json_each(?1) asked WHERE EXISTS ( \
             SELECT 1 FROM {p}handler_requests r INDEXED BY {p}handler_requests_ready \
             WHERE r.handler = asked.value AND r.queue = 0) \
           OR EXISTS ( \
             SELECT 1 FROM {p}handler_requests r INDEXED BY {p}handler_requests_backing_off \
             WHERE r.handler = asked.value AND r.queue = 1 AND r.backoff_until <= ",
        now!(),
        ")), ",
        suspect_due!(),
        ", ",
        next_due!(),
        ", CASE WHEN ?2 THEN ",
        next_expiry!(),
        " END"
    ),
    best_due: concat!(
        "SELECT min(priority) FROM ( \
           SELECT (SELECT r.priority FROM {p}handler_requests r INDEXED BY {p}handler_requests_ready \
             WHERE r.handler = asked.value AND r.queue = 0 ORDER BY r.priority LIMIT 1) AS priority \
           FROM json_each(?1) asked \
           UNION ALL \
           SELECT (SELECT min(r.priority) FROM {p}handler_requests r INDEXED BY {p}handler_requests_backing_off \
             WHERE r.handler = asked.value AND r.queue = 1 AND r.backoff_until <= ",
        now!(),
        ") FROM json_each(?1) asked)"
    ),
    open_and_dead_of: "SELECT * FROM (SELECT id, event_id FROM {p}handler_requests INDEXED BY {p}handler_requests_ready \
           WHERE handler = ?1 AND queue = 0 LIMIT ?2) \
         UNION ALL SELECT * FROM (SELECT id, event_id FROM {p}handler_requests INDEXED BY {p}handler_requests_backing_off \
           WHERE handler = ?3 AND queue = 1 LIMIT ?4) \
         UNION ALL SELECT * FROM (SELECT id, event_id FROM {p}handler_requests INDEXED BY {p}handler_requests_suspect \
           WHERE handler = ?5 AND queue = 2 LIMIT ?6) \
         UNION ALL SELECT * FROM (SELECT id, event_id FROM {p}handler_requests INDEXED BY {p}handler_requests_leased \
           WHERE handler = ?7 AND lease_until IS NOT NULL LIMIT ?8) \
         UNION ALL SELECT * FROM (SELECT id, event_id FROM {p}handler_requests INDEXED BY {p}handler_requests_dead_of \
           WHERE handler = ?9 AND queue = 3 LIMIT ?10)",
    count_open_of: "SELECT (SELECT count(*) FROM {p}handler_requests INDEXED BY {p}handler_requests_ready WHERE handler = ?1 AND queue = 0) \
           + (SELECT count(*) FROM {p}handler_requests INDEXED BY {p}handler_requests_backing_off WHERE handler = ?1 AND queue = 1) \
           + (SELECT count(*) FROM {p}handler_requests INDEXED BY {p}handler_requests_suspect WHERE handler = ?1 AND queue = 2) \
           + (SELECT count(*) FROM {p}handler_requests INDEXED BY {p}handler_requests_leased WHERE handler = ?1 AND lease_until IS NOT NULL)",

    all_registrations: "SELECT handler, pattern, priority, max_errors, state, renamed_to, last_seen_at \
         FROM {p}registrations ORDER BY handler, pattern",
    put_registration: "INSERT INTO {p}registrations \
           (handler, pattern, priority, max_errors, hash, prefix, specificity, state, renamed_to, last_seen_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
         ON CONFLICT (handler, pattern) DO UPDATE SET \
           priority = excluded.priority, max_errors = excluded.max_errors, hash = excluded.hash, \
           prefix = excluded.prefix, specificity = excluded.specificity, state = excluded.state, \
           renamed_to = excluded.renamed_to, last_seen_at = excluded.last_seen_at",
    delete_registration: "DELETE FROM {p}registrations WHERE handler = ?1 AND pattern = ?2",
    touch_handlers: concat!(
        "UPDATE {p}registrations SET last_seen_at = ",
        now!(),
        " WHERE handler IN (SELECT value FROM json_each(?1))"
    ),
};

statements! {
    /// What only SQLite says so. Rows are JSON arrays; the UUIDs that belong to them are arguments
    /// of their own.
    Texts => Statements {
        /// (limit): requests whose lease ran out, the longest ago first, locked.
        lock_expired,
        /// Marks a transaction, so that one that was ended unseen is noticed.
        mark,
        /// Fails if the transaction that was marked is gone.
        unmark,
        /// The version of the library.
        version,
        /// The path of the file; empty if there is none.
        file,
        /// The mode of the journal.
        journal_mode,
        /// (ids, rows of name, entity_name, entity_id, data, timestamp, has_causation, headers,
        /// version, correlation_ids, causation_ids): an error if one of them is there.
        raise_new,
        /// As raise_new: the ids of the new ones.
        raise,
        /// (limit): due events that waited.
        late_events,
        /// (limit): due events that are new, each with the time.
        fresh_events,
        /// (ids): waiting events.
        lock_waiting,
        /// (id): takes the new events up to this one off the queue.
        delete_fresh,
        /// (ids)
        delete_unprocessed,
        /// (ids)
        delete_waiting,
        /// (ids, rows of attempt, errors, last_error, due_at, is_claimed, owners)
        put_waiting,
        /// (ids, now)
        put_unwanted,
        /// (rows, ids, lowest ids, highest ids): event id and time.
        first_requests,
        /// (ids, which of the terms each has, event_ids, terms of handler, priority, max_errors, attempt,
        /// queue, created_at, lease_until, owner of the leased): new requests.
        insert_new,
        /// (columns of requests)
        write_requests,
        /// (ids, places, attempt, owner, executed): completes those whose fence holds.
        complete,
        /// (ids, places, attempt, owner, executed, microseconds): snoozes those whose fence holds.
        snooze,
        /// Undoes what was done since the savepoint with which settlements and claims begin.
        unsettle,
        /// (ids, new name, old name): renames those that are open or dead.
        rename_requests,
        /// (ids): requests in this order.
        find_requests,
        /// (handlers): which of them have requests that are due, by their places.
        handlers_due,
        /// (handler, limit): priority and id of the best that are due.
        best_of,
        /// (handler, limit): the best that are due and as many whose backoff has passed, with their
        /// events.
        due_of,
        /// (ids, places): requests that are due, with the ids of their events.
        due_by_id,
        /// (ids, places, owner, microseconds): claims those that are due.
        claim,
        /// (handlers, limit): the best suspects that are due, at most two of each handler.
        lock_due_suspects,
        /// (ids): events.
        events,
        /// (ids): the ids of those that are there.
        lock_events,
        /// (rows, ids, lowest ids, highest ids): requests.
        requests_of_events,
        /// (ids)
        delete_events,
        /// (ids)
        delete_requests,
        /// (ids)
        forget_unwanted,
    }
}

pub(super) const TEXTS: Texts = Texts {
    lock_expired: concat!(
        request!(),
        from_requests!("INDEXED BY {p}handler_requests_leased"),
        "WHERE r.lease_until <= ",
        now!(),
        " ORDER BY r.lease_until, r.id LIMIT ?1"
    ),
    mark: "SAVEPOINT tidings",
    unmark: "RELEASE SAVEPOINT tidings",
    version: "SELECT sqlite_version()",
    file: "SELECT file FROM pragma_database_list WHERE name = 'main'",
    journal_mode: "SELECT journal_mode FROM pragma_journal_mode",
    // One statement, with the trigger that puts the events on the queue: it takes effect as a whole
    // in a connection of the application that is in no transaction, too.
    raise_new: raise!(""),
    // `WHERE true` tells the parser that ON belongs to the conflict and not to a join.
    raise: raise!("WHERE true ON CONFLICT (id) DO NOTHING RETURNING id"),
    late_events: concat!(
        "WITH due AS MATERIALIZED ( \
           SELECT event_id, attempt, errors, last_error, owner IS NOT NULL AS is_claimed \
           FROM {p}waiting_events INDEXED BY {p}waiting_events_due \
           WHERE due_at <= ",
        now!(),
        " ORDER BY due_at, event_id LIMIT ?1) ",
        due_event!()
    ),
    fresh_events: concat!(
        "SELECT d.event_id, e.name, e.entity_name, e.entity_id, e.data, e.timestamp, e.correlation_id, \
           e.causation_id, e.headers, e.version, ",
        now!(),
        " FROM (SELECT event_id FROM {p}unprocessed_events ORDER BY event_id LIMIT ?1) d \
         LEFT JOIN {p}events e INDEXED BY {p}events_id ON e.id = d.event_id"
    ),
    lock_waiting: concat!(
        "WITH due AS ( \
           SELECT event_id, attempt, errors, last_error, owner IS NOT NULL AS is_claimed FROM {p}waiting_events \
           WHERE event_id IN ",
        uuids!("?1"),
        ") ",
        due_event!()
    ),
    delete_fresh: "DELETE FROM {p}unprocessed_events WHERE event_id <= ?1",
    delete_unprocessed: concat!(
        "DELETE FROM {p}unprocessed_events WHERE event_id IN ",
        uuids!("?1")
    ),
    delete_waiting: concat!(
        "DELETE FROM {p}waiting_events WHERE event_id IN ",
        uuids!("?1")
    ),
    put_waiting: concat!(
        "INSERT INTO {p}waiting_events (event_id, attempt, errors, last_error, owner, due_at) SELECT ",
        uuid!("?1"),
        ", g.value ->> 0, g.value ->> 1, g.value ->> 2, CASE WHEN g.value ->> 4 THEN ",
        uuid!("?3"),
        " END, g.value ->> 3 FROM json_each(?2) g WHERE true \
         ON CONFLICT (event_id) DO UPDATE SET attempt = excluded.attempt, errors = excluded.errors, \
           last_error = excluded.last_error, owner = excluded.owner, due_at = excluded.due_at"
    ),
    put_unwanted: concat!(
        "INSERT INTO {p}unwanted_events (event_id, processed_at) SELECT *, ?2 FROM ",
        uuids!("?1"),
        "WHERE true ON CONFLICT (event_id) DO NOTHING"
    ),
    first_requests: concat!(
        "SELECT id, created_at FROM (SELECT ",
        uuid!("?2"),
        " AS id, (SELECT min(r.created_at) FROM {p}handler_requests r \
           WHERE r.id BETWEEN ",
        uuid!("?3"),
        " AND ",
        uuid!("?4"),
        " AND r.event_id = ",
        uuid!("?2"),
        ") AS created_at FROM json_each(?1) g) WHERE created_at IS NOT NULL"
    ),
    insert_new: concat!(
        "WITH terms AS MATERIALIZED (SELECT key, value ->> 0 AS handler, value ->> 1 AS priority, \
           value ->> 2 AS max_errors, value ->> 3 AS attempt, value ->> 4 AS queue, value ->> 5 AS created_at, \
           value ->> 6 AS lease_until FROM json_each(?4)) \
         INSERT INTO {p}handler_requests \
           (id, event_id, handler, priority, max_errors, attempt, queue, created_at, owner, lease_until) \
         SELECT ",
        uuid!("?1"),
        ", ",
        uuid!("?3"),
        ", t.handler, t.priority, t.max_errors, t.attempt, t.queue, t.created_at, \
           CASE WHEN t.lease_until IS NOT NULL THEN ?5 END, t.lease_until \
         FROM json_each(?2) g CROSS JOIN terms t ON t.key = g.value WHERE true ON CONFLICT (id) DO NOTHING"
    ),
    complete: settle!(concat!("completed_at = ", now!())),
    snooze: settle!(concat!(
        "backoff_until = ",
        now!(),
        " + ?6, queue = CASE WHEN rescues < 3 THEN 1 ELSE 2 END"
    )),
    unsettle: "ROLLBACK TO SAVEPOINT tidings_settles",
    // An UPDATE would leave it to the planner whether to look for each row or to read all.
    write_requests: concat!(
        put_requests!(),
        "DO UPDATE SET handler = excluded.handler, errors = excluded.errors, attempt = excluded.attempt, \
           executions = excluded.executions, rescues = excluded.rescues, queue = excluded.queue, \
           backoff_until = excluded.backoff_until, last_execution_at = excluded.last_execution_at, \
           completed_at = excluded.completed_at, canceled_at = excluded.canceled_at, dead_at = excluded.dead_at, \
           lease_until = excluded.lease_until, last_errors = excluded.last_errors, owner = excluded.owner"
    ),
    rename_requests: concat!(
        "UPDATE {p}handler_requests SET handler = ?2 WHERE id IN ",
        uuids!("?1"),
        "AND handler = ?3 AND completed_at IS NULL AND canceled_at IS NULL"
    ),
    find_requests: concat!(
        request!(),
        from_requests!(),
        "WHERE r.id IN ",
        uuids!("?1"),
        "ORDER BY r.id"
    ),
    handlers_due: concat!(
        "SELECT asked.key FROM json_each(?1) asked WHERE EXISTS ( \
           SELECT 1 FROM {p}handler_requests r INDEXED BY {p}handler_requests_ready \
           WHERE r.handler = asked.value AND r.queue = 0) \
         OR EXISTS ( \
           SELECT 1 FROM {p}handler_requests r INDEXED BY {p}handler_requests_backing_off \
           WHERE r.handler = asked.value AND r.queue = 1 AND r.backoff_until <= ",
        now!(),
        ")"
    ),
    best_of: concat!(
        "SELECT priority, id FROM ( \
           SELECT r.priority, r.id FROM {p}handler_requests r INDEXED BY {p}handler_requests_ready \
           WHERE r.handler = ?1 AND r.queue = 0 ORDER BY r.priority, r.id LIMIT ?2) \
         UNION ALL SELECT priority, id FROM ( \
           SELECT r.priority, r.id FROM {p}handler_requests r INDEXED BY {p}handler_requests_backing_off \
           WHERE r.handler = ?1 AND r.queue = 1 AND r.backoff_until <= ",
        now!(),
        " ORDER BY r.backoff_until, r.id LIMIT ?2)"
    ),
    due_of: concat!(
        "SELECT * FROM (",
        claimed!(),
        event!(),
        " FROM {p}handler_requests r INDEXED BY {p}handler_requests_ready \
           LEFT JOIN {p}events e INDEXED BY {p}events_id ON e.id = r.event_id \
         WHERE r.handler = ?1 AND r.queue = 0 ORDER BY r.priority, r.id LIMIT ?2) \
         UNION ALL SELECT * FROM (",
        claimed!(),
        event!(),
        " FROM {p}handler_requests r INDEXED BY {p}handler_requests_backing_off \
           LEFT JOIN {p}events e INDEXED BY {p}events_id ON e.id = r.event_id \
         WHERE r.handler = ?1 AND r.queue = 1 AND r.backoff_until <= ",
        now!(),
        " ORDER BY r.backoff_until, r.id LIMIT ?2)"
    ),
    due_by_id: concat!(
        claimed!(),
        "r.event_id, r.handler FROM {p}handler_requests r WHERE r.id IN ",
        placed_uuids!()
    ),
    claim: concat!(
        "UPDATE {p}handler_requests SET attempt = attempt + 1, queue = NULL, backoff_until = NULL, owner = ?3, \
           lease_until = ",
        now!(),
        " + ?4 WHERE id IN ",
        placed_uuids!(),
        "AND queue IN (0, 1) AND owner IS NULL \
         AND completed_at IS NULL AND canceled_at IS NULL AND dead_at IS NULL"
    ),
    lock_due_suspects: concat!(
        request!(),
        from_requests!(),
        "WHERE r.id IN ( \
           SELECT (SELECT s.id FROM {p}handler_requests s INDEXED BY {p}handler_requests_suspect \
             WHERE s.handler = asked.value AND s.queue = 2 AND s.backoff_until IS NULL \
             ORDER BY s.backoff_until, s.priority, s.id LIMIT 1) FROM json_each(?1) asked \
           UNION ALL \
           SELECT (SELECT s.id FROM {p}handler_requests s INDEXED BY {p}handler_requests_suspect \
             WHERE s.handler = asked.value AND s.queue = 2 AND s.backoff_until <= ",
        now!(),
        " ORDER BY s.backoff_until, s.priority, s.id LIMIT 1) FROM json_each(?1) asked) \
         ORDER BY r.priority, r.id LIMIT ?2"
    ),
    events: concat!(
        "SELECT ",
        event!(),
        " FROM {p}events e INDEXED BY {p}events_id WHERE e.id IN ",
        uuids!("?1")
    ),
    lock_events: concat!(
        "SELECT id FROM {p}events INDEXED BY {p}events_id WHERE id IN ",
        uuids!("?1"),
        "ORDER BY id"
    ),
    requests_of_events: concat!(
        request!(),
        "FROM json_each(?1) g CROSS JOIN {p}handler_requests r ON r.id BETWEEN ",
        uuid!("?3"),
        " AND ",
        uuid!("?4"),
        " AND r.event_id = ",
        uuid!("?2"),
        " LEFT JOIN {p}events e INDEXED BY {p}events_id ON e.id = r.event_id"
    ),
    delete_events: concat!(
        "DELETE FROM {p}events INDEXED BY {p}events_id WHERE id IN ",
        uuids!("?1")
    ),
    delete_requests: concat!("DELETE FROM {p}handler_requests WHERE id IN ", uuids!("?1")),
    forget_unwanted: concat!(
        "DELETE FROM {p}unwanted_events WHERE event_id IN ",
        uuids!("?1")
    ),
};
