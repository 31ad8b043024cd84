//! Parking and retrying while others work, and while things die.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use hub_store::project::{self, step};
use hub_store::{Error, Store};

use crate::dlq::{Chats, INBOX, MEND, SPOIL, retry, run, sound};
use crate::generation::settle;
use crate::random::Random;

/// Folds with four workers of two processes and tries again all the time, while messages come.
async fn live(chats: &Chats, store: &Store, messages: std::ops::Range<i64>) {
    let (shard, stream) = (chats.shard, chats.stream());
    let pools = [chats.pool(), store.pool(), chats.pool(), store.pool()];
    let done = AtomicBool::new(false);
    let done = &done;
    let workers = pools.map(|pool| async move {
        while !done.load(Ordering::Relaxed) {
            step(pool, INBOX, 1, shard).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    let retries = async {
        while !done.load(Ordering::Relaxed) {
            retry(store.pool(), shard, stream).await.unwrap();
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    };
    let writing = async {
        let middle = messages.start + (messages.end - messages.start) / 2;
        chats.write(messages.start..middle).await;
        chats.run(MEND).await;
        chats.write(middle..messages.end).await;
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(join_all(workers), retries, writing);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_in_the_middle_of_traffic_keeps_the_order() {
    let chats = Chats::new().await;
    let other = chats.world.another_store().await;
    chats.write(0..10).await;
    chats.run(SPOIL).await;
    live(&chats, &other, 10..150).await;
    settle(chats.pool()).await;
    assert_eq!(chats.retry().await, None);
    assert_eq!(chats.shown(&chats.sick).await, 150);
    assert_eq!(
        chats
            .heads()
            .await
            .iter()
            .filter(|it| it.reactor == "inbox")
            .count(),
        0
    );
    sound(&chats.verify().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_follow_each_other_miss_no_parking() {
    let chats = Chats::new().await;
    let other = chats.world.another_store().await;
    chats.write(0..3).await;
    chats.run(SPOIL).await;
    let pools = [chats.pool(), other.pool(), chats.pool(), other.pool()];
    let done = &AtomicBool::new(false);
    let shard = chats.shard;
    let workers = pools.map(|pool| async move {
        while !done.load(Ordering::Relaxed) {
            step(pool, INBOX, 1, shard).await.unwrap();
        }
    });
    let writing = async {
        chats.write(3..100).await;
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(join_all(workers), writing);
    settle(chats.pool()).await;
    assert_eq!(chats.shown(&chats.sick).await, 2);
    assert_eq!(chats.shown(&chats.well).await, 100);
    assert_eq!(chats.head("inbox").await.held, 97);
}

#[tokio::test]
async fn killed_anywhere_everything_is_processed_or_parked() {
    let mut random = Random::from_env();
    let chats = Chats::new().await;
    // What dies has connections of its own, as a process has: sqlx leaves a transaction open on the
    // connection of a future that is dropped in the middle of its BEGIN.
    let doomed = chats.world.another_store().await;
    chats.write(0..60).await;
    chats.run(SPOIL).await;
    let mut mended = false;
    for round in 0..80 {
        if round == 40 {
            chats.run(MEND).await;
            mended = true;
        }
        let killed_at = random.millis_below(12);
        let stream = chats.stream();
        let _ = tokio::time::timeout(killed_at, async {
            step(doomed.pool(), INBOX, 1, chats.shard).await.unwrap();
            project::retry(doomed.pool(), INBOX, 1, chats.shard, stream)
                .await
                .unwrap();
        })
        .await;
        // Every position up to the checkpoint is one or the other.
        let (position, parked, shown): (i64, i64, i64) = sqlx::query_as(
            "SELECT c.position, (SELECT count(*) FROM parked p WHERE p.reactor = 'inbox'), \
                 (SELECT count(*) FROM read.messages) \
             FROM checkpoints c WHERE c.reactor = 'inbox' AND c.shard = $1",
        )
        .bind(chats.shard.0)
        .fetch_one(chats.pool())
        .await
        .unwrap();
        assert_eq!(position, parked + shown, "round {round}");
        assert!(mended || position == 0 || parked > 0);
    }
    doomed.close().await;
    settle(chats.pool()).await;
    assert_eq!(chats.retry().await, None);
    assert_eq!(chats.shown(&chats.sick).await, 60);
    sound(&chats.verify().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trouble_of_the_database_parks_nothing() {
    let chats = Chats::new().await;
    chats.write(0..200).await;
    let mut killed = 0;
    for _ in 0..40 {
        let pool = chats.pool().clone();
        let shard = chats.shard;
        // One step at a time is over too soon to be hit.
        run(
            &pool,
            "UPDATE checkpoints SET position = 0 WHERE reactor = 'inbox'",
        )
        .await;
        let folding = tokio::spawn(async move { step(&pool, INBOX, 1, shard).await });
        let other = chats.world.another_store().await;
        while !folding.is_finished() {
            run(
                other.pool(),
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE datname = current_database() AND pid <> pg_backend_pid() \
                 AND state <> 'idle'",
            )
            .await;
        }
        match folding.await.unwrap() {
            Ok(_) => {}
            Err(error) => {
                assert!(error.is_temporary(), "{error}");
                killed += 1;
            }
        }
        if killed >= 5 {
            break;
        }
    }
    assert!(killed > 0, "no step was ever hit");
    // A schema that is not ours is nobody's fault either.
    chats
        .run("ALTER TABLE read.messages RENAME COLUMN body TO torso")
        .await;
    run(
        chats.pool(),
        "UPDATE checkpoints SET position = 0 WHERE reactor = 'inbox'",
    )
    .await;
    let failed = step(chats.pool(), INBOX, 1, chats.shard).await;
    assert!(matches!(failed, Err(Error::Statement(_))), "{failed:?}");
    chats
        .run("ALTER TABLE read.messages RENAME COLUMN torso TO body")
        .await;
    // Nor is a disk that is full, or a lock that is not had.
    assert_eq!(chats.heads().await, []);
    settle(chats.pool()).await;
    assert_eq!(chats.shown(&chats.sick).await, 200);
    sound(&chats.verify().await);
}
