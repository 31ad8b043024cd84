//! The sweep behind webhooks: the platform swallows them, and nothing is lost.

use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};

use crate::live::Door;
use crate::world::{User, World, eventually};

/// What the story has to know of a platform.
struct Swept {
    name: &'static str,
    /// The field of a message that the platform's last receipt fills.
    receipt: &'static str,
    /// Settings of the hub.
    settings: &'static [(&'static str, &'static str)],
}

const SWEPT: &[Swept] = &[
    Swept {
        name: "facebook",
        receipt: "deliveredAt",
        settings: &[],
    },
    Swept {
        name: "instagram",
        receipt: "isRead",
        settings: &[],
    },
    Swept {
        name: "instagram",
        receipt: "isRead",
        settings: &[("INSTAGRAM_LOGIN", "instagram")],
    },
];

fn hub(world: &World, arguments: &[&str]) -> Output {
    let secrets = std::fs::read_to_string(world.dir().join("data/secrets.toml")).expect("secrets");
    let key = secrets
        .lines()
        .find_map(|line| line.strip_prefix("encryption_key = \"")?.strip_suffix('"'))
        .expect("the key");
    Command::new(env!("CARGO_BIN_EXE_hub"))
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap_or_default())
        .env("DATABASE_URL", world.database())
        .env("ENCRYPTION_KEY", key)
        .output()
        .expect("the binary runs")
}

/// What was fetched because no webhook had brought it.
pub async fn repaired(world: &World, platform: &str) -> f64 {
    let name = format!("hub_ingest_repaired_total{{platform=\"{platform}\"}} ");
    let metrics = world.http().get(&format!("{}/metrics", world.base())).await;
    metrics
        .raw
        .lines()
        .filter_map(|line| line.strip_prefix(&name))
        .filter_map(|count| count.parse::<f64>().ok())
        .sum()
}

/// Asks all platforms; the messages that brought.
pub async fn sync(user: &User) -> i64 {
    let answer = user.post("/api/messages/sync", &json!({})).await;
    answer.expect(200);
    let results = answer.body["accountResults"].as_array().expect("a list");
    assert_eq!(results.len(), 1, "{}", answer.raw);
    assert_eq!(results[0]["success"], true, "{}", answer.raw);
    answer.body["totalMessages"].as_i64().expect("a number")
}

async fn thread(user: &User, person: &str) -> Value {
    eventually("the thread", Duration::from_secs(10), async || {
        let list = user.get("/api/conversations").await.body;
        let found = list["conversations"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|it| it["participantId"] == person);
        match found {
            Some(found) => {
                let id = found["id"].as_str().unwrap_or_default();
                Ok(user.get(&format!("/api/messages/{id}")).await.body)
            }
            None => Err(list),
        }
    })
    .await
}

/// Connects an account of this platform; returns the hub's id of it and the platform's.
async fn connect(world: &World, user: &User, platform: &str) -> (String, String) {
    let route = format!("17841{}", &uuid::Uuid::new_v4().as_u128().to_string()[..12]);
    let offer = json!({ "platform": platform, "id": route, "name": "teapots" });
    world.control("accounts", &offer).await;
    (world.connect(user, platform).await, route)
}

/// A customer writes; what became of the webhook.
async fn incoming(world: &World, platform: &str, account: &str, from: &str, text: &str) -> Value {
    let body = json!({
        "platform": platform, "account": account,
        "from": { "id": from, "name": "Mira Q" }, "text": text,
    });
    world.control("incoming", &body).await
}

#[tokio::test]
async fn swallowed_webhooks_are_made_up_for_once_counted_and_explained() {
    story(&SWEPT[0]).await;
}

#[tokio::test]
async fn those_of_instagram_through_facebook_are_made_up_for() {
    story(&SWEPT[1]).await;
}

#[tokio::test]
async fn those_of_instagram_with_its_own_login_are_made_up_for() {
    story(&SWEPT[2]).await;
}

async fn story(swept: &Swept) {
    let platform = swept.name;
    let settings = [swept.settings, &[("HUB_SEND_WAIT_MS", "8000")]].concat();
    let world = World::with(&settings).await;
    let user = world.register().await;
    let (account, page) = connect(&world, &user, platform).await;
    eventually("the first poll", Duration::from_secs(10), async || {
        let stats = user.get("/api/debug/polling/stats").await.body;
        match stats["stats"]["totalPolls"].as_i64() {
            Some(1) => Ok(()),
            _ => Err(stats),
        }
    })
    .await;
    incoming(&world, platform, &page, "601", "Hello").await;
    let conversation = user.conversation(1).await;
    let id = conversation["id"].as_str().expect("an id").to_owned();
    user.send(&id, "Good morning").await.expect(201);
    // The receipt is the last that comes by itself.
    eventually("the receipt", Duration::from_secs(5), async || {
        let thread = user.get(&format!("/api/messages/{id}")).await;
        let receipt = &thread.body["messages"][0][swept.receipt];
        match receipt.is_string() || *receipt == true {
            true => Ok(()),
            false => Err(thread.body),
        }
    })
    .await;

    world
        .fault(json!({ "platform": platform, "op": "webhook", "mode": "drop", "times": 3 }))
        .await;
    for (person, text) in [("601", "Are you there?"), ("601", "Hm."), ("602", "Me too")] {
        let answer = incoming(&world, platform, &page, person, text).await;
        assert_eq!(answer["outcome"], "dropped", "{answer}");
    }
    let mut door = Door::plain(&world, &user).await;
    assert_eq!(repaired(&world, platform).await, 0.0);
    assert_eq!(sync(&user).await, 3);
    let told = door.until_quiet(Duration::from_millis(1500)).await;
    let new = told.iter().filter(|(name, _)| name == "new_message");
    assert_eq!(new.count(), 3, "{told:?}");
    assert_eq!(repaired(&world, platform).await, 3.0);
    let first = thread(&user, "601").await;
    assert_eq!(first["total"], 4, "our own was not doubled: {first}");
    let second = thread(&user, "602").await;
    assert_eq!(second["messages"][0]["content"], "Me too");
    // Where messages do not carry the name it is asked for.
    eventually("the name", Duration::from_secs(10), async || {
        let list = user.get("/api/conversations").await.body;
        let all = list["conversations"].as_array().into_iter().flatten();
        let named = all.filter(|it| it["participantName"] == "Mira Q").count();
        if named == 2 { Ok(()) } else { Err(list) }
    })
    .await;
    let unread = user.get("/api/messages/unread/count").await;
    assert_eq!(unread.body["total"], 4);

    // Once: not by another sync, and not by a poll of the one account.
    assert_eq!(sync(&user).await, 0);
    let polled = user
        .post(&format!("/api/messages/poll/{account}"), &json!({}))
        .await;
    polled.expect(200);
    assert_eq!(polled.body["messageCount"], 0);
    assert_eq!(polled.body["account"]["id"], json!(account));
    assert_eq!(repaired(&world, platform).await, 3.0);

    let message = second["messages"][0]["id"].as_str().expect("an id");
    let explained = hub(&world, &["explain", message, "--json", "--open"]);
    assert!(explained.status.success(), "{explained:?}");
    let explained: Value = serde_json::from_slice(&explained.stdout).expect("JSON");
    assert_eq!(explained["inputs"][0]["kept"]["kind"], "page");
    assert_eq!(explained["inputs"][0]["kept"]["platform"], platform);
    let body = explained["inputs"][0]["kept"]["body"].as_str();
    assert!(body.is_some_and(|it| it.contains("Me too")), "{explained}");
    let timeline = explained["timeline"].as_array().expect("a list");
    let what = timeline.iter().filter_map(|it| it["what"].as_str());
    let what: Vec<&str> = what.filter(|what| *what != "job ended").collect();
    assert_eq!(what, ["page", "MessageReceived", "folded", "told"]);

    // The cursor follows from the log like everything else.
    for arguments in [["verify", "all"], ["replay", "all"]] {
        let output = hub(&world, &arguments);
        assert!(output.status.success(), "{output:?}");
    }
    let cursor = "SELECT count(*) FROM read.accounts a JOIN generations g \
        ON g.shard = a.shard AND g.projection = 'accounts' AND g.live = a.generation \
        WHERE g.live = 2 AND a.poll_cursor IS NOT NULL AND a.id::text = $1";
    let pool = sqlx::PgPool::connect(&world.database()).await.unwrap();
    let cursors = sqlx::query_scalar(cursor).bind(&account);
    let cursors: i64 = cursors.fetch_one(&pool).await.unwrap();
    assert_eq!(cursors, 1);
    assert_eq!(sync(&user).await, 0);
    incoming(&world, platform, &page, "602", "Thanks").await;
    eventually("the webhook", Duration::from_secs(10), async || {
        let thread = thread(&user, "602").await;
        match thread["total"].as_i64() {
            Some(2) => Ok(()),
            _ => Err(thread),
        }
    })
    .await;
    assert_eq!(sync(&user).await, 0, "the webhook was first");
    assert_eq!(repaired(&world, platform).await, 3.0);
}
