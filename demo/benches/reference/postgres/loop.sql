-- R0: a queue of the plainest kind. One narrow table with a bigint key; rows are claimed by priority with
-- SKIP LOCKED and completed, both by UPDATE, a thousand at a time on two connections. It has no handlers, no
-- fan-out, no retries, no lease and no fence.

-- section: create
DROP TABLE IF EXISTS reference_jobs;
CREATE TABLE reference_jobs (
    id bigint PRIMARY KEY,
    priority smallint NOT NULL,
    state smallint NOT NULL,
    claimed_at timestamptz,
    completed_at timestamptz,
    data json NOT NULL
);
CREATE INDEX reference_jobs_ready ON reference_jobs (priority, id) WHERE state = 0;

-- section: fill
INSERT INTO reference_jobs (id, priority, state, data)
SELECT number, 50, 0, $2::text::json FROM generate_series(1, $1::bigint) AS number;

-- section: analyze
VACUUM (ANALYZE) reference_jobs;

-- section: pin
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET jit = off;
SET plan_cache_mode = force_generic_plan;

-- section: claim
UPDATE reference_jobs SET state = 1, claimed_at = statement_timestamp()
WHERE id = ANY (ARRAY(
    SELECT id FROM reference_jobs WHERE state = 0 ORDER BY priority, id LIMIT $1 FOR UPDATE SKIP LOCKED))
RETURNING id, data::text;

-- section: complete
UPDATE reference_jobs SET state = 2, completed_at = statement_timestamp() WHERE id = ANY ($1::bigint[]);

-- section: count
SELECT count(*) FROM reference_jobs WHERE completed_at IS NOT NULL;

-- section: drop
DROP TABLE reference_jobs;
