-- R0: a queue of the plainest kind, as that of PostgreSQL: one narrow table with an integer key; rows are claimed by
-- priority and completed, both by UPDATE, a thousand at a time. One connection, since SQLite has one writer; a
-- write-ahead log, and synchronous = FULL, as the library has it.

-- section: create
DROP TABLE IF EXISTS reference_jobs;
CREATE TABLE reference_jobs (
    id INTEGER PRIMARY KEY NOT NULL,
    priority INTEGER NOT NULL,
    state INTEGER NOT NULL,
    claimed_at INTEGER,
    completed_at INTEGER,
    data TEXT NOT NULL
) STRICT;
CREATE INDEX reference_jobs_ready ON reference_jobs (priority, id) WHERE state = 0;

-- section: fill
WITH RECURSIVE numbers (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < ?1)
INSERT INTO reference_jobs (id, priority, state, data) SELECT number, 50, 0, ?2 FROM numbers;

-- section: analyze
ANALYZE;
PRAGMA wal_checkpoint(TRUNCATE);

-- section: claim
UPDATE reference_jobs SET state = 1, claimed_at = CAST(unixepoch('subsec') * 1000000 AS INTEGER)
WHERE id IN (
    SELECT id FROM reference_jobs INDEXED BY reference_jobs_ready WHERE state = 0 ORDER BY priority, id LIMIT ?1)
RETURNING id, data;

-- section: complete
UPDATE reference_jobs SET state = 2, completed_at = CAST(unixepoch('subsec') * 1000000 AS INTEGER)
WHERE id IN (SELECT value FROM json_each(?1));

-- section: count
SELECT count(*) FROM reference_jobs WHERE completed_at IS NOT NULL;

-- section: drop
DROP TABLE reference_jobs;
