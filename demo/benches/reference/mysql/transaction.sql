-- R5: one request a transaction, on 16 connections: claimed, one row of the handler's inserted, completed, commit.
-- The same loop with 50 requests in each transaction is what shared transactions are compared with. The jobs are
-- those of R0.

-- section: create_effects
DROP TABLE IF EXISTS reference_effects;
CREATE TABLE reference_effects (job_id BIGINT NOT NULL PRIMARY KEY, data LONGTEXT NOT NULL)
ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- section: lock
SELECT id, data FROM reference_jobs FORCE INDEX (ready) WHERE state = 0 ORDER BY priority, id LIMIT ?
FOR UPDATE SKIP LOCKED;

-- section: effect
INSERT INTO reference_effects (job_id, data) VALUES (?, ?);

-- section: complete_one
UPDATE reference_jobs SET state = 2, claimed_at = TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)),
    completed_at = TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))
WHERE id = ?;

-- section: count_effects
SELECT COUNT(*) FROM reference_effects;

-- section: drop_effects
DROP TABLE reference_effects;
