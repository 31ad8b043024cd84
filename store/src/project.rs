//! Folding batches of events into read-model tables.
//!
//! One turn is one transaction: the events after the checkpoint are read, the rows they need are
//! loaded, the pure fold of the domain runs, the changed rows are written, the checkpoint moves.
//! Killed anywhere, run twice or by a zombie, each event counts exactly once.

mod accounts;
pub(crate) mod bulk;
mod inbox;

use hub_domain::envelope::Recorded;
use hub_domain::id::Shard;
use hub_domain::limits::REACTOR_BATCH_MAX;
use sqlx::{PgConnection, PgPool};

use crate::checkpoint::{self, Reactor};
use crate::error::Result;

/// A projection: which rows it loads and writes for a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Projection {
    /// Connected accounts.
    Accounts,
    /// Conversations, messages and unread counts.
    Inbox,
}

impl Projection {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Accounts, Self::Inbox];

    /// Its name in checkpoints and generations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accounts => "accounts",
            Self::Inbox => "inbox",
        }
    }

    /// The tables of its rows, in the schema of read models.
    pub fn tables(self) -> &'static [&'static str] {
        match self {
            Self::Accounts => &["accounts"],
            Self::Inbox => &["conversations", "messages", "totals"],
        }
    }

    /// The reactor that builds this generation of it.
    pub fn reactor(self, generation: i16) -> Reactor {
        Reactor {
            name: self.name(),
            generation,
        }
    }

    async fn apply(
        self,
        connection: &mut PgConnection,
        shard: Shard,
        generation: i16,
        events: &[Recorded],
    ) -> Result<()> {
        match self {
            Self::Accounts => accounts::apply(connection, shard, generation, events).await,
            Self::Inbox => inbox::apply(connection, shard, generation, events).await,
        }
    }
}

/// Folds one batch of a shard into a generation. Returns how many events it took: 0 when there is
/// nothing to do or another worker is at it.
pub async fn step(
    pool: &PgPool,
    projection: Projection,
    generation: i16,
    shard: Shard,
) -> Result<usize> {
    let everything = Reach {
        to: i64::MAX,
        batch: REACTOR_BATCH_MAX,
    };
    step_to(pool, projection, generation, shard, everything).await
}

/// How far one step may go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach {
    /// Never beyond this position.
    pub(crate) to: i64,
    /// At most this many events.
    pub(crate) batch: i64,
}

/// [`step`], but never beyond a position: how two generations are brought to the same place.
pub(crate) async fn step_to(
    pool: &PgPool,
    projection: Projection,
    generation: i16,
    shard: Shard,
    reach: Reach,
) -> Result<usize> {
    let reactor = projection.reactor(generation);
    let Some(mut turn) = checkpoint::begin(pool, reactor, shard).await? else {
        return Ok(0);
    };
    let limit = reach.batch.min(reach.to - turn.from.position);
    if limit <= 0 {
        turn.leave().await?;
        return Ok(0);
    }
    let events = crate::read::after(&mut *turn.tx, turn.from, limit).await?;
    let Some(last) = events.last() else {
        turn.leave().await?;
        return Ok(0);
    };
    let to = last.place.position;
    projection
        .apply(&mut turn.tx, shard, generation, &events)
        .await?;
    turn.finish(to).await?;
    metrics::counter!("hub_projected_events_total", "projection" => projection.name())
        .increment(events.len() as u64);
    Ok(events.len())
}
