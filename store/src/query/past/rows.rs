//! Folded rows in the form in which stored ones are read, so that the same code shows both.

use chrono::{DateTime, SubsecRound as _, Utc};
use hub_domain::event::Sealed;
use hub_domain::id::Shard;
use hub_domain::projection::accounts::AccountRow;
use hub_domain::projection::inbox::{ConversationRow, MessageRow};

use crate::entity::{account, conversation, message};
use crate::error::{Error, Result};

/// These rows are of no stored generation.
const NO_GENERATION: i16 = 0;

pub(super) fn account(shard: Shard, row: &AccountRow) -> account::Model {
    account::Model {
        shard: shard.0,
        generation: NO_GENERATION,
        id: row.id.0,
        user_id: row.user.0,
        platform: row.platform.name().to_owned(),
        platform_user_id: row.platform_user_id.clone(),
        username: row.username.0.clone(),
        route: row.route.clone(),
        is_active: row.is_active,
        needs_reconnect: row.needs_reconnect.clone(),
        epoch: row.epoch.0,
        created_at: stored(row.created_at),
        updated_at: stored(row.updated_at),
    }
}

pub(super) fn conversation(shard: Shard, row: &ConversationRow) -> conversation::Model {
    conversation::Model {
        shard: shard.0,
        generation: NO_GENERATION,
        id: row.id.0,
        user_id: row.user.0,
        account_id: row.account.0,
        platform: row.platform.name().to_owned(),
        thread: row.thread.clone(),
        participant_id: row.participant_id.clone(),
        participant_name: text(&row.participant_name),
        named_at: row.named_at.map(stored),
        last_message_at: row.last_message_at.map(stored),
        unread: row.unread,
        messages: row.messages,
        read_through: row.read_through,
        delivered_until: row.delivered_until.map(stored),
        seen_until: row.seen_until.map(stored),
        forgotten: row.forgotten,
        created_at: stored(row.created_at),
        updated_at: stored(row.updated_at),
    }
}

pub(super) fn message(shard: Shard, row: &MessageRow) -> Result<message::Model> {
    Ok(message::Model {
        shard: shard.0,
        generation: NO_GENERATION,
        id: row.id.0,
        conversation_id: row.conversation.0,
        platform_message_id: row.platform_message_id.clone(),
        state: row.state.name().to_owned(),
        sender_id: row.sender_id.clone(),
        sender_name: text(&row.sender_name),
        body: text(&row.text),
        message_type: row.message_type.name().to_owned(),
        media: text(&row.media),
        detail: text(&row.detail),
        outgoing: row.outgoing,
        is_read: row.is_read,
        sent_at: row.sent_at.map(stored),
        delivered_at: row.delivered_at.map(stored),
        seen_at: row.seen_at.map(stored),
        edited_at: row.edited_at.map(stored),
        deleted_at: row.deleted_at.map(stored),
        reactions: serde_json::to_value(&row.reactions)
            .map_err(|error| Error::Statement(sqlx::Error::Encode(Box::new(error))))?,
        attempts: row.attempts,
        retry_at: row.retry_at.map(stored),
        failure: row.failure.clone(),
        failure_reason: row.failure_reason.clone(),
        position: row.position,
        created_at: stored(row.created_at),
        files: serde_json::to_value(&row.files)
            .map_err(|error| Error::Statement(sqlx::Error::Encode(Box::new(error))))?,
    })
}

/// As the database keeps times: to the microsecond. Orders and comparisons depend on it.
fn stored(at: DateTime<Utc>) -> DateTime<Utc> {
    at.trunc_subsecs(6)
}

fn text(sealed: &Option<Sealed>) -> Option<String> {
    sealed.as_ref().map(|sealed| sealed.0.clone())
}
