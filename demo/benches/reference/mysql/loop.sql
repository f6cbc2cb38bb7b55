-- R0: a queue of the plainest kind, as that of PostgreSQL: one narrow table with a bigint key; rows are claimed by
-- priority with SKIP LOCKED and completed, a thousand at a time on two connections. Neither server can claim and
-- answer in one statement, so a claim is a transaction of two. Hints name the indexes: a scan would lock what it
-- reads. READ COMMITTED, under which no gaps are locked.

-- section: create
DROP TABLE IF EXISTS reference_jobs;
CREATE TABLE reference_jobs (
    id BIGINT NOT NULL PRIMARY KEY,
    priority SMALLINT NOT NULL,
    state TINYINT NOT NULL,
    claimed_at BIGINT,
    completed_at BIGINT,
    data LONGTEXT NOT NULL,
    KEY ready (state, priority, id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- section: fill
INSERT INTO reference_jobs (id, priority, state, data) SELECT id, 50, 0, ?
FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) j;

-- section: analyze
ANALYZE TABLE reference_jobs;

-- section: pin
SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;

-- section: claim_ids
SELECT id, data FROM reference_jobs FORCE INDEX (ready) WHERE state = 0 ORDER BY priority, id LIMIT ?
FOR UPDATE SKIP LOCKED;

-- section: claim
UPDATE JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) j
STRAIGHT_JOIN reference_jobs r FORCE INDEX (PRIMARY) ON r.id = j.id
SET r.state = 1, r.claimed_at = TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6));

-- section: complete
UPDATE JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) j
STRAIGHT_JOIN reference_jobs r FORCE INDEX (PRIMARY) ON r.id = j.id
SET r.state = 2, r.completed_at = TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6));

-- section: count
SELECT COUNT(*) FROM reference_jobs WHERE completed_at IS NOT NULL;

-- section: drop
DROP TABLE reference_jobs;
