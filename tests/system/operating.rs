//! What an operator asks a running hub: schedules, usage, and the health of a worker that runs alone.

use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::apart::settings;
use crate::client::Client;
use crate::world::{World, eventually, free_port};

fn hub(verb: &[&str], settings: &[(&'static str, String)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hub"));
    command
        .args(verb)
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap_or_default())
        .envs(settings.iter().map(|(name, value)| (*name, value)));
    command
}

/// What a verb with `--json` says.
fn objects(output: &Output) -> Vec<Value> {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let shown = String::from_utf8_lossy(&output.stdout);
    let lines = shown.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().expect("an object a line")
}

#[tokio::test]
async fn what_people_and_platforms_were_asked_is_reported() {
    let world = World::start().await;
    let user = world.register().await;
    let (_, page) = world.connect_facebook(&user).await;
    world.incoming(&page, "100200", "hello").await.expect(200);
    let conversation = user.conversation(1).await;
    user.send(conversation["id"].as_str().expect("an id"), "hi")
        .await
        .expect(201);
    let database = [("DATABASE_URL", world.database())];
    let today = chrono::Utc::now().date_naive().to_string();
    // The demo user has platforms and calls of their own.
    eventually("the report", Duration::from_secs(20), async || {
        let lines = objects(&hub(&["usage", "--json"], &database).output().expect("runs"));
        let of = |platform: Value| {
            let found = lines.iter().find(|line| line["platform"] == platform);
            let line = found.filter(|line| line["day"] == today)?;
            Some((line["requests"].as_i64()?, line["users"].as_i64()?))
        };
        // Connecting takes some calls, and sending one more.
        match (of(Value::Null), of(json!("facebook"))) {
            (Some((asked, 1..)), Some((called, 1..))) if asked >= 3 && called >= 3 => Ok(()),
            _ => Err(lines),
        }
    })
    .await;
    let shown = hub(&["usage"], &database).output().expect("runs");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains(&today) && shown.contains("facebook"),
        "{shown}"
    );
}

#[test]
fn schedules_are_listed_without_a_database_too() {
    let listed = objects(&hub(&["schedules", "--json"], &[]).output().expect("runs"));
    let report = listed.iter().find(|it| it["name"] == "usage-report");
    let report = report.expect("the report has a schedule");
    assert!(
        report["nextRun"]
            .as_str()
            .is_some_and(|next| next.contains("T00:10:00"))
    );
    assert_eq!(report["lastRun"], Value::Null);
    assert!(
        listed
            .iter()
            .all(|it| it["purpose"].is_string() && it["cron"].is_string())
    );
}

/// A process that is gone when the test is over.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_worker_that_runs_alone_shows_how_it_is() {
    let cluster = hub_cluster::shared_for_tests().await.expect("a cluster");
    let database = cluster.empty_database().await.expect("a database");
    let nobody = "http://127.0.0.1:9";
    let mut settings = settings(database.url(), nobody, nobody);
    let migrated = hub(&["migrate"], &settings).output().expect("runs");
    assert!(migrated.status.success());
    let address = format!("127.0.0.1:{}", free_port());
    settings.push(("HUB_WORKER_LISTEN", address.clone()));
    let worker = hub(&["worker"], &settings)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _worker = Running(worker.expect("the worker starts"));
    let http = Client::new();
    let at = |path: &str| format!("http://{address}{path}");
    let health = eventually("the worker", Duration::from_secs(20), async || {
        let health = http.try_get(&at("/health")).await;
        health.filter(|it| it.status == 200).ok_or("not yet")
    })
    .await;
    assert_eq!(
        health.body["services"],
        json!({"database": "connected", "redis": "in-process"})
    );
    // Reactors run, so there is something to count.
    eventually("metrics", Duration::from_secs(20), async || {
        let metrics = http.get(&at("/metrics")).await;
        metrics.expect(200);
        if metrics.raw.contains("\nhub_") || metrics.raw.starts_with("# TYPE hub_") {
            Ok(())
        } else {
            Err(metrics.raw)
        }
    })
    .await;
    http.get(&at("/api/auth/me"))
        .await
        .refuses(404, "NOT_FOUND");
    http.delete(&at("/health"))
        .await
        .refuses(405, "METHOD_NOT_ALLOWED");

    let listed = hub(&["schedules", "--json"], &settings).output();
    let listed = objects(&listed.expect("runs"));
    assert!(listed.len() >= 9 && listed.iter().all(|it| it["nextRun"].is_string()));

    settings.push(("HUB_WORKER_LISTEN", "nowhere".to_owned()));
    let refused = hub(&["worker"], &settings).output().expect("runs");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("HUB_WORKER_LISTEN"),
        "{said}"
    );
}
