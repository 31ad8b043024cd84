//! Taking over an earlier installation: its schemas and a row for every rule, in a real database.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use hub_cluster::{TestDatabase, shared_for_tests};
use hub_domain::envelope::Append;
use hub_domain::event::{Event, MessageReceived, MessageType, PlatformMessage, Thread};
use hub_domain::id::{
    AccountId, ConversationId, UserId, account_id, conversation_id, login_stream, message_id,
    message_key,
};
use hub_domain::platform::Platform;
use hub_domain::secret::Secret;
use hub_store::account::{Owner, Routed};
use hub_store::generation::{End, Verdict};
use hub_store::import::{Comparison, Generation, Options, Report, Table, run};
use hub_store::places;
use hub_store::project::Projection;
use hub_store::vault::Opened;
use hub_store::{Error, PgPool, Result, Store};
use serde_json::json;
use sqlx::Row as _;
use uuid::Uuid;

use crate::generation::{replay, settle};
use crate::world::{World, open, whole_log};

const KEY: &str = "0123456789abcdef0123456789abcdef";
const TOKEN: &str = "ya29.test-access-token";

const G1: [&str; 2] = [
    include_str!("import/g1_base.sql"),
    include_str!("import/g1_rows.sql"),
];
const G1_MIGRATED: [&str; 3] = [
    include_str!("import/g1_base.sql"),
    include_str!("import/g1_migration.sql"),
    include_str!("import/g1_rows.sql"),
];
const G2: [&str; 2] = [
    include_str!("import/g2.sql"),
    include_str!("import/g2_rows.sql"),
];

fn id(kind: u32, n: u64) -> Uuid {
    format!("{kind:08x}-0000-4000-8000-{n:012x}")
        .parse()
        .unwrap()
}

fn user(n: u64) -> UserId {
    UserId(id(0x1111_1111, n))
}

fn account(n: u64) -> AccountId {
    AccountId(id(0x3333_3333, n))
}

fn conversation(n: u64) -> ConversationId {
    ConversationId(id(0x4444_4444, n))
}

fn message(n: u64) -> Uuid {
    id(0x5555_5555, n)
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// A database with these statements in it.
struct Source {
    database: TestDatabase,
    pool: PgPool,
}

impl Source {
    async fn new(scripts: &[&'static str]) -> Self {
        let shared = shared_for_tests().await.unwrap();
        let database = shared.empty_database().await.unwrap();
        let url = Secret::new(database.url());
        let pool = hub_store::connect(&url, 2).await.unwrap();
        let source = Self { database, pool };
        for script in scripts {
            source.run(script).await;
        }
        source
    }

    async fn run(&self, script: &'static str) {
        sqlx::raw_sql(script).execute(&self.pool).await.unwrap();
    }

    /// So many messages of one conversation, over so many days.
    async fn fill(&self, messages: i32, days: i32) {
        sqlx::query(
            "INSERT INTO messages (conversation_id, platform_message_id, sender_id, sender_name, \
                 content, sent_at) \
             SELECT $1, 'bulk ' || n, '7214', 'Bob', 'text of message ' || n, \
                 timestamp '2025-01-01' + (n % $3) * interval '1 day' + n * interval '1 second' \
             FROM generate_series(1, $2) n",
        )
        .bind(conversation(1).0)
        .bind(messages)
        .bind(days)
        .execute(&self.pool)
        .await
        .unwrap();
    }

    async fn import(&self, store: &Store) -> Result<Report> {
        self.with(store, |_| {}).await
    }

    async fn with<'a>(&self, store: &Store, wish: impl FnOnce(&mut Options<'a>)) -> Result<Report> {
        let mut options = Options {
            source: Secret::new(self.database.url()),
            encryption_key: Some(Secret::new(KEY)),
            timezone: "UTC",
            dry_run: false,
            kept_from: None,
            telegram_sessions: false,
            owner_of_token: &|token| (token == "live").then(|| user(1)),
            progress: &|_| {},
        };
        wish(&mut options);
        run(store, &options).await
    }
}

fn sum(counts: &BTreeMap<&'static str, u64>) -> u64 {
    counts.values().sum()
}

fn numbers(table: &Table) -> (u64, u64, u64, u64) {
    assert_eq!(
        table.read,
        table.imported + table.already + sum(&table.skipped)
    );
    (
        table.read,
        table.imported,
        table.already,
        sum(&table.skipped),
    )
}

fn compared(report: &Report) -> &Comparison {
    let comparison = report.comparison.as_ref().unwrap();
    assert_eq!(comparison.different, 0, "{:?}", comparison.differences);
    comparison
}

async fn events(world: &World) -> usize {
    whole_log(world.pool()).await.len()
}

/// A message as its owner reads it: conversation, text, media, marks and times.
#[derive(Debug, PartialEq)]
struct Read {
    conversation: Uuid,
    text: Option<String>,
    media: Option<String>,
    kind: String,
    outgoing: bool,
    is_read: bool,
    state: String,
    sent_at: DateTime<Utc>,
    delivered_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
}

async fn read(store: &Store, owner: UserId, id: Uuid) -> Option<Read> {
    let row = sqlx::query("SELECT * FROM read.messages WHERE id = $1")
        .bind(id)
        .fetch_optional(store.pool())
        .await
        .unwrap()?;
    let sealed = |column| row.try_get::<Option<String>, _>(column).unwrap();
    let (body, media) = (sealed("body").unwrap(), sealed("media"));
    let texts = [Some(body.as_str()), media.as_deref()];
    let keys = store.vault().keyring(owner, texts.into_iter().flatten());
    let keys = keys.await.unwrap();
    Some(Read {
        conversation: row.get("conversation_id"),
        text: keys.open(&body).unwrap().text(),
        media: media.map(|it| keys.open(&it).unwrap().text().unwrap()),
        kind: row.get("message_type"),
        outgoing: row.get("outgoing"),
        is_read: row.get("is_read"),
        state: row.get("state"),
        sent_at: row.get("sent_at"),
        delivered_at: row.get("delivered_at"),
        created_at: row.get("created_at"),
    })
}

async fn name_of(store: &Store, owner: UserId, of: ConversationId) -> Option<String> {
    let name: Option<String> =
        sqlx::query_scalar("SELECT participant_name FROM read.conversations WHERE id = $1")
            .bind(of.0)
            .fetch_one(store.pool())
            .await
            .unwrap();
    let name = name?;
    let keys = store.vault().keyring(owner, [name.as_str()]).await.unwrap();
    match keys.open(&name).unwrap() {
        Opened::Text(name) => Some(name),
        Opened::Erased => None,
    }
}

#[tokio::test]
async fn the_first_generation_is_taken_over_with_its_ids_times_and_oddities() {
    let world = World::new().await;
    let source = Source::new(&G1).await;
    let dry = source
        .with(&world.store, |it| it.dry_run = true)
        .await
        .unwrap();
    assert_eq!(events(&world).await, 0);
    for table in [
        "data_keys",
        "logins",
        "aliases",
        "directory",
        "account_tokens",
    ] {
        let query = format!("SELECT count(*) FROM {table}");
        let rows: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
            .fetch_one(world.pool())
            .await
            .unwrap();
        assert_eq!(rows, 0, "a dry run wrote to {table}");
    }

    let report = source.import(&world.store).await.unwrap();
    assert_eq!(report.generation, Generation::First);
    for (dry, wet) in dry.tables().iter().zip(report.tables()) {
        assert_eq!(numbers(dry.1), numbers(wet.1), "{}", wet.0);
    }
    assert_eq!(numbers(&report.users), (3, 3, 0, 0));
    assert_eq!(numbers(&report.connected_accounts), (8, 6, 0, 2));
    assert_eq!(numbers(&report.conversations), (10, 7, 0, 3));
    assert_eq!(numbers(&report.messages), (22, 17, 0, 5));
    assert_eq!(numbers(&report.api_usage_logs), (2, 0, 0, 2));
    assert_eq!(sum(&report.users.notes), 1, "a hash that is none");
    assert_eq!(sum(&report.connected_accounts.notes), 3, "{report:?}");
    // Six stored ones, one without a thread that keeps its id, one for a writer of it.
    assert_eq!(compared(&report).conversations, 7);
    assert_eq!(compared(&report).equal, 7);
    assert_eq!(compared(&report).messages, 16);

    // Times and marks.
    let store = &world.store;
    let first = read(store, user(1), message(1)).await.unwrap();
    let expected = Read {
        conversation: conversation(1).0,
        text: Some("Tom & Jerry &lt;b&gt;".to_owned()),
        media: None,
        kind: "text".to_owned(),
        outgoing: false,
        is_read: false,
        state: "received".to_owned(),
        sent_at: at("2025-03-01T09:00:01Z"),
        delivered_at: None,
        created_at: at("2025-03-01T09:00:02Z"),
    };
    assert_eq!(first, expected);
    let ours = read(store, user(1), message(3)).await.unwrap();
    assert!(
        ours.outgoing && !ours.is_read,
        "a receipt the platform never gave"
    );
    assert_eq!(ours.delivered_at, Some(at("2025-03-01T09:02:05Z")));
    assert_eq!(ours.state, "observed");
    let picture = read(store, user(1), message(4)).await.unwrap();
    assert_eq!(picture.kind, "image");
    assert!(picture.media.unwrap().contains("https://cdn.example/p.jpg"));
    let sticker = read(store, user(1), message(5)).await.unwrap();
    assert_eq!(sticker.kind, "file");
    let media = sticker.media.unwrap();
    assert!(media.contains(r#""file_id":"AgACAgIAAx""#), "{media}");
    // Rows without a thread go to who wrote them.
    let of = async |n| {
        read(store, user(1), message(n))
            .await
            .map(|it| it.conversation)
    };
    assert_eq!(of(7).await, Some(conversation(1).0));
    assert_eq!(of(8).await, Some(conversation_id(account(1), "7400").0));
    assert_eq!(of(9).await, Some(conversation(3).0));
    assert_eq!(of(10).await, None, "a double");
    // Of two rows of one send the one that was made up goes.
    assert_eq!(of(12).await, None);
    assert!(of(13).await.is_some() && of(14).await.is_some() && of(15).await.is_some());
    let plain = read(store, user(1), message(21)).await.unwrap();
    assert_eq!(plain.text.as_deref(), Some("12:30 is plain"));
    assert_eq!(of(22).await, Some(conversation(1).0), "an empty text");
    assert_eq!(of(16).await, None, "a platform nobody knows");
    assert_eq!(
        name_of(store, user(1), conversation(1)).await.unwrap(),
        "Bob"
    );
    assert_eq!(
        name_of(store, user(1), conversation(2)).await.unwrap(),
        "Gus"
    );

    // Accounts, newest first; the unknown one is not among them.
    let accounts = store.accounts(user(1), true).await.unwrap();
    let ids: Vec<Uuid> = accounts.iter().map(|it| it.id).collect();
    assert_eq!(ids, [account(1).0, account(2).0, account(8).0]);
    assert_eq!(accounts[0].created_at, at("2025-01-31T09:30:00.123Z"));
    assert_eq!(
        accounts
            .iter()
            .map(|it| it.needs_reconnect.is_some())
            .collect::<Vec<_>>(),
        [false, true, true],
        "signed in by phone; a token that does not open"
    );
    let bob = store.accounts(user(2), true).await.unwrap();
    let active: Vec<bool> = bob.iter().map(|it| it.is_active).collect();
    assert_eq!(
        active.iter().filter(|it| **it).count(),
        1,
        "twitter is inactive"
    );
    let page = Owner {
        user: user(1),
        account: account(1),
    };
    let credentials = store.credentials(page, "1789").await.unwrap().unwrap();
    assert_eq!(credentials.access_token.expose(), TOKEN);
    assert_eq!(credentials.refresh_token.unwrap().expose(), TOKEN);
    let inactive = Owner {
        user: user(2),
        account: account(4),
    };
    assert!(store.credentials(inactive, "200").await.unwrap().is_none());
    let bot = store.owners(Platform::Telegram, "123456").await.unwrap();
    assert_eq!(bot.len(), 1, "a bot is named by its token");
    assert!(
        store
            .owners(Platform::Twitter, "200")
            .await
            .unwrap()
            .is_empty()
    );

    let login = store
        .login(login_stream("ann@example.com"))
        .await
        .unwrap()
        .unwrap();
    assert!(login.imported);
    assert_eq!(login.user, user(1));
    assert_eq!(login.created_at, at("2025-01-02T03:04:05.678Z"));
    assert_eq!(login.updated_at, at("2025-02-02T03:04:05Z"));

    again_adds_nothing(&world, &source).await;
    is_what_a_rebuild_makes(&world).await;
}

async fn again_adds_nothing(world: &World, source: &Source) {
    let before = whole_log(world.pool()).await.len();
    let again = source.import(&world.store).await.unwrap();
    assert_eq!(whole_log(world.pool()).await.len(), before);
    for (name, table) in again.tables() {
        assert_eq!(table.imported, 0, "{name}");
    }
    assert_eq!(compared(&again).gone_on, 0);
}

async fn is_what_a_rebuild_makes(world: &World) {
    for projection in Projection::ALL {
        let certificate = replay(world.pool(), projection, End::Drop).await;
        assert_eq!(certificate.verdict, Verdict::Equal, "{certificate:?}");
    }
}

#[tokio::test]
async fn sessions_come_along_while_they_are_open_and_signed_here() {
    let world = World::new().await;
    let source = Source::new(&G1_MIGRATED).await;
    source
        .run(
            "INSERT INTO refresh_tokens (id, user_id, token, expires_at, revoked_at) VALUES \
             ('22222222-0000-4000-8000-000000000001', '11111111-0000-4000-8000-000000000001', \
              'live', now() + interval '1 day', NULL), \
             (gen_random_uuid(), '11111111-0000-4000-8000-000000000002', \
              'of another secret', now() + interval '1 day', NULL), \
             (gen_random_uuid(), '11111111-0000-4000-8000-000000000001', \
              'expired', now() - interval '1 day', NULL), \
             (gen_random_uuid(), '11111111-0000-4000-8000-000000000001', \
              'revoked', now() + interval '1 day', now()), \
             (gen_random_uuid(), NULL, 'of nobody', now() + interval '1 day', NULL)",
        )
        .await;
    let report = source.import(&world.store).await.unwrap();
    assert_eq!(report.generation, Generation::FirstMigrated);
    assert_eq!(numbers(&report.refresh_tokens), (5, 1, 0, 4));
    assert_eq!(
        report.refresh_tokens.skipped.len(),
        4,
        "each for its own reason"
    );
    let kept: Vec<(Uuid, Uuid)> = sqlx::query_as("SELECT user_id, session FROM refresh_tokens")
        .fetch_all(world.pool())
        .await
        .unwrap();
    assert_eq!(kept, [(user(1).0, id(0x2222_2222, 1))]);
    again_adds_nothing(&world, &source).await;
}

#[tokio::test]
async fn the_second_generation_is_taken_over_with_values_of_every_form() {
    let world = World::new().await;
    let source = Source::new(&G2).await;
    let report = source.import(&world.store).await.unwrap();
    assert_eq!(report.generation, Generation::Second);
    assert_eq!(numbers(&report.users), (1, 1, 0, 0));
    assert_eq!(numbers(&report.connected_accounts), (3, 3, 0, 0));
    assert_eq!(numbers(&report.conversations), (3, 3, 0, 0));
    assert_eq!(numbers(&report.messages), (7, 7, 0, 0));
    assert_eq!(numbers(&report.api_usage_logs), (0, 0, 0, 0));
    assert_eq!(
        sum(&report.messages.notes),
        3,
        "two never sent, one by mail"
    );
    let comparison = compared(&report);
    assert_eq!((comparison.equal, comparison.messages), (2, 4));

    let store = &world.store;
    let late = read(store, user(1), message(1)).await.unwrap();
    assert_eq!(late.text.as_deref(), Some("Hello, wörld 👋"));
    assert!(late.media.unwrap().contains("https://cdn.example/q.jpg"));
    assert_eq!(late.sent_at, at("2025-03-01T07:00:01Z"));
    let older = read(store, user(1), message(3)).await.unwrap();
    assert_eq!(older.text.as_deref(), Some("hello"));
    let pasted = read(store, user(1), message(7)).await.unwrap();
    assert!(
        pasted.text.unwrap().starts_with("VGhpcyBp"),
        "no tag, no encryption"
    );
    assert!(
        read(store, user(1), message(2)).await.is_none(),
        "never sent"
    );
    assert!(read(store, user(1), message(6)).await.is_none(), "by mail");
    assert_eq!(
        name_of(store, user(1), conversation(1)).await.unwrap(),
        "Bob"
    );
    let page = Owner {
        user: user(1),
        account: account(1),
    };
    let credentials = store.credentials(page, "1789").await.unwrap().unwrap();
    assert_eq!(credentials.access_token.expose(), TOKEN);
    let phone = store.accounts(user(1), false).await.unwrap();
    let phone = phone.iter().find(|it| it.platform == "telegram").unwrap();
    assert!(phone.needs_reconnect.is_some());
    again_adds_nothing(&world, &source).await;
    is_what_a_rebuild_makes(&world).await;
}

#[tokio::test]
async fn times_without_a_zone_are_read_in_the_zone_that_is_named() {
    let world = World::new().await;
    let source = Source::new(&G1).await;
    let report = source
        .with(&world.store, |it| it.timezone = "Europe/Berlin")
        .await;
    compared(&report.unwrap());
    let row = read(&world.store, user(1), message(1)).await.unwrap();
    assert_eq!(row.sent_at, at("2025-03-01T08:00:01Z"));
}

#[tokio::test]
async fn what_cannot_be_right_is_refused_before_anything_is_written() {
    let world = World::new().await;
    let source = Source::new(&G1).await;
    let refused = |outcome: Result<Report>, word: &str| match outcome {
        Err(Error::Refused(text)) => assert!(text.contains(word), "{text}"),
        other => panic!("{word}: {other:?}"),
    };
    let wrong = Secret::new("another key");
    let key = source.with(&world.store, |it| it.encryption_key = Some(wrong));
    refused(key.await, "ENCRYPTION_KEY");
    let unset = source.with(&world.store, |it| it.encryption_key = None);
    refused(unset.await, "ENCRYPTION_KEY");
    for zone in ["Mars/Olympus", "+02:00", ""] {
        refused(
            source.with(&world.store, |it| it.timezone = zone).await,
            "time zone",
        );
    }
    let empty = Source::new(&[]).await;
    refused(empty.import(&world.store).await, "messages");
    assert_eq!(events(&world).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_is_stopped_anywhere_goes_on_where_it_was() {
    let world = World::new().await;
    let source = Source::new(&G1).await;
    source.fill(9_000, 3).await;
    let seen = AtomicU64::new(0);
    let mut stopped = 0;
    for after in [2_000, 4_000, 6_000, 8_000] {
        let stopping = |it: hub_store::import::Progress| {
            seen.fetch_max(it.done, Ordering::Relaxed);
        };
        let store = open(world.database.url()).await;
        let importing = source.with(&store, |it| it.progress = &stopping);
        tokio::select! {
            biased;
            () = async {
                while seen.load(Ordering::Relaxed) < after {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            } => stopped += 1,
            _ = importing => {}
        }
    }
    assert!(stopped > 0);
    let report = source.import(&world.store).await.unwrap();
    assert!(report.messages.already > 0, "{report:?}");
    assert_eq!(compared(&report).equal, 7);
    let log = whole_log(world.pool()).await;
    let imported =
        |it: &&hub_domain::envelope::Recorded| matches!(it.event, Event::MessageImported(_));
    assert_eq!(log.iter().filter(imported).count(), 9_016);
    again_adds_nothing(&world, &source).await;
    is_what_a_rebuild_makes(&world).await;
}

/// The message that a platform delivers, as the translator appends it.
fn delivery(owner: Owner, to: ConversationId, thread: &str, platform_id: &str) -> Append {
    let sealed = hub_domain::event::Sealed("h0.".to_owned());
    let received = MessageReceived(PlatformMessage {
        at: Thread {
            user: owner.user,
            account: owner.account,
            platform: Platform::Facebook,
            conversation: to,
            thread: thread.to_owned(),
        },
        message: message_id(to, platform_id),
        platform_message_id: platform_id.to_owned(),
        sender_id: thread.to_owned(),
        sender_name: None,
        thread_name: None,
        message_type: MessageType::Text,
        text: sealed,
        media: None,
        detail: None,
        sent_at: at("2025-04-01T00:00:00Z"),
    });
    let shard = hub_domain::id::Sharding { count: 4 }.of_user(owner.user);
    Append::one(shard, to, received).once(message_key(to, platform_id))
}

#[tokio::test]
async fn what_comes_later_finds_the_ids_that_were_brought_along() {
    let world = World::new().await;
    let source = Source::new(&G1).await;
    source.import(&world.store).await.unwrap();
    let store = &world.store;
    let owner = Owner {
        user: user(1),
        account: account(1),
    };
    let routed = store.routed(Platform::Facebook, "1789").await.unwrap();
    let has_aliases = true;
    assert_eq!(routed, [Routed { owner, has_aliases }]);
    let named = async |thread| store.conversation_named(owner, thread).await.unwrap();
    assert_eq!(named("7214").await, conversation(1));
    assert_eq!(named("7300").await, conversation(2), "by the person");
    assert_eq!(named("t_10").await, conversation(2), "and by the thread");
    assert_eq!(named("new").await, conversation_id(account(1), "new"));
    let connected = store.account_named(user(1), Platform::Facebook, "1789");
    assert_eq!(connected.await.unwrap(), account(1));
    let other = store.account_named(user(1), Platform::Facebook, "2");
    assert_eq!(
        other.await.unwrap(),
        account_id(user(1), Platform::Facebook, "2")
    );
    let twitter = Owner {
        user: user(2),
        account: account(4),
    };
    let direct = store.conversation_named(twitter, "100-200").await.unwrap();
    assert_eq!(direct, conversation(9));
    // Connected again, it is asked about again.
    store
        .remove_owner(Platform::Facebook, "1789", owner)
        .await
        .unwrap();
    store
        .put_owner(Platform::Facebook, "1789", owner)
        .await
        .unwrap();
    assert_eq!(
        store.routed(Platform::Facebook, "1789").await.unwrap(),
        routed
    );

    // A redelivery appends nothing, something new goes on in the conversation.
    let old = store
        .append(delivery(owner, conversation(1), "7214", "m_1"))
        .await;
    assert!(!old.unwrap().is_new());
    let new = store
        .append(delivery(owner, conversation(1), "7214", "m_new"))
        .await;
    assert!(new.unwrap().is_new());
    settle(world.pool()).await;
    let report = source.import(store).await.unwrap();
    assert_eq!(compared(&report).gone_on, 1);
    assert_eq!(compared(&report).equal, 6);
    assert_eq!(report.messages.imported, 0);
    is_what_a_rebuild_makes(&world).await;
}

#[tokio::test]
async fn a_conversation_that_began_here_keeps_its_id_and_gets_its_past() {
    let world = World::new().await;
    let source = Source::new(&G1).await;
    source.import(&world.store).await.unwrap();
    let owner = Owner {
        user: user(1),
        account: account(1),
    };
    let begun = conversation_id(account(1), "8000");
    world
        .store
        .append(delivery(owner, begun, "8000", "m_50"))
        .await
        .unwrap();
    source
        .run(
            "INSERT INTO conversations (id, account_id, platform_conversation_id, \
                 participant_name, participant_id, created_at) VALUES \
             ('44444444-0000-4000-8000-000000000050', '33333333-0000-4000-8000-000000000001', \
              '8000', 'Late', '8000', '2025-02-01'); \
             INSERT INTO messages (id, conversation_id, platform_message_id, sender_id, content, \
                 sent_at) VALUES \
             ('55555555-0000-4000-8000-000000000050', '44444444-0000-4000-8000-000000000050', \
              'm_49', '8000', 'before', '2025-03-01'), \
             ('55555555-0000-4000-8000-000000000051', '44444444-0000-4000-8000-000000000050', \
              'm_50', '8000', 'the same', '2025-04-01')",
        )
        .await;
    let report = source.import(&world.store).await.unwrap();
    assert_eq!(sum(&report.conversations.notes), 3, "{report:?}");
    assert_eq!((report.messages.imported, report.messages.already), (1, 18));
    compared(&report);
    let before = read(&world.store, user(1), message(0x50)).await.unwrap();
    assert_eq!(before.conversation, begun.0);
    assert_eq!(
        world.store.conversation_named(owner, "8000").await.unwrap(),
        begun
    );
    assert_eq!(name_of(&world.store, user(1), begun).await.unwrap(), "Late");
    is_what_a_rebuild_makes(&world).await;
}

#[tokio::test]
async fn whoever_is_registered_or_was_erased_here_is_left_alone() {
    let world = World::new().await;
    let store = &world.store;
    let email = "ann@example.com";
    let stream = login_stream(email);
    let own = UserId(Uuid::from_u128(7));
    let meta = hub_domain::envelope::Meta::default;
    store
        .register(stream, own, email, "hash", meta())
        .await
        .unwrap();
    let source = Source::new(&G1).await;
    let report = source.import(store).await.unwrap();
    assert_eq!(numbers(&report.users), (3, 2, 0, 1));
    assert_eq!(numbers(&report.connected_accounts), (8, 2, 0, 6));
    assert_eq!(numbers(&report.messages), (22, 1, 0, 21));
    assert_eq!(store.login(stream).await.unwrap().unwrap().user, own);
    compared(&report);

    let begun = store.begin_erasure(user(2), meta()).await.unwrap();
    let erased = store.finish_erasure(user(2), begun).await.unwrap();
    assert!(erased.aliases > 0);
    let report = source.import(store).await.unwrap();
    assert_eq!(report.users.skipped.len(), 2, "{report:?}");
    assert!(
        store
            .login(login_stream("bob@example.com"))
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn content_that_is_too_old_is_not_kept_and_is_counted() {
    let world = World::new().await;
    let source = Source::new(&G1).await;
    let first: NaiveDate = "2025-03-02".parse().unwrap();
    let report = source
        .with(&world.store, |it| it.kept_from = Some(first))
        .await;
    let report = report.unwrap();
    compared(&report);
    let old = read(&world.store, user(1), message(1)).await.unwrap();
    assert_eq!(old.text, None);
    assert!(
        report.messages.notes.values().any(|it| *it == 17),
        "{report:?}"
    );
}

#[tokio::test]
async fn before_the_import_there_was_nothing_here() {
    let world = World::new().await;
    let source = Source::new(&G1).await;
    let before = Utc::now();
    source.import(&world.store).await.unwrap();
    for shard in 0..4 {
        while places::step(world.pool(), hub_domain::id::Shard(shard))
            .await
            .unwrap()
            > 0
        {}
    }
    let store = &world.store;
    let then = store
        .conversations_at(user(1), before, None, 50, 0)
        .await
        .unwrap();
    assert_eq!((then.page.rows.len(), then.page.total), (0, 0));
    let now = store
        .conversations_at(user(1), Utc::now(), None, 50, 0)
        .await
        .unwrap();
    assert_eq!((now.page.rows.len(), now.page.total), (6, 6));
}

/// Nothing readable of theirs is in the hub's database, and a log line cannot have it either.
#[tokio::test]
async fn nothing_personal_is_stored_in_the_clear() {
    let world = World::new().await;
    let source = Source::new(&G1).await;
    let report = source.import(&world.store).await.unwrap();
    let dump = crate::dump::Dump::of(&world).await;
    let report = json!(report).to_string();
    let secrets = [
        TOKEN,
        "Tom & Jerry",
        "sent once",
        "Mira",
        "ann@example.com",
        "TEST-bot",
    ];
    for secret in secrets {
        assert!(!dump.text.contains(secret), "{secret} is in the database");
        assert!(dump.says(secret), "{secret} came along");
        assert!(!report.contains(secret), "{secret} is in the report");
    }
    assert!(!dump.says("cookies"));
}

/// How fast it is, for docs/operations.md: `cargo test -p hub-store --test it -- --ignored speed`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures; takes a minute"]
async fn speed_of_a_hundred_thousand_messages() {
    let world = World::new().await;
    let source = Source::new(&G1).await;
    source.fill(100_000, 365).await;
    for _ in 0..2 {
        let began = std::time::Instant::now();
        let appended = std::sync::Mutex::new(Duration::ZERO);
        let progress = |it: hub_store::import::Progress| {
            if it.stage == "messages" {
                *appended.lock().unwrap() = began.elapsed();
            }
        };
        let report = source
            .with(&world.store, |it| it.progress = &progress)
            .await;
        let report = report.unwrap();
        assert_eq!(compared(&report).equal, 7);
        println!(
            "{} new of {}: appended after {:?}, compared after {:?}",
            report.messages.imported,
            report.messages.read,
            appended.lock().unwrap(),
            began.elapsed()
        );
    }
}
