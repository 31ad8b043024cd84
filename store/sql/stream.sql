-- The events of some streams up to a position: by the index as far as it goes, beyond it by reading
-- the end of the log. Looked up one by one (LIMIT 1), because a join made the planner hash the log.
--
-- $1 shard, $2 streams, $3 versions after this, $4 versions up to this, $5 positions up to this
-- $6 how far the index is
SELECT e.*
FROM (
    SELECT p.position FROM places p
    WHERE p.shard = $1 AND p.stream = ANY ($2) AND p.version > $3 AND p.version <= $4
        AND p.position <= least($5, $6)
    UNION ALL
    SELECT t.position FROM events t
    WHERE t.shard = $1 AND t.position > $6 AND t.position <= $5
        AND t.stream = ANY ($2) AND t.version > $3 AND t.version <= $4
) at
CROSS JOIN LATERAL (
    SELECT position, stream, version, kind, schema, payload::text, meta::text, recorded_at
    FROM events WHERE shard = $1 AND position = at.position LIMIT 1
) e
ORDER BY e.position
