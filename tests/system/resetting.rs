//! A Telegram account is reset: everything is forgotten, and what Telegram still has comes back once.

use serde_json::{Value, json};

use crate::replay::hub;
use crate::telegram_user::{PATIENT, SOON, conversation, incoming, sign_in};
use crate::world::{User, World, eventually};

/// The list, the threads of its conversations, and what is unread.
async fn inbox(user: &User, query: &str) -> (Value, Vec<Value>) {
    let list = user.get(&format!("/api/conversations{query}")).await;
    list.expect(200);
    let rows = list.body["conversations"].as_array().cloned();
    let mut threads = Vec::new();
    for row in rows.into_iter().flatten() {
        let path = format!("/api/messages/{}{query}", row["id"].as_str().unwrap());
        let thread = user.get(&path).await;
        thread.expect(200);
        threads.push(thread.body);
    }
    (list.body, threads)
}

/// What everybody wrote in each conversation, without the hub's names of it.
fn texts(threads: &[Value]) -> Vec<Vec<String>> {
    let of = |thread: &Value| {
        let rows = thread["messages"].as_array().cloned().unwrap_or_default();
        let line = |it: Value| format!("{} {}", it["platformMessageId"], it["content"]);
        let mut lines: Vec<String> = rows.into_iter().map(line).collect();
        lines.sort();
        lines
    };
    let mut all: Vec<Vec<String>> = threads.iter().map(of).collect();
    all.sort();
    all
}

async fn unread(user: &User) -> Value {
    let answer = user.get("/api/messages/unread/count").await;
    answer.body["total"].clone()
}

fn now() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

/// Waits until the account looks as Telegram has it.
async fn as_told(user: &User, expected: &[Vec<String>], unread_then: &Value) {
    eventually("everything is back, once", SOON, async || {
        let (_, threads) = inbox(user, "").await;
        let found = (texts(&threads), unread(user).await);
        (found.0 == expected && found.1 == *unread_then)
            .then_some(())
            .ok_or(found)
    })
    .await;
}

fn verify(world: &World) {
    let verified = hub(world, &["verify", "all"]);
    assert!(verified.status.success(), "{verified:?}");
}

#[tokio::test]
async fn what_is_forgotten_is_gone_and_what_telegram_has_comes_back_once() {
    let world = World::with(&[PATIENT]).await;
    let user = world.register().await;
    let account = sign_in(&user).await;
    let reset = format!("/api/telegram/{account}/reset");
    conversation(&user, "Tomás", |it| it["unreadCount"] == 1).await;
    incoming(&world, "Grüße ☕").await.expect(200);
    let mira = conversation(&user, "Mira Q", |it| it["unreadCount"] == 1).await;
    let id = mira["id"].as_str().unwrap().to_owned();
    user.send(&id, "Hello once").await.expect(201);
    eventually("it is sent", SOON, async || {
        let (_, threads) = inbox(&user, "").await;
        let lines = texts(&threads).concat();
        let is_sent = |it: &String| it.contains("Hello once") && !it.starts_with("null");
        lines.iter().any(is_sent).then_some(()).ok_or(lines)
    })
    .await;
    let before = inbox(&user, "").await;
    let (told, unread_before) = (texts(&before.1), unread(&user).await);
    assert_eq!(told.concat().len(), 7, "{told:?}");
    assert_eq!(unread_before, 2);
    let old = before.1[0]["messages"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let earlier = now();

    // Telegram wants patience, so that there is a while in which nothing is back.
    world
        .fault(json!({
            "platform": "telegram-user", "op": "fetch", "mode": "status", "status": 420,
            "retryAfter": 3, "times": 2,
        }))
        .await;
    let waits = user.post(&reset, &Value::Null).await;
    waits.expect(429);
    let (list, _) = inbox(&user, "").await;
    assert_eq!(list["conversations"], json!([]));
    assert_eq!(list["total"], 0);
    assert_eq!(unread(&user).await, 0);
    let gone = user.get(&format!("/api/messages/{id}")).await;
    gone.expect(403);
    user.patch(&format!("/api/messages/{old}/read"))
        .await
        .expect(404);
    let between = now();
    assert_eq!(inbox(&user, &format!("?asOf={earlier}")).await, before);

    as_told(&user, &told, &unread_before).await;
    let mira = conversation(&user, "Mira Q", |it| it["unreadCount"] == 1).await;
    assert_eq!(mira["id"], id, "a thread is the same conversation");
    assert_eq!(inbox(&user, &format!("?asOf={earlier}")).await, before);
    let query = format!("?asOf={between}");
    assert_eq!(inbox(&user, &query).await.1, Vec::<Value>::new());
    let gone = user.get(&format!("/api/messages/{id}{query}")).await;
    gone.expect(403);

    // Two at once, and again: once is once.
    let answers = tokio::join!(
        user.post(&reset, &Value::Null),
        user.post(&reset, &Value::Null)
    );
    answers.0.expect(200);
    answers.1.expect(200);
    assert_eq!(
        answers.0.body,
        json!({ "success": true, "message": "Reset and synced successfully" })
    );
    as_told(&user, &told, &unread_before).await;
    // What is read here stays read there and here; what comes is told like any other.
    let tomas = conversation(&user, "Tomás", |it| it["unreadCount"] == 1).await;
    let path = format!(
        "/api/messages/conversation/{}/read",
        tomas["id"].as_str().unwrap()
    );
    user.patch(&path).await.expect(200);
    incoming(&world, "After all that").await.expect(200);
    conversation(&user, "Mira Q", |it| it["unreadCount"] == 2).await;
    assert_eq!(unread(&user).await, 2);
    user.send(&id, "Hello again").await.expect(201);
    verify(&world);
}
