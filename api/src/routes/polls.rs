//! Asking platforms what is new, on demand (contract 2.3, 2.7).
//!
//! The API calls no platform: it appends the wish as a command and waits a bounded time for what
//! the worker says. An account's poll goes on when nobody waits any more.

use aws_lc_rs::rand;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use hub_domain::command::{Command, NewCommand, PollAnswer};
use hub_domain::id::{AccountId, Key};
use hub_domain::platform::polling::Polling;
use hub_domain::platform::{App, Platform, adapter};
use hub_store::entity::account;
use serde_json::{Value, json};
use url::form_urlencoded;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::accounts::unknown as unknown_account;
use crate::auth::Caller;
use crate::error::{Failing, Problem};
use crate::input::{Id, Object};
use crate::openapi::{answer, ask};
use crate::{Api, view};

const SYNCING: Failing = Failing::retryable("FETCH_FAILED", "Failed to fetch what is new");
const LOOKING: Failing = Failing::retryable("FETCH_FAILED", "Failed to look at the polls");

/// What a person reads whose poll is not done yet.
const LATER: &str = "This takes longer; what is new will appear by itself";

/// Conversations that the look at an account shows.
const SHOWN: i64 = 5;

/// Letters of an application's id that the look at the configuration shows.
const ID_CHARS_SHOWN: usize = 4;

/// The routes.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(sync))
        .routes(routes!(poll))
        .routes(routes!(look))
        .routes(routes!(trigger))
        .routes(routes!(stats))
        .routes(routes!(instagram_config))
}

/// Every account by itself: what one platform does or does not do is that account's result.
#[utoipa::path(
    post,
    path = "/api/messages/sync",
    tag = "Messages",
    summary = "Ask all platforms what is new",
    description = "Waits a bounded time. An account that takes longer says so; its messages appear \
        by themselves.",
    security(("bearer" = [])),
    request_body = ask::Syncing,
    responses(
        (status = 200, description = "What each account said", body = answer::Synced),
        (status = 400, description = "`VALIDATION_ERROR`: `since` is not a time"),
        (status = 500, description = "`FETCH_FAILED`"),
    ),
)]
async fn sync(
    State(api): State<Api>,
    caller: Caller,
    body: Object,
) -> Result<Json<Value>, Problem> {
    let since = body.time("since")?;
    let rows = api.store().accounts(caller.user, false).await;
    let rows = rows.map_err(|error| SYNCING.because(error))?;
    let results = rows
        .iter()
        .map(|row| ask_account(&api, &caller, row, since));
    let results = futures::future::join_all(results).await;
    let mut total = 0;
    let mut accounts = Vec::with_capacity(rows.len());
    for (row, result) in rows.iter().zip(results) {
        let mut account = json!({
            "accountId": row.id,
            "platform": row.platform,
            "messageCount": 0,
            "success": result.is_ok(),
        });
        match result {
            Ok(messages) => {
                account["messageCount"] = json!(messages);
                total += messages;
            }
            Err(problem) => account["error"] = json!(problem.message()),
        }
        accounts.push(account);
    }
    Ok(Json(json!({
        "success": true,
        "totalMessages": total,
        "accountResults": accounts,
    })))
}

#[utoipa::path(
    post,
    path = "/api/messages/poll/{id}",
    tag = "Messages",
    summary = "Ask an account's platform what is new",
    security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The account")),
    responses(
        (status = 200, description = "It was asked", body = answer::Polled),
        (status = 400, description = "`VALIDATION_ERROR`: the id is not a UUID"),
        (status = 404, description = "`ACCOUNT_NOT_FOUND`: unknown or disconnected"),
        (status = 422, description = "`PLATFORM_API_ERROR`: the platform cannot be asked"),
        (
            status = 429,
            description = "`PLATFORM_RATE_LIMIT_EXCEEDED` or `RATE_LIMIT_EXCEEDED`: wait as many \
                seconds as `Retry-After` says",
        ),
        (status = 500, description = "`FETCH_FAILED`"),
        (status = 502, description = "`PLATFORM_API_ERROR`: no answer, or not yet"),
    ),
)]
async fn poll(State(api): State<Api>, caller: Caller, Id(id): Id) -> Result<Json<Value>, Problem> {
    let row = active_account(&api, &caller, id).await?;
    let messages = ask_account(&api, &caller, &row, None).await?;
    Ok(Json(json!({
        "success": true,
        "account": shown(&api, &caller, &row).await?,
        "messageCount": messages,
    })))
}

#[utoipa::path(
    get,
    path = "/api/messages/debug/twitter/{id}",
    tag = "Messages",
    summary = "Look at an account on X",
    security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The account")),
    responses(
        (status = 200, description = "It, and its newest conversations", body = answer::AccountLook),
        (status = 400, description = "`VALIDATION_ERROR`: the id is not a UUID"),
        (status = 404, description = "`ACCOUNT_NOT_FOUND`: unknown, disconnected or not on X"),
        (status = 500, description = "`FETCH_FAILED`"),
    ),
)]
async fn look(State(api): State<Api>, caller: Caller, Id(id): Id) -> Result<Json<Value>, Problem> {
    let row = active_account(&api, &caller, id).await?;
    if row.platform != Platform::Twitter.name() {
        return Err(unknown_account());
    }
    let store = api.store();
    let failed = |error| LOOKING.because(error);
    let page = store.conversations_of(caller.user, AccountId(row.id), SHOWN);
    let page = page.await.map_err(failed)?;
    let keys = store
        .vault()
        .keyring(caller.user, [])
        .await
        .map_err(failed)?;
    let conversations: Vec<Value> = page
        .rows
        .iter()
        .map(|conversation| view::conversation(conversation, &row, &keys))
        .collect();
    Ok(Json(json!({
        "success": true,
        "account": shown(&api, &caller, &row).await?,
        "conversationsCount": page.total,
        "conversations": conversations,
    })))
}

#[utoipa::path(
    post,
    path = "/api/debug/polling/{id}",
    tag = "Operation",
    summary = "Have an account polled soon",
    description = "Does not wait for it.",
    security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The account")),
    responses(
        (status = 200, description = "It will be", body = answer::Done),
        (status = 400, description = "`VALIDATION_ERROR`: the id is not a UUID"),
        (status = 404, description = "`ACCOUNT_NOT_FOUND`: unknown or disconnected"),
        (status = 422, description = "`PLATFORM_API_ERROR`: the platform cannot be asked"),
        (status = 500, description = "`FETCH_FAILED`"),
    ),
)]
async fn trigger(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
) -> Result<Json<Value>, Problem> {
    let row = active_account(&api, &caller, id).await?;
    pollable(&row)?;
    wish(&api, &caller, &row, None).await?;
    Ok(Json(json!({
        "success": true,
        "message": format!("Polling triggered for account {id}"),
    })))
}

#[utoipa::path(
    get,
    path = "/api/debug/polling/stats",
    tag = "Operation",
    summary = "The polls of the caller's accounts in numbers",
    security(("bearer" = [])),
    responses(
        (status = 200, description = "The numbers", body = answer::Polls),
        (status = 500, description = "`FETCH_FAILED`"),
    ),
)]
async fn stats(State(api): State<Api>, caller: Caller) -> Result<Json<Value>, Problem> {
    let platforms: Vec<&str> = Platform::ALL
        .into_iter()
        .filter(|platform| polling(*platform).is_some())
        .map(Platform::name)
        .collect();
    let stats = api.store().poll_stats(caller.user, &platforms).await;
    let stats = stats.map_err(|error| LOOKING.because(error))?;
    Ok(Json(json!({
        "success": true,
        "stats": {
            "waiting": stats.waiting,
            "active": stats.active,
            "completed": stats.polls - stats.failed,
            "failed": stats.failed,
            "delayed": stats.delayed,
            "activeAccounts": stats.accounts,
            "lastPollTime": stats.last.map(view::timestamp),
            "totalPolls": stats.polls,
        },
    })))
}

/// Says whether something is set and how long it is, never what.
#[utoipa::path(
    get,
    path = "/api/debug/instagram-config",
    tag = "Operation",
    summary = "Whether Instagram is configured",
    security(("bearer" = [])),
    responses((status = 200, description = "What is set", body = answer::InstagramLook)),
)]
async fn instagram_config(State(api): State<Api>, _: Caller) -> Json<Value> {
    let app = api.settings().app(Platform::Instagram);
    let or_not_set = |text: &str| match text {
        "" => "NOT SET".to_owned(),
        text => text.to_owned(),
    };
    let id = app.client_id.as_str();
    let first: String = id.chars().take(ID_CHARS_SHOWN).collect();
    Json(json!({
        "success": true,
        "config": {
            "appIdConfigured": !id.is_empty(),
            "appIdLength": id.chars().count(),
            "appIdFirstChars": or_not_set(&first),
            "appSecretConfigured": !app.client_secret.is_empty(),
            "appSecretLength": app.client_secret.expose().chars().count(),
            "webhookBaseUrl": or_not_set(&api.settings().server.public_url),
            "redirectUri": or_not_set(&app.redirect_uri),
            "authUrl": dialog(&app),
        },
    }))
}

/// Where a person is sent who connects, as far as it is configured.
fn dialog(app: &App) -> String {
    let or_missing = |text: &str| match text {
        "" => "MISSING".to_owned(),
        text => text.to_owned(),
    };
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("client_id", &or_missing(&app.client_id))
        .append_pair("redirect_uri", &or_missing(&app.redirect_uri))
        .finish();
    let base = or_missing(&app.dialog_base);
    format!("{base}/{}/dialog/oauth?{query}", app.api_version)
}

/// The account as these routes show it.
async fn shown(api: &Api, caller: &Caller, row: &account::Model) -> Result<Value, Problem> {
    let keys = api.store().vault().keyring(caller.user, []).await;
    let keys = keys.map_err(|error| LOOKING.because(error))?;
    let account = view::account(row, &keys);
    Ok(json!({
        "id": account["id"],
        "platform": account["platform"],
        "username": account["platformUsername"],
    }))
}

async fn active_account(
    api: &Api,
    caller: &Caller,
    id: uuid::Uuid,
) -> Result<account::Model, Problem> {
    let row = api.store().account(caller.user, AccountId(id)).await;
    row.map_err(|error| LOOKING.because(error))?
        .filter(|row| row.is_active)
        .ok_or_else(unknown_account)
}

fn polling(platform: Platform) -> Option<Polling> {
    adapter(platform)?.polling()
}

fn pollable(row: &account::Model) -> Result<(), Problem> {
    let platform: Option<Platform> = row.platform.parse().ok();
    match platform.and_then(polling) {
        Some(_) => Ok(()),
        None => Err(refused(format!(
            "{} pushes what is new: there is nothing to fetch",
            row.platform
        ))),
    }
}

fn refused(message: String) -> Problem {
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    Problem::new(status, "PLATFORM_API_ERROR", message)
}

/// Has an account polled, and waits for how many messages that brought.
async fn ask_account(
    api: &Api,
    caller: &Caller,
    row: &account::Model,
    since: Option<DateTime<Utc>>,
) -> Result<u64, Problem> {
    pollable(row)?;
    let answer = wish(api, caller, row, since).await?;
    let store = api.store();
    let shard = store.sharding().of_user(caller.user);
    let wait = api.settings().api.poll_wait;
    let answer = store.wait_for_answer(shard, answer, wait).await;
    match answer.map_err(|error| SYNCING.because(error))? {
        Some(PollAnswer::Polled { messages }) => Ok(messages),
        Some(PollAnswer::Failed {
            message,
            retryable,
            retry_after_s,
        }) => Err(match retry_after_s {
            Some(seconds) => {
                let status = StatusCode::TOO_MANY_REQUESTS;
                Problem::new(status, "PLATFORM_RATE_LIMIT_EXCEEDED", message).after(seconds)
            }
            None if retryable => unanswered(message),
            None => refused(message),
        }),
        None => Err(unanswered(LATER.to_owned())),
    }
}

fn unanswered(message: String) -> Problem {
    Problem::new(StatusCode::BAD_GATEWAY, "PLATFORM_API_ERROR", message).retryable()
}

/// Makes it known that somebody wants an account polled. Returns the name of the answer.
async fn wish(
    api: &Api,
    caller: &Caller,
    row: &account::Model,
    since: Option<DateTime<Utc>>,
) -> Result<Key, Problem> {
    let store = api.store();
    let mut name = [0_u8; 16];
    rand::fill(&mut name).map_err(|_| SYNCING.problem())?;
    let answer = Key::of(&[b"poll", &name]);
    let command = NewCommand {
        shard: store.sharding().of_user(caller.user),
        command: Command::PollAccount {
            user: caller.user,
            account: AccountId(row.id),
            since,
            answer,
        },
        request: Some(caller.request.0.clone()),
    };
    let accepted = store.accept(command).await;
    accepted.map_err(|error| SYNCING.because(error))?;
    Ok(answer)
}
