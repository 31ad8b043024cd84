//! What routes read: bodies and parameters, for the document only. Bounds come from
//! [`hub_domain::limits`].

use chrono::{DateTime, Utc};
use hub_domain::limits::{
    MESSAGE_TEXT_CHARS_MAX, PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX, PASSWORD_BYTES_MAX,
    PASSWORD_CHARS_MIN,
};
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};
use utoipa::openapi::{KnownFormat, SchemaFormat};
use utoipa::{IntoParams, ToSchema};

use super::schema::{MessageTypeName, PlatformName, email};

/// A new user.
#[derive(ToSchema)]
pub struct Registration {
    /// The e-mail address; case does not matter.
    #[schema(schema_with = email)]
    pub email: String,
    /// At least 8 characters and at most 72 bytes.
    #[schema(schema_with = new_password)]
    pub password: String,
}

/// Who wants to come in.
#[derive(ToSchema)]
pub struct Credentials {
    /// The e-mail address; case does not matter.
    #[schema(schema_with = email)]
    pub email: String,
    /// The password.
    #[schema(format = Password, min_length = 1)]
    pub password: String,
}

/// A refresh token.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Refreshing {
    /// The refresh token.
    #[schema(min_length = 1)]
    pub refresh_token: String,
}

/// The caller's password, once more.
#[derive(ToSchema)]
pub struct Confirmation {
    /// The password.
    #[schema(format = Password, min_length = 1)]
    pub password: String,
}

/// What to send.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Sending {
    /// The text. White space at its ends does not count. With a file it may be left out.
    #[schema(schema_with = message_text, required = false)]
    pub content: String,
    /// What it is; when absent `text`, or what the file's content says.
    #[schema(nullable = true)]
    pub message_type: Option<MessageTypeName>,
    /// The `mediaUrl` of a file that was uploaded for this message. What a platform does not take is
    /// refused.
    pub media_url: Option<String>,
}

/// A form with a file.
#[derive(ToSchema)]
pub struct Upload {
    /// The file. The field may have any name.
    #[schema(value_type = String, format = Binary)]
    pub file: Vec<u8>,
}

/// Whose code is wanted.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct TelegramPhone {
    /// The number with its country code, as in `+15551234567`.
    #[schema(min_length = 5, max_length = 64)]
    pub phone_number: String,
}

/// The code Telegram sent.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct TelegramLogin {
    /// The number the code was asked for with.
    #[schema(min_length = 5, max_length = 64)]
    pub phone_number: String,
    /// The code.
    #[schema(min_length = 1, max_length = 64)]
    pub phone_code: String,
    /// What asking for the code answered.
    #[schema(min_length = 1, max_length = 64)]
    pub phone_code_hash: String,
    /// The cloud password, for accounts that have one.
    #[schema(format = Password, max_length = 1024)]
    pub password: Option<String>,
}

/// What to send.
#[derive(ToSchema)]
pub struct TelegramText {
    /// The text. White space at its ends does not count.
    #[schema(schema_with = message_text)]
    pub text: String,
}

/// How much is wanted.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Rows {
    /// Rows to answer.
    #[param(schema_with = page_rows)]
    pub limit: Option<i64>,
}

/// What Telegram's login widget gives its page, and the state the page began with. All but `state`
/// is signed by Telegram, so unknown fields are kept.
#[derive(ToSchema)]
pub struct Widget {
    /// What connecting began with.
    pub state: String,
    /// Telegram's id of the person.
    pub id: i64,
    /// When the person signed in, in seconds since 1970.
    pub auth_date: i64,
    /// Telegram's signature.
    pub hash: String,
    /// The person's first name.
    pub first_name: Option<String>,
    /// The person's last name.
    pub last_name: Option<String>,
    /// The person's user name.
    pub username: Option<String>,
    /// The person's picture.
    pub photo_url: Option<String>,
}

/// What Telegram's login widget puts into the address, and the state it began with.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct WidgetQuery {
    /// What connecting began with.
    #[param(required = false)]
    pub state: String,
    /// Telegram's signature.
    #[param(required = false)]
    pub hash: String,
    /// Telegram's id of the person.
    #[param(required = false)]
    pub id: i64,
    /// When the person signed in, in seconds since 1970.
    #[param(required = false)]
    pub auth_date: i64,
    /// The person's first name.
    #[param(required = false)]
    pub first_name: String,
    /// The person's user name.
    #[param(required = false)]
    pub username: String,
    /// Why Telegram gives nothing.
    #[param(required = false)]
    pub error: String,
}

/// What makes an address of a medium one that the hub gave out.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct MediaAddress {
    /// Whose it is.
    pub owner: uuid::Uuid,
    /// When the address ends, in seconds since 1970.
    pub expires: i64,
    /// The hub's signature.
    pub signature: String,
}

/// What a platform brings back.
#[derive(ToSchema, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Grant {
    /// What the platform gives in exchange for the person's permission.
    #[param(required = false)]
    pub code: Option<String>,
    /// What connecting began with.
    #[param(required = false)]
    pub state: Option<String>,
    /// Why the platform gives nothing.
    #[param(required = false)]
    pub error: Option<String>,
}

/// How far back to look.
#[derive(ToSchema)]
pub struct Syncing {
    /// Messages since this time, whatever is known already; without it, what is new.
    pub since: Option<DateTime<Utc>>,
}

/// Which page of a list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// Rows on the page.
    #[param(required = false, schema_with = page_rows)]
    pub limit: i64,
    /// Rows before the page.
    #[param(required = false, minimum = 0, default = 0)]
    pub offset: i64,
}

/// A moment in the past.
#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub struct Past {
    /// Answers as it was at this time.
    #[param(required = false)]
    pub as_of: DateTime<Utc>,
}

/// Which messages.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Newest {
    /// Only messages sent at this time or later.
    #[param(required = false)]
    pub since: DateTime<Utc>,
    /// Rows to answer.
    #[param(required = false, schema_with = most_rows)]
    pub limit: i64,
}

/// Which conversations.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct OfPlatform {
    /// Only those on this platform.
    #[param(required = false, inline)]
    pub platform: PlatformName,
}

fn new_password() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Password)))
        .min_length(Some(PASSWORD_CHARS_MIN))
        .description(Some(format!(
            "At least {PASSWORD_CHARS_MIN} characters and at most {PASSWORD_BYTES_MAX} bytes."
        )))
        .build()
}

fn message_text() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(MESSAGE_TEXT_CHARS_MAX))
        .description(Some("The text. White space at its ends does not count."))
        .build()
}

fn page_rows() -> Object {
    rows(PAGE_ROWS_DEFAULT)
}

fn most_rows() -> Object {
    rows(PAGE_ROWS_MAX)
}

fn rows(otherwise: i64) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(1))
        .default(Some(otherwise.into()))
        .description(Some(format!(
            "Rows to answer. More than {PAGE_ROWS_MAX} are {PAGE_ROWS_MAX}."
        )))
        .build()
}

/// What Meta posts when somebody leaves.
#[derive(ToSchema)]
pub struct SignedRequest {
    /// A signature, a dot, and what it signs, both in base64 for addresses.
    pub signed_request: String,
}
