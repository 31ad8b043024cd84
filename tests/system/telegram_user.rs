//! A Telegram user account, from the phone number to a session that somebody else revokes.
//!
//! Only Telegram is played; how the hub speaks to the real one is proved by grammers and, of what we
//! make of its types, in the worker.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::Answer;
use crate::world::{User, World, eventually};

pub const SOON: Duration = Duration::from_secs(30);

/// Without a cloud password.
const PHONE: &str = "+15550000001";
/// With one.
const GUARDED: &str = "+15550000002";

pub const PATIENT: (&str, &str) = ("HUB_SEND_WAIT_MS", "8000");

async fn code(user: &User, phone: &str) -> String {
    let body = json!({ "phoneNumber": phone });
    let answer = user.post("/api/telegram/auth/phone", &body).await;
    answer.expect(200);
    assert_eq!(answer.body["success"], true);
    answer.text("/phoneCodeHash")
}

async fn verify(user: &User, phone: &str, hash: &str, code: &str, password: Value) -> Answer {
    let body = json!({
        "phoneNumber": phone, "phoneCode": code, "phoneCodeHash": hash, "password": password,
    });
    user.post("/api/telegram/auth/verify", &body).await
}

pub async fn sign_in(user: &User) -> String {
    let hash = code(user, PHONE).await;
    let answer = verify(user, PHONE, &hash, "12345", Value::Null).await;
    answer.expect(200);
    assert_eq!(answer.body["success"], true, "{}", answer.body);
    answer.text("/accountId")
}

/// The conversation with this person, once it looks like that.
pub async fn conversation(user: &User, with: &str, looks: impl Fn(&Value) -> bool) -> Value {
    eventually("the conversation", SOON, async || {
        let answer = user.get("/api/conversations?platform=telegram").await;
        let rows = answer.body["conversations"].as_array().cloned();
        let found = rows.into_iter().flatten();
        let mut found = found.filter(|it| it["participantName"] == with && looks(it));
        found.next().ok_or(answer.body)
    })
    .await
}

pub async fn incoming(world: &World, text: &str) -> Answer {
    let body = json!({
        "platform": "telegram-user", "account": "15550000001",
        "from": { "id": 5_501_000_001_i64, "name": "Mira Q" }, "text": text,
    });
    let url = format!("{}/control/incoming", world.sandbox());
    world.http().post(&url, &body).await
}

async fn sent(world: &World) -> Vec<Value> {
    let url = format!("{}/control/sent?platform=telegram-user", world.sandbox());
    let answer = world.http().get(&url).await;
    answer.body["messages"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

#[tokio::test]
async fn signing_in_takes_a_code_and_a_password_where_there_is_one() {
    let world = World::start().await;
    let user = world.register().await;
    let unknown = verify(&user, GUARDED, "nothing", "12345", Value::Null).await;
    unknown.expect(400);
    assert!(unknown.text("/error").contains("no pending login"));

    let hash = code(&user, GUARDED).await;
    let wrong = verify(&user, GUARDED, &hash, "54321", Value::Null).await;
    wrong.expect(400);
    assert_eq!(wrong.text("/error"), "The code is wrong.");
    // Somebody else has nothing of a login that is not theirs.
    let other = world.register().await;
    let foreign = verify(&other, GUARDED, &hash, "12345", Value::Null).await;
    foreign.expect(400);

    let needs = verify(&user, GUARDED, &hash, "12345", Value::Null).await;
    needs.expect(200);
    assert_eq!(
        needs.body,
        json!({ "success": false, "needPassword": true })
    );
    let wrong = verify(&user, GUARDED, &hash, "12345", json!("kettle")).await;
    wrong.expect(400);
    assert_eq!(wrong.text("/error"), "The password is wrong.");
    // The code is repeated and not redeemed again.
    let done = verify(&user, GUARDED, &hash, "12345", json!("teapot")).await;
    done.expect(200);
    assert_eq!(done.body["username"], "person2");
    let accounts = user.get("/api/oauth/accounts").await;
    let account = &accounts.body["accounts"][0];
    assert_eq!(account["id"], done.body["accountId"]);
    assert_eq!(account["platform"], "telegram");
    assert_eq!(account["platformUserId"], "15550000002");
    // It is over: neither code nor password opens anything again.
    let again = verify(&user, GUARDED, &hash, "12345", json!("teapot")).await;
    again.expect(400);
}

#[tokio::test]
async fn a_session_hears_sends_and_looks() {
    let mut world = World::with(&[PATIENT]).await;
    let user = world.register().await;
    let account = sign_in(&user).await;

    // What was there before, with Telegram's own count of what is unread.
    let tomas = conversation(&user, "Tomás", |it| it["unreadCount"] == 1).await;
    conversation(&user, "Mira Q", |it| it["unreadCount"] == 0).await;
    assert_eq!(tomas["platformConversationId"], "5501000002");
    let thread = user
        .get(&format!("/api/messages/{}", tomas["id"].as_str().unwrap()))
        .await;
    assert_eq!(thread.body["messages"].as_array().map(Vec::len), Some(3));

    let path = format!("/api/telegram/{account}");
    let dialogs = user.get(&format!("{path}/dialogs?limit=1")).await;
    dialogs.expect(200);
    assert_eq!(dialogs.body["dialogs"].as_array().map(Vec::len), Some(1));
    assert_eq!(dialogs.body["dialogs"][0]["id"], "5501000002");
    assert_eq!(dialogs.body["dialogs"][0]["unreadCount"], 1);
    assert_eq!(dialogs.body["dialogs"][0]["isUser"], true);
    let messages = user.get(&format!("{path}/messages/5501000001")).await;
    messages.expect(200);
    assert_eq!(messages.body["messages"][0]["text"], "It is.");
    assert_eq!(messages.body["messages"][0]["out"], true);
    assert_eq!(messages.body["messages"][0]["senderId"], "15550000001");
    assert_eq!(messages.body["messages"][1]["senderId"], "5501000001");
    user.get(&format!("{path}/messages/404")).await.expect(422);

    // Somebody writes.
    incoming(&world, "Grüße ☕").await.expect(200);
    let mira = conversation(&user, "Mira Q", |it| it["unreadCount"] == 1).await;

    // An answer whose own answer is lost is asked for again, under its number: it exists once.
    world
        .fault(json!({
            "platform": "telegram-user", "op": "send", "mode": "accept_no_reply", "times": 1,
        }))
        .await;
    let answer = user.send(mira["id"].as_str().unwrap(), "Hello once").await;
    answer.expect(201);
    eventually("the answer is sent", SOON, async || {
        let thread = user
            .get(&format!("/api/messages/{}", mira["id"].as_str().unwrap()))
            .await;
        let rows = thread.body["messages"].as_array().cloned();
        let ours: Vec<Value> = rows
            .into_iter()
            .flatten()
            .filter(|it| it["content"] == "Hello once")
            .collect();
        match ours.as_slice() {
            [one] if !one["platformMessageId"].is_null() => Ok(()),
            _ => Err(thread.body),
        }
    })
    .await;
    assert_eq!(sent(&world).await.len(), 1);

    // A flood is waited for.
    world
        .fault(json!({
            "platform": "telegram-user", "op": "send", "mode": "status", "status": 420,
            "retryAfter": 1, "times": 1,
        }))
        .await;
    let text = json!({ "text": "After the flood" });
    user.post(&format!("{path}/send/5501000001"), &text)
        .await
        .expect(200);
    eventually("it is sent after the flood", SOON, async || {
        let sent = sent(&world).await;
        (sent.len() == 2).then_some(()).ok_or(sent)
    })
    .await;

    let synced = user.post(&format!("{path}/sync"), &Value::Null).await;
    synced.expect(200);
    assert_eq!(
        synced.body,
        json!({ "success": true, "message": "Messages synced successfully" })
    );
    user.post(&format!("{path}/reset"), &Value::Null)
        .await
        .expect(200);

    // Nobody else gets near it.
    let other = world.register().await;
    for (method, rest) in [
        ("GET", "dialogs"),
        ("GET", "messages/1"),
        ("POST", "send/1"),
        ("POST", "sync"),
        ("POST", "reset"),
    ] {
        let path = format!("{path}/{rest}");
        let answer = match method {
            "GET" => other.get(&path).await,
            _ => other.post(&path, &json!({ "text": "x" })).await,
        };
        answer.expect(404);
        assert!(answer.body["error"].is_string(), "{}", answer.body);
    }

    // A process that dies leaves the session to the next one, which hears what it missed.
    world.kill();
    world.start_again().await;
    eventually("the next process holds the session", 2 * SOON, async || {
        let answer = user.get(&format!("{path}/dialogs")).await;
        if answer.status == 200 {
            Ok(())
        } else {
            Err(answer.body)
        }
    })
    .await;
    incoming(&world, "Still there?").await.expect(200);
    conversation(&user, "Mira Q", |it| it["unreadCount"] == 2).await;

    // Somebody ends the session on another device.
    world
        .fault(json!({
            "platform": "telegram-user", "op": "fetch", "mode": "status", "status": 401,
            "times": 1,
        }))
        .await;
    eventually("the session is known to be over", 2 * SOON, async || {
        let answer = user.get(&format!("{path}/dialogs")).await;
        let is_known = answer.status == 422 && answer.text("/error").contains("sign in again");
        is_known.then_some(()).ok_or(answer.body)
    })
    .await;
    let refused = user.send(mira["id"].as_str().unwrap(), "Too late").await;
    refused.expect(422);
    // Signing in again is all it takes.
    assert_eq!(sign_in(&user).await, account);
    eventually("the new session answers", SOON, async || {
        let answer = user.get(&format!("{path}/dialogs")).await;
        (answer.status == 200).then_some(()).ok_or(answer.body)
    })
    .await;
}
