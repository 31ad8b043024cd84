//! Instagram messaging, with both logins.
//!
//! Played: the login through Facebook (dialog, token exchange, a Page with its linked account) and
//! Instagram's own (its three hosts are one here), tokens that end, sending with echo and "seen",
//! profiles, and pictures behind signed addresses. Not played: the 24-hour window (a send fault with
//! status 403 says what the platform would), media uploads. The Conversations API tells texts only.

mod fetch;
mod own;
mod send;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::put;
use axum::{Json, Router};
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::graph::threads::{Line, Thread, ThreadKey};
use super::graph::{self, Answer, GraphError, Kind, Login, Product, Token};
use super::{Incoming, Player, Written};
use crate::Options;
use crate::call::Call;
use crate::control::{BadInput, parse};
use crate::deliver::Webhook;
use crate::faults::Op;
use crate::ledger::hold;
use crate::sign::hmac_hex;
use crate::world::{World, now_ms};

/// The name of this platform.
const NAME: &str = "instagram";
/// Where the hub receives webhooks.
const PATH: &str = "/api/webhooks/instagram";
/// The professional account everybody grants who does not choose another, and its user name.
const DEFAULT_ACCOUNT: (&str, &str) = ("17841478800123456", "northwind.teapots");
/// The account of the demo.
const DEMO_ACCOUNT: (&str, &str) = (crate::DEMO_INSTAGRAM_ACCOUNT, "northwind.demo");
/// What the person agrees to.
const SCOPES: [&str; 5] = [
    "instagram_basic",
    "instagram_manage_messages",
    "pages_manage_metadata",
    "pages_show_list",
    "public_profile",
];

/// What the platform remembers.
struct Memory {
    /// Instagram-scoped id to name.
    people: BTreeMap<String, String>,
    threads: BTreeMap<ThreadKey, Thread>,
    /// Page or account id to subscribed fields.
    subscriptions: BTreeMap<String, String>,
    /// Whether echoes carry the sender's reference.
    metadata: bool,
    /// Seconds a token of Instagram's own login lives.
    token_seconds: u64,
    /// When tokens of these agreements end, where that is soon.
    ends: BTreeMap<String, Instant>,
}

/// The player.
pub(crate) struct Direct {
    world: Arc<World>,
    login: Login,
    state: Mutex<Memory>,
}

impl Direct {
    /// The platform with two accounts.
    pub(crate) fn new(world: &Arc<World>, options: &Options) -> Self {
        let app = (&*options.instagram_app_id, &*options.instagram_app_secret);
        let accounts = [DEFAULT_ACCOUNT, DEMO_ACCOUNT];
        Self {
            world: Arc::clone(world),
            login: Login::new(world, Product::Instagram, app, &accounts),
            state: Mutex::new(Memory {
                people: BTreeMap::new(),
                threads: BTreeMap::new(),
                subscriptions: BTreeMap::new(),
                metadata: true,
                token_seconds: own::TOKEN_S,
                ends: BTreeMap::new(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, Memory> {
        hold(&self.state)
    }

    fn bearer(&self, call: &Call) -> Result<Token, GraphError> {
        let token = self.login.bearer(call)?;
        let ended = self.state().ends.get(&token.grant).copied();
        if ended.is_some_and(|end| end <= Instant::now()) {
            let words = "Error validating access token: Session has expired.";
            return Err(GraphError::new(190, words).sub(463));
        }
        Ok(token)
    }

    /// The token of an account, for a call about this object.
    fn account_token(&self, call: &Call, node: &str) -> Result<Token, GraphError> {
        let token = self.bearer(call)?;
        let about = node == "me" || node == token.page || node == page_of(&token.page);
        if about && matches!(token.kind, Kind::Page | Kind::Account) {
            Ok(token)
        } else {
            Err(graph::not_found(node))
        }
    }

    async fn dispatch(self: Arc<Self>, call: Call) -> Response {
        let segments = call.segments();
        let versioned = graph::is_versioned(&call);
        let path = segments.get(usize::from(versioned)..).unwrap_or_default();
        let method = graph::method(&call);
        // Sending looks for its fault itself, after it has checked the message.
        let op = match (&method, path) {
            (_, ["oauth", "access_token"] | ["debug_token"]) => Some(Op::Token),
            (_, ["access_token" | "refresh_access_token"]) => Some(Op::Token),
            (&Method::GET, [_] | [_, "accounts" | "conversations" | "messages"]) => Some(Op::Fetch),
            _ => None,
        };
        if let Some(answer) = self.login.struck(op, &call).await {
            return answer;
        }
        self.route(&call, versioned, &method, path)
            .await
            .into_response()
    }

    async fn route(
        self: &Arc<Self>,
        call: &Call,
        versioned: bool,
        method: &Method,
        path: &[&str],
    ) -> Answer {
        let of_login = versioned
            .then(|| {
                self.login
                    .answer(call, method, path, &SCOPES, |token| page_of(&token.page))
            })
            .flatten();
        if let Some(answer) = of_login {
            return answer;
        }
        match (method, path) {
            (&Method::GET, ["ig_messaging_cdn"]) => Ok(self.picture(call)),
            (&Method::GET, ["oauth", "authorize"]) => Ok(self.login.dialog(call, "_")),
            (&Method::POST, ["oauth", "access_token"]) if !versioned => Ok(self.short(call)),
            (&Method::GET, ["access_token"]) => self.long(call),
            (&Method::GET, ["refresh_access_token"]) => self.next(call),
            (&Method::GET, [node, "accounts"]) if self.login.is_person(node) => self.accounts(call),
            (_, [node, "subscribed_apps"]) => self.subscribed_apps(call, method, node),
            (&Method::POST, [node, "messages"]) => self.send(call, node).await,
            (&Method::GET, [node, "conversations"]) => self.conversations(call, node),
            (&Method::GET, [thread, "messages"]) => self.messages(call, thread),
            (&Method::GET, [id]) => self.object(call, id),
            (_, [id]) => Err(graph::not_found(id)),
            _ => Err(graph::unknown_path(path)),
        }
    }

    /// The Page the person granted, with the account that is linked to it.
    fn accounts(&self, call: &Call) -> Answer {
        let token = self.bearer(call)?;
        Ok(self.login.granted(&token, self.page(&token)))
    }

    fn page(&self, token: &Token) -> Value {
        json!({
            "id": page_of(&token.page),
            "name": "Northwind",
            "access_token": self.login.mint(Kind::Page, token),
            "tasks": ["MESSAGING", "MODERATE", "MANAGE"],
            "instagram_business_account": {
                "id": token.page,
                "username": self.login.name(&token.page),
                "name": "Northwind",
            },
        })
    }

    fn subscribed_apps(&self, call: &Call, method: &Method, node: &str) -> Answer {
        let token = self.account_token(call, node)?;
        let mut state = self.state();
        let body = match *method {
            Method::POST => {
                let fields = call.param("subscribed_fields").unwrap_or_default();
                if fields.is_empty() {
                    return Err(GraphError::new(
                        100,
                        "(#100) The parameter subscribed_fields is required",
                    ));
                }
                state.subscriptions.insert(token.page, fields);
                json!({"success": true})
            }
            Method::DELETE => {
                state.subscriptions.remove(&token.page);
                json!({"success": true})
            }
            _ => {
                let fields = state.subscriptions.get(&token.page).into_iter();
                let apps: Vec<Value> = fields
                    .map(|fields| {
                        let fields: Vec<&str> = fields.split(',').collect();
                        json!({"id": self.login.app_id, "subscribed_fields": fields})
                    })
                    .collect();
                json!({"data": apps})
            }
        };
        Ok(graph::ok(&self.login.app_id, &body))
    }

    /// A single object: oneself, the Page, or the profile of somebody who has written.
    fn object(&self, call: &Call, id: &str) -> Answer {
        let token = self.bearer(call)?;
        let body = match id {
            "me" if token.kind == Kind::Account => self.own_account(&token),
            "me" => self.login.person(),
            id if id == page_of(&token.page) => self.page(&token),
            id if self.thread(&token, id).is_some() => {
                json!({"id": id, "messages": {"data": self.thread(&token, id)}})
            }
            id => {
                let name = self.state().people.get(id).cloned();
                let name = name.ok_or_else(|| graph::not_found(id))?;
                let username = name.to_lowercase().replace(' ', ".");
                json!({"id": id, "name": name, "username": username})
            }
        };
        Ok(graph::ok(&token.page, &body))
    }

    /// A picture behind a signed address; no token is asked for.
    fn picture(&self, call: &Call) -> Response {
        let asset = call.param("asset_id").unwrap_or_default();
        if call.param("signature") != Some(self.signature(&asset)) {
            return (StatusCode::FORBIDDEN, "URL signature mismatch").into_response();
        }
        ([(header::CONTENT_TYPE, "image/png")], graph::PICTURE).into_response()
    }

    fn signature(&self, asset: &str) -> String {
        let asset = format!("asset {asset}");
        hmac_hex(self.login.app_secret.as_bytes(), asset.as_bytes())
    }

    /// A message id no other message has, not even after a restart.
    fn new_mid(&self) -> String {
        format!("aWdf{}ZD", self.world.unique())
    }

    /// The way an account tells the hub something. Unlike elsewhere the time comes first.
    fn webhook(&self, account: &str, item: Value) -> Webhook {
        let entry = json!({"time": now_ms(), "id": account, "messaging": [item]});
        let body = json!({"object": "instagram", "entry": [entry]});
        graph::webhook(NAME, PATH, &self.login.app_secret, &body)
    }
}

/// The Page an account is linked to.
fn page_of(account: &str) -> String {
    format!("10485{}", account.get(5..).unwrap_or(account))
}

impl Player for Direct {
    fn name(&self) -> &'static str {
        NAME
    }

    fn home(&self) -> String {
        DEFAULT_ACCOUNT.0.to_owned()
    }

    fn shop(&self) -> String {
        DEMO_ACCOUNT.0.to_owned()
    }

    fn claims(&self, call: &Call) -> bool {
        let own = matches!(
            call.segments()[..],
            ["oauth", "authorize" | "access_token"]
                | ["access_token" | "refresh_access_token" | "ig_messaging_cdn"]
        );
        own || graph::is_versioned(call) && Product::of(call) == Some(Product::Instagram)
    }

    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Response> {
        Box::pin(self.dispatch(call))
    }

    fn write(&self, incoming: &Incoming) -> Result<Written, String> {
        let account = incoming.account.clone().unwrap_or_else(|| self.home());
        let (mid, person) = (self.new_mid(), &incoming.from_id);
        self.state()
            .people
            .insert(person.clone(), incoming.from_name.clone());
        let mut line = Line::from_person(&mid, &incoming.text);
        let mut message = json!({"mid": mid, "text": incoming.text});
        if incoming.picture {
            let asset = self.world.unique();
            let signature = self.signature(&asset);
            let path = format!("/ig_messaging_cdn/?asset_id={asset}&signature={signature}");
            let url = self.world.url(&path);
            line = line.with("image", &url);
            let payload = json!({"url": url});
            message["attachments"] = json!([{"type": "image", "payload": payload}]);
        }
        self.remember(&account, person, line);
        let item = json!({
            "sender": {"id": person},
            "recipient": {"id": account},
            "timestamp": now_ms(),
            "message": message,
        });
        Ok(Written {
            message_id: mid,
            webhook: Some(self.webhook(&account, item)),
        })
    }

    fn login(&self) -> Option<&Login> {
        Some(&self.login)
    }

    fn controls(self: Arc<Self>) -> Router {
        Router::new()
            .route("/control/instagram", put(settings))
            .with_state(self)
    }

    fn reset(&self) {
        self.login.reset();
        let mut state = self.state();
        state.threads.clear();
        state.metadata = true;
        state.token_seconds = own::TOKEN_S;
        state.ends.clear();
    }
}

/// Turns what this platform does not promise.
async fn settings(State(direct): State<Arc<Direct>>, body: Bytes) -> Result<Json<Value>, BadInput> {
    let body: Value = parse(&body)?;
    let mut state = direct.state();
    if let Some(metadata) = body["metadata"].as_bool() {
        state.metadata = metadata;
    }
    if let Some(seconds) = body["tokenSeconds"].as_u64() {
        state.token_seconds = seconds;
    }
    Ok(Json(json!({"ok": true})))
}
