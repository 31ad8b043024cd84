//! Jobs: work with a due time, one row per key, held by lease and fence.
//!
//! Promises: a job that was enqueued runs until it is done or parked, whatever dies in between;
//! nobody writes under a lease that ended (every write carries the fence of its claim); asking for
//! a key that is running makes it run once more; a job that keeps killing its worker is parked.
//! It may run more than once: what must happen once is made sure by the events it appends.
//!
//! Leases and due times go by the database's clock.

mod backend;

use std::collections::BTreeMap;
use std::time::Duration;

use hub_domain::id::Shard;
use serde_json::Value;
use sqlx::{PgConnection, PgPool, Row};
use uuid::Uuid;

pub use backend::JobBackend;

use crate::error::{Error, Result};

/// Claims without an orderly end after which a job is parked: it probably kills its worker.
pub const CLAIMS_MAX: i32 = 10;

/// A job to be enqueued.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// The shard of what it works on.
    pub shard: Shard,
    /// The queue: which handler runs it.
    pub queue: &'static str,
    /// One row per queue and key.
    pub key: String,
    /// What the handler needs to begin.
    pub payload: Value,
    /// Not before this much time has passed.
    pub delay: Duration,
}

/// A claimed job.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its shard.
    pub shard: Shard,
    /// Its id.
    pub id: Uuid,
    /// Its key.
    pub key: String,
    /// What it needs to begin.
    pub payload: Value,
    /// Claims since the last orderly end, this one included.
    pub attempts: i32,
    /// What every write under this claim carries.
    pub fence: i64,
    /// How often it had been asked for when it was claimed.
    pub seq: i64,
}

/// How a run of a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is left to do.
    Done,
    /// An orderly pause: the rest is due after this. Claims are counted anew.
    Again(Duration),
    /// It did not work; try again after this. Claims go on counting.
    Retry {
        /// How long to wait.
        after: Duration,
        /// Why.
        reason: String,
    },
    /// It will never work by itself: put it aside for a person.
    Park {
        /// Why.
        reason: String,
    },
}

/// Enqueues inside the caller's transaction: the row exists if and only if that commits.
pub async fn enqueue(connection: &mut PgConnection, job: &NewJob) -> Result<()> {
    enqueue_all(connection, std::slice::from_ref(job)).await
}

/// [`enqueue`] for many in one statement. Of those with the same queue and key the first counts.
pub async fn enqueue_all(connection: &mut PgConnection, jobs: &[NewJob]) -> Result<()> {
    // In the order of the key: two that enqueue the same at the same time wait, and do not deadlock.
    let mut wanted = BTreeMap::new();
    for job in jobs {
        wanted
            .entry((job.shard.0, job.queue, job.key.as_str()))
            .or_insert(job);
    }
    let jobs = || wanted.values();
    sqlx::query(
        "INSERT INTO jobs (shard, id, queue, key, payload, due_at) \
         SELECT shard, id, queue, key, payload::json, now() + delay * interval '1 second' \
         FROM unnest($1::smallint[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::float8[]) \
             AS j (shard, id, queue, key, payload, delay) \
         ON CONFLICT (shard, queue, key) DO UPDATE SET seq = jobs.seq + 1",
    )
    .bind(jobs().map(|it| it.shard.0).collect::<Vec<_>>())
    .bind(jobs().map(|_| Uuid::now_v7()).collect::<Vec<_>>())
    .bind(jobs().map(|it| it.queue).collect::<Vec<_>>())
    .bind(jobs().map(|it| it.key.as_str()).collect::<Vec<_>>())
    .bind(jobs().map(|it| it.payload.to_string()).collect::<Vec<_>>())
    .bind(jobs().map(|it| it.delay.as_secs_f64()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// Enqueues inside the caller's transaction what somebody waits for: a job that would be due later
/// is due now. One that runs, runs once more; one that is parked stays where it is.
pub async fn hasten(connection: &mut PgConnection, job: &NewJob) -> Result<()> {
    enqueue(connection, job).await?;
    sqlx::query(
        "UPDATE jobs SET due_at = least(due_at, now()) \
         WHERE shard = $1 AND queue = $2 AND key = $3 AND lease_owner IS NULL",
    )
    .bind(job.shard.0)
    .bind(job.queue)
    .bind(&job.key)
    .execute(connection)
    .await?;
    Ok(())
}

/// Moves the end of a claim to `lease` from now, for a run of many calls. [`Error::Fenced`] when it
/// is no longer this run's: then it must not make another one.
pub async fn extend(pool: &PgPool, job: &Job, lease: Duration) -> Result<()> {
    let extended = sqlx::query(
        "UPDATE jobs SET due_at = now() + $4 * interval '1 second' \
         WHERE shard = $1 AND id = $2 AND fence = $3 AND lease_owner IS NOT NULL",
    )
    .bind(job.shard.0)
    .bind(job.id)
    .bind(job.fence)
    .bind(lease.as_secs_f64())
    .execute(pool)
    .await?
    .rows_affected();
    if extended == 0 {
        return Err(Error::Fenced);
    }
    Ok(())
}

/// Claims due jobs of a queue for `lease`, at most `limit`, starting with another shard each time.
pub async fn claim(
    pool: &PgPool,
    shards: &[i16],
    queue: &str,
    owner: &str,
    lease: Duration,
    limit: i64,
) -> Result<Vec<Job>> {
    let rows = sqlx::query(include_str!("../sql/claim.sql"))
        .bind(shards)
        .bind(queue)
        .bind(limit)
        .bind(lease.as_secs_f64())
        .bind(owner)
        .fetch_all(pool)
        .await?;
    let mut claimed = Vec::with_capacity(rows.len());
    for row in rows {
        let payload: String = row.try_get(3)?;
        let job = Job {
            shard: Shard(row.try_get(0)?),
            id: row.try_get(1)?,
            key: row.try_get(2)?,
            payload: serde_json::from_str(&payload).unwrap_or_default(),
            attempts: row.try_get(4)?,
            fence: row.try_get(5)?,
            seq: row.try_get(6)?,
        };
        if job.attempts > CLAIMS_MAX {
            let reason = format!("claimed {} times without an end", job.attempts - 1);
            finish(pool, queue, &job, &Outcome::Park { reason }).await?;
        } else {
            claimed.push(job);
        }
    }
    Ok(claimed)
}

/// Writes down how a run ended. True when the job is due again by now: nobody else tells. With
/// [`Error::Fenced`] the lease is no longer this run's, and nothing was written.
pub async fn finish(pool: &PgPool, queue: &str, job: &Job, outcome: &Outcome) -> Result<bool> {
    let mut is_due = *outcome == Outcome::Again(Duration::ZERO);
    let written = match outcome {
        Outcome::Done => {
            let done = sqlx::query(include_str!("../sql/finish.sql"))
                .bind(job.shard.0)
                .bind(job.id)
                .bind(job.fence)
                .bind(job.seq)
                .execute(pool)
                .await?
                .rows_affected();
            if done == 0 {
                // Somebody asked again while it ran.
                is_due = true;
                release(pool, job, Duration::ZERO, true, None).await?
            } else {
                done
            }
        }
        Outcome::Again(after) => release(pool, job, *after, true, None).await?,
        Outcome::Retry { after, reason } => {
            tracing::warn!(queue, key = job.key, reason, "job will be tried again");
            release(pool, job, *after, false, Some(reason)).await?
        }
        Outcome::Park { reason } => {
            metrics::counter!("hub_jobs_parked_total", "queue" => queue.to_owned()).increment(1);
            tracing::error!(queue, key = job.key, reason, "job parked");
            sqlx::query(
                "UPDATE jobs SET parked_at = now(), lease_owner = NULL, last_error = $4 \
                 WHERE shard = $1 AND id = $2 AND fence = $3",
            )
            .bind(job.shard.0)
            .bind(job.id)
            .bind(job.fence)
            .bind(reason)
            .execute(pool)
            .await?
            .rows_affected()
        }
    };
    if written == 0 {
        return Err(Error::Fenced);
    }
    Ok(is_due)
}

async fn release(
    pool: &PgPool,
    job: &Job,
    after: Duration,
    orderly: bool,
    error: Option<&str>,
) -> Result<u64> {
    Ok(sqlx::query(
        "UPDATE jobs SET due_at = now() + $4 * interval '1 second', lease_owner = NULL, \
         attempts = CASE WHEN $5 THEN 0 ELSE attempts END, last_error = $6 \
         WHERE shard = $1 AND id = $2 AND fence = $3",
    )
    .bind(job.shard.0)
    .bind(job.id)
    .bind(job.fence)
    .bind(after.as_secs_f64())
    .bind(orderly)
    .bind(error)
    .execute(pool)
    .await?
    .rows_affected())
}

/// Gives claimed jobs back untouched, for others to take at once (a worker that is shutting down).
pub async fn give_back(pool: &PgPool, jobs: &[Job]) -> Result<()> {
    for job in jobs {
        release(pool, job, Duration::ZERO, true, None).await?;
    }
    Ok(())
}

/// Turns a tick of a schedule into work, once among all processes and restarts. True for the one
/// that won; its job is in the same transaction.
pub async fn tick(
    pool: &PgPool,
    shard: Shard,
    schedule: &str,
    tick: chrono::DateTime<chrono::Utc>,
    job: &NewJob,
) -> Result<bool> {
    let mut tx = crate::transaction::begin(pool).await?;
    let won = sqlx::query(
        "INSERT INTO ticks (shard, schedule, tick) VALUES ($1, $2, $3) \
         ON CONFLICT (shard, schedule) \
         DO UPDATE SET tick = EXCLUDED.tick, ended_at = NULL, outcome = NULL \
         WHERE ticks.tick < EXCLUDED.tick",
    )
    .bind(shard.0)
    .bind(schedule)
    .bind(tick)
    .execute(&mut *tx)
    .await?
    .rows_affected();
    if won == 1 {
        enqueue(&mut tx, job).await?;
        tx.commit().await?;
    }
    Ok(won == 1)
}

/// Deletes the history of jobs that ended this long ago. Returns how many rows.
pub async fn prune_history(pool: &PgPool, older_than: Duration) -> Result<u64> {
    Ok(
        sqlx::query("DELETE FROM job_history WHERE finished_at < now() - $1 * interval '1 second'")
            .bind(older_than.as_secs_f64())
            .execute(pool)
            .await?
            .rows_affected(),
    )
}
