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
}
