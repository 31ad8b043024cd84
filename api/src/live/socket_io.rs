//! The Socket.IO door: protocol 5 over Engine.IO 4, WebSocket transport, default namespace, no
//! acknowledgements, no binary (contract 3.5).

use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use serde_json::{Value, json};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};
use uuid::Uuid;

use super::Pace;
use super::frame::Frame;
use super::link::{End, Link};
use super::sockets::{Door, Seat};
use crate::Api;
use crate::auth::identify;

/// Serves one connection until it ends.
pub(super) async fn serve(api: Api, socket: WebSocket) {
    let pace = api.sockets().pace();
    let mut session = Session {
        link: Link::new(socket, api.sockets()),
        opened_at: Instant::now(),
        connected: false,
        seat: None,
        pings: heartbeat(pace),
        unanswered_since: None,
        pace,
        api,
    };
    let end = match session.run().await {
        Ok(()) => End::DONE,
        Err(end) => end,
    };
    // The seat goes first: nothing is queued for a connection that says goodbye.
    drop(session.seat);
    session.link.close(end).await;
}

fn heartbeat(pace: Pace) -> Interval {
    let mut pings = interval_at(Instant::now() + pace.ping_every, pace.ping_every);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings
}

struct Session {
    api: Api,
    link: Link,
    pace: Pace,
    opened_at: Instant,
    /// The client has joined the namespace.
    connected: bool,
    /// It has authenticated.
    seat: Option<Seat>,
    pings: Interval,
    unanswered_since: Option<Instant>,
}

impl Session {
    async fn run(&mut self) -> Result<(), End> {
        let open = json!({
            "sid": sid(),
            "upgrades": [],
            "pingInterval": millis(self.pace.ping_every),
            "pingTimeout": millis(self.pace.answer_within),
            "maxPayload": 1_000_000,
        });
        self.link.send(format!("0{open}")).await?;
        loop {
            let authenticate_until = self.opened_at + self.pace.authenticate_within;
            let answer_until = self.unanswered_since.map(|at| at + self.pace.answer_within);
            tokio::select! {
                received = self.link.receive() => {
                    if let Message::Text(text) = received? {
                        self.hear(Packet::parse(&text)).await?;
                    }
                }
                Some(text) = next(&mut self.seat) => self.link.send(text).await?,
                _ = self.pings.tick() => {
                    self.unanswered_since.get_or_insert(Instant::now());
                    self.link.send("2").await?;
                }
                () = sleep_until(authenticate_until), if self.seat.is_none() => {
                    return self.refuse("Authentication timeout").await;
                }
                () = sleep_until(answer_until.unwrap_or(authenticate_until)),
                    if answer_until.is_some() => return Err(End::SILENT),
            }
        }
    }

    async fn hear(&mut self, packet: Packet<'_>) -> Result<(), End> {
        match packet {
            Packet::Pong => self.unanswered_since = None,
            Packet::Ping(probe) => self.link.send(format!("3{probe}")).await?,
            Packet::Connect { namespace: "/" } => {
                self.connected = true;
                self.link
                    .send(format!("40{}", json!({"sid": sid()})))
                    .await?;
            }
            Packet::Connect { namespace } => {
                let refusal = json!({"message": "Invalid namespace"});
                self.link.send(format!("44{namespace},{refusal}")).await?;
            }
            Packet::Event { name, data } => {
                if name == "authenticate" && self.connected && self.seat.is_none() {
                    self.authenticate(&data).await?;
                }
            }
            Packet::Leave => return Err(End::DONE),
            Packet::Other => {}
        }
        Ok(())
    }

    async fn authenticate(&mut self, data: &Value) -> Result<(), End> {
        let token = data
            .get("token")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let Ok(claims) = identify(&self.api, token).await else {
            return self.refuse("Invalid access token").await;
        };
        // Admitted first: nothing that happens after the client hears of it is missed.
        let reins = self.link.reins();
        let seat = self.api.sockets().admit(claims.user, Door::SocketIo, reins);
        self.seat = Some(seat);
        let who = json!({"userId": claims.user, "email": claims.email});
        let authenticated = Frame::new("authenticated", &who);
        self.link
            .send(authenticated.text(Door::SocketIo).clone())
            .await
    }

    /// Says why and takes the client out of the namespace, so that it does not come back with the
    /// same token. A client that never joined has nothing to be taken out of.
    async fn refuse(&mut self, message: &str) -> Result<(), End> {
        if self.connected {
            let refusal = Frame::new("auth_error", &json!({"message": message}));
            self.link.send(refusal.text(Door::SocketIo).clone()).await?;
            self.link.send("41").await?;
        }
        Err(End::DONE)
    }
}

async fn next(seat: &mut Option<Seat>) -> Option<axum::extract::ws::Utf8Bytes> {
    match seat {
        Some(seat) => seat.next().await,
        None => None,
    }
}

fn sid() -> String {
    Uuid::new_v4().simple().to_string()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What a client may send.
#[derive(Debug, PartialEq)]
enum Packet<'a> {
    /// It answers our ping.
    Pong,
    /// It pings itself; what follows the digit goes back.
    Ping(&'a str),
    /// It joins a namespace.
    Connect { namespace: &'a str },
    /// An event with its first argument.
    Event { name: String, data: Value },
    /// It leaves the namespace or closes.
    Leave,
    /// Anything else, which is ignored.
    Other,
}

impl<'a> Packet<'a> {
    fn parse(text: &'a str) -> Self {
        let mut letters = text.chars();
        let kind = letters.next();
        match kind {
            Some('1') => Self::Leave,
            Some('2') => Self::Ping(letters.as_str()),
            Some('3') => Self::Pong,
            Some('4') => Self::message(letters.as_str()),
            _ => Self::Other,
        }
    }

    fn message(text: &'a str) -> Self {
        let mut letters = text.chars();
        let kind = letters.next();
        let (namespace, rest) = match letters.as_str() {
            rest if rest.starts_with('/') => rest.split_once(',').unwrap_or((rest, "")),
            rest => ("/", rest),
        };
        match (kind, namespace) {
            (Some('0'), namespace) => Self::Connect { namespace },
            (Some('1'), "/") => Self::Leave,
            (Some('2'), "/") => Self::event(rest).unwrap_or(Self::Other),
            _ => Self::Other,
        }
    }

    fn event(text: &str) -> Option<Self> {
        // An id before the list asks for an acknowledgement, which is not served.
        let list = text.trim_start_matches(|letter: char| letter.is_ascii_digit());
        let mut list = serde_json::from_str::<Vec<Value>>(list).ok()?.into_iter();
        let Some(Value::String(name)) = list.next() else {
            return None;
        };
        let data = list.next().unwrap_or_default();
        Some(Self::Event { name, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_told_apart() {
        let event = |name: &str, data| Packet::Event {
            name: name.to_owned(),
            data,
        };
        for (text, packet) in [
            ("3", Packet::Pong),
            ("2probe", Packet::Ping("probe")),
            ("1", Packet::Leave),
            ("40", Packet::Connect { namespace: "/" }),
            (r#"40{"token":"x"}"#, Packet::Connect { namespace: "/" }),
            (
                "40/admin,",
                Packet::Connect {
                    namespace: "/admin",
                },
            ),
            (
                "40/admin",
                Packet::Connect {
                    namespace: "/admin",
                },
            ),
            ("41", Packet::Leave),
            ("41/admin,", Packet::Other),
            (r#"42["a",{"b":1}]"#, event("a", json!({"b": 1}))),
            (r#"4217["a"]"#, event("a", Value::Null)),
            (r#"42/,["a"]"#, event("a", Value::Null)),
            (r#"42/admin,["a"]"#, Packet::Other),
        ] {
            assert_eq!(Packet::parse(text), packet, "{text}");
        }
    }

    #[test]
    fn nonsense_is_ignored() {
        for text in [
            "", "4", "42", "42[", "42[7]", "42{}", "43[]", "45-[]", "9", "é", "4é",
        ] {
            assert_eq!(Packet::parse(text), Packet::Other, "{text}");
        }
    }
}
