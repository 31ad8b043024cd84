//! What became of the media of messages: where the bytes are, or why there are none.

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

// What folding would have made of the messages that are there: no event said anything of files.
const UP: &str = "ALTER TABLE read.messages ADD COLUMN files json NOT NULL DEFAULT '[]';";

const DOWN: &str = "ALTER TABLE read.messages DROP COLUMN files;";
