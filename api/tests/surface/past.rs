//! The inbox as of a past moment is, byte for byte, what the live answer was then.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::http::StatusCode;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use hub_domain::event::{
    AccountConnected, AccountDisconnected, AccountNeedsReconnect, ContactNamed, Event,
    FailureClass, MessageDeleted, MessageEdited, MessageObserved, MessageQueued, MessageReceived,
    MessageSent, MessageType, PlatformMessage, ReactionChanged, Receipt, ReceiptReceived,
    SendAttempted, SendDelayed, SendFailed, SendUncertain, Thread,
};
use hub_domain::id::{AccountId, ConversationId, MessageId, StreamId, message_id};
use hub_domain::limits::AS_OF_EVENTS_MAX;
use hub_domain::platform::Platform;
use hub_store::places;
use serde_json::json;
use uuid::Uuid;

use crate::hub::{Hub, Person};

const STEPS: usize = 40;

/// What is asked of the list, and of every thread.
const LISTS: [&str; 4] = [
    "limit=100",
    "limit=2",
    "limit=2&offset=1",
    "platform=telegram",
];
const THREADS: [&str; 3] = ["limit=100", "limit=2", "limit=2&offset=2"];

/// splitmix64 from a printed seed; `HUB_TEST_SEED` repeats a run.
struct Random(u64);

impl Random {
    fn from_env() -> Self {
        let seed = std::env::var("HUB_TEST_SEED").ok();
        let seed = seed.and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or_else(|| Uuid::new_v4().as_u64_pair().0);
        eprintln!("HUB_TEST_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, bound: usize) -> usize {
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
struct History<'a> {
    hub: &'a Hub,
    ann: &'a Person,
    random: Random,
    accounts: Vec<(AccountId, Platform)>,
    threads: Vec<Thread>,
    sends: Vec<(ConversationId, MessageId)>,
    born: BTreeSet<ConversationId>,
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

    fn about_send(&mut self, user: hub_domain::id::UserId) -> Option<(ConversationId, Event)> {
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
    async fn step(&mut self) {
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

    async fn index(&self) {
        let shard = self.hub.store().sharding().of_user(self.ann.user);
        places::step(self.hub.store().pool(), shard).await.unwrap();
    }

    /// Asks for a moment what was asked then. Returns how many answers there were to compare.
    async fn check(&self, record: &Record) -> usize {
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
    async fn ask(&self, as_of: Option<DateTime<Utc>>) -> Vec<(String, u16, String)> {
        let lists = LISTS.map(|query| format!("/api/conversations?{query}"));
        let threads = self.threads.iter().flat_map(|thread| {
            THREADS.map(|query| format!("/api/messages/{}?{query}", thread.conversation))
        });
        let mut answers = Vec::new();
        for path in lists.into_iter().chain(threads) {
            let then = as_of.map(|at| at.to_rfc3339_opts(SecondsFormat::Micros, true));
            let then = then.map_or(String::new(), |at| format!("&asOf={at}"));
            let answer = self.hub.get(self.ann, &format!("{path}{then}")).await;
            answers.push((path, answer.status, answer.text));
        }
        answers
    }
}

/// What was answered, and when it was true.
struct Record {
    step: usize,
    time: DateTime<Utc>,
    born: BTreeSet<ConversationId>,
    answers: Vec<(String, u16, String)>,
}

async fn clock(hub: &Hub) -> DateTime<Utc> {
    let clock = sqlx::query_scalar("SELECT clock_timestamp()");
    clock.fetch_one(hub.store().pool()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_then_is_answered_as_of_then() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let facebook = hub.account(&ann, Platform::Facebook, "page").await;
    let telegram = hub.account(&ann, Platform::Telegram, "bot").await;
    let threads = [
        ann.thread(facebook, Platform::Facebook, "t_1"),
        ann.thread(facebook, Platform::Facebook, "t_2"),
        ann.thread(facebook, Platform::Facebook, "t_3"),
        ann.thread(telegram, Platform::Telegram, "t_4"),
        ann.thread(telegram, Platform::Telegram, "t_5"),
    ];
    let mut history = History {
        hub: &hub,
        ann: &ann,
        random: Random::from_env(),
        accounts: vec![
            (facebook, Platform::Facebook),
            (telegram, Platform::Telegram),
        ],
        threads: threads.to_vec(),
        sends: Vec::new(),
        born: BTreeSet::new(),
    };
    let mut recorded = Vec::new();
    let mut answered = 0;
    for step in 0..STEPS {
        history.step().await;
        let answers = history.ask(None).await;
        recorded.push(Record {
            step,
            time: clock(&hub).await,
            born: history.born.clone(),
            answers,
        });
        // A moment ago: some rows have changed since and others have not.
        let ago = history.random.below(4);
        answered += history.check(&recorded[step.saturating_sub(ago)]).await;
    }
    history.index().await;
    for record in &recorded {
        answered += history.check(record).await;
    }
    assert!(answered > STEPS * 8, "{answered}");
    let future = Utc::now() + TimeDelta::days(3_000);
    assert_eq!(history.ask(Some(future)).await, history.ask(None).await);
}

#[tokio::test]
async fn before_the_beginning_there_is_nothing_and_strangers_find_nothing() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let eve = hub.person("eve").await;
    let account = hub.account(&ann, Platform::Facebook, "page").await;
    let thread = ann.thread(account, Platform::Facebook, "t_10");
    hub.receive(&ann, &thread, "m_1", "hello").await;
    let list = hub.get(&ann, "/api/conversations?asOf=2001-01-01").await;
    assert_eq!((list.status, &list.body["total"]), (200, &json!(0)));
    assert_eq!(list.body["conversations"], json!([]));
    let path = format!("/api/messages/{}", thread.conversation);
    let early = hub.get(&ann, &format!("{path}?asOf=2001-01-01")).await;
    assert_eq!(
        (early.status, early.code()),
        (404, "CONVERSATION_NOT_FOUND")
    );
    for when in ["2001-01-01", "2999-01-01T00:00:00Z"] {
        let foreign = hub.get(&eve, &format!("{path}?asOf={when}")).await;
        assert_eq!(foreign.text, hub.get(&eve, &path).await.text);
        assert_eq!((foreign.status, foreign.code()), (403, "FORBIDDEN"));
        let list = format!("/api/conversations?asOf={when}");
        assert_eq!(hub.get(&eve, &list).await.body["total"], 0);
    }
    for odd in ["", "yesterday", "1767225600", "2026-13-01"] {
        let list = format!("/api/conversations?asOf={odd}");
        let list = hub.get(&ann, &list).await.expect(StatusCode::BAD_REQUEST);
        assert_eq!(list.flat_code(), "VALIDATION_ERROR");
        let messages = hub.get(&ann, &format!("{path}?asOf={odd}")).await;
        assert_eq!(
            (messages.status, messages.code()),
            (400, "VALIDATION_ERROR")
        );
    }
}

#[tokio::test]
async fn a_past_that_is_too_long_is_refused_and_says_what_to_do() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let account = hub.account(&ann, Platform::Facebook, "page").await;
    let thread = ann.thread(account, Platform::Facebook, "t_10");
    hub.receive(&ann, &thread, "m_1", "hello").await;
    let time = clock(&hub)
        .await
        .to_rfc3339_opts(SecondsFormat::Micros, true);
    hub.receive(&ann, &thread, "m_2", "again").await;
    let shard = hub.store().sharding().of_user(ann.user);
    places::step(hub.store().pool(), shard).await.unwrap();
    // As if the conversation had had so many events before that moment.
    let many = "INSERT INTO places SELECT $1, $2, 1000 + n, 1 FROM generate_series(1, $3) n";
    let many = sqlx::query(many).bind(shard.0).bind(thread.conversation.0);
    let many = many.bind(AS_OF_EVENTS_MAX);
    many.execute(hub.store().pool()).await.unwrap();
    let path = format!("/api/messages/{}?asOf={time}", thread.conversation);
    let messages = hub.get(&ann, &path).await;
    assert_eq!((messages.status, messages.code()), (422, "PAST_TOO_LONG"));
    for part in ["200000", "hub replay inbox --until"] {
        assert!(messages.text.contains(part), "{}", messages.text);
    }
    let path = format!("/api/conversations?asOf={time}");
    let list = hub.get(&ann, &path).await;
    assert_eq!((list.status, list.flat_code()), (422, "PAST_TOO_LONG"));
    // What has not changed since is not folded, however long it is.
    let list = hub.get(&ann, "/api/conversations?asOf=2999-01-01").await;
    assert_eq!((list.status, &list.body["total"]), (200, &json!(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_pasts_are_worked_out_at_a_time_and_the_others_wait_with_an_end() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let account = hub.account(&ann, Platform::Facebook, "page").await;
    let thread = ann.thread(account, Platform::Facebook, "t_10");
    hub.receive(&ann, &thread, "m_1", "hello").await;
    let path = format!("/api/messages/{}?asOf=2999-01-01", thread.conversation);
    let mut slow = hub.store().pool().begin().await.unwrap();
    let lock = "LOCK TABLE places IN ACCESS EXCLUSIVE MODE";
    sqlx::query(lock).execute(&mut *slow).await.unwrap();
    let three = async {
        let one = || hub.get(&ann, &path);
        tokio::join!(one(), one(), one())
    };
    let release = async {
        tokio::time::sleep(Duration::from_secs(6)).await;
        slow.rollback().await.unwrap();
    };
    let ((a, b, c), ()) = tokio::join!(three, release);
    let mut statuses = [a.status, b.status, c.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 503]);
    let refused = [a, b, c].into_iter().find(|it| it.status == 503).unwrap();
    assert_eq!(refused.code(), "FETCH_FAILED");
    assert_eq!(refused.body["error"]["retryable"], true);
    assert!(!refused.header("retry-after").is_empty());
    assert_eq!(hub.get(&ann, &path).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_model_that_stays_behind_is_not_taken_for_the_past() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let account = hub.account(&ann, Platform::Facebook, "page").await;
    let thread = ann.thread(account, Platform::Facebook, "t_10");
    hub.receive(&ann, &thread, "m_1", "hello").await;
    let before = clock(&hub)
        .await
        .to_rfc3339_opts(SecondsFormat::Micros, true);
    hub.stop_projecting();
    let named = ContactNamed {
        user: ann.user,
        conversation: thread.conversation,
        name: ann.key.seal("Robert"),
    };
    let shard = hub.store().sharding().of_user(ann.user);
    let append = hub_domain::envelope::Append::one(shard, thread.conversation, named);
    hub.store().append(append).await.unwrap();
    let list = hub.get(&ann, "/api/conversations?asOf=2999-01-01").await;
    assert_eq!((list.status, list.flat_code()), (503, "FETCH_FAILED"));
    let list = format!("/api/conversations?asOf={before}");
    assert_eq!(hub.get(&ann, &list).await.body["total"], 1);
}
