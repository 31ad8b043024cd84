//! An account of an earlier installation whose person signed in by phone.

use std::time::Duration;

use hub_cluster::{TestDatabase, shared_for_tests};
use hub_domain::id::{AccountId, ConversationId, UserId};
use hub_domain::platform::telegram_user::{Answered, Wish};
use hub_domain::secret::Secret;
use hub_store::account::Owner;
use hub_store::import::{Options, Report, run};
use uuid::Uuid;

use crate::telegram::Telegram;
use crate::world::{World, eventually};

const SOON: Duration = Duration::from_secs(10);

const CONVERSATION: ConversationId =
    ConversationId(Uuid::from_u128(0x44444444_0000_4000_8000_000000000042));
const MESSAGE: Uuid = Uuid::from_u128(0x55555555_0000_4000_8000_000000000042);
const OWNER: Owner = Owner {
    user: UserId(Uuid::from_u128(0x11111111_0000_4000_8000_000000000042)),
    account: AccountId(Uuid::from_u128(0x33333333_0000_4000_8000_000000000042)),
};

/// The first message of the chat is there.
const ROWS: &str = "\
INSERT INTO users (id, email, password_hash) VALUES \
    ('11111111-0000-4000-8000-000000000042', 'ann@example.com', \
     '$2b$10$abcdefghijklmnopqrstuu2njjerFUdKeNqVoGia/slSqhJQ.vuAy'); \
INSERT INTO connected_accounts (id, user_id, platform, platform_user_id, platform_username, \
        access_token) VALUES \
    ('33333333-0000-4000-8000-000000000042', '11111111-0000-4000-8000-000000000042', \
     'telegram', '42', 'ann', '1' || repeat('A', 352)); \
INSERT INTO conversations (id, account_id, platform_conversation_id, participant_name, \
        participant_id) VALUES \
    ('44444444-0000-4000-8000-000000000042', '33333333-0000-4000-8000-000000000042', \
     '1', 'person 1', '1'); \
INSERT INTO messages (id, conversation_id, platform_message_id, sender_id, content, sent_at) \
VALUES ('55555555-0000-4000-8000-000000000042', '44444444-0000-4000-8000-000000000042', \
     '1001', '1', 'text 1001', '2025-06-01')";

async fn earlier() -> TestDatabase {
    let shared = shared_for_tests().await.unwrap();
    let database = shared.empty_database().await.unwrap();
    let url = Secret::new(database.url());
    let pool = hub_store::connect(&url, 2).await.unwrap();
    let schema = include_str!("../../../store/tests/it/import/g1_base.sql");
    for script in [schema, ROWS] {
        sqlx::raw_sql(script).execute(&pool).await.unwrap();
    }
    database
}

async fn import(world: &World, from: &TestDatabase, telegram_sessions: bool) -> Report {
    let options = Options {
        source: Secret::new(from.url()),
        encryption_key: None,
        timezone: "UTC",
        dry_run: false,
        kept_from: None,
        telegram_sessions,
        owner_of_token: &|_| None,
        progress: &|_| {},
    };
    run(&world.store, &options).await.unwrap()
}

/// All there is of the chat, once, in the conversation that was imported, and the imported message
/// under the id it had.
async fn goes_on(world: &World, telegram: &Telegram) {
    let all = telegram.messages();
    eventually("what Telegram has is in the old conversation", async || {
        let page = world.store.thread(OWNER.user, CONVERSATION, 100, 0).await;
        let page = page.unwrap();
        let named = |row: &hub_store::entity::message::Model| row.platform_message_id.clone();
        let mut ids: Vec<String> = page.iter().filter_map(named).collect();
        ids.sort();
        let is_old = |row: &hub_store::entity::message::Model| row.id == MESSAGE;
        ids == all && page.iter().any(is_old)
    })
    .await;
    world.translated().await;
    assert_eq!(world.seen(OWNER).await.0, all, "and in no other");
}

async fn needs_sign_in(world: &World) -> bool {
    let row = world.store.account(OWNER.user, OWNER.account).await;
    let row = row.unwrap().expect("the account has its id");
    assert!(row.is_active);
    row.needs_reconnect.is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn its_session_is_used_once_the_earlier_server_has_stopped() {
    let telegram = Telegram::start(1, 4).await;
    let world = World::new(Some(&telegram.base)).await;
    let earlier = earlier().await;
    let report = import(&world, &earlier, false).await;
    let notes = &report.connected_accounts.notes;
    assert!(notes.contains_key("Telegram by phone: to be signed in again"));
    let _worker = world.worker();
    world.translated().await;
    assert!(needs_sign_in(&world).await);
    // Longer than it takes to look for sessions: two servers with one would end it.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(telegram.sessions(), Vec::<String>::new());

    for times in [1, 0] {
        let report = import(&world, &earlier, true).await;
        let notes = &report.connected_accounts.notes;
        let note = notes.get("Telegram by phone: goes on with its session");
        assert_eq!(note.copied().unwrap_or_default(), times);
    }
    goes_on(&world, &telegram).await;
    assert!(!needs_sign_in(&world).await);
    assert_eq!(telegram.sessions(), [format!("1{}", "A".repeat(352))]);

    // What its owner wanted forgotten is not missed by another import.
    world.reset(OWNER).await;
    let again = import(&world, &earlier, true).await;
    let compared = again.comparison.expect("it was written");
    assert_eq!((compared.different, compared.gone_on), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_in_by_phone_finds_what_was_imported() {
    let telegram = Telegram::start(1, 4).await;
    let world = World::new(Some(&telegram.base)).await;
    import(&world, &earlier().await, false).await;
    let _worker = world.worker();
    world.translated().await;
    let ask = async |wish: Wish| {
        let asked = world.store.wish_of_telegram(OWNER.user, None, &wish, SOON);
        let answer = world
            .store
            .wait_for_wish(OWNER.user, asked.await.unwrap(), SOON);
        answer.await.unwrap().expect("an answer")
    };
    let phone = "+15551234567".to_owned();
    let sent = ask(Wish::Phone {
        phone: phone.clone(),
    })
    .await;
    let Answered::CodeSent { hash } = sent else {
        panic!("{sent:?}");
    };
    let signed_in = ask(Wish::Verify {
        phone,
        code: "12345".to_owned(),
        hash,
        password: None,
    })
    .await;
    let expected = Answered::SignedIn {
        account: OWNER.account,
        username: "ann".to_owned(),
    };
    assert_eq!(signed_in, expected);
    goes_on(&world, &telegram).await;
    assert!(!needs_sign_in(&world).await);
    // The session that came along was replaced: nobody goes on with it.
    let again = import(&world, &earlier().await, true).await;
    let notes = &again.connected_accounts.notes;
    assert!(!notes.contains_key("Telegram by phone: goes on with its session"));
    assert!(!telegram.sessions().iter().any(|key| key.starts_with("1A")));
}
