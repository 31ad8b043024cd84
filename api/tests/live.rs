//! The real-time doors over real sockets and a real database.

#[path = "live/client.rs"]
mod client;
#[path = "shared/database.rs"]
mod database;
#[path = "live/doors.rs"]
mod doors;
#[path = "live/hub.rs"]
mod hub;

use std::time::{Duration, Instant};

use chrono::DateTime;
use hub_api::live::tail;
use hub_domain::event::{
    Event, MessageObserved, MessageQueued, MessageRead, MessageSent, MessageType, Receipt,
    ReceiptReceived,
};
use hub_domain::id::MessageId;
use hub_domain::secret::Secret;
use hub_store::bus::{Change, What};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use client::Client;
use hub::{Hub, Person};

const ARRIVAL: [&str; 3] = ["new_message", "unread_count_update", "conversation_update"];

/// A change whose frame is at least this large.
fn error_of(hub: &Hub, person: &Person, position: i64, bytes: usize) -> Change {
    Change {
        shard: hub.store().sharding().of_user(person.user()),
        position,
        user: person.user(),
        conversation: None,
        what: vec![What::Error {
            text: "x".repeat(bytes),
            code: position.to_string(),
        }],
    }
}

fn keys(object: &Value) -> Vec<&str> {
    object
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

const SENT_AT: &str = "2026-02-01T10:00:00Z";

/// Ann answers through the hub and the platform takes it.
async fn send(hub: &Hub, ann: &Person, message: MessageId, platform_id: &str) {
    let at = ann.thread("t_10");
    let sent = MessageSent {
        user: ann.user(),
        conversation: at.conversation,
        message,
        platform_message_id: platform_id.to_owned(),
        sent_at: SENT_AT.parse().unwrap(),
    };
    let queued = MessageQueued {
        at,
        message,
        message_type: MessageType::Text,
        text: ann.key.seal("hello"),
        attached: None,
    };
    for event in [Event::from(queued), Event::from(sent.clone())] {
        let recorded = hub.happen(ann.user(), sent.conversation, event).await;
        hub.tell(&recorded).await;
    }
}

#[tokio::test]
async fn a_stored_message_is_told_once_and_in_order_through_both_doors() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let mut doors = [
        Client::plain(&hub, &ann).await,
        Client::socket_io(&hub, &ann).await,
    ];
    assert_eq!(hub.api.sockets().connections(), 2);
    assert_eq!(hub.api.sockets().users(), 1);

    let recorded = hub.receive(&ann, "m_1", "1 < 2").await;
    hub.tell(&recorded).await;
    for client in &mut doors {
        let told = client.events(&ARRIVAL).await;
        let (message, conversation) = (&told[0]["message"], &told[0]["conversation"]);
        assert_eq!(message["id"], json!(ann.message_id("t_10", "m_1")));
        assert_eq!(message["content"], "1 < 2");
        assert_eq!(message["isOutgoing"], false);
        assert_eq!(message["sentAt"], "2026-01-31T09:30:00.123Z");
        assert_eq!(message["conversationId"], conversation["id"]);
        for key in [
            "platformMessageId",
            "senderName",
            "messageType",
            "mediaUrl",
            "deliveredAt",
        ] {
            assert!(keys(message).contains(&key), "{key}");
        }
        assert_eq!(conversation["unreadCount"], 1);
        assert_eq!(conversation["participantName"], "Bob");
        assert_eq!(conversation["platformUsername"], "My Page");
        for key in [
            "accountId",
            "platformConversationId",
            "lastMessageAt",
            "hasUnread",
        ] {
            assert!(keys(conversation).contains(&key), "{key}");
        }
        let counts = (&told[1]["unreadCounts"], &told[1]["totalUnread"]);
        assert_eq!(counts, (&json!({"facebook": 1}), &json!(1)));
        assert_eq!(told[2]["conversation"], *conversation);
        assert!(
            told.iter()
                .all(|it| it["timestamp"].as_str().unwrap().ends_with('Z'))
        );
        client.hears_nothing().await;
    }
}

#[tokio::test]
async fn a_repeated_change_is_told_once() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let mut client = Client::plain(&hub, &ann).await;
    let first = hub.receive(&ann, "m_1", "one").await;
    let second = hub.receive(&ann, "m_2", "two").await;
    for recorded in [&first, &second, &first, &second] {
        hub.tell(recorded).await;
    }
    client.events(&[ARRIVAL, ARRIVAL].concat()).await;
    client.hears_nothing().await;
}

#[tokio::test]
async fn connections_that_broke_cost_no_change() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let mut client = Client::plain(&hub, &ann).await;
    let recorded = hub.receive(&ann, "m_1", "one").await;
    // As a database that was started again leaves them.
    let url = Secret::new(hub.database.url());
    let outside = hub_store::connect(&url, 1).await.unwrap();
    let broken: Vec<bool> = sqlx::query_scalar(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .fetch_all(&outside)
    .await
    .unwrap();
    assert!(!broken.is_empty());
    hub.tell(&recorded).await;
    client.events(&ARRIVAL).await;
    client.hears_nothing().await;
}

#[tokio::test]
async fn changes_are_told_in_their_order_however_long_their_look_up_takes() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let mut client = Client::plain(&hub, &ann).await;
    let mut arrivals = Vec::new();
    for number in 0..40 {
        arrivals.push(hub.receive(&ann, &format!("m_{number}"), "hello").await);
    }
    for (number, recorded) in arrivals.iter().enumerate() {
        hub.tell(recorded).await;
        hub.publish(error_of(&hub, &ann, 1_000_000 + number as i64, 1))
            .await;
    }
    for number in 0..40 {
        let told = client.events(&ARRIVAL).await;
        assert_eq!(
            told[0]["message"]["platformMessageId"],
            format!("m_{number}")
        );
        let told = client.events(&["error"]).await;
        assert_eq!(told[0]["code"], (1_000_000 + number).to_string());
    }
}

#[tokio::test]
async fn nobody_hears_of_somebody_else() {
    let hub = Hub::start().await;
    let (ann, eve) = (hub.person("ann").await, hub.person("eve").await);
    let mut anns = Client::plain(&hub, &ann).await;
    let mut eves = [
        Client::plain(&hub, &eve).await,
        Client::socket_io(&hub, &eve).await,
    ];
    let recorded = hub.receive(&ann, "m_1", "for Ann").await;
    hub.tell(&recorded).await;
    // A change that names another user's rows finds nothing of theirs.
    let forged = Change {
        user: eve.user(),
        what: vec![
            What::NewMessage {
                message: ann.message_id("t_10", "m_1"),
            },
            What::Conversation,
        ],
        conversation: Some(ann.thread("t_10").conversation),
        ..hub_store::bus::changes(&recorded).unwrap()
    };
    hub.publish(forged).await;
    anns.events(&ARRIVAL).await;
    for client in &mut eves {
        client.hears_nothing().await;
    }
}

#[tokio::test]
async fn own_sends_are_not_echoed() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let mut client = Client::plain(&hub, &ann).await;
    send(&hub, &ann, MessageId(Uuid::now_v7()), "m_7").await;
    client.events(&["conversation_update"; 2]).await;
    // What was written on another device is no echo.
    let observed = MessageObserved(ann.message("t_10", "m_8", "from my phone"));
    let conversation = observed.0.at.conversation;
    let recorded = hub.happen(ann.user(), conversation, observed).await;
    hub.tell(&recorded).await;
    let told = client.events(&["new_message", "conversation_update"]).await;
    assert_eq!(told[0]["message"]["isOutgoing"], true);
}

#[tokio::test]
async fn a_receipt_flips_the_ticks_it_is_the_first_to_flip() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let message = MessageId(Uuid::now_v7());
    send(&hub, &ann, message, "m_7").await;
    let mut client = Client::plain(&hub, &ann).await;
    let conversation = ann.thread("t_10").conversation;
    let until = SENT_AT.parse().ok();
    for (second, receipt, watermark, named, flips) in [
        (10, Receipt::Delivered, None, vec!["m_7"], Some("delivered")),
        (20, Receipt::Delivered, None, vec!["m_7"], None),
        (30, Receipt::Delivered, None, vec!["m_unknown"], None),
        (40, Receipt::Read, until, vec![], Some("read")),
        (50, Receipt::Read, until, vec![], None),
        (60, Receipt::Delivered, until, vec!["m_7"], None),
    ] {
        let receipt = ReceiptReceived {
            user: ann.user(),
            conversation,
            receipt,
            watermark,
            platform_message_ids: named.into_iter().map(str::to_owned).collect(),
            at: DateTime::from_timestamp(1_769_940_000 + second, 0).unwrap(),
        };
        let recorded = hub.happen(ann.user(), conversation, receipt).await;
        hub.tell(&recorded).await;
        if let Some(status) = flips {
            let told = client.events(&["message_status_update"]).await;
            assert_eq!(told[0]["messageId"], json!(message));
            assert_eq!(told[0]["conversationId"], json!(conversation));
            assert_eq!(told[0]["status"], status);
        }
        client.events(&["conversation_update"]).await;
    }
}

#[tokio::test]
async fn reading_a_message_is_told_to_the_users_other_screens() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    hub.receive(&ann, "m_1", "hello").await;
    let mut client = Client::socket_io(&hub, &ann).await;
    let read = MessageRead {
        user: ann.user(),
        conversation: ann.thread("t_10").conversation,
        message: ann.message_id("t_10", "m_1"),
    };
    let recorded = hub.happen(ann.user(), read.conversation, read).await;
    hub.tell(&recorded).await;
    let names = [
        "message_status_update",
        "unread_count_update",
        "conversation_update",
    ];
    let told = client.events(&names).await;
    assert_eq!(told[0]["messageId"], json!(ann.message_id("t_10", "m_1")));
    assert_eq!(told[0]["status"], "read");
    assert_eq!(told[1]["unreadCounts"], json!({"facebook": 0}));
    assert_eq!(told[2]["conversation"]["hasUnread"], false);
}

#[tokio::test]
async fn a_slow_client_is_cut_and_delays_nobody() {
    const BYTES: usize = 64 * 1024;
    let hub = Hub::start().await;
    let (ann, bob) = (hub.person("ann").await, hub.person("bob").await);
    let mut slow = Client::plain(&hub, &ann).await;
    let mut quick = Client::socket_io(&hub, &bob).await;
    let mut told = 0;
    while hub.api.sockets().users() == 2 {
        told += 1;
        assert!(told < 1_000, "the queue has no end");
        hub.publish(error_of(&hub, &ann, 1_000_000 + told, BYTES))
            .await;
        hub.publish(error_of(&hub, &bob, 2_000_000 + told, 1)).await;
        let began = Instant::now();
        quick.events(&["error"]).await;
        assert!(began.elapsed() < Duration::from_secs(1));
    }
    let mut heard = 0;
    let (code, reason) = loop {
        match slow.message().await {
            Message::Text(text) => {
                heard += 1;
                assert!(text.contains(&format!(r#""code":"{}""#, 1_000_000 + heard)));
            }
            Message::Close(Some(frame)) => break (u16::from(frame.code), frame.reason),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(code, 4009);
    assert!(!reason.is_empty());
    assert!(heard < told);
    quick.hears_nothing().await;
}

#[tokio::test]
async fn tailing_the_log_needs_nobody_to_publish() {
    let hub = Hub::start().await;
    let (ann, bob) = (hub.person("ann").await, hub.person("bob").await);
    hub.receive(&ann, "m_0", "before anybody looked").await;
    let shutdown = CancellationToken::new();
    let until = shutdown.clone().cancelled_owned();
    let tailing = tokio::spawn(tail(hub.api.clone(), until));
    let mut client = Client::plain(&hub, &ann).await;
    // The first look only takes note of where the log is.
    tokio::time::sleep(Duration::from_millis(700)).await;
    for number in 1..=3 {
        hub.receive(&bob, &format!("m_{number}"), "nobody looks")
            .await;
        hub.receive(&ann, &format!("m_{number}"), "hello").await;
    }
    for number in 1..=3 {
        let told = client.events(&ARRIVAL).await;
        let id = ann.message_id("t_10", &format!("m_{number}"));
        assert_eq!(told[0]["message"]["id"], json!(id));
    }
    // Somebody who comes later hears what happens from then on.
    let mut late = Client::socket_io(&hub, &bob).await;
    hub.receive(&bob, "m_4", "now").await;
    let told = late.events(&ARRIVAL).await;
    assert_eq!(told[0]["message"]["platformMessageId"], "m_4");
    client.hears_nothing().await;
    shutdown.cancel();
    tailing.await.unwrap();
}
