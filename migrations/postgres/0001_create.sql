-- tidings 0001: events, handler requests and registrations.
--
-- Compatible with the library from version 0.1.0 on. Locks nothing that exists: all tables are new.
--
-- Names begin with `tidings_`; another table prefix is put in its place throughout.

CREATE TABLE tidings_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    -- The oldest version of the library that works with the schema once this is applied.
    compatible_from text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT statement_timestamp()
);

-- Events are written once and never changed. The payload is `json`, which keeps the text as given.
CREATE TABLE tidings_events (
    id uuid PRIMARY KEY,
    name text COLLATE "C" NOT NULL,
    entity_name text COLLATE "C",
    entity_id text COLLATE "C",
    data json NOT NULL,
    timestamp timestamptz NOT NULL,
    correlation_id uuid NOT NULL,
    causation_id uuid,
    headers json,
    version integer NOT NULL
);

-- The queue of events that can be fanned out at once. Its rows live for moments, so vacuum comes
-- by early.
CREATE TABLE tidings_unprocessed_events (
    event_id uuid PRIMARY KEY
) WITH (
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 1000
);

-- Unprocessed events that wait: claimed by a process that runs hooks (owner), or backing off.
CREATE TABLE tidings_waiting_events (
    event_id uuid PRIMARY KEY,
    attempt bigint NOT NULL,
    errors integer NOT NULL,
    last_error text,
    owner uuid,
    due_at timestamptz NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 1000
);
CREATE INDEX tidings_waiting_events_due ON tidings_waiting_events (due_at, event_id);

-- Processed events that no registration wanted; all others have handler requests.
CREATE TABLE tidings_unwanted_events (
    event_id uuid PRIMARY KEY,
    processed_at timestamptz NOT NULL
);

-- One row for each event and handler that wants it. The id is derived from both, so the primary
-- key refuses a second one, and grows with the event's, so an event's requests lie side by side.
-- No index knows leases, owners or what was completed when: a settlement of an executing request
-- touches no index. Half of each page is left for that second version of its rows.
CREATE TABLE tidings_handler_requests (
    id uuid PRIMARY KEY,
    event_id uuid NOT NULL,
    -- One that fits into no index would let no rescue pass.
    handler text COLLATE "C" NOT NULL CHECK (octet_length(handler) <= 1020),
    priority smallint NOT NULL,
    max_errors bigint NOT NULL,
    errors integer NOT NULL DEFAULT 0,
    attempt bigint NOT NULL DEFAULT 0,
    executions integer NOT NULL DEFAULT 0,
    rescues integer NOT NULL DEFAULT 0,
    -- In which of the indexes below it waits: 0 ready, 1 backing off, 2 under suspicion, 3 dead;
    -- an executing, completed or canceled one in none.
    queue smallint,
    created_at timestamptz NOT NULL,
    backoff_until timestamptz,
    last_execution_at timestamptz,
    completed_at timestamptz,
    canceled_at timestamptz,
    dead_at timestamptz,
    owner uuid,
    lease_until timestamptz,
    last_errors json
) WITH (
    fillfactor = 48,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 10000,
    autovacuum_analyze_scale_factor = 0.05
);
CREATE INDEX tidings_handler_requests_ready ON tidings_handler_requests (handler, priority, id) WHERE queue = 0;
CREATE INDEX tidings_handler_requests_backing_off ON tidings_handler_requests (handler, backoff_until, id) WHERE queue = 1;
CREATE INDEX tidings_handler_requests_suspect ON tidings_handler_requests (handler, backoff_until, priority, id) WHERE queue = 2;
CREATE INDEX tidings_handler_requests_dead ON tidings_handler_requests (id) WHERE queue = 3;
CREATE INDEX tidings_handler_requests_dead_of ON tidings_handler_requests (handler, id) WHERE queue = 3;

-- Where to look for leases that ran out, instead of an index of them: which requests were leased
-- together. Every leased request is in a row here whose time is not later than the end of its lease;
-- a row goes when all of its requests were settled, or when a rescue finds that they are. Ids do not
-- compress, so nobody tries.
CREATE TABLE tidings_leases (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lease_until timestamptz NOT NULL,
    requests uuid[] NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 1000
);
ALTER TABLE tidings_leases ALTER COLUMN requests SET STORAGE EXTERNAL;
CREATE INDEX tidings_leases_until ON tidings_leases (lease_until, id);

-- Which handlers want which events. `prefix` is set for patterns that end in a star.
CREATE TABLE tidings_registrations (
    handler text COLLATE "C" NOT NULL,
    pattern text COLLATE "C" NOT NULL,
    priority smallint NOT NULL,
    max_errors bigint NOT NULL,
    -- The hash of the handler's name, from which ids of requests are derived.
    hash integer NOT NULL,
    prefix text COLLATE "C",
    -- Of two patterns that match, the one with the greater number decides.
    specificity integer NOT NULL,
    -- 0 active, 1 retired, 2 renamed.
    state smallint NOT NULL,
    renamed_to text COLLATE "C",
    last_seen_at timestamptz NOT NULL,
    PRIMARY KEY (handler, pattern)
);

-- The active registrations as they are when it is called, also inside of a longer statement, and
-- no rename until its transaction ends: each statement of a volatile function takes a new snapshot,
-- so a fan-out that has waited for a rename obeys it.
CREATE FUNCTION tidings_active_registrations() RETURNS SETOF tidings_registrations
LANGUAGE plpgsql VOLATILE ROWS 20
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared('tidings_registrations'::regclass::oid::int, 0);
    RETURN QUERY SELECT * FROM tidings_registrations WHERE state = 0;
END
$$;

-- Fans one event out, as the statement for many does, which takes half as long again, or more. Answers rows
-- of the same kinds, or a single one of kind 3 when there is more than one event, one that has waited long
-- enough, or less room than handlers to lease requests for: that is for the other one.
CREATE FUNCTION tidings_fan_out_one(leased_by uuid, lease bigint, total_room bigint, handlers text[], lowest_id uuid) RETURNS TABLE (
    kind bigint, event_id uuid, event_name text, entity_name text, entity_id text, data text, at timestamptz,
    correlation_id uuid, causation_id uuid, headers text, number bigint, leased text
)
LANGUAGE plpgsql VOLATILE ROWS 3
AS $$
#variable_conflict use_column
DECLARE
    due record;
    answers bigint;
BEGIN
    -- In few statements: what each costs to begin is what this function saves.
    SELECT q.count > 1 OR coalesce(w.due_at <= statement_timestamp(), false)
            OR leased_by IS NOT NULL AND total_room < cardinality(handlers) AS is_too_much,
        q.count = 0 AS is_none, q.place,
        (extract(epoch FROM CASE WHEN isfinite(w.due_at) THEN w.due_at - statement_timestamp() END) * 1000000)::bigint AS next_due, e.*
    INTO due FROM (
        SELECT count(*) AS count, (array_agg(u.ctid))[1] AS place, (array_agg(u.event_id))[1] AS event_id FROM (
            SELECT u.ctid, u.event_id FROM tidings_unprocessed_events u WHERE u.event_id >= lowest_id
            ORDER BY u.event_id LIMIT 2 FOR UPDATE SKIP LOCKED) u) q
    LEFT JOIN LATERAL (SELECT w.due_at FROM tidings_waiting_events w
        WHERE w.owner IS NULL OR w.due_at <= statement_timestamp() ORDER BY w.due_at LIMIT 1) w ON true
    LEFT JOIN LATERAL (SELECT * FROM tidings_events e WHERE e.id = q.event_id OFFSET 0) e ON true;
    IF due.is_too_much OR due.is_none OR due.id IS NULL THEN
        kind := CASE WHEN due.is_none AND NOT due.is_too_much THEN 2 ELSE 3 END;
        number := due.next_due;
        leased := (extract(epoch FROM clock_timestamp() - statement_timestamp()) * 1000000)::bigint;
        RETURN NEXT;
        RETURN;
    END IF;
    -- The statement after it has a snapshot of its own, so it obeys a rename that was waited for.
    PERFORM pg_advisory_xact_lock_shared('tidings_registrations'::regclass::oid::int, 0);
    RETURN QUERY
    WITH done AS (DELETE FROM tidings_unprocessed_events u WHERE u.ctid = due.place),
    terms AS MATERIALIZED (
        SELECT DISTINCT ON (g.handler) g.handler, g.hash, g.priority, g.max_errors,
            leased_by IS NOT NULL AND g.handler = ANY (handlers) AND g.priority < coalesce((
                SELECT min(b.priority) FROM unnest(handlers) AS offered (handler) CROSS JOIN LATERAL (
                    (SELECT r.priority FROM tidings_handler_requests r
                     WHERE r.handler = offered.handler AND r.queue = 0 ORDER BY r.priority, r.id LIMIT 1)
                    UNION ALL (SELECT r.priority FROM tidings_handler_requests r
                     WHERE r.handler = offered.handler AND r.queue = 1 AND r.backoff_until <= statement_timestamp()
                     ORDER BY r.backoff_until LIMIT 100)) b), 32767) AS is_leased
        FROM tidings_registrations g
        WHERE g.state = 0 AND CASE WHEN g.prefix IS NULL THEN g.pattern = due.name
            ELSE starts_with(due.name, g.prefix) AND length(due.name) > length(g.prefix) END
        ORDER BY g.handler, g.specificity DESC),
    made AS (
        INSERT INTO tidings_handler_requests
            (id, event_id, handler, priority, max_errors, attempt, queue, created_at, owner, lease_until)
        SELECT encode(set_byte(set_byte(set_byte(set_byte(set_byte(e.raw, 6, 128 | (get_byte(e.raw, 6) & 15)),
                12, get_byte(e.raw, 12) # (t.hash >> 24 & 255)), 13, get_byte(e.raw, 13) # (t.hash >> 16 & 255)),
                14, get_byte(e.raw, 14) # (t.hash >> 8 & 255)), 15, get_byte(e.raw, 15) # (t.hash & 255)), 'hex')::uuid,
            due.id, t.handler, t.priority, t.max_errors, t.is_leased::int, CASE WHEN NOT t.is_leased THEN 0 END,
            statement_timestamp(), CASE WHEN t.is_leased THEN leased_by END,
            CASE WHEN t.is_leased THEN statement_timestamp() + lease * interval '1 microsecond' END
        FROM (SELECT uuid_send(due.id) AS raw) e CROSS JOIN terms t
        RETURNING id, owner),
    noted AS (
        INSERT INTO tidings_leases (lease_until, requests)
        SELECT statement_timestamp() + lease * interval '1 microsecond', array_agg(m.id) FROM made m
        WHERE m.owner IS NOT NULL HAVING count(*) > 0
        RETURNING id || ' ' || cardinality(requests) AS batch)
    SELECT 0::bigint, due.id, due.name::text, due.entity_name::text, due.entity_id::text,
        CASE WHEN leased_by IS NOT NULL THEN due.data END::text, due.timestamp, due.correlation_id,
        due.causation_id, due.headers::text, due.version::bigint, NULL::text
    UNION ALL
    SELECT 1, NULL, due.name, t.handler, NULL,
        concat_ws(' ', row_number() OVER (), t.hash, t.priority, t.max_errors, t.is_leased::int),
        NULL, NULL, NULL, NULL, NULL, NULL FROM terms t
    UNION ALL
    SELECT 2, NULL, NULL, NULL, NULL, (SELECT n.batch FROM noted n), NULL, NULL, NULL, NULL, due.next_due,
        (extract(epoch FROM clock_timestamp() - statement_timestamp()) * 1000000)::bigint::text;
    GET DIAGNOSTICS answers = ROW_COUNT;
    IF answers = 2 THEN
        INSERT INTO tidings_unwanted_events (event_id, processed_at) VALUES (due.id, statement_timestamp())
        ON CONFLICT (event_id) DO NOTHING;
    END IF;
END
$$;

-- Stores events, of which a column that is the same for all is left out (NULL): no entity, no cause, no
-- headers, the event's own correlation id, version 1. Answers nothing if all of them are new; else
-- NULL and the ids of those that are. Waits for transactions that are storing the same ids.
--
-- Many are stored as if none existed: asking beforehand, as ON CONFLICT does, costs a fifth of it all. If one
-- does exist, that is taken back and asked; the savepoint for it is worth it from some events on.
CREATE FUNCTION tidings_raise(
    ids uuid[], names text[], entity_names text[], entity_ids text[], all_data text[], timestamps timestamptz[],
    correlation_ids uuid[], causation_ids uuid[], all_headers text[], versions bigint[], notifies boolean
) RETURNS SETOF uuid
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    new_ids uuid[];
BEGIN
    IF cardinality(ids) >= 16 THEN
        BEGIN
            INSERT INTO tidings_events
                (id, name, entity_name, entity_id, data, timestamp, correlation_id, causation_id, headers, version)
            SELECT g.id, g.name, g.entity_name, g.entity_id, g.data::json, g.at, coalesce(g.correlation_id, g.id),
                g.causation_id, g.headers::json, coalesce(g.version, 1)
            FROM unnest(ids, names, entity_names, entity_ids, all_data, timestamps, correlation_ids, causation_ids,
                    all_headers, versions)
                AS g (id, name, entity_name, entity_id, data, at, correlation_id, causation_id, headers, version);
            INSERT INTO tidings_unprocessed_events (event_id) SELECT unnest(ids);
            IF notifies THEN
                PERFORM pg_notify('tidings_raised', '');
            END IF;
            RETURN;
        EXCEPTION WHEN unique_violation THEN
            NULL;
        END;
    END IF;
    WITH raised AS (
        INSERT INTO tidings_events
            (id, name, entity_name, entity_id, data, timestamp, correlation_id, causation_id, headers, version)
        SELECT g.id, g.name, g.entity_name, g.entity_id, g.data::json, g.at, coalesce(g.correlation_id, g.id),
            g.causation_id, g.headers::json, coalesce(g.version, 1)
        FROM unnest(ids, names, entity_names, entity_ids, all_data, timestamps, correlation_ids, causation_ids,
                all_headers, versions)
            AS g (id, name, entity_name, entity_id, data, at, correlation_id, causation_id, headers, version)
        ON CONFLICT (id) DO NOTHING
        RETURNING id)
    SELECT array_agg(id) INTO new_ids FROM raised;
    INSERT INTO tidings_unprocessed_events (event_id) SELECT unnest(new_ids);
    IF notifies AND new_ids IS NOT NULL THEN
        PERFORM pg_notify('tidings_raised', '');
    END IF;
    IF cardinality(new_ids) IS DISTINCT FROM cardinality(ids) THEN
        RETURN NEXT NULL;
        RETURN QUERY SELECT unnest(new_ids);
    END IF;
END
$$;

-- Completes and snoozes requests in the transaction of their handlers, whose connection is set as the
-- application wants it: under settings of its own, and planned once for a connection. Waits for requests
-- that somebody has locked, and answers those whose fence held. Without `standstill` it does nothing.
CREATE FUNCTION tidings_settle(
    ids uuid[], attempts bigint[], owners uuid[], all_executed boolean[], snoozes bigint[], standstill text
) RETURNS SETOF uuid
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_bitmapscan = off
SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    IF standstill IS NULL THEN
        RETURN;
    END IF;
    -- Nothing is joined, as in the statement of sessions. There are few, so their places are searched.
    RETURN QUERY
    UPDATE tidings_handler_requests r SET
        completed_at = CASE WHEN snoozes[array_position(ids, r.id)] IS NULL THEN statement_timestamp() END,
        queue = CASE WHEN snoozes[array_position(ids, r.id)] IS NULL THEN NULL WHEN r.rescues >= 3 THEN 2 ELSE 1 END,
        backoff_until = statement_timestamp() + snoozes[array_position(ids, r.id)] * interval '1 microsecond',
        executions = CASE WHEN all_executed[array_position(ids, r.id)] AND r.rescues < 3
            THEN least(r.executions, 2147483646) + 1 ELSE r.executions END,
        last_execution_at = CASE WHEN all_executed[array_position(ids, r.id)] AND r.rescues < 3
            THEN statement_timestamp() ELSE r.last_execution_at END,
        owner = NULL, lease_until = NULL
    WHERE r.id = ANY (ids) AND r.attempt = attempts[array_position(ids, r.id)]
        AND r.owner = owners[array_position(ids, r.id)]
    RETURNING r.id;
END
$$;

INSERT INTO tidings_migrations (version, name, compatible_from) VALUES (1, 'create', '0.1.0');
