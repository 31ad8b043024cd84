//! A moment as a position.

use chrono::{DateTime, Utc};
use hub_domain::id::{Place, Shard};
use sqlx::PgPool;

use crate::error::{Error, Result};

/// The last position of a shard's log that was recorded at or before this time; 0 when there is
/// none.
///
/// Times never go backwards inside a shard, so it is found by halving: one lookup of the primary key
/// for each bit of the head. An append that is on its way at that very time may still come to count;
/// once a later one is visible, the answer is final.
pub async fn position_at(pool: &PgPool, shard: Shard, time: DateTime<Utc>) -> Result<i64> {
    let found: (i64, i64) = sqlx::query_as(
        "WITH RECURSIVE search (low, high) AS ( \
             SELECT 0::bigint, head FROM shards WHERE shard = $1 AND log = 'events' \
             UNION ALL \
             SELECT CASE WHEN e.recorded_at <= $2 THEN m.middle ELSE s.low END, \
                 CASE WHEN e.recorded_at <= $2 THEN s.high ELSE m.middle - 1 END \
             FROM search s CROSS JOIN LATERAL (SELECT (s.low + s.high + 1) / 2) m (middle) \
             CROSS JOIN LATERAL (SELECT recorded_at FROM events \
                 WHERE shard = $1 AND position = m.middle LIMIT 1) e \
             WHERE s.low < s.high) \
         SELECT low, high FROM search ORDER BY high - low LIMIT 1",
    )
    .bind(shard.0)
    .bind(time)
    .fetch_one(pool)
    .await?;
    let (low, high) = found;
    if low == high {
        return Ok(low);
    }
    Err(Error::Corrupt {
        place: Place {
            shard,
            position: (low + high + 1) / 2,
        },
        what: "not there, though the log reaches beyond it".to_owned(),
    })
}
