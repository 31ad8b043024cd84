//! Parked jobs.

use chrono::{DateTime, Utc};
use hub_domain::id::Shard;
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row as _};
use uuid::Uuid;

use super::{Filter, Outcome, Wish, wish};
use crate::error::Result;

/// The queue whose jobs stand for conversations with messages to be sent.
const SENDS: &str = "send";

/// A job that will not run by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeadJob {
    /// Queue and key, as in `send/<conversation>`.
    pub id: String,
    /// The queue.
    pub queue: String,
    /// The key.
    pub key: String,
    /// The shard.
    pub shard: i16,
    /// Claims since the last orderly end.
    pub attempts: i32,
    /// What its last run said.
    pub reason: Option<String>,
    /// Since when it is parked.
    pub parked_at: DateTime<Utc>,
    /// When it was first asked for.
    pub created_at: DateTime<Utc>,
    /// How often it was asked for.
    pub seq: i64,
    /// Messages that wait for it, when it is a conversation's sends.
    pub waiting: Option<i64>,
}

/// What became of a parked job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is in the history.
    Gone,
    /// It was asked for again meanwhile: it is due.
    Due,
    /// It is not parked any more.
    NotParked,
}

// The messages of a conversation that wait are found by its own index.
const DEAD: &str = "\
    SELECT j.shard, j.queue, j.key, j.attempts, j.last_error, j.parked_at, j.created_at, j.seq, \
        CASE WHEN j.queue = 'send' THEN (SELECT count(*) FROM read.messages m \
            WHERE m.shard = j.shard AND m.conversation_id = j.key::uuid \
            AND m.state IN ('queued', 'sending', 'delayed') \
            AND m.generation = (SELECT live FROM generations g \
                WHERE g.shard = j.shard AND g.projection = 'inbox')) END AS waiting \
    FROM jobs j WHERE j.parked_at IS NOT NULL";

/// The parked jobs, the oldest first.
pub async fn jobs(pool: &PgPool, filter: &Filter) -> Result<Vec<DeadJob>> {
    if filter.reactor.is_some() {
        return Ok(Vec::new());
    }
    let statement = format!(
        "{DEAD} AND ($1::text IS NULL OR j.queue = $1) AND ($2::text IS NULL OR j.key = $2) \
         ORDER BY j.parked_at, j.queue, j.key"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(&filter.queue)
        .bind(filter.stream.map(|stream| stream.to_string()))
        .fetch_all(pool)
        .await?;
    rows.iter().map(dead).collect()
}

/// The parked job of this id.
pub async fn find_job(pool: &PgPool, id: &str) -> Result<Option<DeadJob>> {
    let Some((queue, key)) = id.split_once('/') else {
        return Ok(None);
    };
    let statement = format!("{DEAD} AND j.queue = $1 AND j.key = $2");
    let row = sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(queue)
        .bind(key)
        .fetch_optional(pool)
        .await?;
    row.as_ref().map(dead).transpose()
}

fn dead(row: &PgRow) -> Result<DeadJob> {
    let (queue, key): (String, String) = (row.try_get("queue")?, row.try_get("key")?);
    Ok(DeadJob {
        id: format!("{queue}/{key}"),
        queue,
        key,
        shard: row.try_get("shard")?,
        attempts: row.try_get("attempts")?,
        reason: row.try_get("last_error")?,
        parked_at: row.try_get("parked_at")?,
        created_at: row.try_get("created_at")?,
        seq: row.try_get("seq")?,
        waiting: row.try_get("waiting")?,
    })
}

/// Makes a parked job due now, as if it had never been tried. False when it was not parked any
/// more.
pub async fn retry_job(pool: &PgPool, it: &DeadJob) -> Result<bool> {
    let due = sqlx::query(
        "UPDATE jobs SET parked_at = NULL, attempts = 0, due_at = now() \
         WHERE shard = $1 AND queue = $2 AND key = $3 AND parked_at IS NOT NULL",
    )
    .bind(it.shard)
    .bind(&it.queue)
    .bind(&it.key)
    .execute(pool)
    .await?;
    Ok(due.rows_affected() > 0)
}

/// What became of a job that was made due.
pub async fn job_outcome(pool: &PgPool, it: &DeadJob) -> Result<Outcome> {
    let row: Option<(Option<DateTime<Utc>>, Option<String>)> = sqlx::query_as(
        "SELECT parked_at, last_error FROM jobs WHERE shard = $1 AND queue = $2 AND key = $3",
    )
    .bind(it.shard)
    .bind(&it.queue)
    .bind(&it.key)
    .fetch_optional(pool)
    .await?;
    Ok(match row {
        None => Outcome::Processed,
        Some((Some(_), reason)) => Outcome::Failed(reason.unwrap_or_default()),
        Some((None, _)) => Outcome::Waiting,
    })
}

/// Gives up on a parked job: it goes into the history with the reason. A conversation's sends are
/// given up by a worker, who tells the log about each message first. False when it was not parked
/// any more.
pub async fn discard_job(pool: &PgPool, it: &DeadJob, why: &str, by: &str) -> Result<bool> {
    let reason = format!("discarded by {by}: {why}");
    if it.queue == SENDS {
        let mut tx = crate::transaction::begin(pool).await?;
        let key = it.key.clone();
        wish(
            &mut tx,
            Shard(it.shard),
            &Wish::DiscardSends { key, reason },
        )
        .await?;
        tx.commit().await?;
        return Ok(true);
    }
    let taken = take(pool, Shard(it.shard), &it.queue, &it.key, it.seq, &reason).await?;
    Ok(taken == Taken::Gone)
}

/// Moves a parked job into the history, if it was not asked for since `seq`; if it was, what came
/// later shall have its run.
pub(crate) async fn take(
    pool: &PgPool,
    shard: Shard,
    queue: &str,
    key: &str,
    seq: i64,
    reason: &str,
) -> Result<Taken> {
    let mut tx = crate::transaction::begin(pool).await?;
    let gone = sqlx::query(
        "WITH done AS (DELETE FROM jobs WHERE shard = $1 AND queue = $2 AND key = $3 \
             AND parked_at IS NOT NULL AND seq = $4 \
             RETURNING shard, id, fence, queue, key, attempts, lease_owner, created_at) \
         INSERT INTO job_history (shard, id, fence, queue, key, attempts, lease_owner, \
             created_at, reason) \
         SELECT shard, id, fence, queue, key, attempts, lease_owner, created_at, $5 FROM done",
    )
    .bind(shard.0)
    .bind(queue)
    .bind(key)
    .bind(seq)
    .bind(reason)
    .execute(&mut *tx)
    .await?
    .rows_affected();
    let due = if gone > 0 {
        0
    } else {
        sqlx::query(
            "UPDATE jobs SET parked_at = NULL, attempts = 0, due_at = now() \
             WHERE shard = $1 AND queue = $2 AND key = $3 AND parked_at IS NOT NULL",
        )
        .bind(shard.0)
        .bind(queue)
        .bind(key)
        .execute(&mut *tx)
        .await?
        .rows_affected()
    };
    tx.commit().await?;
    Ok(match (gone, due) {
        (0, 0) => Taken::NotParked,
        (0, _) => Taken::Due,
        _ => Taken::Gone,
    })
}

impl crate::Store {
    /// The parked sends of a conversation: how often they were asked for, and by which payload.
    pub async fn parked_sends(
        &self,
        shard: Shard,
        key: &str,
    ) -> Result<Option<(i64, serde_json::Value)>> {
        let row: Option<(i64, String)> = sqlx::query_as(
            "SELECT seq, payload::text FROM jobs \
             WHERE shard = $1 AND queue = $2 AND key = $3 AND parked_at IS NOT NULL",
        )
        .bind(shard.0)
        .bind(SENDS)
        .bind(key)
        .fetch_optional(self.pool())
        .await?;
        Ok(row.map(|(seq, payload)| (seq, serde_json::from_str(&payload).unwrap_or_default())))
    }

    /// Moves them into the history once the log knows what became of each message, unless they were
    /// asked for since `seq`: then they are due, for the messages that came later.
    pub async fn discard_sends(
        &self,
        shard: Shard,
        key: &str,
        seq: i64,
        reason: &str,
    ) -> Result<Taken> {
        take(self.pool(), shard, SENDS, key, seq, reason).await
    }
}

/// The id of a job's row, for its details.
pub(super) async fn row_id(pool: &PgPool, it: &DeadJob) -> Result<Option<(Uuid, String)>> {
    Ok(sqlx::query_as(
        "SELECT id, payload::text FROM jobs WHERE shard = $1 AND queue = $2 AND key = $3",
    )
    .bind(it.shard)
    .bind(&it.queue)
    .bind(&it.key)
    .fetch_optional(pool)
    .await?)
}
