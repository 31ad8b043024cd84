-- Appends a batch of events to any number of streams and shards of one database: all of it or none.
--
-- Heads are locked first, in ascending order, and stay locked until the commit: positions have no gap
-- and become visible in order, and whoever wants a stream or a key of a shard waits for its head, so
-- that two processes cannot each hold what the other needs. Times go forward with the positions: a
-- batch is stamped with the clock, but never earlier than the one before it in its shard. A stream that is not at its expected
-- version makes the division fail and with it the whole statement; a key that exists violates its
-- primary key. The caller then finds out which write was refused and sends the rest again.
--
-- $1..$4   one row a stream: shard, stream, number of events, expected version (-1 any, 0 none yet)
-- $5..$6   one row a shard: shard, number of events
-- $7..$14  one row an event: shard, place in its shard's part of the batch, stream,
--          place in its stream's part, kind, schema, payload, meta
-- $15..$17 one row a key: shard, key, place of the event it stands for
WITH held AS MATERIALIZED (
    SELECT shard FROM shards WHERE log = 'events' AND shard = ANY ($5) ORDER BY shard FOR UPDATE
), wanted AS MATERIALIZED (
    SELECT * FROM unnest($1::smallint[], $2::uuid[], $3::bigint[], $4::bigint[])
        AS w (shard, stream, count, expected)
    -- Nothing is wanted before everything is held.
    WHERE (SELECT count(*) FROM held) = cardinality($5)
), moved AS (
    UPDATE streams s SET version = s.version + w.count
    FROM wanted w
    WHERE w.expected > 0 AND s.shard = w.shard AND s.stream = w.stream AND s.version = w.expected
    RETURNING s.shard, s.stream, s.version
), born AS (
    INSERT INTO streams (shard, stream, version)
    SELECT shard, stream, count FROM wanted WHERE expected = 0
    ON CONFLICT (shard, stream) DO NOTHING
    RETURNING shard, stream, version
), grown AS (
    INSERT INTO streams AS s (shard, stream, version)
    SELECT shard, stream, count FROM wanted WHERE expected < 0
    ON CONFLICT (shard, stream) DO UPDATE SET version = s.version + EXCLUDED.version
    RETURNING shard, stream, version
), reached AS (
    SELECT * FROM moved UNION ALL SELECT * FROM born UNION ALL SELECT * FROM grown
), heads AS (
    UPDATE shards s
    SET head = s.head + h.count
        / CASE WHEN (SELECT count(*) FROM reached) = cardinality($2::uuid[]) THEN 1 ELSE 0 END,
        stamped_at = greatest(s.stamped_at, clock_timestamp())
    FROM unnest($5::smallint[], $6::bigint[]) AS h (shard, count)
    WHERE s.shard = h.shard AND s.log = 'events'
    RETURNING s.shard, s.head - h.count AS base, s.stamped_at
), put AS (
    INSERT INTO events (shard, position, stream, version, kind, schema, payload, meta,
        recorded_at)
    SELECT e.shard, h.base + e.nth, e.stream, r.version - w.count + e.nth_of_stream,
           e.kind, e.schema, e.payload::json, e.meta::json, h.stamped_at
    FROM unnest($7::smallint[], $8::bigint[], $9::uuid[], $10::bigint[],
                $11::text[], $12::smallint[], $13::text[], $14::text[])
        AS e (shard, nth, stream, nth_of_stream, kind, schema, payload, meta)
    JOIN heads h ON h.shard = e.shard
    JOIN reached r ON r.shard = e.shard AND r.stream = e.stream
    JOIN wanted w ON w.shard = e.shard AND w.stream = e.stream
), once AS (
    INSERT INTO keys (shard, key, position)
    SELECT k.shard, k.key, h.base + k.nth
    FROM unnest($15::smallint[], $16::bytea[], $17::bigint[]) AS k (shard, key, nth)
    JOIN heads h ON h.shard = k.shard
)
SELECT shard, base FROM heads
