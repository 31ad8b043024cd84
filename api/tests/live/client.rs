//! A client of either door.

use std::net::SocketAddr;
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::hub::{Hub, Person};

const PATIENCE: Duration = Duration::from_secs(10);

/// Long enough for a frame that should not come to come.
const A_WHILE: Duration = Duration::from_millis(300);

pub struct Client {
    socket: WebSocketStream<TcpStream>,
    is_plain: bool,
}

impl Client {
    /// Opens a WebSocket; the status when it is refused.
    pub async fn open(
        address: SocketAddr,
        target: &str,
        origin: Option<&str>,
    ) -> Result<Self, StatusCode> {
        let mut request = format!("ws://{address}{target}")
            .into_client_request()
            .unwrap();
        if let Some(origin) = origin {
            request
                .headers_mut()
                .insert("origin", origin.parse().unwrap());
        }
        let stream = TcpSocket::new_v4().unwrap();
        // Small, so that a client that stops reading is noticed soon.
        stream.set_recv_buffer_size(16 * 1024).unwrap();
        let stream = stream.connect(address).await.unwrap();
        match client_async(request, stream).await {
            Ok((socket, _)) => Ok(Self {
                socket,
                is_plain: target.starts_with("/ws"),
            }),
            Err(Error::Http(response)) => Err(response.status()),
            Err(error) => panic!("{error}"),
        }
    }

    /// The plain door, authenticated.
    pub async fn plain(hub: &Hub, person: &Person) -> Self {
        let target = format!("/ws/messages/?token={}", hub.token(person));
        let mut client = Self::open(hub.address, &target, None).await.unwrap();
        assert_eq!(client.event().await, authenticated(person));
        client
    }

    /// The Socket.IO door, before the client says anything.
    pub async fn engine(hub: &Hub) -> Self {
        let target = "/socket.io/?EIO=4&transport=websocket";
        Self::open(hub.address, target, None).await.unwrap()
    }

    /// The Socket.IO door, in the namespace, not authenticated.
    pub async fn joined(hub: &Hub) -> Self {
        let mut client = Self::engine(hub).await;
        assert!(client.text().await.starts_with("0{"));
        client.send("40").await;
        assert!(client.text().await.starts_with("40{"));
        client
    }

    /// The Socket.IO door, authenticated.
    pub async fn socket_io(hub: &Hub, person: &Person) -> Self {
        let mut client = Self::joined(hub).await;
        client.authenticate(&hub.token(person)).await;
        assert_eq!(client.event().await, authenticated(person));
        client
    }

    pub async fn authenticate(&mut self, token: &str) {
        let packet = json!(["authenticate", {"token": token}]);
        self.send(&format!("42{packet}")).await;
    }

    pub async fn send(&mut self, text: &str) {
        self.send_message(Message::text(text)).await;
    }

    pub async fn send_message(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }

    /// The next message, pings of the WebSocket protocol included.
    pub async fn message(&mut self) -> Message {
        let message = timeout(PATIENCE, self.socket.next()).await;
        message
            .expect("a message in time")
            .expect("no end yet")
            .unwrap()
    }

    /// The next text frame.
    pub async fn text(&mut self) -> String {
        loop {
            match self.message().await {
                Message::Text(text) => return text.as_str().to_owned(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("expected a text frame, got {other:?}"),
            }
        }
    }

    /// The next event, by name and payload.
    pub async fn event(&mut self) -> (String, Value) {
        let text = self.text().await;
        let (name, data) = if self.is_plain {
            let mut frame: Value = serde_json::from_str(&text).unwrap();
            (frame["event"].take(), frame["data"].take())
        } else {
            let packet = text.strip_prefix("42").expect("an event");
            serde_json::from_str(packet).unwrap()
        };
        (name.as_str().unwrap().to_owned(), data)
    }

    /// The events of these names, in this order and nothing in between.
    pub async fn events(&mut self, names: &[&str]) -> Vec<Value> {
        let mut payloads = Vec::new();
        for name in names {
            let (got, data) = self.event().await;
            assert_eq!(got, *name, "{data}");
            payloads.push(data);
        }
        payloads
    }

    /// The code and reason of the close frame, which comes next.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            match self.message().await {
                Message::Close(Some(frame)) => {
                    return (frame.code.into(), frame.reason.as_str().to_owned());
                }
                Message::Ping(_) => {}
                other => panic!("expected a close frame, got {other:?}"),
            }
        }
    }

    /// Fails when a text frame comes.
    pub async fn hears_nothing(&mut self) {
        if let Ok(text) = timeout(A_WHILE, self.text()).await {
            panic!("heard {text}");
        }
    }
}

fn authenticated(person: &Person) -> (String, Value) {
    let who = json!({"userId": person.user(), "email": person.claims.email});
    ("authenticated".to_owned(), who)
}
