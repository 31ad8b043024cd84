//! What surrounds the handlers: request ids, health, the token nobody needs.

use std::sync::{Arc, OnceLock};

use axum::body::to_bytes;
use axum::http::StatusCode;
use hub_api::{Api, router};
use hub_domain::platform::Platform;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde_json::json;
use tower::ServiceExt as _;

use crate::hub::{Hub, journal, request};

#[tokio::test]
async fn requests_have_an_id() {
    let hub = Hub::start().await;
    let mut call = request("GET", "/api/nothing", None, None);
    call.headers_mut()
        .insert("x-request-id", "abc-1.2:3".parse().unwrap());
    assert_eq!(hub.call(call).await.header("x-request-id"), "abc-1.2:3");
    for odd in ["", "a b", "<script>", &"x".repeat(129)] {
        let mut call = request("GET", "/health", None, None);
        call.headers_mut()
            .insert("x-request-id", odd.parse().unwrap());
        let answer = hub.call(call).await;
        assert_eq!(answer.header("x-request-id").len(), 36, "{odd}");
    }
    // The id goes with what the request causes.
    let body = json!({"email": "ann@example.com", "password": "correct horse"});
    let mut call = request("POST", "/api/auth/register", None, Some(&body));
    call.headers_mut()
        .insert("x-request-id", "from-a-proxy".parse().unwrap());
    hub.call(call).await.expect(StatusCode::CREATED);
    let metas: Vec<String> = sqlx::query_scalar("SELECT meta->>'request' FROM events")
        .fetch_all(hub.store().pool())
        .await
        .unwrap();
    assert_eq!(metas, ["from-a-proxy"; 2]);
}

#[tokio::test]
async fn health_names_its_parts() {
    let hub = Hub::start().await;
    let answer = hub.call(request("GET", "/health", None, None)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body["status"], "ok");
    assert!(answer.body["timestamp"].as_str().unwrap().ends_with('Z'));
    assert_eq!(
        answer.body["services"],
        json!({
            "database": "connected",
            "redis": "in-process",
            "websocket": {"status": "active", "connections": 0, "authenticatedUsers": 0},
        })
    );
    hub.lose_store().await;
    let answer = hub.call(request("GET", "/health", None, None)).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.body["status"], "error");
    assert_eq!(answer.body["error"], "Service unavailable");
}

#[tokio::test]
async fn a_store_that_is_away_is_503_in_the_shape_of_the_route() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    hub.lose_store().await;
    for (path, code) in [
        ("/api/auth/me", "USER_INFO_FAILED"),
        ("/api/messages", "FETCH_FAILED"),
        ("/api/messages/unread/count", "FETCH_FAILED"),
    ] {
        let answer = hub.get(&ann, path).await;
        assert_eq!((answer.status, answer.code()), (503, code), "{path}");
        assert_eq!(answer.body["error"]["retryable"], true);
        assert_eq!(answer.header("retry-after"), "1");
    }
    for path in ["/api/conversations", "/api/oauth/accounts"] {
        let answer = hub.get(&ann, path).await;
        assert_eq!(
            (answer.status, answer.flat_code()),
            (503, "FETCH_FAILED"),
            "{path}"
        );
        assert_eq!(answer.header("retry-after"), "1");
    }
}

#[tokio::test]
async fn the_csrf_token_is_its_cookie() {
    let hub = Hub::start().await;
    let answer = hub
        .call(request("GET", "/api/csrf-token", None, None))
        .await;
    let token = answer.body["csrfToken"].as_str().unwrap().to_owned();
    assert_eq!(token.len(), 64);
    let cookie = answer.header("set-cookie");
    assert!(cookie.starts_with(&format!(
        "csrf-token={token}; HttpOnly; SameSite=Strict; Path=/"
    )));
    assert!(!cookie.contains("Secure"));
    let mut again = request("GET", "/api/csrf-token/", None, None);
    let cookies = format!("other=1; csrf-token={token}");
    again
        .headers_mut()
        .insert("cookie", cookies.parse().unwrap());
    let answer = hub.call(again).await;
    assert_eq!(answer.body["csrfToken"], token.as_str());
    assert_eq!(answer.header("set-cookie"), "");
}

#[tokio::test]
async fn metrics_are_there_when_somebody_collects_them() {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    let handle = RECORDER.get_or_init(|| PrometheusBuilder::new().install_recorder().unwrap());
    let hub = Hub::start().await;
    let answer = hub.call(request("GET", "/metrics", None, None)).await;
    assert_eq!((answer.status, answer.code()), (404, "NOT_FOUND"));

    let settings = Arc::new(hub.api.settings().clone());
    let api = Api::new(hub.store().clone(), settings, Some(handle.clone()));
    let router = router(api);
    for _ in 0..2 {
        let push = request("POST", "/api/webhooks/facebook/", None, Some(&json!({})));
        assert_eq!(router.clone().oneshot(push).await.unwrap().status(), 401);
    }
    let get = request("GET", "/metrics", None, None);
    let response = router.oneshot(get).await.unwrap();
    assert!(
        response.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/plain")
    );
    let text = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    let counter = r#"hub_webhooks_refused_total{platform="facebook",reason="signature"}"#;
    assert!(text.contains(counter), "{text}");
    assert!(
        text.contains(r#"path="/api/webhooks/{platform}",status="401""#),
        "{text}"
    );
}

#[tokio::test]
async fn nothing_secret_or_personal_is_logged() {
    const CANARY: &str = "canary7f3a";
    let hub = Hub::start().await;
    let ann = hub.person(CANARY).await;
    let account = hub.account(&ann, Platform::Facebook, "page").await;
    let thread = ann.thread(account, Platform::Facebook, "t_10");
    hub.receive(&ann, &thread, "m_1", CANARY).await;
    let send = format!("/api/messages/{}/send?x={CANARY}", thread.conversation);
    for (method, path, body) in [
        (
            "POST",
            "/api/auth/login",
            json!({"email": ann.email, "password": CANARY}),
        ),
        ("POST", "/api/auth/refresh", json!({"refreshToken": CANARY})),
        (
            "POST",
            "/api/auth/refresh",
            json!({"refreshToken": ann.refresh}),
        ),
        (
            "POST",
            "/api/auth/logout",
            json!({"refreshToken": ann.refresh}),
        ),
        (
            "GET",
            "/api/auth/callback/facebook?code=canary7f3a&state=canary7f3a",
            json!({}),
        ),
        (
            "GET",
            "/api/auth/callback/facebook?error=canary7f3a&state=canary7f3a",
            json!({}),
        ),
        (
            "POST",
            "/api/auth/callback/telegram",
            json!({"hash": CANARY, "state": CANARY}),
        ),
        ("POST", "/api/webhooks/facebook", json!({"object": CANARY})),
        ("POST", send.as_str(), json!({"content": CANARY})),
        ("GET", "/api/messages", json!({})),
        ("GET", "/api/canary7f3a", json!({})),
        ("GET", "/ws/messages?token=canary7f3a", json!({})),
    ] {
        hub.by(&ann, method, path, Some(&body)).await;
    }
    hub.lose_store().await;
    hub.by(&ann, "POST", &send, Some(&json!({"content": CANARY})))
        .await;
    let text = journal();
    assert!(
        text.contains("request_id=") && text.contains("status=201"),
        "{text}"
    );
    for secret in [CANARY, &ann.access, &ann.refresh] {
        assert!(!text.contains(secret), "{text}");
    }
}
