//! What a webhook wants done instead of saying it: things to fetch, subscriptions to look after.
//!
//! Everything here is a job, in the transaction of the checkpoint; asking twice is asking once.

use std::time::Duration;

use hub_domain::platform::fact::{Fact, FactKind};
use hub_store::account::Owner;
use hub_store::checkpoint::Turn;
use hub_store::{Result, Store, jobs};

use crate::jobs::{fetch, poll, subscribe};

/// Enqueues what a fact asks for, for one of those it is about.
pub(super) async fn follow(
    turn: &mut Turn,
    store: &Store,
    owner: Owner,
    fact: &Fact,
) -> Result<()> {
    let shard = store.sharding().of_user(owner.user);
    if fact.kind == FactKind::ResourceChanged {
        return jobs::enqueue(&mut turn.tx, &fetch::job(shard, owner, fact)).await;
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
            return jobs::hasten(&mut turn.tx, &poll).await;
        }
        _ => return Ok(()),
    }
    jobs::hasten(&mut turn.tx, &subscribe::job(shard, owner)).await
}
