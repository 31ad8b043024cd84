//! Conversations with their unread counts, and the messages in them.
//!
//! Promises: the fold converges. Whatever the order and repetition in which platforms deliver,
//! the same facts end in the same rows: an edit, a reaction or a receipt that arrives before its
//! message waits in a placeholder row; receipts only ever move forward; a message that is known
//! under its platform id is never added twice. Unread is the number of unread incoming messages,
//! at every position.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Table;
use crate::envelope::Recorded;
use crate::event::{
    Attached, Event, FailureClass, MediaLoss, MessageType, PlatformMessage, Receipt, Sealed, Thread,
};
use crate::id::{AccountId, ConversationId, MessageId, ObjectId, UserId, message_id};
use crate::platform::Platform;

mod count;
mod fold;

pub use count::TotalRow;

/// A conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationRow {
    /// The conversation.
    pub id: ConversationId,
    /// Its owner.
    pub user: UserId,
    /// The connected account.
    pub account: AccountId,
    /// The platform.
    pub platform: Platform,
    /// The platform's id of the thread.
    pub thread: String,
    /// The platform's id of the other side.
    pub participant_id: Option<String>,
    /// The other side's name.
    pub participant_name: Option<Sealed>,
    /// When the message was written that the name was taken from.
    pub named_at: Option<DateTime<Utc>>,
    /// When the newest message was written.
    pub last_message_at: Option<DateTime<Utc>>,
    /// Incoming messages the user has not read.
    pub unread: i32,
    /// Messages a client lists.
    pub messages: i32,
    /// The user has read everything up to this position of the log.
    pub read_through: i64,
    /// The other side has received everything of ours up to here.
    pub delivered_until: Option<DateTime<Utc>>,
    /// The other side has read everything of ours up to here.
    pub seen_until: Option<DateTime<Utc>>,
    /// It was forgotten and nothing was told of it since: nobody is shown it. The row stays, because
    /// the inbox as of an earlier moment has it.
    pub forgotten: bool,
    /// First event.
    pub created_at: DateTime<Utc>,
    /// Last change.
    pub updated_at: DateTime<Utc>,
}

/// Where a message is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Only something about it is known yet; it is not shown.
    Placeholder,
    /// It came from the other side.
    Received,
    /// It is ours and was sent elsewhere.
    Observed,
    /// It waits to be sent.
    Queued,
    /// A worker has begun an attempt.
    Sending,
    /// It was refused for now and will be tried again.
    Delayed,
    /// The platform has it.
    Sent,
    /// It will not be sent.
    Failed,
    /// Whether the platform has it is unknown.
    Uncertain,
}

impl State {
    const NAMES: [(Self, &'static str); 9] = [
        (Self::Placeholder, "placeholder"),
        (Self::Received, "received"),
        (Self::Observed, "observed"),
        (Self::Queued, "queued"),
        (Self::Sending, "sending"),
        (Self::Delayed, "delayed"),
        (Self::Sent, "sent"),
        (Self::Failed, "failed"),
        (Self::Uncertain, "uncertain"),
    ];

    /// The name in the database.
    pub fn name(self) -> &'static str {
        Self::NAMES
            .iter()
            .find(|(state, _)| *state == self)
            .map_or("placeholder", |(_, name)| name)
    }

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES
            .iter()
            .find(|(_, own)| *own == name)
            .map(|(state, _)| *state)
    }

    /// True while the hub still means to send it.
    pub fn is_pending(self) -> bool {
        matches!(self, Self::Queued | Self::Sending | Self::Delayed)
    }
}

/// A reaction on a message: one per person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reaction {
    /// The platform's id of who reacted.
    pub sender: String,
    /// The reaction; `None` once taken back.
    pub emoji: Option<String>,
    /// When, by the platform's clock.
    pub at: DateTime<Utc>,
}

/// What became of one medium of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Which of the message's media, from 0.
    pub index: u16,
    /// The bytes, when the hub has them.
    pub stored: Option<StoredFile>,
    /// Why it has not.
    pub loss: Option<MediaLoss>,
}

impl File {
    /// The one file of a message that its sender uploaded.
    pub fn uploaded(file: &Attached) -> Self {
        Self {
            index: 0,
            stored: Some(StoredFile {
                object: file.object,
                content_type: file.content_type.clone(),
                size: file.size,
            }),
            loss: None,
        }
    }
}

/// A medium in the object store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFile {
    /// Its name among the owner's objects.
    pub object: ObjectId,
    /// What the bytes are, by their content.
    pub content_type: String,
    /// How many there are.
    pub size: u64,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRow {
    /// The message.
    pub id: MessageId,
    /// The conversation.
    pub conversation: ConversationId,
    /// The platform's id; `None` until the platform has it.
    pub platform_message_id: Option<String>,
    /// Where it is in its life.
    pub state: State,
    /// The platform's id of who wrote it (`me` for sends through the hub).
    pub sender_id: String,
    /// Their name.
    pub sender_name: Option<Sealed>,
    /// The text as it reads now.
    pub text: Option<Sealed>,
    /// What a client shows it as.
    pub message_type: MessageType,
    /// Media as the platform described them.
    pub media: Option<Sealed>,
    /// What became of them, in their order, as far as that is known.
    pub files: Vec<File>,
    /// Further detail.
    pub detail: Option<Sealed>,
    /// Ours.
    pub outgoing: bool,
    /// The user has read it, by a mark on this very message.
    pub is_read: bool,
    /// When it was written; `None` for a placeholder.
    pub sent_at: Option<DateTime<Utc>>,
    /// When the other side received it, if the platform said so of this message.
    pub delivered_at: Option<DateTime<Utc>>,
    /// When the other side read it, if the platform said so of this message.
    pub seen_at: Option<DateTime<Utc>>,
    /// Newest edit.
    pub edited_at: Option<DateTime<Utc>>,
    /// Withdrawn.
    pub deleted_at: Option<DateTime<Utc>>,
    /// Reactions on it.
    pub reactions: Vec<Reaction>,
    /// Attempts begun.
    pub attempts: i32,
    /// Delayed: no attempt before this. Uncertain: later messages wait until this.
    pub retry_at: Option<DateTime<Utc>>,
    /// Class of the last refusal.
    pub failure: Option<String>,
    /// What the platform said last.
    pub failure_reason: Option<String>,
    /// The position in the log that brought it.
    pub position: i64,
    /// When the hub learnt of it.
    pub created_at: DateTime<Utc>,
}

impl MessageRow {
    /// Whether a client lists it. A send that was refused at once is not listed: its sender has seen
    /// the error, and a bubble that looks sent would lie. One that was accepted and failed later
    /// stays, with its state.
    pub fn is_listed(&self) -> bool {
        match self.state {
            State::Placeholder => false,
            State::Failed => self.attempts > 1 || self.is_undelivered(),
            State::Received
            | State::Observed
            | State::Queued
            | State::Sending
            | State::Delayed
            | State::Sent
            | State::Uncertain => true,
        }
    }

    /// Whether the platform had it and could not deliver it. Nothing a worker says changes that.
    pub fn is_undelivered(&self) -> bool {
        self.state == State::Failed
            && self.failure.as_deref() == Some(FailureClass::Undelivered.name())
    }

    /// Whether it counts as unread in this conversation.
    pub fn is_unread(&self, read_through: i64) -> bool {
        self.state == State::Received
            && !self.is_read
            && self.deleted_at.is_none()
            && self.position > read_through
    }
}

/// The rows a batch of events needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touch {
    /// Conversations.
    pub conversations: Vec<ConversationId>,
    /// Messages by id.
    pub messages: Vec<MessageId>,
    /// Messages by their platform id.
    pub platform_ids: Vec<(ConversationId, String)>,
    /// Conversations that are forgotten: of their messages those to be sent are needed.
    pub forgotten: Vec<ConversationId>,
    /// Accounts that conversations may be born in; the totals of these and of the accounts of all
    /// conversations above.
    pub accounts: Vec<AccountId>,
}

impl Touch {
    /// Adds what this event needs; false when the inbox does not care about it.
    pub fn add(&mut self, event: &Event) -> bool {
        match event {
            Event::MessageReceived(it) => self.platform_message(&it.0),
            Event::MessageObserved(it) => self.platform_message(&it.0),
            Event::MessageEdited(it) => self.known(it.conversation, &it.platform_message_id),
            Event::MessageDeleted(it) => self.known(it.conversation, &it.platform_message_id),
            Event::ReactionChanged(it) => self.known(it.conversation, &it.platform_message_id),
            Event::ReceiptReceived(it) => {
                self.conversations.push(it.conversation);
                for id in &it.platform_message_ids {
                    self.known(it.conversation, id);
                }
            }
            Event::MessageQueued(it) => {
                self.own(it.at.conversation, it.message);
                self.accounts.push(it.at.account);
            }
            Event::SendAttempted(it) => self.own(it.conversation, it.message),
            Event::MessageSent(it) => {
                self.own(it.conversation, it.message);
                self.known(it.conversation, &it.platform_message_id);
            }
            Event::SendDelayed(it) => self.own(it.conversation, it.message),
            Event::SendFailed(it) => self.own(it.conversation, it.message),
            Event::SendUncertain(it) => self.own(it.conversation, it.message),
            Event::ConversationImported(it) => {
                self.conversations.push(it.at.conversation);
                self.accounts.push(it.at.account);
            }
            Event::MessageImported(it) => self.platform_message(&it.message),
            Event::MessageRead(it) => self.own(it.conversation, it.message),
            Event::ConversationRead(it) => self.conversations.push(it.conversation),
            Event::ConversationForgotten(it) => {
                self.conversations.push(it.conversation);
                self.forgotten.push(it.conversation);
            }
            Event::ContactNamed(it) => self.conversations.push(it.conversation),
            Event::MediaStored(it) => self.own(it.conversation, it.message),
            Event::MediaUnavailable(it) => self.own(it.conversation, it.message),
            Event::UserRegistered(_)
            | Event::UserErased(_)
            | Event::SessionStarted(_)
            | Event::SessionRefreshed(_)
            | Event::SessionRevoked(_)
            | Event::AccountConnected(_)
            | Event::AccountDisconnected(_)
            | Event::AccountNeedsReconnect(_)
            | Event::AccountPolled(_)
            | Event::ResetRequested(_)
            | Event::AccountForgotten(_)
            | Event::ConnectFailed(_)
            | Event::AccountNoted(_)
            | Event::MediaAnnounced(_)
            | Event::MediaUploaded(_)
            | Event::ConversationNoted(_) => return false,
        }
        true
    }

    fn own(&mut self, conversation: ConversationId, message: MessageId) {
        self.conversations.push(conversation);
        self.messages.push(message);
    }

    fn known(&mut self, conversation: ConversationId, platform_id: &str) {
        self.own(conversation, message_id(conversation, platform_id));
        self.platform_ids
            .push((conversation, platform_id.to_owned()));
    }

    fn platform_message(&mut self, it: &PlatformMessage) {
        self.own(it.at.conversation, it.message);
        self.accounts.push(it.at.account);
        self.platform_ids
            .push((it.at.conversation, it.platform_message_id.clone()));
    }
}

/// The rows of the inbox read model that a batch works on.
#[derive(Clone, Debug, Default)]
pub struct Inbox {
    /// By conversation.
    pub conversations: Table<ConversationId, ConversationRow>,
    /// By message.
    pub messages: Table<MessageId, MessageRow>,
    /// By account.
    pub totals: Table<AccountId, TotalRow>,
    by_platform_id: HashMap<(ConversationId, String), MessageId>,
    forgotten: HashSet<ConversationId>,
}

impl Inbox {
    /// Puts a stored conversation.
    pub fn load_conversation(&mut self, row: ConversationRow) {
        self.conversations.load(row.id, row);
    }

    /// Conversations that were forgotten: of their stored messages all go away but those that are
    /// to be sent ([`State::is_pending`]).
    pub fn forgotten(&self) -> impl Iterator<Item = ConversationId> {
        self.forgotten.iter().copied()
    }

    /// Puts a stored message, unless it is of a conversation that was forgotten meanwhile.
    pub fn load_message(&mut self, row: MessageRow) {
        if self.forgotten.contains(&row.conversation) {
            return;
        }
        if let Some(platform_id) = &row.platform_message_id {
            self.by_platform_id
                .insert((row.conversation, platform_id.clone()), row.id);
        }
        self.messages.load(row.id, row);
    }

    /// Puts stored totals.
    pub fn load_total(&mut self, row: TotalRow) {
        self.totals.load(row.account, row);
    }
}
