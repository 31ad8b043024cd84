//! When sockets were told of what happened.
//!
//! The notifier writes down each of its turns, in the transaction of its checkpoint: the range it
//! told of, when, and when the read models had come that far as far as it saw. For explaining only;
//! nobody decides anything by it, and it is kept for a day. Where sockets are fed without a notifier
//! (an API without Redis tails the log by itself), this is still when the worker was ready to tell.

use std::time::Duration;

use chrono::{DateTime, Utc};
use hub_domain::id::Place;
use serde::Serialize;
use sqlx::{PgConnection, PgPool};

use crate::error::Result;

/// A turn of the notifier.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
pub struct Told {
    /// It told of positions after this.
    pub after: i64,
    /// Up to this.
    pub through: i64,
    /// The last time a read model of the shard moved before; each had the range by then.
    pub folded_at: DateTime<Utc>,
    /// When the range was published.
    pub at: DateTime<Utc>,
}

/// Writes a turn down: what comes after each place, up to the position with it, was just published.
pub async fn record(connection: &mut PgConnection, spans: &[(Place, i64)]) -> Result<()> {
    sqlx::query(
        "INSERT INTO told (shard, through, after, folded_at, at) \
         SELECT w.shard, w.through, w.after, max(c.updated_at), clock_timestamp() \
         FROM unnest($1::smallint[], $2::bigint[], $3::bigint[]) AS w (shard, after, through) \
         JOIN generations g ON g.shard = w.shard \
         JOIN checkpoints c \
             ON c.shard = g.shard AND c.reactor = g.projection AND c.generation = g.live \
         GROUP BY w.shard, w.through, w.after \
         ON CONFLICT (shard, through) DO UPDATE \
             SET after = EXCLUDED.after, folded_at = EXCLUDED.folded_at, at = EXCLUDED.at",
    )
    .bind(spans.iter().map(|it| it.0.shard.0).collect::<Vec<_>>())
    .bind(spans.iter().map(|it| it.0.position).collect::<Vec<_>>())
    .bind(spans.iter().map(|it| it.1).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// The turn that told of an event; `None` when there was none yet or it is forgotten.
pub async fn of(pool: &PgPool, place: Place) -> Result<Option<Told>> {
    let turn: Option<Told> = sqlx::query_as(
        "SELECT after, through, folded_at, at FROM told \
         WHERE shard = $1 AND through >= $2 ORDER BY through LIMIT 1",
    )
    .bind(place.shard.0)
    .bind(place.position)
    .fetch_optional(pool)
    .await?;
    // Those before the oldest one kept are in none.
    Ok(turn.filter(|turn| turn.after < place.position))
}

/// Deletes turns that are older than this. Returns how many.
pub async fn prune(pool: &PgPool, older_than: Duration) -> Result<u64> {
    Ok(
        sqlx::query("DELETE FROM told WHERE at < now() - $1 * interval '1 second'")
            .bind(older_than.as_secs_f64())
            .execute(pool)
            .await?
            .rows_affected(),
    )
}
