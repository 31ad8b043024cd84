//! Somebody else's long transaction.

use std::time::Duration;

use hub_cluster::shared_for_tests;
use hub_domain::id::Shard;
use hub_domain::secret::Secret;
use hub_store::project::{self, Projection};

use crate::facts::{Chat, user};
use crate::world::{World, log_of};

/// Logs ordered by transaction id stall here: an open writing transaction anywhere in the cluster
/// holds their horizon back, and readers see nothing new until it ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_transaction_in_another_database_stalls_nobody() {
    let world = World::new().await;
    let elsewhere = shared_for_tests()
        .await
        .unwrap()
        .empty_database()
        .await
        .unwrap();
    let pool = hub_store::connect(&Secret::new(elsewhere.url()), 1)
        .await
        .unwrap();
    let mut tx = pool.begin().await.unwrap();
    sqlx::raw_sql("CREATE TABLE kept_open AS SELECT generate_series(1, 1000) n")
        .execute(&mut *tx)
        .await
        .unwrap();

    let owner = user(5);
    let shard = world.store.sharding().of_user(owner);
    let chat = Chat::new(owner, "a");
    let work = async {
        for n in 0..50 {
            let event = chat.received(&format!("m{n}"), n);
            world.store.append(chat.append(shard, event)).await.unwrap();
            // Each is visible to a reader and folded as soon as it is acknowledged.
            let folded = project::step(world.pool(), Projection::Inbox, 1, shard).await;
            assert_eq!(folded.unwrap(), 1);
        }
    };
    tokio::time::timeout(Duration::from_secs(20), work)
        .await
        .expect("nobody waits for the other database");
    assert_eq!(log_of(world.pool(), Shard(shard.0)).await.len(), 50);
    tx.rollback().await.unwrap();
}
