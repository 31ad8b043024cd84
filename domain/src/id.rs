//! Names of things, and how they follow from natural keys.
//!
//! Ids that have a natural key are UUIDv5 of it, so two writers that meet the same thing at the
//! same time agree on its name without asking anybody (two first messages of a new contact race on
//! one stream, not on two conversations). Ids without one are UUIDv7 made by the caller.
//! Platform ids are opaque strings: several exceed 2^53.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use uuid::Uuid;

use crate::platform::Platform;

/// The namespace of every derived id. Changing it would rename everything: never change it.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f1d_9c0e_52c4_5b7a_9a35_0d7c_6e2b_41f8);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }
    };
}

id!(
    /// A person who uses the hub.
    UserId
);
id!(
    /// A platform account that a hub user has connected.
    AccountId
);
id!(
    /// A conversation of a connected account with somebody on the platform.
    ConversationId
);
id!(
    /// A message in a conversation.
    MessageId
);
id!(
    /// A file of a person in the object store.
    ObjectId
);
id!(
    /// A stream of the event log.
    StreamId
);
id!(
    /// A raw input waiting to be decided on.
    CommandId
);
id!(
    /// A family of refresh tokens: everything that descends from one login.
    SessionId
);

fn derive(parts: &[&[u8]]) -> Uuid {
    let mut name = Vec::new();
    for part in parts {
        // Length-prefixed, so that ("ab","c") and ("a","bc") are different names.
        name.extend_from_slice(&(part.len() as u32).to_be_bytes());
        name.extend_from_slice(part);
    }
    Uuid::new_v5(&NAMESPACE, &name)
}

/// The stream that makes an e-mail address unique. `email` must be normalised (lower case).
pub fn login_stream(email: &str) -> StreamId {
    StreamId(derive(&[b"login", email.as_bytes()]))
}

/// The account a user has on a platform. Reconnecting the same platform user gives the same id.
pub fn account_id(user: UserId, platform: Platform, platform_user_id: &str) -> AccountId {
    AccountId(derive(&[
        b"account",
        user.0.as_bytes(),
        platform.name().as_bytes(),
        platform_user_id.as_bytes(),
    ]))
}

/// The conversation of an account, named by the platform's own id of the thread.
pub fn conversation_id(account: AccountId, thread: &str) -> ConversationId {
    ConversationId(derive(&[
        b"conversation",
        account.0.as_bytes(),
        thread.as_bytes(),
    ]))
}

/// A message that was first seen on the platform, named by the platform's own id of it.
pub fn message_id(conversation: ConversationId, platform_message_id: &str) -> MessageId {
    MessageId(derive(&[
        b"message",
        conversation.0.as_bytes(),
        platform_message_id.as_bytes(),
    ]))
}

/// What makes a message happen once in a conversation, however it became known: told by the platform
/// again, fetched, or taken over from an earlier installation.
pub fn message_key(conversation: ConversationId, platform_message_id: &str) -> Key {
    Key::of(&[
        b"message",
        conversation.0.as_bytes(),
        platform_message_id.as_bytes(),
    ])
}

/// What counts of an account's history: 0 all of it, otherwise what was told after this position of
/// its owner's shard, where everything before was forgotten ([`crate::event::AccountForgotten`]).
///
/// A message happens once in each epoch, under another id: what was forgotten may be told again and
/// is a message like any other, and whatever still comes about the forgotten one finds nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub i64);

impl Epoch {
    /// Nothing was ever forgotten.
    pub const FIRST: Self = Self(0);

    /// Whether nothing was ever forgotten.
    pub fn is_first(&self) -> bool {
        *self == Self::FIRST
    }

    /// [`message_id`] of a message that is told in this epoch.
    pub fn message_id(self, conversation: ConversationId, platform_message_id: &str) -> MessageId {
        if self.is_first() {
            return message_id(conversation, platform_message_id);
        }
        MessageId(derive(&[
            b"message",
            conversation.0.as_bytes(),
            platform_message_id.as_bytes(),
            &self.0.to_be_bytes(),
        ]))
    }

    /// The key of the same thing in this epoch.
    pub fn key(self, key: Key) -> Key {
        if self.is_first() {
            return key;
        }
        Key::of(&[b"epoch", &key.0, &self.0.to_be_bytes()])
    }
}

/// The file that holds one of a message's media: the same however often it is fetched.
pub fn object_id(message: MessageId, index: u16) -> ObjectId {
    ObjectId(derive(&[
        b"object",
        message.0.as_bytes(),
        &index.to_be_bytes(),
    ]))
}

/// The file of an upload that may come twice: the same however often it does.
pub fn upload_id(user: UserId, key: &str) -> ObjectId {
    ObjectId(derive(&[b"upload", user.0.as_bytes(), key.as_bytes()]))
}

/// An upload is in the log once.
pub fn uploaded_key(object: ObjectId) -> Key {
    Key::of(&[b"uploaded", object.0.as_bytes()])
}

/// An upload goes with one message: whoever appends under this key has it.
pub fn attached_key(object: ObjectId) -> Key {
    Key::of(&[b"attached", object.0.as_bytes()])
}

impl From<ObjectId> for StreamId {
    fn from(id: ObjectId) -> Self {
        StreamId(id.0)
    }
}

impl From<AccountId> for StreamId {
    fn from(id: AccountId) -> Self {
        StreamId(id.0)
    }
}

impl From<ConversationId> for StreamId {
    fn from(id: ConversationId) -> Self {
        StreamId(id.0)
    }
}

impl From<SessionId> for StreamId {
    fn from(id: SessionId) -> Self {
        StreamId(id.0)
    }
}

impl From<UserId> for StreamId {
    fn from(id: UserId) -> Self {
        StreamId(id.0)
    }
}

/// The number of a shard: an independent, totally ordered part of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shard(pub i16);

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many shards a database was created with, and where things fall.
///
/// The placement is a pure function of the count, so every process agrees on it; the count is
/// stored in the database at its creation and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sharding {
    /// Number of shards, at least 1.
    pub count: i16,
}

impl Sharding {
    /// Everything a hub user owns lives in one shard.
    pub fn of_user(self, user: UserId) -> Shard {
        self.of(&[b"user", user.0.as_bytes()])
    }

    /// Where a login (an e-mail's uniqueness check and its credentials) lives.
    pub fn of_login(self, stream: StreamId) -> Shard {
        self.of(&[b"login", stream.0.as_bytes()])
    }

    /// Where raw input of a platform account and the directory of its owners live.
    pub fn of_route(self, platform: Platform, route: &str) -> Shard {
        self.of(&[b"route", platform.name().as_bytes(), route.as_bytes()])
    }

    /// Where something without an owner lives, by any stable name.
    pub fn of_name(self, name: &str) -> Shard {
        self.of(&[b"name", name.as_bytes()])
    }

    fn of(self, parts: &[&[u8]]) -> Shard {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u32).to_be_bytes());
            hash.update(part);
        }
        let digest = hash.finalize();
        let mut first = [0u8; 8];
        first.copy_from_slice(&digest[..8]);
        let index = u64::from_be_bytes(first) % u64::from(self.count.unsigned_abs().max(1));
        Shard(i16::try_from(index).unwrap_or(0))
    }
}

/// A 16-byte digest of an idempotency key or of a platform's own id, unique within a shard.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub [u8; 16]);

impl Key {
    /// The key of a thing named by these parts. The first part says what kind of thing it is.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u32).to_be_bytes());
            hash.update(part);
        }
        let mut key = [0u8; 16];
        key.copy_from_slice(&hash.finalize()[..16]);
        Self(key)
    }
}

impl Serialize for Key {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut key = [0u8; 16];
        hex::decode_to_slice(text, &mut key).map_err(serde::de::Error::custom)?;
        Ok(Self(key))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// The id of an event or a command: its place in the log, written `3-1042`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The shard.
    pub shard: Shard,
    /// The position in the shard: 1, 2, 3, … without gaps.
    pub position: i64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.shard, self.position)
    }
}

impl std::str::FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (shard, position) = text.split_once('-').ok_or(())?;
        Ok(Self {
            shard: Shard(shard.parse().map_err(|_| ())?),
            position: position.parse().map_err(|_| ())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_not_concatenated() {
        assert_ne!(derive(&[b"ab", b"c"]), derive(&[b"a", b"bc"]));
        assert_ne!(Key::of(&[b"ab", b"c"]), Key::of(&[b"a", b"bc"]));
    }

    #[test]
    fn a_thing_has_one_name_in_each_epoch() {
        let conversation = ConversationId(Uuid::from_u128(7));
        let key = message_key(conversation, "m");
        assert_eq!(Epoch::FIRST.key(key), key);
        assert_eq!(
            Epoch::FIRST.message_id(conversation, "m"),
            message_id(conversation, "m")
        );
        let (one, other) = (Epoch(1), Epoch(2));
        assert_eq!(one.key(key), Epoch(1).key(key));
        assert!(key != one.key(key) && one.key(key) != other.key(key));
        let ids = [Epoch::FIRST, one, other].map(|it| it.message_id(conversation, "m"));
        assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
    }

    #[test]
    fn placement_is_stable_and_inside_the_count() {
        let sharding = Sharding { count: 16 };
        let user = UserId(Uuid::from_u128(7));
        assert_eq!(sharding.of_user(user), sharding.of_user(user));
        for n in 0..1000u128 {
            let shard = sharding.of_user(UserId(Uuid::from_u128(n)));
            assert!((0..16).contains(&shard.0));
        }
    }

    #[test]
    fn a_place_reads_back() {
        let place: Place = "3-1042".parse().unwrap();
        assert_eq!(place.to_string(), "3-1042");
        assert!("3".parse::<Place>().is_err());
    }
}
