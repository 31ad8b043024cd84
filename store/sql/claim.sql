-- Claims due jobs of one queue: at most $3, from the shards $1 in the order given, so that a caller
-- who rotates them is fair. A claim moves due_at to the end of the lease; a job whose worker died
-- is therefore found by the same condition as one that became due.
--
-- = ANY(ARRAY(…)) because a join makes the planner expect a tenth of the table and hash all of it.
UPDATE jobs SET
    due_at = now() + $4 * interval '1 second',
    lease_owner = $5,
    attempts = attempts + 1,
    fence = fence + 1
WHERE shard = ANY ($1) AND id = ANY (ARRAY(
    SELECT due.id
    FROM unnest($1::smallint[]) WITH ORDINALITY AS s (shard, nth)
    CROSS JOIN LATERAL (
        SELECT id FROM jobs
        WHERE shard = s.shard AND queue = $2 AND parked_at IS NULL AND due_at <= now()
        ORDER BY due_at LIMIT $3
        FOR UPDATE SKIP LOCKED
    ) due
    LIMIT $3
))
RETURNING shard, id, key, payload::text, attempts, fence, seq
