//! Going back to the generation that was live before.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hub_store::generation::{End, Fate, Verdict, back, discard, drop_old};
use hub_store::project::Projection;
use hub_store::{Error, PgPool};

use crate::facts::{Chat, user};
use crate::generation::{connect, fold_live, generations, live, quiet, receive, replay, settle};
use crate::world::{World, eventually};

async fn go_back(pool: &PgPool, end: End) -> hub_store::Result<hub_store::generation::Certificate> {
    back(pool, Projection::Inbox, end, &quiet).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn going_back_under_load_loses_nothing_and_forward_again_neither() {
    let world = World::new().await;
    let owner = user(5);
    connect(&world.store, owner).await;
    receive(&world.store, owner, 0..300).await;
    settle(world.pool()).await;
    replay(world.pool(), Projection::Inbox, End::Switch).await;
    // The generation before stands where it was left, further behind than a batch.
    receive(&world.store, owner, 300..3_000).await;
    settle(world.pool()).await;
    let stop = AtomicBool::new(false);
    let (other, another) = (world.another_store().await, world.another_store().await);
    let write = async {
        let mut n = 3_000;
        while !stop.load(Ordering::Relaxed) {
            receive(&world.store, owner, n..n + 4).await;
            n += 4;
        }
        n
    };
    let fold = async {
        while !stop.load(Ordering::Relaxed) {
            if fold_live(other.pool()).await == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    };
    let change = async {
        let mut unread = 0;
        for (way, expected) in [("back", 1), ("forward", 2), ("back", 1)] {
            let certificate = match way {
                "back" => go_back(another.pool(), End::Switch).await.unwrap(),
                _ => replay(another.pool(), Projection::Inbox, End::Switch).await,
            };
            assert_eq!(certificate.verdict, Verdict::Equal, "{certificate:?}");
            assert_eq!(
                (certificate.fate, certificate.rebuilt),
                (Fate::Live, expected)
            );
            assert!(certificate.resumed);
            assert_eq!(live(another.pool(), Projection::Inbox).await, expected);
            let now = another.unread(owner).await.unwrap().total;
            assert!(now >= 3_000 && now >= unread, "{now} after {unread}");
            unread = now;
        }
        stop.store(true, Ordering::Relaxed);
    };
    let (written, (), ()) = tokio::join!(write, fold, change);
    assert!(written > 3_000, "there was load");
    settle(world.pool()).await;
    eventually("every message is shown", async || {
        world.store.unread(owner).await.unwrap().total == written
    })
    .await;
    let verified = replay(world.pool(), Projection::Inbox, End::Drop).await;
    assert_eq!((verified.verdict, verified.live), (Verdict::Equal, 1));
    // What was left is beside the live one, and goes as such.
    assert_eq!(generations(world.pool()).await, [1, 2]);
    assert!(
        drop_old(world.pool(), Projection::Inbox)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(discard(world.pool(), Projection::Inbox).await.unwrap(), [2]);
    let nowhere = go_back(world.pool(), End::Switch).await;
    assert!(matches!(nowhere, Err(Error::Refused(_))), "{nowhere:?}");
}

#[tokio::test]
async fn what_differs_is_named_and_not_gone_back_to_unless_told() {
    let world = World::new().await;
    let owner = user(5);
    receive(&world.store, owner, 0..60).await;
    settle(world.pool()).await;
    let nowhere = go_back(world.pool(), End::Switch).await;
    assert!(matches!(nowhere, Err(Error::Refused(_))), "{nowhere:?}");
    replay(world.pool(), Projection::Inbox, End::Switch).await;
    replay(world.pool(), Projection::Inbox, End::Switch).await;
    assert_eq!(generations(world.pool()).await, [1, 2, 3]);
    let damaged: uuid::Uuid = sqlx::query_scalar(
        "UPDATE read.messages SET is_read = true WHERE generation = 2 \
         AND id = (SELECT id FROM read.messages LIMIT 1) RETURNING id",
    )
    .fetch_one(world.pool())
    .await
    .unwrap();
    receive(&world.store, owner, 60..70).await;
    settle(world.pool()).await;
    // The newest of those before, and only compared when that was asked for.
    for end in [End::Keep, End::Switch] {
        let found = go_back(world.pool(), end).await.unwrap();
        assert_eq!((found.live, found.rebuilt), (3, 2));
        assert_eq!(
            (found.verdict, found.fate),
            (Verdict::Different, Fate::Kept)
        );
        assert_eq!(found.differences.len(), 1);
        assert_eq!(found.differences[0].id, damaged);
        assert_eq!(live(world.pool(), Projection::Inbox).await, 3);
    }
    let gone = go_back(world.pool(), End::SwitchDespiteDifferences).await;
    assert_eq!(gone.unwrap().fate, Fate::Live);
    assert_eq!(live(world.pool(), Projection::Inbox).await, 2);
    // Once more, to the one before, which nothing has damaged.
    let found = go_back(world.pool(), End::SwitchDespiteDifferences).await;
    assert_eq!(found.unwrap().rebuilt, 1);
    receive(&world.store, owner, 70..75).await;
    settle(world.pool()).await;
    let verified = replay(world.pool(), Projection::Inbox, End::Keep).await;
    assert_eq!((verified.live, verified.rebuilt), (1, 2));
    assert_eq!(verified.differences[0].id, damaged);
    let thread = Chat::new(owner, "a").at.conversation;
    let shown = world.store.thread(owner, thread, 50, 0).await.unwrap();
    assert_eq!(shown.len(), 25);
}

#[tokio::test]
async fn what_another_fold_has_made_is_not_brought_up_silently() {
    let world = World::new().await;
    receive(&world.store, user(5), 0..60).await;
    settle(world.pool()).await;
    replay(world.pool(), Projection::Inbox, End::Switch).await;
    sqlx::query("UPDATE checkpoints SET fold = 9999 WHERE reactor = 'inbox' AND generation = 1")
        .execute(world.pool())
        .await
        .unwrap();
    receive(&world.store, user(5), 60..70).await;
    settle(world.pool()).await;
    let refused = go_back(world.pool(), End::Switch).await;
    let Err(Error::Refused(why)) = refused else {
        panic!("{refused:?}")
    };
    assert!(why.contains("version 9999"), "{why}");
    assert!(why.contains("--accept-differences"), "{why}");
    let untouched: i64 = sqlx::query_scalar(
        "SELECT sum(position)::bigint FROM checkpoints WHERE reactor = 'inbox' AND generation = 1",
    )
    .fetch_one(world.pool())
    .await
    .unwrap();
    assert_eq!(untouched, 60, "nothing was folded into it");
    let told = go_back(world.pool(), End::SwitchDespiteDifferences)
        .await
        .unwrap();
    assert_eq!((told.verdict, told.fate), (Verdict::Equal, Fate::Live));
    // Two versions have had a hand in it now, and whoever asks is told.
    let after = replay(world.pool(), Projection::Inbox, End::Keep).await;
    assert_eq!((after.live, after.live_fold), (1, Some(0)));
}
