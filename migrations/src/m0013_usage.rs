//! Who used what, the daily report of it, and how the work of schedules ended.

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
-- Requests of users and calls to platforms that succeeded. A row is what one process counted of one
-- endpoint within some seconds; timestamp is when it began to. Rows of a user are in the user's
-- shard, so that they go with them; calls that are about nobody (installing a webhook) have no user.
-- platform: of a call; a request of a user has none. Pruned by time. The names are those of earlier
-- generations, for queries that exist.
CREATE TABLE api_usage_logs (
    shard smallint NOT NULL,
    id uuid NOT NULL,
    user_id uuid,
    account_id uuid,
    platform text,
    endpoint text NOT NULL,
    request_count bigint NOT NULL DEFAULT 1,
    timestamp timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shard, id)
);
CREATE INDEX api_usage_logs_by_time ON api_usage_logs (shard, timestamp);
-- What goes when a person is erased.
CREATE INDEX api_usage_logs_of_user ON api_usage_logs (shard, user_id, timestamp);

-- The report of each day, as it was made: it outlives the rows it was made of. lines: an array of
-- day, platform (or null), requests, users.
CREATE TABLE usage_reports (
    shard smallint NOT NULL,
    day date NOT NULL,
    lines json NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shard, day)
);

-- How the work of the last tick ended; null while it is under way. job_history is forgotten after a
-- day, when a daily schedule has not run again.
ALTER TABLE ticks
    ADD COLUMN ended_at timestamptz,
    ADD COLUMN outcome text;";

const DOWN: &str = "
ALTER TABLE ticks DROP COLUMN outcome, DROP COLUMN ended_at;
DROP TABLE usage_reports, api_usage_logs;";
