//! Raw input that still has to be decided on: what the API appends and the worker works through.
//!
//! A stored shape never changes, because a worker of the next version reads what an API of this one
//! has accepted: a new shape is a new kind. The golden files say so.

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
        /// The platform accounts it is about, under whose keys it is sealed. None: under the key
        /// of the day alone, as everything was once.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        routes: Vec<String>,
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
    /// A page that a poll fetched, as the adapter kept it.
    Page {
        /// Which platform it is from.
        platform: Platform,
        /// Who owns the account; it is for nobody else, whoever has connected the same one.
        user: UserId,
        /// The account it was fetched for.
        account: AccountId,
        /// The platform's id of the account, under whose key it is sealed.
        route: String,
        /// The raw body, base64 before sealing.
        body: Sealed,
        /// When it was sealed.
        sealed_at: DateTime<Utc>,
        /// True when webhooks should have brought all that is in it.
        repairs: bool,
        /// The name that what it brought is kept under, when somebody waits for it.
        answer: Option<Key>,
    },
    /// Somebody wants an account polled now.
    PollAccount {
        /// Whose it is.
        user: UserId,
        /// The account.
        account: AccountId,
        /// Look back to here, whatever is known already.
        since: Option<DateTime<Utc>>,
        /// The name the outcome is kept under.
        answer: Key,
    },
    /// Somebody asks for a new token of an account of theirs.
    Renew {
        /// Who.
        user: UserId,
        /// Which account.
        account: AccountId,
        /// On which platform.
        platform: Platform,
        /// The name the outcome is kept under, for the request that waits for it.
        answer: Key,
    },
    /// A person told the platform that they leave this installation.
    Departure {
        /// Which platform.
        platform: Platform,
        /// What stands for the person: a keyed digest of the platform's id of them.
        person: Key,
        /// What they want.
        wish: Departure,
        /// What stands for the platform's request: the same one is attended to once.
        request: Key,
    },
}

/// What somebody who leaves wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Departure {
    /// The permission that they gave is taken back.
    Deauthorized,
    /// What is known of them is to be deleted.
    Deletion,
}

impl Departure {
    /// The name in addresses and in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deauthorized => "deauthorized",
            Self::Deletion => "deletion",
        }
    }
}

impl Command {
    /// Every kind this build knows.
    pub const KINDS: [&'static str; 6] = [
        "webhook",
        "connect",
        "page",
        "poll_account",
        "renew",
        "departure",
    ];

    /// The name in the log.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Webhook { .. } => "webhook",
            Self::Connect { .. } => "connect",
            Self::Page { .. } => "page",
            Self::PollAccount { .. } => "poll_account",
            Self::Renew { .. } => "renew",
            Self::Departure { .. } => "departure",
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
        username: Sealed,
    },
    /// It did not work.
    Failed {
        /// What to tell the person.
        message: String,
    },
}

/// What the worker answers to a [`Command::PollAccount`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum PollAnswer {
    /// The account was polled.
    Polled {
        /// Messages the hub did not have before.
        messages: u64,
    },
    /// It was not.
    Failed {
        /// What to tell the person.
        message: String,
        /// Whether asking again may help.
        retryable: bool,
        /// The platform wants to be left alone for this many seconds.
        retry_after_s: Option<u64>,
    },
}

/// What a [`Command::Page`] brought, for the poll that waits to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageAnswer {
    /// Messages the hub did not have before.
    pub messages: u64,
}

/// What the worker answers to a [`Command::Renew`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RenewAnswer {
    /// The token is good.
    Good,
    /// The platform refused: somebody has to connect the account again.
    Refused,
    /// It did not work now.
    NotNow,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webhooks_from_before_they_named_their_accounts_are_read() {
        let old = r#"{"kind":"webhook","platform":"telegram","body":"h1.body","sealed_at":"2026-01-02T03:04:05Z"}"#;
        let read: Command = serde_json::from_str(old).unwrap();
        assert!(matches!(&read, Command::Webhook { routes, .. } if routes.is_empty()));
        assert_eq!(serde_json::to_string(&read).unwrap(), old);
        let new = old.replace('}', r#","routes":["7100"]}"#);
        let read: Command = serde_json::from_str(&new).unwrap();
        assert!(matches!(&read, Command::Webhook { routes, .. } if routes == &["7100"]));
        assert_eq!(serde_json::to_string(&read).unwrap(), new);
    }
}
