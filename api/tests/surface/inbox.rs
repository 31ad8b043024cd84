//! Reading: accounts, conversations, threads, unread counts, and marks.

use axum::http::StatusCode;
use chrono::{TimeDelta, Utc};
use hub_domain::event::FailureClass;
use hub_domain::event::{
    AccountDisconnected, MessageQueued, MessageSent, MessageType, Receipt, ReceiptReceived,
    SendFailed,
};
use hub_domain::id::MessageId;
use hub_domain::platform::Platform;
use serde_json::{Value, json};
use sqlx::Row as _;
use uuid::Uuid;

use crate::hub::{Hub, conversation_of, uuid};

const NAMES_OF_MESSAGE: [&str; 14] = [
    "content",
    "conversationId",
    "createdAt",
    "deliveredAt",
    "id",
    "isOutgoing",
    "isRead",
    "mediaUrl",
    "messageType",
    "platformMessageId",
    "senderId",
    "senderName",
    "sentAt",
    "status",
];

fn names(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

#[tokio::test]
async fn an_inbox_is_read_and_marked_read() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let page = hub.account(&ann, Platform::Facebook, "page").await;
    hub.account(&ann, Platform::Telegram, "bot").await;
    let thread = ann.thread(page, Platform::Facebook, "t_10");
    let first = hub.receive(&ann, &thread, "m_1", "1 < 2 & <b>3</b>").await;
    let second = hub.receive(&ann, &thread, "m_2", "👋").await;
    let third = hub.receive(&ann, &thread, "m_3", "").await;

    let unread = hub.get(&ann, "/api/messages/unread/count").await;
    assert_eq!(
        unread.body,
        json!({"total": 3, "byPlatform": {"facebook": 3, "telegram": 0}})
    );

    let list = hub.get(&ann, "/api/conversations/?platform=facebook").await;
    let conversation = &list.body["conversations"][0];
    for (name, value) in [
        ("platform", json!("facebook")),
        ("accountId", json!(page)),
        ("platformUsername", json!("The page")),
        ("platformConversationId", json!("t_10")),
        ("participantName", json!("Bob")),
        ("participantId", json!("PSID9")),
        ("participantAvatarUrl", Value::Null),
        ("unreadCount", json!(3)),
        ("hasUnread", json!(true)),
    ] {
        assert_eq!(conversation[name], value, "{name}");
    }
    assert_eq!(conversation_of(&conversation["id"]), thread.conversation);
    let totals = json!({"count": 1, "total": 1, "limit": 50, "offset": 0, "hasMore": false});
    for (name, value) in totals.as_object().unwrap() {
        assert_eq!(list.body[name], *value);
    }
    let one = hub
        .get(&ann, &format!("/api/conversations/{}", thread.conversation))
        .await;
    assert_eq!(one.body, *conversation);
    let other = hub.get(&ann, "/api/conversations?platform=telegram").await;
    assert_eq!(other.body["total"], 0);

    let path = format!("/api/messages/{}", thread.conversation);
    let page = hub.get(&ann, &format!("{path}?limit=2&offset=0")).await;
    assert_eq!(page.body["hasMore"], true);
    assert_eq!(
        (&page.body["count"], &page.body["total"]),
        (&json!(2), &json!(3))
    );
    let rest = hub.get(&ann, &format!("{path}?limit=2&offset=2")).await;
    assert_eq!(rest.body["hasMore"], false);
    let message = &rest.body["messages"][0];
    assert_eq!(uuid(&message["id"]), first.0);
    assert_eq!(names(message), NAMES_OF_MESSAGE);
    assert_eq!(message["content"], "1 < 2 & <b>3</b>");
    assert_eq!(
        (&message["senderName"], &message["senderId"]),
        (&json!("Bob"), &json!("PSID9"))
    );
    assert_eq!(
        (&message["isOutgoing"], &message["isRead"]),
        (&json!(false), &json!(false))
    );
    let ids: Vec<Uuid> = [&page, &rest]
        .iter()
        .flat_map(|it| it.body["messages"].as_array().unwrap())
        .map(|it| uuid(&it["id"]))
        .collect();
    assert_eq!(ids, [third.0, second.0, first.0]);

    let events = hub.count("events").await;
    for _ in 0..2 {
        let path = format!("/api/messages/{first}/read");
        let answer = hub
            .by(&ann, "PATCH", &path, None)
            .await
            .expect(StatusCode::OK);
        assert_eq!(
            answer.body,
            json!({"success": true, "message": "Message marked as read"})
        );
        let unread = hub.get(&ann, "/api/messages/unread/count").await;
        assert_eq!(unread.body["total"], 2);
    }
    assert_eq!(hub.count("events").await, events + 1);
    let path = format!("/api/messages/conversation/{}/read", thread.conversation);
    for _ in 0..2 {
        let answer = hub
            .by(&ann, "PATCH", &path, None)
            .await
            .expect(StatusCode::OK);
        assert_eq!(answer.body["message"], "All messages marked as read");
    }
    assert_eq!(hub.count("events").await, events + 2);
    let unread = hub.get(&ann, "/api/messages/unread/count").await;
    assert_eq!(
        unread.body,
        json!({"total": 0, "byPlatform": {"facebook": 0, "telegram": 0}})
    );
    let all = hub.get(&ann, "/api/messages").await;
    assert_eq!(all.body["count"], 3);
    let messages = all.body["messages"].as_array().unwrap();
    assert!(messages.iter().all(|it| it["isRead"] == true));
}

#[tokio::test]
async fn receipts_tick_what_the_platform_has() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let account = hub.account(&ann, Platform::Facebook, "page").await;
    let thread = ann.thread(account, Platform::Facebook, "t_10");
    hub.receive(&ann, &thread, "m_1", "hello").await;
    let queue = async |text: &str| {
        let message = MessageId(Uuid::now_v7());
        let queued = MessageQueued {
            at: thread.clone(),
            message,
            message_type: MessageType::Text,
            text: ann.key.seal(text),
            attached: None,
        };
        hub.happen(ann.user, thread.conversation, queued).await;
        message
    };
    let sent = queue("sent").await;
    let now = Utc::now();
    let event = MessageSent {
        user: ann.user,
        conversation: thread.conversation,
        message: sent,
        platform_message_id: "m_77".to_owned(),
        sent_at: now,
    };
    hub.happen(ann.user, thread.conversation, event).await;
    let waiting = queue("waiting").await;
    let failed = queue("failed").await;
    let event = SendFailed {
        user: ann.user,
        conversation: thread.conversation,
        message: failed,
        class: FailureClass::Permanent,
        reason: "no".to_owned(),
    };
    hub.happen(ann.user, thread.conversation, event).await;

    let path = format!("/api/messages/{}", thread.conversation);
    let marks = async || {
        let answer = hub.get(&ann, &path).await;
        assert_eq!(answer.body["total"], 3, "a failed send is not listed");
        let messages = answer.body["messages"].as_array().unwrap();
        let of = |id: MessageId| {
            let found = messages.iter().find(|it| uuid(&it["id"]) == id.0).unwrap();
            assert_eq!(
                (&found["senderId"], &found["senderName"]),
                (&json!("me"), &json!("You"))
            );
            (
                found["isRead"].as_bool().unwrap(),
                found["deliveredAt"].is_string(),
            )
        };
        (of(sent), of(waiting))
    };
    assert_eq!(marks().await, ((false, false), (false, false)));
    for (receipt, expected) in [
        (Receipt::Delivered, (false, true)),
        (Receipt::Read, (true, true)),
    ] {
        let event = ReceiptReceived {
            user: ann.user,
            conversation: thread.conversation,
            receipt,
            watermark: Some(now + TimeDelta::hours(1)),
            platform_message_ids: Vec::new(),
            at: now,
        };
        hub.happen(ann.user, thread.conversation, event).await;
        // What waits is not covered, whatever the platform's clock says.
        assert_eq!(marks().await, (expected, (false, false)));
    }
}

#[tokio::test]
async fn questions_are_checked() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let account = hub.account(&ann, Platform::Facebook, "page").await;
    let thread = ann.thread(account, Platform::Facebook, "t_10");
    hub.receive(&ann, &thread, "m_1", "hello").await;
    let path = format!("/api/messages/{}", thread.conversation);
    for query in [
        "limit=x",
        "limit=0",
        "limit=-1",
        "offset=-1",
        "offset=1e3",
        "limit=",
    ] {
        let answer = hub.get(&ann, &format!("{path}?{query}")).await;
        assert_eq!(
            (answer.status, answer.code()),
            (400, "VALIDATION_ERROR"),
            "{query}"
        );
        let answer = hub.get(&ann, &format!("/api/conversations?{query}")).await;
        assert_eq!(
            (answer.status, answer.flat_code()),
            (400, "VALIDATION_ERROR"),
            "{query}"
        );
    }
    let answer = hub.get(&ann, "/api/conversations?platform=mastodon").await;
    assert_eq!(
        (answer.status, answer.flat_code()),
        (400, "VALIDATION_ERROR")
    );
    for query in ["since=yesterday", "limit=x", "since="] {
        let answer = hub.get(&ann, &format!("/api/messages?{query}")).await;
        assert_eq!(
            (answer.status, answer.code()),
            (400, "VALIDATION_ERROR"),
            "{query}"
        );
    }
    let answer = hub.get(&ann, &format!("{path}?limit=1000&unknown=1")).await;
    assert_eq!((answer.status, &answer.body["limit"]), (200, &json!(100)));
    for (since, count) in [("2020-01-01T00:00:00Z", 1), ("2999-01-01", 0)] {
        let answer = hub.get(&ann, &format!("/api/messages?since={since}")).await;
        assert_eq!(answer.body["count"], count, "{}", answer.text);
    }
}

#[tokio::test]
async fn a_disconnected_account_takes_its_conversations_with_it() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let account = hub.account(&ann, Platform::Facebook, "page").await;
    let kept = hub.account(&ann, Platform::Telegram, "bot").await;
    let thread = ann.thread(account, Platform::Facebook, "t_10");
    let message = hub.receive(&ann, &thread, "m_1", "hello").await;

    let accounts = hub.get(&ann, "/api/oauth/accounts").await;
    let ids: Vec<Uuid> = accounts.body["accounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| uuid(&it["id"]))
        .collect();
    assert_eq!(ids, [kept.0, account.0], "newest first");
    let first = &accounts.body["accounts"][1];
    assert_eq!(first["platformUsername"], "The page");
    assert_eq!(first["platformUserId"], "page");
    assert_eq!(
        (&first["isActive"], &first["userId"]),
        (&json!(true), &json!(ann.user))
    );
    let limits = hub.get(&ann, "/api/oauth/rate-limits").await;
    assert_eq!(limits.body["rateLimits"].as_array().unwrap().len(), 2);
    assert_eq!(limits.body["rateLimits"][1]["limit"], 200);
    assert_eq!(limits.body["rateLimits"][1]["windowMs"], 3_600_000);

    let path = format!("/api/oauth/disconnect/{account}");
    for _ in 0..2 {
        let answer = hub
            .by(&ann, "DELETE", &path, None)
            .await
            .expect(StatusCode::OK);
        assert_eq!(
            answer.body,
            json!({"success": true, "message": "Account disconnected successfully"})
        );
    }
    let accounts = hub.get(&ann, "/api/oauth/accounts").await;
    assert_eq!(accounts.body["accounts"].as_array().unwrap().len(), 1);
    let accounts = hub
        .get(&ann, "/api/oauth/accounts?includeInactive=true")
        .await;
    assert_eq!(accounts.body["accounts"].as_array().unwrap().len(), 2);
    assert_eq!(hub.get(&ann, "/api/conversations").await.body["total"], 0);
    assert_eq!(hub.get(&ann, "/api/messages").await.body["count"], 0);
    let unread = hub.get(&ann, "/api/messages/unread/count").await;
    assert_eq!(
        unread.body,
        json!({"total": 0, "byPlatform": {"telegram": 0}})
    );
    let read = format!("/api/messages/{message}/read");
    assert_eq!(
        hub.by(&ann, "PATCH", &read, None).await.code(),
        "MESSAGE_NOT_FOUND"
    );
    let refresh = format!("/api/oauth/refresh/{account}");
    assert_eq!(
        hub.by(&ann, "POST", &refresh, None).await.code(),
        "ACCOUNT_NOT_FOUND"
    );
    let refresh = format!("/api/oauth/refresh/{kept}");
    let answer = hub.by(&ann, "POST", &refresh, None).await;
    assert_eq!(
        answer.body,
        json!({"success": true, "message": "Token refreshed successfully"})
    );
}

#[tokio::test]
async fn an_erased_person_leaves_gaps_and_no_errors() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let account = hub.account(&ann, Platform::Facebook, "page").await;
    let thread = ann.thread(account, Platform::Facebook, "t_10");
    // Sealed under a key that is gone.
    let bob = hub.person("bob").await;
    let forgotten = crate::hub::Person {
        key: bob.key.clone(),
        ..ann
    };
    hub.receive(&forgotten, &thread, "m_1", "hello").await;
    let list = hub.get(&forgotten, "/api/conversations").await;
    assert_eq!(list.body["conversations"][0]["participantName"], "PSID9");
    let path = format!("/api/messages/{}", thread.conversation);
    let message = &hub.get(&forgotten, &path).await.body["messages"][0];
    assert_eq!(
        (&message["content"], &message["senderName"]),
        (&json!(""), &json!("PSID9"))
    );
}

#[tokio::test]
async fn no_word_of_a_message_is_in_the_database() {
    const CANARY: &str = "canary-7f3a";
    let hub = Hub::start().await;
    let ann = hub.person(CANARY).await;
    let account = hub.account(&ann, Platform::Facebook, "page").await;
    let thread = ann.thread(account, Platform::Facebook, "t_10");
    hub.receive(&ann, &thread, "m_1", CANARY).await;
    let body = json!({ "content": CANARY });
    let path = format!("/api/messages/{}/send", thread.conversation);
    hub.by(&ann, "POST", &path, Some(&body))
        .await
        .expect(StatusCode::CREATED);
    let gone = AccountDisconnected {
        user: ann.user,
        account,
    };
    hub.happen(ann.user, account, gone).await;
    let pool = hub.store().pool();
    let columns = sqlx::query(
        "SELECT table_schema, table_name, column_name FROM information_schema.columns \
         WHERE table_schema IN ('public', 'read')",
    );
    let mut searched = 0;
    for column in columns.fetch_all(pool).await.unwrap() {
        let name = |index: usize| column.get::<String, _>(index);
        let query = format!(
            "SELECT count(*) FROM {}.{} WHERE \"{}\"::text LIKE '%{CANARY}%'",
            name(0),
            name(1),
            name(2)
        );
        let found: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
            .fetch_one(pool)
            .await
            .unwrap();
        assert_eq!(found, 0, "{}.{}.{}", name(0), name(1), name(2));
        searched += 1;
    }
    assert!(searched > 50, "{searched}");
}
