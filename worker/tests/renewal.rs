//! Renewing tokens against a platform whose refresh tokens rotate, over real HTTP: once for all
//! workers, nothing lost that can be kept, and a clear end when the platform refuses.
//!
//! The platform is a few lines here, because what matters is when it answers what; the driver is the
//! worker's own.

#[path = "renewal/rotating.rs"]
mod rotating;

use std::time::{Duration, Instant};

use futures::future::join_all;
use hub_domain::event::{DATA_ACCESS_ENDS, Event};
use hub_domain::id::Shard;
use hub_domain::platform::call::Tokens;
use hub_store::jobs::{Job, Outcome};
use hub_store::read;
use hub_worker::jobs::Queue as _;
use hub_worker::jobs::maintenance::Maintenance;
use hub_worker::renewal::{Access, Attempt};
use rotating::{Says, World};

const MINUTE: i64 = 60;
const DAY: i64 = 24 * 3600;

fn granted(access: Access) -> String {
    match access {
        Access::Granted(held) => held.credentials.access_token.expose().to_owned(),
        other => panic!("{other:?}"),
    }
}

fn is_refused(access: &Access) -> bool {
    matches!(access, Access::Refused { .. })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_calls_of_two_workers_meet_an_expired_token_and_one_renews_it() {
    let world = World::new().await;
    world.connected("r0", -1).await;
    let other = world.another_worker().await;
    let calls = (0..50).map(|n| {
        let renewal = if n % 2 == 0 {
            world.renewal()
        } else {
            other.renewal()
        };
        tokio::spawn(async move { renewal.access().await.unwrap() })
    });
    for access in join_all(calls).await {
        assert_eq!(granted(access.unwrap()), "access of r1");
    }
    assert_eq!(world.platform.asked(), ["r0"]);
    assert_eq!(world.stored().await, ("r1".into(), Some("r0".into())));
}

#[tokio::test]
async fn a_token_that_is_good_is_left_alone_and_one_that_ends_soon_is_renewed() {
    let world = World::new().await;
    world.connected("r0", 6 * MINUTE).await;
    assert_eq!(
        granted(world.renewal().access().await.unwrap()),
        "access of r0"
    );
    assert!(world.platform.asked().is_empty());
    world.connected("r0", 4 * MINUTE).await;
    let access = world.renewal().access().await.unwrap();
    assert_eq!(granted(access), "access of r1");
    // It lives for two hours now; the next call takes it as it is.
    let access = world.renewal().access().await.unwrap();
    assert_eq!(granted(access), "access of r1");
    assert_eq!(world.platform.asked(), ["r0"]);
    // One without an end is never renewed, whatever the margin.
    world.endless("r0").await;
    let attempt = world.renewal().within(Duration::from_secs(1 << 30)).await;
    assert!(matches!(
        attempt.unwrap(),
        Attempt::Made(Access::Granted(_))
    ));
    assert_eq!(world.platform.asked(), ["r0"]);
}

#[tokio::test]
async fn a_stored_refresh_token_is_never_replaced_by_nothing() {
    let world = World::new().await;
    world.connected("r0", -1).await;
    world.platform.says(&[Says::SameAgain]);
    let access = world.renewal().access().await.unwrap();
    assert_eq!(granted(access), "access again");
    assert_eq!(world.stored().await, ("r0".into(), None));
    // Nor is the one before it, which is still the second choice.
    world.expire().await;
    world.renewal().access().await.unwrap();
    assert_eq!(world.stored().await, ("r1".into(), Some("r0".into())));
    world.expire().await;
    world.platform.says(&[Says::SameAgain]);
    world.renewal().access().await.unwrap();
    assert_eq!(world.stored().await, ("r1".into(), Some("r0".into())));
}

#[tokio::test]
async fn the_refresh_token_before_is_tried_when_the_newest_is_refused() {
    let world = World::new().await;
    world.connected("r0", -1).await;
    world.renewal().access().await.unwrap();
    world.expire().await;
    world.platform.says(&[Says::Refused]);
    let access = world.renewal().access().await.unwrap();
    assert_eq!(granted(access), "access of r2");
    assert_eq!(world.platform.asked(), ["r0", "r1", "r0"]);
    assert_eq!(world.stored().await, ("r2".into(), Some("r0".into())));
    assert_eq!(world.needs_reconnect().await, 0);
}

#[tokio::test]
async fn a_worker_that_dies_with_the_answer_is_followed_by_another() {
    let world = World::new().await;
    world.connected("r0", -1).await;
    // It claimed, and died before or after it asked.
    let version = world.state().await.version;
    let dead = world.claim(version).await.unwrap();
    assert!(world.claim(version).await.is_none());
    let began = Instant::now();
    let access = world.renewal().access().await.unwrap();
    assert!(matches!(access, Access::Wait { .. }), "{access:?}");
    assert!(began.elapsed() < Duration::from_secs(6));
    world.let_claims_end().await;
    let access = world.renewal().access().await.unwrap();
    assert_eq!(granted(access), "access of r1");
    // It was only slow after all: what is there now stays.
    let late = Tokens {
        access_token: "late".into(),
        refresh_token: Some("r0 late".into()),
        expires_in_s: None,
        granted: None,
    };
    let used = dead.credentials.refresh_token.clone();
    let store = world.context.store();
    let kept = store
        .finish_renewal(world.owner, &dead, used.as_ref(), &late)
        .await;
    assert!(!kept.unwrap());
    assert_eq!(world.stored().await, ("r1".into(), Some("r0".into())));
    // Had the other been at it still, and refused, the late one would have been its way out.
    world.expire().await;
    let slow = world.claim(world.state().await.version).await.unwrap();
    world.let_claims_end().await;
    world.platform.says(&[Says::RefusedSlowly]);
    let renewal = world.renewal();
    let (access, _) = tokio::join!(renewal.access(), async {
        world.platform.is_asking().await;
        let used = slow.credentials.refresh_token.clone();
        let kept = store
            .finish_renewal(world.owner, &slow, used.as_ref(), &late)
            .await;
        assert!(!kept.unwrap());
    });
    granted(access.unwrap());
    assert_eq!(world.platform.asked().last().unwrap(), "r0 late");
    assert_eq!(world.needs_reconnect().await, 0);
}

#[tokio::test]
async fn trouble_is_met_with_three_tries_and_then_with_patience() {
    let world = World::new().await;
    world.connected("r0", -1).await;
    world.platform.says(&[Says::Trouble, Says::Trouble]);
    let began = Instant::now();
    let access = world.renewal().access().await.unwrap();
    assert_eq!(granted(access), "access of r1");
    assert!(began.elapsed() >= Duration::from_secs(3), "1 s and 2 s");
    assert_eq!(world.platform.asked(), ["r0", "r0", "r0"]);

    world.expire_in(2 * MINUTE).await;
    world.platform.says(&[Says::Trouble; 3]);
    // It is good for two more minutes: nobody has to wait for trouble to end.
    let access = world.renewal().access().await.unwrap();
    assert_eq!(granted(access), "access of r1");
    let asked = world.platform.asked().len();
    assert_eq!(asked, 6);
    let access = world.renewal().access().await.unwrap();
    assert_eq!(granted(access), "access of r1");
    world.expire().await;
    let access = world.renewal().access().await.unwrap();
    assert!(matches!(access, Access::Wait { .. }), "{access:?}");
    assert_eq!(world.platform.asked().len(), asked, "nobody asks just now");
    assert_eq!(world.needs_reconnect().await, 0);
    world.let_claims_end().await;
    granted(world.renewal().access().await.unwrap());
}

#[tokio::test]
async fn a_wrong_secret_of_the_installation_is_no_accounts_fault() {
    let world = World::new().await;
    world.connected("r0", -1).await;
    world.platform.says(&[Says::NotOurs]);
    let access = world.renewal().access().await.unwrap();
    assert!(matches!(access, Access::Wait { after, .. } if after > Duration::from_secs(60)));
    let access = world.renewal().access().await.unwrap();
    assert!(matches!(access, Access::Wait { .. }), "{access:?}");
    assert_eq!(world.platform.asked(), ["r0"], "nobody asks just now");
    assert_eq!(world.needs_reconnect().await, 0);
    // The operator has mended it.
    world.let_claims_end().await;
    granted(world.renewal().access().await.unwrap());
}

#[tokio::test]
async fn a_new_token_that_is_called_dead_settles_first() {
    let world = World::new().await;
    world.unrenewable().await;
    let version = world.state().await.version;
    let word = world.renewal().after_refusal(version).await.unwrap();
    assert!(matches!(word, Some(Access::Wait { .. })), "{word:?}");
    tokio::time::sleep(rotating::SETTLING).await;
    let word = world.renewal().after_refusal(version).await.unwrap();
    assert!(word.is_none(), "{word:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_told_once_and_ends_with_the_next_connection() {
    let world = World::new().await;
    world.connected("r0", -1).await;
    world.platform.says(&[Says::Refused; 8]);
    let other = world.another_worker().await;
    let (one, two) = (world.renewal(), other.renewal());
    let (one, two) = tokio::join!(one.access(), two.access());
    assert!(is_refused(&one.unwrap()) && is_refused(&two.unwrap()));
    for _ in 0..3 {
        assert!(is_refused(&world.renewal().access().await.unwrap()));
    }
    assert_eq!(world.platform.asked(), ["r0"], "nobody asks again");
    assert_eq!(world.needs_reconnect().await, 1);
    // The same tokens are no news, whoever meets them.
    let version = world.state().await.version;
    world
        .context
        .refuse(world.owner, version, "again")
        .await
        .unwrap();
    assert_eq!(world.needs_reconnect().await, 1);

    world.platform.says(&[]);
    world.connected("r9", -1).await;
    let access = world.renewal().access().await.unwrap();
    assert_eq!(granted(access), "access of r1");
    // A late word about the tokens from before changes nothing.
    world
        .context
        .refuse(world.owner, version, "late")
        .await
        .unwrap();
    assert_eq!(world.needs_reconnect().await, 1);
    granted(world.renewal().access().await.unwrap());
}

#[tokio::test]
async fn what_the_platform_no_longer_accepts_is_renewed_once() {
    let world = World::new().await;
    world.connected("r0", DAY).await;
    let version = world.state().await.version;
    let newer = world.renewal().after_refusal(version).await.unwrap();
    assert_eq!(granted(newer.unwrap()), "access of r1");
    // Somebody who was refused with the token from before takes the newer one.
    let newer = world.renewal().after_refusal(version).await.unwrap();
    assert_eq!(granted(newer.unwrap()), "access of r1");
    assert_eq!(world.platform.asked(), ["r0"]);
    // A token that has just been renewed and is refused as well: renewing does not help.
    let version = world.state().await.version;
    let newer = world.renewal().after_refusal(version).await.unwrap();
    assert!(newer.is_none());
    assert_eq!(world.platform.asked(), ["r0"]);
}

#[tokio::test]
async fn nothing_comes_back_for_an_account_that_was_let_go_of_or_connected_again() {
    let world = World::new().await;
    let store = world.context.store();
    let new = Tokens {
        access_token: "from before".into(),
        refresh_token: Some("r0 next".into()),
        expires_in_s: Some(60),
        granted: None,
    };
    world.connected("r0", -1).await;
    let claim = world.claim(world.state().await.version).await.unwrap();
    store.erase_account_tokens(world.owner).await.unwrap();
    let used = claim.credentials.refresh_token.clone();
    let finish = store.finish_renewal(world.owner, &claim, used.as_ref(), &new);
    assert!(!finish.await.unwrap());
    assert!(store.token_state(world.owner).await.unwrap().is_none());
    let access = world.renewal().access().await.unwrap();
    assert!(matches!(access, Access::Gone));

    world.connected("r5", DAY).await;
    let finish = store.finish_renewal(world.owner, &claim, used.as_ref(), &new);
    assert!(!finish.await.unwrap());
    assert_eq!(world.stored().await, ("r5".into(), None));
}

#[tokio::test]
async fn the_schedule_finds_what_expires_and_nothing_else() {
    let world = World::new().await;
    world.shown(true).await;
    let within = Duration::from_secs(15 * 60);
    let found = async || {
        let found = world
            .context
            .store()
            .expiring(rotating::PLATFORM, within, 10);
        found.await.unwrap().len()
    };
    for (expires_in, expected) in [(-MINUTE, 1), (14 * MINUTE, 1), (16 * MINUTE, 0)] {
        world.connected("r0", expires_in).await;
        assert_eq!(found().await, expected, "{expires_in}");
    }
    world.endless("r0").await;
    assert_eq!(found().await, 0);
    world.connected("r0", -1).await;
    let version = world.state().await.version;
    world
        .context
        .refuse(world.owner, version, "no")
        .await
        .unwrap();
    assert_eq!(found().await, 0, "it waits for somebody");
    world.connected("r0", -1).await;
    world.shown(false).await;
    assert_eq!(found().await, 0, "disconnected");
}

#[tokio::test]
async fn a_pause_holds_in_every_process_and_is_never_made_shorter() {
    let world = World::new().await;
    world.connected("r0", DAY).await;
    let other = world.another_worker().await;
    let admit = || other.context.admit(rotating::PLATFORM, other.owner);
    assert_eq!(admit().await.unwrap(), None);
    world
        .context
        .pause(world.owner, Duration::from_millis(800))
        .await
        .unwrap();
    world
        .context
        .pause(world.owner, Duration::from_millis(10))
        .await
        .unwrap();
    let wait = admit().await.unwrap().unwrap().come_back();
    assert!(wait > Duration::from_millis(300), "{wait:?}");
    tokio::time::sleep(wait).await;
    assert_eq!(admit().await.unwrap(), None);
}

#[tokio::test]
async fn whoever_has_to_connect_again_soon_is_told_once_for_each_time() {
    let world = World::new().await;
    let keep_house = Maintenance::new(world.context.clone());
    let job = Job {
        shard: Shard(0),
        id: uuid::Uuid::nil(),
        key: "data-access".into(),
        payload: serde_json::Value::Null,
        attempts: 1,
        fence: 1,
        seq: 1,
    };
    let told = async || {
        assert_eq!(keep_house.run(&job).await.unwrap(), Outcome::Done);
        let noted =
            |event: &Event| matches!(event, Event::AccountNoted(it) if it.fact == DATA_ACCESS_ENDS);
        world.events(noted).await
    };
    let store = world.context.store();
    let person = store.person(rotating::PLATFORM, "10158000000000001");
    let ends_in = async |days: i64| {
        let until = chrono::Utc::now() + chrono::TimeDelta::days(days);
        let kept = store.put_agreement(world.owner, person, Some(until)).await;
        kept.unwrap();
    };
    world.endless("r0").await;
    world.shown(true).await;
    ends_in(15).await;
    assert_eq!(told().await, 0, "not two weeks ahead");
    ends_in(13).await;
    assert_eq!((told().await, told().await), (1, 1));
    ends_in(12).await;
    assert_eq!(told().await, 2, "another time");
    ends_in(-1).await;
    assert_eq!(told().await, 2, "it is over: nothing to warn of");
    world.shown(false).await;
    ends_in(11).await;
    assert_eq!(told().await, 2, "it is disconnected");
    assert_eq!(world.needs_reconnect().await, 0);
}

/// How many events of the log say that the account needs somebody.
impl World {
    async fn needs_reconnect(&self) -> usize {
        let needs = |event: &Event| matches!(event, Event::AccountNeedsReconnect(_));
        self.events(needs).await
    }

    async fn events(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        let mut found = 0;
        for shard in 0..rotating::SHARDS {
            let place = hub_domain::id::Place {
                shard: Shard(shard as i16),
                position: 0,
            };
            let events = read::after(self.context.store().pool(), place, 1_000).await;
            let events = events.unwrap().into_iter();
            found += events.filter(|it| wanted(&it.event)).count();
        }
        found
    }
}
