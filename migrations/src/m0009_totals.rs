//! Numbers of an inbox that are kept instead of counted: a page of a million conversations says how
//! many there are, and counting them took half a second.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(UP).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(DOWN).await?;
        Ok(())
    }
}

const UP: &str = "
ALTER TABLE read.conversations ADD COLUMN messages integer NOT NULL DEFAULT 0;

CREATE TABLE read.totals (
    shard smallint NOT NULL,
    generation smallint NOT NULL,
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    conversations bigint NOT NULL,
    unread bigint NOT NULL,
    PRIMARY KEY (shard, generation, id)
) PARTITION BY LIST (generation);
CREATE INDEX totals_of_user ON read.totals (shard, generation, user_id);

DO $$
DECLARE it smallint;
BEGIN
    FOR it IN SELECT generation FROM checkpoints WHERE reactor = 'inbox' UNION SELECT 1 LOOP
        EXECUTE format('CREATE TABLE read.totals_%s PARTITION OF read.totals FOR VALUES IN (%s) '
            'WITH (fillfactor = 50)', it, it);
    END LOOP;
END $$;

-- What folding would have made of the conversations that are there.
UPDATE read.conversations c SET messages = m.count
FROM (SELECT shard, generation, conversation_id, count(*) AS count FROM read.messages
      WHERE state <> 'placeholder' AND NOT (state = 'failed' AND attempts <= 1)
      GROUP BY shard, generation, conversation_id) m
WHERE m.shard = c.shard AND m.generation = c.generation AND m.conversation_id = c.id;

INSERT INTO read.totals (shard, generation, id, user_id, conversations, unread)
SELECT shard, generation, account_id, user_id, count(*), sum(unread)
FROM read.conversations GROUP BY shard, generation, account_id, user_id;

-- Was for counting unread messages.
DROP INDEX read.conversations_unread;
";

const DOWN: &str = "
DROP TABLE read.totals;
ALTER TABLE read.conversations DROP COLUMN messages;
CREATE INDEX conversations_unread
    ON read.conversations (shard, generation, user_id) INCLUDE (account_id, platform, unread)
    WHERE unread > 0;";
