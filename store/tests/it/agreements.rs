//! Who connected an account, by a digest that says nothing without the installation's key.

use chrono::{TimeDelta, Utc};
use hub_domain::id::{AccountId, UserId};
use hub_domain::platform::{Connected, Platform};
use hub_domain::secret::Secret;
use hub_store::account::Owner;
use std::time::Duration;
use uuid::Uuid;

use crate::world::World;

const ID: &str = "10158000000000001";

fn owner(n: u128) -> Owner {
    Owner {
        user: UserId(Uuid::from_u128(n)),
        account: AccountId(Uuid::from_u128(1000 + n)),
    }
}

async fn keep_tokens(world: &World, owner: Owner) {
    let connected = Connected {
        platform_user_id: "42".into(),
        username: "Shop".into(),
        route: "42".into(),
        access_token: Secret::new("access"),
        refresh_token: None,
        expires_in_s: None,
        granted: None,
    };
    let kept = world.store.put_account_tokens(owner, &connected, None);
    kept.await.unwrap();
}

#[tokio::test]
async fn an_account_is_found_by_whoever_connected_it_last() {
    let world = World::new().await;
    let store = &world.store;
    let (ann, bob) = (
        store.person(Platform::Facebook, ID),
        store.person(Platform::Facebook, "2"),
    );
    assert_ne!(ann, store.person(Platform::Whatsapp, ID));
    for n in [1, 2] {
        keep_tokens(&world, owner(n)).await;
        store.put_agreement(owner(n), ann, None).await.unwrap();
        store.put_agreement(owner(n), ann, None).await.unwrap();
    }
    assert_eq!(store.agreed(ann).await.unwrap(), [owner(1), owner(2)]);
    store.put_agreement(owner(1), bob, None).await.unwrap();
    assert_eq!(store.agreed(ann).await.unwrap(), [owner(2)]);
    assert_eq!(store.agreed(bob).await.unwrap(), [owner(1)]);
    // It outlives the tokens: what came through the account is still here.
    store.erase_account_tokens(owner(2)).await.unwrap();
    assert_eq!(store.agreed(ann).await.unwrap(), [owner(2)]);
    let stored: Vec<String> = sqlx::query_scalar("SELECT agreements::text FROM agreements")
        .fetch_all(world.pool())
        .await
        .unwrap();
    assert!(stored.iter().all(|row| !row.contains(ID)), "{stored:?}");
}

#[tokio::test]
async fn what_a_wish_is_about_is_written_once() {
    let world = World::new().await;
    let store = &world.store;
    let request = store.person(Platform::Facebook, "a request");
    assert_eq!(store.departed(request).await.unwrap(), None);
    let users = [owner(1).user, owner(2).user];
    store.begin_departure(request, 2, &users).await.unwrap();
    store.begin_departure(request, 0, &[]).await.unwrap();
    let begun = store.departed(request).await.unwrap().unwrap();
    assert_eq!((begun.found, begun.done_at), (2, None));
    assert_eq!(begun.users, users);
    store.end_departure(request).await.unwrap();
    let over = store.departed(request).await.unwrap().unwrap().done_at;
    store.end_departure(request).await.unwrap();
    let again = store.departed(request).await.unwrap().unwrap().done_at;
    assert!(over.is_some() && over == again);
}

#[tokio::test]
async fn codes_are_known_where_they_were_made_only() {
    let (world, other) = (World::new().await, World::new().await);
    let request = world.store.person(Platform::Facebook, ID);
    let code = world.store.confirmation_code(request);
    assert_eq!(world.store.request_of(&code), Some(request));
    assert_eq!(world.store.request_of(&code.to_uppercase()), None);
    for cut in 0..code.len() {
        assert_eq!(world.store.request_of(&code[..cut]), None);
    }
    assert_eq!(world.store.request_of(&"\u{e4}".repeat(24)), None);
    // The same installation: digests follow from its key.
    assert_eq!(other.store.request_of(&code), Some(request));
}

#[tokio::test]
async fn connecting_again_forgets_when_the_access_to_data_ended() {
    let world = World::new().await;
    let store = &world.store;
    let ann = store.person(Platform::Facebook, ID);
    let until = async || -> Option<chrono::DateTime<Utc>> {
        sqlx::query_scalar("SELECT data_access_until FROM account_tokens")
            .fetch_one(world.pool())
            .await
            .unwrap()
    };
    keep_tokens(&world, owner(1)).await;
    let soon = Some(Utc::now() + TimeDelta::days(3));
    store.put_agreement(owner(1), ann, soon).await.unwrap();
    assert!(until().await.is_some());
    keep_tokens(&world, owner(1)).await;
    assert_eq!(until().await, None);
    // An account that no read model shows is nobody's to be warned about.
    store.put_agreement(owner(1), ann, soon).await.unwrap();
    let ending = store.data_access_ending(Duration::from_secs(1 << 30), 10);
    assert_eq!(ending.await.unwrap(), []);
}
