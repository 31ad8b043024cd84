//! OAuth states: who began a connect, for which platform. Single use, ten minutes.

use hub_domain::event::Sealed;
use hub_domain::id::UserId;
use hub_domain::limits::OAUTH_STATE_TTL;
use hub_domain::platform::Platform;
use sha2::{Digest, Sha256};
use sqlx::Row;
use uuid::Uuid;

use crate::Store;
use crate::error::Result;

/// What a state stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Who began it.
    pub user: UserId,
    /// For which platform.
    pub platform: Platform,
    /// The PKCE verifier, where the flow has one.
    pub verifier: Option<String>,
}

impl Store {
    /// Keeps a state for ten minutes.
    pub async fn put_oauth_state(&self, state: &str, begun: &Begun) -> Result<()> {
        let verifier = match &begun.verifier {
            Some(verifier) => Some(self.vault().user(begun.user).await?.seal(verifier).0),
            None => None,
        };
        sqlx::query(
            "INSERT INTO oauth_states (shard, state_hash, user_id, platform, verifier, expires_at) \
             VALUES ($1, $2, $3, $4, $5, now() + $6 * interval '1 second')",
        )
        .bind(self.sharding().of_name(state).0)
        .bind(Sha256::digest(state).as_slice())
        .bind(begun.user.0)
        .bind(begun.platform.name())
        .bind(verifier)
        .bind(OAUTH_STATE_TTL.as_secs_f64())
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Takes a state: the second to ask for it gets nothing, like one who asks too late, with an
    /// unknown state, or for another platform.
    pub async fn take_oauth_state(&self, state: &str, platform: Platform) -> Result<Option<Begun>> {
        let row = sqlx::query(
            "DELETE FROM oauth_states WHERE shard = $1 AND state_hash = $2 \
             RETURNING user_id, platform, verifier, expires_at > now()",
        )
        .bind(self.sharding().of_name(state).0)
        .bind(Sha256::digest(state).as_slice())
        .fetch_optional(self.pool())
        .await?;
        let Some(row) = row else { return Ok(None) };
        let is_current: bool = row.try_get(3)?;
        let name: String = row.try_get(1)?;
        if !is_current || name != platform.name() {
            return Ok(None);
        }
        let user = UserId(row.try_get::<Uuid, _>(0)?);
        let verifier = match row.try_get::<Option<String>, _>(2)? {
            Some(sealed) => Some(self.vault().user(user).await?.open(&Sealed(sealed))?),
            None => None,
        };
        Ok(Some(Begun {
            user,
            platform,
            verifier,
        }))
    }

    /// Deletes states nobody came back for. Returns how many.
    pub async fn delete_expired_oauth_states(&self) -> Result<u64> {
        Ok(
            sqlx::query("DELETE FROM oauth_states WHERE expires_at < now()")
                .execute(self.pool())
                .await?
                .rows_affected(),
        )
    }
}
