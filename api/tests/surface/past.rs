//! The inbox as of a past moment is, byte for byte, what the live answer was then.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::http::StatusCode;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use hub_domain::event::ContactNamed;
use hub_domain::limits::AS_OF_EVENTS_MAX;
use hub_domain::platform::Platform;
use hub_store::places;
use serde_json::json;

use crate::history::{History, Random, Record};
use crate::hub::Hub;

const STEPS: usize = 40;

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
        let unread = format!("/api/messages/unread/count?asOf={when}");
        assert_eq!(hub.get(&eve, &unread).await.body["total"], 0);
    }
    for odd in ["", "yesterday", "1767225600", "2026-13-01"] {
        let list = format!("/api/conversations?asOf={odd}");
        let list = hub.get(&ann, &list).await.expect(StatusCode::BAD_REQUEST);
        assert_eq!(list.flat_code(), "VALIDATION_ERROR");
        let unread = format!("/api/messages/unread/count?asOf={odd}");
        assert_eq!(hub.get(&ann, &unread).await.status, 400);
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
    let path = format!("/api/messages/unread/count?asOf={time}");
    assert_eq!(hub.get(&ann, &path).await.status, 422);
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
