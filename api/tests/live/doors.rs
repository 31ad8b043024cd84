//! Each door by itself: who gets in, what keeps a connection alive, how it ends.

use std::time::{Duration, Instant};

use hub_api::live::Pace;
use hub_domain::event::UserErased;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::client::Client;
use crate::hub::{Hub, ORIGIN, QUICK};

#[tokio::test]
async fn the_plain_door_closes_with_4001_without_a_valid_token() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let expired = format!("?token={}", hub.expired_token(&ann));
    for query in ["", "?token=", "?token=nonsense", expired.as_str()] {
        for path in ["/ws/messages/", "/ws/messages"] {
            let target = format!("{path}{query}");
            let mut client = Client::open(hub.address, &target, None).await.unwrap();
            let (code, reason) = client.closed().await;
            assert_eq!(code, 4001);
            assert!(!reason.is_empty());
        }
    }
    assert_eq!(hub.api.sockets().users(), 0);
}

#[tokio::test]
async fn both_doors_close_on_an_erased_user_and_stay_closed() {
    let hub = Hub::start().await;
    let (ann, eve) = (hub.person("ann").await, hub.person("eve").await);
    let mut plain = Client::plain(&hub, &ann).await;
    let mut engine = Client::socket_io(&hub, &ann).await;
    let mut other = Client::plain(&hub, &eve).await;
    let user = ann.user();
    let recorded = hub.happen(user, user, UserErased { user }).await;
    hub.store().vault().erase_user(user).await.unwrap();
    hub.tell(&recorded).await;
    for client in [&mut plain, &mut engine] {
        let (code, reason) = client.closed().await;
        assert_eq!(
            (code, reason.as_str()),
            (4001, "This user no longer exists")
        );
    }
    other.send(r#"{"event":"ping"}"#).await;
    assert_eq!(other.text().await, r#"{"event":"pong","timestamp":null}"#);
    let target = format!("/ws/messages/?token={}", hub.token(&ann));
    let mut again = Client::open(hub.address, &target, None).await.unwrap();
    assert_eq!(again.closed().await.0, 4001);
    let mut again = Client::joined(&hub).await;
    again.authenticate(&hub.token(&ann)).await;
    let (name, _) = again.event().await;
    assert_eq!(name, "auth_error");
}

#[tokio::test]
async fn the_plain_door_answers_pings_and_survives_nonsense() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let mut client = Client::plain(&hub, &ann).await;
    client.send(r#"{"event":"unknown","data":1}"#).await;
    client.send_message(Message::binary(vec![1, 2, 3])).await;
    client.send(r#"{"event":"ping","timestamp":123}"#).await;
    assert_eq!(client.text().await, r#"{"event":"pong","timestamp":123}"#);
    client.send("not json").await;
    let (name, error) = client.event().await;
    assert_eq!(name, "error");
    assert!(error["message"].is_string());
    client.send(r#"{"event":"ping"}"#).await;
    assert_eq!(client.text().await, r#"{"event":"pong","timestamp":null}"#);
    client.send(&"x".repeat(70 * 1024)).await;
    assert_eq!(client.closed().await.0, 1002);
}

#[tokio::test]
async fn the_plain_door_pings_and_drops_the_silent() {
    let hub = Hub::start_at(QUICK).await;
    let ann = hub.person("ann").await;
    // Who reads answers pings, and stays much longer than the silence that is allowed.
    let mut alive = Client::plain(&hub, &ann).await;
    let began = Instant::now();
    let mut pings = 0;
    while began.elapsed() < QUICK.silence_max * 2 {
        assert!(matches!(alive.message().await, Message::Ping(_)));
        pings += 1;
    }
    assert!(pings >= 3, "{pings}");
    // Who reads nothing for so long has answered nothing.
    tokio::time::sleep(QUICK.silence_max * 2).await;
    assert_eq!(alive.closed().await.0, 4008);
}

#[tokio::test]
async fn socket_io_shakes_hands() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let mut client = Client::engine(&hub).await;
    let open: Value = serde_json::from_str(&client.text().await[1..]).unwrap();
    assert_eq!(open["upgrades"], json!([]));
    assert_eq!(open["pingInterval"], 25_000);
    assert_eq!(open["pingTimeout"], 20_000);
    assert_eq!(open["maxPayload"], 1_000_000);
    client.send("40/admin,").await;
    assert_eq!(
        client.text().await,
        r#"44/admin,{"message":"Invalid namespace"}"#
    );
    client.send("40").await;
    let joined: Value = serde_json::from_str(&client.text().await[2..]).unwrap();
    assert_ne!(joined["sid"], open["sid"]);
    client.send(r#"42["unknown",{}]"#).await;
    client.authenticate(&hub.token(&ann)).await;
    assert_eq!(client.event().await.0, "authenticated");
    assert_eq!(hub.api.sockets().users(), 1);
    client.send("41").await;
    assert_eq!(client.closed().await.0, 1000);
    assert_eq!(hub.api.sockets().users(), 0);
}

#[tokio::test]
async fn socket_io_refuses_bad_tokens_for_good() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    for token in ["", "nonsense", &hub.expired_token(&ann)] {
        let mut client = Client::joined(&hub).await;
        client.authenticate(token).await;
        let error = r#"42["auth_error",{"message":"Invalid access token"}]"#;
        assert_eq!(client.text().await, error);
        assert_eq!(client.text().await, "41");
        client.closed().await;
    }
}

#[tokio::test]
async fn socket_io_waits_only_so_long_for_a_token() {
    let pace = Pace {
        authenticate_within: QUICK.authenticate_within,
        ..Pace::default()
    };
    let hub = Hub::start_at(pace).await;
    let mut client = Client::joined(&hub).await;
    let error = r#"42["auth_error",{"message":"Authentication timeout"}]"#;
    assert_eq!(client.text().await, error);
    assert_eq!(client.text().await, "41");
    client.closed().await;
    let ann = hub.person("ann").await;
    let mut stays = Client::socket_io(&hub, &ann).await;
    tokio::time::sleep(pace.authenticate_within * 2).await;
    stays.hears_nothing().await;
}

#[tokio::test]
async fn socket_io_drops_who_does_not_answer_its_heartbeat() {
    let pace = Pace {
        authenticate_within: Duration::from_secs(10),
        ..QUICK
    };
    let hub = Hub::start_at(pace).await;
    let mut client = Client::joined(&hub).await;
    for _ in 0..5 {
        assert_eq!(client.text().await, "2");
        client.send("3").await;
    }
    assert_eq!(client.text().await, "2");
    while let Message::Text(text) = client.message().await {
        assert_eq!(text.as_str(), "2");
    }
}

#[tokio::test]
async fn foreign_origins_and_other_transports_are_refused() {
    let hub = Hub::start().await;
    for target in ["/ws/messages/", "/socket.io/?EIO=4&transport=websocket"] {
        let refused = Client::open(hub.address, target, Some("https://evil.example")).await;
        assert_eq!(refused.err().unwrap(), 403);
        assert!(
            Client::open(hub.address, target, Some(ORIGIN))
                .await
                .is_ok()
        );
        assert!(Client::open(hub.address, target, None).await.is_ok());
        // The page this server handed out comes back to it.
        let own = format!("http://{}", hub.address);
        assert!(Client::open(hub.address, target, Some(&own)).await.is_ok());
    }
    for query in ["EIO=4&transport=polling", "", "EIO=3&transport=websocket"] {
        let refused = Client::open(hub.address, &format!("/socket.io/?{query}"), None).await;
        assert_eq!(refused.err().unwrap(), 400);
    }
}

#[tokio::test]
async fn shutting_down_closes_with_1001() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let mut doors = [
        Client::plain(&hub, &ann).await,
        Client::socket_io(&hub, &ann).await,
        Client::engine(&hub).await,
    ];
    assert!(doors[2].text().await.starts_with('0'));
    let stopping = tokio::spawn(hub.stop());
    for client in &mut doors {
        assert_eq!(client.closed().await.0, 1001);
    }
    stopping.await.unwrap();
}
