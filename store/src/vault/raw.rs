//! Raw input: sealed under a key for each platform account it is about and each day.
//!
//! A body about several accounts is sealed under the keys of all of them, one around the other:
//! when one of them is erased, nobody opens it any more.

use chrono::{DateTime, NaiveDate, Utc};
use hub_domain::event::Sealed;
use hub_domain::id::Shard;
use hub_domain::platform::Platform;
use uuid::Uuid;

use super::{DataKey, Find, Make, Opened, State, Vault};
use crate::error::Result;

impl Vault {
    /// Seals raw input about these accounts of a platform. Without an account it is sealed under
    /// the day's own key.
    pub async fn seal_raw(
        &self,
        platform: Platform,
        routes: &[String],
        at: DateTime<Utc>,
        text: &str,
    ) -> Result<Sealed> {
        let mut sealed = text.to_owned();
        for (find, make) in self.raw_keys(platform, routes, at) {
            sealed = match self.find_or_make(find, make).await? {
                State::Here(key) => key.seal(&sealed).0,
                // A raw key is deleted, never erased: the account may be connected again.
                State::Erased => return Err(crate::Error::Erased),
            };
        }
        Ok(Sealed(sealed))
    }

    /// Opens raw input that was sealed about these accounts at that time.
    pub async fn open_raw(
        &self,
        platform: Platform,
        routes: &[String],
        at: DateTime<Utc>,
        sealed: &Sealed,
    ) -> Result<Opened> {
        let mut text = sealed.clone();
        for (find, _) in self.raw_keys(platform, routes, at).into_iter().rev() {
            let Some(key) = self.existing(find).await? else {
                return Ok(Opened::Erased);
            };
            text = Sealed(key.open(&text)?);
        }
        Ok(Opened::Text(text.0))
    }

    /// Deletes every key of a day of raw input: whatever was sealed under them is gone.
    pub async fn forget_raw_input(&self, day: DateTime<Utc>) -> Result<()> {
        let day = day.date_naive();
        let shared = self.raw_shared(day);
        let deleted = sqlx::query(
            "DELETE FROM data_keys WHERE shard = ANY ($1) AND kind = 'raw' AND period = $2 \
             AND wrapped IS NOT NULL",
        )
        .bind(self.shards())
        .bind(day)
        .execute(&self.pool)
        .await?;
        // From before raw keys were written down as such.
        let older = sqlx::query("DELETE FROM data_keys WHERE shard = $1 AND subject = $2")
            .bind(shared.shard.0)
            .bind(shared.subject)
            .execute(&self.pool)
            .await?;
        if deleted.rows_affected() + older.rows_affected() > 0 {
            self.told();
        }
        Ok(())
    }

    /// Deletes every key of raw input about a platform account. Returns how many.
    pub async fn forget_raw_route(&self, platform: Platform, route: &str) -> Result<u64> {
        let deleted = sqlx::query("DELETE FROM data_keys WHERE shard = $1 AND owner = $2")
            .bind(self.sharding.of_route(platform, route).0)
            .bind(owner(platform, route))
            .execute(&self.pool)
            .await?
            .rows_affected();
        self.told();
        Ok(deleted)
    }

    /// How many keys of raw input about a platform account there are: about one a day.
    pub async fn raw_keys_of_route(&self, platform: Platform, route: &str) -> Result<i64> {
        Ok(
            sqlx::query_scalar("SELECT count(*) FROM data_keys WHERE shard = $1 AND owner = $2")
                .bind(self.sharding.of_route(platform, route).0)
                .bind(owner(platform, route))
                .fetch_one(&self.pool)
                .await?,
        )
    }

    /// The keys of a body, in the order they are put around it.
    fn raw_keys(
        &self,
        platform: Platform,
        routes: &[String],
        at: DateTime<Utc>,
    ) -> Vec<(Find, Make)> {
        let day = at.date_naive();
        let make = |owner| Make {
            kind: "raw",
            owner,
            period: Some(day),
            under: None,
        };
        if routes.is_empty() {
            return vec![(self.raw_shared(day), make(None))];
        }
        let keys = routes.iter().map(|route| {
            let owner = owner(platform, route);
            let find = Find {
                shard: self.sharding.of_route(platform, route),
                subject: Uuid::new_v5(&owner, day.to_string().as_bytes()),
                period: None,
            };
            (find, make(Some(owner)))
        });
        keys.collect()
    }

    fn raw_shared(&self, day: NaiveDate) -> Find {
        let name = format!("raw:{day}");
        Find {
            shard: self.sharding.of_name(&name),
            subject: Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()),
            period: None,
        }
    }

    async fn existing(&self, find: Find) -> Result<Option<DataKey>> {
        let found = self.find(find.shard, &[find]).await?;
        Ok(match found.into_values().next() {
            Some(State::Here(key)) => Some(key),
            Some(State::Erased) | None => None,
        })
    }

    pub(super) fn shards(&self) -> Vec<i16> {
        (0..self.sharding.count).collect()
    }

    pub(super) fn all_shards(&self) -> Vec<Shard> {
        self.shards().into_iter().map(Shard).collect()
    }
}

/// What stands for a platform account among the owners of keys.
fn owner(platform: Platform, route: &str) -> Uuid {
    let name = format!("raw:{}:{route}", platform.name());
    Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())
}
