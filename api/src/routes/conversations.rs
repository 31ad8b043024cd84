//! Conversations (contract 2.4).

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use hub_domain::id::ConversationId;
use hub_domain::platform::Platform;
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Caller;
use crate::error::{Failing, Problem};
use crate::input::{Id, Params};
use crate::openapi::{answer, ask, schema};
use crate::{Api, view};

const LISTING: Failing = Failing::retryable("FETCH_FAILED", "Failed to fetch conversations");
const FETCHING: Failing = Failing::retryable("FETCH_FAILED", "Failed to fetch the conversation");

/// The routes.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(one))
}

#[utoipa::path(
    get,
    path = "/api/conversations",
    tag = "Conversations",
    summary = "The caller's conversations",
    description = "Of all active accounts, the newest message first.",
    security(("bearer" = [])),
    params(ask::OfPlatform, ask::Page, ask::Past),
    responses(
        (status = 200, description = "A page", body = answer::ConversationPage),
        (status = 400, description = "`VALIDATION_ERROR`: a parameter is not what it should be"),
        (status = 422, description = "`PAST_TOO_LONG`: `asOf` takes too many events to work out"),
        (status = 500, description = "`FETCH_FAILED`"),
    ),
)]
async fn list(
    State(api): State<Api>,
    caller: Caller,
    params: Params,
) -> Result<Json<Value>, Problem> {
    let (limit, offset) = params.page()?;
    let platform = match params.get("platform") {
        Some(name) => Some(name.parse::<Platform>().map_err(|_| {
            Problem::field(
                "platform",
                "platform is not one of the platforms of the hub",
            )
        })?),
        None => None,
    };
    let store = api.store();
    let failed = |error| LISTING.because(error);
    let (accounts, page) = if let Some(then) = params.time("asOf")? {
        let past = store.conversations_at(caller.user, then, platform, limit, offset);
        let past = past.await.map_err(failed)?;
        (past.accounts, past.page)
    } else {
        let accounts = store.accounts(caller.user, false).await.map_err(failed)?;
        let accounts = accounts.into_iter().map(|account| (account.id, account));
        let page = store.conversations(caller.user, platform, limit, offset);
        let page = page.await.map_err(failed)?;
        (accounts.collect::<HashMap<_, _>>(), page)
    };
    let keys = store.vault().keyring(caller.user, []).await;
    let keys = keys.map_err(failed)?;
    let conversations: Vec<Value> = page
        .rows
        .iter()
        // An account connected between the two questions shows up with the next one.
        .filter_map(|row| {
            Some(view::conversation(
                row,
                accounts.get(&row.account_id)?,
                &keys,
            ))
        })
        .collect();
    let count = i64::try_from(conversations.len()).unwrap_or(i64::MAX);
    Ok(Json(json!({
        "conversations": conversations,
        "count": count,
        "total": page.total,
        "limit": limit,
        "offset": offset,
        "hasMore": offset.saturating_add(count) < page.total,
    })))
}

#[utoipa::path(
    get,
    path = "/api/conversations/{id}",
    tag = "Conversations",
    summary = "One conversation",
    security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The conversation")),
    responses(
        (status = 200, description = "The conversation", body = schema::Conversation),
        (status = 400, description = "`VALIDATION_ERROR`: the id is not a UUID"),
        (status = 404, description = "`CONVERSATION_NOT_FOUND`"),
        (status = 500, description = "`FETCH_FAILED`"),
    ),
)]
async fn one(State(api): State<Api>, caller: Caller, Id(id): Id) -> Result<Json<Value>, Problem> {
    let store = api.store();
    let failed = |error| FETCHING.because(error);
    let found = store.conversation(caller.user, ConversationId(id)).await;
    let (row, account) = found.map_err(failed)?.ok_or_else(unknown)?;
    let keys = store.vault().keyring(caller.user, []).await;
    let keys = keys.map_err(failed)?;
    Ok(Json(view::conversation(&row, &account, &keys)))
}

/// There is no such conversation, or it is somebody else's: the caller cannot tell which.
pub fn unknown() -> Problem {
    Problem::not_found("CONVERSATION_NOT_FOUND", "Conversation not found")
}
