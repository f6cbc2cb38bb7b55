-- R5: one request a transaction: claimed, one row of the handler's inserted, completed, commit. The same loop with 50
-- requests in each transaction is what shared transactions are compared with. The jobs are those of R0.

-- section: create_effects
DROP TABLE IF EXISTS reference_effects;
CREATE TABLE reference_effects (job_id INTEGER PRIMARY KEY NOT NULL, data TEXT NOT NULL) STRICT;

-- section: lock
SELECT id, data FROM reference_jobs INDEXED BY reference_jobs_ready WHERE state = 0 ORDER BY priority, id LIMIT ?1;

-- section: effect
INSERT INTO reference_effects (job_id, data) VALUES (?1, ?2);

-- section: complete_one
UPDATE reference_jobs SET state = 2, claimed_at = CAST(unixepoch('subsec') * 1000000 AS INTEGER),
    completed_at = CAST(unixepoch('subsec') * 1000000 AS INTEGER)
WHERE id = ?1;

-- section: count_effects
SELECT count(*) FROM reference_effects;

-- section: drop_effects
DROP TABLE reference_effects;
