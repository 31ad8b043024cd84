//! Telegram user accounts: signing in with a phone number, dialogs, messages, a look at everything
//! (contract 2.6, 4.6).
//!
//! The API never talks to Telegram: it hands a wish to the worker that holds the session and waits a
//! bounded time. Errors are flat, because the client puts `error` on the screen, and 401 is the hub's
//! own. An account that is somebody else's, is not connected, or is a bot's is not found; only `sync`,
//! which a client asks of every account before it shows it, is content with a bot's.

use std::time::{Duration, Instant};

use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use axum::{Json, RequestPartsExt as _};
use hub_domain::id::AccountId;
use hub_domain::platform::Platform;
use hub_domain::platform::telegram_user::{Answered, Chat, Wish, is_session};
use hub_store::account::Owner;
use hub_store::entity::account;
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::accounts::{own_account, unknown};
use super::callback::wait_until_visible;
use super::send;
use crate::Api;
use crate::auth::Caller;
use crate::error::{Failing, Problem};
use crate::input::{Id, Object, Params};
use crate::openapi::{answer, ask};

const SIGNING_IN: Failing = Failing::retryable(
    "CONNECTION_FAILED",
    "Signing in to Telegram did not work. Please try again.",
);
const FETCHING: Failing = Failing::retryable(
    "FETCH_FAILED",
    "Telegram was not reached. Please try again.",
);

/// A look at everything goes on in the background; the client waits for its beginning only.
const SYNC_BEGINS_WITHIN: Duration = Duration::from_secs(5);

const SYNCED: &str = "Messages synced successfully";

/// Longest phone number and code that are looked at.
const FIELD_BYTES_MAX: usize = 64;

/// Longest cloud password.
const PASSWORD_BYTES_MAX: usize = 1_024;

/// The routes.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(phone))
        .routes(routes!(verify))
        .routes(routes!(dialogs))
        .routes(routes!(messages))
        .routes(routes!(send_to))
        .routes(routes!(sync))
        .routes(routes!(reset))
}

#[utoipa::path(
    post,
    path = "/api/telegram/auth/phone",
    tag = "Telegram",
    summary = "Ask for a login code",
    description = "Telegram sends it to the person's other devices, or by SMS. The login waits ten \
        minutes for the code.",
    security(("bearer" = [])),
    request_body = ask::TelegramPhone,
    responses(
        (status = 200, description = "A code is on its way", body = answer::TelegramCode),
        (status = 400, description = "`VALIDATION_ERROR`, or Telegram refuses the number"),
        (status = 500, description = "`CONNECTION_FAILED`"),
        (status = 502, description = "`PLATFORM_API_ERROR`: Telegram was not reached"),
        (status = 503, description = "`CONNECTION_FAILED`: this hub has no Telegram credentials, or \
            the store does not answer"),
    ),
)]
async fn phone(
    State(api): State<Api>,
    caller: Caller,
    body: Object,
) -> Result<Json<Value>, Problem> {
    let phone = number(&body)?;
    require_credentials(&api)?;
    match wish(&api, &caller, None, &Wish::Phone { phone }, SIGNING_IN).await? {
        Answered::CodeSent { hash } => Ok(Json(json!({ "success": true, "phoneCodeHash": hash }))),
        other => Err(refused(other, StatusCode::BAD_REQUEST, SIGNING_IN)),
    }
}

#[utoipa::path(
    post,
    path = "/api/telegram/auth/verify",
    tag = "Telegram",
    summary = "Sign in with the code",
    description = "Answers `needPassword` for an account with a cloud password; the same fields with \
        `password` then complete the login, and the code is not redeemed again.",
    security(("bearer" = [])),
    request_body = ask::TelegramLogin,
    responses(
        (status = 200, description = "Signed in, or the password is needed",
            body = answer::TelegramSignedIn),
        (status = 400, description = "`VALIDATION_ERROR`, or `PLATFORM_API_ERROR`: a wrong code, a \
            wrong password, no pending login"),
        (status = 500, description = "`CONNECTION_FAILED`"),
        (status = 502, description = "`PLATFORM_API_ERROR`: Telegram was not reached"),
        (status = 503, description = "`CONNECTION_FAILED`: this hub has no Telegram credentials, or \
            the store does not answer"),
    ),
)]
async fn verify(
    State(api): State<Api>,
    caller: Caller,
    body: Object,
) -> Result<Json<Value>, Problem> {
    let wanted = Wish::Verify {
        phone: number(&body)?,
        code: field(&body, "phoneCode", "Phone code")?,
        hash: field(&body, "phoneCodeHash", "Phone code hash")?,
        password: match body.text("password", "Password")? {
            Some(password) if password.len() > PASSWORD_BYTES_MAX => {
                return Err(Problem::field("password", "Password is too long"));
            }
            password => password.map(str::to_owned),
        },
    };
    require_credentials(&api)?;
    match wish(&api, &caller, None, &wanted, SIGNING_IN).await? {
        Answered::SignedIn { account, username } => {
            wait_until_visible(&api, caller.user, account).await;
            Ok(Json(json!({
                "success": true,
                "accountId": account,
                "username": username,
            })))
        }
        Answered::PasswordNeeded => Ok(Json(json!({ "success": false, "needPassword": true }))),
        other => Err(refused(other, StatusCode::BAD_REQUEST, SIGNING_IN)),
    }
}

#[utoipa::path(
    get,
    path = "/api/telegram/{id}/dialogs",
    tag = "Telegram",
    summary = "The newest dialogs, as Telegram has them now",
    security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The account"), ask::Rows),
    responses(
        (status = 200, description = "The dialogs", body = answer::TelegramDialogs),
        (status = 400, description = "`VALIDATION_ERROR`: a bad id or limit"),
        (status = 404, description = "`ACCOUNT_NOT_FOUND`"),
        (status = 422, description = "`PLATFORM_API_ERROR`: Telegram refused it"),
        (status = 500, description = "`FETCH_FAILED`"),
        (status = 502, description = "`PLATFORM_API_ERROR`: Telegram was not reached"),
    ),
)]
async fn dialogs(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
    params: Params,
) -> Result<Json<Value>, Problem> {
    let limit = rows(&params)?;
    let account = session(&api, &caller, id).await?;
    let wanted = Wish::Dialogs { limit };
    match wish(&api, &caller, Some(&account), &wanted, FETCHING).await? {
        Answered::Dialogs { dialogs } => Ok(Json(json!({ "dialogs": dialogs }))),
        other => Err(refused(other, StatusCode::UNPROCESSABLE_ENTITY, FETCHING)),
    }
}

#[utoipa::path(
    get,
    path = "/api/telegram/{id}/messages/{chat}",
    tag = "Telegram",
    summary = "The newest messages of a chat, as Telegram has them now",
    security(("bearer" = [])),
    params(
        ("id" = Uuid, Path, description = "The account"),
        ("chat" = i64, Path, description = "The chat, negative for groups"),
        ask::Rows,
    ),
    responses(
        (status = 200, description = "The messages", body = answer::TelegramMessages),
        (status = 400, description = "`VALIDATION_ERROR`: a bad id, chat or limit"),
        (status = 404, description = "`ACCOUNT_NOT_FOUND`"),
        (status = 422, description = "`PLATFORM_API_ERROR`: Telegram does not know this chat"),
        (status = 500, description = "`FETCH_FAILED`"),
        (status = 502, description = "`PLATFORM_API_ERROR`: Telegram was not reached"),
    ),
)]
async fn messages(
    State(api): State<Api>,
    caller: Caller,
    InChat { account, thread }: InChat,
    params: Params,
) -> Result<Json<Value>, Problem> {
    let limit = rows(&params)?;
    let account = session(&api, &caller, account).await?;
    let wanted = Wish::Messages { thread, limit };
    match wish(&api, &caller, Some(&account), &wanted, FETCHING).await? {
        Answered::Messages { messages } => Ok(Json(json!({ "messages": messages }))),
        other => Err(refused(other, StatusCode::UNPROCESSABLE_ENTITY, FETCHING)),
    }
}

#[utoipa::path(
    post,
    path = "/api/telegram/{id}/send/{chat}",
    tag = "Telegram",
    summary = "Send a text to a chat",
    description = "Queued like any other message; the conversation begins with it if there was none.",
    security(("bearer" = [])),
    params(
        ("id" = Uuid, Path, description = "The account"),
        ("chat" = i64, Path, description = "The chat, negative for groups"),
    ),
    request_body = ask::TelegramText,
    responses(
        (status = 200, description = "Sent, or still on its way", body = answer::Sent),
        (status = 400, description = "`VALIDATION_ERROR`: no text, too long a text, or a bad id"),
        (status = 404, description = "`ACCOUNT_NOT_FOUND`"),
        (status = 422, description = "`PLATFORM_API_ERROR`: Telegram will not take it"),
        (status = 500, description = "`SEND_FAILED`"),
        (status = 502, description = "`PLATFORM_API_ERROR`: Telegram did not take it"),
    ),
)]
async fn send_to(
    State(api): State<Api>,
    caller: Caller,
    InChat { account, thread }: InChat,
    body: Object,
) -> Result<Response, Problem> {
    let text = body
        .text("text", "Text")?
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .ok_or_else(|| Problem::field("text", "Text required"))?;
    let account = session(&api, &caller, account).await?;
    let mut sent = send::to_thread(&api, &caller, account, &thread, text)
        .await?
        .into_response();
    // This route has always answered so.
    *sent.status_mut() = StatusCode::OK;
    Ok(sent)
}

#[utoipa::path(
    post,
    path = "/api/telegram/{id}/sync",
    tag = "Telegram",
    summary = "Look at every dialog",
    description = "Answers once the look has begun; it goes on in the background.",
    security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The account")),
    responses(
        (status = 200, description = "It has begun; or the account is a bot's, which misses nothing",
            body = answer::Done),
        (status = 400, description = "`VALIDATION_ERROR`: the id is not a UUID"),
        (status = 404, description = "`ACCOUNT_NOT_FOUND`"),
        (status = 422, description = "`PLATFORM_API_ERROR`: Telegram refused it"),
        (status = 500, description = "`FETCH_FAILED`"),
        (status = 502, description = "`PLATFORM_API_ERROR`: Telegram was not reached"),
    ),
)]
async fn sync(State(api): State<Api>, caller: Caller, Id(id): Id) -> Result<Json<Value>, Problem> {
    let account = connected(&api, &caller, id).await?;
    if !is_users(&api, &caller, &account).await? {
        // A bot is told everything: there is nothing to look for, and its card is opened like any.
        return Ok(Json(json!({ "success": true, "message": SYNCED })));
    }
    let answered = wish(&api, &caller, Some(&account), &Wish::Sync {}, FETCHING).await?;
    look_began(answered, SYNCED)
}

#[utoipa::path(
    post,
    path = "/api/telegram/{id}/reset",
    tag = "Telegram",
    summary = "Forget everything and look at every dialog",
    description = "Forgets the account's conversations and messages, then looks at every dialog. \
        What Telegram still has comes back, the newest of each dialog first; messages that are still \
        to be sent stay. The inbox as of an earlier moment (`asOf`) has what was forgotten.",
    security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The account")),
    responses(
        (status = 200, description = "It has begun", body = answer::Done),
        (status = 400, description = "`VALIDATION_ERROR`: the id is not a UUID"),
        (status = 404, description = "`ACCOUNT_NOT_FOUND`"),
        (status = 422, description = "`PLATFORM_API_ERROR`: Telegram refused it"),
        (status = 500, description = "`FETCH_FAILED`"),
        (status = 502, description = "`PLATFORM_API_ERROR`: Telegram was not reached"),
    ),
)]
async fn reset(State(api): State<Api>, caller: Caller, Id(id): Id) -> Result<Json<Value>, Problem> {
    let account = session(&api, &caller, id).await?;
    require_accepted(&account)?;
    let owner = Owner {
        user: caller.user,
        account: AccountId(account.id),
    };
    let store = api.store();
    let failed = |error| FETCHING.because(error);
    let began = Instant::now();
    let within = (api.settings().api.oauth_callback_wait).min(SYNC_BEGINS_WITHIN);
    let requested = store.request_reset(owner, caller.meta()).await;
    let requested = requested.map_err(failed)?;
    // Whoever stops waiting here has asked all the same: it is forgotten when a worker comes to it.
    let look = store.wait_for_reset(requested, within).await;
    let look = look.map_err(failed)?.ok_or_else(|| FETCHING.problem())?;
    let left = within.saturating_sub(began.elapsed());
    let answered = store.wait_for_wish(caller.user, look, left).await;
    let answered = answered.map_err(failed)?;
    look_began(
        answered.ok_or_else(|| FETCHING.problem())?,
        "Reset and synced successfully",
    )
}

fn look_began(answered: Answered, done: &str) -> Result<Json<Value>, Problem> {
    match answered {
        Answered::Syncing => Ok(Json(json!({ "success": true, "message": done }))),
        other => Err(refused(other, StatusCode::UNPROCESSABLE_ENTITY, FETCHING)),
    }
}

/// Account and chat of a path.
struct InChat {
    account: Uuid,
    thread: String,
}

impl<S: Send + Sync> FromRequestParts<S> for InChat {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let path = parts.extract::<Path<(String, String)>>().await;
        let Ok(Path((account, thread))) = path else {
            return Err(Problem::field("id", "The id in the path must be a UUID"));
        };
        let account = Some(account)
            .filter(|text| text.len() == 36)
            .and_then(|text| Uuid::parse_str(&text).ok())
            .ok_or_else(|| Problem::field("id", "The id in the path must be a UUID"))?;
        let chat = Chat::of_thread(&thread)
            .ok_or_else(|| Problem::field("chat", "The chat in the path must be a number"))?;
        // One chat, one thread: however its number is written.
        Ok(Self {
            account,
            thread: chat.thread(),
        })
    }
}

fn field(body: &Object, name: &'static str, what: &str) -> Result<String, Problem> {
    let text = body
        .text(name, what)?
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .ok_or_else(|| Problem::field(name, format!("{what} required")))?;
    if text.len() > FIELD_BYTES_MAX {
        return Err(Problem::field(name, format!("{what} is too long")));
    }
    Ok(text.to_owned())
}

/// A phone number as Telegram takes it: people put spaces and brackets between the digits.
fn number(body: &Object) -> Result<String, Problem> {
    let text = field(body, "phoneNumber", "Phone number")?;
    let kept = |it: &char| !matches!(it, ' ' | '-' | '(' | ')' | '.');
    let number: String = text.chars().filter(kept).collect();
    let digits = number.strip_prefix('+').unwrap_or(&number);
    let is_number =
        (5..=20).contains(&digits.len()) && digits.bytes().all(|it| it.is_ascii_digit());
    if !is_number {
        let message = "Phone number must be digits with the country code, as in +15551234567";
        return Err(Problem::field("phoneNumber", message));
    }
    Ok(format!("+{digits}"))
}

fn rows(params: &Params) -> Result<usize, Problem> {
    let limit = params.limit(hub_domain::limits::PAGE_ROWS_DEFAULT)?;
    Ok(usize::try_from(limit).unwrap_or_default())
}

fn require_credentials(api: &Api) -> Result<(), Problem> {
    let app = api.settings().app(Platform::Telegram);
    if !app.client_id.is_empty() && !app.client_secret.is_empty() {
        return Ok(());
    }
    let message = "Telegram sign-in is not set up on this hub: TELEGRAM_API_ID and \
        TELEGRAM_API_HASH are missing.";
    let status = StatusCode::SERVICE_UNAVAILABLE;
    Err(Problem::new(status, "CONNECTION_FAILED", message))
}

/// The caller's account, when it is connected and a user's session.
async fn session(api: &Api, caller: &Caller, id: Uuid) -> Result<account::Model, Problem> {
    let row = connected(api, caller, id).await?;
    match is_users(api, caller, &row).await? {
        true => Ok(row),
        false => Err(unknown()),
    }
}

/// The caller's account on Telegram, when it is connected: a bot's or a user's.
async fn connected(api: &Api, caller: &Caller, id: Uuid) -> Result<account::Model, Problem> {
    let row = own_account(api, caller, AccountId(id), FETCHING).await?;
    match row.is_active && row.platform == Platform::Telegram.name() {
        true => Ok(row),
        false => Err(unknown()),
    }
}

async fn is_users(api: &Api, caller: &Caller, row: &account::Model) -> Result<bool, Problem> {
    let owner = Owner {
        user: caller.user,
        account: AccountId(row.id),
    };
    let credentials = api.store().credentials(owner, &row.route).await;
    let credentials = credentials.map_err(|error| FETCHING.because(error))?;
    Ok(credentials.is_some_and(|it| is_session(it.access_token.expose())))
}

fn require_accepted(account: &account::Model) -> Result<(), Problem> {
    if account.needs_reconnect.is_none() {
        return Ok(());
    }
    let message = "Telegram no longer accepts this session. Please sign in again.";
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    Err(Problem::new(status, "PLATFORM_API_ERROR", message))
}

/// Hands a wish over and waits for what comes of it.
async fn wish(
    api: &Api,
    caller: &Caller,
    account: Option<&account::Model>,
    wish: &Wish,
    failing: Failing,
) -> Result<Answered, Problem> {
    if let Some(account) = account {
        require_accepted(account)?;
    }
    let mut within = api.settings().api.oauth_callback_wait;
    if matches!(wish, Wish::Sync {}) {
        within = within.min(SYNC_BEGINS_WITHIN);
    }
    let store = api.store();
    let account = account.map(|account| AccountId(account.id));
    let key = store
        .wish_of_telegram(caller.user, account, wish, within)
        .await
        .map_err(|error| failing.because(error))?;
    let answered = store.wait_for_wish(caller.user, key, within).await;
    answered
        .map_err(|error| failing.because(error))?
        .ok_or_else(|| failing.problem())
}

/// What was refused, in the words it was refused with.
fn refused(answered: Answered, by_person: StatusCode, failing: Failing) -> Problem {
    match answered {
        Answered::Refused {
            message,
            retry_after_s: Some(seconds),
            ..
        } => {
            let status = StatusCode::TOO_MANY_REQUESTS;
            Problem::new(status, "PLATFORM_RATE_LIMIT_EXCEEDED", message).after(seconds)
        }
        Answered::Refused {
            message,
            by_person: true,
            ..
        } => Problem::new(by_person, "PLATFORM_API_ERROR", message),
        Answered::Refused { message, .. } => {
            Problem::new(StatusCode::BAD_GATEWAY, "PLATFORM_API_ERROR", message).retryable()
        }
        _ => failing.problem(),
    }
}
