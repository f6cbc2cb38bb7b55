-- tidings 0001: events, handler requests and registrations.
--
-- Compatible with the library from version 0.1.0 on. SQLite locks the whole file for writers while
-- it is applied.
--
-- Names begin with `tidings_`; another table prefix is put in its place throughout. Instants are
-- microseconds since 1970 (UTC), UUIDs their 16 bytes, lists and headers JSON texts. The length of a UUID
-- is checked, since a row whose id is none can be read, named and put off by nobody.

CREATE TABLE tidings_migrations (
    version INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    -- The oldest version of the library that works with the schema once this is applied.
    compatible_from TEXT NOT NULL,
    applied_at INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER) * 1000000)
) STRICT;

-- Events are written once and never changed. Their rows can be large, so the table has row ids and
-- an index on the id, rather than rows in the index. Statements name that index.
CREATE TABLE tidings_events (
    id BLOB NOT NULL CHECK (length(id) = 16),
    name TEXT NOT NULL,
    entity_name TEXT,
    entity_id TEXT,
    data TEXT NOT NULL,
    timestamp INTEGER NOT NULL,
    correlation_id BLOB NOT NULL CHECK (length(correlation_id) = 16),
    causation_id BLOB CHECK (length(causation_id) = 16),
    headers TEXT,
    version INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX tidings_events_id ON tidings_events (id);

-- The queue of events that can be fanned out at once.
CREATE TABLE tidings_unprocessed_events (
    event_id BLOB PRIMARY KEY NOT NULL CHECK (length(event_id) = 16)
) STRICT, WITHOUT ROWID;

-- A new event is on the queue by the statement that stores it, so that nothing can come between,
-- also outside of a transaction.
CREATE TRIGGER tidings_events_raised AFTER INSERT ON tidings_events BEGIN
    INSERT INTO tidings_unprocessed_events (event_id) VALUES (new.id);
END;

-- Unprocessed events that wait: claimed by a process that runs hooks (owner), or backing off.
CREATE TABLE tidings_waiting_events (
    event_id BLOB PRIMARY KEY NOT NULL CHECK (length(event_id) = 16),
    attempt INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    last_error TEXT,
    owner BLOB CHECK (length(owner) = 16),
    due_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX tidings_waiting_events_due ON tidings_waiting_events (due_at, event_id);

-- Processed events that no registration wanted; all others have handler requests.
CREATE TABLE tidings_unwanted_events (
    event_id BLOB PRIMARY KEY NOT NULL CHECK (length(event_id) = 16),
    processed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row for each event and handler that wants it. The id is derived from both, so the primary
-- key refuses a second one, and grows with the event's, so an event's requests lie side by side.
-- Rows are small, and every index names the id: without row ids there is one index less to keep.
CREATE TABLE tidings_handler_requests (
    id BLOB PRIMARY KEY NOT NULL CHECK (length(id) = 16),
    event_id BLOB NOT NULL CHECK (length(event_id) = 16),
    handler TEXT NOT NULL,
    priority INTEGER NOT NULL,
    max_errors INTEGER NOT NULL,
    errors INTEGER NOT NULL DEFAULT 0,
    attempt INTEGER NOT NULL DEFAULT 0,
    executions INTEGER NOT NULL DEFAULT 0,
    rescues INTEGER NOT NULL DEFAULT 0,
    -- In which of the indexes below it waits: 0 ready, 1 backing off, 2 under suspicion, 3 dead;
    -- an executing, completed or canceled one in none.
    queue INTEGER,
    created_at INTEGER NOT NULL,
    backoff_until INTEGER,
    last_execution_at INTEGER,
    completed_at INTEGER,
    canceled_at INTEGER,
    dead_at INTEGER,
    owner BLOB CHECK (length(owner) = 16),
    lease_until INTEGER,
    last_errors TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX tidings_handler_requests_ready ON tidings_handler_requests (handler, priority, id) WHERE queue = 0;
CREATE INDEX tidings_handler_requests_backing_off ON tidings_handler_requests (handler, backoff_until, id) WHERE queue = 1;
CREATE INDEX tidings_handler_requests_suspect ON tidings_handler_requests (handler, backoff_until, priority, id) WHERE queue = 2;
CREATE INDEX tidings_handler_requests_dead ON tidings_handler_requests (id) WHERE queue = 3;
CREATE INDEX tidings_handler_requests_dead_of ON tidings_handler_requests (handler, id) WHERE queue = 3;
CREATE INDEX tidings_handler_requests_leased ON tidings_handler_requests (lease_until, id) WHERE lease_until IS NOT NULL;

-- Which handlers want which events. `prefix` is set for patterns that end in a star.
CREATE TABLE tidings_registrations (
    handler TEXT NOT NULL,
    pattern TEXT NOT NULL,
    priority INTEGER NOT NULL,
    max_errors INTEGER NOT NULL,
    -- The hash of the handler's name, from which ids of requests are derived.
    hash INTEGER NOT NULL,
    prefix TEXT,
    -- Of two patterns that match, the one with the greater number decides.
    specificity INTEGER NOT NULL,
    -- 0 active, 1 retired, 2 renamed.
    state INTEGER NOT NULL,
    renamed_to TEXT,
    last_seen_at INTEGER NOT NULL,
    PRIMARY KEY (handler, pattern)
) STRICT, WITHOUT ROWID;

INSERT INTO tidings_migrations (version, name, compatible_from) VALUES (1, 'create', '0.1.0');
