//! Dead letters, for operators: what is parked, and what they may do about it.
//!
//! Two kinds of things are dead letters: streams (and commands) that a reactor has parked, and jobs
//! that will not run by themselves. Promises: nothing of what is shown is personal content; a wish
//! to retry is on disk before anybody waits for its outcome; what is discarded is written down with
//! who and why, and stays discarded in every generation. An entry's id is the place of its first
//! event, a job's its queue and key.

mod jobs;
mod show;

use chrono::{DateTime, Utc};
use hub_domain::command::Command;
use hub_domain::event::{Event, ReadError};
use hub_domain::id::{Place, Shard, StreamId};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row as _};
use uuid::Uuid;

use crate::checkpoint::{self, Reactor};
use crate::error::{Error, Result};
use crate::follow;
use crate::jobs::NewJob;
use crate::parked::Class;
use crate::schema::{PROJECTIONS, REACTORS};

pub use jobs::{DeadJob, Taken, discard_job, find_job, job_outcome, jobs, retry_job};
pub use show::{detail, job_detail};

/// The queue of wishes that only a worker can fulfil.
pub const QUEUE: &str = "dlq";

/// Which dead letters are meant; all of them when nothing is said.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Parked by this reactor.
    pub reactor: Option<String>,
    /// Jobs of this queue.
    pub queue: Option<String>,
    /// Of this stream. The sends of a conversation belong to its stream.
    pub stream: Option<Uuid>,
}

/// A parked stream, or a parked command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Parked {
    /// Reactor and place of the first parked event, as in `inbox/3-1042`.
    pub id: String,
    /// The reactor.
    pub reactor: String,
    /// The generation readers see.
    pub generation: i16,
    /// The shard.
    pub shard: i16,
    /// The first parked position.
    pub position: i64,
    /// The stream; none for a command.
    pub stream: Option<Uuid>,
    /// The kind of the first parked event or command.
    pub kind: String,
    /// Its schema.
    pub schema: i16,
    /// Why it is parked.
    pub class: Class,
    /// The same in words.
    pub reason: String,
    /// How many later events wait behind it.
    pub held: i64,
    /// Since when.
    pub parked_at: DateTime<Utc>,
    /// How often it was tried again in vain.
    pub tries: i32,
    /// The last time.
    pub tried_at: Option<DateTime<Utc>>,
}

/// What a worker is asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "wish", rename_all = "snake_case")]
pub enum Wish {
    /// Try a parked stream or command again, in every generation that has it.
    Retry {
        /// The reactor.
        reactor: String,
        /// The stream; none for a command.
        stream: Option<StreamId>,
        /// The first parked position.
        position: i64,
    },
    /// Give up on a conversation's parked sends.
    DiscardSends {
        /// The key of the job.
        key: String,
        /// Why, and who says so.
        reason: String,
    },
}

/// What became of a wish to retry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nobody has tried yet.
    Waiting,
    /// Nothing of it is parked any more.
    Processed,
    /// It was tried, and failed again for this reason.
    Failed(String),
}

const HEADS: &str = "\
    SELECT p.shard, p.reactor, p.generation, p.position, p.stream, p.kind, p.schema, p.class, \
        p.reason, p.parked_at, p.tries, p.tried_at, coalesce(h.held, 0) AS held \
    FROM parked p LEFT JOIN generations g ON g.shard = p.shard AND g.projection = p.reactor \
    LEFT JOIN (SELECT shard, reactor, generation, stream, count(*) AS held FROM parked \
        WHERE class = 'held' GROUP BY 1, 2, 3, 4) h ON h.shard = p.shard \
        AND h.reactor = p.reactor AND h.generation = p.generation AND h.stream = p.stream \
    WHERE p.class <> 'held' AND p.generation = coalesce(g.live, 0)";

/// What reactors have parked, in the generations readers see; the oldest first.
pub async fn parked(pool: &PgPool, filter: &Filter) -> Result<Vec<Parked>> {
    if filter.queue.is_some() {
        return Ok(Vec::new());
    }
    if let Some(reactor) = &filter.reactor {
        // A misspelt one would look as if nothing were parked.
        let known = || REACTORS.iter().map(|(name, _)| *name).chain(PROJECTIONS);
        if known().all(|name| name != reactor) {
            let known: Vec<&str> = known().collect();
            return Err(Error::Refused(format!(
                "there is no reactor {reactor:?}: one of {}",
                known.join(", ")
            )));
        }
    }
    let statement = format!(
        "{HEADS} AND ($1::text IS NULL OR p.reactor = $1) AND ($2::uuid IS NULL OR p.stream = $2) \
         ORDER BY p.parked_at, p.shard, p.position, p.reactor"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(&filter.reactor)
        .bind(filter.stream)
        .fetch_all(pool)
        .await?;
    rows.iter().map(head).collect()
}

/// The parked stream or command that an id belongs to: the id of any of its events will do.
pub async fn find(pool: &PgPool, id: &str) -> Result<Option<Parked>> {
    let Some((reactor, place)) = id.split_once('/') else {
        return Ok(None);
    };
    let Ok(place) = place.parse::<Place>() else {
        return Ok(None);
    };
    let statement = format!(
        "{HEADS} AND p.shard = $1 AND p.reactor = $2 AND EXISTS (SELECT FROM parked o \
             WHERE o.shard = p.shard AND o.reactor = p.reactor AND o.generation = p.generation \
             AND o.position = $3 AND (o.position = p.position OR o.stream = p.stream))"
    );
    let row = sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(place.shard.0)
        .bind(reactor)
        .bind(place.position)
        .fetch_optional(pool)
        .await?;
    row.as_ref().map(head).transpose()
}

fn head(row: &PgRow) -> Result<Parked> {
    let (shard, position): (i16, i64) = (row.try_get("shard")?, row.try_get("position")?);
    let reactor: String = row.try_get("reactor")?;
    let place = Place {
        shard: Shard(shard),
        position,
    };
    let class: String = row.try_get("class")?;
    let class = [Class::Unreadable, Class::NeedsNewerCode, Class::Failed]
        .into_iter()
        .find(|it| it.name() == class);
    Ok(Parked {
        id: format!("{reactor}/{place}"),
        reactor,
        generation: row.try_get("generation")?,
        shard,
        position,
        stream: row.try_get("stream")?,
        kind: row.try_get("kind")?,
        schema: row.try_get("schema")?,
        class: class.unwrap_or(Class::Failed),
        reason: row.try_get("reason")?,
        held: row.try_get("held")?,
        parked_at: row.try_get("parked_at")?,
        tries: row.try_get("tries")?,
        tried_at: row.try_get("tried_at")?,
    })
}

/// The time by the database's clock: what [`outcome`] compares with.
pub async fn now(pool: &PgPool) -> Result<DateTime<Utc>> {
    Ok(sqlx::query_scalar("SELECT clock_timestamp()")
        .fetch_one(pool)
        .await?)
}

/// Asks the workers to try something again. It is on disk when this returns.
pub async fn request_retry(pool: &PgPool, it: &Parked) -> Result<()> {
    let mut tx = crate::transaction::begin(pool).await?;
    wish(&mut tx, Shard(it.shard), &retry_of(it)).await?;
    tx.commit().await?;
    Ok(())
}

fn retry_of(it: &Parked) -> Wish {
    Wish::Retry {
        reactor: it.reactor.clone(),
        stream: it.stream.map(StreamId),
        position: it.position,
    }
}

/// Enqueues a wish; one that is parked itself is due again.
pub(crate) async fn wish(
    connection: &mut sqlx::PgConnection,
    shard: Shard,
    wish: &Wish,
) -> Result<()> {
    let key = match wish {
        Wish::Retry {
            reactor,
            stream: Some(stream),
            ..
        } => format!("{reactor}/{stream}"),
        Wish::Retry {
            reactor, position, ..
        } => format!("{reactor}/{position}"),
        Wish::DiscardSends { key, .. } => format!("discard/{key}"),
    };
    let job = NewJob {
        shard,
        queue: QUEUE,
        key,
        payload: serde_json::json!(wish),
        delay: std::time::Duration::ZERO,
    };
    crate::jobs::enqueue(connection, &job).await?;
    sqlx::query(
        "UPDATE jobs SET parked_at = NULL, attempts = 0, due_at = now() \
         WHERE shard = $1 AND queue = $2 AND key = $3 \
         AND (parked_at IS NOT NULL OR lease_owner IS NULL)",
    )
    .bind(job.shard.0)
    .bind(job.queue)
    .bind(&job.key)
    .execute(connection)
    .await?;
    Ok(())
}

/// What became of a retry that was asked for at `since`, by the database's clock.
pub async fn outcome(pool: &PgPool, it: &Parked, since: DateTime<Utc>) -> Result<Outcome> {
    let head: Option<(String, Option<DateTime<Utc>>)> = sqlx::query_as(
        "SELECT reason, tried_at FROM parked WHERE shard = $1 AND reactor = $2 \
         AND generation = $3 AND class <> 'held' \
         AND (position = $4 OR stream = $5) ORDER BY position LIMIT 1",
    )
    .bind(it.shard)
    .bind(&it.reactor)
    .bind(it.generation)
    .bind(it.position)
    .bind(it.stream)
    .fetch_optional(pool)
    .await?;
    Ok(match head {
        None => Outcome::Processed,
        Some((reason, Some(tried_at))) if tried_at >= since => Outcome::Failed(reason),
        Some(_) => Outcome::Waiting,
    })
}

/// Gives up on the first parked event of a stream, or on a command, in every generation that has
/// it. What stood behind it is asked to be tried. False when it was not there any more.
pub async fn discard(pool: &PgPool, it: &Parked, why: &str, by: &str) -> Result<bool> {
    let Some(name) = known_reactor(&it.reactor) else {
        return Err(unknown_reactor(&it.reactor));
    };
    let shard = Shard(it.shard);
    let mut gone = false;
    for generation in generations(pool, name, shard, it.stream.map(StreamId), it.position).await? {
        let reactor = Reactor { name, generation };
        let Some(mut turn) = checkpoint::hold(pool, reactor, shard).await? else {
            continue;
        };
        let here = sqlx::query(
            "INSERT INTO discarded (shard, reactor, position, stream, kind, reason, why, \
                 discarded_by) \
             SELECT shard, reactor, position, stream, kind, reason, $5, $6 FROM parked \
             WHERE shard = $1 AND reactor = $2 AND generation = $3 AND position = $4 \
                 AND class <> 'held' \
             ON CONFLICT (shard, reactor, position) DO UPDATE SET why = EXCLUDED.why",
        )
        .bind(shard.0)
        .bind(name)
        .bind(generation)
        .bind(it.position)
        .bind(why)
        .bind(by)
        .execute(&mut *turn.tx)
        .await?
        .rows_affected();
        if here == 0 {
            turn.leave().await?;
            continue;
        }
        gone = true;
        turn.release(&[it.position]).await?;
        if let Some(stream) = it.stream.map(StreamId) {
            let reason = "the event before it was discarded, its turn has not come yet";
            if follow::promote(&mut turn, shard, stream, reason).await? {
                wish(&mut turn.tx, shard, &retry_of(it)).await?;
            }
        }
        let from = turn.from.position;
        turn.finish(from).await?;
    }
    Ok(gone)
}

/// The generations of a reactor that have something of a stream, or a command, parked.
pub async fn generations(
    pool: &PgPool,
    reactor: &str,
    shard: Shard,
    stream: Option<StreamId>,
    position: i64,
) -> Result<Vec<i16>> {
    Ok(sqlx::query_scalar(
        "SELECT DISTINCT generation FROM parked WHERE shard = $1 AND reactor = $2 \
         AND (stream = $3 OR position = $4) ORDER BY generation DESC",
    )
    .bind(shard.0)
    .bind(reactor)
    .bind(stream.map(|stream| stream.0))
    .bind(position)
    .fetch_all(pool)
    .await?)
}

/// What was parked for want of newer code that this build has.
pub async fn readable_now(pool: &PgPool) -> Result<Vec<(Shard, Wish)>> {
    let rows: Vec<(i16, String, Option<Uuid>, i64, String, i16)> = sqlx::query_as(
        "SELECT DISTINCT ON (shard, reactor, position) shard, reactor, stream, position, kind, \
             schema FROM parked WHERE class = 'needs_newer_code' \
         ORDER BY shard, reactor, position",
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .filter(|(.., stream, _, kind, schema)| match stream {
            Some(_) => !matches!(
                Event::read(kind, *schema, "null"),
                Err(ReadError::NeedsNewerCode { .. })
            ),
            None => Command::KINDS.contains(&kind.as_str()),
        })
        .map(|(shard, reactor, stream, position, ..)| {
            let wish = Wish::Retry {
                reactor,
                stream: stream.map(StreamId),
                position,
            };
            (Shard(shard), wish)
        })
        .collect())
}

/// How many streams and commands each reactor has parked in the generations readers see.
pub async fn counts(pool: &PgPool) -> Result<Vec<(String, i64)>> {
    Ok(sqlx::query_as(
        "SELECT c.reactor, sum(c.parked)::bigint FROM checkpoints c LEFT JOIN generations g \
             ON g.shard = c.shard AND g.projection = c.reactor \
         WHERE c.generation = coalesce(g.live, 0) GROUP BY 1",
    )
    .fetch_all(pool)
    .await?)
}

fn known_reactor(name: &str) -> Option<&'static str> {
    let others = REACTORS.into_iter().map(|(name, _)| name);
    PROJECTIONS.into_iter().chain(others).find(|it| *it == name)
}

fn unknown_reactor(name: &str) -> Error {
    Error::Refused(format!("this build has no reactor {name}"))
}
