//! The two real-time doors, as clients use them.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::world::{User, World};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// One open door.
pub struct Door {
    socket: Socket,
    is_socket_io: bool,
}

impl Door {
    /// `/ws/messages/?token=`
    pub async fn plain(world: &World, user: &User) -> Self {
        let url = format!("{}/ws/messages/?token={}", world.sockets(), user.token());
        let (socket, _) = connect_async(url).await.expect("the door opens");
        let mut door = Self {
            socket,
            is_socket_io: false,
        };
        assert_eq!(door.next().await.0, "authenticated");
        door
    }

    /// `/socket.io/` as the web client speaks it.
    pub async fn socket_io(world: &World, user: &User) -> Self {
        let url = format!("{}/socket.io/?EIO=4&transport=websocket", world.sockets());
        let (socket, _) = connect_async(url).await.expect("the door opens");
        let mut door = Self {
            socket,
            is_socket_io: true,
        };
        assert!(door.text().await.starts_with('0'));
        door.say("40").await;
        assert!(door.text().await.starts_with("40"));
        let token = json!(["authenticate", { "token": user.token() }]);
        door.say(&format!("42{token}")).await;
        assert_eq!(door.next().await.0, "authenticated");
        door
    }

    async fn say(&mut self, text: &str) {
        let sent = self.socket.send(Message::text(text)).await;
        sent.expect("the door takes it");
    }

    async fn text(&mut self) -> String {
        loop {
            let message = tokio::time::timeout(Duration::from_secs(10), self.socket.next())
                .await
                .expect("a frame within 10 s")
                .expect("an open door")
                .expect("a readable frame");
            if let Message::Text(text) = message {
                return text.to_string();
            }
        }
    }

    /// The next event: its name and its payload.
    pub async fn next(&mut self) -> (String, Value) {
        loop {
            let text = self.text().await;
            if !self.is_socket_io {
                let frame: Value = serde_json::from_str(&text).expect("JSON");
                let name = frame["event"].as_str().unwrap_or_default().to_owned();
                return (name, frame["data"].clone());
            }
            if text == "2" {
                self.say("3").await;
            } else if let Some(event) = text.strip_prefix("42") {
                let event: Value = serde_json::from_str(event).expect("JSON");
                return (
                    event[0].as_str().unwrap_or_default().to_owned(),
                    event[1].clone(),
                );
            }
        }
    }

    /// The next events, exactly this many of them, and then nothing for this long.
    pub async fn exactly(&mut self, count: usize, quiet: Duration) -> Vec<(String, Value)> {
        let mut events = Vec::new();
        for _ in 0..count {
            events.push(self.next().await);
        }
        let more = self.until_quiet(quiet).await;
        assert!(more.is_empty(), "told too much: {more:?} after {events:?}");
        events
    }

    /// Every event that arrives until nothing has come for this long.
    pub async fn until_quiet(&mut self, quiet: Duration) -> Vec<(String, Value)> {
        let mut events = Vec::new();
        while let Ok(event) = tokio::time::timeout(quiet, self.next()).await {
            events.push(event);
        }
        events
    }
}

#[tokio::test]
async fn a_door_without_a_token_closes_with_4001() {
    let world = World::start().await;
    let url = format!("{}/ws/messages/", world.sockets());
    let (mut socket, _) = connect_async(url).await.expect("the upgrade is accepted");
    let message = tokio::time::timeout(Duration::from_secs(5), socket.next()).await;
    match message.expect("in time") {
        Some(Ok(Message::Close(Some(frame)))) => assert_eq!(u16::from(frame.code), 4001),
        other => panic!("expected a close frame, got {other:?}"),
    }
}
