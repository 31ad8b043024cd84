//! Reading the event log by position.
//!
//! A reader needs only `position > checkpoint`: positions are dense and visible in order. Every
//! read asserts that, and a hole is corruption, never skipped. An event that this build cannot read
//! is no hole: it has its place, and readers that go on without it have to say where it is put.

use chrono::{DateTime, Utc};
use hub_domain::envelope::{Meta, Recorded};
use hub_domain::event::{Event, ReadError};
use hub_domain::id::{Place, Shard, StreamId};
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};
use uuid::Uuid;

use crate::error::{Error, Result};

/// A stored event that this build cannot read.
#[derive(Debug)]
pub struct Unreadable {
    /// Shard and position.
    pub place: Place,
    /// The stream.
    pub stream: StreamId,
    /// Its version of the stream.
    pub version: i64,
    /// The stored kind.
    pub kind: String,
    /// The stored schema.
    pub schema: i16,
    /// Why.
    pub source: ReadError,
}

/// An event, or what is known of one that cannot be read.
pub type Entry = std::result::Result<Recorded, Unreadable>;

/// Where an entry is.
pub fn place(entry: &Entry) -> Place {
    match entry {
        Ok(recorded) => recorded.place,
        Err(unreadable) => unreadable.place,
    }
}

/// The events after a position, at most `limit`; an error when one of them cannot be read.
pub async fn after(
    executor: impl sqlx::PgExecutor<'_>,
    from: Place,
    limit: i64,
) -> Result<Vec<Recorded>> {
    let entries = each_after(executor, from, limit).await?;
    let readable = entries.into_iter().map(|entry| {
        entry.map_err(|Unreadable { place, source, .. }| Error::Unreadable { place, source })
    });
    readable.collect()
}

/// The events after a position, at most `limit`; one that cannot be read keeps nobody from the
/// others.
///
/// The range is bounded on both sides, which is exact because positions are dense, and lets the
/// planner touch one partition of a divided table. The head comes with the events, in one snapshot:
/// without it, a log that lost its end (or everything within one step) would look like one in which
/// nothing happens, and its readers would wait for ever.
pub async fn each_after(
    executor: impl sqlx::PgExecutor<'_>,
    from: Place,
    limit: i64,
) -> Result<Vec<Entry>> {
    let rows = sqlx::query(
        "SELECT e.position, e.stream, e.version, e.kind, e.schema, e.payload::text, \
                e.meta::text, e.recorded_at, s.head \
         FROM shards s LEFT JOIN events e \
             ON e.shard = s.shard AND e.position > $2 AND e.position <= $2 + $3 \
         WHERE s.shard = $1 AND s.log = 'events' ORDER BY e.position",
    )
    .bind(from.shard.0)
    .bind(from.position)
    .bind(limit)
    .fetch_all(executor)
    .await?;
    let mut entries = Vec::with_capacity(rows.len());
    let mut head = from.position;
    for row in rows {
        head = row.try_get(8)?;
        let Some(position) = row.try_get(0)? else {
            break;
        };
        let place = Place {
            shard: from.shard,
            position,
        };
        expect_next(from, entries.len(), place)?;
        entries.push(entry(place, &row)?);
    }
    expect_all(from, entries.len(), head.min(from.position + limit))?;
    Ok(entries)
}

/// The events at these positions, in order; corruption when one is not there.
pub(crate) async fn at(
    executor: impl sqlx::PgExecutor<'_>,
    shard: Shard,
    positions: &[i64],
) -> Result<Vec<Entry>> {
    let rows = sqlx::query(
        "SELECT position, stream, version, kind, schema, payload::text, meta::text, recorded_at \
         FROM events WHERE shard = $1 AND position = ANY ($2) ORDER BY position",
    )
    .bind(shard.0)
    .bind(positions)
    .fetch_all(executor)
    .await?;
    let mut entries = Vec::with_capacity(rows.len());
    for (row, position) in rows.iter().zip(positions) {
        let place = Place {
            shard,
            position: row.try_get(0)?,
        };
        if place.position != *position {
            break;
        }
        entries.push(entry(place, row)?);
    }
    match positions.get(entries.len()) {
        Some(missing) => Err(Error::Corrupt {
            place: Place {
                shard,
                position: *missing,
            },
            what: "a parked event is not there".to_owned(),
        }),
        None => Ok(entries),
    }
}

fn entry(place: Place, row: &PgRow) -> Result<Entry> {
    let stream = StreamId(row.try_get::<Uuid, _>(1)?);
    let version: i64 = row.try_get(2)?;
    let kind: String = row.try_get(3)?;
    let schema: i16 = row.try_get(4)?;
    let payload: String = row.try_get(5)?;
    let meta: String = row.try_get(6)?;
    let recorded_at: DateTime<Utc> = row.try_get(7)?;
    Ok(match Event::read(&kind, schema, &payload) {
        Ok(event) => Ok(Recorded {
            place,
            stream,
            version,
            event,
            meta: serde_json::from_str::<Meta>(&meta).unwrap_or_default(),
            recorded_at,
        }),
        Err(source) => Err(Unreadable {
            place,
            stream,
            version,
            kind,
            schema,
            source,
        }),
    })
}

/// The head of a shard's event log: the position of its last event, 0 when it is empty.
pub async fn head(pool: &PgPool, shard: Shard) -> Result<i64> {
    Ok(
        sqlx::query_scalar("SELECT head FROM shards WHERE shard = $1 AND log = 'events'")
            .bind(shard.0)
            .fetch_one(pool)
            .await?,
    )
}

/// Fails when fewer rows were read after `from` than there are up to `to`.
pub(crate) fn expect_all(from: Place, read: usize, to: i64) -> Result<()> {
    let next = from.position + read as i64 + 1;
    if next > to {
        return Ok(());
    }
    Err(Error::Corrupt {
        place: Place {
            shard: from.shard,
            position: next,
        },
        what: format!("not there, though the log reaches {to} at least"),
    })
}

/// Fails when `place` is not the position that must follow `read` rows after `from`.
pub(crate) fn expect_next(from: Place, read: usize, place: Place) -> Result<()> {
    let expected = from.position + read as i64 + 1;
    if place.position == expected {
        return Ok(());
    }
    Err(Error::Corrupt {
        place,
        what: format!("expected position {expected}: the log has a hole"),
    })
}
