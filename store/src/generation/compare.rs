//! Comparing two generations of a shard at one position.

use hub_domain::id::Shard;
use hub_domain::limits::DIFFERENCES_MAX;
use sqlx::{PgConnection, PgPool, Postgres, Row as _, Transaction};

use super::certificate::{Certificate, Compared, Difference, Digest, ParkedStreams, ShardProof};
use super::{Pair, Run, gone};
use crate::error::{Error, Result};

/// Compares a shard and writes down what was found.
pub(super) async fn shard(
    run: &Run<'_>,
    shard: Shard,
    certificate: &mut Certificate,
) -> Result<()> {
    let (mut snapshot, compared_at) = snapshot(run, shard).await?;
    let tables = digests(&mut snapshot, run.pair, shard).await?;
    name_differences(&mut snapshot, run.pair, shard, &tables, certificate).await?;
    certificate.shards.push(ShardProof {
        shard: shard.0,
        compared_at,
        switched_at: None,
        parked: parked(&mut snapshot, run.pair, shard).await?,
        tables,
    });
    Ok(())
}

/// A snapshot in which both generations of a shard are at the same position. The live fold waits
/// while the last events are folded and the snapshot is taken, and no longer.
async fn snapshot(run: &Run<'_>, shard: Shard) -> Result<(Transaction<'static, Postgres>, i64)> {
    let pair = run.pair;
    run.follow(shard).await?;
    let mut hold = crate::transaction::begin(run.pool).await?;
    let position: Option<i64> = sqlx::query_scalar(
        "SELECT position FROM checkpoints WHERE shard = $1 AND reactor = $2 AND generation = $3 \
         FOR UPDATE",
    )
    .bind(shard.0)
    .bind(pair.projection.name())
    .bind(pair.live)
    .fetch_optional(&mut *hold)
    .await?;
    let position = position.ok_or_else(|| gone(pair.projection, pair.live))?;
    run.fold_to(shard, position).await?;
    let (snapshot, positions) = positions(run.pool, pair, shard).await?;
    hold.rollback().await?;
    if positions == [position, position] {
        return Ok((snapshot, position));
    }
    Err(Error::Refused(format!(
        "generation {} of {} is beyond the live one in shard {}: drop it and build it again",
        pair.next,
        pair.projection.name(),
        shard.0
    )))
}

/// Opens a snapshot and reads both positions in it.
async fn positions(
    pool: &PgPool,
    pair: Pair,
    shard: Shard,
) -> Result<(Transaction<'static, Postgres>, Vec<i64>)> {
    let snapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    let mut snapshot = crate::transaction::begin_with(pool, snapshot).await?;
    let positions = sqlx::query_scalar(
        "SELECT position FROM checkpoints \
         WHERE shard = $1 AND reactor = $2 AND generation IN ($3, $4) ORDER BY generation",
    )
    .bind(shard.0)
    .bind(pair.projection.name())
    .bind(pair.live)
    .bind(pair.next)
    .fetch_all(&mut *snapshot)
    .await?;
    Ok((snapshot, positions))
}

/// How many streams of a shard stand parked in both generations.
pub(super) async fn parked(
    connection: &mut PgConnection,
    pair: Pair,
    shard: Shard,
) -> Result<ParkedStreams> {
    let (live, rebuilt) = sqlx::query_as(
        "SELECT coalesce(sum(parked) FILTER (WHERE generation = $3), 0)::bigint, \
             coalesce(sum(parked) FILTER (WHERE generation = $4), 0)::bigint \
         FROM checkpoints WHERE shard = $1 AND reactor = $2",
    )
    .bind(shard.0)
    .bind(pair.projection.name())
    .bind(pair.live)
    .bind(pair.next)
    .fetch_one(connection)
    .await?;
    Ok(ParkedStreams { live, rebuilt })
}

/// Rows and hashes of a shard's tables in both generations.
pub(super) async fn digests(
    connection: &mut PgConnection,
    pair: Pair,
    shard: Shard,
) -> Result<Vec<Compared>> {
    let mut tables = Vec::new();
    for table in pair.projection.tables() {
        // A row's canonical text is that of a record of every column there is but the generation,
        // also one that is added later; moments are in UTC, as sqlx's sessions are. (Its jsonb
        // would say the same and takes three times as long.) The names are the catalogue's own.
        let columns = columns(&mut *connection, table).await?;
        let statement = format!(
            "SELECT r.generation, count(*), \
                 sum(('x' || left(h.md5, 16))::bit(64)::bigint)::text, \
                 sum(('x' || right(h.md5, 16))::bit(64)::bigint)::text \
             FROM read.{table} r CROSS JOIN LATERAL (SELECT md5(ROW({columns})::text)) h (md5) \
             WHERE r.shard = $1 AND r.generation IN ($2, $3) GROUP BY r.generation"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(shard.0)
            .bind(pair.live)
            .bind(pair.next)
            .fetch_all(&mut *connection)
            .await?;
        let mut compared = Compared {
            table,
            live: Digest::default(),
            rebuilt: Digest::default(),
        };
        for row in rows {
            let digest = Digest {
                rows: row.try_get(1)?,
                hash: [modulo(row.try_get(2)?)?, modulo(row.try_get(3)?)?],
            };
            if row.try_get::<i16, _>(0)? == pair.live {
                compared.live = digest;
            } else {
                compared.rebuilt = digest;
            }
        }
        tables.push(compared);
    }
    Ok(tables)
}

/// The columns of a table but the generation, as they are written in a statement.
async fn columns(connection: &mut PgConnection, table: &str) -> Result<String> {
    Ok(sqlx::query_scalar(
        "SELECT string_agg('r.' || quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute \
         WHERE attrelid = to_regclass('read.' || quote_ident($1)) AND attnum > 0 \
             AND NOT attisdropped AND attname <> 'generation'",
    )
    .bind(table)
    .fetch_one(connection)
    .await?)
}

/// A sum as PostgreSQL writes it, modulo 2^64.
fn modulo(sum: String) -> Result<u64> {
    let sum: i128 = sum
        .parse()
        .map_err(|error| Error::Statement(sqlx::Error::Decode(Box::new(error))))?;
    Ok(sum as u64)
}

/// Names the rows of differing tables, as long as the certificate has room, and counts them all.
pub(super) async fn name_differences(
    connection: &mut PgConnection,
    pair: Pair,
    shard: Shard,
    tables: &[Compared],
    certificate: &mut Certificate,
) -> Result<()> {
    for Compared { table, .. } in tables.iter().filter(|it| it.live != it.rebuilt) {
        // As text, so that what differs in the hash differs here.
        let statement = format!(
            "WITH live AS (SELECT id, to_jsonb(r) - 'generation' AS content FROM read.{table} r \
                 WHERE shard = $1 AND generation = $2), \
             rebuilt AS (SELECT id, to_jsonb(r) - 'generation' AS content FROM read.{table} r \
                 WHERE shard = $1 AND generation = $3) \
             SELECT id, \
                 CASE WHEN rebuilt.content IS NULL THEN 'live' \
                     WHEN live.content IS NULL THEN 'rebuilt' ELSE 'both' END, \
                 CASE WHEN live.content IS NULL OR rebuilt.content IS NULL THEN ARRAY[]::text[] \
                     ELSE ARRAY(SELECT name FROM jsonb_object_keys(live.content) name \
                         WHERE (live.content -> name)::text \
                             IS DISTINCT FROM (rebuilt.content -> name)::text ORDER BY name) END, \
                 count(*) OVER () \
             FROM live FULL JOIN rebuilt USING (id) \
             WHERE live.content::text IS DISTINCT FROM rebuilt.content::text \
             ORDER BY id LIMIT $4"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(shard.0)
            .bind(pair.live)
            .bind(pair.next)
            .bind(DIFFERENCES_MAX as i64)
            .fetch_all(&mut *connection)
            .await?;
        if let Some(first) = rows.first() {
            certificate.different_rows += first.try_get::<i64, _>(3)?;
        }
        for row in rows {
            if certificate.differences.len() == DIFFERENCES_MAX {
                break;
            }
            certificate.differences.push(Difference {
                table,
                shard: shard.0,
                id: row.try_get(0)?,
                found_in: row.try_get(1)?,
                columns: row.try_get(2)?,
            });
        }
    }
    Ok(())
}
