//! Read models: disposable tables, one partition per generation, rebuilt from the log.

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
CREATE SCHEMA read;

-- Which generation of each projection readers see.
CREATE TABLE generations (
    shard smallint NOT NULL,
    projection text NOT NULL,
    live smallint NOT NULL,
    PRIMARY KEY (shard, projection)
);

CREATE TABLE read.accounts (
    shard smallint NOT NULL,
    generation smallint NOT NULL,
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    platform text NOT NULL,
    platform_user_id text NOT NULL,
    username text NOT NULL,
    route text NOT NULL,
    is_active boolean NOT NULL,
    needs_reconnect text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (shard, generation, id)
) PARTITION BY LIST (generation);
CREATE TABLE read.accounts_1 PARTITION OF read.accounts FOR VALUES IN (1);
CREATE INDEX accounts_of_user ON read.accounts (shard, generation, user_id, created_at DESC);

CREATE TABLE read.conversations (
    shard smallint NOT NULL,
    generation smallint NOT NULL,
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    account_id uuid NOT NULL,
    platform text NOT NULL,
    thread text NOT NULL,
    participant_id text,
    participant_name text,
    named_at timestamptz,
    last_message_at timestamptz,
    unread integer NOT NULL,
    read_through bigint NOT NULL,
    delivered_until timestamptz,
    seen_until timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (shard, generation, id)
) PARTITION BY LIST (generation);
CREATE TABLE read.conversations_1 PARTITION OF read.conversations FOR VALUES IN (1);
-- The list of a user, newest first; and its platform filter.
CREATE INDEX conversations_of_user
    ON read.conversations (shard, generation, user_id, last_message_at DESC NULLS LAST, id);
-- Unread totals touch only conversations that have something unread.
CREATE INDEX conversations_unread
    ON read.conversations (shard, generation, user_id) INCLUDE (account_id, platform, unread)
    WHERE unread > 0;

CREATE TABLE read.messages (
    shard smallint NOT NULL,
    generation smallint NOT NULL,
    id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    platform_message_id text,
    state text NOT NULL,
    sender_id text NOT NULL,
    sender_name text,
    body text,
    message_type text NOT NULL,
    media text,
    detail text,
    outgoing boolean NOT NULL,
    is_read boolean NOT NULL,
    sent_at timestamptz,
    delivered_at timestamptz,
    seen_at timestamptz,
    edited_at timestamptz,
    deleted_at timestamptz,
    reactions json NOT NULL,
    attempts integer NOT NULL,
    retry_at timestamptz,
    failure text,
    failure_reason text,
    position bigint NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (shard, generation, id)
) PARTITION BY LIST (generation);
CREATE TABLE read.messages_1 PARTITION OF read.messages FOR VALUES IN (1);
-- A thread, newest first.
CREATE INDEX messages_of_conversation
    ON read.messages (shard, generation, conversation_id, sent_at DESC, created_at DESC, id DESC)
    WHERE state <> 'placeholder';
-- A platform's id names one message of a conversation.
CREATE UNIQUE INDEX messages_platform_id
    ON read.messages (shard, generation, conversation_id, platform_message_id)
    WHERE platform_message_id IS NOT NULL;
-- What is still to be sent, oldest first.
CREATE INDEX messages_pending
    ON read.messages (shard, generation, conversation_id, position)
    WHERE state IN ('queued', 'sending', 'delayed', 'uncertain');";

const DOWN: &str = "DROP SCHEMA read CASCADE; DROP TABLE generations;";
