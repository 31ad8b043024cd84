//! Sending a message (contract 2.3, architecture 6).
//!
//! A file that goes with it was uploaded before (`super::uploads`) and is named by the address that
//! the upload gave. No other address is taken: the hub fetches nothing that a client names, and a
//! platform would not be let at it either. An upload goes with one message, whoever repeats it.
//!
//! The API queues and waits; a worker sends. Once the message is in the log the answer is never a
//! failure of ours: a client that sees one sends again, and the other side reads it twice.
//!
//! Whether the account may still call its platform (contract 5.3) is asked before that. When its
//! budget is spent for longer than this request may wait, the answer is 429 and nothing was accepted.
//! Otherwise the message is accepted; a worker that meets a spent budget waits, in order, and the
//! message stays queued: `Prefer: respond-async` accepts such a wait in advance. A pause that the
//! platform asked for is met like that too, as is a budget that only workers can see (several
//! processes without Redis).

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::Utc;
use hub_domain::envelope::Append;
use hub_domain::event::{Attached, Event, MessageQueued, MessageType, Thread};
use hub_domain::id::{
    AccountId, ConversationId, Key, MessageId, Place, UserId, attached_key, conversation_id,
};
use hub_domain::limits::{IDEMPOTENCY_KEY_BYTES_MAX, MESSAGE_TEXT_CHARS_MAX};
use hub_domain::platform::{Capabilities, Platform, TextUnit, adapter, telegram_user};
use hub_domain::projection::inbox::File;
use hub_domain::text;
use hub_store::Store;
use hub_store::account::Owner;
use hub_store::append::Appended;
use hub_store::entity::{account, conversation, message};
use hub_store::signal::Topic;
use hub_store::vault::{Opened, Sealer};
use serde_json::{Value, json};
use uuid::Uuid;

use super::conversations::unknown as unknown_conversation;
use super::uploads;
use crate::auth::Caller;
use crate::error::{Failing, Problem, chain};
use crate::input::{Id, Object};
use crate::limit::whole_seconds;
use crate::media::{Address, Unserved};
use crate::openapi::{answer as answers, ask};
use crate::{Api, view};

const SENDING: Failing = Failing::retryable("SEND_FAILED", "Failed to send the message");

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Longest pause between two looks at a message, when no hint arrives.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Shortest pause: hints are about everybody's messages, and a busy hub hints all the time.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// What a client wants sent, checked as far as the request alone allows.
struct Wanted {
    /// Empty only beside a file.
    text: String,
    /// What the client calls it; absent, its content says.
    kind: Option<MessageType>,
    file: Option<Address>,
    key: Option<String>,
    is_async: bool,
}

/// Where it goes.
struct To {
    user: UserId,
    conversation: conversation::Model,
    account: account::Model,
    content: Sealer,
    /// The file that goes with it, where it is the first time.
    attached: Option<Attached>,
    /// The account of a person on Telegram, who may send other files than a bot.
    is_session: bool,
    /// What the person allowed who connected the account, where that matters.
    granted: Option<String>,
}

/// Queues a message and waits a bounded time for what becomes of it.
#[utoipa::path(
    post,
    path = "/api/messages/{id}/send",
    tag = "Messages",
    summary = "Send a message",
    description = "Queues the message and waits a bounded time for what becomes of it; `status` \
        says where it is. Whoever sends again after a lost answer gives the same `Idempotency-Key`.",
    security(("bearer" = [])),
    params(
        ("id" = Uuid, Path, description = "The conversation"),
        (
            "Idempotency-Key" = inline(Option<String>),
            Header,
            description = "The same key sends once",
            min_length = 1,
            max_length = 255,
        ),
        (
            "Prefer" = inline(Option<String>),
            Header,
            description = "`respond-async` does not wait",
        ),
    ),
    request_body = ask::Sending,
    responses(
        (status = 201, description = "Sent, or still on its way", body = answers::Sent),
        (
            status = 202,
            description = "Queued, as `Prefer: respond-async` asked for",
            body = answers::Sent,
            headers(("Preference-Applied" = String, description = "`respond-async`")),
        ),
        (status = 400, description = "`VALIDATION_ERROR`: no text, too long a text, or a bad header"),
        (status = 404, description = "`CONVERSATION_NOT_FOUND`"),
        (status = 422, description = "`PLATFORM_API_ERROR`: the platform will not take it; \
            `MEDIA_NOT_FOUND`, `MEDIA_GONE`, `MEDIA_ALREADY_SENT`: the file is no upload of the \
            caller that can still be sent; \
            `IDEMPOTENCY_KEY_REUSED`: the key was used for another message"),
        (status = 429, description = "`PLATFORM_RATE_LIMIT_EXCEEDED`: the account's calls are spent, \
            nothing was queued; `RATE_LIMIT_EXCEEDED`"),
        (status = 500, description = "`SEND_FAILED`"),
        (status = 502, description = "`PLATFORM_API_ERROR`: the platform did not take it"),
    ),
)]
pub async fn send(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
    headers: HeaderMap,
    body: Object,
) -> Result<Response, Problem> {
    let wanted = Wanted::read(&api, &headers, &body)?;
    let store = api.store();
    let failed = |error| SENDING.because(error);
    let found = store.conversation(caller.user, ConversationId(id)).await;
    let (conversation, account) = found.map_err(failed)?.ok_or_else(unknown_conversation)?;
    let mut to = To {
        user: caller.user,
        conversation,
        account,
        content: store
            .vault()
            .content(caller.user, Utc::now(), None)
            .await
            .map_err(failed)?,
        attached: None,
        is_session: false,
        granted: None,
    };
    let message = wanted.message(caller.user);
    // A repetition gets the first one's answer, even if it would be refused by now.
    let shard = store.sharding().of_user(caller.user);
    let first = match &wanted.key {
        Some(_) => {
            hub_store::read::place_of(store.pool(), shard, wanted.once(caller.user, message))
                .await
                .map_err(failed)?
        }
        None => None,
    };
    if let Some(place) = first {
        let first = require_same(store, &to, &wanted, message, place).await?;
        to.attached = first.attached;
    } else {
        if let Some(file) = &wanted.file {
            to.attached = Some(wanted.usable(&api, &to, file).await?);
            to.is_session = is_session(&api, &to).await?;
        }
        to.granted = granted(store, &to).await?;
        let append = wanted.append(&api, &to, message)?.because(caller.meta());
        if !wanted.is_async {
            require_budget(&api, &to.account).await?;
        }
        let appended = store.append(append).await.map_err(failed)?;
        if let Appended::Repeated(place) = appended {
            require_same(store, &to, &wanted, message, place).await?;
        }
    }
    answer(&api, &to, &wanted, message).await
}

/// Sends a text to a thread of an account; the conversation begins with it if there was none.
pub(super) async fn to_thread(
    api: &Api,
    caller: &Caller,
    account: account::Model,
    thread: &str,
    text: &str,
) -> Result<Response, Problem> {
    let store = api.store();
    let failed = |error| SENDING.because(error);
    let mut content = Object::default();
    content.0.insert("content".to_owned(), json!(text));
    let wanted = Wanted::read(api, &HeaderMap::new(), &content)?;
    let id = conversation_id(AccountId(account.id), thread);
    let found = store.conversation(caller.user, id).await.map_err(failed)?;
    let conversation = match found {
        Some((conversation, _)) => conversation,
        None => new_conversation(&account, id, thread),
    };
    let content = store.vault().content(caller.user, Utc::now(), None).await;
    let to = To {
        user: caller.user,
        conversation,
        account,
        content: content.map_err(failed)?,
        attached: None,
        is_session: false,
        granted: None,
    };
    let message = wanted.message(caller.user);
    let append = wanted.append(api, &to, message)?.because(caller.meta());
    store.append(append).await.map_err(failed)?;
    answer(api, &to, &wanted, message).await
}

/// A conversation as it will be read, when nothing was said in it yet.
fn new_conversation(
    account: &account::Model,
    id: ConversationId,
    thread: &str,
) -> conversation::Model {
    let now = Utc::now();
    conversation::Model {
        shard: account.shard,
        generation: account.generation,
        id: id.0,
        user_id: account.user_id,
        account_id: account.id,
        platform: account.platform.clone(),
        thread: thread.to_owned(),
        participant_id: None,
        participant_name: None,
        named_at: None,
        last_message_at: None,
        unread: 0,
        messages: 0,
        read_through: 0,
        delivered_until: None,
        seen_until: None,
        forgotten: false,
        created_at: now,
        updated_at: now,
    }
}

impl Wanted {
    fn read(api: &Api, headers: &HeaderMap, body: &Object) -> Result<Self, Problem> {
        let content = body.text("content", "Message content")?.unwrap_or_default();
        let content = content.trim();
        let kind = body.text("messageType", "Message type")?;
        let kind = kind.map(|name| {
            MessageType::from_name(name).ok_or_else(|| {
                Problem::field(
                    "messageType",
                    "messageType is one of text, image, video, file",
                )
            })
        });
        let kind = kind.transpose()?;
        let url = body.text("mediaUrl", "Media URL")?;
        if content.is_empty() && url.is_none() {
            return Err(Problem::field("content", "Message content is required"));
        }
        if content.chars().count() > MESSAGE_TEXT_CHARS_MAX {
            let message =
                format!("Message content must be at most {MESSAGE_TEXT_CHARS_MAX} characters long");
            return Err(Problem::field("content", message));
        }
        match (kind, url) {
            (Some(MessageType::Text), Some(_)) => {
                let message = "A message of type text has no mediaUrl";
                return Err(Problem::field("messageType", message));
            }
            (Some(kind), None) if kind != MessageType::Text => {
                let message = format!("A message of type {} needs a mediaUrl", kind.name());
                return Err(Problem::field("mediaUrl", message));
            }
            _ => {}
        }
        let file = url.map(|url| api.links().parse(url).ok_or_else(uploads::unknown));
        Ok(Self {
            text: text::repair(content).into_owned(),
            kind,
            file: file.transpose()?,
            key: idempotency_key(headers)?,
            is_async: prefers_async(headers),
        })
    }

    /// The file, if it is the caller's own upload and may still be sent there.
    async fn usable(&self, api: &Api, to: &To, file: &Address) -> Result<Attached, Problem> {
        let Address {
            owner,
            object,
            expires,
            signature,
        } = file;
        let now = Utc::now();
        let checked = api.links().check(*owner, *object, *expires, signature, now);
        checked.map_err(|unserved| match unserved {
            Unserved::Foreign => uploads::unknown(),
            Unserved::Expired => uploads::expired(),
        })?;
        if *owner != to.user {
            return Err(uploads::unknown());
        }
        uploads::usable(api, to.user, *object).await
    }

    /// What a client shows it as.
    fn shown_as(&self, attached: Option<&Attached>) -> MessageType {
        let content = || attached.map(|file| uploads::kind_of(&file.content_type));
        self.kind.or_else(content).unwrap_or(MessageType::Text)
    }

    /// The name of the message: the same for every repetition under one key.
    fn message(&self, user: UserId) -> MessageId {
        MessageId(match &self.key {
            Some(key) => Uuid::new_v5(&user.0, &[b"send:", key.as_bytes()].concat()),
            None => Uuid::now_v7(),
        })
    }

    /// Under this key it is in the log once.
    fn once(&self, user: UserId, message: MessageId) -> Key {
        match &self.key {
            Some(key) => Key::of(&[b"send", user.0.as_bytes(), key.as_bytes()]),
            None => Key::of(&[b"send", message.0.as_bytes()]),
        }
    }

    /// What goes into the log, unless the platform certainly cannot send it.
    fn append(&self, api: &Api, to: &To, message: MessageId) -> Result<Append, Problem> {
        let platform: Platform = to
            .account
            .platform
            .parse()
            .map_err(|_| Problem::internal())?;
        self.require_sendable(api, platform, to)?;
        let conversation = ConversationId(to.conversation.id);
        let event = MessageQueued {
            at: Thread {
                user: to.user,
                account: AccountId(to.account.id),
                platform,
                conversation,
                thread: to.conversation.thread.clone(),
            },
            message,
            message_type: self.shown_as(to.attached.as_ref()),
            text: to.content.seal(&self.text),
            attached: to.attached.clone(),
        };
        let shard = api.store().sharding().of_user(to.user);
        let append = Append::one(shard, conversation, event).once(self.once(to.user, message));
        Ok(match &to.attached {
            Some(file) => append.once(attached_key(file.object)),
            None => append,
        })
    }

    fn require_sendable(&self, api: &Api, platform: Platform, to: &To) -> Result<(), Problem> {
        let Some(adapter) = adapter(platform) else {
            return Err(unsendable(format!(
                "Sending to {platform} is not available yet"
            )));
        };
        let can = adapter
            .sendable(&to.conversation.thread, to.granted.as_deref())
            .map_err(unsendable)?;
        if to.account.needs_reconnect.is_some() {
            return Err(unsendable(RECONNECT));
        }
        let can = match to.is_session {
            true => Capabilities {
                media: &telegram_user::MEDIA,
                ..can
            },
            false => can,
        };
        let length = text::length(&self.text, can.text_unit);
        if let Some(file) = &to.attached {
            let kind = self.shown_as(Some(file));
            let settings = api.settings();
            // A platform that is played next door reaches what the real one does not.
            let is_reached = settings.server.public_url.starts_with("https://")
                || settings.app(platform).api_base.starts_with("http://");
            if adapter.loads_media() && !is_reached {
                return Err(unsendable(format!(
                    "{platform} loads files from this installation, which has no https address"
                )));
            }
            let taken = can.take(kind, &file.content_type, file.size, length);
            return taken.map_err(|reason| {
                unsendable(format!("{platform} does not take this file: {reason}"))
            });
        }
        if length > can.text_max {
            let unit = match can.text_unit {
                TextUnit::CodePoints | TextUnit::Utf16 => "characters",
                TextUnit::Bytes => "bytes",
            };
            return Err(unsendable(format!(
                "The message is too long for {platform}: {length} of at most {} {unit}",
                can.text_max
            )));
        }
        Ok(())
    }
}

/// Whether a person's session sends it, and no bot: their credentials tell.
async fn is_session(api: &Api, to: &To) -> Result<bool, Problem> {
    let owner = Owner {
        user: to.user,
        account: AccountId(to.account.id),
    };
    let credentials = api.store().credentials(owner, &to.account.route).await;
    let credentials = credentials.map_err(|error| SENDING.because(error))?;
    Ok(credentials.is_some_and(|it| telegram_user::is_session(it.access_token.expose())))
}

/// What the person allowed who connected the account; not asked for where it makes no difference.
async fn granted(store: &Store, to: &To) -> Result<Option<String>, Problem> {
    let platform: Option<Platform> = to.account.platform.parse().ok();
    let asks = platform
        .and_then(adapter)
        .is_some_and(|it| it.asks_what_was_granted());
    if !asks {
        return Ok(None);
    }
    let owner = Owner {
        user: to.user,
        account: AccountId(to.account.id),
    };
    let granted = store.granted(owner).await;
    granted.map_err(|error| SENDING.because(error))
}

/// Refuses what could not even begin to be sent while this request waits.
async fn require_budget(api: &Api, account: &account::Model) -> Result<(), Problem> {
    let platform: Platform = account.platform.parse().map_err(|_| Problem::internal())?;
    let Some(budget) = super::accounts::calls(api, platform) else {
        return Ok(());
    };
    let who = account.id.to_string();
    let level = api.store().limits().look(&who, &budget).await;
    if level.remaining > 0 || level.room_after <= api.settings().api.send_wait {
        return Ok(());
    }
    let seconds = whole_seconds(level.room_after);
    let calls = budget.requests;
    let window_s = budget.window.as_secs();
    let message = format!("{platform} allows no more calls for this account just now");
    let details = json!({
        "platform": platform,
        "endpoint": "send",
        "limit": calls,
        "windowMs": u64::try_from(budget.window.as_millis()).unwrap_or(u64::MAX),
        "retryAfter": seconds,
        "description": format!("{calls} calls in {window_s} seconds for each account"),
    });
    let status = StatusCode::TOO_MANY_REQUESTS;
    let problem = Problem::new(status, "PLATFORM_RATE_LIMIT_EXCEEDED", message);
    Err(problem.with_details(details).after(seconds))
}

pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let key = value.to_str().unwrap_or_default();
    if key.is_empty() || key.len() > IDEMPOTENCY_KEY_BYTES_MAX {
        let message =
            format!("Idempotency-Key must be 1 to {IDEMPOTENCY_KEY_BYTES_MAX} plain characters");
        return Err(Problem::field("Idempotency-Key", message));
    }
    Ok(Some(key.to_owned()))
}

/// RFC 7240: `Prefer: respond-async`, possibly among other preferences.
fn prefers_async(headers: &HeaderMap) -> bool {
    headers
        .get_all(PREFER)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split([',', ';']))
        .any(|token| token.trim().eq_ignore_ascii_case("respond-async"))
}

/// Refuses a key that was used for another message or another conversation, and an upload that
/// another message has. The log knows what was asked for; the read model only what became of it.
async fn require_same(
    store: &Store,
    to: &To,
    wanted: &Wanted,
    message: MessageId,
    at: Place,
) -> Result<MessageQueued, Problem> {
    let before = Place {
        position: at.position - 1,
        ..at
    };
    let events = hub_store::read::after(store.pool(), before, 1).await;
    let mut events = events.map_err(|error| SENDING.because(error))?;
    let reused = || {
        Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "IDEMPOTENCY_KEY_REUSED",
            "This Idempotency-Key was already used for another message",
        )
    };
    let Some(Event::MessageQueued(first)) = events.pop().map(|recorded| recorded.event) else {
        return Err(reused());
    };
    if first.message != message {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "MEDIA_ALREADY_SENT",
            "The uploaded file goes with another message already. Please upload it again.",
        ));
    }
    let file = |file: &Attached| file.object;
    let is_same = first.at.conversation.0 == to.conversation.id
        && first.message_type == wanted.shown_as(first.attached.as_ref())
        && first.attached.as_ref().map(file) == wanted.file.as_ref().map(|it| it.object);
    if is_same {
        let keys = store.vault().keyring(to.user, [first.text.0.as_str()]);
        let keys = keys.await.map_err(|error| SENDING.because(error))?;
        let text = keys.open(&first.text.0);
        if text.is_ok_and(|text| text == Opened::Text(wanted.text.clone())) {
            return Ok(first);
        }
    }
    Err(reused())
}

async fn answer(
    api: &Api,
    to: &To,
    wanted: &Wanted,
    message: MessageId,
) -> Result<Response, Problem> {
    let at_most = if wanted.is_async {
        Duration::ZERO
    } else {
        api.settings().api.send_wait
    };
    let (row, conversation) = match outcome(api.store(), to.user, message, at_most).await {
        Some((row, _)) if row.state == "failed" => return Err(failure(&row)),
        Some(found) => found,
        None => (queued(to, wanted, message), to.conversation.clone()),
    };
    let vault = api.store().vault();
    // It is in the log: that its keys cannot be asked for now is no failure of the send.
    let sealed = row.body.as_deref().into_iter().chain(row.media.as_deref());
    let keys = vault.keyring(to.user, sealed).await;
    let keys = keys.unwrap_or_default();
    let mut shown = view::message(&row, &conversation, &keys, api.links());
    if shown["content"] == "" {
        shown["content"] = json!(wanted.text);
    }
    let body = Json(json!({ "message": shown, "success": true }));
    if wanted.is_async {
        let applied = [(
            PREFERENCE_APPLIED,
            HeaderValue::from_static("respond-async"),
        )];
        return Ok((StatusCode::ACCEPTED, applied, body).into_response());
    }
    Ok((StatusCode::CREATED, body).into_response())
}

/// Waits until the message is no longer on its way, at most this long, and returns the last that
/// was seen of it.
async fn outcome(
    store: &Store,
    user: UserId,
    message: MessageId,
    at_most: Duration,
) -> Option<(message::Model, conversation::Model)> {
    let deadline = Instant::now() + at_most;
    let mut listener = store.signals().listen(Topic::Projected);
    let mut seen = None;
    loop {
        match store.message(user, message).await {
            Ok(Some((row, conversation, _))) => {
                let is_on_its_way = matches!(row.state.as_str(), "queued" | "sending");
                seen = Some((row, conversation));
                if !is_on_its_way {
                    return seen;
                }
            }
            Ok(None) => {}
            // The message is in the log; that we cannot look is no failure of the send.
            Err(error) => tracing::debug!(error = chain(&error), "looking at a send failed"),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return seen;
        }
        tokio::time::sleep(left.min(LOOK_PAUSE)).await;
        listener.wait(left.min(LOOK_EVERY)).await;
    }
}

/// The message as it will be read, when the inbox has not got to it yet.
fn queued(to: &To, wanted: &Wanted, message: MessageId) -> message::Model {
    let (now, attached) = (Utc::now(), to.attached.as_ref());
    message::Model {
        shard: to.conversation.shard,
        generation: to.conversation.generation,
        id: message.0,
        conversation_id: to.conversation.id,
        platform_message_id: None,
        state: "queued".to_owned(),
        sender_id: "me".to_owned(),
        sender_name: None,
        body: Some(to.content.seal(&wanted.text).0),
        message_type: wanted.shown_as(attached).name().to_owned(),
        media: attached.map(|file| file.described.0.clone()),
        detail: None,
        outgoing: true,
        is_read: false,
        sent_at: Some(now),
        delivered_at: None,
        seen_at: None,
        edited_at: None,
        deleted_at: None,
        reactions: Value::Array(Vec::new()),
        attempts: 0,
        retry_at: None,
        failure: None,
        failure_reason: None,
        position: i64::MAX,
        created_at: now,
        files: attached.map_or_else(|| json!([]), |file| json!([File::uploaded(file)])),
    }
}

const RECONNECT: &str =
    "The platform no longer accepts this account's authorisation. Please reconnect the account.";

/// Why a send failed, in words for the person who reads it in the thread. What the platform said is
/// in the details.
fn failure(row: &message::Model) -> Problem {
    let class = row.failure.as_deref().unwrap_or("temporary");
    let problem = match class {
        "permanent" => unsendable("The platform refused this message"),
        "outside_window" => unsendable(
            "The platform's time for replying is over: the other side has to write first",
        ),
        "undelivered" => unsendable("The platform could not deliver this message"),
        "reconnect" => unsendable(RECONNECT),
        "disconnected" => unsendable("The account was disconnected before the message was sent"),
        _ => Problem::new(
            StatusCode::BAD_GATEWAY,
            "PLATFORM_API_ERROR",
            "The platform did not take the message. Please try again.",
        )
        .retryable(),
    };
    problem.with_details(json!({
        "messageId": row.id,
        "class": class,
        "reason": row.failure_reason,
    }))
}

fn unsendable(message: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "PLATFORM_API_ERROR",
        message,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_come_in_lists() {
        let prefers = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(PREFER, HeaderValue::from_static(text));
            prefers_async(&headers)
        };
        assert!(prefers("respond-async"));
        assert!(prefers("wait=10, Respond-Async"));
        assert!(!prefers("respond-sync"));
        assert!(!prefers_async(&HeaderMap::new()));
    }
}
