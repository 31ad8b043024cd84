//! Forgetting: which conversations are not shown any more, and from where an account's history counts.

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

// What folding would have made of the rows that are there: no event forgot anything.
const UP: &str = "
ALTER TABLE read.conversations ADD COLUMN forgotten boolean NOT NULL DEFAULT false;
ALTER TABLE read.accounts ADD COLUMN epoch bigint NOT NULL DEFAULT 0;";

const DOWN: &str = "
ALTER TABLE read.accounts DROP COLUMN epoch;
ALTER TABLE read.conversations DROP COLUMN forgotten;";
