-- The messages of some conversations ($2, $3) of generation $1 that are to be sent. Looked up one by
-- one, see load_messages.sql; the condition is that of the index and of `State::is_pending`.
SELECT m.shard, m.id, m.conversation_id, m.platform_message_id, m.state, m.sender_id, m.sender_name, m.body,
    m.message_type, m.media, m.detail, m.outgoing, m.is_read, m.sent_at, m.delivered_at, m.seen_at,
    m.edited_at, m.deleted_at, m.reactions::text, m.attempts, m.retry_at, m.failure,
    m.failure_reason, m.position, m.created_at, m.files::text
FROM unnest($2::smallint[], $3::uuid[]) AS w (shard, conversation)
CROSS JOIN LATERAL (
    SELECT * FROM read.messages
    WHERE shard = w.shard AND generation = $1 AND conversation_id = w.conversation
        AND state IN ('queued', 'sending', 'delayed')
    OFFSET 0
) m
