//! Jobs: work with a due time, one row per key, held by lease and fence.

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
-- One row per queue and key: a conversation's sends, an account's poll, one grant's exchange. Asking
-- again while it runs raises seq, and the row stays until a run has seen the newest wish. A claim
-- moves due_at to the end of the lease, so one condition (due_at <= now) finds both due work and
-- work whose worker died; fence goes up with each claim and every write under it carries it.
CREATE TABLE jobs (
    shard smallint NOT NULL,
    id uuid NOT NULL,
    queue text NOT NULL,
    key text NOT NULL,
    payload json NOT NULL,
    due_at timestamptz NOT NULL DEFAULT now(),
    seq bigint NOT NULL DEFAULT 1,
    attempts integer NOT NULL DEFAULT 0,
    fence bigint NOT NULL DEFAULT 0,
    lease_owner text,
    last_error text,
    parked_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shard, id)
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX jobs_key ON jobs (shard, queue, key);
CREATE INDEX jobs_due ON jobs (shard, queue, due_at) WHERE parked_at IS NULL;

-- Finished jobs, for operators; pruned by time.
CREATE TABLE job_history (
    shard smallint NOT NULL,
    id uuid NOT NULL,
    fence bigint NOT NULL,
    queue text NOT NULL,
    key text NOT NULL,
    attempts integer NOT NULL,
    lease_owner text,
    created_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shard, id, fence)
);

-- The last tick of each schedule that was turned into work: any number of workers fire it once.
CREATE TABLE ticks (
    shard smallint NOT NULL,
    schedule text NOT NULL,
    tick timestamptz NOT NULL,
    PRIMARY KEY (shard, schedule)
);";

const DOWN: &str = "DROP TABLE ticks, job_history, jobs;";
