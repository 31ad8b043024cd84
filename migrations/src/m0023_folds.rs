//! Which version of its fold has made a generation of a read model.

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

// 0 where nothing was folded, where several versions have had a hand in it, and where nobody knows:
// what is here already was folded by builds that did not say. Written with the position, in the same
// update of the same row.
const UP: &str = "ALTER TABLE checkpoints ADD COLUMN fold integer NOT NULL DEFAULT 0;";

const DOWN: &str = "ALTER TABLE checkpoints DROP COLUMN fold;";
