//! The document and the page that shows it. That the document is true is checked with every answer
//! of every other test here; this file checks that nothing was left out of that.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::Request;
use hub_domain::platform::Platform;
use hub_domain::signature::meta_sign;
use serde_json::{Value, json};

use crate::document::{matches, served};
use crate::hub::{Hub, PASSWORD, Person, request};

/// All operations whose answers a test without a network can hold against the document. The doors
/// turn into sockets, which a router alone does not do; their refusals are here.
#[tokio::test]
async fn every_operation_answers_as_described() {
    let waits = [
        ("HUB_OAUTH_CALLBACK_WAIT_MS", "10"),
        ("HUB_POLL_WAIT_MS", "10"),
    ];
    let hub = Hub::start_with(&waits).await;
    let ann = hub.person("ann").await;
    let account = hub.account(&ann, Platform::Facebook, "PAGE1").await;
    let thread = ann.thread(account, Platform::Facebook, "t_10");
    let message = hub.receive(&ann, &thread, "m_1", "hello").await;
    let conversation = thread.conversation;
    let login = json!({ "email": ann.email, "password": PASSWORD });
    let fresh = hub.post("/api/auth/login", &login).await;
    let refreshing = json!({ "refreshToken": fresh.body["tokens"]["refreshToken"] });
    let content = json!({ "content": "hi" });
    let none = Value::Null;
    let journey = [
        ("POST", "/api/auth/refresh", &refreshing, 200),
        ("POST", "/api/auth/logout", &refreshing, 200),
        ("GET", "/api/auth/me", &none, 200),
        ("GET", "/api/oauth/connect/facebook", &none, 200),
        ("GET", "/api/oauth/accounts", &none, 200),
        ("GET", "/api/oauth/rate-limits", &none, 200),
        ("POST", &format!("/api/oauth/refresh/{account}"), &none, 200),
        (
            "GET",
            "/api/conversations?limit=1&asOf=2999-01-01",
            &none,
            200,
        ),
        ("GET", "/api/conversations", &none, 200),
        (
            "GET",
            &format!("/api/conversations/{conversation}"),
            &none,
            200,
        ),
        ("GET", "/api/messages", &none, 200),
        ("GET", "/api/messages/unread/count", &none, 200),
        ("GET", &format!("/api/messages/{conversation}"), &none, 200),
        (
            "PATCH",
            &format!("/api/messages/{message}/read"),
            &none,
            200,
        ),
        (
            "PATCH",
            &format!("/api/messages/conversation/{conversation}/read"),
            &none,
            200,
        ),
        (
            "POST",
            &format!("/api/messages/{conversation}/send"),
            &content,
            201,
        ),
        ("POST", "/api/messages/sync", &none, 200),
        ("POST", &format!("/api/messages/poll/{account}"), &none, 502),
        (
            "GET",
            &format!("/api/messages/debug/twitter/{account}"),
            &none,
            404,
        ),
        ("POST", &format!("/api/debug/polling/{account}"), &none, 200),
        ("GET", "/api/debug/polling/stats", &none, 200),
        ("GET", "/api/debug/instagram-config", &none, 200),
        ("POST", "/api/telegram/auth/phone", &content, 400),
        ("POST", "/api/telegram/auth/verify", &content, 400),
        (
            "GET",
            &format!("/api/telegram/{account}/dialogs"),
            &none,
            404,
        ),
        (
            "GET",
            &format!("/api/telegram/{account}/messages/1"),
            &none,
            404,
        ),
        (
            "POST",
            &format!("/api/telegram/{account}/send/1"),
            &json!({ "text": "hi" }),
            404,
        ),
        ("POST", &format!("/api/telegram/{account}/sync"), &none, 404),
        (
            "POST",
            &format!("/api/telegram/{account}/reset"),
            &none,
            404,
        ),
        ("GET", "/health", &none, 200),
        ("GET", "/metrics", &none, 404),
        ("GET", "/api/csrf-token", &none, 200),
        ("GET", "/api/openapi.json", &none, 200),
        (
            "GET",
            "/api/webhooks/facebook?hub.mode=subscribe&hub.verify_token=fb-verify&hub.challenge=7",
            &none,
            200,
        ),
        ("POST", "/api/webhooks/facebook/deauthorize", &none, 400),
        ("POST", "/api/webhooks/facebook/delete", &none, 400),
        ("GET", "/api/deletion/00", &none, 404),
        (
            "GET",
            "/api/oauth/callback/facebook?error=access_denied",
            &none,
            302,
        ),
        (
            "GET",
            "/api/auth/callback/facebook?error=access_denied",
            &none,
            302,
        ),
        (
            "POST",
            "/api/oauth/callback/facebook?error=access_denied",
            &none,
            302,
        ),
        (
            "POST",
            "/api/auth/callback/facebook?error=access_denied",
            &none,
            302,
        ),
        (
            "GET",
            "/api/oauth/callback/telegram?error=access_denied",
            &none,
            302,
        ),
        (
            "GET",
            "/api/auth/callback/telegram?error=access_denied",
            &none,
            302,
        ),
        ("POST", "/api/oauth/callback/telegram", &content, 400),
        ("POST", "/api/auth/callback/telegram", &content, 400),
        ("POST", "/api/media", &none, 415),
        ("GET", &format!("/api/media/{account}"), &none, 403),
        ("GET", "/ws/messages", &none, 400),
        ("GET", "/socket.io/?EIO=4&transport=polling", &none, 400),
        ("POST", "/socket.io/?EIO=4&transport=polling", &none, 400),
        (
            "DELETE",
            &format!("/api/oauth/disconnect/{account}"),
            &none,
            200,
        ),
    ];
    for (method, path, body, status) in journey {
        let body = Some(body).filter(|body| !body.is_null());
        let answer = hub.by(&ann, method, path, body).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
    }
    push(&hub).await;
    erase(&hub, &ann).await;

    let document = served(&hub.router).await;
    assert_eq!(hub.answered(), operations(document));
}

async fn push(hub: &Hub) {
    let body = r#"{"object":"page","entry":[]}"#;
    let push = Request::post("/api/webhooks/facebook")
        .header(
            "X-Hub-Signature-256",
            meta_sign("fb-secret", body.as_bytes()),
        )
        .body(Body::from(body))
        .unwrap();
    let answer = hub.call(push).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

async fn erase(hub: &Hub, who: &Person) {
    let body = json!({ "password": "not this one" });
    let answer = hub.by(who, "DELETE", "/api/auth/me", Some(&body)).await;
    assert_eq!(answer.status, 401);
}

fn operations(document: &Value) -> BTreeSet<String> {
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().keys();
        methods.map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    operations.collect()
}

#[tokio::test]
async fn the_document_is_whole() {
    let hub = Hub::start().await;
    let document = served(&hub.router).await;
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(document["servers"], json!([{ "url": "/" }]));
    assert_eq!(
        document["components"]["securitySchemes"]["bearer"]["scheme"],
        "bearer"
    );
    let tags: BTreeSet<_> = document["tags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tag| &tag["name"])
        .map(Value::to_string)
        .collect();
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let place = format!("{method} {path}");
            assert!(operation["summary"].is_string(), "{place}");
            assert!(tags.contains(&operation["tags"][0].to_string()), "{place}");
            assert!(ids.insert(operation["operationId"].to_string()), "{place}");
            // Every name in the path is a parameter, and the other way round.
            let named: BTreeSet<_> = path
                .split('/')
                .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
                .collect();
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let given: BTreeSet<_> = parameters
                .filter(|it| it["in"] == "path")
                .map(|it| it["name"].as_str().unwrap())
                .collect();
            assert_eq!(named, given, "{place}");
            for (status, response) in operation["responses"].as_object().unwrap() {
                let is_error = status.as_str() >= "400";
                assert!(
                    !is_error || response["content"].is_object(),
                    "{place} {status}"
                );
            }
        }
    }
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer} is nowhere");
    }
    // Only the hub's own words, never a comment's about its code.
    for internal in ["](", "[`", "crate::"] {
        assert!(!text.contains(internal), "{internal}");
    }
}

/// Routes ask for a token exactly where the document says so.
#[tokio::test]
async fn what_needs_a_token_says_so() {
    let hub = Hub::start().await;
    let document = served(&hub.router).await;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let path = path.replace("{id}", &uuid::Uuid::nil().to_string());
            let path = path
                .replace("{platform}", "facebook")
                .replace("{chat}", "1");
            let answer = hub
                .call(request(&method.to_uppercase(), &path, None, None))
                .await;
            let codes = [&answer.body["error"]["code"], &answer.body["code"]];
            let asked = codes.into_iter().any(|code| code == "UNAUTHORIZED");
            let said = operation["security"] == json!([{ "bearer": [] }]);
            assert_eq!(asked, said, "{method} {path}: {}", answer.text);
        }
    }
}

#[tokio::test]
async fn the_page_brings_all_it_needs() {
    let hub = Hub::start().await;
    let policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
        connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
    let files = [
        ("/api/docs", "text/html; charset=utf-8", ""),
        ("/api/docs/", "text/html; charset=utf-8", ""),
        ("/api/docs/start.js", "text/javascript; charset=utf-8", ""),
        ("/api/docs/swagger-ui-bundle.js", "text/javascript", "gzip"),
        ("/api/docs/swagger-ui.css", "text/css", "gzip"),
        ("/api/docs/favicon-32x32.png", "image/png", "gzip"),
    ];
    for (path, content_type, encoding) in files {
        let answer = hub.call(request("GET", path, None, None)).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("content-type"), content_type, "{path}");
        assert_eq!(answer.header("content-encoding"), encoding, "{path}");
        assert_eq!(answer.header("content-security-policy"), policy, "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert!(answer.text.len() > 100, "{path}");
    }
    let page = hub.call(request("GET", "/api/docs", None, None)).await.text;
    let links = page.split(['"', ' ']).filter(|part| part.starts_with('/'));
    for link in links {
        let answer = hub.call(request("GET", link, None, None)).await;
        assert_eq!(answer.status, 200, "{link}");
    }
    assert!(!page.contains("://"), "nothing is loaded from elsewhere");
    for path in [
        "/api/docs/swagger-initializer.js",
        "/api/docs/oauth2-redirect.html",
        "/api/docs/x",
    ] {
        let answer = hub.call(request("GET", path, None, None)).await;
        assert_eq!((answer.status, answer.code()), (404, "NOT_FOUND"), "{path}");
    }
}

/// A checker that takes anything would prove nothing.
#[tokio::test]
async fn the_checker_sees_what_is_wrong() {
    let hub = Hub::start().await;
    let document = served(&hub.router).await;
    let schema = json!({ "$ref": "#/components/schemas/Account" });
    let account = json!({
        "id": "0198c0de-0000-7000-8000-000000000000",
        "userId": "0198c0de-0000-7000-8000-000000000000",
        "platform": "facebook",
        "platformUserId": "1",
        "platformUsername": "The Page",
        "isActive": true,
        "createdAt": "2026-01-31T09:30:00.123Z",
        "updatedAt": "2026-01-31T09:30:00.123Z",
    });
    assert_eq!(matches(document, &schema, &account), Ok(()));
    let odd = [
        ("id", json!("0198C0DE-0000-7000-8000-000000000000")),
        ("platform", json!("myspace")),
        ("platformUserId", json!(1)),
        ("platformUsername", Value::Null),
        ("isActive", json!("true")),
        ("createdAt", json!("2026-01-31T09:30:00Z")),
        ("extra", json!(1)),
    ];
    for (field, value) in odd {
        let mut account = account.clone();
        account[field] = value;
        assert!(matches(document, &schema, &account).is_err(), "{field}");
    }
    let mut account = account;
    account.as_object_mut().unwrap().remove("isActive");
    assert!(matches(document, &schema, &account).is_err());
}
