//! The index from streams to places in the log.
//!
//! Promises: up to its checkpoint every event of the shard is in it. It is kept by a reactor that
//! copies and decodes nothing, off the way of those who append; it can be emptied and filled again
//! at any time (set its checkpoints to 0 and delete its rows, in one transaction). Who reads streams
//! ([`crate::read::stream`]) reads beyond it in the log itself.

use hub_domain::id::{Place, Shard};
use hub_domain::limits::PLACES_BATCH_MAX;
use sqlx::PgPool;

use crate::checkpoint::{self, Reactor};
use crate::error::{Error, Result};

/// The reactor that keeps the index.
pub const NAME: Reactor = Reactor {
    name: "places",
    generation: 0,
};

/// Takes one batch of a shard into the index. Returns how many events that were: 0 when there is
/// nothing to do or another worker is at it.
pub async fn step(pool: &PgPool, shard: Shard) -> Result<i64> {
    let Some(mut turn) = checkpoint::begin(pool, NAME, shard).await? else {
        return Ok(0);
    };
    let from = turn.from.position;
    let (head, taken): (i64, i64) = sqlx::query_as(
        "WITH log AS ( \
             SELECT head FROM shards WHERE shard = $1 AND log = 'events' \
         ), batch AS ( \
             SELECT stream, version, position FROM events \
             WHERE shard = $1 AND position > $2 AND position <= $2 + $3 \
                 AND position <= (SELECT head FROM log) \
         ), put AS ( \
             INSERT INTO places (shard, stream, version, position) \
             SELECT $1, stream, version, position FROM batch ON CONFLICT DO NOTHING \
         ) \
         SELECT head, (SELECT count(*) FROM batch) FROM log",
    )
    .bind(shard.0)
    .bind(from)
    .bind(PLACES_BATCH_MAX)
    .fetch_one(&mut *turn.tx)
    .await?;
    let wanted = (head - from).clamp(0, PLACES_BATCH_MAX);
    if taken != wanted {
        return Err(Error::Corrupt {
            place: Place {
                shard,
                position: from + 1,
            },
            what: format!("{taken} events from here on where {wanted} were expected"),
        });
    }
    if wanted == 0 {
        turn.leave().await?;
        return Ok(0);
    }
    turn.finish(from + wanted).await?;
    Ok(wanted)
}
