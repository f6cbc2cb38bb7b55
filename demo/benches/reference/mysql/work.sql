-- R3 and R3c: the least SQL that does what a drain must do in tables of the library's shape: take events off a
-- queue, make a request for each and every handler, give event and request to whoever runs them, and complete the
-- requests under a fence. A thousand requests at a time on two connections, each batch a transaction; there is
-- nothing in it for backoff, suspects, leases that ran out, patterns, registrations that change, or room.
--
-- R3: requests are born leased to the connection that makes them. R3c: they are born ready, and claimed. R4: R3
-- while 16 connections raise as in R1, but into the queue of R3; a worker that found less than a hundred events waits
-- for 5 ms, as many small commits would slow the producers down.

-- section: create
DROP TABLE IF EXISTS reference_events, reference_unprocessed, reference_requests, reference_handlers;
CREATE TABLE reference_events (
    id BINARY(16) NOT NULL PRIMARY KEY,
    name VARBINARY(255) NOT NULL,
    entity_name VARBINARY(255),
    entity_id VARBINARY(255),
    data LONGTEXT NOT NULL,
    timestamp BIGINT NOT NULL,
    correlation_id BINARY(16) NOT NULL,
    causation_id BINARY(16),
    headers LONGTEXT,
    version BIGINT NOT NULL
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
CREATE TABLE reference_unprocessed (event_id BINARY(16) NOT NULL PRIMARY KEY)
ENGINE = InnoDB ROW_FORMAT = DYNAMIC;
CREATE TABLE reference_handlers (
    number INT NOT NULL PRIMARY KEY,
    handler VARBINARY(255) NOT NULL,
    event VARBINARY(255) NOT NULL
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;
CREATE TABLE reference_requests (
    event_id BINARY(16) NOT NULL,
    handler_number INT NOT NULL,
    handler VARBINARY(255) NOT NULL,
    priority SMALLINT NOT NULL,
    max_errors BIGINT NOT NULL,
    errors BIGINT NOT NULL DEFAULT 0,
    attempt BIGINT NOT NULL,
    executions BIGINT NOT NULL DEFAULT 0,
    queue TINYINT,
    created_at BIGINT NOT NULL,
    last_execution_at BIGINT,
    completed_at BIGINT,
    owner BINARY(16),
    lease_until BIGINT,
    PRIMARY KEY (event_id, handler_number),
    KEY ready (queue, handler, priority, event_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- section: pin
SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;

-- section: handler
INSERT INTO reference_handlers (number, handler, event) VALUES (?, ?, ?);

-- section: one
INSERT INTO reference_events (id, name, data, timestamp, correlation_id, version) VALUES (?, ?, ?, ?, ?, 1);

-- section: queue_one
INSERT INTO reference_unprocessed (event_id) VALUES (?);

-- section: many
INSERT INTO reference_events (id, name, data, timestamp, correlation_id, version)
SELECT UNHEX(id), name, data, at, UNHEX(id), 1
FROM JSON_TABLE(?, '$[*]' COLUMNS (id CHAR(32) PATH '$[0]', name VARCHAR(255) PATH '$[1]',
    data LONGTEXT PATH '$[2]', at BIGINT PATH '$[3]')) j;

-- section: queue_many
INSERT INTO reference_unprocessed (event_id)
SELECT UNHEX(id) FROM JSON_TABLE(?, '$[*]' COLUMNS (id CHAR(32) PATH '$')) j;

-- section: analyze
ANALYZE TABLE reference_events, reference_unprocessed, reference_handlers, reference_requests;

-- section: due
SELECT event_id FROM reference_unprocessed ORDER BY event_id LIMIT ? FOR UPDATE SKIP LOCKED;

-- section: make_leased
INSERT INTO reference_requests
    (event_id, handler_number, handler, priority, max_errors, attempt, created_at, owner, lease_until)
SELECT e.id, h.number, h.handler, 50, 5, 1, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)), ?,
    TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) + 30000000
FROM JSON_TABLE(?, '$[*]' COLUMNS (id CHAR(32) PATH '$')) j
STRAIGHT_JOIN reference_events e FORCE INDEX (PRIMARY) ON e.id = UNHEX(j.id)
STRAIGHT_JOIN reference_handlers h ON h.event = e.name;

-- section: make_ready
INSERT INTO reference_requests (event_id, handler_number, handler, priority, max_errors, attempt, queue, created_at)
SELECT e.id, h.number, h.handler, 50, 5, 0, 0, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))
FROM JSON_TABLE(?, '$[*]' COLUMNS (id CHAR(32) PATH '$')) j
STRAIGHT_JOIN reference_events e FORCE INDEX (PRIMARY) ON e.id = UNHEX(j.id)
STRAIGHT_JOIN reference_handlers h ON h.event = e.name;

-- section: dequeue
DELETE u FROM JSON_TABLE(?, '$[*]' COLUMNS (id CHAR(32) PATH '$')) j
STRAIGHT_JOIN reference_unprocessed u FORCE INDEX (PRIMARY) ON u.event_id = UNHEX(j.id);

-- section: events
SELECT e.id, e.name, e.data, e.timestamp, e.correlation_id
FROM JSON_TABLE(?, '$[*]' COLUMNS (id CHAR(32) PATH '$')) j
STRAIGHT_JOIN reference_events e FORCE INDEX (PRIMARY) ON e.id = UNHEX(j.id);

-- section: handlers_of_event
SELECT number FROM reference_handlers WHERE event = ?;

-- section: ready
SELECT event_id, handler_number FROM reference_requests FORCE INDEX (ready)
WHERE queue = 0 AND handler = ? ORDER BY priority, event_id LIMIT ? FOR UPDATE SKIP LOCKED;

-- section: claim
UPDATE JSON_TABLE(?, '$[*]' COLUMNS (id CHAR(32) PATH '$[0]', number INT PATH '$[1]')) j
STRAIGHT_JOIN reference_requests r FORCE INDEX (PRIMARY) ON r.event_id = UNHEX(j.id) AND r.handler_number = j.number
SET r.attempt = r.attempt + 1, r.queue = NULL, r.owner = ?,
    r.lease_until = TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) + 30000000;

-- section: settle
UPDATE JSON_TABLE(?, '$[*]' COLUMNS (id CHAR(32) PATH '$[0]', number INT PATH '$[1]')) j
STRAIGHT_JOIN reference_requests r FORCE INDEX (PRIMARY) ON r.event_id = UNHEX(j.id) AND r.handler_number = j.number
SET r.completed_at = TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)),
    r.last_execution_at = TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)),
    r.executions = r.executions + 1, r.owner = NULL, r.lease_until = NULL
WHERE r.attempt = 1 AND r.owner = ?;

-- section: count
SELECT COUNT(*) FROM reference_requests WHERE completed_at IS NOT NULL;

-- section: drop
DROP TABLE reference_events, reference_unprocessed, reference_requests, reference_handlers;
