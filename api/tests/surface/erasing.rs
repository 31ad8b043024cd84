//! A person who wants to be forgotten, and what is shown of content that is gone.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use chrono::{Days, Utc};
use hub_domain::event::{Event, MessageReceived};
use hub_domain::id::Place;
use hub_domain::platform::Platform;
use hub_domain::secret::Secret;
use hub_store::{Options, Store, read};
use serde_json::json;
use uuid::Uuid;

use crate::hub::{Hub, PASSWORD, request};
use crate::table::guarded;

const ME: &str = "/api/auth/me";

#[tokio::test]
async fn who_shows_their_password_is_forgotten_at_once_and_everywhere() {
    let hub = Hub::start().await;
    let (ann, eve) = (hub.person("ann").await, hub.person("eve").await);
    for person in [&ann, &eve] {
        let account = hub.account(person, Platform::Facebook, "PAGE1").await;
        let thread = person.thread(account, Platform::Facebook, "PSID9");
        hub.receive(person, &thread, "m_1", "for their eyes").await;
    }
    let body = json!({ "password": PASSWORD });

    // Nothing happens to who does not show it.
    let none = hub.by(&ann, "DELETE", ME, None).await;
    assert_eq!((none.status, none.code()), (400, "VALIDATION_ERROR"));
    let wrong = json!({ "password": "incorrect horse" });
    let wrong = hub.by(&ann, "DELETE", ME, Some(&wrong)).await;
    assert_eq!((wrong.status, wrong.code()), (401, "AUTHENTICATION_FAILED"));
    let stranger = hub.call(request("DELETE", ME, None, Some(&body))).await;
    assert_eq!((stranger.status, stranger.code()), (401, "UNAUTHORIZED"));
    hub.get(&ann, ME).await.expect(StatusCode::OK);

    // No worker runs here, so nobody takes leave of platforms, and nobody waits long for it.
    let began = Instant::now();
    let done = hub.by(&ann, "DELETE", ME, Some(&body)).await;
    let done = done.expect(StatusCode::OK);
    assert!(done.body["message"].is_string());
    assert!(began.elapsed() < Duration::from_secs(5));
    let erased = hub.store().vault().is_erased_now(ann.user).await;
    assert!(erased.unwrap());
    let shard = hub.store().sharding().of_user(ann.user);
    let start = Place { shard, position: 0 };
    let log = read::after(hub.store().pool(), start, 1_000).await.unwrap();
    let last = log
        .iter()
        .rfind(|it| matches!(&it.event, Event::UserErased(it) if it.user == ann.user));
    assert_eq!(last.unwrap().meta.actor, Some(ann.user.0));

    for route in guarded() {
        let (method, path) = (route.method, route.at(Uuid::now_v7()));
        let answer = hub.by(&ann, method, &path, Some(&body)).await;
        assert_eq!(answer.status, 401, "{method} {path}: {}", answer.text);
        let code = match path.starts_with("/api/telegram/") {
            true => answer.flat_code(),
            false => answer.code(),
        };
        assert_eq!(code, "INVALID_TOKEN", "{method} {path}");
    }
    let login = json!({ "email": ann.email, "password": PASSWORD });
    let refused = hub.post("/api/auth/login", &login).await;
    assert_eq!(
        (refused.status, refused.code()),
        (401, "AUTHENTICATION_FAILED")
    );
    let refresh = json!({ "refreshToken": ann.refresh });
    let refused = hub.post("/api/auth/refresh", &refresh).await;
    assert_eq!(
        (refused.status, refused.code()),
        (401, "TOKEN_REFRESH_FAILED")
    );

    // Somebody else with the same page notices nothing.
    let seen = hub.get(&eve, "/api/messages").await;
    assert_eq!(seen.body["messages"][0]["content"], "for their eyes");

    // The address is free, and whoever takes it begins with nothing.
    let again = hub.person("ann").await;
    assert_ne!(again.user, ann.user);
    for list in ["/api/messages", "/api/conversations"] {
        assert_eq!(hub.get(&again, list).await.body["count"], 0, "{list}");
    }
    let path = "/api/oauth/accounts?includeInactive=true";
    assert_eq!(hub.get(&again, path).await.body["accounts"], json!([]));
    let old = hub.get(&ann, ME).await;
    assert_eq!(old.status, 401, "the old token is not the new user's");
}

#[tokio::test]
async fn another_process_refuses_an_erased_persons_token_within_a_moment() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    hub.get(&ann, ME).await.expect(StatusCode::OK);
    let elsewhere = Store::open(Options {
        database_url: Secret::new(hub.database_url()),
        connections_max: 2,
        readers_max: 4,
        redis_url: None,
        encryption_key: Secret::new("the encryption key of a test"),
    });
    let elsewhere = elsewhere.await.unwrap();
    let meta = hub_domain::envelope::Meta::default();
    let begun = elsewhere.begin_erasure(ann.user, meta).await.unwrap();
    elsewhere.finish_erasure(ann.user, begun).await.unwrap();
    let deadline = Instant::now() + Duration::from_millis(1_500);
    while hub.get(&ann, "/api/messages").await.status != 401 {
        assert!(Instant::now() < deadline, "still let in");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn content_past_its_days_shows_as_a_mark_and_names_stay() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let account = hub.account(&ann, Platform::Facebook, "PAGE1").await;
    let thread = ann.thread(account, Platform::Facebook, "PSID9");
    let vault = hub.store().vault();
    for (id, age) in [("m_0", 0), ("m_1", 1), ("m_9", 9)] {
        let at = Utc::now() - Days::new(age);
        let content = vault.content(ann.user, at, None).await.unwrap();
        let mut message = hub.message(&ann, &thread, id, "");
        message.text = content.seal(&format!("{age} days old"));
        message.sent_at = at;
        hub.happen(ann.user, thread.conversation, MessageReceived(message))
            .await;
    }
    let first = Utc::now().date_naive() - Days::new(2);
    vault.erase_days_before(first).await.unwrap();
    for path in [
        "/api/messages".to_owned(),
        format!("/api/messages/{}", thread.conversation),
    ] {
        let answer = hub.get(&ann, &path).await.expect(StatusCode::OK);
        let shown: Vec<&str> = answer.body["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["content"].as_str().unwrap())
            .collect();
        assert_eq!(shown, ["0 days old", "1 days old", "[erased]"], "{path}");
        assert_eq!(answer.body["messages"][2]["senderName"], "Bob");
    }
    let list = hub.get(&ann, "/api/conversations").await;
    assert_eq!(list.body["conversations"][0]["participantName"], "Bob");
}
