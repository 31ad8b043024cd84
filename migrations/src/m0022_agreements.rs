//! Which people of a platform connected accounts, and what became of their wish to leave.

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
-- Who connected an account, as the platform calls them when they leave. person is a digest under a key
-- that follows from ENCRYPTION_KEY, and says nothing to whoever has only the database; the row is in the
-- shard of that digest. It stays when the account is disconnected: what came through it is still here.
CREATE TABLE agreements (
    shard smallint NOT NULL,
    person bytea NOT NULL,
    account uuid NOT NULL,
    user_id uuid NOT NULL,
    PRIMARY KEY (shard, person, account)
);

-- Wishes to leave that were attended to, by the digest of the platform's request. users: those whose
-- erasure was begun. done_at: empty until that is over.
CREATE TABLE departures (
    shard smallint NOT NULL,
    request bytea NOT NULL,
    users uuid[] NOT NULL,
    found integer NOT NULL,
    done_at timestamptz,
    PRIMARY KEY (shard, request)
);

-- When the platform stops telling the hub about people although the token is good.
ALTER TABLE account_tokens ADD COLUMN data_access_until timestamptz;
CREATE INDEX account_tokens_data_access ON account_tokens (shard, data_access_until)
    WHERE data_access_until IS NOT NULL;";

const DOWN: &str = "
DROP INDEX account_tokens_data_access;
ALTER TABLE account_tokens DROP COLUMN data_access_until;
DROP TABLE departures;
DROP TABLE agreements;";
