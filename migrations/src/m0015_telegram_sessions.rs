//! Who holds the session of a Telegram user account: one process at a time.

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
-- Two processes with one key end the session for good, so it is held under a lease. The holder's
-- name is new for every hold and therefore the fence of everything written under it. The session
-- itself is in account_tokens, and goes with it.
CREATE TABLE telegram_sessions (
    shard smallint NOT NULL,
    account uuid NOT NULL,
    holder uuid NOT NULL,
    held_until timestamptz NOT NULL,
    PRIMARY KEY (shard, account)
);";

const DOWN: &str = "DROP TABLE telegram_sessions;";
