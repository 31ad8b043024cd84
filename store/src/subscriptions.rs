//! What platforms have promised to tell us, and until when.
//!
//! What arrives names its subscription, so every subscription has a place in the directory beside
//! its account's own. Which accounts want one is in the accounts read model; the table here is a
//! memory of what the platform called it. The names of those that are over stay, because raw input
//! is sealed under them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use hub_domain::id::{AccountId, Shard, UserId};
use hub_domain::platform::Platform;
use hub_domain::platform::call::Subscription;
use sqlx::{PgPool, Row};
use uuid::Uuid;

use crate::Store;
use crate::account::Owner;
use crate::erase::Connection;
use crate::error::Result;

/// Names kept of subscriptions that are over. Each stands for a time without one.
const FORMER_MAX: i32 = 50;

/// What is remembered of an account's subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The platform's name of it; `None` when there is none.
    pub id: Option<String>,
    /// When it ends unless it is renewed.
    pub expires_at: Option<DateTime<Utc>>,
    /// Whether it is time to renew or make it.
    pub is_due: bool,
}

impl Store {
    /// What is remembered of this account's subscription; one that is due when nothing is.
    pub async fn subscription(&self, owner: Owner) -> Result<Held> {
        let row = sqlx::query(
            "SELECT id, expires_at, renew_at <= now() FROM subscriptions \
             WHERE shard = $1 AND account = $2",
        )
        .bind(self.sharding().of_user(owner.user).0)
        .bind(owner.account.0)
        .fetch_optional(self.pool())
        .await?;
        Ok(match row {
            Some(row) => Held {
                id: row.try_get(0)?,
                expires_at: row.try_get(1)?,
                is_due: row.try_get(2)?,
            },
            None => Held {
                is_due: true,
                ..Held::default()
            },
        })
    }

    /// Keeps a subscription that was made or renewed. It is in the directory before it is known
    /// here: a crash in between makes another one and loses nothing.
    pub async fn put_subscription(
        &self,
        platform: Platform,
        owner: Owner,
        it: &Subscription,
        renew_in: Duration,
    ) -> Result<()> {
        self.put_owner(platform, &it.id, owner).await?;
        sqlx::query(
            "INSERT INTO subscriptions AS s (shard, account, id, expires_at, renew_at) \
             VALUES ($1, $2, $3, $4, now() + $5 * interval '1 second') \
             ON CONFLICT (shard, account) DO UPDATE SET id = EXCLUDED.id, \
             expires_at = EXCLUDED.expires_at, renew_at = EXCLUDED.renew_at, \
             former = CASE WHEN s.id IS NULL OR s.id = EXCLUDED.id THEN s.former \
                 ELSE (array_prepend(s.id, s.former))[1:$6] END",
        )
        .bind(self.sharding().of_user(owner.user).0)
        .bind(owner.account.0)
        .bind(&it.id)
        .bind(it.expires_at)
        .bind(renew_in.as_secs_f64())
        .bind(FORMER_MAX)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Notes that this one is over: the platform said so, or it was ended. A newer one stays.
    pub async fn lose_subscription(&self, owner: Owner, id: &str) -> Result<()> {
        sqlx::query(
            "UPDATE subscriptions SET id = NULL, expires_at = NULL, renew_at = now(), \
             former = (array_prepend(id, former))[1:$4] \
             WHERE shard = $1 AND account = $2 AND id = $3",
        )
        .bind(self.sharding().of_user(owner.user).0)
        .bind(owner.account.0)
        .bind(id)
        .bind(FORMER_MAX)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Makes it due after this time: at once when the platform asked for it, later when it refused.
    pub async fn renew_subscription_in(&self, owner: Owner, after: Duration) -> Result<()> {
        sqlx::query(
            "INSERT INTO subscriptions (shard, account, renew_at) \
             VALUES ($1, $2, now() + $3 * interval '1 second') \
             ON CONFLICT (shard, account) DO UPDATE SET renew_at = EXCLUDED.renew_at",
        )
        .bind(self.sharding().of_user(owner.user).0)
        .bind(owner.account.0)
        .bind(after.as_secs_f64())
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Takes everything an account was told by out of the directory: what still comes is for nobody.
    pub async fn leave_subscriptions(&self, platform: Platform, owner: Owner) -> Result<()> {
        for route in self.subscription_routes(owner).await? {
            self.remove_owner(platform, &route, owner).await?;
        }
        if let Some(id) = self.subscription(owner).await?.id {
            self.lose_subscription(owner, &id).await?;
        }
        Ok(())
    }

    /// The names of an account's subscriptions, now and before.
    async fn subscription_routes(&self, owner: Owner) -> Result<Vec<String>> {
        let routes: Option<Vec<String>> = sqlx::query_scalar(
            "SELECT array_remove(array_prepend(id, former), NULL) FROM subscriptions \
             WHERE shard = $1 AND account = $2",
        )
        .bind(self.sharding().of_user(owner.user).0)
        .bind(owner.account.0)
        .fetch_optional(self.pool())
        .await?;
        Ok(routes.unwrap_or_default())
    }

    /// Everything that raw input about a person may be named by: the accounts they ever connected,
    /// and what these were told by.
    pub(crate) async fn raw_routes(
        &self,
        user: UserId,
        connections: &[Connection],
    ) -> Result<Vec<Connection>> {
        let mut all = connections.to_vec();
        for it in connections {
            let owner = Owner {
                user,
                account: it.account,
            };
            let routes = self.subscription_routes(owner).await?;
            all.extend(routes.into_iter().map(|route| Connection {
                route,
                ..it.clone()
            }));
        }
        Ok(all)
    }
}

/// Active accounts of these platforms whose subscription is to be made or renewed now.
pub async fn due(pool: &PgPool, platforms: &[&str], limit: i64) -> Result<Vec<(Shard, Owner)>> {
    let rows: Vec<(i16, Uuid, Uuid)> = sqlx::query_as(
        "SELECT a.shard, a.user_id, a.id FROM read.accounts a JOIN generations g \
             ON g.shard = a.shard AND g.projection = 'accounts' AND g.live = a.generation \
         LEFT JOIN subscriptions s ON s.shard = a.shard AND s.account = a.id \
         WHERE a.is_active AND a.needs_reconnect IS NULL AND a.platform = ANY ($1) \
             AND (s.renew_at IS NULL OR s.renew_at <= now()) \
         ORDER BY s.renew_at NULLS FIRST LIMIT $2",
    )
    .bind(platforms)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    let due = rows.into_iter().map(|(shard, user, account)| {
        let owner = Owner {
            user: UserId(user),
            account: AccountId(account),
        };
        (Shard(shard), owner)
    });
    Ok(due.collect())
}
