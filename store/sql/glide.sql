-- Moves checkpoints past events their reactor has nothing to do with, in one statement and without
-- looking into them. Stops before the first event that may concern it, and moves nothing in a shard
-- where something is parked or where the log has a hole: a turn knows what to do about either.
--
-- $1      shards
-- $2..$3  reactor, generation
-- $4      kinds it never has anything to do with
-- $5      kinds it has nothing to do with unless they are the first of their stream
-- $6..$7  at most this many events of a shard, and never beyond this position
-- $8      version of its fold
WITH held AS MATERIALIZED (
    -- As in every turn, the commit does not wait for the disk.
    SELECT shard, position, set_config('synchronous_commit', 'off', true) FROM checkpoints
    WHERE shard = ANY ($1) AND reactor = $2 AND generation = $3 AND parked = 0
    ORDER BY shard FOR UPDATE SKIP LOCKED
), ahead AS MATERIALIZED (
    SELECT h.shard, e.position, e.kind = ANY ($4) OR e.version > 1 AND e.kind = ANY ($5) AS passed
    FROM held h CROSS JOIN LATERAL (
        SELECT position, kind, version FROM events
        WHERE shard = h.shard AND position > h.position AND position <= least(h.position + $6, $7)
        ORDER BY position LIMIT $6
    ) e
), reached AS (
    SELECT shard, coalesce(min(position) FILTER (WHERE NOT passed) - 1, max(position)) AS position
    FROM ahead GROUP BY shard
), dense AS (
    SELECT r.shard, h.position AS after, r.position AS upto
    FROM reached r JOIN held h ON h.shard = r.shard
        JOIN ahead a ON a.shard = r.shard AND a.position <= r.position
    GROUP BY r.shard, h.position, r.position HAVING count(*) = r.position - h.position
)
UPDATE checkpoints c SET position = d.upto, updated_at = clock_timestamp(),
    fold = CASE WHEN c.position = 0 OR c.fold = $8 THEN $8 ELSE 0 END
FROM dense d
WHERE c.shard = d.shard AND c.reactor = $2 AND c.generation = $3 AND c.position = d.after
    AND d.upto > d.after
RETURNING c.shard, d.upto - d.after
