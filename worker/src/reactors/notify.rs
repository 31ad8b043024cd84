//! The notifier: read-model changes become live changes on the bus.
//!
//! It stays behind the inbox projection, so that whoever is told finds the rows. A crash between
//! publishing and the checkpoint tells a change twice; receivers drop what they have seen.

use hub_domain::id::{Place, Shard};
use hub_domain::limits::REACTOR_BATCH_MAX;
use hub_store::bus;
use hub_store::checkpoint::{self, Reactor as Name};
use hub_store::project::Projection;
use hub_store::signal::Topic;
use hub_store::{Result, Store, read, told};

use crate::Context;
use crate::reactor::Reactor;

const NAME: Name = Name {
    name: "notify",
    generation: 0,
};

/// The notifier.
#[derive(Clone)]
pub struct Notify {
    context: Context,
}

impl Notify {
    /// The notifier of this process.
    pub fn new(context: Context) -> Self {
        Self { context }
    }
}

impl Reactor for Notify {
    fn name(&self) -> &'static str {
        NAME.name
    }

    fn store(&self) -> &Store {
        self.context.store()
    }

    fn wakes_on(&self) -> Topic {
        Topic::Projected
    }

    async fn behind(&self) -> Result<Vec<Shard>> {
        checkpoint::behind_projections(self.store().pool(), NAME).await
    }

    async fn turn(&self, shard: Shard) -> Result<bool> {
        let pool = self.store().pool();
        let Some(mut turn) = checkpoint::begin(pool, NAME, shard).await? else {
            return Ok(false);
        };
        let mut visible = i64::MAX;
        for projection in Projection::ALL {
            let position =
                checkpoint::live_position(&mut *turn.tx, projection.name(), shard).await?;
            visible = visible.min(position);
        }
        let from: Place = turn.from;
        let limit = REACTOR_BATCH_MAX.min(visible - from.position);
        if limit <= 0 {
            turn.leave().await?;
            return Ok(false);
        }
        let events = read::after(&mut *turn.tx, from, limit).await?;
        let Some(last) = events.last() else {
            turn.leave().await?;
            return Ok(false);
        };
        let to = last.place.position;
        let changes = events.iter().filter_map(bus::changes).collect();
        self.store().bus().publish(changes).await;
        told::record(&mut turn.tx, from, to).await?;
        turn.finish(to).await?;
        Ok(true)
    }
}
