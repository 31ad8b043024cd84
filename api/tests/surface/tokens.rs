//! Asking for a new token, and what is left of an account's budget: the API asks and shows, a worker
//! does.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use hub_domain::command::{Command, RenewAnswer};
use hub_domain::id::{AccountId, Key, Place};
use hub_domain::platform::{Connected, Platform};
use hub_store::account::Owner;
use hub_store::commands;
use hub_store::limit::Budget;
use serde_json::json;

use crate::hub::{Answer, Hub, Person, request};

const FEW: [(&str, &str); 2] = [
    ("HUB_BUDGET_FACEBOOK", "3/3600"),
    ("HUB_OAUTH_CALLBACK_WAIT_MS", "700"),
];

/// An account with a token that expires then.
async fn account(hub: &Hub, of: &Person, expires_at: Option<DateTime<Utc>>) -> AccountId {
    let account = hub.account(of, Platform::Facebook, "page").await;
    let owner = Owner {
        user: of.user,
        account,
    };
    let connected = Connected {
        platform_user_id: "page".into(),
        username: "Page".into(),
        route: "page".into(),
        access_token: "a token".into(),
        refresh_token: None,
        expires_in_s: None,
        granted: None,
    };
    let store = hub.store();
    let kept = store.put_account_tokens(owner, &connected, expires_at);
    kept.await.unwrap();
    account
}

async fn refresh(hub: &Hub, who: &Person, account: AccountId) -> Answer {
    let path = format!("/api/oauth/refresh/{account}");
    hub.by(who, "POST", &path, None).await
}

/// The wishes in the command log: who waits for each.
async fn wishes(hub: &Hub, who: &Person) -> Vec<Key> {
    let shard = hub.store().sharding().of_user(who.user);
    let start = Place { shard, position: 0 };
    let received = commands::after(hub.store().pool(), start, 100).await;
    let answers = received.unwrap().into_iter().map(|it| match it.command {
        Ok(Command::Renew { user, answer, .. }) if user == who.user => answer,
        other => panic!("{other:?}"),
    });
    answers.collect()
}

/// Plays the worker: answers the wish after so many.
async fn work(hub: &Hub, who: &Person, nth: usize, answer: RenewAnswer) {
    let deadline = Instant::now() + Duration::from_secs(5);
    let key = loop {
        if let Some(key) = wishes(hub, who).await.get(nth) {
            break *key;
        }
        assert!(Instant::now() < deadline, "no wish arrived");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let shard = hub.store().sharding().of_user(who.user);
    hub.store().put_answer(shard, key, &answer).await.unwrap();
}

#[tokio::test]
async fn a_token_that_is_good_needs_no_worker() {
    let hub = Hub::start_with(&FEW).await;
    let ann = hub.person("ann").await;
    for expires_at in [None, Some(Utc::now() + TimeDelta::days(30))] {
        let account = account(&hub, &ann, expires_at).await;
        let answer = refresh(&hub, &ann, account).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.body["message"], "Token refreshed successfully");
    }
    assert!(wishes(&hub, &ann).await.is_empty());
    let bob = hub.person("bob").await;
    let account = account(&hub, &ann, None).await;
    let answer = refresh(&hub, &bob, account).await;
    assert_eq!((answer.status, answer.code()), (404, "ACCOUNT_NOT_FOUND"));
}

#[tokio::test]
async fn one_that_expires_is_left_to_a_worker_and_its_answer_is_told() {
    let hub = Hub::start_with(&FEW).await;
    let ann = hub.person("ann").await;
    let account = account(&hub, &ann, Some(Utc::now() + TimeDelta::days(1))).await;
    let (answer, ()) = tokio::join!(
        refresh(&hub, &ann, account),
        work(&hub, &ann, 0, RenewAnswer::Good)
    );
    assert_eq!(answer.status, 200, "{}", answer.text);
    for (nth, said) in [(1, RenewAnswer::Refused), (2, RenewAnswer::NotNow)] {
        let (answer, ()) = tokio::join!(refresh(&hub, &ann, account), work(&hub, &ann, nth, said));
        assert_eq!((answer.status, answer.code()), (500, "REFRESH_FAILED"));
        let details = &answer.body["error"]["details"];
        let needs = said == RenewAnswer::Refused;
        assert_eq!(details["needsReconnect"] == true, needs, "{}", answer.text);
    }
    // Nobody works: the wish stays, the request ends in time.
    let began = Instant::now();
    let answer = refresh(&hub, &ann, account).await;
    assert_eq!((answer.status, answer.code()), (500, "REFRESH_FAILED"));
    assert!(began.elapsed() < Duration::from_secs(3));
    assert_eq!(wishes(&hub, &ann).await.len(), 4);
    // Tokens that were refused are not asked for again.
    let owner = Owner {
        user: ann.user,
        account,
    };
    let state = hub.store().token_state(owner).await.unwrap().unwrap();
    let refused = hub.store().refuse_tokens(owner, state.version, "no");
    refused.await.unwrap();
    let answer = refresh(&hub, &ann, account).await;
    assert_eq!((answer.status, answer.code()), (500, "REFRESH_FAILED"));
    assert_eq!(wishes(&hub, &ann).await.len(), 4);
}

#[tokio::test]
async fn budgets_are_shown_and_a_spent_one_refuses_before_anything_is_accepted() {
    let hub = Hub::start_with(&FEW).await;
    let ann = hub.person("ann").await;
    let account = account(&hub, &ann, None).await;
    let thread = ann.thread(account, Platform::Facebook, "t_10");
    hub.receive(&ann, &thread, "m_1", "hello").await;
    let level = async || {
        let answer = hub.get(&ann, "/api/oauth/rate-limits").await;
        let limit = answer.body["rateLimits"][0].clone();
        assert_eq!(limit["accountId"], json!(account));
        assert_eq!(
            (&limit["limit"], &limit["windowMs"]),
            (&json!(3), &json!(3_600_000))
        );
        let reset = limit["resetAt"].as_str().unwrap().parse::<DateTime<Utc>>();
        let reset_s = (reset.unwrap() - Utc::now()).as_seconds_f64();
        (limit["remaining"].as_i64().unwrap(), reset_s)
    };
    let (remaining, reset_s) = level().await;
    assert_eq!(remaining, 3);
    assert!(reset_s > 3_590.0, "a window from now: {reset_s}");
    let budget = Budget::calls((3, Duration::from_secs(3_600)));
    let take = async || {
        let limits = hub.store().limits();
        limits.take(&account.to_string(), &[budget]).await.unwrap()
    };
    for left in [2, 1, 0] {
        assert_eq!(take().await.retry_after, None);
        let (remaining, reset_s) = level().await;
        assert_eq!(remaining, left);
        assert!(reset_s <= 3_600.0);
    }

    let path = format!("/api/messages/{}/send", thread.conversation);
    let body = json!({ "content": "hello" });
    let events = hub.count("events").await;
    let answer = hub.by(&ann, "POST", &path, Some(&body)).await;
    assert_eq!(
        (answer.status, answer.code()),
        (429, "PLATFORM_RATE_LIMIT_EXCEEDED")
    );
    let details = &answer.body["error"]["details"];
    assert_eq!(details["platform"], "facebook");
    assert_eq!(
        (&details["limit"], &details["windowMs"]),
        (&json!(3), &json!(3_600_000))
    );
    let seconds = details["retryAfter"].as_u64().unwrap();
    assert!((3_500..=3_600).contains(&seconds));
    assert_eq!(answer.header("retry-after"), seconds.to_string());
    assert_eq!(hub.count("events").await, events, "nothing was accepted");

    // Who does not wait for the outcome may wait for the budget.
    let mut call = request("POST", &path, Some(&ann.access), Some(&body));
    let headers = call.headers_mut();
    headers.insert("prefer", "respond-async".parse().unwrap());
    headers.insert("idempotency-key", "once".parse().unwrap());
    let answer = hub.call(call).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    // And what was accepted is told again, however the budget is.
    let mut call = request("POST", &path, Some(&ann.access), Some(&body));
    let headers = call.headers_mut();
    headers.insert("idempotency-key", "once".parse().unwrap());
    let answer = hub.call(call).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(hub.count("events").await, events + 1);
}
