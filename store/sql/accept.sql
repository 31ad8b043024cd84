-- Appends a batch of commands. The heads are taken in the statement that uses them and stay locked
-- until it commits: positions have no gap and become visible in order.
--
-- $1..$2  one row a shard: shard, number of commands
-- $3..$7  one row a command: shard, place in its shard's part, kind, payload, request id
WITH heads AS (
    UPDATE shards s SET head = s.head + h.count
    FROM unnest($1::smallint[], $2::bigint[]) AS h (shard, count)
    WHERE s.shard = h.shard AND s.log = 'commands'
    RETURNING s.shard, s.head - h.count AS base
), put AS (
    INSERT INTO commands (shard, position, kind, payload, request)
    SELECT c.shard, h.base + c.nth, c.kind, c.payload::json, c.request
    FROM unnest($3::smallint[], $4::bigint[], $5::text[], $6::text[], $7::text[])
        AS c (shard, nth, kind, payload, request)
    JOIN heads h ON h.shard = c.shard
)
SELECT shard, base FROM heads
