//! Forgetting an account and fetching it anew.

use std::time::Duration;

use hub_domain::id::Epoch;
use hub_domain::platform::telegram_user::{Chat, ChatKind, Item, Message, Told};

use hub_store::generation::{End, Verdict, rebuild};
use hub_store::project::Projection;

use crate::telegram::{self, Telegram};
use crate::world::{ROUTE, World, eventually};

fn told(ids: &[i64]) -> Told {
    let message = |id: &i64| {
        Item::Message(Message {
            chat: Chat::new(ChatKind::User, 7),
            id: *id,
            out: false,
            from: None,
            date: 1_750_000_000 + id,
            text: telegram::text(*id),
            media: None,
            reply_to: None,
            edit_date: None,
            edit_hidden: false,
            reactions: Vec::new(),
            is_read: *id == 3,
            detail: serde_json::Map::default(),
        })
    };
    Told::new(ROUTE, &ids.iter().map(message).collect::<Vec<_>>())
}

async fn verify(world: &World) {
    for projection in Projection::ALL {
        let rebuilt = rebuild(world.pool(), projection, End::Drop, &|_| {}).await;
        assert_eq!(rebuilt.unwrap().verdict, Verdict::Equal, "{projection:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_anywhere_a_reset_ends_with_everything_there_once() {
    let telegram = Telegram::start(6, 5).await;
    let world = World::new(Some(&telegram.base)).await;
    let owner = world.connect().await;
    let all = telegram.messages();
    let worker = world.worker();
    eventually("everything is there", async || {
        world.seen(owner).await == (all.clone(), 30)
    })
    .await;
    drop(worker);
    // Some of these workers do nothing, some die in the middle, some come to an end.
    for round in 0..10_u64 {
        world.leases_end().await;
        let (one, other) = tokio::join!(world.request(owner), async {
            match round % 3 {
                0 => Some(world.request(owner).await),
                _ => None,
            }
        });
        assert!(other.is_none_or(|other| other != one));
        let worker = world.worker();
        tokio::time::sleep(Duration::from_millis(40 * round)).await;
        drop(worker);
    }
    world.leases_end().await;
    let _worker = world.worker();
    eventually("no reset is left", async || {
        world
            .count("SELECT count(*) FROM jobs WHERE queue = 'reset'")
            .await
            == 0
    })
    .await;
    eventually("everything is back, once", async || {
        world.seen(owner).await == (all.clone(), 30)
    })
    .await;
    world.translated().await;
    assert_eq!(world.seen(owner).await, (all, 30));
    let forgotten = "SELECT count(*) FROM events WHERE kind = 'AccountForgotten'";
    assert_eq!(world.count(forgotten).await, 14, "one for each request");
    verify(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_by_itself_brings_nothing_back_and_what_is_asked_for_does() {
    // Nobody holds the session: what it would tell, the test tells.
    let world = World::new(None).await;
    let owner = world.connect().await;
    let _worker = world.worker();
    world.tell(&told(&[1, 2, 3])).await;
    world.shows(owner, &["1", "2", "3"], 2).await;
    let first = world.ids(owner).await;

    let epoch = world.reset(owner).await;
    world.shows(owner, &[], 0).await;
    let pushed = |ids: &[i64]| Told { epoch, ..told(ids) };
    let history = |ids: &[i64]| Told {
        epoch,
        history: true,
        ..told(ids)
    };
    // Told again, by a session that knows of the reset and by one that does not.
    world.tell(&told(&[1, 2, 3])).await;
    world.tell(&pushed(&[1, 2, 3])).await;
    world.shows(owner, &[], 0).await;
    // What was on its way meanwhile is news, and the look that follows knows it.
    world.tell(&told(&[4])).await;
    world.tell(&pushed(&[5])).await;
    world.shows(owner, &["4", "5"], 2).await;
    for _ in 0..2 {
        world.tell(&history(&[1, 2, 3, 4, 5])).await;
        world.shows(owner, &["1", "2", "3", "4", "5"], 4).await;
    }
    world.tell(&pushed(&[1, 5])).await;
    world.shows(owner, &["1", "2", "3", "4", "5"], 4).await;
    let second = world.ids(owner).await;
    assert!(
        first.iter().all(|id| !second.contains(id)),
        "they are messages of their own"
    );

    // In the next epoch the one before is as old as the first.
    let next = world.reset(owner).await;
    assert!(next > epoch);
    for told in [pushed(&[1]), history(&[1, 2]), told(&[1, 5])] {
        world.tell(&told).await;
    }
    world.shows(owner, &[], 0).await;
    world
        .tell(&Told {
            epoch: next,
            ..history(&[1, 2, 3])
        })
        .await;
    world.shows(owner, &["1", "2", "3"], 2).await;
    // A look that began before the reset and is written down after it brings only news.
    world
        .tell(&Told {
            epoch: Epoch::FIRST,
            ..history(&[1, 6])
        })
        .await;
    world.shows(owner, &["1", "2", "3", "6"], 3).await;
    verify(&world).await;
}
