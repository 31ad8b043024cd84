//! Reading messages and marking them read (contract 2.3). Sending is in [`super::send`].

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use hub_domain::envelope::Append;
use hub_domain::event::{ConversationRead, MessageRead};
use hub_domain::id::{ConversationId, Key, MessageId};
use hub_domain::limits::PAGE_ROWS_MAX;
use hub_store::project::Projection;
use hub_store::query::PastThread;
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::conversations::unknown as unknown_conversation;
use super::send;
use crate::auth::Caller;
use crate::error::{Failing, Problem};
use crate::input::{Id, Params};
use crate::openapi::{answer, ask};
use crate::{Api, view};

const FETCHING: Failing = Failing::retryable("FETCH_FAILED", "Failed to fetch messages");
const COUNTING: Failing = Failing::retryable("FETCH_FAILED", "Failed to fetch unread counts");
const MARKING: Failing = Failing::for_good("INTERNAL_ERROR", "Failed to mark as read");

/// The routes.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(recent))
        .routes(routes!(unread))
        .routes(routes!(thread))
        .routes(routes!(send::send))
        .routes(routes!(read_message))
        .routes(routes!(read_conversation))
}

/// The newest messages of all accounts. Stored ones: nothing is fetched from a platform here.
#[utoipa::path(
    get,
    path = "/api/messages",
    tag = "Messages",
    summary = "The newest messages of all accounts",
    description = "Stored ones: no platform is asked.",
    security(("bearer" = [])),
    params(ask::Newest),
    responses(
        (status = 200, description = "The messages", body = answer::Recent),
        (status = 400, description = "`VALIDATION_ERROR`: a parameter is not what it should be"),
        (status = 500, description = "`FETCH_FAILED`"),
    ),
)]
async fn recent(
    State(api): State<Api>,
    caller: Caller,
    params: Params,
) -> Result<Json<Value>, Problem> {
    let limit = params.limit(PAGE_ROWS_MAX)?;
    let since = params.time("since")?;
    let store = api.store();
    let failed = |error| FETCHING.because(error);
    let rows = store.recent_messages(caller.user, since, limit).await;
    let rows = rows.map_err(failed)?;
    let texts = rows.iter().filter_map(|(row, _)| row.body.as_deref());
    let keys = store.vault().keyring(caller.user, texts).await;
    let keys = keys.map_err(failed)?;
    let messages: Vec<Value> = rows
        .iter()
        .map(|(row, conversation)| view::message(row, conversation, &keys, api.links()))
        .collect();
    Ok(Json(
        json!({ "count": messages.len(), "messages": messages }),
    ))
}

#[utoipa::path(
    get,
    path = "/api/messages/unread/count",
    tag = "Messages",
    summary = "How many messages were not read",
    security(("bearer" = [])),
    params(ask::Past),
    responses(
        (status = 200, description = "The counts", body = answer::Unread),
        (status = 400, description = "`VALIDATION_ERROR`: a parameter is not what it should be"),
        (status = 422, description = "`PAST_TOO_LONG`: `asOf` takes too many events to work out"),
        (status = 500, description = "`FETCH_FAILED`"),
    ),
)]
async fn unread(
    State(api): State<Api>,
    caller: Caller,
    params: Params,
) -> Result<Json<Value>, Problem> {
    let unread = match params.time("asOf")? {
        Some(then) => api.store().unread_at(caller.user, then).await,
        None => api.store().unread(caller.user).await,
    };
    let unread = unread.map_err(|error| COUNTING.because(error))?;
    Ok(Json(json!({
        "total": unread.total,
        "byPlatform": unread.by_platform,
    })))
}

#[utoipa::path(
    get,
    path = "/api/messages/{id}",
    tag = "Messages",
    summary = "A conversation's messages",
    description = "The newest first.",
    security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The conversation"), ask::Page, ask::Past),
    responses(
        (status = 200, description = "A page", body = answer::ThreadPage),
        (status = 400, description = "`VALIDATION_ERROR`: the id or a parameter is not what it \
            should be"),
        (status = 403, description = "`FORBIDDEN`: unknown, or somebody else's"),
        (status = 404, description = "`CONVERSATION_NOT_FOUND`: it was not there yet at `asOf`"),
        (status = 422, description = "`PAST_TOO_LONG`: `asOf` takes too many events to work out"),
        (status = 500, description = "`FETCH_FAILED`"),
    ),
)]
async fn thread(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
    params: Params,
) -> Result<Json<Value>, Problem> {
    let (limit, offset) = params.page()?;
    let id = ConversationId(id);
    let store = api.store();
    let failed = |error| FETCHING.because(error);
    let (conversation, rows) = if let Some(then) = params.time("asOf")? {
        let thread = store.thread_at(caller.user, id, then, limit, offset).await;
        match thread.map_err(failed)? {
            PastThread::Was(conversation, rows) => (*conversation, rows),
            PastThread::NotYet => return Err(unknown_conversation()),
            PastThread::Unknown => return Err(foreign()),
        }
    } else {
        let found = store.conversation(caller.user, id).await.map_err(failed)?;
        let (conversation, _) = found.ok_or_else(foreign)?;
        let rows = store.thread(caller.user, id, limit, offset).await;
        (conversation, rows.map_err(failed)?)
    };
    let texts = rows.iter().filter_map(|row| row.body.as_deref());
    let keys = store.vault().keyring(caller.user, texts).await;
    let keys = keys.map_err(failed)?;
    let messages: Vec<Value> = rows
        .iter()
        .map(|row| view::message(row, &conversation, &keys, api.links()))
        .collect();
    let count = i64::try_from(messages.len()).unwrap_or(i64::MAX);
    let total = i64::from(conversation.messages);
    Ok(Json(json!({
        "messages": messages,
        "count": count,
        "total": total,
        "limit": limit,
        "offset": offset,
        "hasMore": offset.saturating_add(count) < total,
    })))
}

/// The one route where a stranger's conversation is 403 and not 404: clients know it so.
fn foreign() -> Problem {
    let message = "You do not have access to this conversation";
    Problem::new(StatusCode::FORBIDDEN, "FORBIDDEN", message)
}

#[utoipa::path(
    patch,
    path = "/api/messages/{id}/read",
    tag = "Messages",
    summary = "Mark a message as read",
    security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The message")),
    responses(
        (status = 200, description = "Read, now or before", body = answer::Done),
        (status = 400, description = "`VALIDATION_ERROR`: the id is not a UUID"),
        (status = 404, description = "`MESSAGE_NOT_FOUND`"),
        (status = 500, description = "`INTERNAL_ERROR`"),
    ),
)]
async fn read_message(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
) -> Result<Json<Value>, Problem> {
    let store = api.store();
    let failed = |error| MARKING.because(error);
    let found = store
        .message(caller.user, MessageId(id))
        .await
        .map_err(failed)?;
    let (row, conversation, _) =
        found.ok_or_else(|| Problem::not_found("MESSAGE_NOT_FOUND", "Message not found"))?;
    if !row.outgoing && !view::is_read_by_user(&row, &conversation) {
        let event = MessageRead {
            user: caller.user,
            conversation: ConversationId(row.conversation_id),
            message: MessageId(row.id),
        };
        let shard = store.sharding().of_user(caller.user);
        // A message is read once and never becomes unread again.
        let append = Append::one(shard, event.conversation, event)
            .once(Key::of(&[b"read", row.id.as_bytes()]))
            .because(caller.meta());
        append_and_wait(&api, append).await?;
    }
    Ok(Json(json!({
        "success": true,
        "message": "Message marked as read",
    })))
}

#[utoipa::path(
    patch,
    path = "/api/messages/conversation/{id}/read",
    tag = "Messages",
    summary = "Mark a whole conversation as read",
    security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The conversation")),
    responses(
        (status = 200, description = "Read, now or before", body = answer::Done),
        (status = 400, description = "`VALIDATION_ERROR`: the id is not a UUID"),
        (status = 404, description = "`CONVERSATION_NOT_FOUND`"),
        (status = 500, description = "`INTERNAL_ERROR`"),
    ),
)]
async fn read_conversation(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
) -> Result<Json<Value>, Problem> {
    let store = api.store();
    let id = ConversationId(id);
    let found = store.conversation(caller.user, id).await;
    let (row, _) = found
        .map_err(|error| MARKING.because(error))?
        .ok_or_else(unknown_conversation)?;
    if row.unread > 0 {
        let event = ConversationRead {
            user: caller.user,
            conversation: id,
        };
        let shard = store.sharding().of_user(caller.user);
        append_and_wait(&api, Append::one(shard, id, event).because(caller.meta())).await?;
    }
    Ok(Json(json!({
        "success": true,
        "message": "All messages marked as read",
    })))
}

/// Appends, and waits until the next request of this client would see it.
async fn append_and_wait(api: &Api, append: Append) -> Result<(), Problem> {
    let store = api.store();
    let appended = store.append(append).await;
    let place = appended.map_err(|error| MARKING.because(error))?.place();
    let wait = api.settings().api.read_wait;
    let waited = store
        .wait_for_projection(Projection::Inbox, place, wait)
        .await;
    if let Err(error) = waited {
        // It is in the log; only the waiting failed.
        tracing::debug!(%error, "waiting for the inbox failed");
    }
    Ok(())
}
