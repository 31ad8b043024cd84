//! Read-model rows as a client sees them (contract 1.9).
//!
//! Every property name here is a promise. What is sealed is opened with the owner's keys; what was
//! erased shows as [`REDACTED`]. When opening fails (somebody altered it) a text is empty and a
//! name falls back to the platform's id, because a list with a gap is better than no list. What a
//! client is not to know (tokens, media addresses of the platform) has no way in.

use chrono::{DateTime, SecondsFormat, Utc};
use hub_domain::id::UserId;
use hub_store::entity::{account, conversation, message};
use hub_store::vault::{Keyring, Opened, REDACTED};
use serde_json::{Value, json};

use crate::media::{self, Links};

/// A time as clients read it: RFC 3339, UTC, milliseconds, `Z`.
pub fn timestamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// A hub user.
pub fn user(
    id: UserId,
    email: &str,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
) -> Value {
    json!({
        "id": id,
        "email": email,
        "createdAt": timestamp(created_at),
        "updatedAt": timestamp(updated_at),
    })
}

/// A connected account. Never its tokens.
pub fn account(row: &account::Model, keys: &Keyring) -> Value {
    json!({
        "id": row.id,
        "userId": row.user_id,
        "platform": row.platform,
        "platformUserId": row.platform_user_id,
        "platformUsername": username(row, keys),
        "isActive": row.is_active,
        "createdAt": timestamp(row.created_at),
        "updatedAt": timestamp(row.updated_at),
    })
}

/// A conversation with the account it belongs to.
pub fn conversation(row: &conversation::Model, account: &account::Model, keys: &Keyring) -> Value {
    let participant = row.participant_id.as_deref().unwrap_or(&row.thread);
    let name = open_name(row.participant_name.as_deref(), keys);
    json!({
        "id": row.id,
        "accountId": row.account_id,
        "platform": row.platform,
        "platformUsername": username(account, keys),
        "platformConversationId": row.thread,
        "participantName": name.as_deref().unwrap_or(participant),
        "participantId": participant,
        "participantAvatarUrl": null,
        // A missing time would be shown as 1970.
        "lastMessageAt": timestamp(row.last_message_at.unwrap_or(row.created_at)),
        "unreadCount": row.unread,
        "hasUnread": row.unread > 0,
        "createdAt": timestamp(row.created_at),
        "updatedAt": timestamp(row.updated_at),
    })
}

/// A message with the conversation it belongs to, whose marks say what has been read.
pub fn message(
    row: &message::Model,
    conversation: &conversation::Model,
    keys: &Keyring,
    links: &Links,
) -> Value {
    let seen_at = seen_at(row, conversation);
    let is_read = if row.outgoing {
        seen_at.is_some()
    } else {
        is_read_by_user(row, conversation)
    };
    json!({
        "id": row.id,
        "conversationId": row.conversation_id,
        "platformMessageId": row.platform_message_id,
        "senderId": row.sender_id,
        "senderName": sender_name(row, keys),
        "content": open_text(row.body.as_deref(), keys),
        "messageType": row.message_type,
        "mediaUrl": media_url(row, conversation, keys, links),
        "isOutgoing": row.outgoing,
        "isRead": is_read,
        "sentAt": timestamp(row.sent_at.unwrap_or(row.created_at)),
        "deliveredAt": delivered_at(row, conversation).or(seen_at).map(timestamp),
        "createdAt": timestamp(row.created_at),
        "status": row.state,
    })
}

/// Where a browser can load what came with the message, until it is erased. Never the platform's
/// address or id of it.
fn media_url(
    row: &message::Model,
    conversation: &conversation::Model,
    keys: &Keyring,
    links: &Links,
) -> Option<String> {
    // Under the key that opens the description of the media, which is that of the text.
    if matches!(keys.key(row.media.as_deref()?), Ok(None)) {
        return None;
    }
    let (owner, now) = (UserId(conversation.user_id), Utc::now());
    Some(links.url(owner, media::shown(row, now)?, now))
}

/// True when the hub user has read this incoming message, by a mark on it or on its conversation.
pub fn is_read_by_user(row: &message::Model, conversation: &conversation::Model) -> bool {
    row.is_read || row.position <= conversation.read_through
}

/// When the other side read a message of ours: by a receipt that names it, or by one that covers
/// its time. A message the platform does not have yet is covered by no receipt.
fn seen_at(row: &message::Model, conversation: &conversation::Model) -> Option<DateTime<Utc>> {
    reported(row, row.seen_at, conversation.seen_until)
}

fn delivered_at(row: &message::Model, conversation: &conversation::Model) -> Option<DateTime<Utc>> {
    reported(row, row.delivered_at, conversation.delivered_until)
}

fn reported(
    row: &message::Model,
    named: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
) -> Option<DateTime<Utc>> {
    if !row.outgoing || !matches!(row.state.as_str(), "sent" | "observed") {
        return None;
    }
    named.or_else(|| until.filter(|until| row.sent_at.is_some_and(|sent| sent <= *until)))
}

fn sender_name(row: &message::Model, keys: &Keyring) -> String {
    match open_name(row.sender_name.as_deref(), keys) {
        _ if row.sender_id == "me" => "You".to_owned(),
        Some(name) => name,
        None if row.outgoing => "You".to_owned(),
        None => row.sender_id.clone(),
    }
}

fn username(row: &account::Model, keys: &Keyring) -> String {
    open_name(Some(&row.username), keys).unwrap_or_else(|| row.platform_user_id.clone())
}

fn open_text(sealed: Option<&str>, keys: &Keyring) -> String {
    match sealed.map(|text| keys.open(text)) {
        Some(Ok(Opened::Text(text))) => text,
        Some(Ok(Opened::Erased)) => REDACTED.to_owned(),
        Some(Err(error)) => {
            tracing::error!(%error, "stored content cannot be shown");
            String::new()
        }
        None => String::new(),
    }
}

fn open_name(sealed: Option<&str>, keys: &Keyring) -> Option<String> {
    Some(open_text(sealed, keys)).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds_and_a_z() {
        let at = DateTime::from_timestamp(1_767_225_600, 123_999_999).unwrap();
        assert_eq!(timestamp(at), "2026-01-01T00:00:00.123Z");
        let at = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
        assert_eq!(timestamp(at), "2026-01-01T00:00:00.000Z");
    }
}
