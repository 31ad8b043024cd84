//! Connected accounts outside the log: keeping their tokens, and who is to be told what arrives for
//! them.

use chrono::{DateTime, Utc};
use hub_domain::id::{AccountId, UserId};
use hub_domain::platform::{Connected, Platform};
use uuid::Uuid;

use crate::Store;
use crate::error::Result;

/// An owner of a platform account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: UserId,
    /// Their account.
    pub account: AccountId,
}

/// An owner as the directory has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Routed {
    /// The owner.
    pub owner: Owner,
    /// Whether ids of theirs may be others than those that follow ([`crate::aliases`]).
    pub has_aliases: bool,
}

impl Store {
    /// Keeps the tokens of an account that was just connected, sealed under its owner's key. A stored
    /// refresh token is not replaced by nothing: some platforms leave it out when it stays the same.
    /// What was known of the tokens before (refused, paused, being renewed) no longer holds.
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
            "INSERT INTO account_tokens AS t \
             (shard, account, access_token, refresh_token, expires_at, granted, version) \
             VALUES ($1, $2, $3, $4, $5, $6, \
                 (extract(epoch FROM clock_timestamp()) * 1e6)::bigint) \
             ON CONFLICT (shard, account) DO UPDATE SET \
             access_token = EXCLUDED.access_token, expires_at = EXCLUDED.expires_at, \
             refresh_token = coalesce(EXCLUDED.refresh_token, t.refresh_token), \
             previous_refresh_token = NULL, renewed_at = NULL, renewal = NULL, \
             renewal_until = NULL, refused = NULL, paused_until = NULL, \
             granted = EXCLUDED.granted, \
             data_access_until = NULL, \
             version = greatest(EXCLUDED.version, t.version + 1)",
        )
        .bind(self.sharding().of_user(owner.user).0)
        .bind(owner.account.0)
        .bind(key.seal(connected.access_token.expose()).0)
        .bind(refresh)
        .bind(expires_at)
        .bind(&connected.granted)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// What the person allowed who connected this account; `None` where nobody knows.
    pub async fn granted(&self, owner: Owner) -> Result<Option<String>> {
        let granted: Option<Option<String>> = sqlx::query_scalar(
            "SELECT granted FROM account_tokens WHERE shard = $1 AND account = $2",
        )
        .bind(self.sharding().of_user(owner.user).0)
        .bind(owner.account.0)
        .fetch_optional(self.pool())
        .await?;
        Ok(granted.flatten())
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
        let has_aliases = self.has_aliases(owner.user).await?;
        sqlx::query(
            "INSERT INTO directory (shard, platform, route, account, user_id, has_aliases) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        )
        .bind(self.sharding().of_route(platform, route).0)
        .bind(platform.name())
        .bind(route)
        .bind(owner.account.0)
        .bind(owner.user.0)
        .bind(has_aliases)
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
        let routed = self.routed(platform, route).await?;
        Ok(routed.into_iter().map(|it| it.owner).collect())
    }

    /// Everybody who has connected this platform account, as the directory has them.
    pub async fn routed(&self, platform: Platform, route: &str) -> Result<Vec<Routed>> {
        let rows: Vec<(Uuid, Uuid, bool)> = sqlx::query_as(
            "SELECT user_id, account, has_aliases FROM directory \
             WHERE shard = $1 AND platform = $2 AND route = $3 ORDER BY account",
        )
        .bind(self.sharding().of_route(platform, route).0)
        .bind(platform.name())
        .bind(route)
        .fetch_all(self.pool())
        .await?;
        let routed = rows.into_iter().map(|(user, account, has_aliases)| Routed {
            owner: Owner {
                user: UserId(user),
                account: AccountId(account),
            },
            has_aliases,
        });
        Ok(routed.collect())
    }
}
