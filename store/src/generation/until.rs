//! Folding a generation up to a moment in the past, for a look by SQL.
//!
//! Promises: it is built beside the live generation as a rebuild is, stops at the moment, is never
//! switched to, and stays until it is discarded. It is a rebuild that has not caught up, no more: a
//! later one goes on from it, and one to a later moment too. What is beyond the moment already is
//! refused, as folds do not go back.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use futures::future::try_join_all;
use hub_domain::id::{Place, Shard};
use hub_domain::limits::REBUILD_SHARDS_MAX;
use serde::Serialize;
use sqlx::PgPool;

use super::{Digest, HELD_PAUSE, Pair, Report, Run, claim, compare, fold, partition};
use crate::checkpoint::live_position;
use crate::error::{Error, Result};
use crate::project::Projection;
use crate::read::position_at;

/// How often the live generation is looked at before it counts as standing still.
const LIVE_TRIES: u32 = 200;

/// The moment up to which a generation is folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Everything that was recorded at or before this time.
    Time(DateTime<Utc>),
    /// The time at which this event was recorded: in its shard everything up to and including it, in
    /// the others everything recorded at or before its time.
    Place(Place),
}

impl FromStr for Until {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if let Ok(place) = text.parse() {
            return Ok(Self::Place(place));
        }
        DateTime::parse_from_rfc3339(text)
            .map(|at| Self::Time(at.to_utc()))
            .map_err(|_| {
                "neither a time like 2026-01-31T09:30:00Z nor a place like 3-1042".to_owned()
            })
    }
}

/// A generation that reaches up to a moment in the past.
#[derive(Clone, Debug, Serialize)]
pub struct Reconstruction {
    /// The projection.
    pub projection: &'static str,
    /// The generation readers see.
    pub live: i16,
    /// The generation that was folded.
    pub generation: i16,
    /// An earlier run had begun it.
    pub resumed: bool,
    /// The moment.
    pub until: DateTime<Utc>,
    /// Events it stands for, all shards together.
    pub reaches: i64,
    /// Where each shard stands, as `3-1042`.
    pub places: Vec<String>,
    /// Its tables.
    pub tables: Vec<PastTable>,
    /// Events folded by this run.
    pub folded: u64,
    /// Seconds it took.
    pub seconds: f64,
}

/// A table of it.
#[derive(Clone, Debug, Serialize)]
pub struct PastTable {
    /// The table.
    pub table: &'static str,
    /// The name to ask for in SQL.
    pub partition: String,
    /// Rows and their hash, comparable with those of a certificate.
    pub digest: Digest,
}

/// Folds the next generation of a projection up to a moment and keeps it.
pub async fn reconstruct(
    pool: &PgPool,
    projection: Projection,
    until: Until,
    report: Report<'_>,
) -> Result<Reconstruction> {
    let claim = claim(pool, projection).await?;
    let pair = Pair::beside_live(pool, projection).await?;
    let (time, targets) = targets(pool, until).await?;
    for target in &targets {
        expect_before(pool, pair, *target).await?;
        expect_live(pool, pair, *target).await?;
    }
    fold::expect_ours(pool, pair, fold::BEGUN_ELSEWHERE).await?;
    let resumed = partition::create(pool, pair).await?;
    let mut run = Run::begin(pool, pair, report).await?;
    run.total = 0;
    for target in &targets {
        let position = run.position(pair.next, target.shard).await?;
        run.total += (target.position - position).unsigned_abs();
    }
    let lanes = (0..REBUILD_SHARDS_MAX).map(|lane| fold_lane(&run, &targets, lane));
    try_join_all(lanes).await?;
    partition::analyze(pool, pair).await?;
    let tables = tables(pool, pair, &targets).await?;
    // Said politely; a dropped connection would release it as well.
    sqlx::Connection::close(claim).await?;
    let progress = run.progress();
    Ok(Reconstruction {
        projection: projection.name(),
        live: pair.live,
        generation: pair.next,
        resumed,
        until: time,
        reaches: targets.iter().map(|target| target.position).sum(),
        places: targets.iter().map(Place::to_string).collect(),
        tables,
        folded: progress.folded,
        seconds: progress.elapsed.as_secs_f64(),
    })
}

/// The time of the moment, and where each shard was then.
async fn targets(pool: &PgPool, until: Until) -> Result<(DateTime<Utc>, Vec<Place>)> {
    let time = match until {
        Until::Time(time) => time,
        Until::Place(place) => {
            let time = "SELECT recorded_at FROM events WHERE shard = $1 AND position = $2";
            sqlx::query_scalar(time)
                .bind(place.shard.0)
                .bind(place.position)
                .fetch_optional(pool)
                .await?
                .ok_or_else(|| Error::Refused(format!("there is no event {place}")))?
        }
    };
    let mut targets = Vec::new();
    for shard in (0..crate::schema::sharding(pool).await?.count).map(Shard) {
        targets.push(match until {
            Until::Place(place) if place.shard == shard => place,
            _ => Place {
                shard,
                position: position_at(pool, shard, time).await?,
            },
        });
    }
    Ok((time, targets))
}

/// Fails when what an earlier run has built is beyond the moment.
async fn expect_before(pool: &PgPool, pair: Pair, target: Place) -> Result<()> {
    let there: Option<i64> = sqlx::query_scalar(
        "SELECT position FROM checkpoints WHERE shard = $1 AND reactor = $2 AND generation = $3",
    )
    .bind(target.shard.0)
    .bind(pair.projection.name())
    .bind(pair.next)
    .fetch_optional(pool)
    .await?;
    match there {
        Some(position) if position > target.position => Err(Error::Refused(format!(
            "generation {} of {} is there already and beyond that moment: drop it with --discard",
            pair.next,
            pair.projection.name()
        ))),
        _ => Ok(()),
    }
}

/// Waits until the live generation is there: one that is beyond it could not be compared later.
async fn expect_live(pool: &PgPool, pair: Pair, target: Place) -> Result<()> {
    for _ in 0..LIVE_TRIES {
        let live = live_position(pool, pair.projection.name(), target.shard).await?;
        if live >= target.position {
            return Ok(());
        }
        tokio::time::sleep(HELD_PAUSE).await;
    }
    Err(Error::Refused(format!(
        "the live {} has not come to {target} yet: is a worker running?",
        pair.projection.name()
    )))
}

async fn fold_lane(run: &Run<'_>, targets: &[Place], lane: usize) -> Result<()> {
    for target in targets.iter().skip(lane).step_by(REBUILD_SHARDS_MAX) {
        run.fold_to(target.shard, target.position).await?;
    }
    Ok(())
}

async fn tables(pool: &PgPool, pair: Pair, targets: &[Place]) -> Result<Vec<PastTable>> {
    let names = pair.projection.tables().iter();
    let mut tables: Vec<PastTable> = names
        .map(|table| PastTable {
            table,
            partition: format!("read.{table}_{}", pair.next),
            digest: Digest::default(),
        })
        .collect();
    let mut connection = pool.acquire().await?;
    // Compared with nothing: only its own side is looked at.
    let alone = Pair {
        live: pair.next,
        ..pair
    };
    for target in targets {
        let digests = compare::digests(&mut connection, alone, target.shard).await?;
        for (table, compared) in tables.iter_mut().zip(digests) {
            table.digest.add(&compared.live);
        }
    }
    Ok(tables)
}
