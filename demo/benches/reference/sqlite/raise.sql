-- R1 and R2: what any outbox must write, an event. R1 is BEGIN IMMEDIATE, this with one event, COMMIT; R2 is this
-- with a thousand events, each with data of its own. One connection. No queue, no notification, no answer.

-- section: create
DROP TABLE IF EXISTS reference_events;
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

-- section: one
INSERT INTO reference_events (id, name, data, timestamp, correlation_id, version) VALUES (?1, ?2, ?3, ?4, ?1, 1);

-- section: many
INSERT INTO reference_events (id, name, data, timestamp, correlation_id, version)
SELECT unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, unhex(value ->> 0), 1 FROM json_each(?1);

-- section: count
SELECT count(*) FROM reference_events;

-- section: drop
DROP TABLE reference_events;
