-- R1 and R2: what any outbox must write, an event. R1 is BEGIN, this with one event, COMMIT, on 16 connections;
-- R2 is this with a thousand events, each with data of its own, in autocommit, on two connections. No queue, no
-- notification, no answer.

-- section: create
DROP TABLE IF EXISTS reference_events;
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

-- section: one
INSERT INTO reference_events (id, name, data, timestamp, correlation_id, version)
VALUES ($1, $2, $3::text::json, $4, $1, 1);

-- section: many
INSERT INTO reference_events (id, name, data, timestamp, correlation_id, version)
SELECT id, name, data::json, at, id, 1
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[]) AS given (id, name, data, at);

-- section: count
SELECT count(*) FROM reference_events;

-- section: drop
DROP TABLE reference_events;
