//! How reactors remember how far they are.
//!
//! A turn locks the checkpoint's row for the length of one short transaction and moves it by
//! compare-and-set together with the rows it stands for. A reactor can therefore be killed
//! anywhere, run twice, or run on many machines: each position counts exactly once. The lock is
//! taken with SKIP LOCKED, so a second worker takes other shards instead of waiting.
//!
//! A turn's commit does not wait for the disk. What it writes follows from the log, whose own
//! commits do wait: if the server crashes, turns of the last moment are gone as a whole, checkpoint
//! included, and are done again. And nothing can follow from a turn and outlive it: a later commit
//! that does wait takes everything before it to the disk too.

use std::collections::{BTreeMap, HashMap};

use hub_domain::id::{Place, Shard};
use sqlx::{PgPool, Postgres, Transaction};

use crate::error::{Error, Result};
use crate::parked::{self, Class, Parking};
use crate::project::Projection;

/// A reactor by name and generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reactor {
    /// Its name.
    pub name: &'static str,
    /// The generation of the read model it builds; 0 when it builds none.
    pub generation: i16,
}

impl Reactor {
    /// The version of the fold that this build moves its checkpoint with; 0 when it folds nothing.
    pub(crate) fn fold(self) -> i32 {
        Projection::from_name(self.name).map_or(0, Projection::fold)
    }
}

/// A transaction that holds a reactor's checkpoint in one shard.
pub struct Turn {
    /// The transaction: everything the reactor writes goes in here.
    pub tx: Transaction<'static, Postgres>,
    /// The reactor.
    pub reactor: Reactor,
    /// Where it is: everything up to here is processed, or stands in `parked`.
    pub from: Place,
    /// How many streams and commands it has parked here.
    pub(crate) heads: i32,
    parkings: Vec<Parking>,
    recount: bool,
}

/// The shards in which this reactor has something to do.
pub async fn behind(pool: &PgPool, reactor: Reactor) -> Result<Vec<Shard>> {
    let shards: Vec<i16> = sqlx::query_scalar(
        "SELECT c.shard FROM checkpoints c JOIN shards s ON s.shard = c.shard AND s.log = c.log \
         WHERE c.reactor = $1 AND c.generation = $2 AND s.head > c.position ORDER BY c.shard",
    )
    .bind(reactor.name)
    .bind(reactor.generation)
    .fetch_all(pool)
    .await?;
    Ok(shards.into_iter().map(Shard).collect())
}

/// The shards in which every live projection is beyond this reactor: work for one that follows
/// the read models rather than the log.
pub async fn behind_projections(pool: &PgPool, reactor: Reactor) -> Result<Vec<Shard>> {
    let shards: Vec<i16> = sqlx::query_scalar(
        "SELECT c.shard FROM checkpoints c \
         JOIN generations g ON g.shard = c.shard \
         JOIN checkpoints p ON p.shard = g.shard AND p.reactor = g.projection \
             AND p.generation = g.live \
         WHERE c.reactor = $1 AND c.generation = $2 \
         GROUP BY c.shard, c.position HAVING min(p.position) > c.position ORDER BY c.shard",
    )
    .bind(reactor.name)
    .bind(reactor.generation)
    .fetch_all(pool)
    .await?;
    Ok(shards.into_iter().map(Shard).collect())
}

/// Begins a turn, or returns `None` when another worker is at it.
pub async fn begin(pool: &PgPool, reactor: Reactor, shard: Shard) -> Result<Option<Turn>> {
    let mut tx = crate::transaction::begin(pool).await?;
    // The number of heads is a column of the same row: what is read under the lock is what the last
    // holder left. A subquery would see the table as it was before the lock was had.
    // Everything in a turn is looked up by key. A plan that was made while a table was nearly empty
    // would scan it, and prepared statements keep their plans.
    let row: Option<(i64, i32, String, String)> = sqlx::query_as(
        "SELECT position, parked, set_config('synchronous_commit', 'off', true), \
             set_config('enable_seqscan', 'off', true) FROM checkpoints \
         WHERE shard = $1 AND reactor = $2 AND generation = $3 FOR UPDATE SKIP LOCKED",
    )
    .bind(shard.0)
    .bind(reactor.name)
    .bind(reactor.generation)
    .fetch_optional(&mut *tx)
    .await?;
    Ok(row.map(|(position, heads, ..)| Turn::new(tx, reactor, Place { shard, position }, heads)))
}

/// A transaction that holds a reactor's checkpoints in several shards, as [`Turn`] does in one.
pub struct Turns {
    /// The transaction: everything the reactor writes goes in here.
    pub tx: Transaction<'static, Postgres>,
    reactor: Reactor,
    /// Where it is in each shard that nobody else holds, in ascending order.
    pub from: Vec<Place>,
    /// Shards in which it has something parked, held too: not for turns of several.
    pub(crate) with_parked: Vec<Shard>,
    parkings: BTreeMap<Shard, Vec<Parking>>,
}

/// Begins a turn in those of these shards that no other worker is at.
pub async fn begin_all(pool: &PgPool, reactor: Reactor, shards: &[Shard]) -> Result<Turns> {
    let mut tx = crate::transaction::begin(pool).await?;
    let rows: Vec<(i16, i64, i32, String, String)> = sqlx::query_as(
        "SELECT shard, position, parked, set_config('synchronous_commit', 'off', true), \
             set_config('enable_seqscan', 'off', true) FROM checkpoints \
         WHERE shard = ANY ($1) AND reactor = $2 AND generation = $3 \
         ORDER BY shard FOR UPDATE SKIP LOCKED",
    )
    .bind(shards.iter().map(|shard| shard.0).collect::<Vec<_>>())
    .bind(reactor.name)
    .bind(reactor.generation)
    .fetch_all(&mut *tx)
    .await?;
    let mut turns = Turns {
        tx,
        reactor,
        from: Vec::with_capacity(rows.len()),
        with_parked: Vec::new(),
        parkings: BTreeMap::new(),
    };
    for (shard, position, heads, ..) in rows {
        let shard = Shard(shard);
        turns.from.push(Place { shard, position });
        if heads > 0 {
            turns.with_parked.push(shard);
        }
    }
    Ok(turns)
}

impl Turns {
    /// Moves the checkpoints of these shards, `(from, to)` each, and commits everything that was
    /// written in this turn, what was put aside included.
    pub async fn finish(mut self, spans: &[(Place, i64)]) -> Result<()> {
        let reactor = self.reactor;
        for (shard, parkings) in &self.parkings {
            parked::insert(&mut self.tx, reactor, *shard, parkings).await?;
        }
        let shard = |(from, _): &(Place, i64)| from.shard.0;
        let moved = sqlx::query(
            "UPDATE checkpoints c SET position = w.upto, updated_at = clock_timestamp(), \
                 fold = CASE WHEN c.position = 0 OR c.fold = $7 THEN $7 ELSE 0 END, \
                 parked = CASE WHEN c.shard = ANY ($6) THEN \
                     (SELECT count(*) FROM parked p WHERE p.shard = c.shard \
                         AND p.reactor = c.reactor AND p.generation = c.generation \
                         AND p.class <> 'held') ELSE c.parked END \
             FROM unnest($3::smallint[], $4::bigint[], $5::bigint[]) AS w (shard, after, upto) \
             WHERE c.shard = w.shard AND c.reactor = $1 AND c.generation = $2 \
                 AND c.position = w.after",
        )
        .bind(reactor.name)
        .bind(reactor.generation)
        .bind(spans.iter().map(shard).collect::<Vec<_>>())
        .bind(
            spans
                .iter()
                .map(|(from, _)| from.position)
                .collect::<Vec<_>>(),
        )
        .bind(spans.iter().map(|(_, to)| *to).collect::<Vec<_>>())
        .bind(
            self.parkings
                .keys()
                .map(|shard| shard.0)
                .collect::<Vec<_>>(),
        )
        .bind(reactor.fold())
        .execute(&mut *self.tx)
        .await?
        .rows_affected();
        if moved != spans.len() as u64 {
            return Err(Error::Fenced);
        }
        self.tx.commit().await?;
        for (shard, parkings) in &self.parkings {
            for parking in parkings {
                tell(reactor, *shard, parking);
            }
        }
        Ok(())
    }

    /// Ends a turn in which there was nothing to do, see [`Turn::leave`].
    pub async fn leave(self) -> Result<()> {
        self.tx.rollback().await?;
        Ok(())
    }

    /// Puts something of a shard aside, see [`Turn::park`].
    pub fn park(&mut self, shard: Shard, parking: Parking) {
        self.parkings.entry(shard).or_default().push(parking);
    }
}

/// Holds a checkpoint to work on what is parked, waiting a moment for whoever has it. `None` when
/// there is no such checkpoint.
pub async fn hold(pool: &PgPool, reactor: Reactor, shard: Shard) -> Result<Option<Turn>> {
    let mut tx = crate::transaction::begin(pool).await?;
    sqlx::query("SET LOCAL lock_timeout = '10s'")
        .execute(&mut *tx)
        .await?;
    let row: Option<(i64, i32)> = sqlx::query_as(
        "SELECT position, parked FROM checkpoints \
         WHERE shard = $1 AND reactor = $2 AND generation = $3 FOR UPDATE",
    )
    .bind(shard.0)
    .bind(reactor.name)
    .bind(reactor.generation)
    .fetch_optional(&mut *tx)
    .await?;
    Ok(row.map(|(position, heads)| Turn::new(tx, reactor, Place { shard, position }, heads)))
}

impl Turn {
    /// A turn that believes to hold a checkpoint; [`Self::finish`] finds out.
    pub fn new(
        tx: Transaction<'static, Postgres>,
        reactor: Reactor,
        from: Place,
        heads: i32,
    ) -> Self {
        Self {
            tx,
            reactor,
            from,
            heads,
            parkings: Vec::new(),
            recount: false,
        }
    }

    /// Moves the checkpoint and commits everything that was written in this turn, what was put
    /// aside included.
    pub async fn finish(mut self, to: i64) -> Result<()> {
        let (reactor, shard) = (self.reactor, self.from.shard);
        if !self.parkings.is_empty() {
            self.recount = true;
            parked::insert(&mut self.tx, reactor, shard, &self.parkings).await?;
        }
        let moved = sqlx::query(if self.recount {
            "UPDATE checkpoints c SET position = $5, updated_at = clock_timestamp(), \
                 fold = CASE WHEN position = 0 OR fold = $6 THEN $6 ELSE 0 END, \
                 parked = (SELECT count(*) FROM parked p WHERE p.shard = c.shard \
                     AND p.reactor = c.reactor AND p.generation = c.generation \
                     AND p.class <> 'held') \
             WHERE shard = $1 AND reactor = $2 AND generation = $3 AND position = $4"
        } else {
            "UPDATE checkpoints SET position = $5, updated_at = clock_timestamp(), \
                 fold = CASE WHEN position = 0 OR fold = $6 THEN $6 ELSE 0 END \
             WHERE shard = $1 AND reactor = $2 AND generation = $3 AND position = $4"
        })
        .bind(shard.0)
        .bind(reactor.name)
        .bind(reactor.generation)
        .bind(self.from.position)
        .bind(to)
        .bind(reactor.fold())
        .execute(&mut *self.tx)
        .await?
        .rows_affected();
        if moved != 1 {
            return Err(Error::Fenced);
        }
        self.tx.commit().await?;
        for parking in &self.parkings {
            tell(reactor, shard, parking);
        }
        Ok(())
    }

    /// Ends a turn in which there was nothing to do. Dropping it would release the checkpoint only
    /// when the connection is next used, and whoever looks for work meanwhile would pass it by.
    pub async fn leave(self) -> Result<()> {
        self.tx.rollback().await?;
        Ok(())
    }

    /// Puts something aside that cannot be processed, with the end of this turn: visible, counted
    /// and logged once, and others go on.
    pub fn park(&mut self, parking: Parking) {
        self.parkings.push(parking);
    }

    /// Takes away what was parked and is processed now.
    pub async fn release(&mut self, positions: &[i64]) -> Result<()> {
        self.recount = true;
        parked::delete(&mut self.tx, self.reactor, self.from.shard, positions).await
    }

    /// Writes down that what is parked was tried again in vain. It is counted and logged no more.
    pub async fn tried(&mut self, head: &Parking) -> Result<()> {
        self.recount = true;
        parked::tried(&mut self.tx, self.reactor, self.from.shard, head).await
    }
}

pub(crate) fn tell(reactor: Reactor, shard: Shard, parking: &Parking) {
    if parking.class == Class::Held {
        return;
    }
    metrics::counter!("hub_parked_total", "reactor" => reactor.name).increment(1);
    let position = parking.position;
    tracing::error!(
        reactor = reactor.name,
        generation = reactor.generation,
        place = %Place { shard, position },
        class = parking.class.name(),
        reason = parking.reason,
        "parked: see `hub dlq`"
    );
}

/// Where a reactor is in a shard.
pub async fn position(pool: &PgPool, reactor: Reactor, shard: Shard) -> Result<i64> {
    Ok(sqlx::query_scalar(
        "SELECT position FROM checkpoints WHERE shard = $1 AND reactor = $2 AND generation = $3",
    )
    .bind(shard.0)
    .bind(reactor.name)
    .bind(reactor.generation)
    .fetch_one(pool)
    .await?)
}

/// Where the live generation of a projection is in a shard.
pub async fn live_position(
    executor: impl sqlx::PgExecutor<'_>,
    projection: &str,
    shard: Shard,
) -> Result<i64> {
    Ok(sqlx::query_scalar(
        "SELECT c.position FROM checkpoints c JOIN generations g \
         ON g.shard = c.shard AND g.projection = c.reactor AND g.live = c.generation \
         WHERE c.shard = $1 AND c.reactor = $2",
    )
    .bind(shard.0)
    .bind(projection)
    .fetch_one(executor)
    .await?)
}

/// How far every live read model is, shard by shard: whoever reads rows on account of an event at
/// or below this place finds what the event did to them.
pub async fn live_positions(executor: impl sqlx::PgExecutor<'_>) -> Result<Vec<Place>> {
    let rows: Vec<(i16, i64)> = sqlx::query_as(
        "SELECT c.shard, min(c.position) FROM checkpoints c JOIN generations g \
         ON g.shard = c.shard AND g.projection = c.reactor AND g.live = c.generation \
         GROUP BY c.shard ORDER BY c.shard",
    )
    .fetch_all(executor)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(shard, position)| Place {
            shard: Shard(shard),
            position,
        })
        .collect())
}

/// Where the live generation of every projection is, by shard and name.
pub(crate) async fn live_positions_of_all(
    executor: impl sqlx::PgExecutor<'_>,
) -> Result<HashMap<(i16, String), i64>> {
    let rows: Vec<(i16, String, i64)> = sqlx::query_as(
        "SELECT c.shard, c.reactor, c.position FROM checkpoints c JOIN generations g \
         ON g.shard = c.shard AND g.projection = c.reactor AND g.live = c.generation",
    )
    .fetch_all(executor)
    .await?;
    let rows = rows.into_iter();
    Ok(rows
        .map(|(shard, projection, position)| ((shard, projection), position))
        .collect())
}

/// The end of a shard's log, and how much of it every live read model shows.
pub(crate) async fn head_and_shown(
    executor: impl sqlx::PgExecutor<'_>,
    shard: Shard,
) -> Result<(i64, i64)> {
    Ok(sqlx::query_as(
        "SELECT s.head, (SELECT min(c.position) FROM generations g \
             JOIN checkpoints c ON c.shard = g.shard AND c.reactor = g.projection \
                 AND c.generation = g.live WHERE g.shard = s.shard) \
         FROM shards s WHERE s.shard = $1 AND s.log = 'events'",
    )
    .bind(shard.0)
    .fetch_one(executor)
    .await?)
}

/// The live generation of a projection in a shard.
pub async fn live_generation(pool: &PgPool, projection: &str) -> Result<i16> {
    Ok(
        sqlx::query_scalar("SELECT max(live) FROM generations WHERE projection = $1")
            .bind(projection)
            .fetch_one(pool)
            .await?,
    )
}
