//! The objects clients see (contract 1.9, 1.10), for the document only: handlers build the same
//! objects in [`crate::view`] and [`crate::error`], and tests hold their answers against these.
//! A field's comment is its description in the document.

use chrono::{DateTime, Utc};
use hub_domain::event::MessageType;
use hub_domain::limits::EMAIL_CHARS_MAX;
use hub_domain::platform::Platform;
use hub_domain::projection::inbox::State;
use serde_json::Value;
use utoipa::openapi::schema::{Object, ObjectBuilder, Schema, Type};
use utoipa::openapi::{KnownFormat, RefOr, SchemaFormat};
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

/// A hub user.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct User {
    /// The user's id.
    pub id: Uuid,
    /// The e-mail address, in lower case.
    #[schema(schema_with = email)]
    pub email: String,
    /// When the user registered.
    pub created_at: DateTime<Utc>,
    /// When the user last changed.
    pub updated_at: DateTime<Utc>,
}

/// A pair of tokens.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Tokens {
    /// Goes into the `Authorization` header. Short-lived.
    pub access_token: String,
    /// Buys the next pair, once.
    pub refresh_token: String,
}

/// A connected account.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Account {
    /// The account's id.
    pub id: Uuid,
    /// Whose it is.
    pub user_id: Uuid,
    /// The platform it is on.
    pub platform: PlatformName,
    /// The platform's id of it.
    pub platform_user_id: String,
    /// Its name on the platform.
    pub platform_username: String,
    /// False once it was disconnected.
    pub is_active: bool,
    /// When it was first connected.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

/// A conversation.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Conversation {
    /// The conversation's id.
    pub id: Uuid,
    /// The account it belongs to.
    pub account_id: Uuid,
    /// The platform it is on.
    pub platform: PlatformName,
    /// The account's name on the platform.
    pub platform_username: String,
    /// The platform's id of it.
    pub platform_conversation_id: String,
    /// The other side's name, or its id when the name is not known.
    pub participant_name: String,
    /// The platform's id of the other side.
    pub participant_id: String,
    /// Where a picture of the other side is.
    #[schema(required = true, format = "uri")]
    pub participant_avatar_url: Option<String>,
    /// When the newest message was sent, or when the conversation began.
    pub last_message_at: DateTime<Utc>,
    /// Messages that were not read.
    #[schema(minimum = 0)]
    pub unread_count: i32,
    /// True when any message was not read.
    pub has_unread: bool,
    /// When it began.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

/// A message.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Message {
    /// The message's id.
    pub id: Uuid,
    /// The conversation it belongs to.
    pub conversation_id: Uuid,
    /// The platform's id of it, once the platform has it.
    #[schema(required = true)]
    pub platform_message_id: Option<String>,
    /// The platform's id of who wrote it; `me` for what was sent from here.
    pub sender_id: String,
    /// The name of who wrote it.
    pub sender_name: String,
    /// The text; may be empty.
    pub content: String,
    /// What it is.
    pub message_type: MessageTypeName,
    /// Where the media can be loaded.
    #[schema(required = true, format = "uri")]
    pub media_url: Option<String>,
    /// True when the user wrote it.
    pub is_outgoing: bool,
    /// Who received it has read it.
    pub is_read: bool,
    /// When it was sent.
    pub sent_at: DateTime<Utc>,
    /// When the other side got it, as far as the platform says.
    #[schema(required = true)]
    pub delivered_at: Option<DateTime<Utc>>,
    /// When the hub first saw it.
    pub created_at: DateTime<Utc>,
    /// Where it is in its life.
    pub status: MessageStatus,
}

/// A platform's name.
pub struct PlatformName;

impl PartialSchema for PlatformName {
    fn schema() -> RefOr<Schema> {
        names("A platform's name.", Platform::ALL.map(Platform::name))
    }
}

impl ToSchema for PlatformName {}

/// What a message is.
pub struct MessageTypeName;

impl PartialSchema for MessageTypeName {
    fn schema() -> RefOr<Schema> {
        let all = [
            MessageType::Text,
            MessageType::Image,
            MessageType::Video,
            MessageType::File,
        ];
        names("What a message is.", all.map(MessageType::name))
    }
}

impl ToSchema for MessageTypeName {}

/// Where a message is in its life.
pub struct MessageStatus;

impl PartialSchema for MessageStatus {
    fn schema() -> RefOr<Schema> {
        // Placeholders are not shown.
        let all = [
            State::Received,
            State::Observed,
            State::Queued,
            State::Sending,
            State::Delayed,
            State::Sent,
            State::Failed,
            State::Uncertain,
        ];
        let description = "Where a message is in its life. `received` came from the other side, \
            `observed` was sent by the user elsewhere, `queued`, `sending` and `delayed` are on \
            their way, `uncertain` may or may not have arrived.";
        names(description, all.map(State::name))
    }
}

impl ToSchema for MessageStatus {}

/// What went wrong.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct ProblemDetail {
    /// A name for programs.
    pub code: String,
    /// Words for a person.
    pub message: String,
    /// True when the same request may work later.
    pub retryable: bool,
    /// More for programs; its form depends on the code.
    pub details: Option<Value>,
}

/// The error envelope.
#[derive(ToSchema)]
pub struct Problem {
    /// What went wrong.
    pub error: ProblemDetail,
}

/// The error envelope with the message beside it.
#[derive(ToSchema)]
pub struct ProblemWithMessage {
    /// What went wrong.
    pub error: ProblemDetail,
    /// The same words as in `error`.
    pub message: String,
}

/// The flat error envelope: `error` is the message itself.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct FlatProblem {
    /// Words for a person.
    pub error: String,
    /// A name for programs.
    pub code: String,
    /// The same words as `error`.
    pub message: String,
    /// True when the same request may work later.
    pub retryable: bool,
    /// More for programs; its form depends on the code.
    pub details: Option<Value>,
}

/// The flat error envelope of the routes for looking into the hub.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct DebugProblem {
    /// Always false.
    pub success: bool,
    /// Words for a person.
    pub error: String,
    /// A name for programs.
    pub code: String,
    /// The same words as `error`.
    pub message: String,
    /// True when the same request may work later.
    pub retryable: bool,
    /// More for programs; its form depends on the code.
    pub details: Option<Value>,
}

/// Why a webhook was not taken. Platforms read the status and nothing else.
#[derive(ToSchema)]
pub struct WebhookRefusal {
    /// The reason.
    pub error: String,
    /// A name for programs, when the body itself could not be read.
    pub code: Option<String>,
    /// The same words as `error`, when the body itself could not be read.
    pub message: Option<String>,
    /// True when the same request may work later.
    pub retryable: Option<bool>,
}

/// Why a Socket.IO connection was refused, in the words of Engine.IO.
#[derive(ToSchema)]
pub struct EngineIoRefusal {
    /// The number Engine.IO gives to the reason.
    #[schema(minimum = 0, maximum = 5)]
    pub code: i32,
    /// The reason.
    pub message: String,
}

/// An e-mail address.
pub fn email() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Email)))
        .max_length(Some(EMAIL_CHARS_MAX))
        .description(Some("The e-mail address."))
        .build()
}

fn names<const COUNT: usize>(description: &str, names: [&'static str; COUNT]) -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(names))
        .description(Some(description))
        .into()
}
