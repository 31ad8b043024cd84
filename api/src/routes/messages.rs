//! Reading messages and marking them read (contract 2.3). Sending is in [`super::send`].

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, patch, post};
use axum::{Json, Router};
use hub_domain::envelope::Append;
use hub_domain::event::{ConversationRead, MessageRead};
use hub_domain::id::{ConversationId, Key, MessageId};
use hub_domain::limits::PAGE_ROWS_MAX;
use hub_store::project::Projection;
use hub_store::query::PastThread;
use serde_json::{Value, json};

use super::conversations::unknown as unknown_conversation;
use super::send::send;
use crate::auth::Caller;
use crate::error::{Failing, Problem};
use crate::input::{Id, Params};
use crate::{Api, view};

const FETCHING: Failing = Failing::retryable("FETCH_FAILED", "Failed to fetch messages");
const COUNTING: Failing = Failing::retryable("FETCH_FAILED", "Failed to fetch unread counts");
const MARKING: Failing = Failing::retryable("INTERNAL_ERROR", "Failed to mark as read");

/// The routes.
pub fn routes() -> Router<Api> {
    Router::new()
        .route("/api/messages", get(recent))
        .route("/api/messages/unread/count", get(unread))
        .route("/api/messages/{id}", get(thread))
        .route("/api/messages/{id}/send", post(send))
        .route("/api/messages/{id}/read", patch(read_message))
        .route(
            "/api/messages/conversation/{id}/read",
            patch(read_conversation),
        )
}

/// The newest messages of all accounts. Stored ones: nothing is fetched from a platform here.
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
        .map(|(row, conversation)| view::message(row, conversation, &keys))
        .collect();
    Ok(Json(
        json!({ "count": messages.len(), "messages": messages }),
    ))
}

async fn unread(State(api): State<Api>, caller: Caller) -> Result<Json<Value>, Problem> {
    let unread = api.store().unread(caller.user).await;
    let unread = unread.map_err(|error| COUNTING.because(error))?;
    Ok(Json(json!({
        "total": unread.total,
        "byPlatform": unread.by_platform,
    })))
}

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
        .map(|row| view::message(row, &conversation, &keys))
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
