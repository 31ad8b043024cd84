//! Ticks, and what a claim costs when much is waiting.

use chrono::Duration;
use futures::future::join_all;
use hub_domain::id::Shard;
use hub_store::jobs::Outcome;
use hub_store::schedules::Run;
use hub_store::{PgPool, jobs, schedules};

use crate::facts::at;
use crate::jobs::{QUEUE, claim, count, job};
use crate::world::{SHARDS, World};

const JOBS: &str = "SELECT coalesce(sum(seq), 0)::bigint FROM jobs";

async fn tick(pool: &PgPool, seconds: i64) -> bool {
    jobs::tick(pool, Shard(0), "sweep", at(seconds), &job("sweep"))
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tick_fires_once_among_racers_and_never_backwards() {
    let world = World::new().await;
    for round in 1..=5 {
        let racers = (0..3).map(|_| tick(world.pool(), round * 60));
        let won = join_all(racers)
            .await
            .into_iter()
            .filter(|won| *won)
            .count();
        assert_eq!(won, 1);
        assert_eq!(count(world.pool(), JOBS).await, round);
    }
    assert!(!tick(world.pool(), 5 * 60).await, "the same tick again");
    assert!(!tick(world.pool(), 2 * 60).await, "a clock that went back");
    let last = at(5 * 60) + Duration::milliseconds(1);
    let (sweep, prune) = (job("sweep"), job("prune"));
    let fired = jobs::tick(world.pool(), Shard(0), "sweep", last, &sweep);
    assert!(fired.await.unwrap());
    let other = jobs::tick(world.pool(), Shard(0), "prune", at(60), &prune);
    assert!(other.await.unwrap(), "schedules are apart");
    assert_eq!(count(world.pool(), JOBS).await, 7);
}

#[tokio::test]
async fn how_a_schedule_went_is_known() {
    let world = World::new().await;
    let beat = async |seconds| {
        let sweep = job("sweep");
        let tick = jobs::tick(world.pool(), sweep.shard, "sweep", at(seconds), &sweep);
        tick.await.unwrap()
    };
    let known = async || {
        let runs = schedules::runs(world.pool(), QUEUE).await.unwrap();
        let known = runs.into_iter().map(|run| {
            let Run {
                tick,
                ended_at,
                outcome,
                ..
            } = run;
            (tick, ended_at.is_some(), outcome)
        });
        known.collect::<Vec<_>>()
    };
    assert_eq!(known().await, []);
    for seconds in [60, 120] {
        assert!(beat(seconds).await);
        let waits = "waiting for a worker".to_owned();
        assert_eq!(known().await, [(at(seconds), false, waits)]);
        let claimed = claim(world.pool(), 1).await;
        assert_eq!(known().await, [(at(seconds), false, "running".to_owned())]);
        let shard = job("sweep").shard;
        schedules::ended(world.pool(), shard, "sweep", "done: 3 rows")
            .await
            .unwrap();
        let done = Outcome::Done;
        let finished = jobs::finish(world.pool(), QUEUE, &claimed[0], &done);
        finished.await.unwrap();
        let outcome = "done: 3 rows".to_owned();
        assert_eq!(known().await, [(at(seconds), true, outcome)]);
    }
    assert!(beat(180).await);
    let claimed = claim(world.pool(), 1).await;
    let reason = "nothing is called so".to_owned();
    let park = Outcome::Park { reason };
    let parked = jobs::finish(world.pool(), QUEUE, &claimed[0], &park);
    parked.await.unwrap();
    assert_eq!(known().await[0].2, "parked: nothing is called so");
}

/// A claim that reads the table instead of the index takes hundreds of milliseconds with a long
/// queue, and every idle worker asks several times a second. The plan is the one that is made
/// without knowing the parameters: the one a pooled, prepared statement ends up with.
#[tokio::test]
async fn claiming_from_a_long_queue_reads_the_index_of_due_jobs() {
    let world = World::new().await;
    let mut connection = world.pool().acquire().await.unwrap();
    sqlx::raw_sql(
        "INSERT INTO jobs (shard, id, queue, key, payload, due_at) \
         SELECT n % 4, gen_random_uuid(), (ARRAY['test', 'send', 'poll'])[1 + n % 3], n::text, \
                '{}', now() + (n - 15000) * interval '1 second' \
         FROM generate_series(1, 20000) n; \
         ANALYZE jobs; SET plan_cache_mode = force_generic_plan",
    )
    .execute(&mut *connection)
    .await
    .unwrap();
    let prepare = format!(
        "PREPARE claim (smallint[], text, bigint, float8, text) AS {}",
        include_str!("../../sql/claim.sql")
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(prepare))
        .execute(&mut *connection)
        .await
        .unwrap();
    let explain = format!("EXPLAIN EXECUTE claim ('{{2,3,0,1}}', '{QUEUE}', 10, 60, 'me')");
    let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(explain))
        .fetch_all(&mut *connection)
        .await
        .unwrap();
    let plan: Vec<String> = rows
        .iter()
        .map(|row| sqlx::Row::get::<String, _>(row, 0))
        .collect();
    let plan = plan.join("\n");
    assert!(plan.contains("Index Scan using jobs_due"), "{plan}");
    assert!(!plan.contains("Seq Scan"), "{plan}");
    assert!(!plan.contains("Sort"), "{plan}");
    drop(connection);
    let claimed = claim(world.pool(), 10).await;
    assert_eq!(claimed.len(), 10);
    assert_eq!(
        i64::from(SHARDS),
        4,
        "the rows above are spread over four shards"
    );
}
