//! X: connecting with PKCE, tokens that work once, messages, limits, webhooks.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::*;

const ME: &str = "1700000000000000101";
const THEM: &str = "1700000000000000202";
const BACK: &str = "http://127.0.0.1:9/api/oauth/callback/twitter";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const SCOPE: &str = "tweet.read%20users.read%20dm.read%20dm.write%20offline.access";

fn basic() -> String {
    let pair = format!("{}:{}", X_CLIENT.0, X_CLIENT.1);
    format!("Basic {}", STANDARD.encode(pair))
}

fn dialog_path(challenge: &str) -> String {
    format!(
        "/i/oauth2/authorize?response_type=code&client_id={}&redirect_uri={}&scope={SCOPE}\
         &state=s1&code_challenge={challenge}&code_challenge_method=S256",
        X_CLIENT.0,
        encoded(BACK)
    )
}

async fn dialog(peer: &Peer, extra: &str) -> Vec<(String, String)> {
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER.as_bytes()));
    let answer = peer
        .get(&format!("{}{extra}", dialog_path(&challenge)))
        .await;
    query_of(&answer)
}

async fn exchange(peer: &Peer, code: &str, verifier: &str) -> Answer {
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", BACK),
        ("code_verifier", verifier),
    ];
    peer.form("/2/oauth2/token", Some(&basic()), &form).await
}

async fn refresh(peer: &Peer, token: &str) -> Answer {
    let form = [("grant_type", "refresh_token"), ("refresh_token", token)];
    peer.form("/2/oauth2/token", Some(&basic()), &form).await
}

/// The whole way: access token and refresh token.
async fn connect(peer: &Peer, extra: &str) -> (String, String) {
    let code = value_of(&dialog(peer, extra).await, "code");
    pair(&exchange(peer, &code, VERIFIER).await)
}

fn pair(answer: &Answer) -> (String, String) {
    assert_eq!(answer.status, 200, "{answer:?}");
    let field = |name: &str| answer.body[name].as_str().expect(name).to_owned();
    (field("access_token"), field("refresh_token"))
}

async fn send(peer: &Peer, token: &str, text: &str) -> Answer {
    let path = format!("/2/dm_conversations/with/{THEM}/messages");
    peer.post_as(token, &path, json!({ "text": text })).await
}

async fn writes(peer: &Peer, text: &str) -> Answer {
    let from = json!({"id": THEM, "name": "Mira Quist"});
    let body = json!({"platform": "twitter", "from": from, "text": text});
    peer.call("POST", "/control/incoming", body).await
}

fn signature(raw: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(X_CONSUMER_SECRET.as_bytes()).unwrap();
    mac.update(raw);
    format!("sha256={}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[tokio::test]
async fn oauth_with_pkce() {
    let peer = Peer::start().await;
    let query = dialog(&peer, "").await;
    assert_eq!(value_of(&query, "state"), "s1");
    let code = value_of(&query, "code");
    // The wrong verifier uses the code up.
    assert_eq!(exchange(&peer, &code, &"x".repeat(43)).await.status, 400);
    assert_eq!(exchange(&peer, &code, VERIFIER).await.status, 400);
    let code = value_of(&dialog(&peer, "").await, "code");
    let given = exchange(&peer, &code, VERIFIER).await;
    assert_eq!(given.body["expires_in"], 7200);
    let (access, _) = pair(&given);
    let again = exchange(&peer, &code, VERIFIER).await;
    assert_eq!(
        (again.status, &again.body["error"]),
        (400, &json!("invalid_request"))
    );
    let me = peer.get_as(&access, "/2/users/me").await;
    assert_eq!(me.body["data"]["id"], ME);
    assert_eq!(me.body["data"]["username"], "northwind_desk");
    let stranger = peer.get_as("nobody", "/2/users/me").await;
    assert_eq!(
        (stranger.status, &stranger.body["title"]),
        (401, &json!("Unauthorized"))
    );
    let code = value_of(&dialog(&peer, "").await, "code");
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
    ];
    let anonymous = peer.form("/2/oauth2/token", None, &form).await;
    assert_eq!(anonymous.body["error"], "unauthorized_client");
}

#[tokio::test]
async fn the_dialog_refuses_what_x_refuses() {
    let peer = Peer::start().await;
    for bad in ["short", ""] {
        assert_eq!(peer.get(&dialog_path(bad)).await.status, 400);
    }
    let plain = dialog_path(&"c".repeat(43)).replace("S256", "plain");
    assert_eq!(peer.get(&plain).await.status, 400);
    let unscoped = dialog_path(&"c".repeat(43)).replace("dm.read%20", "");
    assert_eq!(peer.get(&unscoped).await.status, 400);
    let denied = dialog(&peer, "&deny=1").await;
    assert_eq!(value_of(&denied, "error"), "access_denied");
    assert_eq!(value_of(&denied, "state"), "s1");
}

#[tokio::test]
async fn a_refresh_token_works_once_and_its_reuse_ends_the_family() {
    let peer = Peer::start().await;
    let (first, old) = connect(&peer, "").await;
    let (second, new) = pair(&refresh(&peer, &old).await);
    assert_ne!((&first, &old), (&second, &new));
    assert_eq!(peer.get_as(&second, "/2/users/me").await.status, 200);
    let (other, _) = connect(&peer, "").await;

    let reused = refresh(&peer, &old).await;
    assert_eq!(
        (reused.status, &reused.body["error"]),
        (400, &json!("invalid_request"))
    );
    assert_eq!(refresh(&peer, &new).await.status, 400);
    for dead in [&first, &second] {
        assert_eq!(peer.get_as(dead, "/2/users/me").await.status, 401);
    }
    assert_eq!(peer.get_as(&other, "/2/users/me").await.status, 200);
}

#[tokio::test]
async fn tokens_expire_and_are_taken_back() {
    let peer = Peer::start().await;
    let (access, renew) = connect(&peer, "").await;
    let expired = peer
        .call("POST", "/control/twitter/expire", json!({"account": ME}))
        .await;
    assert_eq!(expired.body, json!({"ok": true}));
    assert_eq!(peer.get_as(&access, "/2/users/me").await.status, 401);
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    let (access, _) = pair(&refresh(&peer, &renew).await);
    assert_eq!(peer.get_as(&access, "/2/users/me").await.status, 200);

    let form = [
        ("token", access.as_str()),
        ("token_type_hint", "access_token"),
    ];
    let revoked = peer.form("/2/oauth2/revoke", Some(&basic()), &form).await;
    assert_eq!(revoked.status, 200);
    assert_eq!(peer.get_as(&access, "/2/users/me").await.status, 401);

    let lifetime = json!({"lifetime": 0});
    peer.call("PUT", "/control/twitter/tokens", lifetime).await;
    let (short, _) = connect(&peer, "").await;
    assert_eq!(peer.get_as(&short, "/2/users/me").await.status, 401);
}

#[tokio::test]
async fn a_message_is_pushed_in_either_generation() {
    let peer = Peer::start().await;
    let text = "1 < 2 & \"Grüße\" https://shop.example/a 👍🏽";
    let written = writes(&peer, text).await;
    assert_eq!(written.body["status"], 200);
    let got = peer.hub.got()[0].clone();
    assert_eq!(got.path, "/api/webhooks/twitter");
    assert_eq!(
        got.header("x-twitter-webhooks-signature"),
        signature(&got.raw)
    );
    assert!(String::from_utf8_lossy(&got.raw).contains(r"https:\/\/shop.example\/a"));
    let data = got.body()["data"].clone();
    assert_eq!(data["event_type"], "dm.received");
    assert_eq!(data["filter"]["user_id"], ME);
    let event = &data["payload"]["direct_message_events"][0];
    assert_eq!(event["id"], written.body["messageId"]);
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;");
    assert_eq!(event["message_create"]["message_data"]["text"], escaped);
    assert_eq!(data["payload"]["users"][THEM]["data"]["name"], "Mira Quist");

    let older = json!({"envelope": "aaa"});
    peer.call("PUT", "/control/twitter/delivery", older).await;
    writes(&peer, "older").await;
    let body = peer.hub.got()[1].body();
    assert_eq!(body["for_user_id"], ME);
    assert_eq!(body["users"][THEM]["screen_name"], "mira_quist");

    let none = json!({"envelope": "none"});
    peer.call("PUT", "/control/twitter/delivery", none).await;
    assert_eq!(writes(&peer, "fetch me").await.body["outcome"], "queued");
    assert_eq!(peer.hub.got().len(), 2);
}

#[tokio::test]
async fn a_send_is_accepted_echoed_and_read() {
    let peer = Peer::start().await;
    let (access, _) = connect(&peer, "").await;
    let answer = send(&peer, &access, "Yes, three left.").await;
    assert_eq!(answer.status, 201);
    let id = answer.body["data"]["dm_event_id"].clone();
    let conversation = format!("{ME}-{THEM}");
    assert_eq!(answer.body["data"]["dm_conversation_id"], conversation);
    assert_eq!(answer.headers["x-rate-limit-remaining"], "14");
    let sent = peer.sent(&format!("?platform=twitter&account={ME}")).await;
    assert_eq!(sent[0]["platformMessageId"], id);
    assert_eq!(
        (&sent[0]["to"], &sent[0]["text"]),
        (&json!(THEM), &json!("Yes, three left."))
    );
    let echo = peer.hub.wait_for(1).await[0].body();
    assert_eq!(echo["data"]["event_type"], "dm.sent");
    let event = &echo["data"]["payload"]["direct_message_events"][0];
    assert_eq!(event["id"], id);
    assert_eq!(event["message_create"]["source_app_id"], "31000042");
    peer.call("POST", "/control/twitter/read", json!({"from": THEM}))
        .await;
    let read = peer.hub.wait_for(2).await[1].body();
    let event = &read["data"]["payload"]["direct_message_mark_read_events"][0];
    assert_eq!(event["last_read_event_id"], id);
    // Into the conversation by its own name, by one of its two sides only.
    let path = format!("/2/dm_conversations/{conversation}/messages");
    let body = json!({"text": "again"});
    assert_eq!(peer.post_as(&access, &path, body.clone()).await.status, 201);
    let strange = peer
        .post_as(&access, "/2/dm_conversations/1-2/messages", body)
        .await;
    assert_eq!(strange.status, 404);
}

#[tokio::test]
async fn sends_are_checked_like_the_platform_checks() {
    let peer = Peer::start().await;
    let (access, _) = connect(&peer, "").await;
    for bad in [
        json!({}),
        json!({"text": ""}),
        json!({"text": "é".repeat(10_001)}),
    ] {
        let path = format!("/2/dm_conversations/with/{THEM}/messages");
        let answer = peer.post_as(&access, &path, bad).await;
        assert_eq!(
            (answer.status, &answer.body["title"]),
            (400, &json!("Invalid Request"))
        );
    }
    let path = "/2/dm_conversations/with/mira/messages";
    assert_eq!(
        peer.post_as(&access, path, json!({"text": "x"}))
            .await
            .status,
        400
    );
    assert!(peer.sent("").await.is_empty());
    for number in 0..15 {
        assert_eq!(send(&peer, &access, &format!("{number}")).await.status, 201);
    }
    let over = send(&peer, &access, "one too many").await;
    assert_eq!(
        (over.status, &over.body["title"]),
        (429, &json!("Too Many Requests"))
    );
    assert_eq!(over.headers["x-rate-limit-remaining"], "0");
    let reset: i64 = over.headers["x-rate-limit-reset"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let wait = reset - chrono::Utc::now().timestamp();
    assert!((1..=900).contains(&wait), "{wait}");
    assert_eq!(peer.sent("").await.len(), 15);
}

#[tokio::test]
async fn pages_are_newest_first() {
    let peer = Peer::start().await;
    let (access, _) = connect(&peer, "").await;
    for text in ["one", "two", "three"] {
        writes(&peer, text).await;
    }
    let fields = "dm_event.fields=created_at,sender_id,dm_conversation_id&expansions=sender_id";
    let first = peer
        .get_as(&access, &format!("/2/dm_events?max_results=2&{fields}"))
        .await;
    let texts = |answer: &Answer| -> Vec<Value> {
        let data = answer.body["data"].as_array().expect("data");
        data.iter().map(|event| event["text"].clone()).collect()
    };
    assert_eq!(texts(&first), ["three", "two"]);
    assert_eq!(first.body["data"][0]["sender_id"], THEM);
    assert_eq!(first.body["includes"]["users"][0]["name"], "Mira Quist");
    let token = first.body["meta"]["next_token"].as_str().expect("a token");
    let second = peer
        .get_as(
            &access,
            &format!("/2/dm_events?max_results=2&pagination_token={token}"),
        )
        .await;
    assert_eq!(texts(&second), ["one"]);
    assert!(second.body["meta"].get("next_token").is_none());
    assert!(
        second.body["data"][0].get("sender_id").is_none(),
        "nobody asked for it"
    );
    let id = first.body["data"][0]["id"].as_str().unwrap();
    let single = peer.get_as(&access, &format!("/2/dm_events/{id}")).await;
    assert_eq!(single.body["data"]["text"], "three");
    let bad = peer.get_as(&access, "/2/dm_events?max_results=101").await;
    assert_eq!(bad.status, 400);
    let (other, _) = connect(&peer, "&account=1700000000000000901").await;
    let nothing = peer.get_as(&other, "/2/dm_events").await;
    assert_eq!(nothing.body, json!({"meta": {"result_count": 0}}));
}

#[tokio::test]
async fn a_webhook_is_registered_only_at_an_address_that_proves_itself() {
    let peer = Peer::start().await;
    let url = json!({"url": "https://hub.example/api/webhooks/twitter"});
    let (access, _) = connect(&peer, "").await;
    let by_user = peer.post_as(&access, "/2/webhooks", url.clone()).await;
    assert_eq!(by_user.status, 401);
    // The recording hub of these tests answers 200 and proves nothing.
    let refused = peer.post_as(X_BEARER, "/2/webhooks", url.clone()).await;
    assert_eq!(
        (refused.status, &refused.body["title"]),
        (400, &json!("CrcValidationFailed"))
    );
    assert_eq!(writes(&peer, "unheard").await.body["outcome"], "queued");

    let (_, base) = Prover::start(X_CONSUMER_SECRET).await;
    peer.call("PUT", "/control/hub", json!({"base": base}))
        .await;
    let made = peer.post_as(X_BEARER, "/2/webhooks", url.clone()).await;
    assert_eq!(
        (made.status, &made.body["data"]["valid"]),
        (200, &json!(true))
    );
    let twice = peer.post_as(X_BEARER, "/2/webhooks", url).await;
    assert_eq!(twice.body["title"], "DuplicateUrlFailed");
    let elsewhere = json!({"url": "https://other.example/"});
    let second = peer.post_as(X_BEARER, "/2/webhooks", elsewhere).await;
    assert_eq!(second.body["title"], "WebhookLimitExceeded");
    let crc = peer.call("POST", "/control/twitter/crc", json!({})).await;
    assert_eq!(crc.body, json!({"valid": true}));

    let id = made.body["data"]["id"].clone();
    let subscription = json!({"event_type": "dm.received", "filter": {"user_id": ME},
        "webhook_id": id, "tag": "hub"});
    let path = "/2/activity/subscriptions";
    assert_eq!(
        peer.post_as(&access, path, subscription.clone())
            .await
            .status,
        201
    );
    assert_eq!(peer.post_as(&access, path, subscription).await.status, 400);
    let foreign =
        json!({"event_type": "dm.received", "filter": {"user_id": THEM}, "webhook_id": id});
    assert_eq!(peer.post_as(&access, path, foreign).await.status, 400);
}

#[tokio::test]
async fn faults() {
    let peer = Peer::start().await;
    let (access, _) = connect(&peer, "").await;
    for (status, title) in [
        (401, "Unauthorized"),
        (402, "CreditsDepleted"),
        (403, "Forbidden"),
        (429, "Too Many Requests"),
        (503, "Service Unavailable"),
    ] {
        peer.fault(
            json!({"platform": "twitter", "op": "send", "mode": "status",
            "status": status, "retryAfter": 7, "times": 1}),
        )
        .await;
        let answer = send(&peer, &access, "x").await;
        assert_eq!(
            (answer.status, &answer.body["title"]),
            (status, &json!(title))
        );
    }
    assert!(peer.sent("").await.is_empty());
    peer.fault(json!({"platform": "twitter", "op": "send", "mode": "accept_no_reply", "times": 1}))
        .await;
    let body = json!({"text": "silent"});
    let path = format!("/2/dm_conversations/with/{THEM}/messages");
    let patience = std::time::Duration::from_millis(400);
    let answer = peer
        .try_call("POST", &path, Some(&access), Some(&body), patience)
        .await;
    assert!(answer.is_none());
    assert_eq!(peer.sent("").await.len(), 1);
    peer.hub.wait_for(1).await;
    peer.fault(json!({"platform": "twitter", "op": "webhook", "mode": "duplicate", "times": 1}))
        .await;
    writes(&peer, "twice").await;
    assert_eq!(peer.hub.wait_for(3).await[1].raw, peer.hub.got()[2].raw);
}
