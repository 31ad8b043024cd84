//! Reading the event log by position.
//!
//! A reader needs only `position > checkpoint`: positions are dense and visible in order. Every
//! read asserts that, and a hole is corruption, never skipped.

use chrono::{DateTime, Utc};
use hub_domain::envelope::{Meta, Recorded};
use hub_domain::event::Event;
use hub_domain::id::{Place, Shard, StreamId};
use sqlx::{PgPool, Row};
use uuid::Uuid;

use crate::error::{Error, Result};

/// The events after a position, at most `limit`.
///
/// The range is bounded on both sides, which is exact because positions are dense, and lets the
/// planner touch one partition of a divided table.
pub async fn after(
    executor: impl sqlx::PgExecutor<'_>,
    from: Place,
    limit: i64,
) -> Result<Vec<Recorded>> {
    let rows = sqlx::query(
        "SELECT position, stream, version, kind, schema, payload::text, meta::text, recorded_at \
         FROM events WHERE shard = $1 AND position > $2 AND position <= $2 + $3 ORDER BY position",
    )
    .bind(from.shard.0)
    .bind(from.position)
    .bind(limit)
    .fetch_all(executor)
    .await?;
    let mut events = Vec::with_capacity(rows.len());
    for row in rows {
        let place = Place {
            shard: from.shard,
            position: row.try_get(0)?,
        };
        expect_next(from, events.len(), place)?;
        let stream: Uuid = row.try_get(1)?;
        let version: i64 = row.try_get(2)?;
        let kind: String = row.try_get(3)?;
        let schema: i16 = row.try_get(4)?;
        let payload: String = row.try_get(5)?;
        let meta: String = row.try_get(6)?;
        let recorded_at: DateTime<Utc> = row.try_get(7)?;
        events.push(Recorded {
            place,
            stream: StreamId(stream),
            version,
            event: Event::read(&kind, schema, &payload)
                .map_err(|source| Error::Unreadable { place, source })?,
            meta: serde_json::from_str::<Meta>(&meta).unwrap_or_default(),
            recorded_at,
        });
    }
    Ok(events)
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
