//! Subscriptions: what a platform has promised to tell us about an account, and until when.

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
-- Which accounts have one follows from the accounts read model; this is what the platform called
-- it. Whoever deletes a row makes the account due: a new one is made, the old one runs out.
CREATE TABLE subscriptions (
    shard smallint NOT NULL,
    account uuid NOT NULL,
    -- Null when there is none (any more).
    id text,
    expires_at timestamptz,
    renew_at timestamptz NOT NULL,
    -- Raw input is sealed under the name of the subscription it came by, so names outlive them
    -- until the person is erased.
    former text[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (shard, account)
);";

const DOWN: &str = "DROP TABLE subscriptions;";
