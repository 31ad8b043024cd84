//! Connected accounts outside the log: their tokens, and who is to be told what arrives for them.

use chrono::{DateTime, Utc};
use hub_domain::id::{AccountId, UserId};
use hub_domain::platform::{Connected, Credentials, Platform};
use hub_domain::secret::Secret;
use sqlx::Row;
use uuid::Uuid;

use crate::Store;
use crate::error::{Error, Result};

/// An owner of a platform account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: UserId,
    /// Their account.
    pub account: AccountId,
}

impl Store {
    /// Keeps the tokens of an account, sealed under its owner's key. A stored refresh token is not
    /// replaced by nothing: some platforms leave it out when it stays the same.
    pub async fn put_account_tokens(
        &self,
        owner: Owner,
        connected: &Connected,
        expires_at: Option<DateTime<Utc>>,
    ) -> Result<()> {
        let key = self.vault().user(owner.user).await?;
        let refresh = connected
            .refresh_token
            .as_ref()
            .map(|token| key.seal(token.expose()).0);
        sqlx::query(
            "INSERT INTO account_tokens AS t (shard, account, access_token, refresh_token, expires_at) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (shard, account) DO UPDATE SET \
             access_token = EXCLUDED.access_token, expires_at = EXCLUDED.expires_at, \
             refresh_token = coalesce(EXCLUDED.refresh_token, t.refresh_token), \
             version = t.version + 1",
        )
        .bind(self.sharding().of_user(owner.user).0)
        .bind(owner.account.0)
        .bind(key.seal(connected.access_token.expose()).0)
        .bind(refresh)
        .bind(expires_at)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// The tokens of an account, or `None` once they were erased.
    pub async fn credentials(&self, owner: Owner, route: &str) -> Result<Option<Credentials>> {
        let row = sqlx::query(
            "SELECT access_token, refresh_token FROM account_tokens \
             WHERE shard = $1 AND account = $2",
        )
        .bind(self.sharding().of_user(owner.user).0)
        .bind(owner.account.0)
        .fetch_optional(self.pool())
        .await?;
        let Some(row) = row else { return Ok(None) };
        let key = match self.vault().user(owner.user).await {
            Err(Error::Erased) => return Ok(None),
            key => key?,
        };
        let open = |text: String| -> Result<Secret> {
            key.open(&hub_domain::event::Sealed(text)).map(Secret::new)
        };
        Ok(Some(Credentials {
            route: route.to_owned(),
            access_token: open(row.try_get(0)?)?,
            refresh_token: row.try_get::<Option<String>, _>(1)?.map(open).transpose()?,
        }))
    }

    /// How many credentials an account has had; `None` while it has none.
    pub async fn tokens_version(&self, owner: Owner) -> Result<Option<i64>> {
        let version = sqlx::query_scalar(
            "SELECT version FROM account_tokens WHERE shard = $1 AND account = $2",
        )
        .bind(self.sharding().of_user(owner.user).0)
        .bind(owner.account.0)
        .fetch_optional(self.pool())
        .await?;
        Ok(version)
    }

    /// Erases the tokens of an account.
    pub async fn erase_account_tokens(&self, owner: Owner) -> Result<()> {
        sqlx::query(
            "WITH held AS (DELETE FROM telegram_sessions WHERE shard = $1 AND account = $2) \
             DELETE FROM account_tokens WHERE shard = $1 AND account = $2",
        )
        .bind(self.sharding().of_user(owner.user).0)
        .bind(owner.account.0)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Reserves a place in the directory, before the account's event is appended: from now on what
    /// arrives for this platform account is told to this owner too.
    pub async fn put_owner(&self, platform: Platform, route: &str, owner: Owner) -> Result<()> {
        sqlx::query(
            "INSERT INTO directory (shard, platform, route, account, user_id) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        )
        .bind(self.sharding().of_route(platform, route).0)
        .bind(platform.name())
        .bind(route)
        .bind(owner.account.0)
        .bind(owner.user.0)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Takes an owner out of the directory.
    pub async fn remove_owner(&self, platform: Platform, route: &str, owner: Owner) -> Result<()> {
        sqlx::query(
            "DELETE FROM directory WHERE shard = $1 AND platform = $2 AND route = $3 AND account = $4",
        )
        .bind(self.sharding().of_route(platform, route).0)
        .bind(platform.name())
        .bind(route)
        .bind(owner.account.0)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Everybody who has connected this platform account.
    pub async fn owners(&self, platform: Platform, route: &str) -> Result<Vec<Owner>> {
        let rows: Vec<(Uuid, Uuid)> = sqlx::query_as(
            "SELECT user_id, account FROM directory \
             WHERE shard = $1 AND platform = $2 AND route = $3 ORDER BY account",
        )
        .bind(self.sharding().of_route(platform, route).0)
        .bind(platform.name())
        .bind(route)
        .fetch_all(self.pool())
        .await?;
        Ok(rows
            .into_iter()
            .map(|(user, account)| Owner {
                user: UserId(user),
                account: AccountId(account),
            })
            .collect())
    }
}
