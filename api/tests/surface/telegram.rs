//! Telegram user accounts over the surface; the test plays the worker that holds the session.

use std::time::{Duration, Instant};

use chrono::Utc;
use hub_domain::event::AccountNeedsReconnect;
use hub_domain::id::{AccountId, Place, Shard};
use hub_domain::platform::telegram_user::{Answered, DialogShown, MessageShown, Wish};
use hub_domain::platform::{Connected, Platform};
use hub_store::account::Owner;
use hub_store::telegram::Wished;
use serde_json::{Value, json};

use crate::hub::{Answer, Hub, Person};

/// Credentials that are a session.
const SESSION: &str = r#"{"mtproto":1,"key":"k","seen":0}"#;

const CREDENTIALS: [(&str, &str); 2] = [
    ("TELEGRAM_API_ID", "71000001"),
    ("TELEGRAM_API_HASH", "00112233445566778899aabbccddeeff"),
];

/// Answers the next wish.
async fn work(hub: &Hub, answered: &Answered) -> (Option<AccountId>, Wish) {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let payload: Option<String> =
            sqlx::query_scalar("DELETE FROM jobs WHERE queue = 'telegram' RETURNING payload::text")
                .fetch_optional(hub.store().pool())
                .await
                .unwrap();
        if let Some(payload) = payload {
            // What people wrote and who they are stays sealed.
            assert!(
                !payload.contains("1555") && !payload.contains("teapot"),
                "{payload}"
            );
            let wished: Wished = serde_json::from_str(&payload).unwrap();
            assert!(wished.until > Utc::now());
            hub.store().answer_wish(&wished, answered).await.unwrap();
            let wish = hub.store().open_wish(&wished).await.unwrap();
            return (wished.account, wish);
        }
        assert!(Instant::now() < deadline, "nobody wished for anything");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn connected(hub: &Hub, who: &Person, name: &str, credential: &str) -> AccountId {
    let account = hub.account(who, Platform::Telegram, name).await;
    let owner = Owner {
        user: who.user,
        account,
    };
    let connected = Connected {
        platform_user_id: name.to_owned(),
        username: name.to_owned(),
        route: name.to_owned(),
        access_token: credential.into(),
        refresh_token: None,
        expires_in_s: None,
        granted: None,
    };
    let store = hub.store();
    store
        .put_account_tokens(owner, &connected, None)
        .await
        .unwrap();
    account
}

async fn post(hub: &Hub, who: &Person, path: &str, body: &Value) -> Answer {
    hub.by(who, "POST", path, Some(body)).await
}

/// The error is what the person reads.
#[track_caller]
fn says(answer: &Answer, status: u16, error: &str) {
    assert_eq!(answer.status, status, "{}", answer.text);
    assert_eq!(answer.body["error"], error);
    assert!(answer.body["code"].is_string() && answer.body["retryable"].is_boolean());
}

#[tokio::test]
async fn a_hub_without_credentials_says_so() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let code = json!({ "phoneNumber": "+15551234567", "phoneCode": "1", "phoneCodeHash": "h" });
    for route in ["phone", "verify"] {
        let answer = post(&hub, &ann, &format!("/api/telegram/auth/{route}"), &code).await;
        let error = "Telegram sign-in is not set up on this hub: TELEGRAM_API_ID and \
            TELEGRAM_API_HASH are missing.";
        says(&answer, 503, error);
    }
}

#[tokio::test]
async fn signing_in() {
    let hub = Hub::start_with(&CREDENTIALS).await;
    let ann = hub.person("ann").await;
    let phone = "/api/telegram/auth/phone";
    let verify = "/api/telegram/auth/verify";
    for (body, error) in [
        (json!({}), "Phone number required"),
        (json!({ "phoneNumber": " " }), "Phone number required"),
        (
            json!({ "phoneNumber": "call me" }),
            "Phone number must be digits with the country code, as in +15551234567",
        ),
    ] {
        says(&post(&hub, &ann, phone, &body).await, 400, error);
    }
    let body = json!({ "phoneNumber": "+1 (555) 123-4567" });
    let sent = Answered::CodeSent {
        hash: "abc".to_owned(),
    };
    let asked = post(&hub, &ann, phone, &body);
    let (answer, (account, wish)) = tokio::join!(asked, work(&hub, &sent));
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(
        answer.body,
        json!({ "success": true, "phoneCodeHash": "abc" })
    );
    assert!(account.is_none());
    assert!(matches!(wish, Wish::Phone { phone } if phone == "+15551234567"));

    let refused = Answered::Refused {
        message: "Telegram asks to wait 30 seconds before the next try.".to_owned(),
        retry_after_s: Some(30),
        by_person: true,
    };
    let (answer, _) = tokio::join!(post(&hub, &ann, phone, &body), work(&hub, &refused));
    says(
        &answer,
        429,
        "Telegram asks to wait 30 seconds before the next try.",
    );
    assert_eq!(answer.header("retry-after"), "30");

    let mut body = json!({ "phoneNumber": "+15551234567" });
    says(
        &post(&hub, &ann, verify, &body).await,
        400,
        "Phone code required",
    );
    body["phoneCode"] = json!("12345");
    body["phoneCodeHash"] = json!("abc");
    let asked = post(&hub, &ann, verify, &body);
    let (answer, _) = tokio::join!(asked, work(&hub, &Answered::PasswordNeeded));
    assert_eq!(
        (answer.status, &answer.body),
        (200, &json!({ "success": false, "needPassword": true }))
    );
    body["password"] = json!("teapot");
    let account = hub.account(&ann, Platform::Telegram, "42").await;
    let done = Answered::SignedIn {
        account,
        username: "ann".to_owned(),
    };
    let (answer, (_, wish)) = tokio::join!(post(&hub, &ann, verify, &body), work(&hub, &done));
    assert_eq!(
        answer.body,
        json!({ "success": true, "accountId": account, "username": "ann" })
    );
    assert!(matches!(
        wish,
        Wish::Verify { password: Some(password), hash, .. }
            if password == "teapot" && hash == "abc"
    ));
    let wrong = Answered::Refused {
        message: "The code is wrong.".to_owned(),
        retry_after_s: None,
        by_person: true,
    };
    let (answer, _) = tokio::join!(post(&hub, &ann, verify, &body), work(&hub, &wrong));
    says(&answer, 400, "The code is wrong.");
}

#[tokio::test]
async fn a_session_is_asked_and_only_its_owner_s() {
    let hub = Hub::start_with(&CREDENTIALS).await;
    let ann = hub.person("ann").await;
    let bob = hub.person("bob").await;
    let account = connected(&hub, &ann, "42", SESSION).await;
    let bot = connected(&hub, &ann, "7100000001", "7100000001:AAHub").await;
    let page = hub.account(&ann, Platform::Facebook, "PAGE1").await;
    let nobody = uuid::Uuid::new_v4();
    let text = json!({ "text": "hi" });
    for (who, id) in [
        (&bob, account.to_string()),
        (&ann, bot.to_string()),
        (&ann, page.to_string()),
        (&ann, nobody.to_string()),
    ] {
        for (method, rest) in [
            ("GET", "dialogs"),
            ("GET", "messages/777"),
            ("POST", "send/777"),
            ("POST", "sync"),
            ("POST", "reset"),
        ] {
            // A client looks for what is new before it shows any account: a bot misses nothing.
            let is_content = id == bot.to_string() && rest == "sync";
            let path = format!("/api/telegram/{id}/{rest}");
            let body = (method == "POST").then_some(&text);
            if is_content {
                let answer = hub.by(who, method, &path, body).await;
                assert_eq!(answer.status, 200, "{}", answer.text);
                assert_eq!(answer.body["message"], "Messages synced successfully");
                continue;
            }
            let answer = hub.by(who, method, &path, body).await;
            says(&answer, 404, "Account not found or inactive");
            assert_eq!(answer.body["code"], "ACCOUNT_NOT_FOUND");
        }
    }

    let path = format!("/api/telegram/{account}");
    let dialog = DialogShown {
        id: "777".to_owned(),
        name: "Bob".to_owned(),
        is_user: true,
        is_group: false,
        unread_count: 2,
        date: 1_767_225_600,
    };
    let answered = Answered::Dialogs {
        dialogs: vec![dialog],
    };
    let dialogs = format!("{path}/dialogs?limit=7");
    let (answer, (of, wish)) = tokio::join!(hub.get(&ann, &dialogs), work(&hub, &answered));
    assert_eq!(
        answer.body,
        json!({ "dialogs": [{
            "id": "777", "name": "Bob", "isUser": true, "isGroup": false, "unreadCount": 2,
            "date": 1_767_225_600,
        }] })
    );
    assert_eq!(of, Some(account));
    assert!(matches!(wish, Wish::Dialogs { limit: 7 }));

    let message = MessageShown {
        id: "9".to_owned(),
        text: "hi".to_owned(),
        sender_id: "777".to_owned(),
        date: 1_767_225_600,
        out: false,
    };
    let answered = Answered::Messages {
        messages: vec![message],
    };
    let messages = format!("{path}/messages/-1002210033001");
    let (answer, (_, wish)) = tokio::join!(hub.get(&ann, &messages), work(&hub, &answered));
    assert_eq!(
        answer.body,
        json!({ "messages": [{
            "id": "9", "text": "hi", "senderId": "777", "date": 1_767_225_600, "out": false,
        }] })
    );
    assert!(matches!(
        wish,
        Wish::Messages { thread, limit: 50 } if thread == "-1002210033001"
    ));
    let odd = hub.get(&ann, &format!("{path}/messages/bob")).await;
    says(&odd, 400, "The chat in the path must be a number");

    let sync = format!("{path}/sync");
    let asked = hub.by(&ann, "POST", &sync, None);
    let (answer, (of, wish)) = tokio::join!(asked, work(&hub, &Answered::Syncing));
    let message = "Messages synced successfully";
    assert_eq!(answer.body, json!({ "success": true, "message": message }));
    assert_eq!(of, Some(account));
    assert!(matches!(wish, Wish::Sync {}));
    let broken = Answered::Refused {
        message: "Telegram was not reached. Please try again.".to_owned(),
        retry_after_s: None,
        by_person: false,
    };
    let (answer, _) = tokio::join!(hub.get(&ann, &dialogs), work(&hub, &broken));
    says(&answer, 502, "Telegram was not reached. Please try again.");

    let empty = post(&hub, &ann, &format!("{path}/send/777"), &json!({})).await;
    says(&empty, 400, "Text required");
    let sent = post(&hub, &ann, &format!("{path}/send/777"), &text).await;
    assert_eq!(sent.status, 200, "{}", sent.text);
    assert_eq!(sent.body["message"]["content"], "hi");
    let conversations = hub.get(&ann, "/api/conversations").await;
    let row = &conversations.body["conversations"][0];
    assert_eq!(row["platformConversationId"], "777");
}

/// The request is an event of the caller's; whoever fulfils it says under which key the look begins.
#[tokio::test]
async fn a_reset_is_written_down_and_answered_when_the_look_begins() {
    let hub = Hub::start_with(&CREDENTIALS).await;
    let ann = hub.person("ann").await;
    let account = connected(&hub, &ann, "42", SESSION).await;
    let owner = Owner {
        user: ann.user,
        account,
    };
    let path = format!("/api/telegram/{account}/reset");
    let store = hub.store();
    let worked = async {
        let deadline = Instant::now() + Duration::from_secs(5);
        let place = loop {
            let found: Option<(i16, i64)> = sqlx::query_as(
                "SELECT shard, position FROM events WHERE kind = 'ResetRequested' AND stream = $1",
            )
            .bind(account.0)
            .fetch_optional(store.pool())
            .await
            .unwrap();
            if let Some((shard, position)) = found {
                let shard = Shard(shard);
                break Place { shard, position };
            }
            assert!(Instant::now() < deadline, "nobody wants a reset");
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let (user, within) = (owner.user, Duration::from_secs(5));
        let wish = Wish::Sync {};
        let key = store.wish_of_telegram(user, Some(account), &wish, within);
        store.tell_reset(place, key.await.unwrap()).await.unwrap();
        work(&hub, &Answered::Syncing).await
    };
    let (answer, _) = tokio::join!(hub.by(&ann, "POST", &path, None), worked);
    let message = "Reset and synced successfully";
    assert_eq!(answer.body, json!({ "success": true, "message": message }));

    let event = AccountNeedsReconnect {
        user: ann.user,
        account,
        reason: "revoked".to_owned(),
    };
    hub.happen(ann.user, account, event).await;
    let refused = hub.by(&ann, "POST", &path, None).await;
    let error = "Telegram no longer accepts this session. Please sign in again.";
    says(&refused, 422, error);
    let asked: i64 =
        sqlx::query_scalar("SELECT count(*) FROM events WHERE kind = 'ResetRequested'")
            .fetch_one(store.pool())
            .await
            .unwrap();
    assert_eq!(asked, 1, "what cannot be fetched anew is not forgotten");
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_not_waited_for() {
    let hub = Hub::start_with(&[
        CREDENTIALS[0],
        CREDENTIALS[1],
        ("HUB_OAUTH_CALLBACK_WAIT_MS", "50"),
    ])
    .await;
    let ann = hub.person("ann").await;
    let account = connected(&hub, &ann, "42", SESSION).await;
    let answer = hub
        .get(&ann, &format!("/api/telegram/{account}/dialogs"))
        .await;
    says(&answer, 500, "Telegram was not reached. Please try again.");
    assert_eq!(answer.body["retryable"], true);
}
