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
    handler text COLLATE "C" NOT NULL,
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
LANGUAGE sql VOLATILE ROWS 20
AS $$
    SELECT pg_advisory_xact_lock_shared('tidings_registrations'::regclass::oid::int, 0);
    SELECT * FROM tidings_registrations WHERE state = 0;
$$;

INSERT INTO tidings_migrations (version, name, compatible_from) VALUES (1, 'create', '0.1.0');
