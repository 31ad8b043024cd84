//! Connecting accounts: states, tokens, owners, and answers for those who wait.

use std::time::{Duration, Instant};

use futures::future::join_all;
use hub_domain::id::{AccountId, Shard};
use hub_domain::platform::{Connected, Platform};
use hub_domain::secret::Secret;
use hub_store::account::Owner;
use hub_store::oauth::Begun;
use uuid::Uuid;

use crate::facts::{at, key, user};
use crate::world::{SOON, World};

fn begun() -> Begun {
    Begun {
        user: user(5),
        platform: Platform::Twitter,
        verifier: Some("the verifier".to_owned()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_oauth_state_is_taken_once() {
    let world = World::new().await;
    world
        .store
        .put_oauth_state("state", &begun())
        .await
        .unwrap();
    let racers = (0..8).map(|_| world.store.take_oauth_state("state", Platform::Twitter));
    let taken: Vec<Begun> = join_all(racers)
        .await
        .into_iter()
        .filter_map(|it| it.unwrap())
        .collect();
    assert_eq!(taken, [begun()]);
}

#[tokio::test]
async fn a_state_for_another_platform_or_too_late_or_unknown_is_nothing() {
    let world = World::new().await;
    let take = |state| world.store.take_oauth_state(state, Platform::Twitter);
    assert_eq!(take("never begun").await.unwrap(), None);
    world.store.put_oauth_state("late", &begun()).await.unwrap();
    sqlx::query("UPDATE oauth_states SET expires_at = now() - interval '1 second'")
        .execute(world.pool())
        .await
        .unwrap();
    assert_eq!(take("late").await.unwrap(), None);
    world.store.put_oauth_state("mine", &begun()).await.unwrap();
    let wrong = world.store.take_oauth_state("mine", Platform::Linkedin);
    assert_eq!(wrong.await.unwrap(), None);
    // Somebody mixes platforms up on purpose: that state is spent.
    assert_eq!(take("mine").await.unwrap(), None);
    world.store.put_oauth_state("old", &begun()).await.unwrap();
    sqlx::query("UPDATE oauth_states SET expires_at = now() - interval '1 second'")
        .execute(world.pool())
        .await
        .unwrap();
    assert_eq!(world.store.delete_expired_oauth_states().await.unwrap(), 1);
}

#[tokio::test]
async fn the_first_answer_stays() {
    let world = World::new().await;
    let (shard, name) = (Shard(1), key("answer"));
    world.store.put_answer(shard, name, &"first").await.unwrap();
    world
        .store
        .put_answer(shard, name, &"second")
        .await
        .unwrap();
    let answer: Option<String> = world.store.answer(shard, name).await.unwrap();
    assert_eq!(answer.as_deref(), Some("first"));
    let old = world
        .store
        .delete_old_answers(Duration::from_secs(60))
        .await;
    assert_eq!(old.unwrap(), 0);
    let all = world.store.delete_old_answers(Duration::ZERO).await;
    assert_eq!(all.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_an_answer_gets_it_from_any_process() {
    let world = World::new().await;
    let other = world.another_store().await;
    let (shard, name) = (Shard(1), key("answer"));
    for store in [&world.store, &other] {
        sqlx::query("DELETE FROM answers")
            .execute(world.pool())
            .await
            .unwrap();
        let began = Instant::now();
        let waiting = world.store.wait_for_answer::<u32>(shard, name, SOON);
        let answering = async {
            assert!(store.answer::<u32>(shard, name).await.unwrap().is_none());
            store.put_answer(shard, name, &7).await.unwrap();
        };
        let (answer, ()) = tokio::join!(waiting, answering);
        assert_eq!(answer.unwrap(), Some(7));
        assert!(began.elapsed() < SOON / 4, "{:?}", began.elapsed());
    }
    let nobody = world
        .store
        .wait_for_answer::<u32>(shard, key("none"), Duration::from_millis(50));
    assert_eq!(nobody.await.unwrap(), None);
}

fn connected(access: &str, refresh: Option<&str>) -> Connected {
    Connected {
        platform_user_id: "42".to_owned(),
        username: "ada".to_owned(),
        route: "42".to_owned(),
        access_token: Secret::new(access),
        refresh_token: refresh.map(Secret::new),
        expires_in_s: Some(3600),
        granted: None,
    }
}

fn owner(n: u128) -> Owner {
    Owner {
        user: user(n),
        account: AccountId(Uuid::from_u128(1000 + n)),
    }
}

#[tokio::test]
async fn a_refresh_token_is_not_replaced_by_nothing() {
    let world = World::new().await;
    let put = |connected| {
        let store = &world.store;
        async move {
            let expires = Some(at(3600));
            store
                .put_account_tokens(owner(1), &connected, expires)
                .await
                .unwrap();
            store.credentials(owner(1), "42").await.unwrap().unwrap()
        }
    };
    let first = put(connected("access 1", Some("refresh 1"))).await;
    assert_eq!(first.access_token.expose(), "access 1");
    let second = put(connected("access 2", None)).await;
    assert_eq!(second.access_token.expose(), "access 2");
    assert_eq!(second.refresh_token.unwrap().expose(), "refresh 1");
    let third = put(connected("access 3", Some("refresh 3"))).await;
    assert_eq!(third.refresh_token.unwrap().expose(), "refresh 3");
    assert_eq!(third.granted, None);
    let granting = Connected {
        granted: Some("openid,w_messages".to_owned()),
        ..connected("access 4", None)
    };
    let fourth = put(granting).await;
    assert_eq!(fourth.granted.as_deref(), Some("openid,w_messages"));
    let granted = world.store.granted(owner(1)).await.unwrap();
    assert_eq!(granted, fourth.granted);
    // A renewal that does not say leaves what was said.
    for (said, kept) in [(None, "openid,w_messages"), (Some("openid"), "openid")] {
        let version = world.store.token_state(owner(1)).await.unwrap();
        let version = version.unwrap().version;
        let claim = world.store.claim_renewal(owner(1), "42", version).await;
        let claim = claim.unwrap().expect("a claim");
        let new = hub_domain::platform::call::Tokens {
            access_token: Secret::new("access 5"),
            granted: said.map(str::to_owned),
            ..Default::default()
        };
        let finished = world.store.finish_renewal(owner(1), &claim, None, &new);
        assert!(finished.await.unwrap());
        let held = world.store.granted(owner(1)).await.unwrap();
        assert_eq!(held.as_deref(), Some(kept));
    }
    world.store.erase_account_tokens(owner(1)).await.unwrap();
    assert!(
        world
            .store
            .credentials(owner(1), "42")
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn the_directory_knows_every_owner_of_a_platform_account_once() {
    let world = World::new().await;
    let store = &world.store;
    for n in [1, 2, 2] {
        store
            .put_owner(Platform::Facebook, "page", owner(n))
            .await
            .unwrap();
    }
    store
        .put_owner(Platform::Instagram, "page", owner(3))
        .await
        .unwrap();
    let owners = || store.owners(Platform::Facebook, "page");
    assert_eq!(owners().await.unwrap(), [owner(1), owner(2)]);
    store
        .remove_owner(Platform::Facebook, "page", owner(1))
        .await
        .unwrap();
    assert_eq!(owners().await.unwrap(), [owner(2)]);
    assert_eq!(store.owners(Platform::Facebook, "other").await.unwrap(), []);
}
