//! Projections: folding events into the live read models.

use hub_domain::id::Shard;
use hub_store::project::{self, Projection};
use hub_store::signal::Topic;
use hub_store::{Result, Store, checkpoint};

use crate::Context;
use crate::reactor::Reactor;

/// One projection's live generation.
#[derive(Clone)]
pub struct Project {
    context: Context,
    projection: Projection,
}

impl Project {
    /// The live generation of this projection.
    pub fn new(context: Context, projection: Projection) -> Self {
        Self {
            context,
            projection,
        }
    }

    async fn generation(&self) -> Result<i16> {
        checkpoint::live_generation(self.store().pool(), self.projection.name()).await
    }
}

impl Reactor for Project {
    fn name(&self) -> &'static str {
        self.projection.name()
    }

    fn store(&self) -> &Store {
        self.context.store()
    }

    fn wakes_on(&self) -> Topic {
        Topic::Events
    }

    async fn behind(&self) -> Result<Vec<Shard>> {
        let reactor = self.projection.reactor(self.generation().await?);
        checkpoint::behind(self.store().pool(), reactor).await
    }

    async fn turns(&self, shards: &[Shard]) -> Result<bool> {
        let generation = self.generation().await?;
        let pool = self.store().pool();
        let folded = project::steps(pool, self.projection, generation, shards).await?;
        if folded > 0 {
            self.store().signals().raise(Topic::Projected);
        }
        Ok(folded > 0)
    }
}
