//! What a webhook wants done instead of saying it: things to fetch, subscriptions to look after.
//!
//! Everything here is a job, in the transaction of the checkpoint; asking twice is asking once.

use std::time::Duration;

use hub_domain::platform::fact::{Fact, FactKind};
use hub_store::account::Owner;
use hub_store::{Connection, Result, Store, jobs};

use crate::jobs::{fetch, poll, subscribe};

/// Enqueues what a fact asks for, for one of those it is about.
pub(super) async fn follow(
    connection: &mut Connection,
    store: &Store,
    owner: Owner,
    fact: &Fact,
) -> Result<()> {
    let shard = store.sharding().of_user(owner.user);
    if fact.kind == FactKind::ResourceChanged {
        return jobs::enqueue(connection, &fetch::job(shard, owner, fact)).await;
    }
    let lifecycle = fact.detail.get("lifecycle").and_then(|it| it.as_str());
    match (lifecycle, &fact.account) {
        (Some("reauthorizationRequired"), _) => {
            store.renew_subscription_in(owner, Duration::ZERO).await?;
        }
        // The new one is followed by a poll, for what happened in between.
        (Some("subscriptionRemoved"), Some(id)) => store.lose_subscription(owner, id).await?,
        (Some("missed"), _) => {
            let poll = poll::job(shard, owner, Duration::ZERO);
            return jobs::hasten(connection, &poll).await;
        }
        _ => return Ok(()),
    }
    jobs::hasten(connection, &subscribe::job(shard, owner)).await
}
