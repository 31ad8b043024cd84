//! From a change to the frames that tell it: rows are read once, whoever is watching.

use chrono::{DateTime, Utc};
use hub_domain::id::{ConversationId, MessageId};
use hub_store::Result;
use hub_store::bus::{Change, What};
use hub_store::entity::{account, conversation, message};
use hub_store::query::Unread;
use hub_store::vault::Keyring;
use serde_json::json;

use super::frame::Frame;
use crate::{Api, view};

/// Messages a receipt is told for, newest first. A client shows about a screen of them, and loads
/// the rest with their marks.
const RECEIPT_MESSAGES_MAX: i64 = 50;

/// The frames of a change, in the order it names them. What cannot be found any more (a message
/// that was merged into another, an account that was disconnected) is left out.
///
/// `told_until` is how far earlier receipts have been told.
pub(super) async fn frames(
    api: &Api,
    change: &Change,
    told_until: Option<DateTime<Utc>>,
) -> Result<Vec<Frame>> {
    let rows = Rows::load(api, change).await?;
    let mut frames = Vec::with_capacity(change.what.len());
    for what in &change.what {
        match what {
            What::NewMessage { message } => frames.extend(rows.new_message(api, *message)),
            What::MessageStatus { message, status } => {
                frames.extend(rows.status(*message, status));
            }
            What::Receipts { status, .. } => frames.extend(
                rows.thread
                    .iter()
                    .filter(|row| rows.is_news(row, what, told_until))
                    .filter_map(|row| rows.status(MessageId(row.id), status)),
            ),
            What::UnreadCounts => frames.extend(rows.unread_counts()),
            // The sockets are closed; nothing is said.
            What::Farewell => {}
            What::Conversation => frames.extend(rows.conversation()),
            What::Error { text, code } => frames.push(Frame::new(
                "error",
                &json!({"error": text, "code": code, "timestamp": now()}),
            )),
        }
    }
    Ok(frames)
}

fn now() -> String {
    view::timestamp(Utc::now())
}

/// Everything a change needs.
struct Rows {
    keys: Keyring,
    conversation: Option<(conversation::Model, account::Model)>,
    message: Option<message::Model>,
    thread: Vec<message::Model>,
    unread: Option<Unread>,
}

impl Rows {
    async fn load(api: &Api, change: &Change) -> Result<Self> {
        let store = api.store();
        let user = change.user;
        let mut rows = Self {
            keys: Keyring::default(),
            conversation: None,
            message: None,
            thread: Vec::new(),
            unread: None,
        };
        let new = change.what.iter().find_map(|what| match what {
            What::NewMessage { message } => Some(*message),
            _ => None,
        });
        if let Some(new) = new
            && let Some((message, conversation, account)) = store.message(user, new).await?
        {
            rows.message = Some(message);
            rows.conversation = Some((conversation, account));
        }
        if rows.conversation.is_none()
            && let Some(id) = change.conversation
        {
            rows.conversation = store.conversation(user, id).await?;
        }
        if change
            .what
            .iter()
            .any(|what| matches!(what, What::Receipts { .. }))
            && let Some((conversation, _)) = &rows.conversation
        {
            let id = ConversationId(conversation.id);
            rows.thread = store.thread(user, id, RECEIPT_MESSAGES_MAX, 0).await?;
        }
        if change.what.contains(&What::UnreadCounts) {
            rows.unread = Some(store.unread(user).await?);
        }
        let text = rows.message.as_ref().and_then(|row| row.body.as_deref());
        rows.keys = store.vault().keyring(user, text).await?;
        Ok(rows)
    }

    fn new_message(&self, api: &Api, id: MessageId) -> Option<Frame> {
        let message = self.message.as_ref().filter(|row| row.id == id.0)?;
        let (conversation, account) = self.conversation.as_ref()?;
        let payload = json!({
            "message": view::message(message, conversation, &self.keys, api.links()),
            "conversation": view::conversation(conversation, account, &self.keys),
            "timestamp": now(),
        });
        Some(Frame::new("new_message", &payload))
    }

    fn conversation(&self) -> Option<Frame> {
        let (conversation, account) = self.conversation.as_ref()?;
        let payload = json!({
            "conversation": view::conversation(conversation, account, &self.keys),
            "timestamp": now(),
        });
        Some(Frame::new("conversation_update", &payload))
    }

    fn status(&self, id: MessageId, status: &str) -> Option<Frame> {
        let (conversation, _) = self.conversation.as_ref()?;
        let payload = json!({
            "messageId": id,
            "conversationId": conversation.id,
            "status": status,
            "timestamp": now(),
        });
        Some(Frame::new("message_status_update", &payload))
    }

    fn unread_counts(&self) -> Option<Frame> {
        let unread = self.unread.as_ref()?;
        let payload = json!({
            "unreadCounts": unread.by_platform,
            "totalUnread": unread.total,
            "timestamp": now(),
        });
        Some(Frame::new("unread_count_update", &payload))
    }

    /// Whether a receipt tells something new about a message, as far as can be known: read models
    /// keep what is, not what was a moment ago.
    fn is_news(
        &self,
        row: &message::Model,
        receipts: &What,
        told_until: Option<DateTime<Utc>>,
    ) -> bool {
        let What::Receipts {
            platform_message_ids,
            watermark,
            status,
            at,
        } = receipts
        else {
            return false;
        };
        if !row.outgoing || !matches!(row.state.as_str(), "sent" | "observed") {
            return false;
        }
        let (sent_at, seen) = (row.sent_at, status == "read");
        if !seen && self.is_seen(row) {
            // "Delivered" after "read" would take a tick back.
            return false;
        }
        let covered = watermark.is_some_and(|until| {
            sent_at.is_some_and(|sent| sent <= until && told_until.is_none_or(|told| sent > told))
        });
        // The mark is the earliest report: if it is this one's, this one made it.
        let mark = if seen { row.seen_at } else { row.delivered_at };
        let made_the_mark = mark.is_some_and(|mark| (mark - *at).num_milliseconds() == 0);
        let named = row
            .platform_message_id
            .as_ref()
            .is_some_and(|id| platform_message_ids.contains(id));
        covered || (named && made_the_mark)
    }

    fn is_seen(&self, row: &message::Model) -> bool {
        let seen_until = self.conversation.as_ref().and_then(|(it, _)| it.seen_until);
        row.seen_at.is_some()
            || seen_until.is_some_and(|until| row.sent_at.is_some_and(|sent| sent <= until))
    }
}
