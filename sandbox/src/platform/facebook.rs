//! Facebook Messenger for Pages.
//!
//! Played: the login dialog, token exchange, Pages, subscriptions, sending with echo and delivery
//! receipt, profiles and a thread history that is exactly what was exchanged here. Webhooks arrive
//! whether or not the hub has subscribed the Page: a subscription would be forgotten with every
//! restart of the sandbox, and the hub has no reason to repeat it. Not played: the 24-hour window
//! (a send fault with status 403 says what the platform would), media uploads, the inbox folders.

mod fetch;
mod send;
mod upload;
mod webhook;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use axum::routing::{post, put};
use axum::{Json, Router};
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::graph::{self, Answer, GraphError, Kind, Login, Product, Token};
use super::{Incoming, Player, Written};
use crate::Options;
use crate::call::{Call, text};
use crate::control::{BadInput, parse};
use crate::faults::Op;
use crate::ledger::hold;
use crate::world::World;

/// The name of this platform.
const NAME: &str = "facebook";
/// The Page everybody grants who does not choose another, and its name.
const DEFAULT_PAGE: (&str, &str) = ("104857600112233", "Teapots");
/// The Page of the demo, where the scripted customers write: they never disturb whoever connects
/// the default one.
const DEMO_PAGE: (&str, &str) = (crate::DEMO_FACEBOOK_PAGE, "Northwind Teapots");
/// What the person agrees to.
const SCOPES: [&str; 5] = [
    "pages_show_list",
    "pages_messaging",
    "pages_manage_metadata",
    "pages_read_engagement",
    "public_profile",
];

/// What the platform remembers.
#[derive(Default)]
struct Memory {
    /// Page id to subscribed fields.
    subscriptions: BTreeMap<String, Vec<String>>,
    /// Page-scoped user id to name.
    people: BTreeMap<String, String>,
    threads: BTreeMap<graph::threads::ThreadKey, graph::threads::Thread>,
}

/// The player.
pub(crate) struct Messenger {
    world: Arc<World>,
    login: Login,
    state: Mutex<Memory>,
}

impl Messenger {
    /// The platform with two Pages.
    pub(crate) fn new(world: &Arc<World>, options: &Options) -> Self {
        let app = (&*options.facebook_app_id, &*options.facebook_app_secret);
        let pages = [DEFAULT_PAGE, DEMO_PAGE];
        Self {
            world: Arc::clone(world),
            login: Login::new(world, Product::Messenger, app, &pages),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, Memory> {
        hold(&self.state)
    }

    fn page_name(&self, page: &str) -> String {
        self.login.name(page)
    }

    fn bearer(&self, call: &Call) -> Result<Token, GraphError> {
        self.login.bearer(call)
    }

    /// The Pages the person granted: the one chosen in the dialog.
    fn accounts(&self, call: &Call) -> Answer {
        let token = self.bearer(call)?;
        if token.kind == Kind::Page {
            let words = "(#100) Tried accessing nonexisting field (accounts) on node type (Page)";
            return Err(GraphError::new(100, words));
        }
        Ok(self.login.granted(&token, self.page_object(&token)))
    }

    /// A Page with the token this person may use it with.
    fn page_object(&self, token: &Token) -> Value {
        json!({
            "access_token": self.login.mint(Kind::Page, token),
            "category": "Kitchen/cooking",
            "id": token.page,
            "name": self.page_name(&token.page),
            "tasks": ["MESSAGING", "MODERATE", "MANAGE"],
        })
    }

    /// Who the bearer is.
    fn me(&self, token: &Token) -> Value {
        match token.kind {
            Kind::Page => json!({"id": token.page, "name": self.page_name(&token.page)}),
            _ => self.login.person(),
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
        if let Some(answer) = self.login.struck(op, &call).await {
            return answer;
        }
        self.route(&call, &method, path).await.into_response()
    }

    async fn route(self: &Arc<Self>, call: &Call, method: &Method, path: &[&str]) -> Answer {
        let of_login = self
            .login
            .answer(call, method, path, &SCOPES, |token| token.page.clone());
        if let Some(answer) = of_login {
            return answer;
        }
        match (method, path) {
            (&Method::GET, [node, "accounts"]) if self.login.is_person(node) => self.accounts(call),
            (_, [page, "subscribed_apps"]) => self.subscribed_apps(call, method, page),
            (&Method::POST, [node, "messages"]) => self.send(call, node).await,
            (&Method::POST, [node, "message_attachments"]) => self.upload(call, node).await,
            (&Method::GET, [page, "conversations"]) => self.conversations(call, page),
            (&Method::GET, [thread, "messages"]) => self.messages(call, thread),
            (&Method::GET, [id]) => self.object(call, id),
            (_, [id]) => Err(graph::not_found(id)),
            _ => Err(graph::unknown_path(path)),
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
        let mut line = graph::threads::Line::from_person(&mid, &incoming.text);
        if let Some(media) = &incoming.media {
            line = line.with(&media.kind, &media.url);
        }
        self.remember(&page, psid, line);
        let webhook = self.message_webhook(&page, psid, &mid, incoming);
        Ok(Written {
            message_id: mid,
            webhook: Some(webhook),
        })
    }

    fn controls(self: Arc<Self>) -> Router {
        Router::new()
            .route("/control/pages", post(add_page).get(pages))
            .route("/control/tokens", put(set_tokens))
            .with_state(self)
    }

    fn login(&self) -> Option<&Login> {
        Some(&self.login)
    }

    fn reset(&self) {
        self.state().threads.clear();
        self.login.reset();
    }
}

/// Makes Page tokens a thing that expires and is exchanged, as earlier installations have them. The
/// platform's real ones do not; `livesS: null` is that again.
async fn set_tokens(
    State(messenger): State<Arc<Messenger>>,
    body: Bytes,
) -> Result<Json<Value>, BadInput> {
    let body: Value = parse(&body)?;
    let seconds = match &body["livesS"] {
        Value::Null => None,
        lives => Some(
            lives
                .as_u64()
                .filter(|seconds| *seconds > 0)
                .ok_or_else(|| BadInput("livesS must be a number of seconds".to_owned()))?,
        ),
    };
    messenger.login.let_page_tokens_live(seconds);
    Ok(Json(json!({"ok": true})))
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
    messenger.login.offer(&id, name);
    Ok(Json(json!({"ok": true})))
}

async fn pages(State(messenger): State<Arc<Messenger>>) -> Json<Value> {
    let names = messenger.login.names();
    let pages: Vec<Value> = names
        .iter()
        .map(|(id, name)| json!({"id": id, "name": name}))
        .collect();
    Json(json!({"pages": pages}))
}
