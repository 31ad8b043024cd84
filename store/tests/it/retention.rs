//! Content that is kept for so many days and no longer.

use chrono::{DateTime, Utc};
use hub_domain::event::MessageReceived;
use hub_domain::retention::kept_from;
use hub_store::Store;
use hub_store::generation::{End, Verdict, rebuild};
use hub_store::project::{Projection, step};
use hub_store::vault::Opened;

use crate::facts::{Chat, user};
use crate::world::World;

const DAYS: u16 = 30;

/// A message of that age arrives, under the retention of these days.
async fn arrive(store: &Store, chat: &Chat, id: &str, age: i64, now: DateTime<Utc>, days: u16) {
    let at = now - chrono::Duration::days(age);
    let vault = store.vault();
    let content = vault.content(chat.at.user, at, kept_from(now, days)).await;
    let content = content.unwrap();
    let names = vault.user(chat.at.user).await.unwrap();
    let mut message = chat.message(id, 0);
    message.sent_at = at;
    message.text = content.seal(&format!("{age} days old"));
    message.media = Some(content.seal("media"));
    message.sender_name = Some(names.seal("Mira"));
    let shard = store.sharding().of_user(chat.at.user);
    let append = chat.append(shard, MessageReceived(message));
    store.append(append).await.unwrap();
    while step(store.pool(), Projection::Inbox, 1, shard)
        .await
        .unwrap()
        > 0
    {}
}

/// What can be read of a thread, newest first.
async fn shown(store: &Store, chat: &Chat) -> Vec<Option<String>> {
    let page = store
        .thread(chat.at.user, chat.at.conversation, 50, 0)
        .await;
    let rows = page.unwrap();
    let sealed = rows
        .iter()
        .flat_map(|row| [&row.body, &row.media, &row.sender_name]);
    let keys = store
        .vault()
        .keyring(chat.at.user, sealed.flatten().map(String::as_str));
    let keys = keys.await.unwrap();
    let open = |sealed: &Option<String>| keys.open(sealed.as_deref().unwrap()).unwrap();
    rows.iter()
        .map(|row| {
            assert_eq!(open(&row.sender_name), Opened::Text("Mira".to_owned()));
            let text = open(&row.body);
            assert_eq!(text == Opened::Erased, open(&row.media) == Opened::Erased);
            text.text()
        })
        .collect()
}

fn read(texts: &[Option<&str>]) -> Vec<Option<String>> {
    texts.iter().map(|it| it.map(str::to_owned)).collect()
}

#[tokio::test]
async fn content_past_its_days_is_gone_and_stays_gone() {
    let world = World::new().await;
    let store = &world.store;
    let now = Utc::now();
    let (chat, other) = (Chat::new(user(5), "a"), Chat::new(user(6), "b"));
    for it in [&chat, &other] {
        for age in [0, 29, 31] {
            arrive(store, it, &format!("m{age}"), age, now, 0).await;
        }
    }
    let all = read(&[Some("0 days old"), Some("29 days old"), Some("31 days old")]);
    assert_eq!(shown(store, &chat).await, all);

    // Off is off.
    assert_eq!(kept_from(now, 0), None);
    let first = kept_from(now, DAYS).unwrap();
    assert_eq!(store.vault().erase_days_before(first).await.unwrap(), 2);
    assert_eq!(store.vault().erase_days_before(first).await.unwrap(), 0);
    let left = read(&[Some("0 days old"), Some("29 days old"), None]);
    for it in [&chat, &other] {
        assert_eq!(shown(store, it).await, left);
        assert_eq!(shown(&world.another_store().await, it).await, left);
    }

    // History that comes late: of a day that is erased, and of one that never had a key.
    arrive(store, &chat, "late", 31, now, DAYS).await;
    arrive(store, &chat, "later", 40, now, DAYS).await;
    let mut late = left.clone();
    late.extend([None, None]);
    assert_eq!(shown(store, &chat).await, late);
    // Keeping more from now on brings nothing back, and no new key for a day that was erased.
    arrive(store, &chat, "latest", 31, now, 90).await;
    let last = shown(store, &chat).await;
    assert_eq!(last.iter().flatten().count(), 2, "{last:?}");
    assert_eq!(last.len(), 6);

    let tomorrow = now + chrono::Duration::days(1);
    let first = kept_from(tomorrow, DAYS).unwrap();
    store.vault().erase_days_before(first).await.unwrap();
    assert_eq!(
        shown(store, &other).await[1],
        Some("29 days old".to_owned())
    );
    let certificate = rebuild(world.pool(), Projection::Inbox, End::Drop, &|_| {}).await;
    assert_eq!(certificate.unwrap().verdict, Verdict::Equal);
}

#[tokio::test]
async fn many_days_of_many_people_go_shard_by_shard() {
    let world = World::new().await;
    let vault = world.store.vault();
    let now = Utc::now();
    for n in 1..=12 {
        for age in 0..10 {
            let at = now - chrono::Duration::days(age);
            vault.content(user(n), at, None).await.unwrap();
        }
    }
    let first = kept_from(now, 4).unwrap();
    assert_eq!(vault.erase_days_before(first).await.unwrap(), 12 * 5);
    let (kept, erased): (i64, i64) =
        sqlx::query_as("SELECT count(wrapped), count(erased_at) FROM data_keys WHERE kind = 'day'")
            .fetch_one(world.pool())
            .await
            .unwrap();
    assert_eq!((kept, erased), (12 * 5, 12 * 5));
    // People's own keys and raw input are not a matter of days.
    let own: i64 = sqlx::query_scalar("SELECT count(wrapped) FROM data_keys WHERE kind = 'user'")
        .fetch_one(world.pool())
        .await
        .unwrap();
    assert_eq!(own, 12);
}
