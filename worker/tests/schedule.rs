//! Schedules: every process has its own source of ticks, and a tick becomes work once.

use std::time::Duration;

use apalis::prelude::Monitor;
use hub_config::Settings;
use hub_store::{Options, Store, schema};
use hub_worker::schedule::{SCHEDULES, Schedule};
use hub_worker::{Context, jobs, schedule};

const EVERY_SECOND: Schedule = Schedule {
    cron: "* * * * * *",
    ..SCHEDULES[0]
};

async fn context(url: &str) -> Context {
    let env = |name: &str| match name {
        "DATABASE_URL" => Some(url.to_owned()),
        "ENCRYPTION_KEY" => Some("a key for tests".to_owned()),
        _ => None,
    };
    let settings = Settings::load(env).expect("settings");
    let store = Store::open(Options {
        database_url: url.into(),
        connections_max: 6,
        readers_max: 4,
        redis_url: None,
        encryption_key: settings.auth.encryption_key.clone(),
    })
    .await
    .expect("a store");
    Context::new(store, &settings).expect("a context")
}

#[tokio::test]
async fn a_tick_is_worked_once_however_many_workers_there_are() {
    let cluster = hub_cluster::shared_for_tests().await.expect("a cluster");
    let database = cluster.empty_database().await.expect("a database");
    let pool = hub_store::connect(&database.url().into(), 2)
        .await
        .expect("a pool");
    schema::prepare(&pool, 2).await.expect("a schema");

    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let context = context(database.url()).await;
        let monitor = schedule::register(Monitor::new(), &context, &[EVERY_SECOND]);
        let monitor = jobs::register(monitor, &context);
        workers.spawn(monitor.run_with_signal(async {
            tokio::time::sleep(Duration::from_millis(4_500)).await;
            Ok(())
        }));
    }
    let mut left = true;
    while left {
        left = workers.join_next().await.is_some();
    }
    let runs: i64 =
        sqlx::query_scalar("SELECT count(*) FROM job_history WHERE queue = 'maintenance'")
            .fetch_one(&pool)
            .await
            .expect("the history");
    assert!(
        (3..=5).contains(&runs),
        "{runs} runs in 4.5 s with three workers"
    );
    let known = hub_store::schedules::runs(&pool, "maintenance").await;
    let known = known.expect("what is known of schedules");
    assert_eq!(known.len(), 1);
    assert_eq!(known[0].schedule, EVERY_SECOND.name);
    // The last tick may have come too late for anybody to work it.
    assert!(
        ["done: 0 rows", "waiting for a worker"].contains(&known[0].outcome.as_str()),
        "{known:?}"
    );
}

#[tokio::test]
async fn usage_is_reported_and_forgotten_by_schedule() {
    let cluster = hub_cluster::shared_for_tests().await.expect("a cluster");
    let database = cluster.empty_database().await.expect("a database");
    let pool = hub_store::connect(&database.url().into(), 2)
        .await
        .expect("a pool");
    schema::prepare(&pool, 2).await.expect("a schema");
    // Days of old, as earlier processes counted them: yesterday, and past HUB_USAGE_DAYS.
    sqlx::query(
        "INSERT INTO api_usage_logs (shard, id, user_id, endpoint, request_count, timestamp) \
         SELECT 1, gen_random_uuid(), gen_random_uuid(), 'GET /', 3, now() - days * interval '1 day' \
         FROM unnest(ARRAY[0, 1, 1, 100]) days",
    )
    .execute(&pool)
    .await
    .expect("some usage");

    let context = context(database.url()).await;
    let schedules: Vec<Schedule> = SCHEDULES
        .iter()
        .filter(|schedule| schedule.name.starts_with("usage-"))
        .map(|schedule| Schedule {
            cron: EVERY_SECOND.cron,
            ..*schedule
        })
        .collect();
    assert_eq!(schedules.len(), 2);
    let monitor = schedule::register(Monitor::new(), &context, &schedules);
    let monitor = jobs::register(monitor, &context);
    let run = monitor.run_with_signal(async {
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        Ok(())
    });
    run.await.expect("a worker");

    let (lines, is_yesterdays): (String, bool) = sqlx::query_as(
        "SELECT lines::text, day = (now() AT TIME ZONE 'UTC')::date - 1 FROM usage_reports",
    )
    .fetch_one(&pool)
    .await
    .expect("one report");
    assert!(is_yesterdays);
    // Not of the day that has only begun.
    let lines: Vec<hub_store::usage::Line> = serde_json::from_str(&lines).expect("lines");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((lines[0].requests, lines[0].users), (6, 2));
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM api_usage_logs")
        .fetch_one(&pool)
        .await
        .expect("what is left");
    assert_eq!(left, 3);
}
