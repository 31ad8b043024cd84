-- Writes changed rows of the accounts read model; what cannot change after birth is not updated.
INSERT INTO read.accounts (shard, generation, id, user_id, platform, platform_user_id, username,
    route, is_active, needs_reconnect, poll_cursor, epoch, created_at, updated_at)
SELECT $1, $2, * FROM unnest($3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[],
    $8::text[], $9::boolean[], $10::text[], $11::text[], $12::bigint[], $13::timestamptz[],
    $14::timestamptz[])
ON CONFLICT (shard, generation, id) DO UPDATE SET
    username = EXCLUDED.username,
    route = EXCLUDED.route,
    is_active = EXCLUDED.is_active,
    needs_reconnect = EXCLUDED.needs_reconnect,
    poll_cursor = EXCLUDED.poll_cursor,
    epoch = EXCLUDED.epoch,
    updated_at = EXCLUDED.updated_at
