//! Every way a platform can go wrong when the hub calls it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::*;

/// Longer than any honest answer takes, shorter than any silence.
const PATIENCE: Duration = Duration::from_millis(700);

fn message() -> Value {
    json!({"recipient": {"id": PSID}, "message": {"text": "Hello", "metadata": "hub:1"}})
}

#[tokio::test]
async fn messenger_refuses_in_its_own_words() {
    let peer = Peer::start().await;
    let (_, _, token) = peer.connect("").await;
    let path = format!("/v26.0/{PAGE}/messages");
    for (status, code, subcode) in [
        (400, 100, Value::Null),
        (401, 190, json!(463)),
        (403, 10, json!(2_018_278)),
        (429, 613, Value::Null),
        (503, 2, Value::Null),
    ] {
        peer.fault(
            json!({"platform": "facebook", "op": "send", "mode": "status",
            "status": status, "times": 1}),
        )
        .await;
        let answer = peer.post_as(&token, &path, message()).await;
        let error = &answer.body["error"];
        assert_eq!(
            (answer.status, &error["code"], &error["error_subcode"]),
            (status, &json!(code), &subcode)
        );
        assert_eq!(error["is_transient"], status >= 500);
        assert!(!answer.headers.contains_key("retry-after"));
    }
    assert!(peer.sent("").await.is_empty());
    assert_eq!(peer.post_as(&token, &path, message()).await.status, 200);
}

#[tokio::test]
async fn a_limit_says_how_long_on_both_platforms() {
    let peer = Peer::start().await;
    let (_, _, token) = peer.connect("").await;
    for platform in ["facebook", "telegram"] {
        peer.fault(
            json!({"platform": platform, "op": "send", "mode": "status", "status": 429,
            "retryAfter": 90, "times": 1}),
        )
        .await;
    }
    let messenger = peer
        .post_as(&token, &format!("/v26.0/{PAGE}/messages"), message())
        .await;
    assert_eq!(messenger.headers["retry-after"], "90");
    let usage = messenger.headers["x-business-use-case-usage"]
        .to_str()
        .unwrap();
    let usage: Value = serde_json::from_str(usage).unwrap();
    assert_eq!(usage[PAGE][0]["estimated_time_to_regain_access"], 2);
    let bot = peer
        .bot("sendMessage", json!({"chat_id": 1, "text": "x"}))
        .await;
    assert_eq!(
        (bot.status, &bot.headers["retry-after"]),
        (429, &"90".parse().unwrap())
    );
    assert_eq!(bot.body["parameters"]["retry_after"], 90);
    assert_eq!(bot.body["description"], "Too Many Requests: retry after 90");
}

#[tokio::test]
async fn the_bot_api_refuses_in_its_own_words() {
    let peer = Peer::start().await;
    for (status, says) in [
        (400, "Bad Request: chat not found"),
        (401, "Unauthorized"),
        (403, "Forbidden: bot was blocked by the user"),
        (500, "Internal Server Error"),
        (503, "Service Unavailable"),
    ] {
        peer.fault(
            json!({"platform": "telegram", "op": "send", "mode": "status",
            "status": status, "times": 1}),
        )
        .await;
        let answer = peer
            .bot("sendMessage", json!({"chat_id": 1, "text": "x"}))
            .await;
        assert_eq!(
            (answer.status, &answer.body["description"]),
            (status, &json!(says))
        );
        assert_eq!(
            (&answer.body["ok"], &answer.body["error_code"]),
            (&json!(false), &json!(status))
        );
    }
    assert!(peer.sent("").await.is_empty());
}

#[tokio::test]
async fn a_hanging_send_is_not_accepted() {
    let peer = Peer::start().await;
    let (_, _, token) = peer.connect("").await;
    let path = format!("/v26.0/{PAGE}/messages");
    for platform in ["facebook", "telegram"] {
        peer.fault(json!({"platform": platform, "op": "send", "mode": "hang", "times": 1}))
            .await;
    }
    let silent = peer
        .try_call("POST", &path, Some(&token), Some(&message()), PATIENCE)
        .await;
    assert!(silent.is_none(), "{silent:?}");
    let bot = format!("/bot{BOT_TOKEN}/sendMessage");
    let body = json!({"chat_id": 1, "text": "x"});
    assert!(
        peer.try_call("POST", &bot, None, Some(&body), PATIENCE)
            .await
            .is_none()
    );
    assert!(peer.sent("").await.is_empty());
    assert_eq!(peer.post_as(&token, &path, message()).await.status, 200);
}

#[tokio::test]
async fn an_unanswered_send_is_accepted_and_echoed() {
    let peer = Peer::start().await;
    let (_, _, token) = peer.connect("").await;
    let path = format!("/v26.0/{PAGE}/messages");
    for platform in ["facebook", "telegram"] {
        peer.fault(
            json!({"platform": platform, "op": "send", "mode": "accept_no_reply",
            "times": 1}),
        )
        .await;
    }
    let silent = peer
        .try_call("POST", &path, Some(&token), Some(&message()), PATIENCE)
        .await;
    assert!(silent.is_none(), "{silent:?}");
    let bot = format!("/bot{BOT_TOKEN}/sendMessage");
    let body = json!({"chat_id": 1, "text": "to telegram"});
    assert!(
        peer.try_call("POST", &bot, None, Some(&body), PATIENCE)
            .await
            .is_none()
    );

    let sent = peer.sent("").await;
    assert_eq!(sent.len(), 2);
    let echo = peer.hub.wait_for(1).await[0].item();
    assert_eq!(echo["message"]["metadata"], "hub:1");
    assert_eq!(echo["message"]["mid"], sent[0]["platformMessageId"]);
    assert_eq!(sent[1]["text"], "to telegram");
}

#[tokio::test]
async fn tokens_and_reads_fail_when_told() {
    let peer = Peer::start().await;
    let (_, _, token) = peer.connect("").await;
    let fault = |platform: &str, op: &str, mode: &str| json!({"platform": platform, "op": op, "mode": mode, "status": 500, "times": 1});
    let code = value_of(&peer.dialog("").await, "code");
    peer.fault(fault("facebook", "token", "status")).await;
    let refused = peer.exchange_code(&code, REDIRECT).await;
    assert_eq!(
        (refused.status, &refused.body["error"]["code"]),
        (500, &json!(2))
    );
    assert_eq!(peer.exchange_code(&code, REDIRECT).await.status, 200);

    let conversations = format!("/v26.0/{PAGE}/conversations");
    peer.fault(fault("facebook", "fetch", "status")).await;
    assert_eq!(peer.get_as(&token, &conversations).await.status, 500);
    peer.fault(fault("facebook", "fetch", "hang")).await;
    let silent = peer
        .try_call("GET", &conversations, Some(&token), None, PATIENCE)
        .await;
    assert!(silent.is_none());
    assert_eq!(peer.get_as(&token, &conversations).await.status, 200);

    peer.fault(fault("telegram", "token", "status")).await;
    assert_eq!(peer.bot("getMe", json!({})).await.status, 500);
    peer.fault(fault("telegram", "fetch", "status")).await;
    assert_eq!(peer.bot("getChat", json!({"chat_id": 1})).await.status, 500);
    assert_eq!(peer.bot("getMe", json!({})).await.status, 200);
}
