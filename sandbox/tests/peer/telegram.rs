//! The Bot API and the login widget.

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::harness::*;

const CHAT: i64 = 5_501_000_001;

#[tokio::test]
async fn a_bot_receives_and_sends() {
    let peer = Peer::start().await;
    let me = peer.bot("getMe", json!({})).await.body["result"].clone();
    assert_eq!(
        (&me["id"], &me["username"]),
        (&json!(7_100_000_001_i64), &json!(BOT_NAME))
    );

    let written = peer
        .customer_writes("telegram", "Grüße ☕ https://shop.example/a")
        .await;
    assert_eq!(written.body["status"], 200);
    let got = peer.hub.got()[0].clone();
    assert_eq!(got.path, "/api/webhooks/telegram");
    assert_eq!(got.header("x-telegram-bot-api-secret-token"), HOOK_SECRET);
    assert!(got.raw.is_ascii());
    let message = got.body()["message"].clone();
    assert_eq!(
        message["message_id"].to_string(),
        written.body["messageId"].as_str().unwrap()
    );
    assert_eq!(
        (&message["chat"]["id"], &message["from"]["id"]),
        (&json!(CHAT), &json!(CHAT))
    );
    assert_eq!(message["from"]["first_name"], "Mira Quill");

    let sent = peer
        .bot("SENDMESSAGE", json!({"chat_id": CHAT, "text": "Hello"}))
        .await;
    assert_eq!(
        (sent.status, &sent.body["result"]["chat"]["id"]),
        (200, &json!(CHAT))
    );
    assert!(sent.body["result"]["message_id"].as_i64() > message["message_id"].as_i64());
    let form = format!("/bot{BOT_TOKEN}/sendMessage?chat_id={CHAT}&text=by+query");
    assert_eq!(peer.get(&form).await.status, 200);
    let noted = peer.sent("?platform=telegram&account=7100000001").await;
    assert_eq!(noted[0]["to"], CHAT.to_string());
    assert_eq!(noted[1]["text"], "by query");
    assert_eq!(
        noted[0]["platformMessageId"],
        sent.body["result"]["message_id"].to_string()
    );
}

#[tokio::test]
async fn refusals_are_the_platforms() {
    let peer = Peer::start().await;
    let wrong = peer
        .call("POST", "/bot7100000001:wrong/getMe", json!({}))
        .await;
    assert_eq!(
        (wrong.status, &wrong.body["description"]),
        (401, &json!("Unauthorized"))
    );
    let malformed = peer.call("POST", "/botnonsense/getMe", json!({})).await;
    assert_eq!(
        (malformed.status, &malformed.body["error_code"]),
        (404, &json!(404))
    );
    assert_eq!(
        peer.bot("makeTea", json!({})).await.body["description"],
        "Not Found"
    );
    for (bad, says) in [
        (json!({"text": "x"}), "Bad Request: chat_id is empty"),
        (
            json!({"chat_id": "abc", "text": "x"}),
            "Bad Request: chat not found",
        ),
        (
            json!({"chat_id": 1, "text": " \n"}),
            "Bad Request: message text is empty",
        ),
        (
            json!({"chat_id": 1, "text": "😀".repeat(2049)}),
            "Bad Request: message is too long",
        ),
    ] {
        let answer = peer.bot("sendMessage", bad).await;
        assert_eq!(
            (answer.status, &answer.body["description"]),
            (400, &json!(says))
        );
    }
    let longest = peer
        .bot(
            "sendMessage",
            json!({"chat_id": 1, "text": "😀".repeat(2048)}),
        )
        .await;
    assert_eq!(longest.status, 200);
    assert_eq!(
        peer.bot("getFile", json!({"file_id": "x"})).await.status,
        400
    );
    assert_eq!(
        peer.bot("getChat", json!({"chat_id": CHAT})).await.status,
        200
    );
}

#[tokio::test]
async fn updates_are_pushed_or_fetched_but_not_both() {
    let peer = Peer::start().await;
    assert_eq!(peer.bot("getUpdates", json!({})).await.status, 409);
    let hook = json!({"url": "https://hub.example/x", "secret_token": "another_1"});
    assert_eq!(
        peer.bot("setWebhook", hook).await.body["description"],
        "Webhook was set"
    );
    peer.customer_writes("telegram", "one").await;
    let first = peer.hub.got()[0].clone();
    assert_eq!(first.header("x-telegram-bot-api-secret-token"), "another_1");
    let info = peer.bot("getWebhookInfo", json!({})).await;
    assert_eq!(info.body["result"]["url"], "https://hub.example/x");

    peer.bot("deleteWebhook", json!({})).await;
    assert_eq!(
        peer.customer_writes("telegram", "two").await.body["outcome"],
        "queued"
    );
    peer.customer_writes("telegram", "three").await;
    let updates = peer.bot("getUpdates", json!({})).await.body["result"].clone();
    assert_eq!(updates[0]["message"]["text"], "two");
    let id = |update: &serde_json::Value| update["update_id"].as_i64().expect("an id");
    assert!(id(&first.body()) < id(&updates[0]) && id(&updates[0]) < id(&updates[1]));
    let offset = id(&updates[1]);
    let rest = peer.bot("getUpdates", json!({"offset": offset})).await.body["result"].clone();
    assert_eq!((rest.as_array().unwrap().len(), id(&rest[0])), (1, offset));
    let last = peer.bot("getUpdates", json!({"offset": -1})).await.body["result"].clone();
    assert_eq!(id(&last[0]), offset);
    assert_eq!(peer.hub.got().len(), 1);
}

#[tokio::test]
async fn the_widget_signs_what_it_sends_back() {
    let peer = Peer::start().await;
    let target = encoded("http://127.0.0.1:9/api/auth/callback/telegram?x=1");
    let page = format!("/auth/telegram?state=abc&bot={BOT_NAME}&redirect={target}");
    let mut fields = query_of(&peer.get(&page).await);
    assert_eq!(value_of(&fields, "state"), "abc");
    assert_eq!(value_of(&fields, "x"), "1");
    let hash = value_of(&fields, "hash");
    fields.retain(|(key, _)| !["state", "hash", "x"].contains(&key.as_str()));
    assert_eq!(fields.len(), 4);
    fields.sort();
    let lines: Vec<String> = fields
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let key = Sha256::digest(BOT_TOKEN.as_bytes());
    assert_eq!(hash, hmac_hex(&key, lines.join("\n").as_bytes()));

    let other = query_of(
        &peer
            .get(&format!("{page}&id=42&first_name=Ann&username=ann"))
            .await,
    );
    assert_eq!(value_of(&other, "id"), "42");
    let refused = query_of(&peer.get(&format!("{page}&deny=1")).await);
    assert_eq!(value_of(&refused, "error"), "access_denied");
    let stranger = format!("/auth/telegram?bot=somebody&redirect={target}");
    assert_eq!(peer.get(&stranger).await.status, 400);
}
