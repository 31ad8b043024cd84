//! What platforms push: verified first, stored before it is acknowledged, gone without a trace
//! otherwise.

use axum::body::Body;
use axum::http::Request;
use hub_domain::command::Command;
use hub_domain::id::Place;
use hub_domain::platform::Platform;
use hub_domain::signature::{hmac_sha256, meta_sign};
use hub_store::commands;
use serde_json::json;

use crate::hub::{Answer, Hub, request};

/// Contract, appendix A.
const BODY: &str = r#"{"object":"page","entry":[{"id":"PAGE1","time":1700000000000,"messaging":[{"sender":{"id":"PSID9"},"recipient":{"id":"PAGE1"},"timestamp":1700000000000,"message":{"mid":"m_1","text":"Tom & Jerry <b>hi</b>"}}]}]}"#;
const SIGNATURE: &str = "sha256=f7dada6053235c779ed04a7a6fc13238bd68d7a3a196601307149ae9cf78a246";

async fn push(hub: &Hub, platform: &str, header: Option<(&str, &str)>, body: &str) -> Answer {
    let mut push = Request::builder()
        .method("POST")
        .uri(format!("/api/webhooks/{platform}"));
    if let Some((name, value)) = header {
        push = push.header(name, value);
    }
    hub.call(push.body(Body::from(body.to_owned())).unwrap())
        .await
}

const X_BODY: &str = r#"{"for_user_id":"200","direct_message_events":[{"type":"message_create","id":"dm1","created_timestamp":"1700000000000","message_create":{"target":{"recipient_id":"200"},"sender_id":"100","message_data":{"text":"hello"}}}],"users":{"100":{"id":"100","screen_name":"bob"}}}"#;
const X_SIGNATURE: &str = "sha256=HeEATEOOlvukZLWOO1UWl6nmSxKTvBsM98ORSZ2a5nE=";
const LINKEDIN_BODY: &str = r#"{"eventType":"MESSAGE_EVENT","data":{"conversationId":"c9","messageId":"lm1","from":"urn:li:person:b","recipient":"urn:li:person:a","text":"hello","createdAt":1700000000000}}"#;
const LINKEDIN_SIGNATURE: &str = "a096a594bd2b205f813a8c2ef314e4d6e860b0f0727a2e3246b74dabaa03868c";

const X: &str = "X-Twitter-Webhooks-Signature";
const LINKEDIN: &str = "X-Li-Signature";
const META: &str = "X-Hub-Signature-256";
const TELEGRAM: &str = "X-Telegram-Bot-Api-Secret-Token";

#[tokio::test]
async fn what_does_not_verify_leaves_no_trace() {
    let hub = Hub::start().await;
    let tampered = BODY.replace("Tom", "Tim");
    let empty_key = meta_sign("", BODY.as_bytes());
    let odd = [
        ("facebook", None, BODY),
        ("facebook", Some((META, "")), BODY),
        ("facebook", Some((META, "sha256=abc")), BODY),
        ("facebook", Some((META, &SIGNATURE[7..])), BODY),
        ("facebook", Some((META, &empty_key)), BODY),
        ("facebook", Some((META, SIGNATURE)), tampered.as_str()),
        ("facebook", Some((META, SIGNATURE)), ""),
        ("telegram", None, r#"{"update_id":1,"message":{}}"#),
        (
            "telegram",
            Some((TELEGRAM, "")),
            r#"{"update_id":1,"message":{}}"#,
        ),
        ("twitter", None, X_BODY),
        ("twitter", Some((X, &X_SIGNATURE[7..])), X_BODY),
        ("twitter", Some((X, X_SIGNATURE)), "{}"),
        ("linkedin", None, LINKEDIN_BODY),
        ("linkedin", Some((LINKEDIN, LINKEDIN_SIGNATURE)), "{}"),
        (
            "telegram",
            Some((TELEGRAM, "tg-secreT")),
            r#"{"update_id":1,"message":{}}"#,
        ),
    ];
    for (platform, header, body) in odd {
        let answer = push(&hub, platform, header, body).await;
        assert_eq!(answer.status, 401, "{platform} {header:?}");
        assert_eq!(answer.body, json!({"error": "Invalid signature"}));
    }
    let answer = push(&hub, "telegram", Some((TELEGRAM, "tg-secret")), "{}").await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.body, json!({"error": "Invalid payload structure"}));
    for table in ["commands", "events", "data_keys"] {
        assert_eq!(hub.count(table).await, 0, "{table}");
    }
}

#[tokio::test]
async fn an_installation_without_secrets_accepts_nothing() {
    let hub = Hub::start_with(&[
        ("FACEBOOK_APP_SECRET", ""),
        ("FACEBOOK_VERIFY_TOKEN", ""),
        ("TELEGRAM_WEBHOOK_SECRET", ""),
    ])
    .await;
    let signature = meta_sign("", BODY.as_bytes());
    let answer = push(&hub, "facebook", Some((META, &signature)), BODY).await;
    assert_eq!(answer.status, 401);
    let update = r#"{"update_id":1,"message":{}}"#;
    for header in [None, Some((TELEGRAM, ""))] {
        assert_eq!(push(&hub, "telegram", header, update).await.status, 401);
    }
    let path = "/api/webhooks/facebook?hub.mode=subscribe&hub.verify_token=&hub.challenge=7";
    assert_eq!(hub.call(request("GET", path, None, None)).await.status, 403);
    assert_eq!(hub.count("commands").await, 0);
}

#[tokio::test]
async fn a_verified_body_is_stored_sealed_and_whole() {
    let hub = Hub::start().await;
    let answer = push(&hub, "facebook/", Some((META, SIGNATURE)), BODY).await;
    assert_eq!((answer.status, answer.body), (200, json!({"ok": true})));
    let update = r#"{"update_id":1,"message":{"message_id":1,"date":1700000000,"chat":{"id":7,"type":"private"},"text":"hi"}}"#;
    let answer = push(&hub, "telegram", Some((TELEGRAM, "tg-secret")), update).await;
    assert_eq!((answer.status, answer.body), (200, json!({"ok": true})));
    assert_eq!(hub.count("commands").await, 2);

    let shard = hub.store().sharding().of_route(Platform::Facebook, "PAGE1");
    let start = Place { shard, position: 0 };
    let stored = commands::after(hub.store().pool(), start, 10)
        .await
        .unwrap();
    let mut bodies = Vec::new();
    for it in &stored {
        if let Command::Webhook {
            platform: Platform::Facebook,
            body,
            sealed_at,
            routes,
        } = it.command.as_ref().unwrap()
        {
            assert_eq!(routes, &["PAGE1"]);
            let vault = hub.store().vault();
            let opened = vault.open_raw(Platform::Facebook, routes, *sealed_at, body);
            bodies.push(opened.await.unwrap().text().unwrap());
        }
    }
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(BODY);
    assert_eq!(bodies, [encoded]);
    let payloads: Vec<String> = sqlx::query_scalar("SELECT payload::text FROM commands")
        .fetch_all(hub.store().pool())
        .await
        .unwrap();
    assert!(
        payloads
            .iter()
            .all(|it| !it.contains("Jerry") && !it.contains("PSID9"))
    );
}

#[tokio::test]
async fn a_store_that_is_away_makes_the_platform_try_again() {
    let hub = Hub::start().await;
    hub.lose_store().await;
    let answer = push(&hub, "facebook", Some((META, SIGNATURE)), BODY).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.body, json!({"error": "Internal server error"}));
    assert_eq!(answer.header("retry-after"), "1");
}

#[tokio::test]
async fn the_address_proves_itself() {
    let hub = Hub::start().await;
    let path =
        "/api/webhooks/facebook/?hub.mode=subscribe&hub.verify_token=fb-verify&hub.challenge=11584";
    let answer = hub.call(request("GET", path, None, None)).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, "11584"));
    assert!(answer.header("content-type").starts_with("text/plain"));
    for query in [
        "",
        "hub.mode=subscribe",
        "hub.mode=subscribe&hub.verify_token=x&hub.challenge=1",
    ] {
        let path = format!("/api/webhooks/facebook?{query}");
        let answer = hub.call(request("GET", &path, None, None)).await;
        assert_eq!(answer.status, 403, "{query}");
        assert_eq!(answer.body, json!({"error": "Invalid verify token"}));
    }
}

#[tokio::test]
async fn webhooks_of_x_and_linkedin_are_taken() {
    let hub = Hub::start().await;
    for (platform, header, body) in [
        ("twitter", (X, X_SIGNATURE), X_BODY),
        ("twitter/", (X, X_SIGNATURE), X_BODY),
        ("linkedin", (LINKEDIN, LINKEDIN_SIGNATURE), LINKEDIN_BODY),
    ] {
        let answer = push(&hub, platform, Some(header), body).await;
        assert_eq!(
            (answer.status, answer.body),
            (200, json!({"ok": true})),
            "{platform}"
        );
    }
    assert_eq!(hub.count("commands").await, 3);
    let signed = |body: &str| {
        let digest = hmac_sha256(b"tw-secret", body.as_bytes());
        let digest = base64::engine::general_purpose::STANDARD.encode(digest);
        format!("sha256={digest}")
    };
    use base64::Engine as _;
    for (body, status) in [
        (r#"{"for_user_id":"200"}"#, 400),
        (r#"{"for_user_id":"200","follow_events":[]}"#, 200),
    ] {
        let header = signed(body);
        let answer = push(&hub, "twitter", Some((X, &header)), body).await;
        assert_eq!(answer.status, status, "{body}");
    }
}

#[tokio::test]
async fn the_address_answers_the_challenges_of_x_and_linkedin() {
    let hub = Hub::start().await;
    for path in ["twitter", "twitter/"] {
        let path = format!("/api/webhooks/{path}?crc_token=abc&nonce=1");
        let answer = hub.call(request("GET", &path, None, None)).await;
        let expected =
            json!({"response_token": "sha256=hrlTGrnzV3U3KM5BiHCLgGlPI5sd7N8iXSklO1FaKTE="});
        assert_eq!((answer.status, &answer.body), (200, &expected));
        assert!(
            answer
                .header("content-type")
                .starts_with("application/json")
        );
    }
    let code = "890e4665-4dfe-4ab1-b689-ed553bceeed0";
    let path = format!("/api/webhooks/linkedin/?challengeCode={code}");
    let answer = hub.call(request("GET", &path, None, None)).await;
    let response = hex::encode(hmac_sha256(b"li-secret", code.as_bytes()));
    let expected = json!({"challengeCode": code, "challengeResponse": response});
    assert_eq!((answer.status, answer.body), (200, expected));
    for (path, error) in [
        ("twitter", "Missing crc_token"),
        ("twitter?crc_token=", "Missing crc_token"),
        ("twitter?crc_token=a&crc_token=a", "Invalid crc_token"),
        // Answering would sign a webhook.
        (
            "twitter?crc_token=%7B%22data%22%3A%7B%7D%7D",
            "Invalid crc_token",
        ),
        ("linkedin", "Missing challengeCode"),
        (
            "linkedin?challengeCode=hmacsha256%3D%7B%7D",
            "Invalid challengeCode",
        ),
    ] {
        let path = format!("/api/webhooks/{path}");
        let answer = hub.call(request("GET", &path, None, None)).await;
        assert_eq!(
            (answer.status, answer.body),
            (400, json!({"error": error})),
            "{path}"
        );
    }
    let bare = Hub::start_with(&[
        ("TWITTER_CONSUMER_SECRET", ""),
        ("LINKEDIN_CLIENT_SECRET", ""),
    ]);
    let bare = bare.await;
    for path in ["twitter?crc_token=abc", "linkedin?challengeCode=abc"] {
        let path = format!("/api/webhooks/{path}");
        let answer = bare.call(request("GET", &path, None, None)).await;
        assert_eq!(answer.status, 503, "{path}");
    }
}
