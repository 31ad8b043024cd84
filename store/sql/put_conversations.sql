-- Writes changed conversations; what cannot change after birth is not updated. When one began can: an
-- import may tell of an earlier time.
INSERT INTO read.conversations (shard, generation, id, user_id, account_id, platform, thread,
    participant_id, participant_name, named_at, last_message_at, unread, messages, read_through,
    delivered_until, seen_until, forgotten, created_at, updated_at)
SELECT shard, $1, id, user_id, account_id, platform, thread, participant_id, participant_name,
    named_at, last_message_at, unread, messages, read_through, delivered_until, seen_until,
    forgotten, created_at, updated_at
FROM unnest($2::smallint[], $3::uuid[], $4::uuid[], $5::uuid[], $6::text[], $7::text[],
    $8::text[], $9::text[], $10::timestamptz[], $11::timestamptz[], $12::integer[], $13::integer[],
    $14::bigint[], $15::timestamptz[], $16::timestamptz[], $17::boolean[], $18::timestamptz[],
    $19::timestamptz[])
AS c (shard, id, user_id, account_id, platform, thread, participant_id, participant_name, named_at,
    last_message_at, unread, messages, read_through, delivered_until, seen_until, forgotten,
    created_at, updated_at)
ON CONFLICT (shard, generation, id) DO UPDATE SET
    participant_id = EXCLUDED.participant_id,
    participant_name = EXCLUDED.participant_name,
    named_at = EXCLUDED.named_at,
    last_message_at = EXCLUDED.last_message_at,
    unread = EXCLUDED.unread,
    messages = EXCLUDED.messages,
    read_through = EXCLUDED.read_through,
    delivered_until = EXCLUDED.delivered_until,
    seen_until = EXCLUDED.seen_until,
    forgotten = EXCLUDED.forgotten,
    created_at = EXCLUDED.created_at,
    updated_at = EXCLUDED.updated_at
