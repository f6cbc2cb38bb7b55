//! The statements of MySQL and MariaDB, each for both. Each says what it locks; the others lock
//! nothing. They run READ COMMITTED, under which InnoDB locks no gaps and lets go of rows that it
//! read and that do not match.
//!
//! Both lock every table of a statement that is `FOR UPDATE`, but none of a subquery; so a locked
//! request's event is named by a subquery. Hints say which index and which order of tables, since
//! a scan would not only be slow: it would lock what it reads. Parameters that are needed more than
//! once are columns of a table of one row, `a`.

use crate::sql::{common::CommonTexts, statement::statements};

/// The time of the statement, whatever the session's time zone is.
macro_rules! now {
    () => {
        "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"
    };
}

/// What no other server has, nor this one after a restart. `UUID_SHORT()` counts from a number that
/// is made of the server's id and the second in which it started; after every 16 million of its
/// values it looks like another start, by which nothing is ended that should not be.
macro_rules! server_life {
    () => {
        "MD5(CONCAT_WS(',', UUID_SHORT() DIV 16777216, @@hostname, @@port /*!80000 , @@server_uuid */))"
    };
}
pub(super) use server_life;

/// A JSON text with an array of ids, as a table `j`.
macro_rules! ids {
    () => {
        "JSON_TABLE(?, '$[*]' COLUMNS (id CHAR(32) PATH '$')) j "
    };
}

/// A JSON text with an array of names, as a table `j`.
macro_rules! names {
    () => {
        "JSON_TABLE(?, '$[*]' COLUMNS (name VARCHAR(255) PATH '$')) j"
    };
}

/// The columns of an event, in the order in which they are read; `e` is its table.
macro_rules! event {
    () => {
        "e.id, e.name, e.entity_name, e.entity_id, e.data, e.timestamp, e.correlation_id, \
         e.causation_id, e.headers, e.version"
    };
}

/// A stored event, with where it waits.
macro_rules! stored_event {
    () => {
        concat!(
            "SELECT ",
            event!(),
            ", u.event_id IS NOT NULL OR w.event_id IS NOT NULL, COALESCE(w.errors, 0), w.last_error, \
               CASE WHEN w.owner IS NULL THEN w.due_at END, n.processed_at "
        )
    };
}

macro_rules! join_queues {
    () => {
        "LEFT JOIN {p}unprocessed_events u ON u.event_id = e.id \
         LEFT JOIN {p}waiting_events w ON w.event_id = e.id \
         LEFT JOIN {p}unwanted_events n ON n.event_id = e.id "
    };
}

/// The arguments of an event filter, then the events themselves.
macro_rules! filtered_events {
    () => {
        concat!(
            "FROM (SELECT CAST(? AS CHAR CHARACTER SET utf8mb4) AS names, \
               CAST(? AS BINARY) AS entity_name, CAST(? AS BINARY) AS entity_id, \
               CAST(? AS SIGNED) AS since, CAST(? AS SIGNED) AS before_at, \
               CAST(? AS SIGNED) AS processed, CAST(? AS SIGNED) AS has_requests) a \
             STRAIGHT_JOIN {p}events e ",
            join_queues!(),
            "WHERE (a.names = '[]' OR JSON_CONTAINS(a.names, JSON_QUOTE(CONVERT(e.name USING utf8mb4)))) \
               AND (a.entity_name IS NULL OR (e.entity_name = a.entity_name AND e.entity_id = a.entity_id)) \
               AND (a.since IS NULL OR e.timestamp >= a.since) \
               AND (a.before_at IS NULL OR e.timestamp < a.before_at) \
               AND (a.processed IS NULL OR (u.event_id IS NULL AND w.event_id IS NULL) = a.processed) \
               AND (a.has_requests IS NULL \
                 OR (u.event_id IS NULL AND w.event_id IS NULL AND n.event_id IS NULL) = a.has_requests) "
        )
    };
}

/// A request as it is read; `r` is its table, the argument names its event.
macro_rules! request {
    ($event_name:literal) => {
        concat!(
            "SELECT r.id, r.event_id, ",
            $event_name,
            ", r.handler, r.priority, r.max_errors, r.errors, r.attempt, r.executions, r.rescues, \
               r.created_at, r.backoff_until, r.last_execution_at, r.last_errors, r.completed_at, \
               r.canceled_at, r.dead_at, r.owner, r.lease_until, ",
            now!(),
            " "
        )
    };
}

/// A request that is read without a lock.
macro_rules! joined_request {
    () => {
        concat!(
            request!("e.name"),
            "FROM {p}handler_requests r LEFT JOIN {p}events e ON e.id = r.event_id "
        )
    };
}

/// A request that is read with a lock.
macro_rules! named_request {
    () => {
        request!("(SELECT e.name FROM {p}events e WHERE e.id = r.event_id)")
    };
}

/// The arguments of a request filter, then the requests themselves.
macro_rules! filtered_requests {
    () => {
        "FROM (SELECT CAST(? AS SIGNED) AS states, \
           CAST(? AS CHAR CHARACTER SET utf8mb4) AS event_names, \
           CAST(? AS CHAR CHARACTER SET utf8mb4) AS handlers, \
           CAST(? AS BINARY) AS entity_name, CAST(? AS BINARY) AS entity_id, \
           CAST(? AS SIGNED) AS since, CAST(? AS SIGNED) AS before_at, CAST(? AS BINARY) AS error) a \
         STRAIGHT_JOIN {p}handler_requests r LEFT JOIN {p}events e ON e.id = r.event_id "
    };
}

/// The condition of a request filter, but for the states.
macro_rules! request_filter {
    () => {
        "(a.event_names = '[]' OR JSON_CONTAINS(a.event_names, JSON_QUOTE(CONVERT(e.name USING utf8mb4)))) \
           AND (a.handlers = '[]' OR JSON_CONTAINS(a.handlers, JSON_QUOTE(CONVERT(r.handler USING utf8mb4)))) \
           AND (a.entity_name IS NULL OR (e.entity_name = a.entity_name AND e.entity_id = a.entity_id)) \
           AND (a.since IS NULL OR r.created_at >= a.since) \
           AND (a.before_at IS NULL OR r.created_at < a.before_at) \
           AND (a.error IS NULL OR LOCATE(a.error, CAST(JSON_UNQUOTE(JSON_EXTRACT(r.last_errors, \
             CONCAT('$[', JSON_LENGTH(r.last_errors) - 1, '].message'))) AS BINARY)) > 0) "
    };
}

/// The condition of a request filter on the states, as bits.
macro_rules! request_states {
    () => {
        concat!(
            "(a.states = 0 OR (a.states >> CASE \
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

/// A page of what is ordered by `r.id`.
macro_rules! page {
    ($id:literal) => {
        concat!(
            "AND ",
            $id,
            " > COALESCE(?, '') ORDER BY ",
            $id,
            " LIMIT ? OFFSET ?"
        )
    };
}

/// The backoff of a queue of the handler `j.name` that ends first, or NULL where one does not back
/// off. A condition on the time would be no range here, since the name comes from a row: it would be
/// asked of each entry.
macro_rules! first_backoff {
    ($queue:literal) => {
        concat!(
            "(SELECT r.backoff_until FROM {p}handler_requests r FORCE INDEX (queued) \
               WHERE r.queue = ",
            $queue,
            " AND r.handler = j.name ORDER BY r.backoff_until LIMIT 1)"
        )
    };
}

/// When the next request of the handler `j.name` that backs off is due; the greatest number if none
/// does, or if a suspect is due already, which those behind it wait for.
macro_rules! next_due {
    () => {
        concat!(
            "LEAST(COALESCE((SELECT r.backoff_until FROM {p}handler_requests r FORCE INDEX (queued) \
               WHERE r.queue = 1 AND r.handler = j.name AND r.backoff_until > ",
            now!(),
            " ORDER BY r.backoff_until LIMIT 1), 9223372036854775807), \
             COALESCE(NULLIF(GREATEST(",
            first_backoff!("2"),
            ", ",
            now!(),
            "), ",
            now!(),
            "), 9223372036854775807))"
        )
    };
}

/// Whether a request of the handler `j.name` is due that is under suspicion.
macro_rules! suspect_due {
    () => {
        concat!(
            "(EXISTS (SELECT 1 FROM {p}handler_requests r FORCE INDEX (queued) \
               WHERE r.queue = 2 AND r.handler = j.name AND r.backoff_until IS NULL) \
             OR COALESCE(",
            first_backoff!("2"),
            " <= ",
            now!(),
            ", 0))"
        )
    };
}

/// When the earliest lease runs out.
macro_rules! next_expiry {
    () => {
        "(SELECT lease_until FROM {p}handler_requests FORCE INDEX (leased) \
          WHERE lease_until IS NOT NULL ORDER BY lease_until LIMIT 1)"
    };
}

pub(super) const COMMON: CommonTexts = CommonTexts {
    now: concat!("SELECT ", now!()),
    echo: "SELECT CAST(? AS CHAR)",
    has_migrations: "SELECT COUNT(*) FROM information_schema.tables \
         WHERE table_schema = DATABASE() AND table_name = '{p}migrations'",
    applied_migrations: "SELECT version, compatible_from FROM {p}migrations",
    // Locks the row, shared, until the transaction ends.
    share_names: "SELECT name FROM {p}locks WHERE name = 'names' LOCK IN SHARE MODE",
    // Locks the row, alone, until the transaction ends.
    lock_names: "SELECT name FROM {p}locks WHERE name = 'names' FOR UPDATE",

    find_event: concat!(
        stored_event!(),
        "FROM {p}events e ",
        join_queues!(),
        "WHERE e.id = ?"
    ),
    // Locks the event.
    lock_event: "SELECT id FROM {p}events WHERE id = ? FOR UPDATE",
    lock_event_skip: "SELECT id FROM {p}events WHERE id = ? FOR UPDATE SKIP LOCKED",
    // Locks the event's place on the queue.
    lock_unprocessed: "SELECT event_id FROM {p}unprocessed_events WHERE event_id = ? FOR UPDATE",
    lock_unprocessed_skip: "SELECT event_id FROM {p}unprocessed_events WHERE event_id = ? FOR UPDATE SKIP LOCKED",
    lock_waiting_event: "SELECT event_id FROM {p}waiting_events WHERE event_id = ? FOR UPDATE",
    lock_waiting_event_skip: "SELECT event_id FROM {p}waiting_events WHERE event_id = ? FOR UPDATE SKIP LOCKED",
    count_unprocessed: "SELECT (SELECT COUNT(*) FROM {p}unprocessed_events) + (SELECT COUNT(*) FROM {p}waiting_events)",
    oldest_unprocessed: "(SELECT event_id FROM {p}unprocessed_events ORDER BY event_id LIMIT 1) \
         UNION ALL (SELECT event_id FROM {p}waiting_events ORDER BY event_id LIMIT 1) \
         ORDER BY event_id LIMIT 1",
    count_events: concat!("SELECT COUNT(*) ", filtered_events!()),
    list_events: concat!(stored_event!(), filtered_events!(), page!("e.id")),
    list_event_ids: concat!("SELECT e.id, e.name ", filtered_events!(), page!("e.id")),
    processed_events: concat!(
        "SELECT e.id, n.processed_at FROM {p}events e FORCE INDEX (PRIMARY) ",
        join_queues!(),
        "WHERE u.event_id IS NULL AND w.event_id IS NULL AND e.id > COALESCE(?, '') ORDER BY e.id LIMIT ?"
    ),
    next_due_event: concat!(
        "SELECT ",
        now!(),
        ", EXISTS (SELECT 1 FROM {p}unprocessed_events) \
           OR EXISTS (SELECT 1 FROM {p}waiting_events FORCE INDEX (due) WHERE due_at <= ",
        now!(),
        "), (SELECT due_at FROM {p}waiting_events FORCE INDEX (due) WHERE owner IS NULL ORDER BY due_at LIMIT 1)"
    ),

    find_request: concat!(joined_request!(), "WHERE r.id = ?"),
    // Locks the request.
    lock_request: concat!(
        named_request!(),
        "FROM {p}handler_requests r WHERE r.id = ? FOR UPDATE"
    ),
    lock_request_skip: concat!(
        named_request!(),
        "FROM {p}handler_requests r WHERE r.id = ? FOR UPDATE SKIP LOCKED"
    ),
    requests_of_event: concat!(
        request!("e.name"),
        "FROM (SELECT CAST(? AS BINARY) AS event_id) a \
         STRAIGHT_JOIN {p}handler_requests r FORCE INDEX (PRIMARY) \
         LEFT JOIN {p}events e ON e.id = r.event_id \
         WHERE r.id BETWEEN ? AND ? AND r.event_id = a.event_id ORDER BY r.handler"
    ),
    count_open: "SELECT (SELECT COUNT(*) FROM {p}handler_requests WHERE queue = 0) \
           + (SELECT COUNT(*) FROM {p}handler_requests WHERE queue = 1) \
           + (SELECT COUNT(*) FROM {p}handler_requests WHERE queue = 2) \
           + (SELECT COUNT(*) FROM {p}handler_requests WHERE lease_until IS NOT NULL)",
    oldest_open: "SELECT MIN(o.id) FROM ( \
           SELECT id FROM {p}handler_requests FORCE INDEX (queued) WHERE queue = 0 \
           UNION ALL SELECT id FROM {p}handler_requests FORCE INDEX (queued) WHERE queue = 1 \
           UNION ALL SELECT id FROM {p}handler_requests FORCE INDEX (queued) WHERE queue = 2 \
           UNION ALL SELECT id FROM {p}handler_requests FORCE INDEX (leased) WHERE lease_until IS NOT NULL) o",
    count_dead: "SELECT COUNT(*) FROM {p}handler_requests WHERE queue = 3",
    count_requests: concat!(
        "SELECT COUNT(*) ",
        filtered_requests!(),
        "WHERE ",
        request_states!(),
        "AND ",
        request_filter!()
    ),
    list_requests: concat!(
        request!("e.name"),
        filtered_requests!(),
        "WHERE ",
        request_states!(),
        "AND ",
        request_filter!(),
        page!("r.id")
    ),
    list_dead: concat!(
        request!("e.name"),
        filtered_requests!(),
        "WHERE r.queue = 3 AND ",
        request_filter!(),
        page!("r.id")
    ),
    dead_event_names: "SELECT DISTINCT e.name FROM {p}handler_requests r FORCE INDEX (queued) \
         STRAIGHT_JOIN {p}events e ON e.id = r.event_id WHERE r.queue = 3 ORDER BY e.name",
    dead_handler_names: "SELECT DISTINCT handler FROM {p}handler_requests FORCE INDEX (queued) WHERE queue = 3 ORDER BY handler",
    next_due_request: concat!(
        "WITH d AS (SELECT ",
        next_due!(),
        " AS next_due FROM ",
        names!(),
        ") SELECT ",
        now!(),
        ", NULLIF(MIN(d.next_due), 9223372036854775807) FROM d"
    ),
    suspect_due: concat!(
        "WITH d AS (SELECT ",
        suspect_due!(),
        " AS suspect_due FROM ",
        names!(),
        ") SELECT COALESCE(MAX(d.suspect_due), 0) FROM d"
    ),
    next_expiry: concat!("SELECT ", now!(), ", ", next_expiry!()),
    put_off_rescue: "UPDATE {p}handler_requests SET lease_until = ? WHERE id = ?",
    put_off_claim: "UPDATE {p}handler_requests SET backoff_until = ?, \
         queue = CASE queue WHEN 2 THEN 2 ELSE 1 END WHERE id = ?",
    look: concat!(
        "WITH d AS (SELECT EXISTS (SELECT 1 FROM {p}handler_requests r FORCE INDEX (queued) \
             WHERE r.queue = 0 AND r.handler = j.name) \
           OR COALESCE(",
        first_backoff!("1"),
        " <= ",
        now!(),
        ", 0) AS is_due, ",
        suspect_due!(),
        " AS suspect_due, ",
        next_due!(),
        " AS next_due FROM ",
        names!(),
        ") SELECT ",
        now!(),
        ", EXISTS (SELECT 1 FROM {p}unprocessed_events) \
           OR EXISTS (SELECT 1 FROM {p}waiting_events FORCE INDEX (due) WHERE due_at <= ",
        now!(),
        "), (SELECT due_at FROM {p}waiting_events FORCE INDEX (due) WHERE owner IS NULL AND due_at > ",
        now!(),
        " ORDER BY due_at LIMIT 1), COALESCE(MAX(d.is_due), 0), COALESCE(MAX(d.suspect_due), 0), \
           NULLIF(MIN(d.next_due), 9223372036854775807), CASE WHEN ? THEN ",
        next_expiry!(),
        " END FROM d"
    ),
    // 40,000 is worse than any priority. Of those whose backoff has passed, however many, only the one
    // is asked that has waited for the longest, at which claims look first: what is read for a name
    // that comes from a row cannot be limited to more than one.
    best_due: concat!(
        "SELECT NULLIF(MIN(LEAST(d.ready, d.late)), 40000) FROM (SELECT \
           COALESCE((SELECT r.priority FROM {p}handler_requests r FORCE INDEX (queued) \
             WHERE r.queue = 0 AND r.handler = j.name AND r.backoff_until IS NULL \
             ORDER BY r.priority LIMIT 1), 40000) AS ready, \
           IF(",
        first_backoff!("1"),
        " <= ",
        now!(),
        ", (SELECT r.priority FROM {p}handler_requests r FORCE INDEX (queued) \
             WHERE r.queue = 1 AND r.handler = j.name ORDER BY r.backoff_until, r.priority LIMIT 1), \
           40000) AS late FROM ",
        names!(),
        ") d"
    ),
    open_and_dead_of: "(SELECT id, event_id FROM {p}handler_requests FORCE INDEX (queued) \
           WHERE queue = 0 AND handler = ? LIMIT ?) \
         UNION ALL (SELECT id, event_id FROM {p}handler_requests FORCE INDEX (queued) \
           WHERE queue = 1 AND handler = ? LIMIT ?) \
         UNION ALL (SELECT id, event_id FROM {p}handler_requests FORCE INDEX (queued) \
           WHERE queue = 2 AND handler = ? LIMIT ?) \
         UNION ALL (SELECT id, event_id FROM {p}handler_requests FORCE INDEX (leased) \
           WHERE lease_until IS NOT NULL AND handler = ? LIMIT ?) \
         UNION ALL (SELECT id, event_id FROM {p}handler_requests FORCE INDEX (queued) \
           WHERE queue = 3 AND handler = ? LIMIT ?)",
    count_open_of: "WITH a AS (SELECT CAST(? AS BINARY) AS handler) \
         SELECT (SELECT COUNT(*) FROM a STRAIGHT_JOIN {p}handler_requests r FORCE INDEX (queued) \
             ON r.queue IN (0, 1, 2) AND r.handler = a.handler) \
           + (SELECT COUNT(*) FROM a STRAIGHT_JOIN {p}handler_requests r FORCE INDEX (leased) \
             ON r.lease_until IS NOT NULL AND r.handler = a.handler)",

    all_registrations: "SELECT handler, pattern, priority, max_errors, state, renamed_to, last_seen_at \
         FROM {p}registrations ORDER BY handler, pattern",
    // Locks the registration.
    put_registration: "INSERT INTO {p}registrations \
           (handler, pattern, priority, max_errors, hash, prefix, specificity, state, renamed_to, last_seen_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
         ON DUPLICATE KEY UPDATE \
           priority = VALUES(priority), max_errors = VALUES(max_errors), hash = VALUES(hash), \
           prefix = VALUES(prefix), specificity = VALUES(specificity), state = VALUES(state), \
           renamed_to = VALUES(renamed_to), last_seen_at = VALUES(last_seen_at)",
    // Locks the registration.
    delete_registration: "DELETE FROM {p}registrations WHERE handler = ? AND pattern = ?",
    // Locks the registrations of these handlers, in one order.
    touch_handlers: concat!(
        "UPDATE {p}registrations SET last_seen_at = ",
        now!(),
        " WHERE JSON_CONTAINS(?, JSON_QUOTE(CONVERT(handler USING utf8mb4))) ORDER BY handler, pattern"
    ),
};

statements! {
    /// What only MySQL and MariaDB say so.
    Texts => Statements {
        /// (limit): requests whose lease ran out, the longest ago first, locked.
        lock_expired,
        /// 1 if this session has kept other migrations out from now on.
        try_lock_migrations,
        unlock_migrations,
        /// The number of the connection, and the [life](server_life) of the server that has it.
        server_connection,
        /// (columns of one event)
        raise_one,
        /// (rows of events)
        raise_many,
        /// (ids): those that are stored.
        known_events,
        /// (ids): puts them on the queue.
        queue_events,
        /// (limit): due events that waited: id, attempt, errors, last error, is claimed, now; locked.
        due_waiting,
        /// (limit): due events that are new, as due_waiting; locked.
        due_fresh,
        /// (ids): waiting events, as due_waiting; locked.
        lock_waiting,
        /// (ids): deletes them from the queue of the new.
        unqueue_fresh,
        /// (ids): deletes them from those that wait.
        unqueue_waiting,
        /// (rows of waiting events)
        put_waiting,
        /// (now, ids)
        put_unwanted,
        /// (lowest id, highest id) as often as `SLOTS`: event id and time.
        first_requests,
        /// (owner, rows of id, event id and place of the terms, terms: place and handler, priority,
        /// max_errors, attempt, queue, created_at, lease_until)
        insert_new,
        /// (ids, attempt, owner): how many of them are held, locked in this order.
        lock_held,
        lock_held_skip,
        /// (ids, executed, executed)
        complete,
        /// (ids, microseconds, executed, executed)
        snooze,
        /// (ids, owner, lease until)
        claim,
        /// (rows of requests)
        write_requests,
        /// (ids, new name, old name): renames those that are open or dead.
        rename_requests,
        /// (ids): requests, locked in this order.
        lock_requests,
        lock_requests_skip,
        /// (ids): requests.
        find_requests,
        /// (handler, limit, handler, limit) as often as `SLOTS`: slot, is late, priority and id of
        /// the best that are ready, and of the best of those whose backoff has passed.
        best_of,
        /// As best_of, of one handler.
        best_of_one,
        /// As best_of: the requests themselves, locked.
        lock_due,
        /// As lock_due, of one handler.
        lock_due_one,
        /// As best_of, of the suspects.
        suspects_of,
        /// As suspects_of, of one handler.
        suspects_of_one,
        /// (handler, limit, handler, limit): the best suspects that do not back off, and of those whose
        /// backoff has passed, locked.
        lock_suspects,
        /// (ids): events.
        events,
        /// (ids): events, locked in this order.
        lock_events,
        lock_events_skip,
        /// (lowest id, highest id) as often as `SLOTS`: requests.
        requests_of_events,
        /// (ids)
        delete_events,
        /// (ids)
        delete_requests,
        /// (ids)
        forget_unwanted,
    }
}

/// How many handlers, or ranges of ids, one statement asks for; those that are left over get room
/// for nothing. Each costs some planning, also for nothing, so one handler has its own statements.
pub(super) const SLOTS: usize = 8;

/// As many parts as there are slots, with their numbers, joined by a text.
macro_rules! slots {
    ($part:ident, $join:literal) => {
        concat!(
            $part!("0"),
            $join,
            $part!("1"),
            $join,
            $part!("2"),
            $join,
            $part!("3"),
            $join,
            $part!("4"),
            $join,
            $part!("5"),
            $join,
            $part!("6"),
            $join,
            $part!("7")
        )
    };
}

macro_rules! ready {
    () => {
        "FROM {p}handler_requests r FORCE INDEX (queued) \
         WHERE r.queue = 0 AND r.handler = ? AND r.backoff_until IS NULL ORDER BY r.priority, r.id LIMIT ?"
    };
}

macro_rules! late {
    () => {
        concat!(
            "FROM {p}handler_requests r FORCE INDEX (queued) \
             WHERE r.queue = 1 AND r.handler = ? AND r.backoff_until <= ",
            now!(),
            " ORDER BY r.backoff_until, r.priority, r.id LIMIT ?"
        )
    };
}

macro_rules! suspect {
    () => {
        "FROM {p}handler_requests r FORCE INDEX (queued) \
         WHERE r.queue = 2 AND r.handler = ? AND r.backoff_until IS NULL \
         ORDER BY r.priority, r.id LIMIT ?"
    };
}

macro_rules! late_suspect {
    () => {
        concat!(
            "FROM {p}handler_requests r FORCE INDEX (queued) \
             WHERE r.queue = 2 AND r.handler = ? AND r.backoff_until <= ",
            now!(),
            " ORDER BY r.backoff_until, r.priority, r.id LIMIT ?"
        )
    };
}

macro_rules! best_of_slot {
    ($slot:literal) => {
        concat!(
            "(SELECT ",
            $slot,
            " AS slot, 0 AS is_late, r.priority, r.id ",
            ready!(),
            ") UNION ALL (SELECT ",
            $slot,
            ", 1, r.priority, r.id ",
            late!(),
            ")"
        )
    };
}

macro_rules! lock_due_slot {
    ($slot:literal) => {
        concat!(
            "(",
            request!("NULL"),
            ready!(),
            " FOR UPDATE SKIP LOCKED) UNION ALL (",
            request!("NULL"),
            late!(),
            " FOR UPDATE SKIP LOCKED)"
        )
    };
}

macro_rules! suspects_of_slot {
    ($slot:literal) => {
        concat!(
            "(SELECT ",
            $slot,
            " AS slot, 0 AS is_late, r.priority, r.id ",
            suspect!(),
            ") UNION ALL (SELECT ",
            $slot,
            ", 1, r.priority, r.id ",
            late_suspect!(),
            ")"
        )
    };
}

macro_rules! range_slot {
    ($slot:literal) => {
        "r.id BETWEEN ? AND ?"
    };
}

macro_rules! find_requests {
    () => {
        concat!(
            request!("NULL"),
            "FROM ",
            ids!(),
            "STRAIGHT_JOIN {p}handler_requests r FORCE INDEX (PRIMARY) ON r.id = UNHEX(j.id)"
        )
    };
}

/// How many of these requests are held, in (ids, attempt, owner).
macro_rules! lock_held {
    () => {
        concat!(
            "SELECT COUNT(r.id) FROM ",
            ids!(),
            "STRAIGHT_JOIN {p}handler_requests r FORCE INDEX (PRIMARY) ON r.id = UNHEX(j.id) \
             WHERE r.attempt = ? AND r.owner = ? AND r.lease_until IS NOT NULL \
               AND r.completed_at IS NULL AND r.canceled_at IS NULL AND r.dead_at IS NULL FOR UPDATE"
        )
    };
}

/// Settles requests that are held: (ids, what the outcome takes, executed, executed). From three
/// rescues on, it is the claim that has counted the execution.
macro_rules! settle {
    ($outcome:literal, $more:literal) => {
        concat!(
            "UPDATE ",
            ids!(),
            "STRAIGHT_JOIN {p}handler_requests r FORCE INDEX (PRIMARY) ON r.id = UNHEX(j.id) SET ",
            $outcome,
            now!(),
            $more,
            ", r.executions = r.executions + (? AND r.rescues < 3), \
               r.last_execution_at = CASE WHEN ? AND r.rescues < 3 THEN ",
            now!(),
            " ELSE r.last_execution_at END, r.owner = NULL, r.lease_until = NULL"
        )
    };
}

macro_rules! lock_events {
    () => {
        concat!(
            "SELECT e.id FROM ",
            ids!(),
            "STRAIGHT_JOIN {p}events e FORCE INDEX (PRIMARY) ON e.id = UNHEX(j.id) FOR UPDATE"
        )
    };
}

macro_rules! migrations_lock {
    () => {
        "CONCAT('tidings.', MD5(CONCAT(DATABASE(), '.{p}migrations')))"
    };
}

pub(super) const TEXTS: Texts = Texts {
    // Locks the requests; those that are locked are skipped.
    lock_expired: concat!(
        named_request!(),
        "FROM {p}handler_requests r FORCE INDEX (leased) WHERE r.lease_until <= ",
        now!(),
        " ORDER BY r.lease_until, r.id LIMIT ? FOR UPDATE SKIP LOCKED"
    ),
    // Locks the prefix in this database, until the session lets it go or ends.
    try_lock_migrations: concat!("SELECT GET_LOCK(", migrations_lock!(), ", 0)"),
    unlock_migrations: concat!("SELECT RELEASE_LOCK(", migrations_lock!(), ")"),
    server_connection: concat!("SELECT CONNECTION_ID(), ", server_life!()),
    // Locks the new events; waits for a transaction that is storing the same id. An id that is
    // there is an error, and nothing of the statement is stored.
    raise_one: "INSERT INTO {p}events \
           (id, name, entity_name, entity_id, data, timestamp, correlation_id, causation_id, headers, version) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    raise_many: "INSERT INTO {p}events \
           (id, name, entity_name, entity_id, data, timestamp, correlation_id, causation_id, headers, version) \
         SELECT UNHEX(j.id), j.name, j.entity_name, j.entity_id, j.data, j.at, UNHEX(j.correlation_id), \
           UNHEX(j.causation_id), j.headers, j.version \
         FROM JSON_TABLE(?, '$[*]' COLUMNS ( \
           id CHAR(32) PATH '$[0]', name VARCHAR(255) PATH '$[1]', entity_name VARCHAR(255) PATH '$[2]', \
           entity_id VARCHAR(255) PATH '$[3]', data LONGTEXT PATH '$[4]', at BIGINT PATH '$[5]', \
           correlation_id CHAR(32) PATH '$[6]', causation_id CHAR(32) PATH '$[7]', \
           headers LONGTEXT PATH '$[8]', version BIGINT PATH '$[9]')) j",
    known_events: concat!(
        "SELECT e.id FROM ",
        ids!(),
        "STRAIGHT_JOIN {p}events e FORCE INDEX (PRIMARY) ON e.id = UNHEX(j.id)"
    ),
    // Locks the new places on the queue.
    queue_events: concat!(
        "INSERT INTO {p}unprocessed_events (event_id) SELECT UNHEX(j.id) FROM ",
        ids!()
    ),
    // Locks the events' places on the queue; those that are locked are skipped.
    due_waiting: concat!(
        "SELECT event_id, attempt, errors, last_error, owner IS NOT NULL, ",
        now!(),
        " FROM {p}waiting_events FORCE INDEX (due) WHERE due_at <= ",
        now!(),
        " ORDER BY due_at, event_id LIMIT ? FOR UPDATE SKIP LOCKED"
    ),
    due_fresh: concat!(
        "SELECT event_id, 0, 0, NULL, 0, ",
        now!(),
        " FROM {p}unprocessed_events FORCE INDEX (PRIMARY) ORDER BY event_id LIMIT ? FOR UPDATE SKIP LOCKED"
    ),
    // Locks the events' places.
    lock_waiting: concat!(
        "SELECT w.event_id, w.attempt, w.errors, w.last_error, w.owner IS NOT NULL, ",
        now!(),
        " FROM ",
        ids!(),
        "STRAIGHT_JOIN {p}waiting_events w FORCE INDEX (PRIMARY) ON w.event_id = UNHEX(j.id) FOR UPDATE"
    ),
    // Locks the events' places.
    unqueue_fresh: concat!(
        "DELETE u FROM ",
        ids!(),
        "STRAIGHT_JOIN {p}unprocessed_events u FORCE INDEX (PRIMARY) ON u.event_id = UNHEX(j.id)"
    ),
    unqueue_waiting: concat!(
        "DELETE w FROM ",
        ids!(),
        "STRAIGHT_JOIN {p}waiting_events w FORCE INDEX (PRIMARY) ON w.event_id = UNHEX(j.id)"
    ),
    // Locks the events' places.
    put_waiting: "INSERT INTO {p}waiting_events (event_id, attempt, errors, last_error, owner, due_at) \
         SELECT UNHEX(j.id), j.attempt, j.errors, j.last_error, UNHEX(j.owner), j.due_at \
         FROM JSON_TABLE(?, '$[*]' COLUMNS ( \
           id CHAR(32) PATH '$[0]', attempt BIGINT PATH '$[1]', errors BIGINT PATH '$[2]', \
           last_error LONGTEXT PATH '$[3]', owner CHAR(32) PATH '$[4]', due_at BIGINT PATH '$[5]')) j \
         ON DUPLICATE KEY UPDATE attempt = VALUES(attempt), errors = VALUES(errors), \
           last_error = VALUES(last_error), owner = VALUES(owner), due_at = VALUES(due_at)",
    put_unwanted: concat!(
        "INSERT INTO {p}unwanted_events (event_id, processed_at) SELECT UNHEX(j.id), ? FROM ",
        ids!(),
        "ON DUPLICATE KEY UPDATE event_id = VALUES(event_id)"
    ),
    first_requests: concat!(
        "SELECT r.event_id, MIN(r.created_at) FROM {p}handler_requests r FORCE INDEX (PRIMARY) WHERE ",
        slots!(range_slot, " OR "),
        " GROUP BY r.event_id"
    ),
    // Locks the new requests, and those that exist, in the order of their ids.
    insert_new: "INSERT INTO {p}handler_requests \
           (id, event_id, handler, priority, max_errors, attempt, queue, created_at, owner, lease_until) \
         WITH a AS (SELECT CAST(? AS BINARY) AS owner) \
         SELECT UNHEX(j.id), UNHEX(j.event_id), t.handler, t.priority, t.max_errors, t.attempt, t.queue, \
           t.created_at, CASE WHEN t.lease_until IS NOT NULL THEN a.owner END, t.lease_until \
         FROM a STRAIGHT_JOIN JSON_TABLE(?, '$[*]' COLUMNS ( \
             id CHAR(32) PATH '$[0]', event_id CHAR(32) PATH '$[1]', place BIGINT PATH '$[2]')) j \
         STRAIGHT_JOIN JSON_TABLE(?, '$[*]' COLUMNS ( \
             place BIGINT PATH '$[0]', handler VARCHAR(255) PATH '$[1][0]', priority BIGINT PATH '$[1][1]', \
             max_errors BIGINT PATH '$[1][2]', attempt BIGINT PATH '$[1][3]', queue BIGINT PATH '$[1][4]', \
             created_at BIGINT PATH '$[1][5]', lease_until BIGINT PATH '$[1][6]')) t ON t.place = j.place \
         ORDER BY j.id \
         ON DUPLICATE KEY UPDATE event_id = {p}handler_requests.event_id",
    // Locks the requests. They are there and locked, so none is inserted; but this leaves the
    // optimizer no choice, and is faster than an update of several tables.
    write_requests: "INSERT INTO {p}handler_requests \
           (id, event_id, handler, priority, max_errors, created_at, errors, attempt, executions, rescues, queue, \
            backoff_until, last_execution_at, completed_at, canceled_at, dead_at, owner, lease_until, last_errors) \
         SELECT UNHEX(j.id), UNHEX(j.event_id), j.handler, j.priority, j.max_errors, j.created_at, j.errors, \
           j.attempt, j.executions, j.rescues, j.queue, j.backoff_until, j.last_execution_at, j.completed_at, \
           j.canceled_at, j.dead_at, UNHEX(j.owner), j.lease_until, j.last_errors \
         FROM JSON_TABLE(?, '$[*]' COLUMNS ( \
           id CHAR(32) PATH '$[0]', event_id CHAR(32) PATH '$[1]', handler VARCHAR(255) PATH '$[2]', \
           priority BIGINT PATH '$[3]', max_errors BIGINT PATH '$[4]', created_at BIGINT PATH '$[5]', \
           errors BIGINT PATH '$[6]', attempt BIGINT PATH '$[7]', executions BIGINT PATH '$[8]', \
           rescues BIGINT PATH '$[9]', queue BIGINT PATH '$[10]', backoff_until BIGINT PATH '$[11]', \
           last_execution_at BIGINT PATH '$[12]', completed_at BIGINT PATH '$[13]', \
           canceled_at BIGINT PATH '$[14]', dead_at BIGINT PATH '$[15]', owner CHAR(32) PATH '$[16]', \
           lease_until BIGINT PATH '$[17]', last_errors LONGTEXT PATH '$[18]')) j \
         ON DUPLICATE KEY UPDATE \
           handler = VALUES(handler), errors = VALUES(errors), attempt = VALUES(attempt), \
           executions = VALUES(executions), rescues = VALUES(rescues), queue = VALUES(queue), \
           backoff_until = VALUES(backoff_until), last_execution_at = VALUES(last_execution_at), \
           completed_at = VALUES(completed_at), canceled_at = VALUES(canceled_at), dead_at = VALUES(dead_at), \
           owner = VALUES(owner), lease_until = VALUES(lease_until), last_errors = VALUES(last_errors)",
    // Locks the requests, in the order in which the ids are given.
    rename_requests: concat!(
        "UPDATE ",
        ids!(),
        "STRAIGHT_JOIN {p}handler_requests r FORCE INDEX (PRIMARY) ON r.id = UNHEX(j.id) SET r.handler = ? \
         WHERE r.handler = ? AND r.completed_at IS NULL AND r.canceled_at IS NULL"
    ),
    // Locks the requests, in the order in which the ids are given.
    lock_held: lock_held!(),
    lock_held_skip: concat!(lock_held!(), " SKIP LOCKED"),
    // Locks the requests, which are locked already.
    complete: settle!("r.completed_at = ", ""),
    snooze: settle!(
        "r.queue = CASE WHEN r.rescues < 3 THEN 1 ELSE 2 END, r.backoff_until = ",
        " + ?"
    ),
    // Locks the requests, which are locked already.
    claim: concat!(
        "UPDATE ",
        ids!(),
        "STRAIGHT_JOIN {p}handler_requests r FORCE INDEX (PRIMARY) ON r.id = UNHEX(j.id) \
         SET r.attempt = r.attempt + 1, r.queue = NULL, r.backoff_until = NULL, r.owner = ?, r.lease_until = ?"
    ),
    // Locks the requests, in the order in which the ids are given.
    lock_requests: concat!(find_requests!(), " FOR UPDATE"),
    lock_requests_skip: concat!(find_requests!(), " FOR UPDATE SKIP LOCKED"),
    find_requests: find_requests!(),
    best_of: slots!(best_of_slot, " UNION ALL "),
    best_of_one: best_of_slot!("0"),
    // Locks the requests; those that are locked are skipped.
    lock_due: slots!(lock_due_slot, " UNION ALL "),
    lock_due_one: lock_due_slot!("0"),
    suspects_of: slots!(suspects_of_slot, " UNION ALL "),
    suspects_of_one: suspects_of_slot!("0"),
    // Locks the requests; those that are locked are skipped.
    lock_suspects: concat!(
        "(",
        request!("NULL"),
        suspect!(),
        " FOR UPDATE SKIP LOCKED) UNION ALL (",
        request!("NULL"),
        late_suspect!(),
        " FOR UPDATE SKIP LOCKED)"
    ),
    events: concat!(
        "SELECT ",
        event!(),
        " FROM ",
        ids!(),
        "STRAIGHT_JOIN {p}events e FORCE INDEX (PRIMARY) ON e.id = UNHEX(j.id)"
    ),
    // Locks the events, in the order in which the ids are given.
    lock_events: lock_events!(),
    lock_events_skip: concat!(lock_events!(), " SKIP LOCKED"),
    requests_of_events: concat!(
        request!("e.name"),
        "FROM {p}handler_requests r FORCE INDEX (PRIMARY) LEFT JOIN {p}events e ON e.id = r.event_id WHERE ",
        slots!(range_slot, " OR ")
    ),
    // Locks the events.
    delete_events: concat!(
        "DELETE e FROM ",
        ids!(),
        "STRAIGHT_JOIN {p}events e FORCE INDEX (PRIMARY) ON e.id = UNHEX(j.id)"
    ),
    // Locks the requests.
    delete_requests: concat!(
        "DELETE r FROM ",
        ids!(),
        "STRAIGHT_JOIN {p}handler_requests r FORCE INDEX (PRIMARY) ON r.id = UNHEX(j.id)"
    ),
    // Locks the rows.
    forget_unwanted: concat!(
        "DELETE n FROM ",
        ids!(),
        "STRAIGHT_JOIN {p}unwanted_events n FORCE INDEX (PRIMARY) ON n.event_id = UNHEX(j.id)"
    ),
};
