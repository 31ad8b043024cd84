//! What is left behind when a caller goes away while it begins.

use std::time::Duration;

use hub_store::transaction::begin;

use crate::random::Random;
use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_away_leaves_no_open_transaction_to_the_next() {
    let world = World::new().await;
    let other = world.another_store().await;
    let mut random = Random::from_env();
    for round in 0..400 {
        let wait = Duration::from_micros(random.below(400));
        let _ = tokio::time::timeout(wait, begin(world.pool())).await;
        sqlx::query("INSERT INTO ticks (shard, schedule, tick) VALUES (0, $1, now())")
            .bind(format!("round {round}"))
            .execute(world.pool())
            .await
            .unwrap();
        let committed: i64 = sqlx::query_scalar("SELECT count(*) FROM ticks")
            .fetch_one(other.pool())
            .await
            .unwrap();
        assert_eq!(committed, round + 1, "what was written is not committed");
    }
}
