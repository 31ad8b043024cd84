-- Writes changed messages.
INSERT INTO read.messages (shard, generation, id, conversation_id, platform_message_id, state,
    sender_id, sender_name, body, message_type, media, detail, outgoing, is_read, sent_at,
    delivered_at, seen_at, edited_at, deleted_at, reactions, attempts, retry_at, failure,
    failure_reason, position, created_at)
SELECT shard, $1, id, conversation_id, platform_message_id, state, sender_id, sender_name, body,
    message_type, media, detail, outgoing, is_read, sent_at, delivered_at, seen_at, edited_at,
    deleted_at, reactions::json, attempts, retry_at, failure, failure_reason, position, created_at
FROM unnest($2::smallint[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
    $10::text[], $11::text[], $12::text[], $13::boolean[], $14::boolean[], $15::timestamptz[],
    $16::timestamptz[], $17::timestamptz[], $18::timestamptz[], $19::timestamptz[], $20::text[],
    $21::integer[], $22::timestamptz[], $23::text[], $24::text[], $25::bigint[],
    $26::timestamptz[])
AS m (shard, id, conversation_id, platform_message_id, state, sender_id, sender_name, body, message_type,
    media, detail, outgoing, is_read, sent_at, delivered_at, seen_at, edited_at, deleted_at,
    reactions, attempts, retry_at, failure, failure_reason, position, created_at)
ON CONFLICT (shard, generation, id) DO UPDATE SET
    platform_message_id = EXCLUDED.platform_message_id,
    state = EXCLUDED.state,
    sender_id = EXCLUDED.sender_id,
    sender_name = EXCLUDED.sender_name,
    body = EXCLUDED.body,
    message_type = EXCLUDED.message_type,
    media = EXCLUDED.media,
    detail = EXCLUDED.detail,
    outgoing = EXCLUDED.outgoing,
    is_read = EXCLUDED.is_read,
    sent_at = EXCLUDED.sent_at,
    delivered_at = EXCLUDED.delivered_at,
    seen_at = EXCLUDED.seen_at,
    edited_at = EXCLUDED.edited_at,
    deleted_at = EXCLUDED.deleted_at,
    reactions = EXCLUDED.reactions,
    attempts = EXCLUDED.attempts,
    retry_at = EXCLUDED.retry_at,
    failure = EXCLUDED.failure,
    failure_reason = EXCLUDED.failure_reason,
    position = EXCLUDED.position,
    created_at = EXCLUDED.created_at
