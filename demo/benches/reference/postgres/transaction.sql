-- R5: one request a transaction, on 16 connections: claimed, one row of the handler's inserted, completed, commit.
-- The same loop with 50 requests between BEGIN and COMMIT is what shared transactions are compared with. The jobs
-- are those of R0.

-- section: create_effects
DROP TABLE IF EXISTS reference_effects;
CREATE TABLE reference_effects (job_id bigint PRIMARY KEY, data text NOT NULL);

-- section: lock
SELECT id, data::text FROM reference_jobs WHERE state = 0 ORDER BY priority, id LIMIT $1 FOR UPDATE SKIP LOCKED;

-- section: effect
INSERT INTO reference_effects (job_id, data) VALUES ($1, $2);

-- section: complete_one
UPDATE reference_jobs SET state = 2, claimed_at = statement_timestamp(), completed_at = statement_timestamp()
WHERE id = $1;

-- section: count_effects
SELECT count(*) FROM reference_effects;

-- section: drop_effects
DROP TABLE reference_effects;
