//! Reading streams.
//!
//! Promises: every event of the streams up to the position asked for, in order, whether the index of
//! places has come that far or not. A stream with a hole is corruption, never skipped.

use std::collections::HashMap;

use hub_domain::envelope::{Meta, Recorded};
use hub_domain::event::Event;
use hub_domain::id::{Place, Shard, StreamId};
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row as _};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::{checkpoint, places};

/// The events of a stream after a version, up to a position of its shard, at most `limit`.
pub async fn stream(
    pool: &PgPool,
    shard: Shard,
    stream: StreamId,
    after_version: i64,
    to_position: i64,
    limit: i64,
) -> Result<Vec<Recorded>> {
    let versions = (after_version, after_version.saturating_add(limit));
    streams(pool, shard, &[stream], versions, to_position).await
}

/// The events of several streams whose versions are in `(after, to]`, up to a position of their
/// shard, in the order of the log. The caller knows how many there are ([`count`]).
pub async fn streams(
    pool: &PgPool,
    shard: Shard,
    streams: &[StreamId],
    versions: (i64, i64),
    to_position: i64,
) -> Result<Vec<Recorded>> {
    // First: what the index reaches now it never loses.
    let indexed = checkpoint::position(pool, places::NAME, shard).await?;
    let rows = sqlx::query(include_str!("../../sql/stream.sql"))
        .bind(shard.0)
        .bind(streams.iter().map(|stream| stream.0).collect::<Vec<_>>())
        .bind(versions.0)
        .bind(versions.1)
        .bind(to_position)
        .bind(indexed)
        .fetch_all(pool)
        .await?;
    let mut reached: HashMap<StreamId, i64> = HashMap::new();
    let mut events = Vec::with_capacity(rows.len());
    for row in rows {
        let event = recorded(shard, &row)?;
        let version = reached.entry(event.stream).or_insert(versions.0);
        *version += 1;
        if event.version != *version {
            return Err(Error::Corrupt {
                place: event.place,
                what: format!(
                    "version {} of stream {} where {version} was expected: \
                     the index of places or the log has a hole",
                    event.version, event.stream
                ),
            });
        }
        events.push(event);
    }
    Ok(events)
}

/// How many events each of these streams has up to a position; streams without any are not named.
/// Stops counting at `most`, all streams together.
pub async fn count(
    pool: &PgPool,
    shard: Shard,
    streams: &[StreamId],
    to_position: i64,
    most: i64,
) -> Result<HashMap<StreamId, i64>> {
    let indexed = checkpoint::position(pool, places::NAME, shard).await?;
    let rows: Vec<(Uuid, i64)> = sqlx::query_as(
        "SELECT stream, count(*) FROM ( \
             SELECT stream FROM places \
             WHERE shard = $1 AND stream = ANY ($2) AND position <= least($3, $4) \
             UNION ALL \
             SELECT stream FROM events \
             WHERE shard = $1 AND position > $4 AND position <= $3 AND stream = ANY ($2) \
             LIMIT $5 \
         ) of GROUP BY stream",
    )
    .bind(shard.0)
    .bind(streams.iter().map(|stream| stream.0).collect::<Vec<_>>())
    .bind(to_position)
    .bind(indexed)
    .bind(most)
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(stream, count)| (StreamId(stream), count))
        .collect())
}

fn recorded(shard: Shard, row: &PgRow) -> Result<Recorded> {
    let place = Place {
        shard,
        position: row.try_get(0)?,
    };
    let (kind, schema): (String, i16) = (row.try_get(3)?, row.try_get(4)?);
    let (payload, meta): (String, String) = (row.try_get(5)?, row.try_get(6)?);
    Ok(Recorded {
        place,
        stream: StreamId(row.try_get(1)?),
        version: row.try_get(2)?,
        event: Event::read(&kind, schema, &payload)
            .map_err(|source| Error::Unreadable { place, source })?,
        meta: serde_json::from_str::<Meta>(&meta).unwrap_or_default(),
        recorded_at: row.try_get(7)?,
    })
}
