//! What a reactor could not process, stream by stream, and what an operator decided about it.

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
-- A parked stream has one head, its first row, which says why; every later event of the stream
-- stands behind it as held. A command has no stream: it stands alone.
ALTER TABLE parked
    ADD COLUMN generation smallint NOT NULL DEFAULT 0,
    ADD COLUMN class text NOT NULL DEFAULT 'failed'
        CHECK (class IN ('unreadable', 'needs_newer_code', 'failed', 'held')),
    ADD COLUMN kind text NOT NULL DEFAULT '',
    ADD COLUMN schema smallint NOT NULL DEFAULT 0,
    ADD COLUMN tries integer NOT NULL DEFAULT 0,
    ADD COLUMN tried_at timestamptz;
ALTER TABLE parked DROP CONSTRAINT parked_pkey;
ALTER TABLE parked ADD PRIMARY KEY (shard, reactor, generation, position);
-- Only the translator has parked so far.
UPDATE parked SET stream = NULL;
-- The streams a turn has to hold back: as many rows as there are troubles, however many events wait.
CREATE INDEX parked_heads ON parked (shard, reactor, generation, stream) WHERE class <> 'held';

-- How many heads there are, beside the position: read and locked together, so that a turn without
-- any asks no further, and one that follows another's parking cannot miss it.
ALTER TABLE checkpoints ADD COLUMN parked integer NOT NULL DEFAULT 0;
UPDATE checkpoints c SET parked = (SELECT count(*) FROM parked p
    WHERE p.shard = c.shard AND p.reactor = c.reactor AND p.generation = c.generation);

-- What an operator has given up on, in every generation of the reactor.
CREATE TABLE discarded (
    shard smallint NOT NULL,
    reactor text NOT NULL,
    position bigint NOT NULL,
    stream uuid,
    kind text NOT NULL,
    reason text NOT NULL,
    why text NOT NULL,
    discarded_by text NOT NULL,
    discarded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shard, reactor, position)
);

-- Why a job ended that was not done.
ALTER TABLE job_history ADD COLUMN reason text;";

const DOWN: &str = "
ALTER TABLE job_history DROP COLUMN reason;
DROP TABLE discarded;
ALTER TABLE checkpoints DROP COLUMN parked;
DROP INDEX parked_heads;
DELETE FROM parked p USING parked q WHERE p.shard = q.shard AND p.reactor = q.reactor
    AND p.position = q.position AND p.generation > q.generation;
ALTER TABLE parked DROP CONSTRAINT parked_pkey;
ALTER TABLE parked ADD PRIMARY KEY (shard, reactor, position);
ALTER TABLE parked DROP COLUMN generation, DROP COLUMN class, DROP COLUMN kind, DROP COLUMN schema,
    DROP COLUMN tries, DROP COLUMN tried_at;";
