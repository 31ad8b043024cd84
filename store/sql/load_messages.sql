-- The messages a batch needs: by our id ($3), or by conversation and the platform's id ($4, $5).
-- Two indexed lookups; one condition with OR would scan.
SELECT id, conversation_id, platform_message_id, state, sender_id, sender_name, body, message_type,
    media, detail, outgoing, is_read, sent_at, delivered_at, seen_at, edited_at, deleted_at,
    reactions::text, attempts, retry_at, failure, failure_reason, position, created_at
FROM read.messages
WHERE shard = $1 AND generation = $2 AND id = ANY ($3)
UNION ALL
SELECT m.id, m.conversation_id, m.platform_message_id, m.state, m.sender_id, m.sender_name, m.body,
    m.message_type, m.media, m.detail, m.outgoing, m.is_read, m.sent_at, m.delivered_at, m.seen_at,
    m.edited_at, m.deleted_at, m.reactions::text, m.attempts, m.retry_at, m.failure,
    m.failure_reason, m.position, m.created_at
FROM unnest($4::uuid[], $5::text[]) AS p (conversation, platform_message_id)
JOIN read.messages m ON m.shard = $1 AND m.generation = $2
    AND m.conversation_id = p.conversation AND m.platform_message_id = p.platform_message_id
