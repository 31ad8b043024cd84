//! Rebuilding a read model while everything goes on, and proving that it is the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use hub_domain::event::{AccountConnected, Sealed};
use hub_domain::id::UserId;
use hub_domain::platform::Platform;
use hub_store::generation::{
    Certificate, End, Fate, Progress, Verdict, discard, drop_generation, drop_old, rebuild,
};
use hub_store::project::{Projection, step};
use hub_store::{Error, PgPool, Store, checkpoint};

use crate::facts::{Chat, user};
use crate::random::Random;
use crate::world::{SHARDS, World, eventually};

pub fn quiet(_: Progress) {}

pub async fn replay(pool: &PgPool, projection: Projection, end: End) -> Certificate {
    rebuild(pool, projection, end, &quiet).await.unwrap()
}

/// What the worker does: folds the live generation, whichever that is.
pub async fn fold_live(pool: &PgPool) -> usize {
    let mut folded = 0;
    for projection in Projection::ALL {
        let live = checkpoint::live_generation(pool, projection.name())
            .await
            .unwrap();
        for shard in checkpoint::behind(pool, projection.reactor(live))
            .await
            .unwrap()
        {
            folded += step(pool, projection, live, shard).await.unwrap();
        }
    }
    folded
}

pub async fn settle(pool: &PgPool) {
    while fold_live(pool).await > 0 {}
}

pub async fn connect(store: &Store, owner: UserId) {
    let chat = Chat::new(owner, "a");
    let connected = AccountConnected {
        user: owner,
        account: chat.at.account,
        platform: Platform::Telegram,
        platform_user_id: "7100".to_owned(),
        username: Sealed("shop".to_owned()),
        route: "7100".to_owned(),
    };
    let shard = store.sharding().of_user(owner);
    store.append(chat.append(shard, connected)).await.unwrap();
}

/// Messages of a user, in three conversations.
pub async fn receive(store: &Store, owner: UserId, numbers: std::ops::Range<i64>) {
    let shard = store.sharding().of_user(owner);
    let appends = numbers.map(|n| {
        let chat = Chat::new(owner, ["a", "b", "c"][n as usize % 3]);
        store.append(chat.append(shard, chat.received(&format!("m{n}"), n)))
    });
    for appended in join_all(appends).await {
        appended.unwrap();
    }
}

pub async fn live(pool: &PgPool, projection: Projection) -> i16 {
    let all: Vec<i16> =
        sqlx::query_scalar("SELECT DISTINCT live FROM generations WHERE projection = $1")
            .bind(projection.name())
            .fetch_all(pool)
            .await
            .unwrap();
    assert_eq!(all.len(), 1, "the same in every shard: {all:?}");
    all[0]
}

/// The generations of the inbox that have a table or a checkpoint.
pub async fn generations(pool: &PgPool) -> Vec<i16> {
    sqlx::query_scalar(
        "SELECT generation FROM checkpoints WHERE reactor = 'inbox' \
         UNION SELECT replace(relid::text, 'read.messages_', '')::smallint \
             FROM pg_partition_tree('read.messages') WHERE isleaf ORDER BY 1",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

/// A switch that can be asked from everywhere.
#[derive(Clone, Default)]
struct Stop(Arc<AtomicBool>);

impl Stop {
    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a person sees never gets less: nothing is read or deleted in these tests.
async fn watch(store: Store, owner: UserId, stop: Stop) -> u64 {
    let (mut looks, mut unread, mut shown) = (0, 0, 0);
    let conversation = Chat::new(owner, "a").at.conversation;
    while !stop.is_set() {
        let now = store.unread(owner).await.unwrap();
        assert_eq!(now.by_platform.len(), 1, "the account is gone");
        assert!(now.total >= unread, "{} after {unread}", now.total);
        unread = now.total;
        let thread = store.thread(owner, conversation, 10, 0).await.unwrap();
        assert_eq!(thread.len(), 10);
        let row = store.conversation(owner, conversation).await.unwrap();
        let messages = row.expect("the conversation is gone").0.messages;
        assert!(messages >= shown, "{messages} after {shown}");
        shown = messages;
        looks += 1;
    }
    looks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_under_load_is_equal_and_nobody_notices_the_switch() {
    let world = World::new().await;
    let (owners, before) = ([user(5), user(6), user(7)], 2_500);
    for owner in owners {
        connect(&world.store, owner).await;
        receive(&world.store, owner, 0..before).await;
    }
    settle(world.pool()).await;
    let (quit, stop) = (Stop::default(), Stop::default());
    let writers = owners.map(|owner| {
        let (store, quit) = (world.store.clone(), quit.clone());
        tokio::spawn(async move {
            let mut n = before;
            while !quit.is_set() {
                receive(&store, owner, n..n + 4).await;
                n += 4;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            n
        })
    });
    let other = world.another_store().await;
    let (pool, folding) = (other.pool().clone(), stop.clone());
    let fold = tokio::spawn(async move {
        while !folding.is_set() {
            if fold_live(&pool).await == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    });
    let reader = tokio::spawn(watch(other.clone(), owners[0], stop.clone()));
    for (projection, table) in [
        (Projection::Inbox, "messages"),
        (Projection::Accounts, "accounts"),
    ] {
        let certificate = replay(world.pool(), projection, End::Switch).await;
        assert_eq!(certificate.verdict, Verdict::Equal, "{certificate:?}");
        assert_eq!(certificate.fate, Fate::Live);
        assert_eq!(certificate.shards.len(), usize::from(SHARDS));
        assert_eq!(certificate.switched_at, Some(certificate.folded as i64));
        let found = certificate.tables.iter().find(|it| it.table == table);
        assert_eq!(found.unwrap().live, found.unwrap().rebuilt);
        assert!(found.unwrap().live.rows > 0);
        eprintln!("{}: {:.0} events/s", projection.name(), certificate.rate);
        assert_eq!(live(world.pool(), projection).await, 2);
    }
    // Everything goes on, on the new generation, and ends up complete.
    quit.set();
    let mut written = Vec::new();
    for writer in writers {
        written.push(writer.await.unwrap());
    }
    for (owner, written) in owners.into_iter().zip(written) {
        assert!(written > before, "there was load");
        eventually("every message is shown", async || {
            world.store.unread(owner).await.unwrap().total == written
        })
        .await;
    }
    stop.set();
    fold.await.unwrap();
    assert!(reader.await.unwrap() > 10, "somebody looked");
    let again = replay(world.pool(), Projection::Inbox, End::Drop).await;
    assert_eq!((again.verdict, again.fate), (Verdict::Equal, Fate::Dropped));
    assert_eq!((again.live, again.resumed), (2, false));
    assert_eq!(generations(world.pool()).await, [1, 2]);
}

#[tokio::test]
async fn damaged_rows_are_named_and_readers_stay_until_told_otherwise() {
    let world = World::new().await;
    let owner = user(5);
    connect(&world.store, owner).await;
    receive(&world.store, owner, 0..60).await;
    settle(world.pool()).await;
    let intact = replay(world.pool(), Projection::Inbox, End::Drop).await;
    assert_eq!(intact.verdict, Verdict::Equal);
    let changed: uuid::Uuid = sqlx::query_scalar(
        "UPDATE read.messages SET body = 'forged', is_read = true \
         WHERE id = (SELECT id FROM read.messages LIMIT 1) RETURNING id",
    )
    .fetch_one(world.pool())
    .await
    .unwrap();
    let deleted: uuid::Uuid = sqlx::query_scalar(
        "DELETE FROM read.messages \
         WHERE id = (SELECT id FROM read.messages WHERE id <> $1 LIMIT 1) RETURNING id",
    )
    .bind(changed)
    .fetch_one(world.pool())
    .await
    .unwrap();
    for (end, fate) in [(End::Drop, Fate::Dropped), (End::Switch, Fate::Kept)] {
        let found = replay(world.pool(), Projection::Inbox, end).await;
        assert_eq!((found.verdict, found.fate), (Verdict::Different, fate));
        assert_eq!(found.different_rows, 2);
        let messages = found.tables.iter().find(|it| it.table == "messages");
        assert!(!messages.unwrap().equal);
        let find = |id| found.differences.iter().find(|it| it.id == id).unwrap();
        assert_eq!(find(changed).columns, ["body", "is_read"]);
        assert_eq!(find(changed).found_in, "both");
        assert_eq!(find(deleted).found_in, "rebuilt");
        assert_eq!(find(deleted).columns, Vec::<String>::new());
        assert_eq!(live(world.pool(), Projection::Inbox).await, 1);
        let shown = serde_json::to_string(&found).unwrap();
        assert!(!shown.contains("forged"), "content is not shown: {shown}");
    }
    // What was kept is what repairs it.
    let repaired = replay(
        world.pool(),
        Projection::Inbox,
        End::SwitchDespiteDifferences,
    )
    .await;
    assert_eq!(
        (repaired.verdict, repaired.fate),
        (Verdict::Different, Fate::Live)
    );
    assert!(repaired.resumed);
    assert_eq!(repaired.folded, 0);
    let now = replay(world.pool(), Projection::Inbox, End::Drop).await;
    assert_eq!(now.verdict, Verdict::Equal);
    assert_eq!(world.store.unread(owner).await.unwrap().total, 60);
}

#[tokio::test]
async fn many_differing_rows_are_counted_and_some_named() {
    let world = World::new().await;
    receive(&world.store, user(5), 0..60).await;
    settle(world.pool()).await;
    sqlx::query("UPDATE read.messages SET sender_id = 'x'")
        .execute(world.pool())
        .await
        .unwrap();
    let found = replay(world.pool(), Projection::Inbox, End::Drop).await;
    assert_eq!((found.different_rows, found.differences.len()), (60, 20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_anywhere_the_next_run_goes_on() {
    let world = World::new().await;
    let owner = user(5);
    let shard = world.store.sharding().of_user(owner);
    receive(&world.store, owner, 0..2_500).await;
    settle(world.pool()).await;
    replay(world.pool(), Projection::Inbox, End::Keep).await;
    receive(&world.store, owner, 2_500..5_000).await;
    settle(world.pool()).await;
    let (folded, mut seen) = tokio::sync::watch::channel(0);
    let report = move |progress: Progress| {
        folded.send_replace(progress.folded);
    };
    tokio::select! {
        _ = rebuild(world.pool(), Projection::Inbox, End::Switch, &report) => panic!("too fast"),
        _ = seen.wait_for(|folded| *folded > 0) => {}
    }
    assert_eq!(live(world.pool(), Projection::Inbox).await, 1);
    let next = Projection::Inbox.reactor(2);
    let reached = checkpoint::position(world.pool(), next, shard)
        .await
        .unwrap();
    assert!((2_500..=5_000).contains(&reached), "{reached}");
    let certificate = replay(world.pool(), Projection::Inbox, End::Switch).await;
    assert!(certificate.resumed);
    // A batch that was under way when the run was dropped may have been rolled back or not.
    assert!(certificate.folded <= 5_000 - reached as u64);
    assert_eq!(
        (certificate.verdict, certificate.fate),
        (Verdict::Equal, Fate::Live)
    );

    // At any moment of the rest: comparing, switching, dropping.
    let mut random = Random::from_env();
    for round in 0..12 {
        let before = live(world.pool(), Projection::Inbox).await;
        let end = if random.percent(50) {
            End::Switch
        } else {
            End::Drop
        };
        let run = rebuild(world.pool(), Projection::Inbox, end, &quiet);
        let finished = tokio::time::timeout(random.millis_below(1_000), run).await;
        if let Ok(finished) = finished {
            assert_eq!(finished.unwrap().verdict, Verdict::Equal, "round {round}");
        }
        let after = live(world.pool(), Projection::Inbox).await;
        assert!(after == before || end == End::Switch && after == before + 1);
        let thread = Chat::new(owner, "b").at.conversation;
        let shown: i32 = sqlx::query_scalar(
            "SELECT messages FROM read.conversations c JOIN generations g \
             ON g.shard = c.shard AND g.projection = 'inbox' AND g.live = c.generation \
             WHERE c.id = $1",
        )
        .bind(thread.0)
        .fetch_one(world.pool())
        .await
        .unwrap();
        assert_eq!(shown, 1_667, "round {round}");
    }
}

#[tokio::test]
async fn old_and_unfinished_generations_go_when_told_and_the_live_one_never() {
    let world = World::new().await;
    receive(&world.store, user(5), 0..10).await;
    settle(world.pool()).await;
    replay(world.pool(), Projection::Inbox, End::Switch).await;
    let kept = replay(world.pool(), Projection::Inbox, End::Keep).await;
    assert_eq!(kept.fate, Fate::Kept);
    assert_eq!(generations(world.pool()).await, [1, 2, 3]);
    // A verification leaves alone what it did not build.
    let verified = replay(world.pool(), Projection::Inbox, End::Drop).await;
    assert_eq!((verified.resumed, verified.fate), (true, Fate::Kept));
    let refused = drop_generation(world.pool(), Projection::Inbox, 2).await;
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    assert_eq!(generations(world.pool()).await, [1, 2, 3]);
    let dropped = drop_old(world.pool(), Projection::Inbox).await.unwrap();
    assert_eq!(dropped, [1]);
    let dropped = discard(world.pool(), Projection::Inbox).await.unwrap();
    assert_eq!(dropped, [3]);
    assert_eq!(generations(world.pool()).await, [2]);
    assert!(
        drop_old(world.pool(), Projection::Inbox)
            .await
            .unwrap()
            .is_empty()
    );
    // Preparing again, as every start does, brings nothing back.
    hub_store::schema::prepare(world.pool(), SHARDS)
        .await
        .unwrap();
    assert_eq!(generations(world.pool()).await, [2]);
    // A worker that still thinks of the old one does nothing.
    let shard = world.store.sharding().of_user(user(5));
    receive(&world.store, user(5), 10..20).await;
    let folded = step(world.pool(), Projection::Inbox, 1, shard)
        .await
        .unwrap();
    assert_eq!(folded, 0);
    settle(world.pool()).await;
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM read.messages")
        .fetch_one(world.pool())
        .await
        .unwrap();
    assert_eq!(rows, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_takes_its_time_holds_up_a_drop_and_not_the_others() {
    let world = World::new().await;
    let owner = user(5);
    connect(&world.store, owner).await;
    receive(&world.store, owner, 0..10).await;
    settle(world.pool()).await;
    let mut slow = world.pool().begin().await.unwrap();
    sqlx::query("SELECT count(*) FROM read.messages")
        .execute(&mut *slow)
        .await
        .unwrap();
    // Building and switching do not wait for it.
    let certificate = replay(world.pool(), Projection::Inbox, End::Switch).await;
    assert_eq!(certificate.fate, Fate::Live);
    let pool = world.pool().clone();
    let dropping = tokio::spawn(async move { drop_old(&pool, Projection::Inbox).await });
    for _ in 0..20 {
        let asked = std::time::Instant::now();
        assert_eq!(world.store.unread(owner).await.unwrap().total, 10);
        assert!(asked.elapsed() < Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!dropping.is_finished());
    slow.rollback().await.unwrap();
    assert_eq!(dropping.await.unwrap().unwrap(), [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_at_once_end_well_or_one_is_refused() {
    let world = World::new().await;
    receive(&world.store, user(5), 0..3_000).await;
    settle(world.pool()).await;
    let other = world.another_store().await;
    let (one, two) = tokio::join!(
        rebuild(world.pool(), Projection::Inbox, End::Switch, &quiet),
        rebuild(other.pool(), Projection::Inbox, End::Switch, &quiet),
    );
    let mut switched = 0;
    for outcome in [one, two] {
        match outcome {
            Ok(certificate) => {
                assert_eq!(certificate.verdict, Verdict::Equal);
                assert_eq!(certificate.fate, Fate::Live);
                eprintln!("{:.0} events/s without load", certificate.rate);
                switched += 1;
            }
            Err(Error::Refused(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert!(switched > 0);
    assert_eq!(live(world.pool(), Projection::Inbox).await, 1 + switched);
    let verified = replay(world.pool(), Projection::Inbox, End::Drop).await;
    assert_eq!(verified.verdict, Verdict::Equal);
    assert_eq!(verified.tables[1].live.rows, 3_000);
}
