//! Subscriptions: due when they should be, in the directory under every name, gone with a person.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use hub_domain::envelope::{Append, Meta};
use hub_domain::event::{AccountConnected, Sealed};
use hub_domain::id::{Key, UserId, account_id};
use hub_domain::platform::Platform;
use hub_domain::platform::call::Subscription;
use hub_store::account::Owner;
use hub_store::subscriptions;
use uuid::Uuid;

use crate::world::World;

const PLATFORM: Platform = Platform::Teams;

fn subscription(id: &str) -> Subscription {
    Subscription {
        id: id.to_owned(),
        expires_at: Utc::now() + TimeDelta::hours(1),
    }
}

async fn connected(world: &World, user: UserId) -> Owner {
    let account = account_id(user, PLATFORM, "nora");
    let event = AccountConnected {
        user,
        account,
        platform: PLATFORM,
        platform_user_id: "nora".to_owned(),
        username: Sealed("h1.x".to_owned()),
        route: "nora".to_owned(),
    };
    let shard = world.store.sharding().of_user(user);
    let append = Append::one(shard, account, event).once(Key::of(&[account.0.as_bytes()]));
    let appended = world.store.append(append).await.unwrap();
    assert!(appended.is_new());
    let owner = Owner { user, account };
    world
        .store
        .put_owner(PLATFORM, "nora", owner)
        .await
        .unwrap();
    owner
}

async fn told(world: &World, route: &str) -> Vec<Owner> {
    world.store.owners(PLATFORM, route).await.unwrap()
}

#[tokio::test]
async fn one_is_due_until_it_is_there_and_again_when_it_is_lost() {
    let world = World::new().await;
    let store = &world.store;
    let owner = connected(&world, UserId(Uuid::from_u128(7))).await;
    assert!(store.subscription(owner).await.unwrap().is_due);
    let put = async |id: &str, renew_in: Duration| {
        let it = subscription(id);
        store
            .put_subscription(PLATFORM, owner, &it, renew_in)
            .await
            .unwrap();
        store.subscription(owner).await.unwrap()
    };
    let held = put("s1", Duration::from_secs(1800)).await;
    assert_eq!((held.id.as_deref(), held.is_due), (Some("s1"), false));
    assert_eq!(told(&world, "s1").await, [owner]);
    assert!(put("s1", Duration::ZERO).await.is_due, "its half is over");
    store
        .renew_subscription_in(owner, Duration::from_secs(60))
        .await
        .unwrap();
    assert!(!store.subscription(owner).await.unwrap().is_due);
    // What is over already says nothing about the one that holds.
    store.lose_subscription(owner, "s0").await.unwrap();
    assert!(!store.subscription(owner).await.unwrap().is_due);
    store.lose_subscription(owner, "s1").await.unwrap();
    let held = store.subscription(owner).await.unwrap();
    assert_eq!((held.id, held.is_due), (None, true));
    // What was under way still arrives.
    assert_eq!(told(&world, "s1").await, [owner]);
    put("s2", Duration::from_secs(1800)).await;
    store.leave_subscriptions(PLATFORM, owner).await.unwrap();
    for route in ["s1", "s2"] {
        assert!(told(&world, route).await.is_empty());
    }
    assert_eq!(store.subscription(owner).await.unwrap().id, None);
    let due = subscriptions::due(store.pool(), &["teams"], 10)
        .await
        .unwrap();
    assert!(due.is_empty(), "no read model shows an account yet");
}

#[tokio::test]
async fn raw_input_that_came_by_a_former_one_goes_with_the_person() {
    let world = World::new().await;
    let store = &world.store;
    let owner = connected(&world, UserId(Uuid::from_u128(9))).await;
    for id in ["s1", "s2"] {
        let it = subscription(id);
        let renew_in = Duration::from_secs(1800);
        store
            .put_subscription(PLATFORM, owner, &it, renew_in)
            .await
            .unwrap();
        let routes = [id.to_owned()];
        let sealed = store
            .vault()
            .seal_raw(PLATFORM, &routes, Utc::now(), "raw")
            .await;
        sealed.unwrap();
    }
    assert_eq!(store.estate(owner.user).await.unwrap().raw_keys, 2);
    let begun = store
        .begin_erasure(owner.user, Meta::default())
        .await
        .unwrap();
    let erased = store.finish_erasure(owner.user, begun).await.unwrap();
    assert_eq!((erased.raw_keys, erased.waiting), (2, 0));
    for route in ["nora", "s1", "s2"] {
        assert!(told(&world, route).await.is_empty());
    }
    assert_eq!(store.subscription(owner).await.unwrap().expires_at, None);
}
