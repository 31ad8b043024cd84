//! Outcomes left for a request that waits: the request keeps a key, the worker answers under it.

use std::time::{Duration, Instant};

use hub_domain::id::{Key, Shard};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Store;
use crate::error::{Error, Result};
use crate::signal::Topic;

impl Store {
    /// Leaves an answer. The first one under a key stays.
    pub async fn put_answer<T: Serialize>(&self, shard: Shard, key: Key, answer: &T) -> Result<()> {
        let text = serde_json::to_string(answer)
            .map_err(|error| Error::Statement(sqlx::Error::Encode(Box::new(error))))?;
        sqlx::query(
            "INSERT INTO answers (shard, key, answer) VALUES ($1, $2, $3::json) \
             ON CONFLICT DO NOTHING",
        )
        .bind(shard.0)
        .bind(key.0.as_slice())
        .bind(text)
        .execute(self.pool())
        .await?;
        self.signals().raise(Topic::Answers);
        Ok(())
    }

    /// The answer under a key, if there is one.
    pub async fn answer<T: DeserializeOwned>(&self, shard: Shard, key: Key) -> Result<Option<T>> {
        let text: Option<String> =
            sqlx::query_scalar("SELECT answer::text FROM answers WHERE shard = $1 AND key = $2")
                .bind(shard.0)
                .bind(key.0.as_slice())
                .fetch_optional(self.pool())
                .await?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Waits for the answer under a key, at most this long.
    pub async fn wait_for_answer<T: DeserializeOwned>(
        &self,
        shard: Shard,
        key: Key,
        at_most: Duration,
    ) -> Result<Option<T>> {
        let deadline = Instant::now() + at_most;
        let mut listener = self.signals().listen(Topic::Answers);
        loop {
            if let Some(answer) = self.answer(shard, key).await? {
                return Ok(Some(answer));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            listener.wait(left.min(Duration::from_millis(100))).await;
        }
    }

    /// Deletes answers nobody will ask for any more. Returns how many.
    pub async fn delete_old_answers(&self, older_than: Duration) -> Result<u64> {
        Ok(
            sqlx::query("DELETE FROM answers WHERE created_at < now() - $1 * interval '1 second'")
                .bind(older_than.as_secs_f64())
                .execute(self.pool())
                .await?
                .rows_affected(),
        )
    }
}
