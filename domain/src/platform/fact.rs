//! What an adapter reads out of a platform's raw bytes: facts in one vocabulary.
//!
//! A fact is a statement of the platform, in plain text and without hub ids. The translator turns
//! it into events (deriving ids, sealing personal content); `hub translate` prints it as JSON.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::id::Epoch;

/// The vocabulary shared by all platforms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum FactKind {
    /// Somebody wrote to us.
    #[serde(rename = "message.received")]
    MessageReceived,
    /// A message of our side, seen from the platform: our own send, or one made elsewhere.
    #[serde(rename = "message.echoed")]
    MessageEchoed,
    /// The text of an earlier message changed.
    #[serde(rename = "message.edited")]
    MessageEdited,
    /// An earlier message was withdrawn.
    #[serde(rename = "message.deleted")]
    MessageDeleted,
    /// The owner has read a message on another device; without a target, the whole thread.
    #[serde(rename = "message.read")]
    MessageRead,
    /// Somebody put a reaction on a message.
    #[serde(rename = "reaction.added")]
    ReactionAdded,
    /// Somebody took a reaction back.
    #[serde(rename = "reaction.removed")]
    ReactionRemoved,
    /// Anonymous reaction totals.
    #[serde(rename = "reaction.counts")]
    ReactionCounts,
    /// The platform accepted a message of ours.
    #[serde(rename = "receipt.sent")]
    ReceiptSent,
    /// Messages of ours reached the other side.
    #[serde(rename = "receipt.delivered")]
    ReceiptDelivered,
    /// The other side has read messages of ours.
    #[serde(rename = "receipt.read")]
    ReceiptRead,
    /// The other side played a voice message of ours.
    #[serde(rename = "receipt.played")]
    ReceiptPlayed,
    /// The platform gave up on a message of ours.
    #[serde(rename = "receipt.failed")]
    ReceiptFailed,
    /// How the person found us (link, advertisement).
    #[serde(rename = "conversation.referral")]
    ConversationReferral,
    /// Another app took or gave control of the thread.
    #[serde(rename = "conversation.handover")]
    ConversationHandover,
    /// The conversation itself changed (title, members, successor).
    #[serde(rename = "conversation.updated")]
    ConversationUpdated,
    /// The person's identity on the platform changed.
    #[serde(rename = "contact.identity_changed")]
    ContactIdentityChanged,
    /// The person allowed or forbade us to write.
    #[serde(rename = "optin.changed")]
    OptinChanged,
    /// A message template changed its state.
    #[serde(rename = "template.status_changed")]
    TemplateStatusChanged,
    /// The platform changed the state of our account.
    #[serde(rename = "account.status_changed")]
    AccountStatusChanged,
    /// Something that the payload only names has to be fetched. The account is the name of what told
    /// us, `detail.notice` what [`super::Adapter::fetch`] is given.
    #[serde(rename = "resource.changed")]
    ResourceChanged,
    /// The other side is typing.
    #[serde(rename = "typing.started")]
    TypingStarted,
    /// Understood, and of no interest to a message hub.
    #[serde(rename = "ignored")]
    Ignored,
    /// Not understood; kept raw and counted.
    #[serde(rename = "unknown")]
    Unknown,
}

impl FactKind {
    /// The name in the platform documents, e.g. `message.received`.
    pub fn name(self) -> &'static str {
        match self {
            Self::MessageReceived => "message.received",
            Self::MessageEchoed => "message.echoed",
            Self::MessageEdited => "message.edited",
            Self::MessageDeleted => "message.deleted",
            Self::MessageRead => "message.read",
            Self::ReactionAdded => "reaction.added",
            Self::ReactionRemoved => "reaction.removed",
            Self::ReactionCounts => "reaction.counts",
            Self::ReceiptSent => "receipt.sent",
            Self::ReceiptDelivered => "receipt.delivered",
            Self::ReceiptRead => "receipt.read",
            Self::ReceiptPlayed => "receipt.played",
            Self::ReceiptFailed => "receipt.failed",
            Self::ConversationReferral => "conversation.referral",
            Self::ConversationHandover => "conversation.handover",
            Self::ConversationUpdated => "conversation.updated",
            Self::ContactIdentityChanged => "contact.identity_changed",
            Self::OptinChanged => "optin.changed",
            Self::TemplateStatusChanged => "template.status_changed",
            Self::AccountStatusChanged => "account.status_changed",
            Self::ResourceChanged => "resource.changed",
            Self::TypingStarted => "typing.started",
            Self::Ignored => "ignored",
            Self::Unknown => "unknown",
        }
    }
}

/// Which way a message went, seen from our account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the other side to us.
    Inbound,
    /// From us to the other side.
    Outbound,
}

/// What a message is made of. The word is the one used by the platform documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContentKind {
    /// Text, possibly with a link preview.
    Text,
    /// One or more pictures.
    Image,
    /// A video, round ones included.
    Video,
    /// A sound file.
    Audio,
    /// A recorded voice note.
    Voice,
    /// A silent looping clip.
    Animation,
    /// Any other file.
    File,
    /// A sticker.
    Sticker,
    /// A place.
    Location,
    /// A contact card.
    Contact,
    /// A shared post, reel or story.
    Share,
    /// A pressed button or menu entry.
    Action,
    /// A structured template.
    Template,
    /// A basket somebody wants to buy.
    Order,
    /// Something the hub cannot show; never dropped.
    Unsupported,
}

/// One medium of a message, as the platform describes it. Absent fields are unknown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Media {
    /// What it is.
    pub kind: Option<ContentKind>,
    /// A pre-signed URL of the platform. It expires, and never reaches a client.
    pub url: Option<String>,
    /// The platform's id of the file, where it has to be asked for.
    pub file_id: Option<String>,
    /// A stable id of the same bytes, where the platform has one.
    pub unique_id: Option<String>,
    /// MIME type as stated by the platform (untrusted).
    pub mime: Option<String>,
    /// File name as stated by the platform (untrusted).
    pub name: Option<String>,
    /// Size in bytes as stated by the platform.
    pub size: Option<u64>,
    /// Playing time in seconds.
    pub duration_s: Option<u64>,
    /// False when the platform will not hand the bytes out (too big, expired).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available: Option<bool>,
}

/// One statement read from a platform's raw input.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fact {
    /// What happened.
    pub kind: FactKind,
    /// The platform's id of our account; `None` when the payload does not say and no hint was given.
    pub account: Option<String>,
    /// The id that names the connected account, where the platform's account is another: a company
    /// page speaks through the member who administers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub through: Option<String>,
    /// The key of the conversation as the platform documents write it (`<page>:<psid>`, a chat id).
    pub conversation: Option<String>,
    /// The platform's id of the thread inside the account: what names the hub's conversation.
    pub thread: Option<String>,
    /// Other ids the platform has for the same thread, which may be the ones we wrote to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// The platform's id of who wrote or acted.
    pub sender: Option<String>,
    /// Their display name, when the payload carries it.
    pub sender_name: Option<String>,
    /// The display name of the thread, when it is not the sender's (a group's title).
    pub thread_name: Option<String>,
    /// Which way it went.
    pub direction: Option<Direction>,
    /// The platform's id of the message, unique within the conversation.
    pub message_id: Option<String>,
    /// When it happened by the platform's clock, milliseconds since the epoch.
    pub ts_ms: Option<i64>,
    /// What the message is made of.
    pub content: Option<ContentKind>,
    /// Its text or caption, decoded, otherwise unchanged.
    pub text: Option<String>,
    /// Its media in order.
    pub media: Vec<Media>,
    /// The message an edit, deletion, reaction or receipt is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// All messages a receipt names, when it names several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// The reaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emoji: Option<String>,
    /// A receipt covers everything of ours up to here, milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watermark_ms: Option<i64>,
    /// The message this one answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// The payload of a pressed button, quick reply or command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// The reference we attached to our own send, when the platform gives it back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ref: Option<String>,
    /// Everything else worth keeping, by name (referral, location, album, …).
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub detail: Map<String, Value>,
    /// What counted of the account's history when this was told.
    #[serde(skip_serializing_if = "Epoch::is_first")]
    pub epoch: Epoch,
    /// The hub asked for history in that epoch: what was told in an earlier one is told again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub retold: bool,
    /// What makes this fact the same fact when the platform tells it again, unique together with
    /// kind, account and conversation. Never printed.
    #[serde(skip)]
    pub dedup: String,
}

impl Fact {
    /// The id the directory of connected accounts is asked for.
    pub fn route(&self) -> Option<&String> {
        self.through.as_ref().or(self.account.as_ref())
    }

    /// An empty fact of this kind, to be filled in. `dedup` must be set before it is used.
    pub fn new(kind: FactKind) -> Self {
        Self {
            kind,
            account: None,
            through: None,
            conversation: None,
            thread: None,
            aliases: Vec::new(),
            sender: None,
            sender_name: None,
            thread_name: None,
            direction: None,
            message_id: None,
            ts_ms: None,
            content: None,
            text: None,
            media: Vec::new(),
            target: None,
            targets: Vec::new(),
            emoji: None,
            watermark_ms: None,
            reply_to: None,
            action: None,
            client_ref: None,
            detail: Map::new(),
            epoch: Epoch::FIRST,
            retold: false,
            dedup: String::new(),
        }
    }
}
