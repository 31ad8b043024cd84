//! WhatsApp Business Cloud API.
//!
//! Played: the login dialog, token exchange, the business account a token was granted for with its
//! number, subscriptions, registration, sending with statuses (sent, delivered, read, or failed when
//! a control says so), people with a number and a business-scoped id, and media in two steps, both
//! with the token. Not played: templates, the 24-hour window (a send fault with status 403 says what
//! the platform would, 423 its limit on pairs), groups, uploads.

mod media;
mod send;
mod upload;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::graph::{self, Answer, GraphError, Login, Product, Token};
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
const NAME: &str = "whatsapp";
/// Where the hub receives webhooks.
const PATH: &str = "/api/webhooks/whatsapp";
/// The phone number everybody grants who does not choose another, and its verified name.
const DEFAULT_NUMBER: (&str, &str) = ("205612348765432", "Northwind Teapots");
/// The number of the demo.
const DEMO_NUMBER: (&str, &str) = (crate::DEMO_WHATSAPP_NUMBER, "Northwind Demo");
/// What the person agrees to.
const SCOPES: [&str; 2] = [
    "whatsapp_business_management",
    "whatsapp_business_messaging",
];

/// Somebody who has written.
#[derive(Clone)]
struct Person {
    /// `None` for somebody who hides it behind a user name.
    phone: Option<String>,
    user: String,
    name: String,
}

/// What the platform remembers.
#[derive(Default)]
struct Memory {
    /// By business-scoped id.
    people: BTreeMap<String, Person>,
    /// Business accounts that are subscribed.
    subscriptions: BTreeSet<String>,
    /// What people sent, by media id.
    media: BTreeMap<String, media::Medium>,
    /// Codes that the next accepted messages fail with.
    failures: VecDeque<u32>,
}

/// The player.
pub(crate) struct Cloud {
    world: Arc<World>,
    login: Login,
    state: Mutex<Memory>,
}

impl Cloud {
    /// The platform with two numbers.
    pub(crate) fn new(world: &Arc<World>, options: &Options) -> Self {
        let app = (&*options.whatsapp_app_id, &*options.whatsapp_app_secret);
        let numbers = [DEFAULT_NUMBER, DEMO_NUMBER];
        Self {
            world: Arc::clone(world),
            login: Login::new(world, Product::Whatsapp, app, &numbers),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, Memory> {
        hold(&self.state)
    }

    /// The token of whoever may use this number or business account.
    fn token_for(&self, call: &Call, node: &str) -> Result<Token, GraphError> {
        let token = self.login.bearer(call)?;
        if node == token.page || node == business_of(&token.page) {
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
            (&Method::GET, [_] | [_, "phone_numbers"]) => Some(Op::Fetch),
            _ => None,
        };
        if let Some(answer) = self.login.struck(op, &call).await {
            return answer;
        }
        self.route(&call, &method, path).await.into_response()
    }

    async fn route(self: &Arc<Self>, call: &Call, method: &Method, path: &[&str]) -> Answer {
        let of_login = self.login.answer(call, method, path, &SCOPES, |token| {
            business_of(&token.page)
        });
        if let Some(answer) = of_login {
            return answer;
        }
        match (method, path) {
            (&Method::GET, ["whatsapp_business", "attachments"]) => Ok(self.bytes(call).await),
            (&Method::GET, [business, "phone_numbers"]) => {
                let token = self.token_for(call, business)?;
                let body = json!({"data": [self.number(&token.page)]});
                Ok(graph::ok(business, &body))
            }
            (_, [business, "subscribed_apps"]) => self.subscribed_apps(call, method, business),
            (&Method::POST, [number, "register"]) => self.register(call, number),
            (&Method::POST, [number, "messages"]) => self.send(call, number).await,
            (&Method::POST, [number, "media"]) => self.upload(call, number).await,
            (&Method::GET, [id]) => self.object(call, id),
            (_, [id]) => Err(graph::not_found(id)),
            _ => Err(graph::unknown_path(path)),
        }
    }

    fn number(&self, number: &str) -> Value {
        json!({
            "id": number,
            "display_phone_number": display(number),
            "verified_name": self.login.name(number),
            "quality_rating": "GREEN",
            "code_verification_status": "VERIFIED",
            "platform_type": "CLOUD_API",
            "status": "CONNECTED",
            "throughput": {"level": "STANDARD"},
        })
    }

    fn object(&self, call: &Call, id: &str) -> Answer {
        let token = self.login.bearer(call)?;
        if id == token.page {
            return Ok(graph::ok(id, &self.number(id)));
        }
        let media = self.media(id).ok_or_else(|| graph::not_found(id))?;
        Ok(graph::ok(&token.page, &media))
    }

    fn subscribed_apps(&self, call: &Call, method: &Method, business: &str) -> Answer {
        let token = self.token_for(call, business)?;
        let business = business_of(&token.page);
        let mut state = self.state();
        let body = match *method {
            Method::POST => {
                state.subscriptions.insert(business);
                json!({"success": true})
            }
            Method::DELETE => {
                state.subscriptions.remove(&business);
                json!({"success": true})
            }
            _ => {
                let app = json!({"whatsapp_business_api_data": {"id": self.login.app_id}});
                let apps = state.subscriptions.contains(&business).then_some(app);
                json!({"data": apps.into_iter().collect::<Vec<_>>()})
            }
        };
        Ok(graph::ok(&token.page, &body))
    }

    fn register(&self, call: &Call, number: &str) -> Answer {
        self.token_for(call, number)?;
        let pin = call.param("pin").unwrap_or_default();
        if pin.len() != 6 || !pin.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(GraphError::new(100, "(#100) Invalid parameter"));
        }
        Ok(graph::ok(number, &json!({"success": true})))
    }

    /// Somebody, by the phone number or the business-scoped id they are written with.
    fn person(&self, id: &str) -> Option<Person> {
        let is_phone = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
        let user = match is_phone {
            true => self.user_of(id),
            false => id.to_owned(),
        };
        let is_user = |id: &str| id.get(2..3) == Some(".");
        if let Some(known) = self.state().people.get(&user) {
            return Some(known.clone());
        }
        (is_phone || is_user(id)).then(|| Person {
            phone: is_phone.then(|| id.to_owned()),
            user,
            name: String::new(),
        })
    }

    /// The same number has the same id after a restart.
    fn user_of(&self, phone: &str) -> String {
        let secret = self.login.app_secret.as_bytes();
        let digest = hmac_hex(secret, format!("user {phone}").as_bytes());
        format!("DE.{}", &digest[..20])
    }

    /// What a number tells the hub.
    fn webhook(&self, number: &str, mut value: Value) -> Webhook {
        value["messaging_product"] = NAME.into();
        value["metadata"] = json!({
            "display_phone_number": display(number), "phone_number_id": number,
        });
        let change = json!({"value": value, "field": "messages"});
        let entry = json!({"id": business_of(number), "changes": [change]});
        let body = json!({"object": "whatsapp_business_account", "entry": [entry]});
        graph::webhook(NAME, PATH, &self.login.app_secret, &body)
    }

    /// A message id no other message has, with the signs that real ones have.
    fn new_wamid(&self) -> String {
        format!("wamid.HBg{}==", self.world.unique())
    }
}

/// The business account of a number.
fn business_of(number: &str) -> String {
    format!("102{}", number.get(3..).unwrap_or(number))
}

fn display(number: &str) -> String {
    let last = number.len().saturating_sub(7);
    format!("4930{}", number.get(last..).unwrap_or_default())
}

/// Seconds, as text: this platform's time.
fn now_s() -> String {
    (now_ms() / 1000).to_string()
}

impl Player for Cloud {
    fn name(&self) -> &'static str {
        NAME
    }

    fn home(&self) -> String {
        DEFAULT_NUMBER.0.to_owned()
    }

    fn shop(&self) -> String {
        DEMO_NUMBER.0.to_owned()
    }

    fn claims(&self, call: &Call) -> bool {
        let media = call.segments()[..] == ["whatsapp_business", "attachments"];
        media || graph::is_versioned(call) && Product::of(call) == Some(Product::Whatsapp)
    }

    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Response> {
        Box::pin(self.dispatch(call))
    }

    fn write(&self, incoming: &Incoming) -> Result<Written, String> {
        let number = incoming.account.clone().unwrap_or_else(|| self.home());
        let mut person = self
            .person(&incoming.from_id)
            .ok_or("from.id must be a phone number in digits or a user id such as DE.4Kq9Zr71")?;
        person.name.clone_from(&incoming.from_name);
        self.state()
            .people
            .insert(person.user.clone(), person.clone());
        let id = self.new_wamid();
        let mut contact = json!({"profile": {"name": person.name}, "user_id": person.user});
        let mut message = json!({
            "from_user_id": person.user,
            "id": id,
            "timestamp": now_s(),
            "type": "text",
            "text": {"body": incoming.text},
        });
        if let Some((kind, medium)) = self.new_medium(incoming) {
            message["type"] = kind.into();
            message[kind] = medium;
            message["text"].take();
        }
        if let Some(phone) = person.phone {
            contact["wa_id"] = phone.as_str().into();
            message["from"] = phone.into();
        }
        let value = json!({"contacts": [contact], "messages": [message]});
        Ok(Written {
            message_id: id,
            webhook: Some(self.webhook(&number, value)),
        })
    }

    fn login(&self) -> Option<&Login> {
        Some(&self.login)
    }

    fn controls(self: Arc<Self>) -> Router {
        Router::new()
            .route("/control/whatsapp/failures", post(add_failure))
            .with_state(self)
    }

    fn reset(&self) {
        self.login.reset();
        self.state().failures.clear();
    }
}

/// The next message that is accepted fails afterwards, with this code.
async fn add_failure(
    State(cloud): State<Arc<Cloud>>,
    body: Bytes,
) -> Result<Json<Value>, BadInput> {
    let body: Value = parse(&body)?;
    let code = body["code"]
        .as_u64()
        .and_then(|code| u32::try_from(code).ok());
    let code = code.ok_or_else(|| BadInput("code must be an error code".to_owned()))?;
    cloud.state().failures.push_back(code);
    Ok(Json(json!({"ok": true})))
}
