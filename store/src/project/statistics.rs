//! Telling the planner about a read model that grows from nothing.
//!
//! Of a table it knows nothing about the planner believes that it is tiny, and that every index is
//! as good as any other. Prepared statements keep such a plan, and read a whole shard for every row
//! they look up, until autovacuum comes by a minute later: measured, a fold from nothing was three
//! times slower at 600,000 events. So whoever folds looks now and then whether a table has outgrown
//! what the planner knows, and has it analysed; once it is large, autovacuum is soon enough.

use sqlx::{AssertSqlSafe, PgPool};

use hub_domain::id::Place;

use super::Projection;
use crate::error::Result;

/// A fold looks each time a shard passes a multiple of this many events.
const EVERY: i64 = 256;

/// True when it is time to look.
pub(super) fn is_due(spans: &[(Place, i64)]) -> bool {
    let mut spans = spans.iter();
    spans.any(|(from, to)| from.position / EVERY < to / EVERY)
}

/// Has those tables of a generation analysed that have outgrown what is known of them. Whoever finds
/// another at it leaves it to them.
pub(super) async fn refresh(pool: &PgPool, projection: Projection, generation: i16) -> Result<()> {
    let names: Vec<String> = projection
        .tables()
        .iter()
        .map(|table| format!("read.{table}_{generation}"))
        .collect();
    // Four times as many pages: a few times on the way to a gigabyte. Beyond that it is not worth
    // the time it takes.
    // The size is asked of the names, not of pg_class: or the planner measures every table there is.
    let outgrown: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM unnest($1::text[]) AS name JOIN pg_class c ON c.oid = to_regclass(name) \
         WHERE pg_relation_size(to_regclass(name)) > 8192 * (4 * c.relpages::bigint + 4) \
             AND c.relpages < 16384",
    )
    .bind(&names)
    .fetch_all(pool)
    .await?;
    for name in outgrown {
        let mut tx = crate::transaction::begin(pool).await?;
        // A coarse look is enough to tell a shard from a row.
        let statement = format!(
            "SET LOCAL default_statistics_target = 10; \
             SET LOCAL synchronous_commit = off; ANALYZE (SKIP_LOCKED) {name}"
        );
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
    }
    Ok(())
}
