-- R3 and R3c: the least SQL that does what a drain must do in tables of the library's shape: take events off a
-- queue, make a request for each and every handler, give event and request to whoever runs them, and complete the
-- requests under a fence. A thousand requests at a time on two connections; there is nothing in it for backoff,
-- suspects, leases that ran out, patterns, registrations that change, or room.
--
-- R3: requests are born leased to the connection that makes them. R3c: they are born ready, and claimed. R4: R3
-- while 16 connections raise as in R1, but into the queue of R3; a worker that found less than a hundred events waits
-- for 5 ms, as many small commits would slow the producers down.

-- section: create
DROP TABLE IF EXISTS reference_events, reference_unprocessed, reference_requests, reference_handlers;
CREATE TABLE reference_events (
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
CREATE TABLE reference_unprocessed (event_id uuid PRIMARY KEY);
CREATE TABLE reference_handlers (
    number integer PRIMARY KEY,
    handler text COLLATE "C" NOT NULL,
    event text COLLATE "C" NOT NULL
);
CREATE TABLE reference_requests (
    event_id uuid NOT NULL,
    handler_number integer NOT NULL,
    handler text COLLATE "C" NOT NULL,
    priority smallint NOT NULL,
    max_errors bigint NOT NULL,
    errors integer NOT NULL DEFAULT 0,
    attempt bigint NOT NULL,
    executions integer NOT NULL DEFAULT 0,
    queue smallint,
    created_at timestamptz NOT NULL,
    last_execution_at timestamptz,
    completed_at timestamptz,
    owner uuid,
    lease_until timestamptz,
    PRIMARY KEY (event_id, handler_number)
);
CREATE INDEX reference_requests_ready ON reference_requests (handler, priority, event_id) WHERE queue = 0;

-- section: handlers
INSERT INTO reference_handlers (number, handler, event)
SELECT number, 'handler-' || number, $2 FROM generate_series(1, $1::integer) AS number;

-- section: one
WITH raised AS (
    INSERT INTO reference_events (id, name, data, timestamp, correlation_id, version)
    VALUES ($1, $2, $3::text::json, $4, $1, 1) RETURNING id)
INSERT INTO reference_unprocessed (event_id) SELECT id FROM raised;

-- section: many
WITH raised AS (
    INSERT INTO reference_events (id, name, data, timestamp, correlation_id, version)
    SELECT id, name, data::json, at, id, 1
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[]) AS given (id, name, data, at) RETURNING id)
INSERT INTO reference_unprocessed (event_id) SELECT id FROM raised;

-- section: analyze
VACUUM (ANALYZE) reference_events, reference_unprocessed, reference_handlers, reference_requests;

-- section: pin
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET jit = off;
SET plan_cache_mode = force_generic_plan;

-- section: born_leased
WITH due AS MATERIALIZED (
    DELETE FROM reference_unprocessed WHERE event_id = ANY (ARRAY(
        SELECT event_id FROM reference_unprocessed ORDER BY event_id LIMIT $1 FOR UPDATE SKIP LOCKED))
    RETURNING event_id),
events AS MATERIALIZED (SELECT e.* FROM due JOIN reference_events e ON e.id = due.event_id),
made AS (
    INSERT INTO reference_requests
        (event_id, handler_number, handler, priority, max_errors, attempt, created_at, owner, lease_until)
    SELECT e.id, h.number, h.handler, 50, 5, 1, statement_timestamp(), $2, statement_timestamp() + interval '30 seconds'
    FROM events e JOIN reference_handlers h ON h.event = e.name
    RETURNING event_id, handler_number)
SELECT id, NULL, name, data::text, timestamp, correlation_id FROM events
UNION ALL SELECT event_id, handler_number, NULL, NULL, NULL, NULL FROM made;

-- section: born_ready
WITH due AS MATERIALIZED (
    DELETE FROM reference_unprocessed WHERE event_id = ANY (ARRAY(
        SELECT event_id FROM reference_unprocessed ORDER BY event_id LIMIT $1 FOR UPDATE SKIP LOCKED))
    RETURNING event_id)
INSERT INTO reference_requests (event_id, handler_number, handler, priority, max_errors, attempt, queue, created_at)
SELECT e.id, h.number, h.handler, 50, 5, 0, 0, statement_timestamp()
FROM due JOIN reference_events e ON e.id = due.event_id JOIN reference_handlers h ON h.event = e.name;

-- section: claim
WITH claimed AS (
    UPDATE reference_requests SET attempt = attempt + 1, queue = NULL, owner = $3,
        lease_until = statement_timestamp() + interval '30 seconds'
    WHERE (event_id, handler_number) IN (
        SELECT event_id, handler_number FROM reference_requests
        WHERE handler = $2 AND queue = 0 ORDER BY priority, event_id LIMIT $1 FOR UPDATE SKIP LOCKED)
    RETURNING event_id, handler_number)
SELECT c.event_id, c.handler_number, e.name, e.data::text, e.timestamp, e.correlation_id
FROM claimed c JOIN reference_events e ON e.id = c.event_id;

-- section: settle
UPDATE reference_requests r SET completed_at = statement_timestamp(), last_execution_at = statement_timestamp(),
    executions = executions + 1, owner = NULL, lease_until = NULL
FROM unnest($1::uuid[], $2::integer[]) AS s (event_id, handler_number)
WHERE r.event_id = s.event_id AND r.handler_number = s.handler_number AND r.attempt = 1 AND r.owner = $3;

-- section: count
SELECT count(*) FROM reference_requests WHERE completed_at IS NOT NULL;

-- section: drop
DROP TABLE reference_events, reference_unprocessed, reference_requests, reference_handlers;
