//! The index from streams to places, kept a moment behind the log.

use std::time::Duration;

use hub_domain::id::Shard;
use hub_store::signal::Topic;
use hub_store::{Result, Store, checkpoint, places};

use crate::Context;
use crate::reactor::{Reactor, each};

/// The keeper of the index.
#[derive(Clone)]
pub struct Places {
    context: Context,
}

impl Places {
    /// The keeper of this process.
    pub fn new(context: Context) -> Self {
        Self { context }
    }
}

impl Reactor for Places {
    fn name(&self) -> &'static str {
        places::NAME.name
    }

    fn store(&self) -> &Store {
        self.context.store()
    }

    fn wakes_on(&self) -> Topic {
        Topic::Events
    }

    /// Questions about the past read the end of the log themselves.
    fn pace(&self) -> Duration {
        Duration::from_millis(500)
    }

    /// Nobody waits for it: it leaves the connections to those that somebody waits for.
    fn turns_at_once(&self) -> usize {
        1
    }

    async fn behind(&self) -> Result<Vec<Shard>> {
        checkpoint::behind(self.store().pool(), places::NAME).await
    }

    async fn turns(&self, shards: &[Shard]) -> Result<bool> {
        let pool = self.store().pool();
        each(shards, |shard| async move {
            Ok(places::step(pool, shard).await? > 0)
        })
        .await
    }
}
