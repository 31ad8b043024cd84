//! The bus between processes: who is there hears, and a Redis that was gone for a moment costs nothing.

use std::sync::Arc;
use std::time::Duration;

use hub_domain::id::{Shard, UserId};
use hub_domain::secret::Secret;
use hub_store::bus::{Bus, Change, What};
use tokio::sync::broadcast::Receiver;
use uuid::Uuid;

use crate::redis::Redis;
use crate::world::{SOON, eventually};

async fn bus(redis: &Redis) -> Bus {
    Bus::new(Some(&Secret::new(redis.url()))).await.unwrap()
}

fn change(position: i64) -> Change {
    Change {
        shard: Shard(1),
        position,
        user: UserId(Uuid::from_u128(1)),
        conversation: None,
        what: vec![What::Conversation],
    }
}

/// Whether this change is heard, maybe after others.
async fn hears(receiver: &mut Receiver<Arc<Change>>, position: i64, within: Duration) -> bool {
    let heard = async { while receiver.recv().await.unwrap().position != position {} };
    tokio::time::timeout(within, heard).await.is_ok()
}

#[tokio::test]
async fn who_is_there_hears_at_once() {
    let Some(redis) = Redis::start() else { return };
    let told = bus(&redis).await;
    for position in 1..=20 {
        let other = bus(&redis).await;
        let mut receiver = other.subscribe();
        told.publish(vec![change(position)]).await;
        assert!(
            hears(&mut receiver, position, SOON).await,
            "{position} was published after the bus was there"
        );
    }
}

#[tokio::test]
async fn a_redis_that_comes_back_loses_nothing_that_is_told_afterwards() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let (told, other) = (bus(&redis).await, bus(&redis).await);
    let mut receiver = other.subscribe();
    for round in 1..=2 {
        redis.kill();
        redis.start_again();
        // Both listen again; the connection that publishes has not been used since.
        let probe = redis::Client::open(redis.url()).unwrap();
        eventually("both listen again", || async {
            let Ok(mut asks) = probe.get_multiplexed_async_connection().await else {
                return false;
            };
            let mut question = redis::cmd("PUBSUB");
            question.arg("NUMSUB").arg("hub:changes");
            let listen = question.query_async::<(String, usize)>(&mut asks).await;
            matches!(listen, Ok((_, 2)))
        })
        .await;
        told.publish(vec![change(round)]).await;
        assert!(hears(&mut receiver, round, SOON).await, "{round}");
    }
}
