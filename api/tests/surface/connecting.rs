//! Connecting an account: out to the platform and back.

use std::time::{Duration, Instant};

use hub_domain::command::{Command, ConnectAnswer, StoredGrant};
use hub_domain::event::AccountConnected;
use hub_domain::id::{AccountId, Place, account_id};
use hub_domain::signature::widget_sign;
use hub_store::commands;
use serde_json::{Value, json};

use crate::hub::{Answer, BOT_TOKEN, Hub, Person, request};

async fn begin(hub: &Hub, who: &Person, platform: &str) -> String {
    let path = format!("/api/oauth/connect/{platform}");
    let answer = hub.get(who, &path).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let state = answer.body["state"].as_str().unwrap().to_owned();
    assert_eq!(state.len(), 64);
    assert!(
        answer.body["authorizationUrl"]
            .as_str()
            .unwrap()
            .contains(&state)
    );
    state
}

/// Plays the worker: answers the next connect command.
async fn work(hub: &Hub, who: &Person, failing: Option<&str>) -> (StoredGrant, AccountId) {
    let shard = hub.store().sharding().of_user(who.user);
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let start = Place { shard, position: 0 };
        let received = commands::after(hub.store().pool(), start, 100)
            .await
            .unwrap();
        if let Some(last) = received.into_iter().next_back()
            && let Ok(Command::Connect {
                user,
                platform,
                grant,
                answer,
            }) = last.command
        {
            assert_eq!(user, who.user);
            let stored = serde_json::from_str(&who.key.open(&grant).unwrap()).unwrap();
            let account = account_id(user, platform, "1789");
            let outcome = match failing {
                Some(message) => ConnectAnswer::Failed {
                    message: message.to_owned(),
                },
                None => {
                    let connected = AccountConnected {
                        user,
                        account,
                        platform,
                        platform_user_id: "1789".to_owned(),
                        username: who.key.seal("ann"),
                        route: "1789".to_owned(),
                    };
                    hub.happen(user, account, connected).await;
                    ConnectAnswer::Connected {
                        account,
                        username: who.key.seal("ann"),
                    }
                }
            };
            hub.store()
                .put_answer(shard, answer, &outcome)
                .await
                .unwrap();
            return (stored, account);
        }
        assert!(Instant::now() < deadline, "no connect command arrived");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn visit(hub: &Hub, method: &str, path: &str) -> Answer {
    hub.call(request(method, path, None, None)).await
}

#[track_caller]
fn lands(answer: &Answer, query: &str) {
    assert_eq!(answer.status, 302, "{}", answer.text);
    assert_eq!(
        answer.header("location"),
        format!("https://app.example/connect?{query}")
    );
}

#[tokio::test]
async fn a_person_comes_back_with_an_account() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    for prefix in ["auth", "oauth"] {
        for method in ["GET", "POST"] {
            let state = begin(&hub, &ann, "facebook").await;
            let path = format!("/api/{prefix}/callback/facebook?code=c%2F1&state={state}");
            let (answer, (grant, account)) =
                tokio::join!(visit(&hub, method, &path), work(&hub, &ann, None));
            lands(
                &answer,
                &format!("success=true&platform=facebook&accountId={account}"),
            );
            assert!(matches!(grant, StoredGrant::Code { code, .. } if code == "c/1"));
            let accounts = hub.get(&ann, "/api/oauth/accounts").await;
            assert_eq!(accounts.body["accounts"][0]["id"], json!(account));
            // Single use.
            let answer = visit(&hub, method, &path).await;
            assert_eq!((answer.status, answer.code()), (400, "INVALID_STATE"));
            sqlx::query("DELETE FROM commands")
                .execute(hub.store().pool())
                .await
                .unwrap();
            sqlx::query("UPDATE shards SET head = 0 WHERE log = 'commands'")
                .execute(hub.store().pool())
                .await
                .unwrap();
        }
    }
}

#[tokio::test]
async fn a_form_is_as_good_as_a_query() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let state = begin(&hub, &ann, "facebook").await;
    let mut post = request("POST", "/api/auth/callback/facebook/", None, None);
    post.headers_mut().insert(
        "content-type",
        "application/x-www-form-urlencoded".parse().unwrap(),
    );
    *post.body_mut() = format!("code=c&state={state}").into();
    let (answer, (_, account)) = tokio::join!(hub.call(post), work(&hub, &ann, None));
    lands(
        &answer,
        &format!("success=true&platform=facebook&accountId={account}"),
    );
}

#[tokio::test]
async fn failures_are_told_on_the_clients_page() {
    let hub = Hub::start_with(&[("HUB_OAUTH_CALLBACK_WAIT_MS", "300")]).await;
    let ann = hub.person("ann").await;
    let state = begin(&hub, &ann, "facebook").await;
    let path = format!(
        "/api/auth/callback/facebook?error=access_denied&error_description=x&state={state}"
    );
    lands(
        &visit(&hub, "GET", &path).await,
        "error=access_denied&platform=facebook",
    );
    // The refusal used the state up.
    let path = format!("/api/auth/callback/facebook?code=c&state={state}");
    assert_eq!(visit(&hub, "GET", &path).await.code(), "INVALID_STATE");
    let answer = visit(&hub, "GET", "/api/auth/callback/teams?error=a%26b").await;
    lands(&answer, "error=a%26b&platform=teams");

    let state = begin(&hub, &ann, "facebook").await;
    let path = format!("/api/auth/callback/facebook?code=c&state={state}");
    let message = "You have no page & no luck";
    let (answer, _) = tokio::join!(visit(&hub, "GET", &path), work(&hub, &ann, Some(message)));
    lands(
        &answer,
        "error=callback_failed&platform=facebook&message=You+have+no+page+%26+no+luck",
    );

    let state = begin(&hub, &ann, "facebook").await;
    let path = format!("/api/auth/callback/facebook?code=c&state={state}");
    let answer = visit(&hub, "GET", &path).await;
    assert_eq!(answer.status, 302);
    assert!(
        answer
            .header("location")
            .contains("error=callback_failed&platform=facebook&message=")
    );
}

/// A mail scanner or a preview asks with HEAD before the person follows the link.
#[tokio::test]
async fn looking_at_a_callback_uses_nothing_up() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let state = begin(&hub, &ann, "facebook").await;
    for prefix in ["oauth", "auth"] {
        for query in ["code=c", "error=access_denied"] {
            let path = format!("/api/{prefix}/callback/facebook?{query}&state={state}");
            assert_eq!(visit(&hub, "HEAD", &path).await.status, 405);
        }
    }
    let path = format!("/api/auth/callback/facebook?code=c&state={state}");
    let (answer, _) = tokio::join!(visit(&hub, "GET", &path), work(&hub, &ann, None));
    assert!(answer.header("location").contains("success=true"));
}

#[tokio::test]
async fn odd_callbacks_are_refused() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let state = begin(&hub, &ann, "facebook").await;
    let other = format!("teams?code=c&state={state}");
    for (path, code) in [
        ("mastodon?code=c&state=s", "INVALID_PLATFORM"),
        ("facebook", "INVALID_CALLBACK"),
        ("facebook?code=c", "INVALID_CALLBACK"),
        ("facebook?state=s", "INVALID_CALLBACK"),
        ("facebook?code=&state=s", "INVALID_CALLBACK"),
        ("facebook?code=c&state=s", "INVALID_STATE"),
        ("facebook?code=c&state=%00", "INVALID_STATE"),
        ("telegram", "INVALID_CALLBACK"),
        ("telegram?code=c&state=s", "INVALID_CALLBACK"),
        ("telegram?hash=c&state=s", "INVALID_STATE"),
        (other.as_str(), "INVALID_STATE"),
    ] {
        for prefix in ["auth", "oauth"] {
            let answer = visit(&hub, "GET", &format!("/api/{prefix}/callback/{path}")).await;
            assert_eq!((answer.status, answer.code()), (400, code), "{path}");
        }
    }
    for (platform, status, code) in [
        ("mastodon", 400, "INVALID_PLATFORM"),
        ("Facebook", 400, "INVALID_PLATFORM"),
        ("twitter", 500, "CONNECTION_FAILED"),
    ] {
        let answer = hub
            .get(&ann, &format!("/api/oauth/connect/{platform}"))
            .await;
        assert_eq!((answer.status, answer.code()), (status, code), "{platform}");
    }
    assert_eq!(hub.count("commands").await, 0);
    let bare = Hub::start_with(&[("FACEBOOK_APP_ID", ""), ("TELEGRAM_BOT_TOKEN", "")]).await;
    let ann = bare.person("ann").await;
    for platform in ["facebook", "telegram"] {
        let answer = bare
            .get(&ann, &format!("/api/oauth/connect/{platform}"))
            .await;
        assert_eq!(
            (answer.status, answer.code()),
            (500, "CONNECTION_FAILED"),
            "{platform}"
        );
        assert!(
            answer.body["error"]["message"]
                .as_str()
                .unwrap()
                .contains("configured")
        );
    }
}

fn widget(state: &str) -> Vec<(String, String)> {
    let mut fields: Vec<(String, String)> = [
        ("id", "42"),
        ("first_name", "Ann"),
        ("username", "ann"),
        ("auth_date", &chrono::Utc::now().timestamp().to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    fields.push(("hash".to_owned(), widget_sign(BOT_TOKEN, &fields)));
    fields.push(("state".to_owned(), state.to_owned()));
    fields
}

fn body(fields: &[(String, String)]) -> Value {
    let mut body = json!({});
    for (name, value) in fields {
        body[name] = match (name.as_str(), value.parse::<i64>()) {
            ("id" | "auth_date", Ok(number)) => json!(number),
            _ => json!(value),
        };
    }
    body
}

#[tokio::test]
async fn the_telegram_widget_posts_json() {
    let hub = Hub::start().await;
    let (ann, eve) = (hub.person("ann").await, hub.person("eve").await);
    let path = "/api/auth/callback/telegram";
    let state = begin(&hub, &ann, "telegram").await;

    let refused = |answer: Answer, code: &str| {
        assert_eq!(
            (answer.status, answer.code()),
            (400, code),
            "{}",
            answer.text
        );
        assert_eq!(answer.body["message"], answer.body["error"]["message"]);
    };
    let mut forged = body(&widget(&state));
    forged["id"] = json!(43);
    refused(
        hub.by(&ann, "POST", path, Some(&forged)).await,
        "VALIDATION_ERROR",
    );
    let mut incomplete = body(&widget(&state));
    incomplete.as_object_mut().unwrap().remove("state");
    refused(
        hub.by(&ann, "POST", path, Some(&incomplete)).await,
        "INVALID_CALLBACK",
    );
    refused(
        hub.by(&ann, "POST", path, Some(&body(&widget("00")))).await,
        "INVALID_STATE",
    );

    let mut good = body(&widget(&state));
    good["ours"] = json!({"ignored": true});
    let (answer, (grant, account)) = tokio::join!(
        hub.by(&ann, "POST", path, Some(&good)),
        work(&hub, &ann, None)
    );
    assert_eq!(answer.status, 200, "{}", answer.text);
    let expected = json!({"success": true, "accountId": account, "username": "ann"});
    assert_eq!(answer.body, expected);
    assert!(
        matches!(grant, StoredGrant::Widget { id, username } if id == "42" && username == "ann")
    );
    refused(
        hub.by(&ann, "POST", path, Some(&good)).await,
        "INVALID_STATE",
    );

    // Somebody else's attempt.
    let state = begin(&hub, &ann, "telegram").await;
    let stolen = body(&widget(&state));
    refused(
        hub.by(&eve, "POST", path, Some(&stolen)).await,
        "INVALID_STATE",
    );
}

#[tokio::test]
async fn the_telegram_widget_may_redirect() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let query = |fields: &[(String, String)]| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        format!(
            "/api/auth/callback/telegram?{}",
            query.extend_pairs(fields).finish()
        )
    };
    let state = begin(&hub, &ann, "telegram").await;
    let path = query(&widget(&state));
    assert_eq!(visit(&hub, "HEAD", &path).await.status, 405);
    let (answer, (_, account)) = tokio::join!(visit(&hub, "GET", &path), work(&hub, &ann, None));
    lands(
        &answer,
        &format!("success=true&platform=telegram&accountId={account}"),
    );

    let state = begin(&hub, &ann, "telegram").await;
    let mut forged = widget(&state);
    forged[0].1 = "43".to_owned();
    let answer = visit(&hub, "GET", &query(&forged)).await;
    assert!(
        answer
            .header("location")
            .contains("error=callback_failed&platform=telegram&message=")
    );
}
