//! Checkpoints: each position counts once, whoever works and however it ends.

use futures::future::join_all;
use hub_domain::id::{Place, Shard};
use hub_store::checkpoint::{self, Reactor, Turn};
use hub_store::parked::{Class, Parking};
use hub_store::project::{self, Projection};
use hub_store::{Error, Store};

use crate::facts::{Chat, user};
use crate::world::{World, eventually};

const INBOX: Reactor = Reactor {
    name: "inbox",
    generation: 1,
};

/// This many incoming messages in two conversations of one user; returns their shard.
async fn write_messages(store: &Store, count: i64) -> Shard {
    let owner = user(5);
    let shard = store.sharding().of_user(owner);
    let chats = [Chat::new(owner, "a"), Chat::new(owner, "b")];
    let appends = (0..count).map(|n| {
        let chat = &chats[n as usize % 2];
        store.append(chat.append(shard, chat.received(&format!("m{n}"), n)))
    });
    for appended in join_all(appends).await {
        appended.unwrap();
    }
    shard
}

/// Messages in the read model, unread by the counters, and unread counted again.
async fn counts(store: &Store) -> (i64, i64, i64) {
    sqlx::query_as(
        "SELECT (SELECT count(*) FROM read.messages), \
                (SELECT coalesce(sum(unread), 0) FROM read.conversations), \
                (SELECT count(*) FROM read.messages m JOIN read.conversations c \
                     ON c.shard = m.shard AND c.generation = m.generation \
                     AND c.id = m.conversation_id \
                 WHERE m.state = 'received' AND NOT m.is_read AND m.deleted_at IS NULL \
                     AND m.position > c.read_through)",
    )
    .fetch_one(store.pool())
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_on_one_projection_count_each_event_once() {
    let world = World::new().await;
    let other = world.another_store().await;
    let shard = write_messages(&world.store, 1_700).await;
    let workers = (0..4).map(|n| {
        let store = if n % 2 == 0 { &world.store } else { &other }.clone();
        tokio::spawn(async move {
            let mut folded = 0;
            while !checkpoint::behind(store.pool(), INBOX)
                .await
                .unwrap()
                .is_empty()
            {
                folded += project::step(store.pool(), Projection::Inbox, 1, shard)
                    .await
                    .unwrap();
            }
            folded
        })
    });
    let folded: usize = join_all(workers)
        .await
        .into_iter()
        .map(|it| it.unwrap())
        .sum();
    assert_eq!(folded, 1_700);
    assert_eq!(counts(&world.store).await, (1_700, 1_700, 1_700));
    let position = checkpoint::position(world.pool(), INBOX, shard).await;
    assert_eq!(position.unwrap(), 1_700);
}

#[tokio::test]
async fn while_one_works_the_other_goes_elsewhere() {
    let world = World::new().await;
    let shard = write_messages(&world.store, 3).await;
    let turn = checkpoint::begin(world.pool(), INBOX, shard).await.unwrap();
    assert!(turn.is_some());
    assert!(
        checkpoint::begin(world.pool(), INBOX, shard)
            .await
            .unwrap()
            .is_none()
    );
    let folded = project::step(world.pool(), Projection::Inbox, 1, shard).await;
    assert_eq!(folded.unwrap(), 0);
    // Other reactors are not held up by it.
    let dispatch = Reactor {
        name: "dispatch",
        generation: 0,
    };
    let turn = checkpoint::begin(world.pool(), dispatch, shard)
        .await
        .unwrap();
    assert_eq!(turn.unwrap().from, Place { shard, position: 0 });
}

#[tokio::test]
async fn a_zombie_that_finishes_late_is_fenced_and_leaves_nothing() {
    let world = World::new().await;
    let shard = write_messages(&world.store, 3).await;
    // What a worker holds whose lock was lost with its connection: a belief about the past.
    let tx = world.pool().begin().await.unwrap();
    let mut zombie = Turn::new(tx, INBOX, Place { shard, position: 0 }, 0);
    zombie.park(poison(1));
    let folded = project::step(world.pool(), Projection::Inbox, 1, shard).await;
    assert_eq!(folded.unwrap(), 3);
    assert!(matches!(zombie.finish(2).await, Err(Error::Fenced)));
    assert_eq!(counts(&world.store).await, (3, 3, 3));
    let position = checkpoint::position(world.pool(), INBOX, shard).await;
    assert_eq!(position.unwrap(), 3);
    eventually("the zombie's transaction is gone", || async {
        parked(&world.store).await == 0
    })
    .await;
}

#[tokio::test]
async fn a_turn_killed_in_the_middle_changes_nothing() {
    let world = World::new().await;
    let shard = write_messages(&world.store, 3).await;
    let turn = checkpoint::begin(world.pool(), INBOX, shard).await.unwrap();
    let mut turn = turn.unwrap();
    turn.park(poison(1));
    sqlx::query("UPDATE checkpoints SET position = 3 WHERE reactor = 'inbox'")
        .execute(&mut *turn.tx)
        .await
        .unwrap();
    drop(turn);
    eventually("another worker takes over", || async {
        project::step(world.pool(), Projection::Inbox, 1, shard)
            .await
            .unwrap()
            == 3
    })
    .await;
    assert_eq!(parked(&world.store).await, 0);
    assert_eq!(counts(&world.store).await, (3, 3, 3));
}

#[tokio::test]
async fn the_same_item_is_parked_once_and_the_turn_goes_on() {
    let world = World::new().await;
    let shard = write_messages(&world.store, 3).await;
    for _ in 0..2 {
        let turn = checkpoint::begin(world.pool(), INBOX, shard).await.unwrap();
        let mut turn = turn.unwrap();
        let from = turn.from.position;
        turn.park(poison(2));
        turn.finish(from + 1).await.unwrap();
    }
    assert_eq!(parked(&world.store).await, 1);
}

fn poison(position: i64) -> Parking {
    Parking {
        position,
        stream: None,
        kind: "MessageReceived".to_owned(),
        schema: 1,
        class: Class::Failed,
        reason: "poison".to_owned(),
    }
}

async fn parked(store: &Store) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM parked")
        .fetch_one(store.pool())
        .await
        .unwrap()
}
