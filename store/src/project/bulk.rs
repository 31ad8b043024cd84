//! Folding a long stretch of the log into the inbox in one turn, for a generation nobody reads yet.
//!
//! The rows stay in memory from the first event of the stretch to the last and are written once,
//! however often they change; a stretch that begins an empty shard has nothing to load. Bounded, so
//! that memory does not grow with the log. Whatever goes wrong, nothing was written: the caller
//! folds the stretch in small steps instead ([`crate::follow`]), which know what to do about a
//! single bad event. So do shards in which something is parked.

use hub_domain::id::{Place, Shard};
use hub_domain::limits::{BULK_EVENTS_MAX, REBUILD_BATCH_MAX};
use sqlx::PgPool;

use super::inbox::Stretch;
use super::{Projection, statistics};
use crate::checkpoint;
use crate::error::Result;
use crate::follow::Batch;

/// Folds at most [`BULK_EVENTS_MAX`] events of a shard up to a position. Returns how many: 0 when
/// there is nothing to do or another worker is at it; `None` when this is for small steps. `report`
/// is told of every part that was read.
pub(crate) async fn fold(
    pool: &PgPool,
    generation: i16,
    shard: Shard,
    to: i64,
    report: impl Fn(usize) + Send,
) -> Result<Option<usize>> {
    let reactor = Projection::Inbox.reactor(generation);
    let Some(mut turn) = checkpoint::begin(pool, reactor, shard).await? else {
        return Ok(Some(0));
    };
    if turn.heads > 0 {
        turn.leave().await?;
        return Ok(None);
    }
    let to = to.min(turn.from.position + BULK_EVENTS_MAX);
    let is_empty = turn.from.position == 0;
    let mut inbox = Stretch::default();
    let mut at = turn.from.position;
    while at < to {
        let from = Place {
            shard,
            position: at,
        };
        let limit = REBUILD_BATCH_MAX.min(to - at);
        let events = crate::read::after(&mut *turn.tx, from, limit).await?;
        let Some(last) = events.last() else { break };
        at = last.place.position;
        let load = (!is_empty).then_some(&mut *turn.tx);
        let batch = Batch {
            shard,
            events: &events,
        };
        inbox.fold(load, generation, &[batch]).await?;
        report(events.len());
    }
    let folded = usize::try_from(at - turn.from.position).unwrap_or(0);
    if folded == 0 {
        turn.leave().await?;
        return Ok(Some(0));
    }
    inbox.write(&mut turn.tx, generation).await?;
    turn.finish(at).await?;
    statistics::refresh(pool, Projection::Inbox, generation).await?;
    Ok(Some(folded))
}
