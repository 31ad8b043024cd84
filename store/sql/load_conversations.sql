-- The conversations a batch needs, with the totals of their accounts. Looked up one by one, see
-- load_messages.sql.
--
-- $1 generation, $2 shards, $3 ids
SELECT c.shard, c.id, c.user_id, c.account_id, c.platform, c.thread, c.participant_id,
    c.participant_name, c.named_at, c.last_message_at, c.unread, c.messages, c.read_through,
    c.delivered_until, c.seen_until, c.forgotten, c.created_at, c.updated_at,
    t.conversations AS account_conversations, t.unread AS account_unread
FROM unnest($2::smallint[], $3::uuid[]) AS w (shard, id)
CROSS JOIN LATERAL (
    SELECT * FROM read.conversations
    WHERE shard = w.shard AND generation = $1 AND id = w.id LIMIT 1
) c
LEFT JOIN LATERAL (
    SELECT * FROM read.totals
    WHERE shard = w.shard AND generation = $1 AND id = c.account_id LIMIT 1
) t ON true
