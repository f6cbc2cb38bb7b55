//! The statements of PostgreSQL. Each says what it locks; the others lock nothing.

use crate::sql::{common::CommonTexts, statement::statements};

/// The columns of an event, in the order in which they are read; `e` is its table.
macro_rules! event {
    () => {
        "e.id, e.name, e.entity_name, e.entity_id, e.data::text, e.timestamp, e.correlation_id, \
         e.causation_id, e.headers::text, e.version"
    };
}

/// A row of a table that grows, found by its key. Written as a join it may be planned, while the tables
/// are empty, to walk the whole table, and such a plan may be kept until it is full: an offset keeps
/// the planner from that.
macro_rules! one_of {
    ($table:literal, $key:literal) => {
        concat!(
            "LATERAL (SELECT * FROM {p}",
            $table,
            " WHERE ",
            $key,
            " OFFSET 0)"
        )
    };
}

/// The event of a row that names it, if there is one.
macro_rules! with_event {
    ($id:literal) => {
        concat!("LEFT JOIN ", one_of!("events", $id), " e ON true ")
    };
}

/// The places of an event `e`: on the queue, where it waits, and where it is if nobody wanted it.
macro_rules! with_places {
    () => {
        concat!(
            "LEFT JOIN ",
            one_of!("unprocessed_events", "event_id = e.id"),
            " u ON true \
             LEFT JOIN ",
            one_of!("waiting_events", "event_id = e.id"),
            " w ON true \
             LEFT JOIN ",
            one_of!("unwanted_events", "event_id = e.id"),
            " n ON true "
        )
    };
}

/// A stored event, with where it waits.
macro_rules! stored_event {
    () => {
        concat!(
            "SELECT ",
            event!(),
            ", u.event_id IS NOT NULL OR w.event_id IS NOT NULL, coalesce(w.errors, 0), w.last_error, \
               CASE WHEN w.owner IS NULL THEN w.due_at END, n.processed_at \
             FROM {p}events e ",
            with_places!()
        )
    };
}

/// The condition of an event filter.
macro_rules! event_filter {
    () => {
        "WHERE (cardinality($1::text[]) = 0 OR e.name = ANY ($1)) \
           AND ($2::text IS NULL OR (e.entity_name = $2 AND e.entity_id = $3::text)) \
           AND ($4::timestamptz IS NULL OR e.timestamp >= $4) \
           AND ($5::timestamptz IS NULL OR e.timestamp < $5) \
           AND ($6::bigint IS NULL OR (u.event_id IS NULL AND w.event_id IS NULL) = ($6 = 1)) \
           AND ($7::bigint IS NULL OR (u.event_id IS NULL AND w.event_id IS NULL AND n.event_id IS NULL) = ($7 = 1)) "
    };
}

/// A request as it is read; `r` is its table, `e` that of its event.
macro_rules! request {
    () => {
        "SELECT r.id, r.event_id, e.name, r.handler, r.priority, r.max_errors, r.errors, r.attempt, \
           r.executions, r.rescues, r.created_at, r.backoff_until, r.last_execution_at, \
           r.last_errors::text, r.completed_at, r.canceled_at, r.dead_at, r.owner, r.lease_until, \
           statement_timestamp() "
    };
}

macro_rules! from_requests {
    () => {
        concat!(
            "FROM {p}handler_requests r ",
            with_event!("id = r.event_id")
        )
    };
}

/// The condition of a request filter, but for the states.
macro_rules! request_filter {
    () => {
        "(cardinality($2::text[]) = 0 OR e.name = ANY ($2)) \
           AND (cardinality($3::text[]) = 0 OR r.handler = ANY ($3)) \
           AND ($4::text IS NULL OR (e.entity_name = $4 AND e.entity_id = $5::text)) \
           AND ($6::timestamptz IS NULL OR r.created_at >= $6) \
           AND ($7::timestamptz IS NULL OR r.created_at < $7) \
           AND ($8::text IS NULL OR CASE WHEN strpos(r.last_errors::text, '\\u0000') = 0 \
             THEN strpos(r.last_errors -> -1 ->> 'message', $8) > 0 END) "
    };
}

/// The condition of a request filter on the states, as bits.
macro_rules! request_states {
    () => {
        "($1::bigint = 0 OR ($1 >> CASE \
             WHEN r.canceled_at IS NOT NULL THEN 0 \
             WHEN r.completed_at IS NOT NULL THEN 1 \
             WHEN r.dead_at IS NOT NULL THEN 2 \
             WHEN r.owner IS NOT NULL THEN 3 \
             WHEN r.backoff_until > statement_timestamp() THEN 4 \
             ELSE 5 END) & 1 = 1) "
    };
}

/// Finds, without locks, how many the best of all handlers take from each handler, then locks so
/// many of each: `ready` and `late`.
macro_rules! due {
    () => {
        "WITH asked AS MATERIALIZED ( \
           SELECT handler, least(room, $3) AS room FROM unnest($1::text[], $2::bigint[]) AS asked (handler, room)), \
         shares AS MATERIALIZED ( \
           SELECT best.handler, best.queue, count(*) AS share FROM ( \
             SELECT due.handler, due.queue FROM asked CROSS JOIN LATERAL ( \
               (SELECT r.handler, r.queue, r.priority, r.id FROM {p}handler_requests r \
                WHERE r.handler = asked.handler AND r.queue = 0 ORDER BY r.priority, r.id LIMIT asked.room) \
               UNION ALL \
               (SELECT r.handler, r.queue, r.priority, r.id FROM {p}handler_requests r \
                WHERE r.handler = asked.handler AND r.queue = 1 AND r.backoff_until <= statement_timestamp() \
                ORDER BY r.backoff_until, r.id LIMIT asked.room) \
               ORDER BY priority, id LIMIT asked.room) due \
             ORDER BY due.priority, due.id LIMIT $3) best \
           GROUP BY best.handler, best.queue), \
         ready AS MATERIALIZED ( \
           SELECT l.id FROM shares CROSS JOIN LATERAL ( \
             SELECT r.id FROM {p}handler_requests r WHERE r.handler = shares.handler AND r.queue = 0 \
             ORDER BY r.priority, r.id LIMIT shares.share FOR UPDATE SKIP LOCKED) l \
           WHERE shares.queue = 0), \
         late AS MATERIALIZED ( \
           SELECT l.id FROM shares CROSS JOIN LATERAL ( \
             SELECT r.id FROM {p}handler_requests r \
             WHERE r.handler = shares.handler AND r.queue = 1 AND r.backoff_until <= statement_timestamp() \
             ORDER BY r.backoff_until, r.id LIMIT shares.share FOR UPDATE SKIP LOCKED) l \
           WHERE shares.queue = 1) "
    };
}

/// When the next request of handlers that backs off is due.
macro_rules! next_due {
    ($handlers:literal) => {
        concat!(
            "(SELECT min(d.backoff_until) FROM ",
            $handlers,
            " AS asked (handler) CROSS JOIN LATERAL ( \
               (SELECT r.backoff_until FROM {p}handler_requests r \
                WHERE r.handler = asked.handler AND r.queue = 1 AND r.backoff_until > statement_timestamp() \
                ORDER BY r.backoff_until, r.id LIMIT 1) \
               UNION ALL \
               (SELECT r.backoff_until FROM {p}handler_requests r \
                WHERE r.handler = asked.handler AND r.queue = 2 AND r.backoff_until > statement_timestamp() \
                ORDER BY r.backoff_until LIMIT 1)) d)"
        )
    };
}

/// Whether a request of handlers is due that is under suspicion.
macro_rules! suspect_due {
    ($handlers:literal) => {
        concat!(
            "EXISTS (SELECT FROM ",
            $handlers,
            " AS asked (handler) CROSS JOIN LATERAL ( \
               (SELECT FROM {p}handler_requests r WHERE r.handler = asked.handler AND r.queue = 2 \
                  AND r.backoff_until IS NULL LIMIT 1) \
               UNION ALL \
               (SELECT FROM {p}handler_requests r WHERE r.handler = asked.handler AND r.queue = 2 \
                  AND r.backoff_until <= statement_timestamp() LIMIT 1)) d)"
        )
    };
}

/// What there is to do.
macro_rules! look {
    ($among:literal, $more:literal) => {
        concat!(
            "SELECT statement_timestamp(), \
               first.event_id IS NOT NULL \
                 OR EXISTS (SELECT FROM {p}waiting_events WHERE due_at <= statement_timestamp()), \
               (SELECT min(due_at) FROM {p}waiting_events WHERE owner IS NULL AND due_at > statement_timestamp()), \
               EXISTS (SELECT FROM unnest($1::text[]) AS asked (handler) CROSS JOIN LATERAL ( \
                 (SELECT FROM {p}handler_requests r WHERE r.handler = asked.handler AND r.queue = 0 LIMIT 1) \
                 UNION ALL \
                 (SELECT FROM {p}handler_requests r WHERE r.handler = asked.handler AND r.queue = 1 \
                    AND r.backoff_until <= statement_timestamp() LIMIT 1)) d), ",
            suspect_due!("unnest($1::text[])"),
            ", ",
            next_due!("unnest($1::text[])"),
            ", CASE WHEN $2::boolean THEN (SELECT min(lease_until) FROM {p}leases) END",
            $more,
            " FROM (SELECT (SELECT event_id FROM {p}unprocessed_events ",
            $among,
            "ORDER BY event_id LIMIT 1) AS event_id, ",
            micros_so_far!(),
            " AS micros OFFSET 0) first"
        )
    };
}

/// The requests that execute; `r` is their table.
macro_rules! leased {
    () => {
        "SELECT r.id, r.event_id FROM {p}handler_requests r \
         WHERE r.id = ANY (ARRAY(SELECT unnest(l.requests) FROM {p}leases l)) AND r.lease_until IS NOT NULL"
    };
}

/// Notes which requests were leased together, where a rescue will look for them.
macro_rules! note_leases {
    ($until:literal, $leased:literal) => {
        concat!(
            "INSERT INTO {p}leases (lease_until, requests) SELECT ",
            $until,
            ", array_agg(id) FROM ",
            $leased,
            " HAVING count(*) > 0"
        )
    };
}

/// How long the server has been executing this, in microseconds: without what it took to plan it, and to
/// bring it here.
macro_rules! micros_so_far {
    () => {
        "greatest((extract(epoch FROM clock_timestamp() - statement_timestamp()) * 1000000)::bigint, 0)"
    };
}

/// Whether nobody has locked a row of the queue: nobody ever had, or whoever had it last, with the number
/// xmax, has ended. Asking that costs a fifth of finding a lock. Where it is true, there may still be a
/// lock, and where it is false, there may be none.
macro_rules! nobody_has {
    () => {
        "xmax = '0'::xid OR age(xmax) > (SELECT age(pg_snapshot_xmin(pg_current_snapshot())::xid))"
    };
}

/// The id of the request of an event for a handler. `raw` are the bytes of the event's id: version
/// 8, and the handler's hash upon the last four.
macro_rules! request_id {
    () => {
        "encode(set_byte(set_byte(set_byte(set_byte(set_byte(e.raw, 6, 128 | (get_byte(e.raw, 6) & 15)), \
           12, get_byte(e.raw, 12) # (t.hash >> 24 & 255)), 13, get_byte(e.raw, 13) # (t.hash >> 16 & 255)), \
           14, get_byte(e.raw, 14) # (t.hash >> 8 & 255)), 15, get_byte(e.raw, 15) # (t.hash & 255)), 'hex')::uuid"
    };
}

/// What one of the arguments that are arrays says of a request `r`: if there is one element, that, else the
/// one at its place.
macro_rules! given {
    ($values:literal) => {
        concat!(
            "($",
            $values,
            ")[CASE WHEN cardinality($",
            $values,
            ") = 1 THEN 1 ELSE array_position($1, r.id) END]"
        )
    };
}

/// Completes and snoozes requests; locks them in the order of their ids. Nothing is joined: a join may be
/// planned, while the table is empty, to walk all of it, and that plan may be kept until it is full.
/// The fences are looked up in a hash table.
macro_rules! settle {
    () => {
        concat!(
            "UPDATE {p}handler_requests r SET \
               completed_at = CASE WHEN ", given!("5::bigint[]"), " IS NULL THEN statement_timestamp() END, \
               queue = CASE WHEN ", given!("5"), " IS NULL THEN NULL WHEN r.rescues >= 3 THEN 2 ELSE 1 END, \
               backoff_until = statement_timestamp() + ", given!("5"), " * interval '1 microsecond', \
               executions = CASE WHEN ", given!("4::boolean[]"), " AND r.rescues < 3 THEN least(r.executions, 2147483646) + 1 ELSE r.executions END, \
               last_execution_at = CASE WHEN ", given!("4"), " AND r.rescues < 3 THEN statement_timestamp() ELSE r.last_execution_at END, \
               owner = NULL, lease_until = NULL \
             WHERE r.id = ANY ($1::uuid[]) \
               AND ((r.id, r.attempt, r.owner) IN (SELECT * FROM unnest($1, $2::bigint[], $3::uuid[]))) IS TRUE"
        )
    };
}

/// Whether the transaction is the one that the store has begun, rather than none or another one.
macro_rules! is_ours {
    () => {
        "coalesce(current_setting('tidings.transaction', true), '') = 'on'"
    };
}

pub(super) const COMMON: CommonTexts = CommonTexts {
    now: "SELECT statement_timestamp()",
    echo: "SELECT $1::text",
    // Reads a table, so that the session hears which ones were made since: one that had looked before
    // and then waited for another migration would find nothing.
    has_migrations: "SELECT count(*)::int FROM pg_class WHERE oid = to_regclass('{p}migrations')",
    applied_migrations: "SELECT version, compatible_from FROM {p}migrations",
    // Locks the name of the table of registrations, shared, until the transaction ends.
    share_names: "SELECT pg_advisory_xact_lock_shared('{p}registrations'::regclass::oid::int, 0)::text",
    // Locks the name of the table of registrations, alone, until the transaction ends.
    lock_names: "SELECT pg_advisory_xact_lock('{p}registrations'::regclass::oid::int, 0)::text",

    find_event: concat!(stored_event!(), "WHERE e.id = $1"),
    // Locks the event.
    lock_event: "SELECT id FROM {p}events WHERE id = $1 FOR UPDATE",
    lock_event_skip: "SELECT id FROM {p}events WHERE id = $1 FOR UPDATE SKIP LOCKED",
    // Locks the event's place on the queue.
    lock_unprocessed: "SELECT event_id FROM {p}unprocessed_events WHERE event_id = $1 FOR UPDATE",
    lock_unprocessed_skip: "SELECT event_id FROM {p}unprocessed_events WHERE event_id = $1 FOR UPDATE SKIP LOCKED",
    lock_waiting_event: "SELECT event_id FROM {p}waiting_events WHERE event_id = $1 FOR UPDATE",
    lock_waiting_event_skip: "SELECT event_id FROM {p}waiting_events WHERE event_id = $1 FOR UPDATE SKIP LOCKED",
    count_unprocessed: "SELECT (SELECT count(*) FROM {p}unprocessed_events) + (SELECT count(*) FROM {p}waiting_events)",
    oldest_unprocessed: "SELECT least( \
           (SELECT event_id FROM {p}unprocessed_events ORDER BY event_id LIMIT 1), \
           (SELECT event_id FROM {p}waiting_events ORDER BY event_id LIMIT 1))",
    count_events: concat!(
        "SELECT count(*) FROM {p}events e ",
        with_places!(),
        event_filter!()
    ),
    list_events: concat!(
        stored_event!(),
        event_filter!(),
        "AND e.id > coalesce($8::uuid, '00000000-0000-0000-0000-000000000000') ORDER BY e.id LIMIT $9 OFFSET $10"
    ),
    list_event_ids: concat!(
        "SELECT e.id, e.name FROM {p}events e ",
        with_places!(),
        event_filter!(),
        "AND e.id > coalesce($8::uuid, '00000000-0000-0000-0000-000000000000') ORDER BY e.id LIMIT $9 OFFSET $10"
    ),
    processed_events: concat!(
        "SELECT e.id, n.processed_at FROM {p}events e ",
        with_places!(),
        "WHERE u.event_id IS NULL AND w.event_id IS NULL AND e.id > coalesce($1::uuid, '00000000-0000-0000-0000-000000000000') \
         ORDER BY e.id LIMIT $2"
    ),
    next_due_event: "SELECT statement_timestamp(), \
           EXISTS (SELECT FROM {p}unprocessed_events) \
             OR EXISTS (SELECT FROM {p}waiting_events WHERE due_at <= statement_timestamp()), \
           (SELECT min(due_at) FROM {p}waiting_events WHERE owner IS NULL)",

    find_request: concat!(request!(), from_requests!(), "WHERE r.id = $1"),
    // Locks the request.
    lock_request: concat!(
        request!(),
        from_requests!(),
        "WHERE r.id = $1 FOR UPDATE OF r"
    ),
    lock_request_skip: concat!(
        request!(),
        from_requests!(),
        "WHERE r.id = $1 FOR UPDATE OF r SKIP LOCKED"
    ),
    requests_of_event: concat!(
        request!(),
        from_requests!(),
        "WHERE r.id BETWEEN $2 AND $3 AND r.event_id = $1 ORDER BY r.handler"
    ),
    count_open: concat!(
        "SELECT (SELECT count(*) FROM {p}handler_requests WHERE queue = 0) \
           + (SELECT count(*) FROM {p}handler_requests WHERE queue = 1) \
           + (SELECT count(*) FROM {p}handler_requests WHERE queue = 2) \
           + (SELECT count(*) FROM (",
        leased!(),
        ") leased)"
    ),
    oldest_open: concat!(
        "SELECT id FROM ( \
           SELECT id FROM {p}handler_requests WHERE queue = 0 \
           UNION ALL SELECT id FROM {p}handler_requests WHERE queue = 1 \
           UNION ALL SELECT id FROM {p}handler_requests WHERE queue = 2 \
           UNION ALL SELECT id FROM (",
        leased!(),
        ") leased) open ORDER BY id LIMIT 1"
    ),
    count_dead: "SELECT count(*) FROM {p}handler_requests WHERE queue = 3",
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
        "AND r.id > coalesce($9::uuid, '00000000-0000-0000-0000-000000000000') ORDER BY r.id LIMIT $10 OFFSET $11"
    ),
    list_dead: concat!(
        request!(),
        from_requests!(),
        "WHERE r.queue = 3 AND $1::bigint IS NOT NULL AND ",
        request_filter!(),
        "AND r.id > coalesce($9::uuid, '00000000-0000-0000-0000-000000000000') ORDER BY r.id LIMIT $10 OFFSET $11"
    ),
    dead_event_names: concat!(
        "SELECT DISTINCT e.name FROM {p}handler_requests r CROSS JOIN ",
        one_of!("events", "id = r.event_id"),
        " e WHERE r.queue = 3 ORDER BY e.name"
    ),
    dead_handler_names: "SELECT DISTINCT handler FROM {p}handler_requests WHERE queue = 3 ORDER BY handler",
    next_due_request: concat!(
        "SELECT statement_timestamp(), ",
        next_due!("unnest($1::text[])")
    ),
    suspect_due: concat!("SELECT ", suspect_due!("unnest($1::text[])"), "::int"),
    next_expiry: "SELECT statement_timestamp(), (SELECT min(lease_until) FROM {p}leases)",
    put_off_rescue: "UPDATE {p}handler_requests SET lease_until = $1 WHERE id = $2",
    put_off_claim: "UPDATE {p}handler_requests SET backoff_until = $1, \
         queue = CASE queue WHEN 2 THEN 2 ELSE 1 END WHERE id = $2",
    look: look!("", ""),
    best_due: "SELECT min(d.priority) \
         FROM unnest($1::text[]) AS asked (handler) CROSS JOIN LATERAL ( \
           (SELECT r.priority FROM {p}handler_requests r \
            WHERE r.handler = asked.handler AND r.queue = 0 ORDER BY r.priority, r.id LIMIT 1) \
           UNION ALL (SELECT r.priority FROM {p}handler_requests r \
            WHERE r.handler = asked.handler AND r.queue = 1 AND r.backoff_until <= statement_timestamp() \
            ORDER BY r.backoff_until LIMIT 100)) d",
    open_and_dead_of: concat!(
        "(SELECT id, event_id FROM {p}handler_requests \
           WHERE handler = $1 AND queue = 0 ORDER BY priority, id LIMIT $2) \
         UNION ALL (SELECT id, event_id FROM {p}handler_requests \
           WHERE handler = $3 AND queue = 1 ORDER BY backoff_until, id LIMIT $4) \
         UNION ALL (SELECT id, event_id FROM {p}handler_requests \
           WHERE handler = $5 AND queue = 2 ORDER BY backoff_until, priority, id LIMIT $6) \
         UNION ALL (SELECT id, event_id FROM (",
        leased!(),
        " AND r.handler = $7) leased ORDER BY id LIMIT $8) \
         UNION ALL (SELECT id, event_id FROM {p}handler_requests \
           WHERE handler = $9 AND queue = 3 ORDER BY handler, id LIMIT $10)"
    ),
    count_open_of: concat!(
        "SELECT (SELECT count(*) FROM {p}handler_requests WHERE handler = $1 AND queue = 0) \
           + (SELECT count(*) FROM {p}handler_requests WHERE handler = $1 AND queue = 1) \
           + (SELECT count(*) FROM {p}handler_requests WHERE handler = $1 AND queue = 2) \
           + (SELECT count(*) FROM (",
        leased!(),
        " AND r.handler = $1) leased)"
    ),

    all_registrations: "SELECT handler, pattern, priority, max_errors, state, renamed_to, last_seen_at \
         FROM {p}registrations ORDER BY handler, pattern",
    // Locks the registration.
    put_registration: "INSERT INTO {p}registrations \
           (handler, pattern, priority, max_errors, hash, prefix, specificity, state, renamed_to, last_seen_at) \
         VALUES ($1, $2, $3::bigint, $4::bigint, $5::bigint, $6, $7::bigint, $8::bigint, $9, $10) \
         ON CONFLICT (handler, pattern) DO UPDATE SET \
           priority = excluded.priority, max_errors = excluded.max_errors, hash = excluded.hash, \
           prefix = excluded.prefix, specificity = excluded.specificity, state = excluded.state, \
           renamed_to = excluded.renamed_to, last_seen_at = excluded.last_seen_at",
    // Locks the registration.
    delete_registration: "DELETE FROM {p}registrations WHERE handler = $1 AND pattern = $2",
    // Locks the registrations of these handlers, in one order.
    touch_handlers: "UPDATE {p}registrations t SET last_seen_at = statement_timestamp() FROM ( \
           SELECT handler, pattern FROM {p}registrations WHERE handler = ANY ($1::text[]) \
           ORDER BY handler, pattern FOR UPDATE) locked \
         WHERE t.handler = locked.handler AND t.pattern = locked.pattern",
};

statements! {
    /// What only PostgreSQL says so.
    Texts => Statements {
        /// 1 if this transaction has kept other migrations out from now on.
        try_lock_migrations,
        /// (columns of events as arrays, empty where no event has a value, whether to notify): nothing if
        /// all are new, else NULL and the ids of those that are.
        raise,
        /// (columns of an event): affects a row if it is new.
        raise_one,
        /// Tells other processes that there are events to fan out.
        notify_raised,
        /// That there are requests to claim.
        notify_ready,
        /// Both.
        notify_both,
        /// (limit): due events, locked.
        due_events,
        /// (ids): waiting events, locked.
        lock_waiting,
        /// (ids): deletes them from the queue.
        unqueue,
        /// (columns of waiting events as arrays)
        put_waiting,
        /// (ids, now)
        put_unwanted,
        /// (ids, lowest ids, highest ids): event id and time.
        first_requests,
        /// (ids): events, locked in this order.
        lock_events,
        lock_events_skip,
        /// (ids, lowest ids, highest ids): requests.
        requests_of_events,
        /// (event ids, request ids)
        delete_events,
        /// (ids)
        forget_unwanted,
        /// (columns of requests as arrays)
        insert_requests,
        /// (columns of requests as arrays)
        write_requests,
        /// (ids, new name, old name): renames those that are open or dead.
        rename_requests,
        /// (ids): requests, locked in this order.
        lock_requests,
        lock_requests_skip,
        /// (ids): requests.
        find_requests,
        /// (handlers, rooms, limit): the best that are due, locked.
        lock_due,
        /// (handlers, rooms, limit): the best suspects that are due, locked.
        lock_due_suspects,
        /// (ids): events.
        events,
        /// (limit, owner, lease, offered limit, handlers, rooms, most behind a backlog, whether beside
        /// another, lowest id, strictly in order): takes due events off the queue and makes their
        /// requests. Rows of three kinds: 0 processed events, each with the numbers of the terms of its
        /// requests that were born leased, or NULL if those of all terms which say so were; 1 the terms
        /// of the requests of events of one name for one handler: number, hash, priority, max_errors and
        /// whether they were born leased, as a text; 2 the batch that was leased, with the number of its
        /// requests, as a text, in how many microseconds the next event that backs off is due, and how
        /// many microseconds it took, whether all are held back and whether others fan out just now.
        fan_out,
        /// (owner, lease, offered limit, handlers, lowest id): as fan_out if there is at most one
        /// event; else a row of kind 3.
        fan_out_one,
        /// (handlers, rooms, limit, owner, lease): requests that are claimed now, each event once.
        claim,
        /// (ids, attempts, owners, executed, snoozes, batches that end if all are settled): completes
        /// or snoozes, where the fourth and fifth have one element if it is that of all; how many were, whose fence held and that nobody had locked, and if that is not
        /// all, their ids as the text of an array.
        settle,
        /// As settle, but after the snoozes comes how long the server waits for the commit, in
        /// milliseconds as a text; it waits for those that somebody has locked, and answers the ids.
        /// In the store's transaction alone.
        settle_in,
        /// Whether the transaction is the store's.
        is_ours,
        /// (milliseconds as a text): how long the server waits for the next statement; whether the
        /// transaction is the store's.
        bound_standstill,
        /// (after this time, after this id, limit): where to look for leases that ran out, since when,
        /// and of how many requests, locked.
        lock_leases,
        /// (notes of leases, limit): requests whose lease ran out, the longest ago first, locked.
        lock_expired,
        /// (notes of leases): notes until when their requests are leased, and forgets those of which
        /// none is.
        tidy_leases,
        /// (notes of leases): forgets them.
        forget_leases,
        /// (ids, attempts, owners): the ids of those whose fence holds.
        held,
        /// As the common one, and (test channel): notifies it unless it is NULL.
        look,
        /// (ids, attempts, owner, lease): renews; the ids and attempts that were not, and whether
        /// the fence holds.
        renew,
    }
}

pub(super) const TEXTS: Texts = Texts {
    // Locks the prefix, as it is looked up in this schema, until the transaction ends.
    try_lock_migrations: "SELECT pg_try_advisory_xact_lock(hashtextextended(current_schema() || '.{p}migrations', 0))::int",
    // Locks the new events; waits for a transaction that is storing the same id.
    raise: "SELECT {p}raise($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], \
         $7::uuid[], $8::uuid[], $9::text[], $10::bigint[], $11::boolean)",
    // Locks the new event; waits for a transaction that is storing the same id. Half the work of the
    // server beside one of arrays.
    raise_one: "WITH raised AS ( \
           INSERT INTO {p}events (id, name, entity_name, entity_id, data, timestamp, correlation_id, causation_id, headers, version) \
           VALUES ($1::uuid, $2::text, $3::text, $4::text, $5::text::json, $6::timestamptz, $7::uuid, $8::uuid, $9::text::json, $10::bigint) \
           ON CONFLICT (id) DO NOTHING RETURNING id) \
         INSERT INTO {p}unprocessed_events (event_id) SELECT id FROM raised",
    // Locks all notifications of the database while it commits.
    notify_raised: "SELECT pg_notify('{p}raised', '')",
    notify_ready: "SELECT pg_notify('{p}ready', '')",
    notify_both: "SELECT pg_notify('{p}raised', ''), pg_notify('{p}ready', '')",
    // Locks the events' places on the queue; those that are locked are skipped.
    due_events: concat!(
        "WITH late AS MATERIALIZED ( \
           SELECT event_id, attempt, errors, last_error, owner IS NOT NULL AS is_claimed FROM {p}waiting_events \
           WHERE due_at <= statement_timestamp() ORDER BY due_at, event_id LIMIT $1 FOR UPDATE SKIP LOCKED), \
         fresh AS MATERIALIZED ( \
           SELECT event_id FROM {p}unprocessed_events ORDER BY event_id \
           LIMIT greatest($1 - (SELECT count(*) FROM late), 0) FOR UPDATE SKIP LOCKED), \
         due AS (SELECT * FROM late UNION ALL SELECT event_id, 0, 0, NULL, false FROM fresh) \
         SELECT d.event_id, e.name, e.entity_name, e.entity_id, e.data::text, e.timestamp, e.correlation_id, \
           e.causation_id, e.headers::text, e.version, d.attempt, d.errors, d.last_error, d.is_claimed, \
           statement_timestamp() \
         FROM due d ",
        with_event!("id = d.event_id"),
        "ORDER BY d.event_id"
    ),
    // Locks the events' places.
    lock_waiting: concat!(
        "WITH due AS MATERIALIZED ( \
           SELECT event_id, attempt, errors, last_error, owner IS NOT NULL AS is_claimed FROM {p}waiting_events \
           WHERE event_id = ANY ($1::uuid[]) ORDER BY event_id FOR UPDATE) \
         SELECT d.event_id, e.name, e.entity_name, e.entity_id, e.data::text, e.timestamp, e.correlation_id, \
           e.causation_id, e.headers::text, e.version, d.attempt, d.errors, d.last_error, d.is_claimed, \
           statement_timestamp() \
         FROM due d ",
        with_event!("id = d.event_id"),
        "ORDER BY d.event_id"
    ),
    // Locks the events' places.
    unqueue: "WITH waiting AS (DELETE FROM {p}waiting_events WHERE event_id = ANY ($1::uuid[])) \
         DELETE FROM {p}unprocessed_events WHERE event_id = ANY ($1::uuid[])",
    // Locks the events' places.
    put_waiting: "WITH given AS ( \
           SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::text[], $5::uuid[], $6::timestamptz[]) \
             AS given (event_id, attempt, errors, last_error, owner, due_at)), \
         fresh AS (DELETE FROM {p}unprocessed_events WHERE event_id = ANY ($1::uuid[])) \
         INSERT INTO {p}waiting_events (event_id, attempt, errors, last_error, owner, due_at) \
         SELECT event_id, attempt, errors, last_error, owner, due_at FROM given \
         ON CONFLICT (event_id) DO UPDATE SET attempt = excluded.attempt, errors = excluded.errors, \
           last_error = excluded.last_error, owner = excluded.owner, due_at = excluded.due_at",
    put_unwanted: "INSERT INTO {p}unwanted_events (event_id, processed_at) \
         SELECT id, $2::timestamptz FROM unnest($1::uuid[]) AS given (id) ON CONFLICT (event_id) DO NOTHING",
    first_requests: "SELECT given.id, f.created_at \
         FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS given (id, lowest, highest) CROSS JOIN LATERAL ( \
           SELECT min(r.created_at) AS created_at FROM {p}handler_requests r \
           WHERE r.id BETWEEN given.lowest AND given.highest AND r.event_id = given.id) f \
         WHERE f.created_at IS NOT NULL",
    // Locks the events: against their deletion and against each other, not against references to them.
    lock_events: "SELECT id FROM {p}events WHERE id = ANY ($1::uuid[]) ORDER BY id FOR NO KEY UPDATE",
    // Locks the events, as their deletion does.
    lock_events_skip: "SELECT id FROM {p}events WHERE id = ANY ($1::uuid[]) ORDER BY id FOR UPDATE SKIP LOCKED",
    requests_of_events: concat!(
        request!(),
        "FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS given (id, lowest, highest) CROSS JOIN ",
        one_of!(
            "handler_requests",
            "id BETWEEN given.lowest AND given.highest AND event_id = given.id"
        ),
        " r ",
        with_event!("id = r.event_id")
    ),
    // Locks the events, their requests and their traces.
    delete_events: "WITH requests AS (DELETE FROM {p}handler_requests WHERE id = ANY ($2::uuid[])), \
         unwanted AS (DELETE FROM {p}unwanted_events WHERE event_id = ANY ($1::uuid[])) \
         DELETE FROM {p}events WHERE id = ANY ($1::uuid[])",
    forget_unwanted: "DELETE FROM {p}unwanted_events WHERE event_id = ANY ($1::uuid[])",
    // Locks the new requests.
    insert_requests: concat!(
        "WITH given AS ( \
           SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], \
             $8::timestamptz[], $9::uuid[], $10::timestamptz[]) \
             AS given (id, event_id, handler, priority, max_errors, attempt, queue, created_at, owner, lease_until)), \
         leased AS (",
        note_leases!("min(lease_until)", "given WHERE lease_until IS NOT NULL"),
        ") \
         INSERT INTO {p}handler_requests \
           (id, event_id, handler, priority, max_errors, attempt, queue, created_at, owner, lease_until) \
         SELECT id, event_id, handler, priority, max_errors, attempt, queue, created_at, owner, lease_until \
         FROM given ON CONFLICT (id) DO NOTHING"
    ),
    // Locks the requests. Planned anew each time, as it is a join.
    write_requests: concat!(
        "WITH given AS ( \
           SELECT * FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], \
             $8::timestamptz[], $9::timestamptz[], $10::timestamptz[], $11::timestamptz[], $12::timestamptz[], \
             $13::uuid[], $14::timestamptz[], $15::text[]) \
             AS given (id, handler, errors, attempt, executions, rescues, queue, backoff_until, last_execution_at, \
               completed_at, canceled_at, dead_at, owner, lease_until, last_errors)), \
         leased AS (",
        note_leases!("min(lease_until)", "given WHERE lease_until IS NOT NULL"),
        ") \
         UPDATE {p}handler_requests r SET \
           handler = given.handler, errors = given.errors, attempt = given.attempt, executions = given.executions, \
           rescues = given.rescues, queue = given.queue, backoff_until = given.backoff_until, \
           last_execution_at = given.last_execution_at, completed_at = given.completed_at, \
           canceled_at = given.canceled_at, dead_at = given.dead_at, owner = given.owner, \
           lease_until = given.lease_until, last_errors = given.last_errors::json \
         FROM given WHERE r.id = given.id"
    ),
    // Locks the requests.
    rename_requests: "UPDATE {p}handler_requests SET handler = $2 \
         WHERE id = ANY ($1::uuid[]) AND handler = $3 AND completed_at IS NULL AND canceled_at IS NULL",
    // Locks the requests.
    lock_requests: concat!(
        request!(),
        from_requests!(),
        "WHERE r.id = ANY ($1::uuid[]) ORDER BY r.id FOR UPDATE OF r"
    ),
    lock_requests_skip: concat!(
        request!(),
        from_requests!(),
        "WHERE r.id = ANY ($1::uuid[]) ORDER BY r.id FOR UPDATE OF r SKIP LOCKED"
    ),
    find_requests: concat!(
        request!(),
        from_requests!(),
        "WHERE r.id = ANY ($1::uuid[])"
    ),
    // Locks the requests; those that are locked are skipped.
    lock_due: concat!(
        due!(),
        request!(),
        from_requests!(),
        "WHERE r.id = ANY (ARRAY(SELECT id FROM ready UNION ALL SELECT id FROM late)) ORDER BY r.priority, r.id FOR UPDATE OF r"
    ),
    // The best few of each handler are found without locks, more than others can have locked: a
    // process claims one at a time. What they are is looked at again under the lock, in words that
    // no index serves.
    lock_due_suspects: concat!(
        "WITH best AS MATERIALIZED ( \
           SELECT due.id FROM unnest($1::text[], $2::bigint[]) AS asked (handler, room) CROSS JOIN LATERAL ( \
             (SELECT r.id FROM {p}handler_requests r \
              WHERE r.handler = asked.handler AND r.queue = 2 AND r.backoff_until IS NULL \
              ORDER BY r.backoff_until, r.priority, r.id LIMIT 100) \
             UNION ALL \
             (SELECT r.id FROM {p}handler_requests r \
              WHERE r.handler = asked.handler AND r.queue = 2 AND r.backoff_until <= statement_timestamp() \
              ORDER BY r.backoff_until, r.priority, r.id LIMIT 100)) due \
           WHERE asked.room > 0) ",
        request!(),
        from_requests!(),
        "WHERE r.id = ANY (ARRAY(SELECT id FROM best)) AND r.queue + 0 = 2 AND r.handler = ANY ($1::text[]) \
           AND coalesce(r.backoff_until, statement_timestamp()) <= statement_timestamp() \
         ORDER BY r.priority, r.id LIMIT $3 FOR UPDATE OF r SKIP LOCKED"
    ),
    events: concat!(
        "SELECT ",
        event!(),
        " FROM {p}events e WHERE e.id = ANY ($1::uuid[])"
    ),
    // Locks the events' places on the queue (those that are locked are skipped), the new requests,
    // and, shared, the name of the table of registrations. Unless it is beside another one, also the name
    // of the queue, if nobody has it: so it knows of other processes.
    //
    // Rows of the queue that others seem to have locked come after those that nobody has, as most are
    // skipped then. To itself, this statement seems to have locked the first ones. Strictly in their order,
    // one that only seems so waits for no others.
    //
    // Where every request that could be born leased fits its room, which is asked of a few sums,
    // none is sorted or counted.
    fan_out: concat!(
        "WITH offered AS MATERIALIZED ( \
           SELECT handler, room FROM unnest($5::text[], $6::bigint[]) AS offered (handler, room)), \
         backlog AS MATERIALIZED ( \
           SELECT min(b.priority) AS priority FROM offered CROSS JOIN LATERAL ( \
             (SELECT r.priority FROM {p}handler_requests r \
              WHERE r.handler = offered.handler AND r.queue = 0 ORDER BY r.priority, r.id LIMIT 1) \
             UNION ALL (SELECT r.priority FROM {p}handler_requests r \
              WHERE r.handler = offered.handler AND r.queue = 1 AND r.backoff_until <= statement_timestamp() \
              ORDER BY r.backoff_until LIMIT 100)) b), \
         taken AS MATERIALIZED ( \
           SELECT CASE WHEN is_held_back THEN 0 ELSE $1 END AS most, is_held_back, \
             NOT $8::boolean AND NOT pg_try_advisory_xact_lock('{p}unprocessed_events'::regclass::oid::int, 0) AS is_contended FROM ( \
             SELECT CASE WHEN $1::bigint > $7::bigint AND (SELECT priority FROM backlog) IS NOT NULL \
               THEN (SELECT count(*) FROM (SELECT FROM {p}unprocessed_events WHERE event_id >= $9::uuid LIMIT $7::bigint + 1) u) > $7::bigint ELSE false END \
               AS is_held_back) h), \
         late AS ( \
           DELETE FROM {p}waiting_events WHERE event_id = ANY (ARRAY( \
             SELECT event_id FROM {p}waiting_events WHERE due_at <= statement_timestamp() \
             ORDER BY due_at, event_id LIMIT (SELECT most FROM taken) FOR UPDATE SKIP LOCKED)) \
           RETURNING event_id), \
         free AS MATERIALIZED ( \
           SELECT ctid FROM {p}unprocessed_events \
           WHERE event_id >= $9::uuid AND ($10::boolean OR ",
        nobody_has!(),
        ") \
           ORDER BY event_id LIMIT (SELECT greatest(most - (SELECT count(*) FROM late), 0) FROM taken) \
           FOR UPDATE SKIP LOCKED), \
         others AS MATERIALIZED ( \
           SELECT ctid FROM {p}unprocessed_events WHERE event_id >= $9::uuid AND NOT ($10::boolean OR ",
        nobody_has!(),
        ") AND ctid NOT IN (SELECT ctid FROM free) \
           ORDER BY event_id LIMIT (SELECT greatest( \
             most - (SELECT count(*) FROM late) - (SELECT count(*) FROM free), 0) FROM taken) \
           FOR UPDATE SKIP LOCKED), \
         fresh AS ( \
           DELETE FROM {p}unprocessed_events \
           WHERE ctid = ANY (ARRAY(SELECT ctid FROM free UNION ALL SELECT ctid FROM others)) \
           RETURNING event_id), \
         due AS MATERIALIZED ( \
           SELECT e.id, e.name, e.entity_name, e.entity_id, \
             CASE WHEN $2::uuid IS NOT NULL THEN e.data END AS data, e.timestamp, e.correlation_id, \
             e.causation_id, e.headers, e.version \
           FROM (SELECT event_id FROM late UNION ALL SELECT event_id FROM fresh) d CROSS JOIN ",
        one_of!("events", "id = d.event_id"),
        " e), \
         best AS MATERIALIZED ( \
           SELECT DISTINCT ON (n.name, g.handler) n.name, n.events, g.handler, g.hash, g.priority, g.max_errors \
           FROM (SELECT name, count(*) AS events FROM due GROUP BY name) n JOIN {p}active_registrations() g \
             ON CASE WHEN g.prefix IS NULL THEN g.pattern = n.name \
                ELSE starts_with(n.name, g.prefix) AND length(n.name) > length(g.prefix) END \
           ORDER BY n.name, g.handler, g.specificity DESC), \
         terms AS MATERIALIZED ( \
           SELECT row_number() OVER () AS number, b.*, \
             CASE WHEN b.priority < coalesce((SELECT priority FROM backlog), 32767) THEN o.room END AS room \
           FROM best b LEFT JOIN offered o ON o.handler = b.handler), \
         fit AS MATERIALIZED ( \
           SELECT coalesce(bool_and(fits) AND sum(births) <= $4, true) AS all FROM ( \
             SELECT sum(events) AS births, sum(events) <= min(room) AS fits FROM terms \
             WHERE room IS NOT NULL GROUP BY handler) h), \
         chosen AS MATERIALIZED ( \
           SELECT ",
        request_id!(),
        " AS id, e.id AS event_id, t.number, t.handler, t.priority, t.max_errors, t.room IS NOT NULL AS is_leased \
           FROM (SELECT id, name, uuid_send(id) AS raw FROM due WHERE (SELECT fit.all FROM fit)) e \
           JOIN terms t ON t.name = e.name \
           UNION ALL \
           SELECT id, event_id, number, handler, priority, max_errors, \
             fits AND count(*) FILTER (WHERE fits) OVER (ORDER BY priority, id ROWS UNBOUNDED PRECEDING) <= $4 \
           FROM ( \
             SELECT *, coalesce(row_number() OVER (PARTITION BY handler ORDER BY priority, id) <= room, false) AS fits FROM ( \
               SELECT ",
        request_id!(),
        " AS id, e.id AS event_id, t.number, t.handler, t.priority, t.max_errors, t.room \
               FROM (SELECT id, name, uuid_send(id) AS raw FROM due WHERE NOT (SELECT fit.all FROM fit)) e \
               JOIN terms t ON t.name = e.name) births) ranked), \
         made AS ( \
           INSERT INTO {p}handler_requests \
             (id, event_id, handler, priority, max_errors, attempt, queue, created_at, owner, lease_until) \
           SELECT id, event_id, handler, priority, max_errors, CASE WHEN is_leased THEN 1 ELSE 0 END, \
             CASE WHEN is_leased THEN NULL ELSE 0 END, statement_timestamp(), CASE WHEN is_leased THEN $2 END, \
             CASE WHEN is_leased THEN statement_timestamp() + $3::bigint * interval '1 microsecond' END \
           FROM chosen), \
         leased AS (",
        note_leases!(
            "statement_timestamp() + $3::bigint * interval '1 microsecond'",
            "chosen WHERE is_leased"
        ),
        " RETURNING id || ' ' || cardinality(requests) AS batch), \
         unwanted AS ( \
           INSERT INTO {p}unwanted_events (event_id, processed_at) \
           SELECT id, statement_timestamp() FROM due WHERE name <> ALL (ARRAY(SELECT name FROM terms)) \
           ON CONFLICT (event_id) DO NOTHING), \
         partly AS MATERIALIZED ( \
           SELECT event_id, coalesce(string_agg(number::text, ' ') FILTER (WHERE is_leased), '') AS leased FROM chosen \
           WHERE NOT (SELECT fit.all FROM fit) GROUP BY event_id) \
         SELECT 0::bigint, d.id, d.name, d.entity_name, d.entity_id, d.data::text, d.timestamp, d.correlation_id, \
           d.causation_id, d.headers::text, d.version::bigint, p.leased \
         FROM due d LEFT JOIN partly p ON p.event_id = d.id \
         UNION ALL \
         SELECT 1, NULL, name, handler, NULL, concat_ws(' ', number, hash, priority, max_errors, (room IS NOT NULL)::int), \
           NULL, NULL, NULL, NULL, NULL, NULL FROM terms \
         UNION ALL \
         SELECT 2, NULL, NULL, NULL, NULL, (SELECT batch FROM leased), NULL, NULL, NULL, NULL, \
           CASE WHEN (SELECT count(*) FROM due) < $1 THEN (extract(epoch FROM ( \
             SELECT min(due_at) FROM {p}waiting_events WHERE owner IS NULL AND due_at > statement_timestamp() AND due_at < 'infinity') \
             - statement_timestamp()) * 1000000)::bigint END, \
           (SELECT concat_ws(' ', ",
        micros_so_far!(),
        ", is_held_back::int, is_contended::int) FROM taken)"
    ),
    // Locks what fan_out does.
    fan_out_one: "SELECT * FROM {p}fan_out_one($1::uuid, $2::bigint, $3::bigint, $4::text[], $5::uuid)",
    // Locks the requests; those that are locked are skipped.
    claim: concat!(
        due!(),
        ", claimed AS ( \
           UPDATE {p}handler_requests r SET attempt = r.attempt + (r.attempt < 9223372036854775807)::int, \
             queue = NULL, backoff_until = NULL, owner = $4, \
             lease_until = statement_timestamp() + $5::bigint * interval '1 microsecond' \
           WHERE r.id = ANY (ARRAY(SELECT id FROM ready UNION ALL SELECT id FROM late)) \
           RETURNING r.id, r.event_id, r.handler, r.priority, r.attempt, r.errors, r.max_errors, r.executions, r.rescues, \
             coalesce(r.completed_at, r.canceled_at, r.dead_at) IS NOT NULL AS has_ended), \
         leased AS (",
        note_leases!(
            "statement_timestamp() + $5::bigint * interval '1 microsecond'",
            "claimed"
        ),
        " RETURNING id || ' ' || cardinality(requests) AS batch), \
         placed AS (SELECT *, row_number() OVER (PARTITION BY event_id ORDER BY id) AS place FROM claimed) \
         SELECT c.id, c.event_id, c.handler, c.priority, c.attempt, c.errors, c.max_errors, c.executions, c.rescues, \
           c.place = 1, statement_timestamp(), \
           CASE WHEN (SELECT count(*) FROM claimed) < $3 THEN ",
        "least(",
        next_due!("unnest($1::text[])"),
        // Somebody else has taken some of them, and there may be others.
        ", CASE WHEN (SELECT count(*) FROM claimed) < (SELECT sum(share) FROM shares) \
             THEN statement_timestamp() + interval '100 milliseconds' END)",
        " END, CASE WHEN (SELECT count(*) FROM claimed) < $3 THEN ",
        suspect_due!("unnest($1::text[])"),
        " ELSE false END, (SELECT batch FROM leased), c.has_ended, ",
        event!(),
        " FROM (SELECT) header LEFT JOIN placed c ON true ",
        with_event!("id = c.event_id AND c.place = 1")
    ),
    // Locks the requests, and the notes of leases that end; those that are locked are skipped.
    settle: concat!(
        "WITH settled AS (",
        settle!(),
        // Whether somebody has the lock is known without taking it if nobody ever had, or if whoever
        // had it last, with the number xmax, has ended. Taking it first is what makes settling
        // dearer by a fifth. Where several share a lock, xmax is a number of another kind, mostly
        // a small one: none that the table can still hold as that of a transaction is believed.
        " AND (r.xmax = '0'::xid \
           OR (age(r.xmax) > (SELECT age(pg_snapshot_xmin(pg_current_snapshot())::xid)) \
             AND age(r.xmax) <= (SELECT age(c.relfrozenxid) FROM pg_class c WHERE c.oid = '{p}handler_requests'::regclass)) \
           OR r.id = (SELECT l.id FROM {p}handler_requests l WHERE l.id = r.id FOR NO KEY UPDATE SKIP LOCKED)) \
           RETURNING r.id), \
         ended AS ( \
           DELETE FROM {p}leases WHERE id = ANY (ARRAY( \
             SELECT id FROM {p}leases \
             WHERE id = ANY ($6::bigint[]) AND (SELECT count(*) FROM settled) = cardinality($1::uuid[]) \
             FOR UPDATE SKIP LOCKED))) \
         SELECT count(*), CASE WHEN count(*) < cardinality($1::uuid[]) THEN array_agg(id)::text END FROM settled"
    ),
    is_ours: concat!("SELECT ", is_ours!()),
    bound_standstill: concat!(
        "SELECT set_config('idle_in_transaction_session_timeout', $1, true), ",
        is_ours!()
    ),
    // As settle, but it waits. The time-out is set before a row is locked.
    settle_in: concat!(
        "SELECT {p}settle($1::uuid[], $2::bigint[], $3::uuid[], $4::boolean[], $5::bigint[], CASE WHEN ",
        is_ours!(),
        " THEN set_config('idle_in_transaction_session_timeout', $6, true) END)"
    ),
    // Locks the notes of leases; those that are locked are skipped.
    lock_leases: "SELECT id, lease_until, cardinality(requests)::bigint FROM {p}leases \
         WHERE lease_until <= statement_timestamp() AND (lease_until, id) > (coalesce($1::timestamptz, '-infinity'), $2::bigint) \
         ORDER BY lease_until, id LIMIT $3 FOR UPDATE SKIP LOCKED",
    // Locks the requests; those that are locked are skipped.
    lock_expired: concat!(
        request!(),
        from_requests!(),
        "WHERE r.id = ANY (ARRAY(SELECT unnest(l.requests) FROM {p}leases l WHERE l.id = ANY ($1::bigint[]))) \
           AND r.lease_until <= statement_timestamp() \
         ORDER BY r.lease_until, r.id LIMIT $2 FOR UPDATE OF r SKIP LOCKED"
    ),
    // Locks the notes; those that are locked are skipped.
    forget_leases: "DELETE FROM {p}leases WHERE id = ANY (ARRAY( \
           SELECT id FROM {p}leases WHERE id = ANY ($1::bigint[]) FOR UPDATE SKIP LOCKED))",
    // Locks the notes.
    tidy_leases: "WITH held AS MATERIALIZED ( \
           SELECT l.id, ( \
             SELECT min(r.lease_until) FROM {p}handler_requests r WHERE r.id = ANY (l.requests)) AS lease_until \
           FROM {p}leases l WHERE l.id = ANY ($1::bigint[])), \
         ended AS (DELETE FROM {p}leases WHERE id = ANY (ARRAY(SELECT id FROM held WHERE lease_until IS NULL))) \
         UPDATE {p}leases l SET lease_until = held.lease_until FROM held \
         WHERE l.id = held.id AND held.lease_until <> l.lease_until",
    held: concat!(
        "SELECT r.id FROM unnest($1::uuid[], $2::bigint[], $3::uuid[]) AS s (id, attempt, owner) CROSS JOIN ",
        one_of!(
            "handler_requests",
            "id = s.id AND attempt = s.attempt AND owner = s.owner"
        ),
        " r"
    ),
    look: look!(
        "WHERE event_id >= $4::uuid ",
        ", first.event_id, first.micros, CASE WHEN $3::text IS NOT NULL THEN pg_notify($3, '')::text END"
    ),
    // Locks the requests; those that are locked are skipped, and are not lost.
    renew: concat!(
        "WITH asked AS MATERIALIZED ( \
           SELECT given.id, given.attempt, held.id AS held, held.lease_until \
           FROM unnest($1::uuid[], $2::bigint[]) AS given (id, attempt) LEFT JOIN LATERAL ( \
             SELECT r.id, r.lease_until FROM {p}handler_requests r \
             WHERE r.id = given.id AND r.attempt = given.attempt AND r.owner = $3 FOR NO KEY UPDATE SKIP LOCKED) held ON true), \
         renewed AS ( \
           UPDATE {p}handler_requests r SET lease_until = statement_timestamp() + $4::bigint * interval '1 microsecond' \
           WHERE r.id = ANY (ARRAY(SELECT held FROM asked WHERE held IS NOT NULL))), \
         shortened AS (",
        note_leases!(
            "statement_timestamp() + $4::bigint * interval '1 microsecond'",
            "(SELECT held AS id FROM asked \
              WHERE lease_until > statement_timestamp() + $4::bigint * interval '1 microsecond') shorter"
        ),
        ") \
         SELECT id, attempt, EXISTS ( \
           SELECT FROM {p}handler_requests r \
           WHERE r.id = asked.id AND r.attempt = asked.attempt AND r.owner = $3) \
         FROM asked WHERE held IS NULL"
    ),
};
