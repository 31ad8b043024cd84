//! Renewing provider tokens, and pauses that platforms ask of an account.

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
-- previous_refresh_token: the one that the newest was made with, until the newest has worked.
-- renewal: names whoever renews now, so that one of all workers does; it ends by itself at
-- renewal_until. Without a renewal that time says when the next may begin: the last one met trouble.
-- refused: what the platform said when it refused to renew or to accept the authorisation; nobody
-- calls with these tokens until somebody connects the account again.
-- paused_until: the platform asked the whole account to wait.
-- version from now on begins at the clock: tokens of an account that was let go of and connected
-- again never have a version that was there before.
ALTER TABLE account_tokens
    ADD COLUMN previous_refresh_token text,
    ADD COLUMN renewed_at timestamptz,
    ADD COLUMN renewal uuid,
    ADD COLUMN renewal_until timestamptz,
    ADD COLUMN refused text,
    ADD COLUMN paused_until timestamptz;
-- What is about to expire.
CREATE INDEX account_tokens_expiring ON account_tokens (shard, expires_at)
    WHERE expires_at IS NOT NULL AND refused IS NULL;";

const DOWN: &str = "
DROP INDEX account_tokens_expiring;
ALTER TABLE account_tokens
    DROP COLUMN paused_until,
    DROP COLUMN refused,
    DROP COLUMN renewal_until,
    DROP COLUMN renewal,
    DROP COLUMN renewed_at,
    DROP COLUMN previous_refresh_token;";
