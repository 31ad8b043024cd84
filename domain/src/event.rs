//! The facts in the log.
//!
//! An event is past tense, never changes, and carries what a fold needs and nothing more. Personal
//! content is [`Sealed`]: opaque here, readable only with the owner's data key. No event holds a
//! credential. Old shapes are brought up to the current one when read ([`UPCASTS`]), never rewritten.

mod upcast;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::{AccountId, ConversationId, MessageId, ObjectId, SessionId, UserId};
use crate::platform::Platform;

pub use upcast::{UPCASTS, Upcast, read_as};

/// Personal content sealed under its owner's data key, as text. The domain never opens it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(pub String);

/// The conversation an event is about, with what it takes to create it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// The owner.
    pub user: UserId,
    /// The connected account.
    pub account: AccountId,
    /// The platform.
    pub platform: Platform,
    /// The hub's name of the conversation.
    pub conversation: ConversationId,
    /// The platform's id of the thread inside the account.
    pub thread: String,
}

/// The four message types a client knows (contract 1.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MessageType {
    /// Text.
    Text,
    /// A picture.
    Image,
    /// A video.
    Video,
    /// Anything else.
    File,
}

impl MessageType {
    /// The name in JSON and in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Image => "image",
            Self::Video => "video",
            Self::File => "file",
        }
    }

    /// The type of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Text, Self::Image, Self::Video, Self::File]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

/// A message as the platform told it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlatformMessage {
    /// Where it belongs.
    pub at: Thread,
    /// The hub's name of the message.
    pub message: MessageId,
    /// The platform's id of the message.
    pub platform_message_id: String,
    /// The platform's id of who wrote it.
    pub sender_id: String,
    /// Their display name.
    pub sender_name: Option<Sealed>,
    /// The display name of the thread, when it differs from the sender's.
    pub thread_name: Option<Sealed>,
    /// What a client shows it as.
    pub message_type: MessageType,
    /// The text or caption; empty text is sealed too, so that its absence says nothing.
    pub text: Sealed,
    /// The media the platform described, as JSON.
    pub media: Option<Sealed>,
    /// Further detail (referral, location, action, reply), as JSON.
    pub detail: Option<Sealed>,
    /// When it was written, by the platform's clock.
    pub sent_at: DateTime<Utc>,
}

/// What the platform says about messages of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Receipt {
    /// They arrived.
    Delivered,
    /// They were read.
    Read,
}

/// Why a send did not happen, for good or for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// The platform asked to wait.
    RateLimited,
    /// The platform is in trouble or was not reached.
    Temporary,
    /// The account needs somebody to reconnect it.
    Reconnect,
    /// The platform's reply window is closed.
    OutsideWindow,
    /// The platform refuses this message.
    Permanent,
    /// Every allowed attempt was refused.
    Exhausted,
    /// The account was disconnected before the message left.
    Disconnected,
    /// The platform had taken the message and then could not deliver it. Of a failed send only,
    /// since schema 2.
    Undelivered,
}

impl FailureClass {
    /// The name in the database and in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::Temporary => "temporary",
            Self::Reconnect => "reconnect",
            Self::OutsideWindow => "outside_window",
            Self::Permanent => "permanent",
            Self::Exhausted => "exhausted",
            Self::Disconnected => "disconnected",
            Self::Undelivered => "undelivered",
        }
    }
}

/// Why tokens were revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revocation {
    /// The person logged out: one token is over.
    Logout,
    /// A token that had been exchanged was presented again: somebody has what is not theirs, so the
    /// whole family is over. Since schema 2.
    Reuse,
}

/// What an [`AccountNoted`] says of an account about whose people the platform stops telling soon.
pub const DATA_ACCESS_ENDS: &str = "account.data_access_ends";

/// Why the hub does not have a medium and will not get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaLoss {
    /// The platform does not hand it out, or no longer.
    Gone,
    /// It is larger than the hub takes.
    TooBig,
    /// The bytes are not what the message said.
    WrongType,
    /// It is at an address that the hub does not fetch from.
    Refused,
    /// It was not to be had in all allowed attempts.
    Unreachable,
}

/// A file that the owner uploaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// Its name among the owner's objects.
    pub object: ObjectId,
    /// What the bytes are, by their content.
    pub content_type: String,
    /// How many there are.
    pub size: u64,
    /// What the owner called it, as JSON, under the key that opens the object: in the words in which
    /// platforms describe media.
    pub described: Sealed,
}

macro_rules! payloads {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident : $type:ty),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
            pub struct $name { $($(#[$field_doc])* pub $field: $type),* }
        )*
    };
}

payloads! {
    /// An e-mail address was claimed by a new user. Lives in the address's login stream, whose
    /// existence is the uniqueness check.
    UserRegistered {
        /// The new user.
        user: UserId,
        /// The address.
        email: Sealed,
    }
    /// The person is to be forgotten, by their own wish or the operator's. Nothing follows in their
    /// name; their keys go, and what was sealed under them stays in the log unreadable.
    UserErased {
        /// Who.
        user: UserId,
    }
    /// Somebody logged in: a family of refresh tokens begins.
    SessionStarted {
        /// The user.
        user: UserId,
        /// The family.
        session: SessionId,
    }
    /// A refresh token was exchanged for a new pair.
    SessionRefreshed {
        /// The user.
        user: UserId,
        /// The family.
        session: SessionId,
    }
    /// A token of the family, or all of it, was revoked for good; no window brings it back.
    SessionRevoked {
        /// The user.
        user: UserId,
        /// The family.
        session: SessionId,
        /// Why.
        reason: Revocation,
    }
    /// A platform account was connected, or connected again.
    AccountConnected {
        /// The owner.
        user: UserId,
        /// The account.
        account: AccountId,
        /// The platform.
        platform: Platform,
        /// The platform's id of the account, as clients see it.
        platform_user_id: String,
        /// Its display name.
        username: Sealed,
        /// The id that webhooks name the account by.
        route: String,
    }
    /// The owner disconnected the account.
    AccountDisconnected {
        /// The owner.
        user: UserId,
        /// The account.
        account: AccountId,
    }
    /// The platform no longer accepts the account's authorisation.
    AccountNeedsReconnect {
        /// The owner.
        user: UserId,
        /// The account.
        account: AccountId,
        /// What the platform said.
        reason: String,
    }
    /// The owner wants everything the hub has of the account forgotten and fetched anew.
    ResetRequested {
        /// The owner.
        user: UserId,
        /// The account.
        account: AccountId,
    }
    /// A conversation was forgotten: it is not shown any more, nor are its messages, but for those
    /// the hub still means to send. What is told of it from here on begins it again.
    ConversationForgotten {
        /// The owner.
        user: UserId,
        /// The account it is in.
        account: AccountId,
        /// The conversation.
        conversation: ConversationId,
    }
    /// Every conversation of the account was forgotten. Its position is the account's epoch: in a new
    /// one the platform may tell again what was told before.
    AccountForgotten {
        /// The owner.
        user: UserId,
        /// The account.
        account: AccountId,
    }
    /// A poll fetched all there was, and the next one begins elsewhere than this one did.
    AccountPolled {
        /// The owner.
        user: UserId,
        /// The account.
        account: AccountId,
        /// Where the next poll begins, in the adapter's words.
        cursor: Value,
    }
    /// An attempt to connect an account failed.
    ConnectFailed {
        /// Who tried.
        user: UserId,
        /// The platform.
        platform: Platform,
        /// What to tell them.
        message: String,
    }
    /// A message's text changed on the platform.
    MessageEdited {
        /// The owner.
        user: UserId,
        /// The conversation.
        conversation: ConversationId,
        /// The platform's id of the message.
        platform_message_id: String,
        /// The new text.
        text: Sealed,
        /// When, by the platform's clock.
        edited_at: DateTime<Utc>,
    }
    /// A message was withdrawn on the platform.
    MessageDeleted {
        /// The owner.
        user: UserId,
        /// The conversation.
        conversation: ConversationId,
        /// The platform's id of the message.
        platform_message_id: String,
        /// When, by the platform's clock.
        deleted_at: DateTime<Utc>,
    }
    /// Somebody put a reaction on a message or took it back.
    ReactionChanged {
        /// The owner.
        user: UserId,
        /// The conversation.
        conversation: ConversationId,
        /// The platform's id of the message.
        platform_message_id: String,
        /// The platform's id of who reacted.
        sender_id: String,
        /// The reaction; `None` takes back whatever was there.
        emoji: Option<String>,
        /// True when it was added.
        added: bool,
        /// When, by the platform's clock.
        at: DateTime<Utc>,
    }
    /// The platform reported on messages of ours.
    ReceiptReceived {
        /// The owner.
        user: UserId,
        /// The conversation.
        conversation: ConversationId,
        /// What it reported.
        receipt: Receipt,
        /// It covers every message of ours sent up to here.
        watermark: Option<DateTime<Utc>>,
        /// The messages it names.
        platform_message_ids: Vec<String>,
        /// When, by the platform's clock.
        at: DateTime<Utc>,
    }
    /// The platform told the name of the other side when it was asked.
    ContactNamed {
        /// The owner.
        user: UserId,
        /// The conversation.
        conversation: ConversationId,
        /// The name.
        name: Sealed,
    }
    /// A message has media: they are to be fetched before the platform lets go of them.
    MediaAnnounced {
        /// The owner.
        user: UserId,
        /// The connected account.
        account: AccountId,
        /// The platform.
        platform: Platform,
        /// The conversation.
        conversation: ConversationId,
        /// The message.
        message: MessageId,
        /// The media as the platform described them, as JSON.
        media: Sealed,
    }
    /// The owner uploaded a file, which one message may be sent with. Recorded before the object is
    /// put, so that no object is there that nobody would remove.
    MediaUploaded {
        /// The owner.
        user: UserId,
        /// The file.
        file: Attached,
    }
    /// A medium of a message was fetched and is in the object store.
    MediaStored {
        /// The owner.
        user: UserId,
        /// The conversation.
        conversation: ConversationId,
        /// The message.
        message: MessageId,
        /// Which of the message's media, from 0.
        index: u16,
        /// Its name among the owner's objects.
        object: ObjectId,
        /// What the bytes are, by their content.
        content_type: String,
        /// How many there are.
        size: u64,
    }
    /// A medium of a message will not be fetched.
    MediaUnavailable {
        /// The owner.
        user: UserId,
        /// The conversation.
        conversation: ConversationId,
        /// The message.
        message: MessageId,
        /// Which of the message's media, from 0.
        index: u16,
        /// Why.
        loss: MediaLoss,
    }
    /// Something else happened around a conversation; kept for explanation.
    ConversationNoted {
        /// The owner.
        user: UserId,
        /// The conversation.
        conversation: ConversationId,
        /// The fact's kind in the platform documents.
        fact: String,
        /// The fact as JSON.
        detail: Sealed,
    }
    /// Something happened to the account, or nobody understood it; kept and counted.
    AccountNoted {
        /// The owner.
        user: UserId,
        /// The account.
        account: AccountId,
        /// The fact's kind in the platform documents.
        fact: String,
        /// The fact as JSON.
        detail: Sealed,
    }
    /// The user asked the hub to send a message.
    MessageQueued {
        /// Where it goes.
        at: Thread,
        /// The hub's name of the message.
        message: MessageId,
        /// What a client shows it as.
        message_type: MessageType,
        /// The text.
        text: Sealed,
        /// The file that goes with it. Since schema 2.
        attached: Option<Attached>,
    }
    /// A worker is about to call the platform. Recorded before any byte leaves, once per attempt.
    SendAttempted {
        /// The owner.
        user: UserId,
        /// The conversation.
        conversation: ConversationId,
        /// The message.
        message: MessageId,
        /// Counts from 1.
        attempt: u32,
    }
    /// The platform has the message.
    MessageSent {
        /// The owner.
        user: UserId,
        /// The conversation.
        conversation: ConversationId,
        /// The message.
        message: MessageId,
        /// The platform's id of it.
        platform_message_id: String,
        /// When, as well as is known.
        sent_at: DateTime<Utc>,
    }
    /// The platform did not take the message and it will be tried again.
    SendDelayed {
        /// The owner.
        user: UserId,
        /// The conversation.
        conversation: ConversationId,
        /// The message.
        message: MessageId,
        /// The attempt that was refused.
        attempt: u32,
        /// Why.
        class: FailureClass,
        /// What the platform said.
        reason: String,
        /// No attempt before this.
        retry_at: DateTime<Utc>,
    }
    /// The message will not be sent, or was sent and did not arrive.
    SendFailed {
        /// The owner.
        user: UserId,
        /// The conversation.
        conversation: ConversationId,
        /// The message.
        message: MessageId,
        /// Why.
        class: FailureClass,
        /// What the platform said.
        reason: String,
    }
    /// Whether the platform has the message is unknown. It is not sent again.
    SendUncertain {
        /// The owner.
        user: UserId,
        /// The conversation.
        conversation: ConversationId,
        /// The message.
        message: MessageId,
        /// The attempt whose outcome is unknown.
        attempt: u32,
        /// What happened.
        reason: String,
        /// Later messages of the conversation wait for the platform's word until then.
        settle_by: DateTime<Utc>,
    }
    /// A conversation of an earlier installation was taken over, under the id it had there.
    ConversationImported {
        /// What it takes to create it.
        at: Thread,
        /// The platform's id of the other side.
        participant_id: Option<String>,
        /// The other side's name.
        participant_name: Option<Sealed>,
        /// The address of the other side's picture; nobody shows it yet.
        participant_avatar: Option<Sealed>,
        /// When its newest message was written, where no message says so.
        last_message_at: Option<DateTime<Utc>>,
    }
    /// A message of an earlier installation was taken over, under the id it had there. History: no
    /// client is told, and nobody asks the platform for a name on account of it.
    MessageImported {
        /// The message.
        message: PlatformMessage,
        /// Ours.
        outgoing: bool,
        /// The user had read it; of an outgoing message this says nothing.
        is_read: bool,
        /// When the other side received it, where the platform had said so.
        delivered_at: Option<DateTime<Utc>>,
    }
    /// The user has read a message.
    MessageRead {
        /// The owner.
        user: UserId,
        /// The conversation.
        conversation: ConversationId,
        /// The message.
        message: MessageId,
    }
    /// The user has read everything in the conversation up to this event.
    ConversationRead {
        /// The owner.
        user: UserId,
        /// The conversation.
        conversation: ConversationId,
    }
}

/// Why a stored event cannot be read by this build.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No such kind, or a schema newer than this build: newer code is needed, nothing is skipped.
    #[error("event {kind} schema {schema} needs newer code")]
    NeedsNewerCode {
        /// The stored kind.
        kind: String,
        /// The stored schema version.
        schema: i16,
    },
    /// A schema that this build has forgotten how to bring up to the current one.
    #[error("event {kind} schema {schema} has no way up to schema {current}")]
    NoWayUp {
        /// The stored kind.
        kind: String,
        /// The stored schema version, or the one it got to.
        schema: i16,
        /// The version this build writes.
        current: i16,
    },
    /// The payload does not have the shape of its kind.
    #[error("event {kind} schema {schema} is malformed: {}", shape(.source))]
    Malformed {
        /// The stored kind.
        kind: String,
        /// The stored schema version.
        schema: i16,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// What is wrong with a JSON text, without a word of its content: where, and which field is missing.
pub fn shape(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let (line, column) = (error.line(), error.column());
    match text
        .strip_prefix("missing field `")
        .and_then(|rest| rest.split_once('`'))
    {
        // The name of a field is from our own types, not from the text.
        Some((field, _)) => format!("the field {field} is missing"),
        None if error.is_data() => format!("unexpected content at line {line} column {column}"),
        None => format!("not JSON at line {line} column {column}"),
    }
}

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident($payload:ty) = $schema:literal),* $(,)?) => {
        /// Every kind of event. Folds match on it without a wildcard, so that a new kind makes
        /// the compiler list the places where somebody has to decide.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(clippy::large_enum_variant, reason = "one allocation less per event in replay")]
        pub enum Event { $($(#[$doc])* $name($payload)),* }

        impl Event {
            /// Every kind with the schema version this build writes.
            pub const KINDS: &'static [(&'static str, i16)] = &[$((stringify!($name), $schema)),*];

            /// The name in the log.
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$name(_) => stringify!($name)),* }
            }

            /// The schema version this build writes.
            pub fn schema(&self) -> i16 {
                match self { $(Self::$name(_) => $schema),* }
            }

            /// The payload as JSON text, as it is stored.
            pub fn payload(&self) -> String {
                let text = match self { $(Self::$name(payload) => serde_json::to_string(payload)),* };
                text.expect("payloads are plain data: strings, numbers, lists")
            }

            /// Reads a stored event, bringing old shapes up to the current one.
            pub fn read(kind: &str, schema: i16, payload: &str) -> Result<Self, ReadError> {
                match kind {
                    $(stringify!($name) =>
                        read_as(UPCASTS, kind, schema, $schema, payload).map(Self::$name),)*
                    _ => Err(ReadError::NeedsNewerCode { kind: kind.to_owned(), schema }),
                }
            }
        }

        $(impl From<$payload> for Event {
            fn from(payload: $payload) -> Self { Self::$name(payload) }
        })*
    };
}

/// A message from the other side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageReceived(pub PlatformMessage);

/// A message of our side that was not sent through this hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageObserved(pub PlatformMessage);

events! {
    /// See [`UserRegistered`].
    UserRegistered(UserRegistered) = 1,
    /// See [`UserErased`].
    UserErased(UserErased) = 1,
    /// See [`SessionStarted`].
    SessionStarted(SessionStarted) = 1,
    /// See [`SessionRefreshed`].
    SessionRefreshed(SessionRefreshed) = 1,
    /// See [`SessionRevoked`].
    SessionRevoked(SessionRevoked) = 2,
    /// See [`AccountConnected`].
    AccountConnected(AccountConnected) = 1,
    /// See [`AccountDisconnected`].
    AccountDisconnected(AccountDisconnected) = 1,
    /// See [`AccountNeedsReconnect`].
    AccountNeedsReconnect(AccountNeedsReconnect) = 1,
    /// See [`AccountPolled`].
    AccountPolled(AccountPolled) = 1,
    /// See [`ResetRequested`].
    ResetRequested(ResetRequested) = 1,
    /// See [`ConversationForgotten`].
    ConversationForgotten(ConversationForgotten) = 1,
    /// See [`AccountForgotten`].
    AccountForgotten(AccountForgotten) = 1,
    /// See [`ConnectFailed`].
    ConnectFailed(ConnectFailed) = 1,
    /// See [`AccountNoted`].
    AccountNoted(AccountNoted) = 1,
    /// See [`MessageReceived`].
    MessageReceived(MessageReceived) = 1,
    /// See [`MessageObserved`].
    MessageObserved(MessageObserved) = 1,
    /// See [`MessageEdited`].
    MessageEdited(MessageEdited) = 1,
    /// See [`MessageDeleted`].
    MessageDeleted(MessageDeleted) = 1,
    /// See [`ReactionChanged`].
    ReactionChanged(ReactionChanged) = 1,
    /// See [`ReceiptReceived`].
    ReceiptReceived(ReceiptReceived) = 1,
    /// See [`ContactNamed`].
    ContactNamed(ContactNamed) = 1,
    /// See [`MediaAnnounced`].
    MediaAnnounced(MediaAnnounced) = 1,
    /// See [`MediaUploaded`].
    MediaUploaded(MediaUploaded) = 1,
    /// See [`MediaStored`].
    MediaStored(MediaStored) = 1,
    /// See [`MediaUnavailable`].
    MediaUnavailable(MediaUnavailable) = 1,
    /// See [`ConversationNoted`].
    ConversationNoted(ConversationNoted) = 1,
    /// See [`MessageQueued`].
    MessageQueued(MessageQueued) = 2,
    /// See [`SendAttempted`].
    SendAttempted(SendAttempted) = 1,
    /// See [`MessageSent`].
    MessageSent(MessageSent) = 1,
    /// See [`SendDelayed`].
    SendDelayed(SendDelayed) = 1,
    /// See [`SendFailed`].
    SendFailed(SendFailed) = 2,
    /// See [`SendUncertain`].
    SendUncertain(SendUncertain) = 1,
    /// See [`ConversationImported`].
    ConversationImported(ConversationImported) = 1,
    /// See [`MessageImported`].
    MessageImported(MessageImported) = 1,
    /// See [`MessageRead`].
    MessageRead(MessageRead) = 1,
    /// See [`ConversationRead`].
    ConversationRead(ConversationRead) = 1,
}
