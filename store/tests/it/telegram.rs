//! Sessions of Telegram user accounts: one holder, and only the holder writes.

use std::time::Duration;

use hub_domain::id::{AccountId, UserId};
use hub_domain::platform::{Connected, Platform};
use hub_store::account::Owner;
use uuid::Uuid;

use crate::world::World;

const LONG: Duration = Duration::from_secs(600);
const OVER: Duration = Duration::ZERO;

async fn connected(world: &World) -> Owner {
    let owner = Owner {
        user: UserId(Uuid::now_v7()),
        account: AccountId(Uuid::now_v7()),
    };
    put(world, owner, "first").await;
    let store = &world.store;
    store
        .put_owner(Platform::Telegram, "42", owner)
        .await
        .unwrap();
    owner
}

async fn put(world: &World, owner: Owner, session: &str) {
    let connected = Connected {
        platform_user_id: "42".to_owned(),
        username: "ann".to_owned(),
        route: "42".to_owned(),
        access_token: session.into(),
        refresh_token: None,
        expires_in_s: None,
        granted: None,
    };
    let store = &world.store;
    store
        .put_account_tokens(owner, &connected, None)
        .await
        .unwrap();
}

async fn session(world: &World, owner: Owner) -> Option<String> {
    let credentials = world.store.credentials(owner, "42").await.unwrap();
    credentials.map(|it| it.access_token.expose().to_owned())
}

#[tokio::test]
async fn a_session_has_one_holder_and_nobody_else_writes_it() {
    let world = World::new().await;
    let store = &world.store;
    let owner = connected(&world).await;
    let found = store.telegram_accounts().await.unwrap();
    assert_eq!((found.len(), found[0].owner), (1, owner));
    let version = found[0].version;
    assert!(found[0].is_free);

    let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
    let another = world.another_store().await;
    let (one, two) = tokio::join!(
        store.take_telegram(owner, first, LONG),
        another.take_telegram(owner, second, LONG),
    );
    let (one, two) = (one.unwrap(), two.unwrap());
    assert!(one != two, "exactly one of them has it");
    let (holder, other) = if one {
        (first, second)
    } else {
        (second, first)
    };
    assert!(!store.telegram_accounts().await.unwrap()[0].is_free);
    assert!(
        store
            .renew_telegram(owner, holder, version, LONG)
            .await
            .unwrap()
    );
    assert!(
        !store
            .renew_telegram(owner, other, version, LONG)
            .await
            .unwrap()
    );
    assert!(
        !store
            .save_telegram(owner, other, version, "theirs")
            .await
            .unwrap()
    );
    assert!(
        store
            .save_telegram(owner, holder, version, "ours")
            .await
            .unwrap()
    );
    assert_eq!(session(&world, owner).await.as_deref(), Some("ours"));

    // The holder was asleep for longer than its lease: somebody else has it, and it finds out.
    assert!(
        store
            .renew_telegram(owner, holder, version, OVER)
            .await
            .unwrap()
    );
    assert!(
        !store
            .save_telegram(owner, holder, version, "late")
            .await
            .unwrap()
    );
    assert!(store.take_telegram(owner, other, LONG).await.unwrap());
    assert!(
        !store
            .renew_telegram(owner, holder, version, LONG)
            .await
            .unwrap()
    );
    store.release_telegram(owner, holder).await.unwrap();
    assert!(
        store
            .renew_telegram(owner, other, version, LONG)
            .await
            .unwrap()
    );

    // The person signed in again: what the holder has is of yesterday.
    put(&world, owner, "second").await;
    assert!(
        !store
            .renew_telegram(owner, other, version, LONG)
            .await
            .unwrap()
    );
    assert!(
        !store
            .save_telegram(owner, other, version, "old")
            .await
            .unwrap()
    );
    assert_eq!(session(&world, owner).await.as_deref(), Some("second"));
    let version = store.telegram_accounts().await.unwrap()[0].version;
    store.release_telegram(owner, other).await.unwrap();
    assert!(store.take_telegram(owner, first, LONG).await.unwrap());

    // Gone with the tokens.
    store.erase_account_tokens(owner).await.unwrap();
    assert!(
        !store
            .renew_telegram(owner, first, version, LONG)
            .await
            .unwrap()
    );
    let held: i64 = sqlx::query_scalar("SELECT count(*) FROM telegram_sessions")
        .fetch_one(world.pool())
        .await
        .unwrap();
    assert_eq!(held, 0);
}

#[tokio::test]
async fn a_half_open_login_is_one_person_s_for_one_number() {
    let world = World::new().await;
    let store = &world.store;
    let (ann, bob) = (UserId(Uuid::now_v7()), UserId(Uuid::now_v7()));
    let phone = "+15551234567";
    store.put_telegram_login(ann, phone, "first").await.unwrap();
    store.put_telegram_login(ann, phone, "again").await.unwrap();
    let found = store.telegram_login(ann, phone).await.unwrap();
    assert_eq!(found.as_deref(), Some("again"));
    assert_eq!(store.telegram_login(bob, phone).await.unwrap(), None);
    assert_eq!(store.telegram_login(ann, "+1555").await.unwrap(), None);
    let readable: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM oauth_states WHERE verifier LIKE '%again%' OR user_id <> $1",
    )
    .bind(ann.0)
    .fetch_one(world.pool())
    .await
    .unwrap();
    assert_eq!(readable, 0);
    sqlx::query("UPDATE oauth_states SET expires_at = now()")
        .execute(world.pool())
        .await
        .unwrap();
    assert_eq!(store.telegram_login(ann, phone).await.unwrap(), None);
    store.put_telegram_login(ann, phone, "more").await.unwrap();
    store.end_telegram_login(ann, phone).await.unwrap();
    assert_eq!(store.telegram_login(ann, phone).await.unwrap(), None);
}
