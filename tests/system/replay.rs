//! `hub verify` and `hub replay` beside a running hub: nobody outside notices.

use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};

use crate::world::{User, World, eventually};

pub fn hub(world: &World, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hub"))
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap_or_default())
        .env("DATABASE_URL", world.database())
        .output()
        .expect("the binary runs")
}

/// One certificate for each line.
fn certificates(output: &Output) -> Vec<Value> {
    let said = String::from_utf8_lossy(&output.stdout);
    said.lines()
        .map(|line| serde_json::from_str(line).expect("one JSON object a line"))
        .collect()
}

/// Everything any platform was asked so far, but for polls, which the clock makes.
async fn requests(world: &World) -> Vec<Value> {
    let url = format!("{}/control/requests", world.sandbox());
    let answer = world.http().get(&url).await;
    answer.expect(200);
    let requests = answer.body["requests"].as_array().expect("a list").iter();
    requests.filter(|it| !is_poll(it)).cloned().collect()
}

/// Lists of threads and messages, and X's look at its own webhook: only polls ask for them here.
fn is_poll(request: &Value) -> bool {
    let path = request["path"].as_str().expect("a path");
    let lists = [
        "/conversations",
        "/t_",
        "/2/dm_events",
        "/2/webhooks",
        "/rest/memberChangeLogs",
        "/me/chats",
    ];
    request["method"] == "GET" && lists.iter().any(|list| path.contains(list))
}

/// The demo connects its own accounts while a test runs: waits until nobody is at it any more.
async fn quiet(world: &World) {
    let mut before = requests(world).await.len();
    eventually("quiet", Duration::from_secs(30), async || {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let now = requests(world).await.len();
        match std::mem::replace(&mut before, now) == now {
            true => Ok(()),
            false => Err(now),
        }
    })
    .await;
}

/// What the user sees, in every answer that comes from read models.
async fn inbox(user: &User, conversation: &str) -> Value {
    json!([
        user.get("/api/oauth/accounts").await.body,
        user.get("/api/conversations").await.body,
        user.get(&format!("/api/messages/{conversation}"))
            .await
            .body,
        user.get("/api/messages/unread/count").await.body,
    ])
}

/// Every job there was so far, but for those that the clock makes.
async fn jobs(world: &World) -> Vec<String> {
    let pool = sqlx::PgPool::connect(&world.database()).await;
    let jobs = sqlx::query_scalar(
        "SELECT queue || ' ' || key FROM jobs WHERE queue NOT IN ('maintenance', 'poll', 'subscribe') UNION \
         SELECT queue || ' ' || key FROM job_history WHERE queue NOT IN ('maintenance', 'poll', 'subscribe') ORDER BY 1",
    )
    .fetch_all(&pool.expect("the hub's database"))
    .await;
    jobs.expect("the hub's jobs")
}

#[tokio::test]
async fn a_replay_asks_no_platform_and_changes_no_answer() {
    let world = World::start().await;
    let user = world.register().await;
    let (_, page) = world.connect_facebook(&user).await;
    world.incoming(&page, "501", "Is it there?").await;
    let conversation = user.conversation(1).await;
    let id = conversation["id"].as_str().expect("an id").to_owned();
    user.send(&id, "It is.").await.expect(201);
    world.incoming(&page, "501", "And now?").await;
    user.conversation(2).await;
    // The receipt is the last that comes by itself.
    eventually("the receipt", Duration::from_secs(5), async || {
        let thread = user.get(&format!("/api/messages/{id}")).await;
        match thread.body["messages"][1]["deliveredAt"].is_string() {
            true => Ok(()),
            false => Err(thread.body),
        }
    })
    .await;

    quiet(&world).await;
    let before = (
        inbox(&user, &id).await,
        requests(&world).await,
        jobs(&world).await,
    );
    let sends = |it: &&Value| {
        it["method"] == "POST"
            && it["path"]
                .as_str()
                .is_some_and(|path| path.ends_with("/messages"))
    };
    assert_eq!(before.1.iter().filter(sends).count(), 1);
    assert!(!before.2.is_empty(), "sending was a job");
    let verified = hub(&world, &["verify", "all", "--json"]);
    assert!(verified.status.success(), "{verified:?}");
    let replayed = hub(&world, &["replay", "all", "--json"]);
    assert!(replayed.status.success(), "{replayed:?}");
    for (output, fate) in [(&verified, "dropped"), (&replayed, "live")] {
        let mut certificates = certificates(output);
        if fate == "dropped" {
            let log = certificates.pop().expect("the log's line");
            assert_eq!(log["log"], "events", "{log}");
            assert_eq!(log["verdict"], "equal", "{log}");
            assert_eq!(log["macs_checked"], false, "{log}");
            assert!(log["events"].as_i64() > Some(5), "{log}");
        }
        assert_eq!(certificates.len(), 2);
        for certificate in certificates {
            assert_eq!(certificate["verdict"], "equal", "{certificate}");
            assert_eq!(certificate["fate"], fate, "{certificate}");
            assert_eq!(certificate["rebuilt"], 2, "{certificate}");
        }
    }
    let shown = hub(&world, &["verify", "inbox"]);
    assert!(shown.status.success(), "{shown:?}");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("verdict        equal"), "{shown}");
    assert_eq!(inbox(&user, &id).await, before.0);
    assert_eq!(requests(&world).await, before.1);
    assert_eq!(jobs(&world).await, before.2);

    world.incoming(&page, "501", "Still there?").await;
    user.conversation(3).await;
    user.send(&id, "Still there.").await.expect(201);
    // Back to the one before, which has missed the last messages, and on with it.
    let back = hub(&world, &["replay", "all", "--back", "--json"]);
    assert!(back.status.success(), "{back:?}");
    for certificate in certificates(&back) {
        assert_eq!(certificate["verdict"], "equal", "{certificate}");
        assert_eq!(certificate["fate"], "live", "{certificate}");
        assert_eq!(certificate["rebuilt"], 1, "{certificate}");
        assert_eq!(
            certificate["live_fold"], certificate["fold"],
            "{certificate}"
        );
    }
    user.conversation(3).await;
    let forward = hub(&world, &["replay", "all"]);
    assert!(forward.status.success(), "{forward:?}");
    let said = String::from_utf8_lossy(&forward.stdout).into_owned();
    assert!(
        said.contains("generation 2 is live; 1 is kept until --drop-old"),
        "{said}"
    );
    let dropped = hub(&world, &["replay", "all", "--drop-old"]);
    assert!(dropped.status.success(), "{dropped:?}");
    let nowhere = hub(&world, &["replay", "inbox", "--back"]);
    assert_eq!(nowhere.status.code(), Some(1));
    let why = String::from_utf8_lossy(&nowhere.stderr).into_owned();
    assert!(why.contains("no earlier generation of inbox"), "{why}");
    let senseless = hub(&world, &["replay", "inbox", "--back", "--drop-old"]);
    assert_eq!(senseless.status.code(), Some(2));
    world.incoming(&page, "501", "Good.").await;
    user.conversation(4).await;

    let pool = sqlx::PgPool::connect(&world.database()).await;
    sqlx::query("UPDATE read.conversations SET unread = 7")
        .execute(&pool.expect("the hub's database"))
        .await
        .expect("a damaged counter");
    let found = hub(&world, &["verify", "all"]);
    assert_eq!(found.status.code(), Some(1));
    let said = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(
        said.contains(&format!("conversations {id}: unread")),
        "{said}"
    );
}
