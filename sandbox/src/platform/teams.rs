//! Microsoft Teams through Graph.
//!
//! Played: the sign-in pages of any tenant, the token endpoint with refresh tokens that rotate, the
//! signed-in person, subscriptions with their handshake, change notifications and lifecycle events,
//! chats and their messages. Notifications go to the hub's address that the controls know, under the
//! path of the subscription's. Pictures are hosted by Graph, files are in a drive that Graph knows by
//! their shares. Chats of two exist as soon as anybody names them, because their
//! names say who is in them; so they survive a restart of the sandbox, as tokens do. Not played:
//! channels, uploads, encrypted notifications.

mod chats;
mod controls;
mod files;
mod login;
mod notify;
mod send;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::{Incoming, Player, Written};
use crate::Options;
use crate::call::Call;
use crate::faults::{Fault, Op};
use crate::ledger::hold;
use crate::world::World;

/// The name of this platform.
const NAME: &str = "teams";
/// The organisation everybody works for.
const TENANT: &str = "6f1a0c11-0000-4000-8000-00000000a001";
/// Who connects unless somebody else is named.
const DEFAULT_PERSON: (&str, &str) = ("a1a1a1a1-0000-4000-8000-000000000001", "Nora Wind");
/// Whom the scripted customers of the demo write to.
const DEMO_PERSON: (&str, &str) = (crate::DEMO_TEAMS_PERSON, "Northwind Desk");
/// How long a hanging platform keeps the hub waiting.
const HANG: Duration = Duration::from_secs(60);

/// What the platform remembers.
#[derive(Default)]
struct Memory {
    /// Person id to name.
    people: BTreeMap<String, String>,
    /// The next people who connect, in order.
    choices: VecDeque<String>,
    codes: HashMap<String, login::Code>,
    /// Tokens of this person from before this moment are worth nothing: access, refresh.
    void_before: HashMap<String, (i64, i64)>,
    subscriptions: BTreeMap<String, notify::Subscription>,
    chats: BTreeMap<String, chats::Chat>,
    last_message_ms: i64,
}

/// The player.
pub(crate) struct Graph {
    world: Arc<World>,
    client_id: String,
    client_secret: String,
    state: Mutex<Memory>,
}

/// A refusal in Graph's words.
struct GraphError {
    status: u16,
    code: &'static str,
    message: String,
    retry_after_s: Option<u64>,
}

/// An answer, or the platform's refusal.
type Answer = Result<Response, GraphError>;

impl GraphError {
    fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            retry_after_s: None,
        }
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    fn not_found() -> Self {
        Self::new(404, "NotFound", "NotFound")
    }

    /// What the platform says when a fault makes it refuse with this status.
    fn told(status: u16, retry_after_s: Option<u64>) -> Self {
        let (code, message) = match status {
            401 => (
                "InvalidAuthenticationToken",
                "Access token has expired or is not yet valid.",
            ),
            403 => (
                "Forbidden",
                "The initiating user is not in roster of the chat.",
            ),
            404 => ("NotFound", "NotFound"),
            413 => ("RequestEntityTooLarge", "Request Entity too large"),
            429 => ("TooManyRequests", "Too many requests"),
            503 => ("ServiceUnavailable", "Service unavailable"),
            500.. => ("InternalServerError", "Failed to execute the request"),
            _ => ("BadRequest", "Invalid request"),
        };
        Self {
            retry_after_s,
            ..Self::new(status, code, message)
        }
    }
}

impl IntoResponse for GraphError {
    fn into_response(self) -> Response {
        let id = uuid::Uuid::new_v4().to_string();
        let date = chrono::Utc::now().format("%Y-%m-%dT%H:%M:%S").to_string();
        let body = json!({"error": {
            "code": self.code,
            "message": self.message,
            "innerError": {"date": date, "request-id": id, "client-request-id": id},
        }});
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        let mut answer = reply(status, &body);
        let mut set = |name: &'static str, value: String| {
            if let Ok(value) = HeaderValue::from_str(&value) {
                let name = HeaderName::from_static(name);
                answer.headers_mut().insert(name, value);
            }
        };
        set("request-id", id);
        if let Some(seconds) = self.retry_after_s {
            set("retry-after", seconds.to_string());
        }
        answer
    }
}

/// A JSON answer as Graph makes it.
fn reply(status: StatusCode, body: &Value) -> Response {
    let kind = "application/json; odata.metadata=minimal; charset=utf-8";
    (status, [(header::CONTENT_TYPE, kind)], body.to_string()).into_response()
}

fn ok(body: &Value) -> Answer {
    Ok(reply(StatusCode::OK, body))
}

impl Graph {
    /// The platform with two people who may connect.
    pub(crate) fn new(world: &Arc<World>, options: &Options) -> Self {
        let people = [DEFAULT_PERSON, DEMO_PERSON].map(|(id, name)| (id.into(), name.into()));
        Self {
            world: Arc::clone(world),
            client_id: options.teams_client_id.clone(),
            client_secret: options.teams_client_secret.clone(),
            state: Mutex::new(Memory {
                people: BTreeMap::from(people),
                ..Memory::default()
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, Memory> {
        hold(&self.state)
    }

    /// A person's name. Who connected before a restart is still somebody.
    fn name_of(&self, person: &str) -> String {
        let known = self.state().people.get(person).cloned();
        known.unwrap_or_else(|| format!("Person {person}"))
    }

    async fn dispatch(self: Arc<Self>, call: Call) -> Response {
        let decoded: Vec<String> = call.segments().into_iter().map(decoded).collect();
        let path: Vec<&str> = decoded.iter().map(String::as_str).collect();
        // Sending looks for its fault itself, after it has checked the message; so do media.
        let op = match (&call.method, &path[..]) {
            (_, [_, "chats", _, "messages", _, "hostedContents", ..]) => None,
            (_, [_, "oauth2", "v2.0", "token"] | [_, "me"]) => Some(Op::Token),
            (&Method::GET, [_, "me", "chats"] | [_, "chats", ..]) => Some(Op::Fetch),
            _ => None,
        };
        match op.and_then(|op| self.world.faults.hit(NAME, op)) {
            Some(Fault::Status {
                status,
                retry_after_s,
            }) => GraphError::told(status, retry_after_s).into_response(),
            Some(Fault::Hang | Fault::AcceptNoReply) => call.leave_unanswered(HANG).await,
            None => self.route(&call, &path).await.into_response(),
        }
    }

    async fn route(self: &Arc<Self>, call: &Call, path: &[&str]) -> Answer {
        match (&call.method, path) {
            (&Method::GET, [tenant, "oauth2", "v2.0", "authorize"]) => {
                Ok(self.authorize(call, tenant))
            }
            (&Method::POST, [tenant, "oauth2", "v2.0", "token"]) => Ok(self.token(call, tenant)),
            (&Method::GET, [_, "me"]) => self.me(call),
            (&Method::GET, [_, "me", "chats"]) => self.list_chats(call),
            (&Method::GET, [_, "chats", chat, "messages"]) => self.list_messages(call, chat),
            (&Method::GET, [_, "chats", chat, "messages", id]) => self.message(call, chat, id),
            (
                &Method::GET,
                [
                    _,
                    "chats",
                    chat,
                    "messages",
                    id,
                    "hostedContents",
                    name,
                    "$value",
                ],
            ) => self.hosted(call, chat, id, name).await,
            (&Method::GET, [_, "shares", share, "driveItem"]) => self.drive_item(call, share),
            (&Method::GET, ["drive", name]) => self.file(call, name).await,
            (&Method::POST, [_, "chats", chat, "messages"]) => self.send(call, chat).await,
            (&Method::POST, [_, "subscriptions"]) => self.subscribe(call).await,
            (&Method::GET, [_, "subscriptions"]) => self.list_subscriptions(call),
            (&Method::PATCH, [_, "subscriptions", id]) => self.renew(call, id),
            (&Method::POST, [_, "subscriptions", id, "reauthorize"]) => self.reauthorize(call, id),
            (&Method::DELETE, [_, "subscriptions", id]) => self.unsubscribe(call, id),
            _ => Err(GraphError::bad(format!(
                "Resource not found for the segment '{}'.",
                path.last().unwrap_or(&"")
            ))),
        }
    }
}

impl Player for Graph {
    fn name(&self) -> &'static str {
        NAME
    }

    fn home(&self) -> String {
        DEFAULT_PERSON.0.to_owned()
    }

    fn shop(&self) -> String {
        DEMO_PERSON.0.to_owned()
    }

    fn claims(&self, call: &Call) -> bool {
        match call.segments()[..] {
            [first, ..] if first == "v1.0" || first == "beta" => true,
            [_, "oauth2", "v2.0", ..] | ["drive", _] => true,
            _ => false,
        }
    }

    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Response> {
        Box::pin(self.dispatch(call))
    }

    fn write(&self, incoming: &Incoming) -> Result<Written, String> {
        let person = incoming.account.clone().unwrap_or_else(|| self.home());
        let from = &incoming.from_id;
        if from.contains(['/', '_', '\'', '@']) {
            return Err("from.id must be an id of a person".to_owned());
        }
        self.state()
            .people
            .insert(from.clone(), incoming.from_name.clone());
        let chat = chats::name_of_two(&person, from);
        let id = match &incoming.media {
            Some(media) => self.add_with_media(&chat, from, &incoming.text, media),
            None => self.add_message(&chat, from, "text", &incoming.text),
        };
        Ok(Written {
            webhook: self.notification(&person, &chat, &id, "created"),
            message_id: id,
        })
    }

    fn controls(self: Arc<Self>) -> Router {
        controls::router(self)
    }

    fn reset(&self) {
        let mut state = self.state();
        state.chats.clear();
        state.choices.clear();
    }
}

/// A part of a path without its escapes.
fn decoded(part: &str) -> String {
    let (bytes, mut plain) = (part.as_bytes(), Vec::with_capacity(part.len()));
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| bytes.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| hex::decode(digits).ok());
        match escaped {
            Some(byte) => {
                plain.extend(byte);
                at += 3;
            }
            None => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}
