//! The platforms, each as a set of pure functions over values.
//!
//! An [`Adapter`] never does IO: it verifies and reads bytes it is given, and describes requests
//! that somebody else makes. One driver in the worker moves the bytes; the sandbox plays the other
//! side. Adding a platform is one file here, one line in [`adapter`], and its player in the sandbox.

pub mod call;
pub mod fact;
pub mod http;
pub mod media;
pub mod polling;
pub mod telegram_user;

mod facebook;
mod instagram;
mod linkedin;
mod meta;
mod oauth;
mod outcome;
mod teams;
mod telegram;
mod twitter;
mod whatsapp;
mod wire;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::secret::Secret;
use crate::signature::{SignedRequest, SignedRequestRefused};
use call::{CallFailure, Fetch, Occasion, PollFlow, SubscribeFlow, Tokens};
use fact::{Fact, Media};
use http::{HttpRequest, HttpResponse, TransportError};
use media::upload::{Medium, Takes, UploadFlow};
use media::{Direct, MediaFlow};
use polling::Polling;

/// The platforms a client may see. No other value ever reaches one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// Telegram, bots and user accounts.
    Telegram,
    /// X, formerly Twitter.
    Twitter,
    /// LinkedIn.
    Linkedin,
    /// Instagram messaging.
    Instagram,
    /// WhatsApp Cloud API.
    Whatsapp,
    /// Facebook Messenger for Pages.
    Facebook,
    /// Microsoft Teams through Graph.
    Teams,
}

impl Platform {
    /// All of them, in the order the contract lists them.
    pub const ALL: [Self; 7] = [
        Self::Telegram,
        Self::Twitter,
        Self::Linkedin,
        Self::Instagram,
        Self::Whatsapp,
        Self::Facebook,
        Self::Teams,
    ];

    /// The name in URLs, JSON and the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::Telegram => "telegram",
            Self::Twitter => "twitter",
            Self::Linkedin => "linkedin",
            Self::Instagram => "instagram",
            Self::Whatsapp => "whatsapp",
            Self::Facebook => "facebook",
            Self::Teams => "teams",
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name is not one of the seven platforms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a platform")]
pub struct UnknownPlatform;

impl FromStr for Platform {
    type Err = UnknownPlatform;

    fn from_str(name: &str) -> Result<Self, UnknownPlatform> {
        Self::ALL
            .into_iter()
            .find(|platform| platform.name() == name)
            .ok_or(UnknownPlatform)
    }
}

/// The installation's registration with a platform: what does not depend on a connected account.
///
/// One struct for all platforms; a platform reads the fields its document names. Absent means not
/// configured, and an absent or empty secret never verifies anything.
#[derive(Clone, Debug, Default)]
pub struct App {
    /// OAuth client id (Meta: app id; Telegram: the API id of user accounts).
    pub client_id: String,
    /// OAuth client secret (Meta: app secret; Telegram: the API hash). Signs Meta webhooks.
    pub client_secret: Secret,
    /// The previous secret during a rotation; accepted when verifying, never used to sign.
    pub client_secret_previous: Secret,
    /// Our own word for the GET handshake of webhook subscriptions (Meta).
    pub verify_token: Secret,
    /// The secret header of webhooks (Telegram).
    pub webhook_secret: Secret,
    /// The previous webhook secret during a rotation.
    pub webhook_secret_previous: Secret,
    /// The bot's token (Telegram).
    pub bot_token: Secret,
    /// The bot's user name without `@` (Telegram login widget).
    pub bot_username: String,
    /// Base URL of the API, without a trailing slash.
    pub api_base: String,
    /// Base URL of a played Telegram for user accounts; empty for Telegram's own servers.
    pub user_api_base: String,
    /// Base URL of the pages people see when they connect (OAuth dialog, login widget).
    pub dialog_base: String,
    /// API version in paths (Meta: `v26.0`).
    pub api_version: String,
    /// Where Instagram's own login exchanges codes; empty where people log in through Facebook.
    pub token_base: String,
    /// The configuration of the login dialog (WhatsApp); empty for none.
    pub login_config_id: String,
    /// The phone number to connect (WhatsApp); empty: the first of the business account.
    pub phone_number_id: String,
    /// The business account of that number (WhatsApp); empty: the token tells.
    pub business_account_id: String,
    /// The number of our app, where it is another than the client id (X, LinkedIn).
    pub app_id: String,
    /// What people are asked to allow, where it depends on what the platform has granted the
    /// installation (LinkedIn).
    pub scopes: String,
    /// Where the platform sends people back to; registered with the platform byte for byte.
    pub redirect_uri: String,
    /// Where the platform delivers webhooks; for platforms that are told by API.
    pub webhook_url: String,
    /// Whom bearer tokens of webhooks must be made for (Microsoft).
    pub webhook_audience: String,
    /// The platform's keys for tokens in webhooks, as a JWKS document (Microsoft).
    pub webhook_keys: String,
    /// Our private key for encrypted webhooks: PKCS#8, DER, base64 (Microsoft).
    pub encryption_key: Secret,
    /// Its certificate: X.509, DER, base64 (Microsoft).
    pub encryption_certificate: String,
    /// Calls allowed per connected account (count, window), where this installation has other
    /// limits than the platform documents.
    pub budget: Option<(u32, Duration)>,
}

impl App {
    /// Calls allowed per connected account (count, window).
    pub fn budget(&self, adapter: &dyn Adapter) -> (u32, Duration) {
        self.budget.unwrap_or(adapter.capabilities().budget)
    }
}

/// What a platform can do here. The API refuses the rest before anything is queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Longest text of one message, in `text_unit`s.
    pub text_max: usize,
    /// The unit the platform counts text in.
    pub text_unit: TextUnit,
    /// The media it takes; none when nothing can be sent but text.
    pub media: &'static [Takes],
    /// How an unclear send is settled.
    pub reconcile: Reconcile,
    /// Calls allowed per connected account (count, window).
    pub budget: (u32, Duration),
    /// What it says beside that a message was written. Whether it can be asked is
    /// [`Adapter::polling`].
    pub tells: Tells,
    /// How long after a person's last word they can be answered; `None`: always. What counts as a
    /// word the platform knows best (a call, a pressed button elsewhere), so it is the one to refuse.
    pub reply_window: Option<Duration>,
}

/// What a platform says by itself, or shows when it is asked, beside that a message was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tells {
    /// Whether it pushes anything to us.
    pub webhook: bool,
    /// What becomes of our messages.
    pub receipts: Receipts,
    /// That a message was rewritten.
    pub edits: bool,
    /// That a message was taken back.
    pub deletions: bool,
    /// That somebody reacted to a message.
    pub reactions: bool,
    /// That somebody is typing.
    pub typing: bool,
}

/// What a platform says of our messages once it has taken them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipts {
    /// Nothing.
    None,
    /// That they were read.
    Read,
    /// That they arrived, and that they were read.
    DeliveredAndRead,
}

/// How a platform counts the length of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextUnit {
    /// Unicode scalar values.
    CodePoints,
    /// UTF-16 code units.
    Utf16,
    /// Bytes of UTF-8.
    Bytes,
}

/// How an unclear send is settled without sending again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconcile {
    /// The platform echoes our reference in a webhook; wait for it.
    Echo,
    /// The platform shows our message without a reference: the only one of ours that appeared since
    /// with the same text is it.
    Likeness,
    /// The platform offers neither a token nor a history: a person decides.
    Never,
}

/// Lower-case header names with their values, as received.
pub type Headers = [(String, String)];

/// Why a webhook was refused. Never says which secret or which part was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Missing or wrong signature, or no secret configured.
    #[error("Invalid signature")]
    Signature,
    /// The body is not what the contract demands although the signature is right.
    #[error("Invalid payload structure")]
    Structure,
}

/// A verified body the adapter cannot read at all. Kept raw, counted, answered with success.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unreadable body: {0}")]
pub struct Unreadable(pub String);

/// Secrets of a connected account, unsealed for one call.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// The platform's id of the account (page id, bot id).
    pub route: String,
    /// The token calls are made with.
    pub access_token: Secret,
    /// The token a new one is asked for with, where the platform has one.
    pub refresh_token: Option<Secret>,
    /// What the person allowed, in the platform's words; `None` where nobody knows.
    pub granted: Option<String>,
}

/// A message to be sent. One value is one platform message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// The platform's id of the thread (page-scoped user id, chat id).
    pub thread: String,
    /// The text, within the platform's limit; beside a medium it may be empty.
    pub text: String,
    /// Our reference, attached where the platform gives it back.
    pub client_ref: String,
    /// What is sent with the text, or instead of it.
    pub medium: Option<Medium>,
}

/// How one call of a send ended, in the hub's words. The classes are the adapter's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// The platform accepted the message under this id.
    Sent {
        /// The platform's id of the message, unique within the conversation.
        platform_message_id: String,
    },
    /// The platform certainly did not take it; try again no earlier than this.
    RetryAfter {
        /// The wait the platform asked for.
        wait: Duration,
        /// What the platform said, fit for operators.
        reason: String,
    },
    /// The platform certainly did not take it; try again with growing delay.
    Backoff {
        /// What the platform said, fit for operators.
        reason: String,
    },
    /// The account's authorisation is gone; nothing can be sent until somebody reconnects it.
    Reconnect {
        /// What the platform said, fit for operators.
        reason: String,
    },
    /// The platform's reply window is closed.
    OutsideWindow {
        /// What the platform said, fit for operators.
        reason: String,
    },
    /// The platform refuses this message for good.
    Permanent {
        /// What the platform said, fit for operators.
        reason: String,
    },
    /// Whether the message exists on the platform is unknown. Never sent again blindly.
    Unclear {
        /// What happened, fit for operators.
        reason: String,
    },
}

/// An account that a person has just connected.
#[derive(Clone, Debug)]
pub struct Connected {
    /// The platform's id of the account as the client sees it.
    pub platform_user_id: String,
    /// Its display name.
    pub username: String,
    /// The id that webhooks name the account by (page id, bot id).
    pub route: String,
    /// The token to call the platform with.
    pub access_token: Secret,
    /// The token to refresh it with.
    pub refresh_token: Option<Secret>,
    /// Seconds the access token lives; `None` when it does not expire.
    pub expires_in_s: Option<u64>,
    /// What the person allowed, in the platform's words; `None` where it does not say.
    pub granted: Option<String>,
}

/// The person at the platform who has connected an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grantor {
    /// The id by which the platform says later that they take the permission back.
    pub id: String,
    /// Seconds since the epoch at which the platform stops telling about people although the token
    /// is good; `None` when it does not say.
    pub data_access_until_s: Option<i64>,
}

/// Why connecting did not work, in words for the person who tried. Never contains a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConnectError(pub String);

/// The next move of a connect conversation.
#[derive(Debug)]
pub enum ConnectStep {
    /// Make this call and come back with its answer.
    Call(HttpRequest),
    /// Everything the platform had to say is known.
    Done(Connected),
    /// It did not work.
    Failed(ConnectError),
}

/// What a person brings back from the platform.
#[derive(Clone, Debug)]
pub enum Grant {
    /// An OAuth authorisation code.
    Code {
        /// The code; single use.
        code: Secret,
        /// The PKCE verifier, where the flow has one.
        verifier: Option<Secret>,
    },
    /// The fields of the Telegram login widget, already verified.
    Widget {
        /// Telegram's id of the person.
        id: String,
        /// Their user name or first name.
        username: String,
    },
}

/// A conversation with the platform that turns a grant into a connected account.
pub trait ConnectFlow: Send {
    /// The next step. The first call gets `None`, each further one the answer to the last request.
    fn next(&mut self, answer: Option<Result<HttpResponse, TransportError>>) -> ConnectStep;

    /// Who has connected the account, once that is done, where the platform may come back to it.
    fn grantor(&self) -> Option<&Grantor> {
        None
    }
}

/// The answer to a subscription handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// Answer 200 with exactly this text.
    Answer(String),
    /// Answer 200 with exactly this JSON.
    Json(String),
    /// Answer with this status and these words: there is nothing to prove.
    Failed(u16, &'static str),
    /// The verify token is wrong or none is configured.
    Refused,
}

/// A platform's wire format, as pure functions.
pub trait Adapter: Sync + Send {
    /// Which platform this is.
    fn platform(&self) -> Platform;

    /// What the platform can do here.
    fn capabilities(&self) -> Capabilities;

    /// Answers the GET that verifies a webhook subscription. `None`: the platform has none.
    fn handshake(&self, _app: &App, _query: &[(String, String)]) -> Option<Handshake> {
        None
    }

    /// Answers a POST that only asks whether the address is ours, before anything else is looked
    /// at. `None`: it is a delivery.
    fn handshake_by_post(
        &self,
        _app: &App,
        _query: &[(String, String)],
        _raw: &[u8],
    ) -> Option<Handshake> {
        None
    }

    /// The status a platform wants to see when its delivery is on disk.
    fn taken(&self) -> u16 {
        200
    }

    /// Checks a webhook's authenticity over the raw bytes, in constant time, before any parsing,
    /// and the little structure the contract demands of it.
    fn verify(&self, app: &App, headers: &Headers, raw: &[u8]) -> Result<(), Refused>;

    /// Checks and reads what the platform posts when somebody takes their permission back or wants
    /// their data deleted, in constant time. `None`: it never says so.
    fn signed_request(
        &self,
        _app: &App,
        _value: &str,
    ) -> Option<Result<SignedRequest, SignedRequestRefused>> {
        None
    }

    /// The platform accounts a verified body is about, each once, in order of appearance.
    fn route(&self, app: &App, raw: &[u8]) -> Vec<String> {
        wire::accounts(self.translate(app, None, raw).unwrap_or_default())
    }

    /// Reads everything out of a raw body. An item nobody understands becomes a fact of kind
    /// `unknown` and never fails its neighbours; only a body that is no JSON at all is an error.
    /// Webhook bodies, poll pages and single resources are told apart by their shape. `account` is
    /// the platform's id of the account that bytes were fetched for; webhooks name their own.
    fn translate(
        &self,
        app: &App,
        account: Option<&str>,
        raw: &[u8],
    ) -> Result<Vec<Fact>, Unreadable>;

    /// Where to send a person who wants to connect an account. `verifier` is there when
    /// [`Adapter::pkce`] says so.
    fn authorize(
        &self,
        app: &App,
        state: &str,
        verifier: Option<&Secret>,
    ) -> Result<String, ConnectError>;

    /// Starts turning a grant into a connected account.
    fn connect(&self, app: &App, grant: Grant) -> Box<dyn ConnectFlow>;

    /// Best-effort calls that take the platform's permission back.
    fn revoke(&self, app: &App, credentials: &Credentials) -> Vec<HttpRequest>;

    /// Starts handing a medium over before the message that shows it in a thread; what it ends with
    /// comes back in [`Medium::handle`]. `None` when the message itself carries it. Nobody sees an
    /// upload, so one that may have happened is made again.
    fn upload(
        &self,
        _app: &App,
        _credentials: &Credentials,
        _thread: &str,
        _medium: &Medium,
    ) -> Option<Box<dyn UploadFlow>> {
        None
    }

    /// Whether the platform loads a medium from [`Medium::address`] by itself. It has to reach this
    /// installation then.
    fn loads_media(&self) -> bool {
        false
    }

    /// The call that sends one message.
    fn send(&self, app: &App, credentials: &Credentials, message: &Outbound) -> HttpRequest;

    /// Whether what an account may do depends on what the person allowed
    /// ([`Credentials::granted`]).
    fn asks_what_was_granted(&self) -> bool {
        false
    }

    /// What can be sent into a thread by an account that was granted this, or why nothing can, in
    /// words for the person who tries. The API asks before anything is queued.
    fn sendable(
        &self,
        _thread: &str,
        _granted: Option<&str>,
    ) -> Result<Capabilities, &'static str> {
        Ok(self.capabilities())
    }

    /// Whether a wait that the platform asks for after a send is about its thread alone, so that the
    /// account's other threads go on.
    fn is_about_thread(&self, _wait: Duration) -> bool {
        false
    }

    /// What the answer to [`Adapter::send`] means.
    fn interpret(&self, answer: &Result<HttpResponse, TransportError>) -> SendOutcome;

    /// The call that asks for a person's name, on platforms whose messages do not carry it.
    fn contact(
        &self,
        _app: &App,
        _credentials: &Credentials,
        _participant: &str,
    ) -> Option<HttpRequest> {
        None
    }

    /// The name in the answer to [`Adapter::contact`]; `None` when the platform does not tell it.
    fn contact_name(&self, _answer: &HttpResponse) -> Option<String> {
        None
    }

    /// Whether [`Adapter::authorize`] wants a PKCE verifier (RFC 7636), which then comes back in
    /// [`Grant::Code`].
    fn pkce(&self) -> bool {
        false
    }

    /// How long before it expires a token is renewed (contract 5.4).
    fn renewal_margin(&self) -> Duration {
        Duration::from_secs(5 * 60)
    }

    /// How long after an account was connected the platform may still call its token dead without
    /// meaning it.
    fn settling(&self) -> Duration {
        Duration::ZERO
    }

    /// The call that asks for new tokens. `None` when this account's token cannot be renewed. Asked
    /// only about tokens that expire, or that have a refresh token.
    fn refresh(&self, _app: &App, _credentials: &Credentials) -> Option<HttpRequest> {
        None
    }

    /// The tokens in the answer to [`Adapter::refresh`].
    fn refreshed(
        &self,
        _answer: &Result<HttpResponse, TransportError>,
    ) -> Result<Tokens, CallFailure> {
        Err(CallFailure::Permanent {
            reason: "this platform's tokens are not renewed".to_owned(),
        })
    }

    /// How often accounts are polled, and for what. Whoever overrides [`Adapter::poll`] overrides
    /// this too: `None` is never polled.
    fn polling(&self) -> Option<Polling> {
        None
    }

    /// Starts fetching what is new since `cursor` (the first time: since a day before `now`).
    /// `None` when the platform cannot be asked.
    fn poll(
        &self,
        _app: &App,
        _credentials: &Credentials,
        _cursor: Option<&Value>,
        _now: DateTime<Utc>,
    ) -> Option<Box<dyn PollFlow>> {
        None
    }

    /// Starts looking for what webhooks should have brought, where [`Adapter::poll`] is about something
    /// else. It follows every poll, with the same cursor, and decides itself whether it is due; one
    /// that goes wrong is no failed poll. `None` when there is nothing to look for.
    fn sweep(
        &self,
        _app: &App,
        _credentials: &Credentials,
        _cursor: Option<&Value>,
        _on: Occasion,
    ) -> Option<Box<dyn PollFlow>> {
        None
    }

    /// What gets the thing that a fact of kind `resource.changed` names, from its `detail.notice`.
    fn fetch(
        &self,
        _app: &App,
        _credentials: &Credentials,
        _notice: &Value,
        _now: DateTime<Utc>,
    ) -> Option<Fetch> {
        None
    }

    /// The raw input in the answer to [`Adapter::fetch`]; `None` when the thing is not there (any
    /// more, or yet).
    fn fetched(
        &self,
        _answer: &Result<HttpResponse, TransportError>,
    ) -> Result<Option<Vec<u8>>, CallFailure> {
        Ok(None)
    }

    /// Whether accounts have subscriptions: see [`Adapter::subscribe`].
    fn subscribes(&self) -> bool {
        false
    }

    /// Starts making the account's subscription, or renewing the one of this id. `None` when the
    /// platform delivers without one, or the installation is not set up to be delivered to.
    fn subscribe(
        &self,
        _app: &App,
        _credentials: &Credentials,
        _current: Option<&str>,
        _now: DateTime<Utc>,
    ) -> Option<Box<dyn SubscribeFlow>> {
        None
    }

    /// The call that ends a subscription.
    fn unsubscribe(
        &self,
        _app: &App,
        _credentials: &Credentials,
        _id: &str,
    ) -> Option<HttpRequest> {
        None
    }

    /// Starts finding out where the bytes of a medium are. Enough as it is for platforms that give
    /// an address with the message.
    fn media(&self, _app: &App, _credentials: &Credentials, medium: &Media) -> Box<dyn MediaFlow> {
        Box::new(Direct::new(medium))
    }

    /// Calls to make once when a worker starts, so that webhooks arrive at `app.webhook_url`.
    fn install(&self, app: &App) -> Vec<HttpRequest>;
}

/// The adapter of a platform, when there is one.
pub fn adapter(platform: Platform) -> Option<&'static dyn Adapter> {
    match platform {
        Platform::Facebook => Some(&facebook::Messenger),
        Platform::Instagram => Some(&instagram::Direct),
        Platform::Telegram => Some(&telegram::Bot),
        Platform::Whatsapp => Some(&whatsapp::Cloud),
        Platform::Twitter => Some(&twitter::DirectMessages),
        Platform::Linkedin => Some(&linkedin::Member),
        Platform::Teams => Some(&teams::Graph),
    }
}
