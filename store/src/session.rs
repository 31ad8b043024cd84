//! Refresh tokens: kept as hashes, rotated once, in families that begin with a login.
//!
//! A family is a stream. When a token that was exchanged is presented again, and no window allows
//! that, either its owner or somebody else has a copy, and nobody can tell who is who: the whole
//! family is revoked. Whoever is exchanging another of its tokens at that moment is waited for, and
//! its successor is revoked as well. Access tokens go on to their end, which is near.

use chrono::{DateTime, Utc};
use hub_domain::envelope::{Append, Expected, Meta};
use hub_domain::event::{Revocation, SessionRefreshed, SessionRevoked, SessionStarted};
use hub_domain::id::{SessionId, StreamId, UserId};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, Row};
use std::time::Duration;
use uuid::Uuid;

use crate::Store;
use crate::error::{Error, Result};

/// A pair of tokens as the client gets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// The access token.
    pub access: String,
    /// The refresh token.
    pub refresh: String,
}

/// A refresh token about to be stored.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// SHA-256 of the token.
    pub hash: [u8; 32],
    /// When it ends.
    pub expires_at: DateTime<Utc>,
}

/// What became of a presented refresh token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exchanged {
    /// It was exchanged for this pair.
    New(Pair),
    /// It was being exchanged at this moment; this is the pair the other request gets.
    Same(Pair),
    /// Unknown, expired or revoked.
    Refused,
    /// It was exchanged before, too long ago to be an accident: its family is revoked now.
    Reused,
}

/// How often revoking a family begins anew because one of its tokens was just exchanged.
const REVOKING_TRIES_MAX: usize = 20;

impl Store {
    /// Begins a family with its first refresh token.
    pub async fn start_session(
        &self,
        user: UserId,
        session: SessionId,
        token: &NewToken,
        meta: Meta,
    ) -> Result<()> {
        let shard = self.sharding().of_user(user);
        let mut tx = crate::transaction::begin(self.pool()).await?;
        put(&mut tx, shard.0, user, session, token).await?;
        let append = Append::one(shard, session, SessionStarted { user, session })
            .expecting(Expected::NoStream)
            .because(meta);
        self.append_in(&mut tx, &append).await?;
        tx.commit().await?;
        self.appended();
        Ok(())
    }

    /// Exchanges a refresh token for a new pair.
    ///
    /// A token that was rotated less than `twin_window` ago belongs to a request that raced this
    /// one and gets the same pair. One that was rotated less than `reuse_window` ago may be used
    /// again, if the installation allows it; where that is as long as a token lives, every token
    /// may. After that, presenting it revokes its family. A logged-out token is refused in any case.
    pub async fn exchange_refresh_token(
        &self,
        user: UserId,
        presented: [u8; 32],
        twin_window: Duration,
        reuse_window: Duration,
        make: impl FnOnce(SessionId) -> (Pair, NewToken),
    ) -> Result<Exchanged> {
        let shard = self.sharding().of_user(user);
        let key = match self.vault().user(user).await {
            Err(Error::Erased) => return Ok(Exchanged::Refused),
            key => key?,
        };
        let mut tx = crate::transaction::begin(self.pool()).await?;
        let row = sqlx::query(
            "SELECT session, rotated_at, successor, \
                    rotated_at > now() - $3 * interval '1 second', \
                    rotated_at > now() - $4 * interval '1 second' \
             FROM refresh_tokens WHERE shard = $1 AND token_hash = $2 AND user_id = $5 \
             AND revoked_at IS NULL AND expires_at > now() FOR UPDATE",
        )
        .bind(shard.0)
        .bind(presented.as_slice())
        .bind(twin_window.as_secs_f64())
        .bind(reuse_window.as_secs_f64())
        .bind(user.0)
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else {
            return Ok(Exchanged::Refused);
        };
        let session = SessionId(row.try_get::<Uuid, _>(0)?);
        let rotated: Option<DateTime<Utc>> = row.try_get(1)?;
        let successor: Option<String> = row.try_get(2)?;
        let is_twin = row.try_get::<Option<bool>, _>(3)?.unwrap_or(false);
        let is_reusable = row.try_get::<Option<bool>, _>(4)?.unwrap_or(false);
        if rotated.is_some() {
            if let (true, Some(successor)) = (is_twin, successor) {
                let pair = key.open_bytes(&successor)?;
                return Ok(
                    serde_json::from_slice(&pair).map_or(Exchanged::Refused, Exchanged::Same)
                );
            }
            if !is_reusable {
                // Gives the token back: revoking takes the family's tokens in an order of its own.
                tx.rollback().await?;
                self.revoke_family(user, session).await?;
                return Ok(Exchanged::Reused);
            }
        }
        let (pair, token) = make(session);
        let sealed = serde_json::to_vec(&pair).map(|pair| key.seal_bytes(&pair));
        sqlx::query(
            "UPDATE refresh_tokens SET rotated_at = coalesce(rotated_at, now()), successor = $3 \
             WHERE shard = $1 AND token_hash = $2",
        )
        .bind(shard.0)
        .bind(presented.as_slice())
        .bind(sealed.ok())
        .execute(&mut *tx)
        .await?;
        put(&mut tx, shard.0, user, session, &token).await?;
        let append = Append::one(shard, session, SessionRefreshed { user, session });
        self.append_in(&mut tx, &append).await?;
        tx.commit().await?;
        self.appended();
        Ok(Exchanged::New(pair))
    }

    /// Revokes every token of a family for good. Changes nothing when none is left.
    ///
    /// A token that another request exchanges at this moment gets a successor that a statement
    /// which waited for it does not see. But that request appends to the family's stream: then the
    /// version is not the expected one, and everything is done once more.
    async fn revoke_family(&self, user: UserId, session: SessionId) -> Result<()> {
        let shard = self.sharding().of_user(user);
        let stream = StreamId::from(session);
        for _ in 0..REVOKING_TRIES_MAX {
            let mut tx = crate::transaction::begin(self.pool()).await?;
            let version: Option<i64> =
                sqlx::query_scalar("SELECT version FROM streams WHERE shard = $1 AND stream = $2")
                    .bind(shard.0)
                    .bind(stream.0)
                    .fetch_optional(&mut *tx)
                    .await?;
            // In order, so that two who revoke do not wait for each other.
            let revoked = sqlx::query(
                "WITH family AS (SELECT token_hash FROM refresh_tokens \
                 WHERE shard = $1 AND session = $2 AND user_id = $3 AND revoked_at IS NULL \
                 ORDER BY token_hash FOR UPDATE) \
                 UPDATE refresh_tokens t SET revoked_at = now(), successor = NULL FROM family f \
                 WHERE t.shard = $1 AND t.token_hash = f.token_hash",
            )
            .bind(shard.0)
            .bind(session.0)
            .bind(user.0)
            .execute(&mut *tx)
            .await?;
            if revoked.rows_affected() == 0 {
                return Ok(());
            }
            let revoked = SessionRevoked {
                user,
                session,
                reason: Revocation::Reuse,
            };
            let expected = version.map_or(Expected::NoStream, Expected::Version);
            let append = Append::one(shard, session, revoked).expecting(expected);
            match self.append_in(&mut tx, &append).await {
                Err(Error::Conflict { .. }) => {}
                appended => {
                    appended?;
                    tx.commit().await?;
                    self.appended();
                    return Ok(());
                }
            }
        }
        Err(Error::Busy)
    }

    /// Revokes one refresh token for good. Unknown and already revoked tokens change nothing.
    pub async fn revoke_refresh_token(&self, user: UserId, presented: [u8; 32]) -> Result<()> {
        let shard = self.sharding().of_user(user);
        let mut tx = crate::transaction::begin(self.pool()).await?;
        let session: Option<Uuid> = sqlx::query_scalar(
            "UPDATE refresh_tokens SET revoked_at = now(), successor = NULL \
             WHERE shard = $1 AND token_hash = $2 AND user_id = $3 AND revoked_at IS NULL \
             RETURNING session",
        )
        .bind(shard.0)
        .bind(presented.as_slice())
        .bind(user.0)
        .fetch_optional(&mut *tx)
        .await?;
        let Some(session) = session.map(SessionId) else {
            return Ok(());
        };
        let append = Append::one(
            shard,
            session,
            SessionRevoked {
                user,
                session,
                reason: Revocation::Logout,
            },
        );
        self.append_in(&mut tx, &append).await?;
        tx.commit().await?;
        self.appended();
        Ok(())
    }

    /// Deletes refresh tokens that ended. Returns how many.
    pub async fn delete_expired_refresh_tokens(&self) -> Result<u64> {
        Ok(
            sqlx::query("DELETE FROM refresh_tokens WHERE expires_at < now()")
                .execute(self.pool())
                .await?
                .rows_affected(),
        )
    }
}

async fn put(
    connection: &mut PgConnection,
    shard: i16,
    user: UserId,
    session: SessionId,
    token: &NewToken,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO refresh_tokens (shard, token_hash, session, user_id, expires_at) \
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(shard)
    .bind(token.hash.as_slice())
    .bind(session.0)
    .bind(user.0)
    .bind(token.expires_at)
    .execute(connection)
    .await?;
    Ok(())
}
