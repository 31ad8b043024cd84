//! A turn of several shards in one transaction.
//!
//! Measured at half of what the machine can take in, a shard has one or two events when its turn
//! comes, and the turn's dozen round trips cost more than they do. Nothing of the promises changes:
//! each checkpoint moves with what was written for its shard. What needs more care than the usual
//! turn has, a shard with something parked or a batch that fails, is left to turns of one shard.

use hub_domain::envelope::Recorded;
use hub_domain::id::{Place, Shard};
use hub_domain::limits::{REACTOR_BATCH_MAX, TOGETHER_EVENTS_MAX};
use sqlx::PgPool;

use super::{Batch, Handler, alone, pass_by, run};
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::read;

/// Works on one batch of each of these shards. Returns how many positions it passed, all shards
/// together: 0 when there is nothing to do or other workers are at it. A shard that fails does not
/// keep the others; the first failure is returned at the end.
pub async fn turns(pool: &PgPool, handler: &impl Handler, shards: &[Shard]) -> Result<usize> {
    let mut passed = 0;
    let mut left = shards.to_vec();
    if let Some(glide) = handler.glide() {
        for (shard, by) in pass_by(pool, handler.reactor(), shards, glide).await? {
            passed += by;
            left.retain(|it| *it != shard);
        }
    }
    if left.len() > 1 {
        let done = together(pool, handler, &left).await?;
        passed += done.passed;
        left = done.left;
    }
    let mut failed = None;
    for shard in left {
        match alone(pool, handler, shard).await {
            Ok(by) => passed += by,
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(passed), Err)
}

struct Done {
    passed: usize,
    /// Shards that need a turn of their own.
    left: Vec<Shard>,
}

async fn together(pool: &PgPool, handler: &impl Handler, shards: &[Shard]) -> Result<Done> {
    let mut turns = checkpoint::begin_all(pool, handler.reactor(), shards).await?;
    let left = std::mem::take(&mut turns.with_parked);
    let from: Vec<Place> = turns
        .from
        .iter()
        .copied()
        .filter(|place| !left.contains(&place.shard))
        .collect();
    let mut done = Done { passed: 0, left };
    let share = (TOGETHER_EVENTS_MAX / from.len().max(1) as i64).min(REACTOR_BATCH_MAX);
    let reaches = handler.reach(&mut turns.tx, &from).await?;
    let (wanted, reaches): (Vec<_>, Vec<_>) = from
        .iter()
        .zip(reaches)
        .map(|(from, reach)| {
            let limit = reach.batch.min(share).min(reach.to - from.position);
            ((*from, limit), reach)
        })
        .filter(|((_, limit), _)| *limit > 0)
        .unzip();
    let everybody = || wanted.iter().map(|(from, _)| from.shard);
    let mut of_shards = match read::each_after_all(&mut *turns.tx, &wanted).await {
        Ok(of_shards) => of_shards,
        // Which shard it is, and that the others go on, is found out one by one.
        Err(Error::Corrupt { .. }) => {
            turns.leave().await?;
            done.left.extend(everybody());
            return Ok(done);
        }
        Err(error) => return Err(error),
    };
    let mut spans = Vec::with_capacity(wanted.len());
    for (((from, _), reach), entries) in wanted.iter().zip(&reaches).zip(&mut of_shards) {
        if let Some(last) = entries.last() {
            spans.push((*from, read::place(last).position));
        }
        done.passed += entries.len();
        entries.retain(|entry| !reach.without.contains(&read::place(entry)));
        if let Some(glide) = handler.glide() {
            entries.retain(|entry| !glide.passes(entry));
        }
    }
    if spans.is_empty() {
        turns.leave().await?;
        return Ok(done);
    }
    let readable: std::result::Result<Vec<Vec<Recorded>>, read::Unreadable> = of_shards
        .into_iter()
        .map(|entries| entries.into_iter().collect::<std::result::Result<_, _>>())
        .collect();
    let processed = match &readable {
        Err(_) => false,
        Ok(readable) => {
            let batches: Vec<Batch<'_>> = wanted
                .iter()
                .zip(readable)
                .filter(|(_, events)| !events.is_empty())
                .map(|((from, _), events)| Batch {
                    shard: from.shard,
                    events,
                })
                .collect();
            run(handler, &mut turns.tx, &batches).await?.is_ok()
        }
    };
    if !processed {
        turns.leave().await?;
        done.passed = 0;
        done.left.extend(everybody());
        return Ok(done);
    }
    handler.passed(&mut turns.tx, &spans).await?;
    turns.finish(&spans).await?;
    Ok(done)
}
