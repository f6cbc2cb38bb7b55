-- R3 and R3c: the least SQL that does what a drain must do in tables of the library's shape: take events off a
-- queue, make a request for each and every handler, give event and request to whoever runs them, and complete the
-- requests under a fence. A thousand requests at a time on one connection, each batch a transaction that has the
-- write lock from its beginning; there is nothing in it for backoff, suspects, leases that ran out, patterns,
-- registrations that change, or room.
--
-- R3: requests are born leased to the connection that makes them. R3c: they are born ready, and claimed. R4: R3
-- while another connection raises as in R1, but into the queue of R3; a worker that found less than a hundred events
-- waits for 5 ms.

-- section: create
DROP TABLE IF EXISTS reference_events;
DROP TABLE IF EXISTS reference_unprocessed;
DROP TABLE IF EXISTS reference_requests;
DROP TABLE IF EXISTS reference_handlers;
CREATE TABLE reference_events (
    id BLOB NOT NULL,
    name TEXT NOT NULL,
    entity_name TEXT,
    entity_id TEXT,
    data TEXT NOT NULL,
    timestamp INTEGER NOT NULL,
    correlation_id BLOB NOT NULL,
    causation_id BLOB,
    headers TEXT,
    version INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX reference_events_id ON reference_events (id);
CREATE TABLE reference_unprocessed (event_id BLOB PRIMARY KEY NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE reference_handlers (
    number INTEGER PRIMARY KEY NOT NULL,
    handler TEXT NOT NULL,
    event TEXT NOT NULL
) STRICT;
CREATE TABLE reference_requests (
    event_id BLOB NOT NULL,
    handler_number INTEGER NOT NULL,
    handler TEXT NOT NULL,
    priority INTEGER NOT NULL,
    max_errors INTEGER NOT NULL,
    errors INTEGER NOT NULL DEFAULT 0,
    attempt INTEGER NOT NULL,
    executions INTEGER NOT NULL DEFAULT 0,
    queue INTEGER,
    created_at INTEGER NOT NULL,
    last_execution_at INTEGER,
    completed_at INTEGER,
    owner BLOB,
    lease_until INTEGER,
    PRIMARY KEY (event_id, handler_number)
) STRICT, WITHOUT ROWID;
CREATE INDEX reference_requests_ready ON reference_requests (handler, priority, event_id) WHERE queue = 0;

-- section: handler
INSERT INTO reference_handlers (number, handler, event) VALUES (?1, ?2, ?3);

-- section: one
INSERT INTO reference_events (id, name, data, timestamp, correlation_id, version) VALUES (?1, ?2, ?3, ?4, ?1, 1);

-- section: queue_one
INSERT INTO reference_unprocessed (event_id) VALUES (?1);

-- section: many
INSERT INTO reference_events (id, name, data, timestamp, correlation_id, version)
SELECT unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, unhex(value ->> 0), 1 FROM json_each(?1);

-- section: queue_many
INSERT INTO reference_unprocessed (event_id) SELECT unhex(value) FROM json_each(?1);

-- section: analyze
ANALYZE;
PRAGMA wal_checkpoint(TRUNCATE);

-- section: make_leased
INSERT INTO reference_requests
    (event_id, handler_number, handler, priority, max_errors, attempt, created_at, owner, lease_until)
SELECT e.id, h.number, h.handler, 50, 5, 1, CAST(unixepoch('subsec') * 1000000 AS INTEGER), ?2, CAST(unixepoch('subsec') * 1000000 AS INTEGER) + 30000000
FROM (SELECT event_id FROM reference_unprocessed ORDER BY event_id LIMIT ?1) d
CROSS JOIN reference_events e INDEXED BY reference_events_id ON e.id = d.event_id
CROSS JOIN reference_handlers h ON h.event = e.name
RETURNING event_id, handler_number;

-- section: make_ready
INSERT INTO reference_requests (event_id, handler_number, handler, priority, max_errors, attempt, queue, created_at)
SELECT e.id, h.number, h.handler, 50, 5, 0, 0, CAST(unixepoch('subsec') * 1000000 AS INTEGER)
FROM (SELECT event_id FROM reference_unprocessed ORDER BY event_id LIMIT ?1) d
CROSS JOIN reference_events e INDEXED BY reference_events_id ON e.id = d.event_id
CROSS JOIN reference_handlers h ON h.event = e.name;

-- section: due_events
SELECT e.id, e.name, e.data, e.timestamp, e.correlation_id
FROM (SELECT event_id FROM reference_unprocessed ORDER BY event_id LIMIT ?1) d
CROSS JOIN reference_events e INDEXED BY reference_events_id ON e.id = d.event_id;

-- section: dequeue
DELETE FROM reference_unprocessed WHERE event_id IN (
    SELECT event_id FROM reference_unprocessed ORDER BY event_id LIMIT ?1);

-- section: claim
UPDATE reference_requests SET attempt = attempt + 1, queue = NULL, owner = ?3,
    lease_until = CAST(unixepoch('subsec') * 1000000 AS INTEGER) + 30000000
WHERE (event_id, handler_number) IN (
    SELECT event_id, handler_number FROM reference_requests INDEXED BY reference_requests_ready
    WHERE handler = ?2 AND queue = 0 ORDER BY priority, event_id LIMIT ?1)
RETURNING event_id, handler_number,
    (SELECT data FROM reference_events e INDEXED BY reference_events_id WHERE e.id = reference_requests.event_id);

-- section: settle
UPDATE reference_requests SET completed_at = CAST(unixepoch('subsec') * 1000000 AS INTEGER),
    last_execution_at = CAST(unixepoch('subsec') * 1000000 AS INTEGER), executions = executions + 1, owner = NULL, lease_until = NULL
FROM json_each(?1) s
WHERE reference_requests.event_id = unhex(s.value ->> 0) AND reference_requests.handler_number = s.value ->> 1
    AND reference_requests.attempt = 1 AND reference_requests.owner = ?2;

-- section: count
SELECT count(*) FROM reference_requests WHERE completed_at IS NOT NULL;

-- section: drop
DROP TABLE reference_events;
DROP TABLE reference_unprocessed;
DROP TABLE reference_requests;
DROP TABLE reference_handlers;
