-- What append.sql does, for one event without an expectation and with one key or none: the append
-- of somebody who is alone. The same locks in the same order; a third of the work.
--
-- $1..$6  shard, stream, kind, schema, payload, meta
-- $7      key, or null
WITH head AS (
    UPDATE shards SET head = head + 1, stamped_at = greatest(stamped_at, clock_timestamp())
    WHERE shard = $1 AND log = 'events'
    RETURNING head, stamped_at
), grown AS (
    INSERT INTO streams AS s (shard, stream, version) SELECT $1, $2, 1 FROM head
    ON CONFLICT (shard, stream) DO UPDATE SET version = s.version + 1
    RETURNING version
), put AS (
    INSERT INTO events (shard, position, stream, version, kind, schema, payload, meta, recorded_at)
    SELECT $1, h.head, $2, g.version, $3, $4, $5::json, $6::json, h.stamped_at
    FROM head h, grown g
), once AS (
    INSERT INTO keys (shard, key, position) SELECT $1, $7, head FROM head WHERE $7 IS NOT NULL
)
SELECT head - 1 FROM head
