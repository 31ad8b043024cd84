//! What the log's speed is measured against (`hub bench`): the same server doing plain things.

use std::collections::HashSet;

use futures::TryStreamExt as _;
use hub_domain::id::{MessageId, Shard};
use sqlx::postgres::PgPoolCopyExt as _;
use sqlx::{Connection as _, PgConnection, PgPool};
use uuid::Uuid;

use crate::error::{Error, Result};

/// The first shard number of rows that [`Inserter`] writes: no log of a hub has that many shards.
const SHARDS_FROM: i16 = 10_000;

/// One connection that inserts one row at a time into the event table with a prepared statement,
/// each in a transaction of its own: what a log without any promise costs.
pub struct Inserter {
    connection: PgConnection,
    shard: i16,
    position: i64,
}

impl Inserter {
    /// Connects. `client` keeps its rows apart from those of others.
    pub async fn connect(url: &str, client: u16) -> Result<Self> {
        Ok(Self {
            connection: PgConnection::connect(url).await?,
            shard: SHARDS_FROM + i16::try_from(client).unwrap_or(0),
            position: 0,
        })
    }

    /// Inserts one row; on disk when this returns.
    pub async fn insert(&mut self, kind: &str, payload: &str, meta: &str) -> Result<()> {
        self.position += 1;
        sqlx::query(
            "INSERT INTO events (shard, position, stream, version, kind, schema, payload, meta) \
             VALUES ($1, $2, $3, 1, $4, 1, $5::json, $6::json)",
        )
        .bind(self.shard)
        .bind(self.position)
        .bind(Uuid::from_u128(1))
        .bind(kind)
        .bind(payload)
        .bind(meta)
        .execute(&mut self.connection)
        .await?;
        Ok(())
    }
}

/// Makes so many files of the server's own log (WAL) and has it keep them for use. Needs the rights of
/// the one who owns the server, and is for servers of a measurement.
pub async fn make_log_files(pool: &PgPool, count: u32) -> Result<()> {
    let mut connection = pool.acquire().await?;
    // As many as it would keep by itself after a busy hour.
    for statement in [
        "ALTER SYSTEM SET min_wal_size = '1900MB'",
        "SELECT pg_reload_conf()",
    ] {
        sqlx::query(statement).execute(&mut *connection).await?;
    }
    for _ in 0..count {
        // A file is only left for the next when there is something in it.
        sqlx::query("SELECT pg_logical_emit_message(false, 'hub', '')")
            .execute(&mut *connection)
            .await?;
        sqlx::query("SELECT pg_switch_wal()")
            .execute(&mut *connection)
            .await?;
    }
    sqlx::query("CHECKPOINT").execute(&mut *connection).await?;
    Ok(())
}

/// Removes what [`Inserter`]s have written.
pub async fn clear(pool: &PgPool) -> Result<()> {
    sqlx::query("DELETE FROM events WHERE shard >= $1")
        .bind(SHARDS_FROM)
        .execute(pool)
        .await?;
    Ok(())
}

/// Fails when a log has a hole, a head that is not its last position, or a stream whose versions
/// are not 1, 2, 3, … Returns how many events there are.
pub async fn check(pool: &PgPool) -> Result<i64> {
    let (events, wrong): (i64, i64) = sqlx::query_as(
        "SELECT coalesce(sum(s.head), 0)::bigint, count(*) FILTER (WHERE s.head <> e.count \
             OR s.head <> e.last) FROM shards s \
         CROSS JOIN LATERAL (SELECT count(*) AS count, coalesce(max(position), 0) AS last \
             FROM events WHERE shard = s.shard) e WHERE s.log = 'events'",
    )
    .fetch_one(pool)
    .await?;
    let streams: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM (SELECT shard, stream FROM events WHERE shard < $1 \
             GROUP BY shard, stream \
             HAVING count(*) <> max(version) OR count(DISTINCT version) <> count(*)) wrong",
    )
    .bind(SHARDS_FROM)
    .fetch_one(pool)
    .await?;
    if wrong > 0 || streams > 0 {
        return Err(Error::Refused(format!(
            "{wrong} shards have a hole or a wrong head, {streams} streams a wrong version"
        )));
    }
    Ok(events)
}

/// Reads every event as fast as the server can give them away. Returns the bytes.
pub async fn copy_out(pool: &PgPool) -> Result<u64> {
    let mut rows = pool
        .copy_out_raw(
            "COPY (SELECT shard, position, stream, version, kind, schema, payload, meta, \
             recorded_at FROM events ORDER BY shard, position) TO STDOUT",
        )
        .await?;
    let mut bytes = 0;
    while let Some(part) = rows.try_next().await? {
        bytes += part.len() as u64;
    }
    Ok(bytes)
}

/// Lets the server gather its statistics now instead of in a minute.
pub async fn analyze(pool: &PgPool) -> Result<()> {
    sqlx::query("ANALYZE").execute(pool).await?;
    Ok(())
}

/// Messages in the live inbox, all users together.
pub async fn listed(pool: &PgPool) -> Result<i64> {
    Ok(sqlx::query_scalar(
        "SELECT count(*) FROM read.messages m JOIN generations g ON g.shard = m.shard \
         AND g.projection = 'inbox' AND g.live = m.generation WHERE m.state <> 'placeholder'",
    )
    .fetch_one(pool)
    .await?)
}

/// Which of these messages are in a read model.
pub async fn seen(pool: &PgPool, ids: &[(Shard, MessageId)]) -> Result<HashSet<MessageId>> {
    let seen: Vec<Uuid> = sqlx::query_scalar(
        "SELECT m.id FROM unnest($1::smallint[], $2::uuid[]) AS w (shard, id) \
         JOIN generations g ON g.shard = w.shard AND g.projection = 'inbox' \
         CROSS JOIN LATERAL (SELECT id FROM read.messages WHERE shard = w.shard \
             AND generation = g.live AND id = w.id LIMIT 1) m",
    )
    .bind(ids.iter().map(|(shard, _)| shard.0).collect::<Vec<_>>())
    .bind(ids.iter().map(|(_, id)| id.0).collect::<Vec<_>>())
    .fetch_all(pool)
    .await?;
    Ok(seen.into_iter().map(MessageId).collect())
}

/// Jobs that are left in a queue.
pub async fn jobs(pool: &PgPool, queue: &str) -> Result<i64> {
    Ok(
        sqlx::query_scalar("SELECT count(*) FROM jobs WHERE queue = $1")
            .bind(queue)
            .fetch_one(pool)
            .await?,
    )
}
