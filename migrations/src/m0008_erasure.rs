//! Erasure: data keys by owner and day, and a state for keys that are gone for good.

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
-- An erased key stays as a row without a key: its absence would be an invitation to make a new one.
-- kind: 'user' a person's own key, 'day' the content of one of their days, 'raw' raw input of a
-- platform account on a day. owner: the person, or a digest that stands for the platform account.
-- Rows from before have neither; a person's own key is found by its subject, which is the person.
ALTER TABLE data_keys
    ALTER COLUMN wrapped DROP NOT NULL,
    ADD COLUMN kind text NOT NULL DEFAULT 'user' CHECK (kind IN ('user', 'day', 'raw')),
    ADD COLUMN owner uuid,
    ADD COLUMN period date,
    ADD COLUMN erased_at timestamptz,
    ADD CONSTRAINT data_keys_erased CHECK ((wrapped IS NULL) = (erased_at IS NOT NULL));
-- Everything of a person or of a platform account.
CREATE INDEX data_keys_of_owner ON data_keys (shard, owner);
-- Everything older than a day that still has a key.
CREATE INDEX data_keys_by_period ON data_keys (shard, kind, period) WHERE wrapped IS NOT NULL;";

const DOWN: &str = "
DELETE FROM data_keys WHERE wrapped IS NULL;
DROP INDEX data_keys_by_period, data_keys_of_owner;
ALTER TABLE data_keys
    DROP CONSTRAINT data_keys_erased,
    DROP COLUMN erased_at,
    DROP COLUMN period,
    DROP COLUMN owner,
    DROP COLUMN kind,
    ALTER COLUMN wrapped SET NOT NULL;";
