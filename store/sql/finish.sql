-- Moves a finished job into the history, unless it was asked for again since it was claimed
-- ($4: its seq then) or the lease is somebody else's ($3: the fence).
WITH done AS (
    DELETE FROM jobs WHERE shard = $1 AND id = $2 AND fence = $3 AND seq = $4
    RETURNING shard, id, fence, queue, key, attempts, lease_owner, created_at
)
INSERT INTO job_history (shard, id, fence, queue, key, attempts, lease_owner, created_at)
SELECT shard, id, fence, queue, key, attempts, lease_owner, created_at FROM done
