//! Coming back from a platform with a grant (contract 4.3, 4.5).
//!
//! The API checks what needs no network (the state, the login widget's signature), hands the grant
//! to the worker as a command, and waits a bounded time for its answer. Once a state was good,
//! every outcome is a redirect to the web client's `/connect` page, with words fit for a person.

use std::time::{Duration, Instant};

use aws_lc_rs::rand;
use axum::Json;
use axum::extract::{FromRequestParts as _, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::Utc;
use hub_domain::command::{Command, ConnectAnswer, NewCommand, StoredGrant};
use hub_domain::id::{AccountId, Key, UserId};
use hub_domain::limits::WIDGET_AGE_MAX;
use hub_domain::platform::{Platform, adapter};
use hub_domain::signature;
use hub_store::oauth::Begun;
use hub_store::signal::Topic;
use hub_store::vault::Opened;
use serde_json::{Value, json};
use url::form_urlencoded;
use utoipa::openapi::PathItem;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};
use utoipa_axum::routes;

use crate::Api;
use crate::auth::Caller;
use crate::error::{Failing, Problem, chain, wrong_method};
use crate::input::{Name, Object, Params, read_body};
use crate::openapi::{answer, ask, schema};
use crate::request::RequestId;
use crate::routes::oauth::platform;

const FINISHING: Failing = Failing::retryable("CONNECTION_FAILED", "Failed to finish connecting");

/// What a person reads when the hub failed and cannot say more.
const SORRY: &str = "Something went wrong on our side. Please try again.";

/// How long the account's appearance in the read model is waited for once it is connected.
const VISIBLE_WITHIN: Duration = Duration::from_secs(1);

/// Longest part of a provider's own words that is passed on.
const PROVIDER_TEXT_CHARS_MAX: usize = 200;

/// The routes. Two prefixes, one behaviour: the addresses registered with the platforms differ.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(under_both(routes!(widget_redirect, widget_json)))
        .routes(under_both(routes!(come_back, come_back_by_form)))
}

fn under_both(described: UtoipaMethodRouter<Api>) -> UtoipaMethodRouter<Api> {
    let (schemas, mut paths, router) = described;
    let other = |(path, item): (&String, &PathItem)| {
        let path = path.replacen("/api/oauth/", "/api/auth/", 1);
        (path, item.clone())
    };
    let others: Vec<_> = paths.paths.iter().map(other).collect();
    paths.paths.extend(others);
    (schemas, paths, router)
}

#[utoipa::path(
    get,
    path = "/api/oauth/callback/{platform}",
    tag = "Accounts",
    summary = "Come back from a platform",
    description = "Platforms send the person's browser here. It ends on the client's `/connect` \
        page, whose query says how it went.",
    params(
        ("platform" = inline(schema::PlatformName), Path, description = "The platform"),
        ask::Grant,
    ),
    responses(
        (
            status = 302,
            description = "To the client's page",
            headers(("Location" = String, description = "The page, with the outcome")),
        ),
        (status = 400, description = "`INVALID_PLATFORM`, `INVALID_CALLBACK` or `INVALID_STATE`"),
        (status = 500, description = "`CONNECTION_FAILED`"),
    ),
)]
async fn come_back(
    State(api): State<Api>,
    id: RequestId,
    Name(name): Name,
    request: Request,
) -> Result<Response, Problem> {
    let platform = platform(&name)?;
    not_for_looking(request.method())?;
    let params = given(&api, request).await?;
    if let Some(error) = params.get("error").filter(|error| !error.is_empty()) {
        return Ok(denied(&api, platform, error, &params).await);
    }
    let present = |name| params.get(name).filter(|value: &&str| !value.is_empty());
    let (Some(code), Some(state)) = (present("code"), present("state")) else {
        return Err(incomplete());
    };
    let begun = take_state(&api, state, platform).await?;
    let grant = StoredGrant::Code {
        code: code.to_owned(),
        verifier: begun.verifier,
    };
    let outcome = connect(&api, begun.user, platform, grant, &id).await;
    Ok(redirect(&api, platform, outcome))
}

/// Some platforms post what others put into the address.
#[utoipa::path(
    post,
    path = "/api/oauth/callback/{platform}",
    tag = "Accounts",
    summary = "Come back from a platform that posts",
    description = "The fields may also be in the query.",
    params(
        ("platform" = inline(schema::PlatformName), Path, description = "The platform"),
        ask::Grant,
    ),
    request_body(content(
        (ask::Grant = "application/x-www-form-urlencoded"),
        (ask::Grant = "application/json"),
    )),
    responses(
        (
            status = 302,
            description = "To the client's page",
            headers(("Location" = String, description = "The page, with the outcome")),
        ),
        (status = 400, description = "`INVALID_PLATFORM`, `INVALID_CALLBACK`, `INVALID_STATE` or \
            `VALIDATION_ERROR`"),
        (status = 500, description = "`CONNECTION_FAILED`"),
    ),
)]
async fn come_back_by_form(
    api: State<Api>,
    id: RequestId,
    name: Name,
    request: Request,
) -> Result<Response, Problem> {
    come_back(api, id, name, request).await
}

/// The widget's redirect mode: the signed fields are in the query.
#[utoipa::path(
    get,
    path = "/api/oauth/callback/telegram",
    tag = "Accounts",
    summary = "Come back from Telegram's login widget",
    description = "Telegram signs every field of the query but `state` and `error`.",
    params(ask::WidgetQuery),
    responses(
        (
            status = 302,
            description = "To the client's page",
            headers(("Location" = String, description = "The page, with the outcome")),
        ),
        (status = 400, description = "`INVALID_CALLBACK` or `INVALID_STATE`"),
        (status = 500, description = "`CONNECTION_FAILED`"),
    ),
)]
async fn widget_redirect(
    State(api): State<Api>,
    id: RequestId,
    method: Method,
    params: Params,
) -> Result<Response, Problem> {
    let platform = Platform::Telegram;
    not_for_looking(&method)?;
    if let Some(error) = params.get("error").filter(|error| !error.is_empty()) {
        return Ok(denied(&api, platform, error, &params).await);
    }
    let (Some(state), Some(_)) = (params.get("state"), params.get("hash")) else {
        return Err(incomplete());
    };
    let begun = take_state(&api, state, platform).await?;
    let outcome = match widget_grant(&api, &params.0) {
        Ok(grant) => connect(&api, begun.user, platform, grant, &id).await,
        Err(message) => Err(message),
    };
    Ok(redirect(&api, platform, outcome))
}

/// The widget's page posts the signed fields with the user's token and reads `message` on failure.
#[utoipa::path(
    post,
    path = "/api/oauth/callback/telegram",
    tag = "Accounts",
    summary = "Connect with what Telegram's login widget gave",
    description = "Telegram signs every field but `state`.",
    security(("bearer" = [])),
    request_body = ask::Widget,
    responses(
        (status = 200, description = "Connected", body = answer::Connected),
        (status = 400, description = "`INVALID_CALLBACK`, `INVALID_STATE` or `VALIDATION_ERROR`"),
        (status = 500, description = "`CONNECTION_FAILED`"),
    ),
)]
async fn widget_json(
    State(api): State<Api>,
    caller: Caller,
    body: Object,
) -> Result<Json<Value>, Problem> {
    let fields: Vec<(String, String)> = body
        .0
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), scalar(value)?)))
        .collect();
    let state = body.text("state", "State")?.ok_or_else(incomplete)?;
    // Before the state is used up: who mistyped may try again.
    let grant = widget_grant(&api, &fields).map_err(Problem::validation)?;
    let begun = take_state(&api, state, Platform::Telegram).await?;
    if begun.user != caller.user {
        return Err(bad_state());
    }
    let outcome = connect(
        &api,
        caller.user,
        Platform::Telegram,
        grant,
        &caller.request,
    )
    .await;
    let (account, username) = outcome.map_err(|message| {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Problem::new(status, "CONNECTION_FAILED", message).retryable()
    })?;
    Ok(Json(json!({
        "success": true,
        "accountId": account,
        "username": username,
    })))
}

/// Refuses HEAD: whoever only looks at a link (a mail scanner, a browser's preview) would use up the
/// state of the person who is about to follow it.
fn not_for_looking(method: &Method) -> Result<(), Problem> {
    match *method {
        Method::HEAD => Err(wrong_method().allowing("GET,POST")),
        _ => Ok(()),
    }
}

/// Everything a provider sent: the query, and the form or JSON of a POST.
async fn given(api: &Api, request: Request) -> Result<Params, Problem> {
    let is_post = request.method() == Method::POST;
    let is_json = request
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
    let (mut parts, body) = request.into_parts();
    let Ok(mut params) = Params::from_request_parts(&mut parts, &()).await;
    if is_post {
        let limit = api.settings().api.body_bytes;
        let raw = read_body(Request::from_parts(parts, body), limit).await?;
        if is_json {
            let object = Object::parse(&raw)?;
            let fields = object.0.iter();
            params
                .0
                .extend(fields.filter_map(|(name, value)| Some((name.clone(), scalar(value)?))));
        } else {
            params.0.extend(Params::of_form(&raw).0);
        }
    }
    Ok(params)
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

async fn denied(api: &Api, platform: Platform, error: &str, params: &Params) -> Response {
    if let Some(state) = params.get("state")
        && let Err(error) = api.store().take_oauth_state(state, platform).await
    {
        // It expires by itself; the person is on their way back in any case.
        tracing::warn!(error = chain(&error), "a state was not consumed");
    }
    let error: String = error.chars().take(PROVIDER_TEXT_CHARS_MAX).collect();
    to_client(api, &[("error", &error), ("platform", platform.name())])
}

async fn take_state(api: &Api, state: &str, platform: Platform) -> Result<Begun, Problem> {
    let begun = api.store().take_oauth_state(state, platform).await;
    begun
        .map_err(|error| FINISHING.because(error))?
        .ok_or_else(bad_state)
}

/// Checks the widget's fields; the message of a refusal is fit for a person.
fn widget_grant(api: &Api, fields: &[(String, String)]) -> Result<StoredGrant, String> {
    let app = api.settings().app(Platform::Telegram);
    let now_s = Utc::now().timestamp();
    let max_age_s = i64::try_from(WIDGET_AGE_MAX.as_secs()).unwrap_or(i64::MAX);
    signature::widget(&app.bot_token, fields, now_s, max_age_s)
        .map_err(|refused| refused.to_string())?;
    let field = |name: &str| {
        let found = fields.iter().find(|(own, _)| own == name);
        found
            .map(|(_, value)| value.clone())
            .filter(|value| !value.is_empty())
    };
    Ok(StoredGrant::Widget {
        id: field("id").unwrap_or_default(),
        username: field("username")
            .or_else(|| field("first_name"))
            .unwrap_or_else(|| "Telegram User".to_owned()),
    })
}

/// Hands the grant to the worker and waits for the account, or for words why there is none.
async fn connect(
    api: &Api,
    user: UserId,
    platform: Platform,
    grant: StoredGrant,
    request: &RequestId,
) -> Result<(AccountId, String), String> {
    if adapter(platform).is_none() {
        return Err(format!("Connecting {platform} is not available yet"));
    }
    let answer = ask_worker(api, user, platform, grant, request).await;
    let answer = answer.map_err(|error| {
        tracing::error!(error = chain(&error), %platform, "a connect could not be handed over");
        SORRY.to_owned()
    })?;
    match answer {
        Some(ConnectAnswer::Connected { account, username }) => {
            wait_until_visible(api, user, account).await;
            let keys = api.store().vault().keyring(user, []).await;
            let username = keys.and_then(|keys| keys.open(&username.0));
            match username {
                Ok(Opened::Text(username)) => Ok((account, username)),
                Ok(Opened::Erased) | Err(_) => Err(SORRY.to_owned()),
            }
        }
        Some(ConnectAnswer::Failed { message }) => Err(message),
        None => Err(
            "Connecting takes longer than expected. Please look at your accounts in a minute."
                .to_owned(),
        ),
    }
}

async fn ask_worker(
    api: &Api,
    user: UserId,
    platform: Platform,
    grant: StoredGrant,
    request: &RequestId,
) -> hub_store::Result<Option<ConnectAnswer>> {
    let store = api.store();
    let mut name = [0_u8; 16];
    rand::fill(&mut name).map_err(|_| hub_store::Error::Sealed("no randomness"))?;
    let answer = Key::of(&[b"connect", &name]);
    let grant = serde_json::to_string(&grant)
        .map_err(|_| hub_store::Error::Sealed("a grant is plain data"))?;
    let shard = store.sharding().of_user(user);
    let command = Command::Connect {
        user,
        platform,
        grant: store.vault().user(user).await?.seal(&grant),
        answer,
    };
    store
        .accept(NewCommand {
            shard,
            command,
            request: Some(request.0.clone()),
        })
        .await?;
    let wait = api.settings().api.oauth_callback_wait;
    store.wait_for_answer(shard, answer, wait).await
}

/// The next thing the client does is to list its accounts, and this one should be there.
async fn wait_until_visible(api: &Api, user: UserId, account: AccountId) {
    let store = api.store();
    let deadline = Instant::now() + VISIBLE_WITHIN;
    let mut listener = store.signals().listen(Topic::Projected);
    loop {
        let row = store.account(user, account).await;
        let is_current =
            |row: hub_store::entity::account::Model| row.is_active && row.needs_reconnect.is_none();
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || row.is_ok_and(|row| row.is_some_and(is_current)) {
            return;
        }
        listener.wait(left.min(Duration::from_millis(50))).await;
    }
}

fn redirect(
    api: &Api,
    platform: Platform,
    outcome: Result<(AccountId, String), String>,
) -> Response {
    let platform = platform.name();
    match outcome {
        Ok((account, _)) => to_client(
            api,
            &[
                ("success", "true"),
                ("platform", platform),
                ("accountId", &account.to_string()),
            ],
        ),
        Err(message) => to_client(
            api,
            &[
                ("error", "callback_failed"),
                ("platform", platform),
                ("message", &message),
            ],
        ),
    }
}

fn to_client(api: &Api, params: &[(&str, &str)]) -> Response {
    let server = &api.settings().server;
    let frontend = server.frontend_url.as_ref().unwrap_or(&server.public_url);
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(params)
        .finish();
    let location = format!("{frontend}/connect?{query}");
    let headers = [(LOCATION, location), (CACHE_CONTROL, "no-store".to_owned())];
    (StatusCode::FOUND, headers).into_response()
}

fn incomplete() -> Problem {
    let message = "The platform's answer is incomplete. Please try again.";
    Problem::new(StatusCode::BAD_REQUEST, "INVALID_CALLBACK", message)
}

fn bad_state() -> Problem {
    let message = "This connection attempt is unknown, expired or already used.";
    Problem::new(StatusCode::BAD_REQUEST, "INVALID_STATE", message)
}
