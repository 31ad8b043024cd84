//! Seals: what makes a change to the event log visible afterwards.

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
-- One row seals the events (after, through] of a shard and continues the row before it. leaves holds
-- 16 bytes for each event, so that verifying can name the one that changed. docs/seals.md has the
-- format byte by byte; format is its number. No reference to events: ranges of them may be archived.
CREATE TABLE seals (
    shard smallint NOT NULL,
    through bigint NOT NULL,
    after bigint NOT NULL,
    format smallint NOT NULL,
    previous bytea NOT NULL,
    hash bytea NOT NULL,
    leaves bytea NOT NULL,
    mac bytea NOT NULL,
    first_recorded_at timestamptz NOT NULL,
    last_recorded_at timestamptz NOT NULL,
    sealed_at timestamptz NOT NULL,
    PRIMARY KEY (shard, through)
);
-- A range has one seal: a chain cannot fork, whatever code writes it.
CREATE UNIQUE INDEX seals_after ON seals (shard, after);
-- Hashes do not compress; trying costs time at every write.
ALTER TABLE seals ALTER leaves SET STORAGE EXTERNAL;";

const DOWN: &str = "DROP TABLE seals;";
