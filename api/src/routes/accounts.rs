//! Connected accounts: listing, disconnecting, refreshing, budgets (contract 2.2).

use aws_lc_rs::rand;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::Utc;
use hub_domain::command::{Command, NewCommand, RenewAnswer};
use hub_domain::envelope::Append;
use hub_domain::event::AccountDisconnected;
use hub_domain::id::{AccountId, Key};
use hub_domain::platform::{Platform, adapter};
use hub_store::account::Owner;
use hub_store::entity::account;
use hub_store::limit::Budget;
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

/// The API asks; a worker renews. What needs nothing is answered at once.
#[utoipa::path(
    post,
    path = "/api/oauth/refresh/{id}",
    tag = "Accounts",
    summary = "Refresh an account's token",
    description = "Renews the token at the platform when it is about to expire; otherwise, and for \
        tokens that do not expire, there is nothing to do.",
    security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The account")),
    responses(
        (status = 200, description = "The token is good", body = answer::Done),
        (status = 400, description = "`VALIDATION_ERROR`: the id is not a UUID"),
        (status = 404, description = "`ACCOUNT_NOT_FOUND`: unknown or disconnected"),
        (status = 500, description = "`REFRESH_FAILED`; with `details.needsReconnect` when only \
            connecting the account again helps"),
    ),
)]
async fn refresh(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
) -> Result<Json<Value>, Problem> {
    let row = own_account(&api, &caller, AccountId(id), REFRESHING).await?;
    if !row.is_active {
        return Err(unknown());
    }
    let outcome = renewed(&api, &caller, &row).await;
    match outcome.map_err(|error| REFRESHING.because(error))? {
        Some(RenewAnswer::Good) => Ok(Json(json!({
            "success": true,
            "message": "Token refreshed successfully",
        }))),
        Some(RenewAnswer::Refused) => {
            let details = json!({ "needsReconnect": true });
            let message = "The platform did not renew the token. Please connect the account again.";
            Err(not_renewed(message).with_details(details))
        }
        Some(RenewAnswer::NotNow) | None => Err(not_renewed(
            "The platform did not renew the token. Please try again later.",
        )),
    }
}

fn not_renewed(message: &'static str) -> Problem {
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    Problem::new(status, "REFRESH_FAILED", message).retryable()
}

/// `None` when no worker has answered in time; it may still renew the token.
async fn renewed(
    api: &Api,
    caller: &Caller,
    row: &account::Model,
) -> hub_store::Result<Option<RenewAnswer>> {
    let store = api.store();
    let owner = Owner {
        user: caller.user,
        account: AccountId(row.id),
    };
    let platform: Option<Platform> = row.platform.parse().ok();
    let known = platform.and_then(|platform| Some((platform, adapter(platform)?)));
    let (Some((platform, adapter)), Some(state)) = (known, store.token_state(owner).await?) else {
        return Ok(Some(RenewAnswer::Good));
    };
    if state.refused.is_some() || row.needs_reconnect.is_some() {
        return Ok(Some(RenewAnswer::Refused));
    }
    if !state.expires_within(adapter.renewal_margin()) {
        return Ok(Some(RenewAnswer::Good));
    }
    let mut name = [0_u8; 16];
    rand::fill(&mut name).map_err(|_| hub_store::Error::Sealed("no randomness"))?;
    let answer = Key::of(&[b"renew", &name]);
    let shard = store.sharding().of_user(caller.user);
    let command = Command::Renew {
        user: caller.user,
        account: owner.account,
        platform,
        answer,
    };
    let request = Some(caller.request.0.clone());
    store
        .accept(NewCommand {
            shard,
            command,
            request,
        })
        .await?;
    let wait = api.settings().api.oauth_callback_wait;
    store.wait_for_answer(shard, answer, wait).await
}

/// Counted by the workers, where they count: with Redis, or in this process.
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
    let mut limits = Vec::with_capacity(rows.len());
    for row in &rows {
        limits.extend(rate_limit(&api, row).await);
    }
    Ok(Json(json!({ "rateLimits": limits })))
}

async fn rate_limit(api: &Api, row: &account::Model) -> Option<Value> {
    let platform: Platform = row.platform.parse().ok()?;
    let budget = calls(api, platform)?;
    let who = row.id.to_string();
    let level = api.store().limits().look(&who, &budget).await;
    Some(json!({
        "accountId": row.id,
        "platform": row.platform,
        "limit": budget.requests,
        "remaining": level.remaining,
        "resetAt": view::timestamp(Utc::now() + level.room_after),
        "windowMs": u64::try_from(budget.window.as_millis()).unwrap_or(u64::MAX),
    }))
}

/// The budget of calls of each account of a platform.
pub(super) fn calls(api: &Api, platform: Platform) -> Option<Budget> {
    let app = api.settings().app(platform);
    Some(Budget::calls(app.budget(adapter(platform)?)))
}

pub(super) async fn own_account(
    api: &Api,
    caller: &Caller,
    id: AccountId,
    failing: Failing,
) -> Result<account::Model, Problem> {
    let row = api.store().account(caller.user, id).await;
    row.map_err(|error| failing.because(error))?
        .ok_or_else(unknown)
}

/// An account that is not the caller's, or not there.
pub fn unknown() -> Problem {
    Problem::not_found("ACCOUNT_NOT_FOUND", "Account not found or inactive")
}
