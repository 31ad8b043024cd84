//! What the person allowed who connected an account: some platforms take only what that covers.

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

// In the clear: names of permissions, no secret and nothing about a person. NULL for accounts from
// before, of which nobody knows; the next renewal or connection tells.
const UP: &str = "ALTER TABLE account_tokens ADD COLUMN granted text;";

const DOWN: &str = "ALTER TABLE account_tokens DROP COLUMN granted;";
