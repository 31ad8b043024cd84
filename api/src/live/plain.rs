//! The plain door: one JSON object per text frame (contract 3.1).

use std::time::Instant;

use axum::extract::ws::{Message, WebSocket};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::{MissedTickBehavior, interval_at, sleep_until};

use super::frame::Frame;
use super::link::{End, Link};
use super::sockets::{Door, Seat};
use crate::Api;
use crate::auth::{Claims, identify};

/// Serves one connection until it ends.
pub(super) async fn serve(api: Api, socket: WebSocket, token: Option<String>) {
    let mut link = Link::new(socket, api.sockets());
    // The upgrade is accepted first: a browser shows its page no status of a refused one.
    let end = match authenticate(&api, token.as_deref()).await {
        Ok(claims) => {
            let mut seat = api.sockets().admit(claims.user, Door::Plain, link.reins());
            converse(&api, &mut link, &mut seat, &claims).await
        }
        Err(end) => end,
    };
    link.close(end).await;
}

async fn authenticate(api: &Api, token: Option<&str>) -> Result<Claims, End> {
    let token = token
        .filter(|token| !token.is_empty())
        .ok_or(End::unauthenticated("An access token is required"))?;
    identify(api, token)
        .await
        .map_err(|_| End::unauthenticated("The access token is invalid or expired"))
}

async fn converse(api: &Api, link: &mut Link, seat: &mut Seat, claims: &Claims) -> End {
    match exchange(api, link, seat, claims).await {
        Ok(()) => End::DONE,
        Err(end) => end,
    }
}

async fn exchange(api: &Api, link: &mut Link, seat: &mut Seat, who: &Claims) -> Result<(), End> {
    let pace = api.sockets().pace();
    let first_ping = tokio::time::Instant::now() + pace.ping_every;
    let mut pings = interval_at(first_ping, pace.ping_every);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    let authenticated = Frame::new(
        "authenticated",
        &json!({"userId": who.user, "email": who.email}),
    );
    link.send(authenticated.text(Door::Plain).clone()).await?;
    loop {
        tokio::select! {
            received = link.receive() => {
                heard = Instant::now();
                if let Message::Text(text) = received?
                    && let Some(answer) = answer(&text)
                {
                    link.send(answer).await?;
                }
            }
            Some(text) = seat.next() => link.send(text).await?,
            _ = pings.tick() => link.ping().await?,
            () = sleep_until((heard + pace.silence_max).into()) => return Err(End::SILENT),
        }
    }
}

/// What a client may say. Raw, so that the timestamp goes back as it came.
#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
}

fn answer(text: &str) -> Option<String> {
    let Ok(said) = serde_json::from_str::<Said<'_>>(text) else {
        let data = json!({"message": "Expected a JSON object with an event"});
        return Some(json!({"event": "error", "data": data}).to_string());
    };
    let event: String = serde_json::from_str(said.event?.get()).ok()?;
    if event != "ping" {
        return None;
    }
    let timestamp = said.timestamp.map_or("null", RawValue::get);
    Some(format!(r#"{{"event":"pong","timestamp":{timestamp}}}"#))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_comes_back_with_its_timestamp_as_it_was() {
        let pong = |timestamp| Some(format!(r#"{{"event":"pong","timestamp":{timestamp}}}"#));
        assert_eq!(answer(r#"{"event":"ping","timestamp":123}"#), pong("123"));
        assert_eq!(answer(r#"{"timestamp":1.50,"event":"ping"}"#), pong("1.50"));
        assert_eq!(answer(r#"{"event":"ping","timestamp":null}"#), pong("null"));
        assert_eq!(answer(r#"{"event":"ping"}"#), pong("null"));
    }

    #[test]
    fn unknown_events_are_ignored_and_nonsense_is_answered() {
        for ignored in [r#"{"event":"subscribe","data":{}}"#, r#"{"event":7}"#, "{}"] {
            assert_eq!(answer(ignored), None);
        }
        for nonsense in ["", "hello", "{", "7", r#"{"event":"ping"} trailing"#] {
            let error = answer(nonsense).unwrap();
            assert!(error.contains(r#""event":"error""#), "{error}");
        }
    }
}
