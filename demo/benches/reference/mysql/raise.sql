-- R1 and R2: what any outbox must write, an event. R1 is START TRANSACTION, this with one event, COMMIT, on 16
-- connections; R2 is this with a thousand events, each with data of its own, in autocommit, on two connections. No
-- queue, no notification, no answer.

-- section: create
DROP TABLE IF EXISTS reference_events;
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

-- section: pin
SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;

-- section: one
INSERT INTO reference_events (id, name, data, timestamp, correlation_id, version) VALUES (?, ?, ?, ?, ?, 1);

-- section: many
INSERT INTO reference_events (id, name, data, timestamp, correlation_id, version)
SELECT UNHEX(id), name, data, at, UNHEX(id), 1
FROM JSON_TABLE(?, '$[*]' COLUMNS (id CHAR(32) PATH '$[0]', name VARCHAR(255) PATH '$[1]',
    data LONGTEXT PATH '$[2]', at BIGINT PATH '$[3]')) j;

-- section: count
SELECT COUNT(*) FROM reference_events;

-- section: drop
DROP TABLE reference_events;
