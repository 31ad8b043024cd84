//! LinkedIn: signing in, comments on a company's posts, the change log of a member.
//!
//! Played: the dialog, tokens of sixty days (with a refresh token when told), identity,
//! organizations a member administers, subscriptions with their challenge, comments by and to an
//! organization (with a picture, by it) and what was told of it, and members' messages, which are never
//! pushed: they wait in the change log, and are answered by apps with `w_messages`. Calls to the change
//! log are counted by the day. Webhooks arrive without a subscription too, because the sandbox forgets
//! those when it restarts. Not played: likes, edits.

mod answers;
mod changelog;
mod comments;
mod login;
mod messages;
mod notifications;
mod uploads;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode};
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
use crate::sign::hmac_hex;
use crate::world::{World, now_ms};
use crate::{LinkedinApp, Options};
use answers::{Answer, Refusal};

/// The name of this platform.
const NAME: &str = "linkedin";
/// Where the hub receives webhooks.
const PATH: &str = "/api/webhooks/linkedin";
/// Who connects without choosing another account: id, name, organization.
const HOME: (&str, &str, &str) = ("HubOwn3r_A", "Nora Wind", "urn:li:organization:90210042");
/// The same where the scripted customers write.
const DEMO: (&str, &str, &str) = (
    crate::DEMO_LINKEDIN_MEMBER,
    "Nora Wind",
    "urn:li:organization:90210901",
);
/// How long a hanging platform keeps the hub waiting.
const HANG: Duration = Duration::from_secs(60);

/// A member who connects.
#[derive(Clone)]
struct Member {
    name: String,
    /// The organization they administer.
    organization: Option<String>,
}

/// A person's agreement, waiting to be exchanged.
struct Code {
    redirect_uri: String,
    scope: String,
    member: String,
    issued: Instant,
}

/// What the platform remembers.
struct Memory {
    members: BTreeMap<String, Member>,
    /// Members the next people who connect will be, in order.
    choices: VecDeque<String>,
    codes: HashMap<String, Code>,
    revoked: BTreeSet<String>,
    expired_ms: BTreeMap<String, i64>,
    /// Whether the app is one of those that are given refresh tokens.
    renewable: bool,
    /// False after a failed challenge: nothing is delivered any more.
    valid: bool,
    /// Member and organization.
    subscriptions: BTreeSet<(String, String)>,
    notifications: u64,
    /// Member to the elements of their change log, oldest first.
    changes: BTreeMap<String, Vec<Value>>,
    /// Organization to what was told of it, oldest first.
    told: BTreeMap<String, Vec<Value>>,
    /// Member and day to calls of the change log.
    asked: HashMap<(String, String), u32>,
}

/// The player.
pub(crate) struct Site {
    world: Arc<World>,
    app: LinkedinApp,
    memory: Mutex<Memory>,
    announced: uploads::Announced,
}

impl Site {
    /// The platform with two members.
    pub(crate) fn new(world: &Arc<World>, options: &Options) -> Self {
        let members = [HOME, DEMO].map(|(id, name, organization)| {
            let member = Member {
                name: name.to_owned(),
                organization: Some(organization.to_owned()),
            };
            (id.to_owned(), member)
        });
        Self {
            world: Arc::clone(world),
            app: options.linkedin.clone(),
            announced: uploads::Announced::default(),
            memory: Mutex::new(Memory {
                members: BTreeMap::from(members),
                choices: VecDeque::new(),
                codes: HashMap::new(),
                revoked: BTreeSet::new(),
                expired_ms: BTreeMap::new(),
                renewable: false,
                valid: true,
                subscriptions: BTreeSet::new(),
                notifications: 0,
                changes: BTreeMap::new(),
                told: BTreeMap::new(),
                asked: HashMap::new(),
            }),
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        hold(&self.memory)
    }

    /// A member. One from before a restart is still there, only the name is forgotten.
    fn member(&self, id: &str) -> Member {
        let known = self.memory().members.get(id).cloned();
        known.unwrap_or_else(|| Member {
            name: format!("Member {id}"),
            organization: None,
        })
    }

    async fn dispatch(self: Arc<Self>, call: Call) -> Response {
        let segments: Vec<String> = call.segments().iter().map(|part| decoded(part)).collect();
        let path: Vec<&str> = segments.iter().map(String::as_str).collect();
        // Sending looks for its fault itself, after it has checked the comment.
        let op = match path.as_slice() {
            ["oauth", "v2", "accessToken"] | ["v2", "userinfo"] => Some(Op::Token),
            [
                "rest",
                "memberChangeLogs" | "organizationAcls" | "organizationalEntityNotifications",
            ] => Some(Op::Fetch),
            _ => None,
        };
        match op.and_then(|op| self.world.faults.hit(NAME, op)) {
            Some(Fault::Status {
                status,
                retry_after_s,
            }) => answers::refuse(status, retry_after_s),
            Some(Fault::Hang | Fault::AcceptNoReply) => call.leave_unanswered(HANG).await,
            None => self.route(&call, &path).await.into_response(),
        }
    }

    async fn route(self: &Arc<Self>, call: &Call, path: &[&str]) -> Answer {
        match (&call.method, path) {
            (&Method::GET, ["oauth", "v2", "authorization"]) => Ok(self.dialog(call)),
            (&Method::POST, ["oauth", "v2", "accessToken"]) => Ok(self.token(call)),
            (&Method::POST, ["oauth", "v2", "revoke"]) => Ok(self.revoke(call)),
            (&Method::GET, ["v2", "userinfo"]) => {
                let member = self.caller(call)?.member;
                let name = self.member(&member).name;
                let given = name.split(' ').next().unwrap_or_default();
                Ok(answers::ok(&json!({
                    "sub": member, "name": name, "given_name": given,
                    "locale": {"country": "DE", "language": "de"}, "email_verified": true,
                })))
            }
            (&Method::POST, ["v2", "messages"]) => self.message(call).await,
            (&Method::POST, ["v2", "assets"]) => self.register(call),
            (&Method::GET, ["v2", "assets", id]) => self.asset(call, id),
            (&Method::POST, ["rest", "images"]) => self.initialize(call),
            (&Method::GET, ["rest", "images", urn]) => self.image(call, urn),
            (&Method::PUT, ["dms-uploads", id]) => self.take(call, id).await,
            (&Method::GET, ["mediaDownload", id]) => self.download(call, id),
            (&Method::GET, ["dms", id]) => self.bytes(call, id).await,
            (&Method::GET, ["rest", "organizationalEntityNotifications"]) => {
                self.notifications(call)
            }
            (&Method::GET, ["rest", "organizationAcls"]) => {
                let member = self.versioned(call)?.member;
                let organization = self.member(&member).organization;
                let acls: Vec<Value> = organization
                    .into_iter()
                    .map(|organization| {
                        json!({"role": "ADMINISTRATOR", "state": "APPROVED",
                            "organization": organization,
                            "roleAssignee": format!("urn:li:person:{member}")})
                    })
                    .collect();
                Ok(answers::ok(&json!({"elements": acls})))
            }
            (method, ["rest", "eventSubscriptions", key]) => {
                self.subscription(call, method, key).await
            }
            (&Method::POST, ["rest", "socialActions", post, "comments"]) => {
                self.comment(call, post).await
            }
            (&Method::GET, ["rest", "memberChangeLogs"]) => self.change_log(call),
            _ => Err(Refusal::not_found()),
        }
    }

    /// Only who administers an organization hears of it, and only at an address that is proved.
    async fn subscription(&self, call: &Call, method: &Method, key: &str) -> Answer {
        let member = self.versioned(call)?.member;
        let part = |name: &str| {
            let (_, rest) = key.split_once(&format!("{name}:"))?;
            let part = rest.split([',', ')']).next()?;
            Some(part.to_owned())
        };
        let (user, organization) = (part("user"), part("entity").unwrap_or_default());
        let app = format!("urn:li:developerApplication:{}", self.app.application_id);
        let administers = self.member(&member).organization.as_ref() == Some(&organization);
        let is_own = user == Some(format!("urn:li:person:{member}"));
        if part("developerApplication") != Some(app) || !is_own || !administers {
            return Err(Refusal::denied());
        }
        let key = (member, organization);
        match *method {
            Method::PUT => {
                if call.param("webhook").is_none() {
                    return Err(Refusal::invalid("webhook is required"));
                }
                if !self.prove().await {
                    return Err(Refusal::invalid("the webhook was not validated"));
                }
                self.memory().subscriptions.insert(key);
                Ok(StatusCode::NO_CONTENT.into_response())
            }
            Method::DELETE => {
                self.memory().subscriptions.remove(&key);
                Ok(StatusCode::NO_CONTENT.into_response())
            }
            _ if self.memory().subscriptions.contains(&key) => {
                Ok(answers::ok(&json!({"entity": key.1})))
            }
            _ => Err(Refusal::not_found()),
        }
    }

    /// Challenges the hub. A wrong answer, or none, ends delivery until the next right one.
    async fn prove(&self) -> bool {
        let code = uuid::Uuid::new_v4().to_string();
        let app = &self.app.application_id;
        let path = format!("{PATH}?challengeCode={code}&applicationId={app}");
        let response = hmac_hex(self.app.client_secret.as_bytes(), code.as_bytes());
        let expected = json!({"challengeCode": code, "challengeResponse": response});
        let answer = self.world.courier.ask(&path).await;
        let valid = answer.is_some_and(|(status, body)| {
            status == 200 && serde_json::from_str::<Value>(&body).ok() == Some(expected)
        });
        self.memory().valid = valid;
        valid
    }
}

/// A part of a path without its escapes.
fn decoded(part: &str) -> String {
    let query = part
        .replace('+', "%2B")
        .replace('&', "%26")
        .replace('=', "%3D");
    let pair = url::form_urlencoded::parse(query.as_bytes()).next();
    pair.map(|(part, _)| part.into_owned()).unwrap_or_default()
}

/// The id in a person's URN, or the id itself.
fn bare(member: &str) -> &str {
    member.strip_prefix("urn:li:person:").unwrap_or(member)
}

impl Player for Site {
    fn name(&self) -> &'static str {
        NAME
    }

    /// The organization: a member cannot be answered.
    fn home(&self) -> String {
        HOME.2.to_owned()
    }

    fn shop(&self) -> String {
        DEMO.2.to_owned()
    }

    fn claims(&self, call: &Call) -> bool {
        matches!(
            call.segments().as_slice(),
            ["oauth", "v2", ..]
                | ["v2" | "rest", ..]
                | ["dms-uploads" | "mediaDownload" | "dms", _]
        )
    }

    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Response> {
        Box::pin(self.dispatch(call))
    }

    /// To an organization: a comment on its post, pushed. To a member: a message, which waits in
    /// the change log.
    fn write(&self, incoming: &Incoming) -> Result<Written, String> {
        let account = incoming.account.clone().unwrap_or_else(|| self.home());
        if account.starts_with("urn:li:organization:") {
            return Ok(self.commented(&account, incoming));
        }
        let message_id = self.messaged(bare(&account), incoming);
        Ok(Written {
            message_id,
            webhook: None,
        })
    }

    fn controls(self: Arc<Self>) -> Router {
        Router::new()
            .route("/control/linkedin/members", post(add_member))
            .route("/control/linkedin/tokens", put(set_renewable))
            .route("/control/linkedin/expire", post(expire))
            .route("/control/linkedin/challenge", post(challenge))
            .with_state(self)
    }

    fn reset(&self) {
        let mut memory = self.memory();
        memory.changes.clear();
        memory.told.clear();
        memory.choices.clear();
        memory.asked.clear();
        memory.expired_ms.clear();
        memory.renewable = false;
        memory.valid = true;
    }
}

/// Makes a member, whom the next person who connects will be.
async fn add_member(State(site): State<Arc<Site>>, body: Bytes) -> Result<Json<Value>, BadInput> {
    let body: Value = parse(&body)?;
    let id = text(&body["id"])
        .filter(|id| !id.is_empty() && !id.contains([':', '/', '\n']))
        .ok_or_else(|| BadInput("id must be a member's id, not a URN".to_owned()))?;
    let name = body["name"]
        .as_str()
        .filter(|name| !name.is_empty())
        .ok_or_else(|| BadInput("name must be a non-empty string".to_owned()))?;
    let organization = text(&body["organization"]);
    if organization
        .as_ref()
        .is_some_and(|urn| !urn.starts_with("urn:li:organization:"))
    {
        return Err(BadInput("organization must be a URN".to_owned()));
    }
    let member = Member {
        name: name.to_owned(),
        organization,
    };
    let mut memory = site.memory();
    memory.members.insert(id.clone(), member);
    memory.choices.push_back(id);
    Ok(Json(json!({"ok": true})))
}

async fn set_renewable(
    State(site): State<Arc<Site>>,
    body: Bytes,
) -> Result<Json<Value>, BadInput> {
    let body: Value = parse(&body)?;
    let renewable = body["refresh"]
        .as_bool()
        .ok_or_else(|| BadInput("refresh must be true or false".to_owned()))?;
    site.memory().renewable = renewable;
    Ok(Json(json!({"ok": true})))
}

async fn expire(State(site): State<Arc<Site>>, body: Bytes) -> Result<Json<Value>, BadInput> {
    let body: Value = parse(&body)?;
    let account = text(&body["account"]);
    let account = account.as_deref().map(bare);
    let mut memory = site.memory();
    let members: Vec<String> = memory.members.keys().cloned().collect();
    for member in members
        .into_iter()
        .filter(|it| account.is_none_or(|id| id == it))
    {
        memory.expired_ms.insert(member, now_ms());
    }
    Ok(Json(json!({"ok": true})))
}

async fn challenge(State(site): State<Arc<Site>>) -> Json<Value> {
    let valid = site.prove().await;
    Json(json!({"valid": valid}))
}
