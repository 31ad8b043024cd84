//! Logins and sessions: one address one user, one token one successor, and logout is final.

use std::time::Duration;

use chrono::Utc;
use futures::future::join_all;
use hub_domain::envelope::Meta;
use hub_domain::event::{Event, Revocation};
use hub_domain::id::{SessionId, StreamId, UserId, login_stream};
use hub_store::session::{Exchanged, NewToken, Pair};
use hub_store::{Error, Store};
use uuid::Uuid;

use crate::facts::user;
use crate::world::{World, whole_log};

const TWIN: Duration = Duration::from_secs(10);
const NO_REUSE: Duration = Duration::ZERO;
const WEEK: Duration = Duration::from_secs(604_800);

fn token(n: u8) -> NewToken {
    NewToken {
        hash: [n; 32],
        expires_at: Utc::now() + chrono::Duration::days(1),
    }
}

/// A user with a session whose first token is number 1.
async fn logged_in(store: &Store) -> UserId {
    let owner = user(5);
    let session = SessionId(Uuid::from_u128(50));
    store
        .start_session(owner, session, &token(1), Meta::default())
        .await
        .unwrap();
    owner
}

/// Presents token `old`; if it is taken, its successor is token `new`.
async fn exchange(store: &Store, owner: UserId, old: u8, new: u8, reuse: Duration) -> Exchanged {
    let make = |_| {
        let pair = Pair {
            access: format!("access {new}"),
            refresh: format!("refresh {new}"),
        };
        (pair, token(new))
    };
    store
        .exchange_refresh_token(owner, [old; 32], TWIN, reuse, make)
        .await
        .unwrap()
}

/// The moments in which twins are recognised pass, on the database's clock.
async fn time_passes(store: &Store, seconds: i32) {
    sqlx::query(
        "UPDATE refresh_tokens SET rotated_at = rotated_at - $1 * interval '1 second', \
         expires_at = expires_at - $1 * interval '1 second'",
    )
    .bind(seconds)
    .execute(store.pool())
    .await
    .unwrap();
}

fn is_new(exchanged: &Exchanged) -> bool {
    matches!(exchanged, Exchanged::New(_))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twins_get_the_same_pair() {
    let world = World::new().await;
    let other = world.another_store().await;
    let owner = logged_in(&world.store).await;
    let twins = (2..22).map(|new| {
        let store = if new % 2 == 0 { &world.store } else { &other };
        exchange(store, owner, 1, new, NO_REUSE)
    });
    let outcomes = join_all(twins).await;
    assert_eq!(outcomes.iter().filter(|it| is_new(it)).count(), 1);
    let pairs: Vec<&Pair> = outcomes
        .iter()
        .map(|it| match it {
            Exchanged::New(pair) | Exchanged::Same(pair) => pair,
            Exchanged::Refused | Exchanged::Reused => panic!("a twin was refused"),
        })
        .collect();
    assert!(pairs.iter().all(|pair| *pair == pairs[0]));
    let tokens: i64 = sqlx::query_scalar("SELECT count(*) FROM refresh_tokens")
        .fetch_one(world.pool())
        .await
        .unwrap();
    assert_eq!(tokens, 2);
    assert_eq!(whole_log(world.pool()).await.len(), 2);
}

/// Tokens of the family that can still be exchanged.
async fn alive(store: &Store) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM refresh_tokens WHERE revoked_at IS NULL")
        .fetch_one(store.pool())
        .await
        .unwrap()
}

/// The reasons why tokens were revoked, in order.
async fn revocations(store: &Store) -> Vec<Revocation> {
    let log = whole_log(store.pool()).await.into_iter();
    log.filter_map(|recorded| match recorded.event {
        Event::SessionRevoked(it) => {
            assert_eq!(recorded.stream, StreamId::from(it.session));
            Some(it.reason)
        }
        _ => None,
    })
    .collect()
}

#[tokio::test]
async fn a_token_used_one_after_the_other_ends_its_family_and_no_other() {
    let world = World::new().await;
    let owner = logged_in(&world.store).await;
    let other = SessionId(Uuid::from_u128(51));
    let elsewhere = token(100);
    let begun = world
        .store
        .start_session(owner, other, &elsewhere, Meta::default());
    begun.await.unwrap();
    assert!(is_new(&exchange(&world.store, owner, 1, 2, NO_REUSE).await));
    assert!(is_new(&exchange(&world.store, owner, 2, 3, NO_REUSE).await));
    time_passes(&world.store, 11).await;
    for _ in 0..2 {
        let reused = exchange(&world.store, owner, 1, 4, NO_REUSE).await;
        let first = revocations(&world.store).await.len();
        assert_eq!(first, 1, "said once");
        assert!(matches!(reused, Exchanged::Reused | Exchanged::Refused));
    }
    assert_eq!(revocations(&world.store).await, [Revocation::Reuse]);
    for dead in 1..=3 {
        let refused = exchange(&world.store, owner, dead, 5, WEEK).await;
        assert_eq!(refused, Exchanged::Refused, "{dead}, whatever the window");
    }
    // Another login of the same person goes on.
    assert_eq!(alive(&world.store).await, 1);
    assert!(is_new(
        &exchange(&world.store, owner, 100, 6, NO_REUSE).await
    ));
}

#[tokio::test]
async fn a_window_as_long_as_a_token_lives_ends_nothing() {
    let world = World::new().await;
    let owner = logged_in(&world.store).await;
    // A client that never stores what it gets.
    for n in 2..8 {
        let day = Duration::from_secs(86_400);
        assert!(is_new(&exchange(&world.store, owner, 1, n, day).await));
        time_passes(&world.store, 14_000).await;
    }
    time_passes(&world.store, 14_000).await;
    let ended = exchange(&world.store, owner, 1, 9, Duration::from_secs(86_400)).await;
    assert_eq!(ended, Exchanged::Refused, "its time is over");
    assert_eq!(revocations(&world.store).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_successor_that_is_made_while_its_family_ends_ends_with_it() {
    let world = World::new().await;
    let other = world.another_store().await;
    let owner = logged_in(&world.store).await;
    assert!(is_new(&exchange(&world.store, owner, 1, 2, NO_REUSE).await));
    time_passes(&world.store, 11).await;
    let (holds, held) = tokio::sync::oneshot::channel();
    let store = world.store.clone();
    let rightful = tokio::spawn(async move {
        let make = |_| {
            // Token 2 is locked now. Whoever revokes looks for successors before there is one.
            holds.send(()).unwrap();
            tokio::task::block_in_place(|| std::thread::sleep(Duration::from_millis(500)));
            let pair = Pair {
                access: "access 3".to_owned(),
                refresh: "refresh 3".to_owned(),
            };
            (pair, token(3))
        };
        let exchanged = store.exchange_refresh_token(owner, [2; 32], TWIN, NO_REUSE, make);
        exchanged.await.unwrap()
    });
    held.await.unwrap();
    let thief = exchange(&other, owner, 1, 4, NO_REUSE).await;
    assert_eq!(thief, Exchanged::Reused);
    assert!(is_new(&rightful.await.unwrap()));
    assert_eq!(alive(&world.store).await, 0);
    assert_eq!(revocations(&world.store).await, [Revocation::Reuse]);
    let late = exchange(&other, owner, 3, 5, WEEK).await;
    assert_eq!(late, Exchanged::Refused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_thieves_and_a_chain_of_refreshes_end_in_one_revocation() {
    let world = World::new().await;
    let other = world.another_store().await;
    let owner = logged_in(&world.store).await;
    for old in 1..5 {
        assert!(is_new(
            &exchange(&world.store, owner, old, old + 1, NO_REUSE).await
        ));
    }
    time_passes(&world.store, 11).await;
    let thieves = (0..20).map(|n| {
        let store = if n % 2 == 0 { &world.store } else { &other };
        exchange(store, owner, 1 + n % 4, 100 + n, NO_REUSE)
    });
    let chain = async {
        for old in 5..60 {
            if !is_new(&exchange(&world.store, owner, old, old + 1, NO_REUSE).await) {
                return old;
            }
        }
        panic!("a family that ended was refreshed for ever");
    };
    let (thieves, _) = tokio::join!(join_all(thieves), chain);
    assert!(thieves.contains(&Exchanged::Reused));
    assert!(!thieves.iter().any(is_new));
    assert_eq!(alive(&world.store).await, 0);
    assert_eq!(revocations(&world.store).await, [Revocation::Reuse]);
}

#[tokio::test]
async fn a_reuse_window_is_counted_from_the_first_rotation() {
    let world = World::new().await;
    let owner = logged_in(&world.store).await;
    let window = Duration::from_secs(3600);
    assert!(is_new(&exchange(&world.store, owner, 1, 2, window).await));
    time_passes(&world.store, 1800).await;
    assert!(is_new(&exchange(&world.store, owner, 1, 3, window).await));
    // Had the second use begun it anew, this would still be inside.
    time_passes(&world.store, 1900).await;
    let late = exchange(&world.store, owner, 1, 4, window).await;
    assert_eq!(late, Exchanged::Reused);
}

#[tokio::test]
async fn a_logout_is_final_inside_every_window() {
    let world = World::new().await;
    let owner = logged_in(&world.store).await;
    assert!(is_new(&exchange(&world.store, owner, 1, 2, WEEK).await));
    world
        .store
        .revoke_refresh_token(owner, [1; 32])
        .await
        .unwrap();
    let rotated = exchange(&world.store, owner, 1, 3, WEEK).await;
    assert_eq!(
        rotated,
        Exchanged::Refused,
        "neither as a twin nor as a reuse"
    );
    world
        .store
        .revoke_refresh_token(owner, [2; 32])
        .await
        .unwrap();
    let fresh = exchange(&world.store, owner, 2, 4, WEEK).await;
    assert_eq!(fresh, Exchanged::Refused);
    // Saying it again changes nothing.
    let events = whole_log(world.pool()).await.len();
    world
        .store
        .revoke_refresh_token(owner, [2; 32])
        .await
        .unwrap();
    world
        .store
        .revoke_refresh_token(owner, [99; 32])
        .await
        .unwrap();
    assert_eq!(whole_log(world.pool()).await.len(), events);
}

#[tokio::test]
async fn unknown_expired_and_foreign_tokens_are_refused() {
    let world = World::new().await;
    let owner = logged_in(&world.store).await;
    let unknown = exchange(&world.store, owner, 9, 2, WEEK).await;
    assert_eq!(unknown, Exchanged::Refused);
    for n in 100..120 {
        let foreign = exchange(&world.store, user(n), 1, 2, WEEK).await;
        assert_eq!(foreign, Exchanged::Refused);
    }
    time_passes(&world.store, 90_000).await;
    let expired = exchange(&world.store, owner, 1, 2, WEEK).await;
    assert_eq!(expired, Exchanged::Refused);
    let deleted = world.store.delete_expired_refresh_tokens().await;
    assert_eq!(deleted.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_registrations_of_an_address_wins() {
    let world = World::new().await;
    let other = world.another_store().await;
    let stream = login_stream("ada@example.org");
    let racers = (0..12).map(|n| {
        let store = if n % 2 == 0 { &world.store } else { &other };
        let hash = format!("hash {n}");
        async move {
            let meta = Meta::default();
            store
                .register(stream, user(100 + n), "ada@example.org", &hash, meta)
                .await
        }
    });
    let outcomes = join_all(racers).await;
    let winners: Vec<_> = outcomes.iter().filter_map(|it| it.as_ref().ok()).collect();
    assert_eq!(winners.len(), 1);
    for loser in outcomes.iter().filter_map(|it| it.as_ref().err()) {
        assert!(matches!(loser, Error::Conflict { .. }), "{loser}");
    }
    let login = world.store.login(stream).await.unwrap().unwrap();
    assert_eq!(login.user, winners[0].user);
    assert_eq!(login.password_hash, winners[0].password_hash);
    assert_eq!(whole_log(world.pool()).await.len(), 1);
    let nobody = world.store.login(login_stream("bob@example.org")).await;
    assert!(nobody.unwrap().is_none());
}
