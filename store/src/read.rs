//! Reading the event log by position.
//!
//! A reader needs only `position > checkpoint`: positions are dense and visible in order. Every
//! read asserts that, and a hole is corruption, never skipped. An event that this build cannot read
//! is no hole: it has its place, and readers that go on without it have to say where it is put.

mod stream;
mod time;

use chrono::{DateTime, Utc};
use hub_domain::envelope::{Meta, Recorded};
use hub_domain::event::{Event, ReadError};
use hub_domain::id::{Key, Place, Shard, StreamId};
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};

use crate::error::{Error, Result};

pub use stream::{count, stream, streams};
pub use time::position_at;

/// An event as it is stored: nothing of it is decoded.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Shard and position.
    pub place: Place,
    /// The stream.
    pub stream: StreamId,
    /// 1, 2, 3, … in the stream.
    pub version: i64,
    /// The name of its kind.
    pub kind: String,
    /// The schema version of its payload.
    pub schema: i16,
    /// The payload, exactly the text that was written.
    pub payload: String,
    /// Who and what caused it, exactly the text that was written.
    pub meta: String,
    /// When it was appended, by the database's clock.
    pub recorded_at: DateTime<Utc>,
}

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

impl Stored {
    /// From the columns position, stream, version, kind, schema, payload, meta, recorded_at.
    pub(crate) fn from_row(shard: Shard, row: &PgRow) -> Result<Self> {
        Ok(Self {
            place: Place {
                shard,
                position: row.try_get(0)?,
            },
            stream: StreamId(row.try_get(1)?),
            version: row.try_get(2)?,
            kind: row.try_get(3)?,
            schema: row.try_get(4)?,
            payload: row.try_get(5)?,
            meta: row.try_get(6)?,
            recorded_at: row.try_get(7)?,
        })
    }

    fn decode(self) -> Entry {
        match Event::read(&self.kind, self.schema, &self.payload) {
            Ok(event) => Ok(Recorded {
                place: self.place,
                stream: self.stream,
                version: self.version,
                event,
                meta: serde_json::from_str::<Meta>(&self.meta).unwrap_or_default(),
                recorded_at: self.recorded_at,
            }),
            Err(source) => Err(Unreadable {
                place: self.place,
                stream: self.stream,
                version: self.version,
                kind: self.kind,
                schema: self.schema,
                source,
            }),
        }
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
pub async fn each_after(
    executor: impl sqlx::PgExecutor<'_>,
    from: Place,
    limit: i64,
) -> Result<Vec<Entry>> {
    let stored = stored_after(executor, from, limit).await?;
    Ok(stored.into_iter().map(Stored::decode).collect())
}

/// The same events as they are stored, of whatever kind.
pub async fn stored_after(
    executor: impl sqlx::PgExecutor<'_>,
    from: Place,
    limit: i64,
) -> Result<Vec<Stored>> {
    let mut of_shards = stored_after_all(executor, &[(from, limit)]).await?;
    Ok(of_shards.pop().unwrap_or_default())
}

/// [`each_after`] for several shards, each at most once, in the order they are asked for.
pub async fn each_after_all(
    executor: impl sqlx::PgExecutor<'_>,
    wanted: &[(Place, i64)],
) -> Result<Vec<Vec<Entry>>> {
    let of_shards = stored_after_all(executor, wanted).await?;
    let decoded = of_shards
        .into_iter()
        .map(|stored| stored.into_iter().map(Stored::decode).collect());
    Ok(decoded.collect())
}

/// The events of several shards, each after a place and at most a number of them.
///
/// The ranges are bounded on both sides, which is exact because positions are dense, and lets the
/// planner touch one partition of a divided table. The head comes with the events, in one snapshot:
/// without it, a log that lost its end (or everything within one step) would look like one in which
/// nothing happens, and its readers would wait for ever.
async fn stored_after_all(
    executor: impl sqlx::PgExecutor<'_>,
    wanted: &[(Place, i64)],
) -> Result<Vec<Vec<Stored>>> {
    let rows = sqlx::query(
        "SELECT e.position, e.stream, e.version, e.kind, e.schema, e.payload::text, \
                e.meta::text, e.recorded_at, w.nth, s.head \
         FROM unnest($1::smallint[], $2::bigint[], $3::bigint[]) WITH ORDINALITY \
             AS w (shard, after, count, nth) \
         JOIN shards s ON s.shard = w.shard AND s.log = 'events' \
         LEFT JOIN LATERAL (SELECT * FROM events e WHERE e.shard = w.shard \
             AND e.position > w.after AND e.position <= w.after + w.count) e ON true \
         ORDER BY w.nth, e.position",
    )
    .bind(wanted.iter().map(|it| it.0.shard.0).collect::<Vec<_>>())
    .bind(wanted.iter().map(|it| it.0.position).collect::<Vec<_>>())
    .bind(wanted.iter().map(|it| it.1).collect::<Vec<_>>())
    .fetch_all(executor)
    .await?;
    let mut rows = rows.into_iter().peekable();
    let mut of_shards = Vec::with_capacity(wanted.len());
    for (nth, (from, limit)) in (1_i64..).zip(wanted) {
        let mut events = Vec::new();
        let mut head = from.position;
        while let Some(row) = rows.next_if(|row| row.try_get(8).is_ok_and(|it: i64| it == nth)) {
            head = row.try_get(9)?;
            if row.try_get::<Option<i64>, _>(0)?.is_none() {
                continue;
            }
            let event = Stored::from_row(from.shard, &row)?;
            expect_next(*from, events.len(), event.place)?;
            events.push(event);
        }
        expect_all(*from, events.len(), head.min(from.position + limit))?;
        of_shards.push(events);
    }
    Ok(of_shards)
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
        let stored = Stored::from_row(shard, row)?;
        if stored.place.position != *position {
            break;
        }
        entries.push(stored.decode());
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

/// The head of a shard's event log: the position of its last event, 0 when it is empty.
pub async fn head(pool: &PgPool, shard: Shard) -> Result<i64> {
    Ok(
        sqlx::query_scalar("SELECT head FROM shards WHERE shard = $1 AND log = 'events'")
            .bind(shard.0)
            .fetch_one(pool)
            .await?,
    )
}

/// Where the event is that was appended under this key, as far as it is committed.
pub async fn place_of(pool: &PgPool, shard: Shard, key: Key) -> Result<Option<Place>> {
    let position: Option<i64> =
        sqlx::query_scalar("SELECT position FROM keys WHERE shard = $1 AND key = $2")
            .bind(shard.0)
            .bind(key.0.as_slice())
            .fetch_optional(pool)
            .await?;
    Ok(position.map(|position| Place { shard, position }))
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
