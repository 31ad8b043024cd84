//! A history like that of a busy inbox, the same every time.
//!
//! Of 100 events about 60 are incoming messages, 20 are sends in three steps, 8 are receipts, 5 are
//! read marks, and the rest are edits, reactions, deletions and refreshed logins. Texts are sealed
//! as real ones are.

use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt as _, TryStreamExt as _};
use hub_domain::envelope::Append;
use hub_domain::event::{
    AccountConnected, ConversationRead, Event, MessageDeleted, MessageEdited, MessageQueued,
    MessageReceived, MessageSent, MessageType, PlatformMessage, ReactionChanged, Receipt,
    ReceiptReceived, SendAttempted, SessionRefreshed, Thread,
};
use hub_domain::id::{
    AccountId, ConversationId, Key, MessageId, SessionId, Shard, UserId, account_id,
    conversation_id, message_id,
};
use hub_domain::platform::Platform;
use hub_store::Store;
use hub_store::vault::DataKey;
use uuid::Uuid;

/// Appends in flight while a history is written.
const AT_ONCE: usize = 2_000;

/// What people write.
const TEXTS: [&str; 5] = [
    "Hi, is the blue teapot still in stock?",
    "Yes.",
    "Grüße aus Köln ☕ — could you tell me when my order 4711 will arrive? It was sent on Monday.",
    "Thank you very much, that was quick! I will come by on Saturday morning and pick it up myself.",
    "ok",
];

/// Numbers that look random and are the same every time (SplitMix64).
pub struct Dice(u64);

impl Dice {
    /// A sequence of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// A person of the history.
pub struct Person {
    /// The user.
    pub user: UserId,
    /// Where everything of theirs is.
    pub shard: Shard,
    /// The connected account.
    pub account: AccountId,
    /// The platform's id of the account.
    pub page: String,
    /// Their key.
    key: DataKey,
}

impl Person {
    /// A user with one connected account, both of that number.
    pub async fn new(store: &Store, number: u64) -> Result<Self> {
        let user = UserId(Uuid::from_u128(
            0x6d65_7373_6167_6500 << 64 | u128::from(number),
        ));
        let page = format!("1048576{number:08}");
        let person = Self {
            user,
            shard: store.sharding().of_user(user),
            account: account_id(user, Platform::Facebook, &page),
            page: page.clone(),
            key: store.vault().user(user).await?,
        };
        let connected = AccountConnected {
            user,
            account: person.account,
            platform: Platform::Facebook,
            platform_user_id: page.clone(),
            username: person.key.seal("Blue Teapots"),
            route: page,
        };
        store
            .append(Append::one(person.shard, person.account, connected))
            .await?;
        Ok(person)
    }

    /// The conversation of that number.
    pub fn conversation(&self, number: u64) -> ConversationId {
        conversation_id(self.account, &thread(number))
    }

    fn at(&self, number: u64) -> Thread {
        Thread {
            user: self.user,
            account: self.account,
            platform: Platform::Facebook,
            conversation: self.conversation(number),
            thread: thread(number),
        }
    }

    /// A message that came in.
    pub fn received(&self, number: u64, nth: u64, text: &str) -> MessageReceived {
        let platform_message_id = mid(number, nth);
        MessageReceived(PlatformMessage {
            at: self.at(number),
            message: message_id(self.conversation(number), &platform_message_id),
            platform_message_id,
            sender_id: thread(number),
            sender_name: Some(self.key.seal("Erika Mustermann")),
            thread_name: None,
            message_type: MessageType::Text,
            text: self.key.seal(text),
            media: None,
            detail: None,
            sent_at: time(number, nth),
        })
    }

    /// Its append, as the translator makes it: once for each message of the platform.
    pub fn arrival(&self, number: u64, nth: u64, text: &str) -> Append {
        let received = self.received(number, nth, text);
        let key = Key::of(&[b"bench", received.0.message.0.as_bytes()]);
        Append::one(self.shard, received.0.at.conversation, received).once(key)
    }
}

fn thread(number: u64) -> String {
    format!("7214365{number:09}")
}

fn mid(number: u64, nth: u64) -> String {
    format!("m_Zk3fQ0-pVhb7TnR2uYq8s1Lw5Xc9EoKd4Gj{number:08}.{nth:06}")
}

fn time(number: u64, nth: u64) -> DateTime<Utc> {
    let minutes = i64::try_from(number % 1_000 + nth * 7).unwrap_or(0);
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::minutes(minutes)
}

/// What happens next in a conversation: one stream, one to three events.
struct Scene {
    nth: u64,
}

impl Scene {
    fn next(&mut self, person: &Person, number: u64, dice: &mut Dice) -> Append {
        let nth = self.nth;
        let user = person.user;
        let conversation = person.conversation(number);
        let text = TEXTS[dice.below(5) as usize];
        let known = mid(number, dice.below(nth.max(1)));
        let at = time(number, nth);
        let event: Event = match dice.below(1_000) {
            0..720 => {
                self.nth += 1;
                return person.arrival(number, nth, text);
            }
            720..800 => {
                self.nth += 1;
                return send(person, number, nth, text);
            }
            800..895 => ReceiptReceived {
                user,
                conversation,
                receipt: Receipt::Read,
                watermark: Some(at),
                platform_message_ids: Vec::new(),
                at,
            }
            .into(),
            895..955 => ConversationRead { user, conversation }.into(),
            955..970 => ReactionChanged {
                user,
                conversation,
                platform_message_id: known,
                sender_id: thread(number),
                emoji: Some("👍".to_owned()),
                added: true,
                at,
            }
            .into(),
            970..985 => MessageEdited {
                user,
                conversation,
                platform_message_id: known,
                text: person.key.seal(text),
                edited_at: at,
            }
            .into(),
            985..990 => MessageDeleted {
                user,
                conversation,
                platform_message_id: known,
                deleted_at: at,
            }
            .into(),
            _ => SessionRefreshed {
                user,
                session: SessionId(user.0),
            }
            .into(),
        };
        Append::one(person.shard, conversation, event)
    }
}

fn send(person: &Person, number: u64, nth: u64, text: &str) -> Append {
    let conversation = person.conversation(number);
    let user = person.user;
    let platform_message_id = mid(number, nth);
    let message = MessageId(message_id(conversation, &format!("own {nth}")).0);
    let queued = MessageQueued {
        at: person.at(number),
        message,
        message_type: MessageType::Text,
        text: person.key.seal(text),
        attached: None,
    };
    let attempted = SendAttempted {
        user,
        conversation,
        message,
        attempt: 1,
    };
    let sent = MessageSent {
        user,
        conversation,
        message,
        platform_message_id,
        sent_at: time(number, nth),
    };
    Append {
        events: vec![queued.into(), attempted.into(), sent.into()],
        ..Append::one(
            person.shard,
            conversation,
            ConversationRead { user, conversation },
        )
    }
}

/// Writes a history of about `events` events in conversations of about `length` events each, of
/// `people` users. Returns how many there are.
pub async fn write(store: &Store, events: u64, people: u64, length: u64) -> Result<u64> {
    let mut persons = Vec::new();
    for number in 0..people {
        persons.push(Person::new(store, number).await?);
    }
    let conversations = (events / length).max(1);
    let mut scenes: Vec<Scene> = (0..conversations).map(|_| Scene { nth: 0 }).collect();
    let mut dice = Dice::new(1);
    let mut written = people;
    let appends = std::iter::from_fn(|| {
        if written >= events {
            return None;
        }
        let number = dice.below(conversations);
        let person = &persons[(number % people) as usize];
        let append = scenes[number as usize].next(person, number, &mut dice);
        written += append.events.len() as u64;
        Some(append)
    });
    futures::stream::iter(appends)
        .map(|append| store.append(append))
        .buffer_unordered(AT_ONCE)
        .try_for_each(|_| async { Ok(()) })
        .await?;
    Ok(written)
}
