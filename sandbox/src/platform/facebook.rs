//! Facebook Messenger for Pages.
//!
//! Played: the login dialog, token exchange, Pages, subscriptions, sending with echo and delivery
//! receipt, profiles and a thread history that is exactly what was exchanged here. Webhooks arrive
//! whether or not the hub has subscribed the Page: a subscription would be forgotten with every
//! restart of the sandbox, and the hub has no reason to repeat it. Not played: the 24-hour window
//! (a send fault with status 403 says what the platform would), media uploads, the inbox folders.

mod fetch;
mod login;
mod send;
mod webhook;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::graph::{self, Answer, GraphError, Token};
use super::{Incoming, Player, Written};
use crate::Options;
use crate::call::{Call, text};
use crate::control::{BadInput, parse};
use crate::faults::{Fault, Op};
use crate::ledger::hold;
use crate::sign::hmac_hex;
use crate::world::World;

/// The name of this platform.
const NAME: &str = "facebook";
/// The Page everybody grants who does not choose another, and its name.
const DEFAULT_PAGE: (&str, &str) = ("104857600112233", "Teapots");
/// The Page of the demo, where the scripted customers write: they never disturb whoever connects
/// the default one.
const DEMO_PAGE: (&str, &str) = (crate::DEMO_FACEBOOK_PAGE, "Northwind Teapots");
/// How long a hanging platform keeps the hub waiting.
const HANG: Duration = Duration::from_secs(60);

/// A person's agreement, waiting to be exchanged for a token.
struct Code {
    redirect_uri: String,
    page: String,
    grant: String,
    issued: Instant,
}

/// What the platform remembers.
struct Memory {
    /// Page id to name.
    pages: BTreeMap<String, String>,
    /// Pages the next people who connect will choose, in order.
    choices: VecDeque<String>,
    codes: HashMap<String, Code>,
    revoked: BTreeSet<String>,
    /// Page id to subscribed fields.
    subscriptions: BTreeMap<String, String>,
    /// Page-scoped user id to name.
    people: BTreeMap<String, String>,
    threads: BTreeMap<fetch::ThreadKey, fetch::Thread>,
}

/// The player.
pub(crate) struct Messenger {
    world: Arc<World>,
    app_id: String,
    app_secret: String,
    state: Mutex<Memory>,
}

impl Messenger {
    /// The platform with one Page.
    pub(crate) fn new(world: &Arc<World>, options: &Options) -> Self {
        let pages = [DEFAULT_PAGE, DEMO_PAGE].map(|(id, name)| (id.to_owned(), name.to_owned()));
        Self {
            world: Arc::clone(world),
            app_id: options.facebook_app_id.clone(),
            app_secret: options.facebook_app_secret.clone(),
            state: Mutex::new(Memory {
                pages: BTreeMap::from(pages),
                choices: VecDeque::new(),
                codes: HashMap::new(),
                revoked: BTreeSet::new(),
                subscriptions: BTreeMap::new(),
                people: BTreeMap::new(),
                threads: BTreeMap::new(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, Memory> {
        hold(&self.state)
    }

    /// A Page's name. Pages made before a restart are still there, only their names are forgotten.
    fn page_name(&self, page: &str) -> String {
        let known = self.state().pages.get(page).cloned();
        known.unwrap_or_else(|| format!("Page {page}"))
    }

    /// Whose token a call carries, or the platform's refusal.
    fn bearer(&self, call: &Call) -> Result<Token, GraphError> {
        let param = call.param("access_token");
        let Some(given) = call.bearer().map(str::to_owned).or(param) else {
            let words = "An active access token must be used to query information about the \
                         current user.";
            return Err(GraphError::new(2500, words));
        };
        let token = Token::read(&self.app_secret, &given).ok_or_else(|| {
            let words = "Invalid OAuth access token - Cannot parse access token";
            GraphError::new(190, words)
        })?;
        if self.state().revoked.contains(&token.grant) {
            let words = "Error validating access token: The user has not authorized application.";
            return Err(GraphError::new(190, words).sub(458));
        }
        let proof = hmac_hex(self.app_secret.as_bytes(), given.as_bytes());
        match call.param("appsecret_proof") {
            Some(claimed) if claimed != proof => {
                let words = "Invalid appsecret_proof provided in the API argument";
                Err(GraphError::new(100, words))
            }
            _ => Ok(token),
        }
    }

    async fn dispatch(self: Arc<Self>, call: Call) -> Response {
        let segments = call.segments();
        if let ["media", NAME, name] = segments[..] {
            return self.world.hand_out(NAME, &call, name).await;
        }
        let path = segments.get(1..).unwrap_or_default();
        let method = graph::method(&call);
        // Sending looks for its fault itself, after it has checked the message.
        let op = match (&method, path) {
            (_, ["oauth", "access_token"] | ["debug_token"]) => Some(Op::Token),
            (&Method::GET, ["dialog", "oauth"]) => None,
            (&Method::GET, [_] | [_, "accounts" | "conversations" | "messages"]) => Some(Op::Fetch),
            _ => None,
        };
        match op.and_then(|op| self.world.faults.hit(NAME, op)) {
            Some(Fault::Status {
                status,
                retry_after_s,
            }) => graph::refuse(&self.app_id, status, retry_after_s),
            Some(Fault::Hang | Fault::AcceptNoReply) => call.leave_unanswered(HANG).await,
            None => self.route(&call, &method, path).await.into_response(),
        }
    }

    async fn route(self: &Arc<Self>, call: &Call, method: &Method, path: &[&str]) -> Answer {
        match (method, path) {
            (&Method::GET, ["dialog", "oauth"]) => Ok(self.dialog(call)),
            (_, ["oauth", "access_token"]) => self.access_token(call),
            (&Method::GET, ["debug_token"]) => self.debug_token(call),
            (&Method::GET, ["me", "accounts"]) => self.accounts(call),
            (&Method::DELETE, [_, "permissions"]) => self.revoke(call),
            (_, [page, "subscribed_apps"]) => self.subscribed_apps(call, method, page),
            (&Method::POST, [node, "messages"]) => self.send(call, node).await,
            (&Method::GET, [page, "conversations"]) => self.conversations(call, page),
            (&Method::GET, [thread, "messages"]) => self.messages(call, thread),
            (&Method::GET, [id]) => self.object(call, id),
            (_, [id]) => Err(graph::not_found(id)),
            _ => {
                let words = format!("Unknown path components: /{}", path.join("/"));
                Err(GraphError::new(2500, words))
            }
        }
    }
}

impl Player for Messenger {
    fn name(&self) -> &'static str {
        NAME
    }

    fn home(&self) -> String {
        DEFAULT_PAGE.0.to_owned()
    }

    fn shop(&self) -> String {
        DEMO_PAGE.0.to_owned()
    }

    fn claims(&self, call: &Call) -> bool {
        graph::is_versioned(call) || matches!(call.segments()[..], ["media", NAME, _])
    }

    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Response> {
        Box::pin(self.dispatch(call))
    }

    fn write(&self, incoming: &Incoming) -> Result<Written, String> {
        let page = incoming.account.clone().unwrap_or_else(|| self.home());
        let mid = self.new_mid();
        let psid = &incoming.from_id;
        self.state()
            .people
            .insert(psid.clone(), incoming.from_name.clone());
        self.remember(&page, psid, fetch::Line::from_person(&mid, &incoming.text));
        let webhook = self.message_webhook(&page, psid, &mid, incoming);
        Ok(Written {
            message_id: mid,
            webhook: Some(webhook),
        })
    }

    fn controls(self: Arc<Self>) -> Router {
        Router::new()
            .route("/control/pages", post(add_page).get(pages))
            .with_state(self)
    }

    fn reset(&self) {
        let mut state = self.state();
        state.threads.clear();
        state.choices.clear();
    }
}

/// Makes a Page, which the next person who connects grants instead of the default one.
async fn add_page(
    State(messenger): State<Arc<Messenger>>,
    body: Bytes,
) -> Result<Json<Value>, BadInput> {
    let body: Value = parse(&body)?;
    let id = text(&body["id"])
        .filter(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()))
        .ok_or_else(|| BadInput("id must be a page id, digits only".to_owned()))?;
    let name = body["name"]
        .as_str()
        .filter(|name| !name.is_empty())
        .ok_or_else(|| BadInput("name must be a non-empty string".to_owned()))?;
    let mut state = messenger.state();
    state.pages.insert(id.clone(), name.to_owned());
    state.choices.push_back(id);
    Ok(Json(json!({"ok": true})))
}

async fn pages(State(messenger): State<Arc<Messenger>>) -> Json<Value> {
    let state = messenger.state();
    let pages: Vec<Value> = state
        .pages
        .iter()
        .map(|(id, name)| json!({"id": id, "name": name}))
        .collect();
    Json(json!({"pages": pages}))
}
