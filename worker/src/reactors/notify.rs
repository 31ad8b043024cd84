//! The notifier: read-model changes become live changes on the bus.
//!
//! It stays behind the inbox projection, so that whoever is told finds the rows. A crash between
//! publishing and the checkpoint tells a change twice; receivers drop what they have seen.
//!
//! An event that a read model has parked has no rows: it is passed by in silence, and told by
//! whoever folds it in the end ([`crate::jobs::dlq`]).

use std::collections::HashSet;

use hub_domain::envelope::Recorded;
use hub_domain::id::{Place, Shard};
use hub_domain::limits::REACTOR_BATCH_MAX;
use hub_store::checkpoint::{self, Reactor as Name};
use hub_store::follow::{self, Handler, Reach};
use hub_store::project::Projection;
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

    async fn behind(&self) -> Result<Vec<Shard>> {
        checkpoint::behind_projections(self.store().pool(), NAME).await
    }

    async fn turn(&self, shard: Shard) -> Result<bool> {
        let publish = Publish::new(self.context.clone());
        Ok(follow::turn(self.store().pool(), &publish, shard).await? > 0)
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

    async fn reach(&self, connection: &mut Connection, from: Place) -> Result<Reach> {
        let mut to = i64::MAX;
        for projection in Projection::ALL {
            let position =
                checkpoint::live_position(&mut *connection, projection.name(), from.shard).await?;
            to = to.min(position);
        }
        let without = if to > from.position {
            let end = to.min(from.position + REACTOR_BATCH_MAX);
            parked::invisible(connection, from, end).await?
        } else {
            HashSet::new()
        };
        Ok(Reach {
            to,
            without,
            ..Reach::default()
        })
    }

    async fn apply(&self, _: &mut Connection, _: Shard, events: &[Recorded]) -> Result<()> {
        // All of them first: when one cannot be told, none was told.
        let changes = events.iter().filter_map(bus::changes).collect();
        self.context.store().bus().publish(changes).await;
        Ok(())
    }

    async fn passed(&self, connection: &mut Connection, from: Place, to: i64) -> Result<()> {
        told::record(connection, from, to).await
    }
}
