//! The sealer: events become part of the chain of hashes, in the transaction of the checkpoint.
//!
//! It reads rows and no payloads, so that an event of any kind is sealed, also one that this build
//! does not know. Nobody waits for it: it looks once a second, and seals what has come in the
//! meantime as one.

use std::time::Duration;

use hub_domain::id::Shard;
use hub_domain::limits::SEAL_PAUSE;
use hub_store::signal::Topic;
use hub_store::{Result, Store, seal};

use crate::Context;
use crate::reactor::{Reactor, each};

/// The sealer.
#[derive(Clone)]
pub struct Seal {
    context: Context,
}

impl Seal {
    /// The sealer of this process.
    pub fn new(context: Context) -> Self {
        Self { context }
    }
}

impl Reactor for Seal {
    fn name(&self) -> &'static str {
        seal::SEALING.name
    }

    fn store(&self) -> &Store {
        self.context.store()
    }

    fn wakes_on(&self) -> Topic {
        Topic::Events
    }

    fn pace(&self) -> Duration {
        SEAL_PAUSE
    }

    /// One after the other: it is to take no connections from those somebody waits for.
    fn turns_at_once(&self) -> usize {
        1
    }

    async fn behind(&self) -> Result<Vec<Shard>> {
        seal::behind(self.store().pool()).await
    }

    async fn turns(&self, shards: &[Shard]) -> Result<bool> {
        let key = self.store().vault().seal_key();
        let pool = self.store().pool();
        each(shards, |shard| async move {
            Ok(seal::step(pool, key, shard).await? > 0)
        })
        .await
    }
}
