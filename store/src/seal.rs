//! Sealing the event log: a chain of hashes over it, shard by shard.
//!
//! A seal covers the events (after, through] of a shard, has a leaf for each of them, continues the
//! seal before it, and is authenticated with a key that is not in the database. Promises:
//!
//! - [`step`] seals every event, in order, once; the seal and the checkpoint move together, and two
//!   workers on one shard make one chain.
//! - [`verify`](verify()) finds whatever was changed, removed, added or moved among sealed events,
//!   and names the first of them in each shard. Whoever can write the database and has not
//!   `ENCRYPTION_KEY` cannot make seals that pass.
//! - Seals that were exported in time catch what is left: somebody who has the key too, and somebody
//!   who takes seals away so that the hub makes them again over other events (such seals are late,
//!   which is said as well).
//!
//! It does not promise anything about events that are not sealed yet: the last ten seconds, unless
//! the worker stands still. Sealed means what it means for an envelope: nothing is hidden by it.

mod export;
mod format;
mod verify;

use chrono::{DateTime, Utc};
use hub_domain::id::{Place, Shard};
use hub_domain::limits::{SEAL_AGE_MAX, SEAL_EVENTS_MAX};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Row as _};

use crate::checkpoint::{self, Reactor};
use crate::error::{Error, Result};
use crate::read;

pub use export::export;
pub use format::{FORMAT, Hash, LEAF_BYTES, SealKey};
pub use verify::{Finding, Late, Report, ShardReport, verify};

/// The reactor that seals.
pub const SEALING: Reactor = Reactor {
    name: "seal",
    generation: 0,
};

/// A part of a shard's log, as it was when it was sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The shard.
    pub shard: Shard,
    /// It covers the events after this position …
    pub after: i64,
    /// … up to this one.
    pub through: i64,
    /// How the bytes were put together.
    pub format: i16,
    /// The hash of the seal before it.
    pub previous: Vec<u8>,
    /// The hash of this one.
    pub hash: Vec<u8>,
    /// [`LEAF_BYTES`] for each event, in order.
    pub leaves: Vec<u8>,
    /// That this installation made it, at that time.
    pub mac: Vec<u8>,
    /// When its first event was recorded.
    pub first_recorded_at: DateTime<Utc>,
    /// When its last event was recorded.
    pub last_recorded_at: DateTime<Utc>,
    /// When it was made, by the worker's clock.
    pub sealed_at: DateTime<Utc>,
}

impl Seal {
    fn from_row(shard: Shard, row: &PgRow) -> Result<Self> {
        Ok(Self {
            shard,
            after: row.try_get(0)?,
            through: row.try_get(1)?,
            format: row.try_get(2)?,
            previous: row.try_get(3)?,
            hash: row.try_get(4)?,
            leaves: row.try_get(5)?,
            mac: row.try_get(6)?,
            first_recorded_at: row.try_get(7)?,
            last_recorded_at: row.try_get(8)?,
            sealed_at: row.try_get(9)?,
        })
    }

    /// The first seal of a shard that ends after this position and not beyond `to`.
    async fn next(pool: &PgPool, from: Place, to: i64) -> Result<Option<Self>> {
        let row = sqlx::query(
            "SELECT after, through, format, previous, hash, leaves, mac, first_recorded_at, \
                 last_recorded_at, sealed_at \
             FROM seals WHERE shard = $1 AND through > $2 AND through <= $3 \
             ORDER BY through LIMIT 1",
        )
        .bind(from.shard.0)
        .bind(from.position)
        .bind(to)
        .fetch_optional(pool)
        .await?;
        row.map(|row| Self::from_row(from.shard, &row)).transpose()
    }

    async fn insert(&self, connection: &mut PgConnection) -> Result<()> {
        sqlx::query(
            "INSERT INTO seals (shard, after, through, format, previous, hash, leaves, mac, \
                 first_recorded_at, last_recorded_at, sealed_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        )
        .bind(self.shard.0)
        .bind(self.after)
        .bind(self.through)
        .bind(self.format)
        .bind(&self.previous)
        .bind(&self.hash)
        .bind(&self.leaves)
        .bind(&self.mac)
        .bind(self.first_recorded_at)
        .bind(self.last_recorded_at)
        .bind(self.sealed_at)
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// The shards that have enough unsealed events, or one that has waited long enough. A hole where
/// the next event should be counts too, so that it is found.
pub async fn behind(pool: &PgPool) -> Result<Vec<Shard>> {
    let shards: Vec<i16> = sqlx::query_scalar(
        "SELECT c.shard FROM checkpoints c JOIN shards s ON s.shard = c.shard AND s.log = c.log \
         WHERE c.reactor = $1 AND c.generation = $2 AND s.head > c.position \
             AND (s.head - c.position >= $3 OR coalesce( \
                 (SELECT e.recorded_at FROM events e \
                     WHERE e.shard = c.shard AND e.position = c.position + 1) \
                 <= now() - $4 * interval '1 second', true)) \
         ORDER BY c.shard",
    )
    .bind(SEALING.name)
    .bind(SEALING.generation)
    .bind(SEAL_EVENTS_MAX)
    .bind(SEAL_AGE_MAX.as_secs_f64())
    .fetch_all(pool)
    .await?;
    Ok(shards.into_iter().map(Shard).collect())
}

/// Makes the next seal of a shard when it is due. Returns how many events it covers: 0 when nothing
/// is due or another worker is at it.
pub async fn step(pool: &PgPool, key: &SealKey, shard: Shard) -> Result<usize> {
    let Some(mut turn) = checkpoint::begin(pool, SEALING, shard).await? else {
        return Ok(0);
    };
    let events = read::stored_after(&mut *turn.tx, turn.from, SEAL_EVENTS_MAX).await?;
    let (Some(first), Some(last)) = (events.first(), events.last()) else {
        turn.leave().await?;
        return Ok(0);
    };
    let is_due = events.len() as i64 >= SEAL_EVENTS_MAX
        || sqlx::query_scalar("SELECT $1 <= now() - $2 * interval '1 second'")
            .bind(first.recorded_at)
            .bind(SEAL_AGE_MAX.as_secs_f64())
            .fetch_one(&mut *turn.tx)
            .await?;
    if !is_due {
        turn.leave().await?;
        return Ok(0);
    }
    let previous = newest(&mut turn.tx, turn.from).await?;
    let leaves: Vec<u8> = events.iter().flat_map(format::leaf).collect();
    let (after, through) = (turn.from.position, last.place.position);
    let hash = format::hash(&previous, shard, after, through, &leaves);
    // What is stored has microseconds, and what is signed must be what is stored.
    let sealed_at = DateTime::from_timestamp_micros(Utc::now().timestamp_micros());
    let sealed_at = sealed_at.expect("the clock is within 262,000 years");
    let seal = Seal {
        shard,
        after,
        through,
        format: FORMAT,
        previous: previous.to_vec(),
        hash: hash.to_vec(),
        leaves,
        mac: key.sign(&hash, sealed_at),
        first_recorded_at: first.recorded_at,
        last_recorded_at: last.recorded_at,
        sealed_at,
    };
    seal.insert(&mut turn.tx).await?;
    turn.finish(through).await?;
    metrics::counter!("hub_sealed_events_total").increment(events.len() as u64);
    Ok(events.len())
}

/// The hash that the next seal continues. Sealing stops where the chain was cut: going on would
/// make a new chain look like the old one.
async fn newest(connection: &mut PgConnection, at: Place) -> Result<Hash> {
    if at.position == 0 {
        return Ok(format::BEGINNING);
    }
    let hash: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT hash FROM seals WHERE shard = $1 AND through = $2")
            .bind(at.shard.0)
            .bind(at.position)
            .fetch_optional(connection)
            .await?;
    hash.and_then(|hash| hash.try_into().ok())
        .ok_or_else(|| Error::Corrupt {
            place: at,
            what: "sealed up to here, but that seal is gone".to_owned(),
        })
}
