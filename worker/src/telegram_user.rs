//! Telegram user accounts: sessions that live in a worker.
//!
//! One process holds an account's session, under a lease in the database; when it dies another one
//! takes over. What the session hears is written down as raw input, exactly like a webhook, before
//! Telegram's own counters move; what somebody wants of it comes as calls from jobs of the same
//! process. [`Mtproto`] is the seam: grammers speaks to Telegram's servers, `played` to a played
//! Telegram over HTTP, and nothing else knows the difference.
//!
//! It fails by being late: a session that breaks off is opened again, an update that was not
//! written down is told again, and only a session that Telegram has revoked needs a person.

mod convert;
mod files;
mod hold;
mod keeper;
mod kept;
mod network;
mod played;

use std::time::Duration;

use futures::future::BoxFuture;
use hub_domain::platform::telegram_user::{Chat, Handed, Item, Message};
use hub_domain::platform::{Platform, SendOutcome};

use crate::Context;

pub use files::{FilePart, Located, NotHad, Of};
pub use hold::{Ask, Got};
pub(crate) use keeper::session;
pub use keeper::{Sessions, keep};

/// Longest a single call may take.
pub(crate) const CALL_MAX: Duration = Duration::from_secs(15);

/// The person an account belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Me {
    /// Telegram's id of them.
    pub id: i64,
    /// Their user name, or their first name.
    pub username: Option<String>,
}

/// A dialog of the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialog {
    /// With whom.
    pub chat: Chat,
    /// What is unread.
    pub unread: i32,
    /// The owner has read up to this message.
    pub read_in: i64,
    /// The other side has read up to this message.
    pub read_out: i64,
    /// The newest message.
    pub top: i64,
    /// When that was written, in seconds since 1970.
    pub date: i64,
}

/// How far signing in got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignedIn {
    /// All the way.
    As(Me),
    /// The account has a cloud password.
    PasswordNeeded,
}

/// How a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Telegram wants patience.
    Wait {
        /// For this many seconds.
        seconds: u64,
        /// What it said.
        reason: String,
    },
    /// The call certainly had no effect; it may work later.
    NotSent {
        /// What happened.
        reason: String,
    },
    /// Whether it had an effect is unknown.
    Unclear {
        /// What happened.
        reason: String,
    },
    /// The session is over.
    Revoked {
        /// What Telegram said.
        reason: String,
    },
    /// Telegram will not do this.
    Refused {
        /// What it said.
        reason: String,
    },
    /// Telegram has not all parts of the file: it has to be handed over again.
    Incomplete {
        /// What it said.
        reason: String,
    },
    /// The file is somewhere else by now: where has to be asked again.
    Moved {
        /// What it said.
        reason: String,
    },
    /// It was done before, under the same number.
    Repeated,
}

impl Failure {
    /// The class of an error as Telegram names it: a code, a name in capitals, a number cut out of
    /// the name.
    pub fn of(code: i32, name: &str, value: Option<u64>) -> Self {
        let reason = match value {
            Some(value) => format!("{name} {value}"),
            None => name.to_owned(),
        };
        let is_over = [
            "AUTH_KEY_",
            "SESSION_REVOKED",
            "SESSION_EXPIRED",
            "USER_DEACTIVATED",
        ];
        match (code, name) {
            (_, "RANDOM_ID_DUPLICATE") => Self::Repeated,
            (_, name) if name.starts_with("FILE_REFERENCE_") => Self::Moved { reason },
            (_, name) if name.starts_with("FILE_PART") => Self::Incomplete { reason },
            (_, name) if is_over.iter().any(|it| name.starts_with(it)) => Self::Revoked { reason },
            (420, name) if name.starts_with("FROZEN_") => Self::Refused { reason },
            (420, _) => Self::Wait {
                seconds: value.unwrap_or(60),
                reason,
            },
            (500.., _) | (..0, _) => Self::Unclear { reason },
            _ => Self::Refused { reason },
        }
    }

    /// What Telegram said or what happened, fit for operators.
    pub fn reason(&self) -> &str {
        match self {
            Self::Wait { reason, .. }
            | Self::NotSent { reason }
            | Self::Unclear { reason }
            | Self::Revoked { reason }
            | Self::Refused { reason }
            | Self::Incomplete { reason }
            | Self::Moved { reason } => reason,
            Self::Repeated => "RANDOM_ID_DUPLICATE",
        }
    }
}

/// Telegram's API as a session uses it: one method per call.
pub trait Mtproto: Send + Sync {
    /// Asks for a login code; returns what names the attempt.
    fn send_code<'a>(&'a self, phone: &'a str) -> BoxFuture<'a, Result<String, Failure>>;

    /// Redeems a login code.
    fn sign_in<'a>(
        &'a self,
        phone: &'a str,
        hash: &'a str,
        code: &'a str,
    ) -> BoxFuture<'a, Result<SignedIn, Failure>>;

    /// Completes a login with the cloud password.
    fn check_password<'a>(&'a self, password: &'a str) -> BoxFuture<'a, Result<Me, Failure>>;

    /// Whose session this is.
    fn me(&self) -> BoxFuture<'_, Result<Me, Failure>>;

    /// The newest dialogs.
    fn dialogs(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Dialog>, Failure>>;

    /// The newest messages of a chat, the newest first.
    fn history<'a>(
        &'a self,
        chat: &'a Chat,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Message>, Failure>>;

    /// Sends a text, beside a file that was handed over, under a number that makes it happen once;
    /// returns the message's number.
    fn send<'a>(
        &'a self,
        chat: &'a Chat,
        text: &'a str,
        file: Option<&'a Handed>,
        random_id: i64,
    ) -> BoxFuture<'a, Result<i64, Failure>>;

    /// Hands over a part of a file. Nobody sees it, and the same part again takes its place.
    fn save_part<'a>(&'a self, part: &'a FilePart) -> BoxFuture<'a, Result<(), Failure>>;

    /// Where the file of a message is, for some hours. `None`: there is no such message, or no file in
    /// it that stays.
    fn locate<'a>(
        &'a self,
        chat: &'a Chat,
        id: i64,
    ) -> BoxFuture<'a, Result<Option<Located>, Failure>>;

    /// Bytes of a file from `offset` on, a multiple of [`PART_BYTES`]: that many, and fewer where it
    /// ends.
    ///
    /// [`PART_BYTES`]: hub_domain::platform::telegram_user::PART_BYTES
    fn read<'a>(
        &'a self,
        file: &'a Located,
        offset: u64,
    ) -> BoxFuture<'a, Result<Vec<u8>, Failure>>;

    /// Waits for what happens next. Told again and again until [`Mtproto::kept`]; may be dropped at
    /// any time.
    fn updates(&self) -> BoxFuture<'_, Result<Vec<Item>, Failure>>;

    /// What [`Mtproto::updates`] told last is durable.
    fn kept(&self) -> BoxFuture<'_, ()>;

    /// Ends the session at Telegram.
    fn log_out(&self) -> BoxFuture<'_, Result<(), Failure>>;

    /// The session as it has to be stored. Full access to the account.
    fn session(&self) -> String;

    /// Pause between calls that fetch history: Telegram counts them.
    fn pace(&self) -> Duration;
}

/// Where Telegram is, for user accounts.
#[derive(Clone)]
pub enum Server {
    /// Its own servers, under this registration.
    Telegram {
        /// The application's number.
        api_id: i32,
        /// The hash that belongs to it.
        api_hash: hub_domain::secret::Secret,
    },
    /// A played one.
    Played {
        /// Its address.
        base: String,
        /// What calls it.
        context: Context,
    },
}

impl Server {
    /// The server an installation's registration names; `None` without one.
    pub fn of(context: &Context) -> Option<Self> {
        let (_, app) = context.platform(Platform::Telegram)?;
        let api_id = app.client_id.parse().ok()?;
        if app.client_secret.is_empty() {
            return None;
        }
        Some(if app.user_api_base.is_empty() {
            Self::Telegram {
                api_id,
                api_hash: app.client_secret.clone(),
            }
        } else {
            Self::Played {
                base: app.user_api_base.clone(),
                context: context.clone(),
            }
        })
    }

    /// Opens a session, a new one without `session`. Connects when it is first used.
    pub async fn open(&self, session: Option<&str>) -> Result<Box<dyn Mtproto>, Failure> {
        match self {
            Self::Telegram { api_id, api_hash } => {
                let opened = network::Network::open(*api_id, api_hash.clone(), session).await?;
                Ok(Box::new(opened))
            }
            Self::Played { base, context } => {
                let opened = played::Played::open(context.clone(), base, session)?;
                Ok(Box::new(opened))
            }
        }
    }
}

/// Bounds a call; one that takes too long may have had its effect.
pub(crate) async fn bounded<T>(
    call: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::time::timeout(CALL_MAX, call)
        .await
        .unwrap_or_else(|_| {
            Err(Failure::Unclear {
                reason: "no answer in time".to_owned(),
            })
        })
}

/// The outcome of a send that failed and certainly did not arrive.
pub(crate) fn outcome(failure: Failure) -> SendOutcome {
    match failure {
        Failure::Wait { seconds, reason } => SendOutcome::RetryAfter {
            wait: Duration::from_secs(seconds),
            reason,
        },
        Failure::NotSent { reason }
        | Failure::Incomplete { reason }
        | Failure::Moved { reason } => SendOutcome::Backoff { reason },
        Failure::Unclear { reason } => SendOutcome::Unclear { reason },
        Failure::Revoked { reason } => SendOutcome::Reconnect { reason },
        Failure::Refused { reason } => SendOutcome::Permanent { reason },
        Failure::Repeated => SendOutcome::Unclear {
            reason: "sent before, under a number that is not known any more".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_their_class() {
        let class = |code, name, value| match Failure::of(code, name, value) {
            Failure::Wait { seconds, .. } => format!("wait {seconds}"),
            Failure::NotSent { .. } => "not sent".to_owned(),
            Failure::Unclear { .. } => "unclear".to_owned(),
            Failure::Revoked { .. } => "revoked".to_owned(),
            Failure::Refused { .. } => "refused".to_owned(),
            Failure::Incomplete { .. } => "incomplete".to_owned(),
            Failure::Moved { .. } => "moved".to_owned(),
            Failure::Repeated => "repeated".to_owned(),
        };
        for (code, name, value, expected) in [
            (420, "FLOOD_WAIT", Some(7), "wait 7"),
            (420, "SLOWMODE_WAIT", Some(30), "wait 30"),
            (420, "FROZEN_METHOD_INVALID", None, "refused"),
            (401, "AUTH_KEY_UNREGISTERED", None, "revoked"),
            (406, "AUTH_KEY_DUPLICATED", None, "revoked"),
            (401, "SESSION_REVOKED", None, "revoked"),
            (401, "USER_DEACTIVATED_BAN", None, "revoked"),
            (400, "PHONE_CODE_INVALID", None, "refused"),
            (403, "CHAT_WRITE_FORBIDDEN", None, "refused"),
            (400, "RANDOM_ID_DUPLICATE", None, "repeated"),
            (500, "RANDOM_ID_DUPLICATE", None, "repeated"),
            (420, "FLOOD_PREMIUM_WAIT", Some(3), "wait 3"),
            (400, "FILE_REFERENCE_EXPIRED", None, "moved"),
            (400, "FILE_REFERENCE_EMPTY", None, "moved"),
            (400, "FILE_REFERENCE_INVALID", None, "moved"),
            (400, "FILE_PART_MISSING", Some(3), "incomplete"),
            (400, "FILE_PARTS_INVALID", None, "incomplete"),
            (400, "MEDIA_CAPTION_TOO_LONG", None, "refused"),
            (400, "MEDIA_INVALID", None, "refused"),
            (400, "PHOTO_INVALID_DIMENSIONS", None, "refused"),
            (500, "RPC_CALL_FAIL", None, "unclear"),
            (-503, "Timeout", None, "unclear"),
        ] {
            assert_eq!(class(code, name, value), expected, "{name}");
        }
    }
}
