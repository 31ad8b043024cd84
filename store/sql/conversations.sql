-- A page of the conversations of a user's active accounts, newest message first, each row with how
-- many there are in all. One statement, because three questions cost three times as much as one.
--
-- $1..$2 shard, user; $3 platform, or null; $4 account, or null; $5..$6 limit, offset
WITH live AS MATERIALIZED (
    SELECT max(live) FILTER (WHERE projection = 'accounts') AS accounts,
        max(live) FILTER (WHERE projection = 'inbox') AS inbox
    FROM generations WHERE shard = $1
), mine AS MATERIALIZED (
    SELECT id FROM read.accounts
    WHERE shard = $1 AND generation = (SELECT accounts FROM live) AND user_id = $2 AND is_active
        AND ($3::text IS NULL OR platform = $3) AND ($4::uuid IS NULL OR id = $4)
), page AS (
    SELECT c.* FROM read.conversations c
    WHERE c.shard = $1 AND c.generation = (SELECT inbox FROM live) AND c.user_id = $2
        AND c.account_id = ANY (ARRAY (SELECT id FROM mine)) AND NOT c.forgotten
    ORDER BY c.last_message_at DESC NULLS LAST, c.id LIMIT $5 OFFSET $6
), total AS (
    SELECT coalesce(sum(t.conversations), 0)::bigint AS total FROM read.totals t
    WHERE t.shard = $1 AND t.generation = (SELECT inbox FROM live) AND t.user_id = $2
        AND t.id = ANY (ARRAY (SELECT id FROM mine))
)
-- Without rows the total is still told.
SELECT p.*, t.total FROM total t LEFT JOIN page p ON true
ORDER BY p.last_message_at DESC NULLS LAST, p.id
