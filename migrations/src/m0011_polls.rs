//! Polling: where an account's next poll begins, when it is due, and who waits for one.

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
-- Where the next poll begins, as JSON text: folded from the log like everything beside it.
ALTER TABLE read.accounts ADD COLUMN poll_cursor text;

-- When an account is polled next. Whoever deletes a row makes the account due at once, and nothing
-- else is lost: which accounts are polled, and from where, is in the accounts read model.
CREATE TABLE polls (
    shard smallint NOT NULL,
    account uuid NOT NULL,
    next_at timestamptz NOT NULL,
    -- The platform asked to be left alone until then: nobody's wish goes before.
    held_until timestamptz,
    -- Polls in a row that brought nothing, and that failed.
    idle integer NOT NULL,
    failures integer NOT NULL,
    -- All of them, and those that failed.
    polls bigint NOT NULL,
    failed bigint NOT NULL,
    polled_at timestamptz,
    last_error text,
    PRIMARY KEY (shard, account)
);

-- Requests that wait for the outcome of a poll. A row goes when it was answered.
CREATE TABLE poll_wishes (
    shard smallint NOT NULL,
    account uuid NOT NULL,
    answer bytea NOT NULL,
    since timestamptz,
    PRIMARY KEY (shard, account, answer)
);";

const DOWN: &str = "
DROP TABLE poll_wishes, polls;
ALTER TABLE read.accounts DROP COLUMN poll_cursor;";
