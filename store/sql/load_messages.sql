-- The messages a batch needs: by shard and our id ($2, $3), or by shard, conversation and the
-- platform's id ($4..$6), of generation $1.
-- One indexed lookup each, whatever the planner thinks of the table: a join, or `= ANY`, would be
-- free to read the whole shard instead, and one condition with OR would do so.
SELECT m.shard, m.id, m.conversation_id, m.platform_message_id, m.state, m.sender_id, m.sender_name, m.body,
    m.message_type, m.media, m.detail, m.outgoing, m.is_read, m.sent_at, m.delivered_at, m.seen_at,
    m.edited_at, m.deleted_at, m.reactions::text, m.attempts, m.retry_at, m.failure,
    m.failure_reason, m.position, m.created_at, m.files::text
FROM unnest($2::smallint[], $3::uuid[]) AS w (shard, id)
CROSS JOIN LATERAL (
    SELECT * FROM read.messages
    WHERE shard = w.shard AND generation = $1 AND id = w.id LIMIT 1
) m
UNION ALL
SELECT m.shard, m.id, m.conversation_id, m.platform_message_id, m.state, m.sender_id, m.sender_name, m.body,
    m.message_type, m.media, m.detail, m.outgoing, m.is_read, m.sent_at, m.delivered_at, m.seen_at,
    m.edited_at, m.deleted_at, m.reactions::text, m.attempts, m.retry_at, m.failure,
    m.failure_reason, m.position, m.created_at, m.files::text
FROM unnest($4::smallint[], $5::uuid[], $6::text[])
    AS w (shard, conversation, platform_message_id)
CROSS JOIN LATERAL (
    SELECT * FROM read.messages
    WHERE shard = w.shard AND generation = $1 AND conversation_id = w.conversation
        AND platform_message_id = w.platform_message_id LIMIT 1
) m
