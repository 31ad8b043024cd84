//! Data of earlier installations: names that things brought with them, and passwords hashed in other
//! forms.

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
-- Ids of accounts and conversations follow from what platforms call them; imported ones kept the ids
-- they had. derived is the id that would follow, id the one that counts. In the shard of the user.
CREATE TABLE aliases (
    shard smallint NOT NULL,
    derived uuid NOT NULL,
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    PRIMARY KEY (shard, derived)
);
-- Whether a user has any, and to forget them with their user.
CREATE INDEX aliases_of_user ON aliases (shard, user_id);

-- Whether the owner has aliases: whoever translates asks for them only then.
ALTER TABLE directory ADD COLUMN has_aliases boolean NOT NULL DEFAULT false;

-- The password may have been hashed in a form of its own (contract 6.7).
ALTER TABLE logins ADD COLUMN imported boolean NOT NULL DEFAULT false;
-- The most expensive hash there is decides how long refusing takes. Nearly always empty.
CREATE INDEX logins_costly ON logins (shard, substr(password_hash, 5, 2))
    WHERE substr(password_hash, 5, 2) > '10';";

const DOWN: &str = "
DROP INDEX logins_costly;
ALTER TABLE logins DROP COLUMN imported;
ALTER TABLE directory DROP COLUMN has_aliases;
DROP TABLE aliases;";
