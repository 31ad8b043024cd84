//! Connected accounts: listing, disconnecting, refreshing, budgets (contract 2.2).

use axum::Json;
use axum::extract::State;
use chrono::Utc;
use hub_domain::envelope::Append;
use hub_domain::event::AccountDisconnected;
use hub_domain::id::AccountId;
use hub_domain::platform::{Platform, adapter};
use hub_store::entity::account;
use hub_store::project::Projection;
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Caller;
use crate::error::{Failing, Problem};
use crate::input::{Id, Params};
use crate::openapi::answer;
use crate::{Api, view};

const LISTING: Failing = Failing::retryable("FETCH_FAILED", "Failed to fetch connected accounts");
const COUNTING: Failing = Failing::retryable("FETCH_FAILED", "Failed to fetch rate limits");
const DISCONNECTING: Failing =
    Failing::retryable("DISCONNECT_FAILED", "Failed to disconnect the account");
const REFRESHING: Failing = Failing::retryable("REFRESH_FAILED", "Failed to refresh the token");

/// The routes.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(disconnect))
        .routes(routes!(refresh))
        .routes(routes!(rate_limits))
}

#[utoipa::path(
    get,
    path = "/api/oauth/accounts",
    tag = "Accounts",
    summary = "The caller's connected accounts",
    security(("bearer" = [])),
    params((
        "includeInactive" = inline(Option<bool>),
        Query,
        description = "`true` lists the disconnected ones as well",
    )),
    responses(
        (status = 200, description = "The accounts", body = answer::Accounts),
        (status = 500, description = "`FETCH_FAILED`"),
    ),
)]
async fn list(
    State(api): State<Api>,
    caller: Caller,
    params: Params,
) -> Result<Json<Value>, Problem> {
    let include_inactive = params.get("includeInactive") == Some("true");
    let store = api.store();
    let rows = store.accounts(caller.user, include_inactive).await;
    let rows = rows.map_err(|error| LISTING.because(error))?;
    let keys = store.vault().keyring(caller.user, []).await;
    let keys = keys.map_err(|error| LISTING.because(error))?;
    let accounts: Vec<Value> = rows.iter().map(|row| view::account(row, &keys)).collect();
    Ok(Json(json!({ "accounts": accounts })))
}

/// Appends the fact and waits until it can be read. The worker takes the platform's permission
/// back and erases the tokens: that needs the network, which the API does not have.
#[utoipa::path(
    delete,
    path = "/api/oauth/disconnect/{id}",
    tag = "Accounts",
    summary = "Disconnect an account",
    description = "Its tokens are erased; its conversations stay and are hidden.",
    security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The account")),
    responses(
        (status = 200, description = "Disconnected, now or before", body = answer::Done),
        (status = 400, description = "`VALIDATION_ERROR`: the id is not a UUID"),
        (status = 404, description = "`ACCOUNT_NOT_FOUND`"),
        (status = 500, description = "`DISCONNECT_FAILED`"),
    ),
)]
async fn disconnect(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
) -> Result<Json<Value>, Problem> {
    let row = own_account(&api, &caller, AccountId(id), DISCONNECTING).await?;
    if row.is_active {
        let store = api.store();
        let event = AccountDisconnected {
            user: caller.user,
            account: AccountId(id),
        };
        let shard = store.sharding().of_user(caller.user);
        let append = Append::one(shard, AccountId(id), event).because(caller.meta());
        let appended = store.append(append).await;
        let place = appended
            .map_err(|error| DISCONNECTING.because(error))?
            .place();
        let wait = api.settings().api.read_wait;
        store
            .wait_for_projection(Projection::Accounts, place, wait)
            .await
            .map_err(|error| DISCONNECTING.because(error))?;
    }
    Ok(Json(json!({
        "success": true,
        "message": "Account disconnected successfully",
    })))
}

/// The platforms of today have tokens that never expire: there is nothing to do for them.
#[utoipa::path(
    post,
    path = "/api/oauth/refresh/{id}",
    tag = "Accounts",
    summary = "Refresh an account's token",
    description = "Does nothing for platforms whose tokens do not expire.",
    security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The account")),
    responses(
        (status = 200, description = "Refreshed", body = answer::Done),
        (status = 400, description = "`VALIDATION_ERROR`: the id is not a UUID"),
        (status = 404, description = "`ACCOUNT_NOT_FOUND`: unknown or disconnected"),
        (status = 500, description = "`REFRESH_FAILED`"),
    ),
)]
async fn refresh(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
) -> Result<Json<Value>, Problem> {
    let row = own_account(&api, &caller, AccountId(id), REFRESHING).await?;
    if !row.is_active {
        return Err(unknown_account());
    }
    Ok(Json(json!({
        "success": true,
        "message": "Token refreshed successfully",
    })))
}

#[utoipa::path(
    get,
    path = "/api/oauth/rate-limits",
    tag = "Accounts",
    summary = "What the platforms allow each account",
    security(("bearer" = [])),
    responses(
        (status = 200, description = "The limits", body = answer::RateLimits),
        (status = 500, description = "`FETCH_FAILED`"),
    ),
)]
async fn rate_limits(State(api): State<Api>, caller: Caller) -> Result<Json<Value>, Problem> {
    let rows = api.store().accounts(caller.user, false).await;
    let rows = rows.map_err(|error| COUNTING.because(error))?;
    let limits: Vec<Value> = rows.iter().filter_map(rate_limit).collect();
    Ok(Json(json!({ "rateLimits": limits })))
}

fn rate_limit(row: &account::Model) -> Option<Value> {
    let platform: Platform = row.platform.parse().ok()?;
    let (limit, window) = adapter(platform)?.capabilities().budget;
    Some(json!({
        "accountId": row.id,
        "platform": row.platform,
        "limit": limit,
        "remaining": limit,
        "resetAt": view::timestamp(Utc::now() + window),
        "windowMs": u64::try_from(window.as_millis()).unwrap_or(u64::MAX),
    }))
}

pub(super) async fn own_account(
    api: &Api,
    caller: &Caller,
    id: AccountId,
    failing: Failing,
) -> Result<account::Model, Problem> {
    let row = api.store().account(caller.user, id).await;
    row.map_err(|error| failing.because(error))?
        .ok_or_else(unknown_account)
}

pub(super) fn unknown_account() -> Problem {
    Problem::not_found("ACCOUNT_NOT_FOUND", "Account not found or inactive")
}
