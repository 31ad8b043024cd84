//! Tokens that expire: two workers renew one once, a refusal has a clear end, and receiving goes on
//! in any case. The sandbox's Page tokens expire when it is told to let them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::apart::Apart;
use crate::live::Door;
use crate::world::{User, World, eventually};

const TOKENS: &str = "/v26.0/oauth/access_token";
const SOON: Duration = Duration::from_secs(20);

/// A user with a Page whose tokens the platform lets expire.
struct Scene {
    apart: Apart,
    world: World,
    user: User,
    account: String,
    page: String,
    database: sqlx::PgPool,
}

impl Scene {
    async fn start() -> Self {
        let apart = Apart::start(None, &[]).await;
        let world = apart.world(0);
        let user = world.register().await;
        let (account, page) = world.connect_facebook(&user).await;
        let database = sqlx::PgPool::connect(apart.database()).await;
        let scene = Self {
            world,
            user,
            account,
            page,
            database: database.expect("the database"),
            apart,
        };
        let url = format!("{}/control/tokens", scene.world.sandbox());
        let lives = json!({ "livesS": 3600 });
        scene.world.http().put(&url, &lives).await.expect(200);
        scene
    }

    /// What the hub believes of its token.
    async fn tell_hub(&self, expires_in_s: f64) {
        sqlx::query(
            "UPDATE account_tokens SET expires_at = now() + $1 * interval '1 second', \
             renewed_at = NULL",
        )
        .bind(expires_in_s)
        .execute(&self.database)
        .await
        .expect("an update");
    }

    /// Exchanges of tokens so far.
    async fn exchanges(&self) -> usize {
        let requests = self.world.requests().await;
        requests.iter().filter(|it| it.1 == TOKENS).count()
    }

    async fn conversations(&self, wanted: usize) -> Vec<String> {
        eventually("conversations", SOON, async || {
            let answer = self.user.get("/api/conversations").await;
            let all = answer.body["conversations"].as_array().cloned();
            let ids: Vec<String> = all
                .into_iter()
                .flatten()
                .filter_map(|it| it["id"].as_str().map(str::to_owned))
                .collect();
            if ids.len() == wanted {
                Ok(ids)
            } else {
                Err(answer.raw)
            }
        })
        .await
    }

    /// Waits until the platform has so many messages; which, in order.
    async fn sent(&self, wanted: usize) -> Vec<Value> {
        eventually("the messages", SOON, async || {
            let sent = self.world.sent(&self.page).await;
            if sent.len() >= wanted {
                Ok(sent)
            } else {
                Err(sent)
            }
        })
        .await
    }

    async fn refresh(&self) -> crate::client::Answer {
        let path = format!("/api/oauth/refresh/{}", self.account);
        self.user.post(&path, &json!({})).await
    }

    /// Attempts in the log.
    async fn attempts(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM events WHERE kind = 'SendAttempted'")
            .fetch_one(&self.database)
            .await
            .expect("a count")
    }
}

#[tokio::test]
async fn two_workers_meet_an_expired_token_and_renew_it_once() {
    let scene = Scene::start().await;
    for n in 0..8 {
        let from = format!("90{n}");
        scene
            .world
            .incoming(&scene.page, &from, "hello")
            .await
            .expect(200);
    }
    let conversations = scene.conversations(8).await;
    let before = scene.exchanges().await;
    scene.tell_hub(-1.0).await;
    let sends = conversations
        .iter()
        .map(|id| scene.user.queue(id, "an answer"));
    futures::future::join_all(sends).await;
    assert_eq!(scene.sent(8).await.len(), 8);
    assert_eq!(scene.exchanges().await, before + 1);
    assert_eq!(scene.attempts().await, 8, "nobody called in vain");

    // Asked for: there is nothing to do for a token of a month, and something for one of a day.
    scene.tell_hub(30.0 * 86_400.0).await;
    scene.refresh().await.expect(200);
    assert_eq!(scene.exchanges().await, before + 1);
    scene.tell_hub(86_400.0).await;
    scene.refresh().await.expect(200);
    assert_eq!(scene.exchanges().await, before + 2);

    // The platform took the token away before its time: the refused call is made once more.
    let url = format!("{}/control/tokens", scene.world.sandbox());
    let http = scene.world.http();
    http.put(&url, &json!({ "livesS": 1 })).await.expect(200);
    scene.tell_hub(86_400.0).await;
    scene.refresh().await.expect(200);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    http.put(&url, &json!({ "livesS": 3600 })).await.expect(200);
    scene.tell_hub(30.0 * 86_400.0).await;
    let answer = scene.user.send(&conversations[0], "again").await;
    answer.expect(201);
    assert!(answer.body["message"]["platformMessageId"].is_string());
    assert_eq!(scene.sent(9).await.len(), 9);
    assert_eq!(scene.exchanges().await, before + 4);
    assert_eq!(scene.attempts().await, 9);
    drop(scene.apart);
}

#[tokio::test]
async fn a_refused_token_stops_sending_and_nothing_else_until_the_account_is_connected_again() {
    let scene = Scene::start().await;
    let (world, user) = (&scene.world, &scene.user);
    world
        .incoming(&scene.page, "901", "hello")
        .await
        .expect(200);
    let id = scene.conversations(1).await.remove(0);
    let mut door = Door::plain(world, user).await;
    let refused = json!({"platform": "facebook", "op": "token", "mode": "status", "status": 401});
    world.fault(refused).await;
    scene.tell_hub(-1.0).await;
    let before = scene.exchanges().await;
    let answer = user.send(&id, "an answer").await;
    answer.refuses(422, "PLATFORM_API_ERROR");
    assert_eq!(answer.body["error"]["details"]["class"], "reconnect");
    let told = eventually("the error", SOON, async || {
        let (name, data) = door.next().await;
        if name == "error" && data["code"] == "ACCOUNT_NEEDS_RECONNECT" {
            Ok(())
        } else {
            Err(name)
        }
    });
    told.await;
    scene.refresh().await.refuses(500, "REFRESH_FAILED");
    user.send(&id, "another")
        .await
        .refuses(422, "PLATFORM_API_ERROR");
    assert_eq!(scene.exchanges().await, before + 1, "the platform said no");
    assert_eq!(scene.attempts().await, 0);

    // Receiving goes on, and the account is still there.
    world
        .incoming(&scene.page, "901", "are you there?")
        .await
        .expect(200);
    user.conversation(2).await;
    let accounts = user.get("/api/oauth/accounts").await;
    assert_eq!(accounts.body["accounts"][0]["isActive"], true);

    let url = format!("{}/control/faults", world.sandbox());
    world.http().delete(&url).await.expect(200);
    let start = user.get("/api/oauth/connect/facebook").await;
    let url = format!("{}&page={}", start.text("/authorizationUrl"), scene.page);
    let end = world.http().follow(&url, "/connect?").await;
    assert!(end.contains(&scene.account), "the same account: {end}");
    let answer = user.send(&id, "now").await;
    answer.expect(201);
    let texts: Vec<Value> = scene.sent(1).await;
    assert_eq!(texts[0]["text"], "now");
    scene.refresh().await.expect(200);
}

#[tokio::test]
async fn a_worker_that_dies_while_it_renews_is_not_missed() {
    let mut scene = Scene::start().await;
    scene
        .world
        .incoming(&scene.page, "901", "hello")
        .await
        .expect(200);
    let id = scene.conversations(1).await.remove(0);
    let hang = json!({"platform": "facebook", "op": "token", "mode": "hang", "times": 2});
    scene.world.fault(hang).await;
    scene.tell_hub(-1.0).await;
    let before = scene.exchanges().await;
    scene.user.queue(&id, "an answer").await;
    eventually("somebody renews", SOON, async || {
        let now = scene.exchanges().await;
        if now > before { Ok(()) } else { Err(now) }
    })
    .await;
    // Whoever it was: both are gone, and two others come.
    scene.apart.replace_workers();
    sqlx::query("UPDATE account_tokens SET renewal_until = now()")
        .execute(&scene.database)
        .await
        .expect("an update");
    sqlx::query("UPDATE jobs SET due_at = now() WHERE queue = 'send'")
        .execute(&scene.database)
        .await
        .expect("an update");
    let sent = scene.sent(1).await;
    assert_eq!(sent[0]["text"], "an answer");
    assert_eq!(scene.attempts().await, 1);
}
