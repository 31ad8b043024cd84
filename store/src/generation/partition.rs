//! Making and dropping the partitions of a generation.
//!
//! Names are made of a fixed list of tables and a number, so statements may be put together from
//! them.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgPool};

use super::{Pair, claim};
use crate::error::{Error, Result};
use crate::project::Projection;

/// A DROP waits this long for readers, and readers for it; then it steps back and tries again.
const DROP_LOCK_MAX: &str = "SET LOCAL lock_timeout = '200ms'";
const DROP_TRIES: u32 = 50;
const DROP_PAUSE: Duration = Duration::from_millis(100);

/// SQLSTATE of a lock that was not had in time.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// Makes room for the next generation. True when an earlier run did already.
pub(super) async fn create(pool: &PgPool, pair: Pair) -> Result<bool> {
    let Pair {
        projection, next, ..
    } = pair;
    for table in projection.tables() {
        let name = format!("read.{table}_{next}");
        let exists: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
            .bind(&name)
            .fetch_one(pool)
            .await?;
        if exists {
            continue;
        }
        // CREATE … PARTITION OF would lock readers out of the whole table until the slowest of them
        // is done; attaching a table does not.
        let statement = format!(
            "CREATE TABLE {name} (LIKE read.{table} INCLUDING ALL); \
             ALTER TABLE read.{table} ATTACH PARTITION {name} FOR VALUES IN ({next})"
        );
        let mut tx = crate::transaction::begin(pool).await?;
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
    }
    let added = sqlx::query(
        "INSERT INTO checkpoints (shard, reactor, generation, log) \
         SELECT shard, $1, $2, 'events' FROM shards WHERE log = 'events' ORDER BY shard \
         ON CONFLICT DO NOTHING",
    )
    .bind(projection.name())
    .bind(next)
    .execute(pool)
    .await?
    .rows_affected();
    Ok(added == 0)
}

/// Tells the planner what is in the next generation before anybody reads it.
pub(super) async fn analyze(pool: &PgPool, pair: Pair) -> Result<()> {
    for table in pair.projection.tables() {
        let statement = format!("ANALYZE read.{table}_{}", pair.next);
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(pool)
            .await?;
    }
    Ok(())
}

/// Drops a generation with its rows and checkpoints. Refuses the live one.
pub async fn drop_generation(pool: &PgPool, projection: Projection, generation: i16) -> Result<()> {
    let mut tries = 0;
    loop {
        match try_drop(pool, projection, generation).await {
            Err(Error::Statement(sqlx::Error::Database(error)))
                if tries < DROP_TRIES && error.code().as_deref() == Some(LOCK_NOT_AVAILABLE) =>
            {
                tries += 1;
                tokio::time::sleep(DROP_PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

async fn try_drop(pool: &PgPool, projection: Projection, generation: i16) -> Result<()> {
    let mut tx = crate::transaction::begin(pool).await?;
    sqlx::raw_sql(DROP_LOCK_MAX).execute(&mut *tx).await?;
    // The same first lock as a switch takes: neither happens in the middle of the other.
    let live: Vec<i16> = sqlx::query_scalar(
        "SELECT live FROM generations WHERE projection = $1 ORDER BY shard FOR UPDATE",
    )
    .bind(projection.name())
    .fetch_all(&mut *tx)
    .await?;
    if live.contains(&generation) {
        return Err(Error::Refused(format!(
            "generation {generation} of {} is the one readers see",
            projection.name()
        )));
    }
    // Waits for a fold that is at it; none can begin without a checkpoint.
    sqlx::query("DELETE FROM checkpoints WHERE reactor = $1 AND generation = $2")
        .bind(projection.name())
        .bind(generation)
        .execute(&mut *tx)
        .await?;
    sqlx::query("DELETE FROM parked WHERE reactor = $1 AND generation = $2")
        .bind(projection.name())
        .bind(generation)
        .execute(&mut *tx)
        .await?;
    for table in projection.tables() {
        let statement = format!("DROP TABLE IF EXISTS read.{table}_{generation}");
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Drops what rebuilds that did not end have left beside the live generation. Returns which.
pub async fn discard(pool: &PgPool, projection: Projection) -> Result<Vec<i16>> {
    drop_where(pool, projection, "c.generation > g.live").await
}

/// Drops the generations that were live before. Returns which.
pub async fn drop_old(pool: &PgPool, projection: Projection) -> Result<Vec<i16>> {
    drop_where(pool, projection, "c.generation < g.live").await
}

async fn drop_where(
    pool: &PgPool,
    projection: Projection,
    condition: &'static str,
) -> Result<Vec<i16>> {
    let _claim = claim(pool, projection).await?;
    let statement = format!(
        "SELECT DISTINCT c.generation FROM checkpoints c JOIN generations g \
         ON g.shard = c.shard AND g.projection = c.reactor \
         WHERE c.reactor = $1 AND {condition} ORDER BY c.generation"
    );
    let generations: Vec<i16> = sqlx::query_scalar(AssertSqlSafe(statement))
        .bind(projection.name())
        .fetch_all(pool)
        .await?;
    for generation in &generations {
        drop_generation(pool, projection, *generation).await?;
    }
    Ok(generations)
}
