//! Limits as clients meet them (contract 1.8): who is counted, what a refusal says, and what is
//! never limited. That counting is exact is the store's to show.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use chrono::{DateTime, Utc};
use futures::future::join_all;
use hub_api::request::Peer;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::hub::{Answer, Hub, ORIGIN, PASSWORD, call, request};
use crate::redis::Redis;

const DEFAULTS: [(&str, &str); 2] = [
    ("USER_RATE_LIMIT_REQUESTS", "100"),
    ("HUB_STRICT_RATE_LIMIT_REQUESTS", "20"),
];

const SMALL: [(&str, &str); 2] = [
    ("USER_RATE_LIMIT_REQUESTS", "3"),
    ("HUB_STRICT_RATE_LIMIT_REQUESTS", "2"),
];

const HEADERS: [&str; 3] = [
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
];

/// Seconds from now until everything is back.
fn reset(answer: &Answer) -> i64 {
    let text = answer.header("x-ratelimit-reset");
    assert!(text.ends_with('Z'), "{text}");
    let at: DateTime<Utc> = text.parse().unwrap();
    (at - Utc::now()).num_seconds()
}

fn is_counted(answer: &Answer) -> bool {
    let present = HEADERS.map(|name| !answer.header(name).is_empty());
    assert!(present == [true; 3] || present == [false; 3]);
    present[0]
}

#[tokio::test]
async fn the_hundred_and_first_request_is_refused_and_says_when_to_come_back() {
    let hub = Hub::start_with(&DEFAULTS).await;
    let (ann, bob) = (hub.person("ann").await, hub.person("bob").await);
    for n in 0..100 {
        let answer = hub.get(&ann, "/api/auth/me").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("x-ratelimit-limit"), "100");
        assert_eq!(answer.header("x-ratelimit-remaining"), (99 - n).to_string());
        assert!((58..=60).contains(&reset(&answer)));
    }
    let mut over = request("GET", "/api/conversations", Some(&ann.access), None);
    over.headers_mut().insert("origin", ORIGIN.parse().unwrap());
    let refused = hub.call(over).await;
    assert_eq!(refused.status, 429);
    let wait: i64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(
        refused.body,
        json!({"error": {
            "code": "RATE_LIMIT_EXCEEDED",
            "message": "Rate limit exceeded. Please try again later.",
            "retryable": true,
            "details": {"limit": 100, "windowMs": 60_000, "retryAfter": wait},
        }})
    );
    assert_eq!(refused.header("x-ratelimit-limit"), "100");
    assert_eq!(refused.header("x-ratelimit-remaining"), "0");
    assert!((wait - 2..=wait).contains(&reset(&refused)));
    // A browser can read all of it.
    assert_eq!(refused.header("access-control-allow-origin"), ORIGIN);
    let exposed = refused.header("access-control-expose-headers");
    for name in HEADERS.iter().chain(&["retry-after"]) {
        assert!(exposed.contains(name), "{name}");
    }
    // Others are not concerned, and what a refused request asked for did not happen.
    assert_eq!(hub.get(&bob, "/api/auth/me").await.status, 200);
    let body = json!({ "password": PASSWORD });
    let erase = hub.by(&ann, "DELETE", "/api/auth/me", Some(&body)).await;
    assert_eq!(erase.status, 429);
    assert_eq!(hub.count("logins").await, 2);
}

#[tokio::test]
async fn places_come_back_when_the_window_has_passed() {
    let window = [("USER_RATE_LIMIT_WINDOW_MS", "1500")];
    let hub = Hub::start_with(&[SMALL.as_slice(), &window].concat()).await;
    let ann = hub.person("ann").await;
    for _ in 0..3 {
        assert_eq!(hub.get(&ann, "/api/auth/me").await.status, 200);
    }
    let refused = hub.get(&ann, "/api/auth/me").await;
    assert_eq!(refused.status, 429);
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!(wait <= 2, "{wait}");
    tokio::time::sleep(Duration::from_secs(wait)).await;
    assert_eq!(hub.get(&ann, "/api/auth/me").await.status, 200);
}

#[tokio::test]
async fn what_is_sensitive_has_a_smaller_budget_beside_the_other() {
    let hub = Hub::start_with(&DEFAULTS).await;
    let ann = hub.person("ann").await;
    for n in 0..20 {
        let answer = hub.get(&ann, "/api/oauth/connect/telegram").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.header("x-ratelimit-limit"), "20");
        assert_eq!(answer.header("x-ratelimit-remaining"), (19 - n).to_string());
    }
    let account = "/api/oauth/disconnect/00000000-0000-0000-0000-000000000001";
    for (method, path) in [("GET", "/api/oauth/connect/facebook"), ("DELETE", account)] {
        let refused = hub.by(&ann, method, path, None).await;
        assert_eq!(
            (refused.status, refused.code()),
            (429, "RATE_LIMIT_EXCEEDED")
        );
        assert_eq!(refused.body["error"]["details"]["limit"], 20);
    }
    let other = hub.get(&ann, "/api/auth/me").await;
    assert_eq!(other.status, 200);
    assert_eq!(other.header("x-ratelimit-remaining"), "79");
}

#[tokio::test]
async fn who_is_unknown_is_not_counted_and_neither_is_what_must_not_be_refused() {
    let hub = Hub::start_with(&SMALL).await;
    let ann = hub.person("ann").await;
    let secret = ("x-telegram-bot-api-secret-token", "tg-secret");
    for n in 0..30 {
        let update = json!({ "update_id": n, "message": {
            "message_id": n, "date": 1_767_225_600, "text": "hi",
            "chat": {"id": 42, "type": "private", "first_name": "Mira"},
            "from": {"id": 42, "is_bot": false, "first_name": "Mira"},
        }});
        let mut webhook = request(
            "POST",
            "/api/webhooks/telegram",
            Some(&ann.access),
            Some(&update),
        );
        webhook
            .headers_mut()
            .insert(secret.0, secret.1.parse().unwrap());
        let answer = hub.call(webhook).await;
        assert_eq!((answer.status, is_counted(&answer)), (200, false));
        for (method, path, token, status) in [
            ("GET", "/health", Some(&ann.access), 200),
            ("GET", "/api/csrf-token", Some(&ann.access), 200),
            (
                "GET",
                "/api/oauth/callback/facebook",
                Some(&ann.access),
                302,
            ),
            ("GET", "/api/auth/me", None, 401),
            ("GET", "/api/nothing", Some(&ann.access), 404),
            ("PUT", "/api/auth/me", Some(&ann.access), 405),
        ] {
            let token = token.map(String::as_str);
            let answer = hub.call(request(method, path, token, None)).await;
            assert_ne!(answer.status, 429, "{method} {path}");
            assert!(
                answer.status == status || answer.status < 404,
                "{path} {}",
                answer.status
            );
            assert!(!is_counted(&answer), "{method} {path}");
        }
        // Opening a thread marks everything in it.
        let path = "/api/messages/00000000-0000-0000-0000-000000000001/read";
        let answer = hub.by(&ann, "PATCH", path, None).await;
        assert_eq!((answer.status, is_counted(&answer)), (404, false));
    }
    assert_eq!(hub.count("commands").await, 30);
    let first = hub.get(&ann, "/api/auth/me").await;
    assert_eq!(first.header("x-ratelimit-remaining"), "2");
}

#[tokio::test]
async fn processes_on_one_redis_count_together_and_without_it_everything_passes() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let url = redis.url();
    let environment = [DEFAULTS.as_slice(), &[("REDIS_URL", url.as_str())]].concat();
    let hub = Hub::start_with(&environment).await;
    let ann = hub.person("ann").await;
    let routers = [
        hub.another(&environment).await,
        hub.another(&environment).await,
    ];
    let me = || request("GET", "/api/auth/me", Some(&ann.access), None);
    let calls = (0..101).map(|n| call(&routers[n % 2], me()));
    let statuses: Vec<u16> = join_all(calls).await.iter().map(|it| it.status).collect();
    let of = |status| statuses.iter().filter(|it| **it == status).count();
    assert_eq!((of(200), of(429)), (100, 1), "{statuses:?}");
    assert_eq!(call(&routers[0], me()).await.status, 429);

    redis.kill();
    for router in &routers {
        for _ in 0..5 {
            let answer = call(router, me()).await;
            assert_eq!((answer.status, is_counted(&answer)), (200, true));
        }
    }
    let body = json!({"email": "new@example.com", "password": PASSWORD});
    let registered = call(
        &routers[1],
        request("POST", "/api/auth/register", None, Some(&body)),
    );
    assert_eq!(registered.await.status, 201, "no write fails");
    let login = call(
        &routers[0],
        request("POST", "/api/auth/login", None, Some(&body)),
    );
    assert_eq!(login.await.status, 200);

    redis.start_again();
    let deadline = Instant::now() + Duration::from_secs(20);
    while call(&routers[0], me()).await.status != 429 {
        assert!(Instant::now() < deadline, "nobody counts again");
    }
    assert_eq!(call(&routers[1], me()).await.status, 429);
}

/// A login as it arrives from an address.
fn login(address: &str, email: &str, password: &str) -> Request<Body> {
    let body = json!({ "email": email, "password": password });
    let mut login = request("POST", "/api/auth/login", None, Some(&body));
    let address: IpAddr = address.parse().unwrap();
    login.extensions_mut().insert(Peer(address));
    login
}

#[tokio::test]
async fn guessing_waits_and_only_who_guesses() {
    let hub = Hub::start().await;
    hub.person("ann").await;
    let mut said: Vec<Value> = Vec::new();
    for email in ["ann@example.com", "nobody@example.com"] {
        // At once: a flood is not faster than one after the other.
        let tries = (0..30).map(|_| hub.call(login("10.0.0.1", email, "wrong horse")));
        let answers = join_all(tries).await;
        let of = |status| answers.iter().filter(|it| it.status == status).count();
        assert_eq!((of(401), of(429)), (10, 20));
        let refused = answers.iter().find(|it| it.status == 429).unwrap();
        assert_eq!(refused.code(), "RATE_LIMIT_EXCEEDED");
        assert_eq!(refused.header("retry-after"), "1");
        said.push(refused.body.clone());
    }
    assert_eq!(said[0], said[1], "nobody learns who has an account");
    // Ann herself, elsewhere, and somebody else at the same address.
    let elsewhere = hub.call(login("10.0.0.2", "ann@example.com", PASSWORD));
    assert_eq!(elsewhere.await.status, 200);
    hub.person("bob").await;
    let neighbour = hub.call(login("10.0.0.1", "bob@example.com", PASSWORD));
    assert_eq!(neighbour.await.status, 200);
}

#[tokio::test]
async fn the_right_password_has_to_wait_as_well_or_waiting_would_tell() {
    let hub = Hub::start().await;
    hub.person("ann").await;
    // Tasks of their own, so that those that nobody looks at any more go on.
    let router = hub.another(&[]).await;
    let mut wrong = JoinSet::new();
    for _ in 0..20 {
        let (router, login) = (
            router.clone(),
            login("10.0.0.1", "ann@example.com", "wrong horse"),
        );
        wrong.spawn(async move { call(&router, login).await.status });
    }
    while wrong.join_next().await.expect("a refusal").unwrap() != 429 {}
    let mut right = login("10.0.0.1", "ann@example.com", PASSWORD);
    // Nobody trusts a header that anybody can write.
    let headers = right.headers_mut();
    headers.insert("x-forwarded-for", "10.9.9.9".parse().unwrap());
    assert_eq!(call(&router, right).await.status, 429);
    wrong.join_all().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let right = login("10.0.0.1", "ann@example.com", PASSWORD);
    assert_eq!(call(&router, right).await.status, 200);
}

#[tokio::test]
async fn a_right_password_ends_the_counting() {
    let hub = Hub::start().await;
    hub.person("ann").await;
    for _ in 0..3 {
        for _ in 0..9 {
            let wrong = hub.call(login("10.0.0.1", "ann@example.com", "wrong horse"));
            assert_eq!(wrong.await.status, 401);
        }
        let right = hub.call(login("10.0.0.1", "Ann@Example.com", PASSWORD));
        assert_eq!(right.await.status, 200);
    }
}

#[tokio::test]
async fn the_password_of_an_erasure_cannot_be_guessed_either() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let body = json!({ "password": "wrong horse" });
    let tries = (0..15).map(|_| hub.by(&ann, "DELETE", "/api/auth/me", Some(&body)));
    let answers = join_all(tries).await;
    let of = |status| answers.iter().filter(|it| it.status == status).count();
    assert_eq!((of(401), of(429)), (10, 5));
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_address_it_saw_counts() {
    let hub = Hub::start_with(&[("HUB_TRUSTED_PROXIES", "1")]).await;
    hub.person("ann").await;
    let from = |client: &str, password: &str| {
        let mut login = login("10.0.0.1", "ann@example.com", password);
        let forwarded = format!("6.6.6.6, {client}").parse().unwrap();
        login.headers_mut().insert("x-forwarded-for", forwarded);
        hub.call(login)
    };
    let answers = join_all((0..15).map(|_| from("7.7.7.7", "wrong horse"))).await;
    assert_eq!(answers.iter().filter(|it| it.status == 429).count(), 5);
    assert_eq!(from("8.8.8.8", PASSWORD).await.status, 200);
}
