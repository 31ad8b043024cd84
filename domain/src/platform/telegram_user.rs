//! Telegram user accounts: what a session tells, as raw input keeps it.
//!
//! A user account has no webhooks. A session in a worker speaks MTProto and writes down what it
//! hears as a [`Told`]: JSON of our own, small and complete enough to be translated again at any
//! time. Everything behind it is pure and the same as for any platform: [`facts`] reads it, `hub
//! explain` shows it, a replay repeats it. The platform is `telegram`; whether an account is a bot's
//! or a person's is said by its stored credentials ([`is_session`]), never by its number.
//!
//! It fails softly: an item nobody knows becomes a fact of kind `unknown` and harms no neighbour.

mod file;
mod read;
mod wish;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use file::{Handed, MEDIA, PART_BYTES, Shape};
pub use read::facts;
pub use wish::{Answered, DialogShown, MessageShown, Wish};

use super::fact::ContentKind;
use crate::id::Epoch;

/// The version of the shape; also the field that tells it from a bot's update.
pub const VERSION: u32 = 1;

/// Longest text of one message, in UTF-16 units.
pub const TEXT_UNITS_MAX: usize = 4096;

/// Channels and supergroups are below this in the numbers that clients see.
const CHANNELS: i64 = 1_000_000_000_000;

/// What a session heard, one value per piece of raw input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// [`VERSION`].
    pub mtproto: u32,
    /// Telegram's id of the account's person.
    pub account: String,
    /// What counted of the account's history when it was heard.
    #[serde(default, skip_serializing_if = "Epoch::is_first")]
    pub epoch: Epoch,
    /// It was asked for, in that epoch, and did not come by itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub history: bool,
    /// What was heard, in order. Each is read on its own, so that one of a newer build stops none.
    pub items: Vec<Value>,
}

impl Told {
    /// What this account heard, in its first epoch.
    pub fn new(account: &str, items: &[Item]) -> Self {
        let plain = |item| serde_json::to_value(item).unwrap_or_default();
        Self {
            mtproto: VERSION,
            account: account.to_owned(),
            epoch: Epoch::FIRST,
            history: false,
            items: items.iter().map(plain).collect(),
        }
    }
}

/// One thing a session heard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Item {
    /// A message: new, or found in a history.
    Message(Message),
    /// A message that changed: its text, or only its reactions.
    Edited(Message),
    /// Messages that were withdrawn. Telegram does not say where, outside of channels; the session
    /// adds it where the hub knows them.
    Deleted {
        /// Where they were.
        chat: Option<Chat>,
        /// Which ones.
        ids: Vec<i64>,
    },
    /// The other side has read what we wrote.
    ReadByThem {
        /// Where.
        chat: Chat,
        /// Up to this message.
        max_id: i64,
        /// When that message was written, by the hub's record, in milliseconds since 1970.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until_ms: Option<i64>,
    },
    /// The owner has read on another device.
    ReadHere {
        /// Where.
        chat: Chat,
        /// Up to this message.
        max_id: i64,
        /// What is left unread there, by Telegram's count.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unread: Option<i32>,
    },
    /// The reactions on a message, all of them.
    Reactions {
        /// Where.
        chat: Chat,
        /// Which message.
        id: i64,
        /// Who reacted how; nobody any more when empty.
        reactions: Vec<Reaction>,
    },
    /// Somebody is typing.
    Typing {
        /// Where.
        chat: Chat,
        /// Who.
        from: Chat,
    },
    /// The conversation itself changed: members, title, a successor.
    Service {
        /// Where.
        chat: Chat,
        /// Its message.
        id: i64,
        /// When, in seconds since 1970.
        date: i64,
        /// Telegram's name of the change.
        what: String,
        /// What it says.
        #[serde(default, skip_serializing_if = "Map::is_empty")]
        detail: Map<String, Value>,
    },
    /// Telegram has something to say about the account.
    Notice {
        /// What it is about.
        what: String,
    },
    /// Known and of no interest to a message hub.
    Ignored {
        /// Telegram's name of it.
        what: String,
    },
    /// Not known to the session.
    Unknown {
        /// Telegram's name of it.
        what: String,
    },
}

/// What kind of peer a number belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChatKind {
    /// A person, or a bot.
    User,
    /// A basic group.
    Chat,
    /// A supergroup or a channel.
    Channel,
}

/// Somebody or something that messages come from or go to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chat {
    /// What it is.
    pub kind: ChatKind,
    /// Its number, positive.
    pub id: i64,
    /// Its name, when the session knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Chat {
    /// A chat without a name.
    pub fn new(kind: ChatKind, id: i64) -> Self {
        Self {
            kind,
            id,
            name: None,
        }
    }

    /// The platform's id of the thread as clients see it: decimal, groups negative, channels far
    /// below.
    pub fn thread(&self) -> String {
        match self.kind {
            ChatKind::User => self.id,
            ChatKind::Chat => self.id.saturating_neg(),
            ChatKind::Channel => CHANNELS.saturating_add(self.id).saturating_neg(),
        }
        .to_string()
    }

    /// The chat of a thread.
    pub fn of_thread(thread: &str) -> Option<Self> {
        let number: i64 = thread.parse().ok()?;
        match number {
            1.. => Some(Self::new(ChatKind::User, number)),
            0 => None,
            _ if number < -CHANNELS => {
                let id = number.checked_neg()? - CHANNELS;
                Some(Self::new(ChatKind::Channel, id))
            }
            _ => Some(Self::new(ChatKind::Chat, -number)),
        }
    }

    /// The key of the conversation, with its kind in front.
    pub fn key(&self) -> String {
        let kind = match self.kind {
            ChatKind::User => "user",
            ChatKind::Chat => "chat",
            ChatKind::Channel => "channel",
        };
        format!("{kind}:{}", self.id)
    }
}

/// A message as a session sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Where it is.
    pub chat: Chat,
    /// Its number.
    pub id: i64,
    /// Whether the account's person wrote it.
    pub out: bool,
    /// Who wrote it, where that is not clear from the chat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Chat>,
    /// When, in seconds since 1970.
    pub date: i64,
    /// The text or caption.
    pub text: String,
    /// What it carries besides text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media: Option<Attached>,
    /// The message it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<i64>,
    /// When it was changed, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edit_date: Option<i64>,
    /// The change is not one of the text (Telegram hides that it was edited).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub edit_hidden: bool,
    /// Who reacted how.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reactions: Vec<Reaction>,
    /// The owner has read it already, by Telegram's count. Only of messages from a history.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_read: bool,
    /// Everything else worth keeping, by name.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub detail: Map<String, Value>,
}

/// What a message carries besides text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// What it is.
    pub kind: ContentKind,
    /// Telegram's id of the file, when it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its type as stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime: Option<String>,
    /// Its name as stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its size in bytes as stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Its playing time in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_s: Option<u64>,
    /// It is meant to be seen once, or for a while, by its person alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fades: bool,
}

/// Somebody's reaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reaction {
    /// Who.
    pub from: Chat,
    /// How.
    pub emoji: String,
    /// When, in seconds since 1970.
    pub date: i64,
}

/// Whether a stored credential is a user's session and no bot's token: our own form, or a session
/// string of an earlier installation (contract 6.8).
pub fn is_session(credential: &str) -> bool {
    if credential.starts_with('{') {
        return serde_json::from_str::<Value>(credential)
            .is_ok_and(|value| value["mtproto"].is_u64());
    }
    credential.starts_with('1') && credential.len() > 340 && !credential.contains(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_names_its_chat_and_back() {
        for (chat, thread) in [
            (Chat::new(ChatKind::User, 5_501_000_001), "5501000001"),
            (Chat::new(ChatKind::Chat, 5_310_022_001), "-5310022001"),
            (
                Chat::new(ChatKind::Channel, 2_210_033_001),
                "-1002210033001",
            ),
        ] {
            assert_eq!(chat.thread(), thread);
            assert_eq!(Chat::of_thread(thread), Some(chat));
        }
        for odd in ["", "0", "x", "-9223372036854775808", "99999999999999999999"] {
            assert_eq!(Chat::of_thread(odd), None, "{odd}");
        }
    }

    #[test]
    fn credentials_say_what_they_are() {
        assert!(is_session(r#"{"mtproto":1,"home_dc":2}"#));
        assert!(is_session(&format!("1{}", "A".repeat(352))));
        for no_session in ["", "7100000001:AAHub", "{}", "{", "12345"] {
            assert!(!is_session(no_session), "{no_session}");
        }
    }
}
