//! Values the tests write: small, distinguishable, without meaning of their own.

use chrono::{DateTime, Utc};
use hub_domain::envelope::Append;
use hub_domain::event::{
    ConversationNoted, Event, MessageReceived, MessageType, PlatformMessage, Sealed, Thread,
};
use hub_domain::id::{
    AccountId, ConversationId, Key, Shard, StreamId, UserId, account_id, conversation_id,
    message_id,
};
use hub_domain::platform::Platform;
use uuid::Uuid;

/// A moment, seconds after the beginning of the tests' time.
pub fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_750_000_000 + seconds, 0).unwrap()
}

pub fn user(n: u128) -> UserId {
    UserId(Uuid::from_u128(n))
}

pub fn stream(n: u128) -> StreamId {
    StreamId(Uuid::from_u128(n))
}

pub fn key(name: &str) -> Key {
    Key::of(&[b"test", name.as_bytes()])
}

/// An event that can be told from every other by its tag.
pub fn tagged(tag: &str) -> Event {
    ConversationNoted {
        user: user(1),
        conversation: ConversationId(Uuid::nil()),
        fact: tag.to_owned(),
        detail: Sealed(String::new()),
    }
    .into()
}

/// The tag of such an event.
pub fn tag(event: &Event) -> &str {
    match event {
        Event::ConversationNoted(it) => &it.fact,
        other => panic!("not a tagged event: {other:?}"),
    }
}

/// One tagged event for a stream.
pub fn note(shard: i16, n: u128, tag: &str) -> Append {
    Append::one(Shard(shard), stream(n), tagged(tag))
}

/// A conversation of a user on a platform, with events in it.
#[derive(Clone, Debug)]
pub struct Chat {
    pub at: Thread,
}

impl Chat {
    pub fn new(user: UserId, thread: &str) -> Self {
        let account: AccountId = account_id(user, Platform::Telegram, "7100");
        Self {
            at: Thread {
                user,
                account,
                platform: Platform::Telegram,
                conversation: conversation_id(account, thread),
                thread: thread.to_owned(),
            },
        }
    }

    /// A message from the other side; its text is its platform id.
    pub fn message(&self, platform_id: &str, seconds: i64) -> PlatformMessage {
        PlatformMessage {
            at: self.at.clone(),
            message: message_id(self.at.conversation, platform_id),
            platform_message_id: platform_id.to_owned(),
            sender_id: format!("person-{}", self.at.thread),
            sender_name: Some(Sealed(format!("name at {seconds}"))),
            thread_name: None,
            message_type: MessageType::Text,
            text: Sealed(format!("text of {platform_id}")),
            media: None,
            detail: None,
            sent_at: at(seconds),
        }
    }

    pub fn received(&self, platform_id: &str, seconds: i64) -> Event {
        MessageReceived(self.message(platform_id, seconds)).into()
    }

    /// An append to the conversation's stream.
    pub fn append(&self, shard: Shard, event: impl Into<Event>) -> Append {
        Append::one(shard, self.at.conversation, event)
    }
}
