//! Looking into the log as it is stored, for operators.
//!
//! Promises: nothing is changed and nothing decoded, so what a newer build wrote is shown as well.
//! What is sealed is hidden unless it is opened on purpose ([`Opener`]). Somebody who looks is not a
//! reader of the log: the order across shards is by time, for the eye only.

mod explain;
mod find;
mod open;
mod subject;

use chrono::{DateTime, Utc};
use hub_domain::id::{Place, Shard, Sharding, StreamId};
use serde::{Serialize, Serializer};
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row as _};

use crate::error::Result;
use crate::{checkpoint, places};

pub use explain::{
    Asked, Checkpoint, Ended, Explained, Input, KeptInput, MessageState, ParkedEvent, Step, explain,
};
pub use find::{Found, find};
pub use open::{Opener, hide};

/// An event as it is stored.
#[derive(Clone, Debug, Serialize)]
pub struct Stored {
    /// Its place.
    #[serde(serialize_with = "as_text")]
    pub place: Place,
    /// Its stream.
    pub stream: StreamId,
    /// Its version in the stream.
    pub version: i64,
    /// Its kind.
    pub kind: String,
    /// The schema of its payload.
    pub schema: i16,
    /// When it was recorded.
    pub recorded_at: DateTime<Utc>,
    /// Who and what caused it.
    pub meta: Value,
    /// What it says.
    pub payload: Value,
}

fn as_text<S: Serializer>(place: &Place, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(place)
}

fn stored(shard: Shard, row: &PgRow) -> Result<Stored> {
    let json = |index: usize| -> Result<Value> {
        let text: String = row.try_get(index)?;
        // Whatever is there is shown.
        Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)))
    };
    Ok(Stored {
        place: Place {
            shard,
            position: row.try_get(0)?,
        },
        stream: StreamId(row.try_get(1)?),
        version: row.try_get(2)?,
        kind: row.try_get(3)?,
        schema: row.try_get(4)?,
        payload: json(5)?,
        meta: json(6)?,
        recorded_at: row.try_get(7)?,
    })
}

/// The event at a place.
pub async fn event(pool: &PgPool, place: Place) -> Result<Option<Stored>> {
    let row = sqlx::query(
        "SELECT position, stream, version, kind, schema, payload::text, meta::text, recorded_at \
         FROM events WHERE shard = $1 AND position = $2",
    )
    .bind(place.shard.0)
    .bind(place.position)
    .fetch_optional(pool)
    .await?;
    row.map(|row| stored(place.shard, &row)).transpose()
}

/// The newest events of a shard after a position and up to another, at most `limit`, oldest first.
/// A kind that is rare is looked for through all of them.
pub async fn newest(
    pool: &PgPool,
    after: Place,
    to: i64,
    kind: Option<&str>,
    limit: i64,
) -> Result<Vec<Stored>> {
    let rows = sqlx::query(
        "SELECT position, stream, version, kind, schema, payload::text, meta::text, recorded_at \
         FROM events WHERE shard = $1 AND position > $2 AND position <= $3 \
             AND ($4::text IS NULL OR kind = $4) \
         ORDER BY position DESC LIMIT $5",
    )
    .bind(after.shard.0)
    .bind(after.position)
    .bind(to)
    .bind(kind)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    let rows = rows.iter().rev();
    rows.map(|row| stored(after.shard, row)).collect()
}

/// The events of a stream after a version, at most `limit`, oldest first.
pub async fn of_stream(
    pool: &PgPool,
    shard: Shard,
    stream: StreamId,
    after_version: i64,
    limit: i64,
) -> Result<Vec<Stored>> {
    let indexed = checkpoint::position(pool, places::NAME, shard).await?;
    let rows = sqlx::query(include_str!("../sql/stream.sql"))
        .bind(shard.0)
        .bind(vec![stream.0])
        .bind(after_version)
        .bind(after_version.saturating_add(limit))
        .bind(i64::MAX)
        .bind(indexed)
        .fetch_all(pool)
        .await?;
    rows.iter().map(|row| stored(shard, row)).collect()
}

/// The head of every shard's event log.
pub async fn heads(pool: &PgPool) -> Result<Vec<Place>> {
    let rows: Vec<(i16, i64)> =
        sqlx::query_as("SELECT shard, head FROM shards WHERE log = 'events' ORDER BY shard")
            .fetch_all(pool)
            .await?;
    let heads = rows.into_iter().map(|(shard, position)| Place {
        shard: Shard(shard),
        position,
    });
    Ok(heads.collect())
}

/// Where things fall, as numbers to bind.
fn shards(sharding: Sharding) -> Vec<i16> {
    (0..sharding.count).collect()
}
