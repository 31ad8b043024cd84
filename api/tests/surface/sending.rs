//! Sending: what is refused, what is waited for, and that a repetition sends nothing.

use std::time::{Duration, Instant};

use hub_domain::event::{
    AccountNeedsReconnect, Event, FailureClass, MessageSent, SendDelayed, SendFailed, Thread,
};
use hub_domain::id::{MessageId, Place};
use hub_domain::platform::{Connected, Platform};
use hub_store::account::Owner;
use serde_json::{Value, json};

use crate::hub::{Answer, Hub, Person, request, uuid};

async fn inbox(hub: &Hub, platform: Platform) -> (Person, Thread) {
    let ann = hub.person("ann").await;
    let account = hub.account(&ann, platform, "page").await;
    let thread = ann.thread(account, platform, "t_10");
    hub.receive(&ann, &thread, "m_1", "hello").await;
    (ann, thread)
}

async fn send(
    hub: &Hub,
    who: &Person,
    at: &Thread,
    body: &Value,
    headers: &[(&'static str, &str)],
) -> Answer {
    let path = format!("/api/messages/{}/send", at.conversation);
    let mut call = request("POST", &path, Some(&who.access), Some(body));
    for (name, value) in headers {
        call.headers_mut().insert(*name, value.parse().unwrap());
    }
    hub.call(call).await
}

/// Plays the worker for the next send: waits for it in the log and appends what became of it.
async fn work(hub: &Hub, who: &Person, at: &Thread, outcome: impl FnOnce(MessageId) -> Event) {
    let shard = hub.store().sharding().of_user(who.user);
    let deadline = Instant::now() + Duration::from_secs(5);
    let message = loop {
        let start = Place { shard, position: 0 };
        let events = hub_store::read::after(hub.store().pool(), start, 1000)
            .await
            .unwrap();
        let settled = |id: MessageId| {
            events.iter().any(|it| match &it.event {
                Event::MessageSent(it) => it.message == id,
                Event::SendFailed(it) => it.message == id,
                Event::SendDelayed(it) => it.message == id,
                _ => false,
            })
        };
        let queued = events.iter().find_map(|it| match &it.event {
            Event::MessageQueued(it) if !settled(it.message) => Some(it.message),
            _ => None,
        });
        if let Some(message) = queued {
            break message;
        }
        assert!(Instant::now() < deadline, "nothing was queued");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    hub.happen(who.user, at.conversation, outcome(message))
        .await;
}

#[tokio::test]
async fn a_message_that_leaves_in_time_is_answered_as_sent() {
    let hub = Hub::start_with(&[("HUB_SEND_WAIT_MS", "5000")]).await;
    let (ann, thread) = inbox(&hub, Platform::Facebook).await;
    let body = json!({"content": "  Hi Bob \n", "mediaUrl": null, "extra": 1});
    let worker = work(&hub, &ann, &thread, |message| {
        Event::from(MessageSent {
            user: ann.user,
            conversation: thread.conversation,
            message,
            platform_message_id: "m_77".to_owned(),
            sent_at: chrono::Utc::now(),
        })
    });
    let (answer, ()) = tokio::join!(send(&hub, &ann, &thread, &body, &[]), worker);
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(answer.body["success"], true);
    let message = &answer.body["message"];
    for (name, value) in [
        ("conversationId", json!(thread.conversation)),
        ("platformMessageId", json!("m_77")),
        ("senderId", json!("me")),
        ("senderName", json!("You")),
        ("content", json!("Hi Bob")),
        ("messageType", json!("text")),
        ("mediaUrl", Value::Null),
        ("isOutgoing", json!(true)),
        ("isRead", json!(false)),
        ("deliveredAt", Value::Null),
        ("status", json!("sent")),
    ] {
        assert_eq!(message[name], value, "{name}");
    }
    let path = format!("/api/messages/{}", thread.conversation);
    assert_eq!(hub.get(&ann, &path).await.body["messages"][0], *message);
}

#[tokio::test]
async fn a_slow_platform_is_not_waited_for() {
    let hub = Hub::start().await;
    let (ann, thread) = inbox(&hub, Platform::Telegram).await;
    let body = json!({"content": "Hi"});
    let answer = send(&hub, &ann, &thread, &body, &[]).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.body["message"]["status"], "queued");
    assert_eq!(answer.body["message"]["platformMessageId"], Value::Null);
    let began = Instant::now();
    let answer = send(&hub, &ann, &thread, &body, &[("prefer", "respond-async")]).await;
    assert_eq!(
        (answer.status, &answer.body["success"]),
        (202, &json!(true))
    );
    assert_eq!(answer.body["message"]["content"], "Hi");
    assert_eq!(answer.header("preference-applied"), "respond-async");
    assert!(began.elapsed() < Duration::from_millis(250));
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_before_it_is_queued() {
    let hub = Hub::start().await;
    let (ann, thread) = inbox(&hub, Platform::Facebook).await;
    let events = hub.count("events").await;
    let long = |count: usize| "ä".repeat(count);
    let cases = [
        (json!({}), 400),
        (json!({"content": null}), 400),
        (json!({"content": 7}), 400),
        (json!({"content": ["x"]}), 400),
        (json!({"content": ""}), 400),
        (json!({"content": " \n\t "}), 400),
        (json!({"content": long(10_001)}), 400),
        (json!({"content": "x", "messageType": "poem"}), 400),
        (json!({"content": "x", "messageType": 1}), 400),
        (json!({"content": "x", "mediaUrl": 1}), 400),
        (json!({"content": long(10_000)}), 422),
        (json!({"content": long(2_000)}), 422),
        (json!({"content": "x", "messageType": "image"}), 400),
    ];
    for (body, status) in cases {
        let answer = send(&hub, &ann, &thread, &body, &[]).await;
        let shown = body.to_string().chars().take(60).collect::<String>();
        assert_eq!(answer.status, status, "{shown}");
        let code = if status == 400 {
            "VALIDATION_ERROR"
        } else {
            "PLATFORM_API_ERROR"
        };
        assert_eq!(answer.code(), code, "{shown}");
    }
    let long_key = "k".repeat(256);
    for key in ["", long_key.as_str()] {
        let headers = [("idempotency-key", key)];
        let answer = send(&hub, &ann, &thread, &json!({"content": "x"}), &headers).await;
        assert_eq!(answer.code(), "VALIDATION_ERROR");
    }
    assert_eq!(hub.count("events").await, events);
    let needs = AccountNeedsReconnect {
        user: ann.user,
        account: thread.account,
        reason: "secret words of the platform".to_owned(),
    };
    hub.happen(ann.user, thread.account, needs).await;
    let answer = send(&hub, &ann, &thread, &json!({"content": "x"}), &[]).await;
    assert_eq!((answer.status, answer.code()), (422, "PLATFORM_API_ERROR"));
    assert!(
        answer.body["error"]["message"]
            .as_str()
            .unwrap()
            .contains("reconnect")
    );
}

#[tokio::test]
async fn the_platforms_refusal_is_the_answer_and_never_401() {
    let hub = Hub::start_with(&[("HUB_SEND_WAIT_MS", "5000")]).await;
    let (ann, thread) = inbox(&hub, Platform::Facebook).await;
    for (class, status, retryable) in [
        (FailureClass::Permanent, 422, false),
        (FailureClass::OutsideWindow, 422, false),
        (FailureClass::Reconnect, 422, false),
        (FailureClass::Disconnected, 422, false),
        (FailureClass::Undelivered, 422, false),
        (FailureClass::Exhausted, 502, true),
        (FailureClass::Temporary, 502, true),
        (FailureClass::RateLimited, 502, true),
    ] {
        let worker = work(&hub, &ann, &thread, |message| {
            Event::from(SendFailed {
                user: ann.user,
                conversation: thread.conversation,
                message,
                class,
                reason: "(#10) no".to_owned(),
            })
        });
        let body = json!({"content": "x"});
        let (answer, ()) = tokio::join!(send(&hub, &ann, &thread, &body, &[]), worker);
        assert_eq!(
            (answer.status, answer.code()),
            (status, "PLATFORM_API_ERROR"),
            "{class:?}"
        );
        assert_eq!(answer.body["error"]["retryable"], retryable, "{class:?}");
        assert_eq!(answer.body["error"]["details"]["class"], class.name());
    }
    let worker = work(&hub, &ann, &thread, |message| {
        Event::from(SendDelayed {
            user: ann.user,
            conversation: thread.conversation,
            message,
            attempt: 1,
            class: FailureClass::Temporary,
            reason: "busy".to_owned(),
            retry_at: chrono::Utc::now(),
        })
    });
    let body = json!({"content": "x"});
    let (answer, ()) = tokio::join!(send(&hub, &ann, &thread, &body, &[]), worker);
    assert_eq!(answer.status, 201);
    assert_eq!(answer.body["message"]["status"], "delayed");
}

#[tokio::test]
async fn a_key_sends_once() {
    let hub = Hub::start().await;
    let (ann, thread) = inbox(&hub, Platform::Facebook).await;
    let other = ann.thread(thread.account, Platform::Facebook, "t_11");
    hub.receive(&ann, &other, "m_2", "hello").await;
    let events = hub.count("events").await;
    let body = json!({"content": "once"});
    let key = [("idempotency-key", "order-17")];
    let (one, two) = tokio::join!(
        send(&hub, &ann, &thread, &body, &key),
        send(&hub, &ann, &thread, &body, &key)
    );
    let three = send(&hub, &ann, &thread, &json!({"content": " once "}), &key).await;
    for answer in [&one, &two, &three] {
        assert_eq!(answer.status, 201, "{}", answer.text);
        assert_eq!(
            uuid(&answer.body["message"]["id"]),
            uuid(&one.body["message"]["id"])
        );
    }
    for (at, body) in [
        (&thread, json!({"content": "twice"})),
        (&other, body.clone()),
    ] {
        let answer = send(&hub, &ann, at, &body, &key).await;
        assert_eq!(
            (answer.status, answer.code()),
            (422, "IDEMPOTENCY_KEY_REUSED")
        );
    }
    assert_eq!(hub.count("events").await, events + 1);
    // A repetition is answered even when the message would be refused by now.
    let needs = AccountNeedsReconnect {
        user: ann.user,
        account: thread.account,
        reason: "expired".to_owned(),
    };
    hub.happen(ann.user, thread.account, needs).await;
    assert_eq!(send(&hub, &ann, &thread, &body, &key).await.status, 201);
    // Without a key, and under somebody else's, a message is a message of its own.
    let eve = hub.person("eve").await;
    let account = hub.account(&eve, Platform::Facebook, "page").await;
    let hers = eve.thread(account, Platform::Facebook, "t_10");
    hub.receive(&eve, &hers, "m_1", "hello").await;
    let answer = send(&hub, &eve, &hers, &body, &key).await;
    assert_eq!(answer.status, 201);
    assert_ne!(answer.body["message"]["id"], one.body["message"]["id"]);
}

/// The account was connected with these permissions.
async fn grant(hub: &Hub, owner: Owner, granted: &str) {
    let connected = Connected {
        platform_user_id: "HubOwn3r_A".to_owned(),
        username: "Nora".to_owned(),
        route: "HubOwn3r_A".to_owned(),
        access_token: "token".into(),
        refresh_token: None,
        expires_in_s: None,
        granted: Some(granted.to_owned()),
    };
    let kept = hub.store().put_account_tokens(owner, &connected, None);
    kept.await.unwrap();
}

#[tokio::test]
async fn on_linkedin_what_was_granted_decides_who_can_be_answered() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let account = hub.account(&ann, Platform::Linkedin, "HubOwn3r_A").await;
    let message = ann.thread(account, Platform::Linkedin, "urn:li:messagingThread:2-x==");
    let post = "urn:li:organization:1/urn:li:activity:2";
    let post = ann.thread(account, Platform::Linkedin, post);
    for thread in [&message, &post] {
        hub.receive(&ann, thread, "m_1", "hello").await;
    }
    let events = hub.count("events").await;
    let body = json!({"content": "Hi"});
    let answer = send(&hub, &ann, &message, &body, &[]).await;
    assert_eq!((answer.status, answer.code()), (422, "PLATFORM_API_ERROR"));
    let sentence = answer.body["error"]["message"].as_str().unwrap();
    assert!(sentence.contains("LinkedIn"), "{sentence}");
    assert_eq!(hub.count("events").await, events);
    let answer = send(&hub, &ann, &post, &body, &[]).await;
    assert_eq!(answer.status, 201, "{:?}", answer.body);
    // What the member allowed decides, for both kinds of threads.
    let owner = Owner {
        user: ann.user,
        account,
    };
    for (granted, [member, company]) in [
        ("openid,w_organization_social", [422, 201]),
        ("openid,w_messages", [201, 422]),
        ("openid", [422, 422]),
    ] {
        grant(&hub, owner, granted).await;
        for (thread, expected) in [(&message, member), (&post, company)] {
            let events = hub.count("events").await;
            let answer = send(&hub, &ann, thread, &body, &[]).await;
            assert_eq!(answer.status, expected, "{granted}: {:?}", answer.body);
            let queued = hub.count("events").await - events;
            assert_eq!(queued, i64::from(expected == 201), "{granted}");
        }
    }
    // A comment is shorter than a message.
    grant(&hub, owner, "w_messages w_organization_social").await;
    let long = json!({"content": "x".repeat(1251)});
    let answer = send(&hub, &ann, &message, &long, &[]).await;
    assert_eq!(answer.status, 201, "{:?}", answer.body);
    let answer = send(&hub, &ann, &post, &long, &[]).await;
    assert_eq!(answer.status, 422, "{:?}", answer.body);
}
