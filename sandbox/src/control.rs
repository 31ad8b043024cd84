//! The routes that tests and people turn the sandbox with.
//!
//! Their shapes are fixed: acceptance tests that we did not write use them. Bad input is answered
//! 400 `{"error": "…"}` in words; unknown fields are ignored.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::header::HOST;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::call::text;
use crate::deliver::{Delivery, Outcome};
use crate::faults::Setting;
use crate::platform::{Attached, Incoming, Player};
use crate::serve::Sandbox;

/// The most copies `repeat` may ask for.
const REPEAT_MAX: u32 = 100;

/// What was wrong with a request to the controls.
pub(crate) struct BadInput(pub(crate) String);

impl IntoResponse for BadInput {
    fn into_response(self) -> Response {
        (StatusCode::BAD_REQUEST, Json(json!({"error": self.0}))).into_response()
    }
}

/// The control routes and the front page.
pub(crate) fn router() -> Router<Sandbox> {
    Router::new()
        .route("/", get(front_page))
        .route("/control/hub", put(set_hub).get(hub))
        .route("/control/incoming", post(incoming))
        .route("/control/media/{name}", put(put_media).get(get_media))
        .route("/control/sent", get(sent))
        .route("/control/faults", put(set_fault).delete(clear_faults))
        .route("/control/requests", get(requests))
        .route("/control/reset", post(reset))
        .route("/control/accounts", post(offer))
        .route("/control/expire", post(expire))
        .route("/control/departures", post(depart))
}

/// Reads a JSON body, whatever its content type says.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, BadInput> {
    serde_json::from_slice(body).map_err(|error| BadInput(format!("unreadable body: {error}")))
}

async fn hub(State(sandbox): State<Sandbox>) -> Json<Value> {
    Json(json!({"base": sandbox.hub_webhook_base()}))
}

async fn set_hub(State(sandbox): State<Sandbox>, body: Bytes) -> Result<Json<Value>, BadInput> {
    #[derive(Deserialize)]
    struct Hub {
        base: String,
    }
    let Hub { base } = parse(&body)?;
    let http = url::Url::parse(&base).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    if !http {
        return Err(BadInput(
            "base must be an http:// or https:// URL".to_owned(),
        ));
    }
    sandbox.set_hub_webhook_base(&base);
    Ok(Json(json!({"ok": true})))
}

/// The player that a body names.
fn player_of<'a>(sandbox: &'a Sandbox, body: &Value) -> Result<&'a Arc<dyn Player>, BadInput> {
    let platform = body["platform"].as_str().unwrap_or_default();
    let mut players = sandbox.players.iter();
    let player = players.find(|player| player.name() == platform);
    player.ok_or_else(|| BadInput(one_of(sandbox)))
}

async fn offer(State(sandbox): State<Sandbox>, body: Bytes) -> Result<Json<Value>, BadInput> {
    let body: Value = parse(&body)?;
    let player = player_of(&sandbox, &body)?;
    let id = text(&body["id"])
        .filter(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()))
        .ok_or_else(|| BadInput("id must be an account id, digits only".to_owned()))?;
    let name = body["name"].as_str().filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| BadInput("name must be a non-empty string".to_owned()))?;
    player.offer(&id, name).map_err(BadInput)?;
    if let Some(login) = player.login() {
        if body["portfolio"] == Value::Bool(true) {
            login.own(&id);
        }
        if let Some(person) = text(&body["person"]) {
            login.agrees(&id, &person);
        }
    }
    Ok(Json(json!({"ok": true})))
}

/// Somebody takes their permission back, or wants their data deleted: the hub's answers to as many
/// times the same request.
async fn depart(State(sandbox): State<Sandbox>, body: Bytes) -> Result<Json<Value>, BadInput> {
    sandbox.world.drive();
    let body: Value = parse(&body)?;
    let player = player_of(&sandbox, &body)?;
    let login = player.login();
    let login = login.ok_or_else(|| BadInput("people leave Meta's platforms only".to_owned()))?;
    let wish = body["wish"].as_str().unwrap_or_default();
    if !matches!(wish, "deauthorize" | "delete") {
        return Err(BadInput("wish must be deauthorize or delete".to_owned()));
    }
    let is_forged = body["forged"] == Value::Bool(true);
    let signed = login.signed_request(
        text(&body["person"]),
        body["expiresInS"].as_i64(),
        is_forged,
    );
    let path = format!("/api/webhooks/{}/{wish}", player.name());
    let mut answers = Vec::new();
    for _ in 0..body["repeat"].as_u64().unwrap_or(1).min(REPEAT_MAX.into()) {
        let fields = [("signed_request", signed.as_str())];
        let posted = sandbox.world.courier.post_form(&path, &fields).await;
        let (status, text) = posted.unwrap_or_default();
        let body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        answers.push(json!({"status": status, "body": body}));
    }
    Ok(Json(json!({"answers": answers})))
}

async fn expire(State(sandbox): State<Sandbox>, body: Bytes) -> Result<Json<Value>, BadInput> {
    sandbox.world.drive();
    let body: Value = parse(&body)?;
    let player = player_of(&sandbox, &body)?;
    let account = text(&body["account"])
        .filter(|id| !id.is_empty())
        .ok_or_else(|| BadInput("account must be a string or a number".to_owned()))?;
    player.expire(&account).map_err(BadInput)?;
    Ok(Json(json!({"ok": true})))
}

async fn incoming(
    State(sandbox): State<Sandbox>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, BadInput> {
    sandbox.world.drive();
    let body: Value = parse(&body)?;
    let player = player_of(&sandbox, &body)?;
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let incoming = read_incoming(&body, host.unwrap_or_default())
        .map_err(|missing| BadInput(missing.to_owned()))?;
    let copies = match &body["repeat"] {
        Value::Null => 1,
        repeat => repeat
            .as_u64()
            .and_then(|repeat| u32::try_from(repeat).ok())
            .filter(|repeat| (1..=REPEAT_MAX).contains(repeat))
            .ok_or_else(|| BadInput(format!("repeat must be between 1 and {REPEAT_MAX}")))?,
    };
    let written = player.write(&incoming).map_err(BadInput)?;
    let delivery = match written.webhook {
        Some(webhook) => sandbox.world.deliver(webhook, copies).await,
        None => Delivery::without_attempt(Outcome::Queued),
    };
    Ok(Json(json!({
        "messageId": written.message_id,
        "status": delivery.status,
        "outcome": delivery.outcome,
    })))
}

fn read_incoming(body: &Value, host: &str) -> Result<Incoming, &'static str> {
    let from_id = text(&body["from"]["id"])
        .filter(|id| !id.is_empty())
        .ok_or("from.id must be a string or a number")?;
    let media = read_attached(body, host)?;
    let written = body["text"].as_str().filter(|text| !text.is_empty());
    let written = match (written, &media) {
        (None, Some(_)) => "",
        (written, _) => written.ok_or("text must be a non-empty string")?,
    };
    let name = body["from"]["name"]
        .as_str()
        .filter(|name| !name.is_empty());
    Ok(Incoming {
        account: text(&body["account"]).filter(|account| !account.is_empty()),
        from_id,
        from_name: name.unwrap_or("Customer").to_owned(),
        text: written.to_owned(),
        picture: body["picture"] == Value::Bool(true),
        media,
    })
}

/// What is attached: a file of the shelf, or one that is said to be elsewhere.
fn read_attached(body: &Value, host: &str) -> Result<Option<Attached>, &'static str> {
    let media = &body["media"];
    if media.is_null() {
        return Ok(None);
    }
    let word = |name: &str| media[name].as_str().filter(|text| !text.is_empty());
    let name = word("name").ok_or("media.name must be a non-empty string")?;
    let platform = body["platform"].as_str().unwrap_or_default();
    let here = || format!("http://{host}/media/{platform}/{name}");
    Ok(Some(Attached {
        kind: word("kind").unwrap_or("image").to_owned(),
        name: name.to_owned(),
        url: word("url").map_or_else(here, str::to_owned),
    }))
}

async fn put_media(
    State(sandbox): State<Sandbox>,
    Path(name): Path<String>,
    body: Bytes,
) -> Json<Value> {
    sandbox.world.shelf.put(&name, body);
    Json(json!({"ok": true}))
}

async fn get_media(State(sandbox): State<Sandbox>, Path(name): Path<String>) -> Response {
    match sandbox.world.shelf.get(&name) {
        Some(bytes) => bytes.into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

#[derive(Deserialize)]
struct Filter {
    platform: Option<String>,
    account: Option<String>,
}

async fn sent(State(sandbox): State<Sandbox>, Query(filter): Query<Filter>) -> Json<Value> {
    let asked = |filter: &Option<String>| filter.clone().filter(|value| !value.is_empty());
    let (platform, mut account) = (asked(&filter.platform), asked(&filter.account));
    let player = sandbox
        .players
        .iter()
        .find(|player| Some(player.name()) == platform.as_deref());
    if let Some(player) = player {
        account = account.map(|name| player.account_named(&name));
    }
    let (messages, forgotten) = sandbox
        .world
        .ledger
        .sent(platform.as_deref(), account.as_deref());
    Json(json!({"messages": messages, "forgotten": forgotten}))
}

async fn requests(State(sandbox): State<Sandbox>) -> Json<Value> {
    let (requests, forgotten) = sandbox.world.ledger.requests();
    Json(json!({"requests": requests, "forgotten": forgotten}))
}

async fn set_fault(State(sandbox): State<Sandbox>, body: Bytes) -> Result<Json<Value>, BadInput> {
    sandbox.world.drive();
    let setting: Setting = parse(&body)?;
    let seed = setting.seed.unwrap_or(sandbox.world.faults.seed());
    sandbox
        .world
        .faults
        .set(setting, &names(&sandbox))
        .map_err(BadInput)?;
    Ok(Json(json!({"ok": true, "seed": seed})))
}

async fn clear_faults(State(sandbox): State<Sandbox>) -> Json<Value> {
    sandbox.world.faults.clear();
    sandbox.world.release_held();
    Json(json!({"ok": true}))
}

async fn reset(State(sandbox): State<Sandbox>) -> Json<Value> {
    sandbox.world.drive();
    sandbox.world.faults.clear();
    sandbox.world.release_held();
    sandbox.world.ledger.clear();
    for player in sandbox.players.iter() {
        player.reset();
    }
    Json(json!({"ok": true}))
}

fn names(sandbox: &Sandbox) -> Vec<&'static str> {
    sandbox.players.iter().map(|player| player.name()).collect()
}

fn one_of(sandbox: &Sandbox) -> String {
    format!("platform must be one of {}", names(sandbox).join(", "))
}

async fn front_page() -> Html<&'static str> {
    Html(FRONT_PAGE)
}

const FRONT_PAGE: &str = r#"<!doctype html>
<meta charset="utf-8"><title>Hub sandbox</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 1.5rem auto; padding: 0 1rem; max-width: 84rem; color: #1c2220; }
pre { font-size: 12.5px; overflow-x: auto; padding: 1rem; background: #f4f4f2; border-radius: 8px; }
</style>
<h1>Hub sandbox</h1>
<p>This server plays the platforms' side of the wire: Facebook Messenger, Instagram and WhatsApp under
<code>/v26.0/…</code>, the Telegram Bot API under <code>/bot&lt;token&gt;/…</code>, X under <code>/2/…</code>, LinkedIn under
<code>/v2/…</code> and <code>/rest/…</code>, Microsoft Graph under <code>/v1.0/…</code> with its sign-in
pages under <code>/&lt;tenant&gt;/oauth2/v2.0/…</code>. Nothing here reaches the real ones.</p>
<h2>Controls</h2>
<pre>
POST   /control/incoming  {"platform","account","from":{"id","name"},"text","picture"?,"repeat"?,
                           "media":{"kind","name","url"?}?}                            a customer writes
PUT    /control/media/&lt;name&gt;  (bytes)                                                  what "media" may name
GET    /control/media/&lt;name&gt;                                                           the same, or the "file" of what was sent
GET    /control/sent?platform=&amp;account=                                                what the platforms accepted
GET    /control/requests                                                               what they were asked
PUT    /control/faults    {"platform","op","mode","status"?,"retryAfter"?,"times"?,"rate"?,"seed"?}
         op send, upload:    status, hang, accept_no_reply
         op token, fetch:    status, hang
         op media:           status, hang, cut_off
         op upload of telegram-user: also drop (a part is taken and lost)
         op webhook:         duplicate, reorder, drop
         op dialog:          status (the person refuses to connect)
DELETE /control/faults
POST   /control/reset                                                                  forget messages, requests and faults
PUT    /control/hub       {"base":"http://…"}                                          where webhooks go
POST   /control/accounts  {"platform","id","name","portfolio"?,"person"?}              Meta's platforms: the next person who connects grants this account;
                                                                                       one of a portfolio is not in the list of Pages
POST   /control/departures {"platform","wish","person"?,"expiresInS"?,"forged"?,"repeat"?} Meta's platforms: somebody leaves (wish deauthorize, delete)
POST   /control/expire    {"platform","account"}                                       Meta's platforms: its tokens expire
PUT    /control/instagram {"metadata"?,"tokenSeconds"?}                                whether echoes carry our reference; life of tokens
POST   /control/whatsapp/failures {"code"}                                             the next message is taken and then fails with this code
POST   /control/pages     {"id","name"}                                                Facebook: the next person who connects grants this page
PUT    /control/tokens    {"livesS":3600}                                              Facebook: Page tokens expire, and each exchange ends the one before
POST   /control/twitter/users     {"id","username","name"?}                            X: the next person who connects is this user
PUT    /control/twitter/tokens    {"lifetime":seconds}                                 X: of tokens given out from now on
POST   /control/twitter/expire    {"account"?}                                         X: tokens given out so far have expired
PUT    /control/twitter/delivery  {"envelope":"xaa"|"aaa"|"none"}                      X: generation of webhooks, or none at all
POST   /control/twitter/crc                                                            X: challenge the hub now
POST   /control/twitter/revoke    {"account"?}                                         X: a user takes the app's permission back
POST   /control/twitter/read      {"account"?,"from"}                                  X: somebody reads what we wrote
POST   /control/linkedin/members  {"id","name","organization"?}                        LinkedIn: the next person who connects is this member
POST   /control/linkedin/expire   {"account"?}                                         LinkedIn: tokens given out so far have expired
POST   /control/linkedin/challenge                                                     LinkedIn: challenge the hub now
POST   /control/teams/people    {"id","name"}                                          Teams: the next person who connects
POST   /control/teams/messages  {"chat","message","action","text"?,"from"?,"reaction"?} edit, delete, react, unreact
POST   /control/teams/subscriptions/&lt;person&gt;  {"event"}                                expired, reauthorizationRequired, subscriptionRemoved, missed
POST   /control/teams/tokens/&lt;person&gt;         {"revoked"?}                             access tokens end; with revoked all
</pre>
"#;
