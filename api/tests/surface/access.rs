//! Who gets in: every route with every kind of token, and with every id of somebody else.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hub_domain::platform::Platform;
use hub_domain::signature::hmac_sha256;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::hub::{Answer, Hub, request};

/// Every route that asks for a token, with an id where one goes.
pub const GUARDED: [(&str, &str); 23] = [
    ("GET", "/api/auth/me"),
    ("DELETE", "/api/auth/me"),
    ("GET", "/api/oauth/connect/facebook"),
    ("GET", "/api/oauth/accounts"),
    ("DELETE", "/api/oauth/disconnect/{id}"),
    ("POST", "/api/oauth/refresh/{id}"),
    ("GET", "/api/oauth/rate-limits"),
    ("GET", "/api/messages"),
    ("GET", "/api/messages/unread/count"),
    ("GET", "/api/messages/{id}"),
    ("POST", "/api/messages/{id}/send"),
    ("PATCH", "/api/messages/{id}/read"),
    ("PATCH", "/api/messages/conversation/{id}/read"),
    ("GET", "/api/conversations"),
    ("GET", "/api/conversations/{id}"),
    ("POST", "/api/auth/callback/telegram"),
    ("POST", "/api/oauth/callback/telegram"),
    ("POST", "/api/messages/sync"),
    ("POST", "/api/messages/poll/{id}"),
    ("GET", "/api/messages/debug/twitter/{id}"),
    ("POST", "/api/debug/polling/{id}"),
    ("GET", "/api/debug/polling/stats"),
    ("GET", "/api/debug/instagram-config"),
];

/// The code of a refusal in the envelope of its route.
fn code_of<'a>(answer: &'a Answer, path: &str) -> &'a str {
    if !path.starts_with("/api/debug/") {
        return answer.code();
    }
    assert_eq!(answer.body["success"], false, "{}", answer.text);
    answer.flat_code()
}

/// Every route anybody may call.
const OPEN: [(&str, &str); 12] = [
    ("POST", "/api/auth/register"),
    ("POST", "/api/auth/login"),
    ("POST", "/api/auth/refresh"),
    ("POST", "/api/auth/logout"),
    ("GET", "/api/oauth/callback/facebook"),
    ("POST", "/api/auth/callback/facebook"),
    ("GET", "/api/auth/callback/telegram"),
    ("GET", "/api/webhooks/facebook"),
    ("POST", "/api/webhooks/facebook"),
    ("POST", "/api/webhooks/telegram"),
    ("GET", "/api/csrf-token"),
    ("GET", "/health"),
];

pub fn with_id(path: &str, id: Uuid) -> String {
    path.replace("{id}", &id.to_string())
}

#[tokio::test]
async fn no_route_lets_a_bad_token_in() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let expired = format!("Bearer {}", ann.expired_token(&hub));
    let refresh = format!("Bearer {}", ann.refresh);
    let cases = [
        (None, "UNAUTHORIZED"),
        (Some(""), "UNAUTHORIZED"),
        (Some("Bearer"), "UNAUTHORIZED"),
        (Some("Bearer undefined"), "INVALID_TOKEN"),
        (Some("Basic YW5uOmFubg=="), "INVALID_TOKEN_FORMAT"),
        (Some("Bearer a b"), "INVALID_TOKEN_FORMAT"),
        (Some(expired.as_str()), "TOKEN_EXPIRED"),
        (Some(refresh.as_str()), "INVALID_TOKEN"),
    ];
    for (method, path) in GUARDED {
        for (header, code) in cases {
            for slash in ["", "/"] {
                let path = with_id(path, Uuid::now_v7()) + slash;
                let mut call = request(method, &path, None, None);
                if let Some(header) = header {
                    call.headers_mut()
                        .insert("authorization", header.parse().unwrap());
                }
                let answer = hub.call(call).await;
                assert_eq!(answer.status, 401, "{method} {path} {header:?}");
                assert_eq!(answer.code(), code, "{method} {path} {header:?}");
                assert!(path.contains("telegram") == answer.body["message"].is_string());
            }
        }
    }
}

#[tokio::test]
async fn forged_tokens_are_refused() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let secret = hub.api.settings().auth.jwt_secret.expose().to_owned();
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let sign = |header: &Value, payload: &Value, secret: &str| {
        let content = format!("{}.{}", part(header), part(payload));
        let signature = hmac_sha256(secret.as_bytes(), content.as_bytes());
        format!("{content}.{}", URL_SAFE_NO_PAD.encode(signature))
    };
    let header = json!({"alg": "HS256", "typ": "JWT"});
    let later = chrono::Utc::now().timestamp() + 600;
    let payload = json!({"userId": ann.user, "email": ann.email, "iat": 0, "exp": later});
    let right = sign(&header, &payload, &secret);
    let status = async |token: &str| {
        let answer = hub
            .call(request("GET", "/api/auth/me", Some(token), None))
            .await;
        if answer.status == 401 {
            assert_eq!(answer.code(), "INVALID_TOKEN", "{token}");
        }
        answer.status
    };
    assert_eq!(status(&right).await, 200);
    let (content, signature) = right.rsplit_once('.').unwrap();
    let mut forged = vec![
        sign(&header, &payload, "other"),
        sign(&header, &payload, ""),
        format!("{content}."),
        content.to_owned(),
        format!("{right}."),
        format!("{right}.x"),
        format!("{content}.{}", signature.to_uppercase()),
        format!(".{signature}"),
        "..".to_owned(),
        format!("{}.{}.", part(&json!({"alg": "none"})), part(&payload)),
    ];
    for odd in [
        json!({"alg": "none"}),
        json!({"alg": "None"}),
        json!({"alg": "HS384"}),
        json!({"alg": "HS512"}),
        json!({"alg": "RS256"}),
        json!({"alg": "ES256"}),
        json!({"alg": ""}),
        json!({"alg": 256}),
        json!({}),
        json!([]),
        json!({"alg": "HS256", "crit": ["exp"], "exp": 0}),
    ] {
        forged.push(sign(&odd, &payload, &secret));
    }
    for (field, value) in [
        ("exp", Value::Null),
        ("exp", json!("soon")),
        ("exp", json!([later])),
        ("nbf", json!(later)),
        ("userId", json!("x")),
        ("userId", json!(7)),
        ("userId", Value::Null),
        ("userId", json!(Uuid::now_v7())),
        ("sub", json!(Uuid::now_v7())),
        ("email", Value::Null),
        ("email", json!("nobody@example.com")),
        ("aud", json!("somebody else")),
    ] {
        let mut odd = payload.clone();
        odd[field] = value;
        forged.push(sign(&header, &odd, &secret));
    }
    for token in forged {
        assert_eq!(status(&token).await, 401, "{token}");
    }
}

#[tokio::test]
async fn nobody_reads_or_changes_what_is_somebody_elses() {
    let hub = Hub::start().await;
    let (ann, eve) = (hub.person("ann").await, hub.person("eve").await);
    let account = hub.account(&ann, Platform::Facebook, "page").await;
    let thread = ann.thread(account, Platform::Facebook, "t_10");
    let message = hub.receive(&ann, &thread, "m_1", "for ann only").await;
    let events = hub.count("events").await;
    let ids = [
        account.0,
        thread.conversation.0,
        message.0,
        ann.user.0,
        Uuid::now_v7(),
    ];
    for (method, path) in GUARDED.iter().filter(|(_, path)| path.contains("{id}")) {
        for id in ids {
            let body = json!({"content": "hi"});
            let is_thread = *method == "GET" && *path == "/api/messages/{id}";
            let path = with_id(path, id);
            let answer = hub.by(&eve, method, &path, Some(&body)).await;
            let expected = if is_thread { 403 } else { 404 };
            assert_eq!(answer.status, expected, "{method} {path}: {}", answer.text);
            code_of(&answer, &path);
            assert!(!answer.text.contains("for ann only"));
        }
    }
    for path in ["/api/messages", "/api/conversations", "/api/oauth/accounts"] {
        let answer = hub.get(&eve, path).await;
        assert_eq!(answer.status, 200);
        let lists = answer.body.as_object().unwrap().values();
        assert!(
            lists.filter_map(Value::as_array).all(Vec::is_empty),
            "{}",
            answer.text
        );
    }
    assert_eq!(hub.count("events").await, events);
    assert_eq!(
        hub.count("commands").await,
        0,
        "nobody had an account polled"
    );
}

#[tokio::test]
async fn ids_in_paths_are_uuids() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let simple = Uuid::now_v7().simple().to_string();
    let odd = [
        "x",
        "1",
        "undefined",
        simple.as_str(),
        "%00",
        "%ff",
        "..%2F..%2Fetc",
    ];
    for (method, path) in GUARDED.iter().filter(|(_, path)| path.contains("{id}")) {
        for id in odd {
            let path = path.replace("{id}", id);
            let answer = hub
                .by(&ann, method, &path, Some(&json!({"content": "hi"})))
                .await;
            assert_eq!(answer.status, 400, "{method} {path}");
            assert_eq!(code_of(&answer, &path), "VALIDATION_ERROR");
        }
    }
}

#[tokio::test]
async fn a_trailing_slash_changes_nothing() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let id = Uuid::now_v7();
    for (method, path) in GUARDED.iter().chain(&OPEN) {
        let path = with_id(path, id);
        let one = hub.by(&ann, method, &path, Some(&json!({}))).await;
        let two = hub
            .by(&ann, method, &format!("{path}/"), Some(&json!({})))
            .await;
        assert_ne!(one.status, 405, "{method} {path}");
        assert_eq!(one.status, two.status, "{method} {path}");
        // Tokens, times and states differ from answer to answer; their names do not.
        let names = |body: &Value| {
            body.as_object()
                .map(|it| it.keys().cloned().collect::<Vec<_>>())
        };
        assert_eq!(names(&one.body), names(&two.body), "{method} {path}");
        let three = hub
            .by(&ann, method, &format!("{path}/?limit=5"), Some(&json!({})))
            .await;
        assert_eq!(one.status, three.status, "{method} {path}");
    }
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_are_answered_in_the_envelope() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    for path in ["/nothing", "/api", "/api/nothing", "/api/webhooks/mastodon"] {
        for method in ["GET", "POST", "DELETE"] {
            let answer = hub.by(&ann, method, path, None).await;
            if path.contains("webhooks") && method == "DELETE" {
                assert_eq!((answer.status, answer.code()), (405, "METHOD_NOT_ALLOWED"));
            } else {
                assert_eq!(
                    (answer.status, answer.code()),
                    (404, "NOT_FOUND"),
                    "{method} {path}"
                );
            }
        }
    }
    for (method, path) in GUARDED.iter().chain(&OPEN) {
        let wrong = if *method == "PATCH" { "POST" } else { "PUT" };
        for slash in ["", "/"] {
            let path = with_id(path, Uuid::now_v7()) + slash;
            let answer = hub.by(&ann, wrong, &path, None).await;
            assert_eq!(answer.status, 405, "{wrong} {path}");
            assert_eq!(answer.code(), "METHOD_NOT_ALLOWED");
            assert!(answer.header("allow").contains(method), "{path}");
        }
    }
    let answer = hub.by(&ann, "POST", "/api/telegram/auth/phone", None).await;
    assert_eq!((answer.status, answer.flat_code()), (404, "NOT_FOUND"));
    let answer = hub.by(&ann, "GET", "/api/webhooks/telegram", None).await;
    assert_eq!((answer.status, answer.code()), (405, "METHOD_NOT_ALLOWED"));
}
