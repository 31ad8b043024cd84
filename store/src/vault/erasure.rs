//! Erasing keys: the row stays, the key goes, and no other is ever made in its place.

use chrono::NaiveDate;
use hub_domain::id::{Shard, UserId};

use super::Vault;
use crate::error::Result;

/// Keys erased by one statement: few enough to hold no locks for long.
const BATCH: i64 = 5_000;

impl Vault {
    /// Erases a person's own key and those of all their days, together. Returns how many there
    /// were; 0 when it was done before.
    pub async fn erase_user(&self, user: UserId) -> Result<u64> {
        let shard = self.sharding.of_user(user);
        let mut tx = crate::transaction::begin(&self.pool).await?;
        // The person's own key first: it waits for whoever is making a key for one of their days
        // (see `make_day_key.sql`), and the second statement sees what they made.
        let own = sqlx::query(
            "INSERT INTO data_keys AS k (shard, subject, kind, owner, erased_at) \
             VALUES ($1, $2, 'user', $2, now()) ON CONFLICT (shard, subject) DO UPDATE \
             SET wrapped = NULL, erased_at = now() WHERE k.erased_at IS NULL",
        )
        .bind(shard.0)
        .bind(user.0)
        .execute(&mut *tx)
        .await?;
        let days = sqlx::query(
            "UPDATE data_keys SET wrapped = NULL, erased_at = now() \
             WHERE shard = $1 AND owner = $2 AND wrapped IS NOT NULL",
        )
        .bind(shard.0)
        .bind(user.0)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        self.told();
        Ok(own.rows_affected() + days.rows_affected())
    }

    /// Erases the keys of all days before this one, of everybody. Returns how many.
    pub async fn erase_days_before(&self, kept_from: NaiveDate) -> Result<u64> {
        let mut erased = 0;
        for shard in self.all_shards() {
            loop {
                let count = self.erase_some(shard, kept_from).await?;
                erased += count;
                if count < BATCH.unsigned_abs() {
                    break;
                }
            }
        }
        if erased > 0 {
            self.told();
        }
        Ok(erased)
    }

    async fn erase_some(&self, shard: Shard, kept_from: NaiveDate) -> Result<u64> {
        let erased = sqlx::query(
            "UPDATE data_keys SET wrapped = NULL, erased_at = now() \
             WHERE shard = $1 AND subject = ANY (ARRAY( \
                 SELECT subject FROM data_keys WHERE shard = $1 AND kind = 'day' \
                 AND period < $2 AND wrapped IS NOT NULL LIMIT $3)) AND wrapped IS NOT NULL",
        )
        .bind(shard.0)
        .bind(kept_from)
        .bind(BATCH)
        .execute(&self.pool)
        .await?;
        Ok(erased.rows_affected())
    }
}
