-- tidings 0001: events, handler requests and registrations, for MySQL and MariaDB.
--
-- Compatible with the library from version 0.1.0 on. Locks nothing that exists: all tables are new.
-- A change of the schema is committed at once here, so every statement can be run again, and the
-- migration is recorded last: what was broken off goes on when it is applied again.
--
-- Names begin with `tidings_`; another table prefix is put in its place throughout. Instants are
-- microseconds since 1970 (UTC), ids the 16 bytes of UUIDs. Names are binary, so that they compare
-- byte by byte: collations ignore case or accents, or the spaces at the end.

CREATE TABLE IF NOT EXISTS tidings_migrations (
    version INT NOT NULL PRIMARY KEY,
    name VARCHAR(255) NOT NULL,
    -- The oldest version of the library that works with the schema once this is applied.
    compatible_from VARCHAR(255) NOT NULL,
    applied_at BIGINT NOT NULL
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Rows that are locked to keep others out: a fan-out shares `names`, what renames takes it alone.
CREATE TABLE IF NOT EXISTS tidings_locks (
    name VARBINARY(255) NOT NULL PRIMARY KEY
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;
INSERT INTO tidings_locks (name) VALUES ('names') ON DUPLICATE KEY UPDATE name = name;

-- Events are written once and never changed. The payload is a text, which is kept as given; the
-- type JSON would be brought into another form.
CREATE TABLE IF NOT EXISTS tidings_events (
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

-- The queue of events that can be fanned out at once. Its rows live for moments.
CREATE TABLE IF NOT EXISTS tidings_unprocessed_events (
    event_id BINARY(16) NOT NULL PRIMARY KEY
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

-- Unprocessed events that wait: claimed by a process that runs hooks (owner), or backing off.
CREATE TABLE IF NOT EXISTS tidings_waiting_events (
    event_id BINARY(16) NOT NULL PRIMARY KEY,
    attempt BIGINT NOT NULL,
    errors BIGINT NOT NULL,
    last_error LONGTEXT,
    owner BINARY(16),
    due_at BIGINT NOT NULL,
    KEY due (due_at, event_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Processed events that no registration wanted; all others have handler requests.
CREATE TABLE IF NOT EXISTS tidings_unwanted_events (
    event_id BINARY(16) NOT NULL PRIMARY KEY,
    processed_at BIGINT NOT NULL
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

-- One row for each event and handler that wants it. The id is derived from both, so the primary
-- key refuses a second one, and grows with the event's, so an event's requests lie side by side.
CREATE TABLE IF NOT EXISTS tidings_handler_requests (
    id BINARY(16) NOT NULL PRIMARY KEY,
    event_id BINARY(16) NOT NULL,
    handler VARBINARY(255) NOT NULL,
    priority SMALLINT NOT NULL,
    max_errors BIGINT NOT NULL,
    errors BIGINT NOT NULL DEFAULT 0,
    attempt BIGINT NOT NULL DEFAULT 0,
    executions BIGINT NOT NULL DEFAULT 0,
    rescues BIGINT NOT NULL DEFAULT 0,
    -- In which queue it waits: 0 ready, 1 backing off, 2 under suspicion, 3 dead; an executing,
    -- completed or canceled one in none.
    queue TINYINT,
    created_at BIGINT NOT NULL,
    backoff_until BIGINT,
    last_execution_at BIGINT,
    completed_at BIGINT,
    canceled_at BIGINT,
    dead_at BIGINT,
    owner BINARY(16),
    lease_until BIGINT,
    last_errors LONGTEXT,
    -- What is ready does not back off, so one index serves all queues.
    KEY queued (queue, handler, backoff_until, priority, id),
    KEY leased (lease_until, id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Which handlers want which events. `prefix` is set for patterns that end in a star.
CREATE TABLE IF NOT EXISTS tidings_registrations (
    handler VARBINARY(255) NOT NULL,
    pattern VARBINARY(255) NOT NULL,
    priority SMALLINT NOT NULL,
    max_errors BIGINT NOT NULL,
    -- The hash of the handler's name, from which ids of requests are derived.
    hash INT NOT NULL,
    prefix VARBINARY(255),
    -- Of two patterns that match, the one with the greater number decides.
    specificity INT NOT NULL,
    -- 0 active, 1 retired, 2 renamed.
    state TINYINT NOT NULL,
    renamed_to VARBINARY(255),
    last_seen_at BIGINT NOT NULL,
    PRIMARY KEY (handler, pattern)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

INSERT INTO tidings_migrations (version, name, compatible_from, applied_at)
VALUES (1, 'create', '0.1.0', TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)))
ON DUPLICATE KEY UPDATE version = version;
