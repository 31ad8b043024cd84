//! What must not be in an event: credentials, keys, secrets, and answers kept for a while.

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
-- Password hashes. The row belongs to the login stream of the e-mail address.
CREATE TABLE logins (
    shard smallint NOT NULL,
    stream uuid NOT NULL,
    user_id uuid NOT NULL,
    email text NOT NULL,
    password_hash text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shard, stream)
);

-- Refresh tokens by their SHA-256. Rotated and revoked are different things: a logout is final.
CREATE TABLE refresh_tokens (
    shard smallint NOT NULL,
    token_hash bytea NOT NULL,
    session uuid NOT NULL,
    user_id uuid NOT NULL,
    expires_at timestamptz NOT NULL,
    rotated_at timestamptz,
    revoked_at timestamptz,
    successor text,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shard, token_hash)
);
CREATE INDEX refresh_tokens_session ON refresh_tokens (shard, session);

-- OAuth states by their SHA-256: single use, taken by DELETE.
CREATE TABLE oauth_states (
    shard smallint NOT NULL,
    state_hash bytea NOT NULL,
    user_id uuid NOT NULL,
    platform text NOT NULL,
    verifier text,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (shard, state_hash)
);

-- Data keys, wrapped by the installation's key. Deleting a row makes everything sealed under it
-- unreadable, in the log and in every backup of it.
CREATE TABLE data_keys (
    shard smallint NOT NULL,
    subject uuid NOT NULL,
    wrapped text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shard, subject)
);

-- Provider tokens of connected accounts, sealed under the owner's data key.
CREATE TABLE account_tokens (
    shard smallint NOT NULL,
    account uuid NOT NULL,
    access_token text NOT NULL,
    refresh_token text,
    expires_at timestamptz,
    version bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (shard, account)
);

-- Who owns a platform account: lives in the shard of the raw input that names the account, so that
-- translating needs no other shard. Several users may have connected the same one.
CREATE TABLE directory (
    shard smallint NOT NULL,
    platform text NOT NULL,
    route text NOT NULL,
    account uuid NOT NULL,
    user_id uuid NOT NULL,
    PRIMARY KEY (shard, platform, route, account)
);

-- Outcomes that a waiting request picks up, by an unguessable or client-given key.
CREATE TABLE answers (
    shard smallint NOT NULL,
    key bytea NOT NULL,
    answer json NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shard, key)
);";

const DOWN: &str = "DROP TABLE answers, directory, account_tokens, data_keys, oauth_states, refresh_tokens, logins;";
