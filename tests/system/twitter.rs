//! X, from the dialog to a refusal: a person connects, is written to, answers, and loses the
//! permission.

use std::time::Duration;

use serde_json::{Value, json};

use crate::world::{User, World, eventually};

const PATIENT: (&str, &str) = ("HUB_SEND_WAIT_MS", "8000");
const THEM: &str = "1700000000000000202";

/// Connects a user of one's own by following the pages a browser would be sent through.
async fn connect(world: &World, user: &User) -> String {
    let id = format!("17{}", &uuid::Uuid::new_v4().as_u128().to_string()[..16]);
    let named = json!({ "id": id, "username": "northwind", "name": "Northwind" });
    world.control("twitter/users", &named).await;
    world.connect(user, "twitter").await;
    id
}

async fn writes(world: &World, account: &str, text: &str) -> Value {
    let body = json!({ "platform": "twitter", "account": account,
        "from": { "id": THEM, "name": "Mira Quist" }, "text": text });
    world.control("incoming", &body).await
}

#[tokio::test]
async fn a_direct_message_comes_in_and_an_answer_goes_out() {
    let world = World::with(&[PATIENT]).await;
    let user = world.register().await;
    let account = connect(&world, &user).await;
    let accounts = user.get("/api/oauth/accounts").await;
    assert_eq!(
        accounts.body["accounts"][0]["platformUserId"],
        json!(account)
    );
    assert_eq!(
        accounts.body["accounts"][0]["platformUsername"],
        "northwind"
    );
    // Connecting has registered the webhook, for which the hub proved its address.
    let hub = world.control("twitter/crc", &json!({})).await;
    assert_eq!(hub, json!({ "valid": true }));

    let text = "1 < 2 & \"Grüße\" ☕";
    let written = writes(&world, &account, text).await;
    assert_eq!(written["status"], 200);
    let conversation = user.conversation(1).await;
    assert_eq!(conversation["participantName"], "Mira Quist");
    assert_eq!(conversation["participantId"], THEM);
    let id = conversation["id"].as_str().expect("an id");
    let thread = user.get(&format!("/api/messages/{id}")).await;
    assert_eq!(thread.body["messages"][0]["content"], text);

    let answer = "Yes, three left: 1 < 2 & more";
    let sent = user.send(id, answer).await;
    sent.expect(201);
    let platform_id = sent.text("/message/platformMessageId");
    let url = format!(
        "{}/control/sent?platform=twitter&account={account}",
        world.sandbox()
    );
    let there = world.http().get(&url).await;
    assert_eq!(
        there.body["messages"][0]["platformMessageId"],
        json!(platform_id)
    );
    assert_eq!(there.body["messages"][0]["text"], answer);

    // Somebody types in the app of X; the hub's own echo makes no second message.
    world
        .control("twitter/read", &json!({ "account": account, "from": THEM }))
        .await;
    eventually("the receipt", Duration::from_secs(10), async || {
        let thread = user.get(&format!("/api/messages/{id}")).await;
        let ours = thread.body["messages"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|message| message["isOutgoing"] == true)
            .cloned()
            .unwrap_or_default();
        assert_eq!(thread.body["total"], 2, "{}", thread.raw);
        if ours["isRead"] == true {
            Ok(())
        } else {
            Err(ours)
        }
    })
    .await;

    // The older generation of webhooks tells of the same conversation.
    let url = format!("{}/control/twitter/delivery", world.sandbox());
    world.http().put(&url, &json!({ "envelope": "aaa" })).await;
    writes(&world, &account, "the older way").await;
    eventually("the second message", Duration::from_secs(10), async || {
        let thread = user.get(&format!("/api/messages/{id}")).await;
        if thread.body["total"] == 3 {
            Ok(())
        } else {
            Err(thread.body)
        }
    })
    .await;
    assert_eq!(user.get("/api/conversations").await.body["total"], 1);
}

#[tokio::test]
async fn refusals_are_told_and_a_limit_is_waited_for() {
    let world = World::with(&[PATIENT]).await;
    let user = world.register().await;
    let account = connect(&world, &user).await;
    writes(&world, &account, "hello").await;
    let conversation = user.conversation(1).await;
    let id = conversation["id"].as_str().expect("an id");
    let fault = |status: u16| {
        json!({ "platform": "twitter", "op": "send", "mode": "status", "status": status,
            "retryAfter": 1, "times": 1 })
    };
    world.fault(fault(403)).await;
    user.send(id, "not to them")
        .await
        .refuses(422, "PLATFORM_API_ERROR");
    world.fault(fault(429)).await;
    user.send(id, "patience").await.expect(201);
    eventually("the send", Duration::from_secs(30), async || {
        let url = format!("{}/control/sent?platform=twitter", world.sandbox());
        let there = world.http().get(&url).await.body["messages"].clone();
        if there[0]["text"] == "patience" {
            Ok(())
        } else {
            Err(there)
        }
    })
    .await;
    let denied = user.get("/api/oauth/connect/twitter").await;
    let url = format!("{}&deny=1", denied.text("/authorizationUrl"));
    assert!(url.contains("code_challenge_method=S256"), "{url}");
    let end = world.http().follow(&url, "/connect?").await;
    assert!(end.contains("error=access_denied"), "{end}");
}

#[tokio::test]
async fn a_disconnected_account_has_its_tokens_taken_back() {
    let world = World::start().await;
    let user = world.register().await;
    connect(&world, &user).await;
    let accounts = user.get("/api/oauth/accounts").await;
    let account = accounts.text("/accounts/0/id");
    user.delete(&format!("/api/oauth/disconnect/{account}"))
        .await
        .expect(200);
    eventually("the revocation", Duration::from_secs(10), async || {
        let url = format!("{}/control/requests", world.sandbox());
        let seen = world.http().get(&url).await.body["requests"].clone();
        let revoked = seen
            .as_array()
            .into_iter()
            .flatten()
            .filter(|request| request["path"] == "/2/oauth2/revoke")
            .count();
        if revoked == 2 { Ok(()) } else { Err(revoked) }
    })
    .await;
}

#[tokio::test]
async fn a_permission_taken_back_on_x_asks_for_a_new_connection() {
    let world = World::with(&[PATIENT]).await;
    let user = world.register().await;
    let account = connect(&world, &user).await;
    writes(&world, &account, "hello").await;
    let conversation = user.conversation(1).await;
    let id = conversation["id"].as_str().expect("an id");
    let told = world
        .control("twitter/revoke", &json!({ "account": account }))
        .await;
    assert_eq!(told["status"], 200);
    // Nobody tries to send, so that only the webhook can have told.
    let database = world.database();
    let pool = sqlx::PgPool::connect(&database)
        .await
        .expect("the database");
    eventually("the event", Duration::from_secs(10), async || {
        let found: i64 =
            sqlx::query_scalar("SELECT count(*) FROM events WHERE kind = 'AccountNeedsReconnect'")
                .fetch_one(&pool)
                .await
                .expect("a count");
        if found == 1 { Ok(()) } else { Err(found) }
    })
    .await;
    eventually("the refusal", Duration::from_secs(10), async || {
        let sent = user.send(id, "too late").await;
        let words = sent.body["error"]["message"].clone();
        let asks = words
            .as_str()
            .is_some_and(|it| it.contains("reconnect the account"));
        if sent.status == 422 && asks {
            Ok(())
        } else {
            Err(sent.raw)
        }
    })
    .await;
}
