//! Registering, logging in, refreshing, logging out.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::hub::{Answer, Hub, PASSWORD, request};

async fn refresh(hub: &Hub, token: &str) -> Answer {
    let body = json!({ "refreshToken": token });
    hub.post("/api/auth/refresh", &body).await
}

fn token(answer: &Answer, name: &str) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.body[name], answer.body["tokens"][name]);
    answer.body[name].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_new_user_is_who_they_say_they_are() {
    let hub = Hub::start().await;
    let body = json!({"email": " Ann@Example.COM ", "password": PASSWORD, "name": "ignored"});
    let registered = hub
        .post("/api/auth/register/", &body)
        .await
        .expect(StatusCode::CREATED);
    let user = &registered.body["user"];
    assert_eq!(user["email"], "ann@example.com");
    assert!(user["createdAt"].as_str().unwrap().ends_with('Z'));
    assert_eq!(user["createdAt"].as_str().unwrap().len(), 24);

    let body = json!({"email": "ANN@example.com", "password": PASSWORD});
    let login = hub
        .post("/api/auth/login", &body)
        .await
        .expect(StatusCode::OK);
    assert_eq!(login.body["user"], *user);
    assert_ne!(login.body["tokens"], registered.body["tokens"]);

    let access = login.body["tokens"]["accessToken"].as_str();
    let me = hub.call(request("GET", "/api/auth/me", access, None)).await;
    assert_eq!(me.body["user"], *user);
    for field in ["id", "email", "createdAt", "updatedAt"] {
        assert_eq!(me.body[field], user[field]);
    }

    let again = hub.post("/api/auth/register", &body).await;
    assert_eq!((again.status, again.code()), (409, "USER_EXISTS"));
    assert_eq!(hub.count("logins").await, 1);
}

#[tokio::test]
async fn two_at_once_cannot_both_register() {
    let hub = Hub::start().await;
    let body = json!({"email": "ann@example.com", "password": PASSWORD});
    let (one, two) = tokio::join!(
        hub.post("/api/auth/register", &body),
        hub.post("/api/auth/register", &body)
    );
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409]);
}

#[tokio::test]
async fn bad_input_is_told_in_a_sentence() {
    let hub = Hub::start().await;
    let cases = [
        ("/api/auth/register", json!({}), "email"),
        (
            "/api/auth/register",
            json!({"email": "x", "password": PASSWORD}),
            "email",
        ),
        (
            "/api/auth/register",
            json!({"email": 7, "password": PASSWORD}),
            "email",
        ),
        (
            "/api/auth/register",
            json!({"email": "a@b.test"}),
            "password",
        ),
        (
            "/api/auth/register",
            json!({"email": "a@b.test", "password": "1234567"}),
            "password",
        ),
        (
            "/api/auth/register",
            json!({"email": "a@b.test", "password": ["x"]}),
            "password",
        ),
        (
            "/api/auth/register",
            json!({"email": "a@b.test", "password": "x".repeat(73)}),
            "password",
        ),
        ("/api/auth/login", json!({"email": "a@b.test"}), "password"),
        (
            "/api/auth/login",
            json!({"email": {"$ne": ""}, "password": PASSWORD}),
            "email",
        ),
        ("/api/auth/refresh", json!({}), "refreshToken"),
        (
            "/api/auth/refresh",
            json!({"refreshToken": null}),
            "refreshToken",
        ),
        ("/api/auth/logout", json!({}), "refreshToken"),
    ];
    for (path, body, field) in cases {
        let answer = hub.post(path, &body).await;
        assert_eq!(
            (answer.status, answer.code()),
            (400, "VALIDATION_ERROR"),
            "{path} {body}"
        );
        assert_eq!(answer.body["error"]["details"][0]["field"], field);
        assert!(
            answer.body["error"]["message"]
                .as_str()
                .unwrap()
                .contains(' ')
        );
    }
    assert_eq!(hub.count("logins").await, 0);
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_address_look_the_same() {
    let hub = Hub::start().await;
    hub.person("ann").await;
    let mut answers = Vec::new();
    for email in ["ann@example.com", "nobody@example.com"] {
        let began = Instant::now();
        let body = json!({"email": email, "password": "wrong horse"});
        let answer = hub.post("/api/auth/login", &body).await;
        assert_eq!(
            (answer.status, answer.code()),
            (401, "AUTHENTICATION_FAILED")
        );
        assert!(
            began.elapsed() > Duration::from_millis(10),
            "no password was hashed"
        );
        answers.push(answer.text);
    }
    assert_eq!(answers[0], answers[1]);
}

#[tokio::test]
async fn two_tabs_that_refresh_at_once_get_the_same_pair() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let (one, two) = tokio::join!(refresh(&hub, &ann.refresh), refresh(&hub, &ann.refresh));
    assert_eq!(token(&one, "refreshToken"), token(&two, "refreshToken"));
    let access = token(&one, "accessToken");
    assert_eq!(access, token(&two, "accessToken"));
    let me = hub
        .call(request("GET", "/api/auth/me", Some(&access), None))
        .await;
    assert_eq!(me.status, 200);

    let next = refresh(&hub, &token(&one, "refreshToken")).await;
    assert_ne!(token(&next, "refreshToken"), token(&one, "refreshToken"));
}

#[tokio::test]
async fn twenty_at_once_are_one_exchange() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let answers = join_all((0..20).map(|_| refresh(&hub, &ann.refresh))).await;
    let first = token(&answers[0], "refreshToken");
    assert!(answers.iter().all(|it| token(it, "refreshToken") == first));
    assert_eq!(hub.count("refresh_tokens").await, 2);
    assert_eq!(
        hub.count("events").await,
        3,
        "registered, started, refreshed"
    );
}

#[tokio::test]
async fn whoever_comes_after_the_answer_ends_the_session_and_only_that() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let body = json!({"email": ann.email, "password": PASSWORD});
    let elsewhere = hub.post("/api/auth/login", &body).await;
    let elsewhere = elsewhere.body["tokens"]["refreshToken"].as_str().unwrap();
    let fresh = token(&refresh(&hub, &ann.refresh).await, "refreshToken");
    for late in [&ann.refresh, &fresh, &ann.refresh] {
        let answer = refresh(&hub, late).await;
        assert_eq!(
            (answer.status, answer.code()),
            (401, "TOKEN_REFRESH_FAILED")
        );
    }
    assert_eq!(refresh(&hub, elsewhere).await.status, 200);
}

#[tokio::test]
async fn an_installation_may_allow_reuse_but_logout_is_final() {
    let hub = Hub::start_with(&[("REFRESH_REUSE_WINDOW_SECONDS", "604800")]).await;
    let ann = hub.person("ann").await;
    let first = token(&refresh(&hub, &ann.refresh).await, "refreshToken");
    let second = token(&refresh(&hub, &ann.refresh).await, "refreshToken");
    assert_ne!(first, second);
    let body = json!({ "refreshToken": ann.refresh });
    for _ in 0..2 {
        let out = hub
            .post("/api/auth/logout", &body)
            .await
            .expect(StatusCode::OK);
        assert_eq!(out.body, json!({"message": "Logged out successfully"}));
    }
    assert_eq!(refresh(&hub, &ann.refresh).await.status, 401);
    assert_eq!(refresh(&hub, &second).await.status, 200);
}

#[tokio::test]
async fn only_refresh_tokens_of_existing_users_are_exchanged() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let gone = hub.person("gone").await;
    sqlx::query("DELETE FROM logins WHERE user_id = $1")
        .bind(gone.user.0)
        .execute(hub.store().pool())
        .await
        .unwrap();
    let auth = &hub.api.settings().auth;
    let issue = |days| {
        let at = chrono::Utc::now() - chrono::TimeDelta::days(days);
        hub_api::auth::issue(auth, &ann.claims(), at)
            .unwrap()
            .0
            .refresh
    };
    // An access token, nonsense, one past its time, one that was never stored, one of nobody.
    let odd = [
        ann.access.clone(),
        "x".to_owned(),
        issue(8),
        issue(0),
        gone.refresh.clone(),
    ];
    for token in odd {
        let answer = refresh(&hub, &token).await;
        assert_eq!(
            (answer.status, answer.code()),
            (401, "TOKEN_REFRESH_FAILED")
        );
        let body = json!({ "refreshToken": token });
        assert_eq!(hub.post("/api/auth/logout", &body).await.status, 200);
    }
    let me = hub.get(&gone, "/api/auth/me").await;
    assert_eq!((me.status, me.code()), (401, "INVALID_TOKEN"));
}

#[tokio::test]
async fn tokens_live_as_long_as_documented() {
    use base64::Engine as _;
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    for (token, seconds) in [(&ann.access, 900), (&ann.refresh, 604_800)] {
        let payload = token.split('.').nth(1).unwrap();
        let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(payload)
            .unwrap();
        let payload: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(
            payload["exp"].as_i64().unwrap() - payload["iat"].as_i64().unwrap(),
            seconds
        );
        assert_eq!(payload["userId"], payload["sub"]);
        assert_eq!(payload["email"], "ann@example.com");
        assert!(payload["jti"].is_string());
    }
}
