-- R0u: R0 as it is usually written, a subquery in IN and a join to the ids, and left to the planner. It is what
-- published queues are compared with.

-- section: claim
UPDATE reference_jobs SET state = 1, claimed_at = statement_timestamp()
WHERE id IN (SELECT id FROM reference_jobs WHERE state = 0 ORDER BY priority, id LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING id, data::text;

-- section: complete
UPDATE reference_jobs SET state = 2, completed_at = statement_timestamp()
FROM unnest($1::bigint[]) AS done (done_id) WHERE id = done_id;
