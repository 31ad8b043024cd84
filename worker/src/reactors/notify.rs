//! The notifier: read-model changes become live changes on the bus.
//!
//! It stays behind the inbox projection, so that whoever is told finds the rows. A crash between
//! publishing and the checkpoint tells a change twice; receivers drop what they have seen.
//!
//! An event that a read model has parked has no rows: it is passed by in silence, and told by
//! whoever folds it in the end ([`crate::jobs::dlq`]).

use std::collections::HashMap;

use hub_domain::id::{Place, Shard};
use hub_store::checkpoint::{self, Reactor as Name};
use hub_store::follow::{self, Batch, Handler, Reach};
use hub_store::signal::Topic;
use hub_store::{Connection, Result, Store, bus, parked, told};

use crate::Context;
use crate::reactor::Reactor;

pub(crate) const NAME: Name = Name {
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

    fn turns_at_once(&self) -> usize {
        1
    }

    async fn behind(&self) -> Result<Vec<Shard>> {
        checkpoint::behind_projections(self.store().pool(), NAME).await
    }

    async fn turns(&self, shards: &[Shard]) -> Result<bool> {
        let publish = Publish::new(self.context.clone());
        Ok(follow::turns(self.store().pool(), &publish, shards).await? > 0)
    }
}

/// Publishes what events changed.
pub(crate) struct Publish {
    context: Context,
}

impl Publish {
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }
}

impl Handler for Publish {
    fn reactor(&self) -> Name {
        NAME
    }

    async fn reach(&self, connection: &mut Connection, from: &[Place]) -> Result<Vec<Reach>> {
        let live: HashMap<Shard, i64> = checkpoint::live_positions(&mut *connection)
            .await?
            .into_iter()
            .map(|place| (place.shard, place.position))
            .collect();
        let spans: Vec<(Place, i64)> = from
            .iter()
            .map(|from| (*from, live.get(&from.shard).copied().unwrap_or(0)))
            .collect();
        let without = parked::invisible(connection, &spans).await?;
        let reach = spans.into_iter().map(|(_, to)| Reach {
            to,
            without: without.clone(),
            ..Reach::default()
        });
        Ok(reach.collect())
    }

    async fn apply(&self, _: &mut Connection, batches: &[Batch<'_>]) -> Result<()> {
        // All of them first: when one cannot be told, none was told.
        let events = batches.iter().flat_map(|batch| batch.events);
        let changes = events.filter_map(bus::changes).collect();
        self.context.store().bus().publish(changes).await;
        Ok(())
    }

    async fn passed(&self, connection: &mut Connection, spans: &[(Place, i64)]) -> Result<()> {
        told::record(connection, spans).await
    }
}
