//! Folding batches of events into read-model tables.
//!
//! Within a turn ([`crate::follow`]) the rows that a batch needs are loaded, the pure fold of the
//! domain runs, the changed rows are written. Killed anywhere, run twice or by a zombie, each event
//! counts exactly once.

mod accounts;
pub(crate) mod bulk;
mod inbox;
mod statistics;

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use hub_domain::event::Event;
use hub_domain::id::{Place, Shard, StreamId};
use hub_domain::projection::accounts::CONCERNS;
use sqlx::{PgConnection, PgPool};

use crate::checkpoint::Reactor;
use crate::error::Result;
use crate::follow::{self, Batch, Glide, Handler, Reach, Retried};

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

    /// The version of its fold, with everything that decides what rows events end in: the fold, what
    /// is loaded for it, how rows are written, how old events are read. Raised whenever the same
    /// events end in other rows (`store/tests/it/folds.rs` notices), because what two versions have
    /// folded one after the other is neither's.
    pub fn fold(self) -> i32 {
        match self {
            Self::Accounts | Self::Inbox => 1,
        }
    }

    /// The reactor that builds this generation of it.
    pub fn reactor(self, generation: i16) -> Reactor {
        Reactor {
            name: self.name(),
            generation,
        }
    }

    /// The projection of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }
}

/// A generation of a projection, as something that follows the log.
struct Fold {
    projection: Projection,
    generation: i16,
    reach: Reach,
    /// Told in a turn that it is time to look after the planner, which is done after it.
    grows: AtomicBool,
}

impl Fold {
    fn new(projection: Projection, generation: i16, reach: Reach) -> Self {
        Self {
            projection,
            generation,
            reach,
            grows: AtomicBool::new(false),
        }
    }

    async fn finish(&self, pool: &PgPool, folded: usize) -> Result<()> {
        if folded > 0 {
            metrics::counter!(
                "hub_projected_events_total", "projection" => self.projection.name()
            )
            .increment(folded as u64);
        }
        if self.grows.load(Ordering::Relaxed) {
            statistics::refresh(pool, self.projection, self.generation).await?;
        }
        Ok(())
    }
}

impl Handler for Fold {
    fn reactor(&self) -> Reactor {
        self.projection.reactor(self.generation)
    }

    fn glide(&self) -> Option<Glide<'_>> {
        static NEVER: LazyLock<Vec<&str>> = LazyLock::new(|| {
            let kinds = Event::KINDS.iter().map(|(kind, _)| *kind);
            kinds.filter(|it| !CONCERNS.contains(it)).collect()
        });
        match self.projection {
            Projection::Accounts => Some(Glide {
                never: &NEVER,
                first_only: &[],
                to: self.reach.to,
            }),
            // Most events concern it.
            Projection::Inbox => None,
        }
    }

    async fn reach(&self, _: &mut PgConnection, from: &[Place]) -> Result<Vec<Reach>> {
        Ok(vec![self.reach.clone(); from.len()])
    }

    async fn passed(&self, _: &mut PgConnection, spans: &[(Place, i64)]) -> Result<()> {
        if statistics::is_due(spans) {
            self.grows.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn apply(&self, connection: &mut PgConnection, batches: &[Batch<'_>]) -> Result<()> {
        let generation = self.generation;
        match self.projection {
            Projection::Accounts => {
                for batch in batches {
                    accounts::apply(connection, batch.shard, generation, batch.events).await?;
                }
                Ok(())
            }
            Projection::Inbox => inbox::apply(connection, generation, batches).await,
        }
    }
}

/// Folds one batch of each of these shards into a generation. Returns how many events it took: 0
/// when there is nothing to do or other workers are at it.
pub async fn steps(
    pool: &PgPool,
    projection: Projection,
    generation: i16,
    shards: &[Shard],
) -> Result<usize> {
    let fold = Fold::new(projection, generation, Reach::default());
    let folded = follow::turns(pool, &fold, shards).await?;
    fold.finish(pool, folded).await?;
    Ok(folded)
}

/// Folds one batch of a shard into a generation. Returns how many events it took: 0 when there is
/// nothing to do or another worker is at it.
pub async fn step(
    pool: &PgPool,
    projection: Projection,
    generation: i16,
    shard: Shard,
) -> Result<usize> {
    step_to(pool, projection, generation, shard, Reach::default()).await
}

/// [`step`], but never beyond a position: how two generations are brought to the same place.
pub(crate) async fn step_to(
    pool: &PgPool,
    projection: Projection,
    generation: i16,
    shard: Shard,
    reach: Reach,
) -> Result<usize> {
    let fold = Fold::new(projection, generation, reach);
    let folded = follow::turn(pool, &fold, shard).await?;
    fold.finish(pool, folded).await?;
    Ok(folded)
}

/// Folds the parked events of a stream into a generation, see [`follow::retry`].
pub async fn retry(
    pool: &PgPool,
    projection: Projection,
    generation: i16,
    shard: Shard,
    stream: StreamId,
) -> Result<Retried> {
    let fold = Fold::new(projection, generation, Reach::default());
    follow::retry(pool, &fold, shard, stream).await
}
