//! Telling the planner about a read model that has just begun to grow.
//!
//! Of a table it knows nothing about the planner believes that it is tiny, and that every index is
//! as good as any other. Prepared statements keep such a plan, and read a whole shard for every row
//! they look up, until autovacuum comes by a minute later: measured, a fold from nothing was 7 times
//! slower at 600,000 events. So a fold has the tables analysed as its shard passes a few positions;
//! from then on autovacuum is soon enough.

use sqlx::{AssertSqlSafe, PgConnection};

use super::Projection;
use crate::error::Result;

/// Positions of a shard at which the planner is told. The tables hold all shards, so even the first
/// finds rows enough when there are many shards, and is early enough when there is one.
const AT: [i64; 3] = [300, 2_000, 16_000];

/// Has the tables of a generation analysed when one of the positions lies in `(from, to]`. Whoever
/// finds another at it leaves it to them.
pub(super) async fn refresh(
    connection: &mut PgConnection,
    projection: Projection,
    generation: i16,
    from: i64,
    to: i64,
) -> Result<()> {
    if !AT.iter().any(|at| (from + 1..=to).contains(at)) {
        return Ok(());
    }
    for table in projection.tables() {
        let statement = format!("ANALYZE (SKIP_LOCKED) read.{table}_{generation}");
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
