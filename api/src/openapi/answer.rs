//! What routes answer when all is well, for the document only.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use utoipa::ToSchema;
use uuid::Uuid;

use super::schema::{
    Account, Conversation, Message, MessageTypeName, PlatformName, Tokens, User, email,
};

/// A session has begun.
#[derive(ToSchema)]
pub struct SessionBegun {
    /// Who it is.
    pub user: User,
    /// Their tokens.
    pub tokens: Tokens,
}

/// The next pair of tokens, in both forms clients read.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Refreshed {
    /// The access token.
    pub access_token: String,
    /// The refresh token.
    pub refresh_token: String,
    /// The same two.
    pub tokens: Tokens,
}

/// The caller, flat and wrapped.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Me {
    /// The user's id.
    pub id: Uuid,
    /// The e-mail address, in lower case.
    #[schema(schema_with = email)]
    pub email: String,
    /// When the user registered.
    pub created_at: DateTime<Utc>,
    /// When the user last changed.
    pub updated_at: DateTime<Utc>,
    /// The same, wrapped.
    pub user: User,
}

/// It is done.
#[derive(ToSchema)]
pub struct Said {
    /// Words for a person.
    pub message: String,
}

/// It is done.
#[derive(ToSchema)]
pub struct Done {
    /// Always true.
    pub success: bool,
    /// Words for a person.
    pub message: String,
}

/// Where to send the person's browser.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct ConnectBegun {
    /// The platform's page that asks for permission.
    #[schema(format = "uri")]
    pub authorization_url: String,
    /// What the platform brings back, once.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub state: String,
}

/// An account was connected by the login widget.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Connected {
    /// Always true.
    pub success: bool,
    /// The account's id.
    pub account_id: Uuid,
    /// Its name on the platform.
    pub username: String,
}

/// The caller's accounts.
#[derive(ToSchema)]
pub struct Accounts {
    /// Newest first.
    pub accounts: Vec<Account>,
}

/// What the platforms allow.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct RateLimits {
    /// One of each active account.
    pub rate_limits: Vec<RateLimit>,
}

/// How much of a platform an account may use.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct RateLimit {
    /// The account's id.
    pub account_id: Uuid,
    /// The platform it is on.
    pub platform: PlatformName,
    /// Calls in one window.
    #[schema(minimum = 0)]
    pub limit: i64,
    /// Calls that are left.
    #[schema(minimum = 0)]
    pub remaining: i64,
    /// When the oldest counted call leaves the window; a window from now when none is counted.
    pub reset_at: DateTime<Utc>,
    /// Length of the window in milliseconds.
    #[schema(minimum = 0)]
    pub window_ms: i64,
}

/// The newest messages.
#[derive(ToSchema)]
pub struct Recent {
    /// Newest first.
    pub messages: Vec<Message>,
    /// How many there are in this answer.
    #[schema(minimum = 0, maximum = 100)]
    pub count: i64,
}

/// How much was not read.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Unread {
    /// Of all platforms.
    #[schema(minimum = 0)]
    pub total: i64,
    /// Of each platform the caller has an account on, also when it is none.
    pub by_platform: BTreeMap<String, i64>,
}

/// A page of a conversation's messages.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct ThreadPage {
    /// Newest first.
    pub messages: Vec<Message>,
    /// How many there are in this answer.
    #[schema(minimum = 0, maximum = 100)]
    pub count: i64,
    /// How many there are in all.
    #[schema(minimum = 0)]
    pub total: i64,
    /// The limit that was applied.
    #[schema(minimum = 1, maximum = 100)]
    pub limit: i64,
    /// The offset that was applied.
    #[schema(minimum = 0)]
    pub offset: i64,
    /// True when there is another page.
    pub has_more: bool,
}

/// A page of conversations.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct ConversationPage {
    /// The one with the newest message first.
    pub conversations: Vec<Conversation>,
    /// How many there are in this answer.
    #[schema(minimum = 0, maximum = 100)]
    pub count: i64,
    /// How many there are in all.
    #[schema(minimum = 0)]
    pub total: i64,
    /// The limit that was applied.
    #[schema(minimum = 1, maximum = 100)]
    pub limit: i64,
    /// The offset that was applied.
    #[schema(minimum = 0)]
    pub offset: i64,
    /// True when there is another page.
    pub has_more: bool,
}

/// A message that is sent or on its way; `status` tells which.
#[derive(ToSchema)]
pub struct Sent {
    /// The message.
    pub message: Message,
    /// Always true.
    pub success: bool,
}

/// A file that can be sent with a message.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Uploaded {
    /// The file.
    pub id: uuid::Uuid,
    /// What it is, by its content.
    pub mime_type: String,
    /// How many bytes it has.
    pub size: u64,
    /// What it will be called.
    pub name: String,
    /// What a message with it is shown as, unless the message says otherwise.
    pub message_type: MessageTypeName,
    /// Where a browser loads it, and what a message names it by.
    pub media_url: String,
    /// Until when it can be sent.
    #[schema(format = DateTime)]
    pub send_before: String,
}

/// What the platforms said.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Synced {
    /// Always true: accounts have results of their own.
    pub success: bool,
    /// Messages the hub did not have before.
    #[schema(minimum = 0)]
    pub total_messages: i64,
    /// One of each active account.
    pub account_results: Vec<AccountResult>,
}

/// What an account's platform said.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct AccountResult {
    /// The account's id.
    pub account_id: Uuid,
    /// The platform it is on.
    pub platform: PlatformName,
    /// Messages the hub did not have before.
    #[schema(minimum = 0)]
    pub message_count: i64,
    /// False when the account was not polled, or is not done.
    pub success: bool,
    /// Why, for a person.
    #[schema(nullable = false)]
    pub error: Option<String>,
}

/// An account, in short.
#[derive(ToSchema)]
pub struct ShortAccount {
    /// The account's id.
    pub id: Uuid,
    /// The platform it is on.
    pub platform: PlatformName,
    /// Its name on the platform.
    pub username: String,
}

/// An account was polled.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Polled {
    /// Always true.
    pub success: bool,
    /// The account.
    pub account: ShortAccount,
    /// Messages the hub did not have before.
    #[schema(minimum = 0)]
    pub message_count: i64,
}

/// A look at an account.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct AccountLook {
    /// Always true.
    pub success: bool,
    /// The account.
    pub account: ShortAccount,
    /// How many conversations it has.
    #[schema(minimum = 0)]
    pub conversations_count: i64,
    /// The newest five.
    pub conversations: Vec<Conversation>,
}

/// The polls of the caller's accounts.
#[derive(ToSchema)]
pub struct Polls {
    /// Always true.
    pub success: bool,
    /// In numbers.
    pub stats: PollStats,
}

/// Polls in numbers.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct PollStats {
    /// Due and not begun.
    #[schema(minimum = 0)]
    pub waiting: i64,
    /// Running.
    #[schema(minimum = 0)]
    pub active: i64,
    /// Ended well, ever.
    #[schema(minimum = 0)]
    pub completed: i64,
    /// Ended otherwise, ever.
    #[schema(minimum = 0)]
    pub failed: i64,
    /// Will be due.
    #[schema(minimum = 0)]
    pub delayed: i64,
    /// Active accounts that are polled.
    #[schema(minimum = 0)]
    pub active_accounts: i64,
    /// When the last one ended well.
    #[schema(required = true)]
    pub last_poll_time: Option<DateTime<Utc>>,
    /// All that ended, ever.
    #[schema(minimum = 0)]
    pub total_polls: i64,
}

/// A look at the configuration of Instagram.
#[derive(ToSchema)]
pub struct InstagramLook {
    /// Always true.
    pub success: bool,
    /// What is set.
    pub config: InstagramConfig,
}

/// What is set, without a secret.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct InstagramConfig {
    /// Whether there is an application id.
    pub app_id_configured: bool,
    /// Its length.
    #[schema(minimum = 0)]
    pub app_id_length: i64,
    /// How it begins, or `NOT SET`.
    pub app_id_first_chars: String,
    /// Whether there is a secret.
    pub app_secret_configured: bool,
    /// Its length.
    #[schema(minimum = 0)]
    pub app_secret_length: i64,
    /// The hub's address for platforms, or `NOT SET`.
    pub webhook_base_url: String,
    /// Where people come back to, or `NOT SET`.
    pub redirect_uri: String,
    /// Where people are sent; what is not set reads `MISSING`.
    pub auth_url: String,
}

/// A webhook is on disk.
#[derive(ToSchema)]
pub struct WebhookTaken {
    /// Always true.
    pub ok: bool,
}

/// A wish to be deleted is on disk. In Meta's own words.
#[derive(ToSchema)]
pub struct DeletionTaken {
    /// A page that says how far it is.
    pub url: String,
    /// What the page knows it by.
    pub confirmation_code: String,
}

/// A token that no route asks back.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct CsrfToken {
    /// The token.
    #[schema(pattern = "^[0-9a-fA-F]{64}$")]
    pub csrf_token: String,
}

/// The hub is well.
#[derive(ToSchema)]
pub struct Well {
    /// Always `ok`.
    pub status: String,
    /// The time here.
    pub timestamp: DateTime<Utc>,
    /// What the hub stands on.
    pub services: Services,
}

/// What the hub stands on.
#[derive(ToSchema)]
pub struct Services {
    /// Always `connected`.
    pub database: String,
    /// `connected`, `disconnected`, or `in-process` when one process needs none.
    pub redis: String,
    /// The real-time doors.
    pub websocket: Doors,
}

/// The real-time doors of this process.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Doors {
    /// Always `active`.
    pub status: String,
    /// Open connections.
    #[schema(minimum = 0)]
    pub connections: i64,
    /// Users behind them.
    #[schema(minimum = 0)]
    pub authenticated_users: i64,
}

/// The hub cannot work.
#[derive(ToSchema)]
pub struct Unwell {
    /// Always `error`.
    pub status: String,
    /// The time here.
    pub timestamp: DateTime<Utc>,
    /// Words for a person.
    pub error: String,
}

/// A login code is on its way.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct TelegramCode {
    /// Always true.
    pub success: bool,
    /// What names the attempt; comes back with the code.
    pub phone_code_hash: String,
}

/// Signed in, or not yet.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct TelegramSignedIn {
    /// Whether the account is connected.
    pub success: bool,
    /// True when the account has a cloud password and none was given.
    pub need_password: Option<bool>,
    /// The account.
    pub account_id: Option<Uuid>,
    /// Its display name.
    pub username: Option<String>,
}

/// Dialogs, the newest first.
#[derive(ToSchema)]
pub struct TelegramDialogs {
    /// Them.
    pub dialogs: Vec<TelegramDialog>,
}

/// A dialog.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct TelegramDialog {
    /// The chat.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether it is a person.
    pub is_user: bool,
    /// Whether it is a group or a channel.
    pub is_group: bool,
    /// What is unread, by Telegram's count.
    pub unread_count: i32,
    /// When its last message was written, in seconds since 1970.
    pub date: i64,
}

/// Messages, the newest first.
#[derive(ToSchema)]
pub struct TelegramMessages {
    /// Them.
    pub messages: Vec<TelegramMessage>,
}

/// A message.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct TelegramMessage {
    /// Its number in the chat.
    pub id: String,
    /// Its text.
    pub text: String,
    /// Who wrote it.
    pub sender_id: String,
    /// When, in seconds since 1970.
    pub date: i64,
    /// Whether the account's person wrote it.
    pub out: bool,
}
