//! The daily report: how much was used on each UTC day, by platform, and by how many people.

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use hub_domain::id::Sharding;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use crate::error::Result;

/// Where reports are: they are about all shards.
const NAME: &str = "usage_reports";

/// Reports are kept this long.
const REPORTS_KEPT: TimeDelta = TimeDelta::days(400);

/// What was used on one day of one platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::FromRow)]
pub struct Line {
    /// The UTC day.
    pub day: NaiveDate,
    /// The platform that was called; `None`: the API of the hub itself.
    pub platform: Option<String>,
    /// Requests, or calls.
    pub requests: i64,
    /// Different people they were made by, or for.
    pub users: i64,
}

/// What was used from one UTC day on and before another: newest day first, then by volume.
pub async fn report(pool: &PgPool, from: NaiveDate, before: NaiveDate) -> Result<Vec<Line>> {
    Ok(sqlx::query_as(
        "SELECT (timestamp AT TIME ZONE 'UTC')::date AS day, platform, \
             sum(request_count)::bigint AS requests, count(DISTINCT user_id) AS users \
         FROM api_usage_logs WHERE timestamp >= $1 AND timestamp < $2 \
         GROUP BY 1, 2 ORDER BY day DESC, requests DESC, platform NULLS FIRST",
    )
    .bind(midnight(from))
    .bind(midnight(before))
    .fetch_all(pool)
    .await?)
}

/// Keeps a report as that of its last day. Made again, it replaces the one before.
pub async fn keep(pool: &PgPool, sharding: Sharding, day: NaiveDate, lines: &[Line]) -> Result<()> {
    sqlx::query(
        "INSERT INTO usage_reports (shard, day, lines) VALUES ($1, $2, $3::json) \
         ON CONFLICT (shard, day) DO UPDATE SET lines = EXCLUDED.lines, made_at = now()",
    )
    .bind(sharding.of_name(NAME).0)
    .bind(day)
    .bind(serde_json::json!(lines).to_string())
    .execute(pool)
    .await?;
    Ok(())
}

/// Deletes rows of before a day, and reports that are older than a year and some. Returns how many.
pub async fn prune(pool: &PgPool, sharding: Sharding, before: NaiveDate) -> Result<u64> {
    let shards: Vec<i16> = (0..sharding.count).collect();
    let rows = sqlx::query("DELETE FROM api_usage_logs WHERE shard = ANY ($1) AND timestamp < $2")
        .bind(shards)
        .bind(midnight(before))
        .execute(pool)
        .await?;
    let reports = sqlx::query("DELETE FROM usage_reports WHERE shard = $1 AND day < $2")
        .bind(sharding.of_name(NAME).0)
        .bind((Utc::now() - REPORTS_KEPT).date_naive())
        .execute(pool)
        .await?;
    Ok(rows.rows_affected() + reports.rows_affected())
}

fn midnight(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(NaiveTime::MIN).and_utc()
}
