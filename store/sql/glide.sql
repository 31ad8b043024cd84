-- Moves a checkpoint past events its reactor has nothing to do with, in one statement and without
-- looking into them. Stops before the first event that may concern it, and moves nothing where
-- something is parked or where the log has a hole: a turn knows what to do about either.
--
-- $1..$3  shard, reactor, generation
-- $4      kinds it never has anything to do with
-- $5      kinds it has nothing to do with unless they are the first of their stream
-- $6..$7  at most this many events, and never beyond this position
WITH held AS MATERIALIZED (
    -- As in every turn, the commit does not wait for the disk.
    SELECT position, set_config('synchronous_commit', 'off', true) FROM checkpoints
    WHERE shard = $1 AND reactor = $2 AND generation = $3 AND parked = 0
    FOR UPDATE SKIP LOCKED
), ahead AS MATERIALIZED (
    SELECT e.position, e.kind = ANY ($4) OR e.version > 1 AND e.kind = ANY ($5) AS passed
    FROM held h CROSS JOIN LATERAL (
        SELECT position, kind, version FROM events
        WHERE shard = $1 AND position > h.position AND position <= least(h.position + $6, $7)
        ORDER BY position LIMIT $6
    ) e
), reached AS (
    SELECT coalesce(min(position) FILTER (WHERE NOT passed) - 1, max(position)) AS position
    FROM ahead
)
UPDATE checkpoints c SET position = r.position, updated_at = clock_timestamp()
FROM held h, reached r
WHERE c.shard = $1 AND c.reactor = $2 AND c.generation = $3 AND c.position = h.position
    AND r.position > h.position
    AND (SELECT count(*) FROM ahead a WHERE a.position <= r.position) = r.position - h.position
RETURNING r.position - h.position
