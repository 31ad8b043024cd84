//! Several shards in one turn: nothing of what a turn of one shard promises is lost.

use futures::future::join_all;
use hub_domain::id::Shard;
use hub_store::checkpoint;
use hub_store::generation::{End, Verdict};
use hub_store::project::{self, Projection};
use hub_store::{Error, Result};

use crate::dlq::run;
use crate::facts::{Chat, user};
use crate::generation::replay;
use crate::world::{SHARDS, World};

const EVENTS: i64 = 60;

/// A conversation in every shard, with messages in it.
async fn a_chat_in_every_shard(world: &World) -> Vec<(Shard, Chat)> {
    let mut chats: Vec<(Shard, Chat)> = Vec::new();
    for n in 1.. {
        let owner = user(n);
        let shard = world.store.sharding().of_user(owner);
        if chats.iter().all(|(taken, _)| *taken != shard) {
            chats.push((shard, Chat::new(owner, "chat")));
        }
        if chats.len() == usize::from(SHARDS) {
            break;
        }
    }
    for n in 0..EVENTS {
        for (shard, chat) in &chats {
            let event = chat.received(&format!("m{n}"), n);
            world
                .store
                .append(chat.append(*shard, event))
                .await
                .unwrap();
        }
    }
    chats
}

fn all() -> Vec<Shard> {
    (0..SHARDS as i16).map(Shard).collect()
}

/// One turn of all shards of the live inbox.
async fn turns(world: &World) -> Result<usize> {
    project::steps(world.pool(), Projection::Inbox, 1, &all()).await
}

async fn positions(world: &World) -> Vec<i64> {
    let reactor = Projection::Inbox.reactor(1);
    let asked = all().into_iter();
    let positions = asked.map(|shard| checkpoint::position(world.pool(), reactor, shard));
    join_all(positions)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect()
}

async fn shown(world: &World, chat: &Chat) -> usize {
    let thread = world
        .store
        .thread(chat.at.user, chat.at.conversation, 1_000, 0);
    thread.await.unwrap().len()
}

#[tokio::test]
async fn all_shards_move_in_one_turn_and_hold_what_a_clean_fold_makes() {
    let world = World::new().await;
    let chats = a_chat_in_every_shard(&world).await;
    assert_eq!(turns(&world).await.unwrap() as i64, EVENTS * 4);
    assert_eq!(positions(&world).await, [EVENTS; 4]);
    assert_eq!(turns(&world).await.unwrap(), 0);
    for (_, chat) in &chats {
        assert_eq!(shown(&world, chat).await as i64, EVENTS);
    }
    let certificate = replay(world.pool(), Projection::Inbox, End::Drop).await;
    assert_eq!(certificate.verdict, Verdict::Equal);
}

#[tokio::test]
async fn what_spoils_one_shard_parks_there_and_the_others_move() {
    let world = World::new().await;
    let chats = a_chat_in_every_shard(&world).await;
    // The text the database cannot store is in one event of one shard.
    run(
        world.pool(),
        "UPDATE events SET payload = replace(payload::text, '\"m7\"', '\"m\\u00007\"')::json \
         WHERE shard = 2 AND position = 8",
    )
    .await;
    assert_eq!(turns(&world).await.unwrap() as i64, EVENTS * 4);
    assert_eq!(positions(&world).await, [EVENTS; 4]);
    for (shard, chat) in &chats {
        let expected = if shard.0 == 2 { 7 } else { EVENTS };
        assert_eq!(shown(&world, chat).await as i64, expected, "{shard:?}");
    }
    // A shard with something parked goes on taking part.
    let (shard, chat) = chats.iter().find(|(shard, _)| shard.0 == 2).unwrap();
    let neighbour = Chat::new(chat.at.user, "neighbour");
    let event = neighbour.received("n1", 1);
    world
        .store
        .append(neighbour.append(*shard, event))
        .await
        .unwrap();
    assert_eq!(turns(&world).await.unwrap(), 1);
    assert_eq!(shown(&world, &neighbour).await, 1);
}

#[tokio::test]
async fn a_hole_in_one_shard_is_reported_and_the_others_move() {
    let world = World::new().await;
    a_chat_in_every_shard(&world).await;
    run(
        world.pool(),
        "DELETE FROM events WHERE shard = 1 AND position = 5",
    )
    .await;
    match turns(&world).await {
        Err(Error::Corrupt { place, .. }) => assert_eq!(place.shard, Shard(1)),
        other => panic!("not reported: {other:?}"),
    }
    assert_eq!(positions(&world).await, [EVENTS, 0, EVENTS, EVENTS]);
}

#[tokio::test]
async fn workers_that_want_the_same_shards_count_each_event_once() {
    let world = World::new().await;
    let chats = a_chat_in_every_shard(&world).await;
    let stores = join_all((0..4).map(|_| world.another_store())).await;
    let passed = join_all(stores.iter().map(|store| async {
        let mut passed = 0;
        loop {
            match project::steps(store.pool(), Projection::Inbox, 1, &all())
                .await
                .unwrap()
            {
                0 if positions(&world).await == [EVENTS; 4] => return passed,
                by => passed += by,
            }
        }
    }))
    .await;
    assert_eq!(passed.iter().sum::<usize>() as i64, EVENTS * 4);
    for (_, chat) in &chats {
        assert_eq!(shown(&world, chat).await as i64, EVENTS);
    }
}
