//! Rebuilding a read model beside the live one, with a proof that both are equal.
//!
//! The next generation is folded from position 0 into partitions of its own, while the live one is
//! folded and read as ever. It never goes beyond the live one, so bringing both to the same
//! position takes a moment in which the live fold waits, once per shard. There a snapshot is taken;
//! the comparison itself happens in the snapshot and holds up nobody. The switch is one short
//! transaction that changes one number.
//!
//! Killed anywhere, the live model is as it was, and the next run goes on with what is there, if it
//! has the same version of the fold. Only folding happens here: no call to a platform, no job, no
//! signal.
//!
//! Going back is the same with the generation that was live before: it stands where it was left, is
//! brought to where the live one is, compared, and switched to under the same conditions.

mod certificate;
mod compare;
mod fold;
mod partition;
mod switch;
mod until;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::try_join_all;
use hub_domain::id::Shard;
use hub_domain::limits::{REBUILD_BATCH_MAX, REBUILD_SHARDS_MAX};
use sqlx::{Connection as _, PgConnection, PgPool};

use crate::checkpoint::live_generation;
use crate::error::{Error, Result};
use crate::follow::Reach;
use crate::project::{Projection, bulk, step_to};
use crate::schema::sharding;

pub use certificate::{
    Certificate, Compared, Difference, Digest, Fate, ParkedStreams, ShardProof, TableProof, Verdict,
};
pub use partition::{discard, drop_generation, drop_old};
pub use until::{PastTable, Reconstruction, Until, reconstruct};

/// How long a rebuild waits for another to end: one that was killed is gone in a moment.
const CLAIM_TRIES: u32 = 20;
const CLAIM_PAUSE: Duration = Duration::from_millis(100);

/// How long a rebuild waits for whoever holds its own checkpoint before it gives up.
const HELD_TRIES: u32 = 1_000;
const HELD_PAUSE: Duration = Duration::from_millis(10);

/// How far a rebuild is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Events folded by this run.
    pub folded: u64,
    /// Events there were to fold when it began; never less than `folded`.
    pub total: u64,
    /// Since it began.
    pub elapsed: Duration,
}

/// Told after every batch.
pub type Report<'a> = &'a (dyn Fn(Progress) + Sync);

/// What to do with the rebuilt generation once it was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Make it live, if it is equal.
    Switch,
    /// Make it live in any case: the fold changed on purpose, or the live rows are damaged.
    SwitchDespiteDifferences,
    /// Keep it beside the live one for the next run.
    Keep,
    /// Drop it, unless it was there before: then an earlier run wants to go on with it.
    Drop,
}

/// Rebuilds a projection beside the live one, compares both at the same positions, and ends as
/// wished. One at a time per projection; a second one is refused.
pub async fn rebuild(
    pool: &PgPool,
    projection: Projection,
    end: End,
    report: Report<'_>,
) -> Result<Certificate> {
    let claim = claim(pool, projection).await?;
    let pair = Pair::beside_live(pool, projection).await?;
    fold::expect_ours(pool, pair, fold::BEGUN_ELSEWHERE).await?;
    let resumed = partition::create(pool, pair).await?;
    let certificate = prove(pool, pair, resumed, end, report).await?;
    // Said politely; a dropped connection would release it as well.
    claim.close().await?;
    Ok(certificate)
}

/// Goes back to the newest generation that was live before the one that is: brings it to where the
/// live one is, compares both, and ends as wished. The one that was live stays, as one that is beside
/// the live one, and the next rebuild goes on with it. What another version of the fold has made is
/// only gone back to [`End::SwitchDespiteDifferences`], as it ends up of several.
pub async fn back(
    pool: &PgPool,
    projection: Projection,
    end: End,
    report: Report<'_>,
) -> Result<Certificate> {
    let claim = claim(pool, projection).await?;
    let pair = Pair::before_live(pool, projection).await?;
    if end != End::SwitchDespiteDifferences {
        fold::expect_ours(
            pool,
            pair,
            "bring it up with the build that made it, or say --accept-differences",
        )
        .await?;
    }
    let certificate = prove(pool, pair, true, end, report).await?;
    claim.close().await?;
    Ok(certificate)
}

/// Brings a generation to where the live one is, compares both, and ends as wished.
async fn prove(
    pool: &PgPool,
    pair: Pair,
    resumed: bool,
    end: End,
    report: Report<'_>,
) -> Result<Certificate> {
    let live_fold = fold::of(pool, pair.projection, pair.live).await?;
    let run = Run::begin(pool, pair, report).await?;
    run.catch_up().await?;
    partition::analyze(pool, pair).await?;
    let mut certificate = Certificate::new(pair, resumed, live_fold);
    for shard in run.shards() {
        compare::shard(&run, shard, &mut certificate).await?;
    }
    let equal = certificate.verdict() == Verdict::Equal;
    match end {
        End::Switch if equal => switch::switch(&run, &mut certificate, false).await?,
        End::SwitchDespiteDifferences => switch::switch(&run, &mut certificate, true).await?,
        End::Drop if !resumed => {
            drop_generation(pool, pair.projection, pair.next).await?;
            certificate.fate = Fate::Dropped;
        }
        End::Switch | End::Keep | End::Drop => {}
    }
    certificate.sum_up(run.progress());
    Ok(certificate)
}

/// Two generations of one projection.
#[derive(Clone, Copy, Debug)]
struct Pair {
    projection: Projection,
    /// What readers see.
    live: i16,
    /// What is being built, or gone back to.
    next: i16,
}

impl Pair {
    /// The live generation, and the one that comes after it.
    async fn beside_live(pool: &PgPool, projection: Projection) -> Result<Self> {
        let live = live_generation(pool, projection.name()).await?;
        let next = live.checked_add(1).ok_or_else(|| {
            Error::Refused("there is no number left for another generation".to_owned())
        })?;
        Ok(Self {
            projection,
            live,
            next,
        })
    }

    /// The live generation, and the newest of those that were live before and are kept.
    async fn before_live(pool: &PgPool, projection: Projection) -> Result<Self> {
        let live = live_generation(pool, projection.name()).await?;
        let before: Option<i16> = sqlx::query_scalar(
            "SELECT max(generation) FROM checkpoints WHERE reactor = $1 AND generation < $2",
        )
        .bind(projection.name())
        .bind(live)
        .fetch_one(pool)
        .await?;
        let next = before.ok_or_else(|| {
            Error::Refused(format!(
                "there is no earlier generation of {} to go back to: there never was one, or \
                 --drop-old has dropped it",
                projection.name()
            ))
        })?;
        Ok(Self {
            projection,
            live,
            next,
        })
    }
}

/// Holds the right to rebuild a projection for as long as the connection lives. A convenience and
/// no fence: two that ran at once would only share the work, and the switch checks everything.
async fn claim(pool: &PgPool, projection: Projection) -> Result<PgConnection> {
    // Not the pool's any more: a future that is dropped closes it, which releases the lock.
    let mut connection = pool.acquire().await?.detach();
    for _ in 0..CLAIM_TRIES {
        let claimed: bool =
            sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtextextended($1, 0))")
                .bind(format!("hub rebuilds {}", projection.name()))
                .fetch_one(&mut connection)
                .await?;
        if claimed {
            return Ok(connection);
        }
        tokio::time::sleep(CLAIM_PAUSE).await;
    }
    Err(Error::Refused(format!(
        "another process is rebuilding {}: wait until it has ended",
        projection.name()
    )))
}

/// One rebuild at work.
struct Run<'a> {
    pool: &'a PgPool,
    pair: Pair,
    shards: i16,
    report: Report<'a>,
    began: Instant,
    folded: AtomicU64,
    total: u64,
}

impl<'a> Run<'a> {
    async fn begin(pool: &'a PgPool, pair: Pair, report: Report<'a>) -> Result<Self> {
        let total: i64 = sqlx::query_scalar(
            "SELECT coalesce(sum(CASE generation WHEN $2 THEN position ELSE -position END), 0)\
             ::bigint FROM checkpoints WHERE reactor = $1 AND generation IN ($2, $3)",
        )
        .bind(pair.projection.name())
        .bind(pair.live)
        .bind(pair.next)
        .fetch_one(pool)
        .await?;
        Ok(Self {
            pool,
            pair,
            shards: sharding(pool).await?.count,
            report,
            began: Instant::now(),
            folded: AtomicU64::new(0),
            total: u64::try_from(total).unwrap_or(0),
        })
    }

    fn shards(&self) -> impl Iterator<Item = Shard> + use<> {
        (0..self.shards).map(Shard)
    }

    fn progress(&self) -> Progress {
        let folded = self.folded.load(Ordering::Relaxed);
        Progress {
            folded,
            total: self.total.max(folded),
            elapsed: self.began.elapsed(),
        }
    }

    /// Brings every shard close to the live generation, a few at a time.
    async fn catch_up(&self) -> Result<()> {
        let lanes = (0..REBUILD_SHARDS_MAX).map(|lane| self.catch_up_lane(lane));
        try_join_all(lanes).await?;
        Ok(())
    }

    async fn catch_up_lane(&self, lane: usize) -> Result<()> {
        for shard in self.shards().skip(lane).step_by(REBUILD_SHARDS_MAX) {
            self.follow(shard).await?;
        }
        Ok(())
    }

    /// Folds a shard until it is less than a batch behind the live generation.
    async fn follow(&self, shard: Shard) -> Result<()> {
        loop {
            let live = self.position(self.pair.live, shard).await?;
            if self.fold_to(shard, live).await? < REBUILD_BATCH_MAX as u64 {
                return Ok(());
            }
        }
    }

    /// Folds a shard up to a position that the live generation has reached, not one beyond.
    async fn fold_to(&self, shard: Shard, to: i64) -> Result<u64> {
        let Pair {
            projection, next, ..
        } = self.pair;
        let reach = Reach {
            to,
            batch: REBUILD_BATCH_MAX,
            ..Reach::default()
        };
        let (mut folded, mut held) = (0, 0);
        while self.position(next, shard).await? < to {
            let more = self.fold_more(shard, reach.clone()).await?;
            if more == 0 {
                held += 1;
                if held > HELD_TRIES {
                    return Err(Error::Refused(format!(
                        "another process holds generation {next} of {}",
                        projection.name()
                    )));
                }
                tokio::time::sleep(HELD_PAUSE).await;
                continue;
            }
            folded += more;
        }
        Ok(folded)
    }

    /// One turn: a long one in memory where there is a long way to go, else, or where that fails,
    /// a small step, which knows what to do about a single bad event.
    async fn fold_more(&self, shard: Shard, reach: Reach) -> Result<u64> {
        let Pair {
            projection, next, ..
        } = self.pair;
        // Few events concern the accounts: passing the others is faster than reading them.
        let far = reach.to - self.position(next, shard).await? > reach.batch;
        if far && projection != Projection::Accounts {
            let counted = AtomicU64::new(0);
            let report = |events| {
                counted.fetch_add(events as u64, Ordering::Relaxed);
                self.count(events);
            };
            let bulk = bulk::fold(self.pool, next, shard, reach.to, report);
            // Folds are pure: one that panics has an event to blame, which a small step will find.
            match AssertUnwindSafe(bulk).catch_unwind().await {
                Ok(Ok(Some(folded))) => return Ok(folded as u64),
                Ok(Ok(None)) => {}
                Ok(Err(error)) if error.is_temporary() => return Err(error),
                Ok(Err(error)) => tracing::debug!(%shard, %error, "folding on in small steps"),
                Err(_) => tracing::debug!(%shard, "folding on in small steps after a panic"),
            }
            self.folded
                .fetch_sub(counted.into_inner(), Ordering::Relaxed);
        }
        let folded = step_to(self.pool, projection, next, shard, reach).await?;
        self.count(folded);
        Ok(folded as u64)
    }

    fn count(&self, events: usize) {
        self.folded.fetch_add(events as u64, Ordering::Relaxed);
        (self.report)(self.progress());
    }

    async fn position(&self, generation: i16, shard: Shard) -> Result<i64> {
        let position: Option<i64> = sqlx::query_scalar(
            "SELECT position FROM checkpoints \
             WHERE shard = $1 AND reactor = $2 AND generation = $3",
        )
        .bind(shard.0)
        .bind(self.pair.projection.name())
        .bind(generation)
        .fetch_optional(self.pool)
        .await?;
        position.ok_or_else(|| gone(self.pair.projection, generation))
    }
}

fn gone(projection: Projection, generation: i16) -> Error {
    Error::Refused(format!(
        "generation {generation} of {} is not there (any more)",
        projection.name()
    ))
}
