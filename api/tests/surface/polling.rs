//! Asking platforms what is new. The worker is played here: the API only makes the wish known.

use std::time::{Duration, Instant};

use hub_domain::command::{Command, PollAnswer};
use hub_domain::id::{AccountId, Key, Place};
use hub_domain::platform::Platform;
use hub_store::commands;
use serde_json::{Value, json};

use crate::hub::{Hub, Person};

/// The wishes in the log, in order.
async fn wishes(hub: &Hub, who: &Person) -> Vec<(AccountId, Option<String>, Key)> {
    let shard = hub.store().sharding().of_user(who.user);
    let start = Place { shard, position: 0 };
    let received = commands::after(hub.store().pool(), start, 100).await;
    let wishes = received.unwrap().into_iter().filter_map(|it| {
        let Ok(Command::PollAccount {
            user,
            account,
            since,
            answer,
        }) = it.command
        else {
            return None;
        };
        assert_eq!(user, who.user);
        assert!(it.request.is_some());
        Some((account, since.map(|at| at.to_rfc3339()), answer))
    });
    wishes.collect()
}

/// Plays the worker for the next wish about an account.
async fn work(hub: &Hub, who: &Person, account: AccountId, nth: usize, answer: &PollAnswer) {
    let shard = hub.store().sharding().of_user(who.user);
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let all = wishes(hub, who).await;
        if let Some((.., key)) = all.iter().filter(|(own, ..)| *own == account).nth(nth) {
            hub.store().put_answer(shard, *key, answer).await.unwrap();
            return;
        }
        assert!(Instant::now() < deadline, "nobody wished for a poll");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn failed(message: &str, retryable: bool, retry_after_s: Option<u64>) -> PollAnswer {
    PollAnswer::Failed {
        message: message.to_owned(),
        retryable,
        retry_after_s,
    }
}

#[tokio::test]
async fn one_account_that_fails_does_not_fail_the_others() {
    let hub = Hub::start_with(&[("HUB_POLL_WAIT_MS", "400")]).await;
    let ann = hub.person("ann").await;
    let good = hub.account(&ann, Platform::Facebook, "PAGE1").await;
    let bad = hub.account(&ann, Platform::Facebook, "PAGE2").await;
    let slow = hub.account(&ann, Platform::Facebook, "PAGE3").await;
    let pushed = hub.account(&ann, Platform::Telegram, "777").await;
    let since = json!({ "since": "2026-01-31T10:30:00+01:00" });
    let three = PollAnswer::Polled { messages: 3 };
    let lost = failed("facebook could not be asked: it is away", true, None);
    let (answer, (), ()) = tokio::join!(
        hub.by(&ann, "POST", "/api/messages/sync", Some(&since)),
        work(&hub, &ann, good, 0, &three),
        work(&hub, &ann, bad, 0, &lost),
    );
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.body["success"], true);
    assert_eq!(answer.body["totalMessages"], 3);
    let results = answer.body["accountResults"].as_array().unwrap();
    assert_eq!(results.len(), 4);
    let of = |account: AccountId| {
        let id = json!(account);
        results.iter().find(|it| it["accountId"] == id).unwrap()
    };
    let error = |account| of(account)["error"].as_str().unwrap_or_default().to_owned();
    assert_eq!(of(good)["messageCount"], 3);
    assert_eq!(of(good)["success"], true);
    assert!(of(good).get("error").is_none());
    assert_eq!(of(bad)["success"], false);
    assert_eq!(error(bad), "facebook could not be asked: it is away");
    assert!(error(slow).contains("takes longer"), "{}", error(slow));
    assert!(error(pushed).contains("pushes"), "{}", error(pushed));
    let asked = wishes(&hub, &ann).await;
    assert_eq!(asked.len(), 3, "a platform that pushes is not asked");
    for (_, since, _) in asked {
        assert_eq!(since.as_deref(), Some("2026-01-31T09:30:00+00:00"));
    }
}

#[tokio::test]
async fn a_sync_reads_its_body_before_it_asks() {
    let hub = Hub::start_with(&[("HUB_POLL_WAIT_MS", "10")]).await;
    let ann = hub.person("ann").await;
    hub.account(&ann, Platform::Facebook, "PAGE1").await;
    for odd in [
        json!({"since": "yesterday"}),
        json!({"since": 5}),
        json!([]),
    ] {
        let answer = hub.by(&ann, "POST", "/api/messages/sync", Some(&odd)).await;
        assert_eq!((answer.status, answer.code()), (400, "VALIDATION_ERROR"));
    }
    assert!(wishes(&hub, &ann).await.is_empty());
    let answer = hub.by(&ann, "POST", "/api/messages/sync", None).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let nobody = hub.person("bob").await;
    let answer = hub.by(&nobody, "POST", "/api/messages/sync", None).await;
    assert_eq!(answer.body["accountResults"], json!([]));
}

#[tokio::test]
async fn a_poll_tells_how_it_went() {
    let hub = Hub::start_with(&[("HUB_POLL_WAIT_MS", "300")]).await;
    let ann = hub.person("ann").await;
    let account = hub.account(&ann, Platform::Facebook, "PAGE1").await;
    let path = format!("/api/messages/poll/{account}");
    let cases = [
        (PollAnswer::Polled { messages: 2 }, 200, ""),
        (
            failed("slow down", true, Some(40)),
            429,
            "PLATFORM_RATE_LIMIT_EXCEEDED",
        ),
        (failed("it is away", true, None), 502, "PLATFORM_API_ERROR"),
        (failed("it says no", false, None), 422, "PLATFORM_API_ERROR"),
    ];
    for (nth, (said, status, code)) in cases.iter().enumerate() {
        let (answer, ()) = tokio::join!(
            hub.by(&ann, "POST", &path, None),
            work(&hub, &ann, account, nth, said),
        );
        assert_eq!(answer.status, *status, "{}", answer.text);
        if *status == 200 {
            assert_eq!(answer.body["messageCount"], 2);
            assert_eq!(answer.body["account"]["id"], json!(account));
            assert_eq!(answer.body["account"]["platform"], "facebook");
            assert!(answer.body["account"]["username"].is_string());
        } else {
            assert_eq!(answer.code(), *code);
            assert_eq!(answer.body["error"]["retryable"], *status != 422);
        }
        if *status == 429 {
            assert_eq!(answer.header("retry-after"), "40");
        }
    }
    let answer = hub.by(&ann, "POST", &path, None).await;
    assert_eq!((answer.status, answer.code()), (502, "PLATFORM_API_ERROR"));
    let pushed = hub.account(&ann, Platform::Telegram, "777").await;
    let path = format!("/api/messages/poll/{pushed}");
    let answer = hub.by(&ann, "POST", &path, None).await;
    assert_eq!((answer.status, answer.code()), (422, "PLATFORM_API_ERROR"));
    let path = format!("/api/oauth/disconnect/{account}");
    assert_eq!(hub.by(&ann, "DELETE", &path, None).await.status, 200);
    let path = format!("/api/messages/poll/{account}");
    let answer = hub.by(&ann, "POST", &path, None).await;
    assert_eq!((answer.status, answer.code()), (404, "ACCOUNT_NOT_FOUND"));
}

#[tokio::test]
async fn looking_into_polls_shows_ones_own_accounts_and_no_secret() {
    let hub = Hub::start_with(&[("INSTAGRAM_APP_ID", "123456")]).await;
    let ann = hub.person("ann").await;
    let page = hub.account(&ann, Platform::Facebook, "PAGE1").await;
    let bird = hub.account(&ann, Platform::Twitter, "200").await;
    let thread = ann.thread(bird, Platform::Twitter, "t_1");
    hub.receive(&ann, &thread, "m_1", "hello").await;
    let answer = hub
        .get(&ann, &format!("/api/messages/debug/twitter/{bird}"))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.body["conversationsCount"], 1);
    let conversations = answer.body["conversations"].as_array().unwrap();
    assert_eq!(conversations[0]["id"], json!(thread.conversation));
    assert_eq!(answer.body["account"]["platform"], "twitter");

    let path = format!("/api/debug/polling/{page}");
    let answer = hub.by(&ann, "POST", &path, None).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let text = format!("Polling triggered for account {page}");
    assert_eq!(answer.body, json!({"success": true, "message": text}));
    assert_eq!(wishes(&hub, &ann).await.len(), 1);

    let answer = hub.get(&ann, "/api/debug/polling/stats").await;
    let stats = &answer.body["stats"];
    assert!(stats["activeAccounts"].as_i64().unwrap() >= 1);
    assert_eq!(stats["totalPolls"], 0);
    assert_eq!(stats["lastPollTime"], Value::Null);

    let answer = hub.get(&ann, "/api/debug/instagram-config").await;
    let config = &answer.body["config"];
    assert_eq!(config["appIdConfigured"], true);
    assert_eq!(config["appIdFirstChars"], "1234");
    assert_eq!(config["appIdLength"], 6);
    assert_eq!(config["appSecretLength"], "fb-secret".len());
    assert!(!answer.text.contains("fb-secret"));
    assert!(
        config["authUrl"]
            .as_str()
            .unwrap()
            .contains("client_id=123456")
    );
}
