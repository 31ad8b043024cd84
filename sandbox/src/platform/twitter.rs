//! X: OAuth 2.0 with PKCE, direct messages, webhooks of both generations.
//!
//! Played: the dialog, tokens that expire after two hours and refresh tokens that work once (using
//! one again ends the whole family), users, sending, pages of messages, the limits of both with
//! their headers, registering a webhook with its challenge, subscriptions. Webhooks arrive without a
//! subscription too, because the sandbox forgets those when it restarts; they stop when a challenge
//! fails, as on X. What a customer attaches is a photo, which only a participant gets from the API, or
//! a clip at an address of its own. Not played: uploads, groups, encrypted chat, credits.

mod answers;
mod attached;
mod login;
mod media;
mod messages;
mod webhook;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use axum::routing::{post, put};
use axum::{Json, Router};
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::{Incoming, Player, Written};
use crate::call::{Call, text};
use crate::control::{BadInput, parse};
use crate::faults::{Fault, Op};
use crate::ledger::hold;
use crate::world::{World, now_ms};
use crate::{Options, TwitterApp};
use answers::{Answer, Problem};
use messages::Message;

/// The name of this platform.
const NAME: &str = "twitter";
/// Who connects without choosing another account: id, user name, display name.
const HOME: (&str, &str, &str) = ("1700000000000000101", "northwind_desk", "Northwind");
/// Where the scripted customers write.
const DEMO: (&str, &str, &str) = (
    crate::DEMO_TWITTER_USER,
    "northwind_teapots",
    "Northwind Teapots",
);
/// How long a hanging platform keeps the hub waiting.
const HANG: Duration = Duration::from_secs(60);
/// Seconds an access token lives.
const TOKEN_LIVES_S: u64 = 7200;
/// When ids began to carry the time of their making.
const EPOCH_MS: i64 = 1_288_834_974_657;

/// A person's agreement, waiting to be exchanged.
struct Code {
    redirect_uri: String,
    challenge: String,
    user: String,
    issued: Instant,
}

/// The app's webhook.
struct Hook {
    id: String,
    url: String,
}

/// Which generation of webhooks is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Envelope {
    /// X Activity.
    Activity,
    /// Account Activity, the older one.
    Account,
    /// None: the hub has to come and fetch.
    None,
}

/// What the platform remembers.
struct Memory {
    /// Id to user name and display name.
    users: BTreeMap<String, (String, String)>,
    /// Users the next people who connect will be, in order.
    choices: VecDeque<String>,
    codes: HashMap<String, Code>,
    /// Families of tokens that are over.
    revoked: BTreeSet<String>,
    /// Users who have taken the app's permission back and not given it again.
    withdrawn: BTreeSet<String>,
    /// Refresh tokens that have worked.
    spent: BTreeSet<String>,
    lifetime_s: u64,
    /// User id to the moment before which given out access tokens have expired.
    expired_ms: BTreeMap<String, i64>,
    hook: Option<Hook>,
    /// False after a failed challenge: nothing is delivered any more.
    valid: bool,
    envelope: Envelope,
    /// User id and event type to the subscription's id.
    subscriptions: BTreeMap<(String, String), String>,
    /// Oldest first.
    messages: Vec<Message>,
    last_id: i64,
    /// Who asked what, to when its window began and how much of it is used.
    windows: HashMap<(String, &'static str), (i64, u32)>,
}

/// The player.
pub(crate) struct X {
    world: Arc<World>,
    app: TwitterApp,
    memory: Mutex<Memory>,
    pieces: media::Pieces,
}

impl X {
    /// The platform with two users.
    pub(crate) fn new(world: &Arc<World>, options: &Options) -> Self {
        let users = [HOME, DEMO]
            .map(|(id, username, name)| (id.to_owned(), (username.to_owned(), name.to_owned())));
        Self {
            world: Arc::clone(world),
            app: options.twitter.clone(),
            memory: Mutex::new(Memory {
                users: BTreeMap::from(users),
                choices: VecDeque::new(),
                codes: HashMap::new(),
                revoked: BTreeSet::new(),
                withdrawn: BTreeSet::new(),
                spent: BTreeSet::new(),
                lifetime_s: TOKEN_LIVES_S,
                expired_ms: BTreeMap::new(),
                hook: None,
                valid: true,
                envelope: Envelope::Activity,
                subscriptions: BTreeMap::new(),
                messages: Vec::new(),
                last_id: 0,
                windows: HashMap::new(),
            }),
            pieces: media::Pieces::default(),
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        hold(&self.memory)
    }

    /// An id that no other message has and that tells when it was made.
    fn new_id(&self) -> String {
        let mut memory = self.memory();
        memory.last_id = (memory.last_id + 1).max((now_ms() - EPOCH_MS) << 22);
        memory.last_id.to_string()
    }

    /// A user as the second version of the API shows one.
    fn user(&self, id: &str) -> Value {
        let known = self.memory().users.get(id).cloned();
        // Users from before a restart are still there, only their names are forgotten.
        let (username, name) =
            known.unwrap_or_else(|| (format!("user_{id}"), format!("User {id}")));
        json!({"id": id, "name": name, "username": username})
    }

    async fn dispatch(self: Arc<Self>, call: Call) -> Response {
        let segments = call.segments();
        let path = segments.as_slice();
        // Sending looks for its fault itself, after it has checked the message; so do media.
        let op = match (&call.method, path) {
            (_, ["2", "dm_conversations", "media", ..]) => None,
            (_, ["2", "oauth2", "token"] | ["2", "users", ..]) => Some(Op::Token),
            (&Method::GET, ["2", "dm_events" | "dm_conversations", ..]) => Some(Op::Fetch),
            _ => None,
        };
        match op.and_then(|op| self.world.faults.hit(NAME, op)) {
            Some(Fault::Status {
                status,
                retry_after_s,
            }) => answers::refuse(status, retry_after_s),
            Some(Fault::Hang | Fault::AcceptNoReply) => call.leave_unanswered(HANG).await,
            None => self.route(&call, path).await.into_response(),
        }
    }

    async fn route(self: &Arc<Self>, call: &Call, path: &[&str]) -> Answer {
        match (&call.method, path) {
            (&Method::GET, ["i", "oauth2", "authorize"]) => Ok(self.dialog(call)),
            (&Method::POST, ["2", "oauth2", "token"]) => Ok(self.token(call)),
            (&Method::POST, ["2", "oauth2", "revoke"]) => Ok(self.revoke(call)),
            (&Method::GET, ["2", "users", "me"]) => {
                let user = self.caller(call)?;
                Ok(answers::ok(&json!({"data": self.user(&user)})))
            }
            (&Method::GET, ["2", "users", id]) => {
                self.caller(call)?;
                Ok(answers::ok(&json!({"data": self.user(id)})))
            }
            (&Method::POST, ["2", "dm_conversations", "with", to, "messages"]) => {
                self.send(call, to).await
            }
            (&Method::POST, ["2", "dm_conversations", conversation, "messages"]) => {
                let user = self.caller(call)?;
                let both = conversation.split_once('-');
                let other = match both {
                    Some((one, other)) if one == user => other,
                    Some((one, other)) if other == user => one,
                    _ => return Err(Problem::not_found("dm_conversation")),
                };
                self.send(call, other).await
            }
            (&Method::POST, ["2", "media", "upload", ..]) => self.upload(call, &path[3..]).await,
            (&Method::GET, ["2", "media", "upload"]) => self.upload_status(call),
            (&Method::GET, ["2", "dm_events"]) => self.events(call, None),
            (&Method::GET, ["2", "dm_conversations", "with", other, "dm_events"]) => {
                self.events(call, Some(other))
            }
            (&Method::GET, ["2", "dm_events", id]) => self.event(call, id),
            (&Method::GET, ["2", "dm_conversations", "media", message, id, resource]) => {
                self.photo(call, message, id, resource).await
            }
            (&Method::GET, ["twimg", "dm_video", id, _]) => self.clip(call, id).await,
            (_, ["2", "webhooks", ..] | ["2", "activity", "subscriptions", ..]) => {
                self.webhooks(call, &path[1..]).await
            }
            _ => Err(Problem::not_found("path")),
        }
    }
}

impl Player for X {
    fn name(&self) -> &'static str {
        NAME
    }

    fn home(&self) -> String {
        HOME.0.to_owned()
    }

    fn shop(&self) -> String {
        DEMO.0.to_owned()
    }

    fn claims(&self, call: &Call) -> bool {
        matches!(
            call.segments().as_slice(),
            ["2", ..] | ["i", "oauth2", ..] | ["twimg", ..]
        )
    }

    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Response> {
        Box::pin(self.dispatch(call))
    }

    fn write(&self, incoming: &Incoming) -> Result<Written, String> {
        let from = &incoming.from_id;
        if from.is_empty() || !from.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("from.id must be digits only on twitter".to_owned());
        }
        let account = incoming.account.clone().unwrap_or_else(|| self.home());
        let username = handle(&incoming.from_name);
        self.memory()
            .users
            .insert(from.clone(), (username, incoming.from_name.clone()));
        let mut message = Message::new(self.new_id(), from, &account, &incoming.text);
        let id = self.new_id();
        message.medium = incoming
            .media
            .as_ref()
            .map(|it| attached::Medium::new(id, it));
        self.memory().messages.push(message.clone());
        Ok(Written {
            message_id: message.id.clone(),
            webhook: self.message_webhook(&account, &message),
        })
    }

    fn controls(self: Arc<Self>) -> Router {
        Router::new()
            .route("/control/twitter/users", post(add_user))
            .route("/control/twitter/tokens", put(set_lifetime))
            .route("/control/twitter/expire", post(expire))
            .route("/control/twitter/delivery", put(set_delivery))
            .route("/control/twitter/crc", post(challenge))
            .route("/control/twitter/revoke", post(withdraw))
            .route("/control/twitter/read", post(read))
            .with_state(self)
    }

    fn reset(&self) {
        let mut memory = self.memory();
        memory.messages.clear();
        memory.choices.clear();
        memory.windows.clear();
        memory.expired_ms.clear();
        memory.lifetime_s = TOKEN_LIVES_S;
        memory.envelope = Envelope::Activity;
        memory.valid = true;
    }
}

/// A user name made of a display name: what is allowed in one, at most 15 letters.
fn handle(name: &str) -> String {
    let letters = name.to_lowercase().replace(' ', "_");
    let letters = letters
        .chars()
        .filter(|it| it.is_ascii_alphanumeric() || *it == '_');
    letters.take(15).collect()
}

/// Makes a user, whom the next person who connects will be.
async fn add_user(State(x): State<Arc<X>>, body: Bytes) -> Result<Json<Value>, BadInput> {
    let body: Value = parse(&body)?;
    let id = text(&body["id"])
        .filter(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()))
        .ok_or_else(|| BadInput("id must be a user id, digits only".to_owned()))?;
    let username = body["username"]
        .as_str()
        .filter(|name| !name.is_empty())
        .ok_or_else(|| BadInput("username must be a non-empty string".to_owned()))?;
    let name = body["name"].as_str().unwrap_or(username);
    let mut memory = x.memory();
    let user = (username.to_owned(), name.to_owned());
    memory.users.insert(id.clone(), user);
    memory.choices.push_back(id);
    Ok(Json(json!({"ok": true})))
}

async fn set_lifetime(State(x): State<Arc<X>>, body: Bytes) -> Result<Json<Value>, BadInput> {
    let body: Value = parse(&body)?;
    let seconds = body["lifetime"]
        .as_u64()
        .ok_or_else(|| BadInput("lifetime must be a number of seconds".to_owned()))?;
    x.memory().lifetime_s = seconds;
    Ok(Json(json!({"ok": true})))
}

async fn expire(State(x): State<Arc<X>>, body: Bytes) -> Result<Json<Value>, BadInput> {
    let body: Value = parse(&body)?;
    let account = text(&body["account"]);
    let mut memory = x.memory();
    let users: Vec<String> = memory.users.keys().cloned().collect();
    for user in users
        .into_iter()
        .filter(|user| account.as_ref().is_none_or(|it| it == user))
    {
        memory.expired_ms.insert(user, now_ms());
    }
    Ok(Json(json!({"ok": true})))
}

async fn set_delivery(State(x): State<Arc<X>>, body: Bytes) -> Result<Json<Value>, BadInput> {
    let body: Value = parse(&body)?;
    let envelope = match body["envelope"].as_str() {
        Some("xaa") => Envelope::Activity,
        Some("aaa") => Envelope::Account,
        Some("none") => Envelope::None,
        _ => {
            return Err(BadInput(
                "envelope must be one of xaa, aaa, none".to_owned(),
            ));
        }
    };
    x.memory().envelope = envelope;
    Ok(Json(json!({"ok": true})))
}

async fn challenge(State(x): State<Arc<X>>) -> Json<Value> {
    let valid = x.prove().await;
    Json(json!({"valid": valid}))
}

/// A user takes the app's permission back on X.
async fn withdraw(State(x): State<Arc<X>>, body: Bytes) -> Result<Json<Value>, BadInput> {
    let body: Value = parse(&body)?;
    let account = text(&body["account"]).unwrap_or_else(|| x.home());
    x.memory().withdrawn.insert(account.clone());
    let webhook = x
        .revoke_webhook(&account)
        .ok_or_else(|| BadInput("there is no webhook".to_owned()))?;
    let delivery = x.world.deliver(webhook, 1).await;
    Ok(Json(
        json!({"status": delivery.status, "outcome": delivery.outcome}),
    ))
}

async fn read(State(x): State<Arc<X>>, body: Bytes) -> Result<Json<Value>, BadInput> {
    let body: Value = parse(&body)?;
    let from = text(&body["from"]).ok_or_else(|| BadInput("from must be a user id".to_owned()))?;
    let account = text(&body["account"]).unwrap_or_else(|| x.home());
    let webhook = x
        .read_webhook(&account, &from)
        .ok_or_else(|| BadInput("there is nothing to read, or no webhook".to_owned()))?;
    let delivery = x.world.deliver(webhook, 1).await;
    Ok(Json(
        json!({"status": delivery.status, "outcome": delivery.outcome}),
    ))
}
