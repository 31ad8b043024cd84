//! Time that only goes forward, the places of each stream, and what sockets were told when.

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
-- The time of the last append. The next one gets at least this: inside a shard a later position
-- never has an earlier time, so that a moment is a position, found by halving the log.
ALTER TABLE shards ADD COLUMN stamped_at timestamptz NOT NULL DEFAULT '-infinity';
-- Before this, times were those of transactions, which begin in another order than they commit:
-- the last thousand are more than were ever in flight together.
UPDATE shards s SET stamped_at = last.at
FROM (SELECT e.shard, max(e.recorded_at) AS at FROM events e
    JOIN shards h ON h.shard = e.shard AND h.log = 'events' AND e.position > h.head - 1000
    GROUP BY e.shard) last
WHERE s.shard = last.shard AND s.log = 'events';

-- Where the events of each stream are. Beside the log and not an index of it: written by a reactor
-- a moment later, in nobody's way, and rebuilt by emptying it.
CREATE TABLE places (
    shard smallint NOT NULL,
    stream uuid NOT NULL,
    version bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (shard, stream, version)
);

-- When sockets were told of a range of events, and when the read models had passed it as far as the
-- notifier saw. For explaining only; kept for a day.
CREATE TABLE told (
    shard smallint NOT NULL,
    through bigint NOT NULL,
    after bigint NOT NULL,
    folded_at timestamptz NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (shard, through)
);";

const DOWN: &str = "DROP TABLE told, places; ALTER TABLE shards DROP COLUMN stamped_at;";
