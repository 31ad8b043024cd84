//! A history of random things that happen to a person, with every question and its answer.

use std::collections::BTreeSet;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use hub_domain::event::{
    AccountConnected, AccountDisconnected, AccountNeedsReconnect, ContactNamed, Event,
    FailureClass, MessageDeleted, MessageEdited, MessageObserved, MessageQueued, MessageReceived,
    MessageSent, MessageType, PlatformMessage, ReactionChanged, Receipt, ReceiptReceived,
    SendAttempted, SendDelayed, SendFailed, SendUncertain, Thread,
};
use hub_domain::id::{AccountId, ConversationId, MessageId, StreamId, UserId, message_id};
use hub_domain::platform::Platform;
use hub_store::places;
use uuid::Uuid;

use crate::hub::{Hub, Person};

/// What is asked of the list, and of every thread.
const LISTS: [&str; 4] = [
    "limit=100",
    "limit=2",
    "limit=2&offset=1",
    "platform=telegram",
];
const THREADS: [&str; 3] = ["limit=100", "limit=2", "limit=2&offset=2"];

/// splitmix64 from a printed seed; `HUB_TEST_SEED` repeats a run.
pub struct Random(u64);

impl Random {
    pub fn from_env() -> Self {
        let seed = std::env::var("HUB_TEST_SEED").ok();
        let seed = seed.and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or_else(|| Uuid::new_v4().as_u64_pair().0);
        eprintln!("HUB_TEST_SEED={seed}");
        Self(seed)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// A person with conversations on two platforms, to whom things happen.
pub struct History<'a> {
    pub hub: &'a Hub,
    pub ann: &'a Person,
    pub random: Random,
    pub accounts: Vec<(AccountId, Platform)>,
    pub threads: Vec<Thread>,
    pub sends: Vec<(ConversationId, MessageId)>,
    pub born: BTreeSet<ConversationId>,
}

impl History<'_> {
    fn moment(&mut self) -> DateTime<Utc> {
        // Few different ones, finer than the database keeps: ties and rounding must not matter.
        Utc::now() + TimeDelta::nanoseconds(self.random.below(3) as i64 * 300)
    }

    /// One of few ids, so that things meet, in any order.
    fn platform_id(&mut self) -> String {
        format!("m_{}", self.random.below(6))
    }

    fn message(&mut self, at: &Thread, id: String) -> PlatformMessage {
        PlatformMessage {
            at: at.clone(),
            message: message_id(at.conversation, &id),
            platform_message_id: id,
            sender_id: "PSID9".to_owned(),
            sender_name: (self.random.below(3) > 1).then(|| self.ann.key.seal("Bob")),
            thread_name: None,
            message_type: MessageType::Text,
            text: self
                .ann
                .key
                .seal(&format!("text {}", self.random.below(99))),
            media: None,
            detail: None,
            sent_at: self.moment(),
        }
    }

    fn about_message(&mut self, at: &Thread) -> Event {
        let (user, conversation) = (at.user, at.conversation);
        let platform_message_id = self.platform_id();
        let now = self.moment();
        match self.random.below(5) {
            0 => MessageEdited {
                user,
                conversation,
                platform_message_id,
                text: self.ann.key.seal("edited"),
                edited_at: now,
            }
            .into(),
            1 => MessageDeleted {
                user,
                conversation,
                platform_message_id,
                deleted_at: now,
            }
            .into(),
            2 => ReactionChanged {
                user,
                conversation,
                platform_message_id,
                sender_id: "PSID9".to_owned(),
                emoji: Some("👍".to_owned()),
                added: self.random.below(3) > 0,
                at: now,
            }
            .into(),
            kind => ReceiptReceived {
                user,
                conversation,
                receipt: *self.random.pick(&[Receipt::Delivered, Receipt::Read]),
                watermark: (kind == 3).then_some(now),
                platform_message_ids: vec![platform_message_id],
                at: now,
            }
            .into(),
        }
    }

    fn about_send(&mut self, user: UserId) -> Option<(ConversationId, Event)> {
        if self.sends.is_empty() {
            return None;
        }
        let (conversation, message) = *self.random.pick(&self.sends);
        let attempt = self.random.below(3) as u32 + 1;
        let (now, reason) = (self.moment(), "the platform said so".to_owned());
        let class = FailureClass::Temporary;
        let event = match self.random.below(5) {
            0 => SendAttempted {
                user,
                conversation,
                message,
                attempt,
            }
            .into(),
            1 => SendDelayed {
                user,
                conversation,
                message,
                attempt,
                class,
                reason,
                retry_at: now,
            }
            .into(),
            2 => SendFailed {
                user,
                conversation,
                message,
                class,
                reason,
            }
            .into(),
            3 => SendUncertain {
                user,
                conversation,
                message,
                attempt,
                reason,
                settle_by: now,
            }
            .into(),
            _ => MessageSent {
                user,
                conversation,
                message,
                // An id that an echo or a receipt may already have told about.
                platform_message_id: format!("m_{}", self.random.below(9)),
                sent_at: now,
            }
            .into(),
        };
        Some((conversation, event))
    }

    fn about_account(&mut self) -> (AccountId, Event) {
        let user = self.ann.user;
        let (account, platform) = *self.random.pick(&self.accounts);
        let event = match self.random.below(4) {
            0 => AccountDisconnected { user, account }.into(),
            1 => AccountNeedsReconnect {
                user,
                account,
                reason: "expired".to_owned(),
            }
            .into(),
            _ => AccountConnected {
                user,
                account,
                platform,
                platform_user_id: "page".to_owned(),
                username: self.ann.key.seal(&format!("Page {}", self.random.below(9))),
                route: "page".to_owned(),
            }
            .into(),
        };
        (account, event)
    }

    /// Something happens.
    pub async fn step(&mut self) {
        let user = self.ann.user;
        let at = self.random.pick(&self.threads).clone();
        let id = self.platform_id();
        let (stream, event): (StreamId, Event) = match self.random.below(20) {
            0..=5 => {
                self.born.insert(at.conversation);
                let message = self.message(&at, id);
                (at.conversation.into(), MessageReceived(message).into())
            }
            6 => {
                self.born.insert(at.conversation);
                let message = self.message(&at, id);
                (at.conversation.into(), MessageObserved(message).into())
            }
            7..=10 => (at.conversation.into(), self.about_message(&at)),
            11 | 12 => {
                let message = MessageId(Uuid::new_v4());
                self.sends.push((at.conversation, message));
                self.born.insert(at.conversation);
                let queued = MessageQueued {
                    at: at.clone(),
                    message,
                    message_type: MessageType::Text,
                    text: self.ann.key.seal("ours"),
                    attached: None,
                };
                (at.conversation.into(), queued.into())
            }
            13..=15 => match self.about_send(user) {
                Some((conversation, event)) => (conversation.into(), event),
                None => return,
            },
            16 => {
                let message = message_id(at.conversation, &id);
                let path = format!("/api/messages/{message}/read");
                self.hub.by(self.ann, "PATCH", &path, None).await;
                return;
            }
            17 => {
                let path = format!("/api/messages/conversation/{}/read", at.conversation);
                self.hub.by(self.ann, "PATCH", &path, None).await;
                return;
            }
            18 => {
                let named = ContactNamed {
                    user,
                    conversation: at.conversation,
                    name: self.ann.key.seal("Robert"),
                };
                (at.conversation.into(), named.into())
            }
            _ => {
                let (account, event) = self.about_account();
                (account.into(), event)
            }
        };
        self.hub.happen(user, stream, event).await;
        if self.random.below(6) == 0 {
            self.index().await;
        }
    }

    pub async fn index(&self) {
        let shard = self.hub.store().sharding().of_user(self.ann.user);
        places::step(self.hub.store().pool(), shard).await.unwrap();
    }

    /// Asks for a moment what was asked then. Returns how many answers there were to compare.
    pub async fn check(&self, record: &Record) -> usize {
        let mut answered = 0;
        let then = self.ask(Some(record.time)).await;
        for ((path, status, text), (_, was, said)) in then.into_iter().zip(&record.answers) {
            let is_unborn = self.threads.iter().any(|thread| {
                path.contains(&thread.conversation.to_string())
                    && self.born.contains(&thread.conversation)
                    && !record.born.contains(&thread.conversation)
            });
            let context = format!("{path} as of step {}", record.step);
            if is_unborn {
                // Live it was nobody's; now it is known to be the caller's, but not then.
                assert_eq!((status, *was), (404, 403), "{context}: {text}");
                continue;
            }
            assert_eq!((status, text.as_str()), (*was, said.as_str()), "{context}");
            answered += usize::from(status == 200);
        }
        answered
    }

    /// Every question with its answer, now or as of a moment.
    pub async fn ask(&self, as_of: Option<DateTime<Utc>>) -> Vec<(String, u16, String)> {
        let lists = LISTS.map(|query| format!("/api/conversations?{query}"));
        let threads = self.threads.iter().flat_map(|thread| {
            THREADS.map(|query| format!("/api/messages/{}?{query}", thread.conversation))
        });
        let mut answers = Vec::new();
        let unread = ["/api/messages/unread/count?".to_owned()];
        for path in lists.into_iter().chain(unread).chain(threads) {
            let then = as_of.map(|at| at.to_rfc3339_opts(SecondsFormat::Micros, true));
            let then = then.map_or(String::new(), |at| format!("&asOf={at}"));
            let answer = self.hub.get(self.ann, &format!("{path}{then}")).await;
            answers.push((path, answer.status, answer.text));
        }
        answers
    }
}

/// What was answered, and when it was true.
pub struct Record {
    pub step: usize,
    pub time: DateTime<Utc>,
    pub born: BTreeSet<ConversationId>,
    pub answers: Vec<(String, u16, String)>,
}
