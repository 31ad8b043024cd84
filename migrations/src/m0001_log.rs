//! The log: shards with gapless positions, streams, keys, events and commands.

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
-- The head of each log in each shard. Locked last in an append and until its commit: positions have
-- no gaps and become visible in order. A low fillfactor keeps its updates in one page.
CREATE TABLE shards (
    shard smallint NOT NULL,
    log text NOT NULL CHECK (log IN ('events', 'commands')),
    head bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (shard, log)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 1000);

-- No other index: certainty about streams and keys lives in the two small tables below, so that
-- this one can be split into ranges, sealed and archived. json, not jsonb: stored as written, and
-- read back twice as fast.
CREATE TABLE events (
    shard smallint NOT NULL,
    position bigint NOT NULL,
    stream uuid NOT NULL,
    version bigint NOT NULL,
    kind text NOT NULL,
    schema smallint NOT NULL,
    payload json NOT NULL,
    meta json NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shard, position)
);

-- The version of each stream; what an expected version is checked against.
CREATE TABLE streams (
    shard smallint NOT NULL,
    stream uuid NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (shard, stream)
) WITH (fillfactor = 80);

-- Things that may happen once: digests of idempotency keys and of platforms' own ids, with the
-- position of the event that was first.
CREATE TABLE keys (
    shard smallint NOT NULL,
    key bytea NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (shard, key)
);

-- Raw input that is still to be decided on. Kept for a while and dropped by time.
CREATE TABLE commands (
    shard smallint NOT NULL,
    position bigint NOT NULL,
    kind text NOT NULL,
    payload json NOT NULL,
    request text,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shard, position)
);

-- How far each reactor has come in each shard. Moved by compare-and-set in the transaction of the
-- rows it stands for. Generation 0 is a reactor without generations.
CREATE TABLE checkpoints (
    shard smallint NOT NULL,
    reactor text NOT NULL,
    generation smallint NOT NULL DEFAULT 0,
    log text NOT NULL,
    position bigint NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shard, reactor, generation)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 1000);

-- What a reactor could not process: visible, counted, never skipped silently.
CREATE TABLE parked (
    shard smallint NOT NULL,
    reactor text NOT NULL,
    position bigint NOT NULL,
    stream uuid,
    reason text NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shard, reactor, position)
);";

const DOWN: &str = "DROP TABLE parked, checkpoints, commands, keys, streams, events, shards;";
