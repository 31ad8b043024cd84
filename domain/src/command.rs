//! Raw input that still has to be decided on: what the API appends and the worker works through.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::event::Sealed;
use crate::id::{AccountId, Key, Shard, UserId};
use crate::platform::{Grant, Platform};
use crate::secret::Secret;

/// A command as stored. Its content is sealed: raw bodies hold text and names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Command {
    /// A platform's webhook, verified, byte for byte.
    Webhook {
        /// Which platform sent it.
        platform: Platform,
        /// The raw body, base64 before sealing.
        body: Sealed,
        /// When it was sealed: raw input is sealed under the key of its day, and around midnight
        /// the clock of the database may already show another.
        sealed_at: DateTime<Utc>,
    },
    /// A person came back from a platform with a grant.
    Connect {
        /// Who.
        user: UserId,
        /// Which platform.
        platform: Platform,
        /// The grant as JSON.
        grant: Sealed,
        /// The name the outcome is kept under, for the request that waits for it.
        answer: Key,
    },
}

impl Command {
    /// Every kind this build knows.
    pub const KINDS: [&'static str; 2] = ["webhook", "connect"];

    /// The name in the log.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Webhook { .. } => "webhook",
            Self::Connect { .. } => "connect",
        }
    }
}

/// A command on its way into the log.
#[derive(Clone, Debug)]
pub struct NewCommand {
    /// The shard: of the platform account it is about, or of the user.
    pub shard: Shard,
    /// What was asked.
    pub command: Command,
    /// The request id it came with.
    pub request: Option<String>,
}

/// A [`Grant`] in the form that is sealed into a command.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StoredGrant {
    /// An OAuth authorisation code.
    Code {
        /// The code.
        code: String,
        /// The PKCE verifier.
        verifier: Option<String>,
    },
    /// Verified fields of the Telegram login widget.
    Widget {
        /// Telegram's id of the person.
        id: String,
        /// Their user name or first name.
        username: String,
    },
}

impl From<StoredGrant> for Grant {
    fn from(stored: StoredGrant) -> Self {
        match stored {
            StoredGrant::Code { code, verifier } => Self::Code {
                code: Secret::new(code),
                verifier: verifier.map(Secret::new),
            },
            StoredGrant::Widget { id, username } => Self::Widget { id, username },
        }
    }
}

/// What the worker answers to a [`Command::Connect`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum ConnectAnswer {
    /// The account is connected.
    Connected {
        /// The account.
        account: AccountId,
        /// Its display name.
        username: String,
    },
    /// It did not work.
    Failed {
        /// What to tell the person.
        message: String,
    },
}
