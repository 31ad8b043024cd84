//! What became of schedules: their last tick, and how its work ended.
//!
//! [`crate::jobs::tick`] writes the tick, whoever does the work writes its end ([`ended`]). Until then
//! the job itself tells where it is.

use chrono::{DateTime, Utc};
use hub_domain::id::Shard;
use serde::Serialize;
use sqlx::PgPool;

use crate::error::Result;

/// What is known of a schedule that has ticked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Run {
    /// The schedule's name.
    pub schedule: String,
    /// When it last became due.
    pub tick: DateTime<Utc>,
    /// When its work ended; `None` while it has not.
    pub ended_at: Option<DateTime<Utc>>,
    /// How, or where it is.
    pub outcome: String,
}

/// Writes down how the work of a schedule's last tick ended.
pub async fn ended(pool: &PgPool, shard: Shard, schedule: &str, outcome: &str) -> Result<()> {
    sqlx::query(
        "UPDATE ticks SET ended_at = clock_timestamp(), outcome = $3 \
         WHERE shard = $1 AND schedule = $2",
    )
    .bind(shard.0)
    .bind(schedule)
    .bind(outcome)
    .execute(pool)
    .await?;
    Ok(())
}

/// Every schedule that has ever ticked. `queue` is the queue their jobs are in.
pub async fn runs(pool: &PgPool, queue: &str) -> Result<Vec<Run>> {
    Ok(sqlx::query_as(
        "SELECT t.schedule, t.tick, t.ended_at, \
             CASE WHEN j.parked_at IS NOT NULL THEN 'parked: ' || coalesce(j.last_error, '') \
                  WHEN t.outcome IS NOT NULL THEN t.outcome \
                  WHEN j.lease_owner IS NOT NULL THEN 'running' \
                  WHEN j.id IS NOT NULL THEN 'waiting for a worker' \
                  ELSE 'unknown' END AS outcome \
         FROM ticks t LEFT JOIN jobs j \
             ON j.shard = t.shard AND j.queue = $1 AND j.key = t.schedule \
         ORDER BY t.schedule",
    )
    .bind(queue)
    .fetch_all(pool)
    .await?)
}
